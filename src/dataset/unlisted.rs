//! Images of the archive that no row of a sheet names: left out, or learned from without a label.
//!
//! Nobody wrote them down, so nothing may be learned from one that a row does mean: an image of a test row that was
//! left out, say. Every row counts as one that names its image, whether it can be used or not. Where a row is not
//! clear, all that it may mean is named ([`Index::meant`]); where nobody can tell what it means (which cell is which, say),
//! the import is refused.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use super::archive::{Index, is_image};
use super::error::ImportError;
use super::import::refused;
use super::left_out::LeftOut;
use super::manifest::Role;
use super::report::Warning;
use super::rows::Candidate;
use super::sheet::MAX_NAME;

/// What becomes of the images that no row of either sheet names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    /// They are left out; a warning counts them.
    #[default]
    Ignore,
    /// They are learned from without a label, as rows of the training sheet with an empty one.
    Unlabelled,
}

impl Unlisted {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Ignore, Self::Unlabelled];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Unlabelled => "unlabelled",
        }
    }
}

impl FromStr for Unlisted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.as_str() == text);
        found.ok_or_else(|| format!("unlisted is {text:?}, allowed is {}", Self::ALL.map(Self::as_str).join(" or ")))
    }
}

/// Refuses rows of which it cannot be told what image they name: it would be taken for one that no row names.
pub(super) fn refuse_unclear(rejected: &LeftOut) -> Result<(), ImportError> {
    let Some((first, count)) = rejected.unclear() else { return Ok(()) };
    let detail = format!(
        "{count} of the rows do not tell what images they name, the first is {first}: those would be taken for unlisted ones and \
         learned from; mend the rows, or set unlisted to {}",
        Unlisted::Ignore.as_str()
    );
    Err(refused("unclear_rows", detail, rejected, Role::Train.as_str()))
}

/// The images that are not among the entries `named`, in the archive's order; those that cannot be used go to `out`.
pub(super) fn candidates(index: &Index, named: &HashSet<u32>, out: &mut LeftOut) -> Vec<Candidate> {
    let mut entries: Vec<u32> = images(index).filter(|entry| !named.contains(entry)).collect();
    entries.sort_unstable();
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let image = index.names[&entry].clone();
        let repeatable = image.len() <= MAX_NAME && !image.contains(['\n', '\r']);
        let candidate = Candidate {
            role: Role::Train,
            unlisted: true,
            row: u64::from(entry) + 1,
            image,
            entry,
            label: None,
            picked: false,
            attributes: BTreeMap::new(),
        };
        if repeatable {
            found.push(candidate);
        } else {
            let detail = format!("the file's path has a line break or more than {MAX_NAME} bytes: rename it");
            out.push(candidate.rejected("unusable_path", detail));
        }
    }
    found
}

/// What to tell where they are learned from: how many they are, how many are not among them, and what cannot be told of
/// them. `kept` are the samples' candidates.
pub(super) fn warnings<'a>(
    index: &Index,
    named: &HashSet<u32>,
    kept: impl Iterator<Item = &'a Candidate>,
    group_column: Option<&str>,
) -> Vec<Warning> {
    let (mut learned, mut used) = (0_usize, HashSet::new());
    for candidate in kept {
        learned += usize::from(candidate.unlisted);
        used.insert(candidate.entry);
    }
    let mut warnings = Vec::new();
    let doubtful = images(index).filter(|entry| named.contains(entry) && !used.contains(entry)).count();
    if learned + doubtful > 0 {
        let left = if doubtful > 0 {
            format!("; {doubtful} images that rows which were left out name or may mean are not among them")
        } else {
            String::new()
        };
        let detail = format!(
            "{learned} images that no row names are learned from without a label, as was asked for: no sheet vouches \
             for them, and they have to show what the labelled ones show{left}"
        );
        warnings.push(Warning::new("unlisted_images", detail));
    }
    if let Some(column) = group_column.filter(|_| learned > 0) {
        let detail = format!(
            "{learned} images that no row names have no group (column {column:?}): groups that validation or a test \
             sheet measures may be learned from unseen, and figures may look better than on new ones; give those \
             images rows with their group and an empty label"
        );
        warnings.push(Warning::new("unlisted_groups", detail));
    }
    warnings
}

