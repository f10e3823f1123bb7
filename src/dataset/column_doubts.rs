//! What to tell of a sheet's columns: which was guessed, which are called alike, of which cells not all is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::columns::{Columns, NAMED, tells_the_task, usual_labels};
use super::error::ImportError;
use super::import::ImportRequest;
use super::labels::{first_of, normalised, quoted, reads_nan, same_column};
use super::manifest::Role;
use super::report::Warning;
use super::sheet::{MAX_NAME, Sheet};

/// Doubts about one sheet's columns.
pub(super) fn warnings(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Vec<Warning>, ImportError> {
    let columns = Columns::of(sheet, role, request)?;
    let all = [
        guessed_label(sheet, &columns, role, request),
        repeated(sheet, &columns, role),
        taken_as_empty(sheet, &columns, role),
        long_cells(sheet, &columns, role),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// What a column is usually called that names groups, an id or not.
const OF_GROUPS: [&str; 4] = ["group", "person", "subject", "identity"];

fn tells_groups(name: &str) -> bool {
    let name = name.to_lowercase();
    let bare = ["_id", " id"].into_iter().find_map(|id| name.strip_suffix(id)).unwrap_or(&name);
    OF_GROUPS.contains(&bare)
}

/// Columns that look as if they named groups where the import names none. None is chosen by itself: that would change the splits.
pub(super) fn unnamed_groups(sheets: &[(Role, &Sheet)], request: &ImportRequest) -> Result<Vec<Warning>, ImportError> {
    if request.group_column.is_some() {
        return Ok(Vec::new());
    }
    // Of each column, by its lower-case name, how many rows of each sheet have each value.
    let mut found: BTreeMap<String, BTreeMap<String, BTreeMap<Role, usize>>> = BTreeMap::new();
    for &(role, sheet) in sheets {
        let columns = Columns::of(sheet, role, request)?;
        for (at, name) in sheet.columns.iter().enumerate() {
            if !tells_groups(name) || columns.names().chain(columns.picked).any(|ours| ours == at) {
                continue;
            }
            let values = found.entry(name.to_lowercase()).or_default();
            for value in sheet.rows.iter().filter(|row| !row.surplus).filter_map(|row| normalised(row.cell(at))) {
                *values.entry(value).or_default().entry(role).or_default() += 1;
            }
        }
    }
    Ok(found.iter().filter_map(|(column, values)| unnamed(column, values)).collect())
}

fn unnamed(column: &str, values: &BTreeMap<String, BTreeMap<Role, usize>>) -> Option<Warning> {
    let repeated = values.values().filter(|rows| rows.values().sum::<usize>() > 1).count();
    let both = values.values().filter(|rows| rows.len() > 1).count();
    let detail = format!(
        "column {} looks as if it named groups, and {repeated} of its {} values stand in several rows, {both} of them in both sheets; \
         it is not used for that: name it in group_column, so that no group is both trained on and validated with",
        quoted(column),
        values.len()
    );
    (repeated > 0).then(|| Warning::new("unnamed_groups", detail))
}

/// Cells of the sheet's label column that read NaN, and so are empty.
pub(super) fn nan_labels(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<usize, ImportError> {
    Ok(nan_cells(sheet, Columns::of(sheet, role, request)?.label))
}

fn nan_cells(sheet: &Sheet, column: usize) -> usize {
    sheet.rows.iter().filter(|row| !row.surplus && reads_nan(row.cell(column))).count()
}

/// Somebody may be called Nan.
fn taken_as_empty(sheet: &Sheet, columns: &Columns, role: Role) -> Option<Warning> {
    let counted = [Some(columns.label), columns.group].into_iter().flatten().map(|at| (at, nan_cells(sheet, at)));
    let told: Vec<String> = counted
        .filter(|(_, cells)| *cells > 0)
        .map(|(at, cells)| format!("{cells} cells of column {}", quoted(&sheet.columns[at])))
        .collect();
    let detail = format!(
        "{} of the {} sheet read NaN, as pandas writes an empty cell, and were taken as empty; where it is the name of a class or \
         a group, write it otherwise (Nan_)",
        told.join(" and "),
        role.as_str()
    );
    (!told.is_empty()).then(|| Warning::new("nan_taken_as_empty", detail))
}

/// Columns of one name: the cells of the later ones would take the place of the first one's.
fn repeated(sheet: &Sheet, columns: &Columns, role: Role) -> Option<Warning> {
    let (names, kept): (BTreeSet<&String>, Vec<&String>) = columns.repeated(sheet).unzip();
    let detail = format!(
        "several columns of the {} sheet are called {}: the later ones are kept as {}; give each a name of its own",
        role.as_str(),
        first_of(names.into_iter(), NAMED),
        first_of(kept.iter().copied(), NAMED)
    );
    (!kept.is_empty()).then(|| Warning::new("repeated_column", detail))
}

/// The label column where its name says only that it holds labels, and not that they are the task's, or where another column's
/// name would do as well.
fn guessed_label(sheet: &Sheet, columns: &Columns, role: Role, request: &ImportRequest) -> Option<Warning> {
    if request.label_column.is_some() {
        return None;
    }
    let is_usual = |name: &str| usual_labels(&request.task).iter().any(|usual| same_column(usual, name));
    let is_of_task = |name: &str| tells_the_task(name, &request.task);
    let name = &sheet.columns[columns.label];
    let is_ours = |at: usize| columns.names().chain(columns.picked).any(|ours| ours == at);
    // Beside a column that is called like the task, one that is called like any label says nothing.
    let would_do = |other: &str| is_usual(other) && (is_of_task(other) || !is_of_task(name));
    let named = sheet.columns.iter().enumerate();
    let others: Vec<&String> =
        named.filter(|(at, other)| !is_ours(*at) && would_do(other)).map(|(_, other)| other).collect();
    let why = if !is_usual(name) {
        format!("as no other looks like the label of {:?}", request.task)
    } else if others.is_empty() {
        return None;
    } else {
        format!("though {} would do too", first_of(others.into_iter(), NAMED))
    };
    let detail = format!(
        "the label is taken from the column {} of the {} sheet, {why}; if that is another column, name it in label_column",
        quoted(name),
        role.as_str()
    );
    Some(Warning::new("guessed_label_column", detail))
}

/// The columns of which cells are kept by their beginnings alone.
fn long_cells(sheet: &Sheet, columns: &Columns, role: Role) -> Option<Warning> {
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
    (!long.is_empty()).then(|| Warning::new("long_cells", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(text: &str) -> Sheet {
        Sheet::parse(text.as_bytes().to_vec(), "train").unwrap()
    }

    /// The warning of that code.
    fn told(sheet: &Sheet, request: &ImportRequest, code: &str) -> Option<String> {
        let warnings = warnings(sheet, Role::Train, request).unwrap();
        warnings.into_iter().find(|warning| warning.code == code).map(|warning| warning.detail)
    }

    #[test]
    fn a_label_of_something_else_is_taken_and_said() {
        let guessed = |header: &str, column: Option<&str>| {
            let sheet = sheet(&format!("{header}\na.jpg,1,2\n"));
            let label_column = column.map(str::to_owned);
            let request = ImportRequest { task: "gender".into(), label_column, ..ImportRequest::default() };
            told(&sheet, &request, "guessed_label_column")
        };
        let detail = guessed("image,age_label,sex", None).unwrap();
        assert!(
            detail.contains("column \"age_label\" of the train sheet") && detail.contains("label_column"),
            "{detail}"
        );
        assert_eq!(guessed("image,age_label,sex", Some("age_label")), None, "it was asked for");
        for usual in ["image,Gender,age", "image,Label,age", "image,gender_label,age_label", "image,class,gender"] {
            assert_eq!(guessed(usual, None), None, "{usual}");
        }
        // The one may say which sheet a row is of, and the other what it shows.
        for (header, taken, other) in [
            ("image,gender,Label", "Label", "gender"),
            ("image,class,label", "label", "class"),
            ("image,gender,Gender Label", "gender", "Gender Label"),
        ] {
            let detail = guessed(header, None).unwrap();
            let told = format!("column {taken:?} of the train sheet, though {other:?} would do too");
            assert!(detail.contains(&told), "{detail}");
        }
        assert_eq!(guessed("image,gender,Label", Some("Label")), None, "it was asked for");
    }

    #[test]
    fn columns_of_one_name_are_told_with_what_they_are_kept_as() {
        let request = ImportRequest::default();
        let twice = sheet("image,label,source,source\na.jpg,cat,web,studio\n");
        let detail = told(&twice, &request, "repeated_column").unwrap();
        assert!(detail.contains("called \"source\"") && detail.contains("kept as \"source (2)\""), "{detail}");
        let plain = sheet("image,label,source,,\na.jpg,cat,web,1,2\n");
        assert_eq!(told(&plain, &request, "repeated_column"), None, "columns without a name are not kept");
    }

    #[test]
    fn a_column_that_looks_as_if_it_named_groups_is_told_where_none_is_named() {
        let told = |header: &str, group_column: Option<&str>| {
            let train = sheet(&format!("image,label,{header}\na.jpg,cat,x\nb.jpg,dog,x\nc.jpg,dog,y\nd.jpg,cat,z\n"));
            let test = sheet(&format!("image,label,{header}\ne.jpg,cat,y\n"));
            let request = ImportRequest { group_column: group_column.map(str::to_owned), ..ImportRequest::default() };
            unnamed_groups(&[(Role::Train, &train), (Role::Test, &test)], &request).unwrap()
        };
        for name in ["group", "Person", "person_id", "Subject ID", "identity"] {
            let found = told(name, None);
            assert!(found.len() == 1 && found[0].code == "unnamed_groups", "{name}: {found:?}");
            assert!(
                found[0].detail.contains("2 of its 3 values stand in several rows, 1 of them in both"),
                "{found:?}"
            );
            assert_eq!(told(name, Some(name)), [], "it was named");
        }
        assert_eq!(told("source", None), []);
        let once = sheet("image,label,person\na.jpg,cat,x\nb.jpg,dog,y\nc.jpg,dog,\nd.jpg,dog,\n");
        assert_eq!(unnamed_groups(&[(Role::Train, &once)], &ImportRequest::default()).unwrap(), [], "nothing repeats");
    }

    #[test]
    fn cells_that_read_nan_are_counted() {
        let request = ImportRequest { group_column: Some("person".into()), ..ImportRequest::default() };
        let sheet = sheet("image,label,person\na.jpg,Nan,x\nb.jpg,NaN,nan\nc.jpg,cat,y\nd.jpg,,z\n");
        let detail = told(&sheet, &request, "nan_taken_as_empty").unwrap();
        assert!(detail.starts_with("2 cells of column \"label\" and 1 cells of column \"person\""), "{detail}");
        assert_eq!(nan_labels(&sheet, Role::Train, &request).unwrap(), 2);
        let plain = self::sheet("image,label\na.jpg,nanny\nb.jpg,\n");
        assert_eq!(told(&plain, &ImportRequest::default(), "nan_taken_as_empty"), None);
    }
}
