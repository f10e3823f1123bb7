//! Reading a sheet: CSV (comma, semicolon or tab) or XLSX, to a table of text.

use std::io::Cursor;
use std::path::Path;

use calamine::{Data, Reader, Xlsx};

use super::error::ImportError;

/// Bytes of a sheet, and of an XLSX sheet inflated.
const MAX_BYTES: u64 = 256 << 20;

/// A table of text.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Column names, trimmed; an unnamed one is empty.
    pub columns: Vec<String>,
    /// The rows behind the header.
    pub rows: Vec<Row>,
}

/// A row of a sheet.
#[derive(Debug)]
pub(super) struct Row {
    /// As a spreadsheet numbers it: the header is row 1.
    pub number: u64,
    /// Trimmed cells, as many as there are columns.
    pub cells: Vec<String>,
}

impl Sheet {
    /// Reads the sheet at `path`; `name` (`train`, `test`) is for messages. XLSX is told by its first bytes.
    pub fn read(path: &Path, name: &str) -> Result<Self, ImportError> {
        let size = std::fs::metadata(path).map_err(|e| ImportError::storage(path, e))?.len();
        if size > MAX_BYTES {
            let detail = format!("the {name} sheet has {size} bytes, allowed are {MAX_BYTES}");
            return Err(ImportError::TooLarge { code: "sheet_too_large", detail });
        }
        let bytes = std::fs::read(path).map_err(|e| ImportError::storage(path, e))?;
        let table = if bytes.starts_with(b"PK") { xlsx(bytes, name)? } else { csv_text(&bytes, name)? };
        Self::from_table(table, name)
    }

    fn from_table(table: Vec<Vec<String>>, name: &str) -> Result<Self, ImportError> {
        let mut rows = table.into_iter().enumerate();
        let columns = rows.next().map(|(_, cells)| cells).unwrap_or_default();
        if columns.iter().all(String::is_empty) {
            return Err(ImportError::invalid("empty_sheet", format!("the {name} sheet has no header row")));
        }
        let width = columns.len();
        let rows: Vec<Row> = rows
            .filter(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()))
            .map(|(index, mut cells)| {
                cells.resize(width, String::new());
                Row { number: index as u64 + 1, cells }
            })
            .collect();
        if rows.is_empty() {
            return Err(ImportError::invalid("empty_sheet", format!("the {name} sheet has a header but no rows")));
        }
        Ok(Self { columns, rows })
    }

    /// Index of the column of that name, whatever its case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.eq_ignore_ascii_case(name))
    }
}

fn csv_text(bytes: &[u8], name: &str) -> Result<Vec<Vec<String>>, ImportError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.contains(&0) {
        let detail = format!("the {name} sheet is neither CSV text nor XLSX");
        return Err(ImportError::invalid("unreadable_sheet", detail));
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(bytes)).from_reader(bytes);
    let mut table = Vec::new();
    for record in reader.byte_records() {
        let record =
            record.map_err(|e| ImportError::invalid("unreadable_sheet", format!("the {name} sheet is no CSV: {e}")))?;
        table.push(record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect());
    }
    Ok(table)
}

/// Whichever of comma, semicolon and tab stands most often in the first line.
fn delimiter(bytes: &[u8]) -> u8 {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| line.iter().filter(|&&byte| byte == wanted).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|&byte| count(byte)).unwrap_or(b',')
}

fn xlsx(bytes: Vec<u8>, name: &str) -> Result<Vec<Vec<String>>, ImportError> {
    let unreadable =
        |reason: String| ImportError::invalid("unreadable_sheet", format!("the {name} sheet is no XLSX: {reason}"));
    // The reader inflates whatever it is told: ask the archive first how much that would be.
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).map_err(|e| unreadable(e.to_string()))?;
    let mut inflated = 0u64;
    for index in 0..archive.len() {
        inflated += archive.by_index_raw(index).map_err(|e| unreadable(e.to_string()))?.size();
    }
    if inflated > MAX_BYTES {
        let detail = format!("the {name} sheet inflates to {inflated} bytes, allowed are {MAX_BYTES}");
        return Err(ImportError::TooLarge { code: "sheet_too_large", detail });
    }
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    let range = book
        .worksheet_range_at(0)
        .ok_or_else(|| unreadable("it has no worksheet".to_owned()))?
        .map_err(|e| unreadable(e.to_string()))?;
    // Empty rows above the first used one would shift the numbers that people see.
    let above = range.start().map_or(0, |(row, _)| row as usize);
    let mut table: Vec<Vec<String>> = range.rows().map(|row| row.iter().map(cell_text).collect()).collect();
    if above > 0 && !table.is_empty() {
        let header = table.remove(0);
        let blanks = (0..above).map(|_| Vec::new());
        table = std::iter::once(header).chain(blanks).chain(table).collect();
    }
    Ok(table)
}

/// A cell as a person reads it: whole numbers without a fraction.
fn cell_text(cell: &Data) -> String {
    match cell {
        Data::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        Data::Empty | Data::Error(_) => String::new(),
        other => other.to_string().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Sheet, ImportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Sheet::read(file.path(), "train")
    }

    #[test]
    fn csv_with_semicolons_a_byte_order_mark_and_quotes() {
        let sheet = read("\u{feff}Image;Label\n\"a;1.jpg\";cat\n\nb.jpg; dog \n".as_bytes()).unwrap();
        assert_eq!(sheet.columns, ["Image", "Label"]);
        assert_eq!(sheet.rows[0].cells, ["a;1.jpg", "cat"]);
        assert_eq!(sheet.rows[1].cells, ["b.jpg", "dog"]);
        assert_eq!(sheet.column("LABEL"), Some(1));
    }

    #[test]
    fn short_rows_are_filled_and_row_numbers_are_a_spreadsheets() {
        let sheet = read(b"image,label,age\na.jpg,cat,3\nb.jpg\n").unwrap();
        assert_eq!(sheet.rows[1].cells, ["b.jpg", "", ""]);
        assert_eq!(sheet.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn xlsx_as_pandas_writes_it_with_an_unnamed_index() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["", "Image", "Age", "Gender"]).unwrap();
        for (row, (image, age, gender)) in [("a.jpg", 3.0, 0.0), ("b.jpg", 40.5, 1.0)].into_iter().enumerate() {
            let row = row as u32 + 1;
            page.write(row, 0, row - 1).unwrap();
            page.write(row, 1, image).unwrap();
            page.write(row, 2, age).unwrap();
            page.write(row, 3, gender).unwrap();
        }
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!(sheet.columns, ["", "Image", "Age", "Gender"]);
        assert_eq!(sheet.rows[0].cells, ["0", "a.jpg", "3", "0"]);
        assert_eq!(sheet.rows[1].cells, ["1", "b.jpg", "40.5", "1"]);
    }

    #[test]
    fn what_is_no_sheet_is_refused() {
        for (bytes, code) in [
            (&b""[..], "empty_sheet"),
            (b"image,label\n", "empty_sheet"),
            (b"\x00\x01\x02\x03", "unreadable_sheet"),
            (b"PK\x03\x04 but no zip", "unreadable_sheet"),
        ] {
            assert_eq!(read(bytes).unwrap_err().code(), code, "{bytes:?}");
        }
    }
}
