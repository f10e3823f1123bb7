//! Rows as they are read, within the limits: what they will cost is counted before they do.

use super::{MAX_NAME, Row};
use crate::dataset::error::ImportError;

/// Bytes of a sheet, of an XLSX sheet inflated, of the text in all cells, and of the columns' names, each counted with every
/// cell under it: a data set keeps them with every image.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// Cells that are not empty, or stand before one that is not.
const MAX_CELLS: usize = 10_000_000;

/// Columns.
const MAX_COLUMNS: usize = 1024;

/// The rows so far; the first is the header.
pub(super) struct Table<'a> {
    pub name: &'a str,
    pub rows: Vec<Row>,
    cells: usize,
    bytes: u64,
    /// Bytes of column names, each counted with every cell under it.
    names: u64,
}

impl<'a> Table<'a> {
    pub fn new(name: &'a str) -> Self {
        Self { name, rows: Vec::new(), cells: 0, bytes: 0, names: 0 }
    }

    /// Puts a cell into row `number`, which must not be before the last one.
    pub fn put(&mut self, number: u64, column: usize, text: String) -> Result<(), ImportError> {
        if text.is_empty() {
            return Ok(());
        }
        let too_large = |detail: String| ImportError::too_large("sheet_too_large", detail);
        let name = self.name;
        if column >= MAX_COLUMNS {
            return Err(too_large(format!("the {name} sheet has more than {MAX_COLUMNS} columns")));
        }
        if self.rows.last().is_none_or(|row| row.number != number) {
            self.rows.push(Row { number, cells: Vec::new(), surplus: false, errors: Vec::new() });
        }
        if self.rows.len() == 1 {
            refuse_long_name(name, number, column, &text)?;
        } else {
            self.names += self.rows[0].cell(column).len() as u64;
        }
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        self.cells += (column + 1).saturating_sub(row.cells.len());
        self.bytes += text.len() as u64;
        if self.cells > MAX_CELLS || self.bytes > MAX_BYTES {
            let detail = format!("the {name} sheet has more than {MAX_CELLS} cells or {MAX_BYTES} bytes of text");
            return Err(too_large(detail));
        }
        if self.names > MAX_BYTES {
            let detail = format!(
                "the {name} sheet has more than {MAX_BYTES} bytes of column names, each counted with every cell under it: give its \
                 columns short names, or leave out those that tell no groups of images"
            );
            return Err(too_large(detail));
        }
        if row.cells.len() <= column {
            row.cells.resize(column + 1, String::new());
        }
        row.cells[column] = text;
        Ok(())
    }

    /// Notes that the cell which was put there last holds an error and no value.
    pub fn is_error(&mut self, column: usize) {
        if let (Some(row), Ok(column)) = (self.rows.last_mut(), u16::try_from(column)) {
            row.errors.push(column);
        }
    }
}

fn refuse_long_name(name: &str, row: u64, column: usize, text: &str) -> Result<(), ImportError> {
    if text.len() <= MAX_NAME {
        return Ok(());
    }
    let detail = format!(
        "the name of column {} of the {name} sheet (row {row}) has {} bytes, allowed are {MAX_NAME}: give it a short one, or put a \
         header above the rows if there is none",
        column + 1,
        text.len()
    );
    Err(ImportError::invalid("long_column_name", detail))
}

#[cfg(test)]
mod tests {
    use super::super::Sheet;
    use super::*;

    fn parse(text: String) -> Result<Sheet, ImportError> {
        Sheet::parse(text.into_bytes(), "test")
    }

    #[test]
    fn a_long_column_name_is_refused_with_its_place() {
        let named = |bytes: usize| parse(format!("image,label,{}\na.jpg,cat,1\n", "x".repeat(bytes)));
        assert_eq!(named(MAX_NAME).unwrap().columns[2].len(), MAX_NAME);
        let refused = named(MAX_NAME + 1).unwrap_err();
        assert_eq!(refused.code(), "long_column_name");
        assert!(refused.to_string().contains("column 3 of the test sheet (row 1) has 1025 bytes"), "{refused}");
        // A cell under it may be long: it is there once.
        assert_eq!(parse(format!("image,notes\na.jpg,{}\n", "x".repeat(5000))).unwrap().rows[0].cell(1).len(), 5000);
    }

    #[test]
    fn column_names_count_with_every_cell_under_them() {
        // A hundred columns, each with a name of a thousand bytes.
        let names: Vec<String> = (0..100).map(|column| format!("{column:01000}")).collect();
        let sheet =
            |rows: usize| parse(format!("{}\n{}", names.join(","), format!("{}1\n", "1,".repeat(99)).repeat(rows)));
        assert_eq!(sheet(2600).unwrap().rows.len(), 2600);
        let refused = sheet(2700).unwrap_err();
        assert_eq!(refused.code(), "sheet_too_large");
        assert!(refused.to_string().contains("bytes of column names"), "{refused}");
    }

    #[test]
    fn empty_cells_before_one_count_as_it_does_and_text_counts_by_its_bytes() {
        // As if so much had been read before: rows of commas and a letter would take gigabytes.
        let last = |cells: usize, bytes: u64| {
            let mut table = Table { cells, bytes, ..Table::new("test") };
            table.put(1, 0, "image".to_owned()).unwrap();
            table.put(2, 3, "x".to_owned())
        };
        // The header's cell of five bytes, and four cells of one.
        assert!(last(MAX_CELLS - 5, MAX_BYTES - 6).is_ok());
        for (cells, bytes) in [(MAX_CELLS - 4, 0), (0, MAX_BYTES - 5)] {
            let refused = last(cells, bytes).unwrap_err();
            assert_eq!(refused.code(), "sheet_too_large");
            let told = "the test sheet has more than 10000000 cells or 268435456 bytes of text";
            assert_eq!(refused.to_string(), told);
        }
    }
}
