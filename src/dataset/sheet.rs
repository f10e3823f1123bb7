//! Reading a sheet: CSV (comma, semicolon, tab or vertical bar) or XLSX, to a table of text.
//!
//! A sheet is somebody else's file: what it holds is counted while it is read, never believed. A table costs as much
//! as there is in its cells, wherever they lie and whatever repeats them.

mod csv;
mod table;
mod xlsx;

use std::path::Path;

use super::columns::NAMED;
use super::error::ImportError;
use super::labels::{first_of, same_column};
use table::{MAX_BYTES, Table};

/// Bytes of what names something: a column, an image, a label, a group. All of these are repeated, in manifests, messages and
/// models.
pub(super) const MAX_NAME: usize = 1024;

/// How a ZIP archive begins, one without files too. A column of a CSV file may be called PK.
const ZIP_MARKS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// What to add where a sheet has not what it should, of worksheets that were not read.
pub(super) fn not_read(unread: &[String]) -> String {
    if unread.is_empty() {
        return String::new();
    }
    let names = first_of(unread.iter(), NAMED);
    format!("; of the workbook its first visible worksheet alone was read, not {names}: move the table to the front")
}

/// A table of text.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Column names, trimmed; an unnamed one is empty.
    pub columns: Vec<String>,
    /// The rows behind the header.
    pub rows: Vec<Row>,
    /// A workbook's further worksheets, which are not read.
    pub unread: Vec<String>,
    /// What parts the columns of a CSV file, where no first line says so.
    pub separator: Option<u8>,
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
    /// Columns whose cells hold a spreadsheet's error, such as #N/A.
    errors: Vec<u16>,
}

impl Row {
    /// The cell in a column; empty where the row ends before it.
    pub fn cell(&self, column: usize) -> &str {
        self.cells.get(column).map_or("", String::as_str)
    }

    /// Whether the cell in a column holds a spreadsheet's error and no value.
    pub fn has_error(&self, column: usize) -> bool {
        self.errors.iter().any(|&at| usize::from(at) == column)
    }
}

impl Sheet {
    /// Reads the sheet at `path`; `name` (`train`, `test`) is for messages. XLSX is told by its first bytes. Of several separators
    /// that a CSV file may have, the one is taken by which its header is one that `is_header` knows.
    pub fn read(path: &Path, name: &str, is_header: &dyn Fn(&[String]) -> bool) -> Result<Self, ImportError> {
        let size = std::fs::metadata(path).map_err(|e| ImportError::reading(path, e))?.len();
        if size > MAX_BYTES {
            let detail = format!("the {name} sheet has {size} bytes, allowed are {MAX_BYTES}");
            return Err(ImportError::too_large("sheet_too_large", detail));
        }
        let bytes = std::fs::read(path).map_err(|e| ImportError::reading(path, e))?;
        Self::parse_as(bytes, name, is_header)
    }

    /// Reads a sheet from its bytes, whatever its columns are called.
    pub fn parse(bytes: Vec<u8>, name: &str) -> Result<Self, ImportError> {
        Self::parse_as(bytes, name, &|_| false)
    }

    fn parse_as(bytes: Vec<u8>, name: &str, is_header: &dyn Fn(&[String]) -> bool) -> Result<Self, ImportError> {
        let mut table = Table::new(name);
        let is_csv = !ZIP_MARKS.iter().any(|mark| bytes.starts_with(mark));
        let (separator, unread) = if is_csv {
            (csv::read(&bytes, &mut table, is_header)?, Vec::new())
        } else {
            (None, xlsx::read(bytes, &mut table)?)
        };
        let mut rows = table.rows.into_iter();
        let columns = rows.next().map(|row| row.cells).unwrap_or_default();
        if columns.is_empty() {
            let detail = format!("the {name} sheet has no header row{}", not_read(&unread));
            return Err(ImportError::invalid("empty_sheet", detail));
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
            let detail = format!("the {name} sheet has a header but no rows{}", not_read(&unread));
            return Err(ImportError::invalid("empty_sheet", detail));
        }
        Ok(Self { columns, rows, unread, separator })
    }

