//! From an encoded image to the pixels a network sees: one code path for import and for predict.
//!
//! Everything here is pure and runs on whatever thread calls it; decoding is costly, and waits where other threads decode as much
//! as may be in memory at a time, so that it belongs on a pool, never on the async executor.

mod baseline_jpeg;
mod budget;
mod decode;
mod error;
mod face;
mod fit;
mod format;
mod jpeg;
mod limits;
mod orientation;
mod rgb;
mod size;

pub use decode::decode;
pub use error::ImagingError;
pub use face::Face;
pub use fit::{Fit, Preprocess, resize};
pub use limits::DecodeLimits;
pub use size::declared_pixels;

/// A picture as a network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// `size·size·3` bytes, rows of RGB.
    pub pixels: Vec<u8>,
    /// The picture's own width and height, upright.
    pub size: (u32, u32),
    /// The face that was cut out; none for another [`Fit`] than [`Fit::Face`], or where no face was found.
    pub face: Option<Face>,
}

/// Decodes, finds the face where that is asked for, and resizes.
///
/// # Errors
/// When the bytes are no image that we take, see [`decode`].
pub fn prepare(bytes: &[u8], limits: &DecodeLimits, preprocess: &Preprocess) -> Result<Prepared, ImagingError> {
    let decoded = decode::decode_for(bytes, limits, Some(preprocess.least_decoded()))?;
    let found = if preprocess.fit == Fit::Face { face::find(&decoded.image) } else { None };
    let pixels = match &found {
        Some(face) => face::cut(&decoded.image, face, preprocess.size),
        None => fit::resize_area(&decoded.image, decoded.area, preprocess)?,
    };
    // A large JPEG is decoded smaller than it is; the face is told of the picture itself.
    let face = found.map(|face| decoded.in_picture(face));
    Ok(Prepared { pixels, size: decoded.size, face })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{FilterType, resize};

    fn photo(side: u32) -> Vec<u8> {
        let drawing = &crate::demo::dataset::draw(1, 3, "face").unwrap()[0];
        let drawing = decode(&drawing.bytes, &DecodeLimits::default()).unwrap();
        let mut photo = RgbImage::from_pixel(2 * side, side, image::Rgb([90, 120, 60]));
        image::imageops::overlay(&mut photo, &resize(&drawing, side, side, FilterType::CatmullRom), i64::from(side), 0);
        let mut bytes = Vec::new();
        photo.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92)).unwrap();
        bytes
    }

    #[test]
    fn a_face_is_told_in_the_pictures_own_pixels_however_small_it_was_decoded() {
        let preprocess = Preprocess { size: 32, fit: Fit::Face };
        let of = |side: u32| {
            let prepared = prepare(&photo(side), &DecodeLimits::default(), &preprocess).unwrap();
            assert_eq!((prepared.size, prepared.pixels.len()), ((2 * side, side), 32 * 32 * 3));
            (prepared.face.unwrap(), prepared.pixels)
        };
        // The large one is decoded at half its size.
        let ((small, ours), (large, theirs)) = (of(400), of(1600));
        // The same pixels decoded whole, and the same drawing in fewer pixels, of which the detector itself sees a little less.
        let whole = face::find(&decode(&photo(1600), &DecodeLimits::default()).unwrap()).unwrap();
        for (other, allowed) in [(whole, 0.005), (small.scaled(4.0), 0.015)] {
            for (other, large) in [(other.left, large.left), (other.top, large.top), (other.side, large.side)] {
                assert!((other - large).abs() < allowed * whole.side, "{other} and {large}");
            }
        }
        let off = ours.iter().zip(&theirs).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / ours.len() as f64;
        assert!(off < 8.0, "the same face, and {off} levels apart on average");
    }

    #[test]
    fn a_photo_that_lies_on_its_side_is_searched_upright() {
        let upright = decode(&photo(400), &DecodeLimits::default()).unwrap();
        let lying = image::imageops::rotate270(&upright);
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 92);
        // To be turned by a quarter.
        image::ImageEncoder::set_exif_metadata(&mut encoder, orientation::exif(6)).unwrap();
        encoder.encode_image(&lying).unwrap();
        let preprocess = Preprocess { size: 32, fit: Fit::Face };
        let of = |bytes: &[u8]| prepare(bytes, &DecodeLimits::default(), &preprocess).unwrap();
        let (turned, straight) = (of(&bytes), of(&photo(400)));
        assert_eq!(turned.size, straight.size);
        let (a, b) = (turned.face.unwrap(), straight.face.unwrap());
        assert!(
            (a.left - b.left).abs() < 4.0 && (a.top - b.top).abs() < 4.0 && (a.side - b.side).abs() < 4.0,
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn nobody_looks_for_a_face_where_none_is_asked_for() {
        for fit in [Fit::Stretch, Fit::Crop] {
            assert_eq!(
                prepare(&photo(400), &DecodeLimits::default(), &Preprocess { size: 32, fit }).unwrap().face,
                None
            );
        }
    }

    #[test]
    fn of_a_picture_that_was_decoded_small_the_padding_is_left_out_where_there_is_no_face_too() {
        // Half of an odd side: of the last column and row half is padding.
        let level = |x: u32, y: u32| if (x / 37 + y / 53).is_multiple_of(2) { 250 } else { 5 };
        let bars = RgbImage::from_fn(1301, 1301, |x, y| image::Rgb([level(x, y); 3]));
        let mut bytes = Vec::new();
        bars.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92)).unwrap();
        let preprocess = Preprocess { size: 32, fit: Fit::Face };
        let prepared = prepare(&bytes, &DecodeLimits::default(), &preprocess).unwrap();
        assert_eq!((prepared.size, prepared.face), ((1301, 1301), None));
        let decoded = decode::decode_for(&bytes, &DecodeLimits::default(), Some(640)).unwrap();
        assert_eq!((decoded.image.dimensions(), decoded.area.width), ((651, 651), 650.5));
        let stretch = Preprocess { size: 32, fit: Fit::Stretch };
        assert_eq!(prepared.pixels, fit::resize_area(&decoded.image, decoded.area, &stretch).unwrap());
        assert_ne!(prepared.pixels, fit::resize(&decoded.image, &stretch).unwrap(), "the padding made no difference");
    }

    #[test]
    fn a_picture_without_a_face_is_taken_whole() {
        let mut bytes = Vec::new();
        let picture = RgbImage::from_fn(90, 60, |x, y| image::Rgb([x as u8, y as u8, 30]));
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92)).unwrap();
        let of = |fit| prepare(&bytes, &DecodeLimits::default(), &Preprocess { size: 16, fit }).unwrap();
        assert_eq!(of(Fit::Face), of(Fit::Stretch));
    }
}
