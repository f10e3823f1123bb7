//! Labels as text: when two cells mean the same class, and when they may.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::error::ImportError;
use super::report::Warning;
use super::rows::Candidate;

/// Classes, or pairs of look-alikes, that a warning names.
const NAMED: usize = 5;

/// Bytes of a name that a message repeats: there is a message for each bad row.
const QUOTED: usize = 100;

/// What an empty cell is called where others of its column are filled: those rows have something in common too.
pub const EMPTY_CELL: &str = "(empty)";

/// A label, or the name of a group, as text; none for an empty cell.
///
/// Whole numbers lose their fraction (pandas writes 0/1 with gaps as 0.0/1.0), and what looks the same is the same: a
/// letter with its accent is one character or two, as the program that wrote it likes (Unicode's form NFC here).
pub(super) fn normalised(cell: &str) -> Option<String> {
    let cell = cell.trim();
    if cell.is_empty() || reads_nan(cell) {
        return None;
    }
    let whole = cell.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok());
    Some(composed(whole.unwrap_or(cell)))
}

/// Whether a cell reads as pandas writes an empty one. It may be a name.
pub(super) fn reads_nan(cell: &str) -> bool {
    cell.trim().eq_ignore_ascii_case("nan")
}

/// Text in Unicode's form NFC.
pub(super) fn composed(text: &str) -> String {
    if is_nfc(text) { text.to_owned() } else { text.nfc().collect() }
}

/// Whether two names are one column's, whatever their case and in whichever way their accents are written.
pub fn same_column(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        composed(a).to_lowercase() == composed(b).to_lowercase()
    }
}

/// Text of which no more than about `most` bytes are kept: of a longer one the beginning, and how long it is.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let beginning = &text[..text.floor_char_boundary(most)];
    Cow::Owned(format!("{beginning}… ({} bytes)", text.len()))
}

/// A name in double quotes, for a message that repeats what stands elsewhere. A Mac writes letter and accent apart; so they would be
/// shown as an escape.
pub(super) fn quoted(name: &str) -> String {
    format!("{:?}", shortened(&composed(name), QUOTED))
}

/// The first `most` of some names, quoted, and how many more there are.
pub(super) fn first_of<'a>(names: impl ExactSizeIterator<Item = &'a String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let first = names.take(most).map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// The class names: every label of the training sheet, sorted. They were read from `column`; `nan` of its cells were taken as empty
/// though something stands there.
pub(super) fn classes<'a>(
    train: impl Iterator<Item = &'a Candidate>,
    column: &str,
    nan: usize,
) -> Result<Vec<String>, ImportError> {
    let column = quoted(column);
    let names: BTreeSet<&String> = train.filter_map(|candidate| candidate.label.as_ref()).collect();
    let gaps = match nan {
        0 => String::new(),
        nan => format!(
            "; {nan} cells of the label column read NaN and were taken as empty: where that is a name, write it otherwise"
        ),
    };
    if names.is_empty() {
        let detail = format!(
            "no row of the training sheet has a label in column {column}; name another one in label_column, or label some images of \
             each class first (the dashboard does at /#/label){gaps}"
        );
        return Err(ImportError::invalid("too_few_classes", detail));
    }
    if names.len() < 2 {
        let found = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "the training sheet's label column, {column}, holds one class alone ({found}) on usable rows; a classifier needs two: name \
             another column in label_column, or label images of a second class{gaps}"
        );
        return Err(ImportError::invalid("too_few_classes", detail));
    }
    if names.len() > 1000 {
        let detail = format!("{} different labels in column {column}; name the right one in label_column", names.len());
        return Err(ImportError::invalid("too_many_classes", detail));
    }
    Ok(names.into_iter().cloned().collect())
}

/// Doubts about the classes, which are sorted: such that may be one, such that the sheet names (`named`) and no usable row
/// has, and such that may mean that there is no label.
pub(super) fn warnings(classes: &[String], named: &BTreeSet<String>) -> Vec<Warning> {
    [look_alikes(classes), lost(classes, named), gaps(classes)].into_iter().flatten().collect()
}

