//! Packed pixels: every sample at one resolution, uint8 NHWC, in one memory-mapped file.
//! Where photos are cut to the face, a byte for each sample follows: whether one was found in it.
//!
//! A cache: it can be made again from the archive at any time. The header says what it holds, so that a file
//! of another data set, size or version is made anew and never read as something else.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use rustix::fs::{self, FallocateFlags};
use rustix::io::{Errno, retry_on_intr};
use tempfile::NamedTempFile;

use super::error::DatasetError;
use super::manifest::{Manifest, Sample};
use super::{IMAGES_FILE, archive};
use crate::imaging::{self, DecodeLimits, Fit, Prepared, Preprocess};
use crate::{failpoint, sha256};

/// The version is raised where the same images give other pixels, so that models are trained on what predictions see: 1 squeezed the
/// padding of large JPEGs into the square, 2 did not turn a PNG or WebP whose EXIF block begins as in a JPEG.
const MAGIC: &[u8; 8] = b"MMPACK\x00\x03";
const HEADER: usize = 64;

/// Images decoded between two writes: bounds the memory, whatever the data set's size, and the time until a stop is heard.
const CHUNK: usize = 256;

/// The same where a face is looked for in each, which takes tens of milliseconds.
const FACE_CHUNK: usize = 32;

/// What a packed file holds, be it one or not.
#[derive(Debug)]
enum Bytes {
    File(Mmap),
    Memory(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::File(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// A packed file, mapped into memory; or the same of some samples, in memory alone.
#[derive(Debug)]
pub struct PackedImages {
    bytes: Bytes,
    preprocess: Preprocess,
    len: usize,
}

impl PackedImages {
    /// Opens the packed file for `preprocess`, making it first where there is none. Meanwhile `progress` hears every few
    /// hundred images how many are done, and may end it.
    ///
    /// # Errors
    /// When the archive or the packed file cannot be read or written, or an image cannot be decoded;
    /// [`DatasetError::Stopped`] when `progress` says so.
    pub fn open_or_build(
        directory: &Path,
        manifest: &Manifest,
        preprocess: &Preprocess,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Self, DatasetError> {
        let path = path(directory, preprocess);
        if let Some(packed) = Self::open(&path, manifest, preprocess)? {
            return Ok(packed);
        }
        build(directory, &path, manifest, preprocess, progress)?;
        Self::open(&path, manifest, preprocess)?
            .ok_or_else(|| DatasetError::file(&path, "just written, and not as it should be"))
    }

    /// The packed file for `preprocess`, where there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn existing(
        directory: &Path,
        manifest: &Manifest,
        preprocess: &Preprocess,
    ) -> Result<Option<Self>, DatasetError> {
        Self::open(&path(directory, preprocess), manifest, preprocess)
    }

    /// These samples alone, in memory: for a part of a data set that is not worth packing all of it. Decoded on the calling thread's pool.
    ///
    /// # Errors
    /// When the archive cannot be read or an image cannot be decoded.
    pub fn of_samples(directory: &Path, samples: &[&Sample], preprocess: &Preprocess) -> Result<Self, DatasetError> {
        let images = open_archive(directory)?;
        let decode = |images: &mut archive::Images, sample: &&Sample| read_image(images, sample, preprocess);
        let prepared: Vec<Prepared> =
            samples.par_iter().map_init(|| images.clone(), decode).collect::<Result<_, DatasetError>>()?;
        let mut bytes = vec![0; HEADER];
        prepared.iter().for_each(|image| bytes.extend_from_slice(&image.pixels));
        if preprocess.fit == Fit::Face {
            bytes.extend(prepared.iter().map(|image| u8::from(image.face.is_some())));
        }
        Ok(Self { bytes: Bytes::Memory(bytes), preprocess: *preprocess, len: samples.len() })
    }

    /// None where the file is not there or holds something else.
    fn open(path: &Path, manifest: &Manifest, preprocess: &Preprocess) -> Result<Option<Self>, DatasetError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DatasetError::file(path, error)),
        };
        // SAFETY: a packed file is written under another name, renamed into place and never changed.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| DatasetError::file(path, e))?;
        let len = manifest.samples.len();
        let fits = map.len() == file_bytes(manifest, preprocess) && map[..HEADER] == header(manifest, preprocess);
        Ok(fits.then_some(Self { bytes: Bytes::File(map), preprocess: *preprocess, len }))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Side of an image, pixels.
    pub fn size(&self) -> u32 {
        self.preprocess.size
    }

    /// All pixels, `len·size·size·3`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.all()[HEADER..self.pixels_end()]
    }

