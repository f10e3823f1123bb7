//! From a sheet's rows to candidates: which column is which, and what each row says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::archive::{Found, Index};
use super::error::ImportError;
use super::import::ImportRequest;
use super::manifest::Role;
use super::report::RejectedRow;
use super::sheet::Sheet;

/// A row whose image was found in the archive.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub role: Role,
    pub row: u64,
    pub image: String,
    pub entry: u32,
    pub label: Option<String>,
    pub attributes: BTreeMap<String, String>,
}

impl Candidate {
    /// This row, left out for a reason.
    pub fn rejected(&self, code: &str, detail: impl Into<String>) -> RejectedRow {
        rejected(self.role, self.row, &self.image, code, detail)
    }
}

fn rejected(role: Role, row: u64, image: &str, code: &str, detail: impl Into<String>) -> RejectedRow {
    RejectedRow {
        sheet: role.as_str().to_owned(),
        row,
        image: image.to_owned(),
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
        let mut refuse = |code: &str, detail: String| out.push(rejected(role, row.number, &image, code, detail));
        if row.surplus {
            let header = sheet.columns.len();
            let detail = format!(
                "the row has more cells than the header's {header}: which is which cannot be told; put a cell that holds the \
                 separator in double quotes"
            );
            refuse("surplus_cells", detail);
        } else if image.is_empty() {
            refuse("no_image_name", "the row names no image".to_owned());
        } else if label.is_none() && role == Role::Test {
            refuse("no_label", "a test row needs a label".to_owned());
        } else {
            match index.find(&image) {
                Found::Missing => refuse("missing_file", format!("the archive has no file {image:?}")),
                Found::Ambiguous => refuse(
                    "ambiguous_file",
                    format!("several files in the archive are called {image:?}; name the folder in the sheet too"),
                ),
                Found::Entry(entry) => {
                    let attributes = columns.attributes(sheet, &row.cells);
                    found.push(Candidate { role, row: row.number, image, entry, label, attributes });
                }
            }
        }
    }
    Ok(unique_names(found, out))
}

/// Which column is which.
struct Columns {
    image: usize,
    label: usize,
}

impl Columns {
    fn of(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Self, ImportError> {
        let image = find(sheet, role, "image", request.image_column.as_deref(), |name| {
            ["image", "file", "filename", "file_name", "path", "image_path", "name"]
                .iter()
                .position(|usual| *usual == name)
        })?;
        let task = request.task.to_lowercase();
        let names =
            ["label".to_owned(), task.clone(), format!("{task}_label"), format!("{task} label"), "class".to_owned()];
        let label = find(sheet, role, "label", request.label_column.as_deref(), |name| {
            let any = || (name.ends_with(" label") || name.ends_with("_label")).then_some(names.len());
            names.iter().position(|usual| *usual == name).or_else(any)
        })?;
        if let Some(group) = &request.group_column
            && sheet.column(group).is_none()
        {
            return Err(no_column(sheet, role, "group", group));
        }
        Ok(Self { image, label })
    }

    /// Every other named column that is not empty in this row.
    fn attributes(&self, sheet: &Sheet, cells: &[String]) -> BTreeMap<String, String> {
        let named = sheet.columns.iter().zip(cells).enumerate();
        named
            .filter(|(at, (name, cell))| ![self.image, self.label].contains(at) && !name.is_empty() && !cell.is_empty())
            .map(|(_, (name, cell))| (name.clone(), cell.clone()))
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
        return sheet.column(name).ok_or_else(|| no_column(sheet, role, what, name));
    }
    let columns = sheet.columns.iter().enumerate();
    let ranked: Vec<_> = columns.filter_map(|(at, name)| Some((usual(&name.to_lowercase())?, at))).collect();
    let Some(&(best, at)) = ranked.iter().min() else { return Err(no_column(sheet, role, what, what)) };
    let alike: Vec<String> =
        ranked.iter().filter(|(rank, _)| *rank == best).map(|&(_, at)| format!("{:?}", sheet.columns[at])).collect();
    if alike.len() > 1 {
        let (role, alike) = (role.as_str(), alike.join(", "));
        let detail =
            format!("several columns of the {role} sheet may be the {what}: {alike}; name it in {what}_column");
        return Err(ImportError::invalid("ambiguous_column", detail));
    }
    Ok(at)
}

fn no_column(sheet: &Sheet, role: Role, what: &str, name: &str) -> ImportError {
    let names: Vec<String> = sheet.columns.iter().filter(|c| !c.is_empty()).map(|c| format!("{c:?}")).collect();
    let detail = format!(
        "the {} sheet has no {what} column {name:?}; its columns are {}; name it in {what}_column",
        role.as_str(),
        names.join(", ")
    );
    ImportError::invalid("no_such_column", detail)
}

/// A label as text; whole numbers lose their fraction (pandas writes 0/1 with gaps as 0.0/1.0), an empty
/// cell is no label.
fn normalised(cell: &str) -> Option<String> {
    let cell = cell.trim();
    if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
        return None;
    }
    Some(cell.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok()).unwrap_or(cell).to_owned())
}

/// One row per image: the first with a label, or the first. Rows that contradict each other are all left out; one without a
/// label contradicts nothing (a sheet of all images below one of the labelled).
fn unique_names(found: Vec<Candidate>, out: &mut Vec<RejectedRow>) -> Vec<Candidate> {
    let mut labels: HashMap<u32, BTreeSet<String>> = HashMap::new();
    let mut stays: HashMap<u32, usize> = HashMap::new();
    for (index, candidate) in found.iter().enumerate() {
        let known = labels.entry(candidate.entry).or_default();
        if known.is_empty() && candidate.label.is_some() {
            stays.insert(candidate.entry, index);
        } else {
            stays.entry(candidate.entry).or_insert(index);
        }
        known.extend(candidate.label.clone());
    }
    let chosen = |(index, candidate): (usize, Candidate)| {
        if labels[&candidate.entry].len() > 1 {
            out.push(candidate.rejected("conflicting_label", "rows for this image name different labels"));
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

/// The class names: every label of the training sheet, sorted.
pub(super) fn classes<'a>(train: impl Iterator<Item = &'a Candidate>) -> Result<Vec<String>, ImportError> {
    let names: BTreeSet<&String> = train.filter_map(|candidate| candidate.label.as_ref()).collect();
    if names.len() < 2 {
        let found = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "the training sheet's label column holds {} class(es) ({found}) on usable rows; a classifier needs two",
            names.len()
        );
        return Err(ImportError::invalid("too_few_classes", detail));
    }
    if names.len() > 1000 {
        let detail = format!("{} different labels; is the label column the right one?", names.len());
        return Err(ImportError::invalid("too_many_classes", detail));
    }
    Ok(names.into_iter().cloned().collect())
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
    fn of_several_rows_for_an_image_the_labelled_one_stays() {
        let candidate = |row, entry, label: Option<&str>| Candidate {
            role: Role::Train,
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
    }

    #[test]
    fn labels_are_text_and_gaps_are_none() {
        assert_eq!(normalised("1.0").as_deref(), Some("1"));
        assert_eq!(normalised(" no_mask ").as_deref(), Some("no_mask"));
        assert_eq!(normalised("v1.0").as_deref(), Some("v1.0"));
        assert_eq!(normalised("  "), None);
        assert_eq!(normalised("NaN"), None);
    }
}
