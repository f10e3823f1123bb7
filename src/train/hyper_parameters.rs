//! Every hyper-parameter as people and programs are told of it: what it means, what it may be, and what each preset sets.
//!
//! The meanings are [`TrainConfig`]'s own doc comments, as its schema has them; `docs/hyper-parameters.md` and the ranges in
//! OpenAPI are made of this, so that neither can say anything else than the code.

use std::fmt::Write;

use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::config::TrainConfig;
use super::{limits, preset};

/// One field of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct HyperParameter {
    /// As in the JSON.
    pub name: String,
    /// What it means, in sentences.
    pub meaning: String,
    /// Its values, where there are few: words.
    pub words: Vec<String>,
    /// Its least and greatest value, where it is a number that is bounded by itself.
    pub range: Option<(f64, f64)>,
    /// What each of [`preset::NAMES`] sets at two classes.
    pub presets: Vec<Value>,
}

/// The bounds of a numeric field.
pub fn range(name: &str) -> Option<(f64, f64)> {
    limits::numbers(&preset::plain()).find(|(field, ..)| *field == name).map(|(_, _, low, high)| (low, high))
}

/// All of them, in the order of the configuration.
pub fn all() -> Vec<HyperParameter> {
    let RefOr::T(Schema::Object(schema)) = TrainConfig::schema() else { return Vec::new() };
    let mut parts = Vec::new();
    TrainConfig::schemas(&mut parts);
    let part = |reference: &str| {
        let found = parts.iter().find(|(name, _)| reference.ends_with(&format!("/{name}")));
        match found {
            Some((_, RefOr::T(Schema::Object(part)))) => Some(part),
            _ => None,
        }
    };
    let presets: Vec<Map<String, Value>> = preset::NAMES.iter().filter_map(|name| values(name)).collect();
    // A schema is sorted by name; what a run is written as keeps the order of the struct.
    let order = serde_json::to_string(&preset::plain()).unwrap_or_default();
    let mut names: Vec<&String> = schema.properties.keys().filter(|name| *name != "preset").collect();
    names.sort_by_key(|name| order.find(&format!("\"{name}\":")));
    let one = |name: &String| {
        let (mut meaning, mut words) = (String::new(), Vec::new());
        match &schema.properties[name] {
            RefOr::T(Schema::Object(own)) => meaning.push_str(own.description.as_deref().unwrap_or_default()),
            RefOr::Ref(reference) => {
                meaning.push_str(&reference.description);
                if let Some(part) = part(&reference.ref_location) {
                    words = part.enum_values.iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                    // "How X: `a` …; `b` …": what follows the colon is new.
                    let more = part.description.as_deref().and_then(|text| text.split_once(": "));
                    if let Some((_, words)) = more {
                        meaning = format!("{}: {words}", meaning.trim_end_matches('.'));
                    }
                }
            }
            RefOr::T(_) => {}
        }
        let presets = presets.iter().map(|preset| preset.get(name).cloned().unwrap_or_default()).collect();
        HyperParameter { name: name.clone(), meaning, words, range: range(name), presets }
    };
    names.into_iter().map(one).collect()
}

/// A preset's values at two classes, as a run without other wishes has them.
fn values(name: &str) -> Option<Map<String, Value>> {
    let mut config = preset::for_classes(preset::by_name(name)?, 2);
    config.bn_momentum = preset::momentum_for(config.bn_momentum, config.steps());
    match serde_json::to_value(config) {
        Ok(Value::Object(values)) => Some(values),
        _ => None,
    }
}

impl HyperParameter {
    /// What it may be, in words; empty where its meaning says it.
    fn allowed(&self) -> String {
        let words = self.words.iter().map(|word| format!("`{word}`"));
        match (self.name.as_str(), self.range) {
            (_, Some((low, high))) => format!("{} to {}", number(low), number(high)),
            ("seed", None) => "0 to 2⁶³ − 1".to_owned(),
            ("augment_pad", None) => "0 to `size` − 1".to_owned(),
            ("labelled", None) => "one of each class at least".to_owned(),
            _ if self.presets.iter().all(Value::is_boolean) => "true, false".to_owned(),
            _ => words.collect::<Vec<_>>().join(", "),
        }
    }

