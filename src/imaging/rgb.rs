//! A decoder's pixels as those that a network sees: three channels of eight bits.

use image::ColorType;

/// The decoder's pixels, of 8 or 16 bits a channel, as RGB: over them where there is room, as beside 16-bit ones a copy would be the
/// largest part of what a picture takes.
pub fn rgb(mut bytes: Vec<u8>, colour: ColorType) -> Vec<u8> {
    const RGB: usize = 3;
    if colour == ColorType::Rgb8 {
        return bytes;
    }
    let (length, channels) = (usize::from(colour.bytes_per_pixel()), usize::from(colour.channel_count()));
    let (is_deep, is_grey, has_alpha) = (length > channels, !colour.has_color(), colour.has_alpha());
    let convert = |pixel: &[u8]| {
        let channel = |at: usize| {
            if is_deep {
                // Rounded: 65,535 is 255 times 257.
                ((u32::from(u16::from_ne_bytes([pixel[2 * at], pixel[2 * at + 1]])) + 128) / 257) as u8
            } else {
                pixel[at]
            }
        };
        let opaque = if is_grey { [channel(0); RGB] } else { [channel(0), channel(1), channel(2)] };
        if has_alpha { on_white(opaque, channel(channels - 1)) } else { opaque }
    };
    let pixels = bytes.len() / length;
    if length < RGB {
        let mut wider = Vec::with_capacity(RGB * pixels);
        wider.extend(bytes.chunks_exact(length).flat_map(convert));
        return wider;
    }
    for at in 0..pixels {
        let pixel = convert(&bytes[at * length..][..length]);
        bytes[at * RGB..][..RGB].copy_from_slice(&pixel);
    }
    bytes.truncate(RGB * pixels);
    bytes.shrink_to_fit();
    bytes
}

fn on_white(colour: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    // At most 255: a weighted mean of two bytes.
    colour.map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageBuffer, Rgb};

    #[test]
    fn pixels_of_every_kind_are_those_that_image_makes() {
        // Every value in every channel, each time beside others: odd factors of 16-bit numbers leave none out.
        let value = |at: usize, channels: usize| {
            let (pixel, channel) = (at / channels, at % channels);
            (pixel * (2 * channel + 1) + 77 * channel) as u16
        };
        let deep = |channels: usize| (0..channels << 16).map(|at| value(at, channels)).collect::<Vec<u16>>();
        let flat = |channels: usize| deep(channels).into_iter().map(|value| (value >> 8) as u8).collect::<Vec<u8>>();
        for image in [
            DynamicImage::ImageLuma8(ImageBuffer::from_raw(256, 256, flat(1)).unwrap()),
            DynamicImage::ImageLumaA8(ImageBuffer::from_raw(256, 256, flat(2)).unwrap()),
            DynamicImage::ImageRgb8(ImageBuffer::from_raw(256, 256, flat(3)).unwrap()),
            DynamicImage::ImageRgba8(ImageBuffer::from_raw(256, 256, flat(4)).unwrap()),
            DynamicImage::ImageLuma16(ImageBuffer::from_raw(256, 256, deep(1)).unwrap()),
            DynamicImage::ImageLumaA16(ImageBuffer::from_raw(256, 256, deep(2)).unwrap()),
            DynamicImage::ImageRgb16(ImageBuffer::from_raw(256, 256, deep(3)).unwrap()),
            DynamicImage::ImageRgba16(ImageBuffer::from_raw(256, 256, deep(4)).unwrap()),
        ] {
            let mut theirs = image.to_rgb8();
            if image.color().has_alpha() {
                for (rgb, rgba) in theirs.pixels_mut().zip(image.to_rgba8().pixels()) {
                    let [r, g, b, alpha] = rgba.0;
                    *rgb = Rgb(on_white([r, g, b], alpha));
                }
            }
            let ours = rgb(image.as_bytes().to_vec(), image.color());
            assert!(ours == theirs.into_raw(), "{:?}", image.color());
        }
    }
}
