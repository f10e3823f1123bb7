//! Hyper-parameters on the command line: `--set`, `--grid`, and arguments of their own.

use serde_json::{Map, Value};

/// A value is JSON where it reads as JSON, else a string.
pub(super) fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: write NAME=VALUE"))?;
    Ok((name.trim().to_owned(), read_value(name.trim(), value)))
}

fn read_value(name: &str, text: &str) -> Value {
    let read = serde_json::from_str(text).ok();
    // Classes may be called 0 and 1, and weights 1e5.
    let is_text = ["positive_class", "pretrained"].contains(&name);
    let read = read.filter(|read: &Value| !is_text || read.is_string() || read.is_null());
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Several values of one hyper-parameter, each as [`parse_setting`] reads it.
pub(super) fn parse_grid(text: &str) -> Result<(String, Value), String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("{text:?}: write NAME=VALUE,VALUE"))?;
    Ok((name.trim().to_owned(), values.split(',').map(|value| read_value(name.trim(), value)).collect()))
}

/// The body of a request from what `--set` and the arguments of their own give.
///
/// # Errors
/// What is given twice: neither may win without a word.
pub(super) fn together<'a>(
    settings: &[(String, Value)],
    own: impl IntoIterator<Item = (&'a str, Option<Value>)>,
) -> Result<Map<String, Value>, String> {
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut request = Map::new();
    for (name, value) in settings.iter().cloned().chain(own) {
        if request.insert(name.clone(), value).is_some() {
            return Err(format!("{name} is given twice; give it once, by --set or by its own argument"));
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_json_where_they_read_as_json() {
        assert_eq!(parse_setting("k=3"), Ok(("k".to_owned(), Value::from(3))));
        assert_eq!(parse_setting("network=wrn-10-1"), Ok(("network".to_owned(), Value::from("wrn-10-1"))));
        assert_eq!(parse_setting("positive_class=1"), Ok(("positive_class".to_owned(), Value::from("1"))));
        assert_eq!(parse_setting("mixup=false"), Ok(("mixup".to_owned(), Value::from(false))));
        assert_eq!(parse_setting("pretrained=1e5"), Ok(("pretrained".to_owned(), Value::from("1e5"))));
        assert!(parse_setting("k").is_err());
        assert_eq!(parse_grid("k=1,2"), Ok(("k".to_owned(), serde_json::json!([1, 2]))));
        assert_eq!(parse_grid("positive_class=0,1"), Ok(("positive_class".to_owned(), serde_json::json!(["0", "1"]))));
    }
}