    /// The one value of all presets.
    fn everywhere(&self) -> Option<&Value> {
        let (first, others) = self.presets.split_first()?;
        others.iter().all(|other| other == first).then_some(first)
    }
}

/// `docs/hyper-parameters.md`.
pub fn markdown() -> String {
    let all = all();
    let mut text = String::from(INTRODUCTION);
    text.push_str("| name | allowed | meaning |\n|---|---|---|\n");
    for one in &all {
        let meaning = one.meaning.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {} | {meaning} |", one.name, one.allowed());
    }
    let names: Vec<String> = preset::NAMES.iter().map(|name| format!("`{name}`")).collect();
    let _ = write!(text, "{PRESETS}| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for one in all.iter().filter(|one| one.everywhere().is_none()) {
        let values: Vec<String> = one.presets.iter().map(value).collect();
        let _ = writeln!(text, "| `{}` | {} |", one.name, values.join(" | "));
    }
    let same: Vec<String> =
        all.iter().filter_map(|one| one.everywhere().map(|same| format!("`{}` {}", one.name, value(same)))).collect();
    let _ = write!(text, "\nThe same in all of them: {}.\n", same.join(", "));
    text
}

const INTRODUCTION: &str = "# Hyper-parameters

<!-- Written by `mixmatch presets` (`make openapi`) from src/train: change the doc comments and presets there. -->

Any of these may stand in the body of `POST /jobs` beside `dataset` and `preset`, or follow `mixmatch train --set` as `name=value`; what is not
given is the preset's (`quick`, where none is named). Lists of values make a sweep: of `labelled`, `seed` and `algorithm` in their
place, of the others in `grid`. `GET /jobs/{id}` shows a job's `config`, with nothing left open. MixMatch's own are named as in the paper
(Berthelot et al. 2019, arXiv 1905.02249); what was tried, and how the presets' values were chosen, is in [experiments.md](experiments.md).

## What they mean

";

const PRESETS: &str = "
## What the presets set

At two classes (`lambda_u` is scaled to the classes).

";

/// A value as in JSON, less its quotation marks and the digits that nobody reads.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(word) => format!("`{word}`"),
        Value::Number(one) => one.as_f64().map_or_else(|| one.to_string(), number),
        other => other.to_string(),
    }
}

fn number(number: f64) -> String {
    let rounded = format!("{number:.6}").trim_end_matches('0').trim_end_matches('.').to_owned();
    if number != 0.0 && rounded.parse() == Ok(0.0) { format!("{number:e}") } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_explained_and_every_number_has_its_bounds() {
        let all = all();
        let Value::Object(fields) = serde_json::to_value(preset::plain()).unwrap() else { panic!("no object") };
        assert_eq!(all.len(), fields.len() - 1, "all but the preset itself");
        assert_eq!(all[0].name, "algorithm", "in the order of the struct");
        for one in &all {
            assert!(!one.meaning.is_empty() && one.presets.len() == preset::NAMES.len(), "{}", one.name);
            let number = one.presets[0].is_number();
            assert!(!number || one.range.is_some() || ["seed", "augment_pad"].contains(&&*one.name), "{}", one.name);
        }
        let of = |name: &str| all.iter().find(|one| one.name == name).unwrap();
        assert_eq!(of("fit").words, ["stretch", "crop", "face"]);
        assert!(of("fit").meaning.contains("turns it upright"), "{}", of("fit").meaning);
        assert_eq!(of("batch").range, Some((2.0, 4096.0)));
        let of_preset = |name: &str, preset: &str| {
            of(name).presets[preset::NAMES.iter().position(|known| *known == preset).unwrap()].clone()
        };
        assert_eq!((of_preset("lambda_u", "paper"), of_preset("k", "reference")), (15.0.into(), 4.into()));
    }

    #[test]
    fn the_committed_page_is_what_the_code_says() {
        let committed = include_str!("../../docs/hyper-parameters.md");
        assert_eq!(committed, markdown(), "`make openapi` writes docs/hyper-parameters.md");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (of, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1e-8, "1e-8"),
            (2.0 / 3.0, "0.666667"),
            (0.999_999, "0.999999"),
            (4096.0, "4096"),
        ] {
            assert_eq!(number(of), expected);
        }
    }
}
