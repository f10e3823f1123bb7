//! An import from beginning to end: sheets, archive, every image decoded, checks, manifest, rename.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::archive::{self, Images, Index};
use super::crop_style::{self, Size};
use super::error::{DatasetError, ImportError};
use super::manifest::{FORMAT_VERSION, Manifest, Role, Sample};
use super::report::{ImportReport, RejectedRow, Warning};
use super::rows::{self, Candidate};
use super::sheet::Sheet;
use super::{IMAGES_FILE, confounding, duplicates, pack};
use crate::imaging::{self, DecodeLimits, Fit, Preprocess};
use crate::sha256;

/// What the `quick` preset trains at: packed in the same pass that checks the images.
const CHECKED_AT: Preprocess = Preprocess { size: 32, fit: Fit::Stretch };

/// Images decoded between two writes: bounds the memory, whatever the data set's size.
const CHUNK: usize = 512;

/// What to import.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// What is classified; a column of this name is taken for the label too.
    pub task: String,
    /// A ZIP archive of JPEG, PNG or WebP images.
    pub images: PathBuf,
    /// The training sheet, CSV or XLSX.
    pub train: PathBuf,
    /// The test sheet; without one no test figures can be given.
    pub test: Option<PathBuf>,
    /// Name of the image column where it is not one of the usual.
    pub image_column: Option<String>,
    /// Name of the label column where it is not one of the usual.
    pub label_column: Option<String>,
    /// A column that names people or other units which must not be in both sheets.
    pub group_column: Option<String>,
    /// Refuse the whole import for a single bad row.
    pub strict: bool,
}

/// What an import may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportLimits {
    /// Files in the archive.
    pub max_entries: usize,
    /// Bytes of all files, inflated.
    pub max_inflated: u64,
    /// Inflated bytes for one stored byte, beyond 64 MiB.
    pub max_ratio: u64,
    /// What an image may be.
    pub image: DecodeLimits,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { max_entries: 1_000_000, max_inflated: 64 << 30, max_ratio: 200, image: DecodeLimits::default() }
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// Images decoded.
    pub done: u64,
    /// Images to decode.
    pub total: u64,
}

/// A finished import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The data set.
    pub manifest: Manifest,
    /// What was left out, and doubts.
    pub report: ImportReport,
}

/// Imports into `destination`, a directory that must not exist yet. Blocks, using all cores; `progress` is
/// called from many threads.
///
/// Bad rows are left out and listed in the report. Whatever goes wrong, `destination` is either not there
/// or whole.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    request: &ImportRequest,
    limits: &ImportLimits,
    destination: &Path,
    progress: &(dyn Fn(ImportProgress) + Sync),
) -> Result<Imported, ImportError> {
    let parent = destination.parent().unwrap_or(Path::new("."));
    let storage = |error: std::io::Error| ImportError::storage(destination, error);
    std::fs::create_dir_all(parent).map_err(storage)?;
    // Dropped, and so removed, unless it is renamed at the end.
    let staging = tempfile::Builder::new().prefix(".import-").tempdir_in(parent).map_err(storage)?;
    let imported = import_into(staging.path(), request, limits, progress)?;
    File::open(staging.path()).and_then(|directory| directory.sync_all()).map_err(storage)?;
    if destination.exists() {
        return Err(ImportError::storage(destination, "it exists already"));
    }
    std::fs::rename(staging.path(), destination).map_err(storage)?;
    let _moved = staging.keep();
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(storage)?;
    Ok(imported)
}

