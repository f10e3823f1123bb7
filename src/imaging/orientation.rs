//! Which way up a picture is, as its EXIF block says.

use image::metadata::Orientation;

/// How the EXIF block of a PNG or WebP says that it is to be turned; not at all where it makes no sense. Some programs (ImageMagick, and
/// Pillow up to 9.2) put before it what stands before it in a JPEG.
pub fn in_exif(exif: &[u8]) -> Orientation {
    let block = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(block).unwrap_or(Orientation::NoTransforms)
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
