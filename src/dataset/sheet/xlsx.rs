//! XLSX, cell by cell.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Data, DataRef, Dimensions, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx};

use super::{MAX_BYTES, Table};
use crate::dataset::error::ImportError;

fn no_xlsx(name: &str, reason: &str) -> ImportError {
    ImportError::invalid("unreadable_sheet", format!("the {name} sheet is no XLSX: {reason}"))
}

/// Puts the first visible worksheet's cells into `table`; gives the names of the others.
///
/// A panic of the spreadsheet's reader is the sheet's fault: libFuzzer has found references that it counts beyond 32 bits.
pub(super) fn read(bytes: Vec<u8>, table: &mut Table<'_>) -> Result<Vec<String>, ImportError> {
    let name = table.name;
    catch_unwind(AssertUnwindSafe(|| cells(bytes, table)))
        .unwrap_or_else(|_| Err(no_xlsx(name, "its reader panicked; save it anew, or as CSV")))
}

fn cells(bytes: Vec<u8>, table: &mut Table<'_>) -> Result<Vec<String>, ImportError> {
    let name = table.name;
    let unreadable = |reason: String| no_xlsx(name, &reason);
    refuse_bomb(&bytes, name, &unreadable)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    let visible = |page: &&calamine::Sheet| page.typ == SheetType::WorkSheet && page.visible == SheetVisible::Visible;
    let page = book.sheets_metadata().iter().find(visible).map(|page| page.name.clone());
    let page = page.ok_or_else(|| unreadable("it has no visible worksheet".to_owned()))?;
    let others = book.sheet_names().into_iter().filter(|other| *other != page).collect();
    refuse_merged_rows(&book.merge_cells_by_sheet_name(&page).map_err(|e| unreadable(e.to_string()))?, name)?;
    // Cell by cell: the library's own table is as large as the rectangle around all cells, and one cell in the last
    // row and column of a sheet makes that 17 billion.
    let mut cells = book.worksheet_cells_reader(&page).map_err(|e| unreadable(e.to_string()))?;
    let mut last = 0;
    while let Some(cell) = cells.next_cell_with_formula_metadata().map_err(|e| unreadable(e.to_string()))? {
        let (row, column) = cell.pos;
        let number = u64::from(row) + 1;
        if number < last {
            return Err(unreadable("its rows are out of order".to_owned()));
        }
        last = number;
        if cell.formula.is_some() && matches!(cell.value, DataRef::Empty) {
            let detail = format!(
                "cell {} of the {name} sheet holds a formula without its value, as programs write that do not calculate: open the \
                 sheet in a spreadsheet and save it again, or save it as CSV",
                place(cell.pos)
            );
            return Err(ImportError::invalid("formula_without_value", detail));
        }
        table.put(number, column as usize, cell_text(&cell.value))?;
        if matches!(cell.value, DataRef::Error(_)) {
            table.is_error(column as usize);
        }
    }
    Ok(others)
}

/// A cell that covers several rows has its value in the first alone: the others would be empty, and so without a label.
fn refuse_merged_rows(merged: &[Dimensions], name: &str) -> Result<(), ImportError> {
    let Some(cell) = merged.iter().find(|cell| cell.start.0 != cell.end.0) else { return Ok(()) };
    let (first, last) = (place(cell.start), place(cell.end));
    let detail = format!(
        "cells {first} to {last} of the {name} sheet are merged over several rows, of which only the first then has a value: unmerge \
         them and fill in every row"
    );
    Err(ImportError::invalid("merged_cells", detail))
}

/// Row and column, from 0, as a spreadsheet calls them: `B7`.
fn place((row, column): (u32, u32)) -> String {
    let (mut letters, mut rest) = (String::new(), column + 1);
    while rest > 0 {
        rest -= 1;
        letters.insert(0, char::from(b'A' + (rest % 26) as u8));
        rest /= 26;
    }
    format!("{letters}{}", row + 1)
}

/// Adds up what the archive's parts inflate to. They are not held to it here but where they are read: both this reader and
/// the spreadsheet's stop where a part inflates to more than it declares.
fn refuse_bomb(bytes: &[u8], name: &str, unreadable: &dyn Fn(String) -> ImportError) -> Result<(), ImportError> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    if !archive.file_names().flatten().any(|part| part.to_lowercase().contains("workbook")) {
        let detail = "it is a ZIP archive and no workbook; save it as XLSX, or as CSV in UTF-8 (is it the archive of images, or LibreOffice's ODS?)";
        return Err(unreadable(detail.to_owned()));
    }
    let mut inflated = 0u64;
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(|e| unreadable(e.to_string()))?;
        inflated = inflated.saturating_add(part.size());
    }
    if inflated > MAX_BYTES {
        let detail = format!("the {name} sheet inflates to {inflated} bytes, allowed are {MAX_BYTES}");
        return Err(ImportError::too_large("sheet_too_large", detail));
    }
    Ok(())
}

/// A number of the 15 significant digits that spreadsheets show, and write into a CSV: 0.1 + 0.2 is 0.3 there.
fn fraction(value: f64) -> String {
    format!("{value:.14e}").parse().map_or_else(|_| value.to_string(), |shown: f64| shown.to_string())
}

/// A cell as a person reads it: whole numbers without a fraction.
fn cell_text(cell: &DataRef<'_>) -> String {
    match cell {
        DataRef::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        DataRef::Float(value) if value.fract() != 0.0 => fraction(*value),
        DataRef::Empty => String::new(),
        // As it is seen: an empty label would be an unlabelled image, without a word.
        DataRef::Error(error) => error.to_string(),
        // As a spreadsheet shows them, and writes them into a CSV.
        DataRef::Bool(true) => "TRUE".to_owned(),
        DataRef::Bool(false) => "FALSE".to_owned(),
        DataRef::SharedString(text) => text.trim().to_owned(),
        DataRef::DateTime(moment) if moment.is_datetime() => date(*moment),
        other => Data::from(other.clone()).to_string().trim().to_owned(),
    }
}

/// A date in one notation, whatever the cell's format shows; its time of day where it has one, and that alone where there is no
/// date.
fn date(moment: ExcelDateTime) -> String {
    let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
    let (date, time) = (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"));
    match (moment.as_f64() < 1.0, hour, minute, second) {
        (true, ..) => time,
        (false, 0, 0, 0) => date,
        (false, ..) => format!("{date} {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_merged_over_rows_are_refused_wherever_they_stand_among_others() {
        let title = Dimensions { start: (0, 0), end: (0, 3) };
        let labels = Dimensions { start: (4, 1), end: (6, 1) };
        assert!(refuse_merged_rows(&[title], "train").is_ok(), "a title over columns hides no value");
        let refused = refuse_merged_rows(&[title, labels], "train").unwrap_err().to_string();
        assert!(refused.contains("cells B5 to B7 of the train sheet"), "{refused}");
    }

    #[test]
    fn numbers_are_those_that_a_spreadsheet_shows() {
        for (value, shown) in
            [(0.1 + 0.2, "0.3"), (-2.5, "-2.5"), (1.1 * 3.0, "3.3"), (7.0, "7"), (1e-9, "0.000000001")]
        {
            assert_eq!(cell_text(&DataRef::Float(value)), shown);
        }
        // Long numbers of persons keep all digits that the file has.
        assert_eq!(cell_text(&DataRef::Float(1_234_567_890_123_456.0)), "1234567890123456");
    }
}
