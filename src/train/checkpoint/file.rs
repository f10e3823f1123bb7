//! A checkpoint as a file: eight bytes that name the format and its version, then a safetensors file with all tensors
//! (among them the JSON of everything that is no tensor), then the SHA-256 of that file.
//!
//! It is written under another name, synced, renamed into place and its directory synced: under its own name it is
//! whole or not there, whenever the power goes. The hash finds what a disk loses later.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::{CheckpointError, Snapshot};
use crate::failpoint;

/// Seven bytes of name and one of version. A reader refuses every other version.
const MAGIC: [u8; 8] = *b"MMCKPT\x00\x01";

const HASH: usize = 32;

/// The tensor that is the JSON of the snapshot's facts.
const FACTS: &str = "facts.json";

/// Writes `snapshot` to `path`: whole, or not at all.
///
/// # Errors
/// When a tensor cannot be read from its device or the file cannot be written.
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<(), CheckpointError> {
    let io = CheckpointError::io(path);
    let temporary = temporary(path);
    let written = fill(&temporary, snapshot, &io).and_then(|()| settle(&temporary, path).map_err(&io));
    if written.is_err() {
        // A half-written file would only take the room that is missing already.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Writes and syncs the file under its temporary name, one tensor in memory at a time: all of them may be gigabytes.
fn fill(
    temporary: &Path,
    snapshot: &Snapshot,
    io: &impl Fn(std::io::Error) -> CheckpointError,
) -> Result<(), CheckpointError> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(temporary).map_err(io)?);
    let mut hash = Sha256::new();
    file.write_all(&MAGIC).map_err(io)?;
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes).map_err(io)
    };
    let facts = snapshot.facts_json()?;
    put(&header(snapshot, facts.len())?)?;
    put(&facts)?;
    failpoint::pass("checkpoint.write").map_err(io)?;
    for tensor in snapshot.tensors.values() {
        put(&bytes_of(tensor)?)?;
    }
    let digest = hash.finalize();
    file.write_all(&digest).map_err(io)?;
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    failpoint::pass("checkpoint.fsync").map_err(io)?;
    file.sync_all().map_err(io)
}

