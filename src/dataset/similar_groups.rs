//! Groups whose names may be one: a spreadsheet drops the zeros of 007, and whoever writes p6 may write P6.
//!
//! They are never taken for one: 1 and 01 may be two persons. But where they are one person, what is learned of the one answers for the
//! other, and so it is said.

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::UnicodeNormalization;

use super::groups;
use super::labels::{is_unseen, quoted};
use super::manifest::{Manifest, Role};
use super::report::Warning;

/// Groups that the warning shows.
const NAMED: usize = 5;

/// Spellings of one name, and the sheets that have each.
type Spellings<'a> = BTreeMap<&'a str, BTreeSet<Role>>;

/// Groups of the column that differ by case, leading zeros or letters that look alike.
pub(super) fn warning(manifest: &Manifest, column: &str) -> Option<Warning> {
    let mut spellings: BTreeMap<&str, BTreeSet<Role>> = BTreeMap::new();
    for sample in &manifest.samples {
        if let Some(value) = groups::value(sample, column) {
            spellings.entry(value).or_default().insert(sample.split);
        }
    }
    let mut names: BTreeMap<String, Spellings<'_>> = BTreeMap::new();
    for (value, sheets) in spellings {
        names.entry(folded(value)).or_default().insert(value, sheets);
    }
    let alike: Vec<Spellings<'_>> = names.into_values().filter(|spellings| spellings.len() > 1).collect();
    // Those that part the sheets first: they are what test figures suffer from.
    let (across, within): (Vec<_>, Vec<_>) = alike.iter().partition(|spellings| meets_in_both(spellings));
    let both = match across.len() {
        0 => String::new(),
        count => format!(", {count} of them in the training sheet one way and in the test sheet another"),
    };
    let detail = format!(
        "{} names of groups in column {column:?} are written in several ways, by case, leading zeros or letters that look alike{both}: \
         each way counts as a group of its own, so that what is trained on may be what is tested with; write them alike (a \
         spreadsheet drops leading zeros unless the column is formatted as text)",
        alike.len()
    );
    let examples = across.iter().chain(&within).take(NAMED).map(|spellings| told(spellings)).collect();
    (!alike.is_empty()).then(|| Warning::new("similar_groups", detail).with_examples(examples))
}

/// Whether one spelling is trained on and another one tested with.
fn meets_in_both(spellings: &Spellings<'_>) -> bool {
    // Two of each tell: there may be as many as rows.
    let of = |role: Role| -> Vec<&str> {
        let there = spellings.iter().filter(|(_, sheets)| sheets.contains(&role));
        there.map(|(value, _)| *value).take(2).collect()
    };
    let (train, test) = (of(Role::Train), of(Role::Test));
    train.iter().any(|train| test.iter().any(|test| train != test))
}

/// `"000" (train) and "0" (test)`.
fn told(spellings: &Spellings<'_>) -> String {
    let one = |(value, sheets): (&&str, &BTreeSet<Role>)| {
        let sheets: Vec<&str> = sheets.iter().map(|role| role.as_str()).collect();
        format!("{} ({})", quoted(value), sheets.join(", "))
    };
    let shown: Vec<String> = spellings.iter().take(NAMED).map(one).collect();
    shown.join(" and ")
}

/// A name as a person may mean it: whatever its case and form, whole numbers less their leading zeros.
fn folded(value: &str) -> String {
    let plain: String = value.nfkc().filter(|letter| !is_unseen(*letter)).flat_map(char::to_lowercase).collect();
    let plain = plain.trim();
    if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return plain.to_owned();
    }
    let number = plain.trim_start_matches('0');
    if number.is_empty() { "0".to_owned() } else { number.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Sample;
    use super::*;

    fn warned(train: &[&str], test: &[&str]) -> Option<Warning> {
        let sample = |person: &&str, split: Role| Sample {
            image: String::new(),
            entry: 0,
            label: None,
            split,
            picked: false,
            group: None,
            attributes: BTreeMap::from([("Person".to_owned(), (*person).to_owned())]),
        };
        let train = train.iter().map(|person| sample(person, Role::Train));
        let samples = train.chain(test.iter().map(|person| sample(person, Role::Test))).collect();
        warning(&Manifest { samples, ..Manifest::default() }, "person")
    }

    #[test]
    fn names_that_lost_their_zeros_or_their_case_are_told_with_their_sheets() {
        let told = warned(&["000", "001", "p6", "x"], &["0", "1", "P6", "y"]).unwrap();
        assert_eq!(told.code, "similar_groups");
        assert!(told.detail.starts_with("3 names of groups in column \"person\""), "{told:?}");
        assert!(
            told.detail.contains("3 of them in the training sheet one way and in the test sheet another"),
            "{told:?}"
        );
        assert_eq!(told.examples[0], "\"0\" (test) and \"000\" (train)");
        // Who they are stands in the examples alone: models carry the sentence on.
        assert!(!told.detail.contains("p6") && !told.detail.contains("P6"), "{told:?}");
    }

    #[test]
    fn those_of_both_sheets_come_first_and_one_sheet_alone_is_told_too() {
        let told = warned(&["anna", "Anna", "p6"], &["p\u{ff16}"]).unwrap();
        assert!(told.detail.starts_with("2 names") && told.detail.contains(", 1 of them in"), "{told:?}");
        assert!(told.examples[0].contains("(test)") && told.examples[1].contains("Anna"), "{told:?}");
        let told = warned(&["anna", "Anna"], &["Anna", "bert"]).unwrap();
        assert!(told.detail.contains("1 of them"), "anna is trained on, Anna tested with: {told:?}");
        let told = warned(&["anna", "Anna"], &["bert"]).unwrap();
        assert!(!told.detail.contains("test sheet"), "{told:?}");
    }

    #[test]
    fn other_names_are_others() {
        assert_eq!(warned(&["1", "10", "p6", "p06", "a-1", "a1", "-1", "x"], &["1", "100", "x"]), None);
    }
}
