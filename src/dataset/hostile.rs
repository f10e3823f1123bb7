//! The two readers of strangers' files as functions of bytes, for `fuzz_targets`.

use std::path::Path;

use super::archive::{self, Index};
use super::error::ImportError;
use super::import::ImportLimits;
use super::sheet::Sheet;

/// Reads a sheet; gives its columns and rows.
pub(crate) fn sheet(bytes: &[u8]) -> Result<(usize, usize), ImportError> {
    let sheet = Sheet::parse(bytes.to_vec(), "train")?;
    Ok((sheet.columns.len(), sheet.rows.len()))
}

/// Opens the archive at `path` and inflates every entry of it; gives the bytes.
pub(crate) fn archive(path: &Path, limits: &ImportLimits) -> Result<u64, ImportError> {
    let mut images = archive::open(path)?;
    let index = Index::new(&mut images, limits)?;
    let mut inflated = 0;
    for (&entry, name) in &index.names {
        let _found = index.find(name);
        if let Ok(bytes) = archive::read_entry(&mut images, entry, limits.image.max_bytes) {
            inflated += bytes.len() as u64;
        }
    }
    Ok(inflated)
}
