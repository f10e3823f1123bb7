//! The uploaded ZIP: an index of its images, and bytes on demand, within limits.

mod code_pages;
mod index;
mod names;
mod traces;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use zip::ZipArchive;

use super::error::ImportError;
use crate::imaging::ImagingError;

pub(super) use code_pages::read_as_utf8;
pub(super) use index::{Found, Index};
pub(super) use names::is_image;

/// Bytes that are set aside for an entry before any of it was read: what it declares may be a lie.
const MOST_AT_ONCE: usize = 64 << 20;

/// A memory-mapped archive file that many threads may read.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An archive; cloning shares the mapping and the index, so that each thread may have one.
pub(super) type Images = ZipArchive<Cursor<Shared>>;

/// Opens the archive at `path`.
pub(super) fn open(path: &Path) -> Result<Images, ImportError> {
    let file = File::open(path).map_err(|e| ImportError::storage(path, e))?;
    // SAFETY: the file is our own copy in the data directory; nobody writes to it after the upload.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ImportError::storage(path, e))?;
    ZipArchive::new(Cursor::new(Shared(Arc::new(map)))).map_err(|e| {
        let detail = format!(
            "images is no ZIP archive, or one that is cut off ({e}); zip the images, or copy the file again, and send that"
        );
        ImportError::invalid("unreadable_zip", detail)
    })
}

/// Why the bytes of an entry cannot be had.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// A stable snake_case word.
    pub code: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Inflates one entry, at most `max_bytes` of it. The reader stops by itself where an entry inflates to more than it
/// declares, so that [`Index::new`] could judge the whole archive by what its entries declare.
pub(super) fn read_entry(archive: &mut Images, entry: u32, max_bytes: usize) -> Result<Vec<u8>, Unreadable> {
    let damaged = |reason: String| Unreadable { code: "unreadable_file", reason };
    let file =
        archive.by_index(entry as usize).map_err(|e| damaged(format!("cannot be read from the archive: {e}")))?;
    let declared = usize::try_from(file.size()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(declared.min(max_bytes).min(MOST_AT_ONCE));
    let mut limited = file.take((max_bytes as u64).saturating_add(1));
    limited.read_to_end(&mut bytes).map_err(|e| damaged(format!("cannot be inflated: {e}")))?;
    if bytes.len() > max_bytes {
        let error = ImagingError::TooManyBytes { bytes: declared, allowed: max_bytes };
        return Err(Unreadable { code: error.code(), reason: error.to_string() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