    /// Indices of the columns of that name, whatever its case and however its accents are written.
    pub fn columns_named(&self, name: &str) -> Vec<usize> {
        self.columns.iter().enumerate().filter(|(_, column)| same_column(column, name)).map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Sheet, ImportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Sheet::read(file.path(), "train", &|header| {
            ["image", "label"].iter().all(|name| header.iter().any(|one| one == name))
        })
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
    fn an_empty_first_line_does_not_hide_the_delimiter() {
        let sheet = read(b"\r\n\nimage;label\na.jpg;cat\n").unwrap();
        assert_eq!((sheet.columns, sheet.rows.len()), (vec!["image".to_owned(), "label".to_owned()], 1));
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
    fn a_formula_that_failed_is_no_empty_cell() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["image", "label"]).unwrap().write(1, 0, "a.jpg").unwrap();
        page.write_formula(1, 1, rust_xlsxwriter::Formula::new("=NA()").set_result("#N/A")).unwrap();
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!(
            (sheet.rows[0].cell(1), sheet.rows[0].has_error(1), sheet.rows[0].has_error(0)),
            ("#N/A", true, false)
        );
        assert!(!read(b"image,label\na.jpg,#N/A\n").unwrap().rows[0].has_error(1), "in a CSV it is a text");
    }

    #[test]
    fn columns_are_found_whatever_their_case_and_however_accents_are_written() {
        let sheet = read("Bild,Pru\u{308}fung\na.jpg,cat\n".as_bytes()).unwrap();
        assert_eq!((sheet.columns_named("PRÜFUNG"), sheet.columns_named("bild")), (vec![1], vec![0]));
    }

    #[test]
    fn a_cell_that_looks_filled_and_is_not_is_refused_with_its_place() {
        let book = |fill: &dyn Fn(&mut rust_xlsxwriter::Worksheet)| {
            let mut book = rust_xlsxwriter::Workbook::new();
            let page = book.add_worksheet();
            page.write_row(0, 0, ["image", "label"]).unwrap();
            for row in 1..4 {
                page.write(row, 0, format!("{row}.jpg")).unwrap();
            }
            fill(page);
            read(&book.save_to_buffer().unwrap())
        };
        let format = rust_xlsxwriter::Format::new();
        let merge = |last_row, last_column| {
            book(&|page| {
                page.merge_range(1, 1, last_row, last_column, "cat", &format).unwrap();
            })
        };
        let merged = merge(3, 1).unwrap_err();
        assert!(merged.code() == "merged_cells" && merged.to_string().contains("B2 to B4"), "{merged}");
        // Over several columns a cell is a heading or a note.
        assert!(merge(1, 3).is_ok());

        let formatted = rust_xlsxwriter::Format::new().set_bold();
        let filled = book(&|page| {
            page.write_blank(1, 1, &formatted).unwrap();
            page.write_formula(2, 1, rust_xlsxwriter::Formula::new("=A2").set_result("cat")).unwrap();
        });
        let filled = filled.unwrap();
        let labels: Vec<&str> = filled.rows.iter().map(|row| row.cell(1)).collect();
        assert_eq!(labels, ["", "cat", ""], "a format is no value, and a formula's value is one");
    }

