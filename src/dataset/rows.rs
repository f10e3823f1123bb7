//! From a sheet's rows to candidates: what each row says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::archive::{Found, Index, read_as_utf8};
use super::columns::Columns;
use super::error::ImportError;
use super::import::ImportRequest;
use super::labels::{composed, first_of, gaps_among, normalised, quoted, reads_nan, shortened};
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
        let mut refuse = |code: &str, detail: String| {
            let told = rejected(role.as_str(), row.number, &image, code, detail);
            if is_unclear(row, &columns, index) { out.push_unclear(told) } else { out.push(told) }
        };
        if is_broken(row, &columns) {
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
        } else if picked == Ok(Some(true)) && role == Role::Test {
            let detail = "a test image may not be picked: figures are honest where chance drew the images; move the row to the \
                          training sheet";
            refuse("picked_test", detail.to_owned());
        } else {
            match index.find(&image) {
                Found::Missing => {
                    let like = index.like(&image).map(|name| format!("; it has {}", quoted(name))).unwrap_or_default();
                    let hint = index.hint_at_letters(&image);
                    let page = hint_at_code_page(&image, index);
                    let name = composed(&image);
                    refuse("missing_file", format!("the archive has no file {name:?}{like}{hint}{page}"));
                }
                Found::Ambiguous => refuse(
                    "ambiguous_file",
                    format!(
                        "several files in the archive are called {image:?}; name the folder in the sheet too, and the extension"
                    ),
                ),
                Found::Entry(entry) | Found::Bare(entry) => {
                    rows.push(row);
                    let picked = label.is_some() && picked == Ok(Some(true));
                    let (row, attributes) = (row.number, BTreeMap::new());
                    found.push(Candidate { role, unlisted: false, row, image, entry, label, picked, attributes });
                }
            }
        }
    }
    let groups: Vec<Option<String>> = rows.iter().map(|row| columns.group_of(row)).collect();
    let repeated = repeats_of(&found);
    // Of those alone that stay: millions of rows may name one image, each with many cells.
    let stay = unique_names(found, &groups, out).into_iter();
    let with_cells = |(at, candidate): (usize, Candidate)| {
        let mut attributes = columns.attributes(rows[at]);
        let mut picked = candidate.picked;
        let is_silent = candidate.label.is_some() && columns.is_picked(rows[at]) == Ok(None);
        // A label may have been appended below the row that says whose image it is, and that it was picked.
        for &other in repeated.get(&candidate.entry).into_iter().flatten() {
            columns.fill(&mut attributes, rows[other]);
            picked |= is_silent && columns.is_picked(rows[other]) == Ok(Some(true));
        }
        Candidate { picked, attributes, ..candidate }
    };
    Ok(stay.map(with_cells).collect())
}

/// Whether nobody can tell what image the row means: its cells cannot be told apart, it has a label and no image's name, or it says a
/// name in letters that the archive does not tell.
fn is_unclear(row: &Row, columns: &Columns, index: &Index) -> bool {
    let image = row.cell(columns.image);
    let is_labelled = !row.has_error(columns.label) && normalised(row.cell(columns.label)).is_some();
    // A CSV has a spreadsheet's #N/A as text, which is no image called A in a folder.
    let is_there = || !matches!(index.find(image), Found::Missing) || (!image.contains('/') && index.may_have(image));
    let is_gap = image.is_empty() || (!gaps_among(&[image]).is_empty() && !is_there());
    is_broken(row, columns)
        || row.surplus
        || row.has_error(columns.image)
        || (is_gap && is_labelled)
        || index.may_hide(image)
}

/// Whether the row's image or label has several lines.
fn is_broken(row: &Row, columns: &Columns) -> bool {
    [columns.image, columns.label].iter().any(|&at| row.cell(at).contains(['\n', '\r']))
}

/// The places of all rows that name an image together with another row, by its entry.
fn repeats_of(found: &[Candidate]) -> HashMap<u32, Vec<usize>> {
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, candidate) in found.iter().enumerate() {
        places.entry(candidate.entry).or_default().push(at);
    }
    places.retain(|_, places| places.len() > 1);
    places
}