    /// For each image whether a face was found in it; none where nobody looked for one.
    pub fn faces(&self) -> Option<impl Iterator<Item = bool>> {
        (self.preprocess.fit == Fit::Face)
            .then(|| self.bytes.all()[self.pixels_end()..].iter().map(|&found| found != 0))
    }

    fn pixels_end(&self) -> usize {
        HEADER + self.len * image_bytes(&self.preprocess)
    }

    /// The pixels of image `index`, `size·size·3`; empty beyond the last.
    pub fn image(&self, index: usize) -> &[u8] {
        self.bytes().chunks_exact(image_bytes(&self.preprocess)).nth(index).unwrap_or_default()
    }
}

/// Where a data set's packed file for `preprocess` lies.
pub(super) fn path(directory: &Path, preprocess: &Preprocess) -> PathBuf {
    directory.join("packed").join(format!("{}-{}.pack", preprocess.size, preprocess.fit))
}

/// How long a data set's packed file is.
fn file_bytes(manifest: &Manifest, preprocess: &Preprocess) -> usize {
    let len = manifest.samples.len();
    let flags = if preprocess.fit == Fit::Face { len } else { 0 };
    HEADER + len * image_bytes(preprocess) + flags
}

fn image_bytes(preprocess: &Preprocess) -> usize {
    preprocess.size as usize * preprocess.size as usize * 3
}

/// Magic and version, size, fit, count, the beginning of the content hash. Another detector is another fit, see `imaging::face`.
fn header(manifest: &Manifest, preprocess: &Preprocess) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&preprocess.size.to_le_bytes());
    header[12..16].copy_from_slice(&(preprocess.fit as u32).to_le_bytes());
    header[16..24].copy_from_slice(&(manifest.samples.len() as u64).to_le_bytes());
    let hash = manifest.content_hash.as_bytes();
    let kept = hash.len().min(HEADER - 24);
    header[24..24 + kept].copy_from_slice(&hash[..kept]);
    header
}

fn build(
    directory: &Path,
    path: &Path,
    manifest: &Manifest,
    preprocess: &Preprocess,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), DatasetError> {
    failpoint::pass("pack.build").map_err(|error| DatasetError::file(path, error))?;
    let images = open_archive(directory)?;
    let mut done = 0;
    let together = if preprocess.fit == Fit::Face { FACE_CHUNK } else { CHUNK };
    let rows = manifest.samples.chunks(together).map(|chunk| {
        if progress(done).is_break() {
            return Err(DatasetError::Stopped);
        }
        done += chunk.len();
        let decode = |images: &mut archive::Images, sample: &Sample| read_image(images, sample, preprocess);
        let prepared = chunk.par_iter().map_init(|| images.clone(), decode);
        prepared.map(|image| image.map(|image| (image.pixels, image.face.is_some()))).collect::<Result<Vec<_>, _>>()
    });
    write(path, manifest, preprocess, rows)
}

