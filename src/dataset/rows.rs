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
        if image.is_empty() {
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
            ["image", "file", "filename", "file_name", "path", "image_path", "name"].contains(&name)
        })?;
        let task = request.task.to_lowercase();
        let label = find(sheet, role, "label", request.label_column.as_deref(), |name| {
            name == "label" || name == "class" || name == task || name.ends_with(" label") || name.ends_with("_label")
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

fn find(
    sheet: &Sheet,
    role: Role,
    what: &str,
    wanted: Option<&str>,
    usual: impl Fn(&str) -> bool,
) -> Result<usize, ImportError> {
    match wanted {
        Some(name) => sheet.column(name).ok_or_else(|| no_column(sheet, role, what, name)),
        None => sheet
            .columns
            .iter()
            .position(|column| usual(&column.to_lowercase()))
            .ok_or_else(|| no_column(sheet, role, what, what)),
    }
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

/// One row per image: a repeated row is left out, contradicting rows are all left out.
fn unique_names(found: Vec<Candidate>, out: &mut Vec<RejectedRow>) -> Vec<Candidate> {
    let mut labels: HashMap<u32, BTreeSet<Option<String>>> = HashMap::new();
    for candidate in &found {
        labels.entry(candidate.entry).or_default().insert(candidate.label.clone());
    }
    let mut seen = BTreeSet::new();
    found
        .into_iter()
        .filter(|candidate| {
            if labels[&candidate.entry].len() > 1 {
                out.push(candidate.rejected("conflicting_label", "rows for this image name different labels"));
                return false;
            }
            let first = seen.insert(candidate.entry);
            if !first {
                out.push(candidate.rejected("duplicate_row", "an earlier row names this image already"));
            }
            first
        })
        .collect()
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

    #[test]
    fn labels_are_text_and_gaps_are_none() {
        assert_eq!(normalised("1.0").as_deref(), Some("1"));
        assert_eq!(normalised(" no_mask ").as_deref(), Some("no_mask"));
        assert_eq!(normalised("v1.0").as_deref(), Some("v1.0"));
        assert_eq!(normalised("  "), None);
        assert_eq!(normalised("NaN"), None);
    }
}
