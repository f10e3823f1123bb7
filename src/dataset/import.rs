//! An import from beginning to end: sheets, archive, every image decoded, checks, manifest, rename.

mod copy;
mod pixels;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::{self, Index};
use super::crop_style::{self, Size};
use super::error::ImportError;
use super::left_out::{self, LeftOut};
use super::manifest::{FORMAT_VERSION, Manifest, Role, Sample};
use super::report::{ARCHIVE, ImportReport, Warning};
use super::rows::{self, Candidate};
use super::sheet::Sheet;
use super::unlisted::{self, Unlisted};
use super::{IMAGES_FILE, column_doubts, columns, confounding, duplicates, groups, labels, near_duplicates, task};
use crate::imaging::DecodeLimits;
use crate::{failpoint, sha256};
use copy::{Synced, copy};
use pixels::Pixels;

/// The sheet that is listed first.
const TRAIN: &str = "train";

/// Classes, or worksheets, that a message names.
const NAMED: usize = 10;

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
    /// A column that says which images were picked to be labelled, where it is not called `picked`.
    pub picked_column: Option<String>,
    /// What becomes of the archive's images that no row of either sheet names.
    pub unlisted: Unlisted,
    /// Refuse the whole import for a single bad row, or bad unlisted image where those are learned from.
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

/// What is told after each image, and says whether to go on.
type Progress<'a> = dyn Fn(ImportProgress) -> ControlFlow<()> + Sync + 'a;

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
    import_while(request, limits, destination, &|so_far| {
        progress(so_far);
        ControlFlow::Continue(())
    })
}

/// The same for as long as `progress` says that it is to go on.
///
/// # Errors
/// [`ImportError::Stopped`] where it says that it is not; see [`ImportError`].
pub fn import_while(
    request: &ImportRequest,
    limits: &ImportLimits,
    destination: &Path,
    progress: &Progress<'_>,
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
    failpoint::pass("import.rename").map_err(storage)?;
    std::fs::rename(staging.path(), destination).map_err(storage)?;
    failpoint::pass("import.renamed").map_err(storage)?;
    let _moved = staging.keep();
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(storage)?;
    Ok(imported)
}

