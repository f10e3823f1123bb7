//! Which column of a sheet is which: by the name that the import gives, or by the one that it usually has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::error::ImportError;
use super::import::ImportRequest;
use super::labels::{first_of, normalised, reads_nan, same_column, shortened};
use super::manifest::Role;
use super::sheet::{MAX_NAME, Row, Sheet, not_read};

/// Columns that a message names.
pub(super) const NAMED: usize = 20;

/// What the column is called that says which images were picked.
const PICKED: &str = "picked";

/// Which column is which.
pub(super) struct Columns {
    pub image: usize,
    pub label: usize,
    pub group: Option<usize>,
    /// Whether an image was picked to be labelled, and not drawn.
    pub picked: Option<usize>,
    /// What each column's cells are kept under: its name, numbered where an earlier column has it.
    kept_as: Vec<String>,
}

impl Columns {
    pub fn of(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Self, ImportError> {
        let image = find(sheet, role, "image", request.image_column.as_deref(), image_rank)?;
        let label = find(sheet, role, "label", request.label_column.as_deref(), label_rank(&request.task))?;
        let group = request.group_column.as_deref();
        let group = group.map(|name| named(sheet, role, "group", name)).transpose()?;
        let picked = match &request.picked_column {
            // A test sheet has no use for it.
            Some(name) if role == Role::Test && sheet.columns_named(name).is_empty() => None,
            Some(name) => Some(named(sheet, role, "picked", name)?),
            None => match sheet.columns_named(PICKED)[..] {
                [at] if ![Some(image), Some(label), group].contains(&Some(at)) => Some(at),
                _ => None,
            },
        };
        let pairs = [
            ("image", Some(image), "label", label),
            ("group", group, "label", label),
            ("group", group, "image", image),
            ("picked", picked, "label", label),
            ("picked", picked, "image", image),
        ];
        // Groups would be taken for picks, and there would be none.
        let groups = group.filter(|_| picked.is_some()).map(|at| ("picked", picked, "group", at));
        let pairs = pairs.into_iter().chain(groups);
        if let Some((one, _, other, _)) = pairs.into_iter().find(|(_, one, _, other)| *one == Some(*other)) {
            let detail = format!(
                "the {one} column and the {other} column of the {} sheet are the same; name another one in {one}_column or \
                 leave it out",
                role.as_str()
            );
            return Err(ImportError::invalid("same_column", detail));
        }
        Ok(Self { image, label, group, picked, kept_as: kept_as(&sheet.columns) })
    }

    /// Whether the row says that its image was picked; none where it says nothing.
    ///
    /// # Errors
    /// A cell that is neither yes nor no.
    pub fn is_picked<'a>(&self, row: &'a Row) -> Result<Option<bool>, &'a str> {
        let cell = self.picked.map_or("", |column| row.cell(column));
        // pandas writes a column of 1 and nothing as 1.0 and nothing.
        match normalised(cell).unwrap_or_default().to_lowercase().as_str() {
            "" => Ok(None),
            "0" | "no" | "n" | "false" => Ok(Some(false)),
            "1" | "yes" | "y" | "true" | "x" => Ok(Some(true)),
            _ => Err(cell),
        }
    }

    /// The group that the row names, as [`Self::attributes`] keeps it.
    pub fn group_of(&self, row: &Row) -> Option<String> {
        self.group.and_then(|column| normalised(row.cell(column)))
    }

    /// Whether the column tells no groups.
    fn is_of_us(&self, column: usize) -> bool {
        [Some(self.image), Some(self.label), self.picked].contains(&Some(column))
    }

    /// The columns whose cells name something: image, label and group.
    pub fn names(&self) -> impl Iterator<Item = usize> {
        [Some(self.image), Some(self.label), self.group].into_iter().flatten()
    }

    /// Columns beside ours whose name an earlier one has, and what they are kept as.
    pub fn repeated<'a>(&'a self, sheet: &'a Sheet) -> impl Iterator<Item = (&'a String, &'a String)> {
        let columns = sheet.columns.iter().zip(&self.kept_as).enumerate();
        columns.filter(|(at, (name, kept_as))| name != kept_as && !self.is_of_us(*at)).map(|(_, names)| names)
    }

    /// Every other named column that is not empty in this row; NaN, or a spreadsheet's error, is no value. Groups are told apart as
    /// labels are: 3 and 3.0 are one. Of a long text the beginning will do: whatever it says, it tells no groups.
    pub fn attributes(&self, row: &Row) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::new();
        self.fill(&mut attributes, row);
        attributes
    }

    /// Adds those that are not known yet. The others are not even copied: millions of rows may name one image.
    pub fn fill(&self, attributes: &mut BTreeMap<String, String>, row: &Row) {
        let named = self.kept_as.iter().zip(&row.cells).enumerate();
        let told = named.filter(|(at, (name, cell))| {
            !name.is_empty() && !cell.is_empty() && !reads_nan(cell) && !self.is_of_us(*at) && !row.has_error(*at)
        });
        for (at, (name, cell)) in told {
            if attributes.contains_key(name) {
                continue;
            }
            let cell =
                if Some(at) == self.group { normalised(cell) } else { Some(shortened(cell, MAX_NAME).into_owned()) };
            attributes.extend(cell.map(|cell| (name.clone(), cell)));
        }
    }
}

