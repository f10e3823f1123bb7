//! serde's sentences for people: it names Rust's types, and where a value has limits it does not say them.

/// Letters of a caller's own text that are repeated.
const LONGEST: usize = 80;

/// The beginning of a text that may be as long as a body.
pub fn beginning(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What a field takes, in place of the type that serde names.
pub fn wanted(expected: &str) -> String {
    let whole = |least: i64, most: i64| format!("a whole number from {least} to {most}");
    match expected {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "i8" => whole(i8::MIN.into(), i8::MAX.into()),
        "i16" => whole(i16::MIN.into(), i16::MAX.into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.into()),
        "u64" | "usize" => "a whole number from 0 on".to_owned(),
        "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "bool" | "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        _ if expected.starts_with("struct ") => "an object".to_owned(),
        _ => expected.replace('`', ""),
    }
}

/// What is wrong at the place that is called `name`, from serde's message about it.
pub fn plain(name: &str, message: &str) -> String {
    let (said, place) = placed(message);
    let sentence = wrong_value(name, said)
        .or_else(|| wrong_field(said))
        .or_else(|| wrong_choice(name, said))
        .unwrap_or_else(|| shortened(said));
    match place {
        Some(place) => format!("{sentence} ({place})"),
        None => sentence,
    }
}

/// A message, and `line 1, column 14` where it ends with that.
fn placed(message: &str) -> (&str, Option<String>) {
    let found = || {
        let (said, place) = message.rsplit_once(" at line ")?;
        let (line, column) = place.split_once(" column ")?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(line) && digits(column)).then(|| (said, Some(format!("line {line}, column {column}"))))
    };
    found().unwrap_or((message, None))
}

/// ``invalid type: string "1", expected u32``
fn wrong_value(name: &str, said: &str) -> Option<String> {
    let begun = ["invalid type: ", "invalid value: "].iter().find_map(|begin| said.strip_prefix(begin));
    let (given, expected) = begun?.rsplit_once(", expected ")?;
    let (given, what) = (self::given(given), wanted(expected));
    // A sentence of ours is left as it is.
    let told = if what == expected && !matches!(expected, "a string" | "a character") {
        format!("{name} is {given}; expected: {what}")
    } else {
        format!("{name} must be {what}, not {given}")
    };
    Some(told)
}

/// A value as the caller wrote it.
fn given(value: &str) -> String {
    match value {
        "map" => return "an object".to_owned(),
        "sequence" => return "a list".to_owned(),
        "unit value" => return "null".to_owned(),
        _ => {}
    }
    let bare = ["integer ", "floating point ", "boolean ", "string "].iter().find_map(|kind| value.strip_prefix(kind));
    beginning(bare.unwrap_or(value).trim_matches('`'))
}

/// ``missing field `version` `` and the like.
fn wrong_field(said: &str) -> Option<String> {
    if let Some(field) = said.strip_prefix("missing field ") {
        return Some(format!("{} is missing", beginning(field.trim_matches('`'))));
    }
    if let Some(field) = said.strip_prefix("duplicate field ") {
        return Some(format!("{} is there more than once", beginning(field.trim_matches('`'))));
    }
    let (field, known) = said.strip_prefix("unknown field `")?.split_once("`, ")?;
    let field = beginning(field);
    Some(match known.strip_prefix("expected ") {
        Some(known) => format!("there is no {field} here; there is {}", choices(known)),
        None => format!("there is no {field} here, nor anything else"),
    })
}

/// ``unknown variant `x`, expected one of `a`, `b` ``
fn wrong_choice(name: &str, said: &str) -> Option<String> {
    let (given, known) = said.strip_prefix("unknown variant `")?.split_once("`, expected ")?;
    Some(format!("{name} must be one of {}, not {:?}", choices(known), beginning(given)))
}

/// ``one of `a`, `b` `` or `` `a` or `b` `` without what belongs to serde.
fn choices(known: &str) -> String {
    known.trim_start_matches("one of ").replace("` or `", "`, `").replace('`', "")
}

/// serde repeats a wrong value whole, however long it is: the beginning is kept, and the end.
fn shortened(message: &str) -> String {
    let letters: Vec<char> = message.chars().collect();
    if letters.len() <= 2 * LONGEST {
        return message.to_owned();
    }
    let part = |letters: &[char]| letters.iter().collect::<String>();
    format!("{} … {}", part(&letters[..LONGEST]), part(&letters[letters.len() - LONGEST..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_says_is_said_without_rusts_types() {
        for (message, expected) in [
            (
                "invalid type: string \"1\", expected u32 at line 1 column 14",
                "version must be a whole number from 0 to 4294967295, not \"1\" (line 1, column 14)",
            ),
            ("invalid value: integer `-1`, expected u64", "version must be a whole number from 0 on, not -1"),
            (
                "invalid type: floating point `1.5`, expected i32",
                "version must be a whole number from -2147483648 to 2147483647, not 1.5",
            ),
            ("invalid type: map, expected a string", "version must be a string, not an object"),
            ("invalid type: null, expected f32", "version must be a number, not null"),
            ("invalid type: sequence, expected struct AliasRequest", "version must be an object, not a list"),
            ("invalid type: boolean `true`, expected each image as {}", "version is true; expected: each image as {}"),
            ("missing field `a` at line 1 column 2", "a is missing (line 1, column 2)"),
            ("duplicate field `a`", "a is there more than once"),
            ("unknown field `x`, expected `a`", "there is no x here; there is a"),
            ("unknown field `x`, expected `a` or `b`", "there is no x here; there is a, b"),
            ("unknown field `x`, expected one of `a`, `b`, `c`", "there is no x here; there is a, b, c"),
            ("unknown field `x`, there are no fields", "there is no x here, nor anything else"),
            ("unknown variant `x`, expected one of `a`, `b`, `c`", "version must be one of a, b, c, not \"x\""),
            ("an object is needed", "an object is needed"),
            ("out of place at line x column y", "out of place at line x column y"),
        ] {
            assert_eq!(plain("version", message), expected);
        }
    }

    #[test]
    fn what_a_caller_sent_is_repeated_in_part() {
        let long = "é".repeat(1 << 20);
        for message in [
            format!("invalid type: string {long:?}, expected u32 at line 1 column 9"),
            format!("unknown field `{long}`, expected one of `a`, `b` at line 1 column 9"),
            format!("missing field `{long}`"),
            format!("unknown variant `{long}`, expected `a` or `b`"),
            long.clone(),
        ] {
            let told = plain("x", &message);
            assert!(told.chars().count() < 200, "{told}");
        }
    }
}
