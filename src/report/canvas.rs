//! A white sheet to draw on: pictures at whole-number zoom, text in an 8×8 font, bars, and a PNG at the end.

use std::io::Cursor;

use font8x8::UnicodeFonts;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageError, Rgb, RgbImage};

/// Height of a line of text and width of a character, pixels.
pub const LINE: u32 = 11;
pub const CHARACTER: u32 = 8;

/// Ink of text, of quieter text, of the bars and of what lies under them.
pub const INK: Rgb<u8> = Rgb([32, 36, 44]);
pub const QUIET: Rgb<u8> = Rgb([110, 116, 128]);
pub const BAR: Rgb<u8> = Rgb([55, 98, 190]);
pub const PALE: Rgb<u8> = Rgb([196, 208, 232]);

/// A square picture: `side·side·3` bytes, rows of RGB.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    pub side: u32,
    pub pixels: &'a [u8],
}

/// The sheet.
#[derive(Debug)]
pub struct Canvas(RgbImage);

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Self(RgbImage::from_pixel(width, height, Rgb([255; 3])))
    }

    /// A picture with its upper left corner at (`left`, `top`), each pixel `zoom` wide and high.
    pub fn tile(&mut self, left: u32, top: u32, tile: Tile<'_>, zoom: u32) {
        for (place, pixel) in (0..).zip(tile.pixels.chunks_exact(3)) {
            let (x, y) = (place % tile.side * zoom, place / tile.side * zoom);
            self.bar(left + x, top + y, zoom, zoom, Rgb([pixel[0], pixel[1], pixel[2]]));
        }
    }

    /// A filled rectangle; what lies outside the sheet is left out.
    pub fn bar(&mut self, left: u32, top: u32, width: u32, height: u32, ink: Rgb<u8>) {
        let (right, bottom) = ((left + width).min(self.0.width()), (top + height).min(self.0.height()));
        for y in top..bottom {
            for x in left..right {
                self.0.put_pixel(x, y, ink);
            }
        }
    }

    /// One line of text of at most `most` characters; a longer one ends in two dots.
    pub fn text(&mut self, left: u32, top: u32, text: &str, most: usize, ink: Rgb<u8>) {
        let short = shorten(text, most);
        for (index, character) in (0..).zip(short.chars()) {
            for (y, row) in (0..).zip(glyph(character)) {
                for x in (0..8).filter(|x| row >> x & 1 == 1) {
                    self.bar(left + index * CHARACTER + x, top + y, 1, 1, ink);
                }
            }
        }
    }

    /// The sheet as a file.
    pub fn png(self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Cursor::new(Vec::new());
        // Pictures are looked at once: speed before size.
        let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
        self.0.write_with_encoder(encoder)?;
        Ok(bytes.into_inner())
    }
}

/// What the font has not is drawn as a box.
fn glyph(character: char) -> [u8; 8] {
    font8x8::BASIC_FONTS
        .get(character)
        .or_else(|| font8x8::LATIN_FONTS.get(character))
        .or_else(|| font8x8::GREEK_FONTS.get(character))
        .or_else(|| font8x8::HIRAGANA_FONTS.get(character))
        .unwrap_or([0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0])
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(2)).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_in_dots_and_keeps_to_its_place() {
        assert_eq!(shorten("no_mask", 7), "no_mask");
        assert_eq!(shorten("wears_a_mask", 7), "wears..");
        let mut canvas = Canvas::new(60, 20);
        canvas.text(0, 0, "wears_a_mask", 7, INK);
        let inked = |x: u32| (0..20).any(|y| canvas.0.get_pixel(x, y) == &INK);
        assert!((0..56).any(inked) && !(56..60).any(inked));
    }

    #[test]
    fn letters_stand_as_they_are_read() {
        let mut canvas = Canvas::new(8, 8);
        canvas.text(0, 0, "L", 1, INK);
        let inked = |y: u32, xs: std::ops::Range<u32>| xs.into_iter().any(|x| canvas.0.get_pixel(x, y) == &INK);
        assert!(inked(0, 0..4) && !inked(0, 4..8), "its stem is on the left, on top");
        assert!(inked(6, 4..8), "its foot points to the right");
    }

    #[test]
    fn letters_of_other_alphabets_are_drawn_and_strangers_are_boxes() {
        let known: Vec<[u8; 8]> = ['a', 'ü', 'λ', 'α'].map(glyph).to_vec();
        assert!(known.iter().all(|glyph| *glyph != super::glyph('面') && glyph != &[0; 8]), "{known:?}");
    }

    #[test]
    fn pixels_are_enlarged_whole() {
        let mut canvas = Canvas::new(8, 6);
        let pixels: Vec<u8> = (0..12).collect();
        canvas.tile(1, 1, Tile { side: 2, pixels: &pixels }, 2);
        assert_eq!(canvas.0.get_pixel(2, 2), &Rgb([0, 1, 2]));
        assert_eq!(canvas.0.get_pixel(3, 2), &Rgb([3, 4, 5]));
        assert_eq!(canvas.0.get_pixel(4, 4), &Rgb([9, 10, 11]));
        assert_eq!(canvas.0.get_pixel(5, 4), &Rgb([255; 3]));
    }
}
