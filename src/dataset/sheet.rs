//! Reading a sheet: CSV (comma, semicolon or tab) or XLSX, to a table of text.
//!
//! A sheet is somebody else's file: what it holds is counted while it is read, never believed. A table costs as much
//! as there are cells in it, wherever they lie.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use calamine::{Data, DataRef, Reader, Xlsx};

use super::error::ImportError;

/// Bytes of a sheet, of an XLSX sheet inflated, and of the text in all cells.
const MAX_BYTES: u64 = 256 << 20;

/// Cells that are not empty, or stand before one that is not.
const MAX_CELLS: usize = 10_000_000;

/// Columns.
const MAX_COLUMNS: usize = 1024;

/// A table of text.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Column names, trimmed; an unnamed one is empty.
    pub columns: Vec<String>,
    /// The rows behind the header.
    pub rows: Vec<Row>,
    /// A workbook's further worksheets, which are not read.
    pub unread: Vec<String>,
}

/// A row of a sheet.
#[derive(Debug)]
pub(super) struct Row {
    /// As a spreadsheet numbers it: the header is row 1.
    pub number: u64,
    /// Trimmed cells; the last ones may be missing.
    pub cells: Vec<String>,
    /// A CSV row with more cells than the header has: which of them is which cannot be told.
    pub surplus: bool,
}

impl Row {
    /// The cell in a column; empty where the row ends before it.
    pub fn cell(&self, column: usize) -> &str {
        self.cells.get(column).map_or("", String::as_str)
    }
}

/// Rows as they are read, within the limits.
struct Table<'a> {
    name: &'a str,
    rows: Vec<Row>,
    cells: usize,
    bytes: u64,
}

impl<'a> Table<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, rows: Vec::new(), cells: 0, bytes: 0 }
    }

    /// Puts a cell into row `number`, which must not be before the last one.
    fn put(&mut self, number: u64, column: usize, text: String) -> Result<(), ImportError> {
        if text.is_empty() {
            return Ok(());
        }
        let too_large = |detail: String| ImportError::TooLarge { code: "sheet_too_large", detail };
        let name = self.name;
        if column >= MAX_COLUMNS {
            return Err(too_large(format!("the {name} sheet has more than {MAX_COLUMNS} columns")));
        }
        if self.rows.last().is_none_or(|row| row.number != number) {
            self.rows.push(Row { number, cells: Vec::new(), surplus: false });
        }
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        self.cells += (column + 1).saturating_sub(row.cells.len());
        self.bytes += text.len() as u64;
        if self.cells > MAX_CELLS || self.bytes > MAX_BYTES {
            let detail = format!("the {name} sheet has more than {MAX_CELLS} cells or {MAX_BYTES} bytes of text");
            return Err(too_large(detail));
        }
        if row.cells.len() <= column {
            row.cells.resize(column + 1, String::new());
        }
        row.cells[column] = text;
        Ok(())
    }
}

impl Sheet {
    /// Reads the sheet at `path`; `name` (`train`, `test`) is for messages. XLSX is told by its first bytes.
    pub fn read(path: &Path, name: &str) -> Result<Self, ImportError> {
        let size = std::fs::metadata(path).map_err(|e| ImportError::reading(path, e))?.len();
        if size > MAX_BYTES {
            let detail = format!("the {name} sheet has {size} bytes, allowed are {MAX_BYTES}");
            return Err(ImportError::TooLarge { code: "sheet_too_large", detail });
        }
        let bytes = std::fs::read(path).map_err(|e| ImportError::reading(path, e))?;
        Self::parse(bytes, name)
    }

    /// Reads a sheet from its bytes.
    pub fn parse(bytes: Vec<u8>, name: &str) -> Result<Self, ImportError> {
        let mut table = Table::new(name);
        let is_csv = !bytes.starts_with(b"PK");
        let unread = if is_csv {
            csv_text(&bytes, &mut table)?;
            Vec::new()
        } else {
            xlsx(bytes, &mut table)?
        };
        let mut rows = table.rows.into_iter();
        let columns = rows.next().map(|row| row.cells).unwrap_or_default();
        if columns.is_empty() {
            return Err(ImportError::invalid("empty_sheet", format!("the {name} sheet has no header row")));
        }
        let width = columns.len();
        let rows: Vec<Row> = rows
            .map(|mut row| {
                // In a spreadsheet they are notes beside the table; in CSV a comma that nobody quoted has moved all others.
                row.surplus = is_csv && row.cells.len() > width;
                row.cells.truncate(width);
                row
            })
            .collect();
        if rows.is_empty() {
            return Err(ImportError::invalid("empty_sheet", format!("the {name} sheet has a header but no rows")));
        }
        Ok(Self { columns, rows, unread })
    }