fn import_into(
    staging: &Path,
    request: &ImportRequest,
    limits: &ImportLimits,
    progress: &Progress<'_>,
) -> Result<Imported, ImportError> {
    let is_header = |header: &[String]| columns::are_there(header, request);
    let read =
        |path, role: Role| Sheet::read(path, role.as_str(), &is_header).map_err(|error| error.of_field(role.as_str()));
    let train = read(&request.train, Role::Train)?;
    let test = request.test.as_ref().map(|path| read(path, Role::Test)).transpose()?;
    let sheets = [Some((Role::Train, &train)), test.as_ref().map(|sheet| (Role::Test, sheet))];
    let sheets: Vec<(Role, &Sheet)> = sheets.into_iter().flatten().collect();

    if request.images.is_dir() {
        let detail =
            format!("{} is a folder: put the images into a ZIP archive and name that", request.images.display());
        return Err(ImportError::invalid("unreadable_zip", detail).of_field("images"));
    }
    let archive_path = staging.join(IMAGES_FILE);
    copy(&request.images, &archive_path)?;
    let synced = Synced::begin(archive_path.clone())?;
    let of_archive = |error: ImportError| error.of_field("images");
    let mut images = archive::open(&archive_path).map_err(of_archive)?;
    let index = Index::new(&mut images, limits).map_err(of_archive)?;

    let (mut candidates, mut rejected): (Vec<Candidate>, LeftOut) = (Vec::new(), LeftOut::default());
    let mut named: HashSet<u32> = HashSet::new();
    for &(role, sheet) in &sheets {
        let rows = rows::candidates(sheet, role, request, &index, &mut rejected);
        candidates.extend(rows.map_err(|error| error.of_field(role.as_str()))?);
        named.extend(rows::entries_meant(sheet, role, request, &index)?);
    }
    let read = sheets.iter().map(|&(role, sheet)| Source::of(sheet, role, request));
    let mut read: Vec<Source> = read.collect::<Result<_, ImportError>>()?;
    refuse_too_many(&rejected, &read, request.strict, &index)?;
    if request.unlisted == Unlisted::Unlabelled {
        unlisted::refuse_unclear(&rejected)?;
        let before = rejected.len();
        let found = unlisted::candidates(&index, &named, &mut rejected);
        let count = found.len() + rejected.len() - before;
        read.push(Source { name: ARCHIVE, count, columns: String::new() });
        candidates.extend(found);
    }

    let pixels_path = staging.join("pixels.tmp");
    let pictures = pixels::decode_all(&images, &candidates, limits, &pixels_path, &mut rejected, progress)?;
    let digests: Vec<Option<[u8; 32]>> = pictures.iter().map(|known| known.map(|picture| picture.digest)).collect();
    let (keep, copies) = duplicates::keep(&candidates, &digests, &mut rejected);
    let nan = column_doubts::nan_labels(&train, Role::Train, request)?;
    let (_, column) = columns::read_from(&train, Role::Train, request)?;
    let assembled = assemble(&request.task, &mut candidates, &keep, (column, nan), &mut rejected);
    // First, as a sheet that nothing is left of has no classes either.
    refuse_too_many(&rejected, &read, request.strict, &index)?;
    let (mut manifest, kept) = assembled?;

    let pixels = Pixels::open(&pixels_path)?;
    let hashes: Vec<Option<u64>> = kept.iter().map(|&index| pictures[index]?.hash).collect();
    let near = near_duplicates::find(&hashes, |sample| pixels.of(kept[sample]));
    let column = request.group_column.as_deref();
    let copies = groups_of_copies(&candidates, &copies, &kept, column);
    groups::assign(&mut manifest.samples, column, &copies, near.pairs.iter().map(|pair| (pair.first, pair.second)));
    manifest.group_column = request.group_column.clone();
    manifest.content_hash = content_hash(&manifest, kept.iter().map(|&index| digests[index].unwrap_or_default()));

    let sizes: Vec<Size> = kept.iter().filter_map(|&index| Some(pictures[index]?.size)).collect();
    let mut warnings = confounding::warnings(&manifest, column);
    warnings.extend(task::renamed(&manifest.task));
    warnings.extend(crop_style::warnings(&manifest, &sizes));
    warnings.extend(near_duplicates::warnings(&manifest, &near, |sample| candidates[kept[sample]].place()));
    warnings.extend(labels::warnings(&manifest.classes, &columns::labels(&train, Role::Train, request)?));
    if request.unlisted == Unlisted::Unlabelled {
        let kept = kept.iter().map(|&index| &candidates[index]);
        warnings.extend(unlisted::warnings(&index, &named, kept, column));
    }
    warnings.extend(unlisted::unnamed(request.unlisted, &index, &named));
    warnings.extend(rows::without_extension(&candidates, &index));
    if test.is_none() {
        let detail = "no test sheet: models of this data set will have validation figures only";
        warnings.push(Warning::new("no_test_sheet", detail));
    }
    warnings.extend(column_doubts::unnamed_groups(&sheets, request)?);
    for &(role, sheet) in &sheets {
        warnings.extend(unread(sheet));
        warnings.extend(column_doubts::warnings(sheet, role, request)?);
    }
    manifest.warnings = warnings.clone();

    synced.wait()?;
    manifest.write(staging)?;
    pixels.pack(staging, &manifest, &kept)?;
    drop(pixels);
    std::fs::remove_file(&pixels_path).map_err(|e| ImportError::storage(&pixels_path, e))?;
    let report = ImportReport { rejected_rows: rejected.len() as u64, rejected: rejected.into_listed(TRAIN), warnings };
    Ok(Imported { manifest, report })
}

