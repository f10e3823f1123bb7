//! The demo's data set: drawn faces as JPEG files in a ZIP, and two sheets that name them.

use std::io::{Cursor, Write};

use anyhow::Context;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use zip::write::SimpleFileOptions;

use super::draw;

/// Side of the drawn images, pixels: a person can still tell what they show.
const SIDE: u32 = 64;

/// The two classes, by whether a mask is worn.
const LABELS: [&str; 2] = ["no_mask", "mask"];

/// A drawn image as a file.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The file's name; it says nothing about the class.
    pub name: String,
    /// `mask` or `no_mask`.
    pub label: &'static str,
    /// JPEG.
    pub bytes: Vec<u8>,
}

/// What `POST /datasets` takes.
#[derive(Clone, Debug)]
pub struct Upload {
    /// A ZIP of all images.
    pub images: Vec<u8>,
    /// The training sheet.
    pub train: Vec<u8>,
    /// The test sheet.
    pub test: Vec<u8>,
}

/// Draws `count` images, half of them (rounded up) with a mask, in an order that chance decides. All cores
/// draw; the result depends on nothing but the arguments.
///
/// # Errors
/// When a picture cannot be written as JPEG.
pub fn draw(count: usize, seed: u64, prefix: &str) -> anyhow::Result<Vec<Drawn>> {
    let mut masked: Vec<bool> = (0..count).map(|index| index % 2 == 0).collect();
    masked.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    masked
        .into_par_iter()
        .enumerate()
        .map(|(index, masked)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // A stream of random numbers for each image: any of them can be drawn first.
            rng.set_stream(index as u64 + 1);
            let picture = draw::face(&mut rng, masked, SIDE);
            Ok(Drawn {
                name: format!("{prefix}-{:05}.jpg", index + 1),
                label: LABELS[usize::from(masked)],
                bytes: jpeg(&picture, rng.random_range(80..=95))?,
            })
        })
        .collect()
}

fn jpeg(picture: &RgbImage, quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).context("a drawing as JPEG")?;
    Ok(bytes)
}

/// Packs training and test images for the import.
///
/// # Errors
/// When ZIP or CSV cannot be written, which memory alone could cause.
pub fn pack(train: &[Drawn], test: &[Drawn]) -> anyhow::Result<Upload> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // JPEG does not compress any further; a fixed date keeps the bytes the same from run to run.
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for drawn in train.iter().chain(test) {
        archive.start_file(&drawn.name, options)?;
        archive.write_all(&drawn.bytes)?;
    }
    let images = archive.finish().context("the ZIP of drawings")?.into_inner();
    Ok(Upload { images, train: sheet(train)?, test: sheet(test)? })
}

fn sheet(images: &[Drawn]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["image", "label"])?;
    for drawn in images {
        writer.write_record([drawn.name.as_str(), drawn.label])?;
    }
    writer.into_inner().context("a sheet of drawings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{self, DecodeLimits};
    use std::collections::BTreeMap;
    use std::io::Read;

    fn rows(sheet: &[u8]) -> BTreeMap<String, String> {
        let mut reader = csv::Reader::from_reader(sheet);
        assert_eq!(reader.headers().unwrap(), vec!["image", "label"]);
        reader.records().map(|row| row.unwrap()).map(|row| (row[0].to_owned(), row[1].to_owned())).collect()
    }

    #[test]
    fn classes_are_balanced_and_names_tell_nothing() {
        let drawn = draw(31, 5, "face").unwrap();
        let masked = |images: &[Drawn]| images.iter().filter(|image| image.label == "mask").count();
        assert_eq!((drawn.len(), masked(&drawn)), (31, 16));
        // Neither half of the names nor every other one belongs to a class.
        assert!((3..13).contains(&masked(&drawn[..16])));
        let alternate: Vec<Drawn> = drawn.iter().step_by(2).cloned().collect();
        assert!((3..13).contains(&masked(&alternate)));
        assert!(drawn.iter().all(|image| !image.name.contains("mask") && image.bytes.starts_with(&[0xFF, 0xD8])));
    }

    #[test]
    fn a_seed_is_a_data_set_and_another_seed_another() {
        let bytes = |seed| draw(6, seed, "face").unwrap().into_iter().map(|image| image.bytes).collect::<Vec<_>>();
        assert_eq!(bytes(1), bytes(1));
        assert!(bytes(1).iter().all(|image| !bytes(2).contains(image)));
    }

    #[test]
    fn the_upload_holds_every_image_once_and_both_sheets() {
        let (train, test) = (draw(8, 1, "train").unwrap(), draw(4, 2, "test").unwrap());
        let upload = pack(&train, &test).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(upload.images)).unwrap();
        assert_eq!(archive.len(), 12);
        for drawn in train.iter().chain(&test) {
            let mut bytes = Vec::new();
            archive.by_name(&drawn.name).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, drawn.bytes);
            assert_eq!(imaging::decode(&bytes, &DecodeLimits::default()).unwrap().width(), SIDE);
        }
        let (train_rows, test_rows) = (rows(&upload.train), rows(&upload.test));
        assert_eq!((train_rows.len(), test_rows.len()), (8, 4));
        assert!(train.iter().all(|drawn| train_rows[&drawn.name] == drawn.label));
        assert!(test_rows.keys().all(|name| !train_rows.contains_key(name)));
    }
}
