//! The rows that an import leaves out, as many as anybody will read.

use std::collections::BTreeMap;

use super::report::{ARCHIVE, RejectedRow};

/// Rows that are listed of each sheet and reason; of the others it is counted how many they are. A few bytes of a sheet make a row,
/// and each of these has a reason in words.
pub(super) const LISTED: usize = 10_000;

/// What was left out, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut {
    rows: Vec<RejectedRow>,
    counts: BTreeMap<(String, String), usize>,
    /// Of the rows of which nobody can tell what images they name: where the first stands, and how many they are.
    unclear: Option<(String, usize)>,
}

impl LeftOut {
    /// One more.
    pub fn push(&mut self, row: RejectedRow) {
        let count = self.counts.entry((row.sheet.clone(), row.code.clone())).or_default();
        *count += 1;
        if *count <= LISTED {
            self.rows.push(row);
        }
    }

    /// One more, of which nobody can tell what image it names.
    pub fn push_unclear(&mut self, row: RejectedRow) {
        let (_, count) = self.unclear.get_or_insert_with(|| (row.place(), 0));
        *count += 1;
        self.push(row);
    }

    /// Where the first row of those stands, and how many they are.
    pub fn unclear(&self) -> Option<(&str, usize)> {
        self.unclear.as_ref().map(|(place, count)| (place.as_str(), *count))
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are in all.
    pub fn len(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many of a sheet are bad: see [`repeats`].
    pub fn bad(&self, of: &str) -> usize {
        let bad = self.counts.iter().filter(|((sheet, code), _)| sheet == of && !repeats(sheet, code));
        bad.map(|(_, count)| count).sum()
    }

    /// Those that are listed, as they came.
    pub fn listed(&self) -> &[RejectedRow] {
        &self.rows
    }

    /// Those that are listed, those of `first` before the others: training rows, then test rows, then what no row names, by their
    /// numbers.
    pub fn into_listed(mut self, first: &str) -> Vec<RejectedRow> {
        self.rows.sort_by(|a, b| (a.sheet != first, &b.sheet, a.row).cmp(&(b.sheet != first, &a.sheet, b.row)));
        self.rows
    }
}

/// Whether it was left out only for saying, or showing, again what another does: that makes nothing bad. A sheet whose
/// rows show the same pictures is doubtful, an archive that holds copies is not.
pub(super) fn repeats(sheet: &str, code: &str) -> bool {
    match code {
        "duplicate_row" => true,
        "duplicate_image" | "in_test_too" | "conflicting_label" => sheet == ARCHIVE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sheet: &str, row: u64, code: &str) -> RejectedRow {
        let (sheet, code) = (sheet.to_owned(), code.to_owned());
        RejectedRow { sheet, row, image: format!("{row}.jpg"), code, detail: String::new() }
    }

    #[test]
    fn of_very_many_the_first_of_each_reason_are_listed_and_all_are_counted() {
        let mut out = LeftOut::default();
        let many = LISTED + 5;
        (0..many).for_each(|at| out.push(row("train", at as u64, "duplicate_row")));
        out.push(row("test", 7, "no_label"));
        out.push(row("train", 3, "missing_file"));
        assert_eq!((out.len(), out.bad("train"), out.bad("test")), (many + 2, 1, 1));
        (0..many).for_each(|at| out.push_unclear(row("test", at as u64 + 8, "line_break")));
        assert_eq!((out.unclear(), out.len()), (Some(("test row 8", many)), 2 * many + 2));
        assert_eq!(out.listed().len(), 2 * LISTED + 2, "a frequent reason hides no other");
        let listed = out.clone().into_listed("train");
        let told: Vec<_> = listed[..5].iter().map(|row| (row.row, row.code.as_str())).collect();
        let twice = "duplicate_row";
        assert_eq!(told, [(0, twice), (1, twice), (2, twice), (3, twice), (3, "missing_file")]);
        assert_eq!(listed.last().map(|row| row.sheet.as_str()), Some("test"));
        assert_eq!(out.into_listed("test")[0].sheet, "test");
    }
}
