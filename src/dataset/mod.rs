//! Data sets: import with its checks, the manifest, packed pixels, splits.
//!
//! A data set is one directory: `manifest.json` (what there is), `images.zip` (the uploaded bytes) and
//! `packed/` (pixels at one resolution each, memory-mapped, made when first needed). It is built beside its
//! place and moved there by one rename, so that half a data set is never seen. Blocking code on rayon's
//! threads; nothing here knows HTTP or SQL.

mod archive;
mod column_doubts;
mod columns;
mod confounding;
mod crop_style;
mod duplicates;
mod error;
pub mod faces;
mod groups;
pub(crate) mod hostile;
mod import;
mod labels;
mod left_out;
mod manifest;
mod near_duplicates;
mod originals;
mod pack;
mod perceptual_hash;
mod report;
mod rows;
mod sheet;
mod similar_groups;
mod split;
mod task;
mod unlisted;

pub use error::{DatasetError, ImportError, SplitError};
pub use import::{ImportLimits, ImportProgress, ImportRequest, Imported, import, import_while};
pub use labels::{EMPTY_CELL, same_column};
pub use manifest::{Manifest, Role, Sample};
pub use originals::files_among;
pub use pack::{PackedImages, read_images};
pub use report::{Counts, ImportReport, RejectedRow, Warning};
pub use split::{Split, SplitSpec, nothing_unlabelled, odd_validation, split, unused_picks};
pub use task::model_name;
pub use unlisted::Unlisted;

/// Name of the uploaded archive in a data set's directory.
pub const IMAGES_FILE: &str = "images.zip";

/// Name of the manifest in a data set's directory.
pub const MANIFEST_FILE: &str = "manifest.json";