/// How usual a lower-case name is for an image column, 0 the most.
fn image_rank(name: &str) -> Option<usize> {
    ["image", "file", "filename", "file_name", "path", "image_path", "name"].iter().position(|usual| *usual == name)
}

/// How usual a lower-case name is for the task's label column, 0 the most.
fn label_rank(task: &str) -> impl Fn(&str) -> Option<usize> {
    let names = usual_labels(task);
    move |name| {
        let any = || (name.ends_with(" label") || name.ends_with("_label")).then_some(names.len());
        names.iter().position(|usual| usual == name).or_else(any)
    }
}

/// Whether a header has an image and a label column, or several that may be: it was cut where whoever wrote it meant so.
pub(super) fn are_there(header: &[String], request: &ImportRequest) -> bool {
    let has = |wanted: Option<&String>, rank: &dyn Fn(&str) -> Option<usize>| match wanted {
        Some(wanted) => header.iter().any(|name| same_column(name, wanted)),
        None => header.iter().any(|name| rank(&name.to_lowercase()).is_some()),
    };
    has(request.image_column.as_ref(), &image_rank) && has(request.label_column.as_ref(), &label_rank(&request.task))
}

/// The columns' names, those that an earlier column has numbered: `source (2)`.
fn kept_as(columns: &[String]) -> Vec<String> {
    let all: HashSet<&str> = columns.iter().map(String::as_str).collect();
    // The number that the next column of a name gets.
    let mut next: HashMap<String, u32> = HashMap::new();
    let own = |name: &String| {
        let number = next.entry(name.clone()).or_insert(1);
        loop {
            let kept = if *number == 1 || name.is_empty() { name.clone() } else { format!("{name} ({number})") };
            *number += 1;
            // The number must not be another column's own.
            if kept == *name || !all.contains(kept.as_str()) {
                return kept;
            }
        }
    };
    columns.iter().map(own).collect()
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
    let mut found = sheet.columns_named(name);
    if found.is_empty() {
        // As a repeated name is kept: `source (2)`.
        found.extend(kept_as(&sheet.columns).iter().position(|kept| same_column(kept, name)));
    }
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

/// Every label that the sheet names, of usable rows or not; a spreadsheet's errors are none.
pub(super) fn labels(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<BTreeSet<String>, ImportError> {
    let column = Columns::of(sheet, role, request)?.label;
    let rows = sheet.rows.iter().filter(|row| !row.surplus && !row.has_error(column));
    Ok(rows.filter_map(|row| normalised(row.cell(column))).collect())
}

fn no_column(sheet: &Sheet, role: Role, what: &str, name: &str) -> ImportError {
    let kept = kept_as(&sheet.columns);
    let names: Vec<&String> = kept.iter().filter(|column| !column.is_empty()).collect();
    // Of several columns that have the usual names the separator is the right one.
    let usual = |name: &str| image_rank(name).is_some() || label_rank("label")(name).is_some();
    let parted = sheet.columns.len() > 1 && sheet.columns.iter().any(|name| usual(&name.to_lowercase()));
    let detail = format!(
        "the {} sheet has no {what} column {name:?}; its columns are {}; name it in {what}_column{}{}",
        role.as_str(),
        first_of(names.into_iter(), NAMED),
        not_read(&sheet.unread),
        sheet.separator.filter(|_| !parted).map_or_else(String::new, |separator| format!(
            "; its columns were parted at each {}, and a first line such as sep=; says another separator",
            match separator {
                b'\t' => "tab",
                b'|' => "vertical bar",
                b';' => "semicolon",
                _ => "comma",
            }
        ))
    );
    ImportError::invalid("no_such_column", detail)
}

/// The names of the columns that a sheet's images and labels are read from.
pub(super) fn read_from<'a>(
    sheet: &'a Sheet,
    role: Role,
    request: &ImportRequest,
) -> Result<(&'a str, &'a str), ImportError> {
    let columns = Columns::of(sheet, role, request)?;
    Ok((sheet.columns[columns.image].as_str(), sheet.columns[columns.label].as_str()))
}

/// Whether a column is called like the task, and not like any label.
pub(super) fn tells_the_task(name: &str, task: &str) -> bool {
    let [_, of_task @ .., _] = usual_labels(task);
    of_task.iter().any(|usual| same_column(usual, name))
}

/// What a label column is usually called, the most usual first: of any task, of this one, and of any again.
pub(super) fn usual_labels(task: &str) -> [String; 5] {
    let task = task.to_lowercase();
    ["label".to_owned(), task.clone(), format!("{task}_label"), format!("{task} label"), "class".to_owned()]
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
    fn the_picked_column_is_found_by_its_name_or_named_and_tells_no_groups() {
        let told = |header: &str, column: Option<&str>, cells: &str| {
            let sheet = sheet(&format!("{header}\n{cells}\n"));
            let picked_column = column.map(str::to_owned);
            let request = ImportRequest { task: "gender".into(), picked_column, ..ImportRequest::default() };
            let columns = Columns::of(&sheet, Role::Train, &request).map_err(|error| error.to_string())?;
            let picked = columns.is_picked(&sheet.rows[0]).map_err(str::to_owned)?;
            Ok::<_, String>((picked, columns.attributes(&sheet.rows[0]).into_keys().collect::<Vec<_>>()))
        };
        let (no, yes) = (Some(false), Some(true));
        for (cell, picked) in [("", None), ("0", no), ("No", no), ("1", yes), ("yes", yes), ("TRUE", yes), ("x", yes)]
            .into_iter()
            .chain([("1.0", yes), ("0.0", no), ("nan", None)])
        {
            let found = told("image,label,Picked,age", None, &format!("a.jpg,cat,{cell},3"));
            assert_eq!(found, Ok((picked, vec!["age".to_owned()])), "{cell:?}");
        }
        assert_eq!(told("image,label,picked", None, "a.jpg,cat,perhaps"), Err("perhaps".to_owned()));
        assert_eq!(told("image,label,asked", Some("asked"), "a.jpg,cat,1"), Ok((yes, vec![])));
        assert_eq!(told("image,label,age", None, "a.jpg,cat,1"), Ok((None, vec!["age".to_owned()])));
        let missing = told("image,label,age", Some("asked"), "a.jpg,cat,1").unwrap_err();
        assert!(missing.contains("picked column \"asked\"") && missing.contains("picked_column"), "{missing}");
        let same = told("image,label,age", Some("label"), "a.jpg,cat,1").unwrap_err();
        assert!(same.contains("the same"), "{same}");
    }

    #[test]
    fn a_repeated_name_is_numbered_and_no_cell_is_lost() {
        let sheet = sheet("image,label,source,source,,source (2),source\na.jpg,cat,web,studio,5,x,y\n");
        let columns = Columns::of(&sheet, Role::Train, &ImportRequest::default()).unwrap();
        let kept: Vec<(String, String)> = columns.attributes(&sheet.rows[0]).into_iter().collect();
        let expected = [("source", "web"), ("source (2)", "x"), ("source (3)", "studio"), ("source (4)", "y")];
        assert_eq!(kept, expected.map(|(name, cell)| (name.to_owned(), cell.to_owned())));
        let repeated: Vec<&str> = columns.repeated(&sheet).map(|(_, kept)| kept.as_str()).collect();
        assert_eq!(repeated, ["source (3)", "source (4)"]);
        assert_eq!(named(&sheet, Role::Train, "group", "source (4)").unwrap(), 6, "by the name that it is kept as");
    }

    #[test]
    fn a_header_is_one_where_image_and_label_are_there() {
        let header = |text: &str| text.split(';').map(str::to_owned).collect::<Vec<_>>();
        let request = ImportRequest { task: "gender".into(), ..ImportRequest::default() };
        assert!(are_there(&header("Image;Gender;x"), &request) && are_there(&header("file;a_label;b_label"), &request));
        assert!(!are_there(&header("image;x"), &request) && !are_there(&header("gender;x"), &request));
        let named = ImportRequest { image_column: Some("bild".into()), ..request };
        assert!(are_there(&header("Bild;gender"), &named) && !are_there(&header("image;gender"), &named));
    }

    #[test]
    fn a_missing_column_tells_where_the_columns_were_parted() {
        let refused =
            |text: &str| Columns::of(&sheet(text), Role::Train, &ImportRequest::default()).err().unwrap().to_string();
        let told = refused("picture;what\na.jpg;cat\n");
        assert!(told.contains("parted at each semicolon") && told.contains("sep=;"), "{told}");
        let told = refused("picture,label\na.jpg,cat\n");
        assert!(!told.contains("parted"), "there is a label: {told}");
        let told = refused("sep=;\npicture;what\na.jpg;cat\n");
        assert!(!told.contains("parted"), "its first line said so: {told}");
    }
}
