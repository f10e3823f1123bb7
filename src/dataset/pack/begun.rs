//! A packed file that is being written: its temporary file, and its room on the disk.

use std::fs::File;
use std::path::Path;

use rustix::fs::{self, FallocateFlags};
use rustix::io::{Errno, retry_on_intr};
use tempfile::NamedTempFile;

/// A temporary file in `directory`, locked as long as it is written to. What processes that were killed left there goes first: it is as large
/// as a pack, holds no lock any more, and would otherwise stay until the server's next start.
pub fn begin(directory: &Path) -> std::io::Result<NamedTempFile> {
    // Between its making and its lock, another process might take the new file for one of those.
    let turn = File::open(directory)?;
    if turn.lock().is_ok() {
        for entry in std::fs::read_dir(directory)?.flatten() {
            let path = entry.path();
            let temporary = entry.file_name().to_string_lossy().starts_with(".tmp");
            if temporary && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                // It was of no use to anybody; that it stays is no reason to stop.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    let temporary = NamedTempFile::new_in(directory)?;
    // Where files cannot be locked, nobody removes them either.
    let _ = temporary.as_file().try_lock();
    Ok(temporary)
}

/// Takes the room for so many bytes in advance. What does not fit is known before anything is decoded, and does not fill the disk to the last
/// byte beside a database that is written to: again and again, as a job that finds no room is tried again.
pub fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    let lacks = || {
        let megabytes = bytes.div_ceil(1_000_000);
        // How much is free is another number each time, see `unnamed` in `pack`.
        let reason = format!("the packed images take {megabytes} MB, more than the disk has free");
        std::io::Error::new(std::io::ErrorKind::StorageFull, reason)
    };
    let disk = fs::fstatvfs(file)?;
    // A file system of no blocks does not tell.
    if disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
        return Err(lacks());
    }
    match retry_on_intr(|| fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)) {
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        // Another one packs, too.
        Err(Errno::NOSPC | Errno::DQUOT) => Err(lacks()),
        reserved => Ok(reserved?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_of_a_pack_is_gone_and_what_another_writes_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join(".tmpAbc");
        let pack = directory.path().join("32-stretch.pack");
        std::fs::write(&left, "half a pack").unwrap();
        std::fs::write(&pack, "a pack").unwrap();
        let first = begin(directory.path()).unwrap();
        assert!(!left.exists() && pack.exists());
        let second = begin(directory.path()).unwrap();
        assert!(first.path().exists() && second.path().exists());
    }

    #[test]
    fn the_room_of_a_pack_is_taken_in_advance() {
        use std::os::unix::fs::MetadataExt;
        let [file, plain] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        reserve(&file, 1 << 20).unwrap();
        let blocks = |file: &File| file.metadata().unwrap().blocks();
        // Where the file system can; what is not written is no part of the file.
        if fs::fallocate(&plain, FallocateFlags::KEEP_SIZE, 0, 1 << 20).is_ok() {
            assert!(blocks(&file) > 0 && blocks(&file) == blocks(&plain), "{}", blocks(&file));
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
