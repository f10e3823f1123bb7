//! What the labels mean, in a word, and what models are called for it.

use super::report::Warning;

/// What models of a data set with this task are called: any words become lower-case letters, digits, - and _.
pub fn model_name(task: &str) -> String {
    let name: String = task
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    if name.trim_matches('-').is_empty() { "model".to_owned() } else { name }
}

/// That models will not be called as the task is.
pub(super) fn renamed(task: &str) -> Option<Warning> {
    let name = model_name(task);
    let detail = format!(
        "models of this data set will be called {name:?}, not {task:?}: their names have lower-case letters, digits, - and _ \
         alone, and data sets whose tasks come to one name publish versions of one model"
    );
    (name != task).then(|| Warning::new("model_name", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_task_has_a_model_name_and_another_than_its_own_is_told() {
        assert_eq!(model_name("Mask / no mask"), "mask---no-mask");
        assert_eq!(model_name("gender"), "gender");
        assert_eq!(model_name("  "), "model");
        assert_eq!(model_name(&"long ".repeat(30)).len(), 64, "no name is longer");
        assert_eq!(renamed("no_mask-2"), None);
        let told = renamed("Gender.v2").unwrap();
        assert!(told.code == "model_name" && told.detail.contains("\"gender-v2\", not \"Gender.v2\""), "{told:?}");
    }
}
