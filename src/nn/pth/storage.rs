//! The two containers of `torch.save`: a ZIP archive (since PyTorch 1.6), and before that pickles with the raw
//! numbers behind them, as torchvision's older weights still are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::PthError;
use super::pickle::{self, MOST_BYTES, StorageRef, Unpickled, Value};

/// Bytes of one storage. The largest network that is read has 276 MB in all.
const MOST_STORAGE_BYTES: usize = 4 << 30;

/// What an entry of an archive may inflate to in any case; and beyond it, how many times what it takes there, as in an archive of
/// images. PyTorch compresses nothing, and trained weights hardly shrink.
const MOST_INFLATED: u64 = 64 << 20;
const MOST_RATIO: u64 = 200;

/// How a file of the older kind begins: protocol 2, the number 0x1950a86a20f9469cfc6c, end.
pub(super) const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A file with its storages.
#[derive(Debug)]
pub(super) enum Container {
    /// Storages are the entries `<prefix>data/<key>` of a file of so many bytes.
    Archive { archive: ZipArchive<BufReader<File>>, length: u64, prefix: String },
    /// Storages lie at these bytes.
    Plain { file: File, starts: HashMap<String, u64> },
}

impl Container {
    /// Opens the file and runs the pickle in it.
    pub fn open(path: &Path) -> Result<(Self, Unpickled), PthError> {
        let mut file = File::open(path)?;
        let mut head = Vec::new();
        file.by_ref().take(OLD_MAGIC.len() as u64).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        if head == OLD_MAGIC { open_plain(file) } else { open_archive(file) }
    }

    /// The bytes of a storage: exactly as many as it says.
    pub fn read(&mut self, storage: &StorageRef) -> Result<Vec<u8>, PthError> {
        let bytes = bytes_of(storage)?;
        let most = bytes as u64;
        let mut content = Vec::new();
        match self {
            Self::Archive { archive, length, prefix } => {
                let entry = archive.by_name(&format!("{prefix}data/{}", storage.key)).map_err(archive_error)?;
                refuse_bomb(&storage.key, entry.size(), entry.compressed_size().min(*length))?;
                content.reserve_exact(entry.size().min(most) as usize);
                entry.take(most).read_to_end(&mut content)?;
            }
            Self::Plain { file, starts } => {
                let start = starts.get(&storage.key).ok_or_else(|| missing(&storage.key))?;
                file.seek(SeekFrom::Start(*start))?;
                // The file was found to be long enough.
                content.reserve_exact(bytes);
                file.take(most).read_to_end(&mut content)?;
            }
        }
        if content.len() != bytes {
            let (key, found) = (&storage.key, content.len());
            return Err(PthError::Archive(format!("storage {key} has {found} bytes, {bytes} are needed")));
        }
        Ok(content)
    }
}

fn bytes_of(storage: &StorageRef) -> Result<usize, PthError> {
    let bytes = storage.numel.checked_mul(storage.dtype.size()).filter(|&bytes| bytes <= MOST_STORAGE_BYTES);
    bytes.ok_or_else(|| PthError::Archive(format!("storage {} says it has {} numbers", storage.key, storage.numel)))
}

/// Judged by what the entry declares: the reader stops where it inflates to more.
fn refuse_bomb(key: &str, inflated: u64, stored: u64) -> Result<(), PthError> {
    if inflated > MOST_INFLATED && inflated > stored.saturating_mul(MOST_RATIO) {
        let reason =
            format!("storage {key} inflates to more than {MOST_RATIO} times what it takes; save it uncompressed");
        return Err(PthError::Archive(reason));
    }
    Ok(())
}

fn missing(key: &str) -> PthError {
    PthError::Archive(format!("storage {key} is not there"))
}

fn archive_error(error: ZipError) -> PthError {
    match error {
        ZipError::Io(error) => PthError::Io(error),
        error => PthError::Archive(error.to_string()),
    }
}

fn open_archive(file: File) -> Result<(Container, Unpickled), PthError> {
    let length = file.metadata()?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(archive_error)?;
    let pickle = archive.file_names().flatten().find_map(|name| name.strip_suffix("data.pkl").map(str::to_owned));
    let prefix = pickle.ok_or_else(|| PthError::Archive("it holds no data.pkl".to_owned()))?;
    let mut read = |name: &str, most: usize| -> Result<Option<Vec<u8>>, PthError> {
        let mut content = Vec::new();
        match archive.by_name(&format!("{prefix}{name}")) {
            Ok(entry) => entry.take(most as u64 + 1).read_to_end(&mut content)?,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(archive_error(error)),
        };
        if content.len() > most {
            return Err(PthError::Archive(format!("{name} has more than {most} bytes")));
        }
        Ok(Some(content))
    };
    if read("byteorder", 64)?.is_some_and(|order| order != b"little") {
        return Err(PthError::Archive("its numbers are not little-endian".to_owned()));
    }
    let pickle = read("data.pkl", MOST_BYTES)?.ok_or_else(|| PthError::Archive("it holds no data.pkl".to_owned()))?;
    let unpickled = pickle::run(&pickle)?;
    Ok((Container::Archive { archive, length, prefix }, unpickled))
}

/// Magic, protocol version, a dictionary about the writer, the state dict, the list of the storages' keys; then
/// each storage as its length in numbers and the numbers.
fn open_plain(mut file: File) -> Result<(Container, Unpickled), PthError> {
    let length = file.metadata()?.len();
    let mut at = OLD_MAGIC.len() as u64;
    let mut next = |file: &mut File| -> Result<Unpickled, PthError> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.take(MOST_BYTES as u64).read_to_end(&mut bytes)?;
        let pickle = pickle::run(&bytes)?;
        at += pickle.length as u64;
        Ok(pickle)
    };
    let (_version, _writer) = (next(&mut file)?, next(&mut file)?);
    let unpickled = next(&mut file)?;
    let keys = next(&mut file)?;
    let Value::List(list) = keys.root else {
        return Err(PthError::Archive("there is no list of storages".to_owned()));
    };
    let mut starts = HashMap::new();
    let known: HashMap<&str, &StorageRef> =
        unpickled.heap.storages.iter().map(|storage| (storage.key.as_str(), storage)).collect();
    for key in &keys.heap.lists[list] {
        let key = key.text(&keys.text).unwrap_or_default();
        let storage = known.get(key).ok_or_else(|| missing(key))?;
        // The length stands there once more; the one that tensors were checked against counts.
        at += 8;
        starts.insert(key.to_owned(), at);
        at = at.saturating_add(bytes_of(storage)? as u64);
        if at > length {
            return Err(PthError::Archive(format!("the file is cut off in storage {key}")));
        }
    }
    Ok((Container::Plain { file, starts }, unpickled))
}
