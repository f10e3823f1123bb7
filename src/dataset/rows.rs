//! From a sheet's rows to candidates: what each row says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::archive::{Found, Index};
use super::columns::Columns;
use super::error::ImportError;
use super::import::ImportRequest;
use super::labels::{first_of, normalised, quoted, reads_nan, shortened};
use super::left_out::LeftOut;
use super::manifest::Role;
use super::report::{self, ARCHIVE, RejectedRow, Warning};
use super::sheet::{MAX_NAME, Row, Sheet};

/// Rows that a warning shows.
const EXAMPLES: usize = 5;

/// Bytes of a cell that a message repeats.
const LONGEST_CELL: usize = 64;

/// A row whose image was found in the archive, or an image that no row names.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub role: Role,
    /// No row names it: it is learned from without a label.
    pub unlisted: bool,
    /// Its row, or its place in the archive: see [`RejectedRow::row`].
    pub row: u64,
    pub image: String,
    pub entry: u32,
    pub label: Option<String>,
    /// The image was picked to be labelled, and not drawn.
    pub picked: bool,
    pub attributes: BTreeMap<String, String>,
}

impl Candidate {
    /// This row, left out for a reason.
    pub fn rejected(&self, code: &str, detail: impl Into<String>) -> RejectedRow {
        rejected(self.sheet(), self.row, &self.image, code, detail)
    }

    /// Where it stands, in words.
    pub fn place(&self) -> String {
        report::place(self.sheet(), self.row)
    }

    fn sheet(&self) -> &'static str {
        if self.unlisted { ARCHIVE } else { self.role.as_str() }
    }
}

fn rejected(sheet: &str, row: u64, image: &str, code: &str, detail: impl Into<String>) -> RejectedRow {
    RejectedRow {
        sheet: sheet.to_owned(),
        row,
        image: shortened(image, MAX_NAME).into_owned(),
        code: code.to_owned(),
        detail: detail.into(),
    }
}

/// Reads the candidates of one sheet; rows that cannot be used go to `out`.
pub(super) fn candidates(
    sheet: &Sheet,
    role: Role,
    request: &ImportRequest,
    index: &Index,
    out: &mut LeftOut,
) -> Result<Vec<Candidate>, ImportError> {
    let columns = Columns::of(sheet, role, request)?;
    let mut found: Vec<Candidate> = Vec::new();
    let mut rows: Vec<&Row> = Vec::new();
    for row in &sheet.rows {
        let image = row.cell(columns.image).to_owned();
        let label = normalised(row.cell(columns.label));
        let picked = columns.is_picked(row);
        let mut refuse =
            |code: &str, detail: String| out.push(rejected(role.as_str(), row.number, &image, code, detail));
        let broken = [&image, label.as_deref().unwrap_or_default()].iter().any(|cell| cell.contains(['\n', '\r']));
        if broken {
            let detail = "a line break in the image's name or the label: where a double quote opens here and none closes it, \
                          the lines that follow were read as part of this cell and not as rows";
            refuse("line_break", detail.to_owned());
        } else if row.surplus {
            let header = sheet.columns.len();
            let detail = format!(
                "the row has more cells than the header's {header}: which is which cannot be told; put a cell that holds the \
                 separator in double quotes"
            );
            refuse("surplus_cells", detail);
        } else if let Some(at) = columns.names().find(|&at| row.cell(at).len() > MAX_NAME) {
            let detail = format!(
                "the cell in column {} has {} bytes: the name of an image, a label or a group may have {MAX_NAME}; shorten it",
                quoted(&sheet.columns[at]),
                row.cell(at).len()
            );
            refuse("long_cell", detail);
        } else if let Some(at) = columns.names().find(|&at| row.has_error(at)) {
            let detail = format!(
                "the cell in column {} is {}, an error of the spreadsheet and no value: mend what it is calculated from, or empty the \
                 cell where nothing is known",
                quoted(&sheet.columns[at]),
                quoted(row.cell(at))
            );
            refuse("error_cell", detail);
        } else if image.is_empty() {
            refuse("no_image_name", "the row names no image".to_owned());
        } else if label.is_none() && role == Role::Test {
            let nan = if reads_nan(row.cell(columns.label)) { " (NaN is read as an empty cell)" } else { "" };
            refuse("no_label", format!("a test row needs a label{nan}"));
        } else if let Err(cell) = picked {
            refuse(
                "unclear_picked",
                format!(
                    "picked is {}: it may be yes, no or empty; a column that says something else wants another name",
                    quoted(&shortened(cell, LONGEST_CELL))
                ),
            );
        } else if picked == Ok(true) && role == Role::Test {
            let detail = "a test image may not be picked: figures are honest where chance drew the images; move the row to the \
                          training sheet";
            refuse("picked_test", detail.to_owned());
        } else {
            match index.find(&image) {
                Found::Missing => {
                    let like = index.like(&image).map(|name| format!("; it has {}", quoted(name))).unwrap_or_default();
                    let hint = index.hint_at_letters(&image);
                    refuse("missing_file", format!("the archive has no file {image:?}{like}{hint}"));
                }
                Found::Ambiguous => refuse(
                    "ambiguous_file",
                    format!(
                        "several files in the archive are called {image:?}; name the folder in the sheet too, and the extension"
                    ),
                ),
                Found::Entry(entry) | Found::Bare(entry) => {
                    rows.push(row);
                    let picked = label.is_some() && picked == Ok(true);
                    let (row, attributes) = (row.number, BTreeMap::new());
                    found.push(Candidate { role, unlisted: false, row, image, entry, label, picked, attributes });
                }
            }
        }
    }
    // Of those alone that stay: millions of rows may name one image, each with many cells.
    let stay = unique_names(found, out).into_iter();
    Ok(stay.map(|(at, candidate)| Candidate { attributes: columns.attributes(rows[at]), ..candidate }).collect())
}

