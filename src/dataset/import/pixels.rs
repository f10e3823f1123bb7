//! The pixels of an import: every candidate's image is decoded once, on all cores, into a file. The checks look at that
//! file, and the packed file of the `quick` preset is written from it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{ImportLimits, ImportProgress};
use crate::dataset::archive::{self, Images};
use crate::dataset::crop_style::Size;
use crate::dataset::error::{DatasetError, ImportError};
use crate::dataset::left_out::LeftOut;
use crate::dataset::manifest::Manifest;
use crate::dataset::report::RejectedRow;
use crate::dataset::rows::Candidate;
use crate::dataset::{pack, perceptual_hash};
use crate::failpoint;
use crate::imaging::{self, DecodeLimits, Fit, Prepared, Preprocess};

/// What the `quick` preset trains at: packed in the same pass that checks the images.
const CHECKED_AT: Preprocess = Preprocess { size: 32, fit: Fit::Stretch };

/// Bytes of a picture at that size.
const PICTURE_BYTES: usize = (CHECKED_AT.size * CHECKED_AT.size * 3) as usize;

// The pictures that are hashed for their likeness are those of the check: nothing is decoded twice.
const _: () = assert!(CHECKED_AT.size as usize == perceptual_hash::SIDE);

/// Images decoded between two writes: bounds the memory, whatever the data set's size.
const CHUNK: usize = 512;

/// What is remembered of a decoded picture; its pixels lie in a file.
#[derive(Clone, Copy)]
pub(super) struct Picture {
    /// SHA-256 of the pixels.
    pub digest: [u8; 32],
    /// What it looks like in the large, see [`perceptual_hash`].
    pub hash: Option<u64>,
    /// Before resizing.
    pub size: Size,
}

/// Decodes every candidate's image on all cores, none where that fails; pixels go to `path` in order (zeros
/// where decoding failed).
pub(super) fn decode_all(
    images: &Images,
    candidates: &[Candidate],
    limits: &ImportLimits,
    path: &Path,
    rejected: &mut LeftOut,
    progress: &(dyn Fn(ImportProgress) + Sync),
) -> Result<Vec<Option<Picture>>, ImportError> {
    let storage = |error: std::io::Error| ImportError::storage(path, error);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(storage)?);
    let (done, total) = (AtomicU64::new(0), candidates.len() as u64);
    let blank = [0; PICTURE_BYTES];
    let mut pictures = Vec::with_capacity(candidates.len());
    for chunk in candidates.chunks(CHUNK) {
        failpoint::pass("import.decode").map_err(storage)?;
        let decoded: Vec<Result<(Vec<u8>, Picture), RejectedRow>> = chunk
            .par_iter()
            .map_init(
                || images.clone(),
                |images, candidate| {
                    let decoded = decode_one(images, candidate, &limits.image);
                    progress(ImportProgress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
                    decoded
                },
            )
            .collect();
        for image in decoded {
            match image {
                Ok((pixels, picture)) => {
                    pictures.push(Some(picture));
                    out.write_all(&pixels).map_err(storage)?;
                }
                Err(row) => {
                    pictures.push(None);
                    rejected.push(row);
                    out.write_all(&blank).map_err(storage)?;
                }
            }
        }
    }
    out.into_inner().map_err(|error| storage(error.into_error()))?;
    Ok(pictures)
}

fn decode_one(
    images: &mut Images,
    candidate: &Candidate,
    limits: &DecodeLimits,
) -> Result<(Vec<u8>, Picture), RejectedRow> {
    let bytes = archive::read_entry(images, candidate.entry, limits.max_bytes)
        .map_err(|unreadable| candidate.rejected(unreadable.code, unreadable.reason))?;
    let prepared = imaging::prepare(&bytes, limits, &CHECKED_AT);
    let Prepared { pixels, size, .. } =
        prepared.map_err(|error| candidate.rejected(error.code(), error.to_string()))?;
    let hash = perceptual_hash::hash(&perceptual_hash::luma(&pixels));
    let picture = Picture { digest: Sha256::digest(&pixels).into(), hash, size };
    Ok((pixels, picture))
}

/// The pixels of every candidate, mapped.
pub(super) struct Pixels(Mmap);

impl Pixels {
    /// Those that [`decode_all`] wrote to `path`.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|e| ImportError::storage(path, e))?;
        // SAFETY: our own file in a directory of our own, written and closed before.
        unsafe { Mmap::map(&file) }.map(Self).map_err(|e| ImportError::storage(path, e))
    }

    /// Those of one candidate.
    pub fn of(&self, candidate: usize) -> &[u8] {
        &self.0[candidate * PICTURE_BYTES..(candidate + 1) * PICTURE_BYTES]
    }

    /// Writes the packed file at the size of the check, of the candidates `kept`.
    pub fn pack(&self, staging: &Path, manifest: &Manifest, kept: &[usize]) -> Result<(), ImportError> {
        let chunks = kept.chunks(CHUNK).map(|chunk| {
            let rows: Vec<(&[u8], bool)> = chunk.iter().map(|&index| (self.of(index), false)).collect();
            Ok::<_, DatasetError>(rows)
        });
        pack::write(&pack::path(staging, &CHECKED_AT), manifest, &CHECKED_AT, chunks)?;
        Ok(())
    }
}