    /// Indices of the columns of that name, whatever its case.
    pub fn columns_named(&self, name: &str) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| column.eq_ignore_ascii_case(name)).map(|(at, _)| at).collect()
    }
}

fn csv_text(bytes: &[u8], table: &mut Table<'_>) -> Result<(), ImportError> {
    let name = table.name;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = plain_text(bytes, name)?;
    let (bytes, separator) = match separator_line(text) {
        Some((separator, rest)) => (rest.as_bytes(), separator),
        None => (bytes, delimiter(bytes)),
    };
    if let Some(line) = open_quote(bytes, separator) {
        let detail = format!(
            "a double quote opens a cell in line {line} of the {name} sheet and none closes it: close it, or write it twice \
             where it belongs to the text"
        );
        return Err(ImportError::invalid("open_quote", detail));
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(bytes);
    let mut record = csv::StringRecord::new();
    let unreadable = |e| ImportError::invalid("unreadable_sheet", format!("the {name} sheet is no CSV: {e}"));
    let mut number = 0;
    loop {
        // The reader skips empty lines; a spreadsheet shows them.
        number += 1 + empty_lines(bytes, reader.position().byte() as usize);
        if !reader.read_record(&mut record).map_err(unreadable)? {
            break;
        }
        for (column, cell) in record.iter().enumerate() {
            table.put(number, column, cell_of(cell).to_owned())?;
        }
    }
    Ok(())
}

/// Empty lines at `at`, the end of a record or of nothing.
fn empty_lines(bytes: &[u8], at: usize) -> u64 {
    let (before, mut rest) = bytes.split_at(at.min(bytes.len()));
    if before.ends_with(b"\r") {
        // The second half of the line's end before.
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    let ends = rest.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    let ends = &rest[..ends];
    let pairs = ends.windows(2).filter(|pair| pair == b"\r\n").count();
    (ends.len() - pairs) as u64
}

/// The bytes as text. Another encoding is refused, not guessed: a wrong guess makes one label of two.
fn plain_text<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, ImportError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let detail = format!("the {name} sheet is text in UTF-16; save it as \"CSV UTF-8\" or XLSX");
        return Err(ImportError::invalid("not_utf8", detail));
    }
    if bytes.contains(&0) {
        let detail = format!("the {name} sheet is neither CSV text nor XLSX");
        return Err(ImportError::invalid("unreadable_sheet", detail));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let (before, rest) = bytes.split_at(error.valid_up_to());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let byte = rest.first().copied().unwrap_or_default();
        let detail = format!(
            "the {name} sheet is not in UTF-8: line {line} has the byte 0x{byte:02X}; save it as \"CSV UTF-8\" or XLSX"
        );
        ImportError::invalid("not_utf8", detail)
    })
}

/// Excel's first line `sep=;`, which is no row: the separator, and what follows.
fn separator_line(text: &str) -> Option<(u8, &str)> {
    let (line, rest) = text.split_once('\n')?;
    let separator = line.trim_end_matches('\r').strip_prefix("sep=")?;
    Some((*separator.as_bytes().first().filter(|byte| separator.len() == 1 && byte.is_ascii())?, rest))
}

/// The line in which a quoted cell begins that never ends.
fn open_quote(bytes: &[u8], separator: u8) -> Option<usize> {
    let (mut line, mut begins, mut opened) = (1, true, None);
    for &byte in bytes {
        if byte == b'"' && (begins || opened.is_some()) {
            // Within a cell two quotes stand for one: closed and opened again.
            opened = if opened.is_some() { None } else { Some(line) };
            // Right behind a quote another one opens the cell again.
            begins = opened.is_none();
        } else if opened.is_none() {
            begins = byte == separator || byte == b'\n' || byte == b'\r';
        }
        line += usize::from(byte == b'\n');
    }
    opened
}

/// A cell without the spaces around it. Behind a space a quote opens nothing for the reader, though whoever wrote it meant so.
fn cell_of(cell: &str) -> &str {
    let trimmed = cell.trim();
    let inner = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|_| cell.starts_with([' ', '\t'])).unwrap_or(trimmed)
}