/// Some samples' pixels, `size·size·3` bytes each, decoded from the archive on all cores: for a few images
/// that are not worth packing the whole data set.
///
/// # Errors
/// When the archive cannot be read or an image cannot be decoded.
pub fn read_images(
    directory: &Path,
    samples: &[&Sample],
    preprocess: &Preprocess,
) -> Result<Vec<Vec<u8>>, DatasetError> {
    let images = open_archive(directory)?;
    let pixels = |images: &mut archive::Images, sample: &&Sample| Ok(read_image(images, sample, preprocess)?.pixels);
    samples.par_iter().map_init(|| images.clone(), pixels).collect()
}

/// How many of the files of some samples are among those of others, byte for byte; each with its data set's directory. `stop` is asked
/// between reads.
///
/// # Errors
/// When an archive cannot be read; [`DatasetError::Stopped`] when `stop` says so.
pub fn files_among(
    asked: (&Path, &[&Sample]),
    known: (&Path, &[&Sample]),
    stop: &dyn Fn() -> bool,
) -> Result<u64, DatasetError> {
    let (asked, known) = (Files::open(asked)?, Files::open(known)?);
    // Of most files the marks tell that they are others, and nothing is read.
    let alike: HashSet<Mark> = &asked.marks() & &known.marks();
    let known: HashSet<String> = known.hashes(&alike, stop)?.into_iter().collect();
    let asked = asked.hashes(&alike, stop)?;
    Ok(asked.iter().filter(|hash| known.contains(*hash)).count() as u64)
}

/// What an archive says of a file without reading it: its CRC-32 and its length in bytes. Where they differ, the files do. Where they are
/// equal, the files need not be: the chunks of a PNG end with CRC-32s of their own, after which the file's says little of what is in them.
type Mark = (u32, u64);

/// Files of a data set, each with its mark.
struct Files<'a> {
    images: archive::Images,
    marked: Vec<(Mark, &'a Sample)>,
}

