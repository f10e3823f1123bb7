//! How a full disk is known.

use std::io::{Error, ErrorKind};

/// Whether a file finds no room: on the disk, in what its owner may have of it, or in what one file may have (`ulimit -f`).
pub fn lacks_room(error: &Error) -> bool {
    [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge].contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_as_good_as_a_full_disk_and_a_broken_disk_is_neither() {
        for number in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(lacks_room(&Error::from_raw_os_error(number)), "{number}");
        }
        assert!(!lacks_room(&Error::from_raw_os_error(libc::EIO)));
    }
}