fn look_alikes(classes: &[String]) -> Option<Warning> {
    let mut alike: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for class in classes {
        alike.entry(folded(class)).or_default().push(class);
    }
    let alike: Vec<String> = alike
        .into_values()
        .filter(|names| names.len() > 1)
        .map(|names| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(" and "))
        .collect();
    let more = if alike.len() > NAMED { ", …" } else { "" };
    let detail = format!(
        "classes differ by case, spaces, dashes, _, letters that nobody sees or the spelling of a number alone: {}{more}; if they mean \
         the same, write them alike",
        alike[..alike.len().min(NAMED)].join(", ")
    );
    (!alike.is_empty()).then(|| Warning::new("similar_labels", detail))
}

/// Whole numbers up to here have a float of their own.
const COUNTED: f64 = 9_007_199_254_740_992.0;

/// What classes have in common that may be one: their letters alone, or the number that they spell (01, 1, 1.00).
pub(super) fn folded(class: &str) -> String {
    // Compatibility forms are one: a no-break space is a space, and a full-width letter that letter.
    let seen: String = class.nfkc().filter(|letter| !letter.is_whitespace() && !is_unseen(*letter)).collect();
    match seen.parse::<f64>() {
        // Zero has two signs.
        Ok(number) if number.abs() < COUNTED => (number + 0.0).to_string(),
        _ => seen.chars().filter(|letter| !is_joint(*letter)).flat_map(char::to_lowercase).collect(),
    }
}

/// What joins or parts words, and what is not seen at all.
fn is_joint(letter: char) -> bool {
    matches!(letter, '_' | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}') || is_unseen(letter)
}

/// Zero-width letters and marks of direction.
pub(super) fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn lost(classes: &[String], named: &BTreeSet<String>) -> Option<Warning> {
    let lost: Vec<&String> = named.iter().filter(|name| classes.binary_search(name).is_err()).collect();
    let detail = format!(
        "the training sheet names {} too, but every row with it was left out (each is listed with its reason): no model \
         of this data set will know it",
        first_of(lost.iter().copied(), NAMED)
    );
    (!lost.is_empty()).then(|| Warning::new("lost_classes", detail))
}

/// What stands in a cell where there is no label, in lower case; a spreadsheet's errors too, in English and German.
const GAPS: &[&str] = &[
    "na",
    "n/a",
    "n.a.",
    "n/v",
    "k.a.",
    "<na>",
    "nan",
    "none",
    "null",
    "-",
    "?",
    "unknown",
    "unk",
    "missing",
    "undefined",
    "tbd",
    "unlabelled",
    "unlabeled",
    "not labelled",
    "not labeled",
    "no label",
    "#n/a",
    "#nv",
    "#ref!",
    "#bezug!",
    "#value!",
    "#wert!",
    "#name?",
    "#div/0!",
    "#null!",
    "#num!",
    "#zahl!",
];

/// What scikit-learn writes for "unlabelled" and for "in no cluster", where classes and clusters are numbers from 0.
const NUMBERED_GAP: &str = "-1";

/// Those of all names in a column that may mean that there is none. -1 may where it is the one negative of whole numbers; of two it is
/// the other class.
pub(super) fn gaps_among<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    let numbered = numbers.is_some_and(|all| all.len() > 2 && all.iter().filter(|&&number| number < 0).count() == 1);
    let is_gap = |name: &&str| GAPS.contains(&name.to_lowercase().as_str()) || (numbered && *name == NUMBERED_GAP);
    names.iter().copied().filter(is_gap).collect()
}

