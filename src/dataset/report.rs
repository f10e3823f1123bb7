//! What an import tells about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything a person should know about an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// Rows that were left out, each with its reason.
    pub rejected: Vec<RejectedRow>,
    /// What may make figures on this data set look better than they are, and other doubts.
    pub warnings: Vec<Warning>,
}

/// A row of a sheet that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedRow {
    /// `train` or `test`.
    pub sheet: String,
    /// The row as a spreadsheet numbers it: the header is row 1.
    pub row: u64,
    /// The image that the row names.
    pub image: String,
    /// A stable snake_case word.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

/// A doubt about a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// A stable snake_case word.
    pub code: String,
    /// What was seen and what it may mean. Names no image: models carry this sentence on.
    pub detail: String,
    /// The first few rows or pairs that show it, by sheet, row and name.
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
}
