//! `manifest.json`: the samples of a data set, in the order of its packed pixels.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::MANIFEST_FILE;
use super::error::DatasetError;
use super::report::{Counts, Warning};

/// Version of the format; a reader refuses any other.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Which sheet a sample came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The training sheet; an image that no sheet names counts to it, where such are learned from.
    Train,
    /// The test sheet.
    Test,
}

impl Role {
    /// The sheet's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its name in the archive.
    pub image: String,
    /// Its index in the archive.
    pub entry: u32,
    /// Index of its class, where the sheet has a label.
    pub label: Option<u32>,
    /// Which sheet it came from.
    pub split: Role,
    /// Its image was picked to be labelled, by what a model was unsure of for instance, and not drawn at random: its label is
    /// trained on, but neither validates nor tells the classes' shares.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub picked: bool,
    /// The group that it belongs to: one person's rows (the group column) and near duplicates share a number, and
    /// must not be on both sides of a split. Absent for an image on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The sheet's other columns (age_group, source …), where not empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// A data set's description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format_version: u32,
    /// What is classified: `gender`, `mask` …
    pub task: String,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// The samples: row i of every packed file is sample i.
    pub samples: Vec<Sample>,
    /// The column that says what belongs together, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_column: Option<String>,
    /// What the import found doubtful: a model that learns from it should say so too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// SHA-256 over names, labels, splits, groups, what was picked, and pixels.
    pub content_hash: String,
}

impl Manifest {
    /// Reads the manifest of the data set in `directory`.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of another format version.
    pub fn read(directory: &Path) -> Result<Self, DatasetError> {
        let path = directory.join(MANIFEST_FILE);
        let fail = |reason: String| DatasetError::file(&path, reason);
        let text = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|e| fail(format!("no manifest: {e}")))?;
        if manifest.format_version != FORMAT_VERSION {
            let found = manifest.format_version;
            return Err(fail(format!("format version {found}, this build reads {FORMAT_VERSION}; import again")));
        }
        Ok(manifest)
    }

    /// Writes it into `directory` and syncs the file.
    pub(super) fn write(&self, directory: &Path) -> Result<(), DatasetError> {
        use std::io::Write;
        let path = directory.join(MANIFEST_FILE);
        let fail = |error: std::io::Error| DatasetError::file(&path, error);
        let text = serde_json::to_vec(self).map_err(|e| fail(e.into()))?;
        let mut file = std::fs::File::create(&path).map_err(fail)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(fail)
    }

    /// Images per split and class.
    pub fn counts(&self) -> Counts {
        let per_class = |role: Role| {
            let mut counts: BTreeMap<String, u64> = self.classes.iter().map(|class| (class.clone(), 0)).collect();
            for sample in self.samples.iter().filter(|sample| sample.split == role) {
                if let Some(class) = sample.label.and_then(|label| self.classes.get(label as usize)) {
                    *counts.entry(class.clone()).or_default() += 1;
                }
            }
            counts
        };
        let picked = |sample: &&Sample| sample.picked && sample.label.is_some();
        let unlabelled = |sample: &&Sample| sample.split == Role::Train && sample.label.is_none();
        Counts {
            train: per_class(Role::Train),
            test: per_class(Role::Test),
            unlabelled: self.samples.iter().filter(unlabelled).count() as u64,
            picked: self.samples.iter().filter(picked).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_version_is_refused_by_number() {
        let directory = tempfile::tempdir().unwrap();
        for (format_version, is_read) in [(FORMAT_VERSION, true), (FORMAT_VERSION + 1, false)] {
            let written = Manifest { format_version, ..Manifest::default() };
            written.write(directory.path()).unwrap();
            let read = Manifest::read(directory.path());
            assert_eq!(read.is_ok(), is_read);
            if let Err(error) = read {
                let told = error.to_string();
                assert!(told.contains(&format_version.to_string()) && told.contains("import again"), "{told}");
            }
        }
    }
}
