//! Whether a validation split has the images of each class that it should.

use super::{Split, SplitSpec};
use crate::dataset::manifest::{Manifest, Role, Sample};
use crate::dataset::report::Warning;

/// What is to be known of a validation split whose classes have other numbers of images than they should: groups are too large for it.
pub fn odd_validation(manifest: &Manifest, split: &Split, spec: &SplitSpec) -> Option<Warning> {
    let count = |rows: &mut dyn Iterator<Item = &Sample>| {
        let mut counts = vec![0; manifest.classes.len()];
        rows.filter_map(|sample| sample.label).for_each(|label| counts[label as usize] += 1);
        counts
    };
    let drawn = manifest.samples.iter().filter(|sample| sample.split == Role::Train && !sample.picked);
    let drawn: Vec<usize> = count(&mut drawn.clone());
    let taken = count(&mut split.validation.iter().map(|&row| &manifest.samples[row as usize]));
    let all: usize = drawn.iter().sum();
    let held_out = spec.held_out(all, drawn.len());
    let due = |class: usize| held_out as f64 * drawn[class] as f64 / all.max(1) as f64;
    // Of a few images half or twice as many are rounding.
    let odd = |class: &usize| {
        let (taken, due) = (taken[*class] as f64, due(*class));
        (taken - due).abs() > 2.0 && (taken * 2.0 < due || taken > due * 2.0)
    };
    let class = (0..drawn.len()).find(odd)?;
    let detail = format!(
        "validation has {} images of {:?} and not {:.0}: rows of one group stay together, and there are too few groups of the right size; \
         what chooses the epoch is lopsided, so label images of more groups, or set validation to another share",
        taken[class],
        manifest.classes[class],
        due(class)
    );
    Some(Warning::new("odd_validation", detail))
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::super::tests::{manifest, spec};
    use super::*;

    #[test]
    fn a_validation_split_that_groups_make_lopsided_is_told() {
        let mut manifest = manifest(&[50, 50], 0, 0);
        let odd =
            |manifest: &Manifest| odd_validation(manifest, &split(manifest, &spec(None, 0)).unwrap(), &spec(None, 0));
        assert_eq!(odd(&manifest), None);
        // Of the second class two persons have all.
        manifest.samples.iter_mut().skip(50).enumerate().for_each(|(at, sample)| sample.group = Some(at as u32 / 25));
        let doubt = odd(&manifest).unwrap();
        assert!(doubt.detail.contains("25 images of \"1\" and not 10"), "{}", doubt.detail);
    }
}
