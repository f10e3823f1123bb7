//! From a sheet's rows to candidates: which column is which, and what each row says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::archive::{Found, Index};
use super::error::ImportError;
use super::import::ImportRequest;
use super::labels::{first_of, normalised, quoted, same_column, shortened};
use super::manifest::Role;
use super::report::{self, ARCHIVE, RejectedRow, Warning};
use super::sheet::{MAX_NAME, Sheet};

/// Columns that a message names.
const NAMED: usize = 20;

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
    out: &mut Vec<RejectedRow>,
) -> Result<Vec<Candidate>, ImportError> {
    let columns = Columns::of(sheet, role, request)?;
    let mut found: Vec<Candidate> = Vec::new();
    for row in &sheet.rows {
        let image = row.cell(columns.image).to_owned();
        let label = normalised(row.cell(columns.label));
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
        } else if image.is_empty() {
            refuse("no_image_name", "the row names no image".to_owned());
        } else if label.is_none() && role == Role::Test {
            refuse("no_label", "a test row needs a label".to_owned());
        } else {
            match index.find(&image) {
                Found::Missing => {
                    let like = index.like(&image).map(|name| format!("; it has {}", quoted(name))).unwrap_or_default();
                    refuse("missing_file", format!("the archive has no file {image:?}{like}"));
                }
                Found::Ambiguous => refuse(
                    "ambiguous_file",
                    format!("several files in the archive are called {image:?}; name the folder in the sheet too"),
                ),
                Found::Entry(entry) => {
                    let attributes = columns.attributes(sheet, &row.cells);
                    found.push(Candidate { role, unlisted: false, row: row.number, image, entry, label, attributes });
                }
            }
        }
    }
    Ok(unique_names(found, out))
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
    let swallowed = of_lines.flat_map(|cell| cell.split([',', ';', '\t', '\n', '\r', '"']));
    Ok(index.meant(named.chain(swallowed).map(str::trim).filter(|name| !name.is_empty())))
}

/// Which column is which.
struct Columns {
    image: usize,
    label: usize,
    group: Option<usize>,
}

