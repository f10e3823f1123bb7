//! What an import tells about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What [`RejectedRow::sheet`] says of a file that no sheet names.
pub(super) const ARCHIVE: &str = "archive";

/// Everything a person should know about an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// How many rows were left out, in all.
    #[serde(default)]
    pub rejected_rows: u64,
    /// Those rows, each with its reason: of each sheet and reason the first 10,000. Images that no row names too, where those
    /// are learned from.
    pub rejected: Vec<RejectedRow>,
    /// What may make figures on this data set look better than they are, and other doubts.
    pub warnings: Vec<Warning>,
}

/// A row of a sheet that was left out; or an image of the archive that no row names and that cannot be learned from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedRow {
    /// `train` or `test`; `archive` for an image that no row names.
    pub sheet: String,
    /// The row as a spreadsheet numbers it: the header is row 1. In the archive the place among its entries as
    /// `unzip -l` lists them, folders counted: the first is 1.
    pub row: u64,
    /// The image that the row names, or the path of the file in the archive.
    pub image: String,
    /// A stable snake_case word.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

impl RejectedRow {
    /// Where it stands, in words: `train row 17`, `archive file 17`.
    pub fn place(&self) -> String {
        place(&self.sheet, self.row)
    }
}

/// Row `number` of a sheet, or that file of the archive, in words.
pub(super) fn place(sheet: &str, number: u64) -> String {
    let what = if sheet == ARCHIVE { "file" } else { "row" };
    format!("{sheet} {what} {number}")
}

/// A doubt about a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// A stable snake_case word.
    pub code: String,
    /// What was seen and what it may mean. Names no image: models carry this sentence on.
    pub detail: String,
    /// The first few rows or pairs that show it, by sheet, row and name, or by their places in the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

impl Warning {
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into(), examples: Vec::new() }
    }

    pub(super) fn with_examples(self, examples: Vec<String>) -> Self {
        Self { examples, ..self }
    }
}

/// Images per split and class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Labelled training images per class.
    pub train: BTreeMap<String, u64>,
    /// Test images per class.
    pub test: BTreeMap<String, u64>,
    /// Training images without a label.
    pub unlabelled: u64,
    /// Labelled training images that were picked, not drawn (the sheet's column `picked`).
    #[serde(default)]
    pub picked: u64,
}
