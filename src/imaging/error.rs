//! Why an image was not taken.

/// What is wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImagingError {
    /// No bytes at all.
    #[error("the image is empty")]
    Empty,
    /// More bytes than allowed.
    #[error(
        "the image has {bytes} bytes, allowed are {allowed}: save it smaller, or raise --max-pixels (MIXMATCH_MAX_PIXELS), half of which \
         are allowed as bytes where that is more"
    )]
    TooManyBytes {
        /// Its size.
        bytes: usize,
        /// The limit.
        allowed: usize,
    },
    /// Not a format that we take.
    #[error("{found}; JPEG, PNG and WebP are understood")]
    UnsupportedFormat {
        /// What it looks like.
        found: String,
    },
    /// More pixels than allowed, by its header.
    #[error(
        "the image is {width}×{height} pixels, allowed are {max_pixels} pixels (--max-pixels, MIXMATCH_MAX_PIXELS) and {max_side} a side"
    )]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limit on their product.
        max_pixels: u64,
        /// The limit on each.
        max_side: u32,
    },
    /// Several frames.
    #[error("the image is animated; send a single frame")]
    Animated,
    /// The end is missing.
    #[error("the image is truncated: its end is missing")]
    Truncated,
    /// The decoder refused it.
    #[error("the image cannot be decoded: {0}")]
    Corrupt(String),
}

impl ImagingError {
    /// What a decoder said, its first line: some decoders print whole structures.
    pub(super) fn corrupt(error: impl std::fmt::Display) -> Self {
        Self::Corrupt(error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    /// A stable snake_case word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_image",
            Self::TooManyBytes { .. } => "image_too_many_bytes",
            Self::UnsupportedFormat { .. } => "unsupported_image_format",
            Self::TooLarge { .. } => "image_too_large",
            Self::Animated => "animated_image",
            Self::Truncated => "truncated_image",
            Self::Corrupt(_) => "corrupt_image",
        }
    }
}
