//! What a file is that is none of the formats we take.

/// What the first bytes look like, in words.
pub fn looks_like(bytes: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
    match bytes {
        [b'G', b'I', b'F', b'8', ..] => "this is a GIF",
        [b'B', b'M', ..] => "this is a BMP",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "this is a TIFF",
        // The container is that of films; its brand says what is in it.
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.first_chunk::<4>() {
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1" | b"avif" | b"avis") => {
                "this is a HEIF or AVIF"
            }
            Some(b"crx ") => "this is a raw photo",
            _ => "this is a video",
        },
        [b'%', b'P', b'D', b'F', ..] => "this is a PDF",
        [b'P', b'K', 3, 4, ..] => "this is a ZIP",
        _ if text.starts_with("<svg") || text.starts_with("<?xml") => "this is an SVG or XML text",
        _ if text.starts_with("<!doctype") || text.starts_with("<html") => "this is an HTML page",
        _ => "this is no image format that we know",
    }
}

#[cfg(test)]
mod tests {
    use crate::imaging::{DecodeLimits, decode};

    #[test]
    fn other_formats_are_named() {
        for (bytes, name) in [
            (&b"GIF89a............"[..], "GIF"),
            (b"<svg xmlns='x'/>", "SVG"),
            (b"\n  <svg xmlns='x'/>", "SVG"),
            (b"\r\n<!DOCTYPE html><html>", "HTML page"),
            (b"%PDF-1.7", "PDF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
            (b"\0\0\0\x18ftypisom\0\0\x02\0isommp41", "video"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw photo"),
            (b"hello", "no image"),
        ] {
            let error = decode(bytes, &DecodeLimits::default()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.code(), "unsupported_image_format");
        }
    }
}