/// The whole import refused for its rows, which are listed in order, those of the sheet to blame first.
pub(super) fn refused(code: &'static str, detail: String, rejected: &LeftOut, sheet: &str) -> ImportError {
    ImportError::Rows { code, detail, left_out: rejected.len(), rejected: rejected.clone().into_listed(sheet) }
}

/// Where rows, or images that no row names, came from.
struct Source {
    /// The sheet's word, or the archive's.
    name: &'static str,
    /// How many there are.
    count: usize,
    /// Of a sheet, which of its columns were read, in words.
    columns: String,
}

impl Source {
    fn of(sheet: &Sheet, role: Role, request: &ImportRequest) -> Result<Self, ImportError> {
        let (image, label) = columns::read_from(sheet, role, request)?;
        let (image, label) = (labels::quoted(image), labels::quoted(label));
        let columns = format!("image names were read from column {image}, labels from {label}");
        Ok(Self { name: role.as_str(), count: sheet.rows.len(), columns })
    }
}

/// Refuses the whole import for anything left out in strict mode, and where more than half of a sheet, or of the images
/// that no row names, is bad. `read` says how many there are of each.
fn refuse_too_many(rejected: &LeftOut, read: &[Source], strict: bool, index: &Index) -> Result<(), ImportError> {
    if strict && !rejected.is_empty() {
        let all = read.iter().map(|source| source.count).sum::<usize>();
        let what = if read.iter().any(|source| source.name == ARCHIVE) { "rows and unlisted images" } else { "rows" };
        let detail = format!("{} of {all} {what} cannot be used; strict was asked for", rejected.len());
        return Err(refused("rejected_rows", detail, rejected, TRAIN));
    }
    for &Source { name: sheet, count: all, ref columns } in read {
        let bad = rejected.bad(sheet);
        if bad * 2 > all {
            // As that sheet's come in the list.
            let blamed = rejected.listed().iter().filter(|row| row.sheet == sheet);
            let first = blamed
                .filter(|row| !left_out::repeats(&row.sheet, &row.code))
                .min_by_key(|row| row.row)
                .map_or_else(String::new, |row| format!("; the first: {} {}: {}", row.place(), row.image, row.detail));
            let detail = if sheet == ARCHIVE {
                format!(
                    "{bad} of {all} images that no row names cannot be used; that is more than half: are they whole, \
                     and JPEG, PNG or WebP? ({}){first}",
                    index.summary()
                )
            } else {
                format!(
                    "{bad} of {all} rows of the {sheet} sheet cannot be used; that is more than half: do the sheets \
                     belong to each other and to this archive? ({}; {columns}){first}",
                    index.summary()
                )
            };
            return Err(refused("mostly_rejected", detail, rejected, sheet));
        }
    }
    Ok(())
}