/// How many rows name their images without the extension that these have in the archive.
pub(super) fn without_extension(candidates: &[Candidate], index: &Index) -> Option<Warning> {
    let bare = |candidate: &&Candidate| matches!(index.find(&candidate.image), Found::Bare(_));
    let found: Vec<&Candidate> = candidates.iter().filter(bare).collect();
    let told = |candidate: &&Candidate| {
        format!("{} {} is {}", candidate.place(), quoted(&candidate.image), quoted(&index.names[&candidate.entry]))
    };
    let examples = found.iter().take(EXAMPLES).map(told).collect();
    let detail = format!(
        "{} rows name their images without an extension: each was taken for the one image of the archive that is called so otherwise",
        found.len()
    );
    (!found.is_empty()).then(|| Warning::new("names_without_extension", detail).with_examples(examples))
}

/// The entries of the archive that the sheet's rows name or may mean, rows that cannot be used too.
///
/// Beside the image's cell that is whatever stands in a cell of several lines, of the header too: behind a double quote
/// that was meant as text they are rows of their own.
pub(super) fn entries_meant(
    sheet: &Sheet,
    role: Role,
    request: &ImportRequest,
    index: &Index,
) -> Result<HashSet<u32>, ImportError> {
    let column = Columns::of(sheet, role, request)?.image;
    let named = sheet.rows.iter().map(|row| row.cell(column));
    let cells = sheet.columns.iter().chain(sheet.rows.iter().flat_map(|row| &row.cells));
    let of_lines = cells.filter(|cell| cell.contains(['\n', '\r']));
    let swallowed = of_lines.flat_map(|cell| cell.split([',', ';', '\t', '|', '\n', '\r', '"']));
    Ok(index.meant(named.chain(swallowed).map(str::trim).filter(|name| !name.is_empty())))
}