fn import_into(
    staging: &Path,
    request: &ImportRequest,
    limits: &ImportLimits,
    progress: &(dyn Fn(ImportProgress) + Sync),
) -> Result<Imported, ImportError> {
    let train = Sheet::read(&request.train, "train")?;
    let test = request.test.as_ref().map(|path| Sheet::read(path, "test")).transpose()?;
    let rows_read = train.rows.len() + test.as_ref().map_or(0, |sheet| sheet.rows.len());

    let archive_path = staging.join(IMAGES_FILE);
    std::fs::copy(&request.images, &archive_path).map_err(|e| ImportError::storage(&request.images, e))?;
    File::open(&archive_path).and_then(|f| f.sync_all()).map_err(|e| ImportError::storage(&archive_path, e))?;
    let mut images = archive::open(&archive_path)?;
    let index = Index::new(&mut images, limits)?;

    let mut rejected = Vec::new();
    let mut candidates = rows::candidates(&train, Role::Train, request, &index, &mut rejected)?;
    if let Some(sheet) = &test {
        candidates.extend(rows::candidates(sheet, Role::Test, request, &index, &mut rejected)?);
    }
    refuse_too_many(&rejected, rows_read, request.strict)?;

    let pixels_path = staging.join("pixels.tmp");
    let (digests, sizes) = decode_all(&images, &candidates, limits, &pixels_path, &mut rejected, progress)?;
    let keep = duplicates::keep(&candidates, &digests, &mut rejected);
    let (manifest, kept) = assemble(&request.task, &candidates, &keep, &digests, &mut rejected)?;
    rejected.sort_by(|a, b| (&b.sheet, a.row).cmp(&(&a.sheet, b.row)));
    refuse_too_many(&rejected, rows_read, request.strict)?;

    manifest.write(staging)?;
    pack_kept(staging, &pixels_path, &manifest, &kept)?;
    std::fs::remove_file(&pixels_path).map_err(|e| ImportError::storage(&pixels_path, e))?;
    let sizes: Vec<Size> = kept.iter().map(|&index| sizes[index]).collect();
    let warnings = all_warnings(&manifest, &sizes, request, &index, &candidates);
    Ok(Imported { manifest, report: ImportReport { rejected, warnings } })
}

fn refuse_too_many(rejected: &[RejectedRow], rows: usize, strict: bool) -> Result<(), ImportError> {
    let count = rejected.len();
    let (code, why) = if strict && count > 0 {
        ("rejected_rows", "strict was asked for")
    } else if count * 2 > rows {
        ("mostly_rejected", "that is more than half: do the sheets belong to this archive?")
    } else {
        return Ok(());
    };
    let detail = format!("{count} of {rows} rows cannot be used; {why}");
    Err(ImportError::Rows { code, detail, rejected: rejected.to_vec() })
}

/// Hashes of the decoded pixels, absent where decoding failed, and the sizes before resizing (zero there).
type Decoded = (Vec<Option<[u8; 32]>>, Vec<Size>);

/// Decodes every candidate's image on all cores; pixels go to `path` in order (zeros where decoding failed).
fn decode_all(
    images: &Images,
    candidates: &[Candidate],
    limits: &ImportLimits,
    path: &Path,
    rejected: &mut Vec<RejectedRow>,
    progress: &(dyn Fn(ImportProgress) + Sync),
) -> Result<Decoded, ImportError> {
    let storage = |error: std::io::Error| ImportError::storage(path, error);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(storage)?);
    let (done, total) = (AtomicU64::new(0), candidates.len() as u64);
    let blank = vec![0; (CHECKED_AT.size * CHECKED_AT.size * 3) as usize];
    let (mut digests, mut sizes) = (Vec::with_capacity(candidates.len()), Vec::with_capacity(candidates.len()));
    for chunk in candidates.chunks(CHUNK) {
        let decoded: Vec<Result<(Vec<u8>, Size), RejectedRow>> = chunk
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
                Ok((pixels, size)) => {
                    digests.push(Some(Sha256::digest(&pixels).into()));
                    sizes.push(size);
                    out.write_all(&pixels).map_err(storage)?;
                }
                Err(row) => {
                    digests.push(None);
                    sizes.push((0, 0));
                    rejected.push(row);
                    out.write_all(&blank).map_err(storage)?;
                }
            }
        }
    }
    out.into_inner().map_err(|error| storage(error.into_error()))?;
    Ok((digests, sizes))
}

fn decode_one(
    images: &mut Images,
    candidate: &Candidate,
    limits: &DecodeLimits,
) -> Result<(Vec<u8>, Size), RejectedRow> {
    let bytes = archive::read_entry(images, candidate.entry, limits.max_bytes)
        .map_err(|reason| candidate.rejected("unreadable_file", reason))?;
    // The two halves of `imaging::prepare`, because the size in between tells something too.
    let decoded = imaging::decode(&bytes, limits)
        .and_then(|image| imaging::resize(&image, &CHECKED_AT).map(|pixels| (pixels, image.dimensions())));
    decoded.map_err(|error| candidate.rejected(error.code(), error.to_string()))
}

