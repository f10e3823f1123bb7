//! Packed pixels: every sample at one resolution, uint8 NHWC, in one memory-mapped file.
//! Where photos are cut to the face, a byte for each sample follows: whether one was found in it.
//!
//! A cache: it can be made again from the archive at any time. The header says what it holds, so that a file
//! of another data set, size or version is made anew and never read as something else.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;

use super::archive;
use super::error::DatasetError;
use super::manifest::{Manifest, Sample};
use super::originals::{open_archive, read_file, unusable};
use crate::failpoint;
use crate::imaging::{self, DecodeLimits, Fit, Prepared, Preprocess};

mod begun;

use begun::{begin, reserve};

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

fn read_image(
    images: &mut archive::Images,
    sample: &Sample,
    preprocess: &Preprocess,
) -> Result<Prepared, DatasetError> {
    let bytes = read_file(images, sample)?;
    let prepared = imaging::prepare(&bytes, &DecodeLimits::JUDGED, preprocess);
    prepared.map_err(|error| unusable(sample, error.to_string()))
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

    fn sample() -> Sample {
        Sample {
            image: "a.png".to_owned(),
            entry: 0,
            label: None,
            split: Role::Train,
            picked: false,
            group: None,
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_packed_file_of_another_data_set_with_as_many_images_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let preprocess = Preprocess { size: 2, fit: Fit::Stretch };
        let manifest = |content_hash: &str| Manifest {
            samples: vec![sample()],
            content_hash: content_hash.to_owned(),
            ..Manifest::default()
        };
        let rows = std::iter::once(Ok(vec![([7_u8; 12], false)]));
        write(&path(directory.path(), &preprocess), &manifest("ours"), &preprocess, rows).unwrap();
        let packed = |content_hash: &str| {
            let packed = PackedImages::existing(directory.path(), &manifest(content_hash), &preprocess).unwrap();
            packed.map(|packed| packed.bytes().to_vec())
        };
        assert_eq!((packed("ours"), packed("another")), (Some(vec![7; 12]), None));
    }

    #[test]
    fn a_pack_that_does_not_fit_is_refused_before_it_is_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("packed/8-stretch.pack");
        // A pebibyte: nothing of it is taken.
        let preprocess = Preprocess { size: 1 << 24, fit: Fit::Stretch };
        let manifest = Manifest { samples: vec![sample(); 2], ..Manifest::default() };
        let rows = std::iter::once_with(|| -> Result<Vec<(Vec<u8>, bool)>, DatasetError> { panic!("decoded") });
        let error = write(&path, &manifest, &preprocess, rows).unwrap_err();
        assert!(error.is_full() && error.to_string().contains("take 1688849861 MB"), "{error}");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
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
