//! The pixels of an import: every candidate's image is decoded once, on all cores, into a file. The checks look at that
//! file, and the packed file of the `quick` preset is written from it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{ImportLimits, ImportProgress, Progress};
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
/// where decoding failed). Ends after the image at which `progress` says so.
pub(super) fn decode_all(
    images: &Images,
    candidates: &[Candidate],
    limits: &ImportLimits,
    path: &Path,
    rejected: &mut LeftOut,
    progress: &Progress<'_>,
) -> Result<Vec<Option<Picture>>, ImportError> {
    let storage = |error: std::io::Error| ImportError::storage(path, error);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(storage)?);
    let (done, total) = (AtomicU64::new(0), candidates.len() as u64);
    let blank = [0; PICTURE_BYTES];
    let mut pictures = Vec::with_capacity(candidates.len());
    for chunk in candidates.chunks(CHUNK) {
        failpoint::pass("import.decode").map_err(storage)?;
        let decoded: Option<Vec<Decoded>> = chunk
            .par_iter()
            .map_init(
                || images.clone(),
                |images, candidate| {
                    let decoded = decode_one(images, candidate, &limits.image);
                    let so_far = ImportProgress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total };
                    progress(so_far).is_continue().then_some(decoded)
                },
            )
            .collect();
        for image in decoded.ok_or(ImportError::Stopped)? {
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

/// The pixels of an image and what is known of it, or why its row is left out.
type Decoded = Result<(Vec<u8>, Picture), RejectedRow>;

fn decode_one(images: &mut Images, candidate: &Candidate, limits: &DecodeLimits) -> Decoded {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::ControlFlow;

    use super::*;
    use crate::dataset::manifest::Role;

    #[test]
    fn decoding_ends_with_the_images_at_work_where_it_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images.zip");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        let candidate = |entry: u32| Candidate {
            role: Role::Train,
            unlisted: false,
            row: u64::from(entry) + 2,
            image: format!("{entry}.jpg"),
            entry,
            label: None,
            picked: false,
            attributes: BTreeMap::new(),
        };
        let candidates: Vec<Candidate> = (0..CHUNK as u32).map(candidate).collect();
        for candidate in &candidates {
            writer.start_file(candidate.image.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(b"no image, which is as much work as any").unwrap();
        }
        writer.finish().unwrap();
        let images = archive::open(&path).unwrap();
        let decode = |most: u64| {
            let asked = AtomicU64::new(0);
            let progress = |so_far: ImportProgress| {
                asked.fetch_add(1, Ordering::Relaxed);
                if so_far.done < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let (limits, pixels) = (ImportLimits::default(), directory.path().join("pixels"));
            let decoded = decode_all(&images, &candidates, &limits, &pixels, &mut LeftOut::default(), &progress);
            (decoded.map(|pictures| pictures.len()), asked.load(Ordering::Relaxed))
        };
        let (decoded, asked) = decode(u64::MAX);
        assert_eq!((decoded.unwrap(), asked), (CHUNK, CHUNK as u64));
        let (decoded, asked) = decode(3);
        assert!(matches!(decoded, Err(ImportError::Stopped)), "{decoded:?}");
        // A thread may have begun one more before it sees that another was told.
        let at_work = 2 * rayon::current_num_threads() as u64;
        assert!(asked <= 3 + at_work, "{asked} of {CHUNK} were decoded");
    }
}