/// One row per image: the first with a label, or the first. Rows that contradict each other are all left out; one without a
/// label contradicts nothing (a sheet of all images below one of the labelled). Each comes with its place among those that were found.
fn unique_names(found: Vec<Candidate>, out: &mut LeftOut) -> Vec<(usize, Candidate)> {
    let mut labels: HashMap<u32, BTreeSet<&String>> = HashMap::new();
    let mut stays: HashMap<u32, usize> = HashMap::new();
    for (index, candidate) in found.iter().enumerate() {
        let known = labels.entry(candidate.entry).or_default();
        if known.is_empty() && candidate.label.is_some() {
            stays.insert(candidate.entry, index);
        } else {
            stays.entry(candidate.entry).or_insert(index);
        }
        known.extend(candidate.label.as_ref());
    }
    let conflicts: HashMap<u32, String> = labels
        .into_iter()
        .filter(|(_, known)| known.len() > 1)
        .map(|(entry, known)| {
            let told = first_of(known.into_iter(), 3);
            (entry, format!("rows for this image name different labels: {told}"))
        })
        .collect();
    let chosen = |(index, candidate): (usize, Candidate)| {
        if let Some(detail) = conflicts.get(&candidate.entry) {
            out.push(candidate.rejected("conflicting_label", detail.as_str()));
            return None;
        }
        let stays = stays[&candidate.entry] == index;
        if !stays {
            out.push(candidate.rejected("duplicate_row", "another row names this image already"));
        }
        stays.then_some((index, candidate))
    };
    found.into_iter().enumerate().filter_map(chosen).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::allocator::asked_for_by_this_thread;
    use crate::dataset::archive;
    use crate::dataset::import::ImportLimits;

    #[test]
    fn of_several_rows_for_an_image_the_labelled_one_stays() {
        let candidate = |row, entry, label: Option<&str>| Candidate {
            role: Role::Train,
            unlisted: false,
            row,
            image: format!("{entry}.jpg"),
            entry,
            label: label.map(str::to_owned),
            picked: false,
            attributes: BTreeMap::new(),
        };
        let found = vec![
            candidate(2, 1, None),
            candidate(3, 1, Some("cat")),
            candidate(4, 1, Some("cat")),
            candidate(5, 2, None),
            candidate(6, 2, None),
            candidate(7, 3, Some("cat")),
            candidate(8, 3, Some("dog")),
        ];
        let mut out = LeftOut::default();
        let stay = unique_names(found, &mut out);
        assert_eq!(stay.iter().map(|(at, candidate)| (*at, candidate.row)).collect::<Vec<_>>(), [(1, 3), (3, 5)]);
        let told: Vec<_> = out.listed().iter().map(|row| (row.row, row.code.as_str())).collect();
        let (twice, conflict) = ("duplicate_row", "conflicting_label");
        assert_eq!(told, [(2, twice), (4, twice), (6, twice), (7, conflict), (8, conflict)]);

        // However long the labels are and however many rows say them.
        let long = ["a", "b", "c"].map(|letter| letter.repeat(MAX_NAME));
        let mut out = LeftOut::default();
        unique_names(long.iter().map(|label| candidate(2, 1, Some(label.as_str()))).collect(), &mut out);
        assert!(out.len() == 3 && out.listed().iter().all(|row| row.detail.len() < 500), "{out:?}");
    }

    /// The index of an archive with a file of this name, whatever its bytes are.
    fn index_of(name: &[u8]) -> Index {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        let ours = "#".repeat(name.len());
        writer.start_file(ours.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        while let Some(at) = bytes.windows(ours.len()).position(|window| window == ours.as_bytes()) {
            bytes[at..at + ours.len()].copy_from_slice(name);
        }
        std::fs::write(file.path(), bytes).unwrap();
        Index::new(&mut archive::open(file.path()).unwrap(), &ImportLimits::default()).unwrap()
    }

    #[test]
    fn a_name_in_letters_that_the_archive_does_not_tell_is_missed_with_what_to_do() {
        let request = ImportRequest { task: "pet".into(), ..ImportRequest::default() };
        let told = |index: &Index, image: &str| {
            let sheet = Sheet::parse(format!("image,label\n{image},cat\n").into_bytes(), "train").unwrap();
            let mut out = LeftOut::default();
            candidates(&sheet, Role::Train, &request, index, &mut out).unwrap();
            out.listed().first().map(|row| row.detail.clone())
        };
        // As a Russian Windows writes it, in code page 866.
        let russian = index_of(b"\xaa\xae\xe2.jpg");
        let detail = told(&russian, "\u{43a}\u{43e}\u{442}.jpg").unwrap();
        assert!(detail.contains("does not say how they are written") && detail.contains("cu=on"), "{detail}");
        assert!(!told(&russian, "cat.jpg").unwrap().contains("cu=on"), "that name is written alike in all of them");
        // As macOS writes it: in UTF-8, and without saying so.
        let plain = index_of("\u{43a}\u{43e}\u{442}.jpg".as_bytes());
        assert_eq!(told(&plain, "\u{43a}\u{43e}\u{442}.jpg"), None);
        assert!(!told(&plain, "\u{43a}\u{438}\u{442}.jpg").unwrap().contains("cu=on"), "its names were read");
    }

    #[test]
    fn what_else_a_row_says_is_copied_only_where_the_row_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        writer.start_file("a.jpg", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"1").unwrap();
        writer.finish().unwrap();
        let index = Index::new(&mut archive::open(file.path()).unwrap(), &ImportLimits::default()).unwrap();
        let request = ImportRequest { task: "pet".into(), ..ImportRequest::default() };
        let read = |cell: &str| {
            let names: String = (0..40).map(|at| format!(",column {at}")).collect();
            let row = format!("a.jpg,cat{}\n", cell.repeat(40));
            let text = format!("image,label{names}\n{}", row.repeat(1000));
            let sheet = Sheet::parse(text.into_bytes(), "train").unwrap();
            let before = asked_for_by_this_thread().unwrap();
            let found = candidates(&sheet, Role::Train, &request, &index, &mut LeftOut::default()).unwrap();
            (found, asked_for_by_this_thread().unwrap() - before)
        };
        let (empty, least) = read(",");
        let (full, most) = read(",seven");
        assert_eq!((empty.len(), empty[0].attributes.len()), (1, 0));
        assert_eq!((full.len(), full[0].attributes.len(), full[0].row), (1, 40, 2));
        // A row's attributes are some kilobytes, those of all rows some megabytes.
        assert!(most < least + (100 << 10), "{least} bytes for rows that say nothing else, {most} for those that do");
    }
}
