//! CSV: which dialect it is, and where its rows lie.

use super::Table;
use crate::dataset::error::ImportError;

/// Bytes of a file that are looked at for its separator: its header and first rows.
const LOOKED_AT: usize = 1 << 20;

/// How an .xls begins: the container of Excel before 2007, which a workbook with a password lies in too.
const OLD_EXCEL: &[u8] = b"\xd0\xcf\x11\xe0";

/// A separator that is taken only where it gives a header that is known: it may as well stand in a column's name.
const BAR: u8 = b'|';

/// Rows of which the cells are counted for it.
const ROWS: usize = 5;

/// Puts the rows of a CSV file into `table`; gives what parts its columns, where its first line does not say so.
pub(super) fn read(
    bytes: &[u8],
    table: &mut Table<'_>,
    is_header: &dyn Fn(&[String]) -> bool,
) -> Result<Option<u8>, ImportError> {
    let name = table.name;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = plain_text(bytes, name)?;
    let said = separator_line(text);
    let (bytes, separator) = match said {
        Some((separator, rest)) => (rest.as_bytes(), separator),
        None => (bytes, delimiter(bytes, is_header)),
    };
    if let Some(line) = open_quote(bytes, separator) {
        let detail = format!(
            "a double quote opens a cell in line {line} of the {name} sheet and none closes it: close it, or write it twice \
             where it belongs to the text"
        );
        return Err(ImportError::invalid("open_quote", detail));
    }
    let mut reader = reader(bytes, separator);
    let mut record = ::csv::StringRecord::new();
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
    Ok(said.is_none().then_some(separator))
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
    if bytes.starts_with(OLD_EXCEL) {
        let detail = format!(
            "the {name} sheet is an .xls of old Excel, or a workbook with a password: save it as XLSX without one"
        );
        return Err(ImportError::invalid("unreadable_sheet", detail));
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

fn reader(bytes: &[u8], separator: u8) -> ::csv::Reader<&[u8]> {
    ::csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(bytes)
}

/// Of comma, semicolon and tab, and then of the vertical bar, the one that gives a header which `is_header` knows; else the one of the
/// first three of which the first rows have as many as the header; else the most frequent of these. What stands most often in the first
/// line that is not empty, outside of quotes, is tried first.
fn delimiter(bytes: &[u8], is_header: &dyn Fn(&[String]) -> bool) -> u8 {
    let mut quoted = false;
    let begun = bytes.iter().skip_while(|byte| b"\r\n".contains(byte));
    let line = begun.take_while(|&&byte| byte != b'\n');
    let line: Vec<u8> = line
        .copied()
        .filter(|&byte| {
            quoted ^= byte == b'"';
            !quoted
        })
        .collect();
    let count = |wanted: u8| line.iter().filter(|&&byte| byte == wanted).count();
    let mut ranked: Vec<u8> = [b',', b';', b'\t'].into_iter().filter(|&byte| count(byte) > 0).collect();
    ranked.sort_by_key(|&byte| std::cmp::Reverse(count(byte)));
    let most = ranked.first().copied().unwrap_or(b',');
    let has_bar = count(BAR) > 0;
    if ranked.len() < 2 && !has_bar {
        return most;
    }
    let beginning = whole_lines(bytes);
    let parted: Vec<(u8, Vec<Vec<String>>)> =
        ranked.into_iter().map(|separator| (separator, first_rows(beginning, separator))).collect();
    let knows = |rows: &[Vec<String>]| rows.first().is_some_and(|header| is_header(header));
    let even = |rows: &[Vec<String>]| rows.len() > 1 && rows.iter().all(|row| row.len() == rows[0].len());
    let first = |is_right: &dyn Fn(&[Vec<String>]) -> bool| {
        parted.iter().find(|(_, rows)| is_right(rows)).map(|(separator, _)| *separator)
    };
    let bar = || (has_bar && knows(&first_rows(beginning, BAR))).then_some(BAR);
    first(&knows).or_else(bar).or_else(|| first(&even)).unwrap_or(most)
}

/// The first lines of a file, so many that they are looked at.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let beginning = &bytes[..bytes.len().min(LOOKED_AT)];
    let end = if beginning.len() < bytes.len() { beginning.iter().rposition(|&byte| byte == b'\n') } else { None };
    end.map_or(beginning, |end| &beginning[..end])
}

/// The header and the rows behind it, parted at this separator.
fn first_rows(bytes: &[u8], separator: u8) -> Vec<Vec<String>> {
    let mut reader = reader(bytes, separator);
    let records = reader.records().take(1 + ROWS).map_while(Result::ok);
    records.map(|record| record.iter().map(|cell| cell_of(cell).to_owned()).collect()).collect()
}
