//! Pictures of two classes that a small network tells apart within seconds, and data sets of them.

use std::io::{Cursor, Write};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// A disc (`true`) or stripes (`false`) in colours and places that `seed` decides, as PNG.
pub fn picture(disc: bool, seed: u32) -> Vec<u8> {
    let roll = |salt: u32| (seed.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 9) % 100;
    let (cx, cy) = (10 + roll(1) as i32 % 12, 10 + roll(2) as i32 % 12);
    let ink = [150 + roll(3) as u8, 150 + roll(4) as u8, 150 + roll(5) as u8];
    let paper = [roll(6) as u8, roll(7) as u8, roll(8) as u8];
    let pixel = |x: u32, y: u32| {
        let (x, y) = (x as i32, y as i32);
        let inked = if disc { (x - cx).pow(2) + (y - cy).pow(2) < 64 } else { (x + y + cx) % 8 < 4 };
        Rgb(if inked { ink } else { paper })
    };
    let mut bytes = Vec::new();
    let image = DynamicImage::ImageRgb8(RgbImage::from_fn(32, 32, pixel));
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

/// A ZIP of files.
pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An archive with its sheets.
pub struct Drawn {
    pub images: Vec<u8>,
    pub train: String,
    pub test: String,
}

/// `train` training and `test` test pictures, half discs and half stripes.
pub fn data_set(train: u32, test: u32) -> Drawn {
    let mut files = Vec::new();
    let mut sheet = |from: u32, count: u32| {
        let mut text = "image,label,artist\n".to_owned();
        for seed in from..from + count {
            let disc = seed % 2 == 0;
            let name = format!("{seed:04}.png");
            text.push_str(&format!("{name},{},{}\n", if disc { "disc" } else { "stripes" }, seed % 4 / 2));
            files.push((name, picture(disc, seed)));
        }
        text
    };
    let (train, test) = (sheet(0, train), sheet(train, test));
    Drawn { images: archive(&files), train, test }
}