/// Whichever of comma, semicolon and tab stands most often in the first line, outside of quotes.
fn delimiter(bytes: &[u8]) -> u8 {
    let mut quoted = false;
    let line = bytes.iter().take_while(|&&byte| byte != b'\n');
    let line: Vec<u8> = line
        .copied()
        .filter(|&byte| {
            quoted ^= byte == b'"';
            !quoted
        })
        .collect();
    let count = |wanted: u8| line.iter().filter(|&&byte| byte == wanted).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|&byte| count(byte)).unwrap_or(b',')
}

fn no_xlsx(name: &str, reason: &str) -> ImportError {
    ImportError::invalid("unreadable_sheet", format!("the {name} sheet is no XLSX: {reason}"))
}

/// A panic of the spreadsheet's reader is the sheet's fault: libFuzzer has found references that it counts beyond 32 bits.
fn xlsx(bytes: Vec<u8>, table: &mut Table<'_>) -> Result<Vec<String>, ImportError> {
    let name = table.name;
    catch_unwind(AssertUnwindSafe(|| xlsx_cells(bytes, table)))
        .unwrap_or_else(|_| Err(no_xlsx(name, "its reader panicked; save it anew, or as CSV")))
}

/// Puts the first worksheet's cells into `table`; gives the names of the others.
fn xlsx_cells(bytes: Vec<u8>, table: &mut Table<'_>) -> Result<Vec<String>, ImportError> {
    let name = table.name;
    let unreadable = |reason: String| no_xlsx(name, &reason);
    refuse_bomb(&bytes, name, &unreadable)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    let mut pages = book.sheet_names().into_iter();
    let page = pages.next().ok_or_else(|| unreadable("it has no worksheet".to_owned()))?;
    // Cell by cell: the library's own table is as large as the rectangle around all cells, and one cell in the last
    // row and column of a sheet makes that 17 billion.
    let mut cells = book.worksheet_cells_reader(&page).map_err(|e| unreadable(e.to_string()))?;
    let mut last = 0;
    while let Some(cell) = cells.next_cell().map_err(|e| unreadable(e.to_string()))? {
        let (row, column) = cell.get_position();
        let number = u64::from(row) + 1;
        if number < last {
            return Err(unreadable("its rows are out of order".to_owned()));
        }
        last = number;
        table.put(number, column as usize, cell_text(cell.get_value()))?;
    }
    Ok(pages.collect())
}

/// Adds up what the archive's parts inflate to. They are not held to it here but where they are read: both this reader and
/// the spreadsheet's stop where a part inflates to more than it declares.
fn refuse_bomb(bytes: &[u8], name: &str, unreadable: &dyn Fn(String) -> ImportError) -> Result<(), ImportError> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    let mut inflated = 0u64;
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(|e| unreadable(e.to_string()))?;
        inflated = inflated.saturating_add(part.size());
    }
    if inflated > MAX_BYTES {
        let detail = format!("the {name} sheet inflates to {inflated} bytes, allowed are {MAX_BYTES}");
        return Err(ImportError::TooLarge { code: "sheet_too_large", detail });
    }
    Ok(())
}

