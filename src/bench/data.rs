//! Something to measure on where no data set is at hand: drawn faces, imported as a user's are.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::dataset::{ImportLimits, ImportRequest, import};
use crate::demo::dataset::{draw, pack};

/// Draws `count` faces and imports them below `directory`; gives the data set's directory.
///
/// # Errors
/// When the directory cannot be written to.
pub fn drawn(directory: &Path, count: usize) -> anyhow::Result<PathBuf> {
    let upload = pack(&draw(count, 1, "face")?, &[])?;
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        Ok::<PathBuf, anyhow::Error>(path)
    };
    let request = ImportRequest {
        task: "mask".to_owned(),
        images: write("images.zip", &upload.images)?,
        train: write("train.csv", &upload.train)?,
        ..ImportRequest::default()
    };
    let target = directory.join("drawn");
    import(&request, &ImportLimits::default(), &target, &|_| {})?;
    Ok(target)
}