fn settle(temporary: &Path, path: &Path) -> std::io::Result<()> {
    failpoint::pass("checkpoint.rename")?;
    std::fs::rename(temporary, path)?;
    failpoint::pass("checkpoint.renamed")?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Where a file is written before it gets its name.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Reads a file and holds it against its hash. Tensors are on the CPU.
///
/// # Errors
/// [`CheckpointError::Io`] when it cannot be read at all, [`CheckpointError::Damaged`] when it is not what was
/// written, [`CheckpointError::Version`] when another version of the program wrote it.
pub fn read(path: &Path) -> Result<Snapshot, CheckpointError> {
    let io = CheckpointError::io(path);
    let file = File::open(path).map_err(&io)?;
    // SAFETY: a checkpoint is written under another name, renamed into place and never changed.
    let bytes = unsafe { Mmap::map(&file) }.map_err(&io)?;
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
    if bytes.len() < MAGIC.len() + HASH || !bytes.starts_with(name) {
        return Err(damaged(format!("{} bytes that are no checkpoint", bytes.len())));
    }
    if bytes[name.len()] != version[0] {
        return Err(CheckpointError::Version { path: path.to_owned(), found: bytes[name.len()] });
    }
    let (rest, hash) = bytes[MAGIC.len()..].split_at(bytes.len() - MAGIC.len() - HASH);
    if Sha256::digest(rest).as_slice() != hash {
        return Err(damaged("its bytes do not have the hash that was written with them".to_owned()));
    }
    decode(rest).map_err(damaged)
}

/// The beginning of a safetensors file: the length of its JSON, and which bytes behind that are which tensor.
fn header(snapshot: &Snapshot, facts: usize) -> Result<Vec<u8>, CheckpointError> {
    let encoding = |error: serde_json::Error| CheckpointError::Encoding(error.to_string());
    let mut entries = serde_json::Map::new();
    let mut at = 0;
    let mut entry = |name: &str, dtype: Dtype, shape: Vec<usize>, bytes: usize| {
        let offsets = [at, at + bytes];
        at += bytes;
        let value = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        entries.insert(name.to_owned(), value);
    };
    entry(FACTS, Dtype::U8, vec![facts], facts);
    for (name, tensor) in &snapshot.tensors {
        let (dtype, size) = stored_as(tensor.kind())?;
        let shape = tensor.size().iter().map(|&side| side as usize).collect();
        entry(name, dtype, shape, tensor.numel() * size);
    }
    let mut json = serde_json::to_vec(&entries).map_err(encoding)?;
    // The format wants its data aligned.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes(), json.as_slice()].concat())
}

/// A tensor's type in the file and its bytes per number.
fn stored_as(kind: Kind) -> Result<(Dtype, usize), CheckpointError> {
    match kind {
        Kind::Float => Ok((Dtype::F32, 4)),
        Kind::Double => Ok((Dtype::F64, 8)),
        Kind::Int64 => Ok((Dtype::I64, 8)),
        other => Err(CheckpointError::Encoding(format!("a tensor of {other:?} has no place in a checkpoint"))),
    }
}

/// Row-major bytes (of a little-endian machine: libtorch runs on no other).
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, CheckpointError> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
    let count = flat.numel();
    let mut bytes = vec![0; count * stored_as(flat.kind())?.1];
    flat.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut snapshot = Snapshot::default();
    for (name, view) in file.tensors() {
        if name == FACTS {
            snapshot.facts = serde_json::from_slice(view.data()).map_err(|error| error.to_string())?;
            continue;
        }
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => return Err(format!("{name} is {other:?}")),
        };
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())?;
        snapshot.tensors.insert(name, tensor);
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.put("step", &7).unwrap();
        snapshot.put("third", &(1.0 / 3.0)).unwrap();
        snapshot.put_tensor("rows", &Tensor::from_slice(&[3i64, 1, 2]));
        snapshot.put_tensor("weights", &Tensor::from_slice(&[0.1f32, -2.5, f32::MIN_POSITIVE, 1e30]).view([2, 2]));
        snapshot
    }

    #[test]
    fn what_was_written_is_read_bit_by_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.checkpoint");
        write(&path, &snapshot()).unwrap();
        let read = read(&path).unwrap();
        assert_eq!((&read.facts, &read.tensors), (&snapshot().facts, &snapshot().tensors));
        assert_eq!(read.get::<f64>("third").unwrap(), 1.0 / 3.0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left behind");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.checkpoint");
        write(&path, &snapshot()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(read(&path), Err(CheckpointError::Damaged { .. })), "cut to {at} bytes");
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            let expected = if at == 7 { "another version" } else { "damaged" };
            assert!(error.to_string().contains(expected), "byte {at}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone").join("a.checkpoint");
        assert!(matches!(write(&path, &snapshot()), Err(CheckpointError::Io { .. })));
        assert!(read(&path).is_err());
    }

    #[test]
    fn what_cannot_be_written_to_its_end_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let left = || {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        // Bytes have no place in the format, which shows when the file has been begun.
        let mut unfit = snapshot();
        unfit.put_tensor("bytes", &Tensor::from_slice(&[1u8, 2]));
        let refused = write(&directory.path().join("a.checkpoint"), &unfit);
        assert!(matches!(refused, Err(CheckpointError::Encoding(_))), "{refused:?}");
        assert_eq!(left(), [""; 0]);
        // A whole file whose name is taken by a directory.
        let taken = directory.path().join("b.checkpoint");
        std::fs::create_dir(&taken).unwrap();
        let refused = write(&taken, &snapshot());
        assert!(matches!(refused, Err(CheckpointError::Io { .. })), "{refused:?}");
        assert_eq!(left(), ["b.checkpoint"]);
    }
}
