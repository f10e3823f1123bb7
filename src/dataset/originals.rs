//! The files of a data set's archive, by sample: as they are, and which of them two data sets share.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::error::DatasetError;
use super::manifest::Sample;
use super::{IMAGES_FILE, archive};
use crate::imaging::DecodeLimits;
use crate::sha256;

/// Files read between two looks at whether to stop.
const CHUNK: usize = 256;

/// Opens a data set's archive.
///
/// # Errors
/// When it cannot be read.
pub(super) fn open_archive(directory: &Path) -> Result<archive::Images, DatasetError> {
    let path = directory.join(IMAGES_FILE);
    archive::open(&path).map_err(|error| DatasetError::file(&path, error))
}

/// The bytes of a sample's file.
///
/// # Errors
/// When they cannot be read.
pub(super) fn read_file(images: &mut archive::Images, sample: &Sample) -> Result<Vec<u8>, DatasetError> {
    let bytes = archive::read_entry(images, sample.entry, DecodeLimits::JUDGED.max_bytes);
    bytes.map_err(|unreadable| unusable(sample, unreadable.reason))
}

/// That a sample's file is of no use, and why.
pub(super) fn unusable(sample: &Sample, reason: String) -> DatasetError {
    DatasetError::Image { image: sample.image.clone(), reason }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;
    use crate::dataset::manifest::Role;

    #[test]
    fn a_comparison_can_be_stopped_between_any_two_reads() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = zip::ZipWriter::new(std::fs::File::create(directory.path().join(IMAGES_FILE)).unwrap());
        let sample = |entry: u32| Sample {
            image: entry.to_string(),
            entry,
            label: None,
            split: Role::Train,
            picked: false,
            group: None,
            attributes: BTreeMap::new(),
        };
        // One more than are read at a time.
        let all: Vec<Sample> = (0..=CHUNK as u32).map(sample).collect();
        for sample in &all {
            writer.start_file(sample.image.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(sample.image.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let samples: Vec<&Sample> = all.iter().collect();
        let compared = |most: u32| {
            let asked = Cell::new(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() > most
            };
            let of = (directory.path(), samples.as_slice());
            let found = files_among(of, of, &stop);
            (found, asked.get())
        };
        let (found, asked) = compared(u32::MAX);
        assert_eq!((found.unwrap(), asked), (CHUNK as u64 + 1, 4), "two reads of each data set");
        for most in 0..4 {
            let (found, asked) = compared(most);
            assert!(matches!(found, Err(DatasetError::Stopped)), "{found:?}");
            assert_eq!(asked, most + 1);
        }
    }
}
