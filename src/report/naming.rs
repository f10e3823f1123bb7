//! How algorithms and hyper-parameters are called in words.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::train::config::AlgorithmName;

/// The algorithm's own name.
pub(super) fn title(algorithm: AlgorithmName) -> &'static str {
    match algorithm {
        AlgorithmName::Mixmatch => "MixMatch",
        AlgorithmName::Supervised => "supervised",
    }
}

/// `40 labels`, `all labels`.
pub(super) fn labels(labelled: Option<u32>) -> String {
    labelled.map_or_else(|| "all labels".to_owned(), |labels| format!("{labels} labels"))
}

/// A value as people write it: a string without its quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `lambda_u 3`, one for each value. A class may be called anything, and a sentence or a list's line ends where a line does.
pub(super) fn named(values: &BTreeMap<String, Value>) -> Vec<String> {
    values.iter().map(|(name, value)| one_line(&format!("{name} {}", plain(value)))).collect()
}

/// The words of a text with a space between them.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A plain text within a line of Markdown, sentence or table: on one line, and no sign of it is Markdown's. Classes, columns and their
/// values are called as people like, and one may look like a heading or a tag.
pub(super) fn escaped(text: &str) -> String {
    let text = one_line(text);
    let (mut escaped, mut before) = (String::with_capacity(text.len()), None);
    let mut signs = text.chars().peekable();
    let is_of_a_word = |sign: Option<char>| sign.is_some_and(char::is_alphanumeric);
    while let Some(sign) = signs.next() {
        let means_something = match sign {
            // Within a word it is read as it stands, and `age_group` stays readable.
            '_' => !(is_of_a_word(before) && is_of_a_word(signs.peek().copied())),
            _ => "\\*<>[]#|`~&".contains(sign),
        };
        if means_something {
            escaped.push('\\');
        }
        escaped.push(sign);
        before = Some(sign);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::of_config;
    use super::escaped;
    use crate::train::config::TrainConfig;

    #[test]
    fn every_sign_of_markdowns_is_escaped() {
        assert_eq!(
            escaped("~~a~~ & `b` <c> #1 [d] e|f \\ *g*"),
            "\\~\\~a\\~\\~ \\& \\`b\\` \\<c\\> \\#1 \\[d\\] e\\|f \\\\ \\*g\\*"
        );
        assert_eq!(escaped("age_group _a_"), "age_group \\_a\\_");
    }

    #[test]
    fn a_value_of_several_lines_is_told_on_one() {
        let positive_class = Some("no\n\nmask".to_owned());
        let config = TrainConfig { labelled: Some(40), positive_class, ..TrainConfig::default() };
        let axes = ["positive_class".to_owned()];
        let [run, baseline] = [config.clone(), config.baseline()].map(|config| of_config(config, &axes, 0.9, 0.9));
        assert_eq!(run.name(), "MixMatch, 40 labels, positive_class no mask, seed 0");
        let told = Comparison::new(vec![run, baseline], axes.to_vec()).verdict;
        assert!(told.starts_with("With 40 labels and positive_class no mask MixMatch"), "{told}");
    }

    #[test]
    fn no_sign_of_a_name_is_markdowns() {
        let told = [
            "age_group",
            "*st_ar*",
            "<none>",
            "a|b\\|c",
            "# top\n\n## Limits",
            "_x_",
            "a__b",
            "[x](y)",
            "`R&D`",
            "60+",
        ];
        assert_eq!(
            told.map(escaped),
            [
                "age_group",
                "\\*st_ar\\*",
                "\\<none\\>",
                "a\\|b\\\\\\|c",
                "\\# top \\#\\# Limits",
                "\\_x\\_",
                "a\\_\\_b",
                "\\[x\\](y)",
                "\\`R\\&D\\`",
                "60+"
            ]
        );
    }
}
