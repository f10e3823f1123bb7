//! JPEG as nearly all are written, whole or at ½, ¼ or ⅛ of its size, straight from the coefficients: a phone's photo for a network of 64 pixels need
//! not become 36 MB of pixels first.
//!
//! Of a block's coefficients those alone are read that its pixels are made of; the others are passed over, several at a look-up. Whole
//! pictures have the pixels that zune-jpeg gives them, to the last bit, in two thirds of its time. Why it is our own: see ARCHITECTURE.md.

mod bits;
mod colour;
mod frame;
mod huffman;
mod scan;
mod small;
mod whole;

use image::RgbImage;
use image::metadata::Orientation;

use frame::Frame;
use small::Side;

/// By how much a picture is made smaller on each side: the largest of 8, 4 and 2 that leaves both sides `least` pixels; 1 where it is
/// not large enough for that.
pub fn divisor(width: u32, height: u32, least: u32) -> u32 {
    [8, 4, 2].into_iter().find(|divisor| width.min(height) / divisor >= least).unwrap_or(1)
}

/// A grey or YCbCr picture of one scan, its headers read.
pub struct BaselineJpeg<'a> {
    frame: Frame<'a>,
    scan: &'a [u8],
}

impl<'a> BaselineJpeg<'a> {
    /// Reads the headers. Nothing that grows with the picture's declared size is allocated. None where it is of a kind that is left to zune-jpeg
    /// (progressive, of several scans, damaged).
    pub fn read_headers(bytes: &'a [u8]) -> Option<Self> {
        let (frame, scan) = Frame::read(bytes)?;
        Some(Self { frame, scan })
    }

    /// Width and height in pixels, before it is turned upright.
    pub fn dimensions(&self) -> (u32, u32) {
        // Both are of sixteen bits.
        (self.frame.width as u32, self.frame.height as u32)
    }

    /// How its EXIF block says that it is to be turned; not at all where there is none or it makes no sense.
    pub fn orientation(&self) -> Orientation {
        self.frame.orientation()
    }

    /// The pixels at one `divisor`-th (1, 2, 4 or 8) of each side, not turned: whole blocks of so many, so that the last ones of a side that does
    /// not divide by it show less than others. None where the picture is damaged: zune-jpeg then decides.
    pub fn pixels(&self, divisor: u32) -> Option<RgbImage> {
        let side = match divisor {
            1 => Side::Eight,
            2 => Side::Four,
            4 => Side::Two,
            8 => Side::One,
            _ => return None,
        };
        let (width, height) = self.dimensions();
        let (across, down) = (width.div_ceil(divisor), height.div_ceil(divisor));
        let rgb = scan::decode(&self.frame, self.scan, side, (across as usize, down as usize))?;
        RgbImage::from_raw(across, down, rgb)
    }
}

#[cfg(test)]
mod tests;