    /// A sheet whose label is a formula, with the part that holds its cells edited.
    fn with_formula(edit: impl Fn(String) -> String) -> Result<Sheet, ImportError> {
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["image", "label"]).unwrap().write(1, 0, "a.jpg").unwrap();
        page.write_formula(1, 1, rust_xlsxwriter::Formula::new("=A2").set_result("cat")).unwrap();
        let whole = book.save_to_buffer().unwrap();
        let mut parts = zip::ZipArchive::new(std::io::Cursor::new(&whole)).unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut edited = zip::ZipWriter::new(&mut bytes);
        for index in 0..parts.len() {
            let mut part = parts.by_index(index).unwrap();
            let (name, mut text) = (part.name().unwrap().into_owned(), String::new());
            std::io::Read::read_to_string(&mut part, &mut text).unwrap();
            let text = if name.ends_with("sheet1.xml") { edit(text) } else { text };
            edited.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut edited, text.as_bytes()).unwrap();
        }
        edited.finish().unwrap();
        read(bytes.get_ref())
    }

    #[test]
    fn a_formula_whose_value_nobody_calculated_is_refused() {
        assert_eq!(with_formula(|text| text).unwrap().rows[0].cell(1), "cat");
        // As openpyxl writes it: without a value, and without what kind of value it is.
        let refused = with_formula(|text| text.replace("<v>cat</v>", "<v></v>").replace(" t=\"str\"", "")).unwrap_err();
        assert!(refused.code() == "formula_without_value" && refused.to_string().contains("B2"), "{refused}");
        // As Excel writes a formula that gives an empty text.
        let empty = with_formula(|text| text.replace("<v>cat</v>", "<v></v>")).unwrap();
        assert_eq!(empty.rows[0].cell(1), "");
        // A shared formula may say that it is the four thousand millionth.
        let shared = r#"<f t="shared" si="4000000000" ref="B2:B3">"#;
        assert_eq!(with_formula(|text| text.replace("<f>", shared)).unwrap().rows[0].cell(1), "cat");
    }

    #[test]
    fn a_workbook_whose_rows_are_out_of_order_is_refused() {
        // Taken as they come, a row that is met twice would be two, with the image in one and the label in the other.
        let header_last = |text: String| {
            let moved = text.replace("<row r=\"1\"", "<row r=\"3\"");
            moved.replace("\"A1\"", "\"A3\"").replace("\"B1\"", "\"B3\"")
        };
        let refused = with_formula(header_last).unwrap_err();
        assert_eq!(refused.code(), "unreadable_sheet");
        assert_eq!(refused.to_string(), "the train sheet is no XLSX: its rows are out of order");
    }

    #[test]
    fn a_workbook_that_declares_more_than_a_sheet_may_have_is_refused_before_it_is_inflated() {
        let mut bytes = book(&[(0, 0, "image"), (0, 1, "label"), (1, 0, "a.jpg"), (1, 1, "cat")]);
        // How large a part will be lies 24 bytes into its entry of the central directory.
        let entry = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
        bytes[entry + 24..entry + 28].copy_from_slice(&(3_u32 << 30).to_le_bytes());
        let mut parts = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        let declared: u64 = (0..parts.len()).map(|part| parts.by_index_raw(part).unwrap().size()).sum();
        let refused = read(&bytes).unwrap_err();
        assert_eq!(refused.code(), "sheet_too_large");
        let told = format!("the train sheet inflates to {declared} bytes, allowed are 268435456");
        assert_eq!(refused.to_string(), told);
    }

    #[test]
    fn spaces_around_what_a_workbook_says_are_no_part_of_it() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["image ", " label"]).unwrap().write_row(1, 0, [" a.jpg\u{a0}", "cat "]).unwrap();
        page.write(2, 0, "b.jpg").unwrap();
        page.write_formula(2, 1, rust_xlsxwriter::Formula::new("=B2").set_result("cat ")).unwrap();
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!(sheet.columns, ["image", "label"]);
        assert_eq!(sheet.rows[0].cells, ["a.jpg", "cat"]);
        assert_eq!(sheet.rows[1].cells, ["b.jpg", "cat"]);
    }

    #[test]
    fn a_hidden_worksheet_is_passed_over() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let lists = book.add_worksheet().set_name("lists").unwrap();
        lists.write_row(0, 0, ["image", "label"]).unwrap().write_row(1, 0, ["x", "y"]).unwrap().set_hidden(true);
        let page = book.add_worksheet().set_active(true);
        page.write_row(0, 0, ["image", "label"]).unwrap().write_row(1, 0, ["a.jpg", "cat"]).unwrap();
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!((sheet.rows[0].cell(0), sheet.unread.as_slice()), ("a.jpg", ["lists".to_owned()].as_slice()));
    }

    #[test]
    fn a_first_worksheet_without_a_table_is_refused_with_the_names_of_the_others() {
        let mut book = rust_xlsxwriter::Workbook::new();
        book.add_worksheet().set_name("Read me").unwrap().write(0, 0, "Labels of spring").unwrap();
        book.add_worksheet().set_name("labels").unwrap().write_row(0, 0, ["image", "label"]).unwrap();
        let told = read(&book.save_to_buffer().unwrap()).unwrap_err().to_string();
        assert!(told.contains("no rows; of the workbook") && told.contains("not \"labels\": move"), "{told}");
        assert!(!read(b"image,label\n").unwrap_err().to_string().contains("workbook"));
    }

    #[test]
    fn a_date_is_read_as_one_and_not_as_the_days_since_1900() {
        use rust_xlsxwriter::{ExcelDateTime, Format};
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["image", "label", "taken", "at"]).unwrap().write_row(1, 0, ["a.jpg", "cat"]).unwrap();
        let day = ExcelDateTime::from_ymd(2026, 10, 19).unwrap();
        page.write_with_format(1, 2, &day, &Format::new().set_num_format("d mmm")).unwrap();
        let moment = day.and_hms(14, 5, 30).unwrap();
        page.write_with_format(1, 3, &moment, &Format::new().set_num_format("dd/mm/yyyy hh:mm")).unwrap();
        let time = ExcelDateTime::from_hms(14, 5, 30).unwrap();
        page.write(0, 4, "time").unwrap();
        page.write_with_format(1, 4, &time, &Format::new().set_num_format("hh:mm")).unwrap();
        let sheet = read(&book.save_to_buffer().unwrap()).unwrap();
        assert_eq!(sheet.rows[0].cells[2..], ["2026-10-19", "2026-10-19 14:05:30", "14:05:30"]);
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
    fn of_several_separators_the_one_is_taken_that_gives_an_image_and_a_label_column() {
        let columns = |text: &str| read(text.as_bytes()).unwrap().columns;
        let sizes = ["image", "label", "Gr\u{f6}\u{df}e (b,h,t)"];
        assert_eq!(
            columns("image;label;Gr\u{f6}\u{df}e (b,h,t)\na.jpg;cat;1,2,3\n"),
            sizes,
            "as many of one as of the other"
        );
        let more = ["image", "label", "size (b,h,t,u)"];
        assert_eq!(columns("image;label;size (b,h,t,u)\na.jpg;cat;1\n"), more, "more of the other");
        assert_eq!(columns("image,label,a;b;c;d\na.jpg,cat,1\n"), ["image", "label", "a;b;c;d"]);
        // Where none gives both, the one of which the rows have as many as the header.
        assert_eq!(
            columns("picture;what;size (b,h,t)\na.jpg;cat;12\nb.jpg;dog;13\n"),
            ["picture", "what", "size (b,h,t)"]
        );
        assert_eq!(columns("picture,what;x\na.jpg,cat\n"), ["picture", "what;x"]);
        // And else whichever there are most of.
        assert_eq!(columns("picture,what,who;x\na.jpg,cat\n"), ["picture", "what", "who;x"]);
        let separator = |text: &str| read(text.as_bytes()).unwrap().separator;
        assert_eq!((separator("image\tlabel\na\tb\n"), separator("sep=;\nimage;label\na;b\n")), (Some(b'\t'), None));
        assert_eq!(separator("image\na.jpg\n"), Some(b','));
    }

    #[test]
    fn a_vertical_bar_parts_columns_where_the_header_is_known_by_it() {
        let sheet = read(b"image|label|seen, by\na.jpg|cat|anna, bert\nb.jpg|dog|\n").unwrap();
        assert_eq!(sheet.columns, ["image", "label", "seen, by"]);
        assert_eq!((sheet.separator, sheet.rows[0].cell(2)), (Some(b'|'), "anna, bert"));
        assert_eq!(read(b"image|label\na.jpg|cat\n").unwrap().columns, ["image", "label"], "nothing else in the line");
        let columns = |text: &str| read(text.as_bytes()).unwrap().columns;
        assert_eq!(columns("image,label,a|b|c\na.jpg,cat,1\n"), ["image", "label", "a|b|c"], "a comma gives them too");
        assert_eq!(columns("picture|what\na.jpg|cat\n"), ["picture|what"]);
        assert_eq!(columns("picture,what|who\na.jpg|1|2\n"), ["picture", "what|who"]);
    }

    #[test]
    fn a_file_that_is_larger_than_a_sheet_may_be_is_refused_unread() {
        // It has no bytes on the disk.
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        let refused = Sheet::read(file.path(), "train", &|_| false).unwrap_err();
        assert_eq!(refused.code(), "sheet_too_large");
        assert_eq!(refused.to_string(), "the train sheet has 268435457 bytes, allowed are 268435456");
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
        let old = read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0").unwrap_err();
        assert!(old.code() == "unreadable_sheet" && old.to_string().contains(".xls of old Excel"), "{old}");
        assert_eq!(read(b"PK,image,label\n1,a.jpg,cat\n").unwrap().columns, ["PK", "image", "label"], "a primary key");
    }

    #[test]
    fn an_archive_that_is_no_workbook_is_refused_with_what_to_do() {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        archive.start_file("content.xml", zip::write::SimpleFileOptions::default()).unwrap();
        let told = read(&archive.finish().unwrap().into_inner()).unwrap_err().to_string();
        assert!(told.contains("save it as XLSX") && told.contains("images"), "{told}");
    }
}