/// A cell as a person reads it: whole numbers without a fraction.
fn cell_text(cell: &DataRef<'_>) -> String {
    match cell {
        DataRef::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        DataRef::Empty | DataRef::Error(_) => String::new(),
        DataRef::SharedString(text) => text.trim().to_owned(),
        other => Data::from(other.clone()).to_string().trim().to_owned(),
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
        assert_eq!(sheet.columns_named("LABEL"), [1]);
    }

    #[test]
    fn short_rows_have_empty_cells_and_row_numbers_are_a_spreadsheets() {
        let sheet = read(b"image,label,age\na.jpg,cat,3\nb.jpg\n").unwrap();
        assert_eq!((sheet.rows[1].cell(0), sheet.rows[1].cell(1), sheet.rows[1].cell(2)), ("b.jpg", "", ""));
        assert_eq!(sheet.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn rows_behind_empty_lines_keep_a_spreadsheets_numbers() {
        let numbers = |text: &str| read(text.as_bytes()).unwrap().rows.iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!(numbers("image,label\n\na.jpg,cat\n\n\nb.jpg,dog\n"), [3, 6]);
        assert_eq!(numbers("image,label\r\n\r\na.jpg,cat\r\nb.jpg,dog\r\n\r\n"), [3, 4]);
        assert_eq!(numbers("image,label\ra.jpg,cat\r\rb.jpg,dog"), [2, 4]);
        // A row of empty cells, and a cell of two lines, are one row each.
        assert_eq!(numbers("image,label\n,\na.jpg,\"two\nlines\"\nb.jpg,dog"), [3, 4]);
    }

    #[test]
    fn a_csv_row_with_more_cells_than_the_header_is_marked_and_trailing_delimiters_are_not() {
        let sheet = read(b"image,notes,label\na.jpg,tall, dark,cat\nb.jpg,,dog,,\n").unwrap();
        assert_eq!(sheet.rows.iter().map(|row| row.surplus).collect::<Vec<_>>(), [true, false]);
        let beside = read(&book(&[(0, 0, "image"), (0, 1, "label"), (1, 0, "a.jpg"), (1, 1, "cat"), (1, 4, "a note")]));
        assert!(!beside.unwrap().rows[0].surplus);
    }

    #[test]
    fn further_worksheets_are_named() {
        let mut book = rust_xlsxwriter::Workbook::new();
        book.add_worksheet().write_row(0, 0, ["image", "label"]).unwrap().write_row(1, 0, ["a.jpg", "cat"]).unwrap();
        book.add_worksheet().set_name("test").unwrap().write_row(0, 0, ["image", "label"]).unwrap();
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!(sheet.unread, ["test"]);
        assert_eq!(sheet.rows.len(), 1);
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
        assert_eq!(sheet.rows[1].number, 3);
        assert_eq!(sheet.rows[0].cells, ["0", "a.jpg", "3", "0"]);
        assert_eq!(sheet.rows[1].cells, ["1", "b.jpg", "40.5", "1"]);
    }

    /// An XLSX whose cells are written at these places.
    fn book(cells: &[(u32, u16, &str)]) -> Vec<u8> {
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        for &(row, column, text) in cells {
            page.write(row, column, text).unwrap();
        }
        book.save_to_buffer().unwrap()
    }

    #[test]
    fn a_sheet_costs_what_is_in_it_and_not_the_room_around_it() {
        // The last row and a column far out: a rectangle of a thousand million cells, three of them used.
        let sheet = read(&book(&[(0, 0, "image"), (0, 999, "label"), (1_048_575, 0, "a.jpg")])).unwrap();
        assert_eq!((sheet.columns.len(), sheet.rows[0].number, sheet.rows[0].cells.len()), (1000, 1_048_576, 1));
        let far = read(&book(&[(0, 0, "image"), (1_048_575, 16_383, "x")])).unwrap_err();
        assert!(far.code() == "sheet_too_large" && far.to_string().contains("columns"), "{far}");
        let wide = read(format!("{}\na\n", "x,".repeat(2000)).as_bytes()).unwrap_err();
        assert_eq!(wide.code(), "sheet_too_large");
    }

    #[test]
    fn what_is_no_utf8_is_refused_and_never_guessed() {
        for (bytes, where_) in [
            (&b"image,label\na.jpg,caf\xe9\nb.jpg,caf\xe8\n"[..], "line 2 has the byte 0xE9"),
            (b"\xff\xfei\0m\0", "UTF-16"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.code() == "not_utf8" && error.to_string().contains(where_), "{error}");
            assert!(error.to_string().contains("CSV UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_quote_that_nothing_closes_is_refused_with_its_line() {
        let error = read(b"image,label\na.jpg,cat\nb.jpg,\"dog\nc.jpg,cat\n").unwrap_err();
        assert!(error.code() == "open_quote" && error.to_string().contains("line 3"), "{error}");
        for whole in [
            "image,label\n\"a\"\"b\"\".jpg\",cat\n",
            "image,label\na.jpg,6\" tall\n",
            "image,notes\na.jpg,\"two\nlines\"\n",
            "image,label\na.jpg,\"\"\n",
        ] {
            read(whole.as_bytes()).unwrap_or_else(|error| panic!("{whole:?}: {error}"));
        }
    }

    #[test]
    fn dialects_of_csv() {
        let quoted = read(b"image;label;\"age, in years, and months\"\na.jpg;cat;3\n").unwrap();
        assert_eq!(quoted.columns, ["image", "label", "age, in years, and months"]);
        let spaced = read(b"image, \"label\"\na.jpg, \"no mask\"\n").unwrap();
        assert_eq!((spaced.columns[1].as_str(), spaced.rows[0].cell(1)), ("label", "no mask"));
        let excel = read(b"sep=;\r\nimage;label\r\na.jpg;cat, small\r\n").unwrap();
        assert_eq!((excel.rows[0].number, excel.rows[0].cell(1)), (2, "cat, small"));
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
