//! How a full disk is known.

use std::io::{Error, ErrorKind};

/// Whether a file finds no room: on the disk, or in what its owner may have of it.
pub fn lacks_room(error: &Error) -> bool {
    [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&error.kind())
}