/// The files that are not used because no row names them.
pub(super) fn unnamed(choice: Unlisted, index: &Index, named: &HashSet<u32>) -> Option<Warning> {
    let unused = |name: &str| choice == Unlisted::Ignore || !is_image(name);
    let unnamed = index.names.iter().filter(|(entry, name)| !named.contains(*entry) && unused(name)).count();
    let why = match choice {
        Unlisted::Ignore => {
            "images among them are learned from without a label where unlisted is unlabelled, or where the training \
             sheet lists them with an empty label"
        }
        Unlisted::Unlabelled => {
            "they are no images by their names, which end in .jpg, .jpeg, .jpe, .jfif, .png or .webp, or they are hidden by a dot"
        }
    };
    let files = if unnamed == 1 { "file in the archive is" } else { "files in the archive are" };
    let detail = format!("{unnamed} {files} named by no sheet and not used; {why}");
    (unnamed > 0).then(|| Warning::new("unnamed_files", detail))
}

/// The entries that are images by their names.
fn images(index: &Index) -> impl Iterator<Item = u32> {
    index.names.iter().filter(|(_, name)| is_image(name)).map(|(entry, _)| *entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(names: &[&str]) -> Index {
        let mut index = Index::default();
        index.names.extend((0..).zip(names.iter().map(|&name| name.to_owned())));
        index
    }

    #[test]
    fn a_choice_is_read_as_it_is_written_and_another_word_is_told_what_there_is() {
        for choice in Unlisted::ALL {
            assert_eq!(choice.as_str().parse::<Unlisted>(), Ok(choice));
        }
        assert_eq!("all".parse::<Unlisted>(), Err("unlisted is \"all\", allowed is ignore or unlabelled".to_owned()));
        assert_eq!(Unlisted::default(), Unlisted::Ignore);
    }

    #[test]
    fn what_no_row_names_comes_in_the_archives_order_and_with_its_place() {
        let long = format!("{}.png", "x".repeat(MAX_NAME));
        let index = index(&["b.png", "notes.txt", "x/a.png", "named.png", &long, "two\nlines.png", "c.png"]);
        let mut out = LeftOut::default();
        let found = candidates(&index, &HashSet::from([3]), &mut out);
        let found: Vec<_> = found.iter().map(|found| (found.image.as_str(), found.entry, found.place())).collect();
        let place = |number| format!("archive file {number}");
        assert_eq!(found, [("b.png", 0, place(1)), ("x/a.png", 2, place(3)), ("c.png", 6, place(7))]);
        let told: Vec<_> = out.listed().iter().map(|row| (row.place(), row.code.as_str())).collect();
        assert_eq!(told, [(place(5), "unusable_path"), (place(6), "unusable_path")]);
        assert!(out.listed()[0].image.len() < MAX_NAME + 100, "{} bytes", out.listed()[0].image.len());
    }

    #[test]
    fn files_that_are_not_used_are_counted_with_the_reason() {
        let index = index(&["a.png", "b.png", "notes.txt", "c.png"]);
        let told = |choice| unnamed(choice, &index, &HashSet::from([0])).map(|warning| warning.detail);
        let ignored = told(Unlisted::Ignore).unwrap();
        assert!(ignored.starts_with("3 files") && ignored.contains("unlisted is unlabelled"), "{ignored}");
        let others = told(Unlisted::Unlabelled).unwrap();
        assert!(
            others.starts_with("1 file in the archive is named") && others.contains("no images by their names"),
            "{others}"
        );
        assert_eq!(unnamed(Unlisted::Unlabelled, &index, &HashSet::from([2])), None);
    }
}
