//! Which way up a picture is, as its EXIF block says.

use image::metadata::Orientation;

/// What stands before the EXIF block of a JPEG.
pub const EXIF: &[u8] = b"Exif\0\0";

/// How a picture's EXIF block says that it is to be turned; not at all where there is none or it makes no sense. What stands before it in
/// a JPEG some programs (ImageMagick, and Pillow up to 9.2) put before it in a PNG and a WebP, too.
pub fn in_exif(exif: Option<&[u8]>) -> Orientation {
    let block = exif.map(|exif| exif.strip_prefix(EXIF).unwrap_or(exif));
    block.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// A minimal little-endian TIFF block with one entry: tag 0x0112 (orientation), 6 to be turned by 90°.
#[cfg(test)]
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

/// Width and height once a picture is upright.
pub fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (height, width)
        }
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => (width, height),
    }
}

/// Whether what padded a picture on its right, and at its bottom, lies on the left, and at the top, once it is upright.
pub fn padded_first(orientation: Orientation) -> (bool, bool) {
    match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
        Orientation::Rotate90 | Orientation::FlipHorizontal => (true, false),
        Orientation::Rotate270 | Orientation::FlipVertical => (false, true),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
    }
}
