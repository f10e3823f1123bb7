//! What strangers' bytes reach, each as one function of bytes. `fuzz/` runs them under libFuzzer, `tests/hostile.rs`
//! over the committed corpora and seeded mutations of them; nothing else calls them.
//!
//! A target must return whatever it is given: a panic, an abort or a broken promise is a finding.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::dataset::{ImportLimits, hostile};
use crate::imaging::{DecodeLimits, Fit, ImagingError, Prepared, Preprocess, declared_pixels, decode, prepare};
use crate::nn::pretrained::{SafeTensorsFile, import};
use crate::nn::pth::StateDict;

/// Takes any bytes and returns.
pub type Target = fn(&[u8]);

/// Every target by name, as `fuzz/corpus` names them.
pub const TARGETS: [(&str, Target); 7] = [
    ("image", image),
    ("sheet", sheet),
    ("archive", archive),
    ("cursor", cursor),
    ("predict_json", predict_json),
    ("safetensors", safetensors),
    ("pth", pth),
];

/// Small enough that a finding is a fault and not a large picture.
const LIMITS: DecodeLimits = DecodeLimits { max_bytes: 1 << 20, max_side: 2048, max_pixels: 1 << 20 };

/// Decodes, whole and for a small square; what was decoded is as large as its header declared.
pub fn image(bytes: &[u8]) {
    match decode(bytes, &LIMITS) {
        Ok(image) => {
            let pixels = u64::from(image.width()) * u64::from(image.height());
            assert!(pixels <= LIMITS.max_pixels);
            assert_eq!(declared_pixels(bytes), pixels, "a request's sum of pixels would miss this picture");
            // By the way that imports and predictions take, too, which decodes a large JPEG at a fraction of its size.
            // To look for a face takes long: in one picture of sixteen.
            let looked = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) % 16 == 0;
            for fit in [Fit::Crop, if looked { Fit::Face } else { Fit::Stretch }] {
                let Prepared { pixels, size, .. } = prepare(bytes, &LIMITS, &Preprocess { size: 16, fit })
                    .expect("a picture that can be decoded can be prepared");
                assert_eq!((pixels.len(), size), (16 * 16 * 3, image.dimensions()));
            }
        }
        // The decoder's panics are contained; here they are findings to report upstream.
        Err(ImagingError::Corrupt(reason)) => assert!(!reason.contains("panicked"), "{reason}"),
        Err(_) => {}
    }
}

/// Reads a CSV or XLSX sheet.
pub fn sheet(bytes: &[u8]) {
    if let Ok((columns, rows)) = hostile::sheet(bytes) {
        assert!(columns > 0 && columns <= 1024 && rows > 0);
    }
}

/// Reads a ZIP and inflates all of it; never more than its directory declares.
pub fn archive(bytes: &[u8]) {
    let limits = ImportLimits { max_inflated: 64 << 20, image: LIMITS, ..ImportLimits::default() };
    let inflated = with_file(bytes, |path| hostile::archive(path, &limits));
    assert!(inflated.unwrap_or(0) <= limits.max_inflated);
}

/// Reads a cursor; one that is taken is written back in one way only.
pub fn cursor(bytes: &[u8]) {
    crate::api::read_cursor(&String::from_utf8_lossy(bytes));
}

/// Reads a `POST /predict` with JSON; each image is bytes or its own problem.
pub fn predict_json(bytes: &[u8]) {
    crate::api::read_predict_json(bytes);
}

/// Imports a safetensors file as weights of a small network.
pub fn safetensors(bytes: &[u8]) {
    with_file(bytes, |path| {
        let target = NamedTempFile::new().expect("a temporary file can be made");
        let _refused = SafeTensorsFile::open(path).and_then(|mut file| import(&mut file, "wrn-10-1", target.path()));
    });
}

/// Imports a PyTorch file as weights of a small network.
pub fn pth(bytes: &[u8]) {
    with_file(bytes, |path| {
        let target = NamedTempFile::new().expect("a temporary file can be made");
        let _refused = StateDict::open(path).and_then(|mut file| import(&mut file, "wrn-10-1", target.path()));
    });
}

fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let mut file = NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(bytes).expect("a temporary file can be written");
    read(file.path())
}
