//! What can go wrong with data sets.

use std::path::{Path, PathBuf};

use super::report::RejectedRow;
use crate::full_disk::lacks_room;

/// Why a file cannot be used: the system's error, which is kept whole for its kind, or a sentence.
type Reason = Box<dyn std::error::Error + Send + Sync>;

fn of_a_full_disk(reason: &Reason) -> bool {
    reason.downcast_ref::<std::io::Error>().is_some_and(lacks_room)
}

/// A stored data set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file of the data set cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Reason,
    },
    /// An image that was checked at import cannot be decoded now.
    #[error("image {image}: {reason}")]
    Image {
        /// Its name in the archive.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// Whoever waited for it did not want it any more.
    #[error("stopped")]
    Stopped,
    /// The rows cannot be split as asked.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// Why rows cannot be split as asked, in words.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// A class has too few labels to train with one and to validate with another.
    #[error("{0}")]
    TooFew(String),
    /// All labels of a class are of one group.
    #[error("{0}")]
    OneGroup(String),
    /// More labels are wanted than validation leaves.
    #[error("{0}")]
    TooMany(String),
}

impl SplitError {
    /// A stable snake_case word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooFew(_) => "too_few_labels",
            Self::OneGroup(_) => "one_group",
            Self::TooMany(_) => "too_many_labels",
        }
    }
}

impl DatasetError {
    pub(super) fn file(path: &Path, reason: impl Into<Reason>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }

    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::File { reason, .. } if of_a_full_disk(reason))
    }
}

/// Why an import was refused as a whole. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive or a sheet cannot be understood.
    #[error("{detail}")]
    Invalid {
        /// What it is about: `images`, a sheet (`train`), or what names a column (`label_column`).
        field: Option<String>,
        /// A stable snake_case word.
        code: &'static str,
        /// What is wrong, where, and how to mend it.
        detail: String,
    },
    /// A limit is exceeded.
    #[error("{detail}")]
    TooLarge {
        /// What is too large: `images`, or a sheet (`train`).
        field: Option<String>,
        /// A stable snake_case word.
        code: &'static str,
        /// What is too large and what is allowed.
        detail: String,
    },
    /// Too many rows were rejected, or any in strict mode.
    #[error("{detail}")]
    Rows {
        /// A stable snake_case word.
        code: &'static str,
        /// How many of how many.
        detail: String,
        /// How many rows were left out in all.
        left_out: usize,
        /// Each of them and why; of very many the first of each reason.
        rejected: Vec<RejectedRow>,
    },
    /// Whoever waited for it did not want it any more.
    #[error("stopped")]
    Stopped,
    /// The data set cannot be stored.
    #[error("failed to store the data set at {}: {reason}", path.display())]
    Storage {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        reason: Reason,
    },
}

impl ImportError {
    /// A file that was named and cannot be read: whoever named it may mend that, but for a failing disk.
    pub(super) fn reading(path: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        if [NotFound, PermissionDenied, IsADirectory].contains(&error.kind()) {
            Self::invalid("unreadable_file", format!("{} cannot be read: {error}", path.display()))
        } else {
            Self::storage(path, error)
        }
    }

    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Storage { reason, .. } if of_a_full_disk(reason))
    }

    /// A stable snake_case word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { code, .. } | Self::TooLarge { code, .. } | Self::Rows { code, .. } => code,
            Self::Stopped => "stopped",
            Self::Storage { .. } => "storage",
        }
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field: None, code, detail: detail.into() }
    }

    pub(super) fn too_large(code: &'static str, detail: impl Into<String>) -> Self {
        Self::TooLarge { field: None, code, detail: detail.into() }
    }

    /// The same, about `about` unless it is about something within that already.
    pub(super) fn of_field(mut self, about: &str) -> Self {
        if let Self::Invalid { field, .. } | Self::TooLarge { field, .. } = &mut self {
            field.get_or_insert_with(|| about.to_owned());
        }
        self
    }

    pub(super) fn storage(path: &Path, reason: impl Into<Reason>) -> Self {
        Self::Storage { path: path.to_owned(), reason: reason.into() }
    }
}

impl From<DatasetError> for ImportError {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::File { path, reason } => Self::Storage { path, reason },
            other => Self::invalid("dataset", other.to_string()),
        }
    }
}
