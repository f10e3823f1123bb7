//! The archive on its way into the data set: copied, then synced.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::dataset::error::ImportError;
use crate::failpoint;

/// Copies the archive to the data set's place. Whoever named it may mend that it cannot be opened; what fails behind that is told of
/// the place: a full disk is that one's.
pub(super) fn copy(images: &Path, archive: &Path) -> Result<(), ImportError> {
    File::open(images).map_err(|error| ImportError::reading(images, error))?;
    let copied = failpoint::pass("import.copy").and_then(|()| std::fs::copy(images, archive));
    copied.map(drop).map_err(|error| {
        let told = std::io::Error::new(error.kind(), format!("{} cannot be copied there: {error}", images.display()));
        ImportError::storage(place_of(archive), told)
    })
}

/// Where the data set of an archive will lie: not the directory that is built in, which is gone when an error is read.
fn place_of(archive: &Path) -> &Path {
    archive.parent().and_then(Path::parent).unwrap_or(archive)
}

/// The archive on its way to the disk, which takes as long as the disk likes: its images are decoded meanwhile.
pub(super) struct Synced(JoinHandle<Result<(), ImportError>>);

impl Synced {
    pub(super) fn begin(archive: PathBuf) -> Result<Self, ImportError> {
        let place = place_of(&archive).to_owned();
        let fail = move |error: std::io::Error| ImportError::storage(&place, error);
        let failed = fail.clone();
        let sync = move || failpoint::pass("import.fsync").and_then(|()| File::open(archive)?.sync_all()).map_err(fail);
        std::thread::Builder::new().name("import-sync".to_owned()).spawn(sync).map(Self).map_err(failed)
    }

    pub(super) fn wait(self) -> Result<(), ImportError> {
        // Nothing in it panics; if it does, so does the import.
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