impl<'a> Files<'a> {
    fn open((directory, samples): (&Path, &[&'a Sample])) -> Result<Self, DatasetError> {
        let mut images = open_archive(directory)?;
        let mut mark = |&sample: &&'a Sample| {
            let entry = images.by_index_raw(sample.entry as usize);
            let entry = entry.map_err(|error| DatasetError::file(&directory.join(IMAGES_FILE), error))?;
            Ok(((entry.crc32(), entry.size()), sample))
        };
        let marked = samples.iter().map(&mut mark).collect::<Result<_, DatasetError>>()?;
        Ok(Self { images, marked })
    }

    fn marks(&self) -> HashSet<Mark> {
        self.marked.iter().map(|(mark, _)| *mark).collect()
    }

    /// Of the files with these marks what is in them, as SHA-256.
    fn hashes(&self, of: &HashSet<Mark>, stop: &dyn Fn() -> bool) -> Result<Vec<String>, DatasetError> {
        let samples = self.marked.iter().filter(|(mark, _)| of.contains(mark)).map(|(_, sample)| *sample);
        let (samples, images): (Vec<&Sample>, _) = (samples.collect(), &self.images);
        let hash = |images: &mut archive::Images, sample: &&Sample| read_file(images, sample).map(sha256::of);
        let mut hashes = Vec::with_capacity(samples.len());
        for chunk in samples.chunks(CHUNK) {
            if stop() {
                return Err(DatasetError::Stopped);
            }
            let read = chunk.par_iter().map_init(|| images.clone(), hash);
            hashes.extend(read.collect::<Result<Vec<String>, DatasetError>>()?);
        }
        Ok(hashes)
    }
}

fn open_archive(directory: &Path) -> Result<archive::Images, DatasetError> {
    let path = directory.join(IMAGES_FILE);
    archive::open(&path).map_err(|error| DatasetError::file(&path, error))
}

fn read_image(
    images: &mut archive::Images,
    sample: &Sample,
    preprocess: &Preprocess,
) -> Result<Prepared, DatasetError> {
    let bytes = read_file(images, sample)?;
    let prepared = imaging::prepare(&bytes, &DecodeLimits::JUDGED, preprocess);
    prepared.map_err(|error| unusable(sample, error.to_string()))
}

/// The bytes of a sample's file.
fn read_file(images: &mut archive::Images, sample: &Sample) -> Result<Vec<u8>, DatasetError> {
    let bytes = archive::read_entry(images, sample.entry, DecodeLimits::JUDGED.max_bytes);
    bytes.map_err(|unreadable| unusable(sample, unreadable.reason))
}

fn unusable(sample: &Sample, reason: String) -> DatasetError {
    DatasetError::Image { image: sample.image.clone(), reason }
}

/// Writes a packed file from its rows, in order, each with whether a face was found in it: under another name, synced, then
/// renamed into place.
pub(super) fn write<R: AsRef<[u8]>>(
    path: &Path,
    manifest: &Manifest,
    preprocess: &Preprocess,
    chunks: impl Iterator<Item = Result<Vec<(R, bool)>, DatasetError>>,
) -> Result<(), DatasetError> {
    let fail = |error: std::io::Error| DatasetError::file(path, error);
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(fail)?;
    let temporary = begin(parent).map_err(|error| fail(unnamed(error)))?;
    reserve(temporary.as_file(), file_bytes(manifest, preprocess) as u64).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    out.write_all(&header(manifest, preprocess)).map_err(fail)?;
    let mut faces = Vec::new();
    for chunk in chunks {
        for (row, face) in chunk? {
            out.write_all(row.as_ref()).map_err(fail)?;
            faces.push(u8::from(face));
        }
    }
    if preprocess.fit == Fit::Face {
        out.write_all(&faces).map_err(fail)?;
    }
    let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    temporary.persist(path).map_err(|error| fail(error.error))?;
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(fail)
}

/// A temporary file in `directory`, locked as long as it is written to. What processes that were killed left there goes first: it is as large
/// as a pack, holds no lock any more, and would otherwise stay until the server's next start.
fn begin(directory: &Path) -> std::io::Result<NamedTempFile> {
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
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    let lacks = || {
        let megabytes = bytes.div_ceil(1_000_000);
        // How much is free is another number each time, see `unnamed`.
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

/// The system's reason without the temporary name, which is another one each time: whoever hears the same again says it once.
fn unnamed(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let reason = text.split_once(" at path ").map_or(text.as_str(), |(reason, _)| reason);
    std::io::Error::new(error.kind(), reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dataset::manifest::Role;

    #[test]
    fn a_pack_that_does_not_fit_is_refused_before_it_is_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("packed/8-stretch.pack");
        // A pebibyte: nothing of it is taken.
        let preprocess = Preprocess { size: 1 << 24, fit: Fit::Stretch };
        let sample = Sample {
            image: "a.png".to_owned(),
            entry: 0,
            label: None,
            split: Role::Train,
            picked: false,
            group: None,
            attributes: BTreeMap::new(),
        };
        let manifest = Manifest { samples: vec![sample; 2], ..Manifest::default() };
        let rows = std::iter::once_with(|| -> Result<Vec<(Vec<u8>, bool)>, DatasetError> { panic!("decoded") });
        let error = write(&path, &manifest, &preprocess, rows).unwrap_err();
        assert!(error.is_full() && error.to_string().contains("take 1688849861 MB"), "{error}");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

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

    /// A job that waits for room says why once, and knows by the words that it has.
    #[test]
    fn what_could_not_be_written_is_told_in_the_same_words_each_time() {
        // Nobody makes a file there, root neither.
        let path = Path::new("/proc/self/pack");
        let preprocess = Preprocess { size: 8, fit: Fit::Stretch };
        let told = || {
            let rows = std::iter::empty::<Result<Vec<(Vec<u8>, bool)>, DatasetError>>();
            write(path, &Manifest::default(), &preprocess, rows).unwrap_err().to_string()
        };
        assert_eq!(told(), told());
        assert!(told().contains("os error 2") && !told().contains(".tmp"), "{}", told());
    }
}
