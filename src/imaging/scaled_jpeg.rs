//! JPEG at ½, ¼ or ⅛ of its size, straight from the coefficients: a phone's photo for a network of 64 pixels need not
//! become 36 MB of pixels first.
//!
//! Of a block's coefficients those alone are read that fewer pixels are made of; the others are passed over, several at a look-up, which is
//! where the time goes. No library does that: see ARCHITECTURE.md.

mod bits;
mod frame;
mod huffman;
mod idct;
mod scan;

use image::RgbImage;

use frame::Frame;
use idct::Side;

/// By how much a picture is made smaller on each side: the largest of 8, 4 and 2 that leaves both sides `least` pixels. None where it is
/// not large enough for that.
pub fn divisor(width: u32, height: u32, least: u32) -> Option<u32> {
    [8, 4, 2].into_iter().find(|divisor| width.min(height) / divisor >= least)
}

/// A grey or YCbCr picture as cameras write it, its headers read.
pub struct ScaledJpeg<'a> {
    frame: Frame,
    scan: &'a [u8],
    divisor: u32,
    side: Side,
}

impl<'a> ScaledJpeg<'a> {
    /// Reads the headers of a picture of `width` and `height` pixels that is to be made smaller by `divisor` (2, 4 or 8) on each side. None where it
    /// is of a kind that the whole decoder knows better (progressive, of several scans, damaged).
    pub fn read_headers(bytes: &'a [u8], (width, height): (u32, u32), divisor: u32) -> Option<Self> {
        let side = match divisor {
            2 => Side::Four,
            4 => Side::Two,
            8 => Side::One,
            _ => return None,
        };
        let (frame, scan) = Frame::read(bytes)?;
        ((frame.width, frame.height) == (width as usize, height as usize)).then_some(Self {
            frame,
            scan,
            divisor,
            side,
        })
    }

    /// The pixels, not turned: whole blocks of so many, so that the last ones of a side that does not divide by the divisor show less than
    /// others. None where the picture is damaged: the whole decoder then decides.
    pub fn pixels(&self) -> Option<RgbImage> {
        let smaller = |side: usize| (side as u32).div_ceil(self.divisor);
        let (across, down) = (smaller(self.frame.width), smaller(self.frame.height));
        let rgb = scan::decode(&self.frame, self.scan, self.side, (across as usize, down as usize))?;
        RgbImage::from_raw(across, down, rgb)
    }
}

#[cfg(test)]
mod tests;
