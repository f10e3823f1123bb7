//! What a name that is not in the archive has in common with one that is, where it may mean it.
//!
//! Of a code page that nobody knows this much is certain: English letters are the same in nearly all of them, and of any other letter a
//! page of 256 makes one for each of its bytes. So a name keeps its length and its English letters, whatever became of the others. Pages
//! of thousands (Chinese, Japanese, Korean) have two bytes for most letters: of such names nothing is certain but that.

use unicode_normalization::UnicodeNormalization;

use super::names::{base_name, less_extension, normalised, stem, stem_of};

/// What stands for a letter that may have been another.
const ANY: char = '\u{fffd}';

/// Something that a name in a sheet and that of an entry share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trace {
    /// The [`stem`]: they differ by folder, extension, case, spaces or leading zeros.
    Stem(String),
    /// A letter for each byte of the entry's name: the sheet was opened in another code page than UTF-8.
    Bytes(String),
    /// A letter for each letter: the archive's names are in a code page that it does not tell.
    Letters(String),
    /// A letter or a question mark for each letter: the sheet was once saved in a code page that has not all of them.
    Lost(String),
}

/// The traces of an entry's name; `is_encoded` where it is in another encoding than UTF-8.
pub fn of_entry(name: &str, is_encoded: bool) -> Vec<Trace> {
    let path = normalised(name);
    let mut traces = vec![Trace::Stem(stem(&path))];
    let name = less_extension(&path).trim_matches(' ');
    if !name.is_ascii() {
        // In the sheet a letter and its accent may have been one or two.
        let apart: String = name.nfd().collect();
        let both = [name, apart.as_str()];
        if is_encoded {
            traces.push(Trace::Letters(masked(name.chars())));
        } else {
            traces.extend(both.map(|name| Trace::Bytes(masked(name.bytes().map(char::from)))));
        }
        traces.extend(both.map(|name| Trace::Lost(masked(name.chars()))));
    }
    traces
}

/// The stems that a name in a sheet may have: it may be written without its extension, and with a dot of its own.
pub fn stems_of_cell(name: &str) -> Vec<Trace> {
    let path = normalised(name);
    vec![Trace::Stem(stem(&path)), Trace::Stem(stem_of(base_name(&path)))]
}

/// The traces of a name in a sheet that is not in the archive.
pub fn of_cell(name: &str) -> Vec<Trace> {
    let mut traces = stems_of_cell(name);
    let path = normalised(name);
    for name in [less_extension(&path), base_name(&path)] {
        let letters = masked(name.trim_matches(' ').chars());
        if !name.is_ascii() {
            traces.extend([Trace::Bytes(letters.clone()), Trace::Letters(letters.clone())]);
        }
        if name.contains(['?', ANY]) {
            traces.push(Trace::Lost(letters));
        }
    }
    traces
}

/// Whether a name in a sheet may be another one in other letters.
pub fn has_other_letters(name: &str) -> bool {
    !name.is_ascii() || name.contains('?')
}

/// Whether a name has letters of which a code page has thousands, and more than a byte for each.
pub fn is_of_thousands(name: &str) -> bool {
    const FIRST: char = '\u{2e80}';
    name.chars().any(|letter| letter >= FIRST && letter != ANY)
}

/// English letters in lower case, and one sign for any other letter.
fn masked(letters: impl Iterator<Item = char>) -> String {
    letters.map(|letter| if letter.is_ascii() && letter != '?' { letter.to_ascii_lowercase() } else { ANY }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(cell: &str, entry: &str, is_encoded: bool) -> bool {
        let traces = of_entry(entry, is_encoded);
        of_cell(cell).iter().any(|trace| traces.contains(trace))
    }

    #[test]
    fn a_name_in_other_letters_keeps_its_length_and_its_english_ones() {
        for (cell, entry, is_encoded) in [
            // UTF-8 that was opened in code page 1252, Mac Roman, 1251 and 1250.
            ("Ãœbung 1.jpg", "Übung 1.jpg", false),
            ("√úbung 1", "x/Übung 1.jpg", false),
            ("UÃàbung 1.jpg", "Übung 1.jpg", false),
            ("РєРѕС‚ 1.JPG", "кот 1.jpg", false),
            ("Ăśbung 1.jpg", "U\u{308}bung 1.jpg", false),
            // Code page 1252, which was read as 437.
            ("Übung 1.jpg", "▄bung 1.jpg", true),
            ("U\u{308}bung 1.5", "▄bung 1.5.jpg", true),
            // Cyrillic letters in a sheet that was saved in code page 1252.
            ("??? 1.jpg", "кот 1.jpg", false),
            // A Mac's names there: the accent is what was lost.
            ("U?bung 1.jpg", "Übung 1.jpg", false),
            // The sign that readers put for what they cannot read.
            ("\u{fffd}bung 1.jpg", "Übung 1.jpg", false),
            // In another case, too.
            ("Ãœbung a.jpg", "Übung A.jpg", false),
            ("?BUNG 1.jpg", "Übung 1.jpg", false),
        ] {
            assert!(share(cell, entry, is_encoded), "{cell} and {entry}");
        }
        for (cell, entry, is_encoded) in [
            ("Ãœbung 2.jpg", "Übung 1.jpg", false),
            ("Öbung 1.jpg", "Übung 1.jpg", false),
            ("??? 1.jpg", "cat 1.jpg", false),
            ("?? 1.jpg", "кот 1.jpg", false),
            // A letter of two bytes in a code page of thousands.
            ("猫 1.jpg", "öL 1.jpg", true),
        ] {
            assert!(!share(cell, entry, is_encoded), "{cell} and {entry}");
        }
    }
}