/// What to add where a name is there once it is read as UTF-8: a spreadsheet program opened the sheet in its own code page and saved
/// what it saw.
fn hint_at_code_page(image: &str, index: &Index) -> String {
    let there = read_as_utf8(image).find(|meant| !matches!(index.find(meant), Found::Missing));
    there.map_or_else(String::new, |meant| {
        format!(
            "; it has {}, of which this is what a spreadsheet program shows that opens the sheet in another code page: open the sheet \
             anew, in Excel with Data → From Text/CSV and the file origin UTF-8, and label it there",
            quoted(&meant)
        )
    })
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
/// label, or without a group, contradicts nothing (a sheet of all images below one of the labelled). `groups` has each row's.
/// Each comes with its place among those that were found.
fn unique_names(found: Vec<Candidate>, groups: &[Option<String>], out: &mut LeftOut) -> Vec<(usize, Candidate)> {
    let mut stays: HashMap<u32, usize> = HashMap::new();
    let mut labelled: HashSet<u32> = HashSet::new();
    for (index, candidate) in found.iter().enumerate() {
        if candidate.label.is_some() && labelled.insert(candidate.entry) {
            stays.insert(candidate.entry, index);
        } else {
            stays.entry(candidate.entry).or_insert(index);
        }
    }
    let labels = conflicts(found.iter().map(|candidate| (candidate.entry, candidate.label.as_ref())), "labels");
    let groups =
        conflicts(found.iter().zip(groups).map(|(candidate, group)| (candidate.entry, group.as_ref())), "groups");
    let chosen = |(index, candidate): (usize, Candidate)| {
        let conflict = labels.get(&candidate.entry).map(|detail| ("conflicting_label", detail));
        let conflict = conflict.or_else(|| groups.get(&candidate.entry).map(|detail| ("conflicting_group", detail)));
        if let Some((code, detail)) = conflict {
            out.push(candidate.rejected(code, detail.as_str()));
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

/// The entries of which rows say several things, and which these are; `what` they are called.
fn conflicts<'a>(told: impl Iterator<Item = (u32, Option<&'a String>)>, what: &str) -> HashMap<u32, String> {
    let mut known: HashMap<u32, BTreeSet<&String>> = HashMap::new();
    for (entry, one) in told {
        known.entry(entry).or_default().extend(one);
    }
    let several = known.into_iter().filter(|(_, known)| known.len() > 1);
    let in_words = |(entry, known): (u32, BTreeSet<&String>)| {
        (entry, format!("rows for this image name different {what}: {}", first_of(known.into_iter(), 3)))
    };
    several.map(in_words).collect()
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
        // A row without a group contradicts none.
        let mut groups: Vec<Option<String>> = vec![None; found.len()];
        groups[0] = Some("anna".to_owned());
        let stay = unique_names(found, &groups, &mut out);
        assert_eq!(stay.iter().map(|(at, candidate)| (*at, candidate.row)).collect::<Vec<_>>(), [(1, 3), (3, 5)]);
        let told: Vec<_> = out.listed().iter().map(|row| (row.row, row.code.as_str())).collect();
        let (twice, conflict) = ("duplicate_row", "conflicting_label");
        assert_eq!(told, [(2, twice), (4, twice), (6, twice), (7, conflict), (8, conflict)]);

        // However long the labels are and however many rows say them.
        let long = ["a", "b", "c"].map(|letter| letter.repeat(MAX_NAME));
        let mut out = LeftOut::default();
        let rows = long.iter().map(|label| candidate(2, 1, Some(label.as_str()))).collect();
        unique_names(rows, &[None, None, None], &mut out);
        assert!(out.len() == 3 && out.listed().iter().all(|row| row.detail.len() < 500), "{out:?}");
    }

    #[test]
    fn what_the_labelled_row_leaves_empty_comes_from_the_rows_left_out() {
        let index = index_of(b"a.jpg");
        let group_column = Some("person".to_owned());
        let request = ImportRequest { task: "pet".into(), group_column, ..ImportRequest::default() };
        let read = |rows: &str| {
            let text = format!("image,label,Person,source,picked\n{rows}");
            let sheet = Sheet::parse(text.into_bytes(), "train").unwrap();
            let mut out = LeftOut::default();
            let found = candidates(&sheet, Role::Train, &request, &index, &mut out).unwrap();
            let codes: Vec<String> = out.listed().iter().map(|row| row.code.clone()).collect();
            (found, codes)
        };
        let (found, codes) = read("a.jpg,,anna,web,\na.jpg,cat,,film,yes\n");
        assert_eq!(codes, ["duplicate_row"]);
        assert!(found[0].row == 3 && found[0].picked && found[0].label.as_deref() == Some("cat"), "{found:?}");
        let cells = [("Person", "anna"), ("source", "film")].map(|(name, cell)| (name.to_owned(), cell.to_owned()));
        assert_eq!(found[0].attributes, BTreeMap::from(cells), "what it says itself stays");
        // 3 and 3.0 are one group.
        assert_eq!(read("a.jpg,,3,,\na.jpg,cat,3.0,,\n").1, ["duplicate_row"]);
        for (rows, picked) in [
            ("a.jpg,,,,yes\na.jpg,cat,,,\n", true),
            ("a.jpg,cat,,,\na.jpg,cat,,,x\n", true),
            ("a.jpg,,,,yes\na.jpg,cat,,,no\n", false),
            ("a.jpg,,,,yes\na.jpg,,,,\n", false),
        ] {
            assert_eq!(read(rows).0[0].picked, picked, "{rows}");
        }
        let (found, codes) = read("a.jpg,,anna,,\na.jpg,cat,bert,,yes\n");
        assert!(found.is_empty() && codes == ["conflicting_group"; 2], "{found:?} {codes:?}");
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

    /// Why a row that names this image is left out; nothing where it is not.
    fn told(index: &Index, image: &str) -> Option<String> {
        let request = ImportRequest { task: "pet".into(), ..ImportRequest::default() };
        let sheet = Sheet::parse(format!("image,label\n{image},cat\n").into_bytes(), "train").unwrap();
        let mut out = LeftOut::default();
        candidates(&sheet, Role::Train, &request, index, &mut out).unwrap();
        out.listed().first().map(|row| row.detail.clone())
    }

    #[test]
    fn a_name_in_letters_that_the_archive_does_not_tell_is_missed_with_what_to_do() {
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
    fn a_name_that_another_code_page_broke_is_missed_with_what_to_do() {
        // The second byte of Ü is œ in the code page.
        let index = index_of("\u{dc}bung 252.jpg".as_bytes());
        let detail = told(&index, "\u{c3}\u{153}bung 252.jpg").unwrap();
        assert!(detail.contains("\u{dc}bung 252.jpg") && detail.contains("From Text/CSV"), "{detail}");
        assert!(!told(&index, "\u{c3}\u{153}bung 253.jpg").unwrap().contains("From Text/CSV"), "that is not there");
        assert!(!told(&index, "\u{d6}bung 252.jpg").unwrap().contains("From Text/CSV"));
        let by_a_mac = told(&index, "\u{221a}\u{fa}bung 252.jpg").unwrap();
        assert!(by_a_mac.contains("\u{dc}bung 252.jpg") && by_a_mac.contains("From Text/CSV"), "{by_a_mac}");
    }

    #[test]
    fn a_letter_whose_accent_lies_apart_is_shown_as_it_is_read() {
        let index = index_of("Mu\u{308}ller.jpeg".as_bytes());
        let detail = told(&index, "Mu\u{308}ller.jpg").unwrap();
        assert_eq!(detail, "the archive has no file \"M\u{fc}ller.jpg\"; it has \"M\u{fc}ller.jpeg\"");
        assert!(index.summary().ends_with("such as \"M\u{fc}ller.jpeg\""), "{}", index.summary());
    }

    #[test]
    fn a_row_is_unclear_where_nobody_can_tell_what_it_names() {
        let request = ImportRequest { task: "pet".into(), ..ImportRequest::default() };
        let unclear = |index: &Index, row: &str| {
            let sheet = Sheet::parse(format!("image,label\n{row}\n").into_bytes(), "train").unwrap();
            let mut out = LeftOut::default();
            candidates(&sheet, Role::Train, &request, index, &mut out).unwrap();
            assert!(out.len() == 1, "{row}");
            out.unclear().is_some()
        };
        let long = "x".repeat(MAX_NAME + 1);
        let plain = index_of(b"na.jpg");
        for row in [",cat", "#N/A,cat", "nan,cat", "a,b.jpg,cat", "\"a\nb\",cat", format!(",{long}").as_str()] {
            assert!(unclear(&plain, row), "{row}");
        }
        for row in ["NA,cat", "gone.jpg,cat", "\u{dc}bung.jpg,cat", format!("na.jpg,{long}").as_str()] {
            assert!(!unclear(&plain, row), "{row}");
        }
        // A Japanese letter as Windows writes it there, and one of code page 1252: of the latter it is told which it may be.
        let japanese = index_of(b"\x94L.jpg");
        assert!(unclear(&japanese, "\u{732b}.jpg,cat") && !unclear(&japanese, "gone.jpg,cat"));
        // Chinese letters as Windows writes them there, two bytes each: two letters may look like one that is another image's.
        let chinese = index_of(b"\xb9\xb71.jpg");
        assert!(unclear(&chinese, "\u{732b}\u{72d7}1.jpg,cat"));
        let german = index_of(b"\xdcbung.jpg");
        assert!(!unclear(&german, "\u{dc}bung.jpg,cat") && unclear(&german, "\u{dc}bungen.jpg,cat"));
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