fn gaps(classes: &[String]) -> Option<Warning> {
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let meant: Vec<String> = gaps_among(&classes).into_iter().map(|class| format!("{class:?}")).collect();
    let detail = format!(
        "{} became a class of its own; if it means that the label is not known, leave those cells empty: the images are then \
         learned from without one",
        meant.join(", ")
    );
    (!meant.is_empty()).then(|| Warning::new("label_may_be_a_gap", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_text_and_gaps_are_none() {
        assert_eq!(normalised("1.0").as_deref(), Some("1"));
        assert_eq!(normalised(" no_mask ").as_deref(), Some("no_mask"));
        assert_eq!(normalised("v1.0").as_deref(), Some("v1.0"));
        assert_eq!(normalised("  "), None);
        assert_eq!(normalised("NaN"), None);
    }

    #[test]
    fn one_letter_and_its_accent_apart_are_the_same_label() {
        assert_eq!(normalised("cafe\u{301}"), normalised("caf\u{e9}"));
        assert_ne!(normalised("cafe"), normalised("caf\u{e9}"));
    }

    #[test]
    fn a_long_text_is_cut_between_two_letters_and_says_how_long_it_was() {
        assert_eq!((shortened("ééé", 6), shortened("ééé", 5)), ("ééé".into(), "éé… (6 bytes)".into()));
        assert_eq!(quoted("a \"b\""), "\"a \\\"b\\\"\"");
        assert_eq!(quoted("Mu\u{308}ller.jpg"), "\"Müller.jpg\"");
    }

    fn told(classes: &[&str], named: &[&str]) -> Vec<(String, String)> {
        let classes: Vec<String> = classes.iter().map(|&name| name.to_owned()).collect();
        let named = named.iter().map(|&name| name.to_owned()).collect();
        warnings(&classes, &named).into_iter().map(|warning| (warning.code, warning.detail)).collect()
    }

    #[test]
    fn classes_that_may_be_one_are_told_and_those_that_are_not_are_not() {
        assert_eq!(told(&["Mask", "mask", "no mask", "none"], &[])[0].0, "similar_labels");
        let detail = &told(&["Mask", "No  Mask", "mask", "no_mask", "other"], &[])[0].1;
        assert!(detail.contains("\"Mask\" and \"mask\", \"No  Mask\" and \"no_mask\";"), "{detail}");
        for other in ["no\u{2013}mask", "no\u{a0}mask", "no mask\u{200b}", "\u{feff}no mask", "no\u{ff4d}ask"] {
            assert_eq!(told(&["no mask", other], &[]).len(), 1, "{other:?}");
        }
        assert_eq!(told(&["mask", "masks", "no mask", "A+", "A"], &[]), []);
        let detail = &told(&["01", "1", "1.00", "2", "2.0", "3"], &[])[0].1;
        assert!(detail.contains(r#": "01" and "1" and "1.00", "2" and "2.0";"#), "{detail}");
        assert_eq!(told(&["-1", "0", "1", "10", "1.5", "inf"], &[]), []);
        assert_eq!(told(&["9007199254740992", "9007199254740993"], &[]), [], "as floats they are one");
    }

    #[test]
    fn a_class_that_may_mean_no_label_is_told() {
        let told = told(&["N/A", "mask", "nobody"], &[]);
        assert_eq!((told.len(), told[0].0.as_str()), (1, "label_may_be_a_gap"));
        assert!(told[0].1.starts_with("\"N/A\" became"), "{told:?}");
    }

    #[test]
    fn what_spreadsheets_write_for_a_missing_value_may_mean_no_label() {
        for gap in
            ["#N/A", "#NV", "#REF!", "#BEZUG!", "#VALUE!", "#WERT!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "#ZAHL!"]
        {
            assert_eq!(told(&[gap, "mask"], &[])[0].0, "label_may_be_a_gap", "{gap}");
        }
        for gap in ["n.a.", "k.A.", "n/v"] {
            assert_eq!(told(&["mask", gap], &[])[0].0, "label_may_be_a_gap", "{gap}");
        }
    }

    #[test]
    fn what_programs_write_for_a_missing_value_may_mean_no_label() {
        for gap in ["Missing", "undefined", "not labelled", "Not labeled", "UNK", "tbd"] {
            let told = told(&["mask", gap], &[]);
            assert!(told.len() == 1 && told[0].1.starts_with(&format!("{gap:?} became")), "{told:?}");
        }
        let told = |classes: &[&str]| told(classes, &[]).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
        assert_eq!(told(&["-1", "0", "1"]), ["label_may_be_a_gap"]);
        assert!(told(&["-1", "1"]).is_empty(), "two classes as support vector machines want them");
        assert!(told(&["-1", "-2", "0", "1", "2"]).is_empty(), "a scale");
        assert!(told(&["-1", "0", "0.5", "1"]).is_empty() && told(&["-1", "cat", "dog"]).is_empty());
    }

    #[test]
    fn a_class_of_which_every_row_was_left_out_is_told() {
        assert_eq!(told(&["a", "b"], &["a", "b"]), []);
        let told = told(&["a", "b"], &["a", "b", "c"]);
        assert_eq!((told.len(), told[0].0.as_str()), (1, "lost_classes"));
        assert!(told[0].1.contains("\"c\""), "{told:?}");
    }
}