/// Classes, samples and content hash of the rows that stay; gives their indices among the candidates too.
fn assemble(
    task: &str,
    candidates: &[Candidate],
    keep: &[bool],
    digests: &[Option<[u8; 32]>],
    rejected: &mut Vec<RejectedRow>,
) -> Result<(Manifest, Vec<usize>), ImportError> {
    let stays = |role: Role| (0..candidates.len()).filter(move |&i| keep[i] && candidates[i].role == role);
    let train: Vec<Candidate> = stays(Role::Train).map(|index| candidates[index].clone()).collect();
    let classes = rows::classes(&train).map_err(|error| match error {
        // The rows that were left out may be the reason.
        ImportError::Invalid { code, detail } if !rejected.is_empty() => {
            let detail = format!("{detail}; {} rows were left out, see each", rejected.len());
            ImportError::Rows { code, detail, rejected: rejected.clone() }
        }
        error => error,
    })?;
    let mut hash = Sha256::new();
    let (mut samples, mut kept) = (Vec::new(), Vec::new());
    for index in stays(Role::Train).chain(stays(Role::Test)) {
        let candidate = &candidates[index];
        let label = candidate.label.as_ref().and_then(|label| classes.binary_search(label).ok());
        if candidate.role == Role::Test && label.is_none() {
            let known = classes.join(", ");
            let label = candidate.label.as_deref().unwrap_or_default();
            let detail = format!("label {label:?} is no class of the training sheet ({known})");
            rejected.push(candidate.rejected("unknown_label", detail));
            continue;
        }
        let line = format!("{}\0{:?}\0{}\n", candidate.image, candidate.label, candidate.role.as_str());
        hash.update(line.as_bytes());
        hash.update(digests[index].unwrap_or_default());
        kept.push(index);
        samples.push(Sample {
            image: candidate.image.clone(),
            entry: candidate.entry,
            label: label.map(|label| label as u32),
            split: candidate.role,
            attributes: candidate.attributes.clone(),
        });
    }
    let content_hash = sha256::hex(hash);
    let manifest = Manifest { format_version: FORMAT_VERSION, task: task.to_owned(), classes, samples, content_hash };
    Ok((manifest, kept))
}

/// The packed file at the size of the check, from the pixels decoded already.
fn pack_kept(staging: &Path, pixels: &Path, manifest: &Manifest, kept: &[usize]) -> Result<(), ImportError> {
    let file = File::open(pixels).map_err(|e| ImportError::storage(pixels, e))?;
    // SAFETY: our own file in a directory of our own, written and closed before.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ImportError::storage(pixels, e))?;
    let bytes = (CHECKED_AT.size * CHECKED_AT.size * 3) as usize;
    let chunks = kept.chunks(CHUNK).map(|chunk| {
        let rows: Vec<&[u8]> = chunk.iter().map(|&index| &map[index * bytes..(index + 1) * bytes]).collect();
        Ok::<_, DatasetError>(rows)
    });
    pack::write(&pack::path(staging, &CHECKED_AT), manifest, &CHECKED_AT, chunks)?;
    Ok(())
}

fn all_warnings(
    manifest: &Manifest,
    sizes: &[Size],
    request: &ImportRequest,
    index: &Index,
    candidates: &[Candidate],
) -> Vec<Warning> {
    let mut warnings = confounding::warnings(manifest, request.group_column.as_deref());
    warnings.extend(crop_style::warnings(manifest, sizes));
    let named: BTreeSet<u32> = candidates.iter().map(|candidate| candidate.entry).collect();
    let unnamed = index.names.keys().filter(|entry| !named.contains(entry)).count();
    if unnamed > 0 {
        let detail = format!(
            "{unnamed} files in the archive are named by no sheet and are not used; list them in the training sheet with \
             an empty label to learn from them"
        );
        warnings.push(Warning::new("unnamed_files", detail));
    }
    if request.test.is_none() {
        let detail = "no test sheet: models of this data set will have validation figures only";
        warnings.push(Warning::new("no_test_sheet", detail));
    }
    warnings
}
