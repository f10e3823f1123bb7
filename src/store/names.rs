//! Names of models and aliases, and how a caller points at a version.

use super::error::StoreError;

/// The alias that serves when none is named; a model's first version gets it.
pub(super) const CHAMPION: &str = "champion";

/// A pointer to a version: `gender`, `gender@champion` or `gender:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelRef<'a> {
    Alias { name: &'a str, alias: &'a str },
    Version { name: &'a str, version: u32 },
}

/// Reads a pointer; none where it cannot be one.
pub(super) fn parse(text: &str) -> Option<ModelRef<'_>> {
    let found = if let Some((name, alias)) = text.split_once('@') {
        ModelRef::Alias { name, alias }
    } else if let Some((name, version)) = text.split_once(':') {
        ModelRef::Version { name, version: version_number(version)? }
    } else {
        ModelRef::Alias { name: text, alias: CHAMPION }
    };
    let (name, alias) = match &found {
        ModelRef::Alias { name, alias } => (*name, *alias),
        ModelRef::Version { name, .. } => (*name, CHAMPION),
    };
    (is_name(name) && is_name(alias)).then_some(found)
}

/// The pointer that always means this version, `gender:3`: also what it is called in memory.
pub fn version_key(name: &str, version: u32) -> String {
    format!("{name}:{version}")
}

/// A version as it is written: digits alone, none of them a leading zero, so that each has one name.
pub fn version_number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

/// 1 to 64 of a-z, 0-9, - and _.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// A name that cannot be taken for a version.
pub fn is_alias(text: &str) -> bool {
    is_name(text) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Checks an alias.
pub(super) fn check_alias(name: &str) -> Result<(), StoreError> {
    if is_alias(name) { Ok(()) } else { Err(StoreError::InvalidName { what: "alias", name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::model_name;

    #[test]
    fn the_three_ways_to_point_at_a_version() {
        assert_eq!(parse("gender"), Some(ModelRef::Alias { name: "gender", alias: "champion" }));
        assert_eq!(parse("gender@shadow"), Some(ModelRef::Alias { name: "gender", alias: "shadow" }));
        assert_eq!(parse("gender:3"), Some(ModelRef::Version { name: "gender", version: 3 }));
        for wrong in [
            "",
            "Gender",
            "a b",
            "gender:x",
            "gender@",
            "@champion",
            "a@b@c",
            "gender:-1",
            "gender:+1",
            "gender:01",
            "gender:0",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse(&version_key("gender", 3)), parse("gender:3"));
    }

    #[test]
    fn any_task_has_a_model_name() {
        for task in ["Mask / no mask", "gender", "  ", &"x".repeat(500)] {
            assert!(is_name(&model_name(task)), "{task:?}");
        }
    }
}
