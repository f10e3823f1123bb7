//! From any picture to the square that a network sees.

use std::fmt;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ImagingError;

/// How a picture becomes square: `stretch` scales both sides on their own (nothing is lost, proportions change); `crop` scales the shorter side
/// and cuts the longer one about its centre; `face` cuts to the face and turns it upright, and where it finds none does as `stretch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Both sides scaled on their own, as torchvision's `Resize((s, s))`: nothing is lost, proportions change.
    Stretch,
    /// The shorter side scaled, the longer one cut about its centre: proportions stay, edges are lost.
    Crop,
    /// Cut to the face and turned upright; where no face is found, as `stretch`. For photos that show more than a face.
    Face,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stretch => "stretch",
            Self::Crop => "crop",
            Self::Face => "face",
        })
    }
}

/// How an image becomes a network's input; travels with runs and models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preprocess {
    /// Side of the square, pixels.
    pub size: u32,
    /// How a picture becomes square.
    pub fit: Fit,
}

/// Pixels that are left to the resizer for each that it makes, across and down, where a JPEG is decoded at less than its size: its antialiasing then
/// still has the last word (Pillow's `thumbnail` leaves as many).
const SPARE: u32 = 2;

/// Pixels of the shorter side that a large photo keeps at least where a face is looked for.
const FACE_SEARCH: u32 = 640;

impl Preprocess {
    /// Pixels of the shorter side that a picture is to have at least when it is decoded: a far larger one need not be decoded whole. A
    /// face may be a fourth of them.
    pub(super) fn least_decoded(&self) -> u32 {
        let least = self.size.saturating_mul(SPARE);
        match self.fit {
            Fit::Stretch | Fit::Crop => least,
            Fit::Face => least.saturating_mul(4).max(FACE_SEARCH),
        }
    }
}

/// A part of a picture, in pixels from its upper left corner; edges may lie within pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    /// All of it.
    pub fn whole(image: &RgbImage) -> Self {
        Self { left: 0.0, top: 0.0, width: f64::from(image.width()), height: f64::from(image.height()) }
    }

    /// The largest square about its middle.
    fn square(self) -> Self {
        let side = self.width.min(self.height);
        let (left, top) = (self.left + (self.width - side) / 2.0, self.top + (self.height - side) / 2.0);
        Self { left, top, width: side, height: side }
    }
}

/// Resizes to the square: bilinear with antialiasing, `size·size·3` bytes, rows of RGB. With [`Fit::Face`] the whole picture,
/// as where no face is found.
///
/// # Errors
/// When the resizer refuses (an empty picture; decoded ones never are).
pub fn resize(image: &RgbImage, preprocess: &Preprocess) -> Result<Vec<u8>, ImagingError> {
    resize_area(image, Area::whole(image), preprocess)
}

/// The same of an area of the picture as if it were all there is.
pub(super) fn resize_area(image: &RgbImage, area: Area, preprocess: &Preprocess) -> Result<Vec<u8>, ImagingError> {
    let refuse = |error: String| ImagingError::Corrupt(format!("cannot be resized: {error}"));
    let side = preprocess.size;
    if image.dimensions() == (side, side) && area == Area::whole(image) {
        return Ok(image.as_raw().clone());
    }
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .map_err(|error| refuse(error.to_string()))?;
    let mut square = Image::new(side, side, PixelType::U8x3);
    let Area { left, top, width, height } = match preprocess.fit {
        Fit::Stretch | Fit::Face => area,
        Fit::Crop => area.square(),
    };
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
    Resizer::new().resize(&source, &mut square, &options).map_err(|error| refuse(error.to_string()))?;
    Ok(square.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// Left third red, the rest blue; twice as wide as high.
    fn wide() -> RgbImage {
        RgbImage::from_fn(60, 30, |x, _| if x < 20 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) })
    }

    #[test]
    fn a_photo_in_which_a_face_is_looked_for_keeps_more_of_its_pixels() {
        let least = |size, fit| Preprocess { size, fit }.least_decoded();
        assert_eq!([Fit::Stretch, Fit::Crop, Fit::Face].map(|fit| least(32, fit)), [64, 64, 640]);
        assert_eq!([80, 96].map(|size| least(size, Fit::Face)), [640, 768]);
    }

    #[test]
    fn stretching_keeps_all_of_the_width_and_cropping_its_middle() {
        let red = |fit| {
            let pixels = resize(&wide(), &Preprocess { size: 10, fit }).unwrap();
            pixels[5 * 30..6 * 30].chunks(3).filter(|pixel| pixel[0] > 128).count()
        };
        assert_eq!(red(Fit::Stretch), 3, "a third of ten columns");
        assert_eq!(red(Fit::Crop), 2, "columns 15 to 19 of 15 to 44, a sixth of ten columns");
    }

    #[test]
    fn cropping_takes_the_middle_of_an_upright_picture_too() {
        let upright = RgbImage::from_fn(30, 60, |_, y| if y < 20 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let pixels = resize(&upright, &Preprocess { size: 10, fit: Fit::Crop }).unwrap();
        let red = (0..10).filter(|row| pixels[(row * 10 + 5) * 3] > 128).count();
        assert_eq!(red, 2, "rows 15 to 19 of 15 to 44, a sixth of ten rows");
    }

    #[test]
    fn an_area_is_resized_as_if_it_were_all_there_is() {
        let part = image::imageops::crop_imm(&wide(), 10, 4, 40, 20).to_image();
        let area = Area { left: 10.0, top: 4.0, width: 40.0, height: 20.0 };
        for fit in [Fit::Stretch, Fit::Crop] {
            let preprocess = Preprocess { size: 10, fit };
            let ours = resize_area(&wide(), area, &preprocess).unwrap();
            let theirs = resize(&part, &preprocess).unwrap();
            // What lies right beyond its edges still counts a little there.
            let off = ours.iter().zip(&theirs).filter(|(a, b)| a.abs_diff(**b) > 40).count();
            assert!(off == 0, "{fit}: {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_picture_of_the_right_size_is_left_alone() {
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 3]));
        assert_eq!(resize(&image, &Preprocess { size: 8, fit: Fit::Crop }).unwrap(), *image.as_raw());
    }

    #[test]
    fn shrinking_averages_over_all_pixels() {
        // A fine chequerboard becomes its mean; without antialiasing it would be black or white.
        let board = RgbImage::from_fn(64, 64, |x, y| Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]));
        let pixels = resize(&board, &Preprocess { size: 8, fit: Fit::Stretch }).unwrap();
        assert!(pixels.iter().all(|&value| (118..=138).contains(&value)), "{pixels:?}");
    }
}