impl Columns {
    fn of(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Self, ImportError> {
        let image = find(sheet, role, "image", request.image_column.as_deref(), |name| {
            ["image", "file", "filename", "file_name", "path", "image_path", "name"]
                .iter()
                .position(|usual| *usual == name)
        })?;
        let names = usual_labels(&request.task);
        let label = find(sheet, role, "label", request.label_column.as_deref(), |name| {
            let any = || (name.ends_with(" label") || name.ends_with("_label")).then_some(names.len());
            names.iter().position(|usual| *usual == name).or_else(any)
        })?;
        let group = request.group_column.as_deref();
        let group = group.map(|name| named(sheet, role, "group", name)).transpose()?;
        let pairs = [
            ("image", Some(image), "label", label),
            ("group", group, "label", label),
            ("group", group, "image", image),
        ];
        if let Some((one, _, other, _)) = pairs.into_iter().find(|(_, one, _, other)| *one == Some(*other)) {
            let detail = format!(
                "the {one} column and the {other} column of the {} sheet are the same; name another one in {one}_column or \
                 leave it out",
                role.as_str()
            );
            return Err(ImportError::invalid("same_column", detail));
        }
        Ok(Self { image, label, group })
    }

    /// The columns whose cells name something: image, label and group.
    fn names(&self) -> impl Iterator<Item = usize> {
        [Some(self.image), Some(self.label), self.group].into_iter().flatten()
    }

    /// Every other named column that is not empty in this row. Groups are told apart as labels are: 3 and 3.0 are one. Of a
    /// long text the beginning will do: whatever it says, it tells no groups.
    fn attributes(&self, sheet: &Sheet, cells: &[String]) -> BTreeMap<String, String> {
        let named = sheet.columns.iter().zip(cells).enumerate();
        named
            .filter(|(at, (name, cell))| ![self.image, self.label].contains(at) && !name.is_empty() && !cell.is_empty())
            .filter_map(|(at, (name, cell))| {
                let cell =
                    if Some(at) == self.group { normalised(cell)? } else { shortened(cell, MAX_NAME).into_owned() };
                Some((name.clone(), cell))
            })
            .collect()
    }
}

/// The column that is `wanted`, or the one whose name is the most usual: `usual` gives a lower-case name's rank, 0 the best.
fn find(
    sheet: &Sheet,
    role: Role,
    what: &str,
    wanted: Option<&str>,
    usual: impl Fn(&str) -> Option<usize>,
) -> Result<usize, ImportError> {
    if let Some(name) = wanted {
        return named(sheet, role, what, name);
    }
    let columns = sheet.columns.iter().enumerate();
    let ranked: Vec<_> = columns.filter_map(|(at, name)| Some((usual(&name.to_lowercase())?, at))).collect();
    let Some(&(best, _)) = ranked.iter().min() else { return Err(no_column(sheet, role, what, what)) };
    only(sheet, role, what, ranked.iter().filter(|(rank, _)| *rank == best).map(|&(_, at)| at).collect())
}

/// The column of that name.
fn named(sheet: &Sheet, role: Role, what: &str, name: &str) -> Result<usize, ImportError> {
    let found = sheet.columns_named(name);
    let one = if found.is_empty() { Err(no_column(sheet, role, what, name)) } else { only(sheet, role, what, found) };
    one.map_err(|error| error.of_field(&format!("{what}_column")))
}

/// The one column of those that would do.
fn only(sheet: &Sheet, role: Role, what: &str, found: Vec<usize>) -> Result<usize, ImportError> {
    if let [at] = found[..] {
        return Ok(at);
    }
    let alike: Vec<&String> = found.into_iter().map(|at| &sheet.columns[at]).collect();
    let (role, alike) = (role.as_str(), first_of(alike.into_iter(), NAMED));
    let detail = format!(
        "several columns of the {role} sheet may be the {what}: {alike}; name it in {what}_column (and each column \
         differently)"
    );
    Err(ImportError::invalid("ambiguous_column", detail))
}

/// Every label that the sheet names, of usable rows or not.
pub(super) fn labels(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<BTreeSet<String>, ImportError> {
    let column = Columns::of(sheet, role, request)?.label;
    Ok(sheet.rows.iter().filter(|row| !row.surplus).filter_map(|row| normalised(row.cell(column))).collect())
}

fn no_column(sheet: &Sheet, role: Role, what: &str, name: &str) -> ImportError {
    let names: Vec<&String> = sheet.columns.iter().filter(|column| !column.is_empty()).collect();
    let detail = format!(
        "the {} sheet has no {what} column {name:?}; its columns are {}; name it in {what}_column",
        role.as_str(),
        first_of(names.into_iter(), NAMED)
    );
    ImportError::invalid("no_such_column", detail)
}

/// The label column where its name says only that it holds labels, and not that they are the task's.
pub(super) fn guessed_label(
    sheet: &Sheet,
    role: Role,
    request: &ImportRequest,
) -> Result<Option<Warning>, ImportError> {
    let name = &sheet.columns[Columns::of(sheet, role, request)?.label];
    let guessed =
        request.label_column.is_none() && usual_labels(&request.task).iter().all(|usual| !same_column(usual, name));
    let detail = format!(
        "the label is taken from the column {} of the {} sheet, as no other looks like the label of {:?}; if that is another \
         column, name it in label_column",
        quoted(name),
        role.as_str(),
        request.task
    );
    Ok(guessed.then(|| Warning::new("guessed_label_column", detail)))
}

/// What a label column is usually called, the most usual first.
fn usual_labels(task: &str) -> [String; 5] {
    let task = task.to_lowercase();
    ["label".to_owned(), task.clone(), format!("{task}_label"), format!("{task} label"), "class".to_owned()]
}

/// The columns of which cells are kept by their beginnings alone.
pub(super) fn long_cells(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Option<Warning>, ImportError> {
    let columns = Columns::of(sheet, role, request)?;
    let mut long: BTreeSet<usize> = BTreeSet::new();
    for row in &sheet.rows {
        long.extend(row.cells.iter().enumerate().filter(|(_, cell)| cell.len() > MAX_NAME).map(|(at, _)| at));
    }
    // Rows whose names are too long were left out.
    long.retain(|at| columns.names().all(|name| name != *at) && !sheet.columns[*at].is_empty());
    let detail = format!(
        "the {} sheet has cells of more than {MAX_NAME} bytes in {}: only their beginnings are kept, for columns beside image and \
         label are there to tell groups of images",
        role.as_str(),
        first_of(long.iter().map(|&at| &sheet.columns[at]), NAMED)
    );
    Ok((!long.is_empty()).then(|| Warning::new("long_cells", detail)))
}

/// One row per image: the first with a label, or the first. Rows that contradict each other are all left out; one without a
/// label contradicts nothing (a sheet of all images below one of the labelled).
fn unique_names(found: Vec<Candidate>, out: &mut Vec<RejectedRow>) -> Vec<Candidate> {
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
        stays.then_some(candidate)
    };
    found.into_iter().enumerate().filter_map(chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(text: &str) -> Sheet {
        Sheet::parse(text.as_bytes().to_vec(), "train").unwrap()
    }

    fn label_column(header: &str, task: &str) -> Result<String, String> {
        let sheet = sheet(&format!("{header}\na.jpg,1,2\n"));
        let request = ImportRequest { task: task.to_owned(), ..ImportRequest::default() };
        let columns = Columns::of(&sheet, Role::Train, &request).map_err(|error| error.to_string())?;
        Ok(sheet.columns[columns.label].clone())
    }

    #[test]
    fn the_label_is_the_column_of_the_most_usual_name_not_the_first_that_would_do() {
        for (header, task, expected) in [
            ("image,age_label,gender", "gender", "gender"),
            ("image,gender,Label", "gender", "Label"),
            ("image,age_label,gender_label", "gender", "gender_label"),
            ("image,class,mask label", "gender", "class"),
            ("image,age,mask label", "gender", "mask label"),
        ] {
            assert_eq!(label_column(header, task).as_deref(), Ok(expected), "{header}");
        }
        let refusal = label_column("image,age_label,mask_label", "gender").unwrap_err();
        assert!(refusal.contains("age_label") && refusal.contains("label_column"), "{refusal}");
    }

    #[test]
    fn a_label_of_something_else_is_taken_and_said() {
        let told = |header: &str, column: Option<&str>| {
            let sheet = sheet(&format!("{header}\na.jpg,1,2\n"));
            let label_column = column.map(str::to_owned);
            let request = ImportRequest { task: "gender".into(), label_column, ..ImportRequest::default() };
            guessed_label(&sheet, Role::Train, &request).unwrap().map(|warning| warning.detail)
        };
        let detail = told("image,age_label,sex", None).unwrap();
        assert!(
            detail.contains("column \"age_label\" of the train sheet") && detail.contains("label_column"),
            "{detail}"
        );
        assert_eq!(told("image,age_label,sex", Some("age_label")), None, "it was asked for");
        for usual in ["image,Gender,age", "image,Label,age", "image,gender_label,age_label"] {
            assert_eq!(told(usual, None), None, "{usual}");
        }
    }

    #[test]
    fn of_several_rows_for_an_image_the_labelled_one_stays() {
        let candidate = |row, entry, label: Option<&str>| Candidate {
            role: Role::Train,
            unlisted: false,
            row,
            image: format!("{entry}.jpg"),
            entry,
            label: label.map(str::to_owned),
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
        let mut out = Vec::new();
        let stay = unique_names(found, &mut out);
        assert_eq!(stay.iter().map(|candidate| candidate.row).collect::<Vec<_>>(), [3, 5]);
        let told: Vec<_> = out.iter().map(|row| (row.row, row.code.as_str())).collect();
        let (twice, conflict) = ("duplicate_row", "conflicting_label");
        assert_eq!(told, [(2, twice), (4, twice), (6, twice), (7, conflict), (8, conflict)]);

        // However long the labels are and however many rows say them.
        let long = ["a", "b", "c"].map(|letter| letter.repeat(MAX_NAME));
        out.clear();
        unique_names(long.iter().map(|label| candidate(2, 1, Some(label.as_str()))).collect(), &mut out);
        assert!(out.len() == 3 && out.iter().all(|row| row.detail.len() < 500), "{out:?}");
    }
}