/// Classes and samples of the rows that stay; gives their indices among the candidates too, whose further columns the samples
/// take. The training sheet's labels were read from `column`, where `nan` read NaN.
fn assemble(
    task: &str,
    candidates: &mut [Candidate],
    keep: &[bool],
    (column, nan): (&str, usize),
    rejected: &mut LeftOut,
) -> Result<(Manifest, Vec<usize>), ImportError> {
    let stay = |role: Role| -> Vec<usize> {
        (0..candidates.len()).filter(|&index| keep[index] && candidates[index].role == role).collect()
    };
    let (train, test) = (stay(Role::Train), stay(Role::Test));
    let labelled = train.iter().map(|&index| &candidates[index]);
    let classes = labels::classes(labelled, column, nan).map_err(|error| match error {
        // The rows that were left out may be the reason.
        ImportError::Invalid { code, detail, .. } if !rejected.is_empty() => {
            let detail = format!("{detail}; {} rows were left out, see each", rejected.len());
            refused(code, detail, rejected, TRAIN)
        }
        error => error.of_field(Role::Train.as_str()),
    })?;
    let folded: HashMap<String, &String> = classes.iter().rev().map(|class| (labels::folded(class), class)).collect();
    let (mut samples, mut kept) = (Vec::new(), Vec::new());
    for index in train.into_iter().chain(test) {
        let candidate = &mut candidates[index];
        let label = candidate.label.as_ref().and_then(|label| classes.binary_search(label).ok());
        if candidate.role == Role::Test && label.is_none() {
            let known = labels::first_of(classes.iter(), NAMED);
            let label = candidate.label.as_deref().unwrap_or_default();
            let hint = folded.get(&labels::folded(label)).map_or_else(String::new, |class| meant(class, label));
            let detail = format!("label {label:?} is no class of the training sheet ({known}){hint}");
            rejected.push(candidate.rejected("unknown_label", detail));
            continue;
        }
        let mut attributes = std::mem::take(&mut candidate.attributes);
        // As pandas writes an empty cell: as in the columns of labels and groups.
        attributes.retain(|_, cell| !labels::reads_nan(cell));
        kept.push(index);
        samples.push(Sample {
            image: candidate.image.clone(),
            entry: candidate.entry,
            label: label.map(|label| label as u32),
            split: candidate.role,
            picked: candidate.picked,
            group: None,
            attributes,
        });
    }
    let manifest =
        Manifest { format_version: FORMAT_VERSION, task: task.to_owned(), classes, samples, ..Manifest::default() };
    Ok((manifest, kept))
}

/// Samples of which another row was dropped as a copy, and the group of that row; `copies` are (dropped, kept) candidates, `kept` the
/// samples' candidates.
fn groups_of_copies<'a>(
    candidates: &'a [Candidate],
    copies: &[(usize, usize)],
    kept: &[usize],
    column: Option<&str>,
) -> Vec<(u32, &'a str)> {
    let Some(column) = column else { return Vec::new() };
    let samples: HashMap<usize, u32> = kept.iter().copied().zip(0..).collect();
    // A test row that was kept as a picture may have gone for its label.
    let group = |&(dropped, kept): &(usize, usize)| {
        let value = groups::cell(&candidates[dropped].attributes, column).filter(|value| !labels::reads_nan(value))?;
        Some((*samples.get(&kept)?, value))
    };
    copies.iter().filter_map(group).collect()
}

/// That a label that is no class may mean this one.
fn meant(class: &str, label: &str) -> String {
    if class.to_lowercase() == label.to_lowercase() {
        format!(
            "; {class:?} differs by its case alone: write both alike (pandas writes True into a CSV, a workbook has TRUE)"
        )
    } else {
        format!("; if it means {class:?}, write both alike")
    }
}

/// SHA-256 over each sample's name, label, sheet, group and whether it was picked, and the digest of its pixels.
fn content_hash(manifest: &Manifest, digests: impl Iterator<Item = [u8; 32]>) -> String {
    let mut hash = Sha256::new();
    for (sample, digest) in manifest.samples.iter().zip(digests) {
        let label = sample.label.and_then(|label| manifest.classes.get(label as usize));
        // Both decide the split. Where there are none nothing is added, so that such sets keep the hash they had.
        let group = sample.group.map(|group| format!("\0{group}")).unwrap_or_default();
        let picked = if sample.picked { "\0picked" } else { "" };
        hash.update(format!("{}\0{label:?}\0{}{group}{picked}\n", sample.image, sample.split.as_str()));
        hash.update(digest);
    }
    sha256::hex(hash)
}

/// Worksheets of a workbook that were not read.
fn unread(sheet: &Sheet) -> Option<Warning> {
    let names = labels::first_of(sheet.unread.iter(), NAMED);
    let detail = format!(
        "a workbook's first visible worksheet is read alone, not its others ({names}); send each sheet as a file of its own"
    );
    (!names.is_empty()).then(|| Warning::new("worksheets_not_read", detail))
}
