//! What stands in a job or a version and in none of a list, whose lines would grow with the classes and the sheet's columns.

use serde_json::Value;

use crate::store::{EPOCH_BY_CLASS, TEST_BY_CLASS};

/// Of the figures of an epoch.
pub(super) const OF_EPOCH: &[&[&str]] = &[EPOCH_BY_CLASS];

/// Of the figures of a test.
pub(super) const OF_TEST: &[&[&str]] = &[TEST_BY_CLASS, &["groups"]];

/// Takes it out of those figures of a job or a version that lie under this name.
pub(super) fn leave_out(fields: &[&[&str]], of: &mut Value, figures: &str) {
    if let Some(figures) = of.get_mut(figures).and_then(Value::as_object_mut) {
        figures.retain(|field, _| !fields.iter().any(|names| names.contains(&field.as_str())));
    }
}
