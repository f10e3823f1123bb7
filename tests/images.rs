//! What an image of each kind is answered with: the table in docs/images.md, held against the pictures in
//! `fuzz/corpus/image` (drawn by `fuzz/make_corpus.py`: red on the left, blue on the right).

use mixmatch::imaging::{DecodeLimits, decode};

/// The table's rows: file and answer, `ok` or a code.
fn table() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|cells| (cells[1].clone(), cells[3].clone())).collect()
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/fuzz/corpus/image/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_kind_of_image_has_the_answer_that_is_documented() {
    let table = table();
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut listed: Vec<String> = table.iter().map(|(file, _)| file.clone()).collect();
    files.sort();
    listed.sort();
    assert_eq!(files, listed, "the table and the pictures");
    for (file, answer) in table {
        let got = match decode(&picture(&file), &DecodeLimits::default()) {
            Ok(_) => "ok",
            Err(error) => error.code(),
        };
        assert_eq!(got, answer, "{file}");
    }
}

#[test]
fn every_orientation_is_turned_upright() {
    for orientation in 1..=8 {
        let image = decode(&picture(&format!("orientation-{orientation}.jpg")), &DecodeLimits::default()).unwrap();
        let turned = orientation >= 5;
        assert_eq!(image.dimensions(), if turned { (16, 24) } else { (24, 16) }, "{orientation}");
        // Where the red half must be: TIFF says what row 0 and column 0 of the stored picture are.
        let (x, y) = match orientation {
            1 | 4 => (3, 8),
            2 | 3 => (20, 8),
            5 | 6 => (8, 3),
            _ => (8, 20),
        };
        let [red, _, blue] = image.get_pixel(x, y).0;
        assert!(red > 150 && blue < 100, "{orientation}: {:?}", image.get_pixel(x, y));
    }
}

#[test]
fn a_png_and_a_webp_are_turned_too_whatever_their_exif_block_begins_with() {
    let names =
        ["orientation-6.png", "orientation-6-as-in-jpeg.png", "orientation-6.webp", "orientation-6-as-in-jpeg.webp"];
    for file in names {
        let image = decode(&picture(file), &DecodeLimits::default()).unwrap();
        assert_eq!(image.dimensions(), (16, 24), "{file}");
        let [red, _, blue] = image.get_pixel(8, 3).0;
        assert!(red > 150 && blue < 100, "{file}: {:?}", image.get_pixel(8, 3));
    }
}

#[test]
fn colours_survive_whatever_they_were_stored_as() {
    for file in ["rgb.jpg", "cmyk.jpg", "progressive.jpg", "rgb.png", "palette.png", "rgb.webp", "lossy.webp"] {
        let image = decode(&picture(file), &DecodeLimits::default()).unwrap();
        let ([r, _, b], [r2, _, b2]) = (image.get_pixel(3, 8).0, image.get_pixel(20, 8).0);
        assert!(
            r > 150 && b < 100 && r2 < 100 && b2 > 150,
            "{file}: {:?} {:?}",
            image.get_pixel(3, 8),
            image.get_pixel(20, 8)
        );
    }
    for file in ["alpha.png", "grey-alpha.png", "alpha.webp"] {
        let image = decode(&picture(file), &DecodeLimits::default()).unwrap();
        assert_eq!(image.get_pixel(3, 8).0, [255; 3], "{file}: what cannot be seen is white");
    }
    let deep = decode(&picture("rgb-16.png"), &DecodeLimits::default()).unwrap();
    assert_eq!(deep.get_pixel(1, 1).0, [255, 128, 0]);
    let grey = decode(&picture("grey.jpg"), &DecodeLimits::default()).unwrap();
    let [r, g, b] = grey.get_pixel(3, 8).0;
    assert!(r == g && g == b);
}

#[test]
fn turning_a_picture_upright_stays_within_the_limit() {
    // Exactly at the limit of pixels, turned by 90°: decoded once and turned once.
    let limits = DecodeLimits { max_pixels: 24 * 16, ..DecodeLimits::default() };
    assert_eq!(decode(&picture("orientation-6.jpg"), &limits).unwrap().dimensions(), (16, 24));
    let limits = DecodeLimits { max_pixels: 24 * 16 - 1, ..DecodeLimits::default() };
    assert_eq!(decode(&picture("orientation-6.jpg"), &limits).unwrap_err().code(), "image_too_large");
}
