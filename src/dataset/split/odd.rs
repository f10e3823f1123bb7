//! What is to be known of a split beside its sizes: a validation split that has other images than it should, and labels without use.

use super::{Split, SplitSpec, validation_shares};
use crate::dataset::manifest::{Manifest, Role, Sample};
use crate::dataset::report::Warning;

/// What is to be known of a validation split whose classes have other numbers of images than they should: groups are too large for it, or
/// it is so small that one image of each class, which it has at least, takes the places of others.
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
    // What it would have without groups.
    let shares = validation_shares(&drawn, held_out).ok()?;
    // Of a few images half or twice as many are rounding.
    let odd = |taken: usize, due: f64| {
        let taken = taken as f64;
        (taken - due).abs() > 2.0 && (taken * 2.0 < due || taken > due * 2.0)
    };
    let of_groups = (0..drawn.len()).find(|&class| odd(taken[class], shares[class] as f64));
    let detail = if let Some(class) = of_groups {
        format!(
            "validation has {} images of {:?} and not {}: rows of one group stay together, and there are too few groups of the right \
             size; what chooses the epoch is lopsided, so label images of more groups, or set validation to another share",
            taken[class], manifest.classes[class], shares[class]
        )
    } else {
        let due = |class: usize| held_out as f64 * drawn[class] as f64 / all.max(1) as f64;
        let class = (0..drawn.len()).find(|&class| odd(shares[class], due(class)))?;
        let bound = all as f64 * spec.validation > spec.validation_max as f64;
        format!(
            "validation has {} images of {:?} and not {:.0}: each of the {} classes needs one at least, and of few images that takes the \
             places of large classes; what chooses the epoch is lopsided, so raise {}",
            shares[class],
            manifest.classes[class],
            due(class),
            drawn.len(),
            if bound { "validation_max" } else { "validation" }
        )
    };
    Some(Warning::new("odd_validation", detail))
}

/// Labels that somebody picked to be trained on, and that a run does not train on, as it asks for no more labels than chance drew.
pub fn unused_picks(manifest: &Manifest, split: &Split) -> Option<Warning> {
    let is_picked = |row: &&u32| manifest.samples[**row as usize].picked;
    // Those that may train: the labelled ones among all that the run learns from.
    let labelled = |row: &&u32| manifest.samples[**row as usize].label.is_some();
    let there = split.unlabelled.iter().filter(is_picked).filter(labelled).count();
    let used = split.labelled.iter().filter(is_picked).count();
    if used == there {
        return None;
    }
    let all = split.unlabelled.iter().filter(labelled).count();
    let detail = format!(
        "{there} labels of picked images are there and {used} of them are trained on, as labelled is {} and the {} images that chance drew come \
         first; to train on all set labelled to {all}, or leave it out",
        split.labelled.len(),
        all - there,
    );
    Some(Warning::new("unused_picks", detail))
}

/// That a run learns from no image besides the labelled ones: MixMatch is then little more than supervised training. Where there are
/// others, all of them are left out.
pub fn nothing_unlabelled(manifest: &Manifest, split: &Split) -> Option<Warning> {
    if split.unlabelled.len() > split.labelled.len() {
        return None;
    }
    let mend = match manifest.counts().unlabelled {
        0 => "import the other images too (unlisted=unlabelled, or rows with an empty label)".to_owned(),
        left_out => format!(
            "{left_out} images without a label are left out as they share a validation image's group; leave the cells of the group \
             column empty where the group is not known, import images of other groups"
        ),
    };
    let detail = format!(
        "no image is learned from besides the labelled ones, so MixMatch has nothing to guess: {mend}, or set labelled below the number \
         of labels"
    );
    Some(Warning::new("nothing_unlabelled", detail))
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::super::tests::{manifest, spec};
    use super::*;

    #[test]
    fn that_there_is_no_image_but_the_labelled_ones_is_told() {
        let told = |unlabelled, labelled| {
            let manifest = manifest(&[20, 20], unlabelled, 5);
            let split = split(&manifest, &spec(labelled, 0)).unwrap();
            nothing_unlabelled(&manifest, &split).map(|doubt| doubt.code)
        };
        assert_eq!(told(0, None).as_deref(), Some("nothing_unlabelled"));
        assert_eq!((told(1, None), told(0, Some(30))), (None, None));
    }

    #[test]
    fn that_all_others_are_left_out_for_their_group_is_told_as_the_reason() {
        let mut manifest = manifest(&[20, 20], 10, 5);
        let told = |manifest: &Manifest, labelled| {
            let split = split(manifest, &spec(labelled, 0)).unwrap();
            nothing_unlabelled(manifest, &split).map(|doubt| doubt.detail)
        };
        // A group of one labelled image is drawn as that image is.
        let row = split(&manifest, &spec(None, 0)).unwrap().validation[0] as usize;
        manifest.samples[row].group = Some(0);
        manifest.samples[40..50].iter_mut().for_each(|sample| sample.group = Some(0));
        let left_out = told(&manifest, None).unwrap();
        let why = "10 images without a label are left out as they share a validation image's group";
        assert!(left_out.contains(why) && !left_out.contains("unlisted"), "{left_out}");
        assert_eq!(told(&manifest, Some(30)), None);
        manifest.samples[49].group = None;
        assert_eq!(told(&manifest, None), None, "one is learned from");
    }

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

    #[test]
    fn picked_images_change_nothing_of_what_validation_should_have() {
        // Of the second class 50 were drawn, and 100 picked: these do not validate.
        let mut manifest = manifest(&[50, 150], 0, 0);
        manifest.samples.iter_mut().skip(100).for_each(|sample| sample.picked = true);
        let odd =
            |manifest: &Manifest| odd_validation(manifest, &split(manifest, &spec(None, 0)).unwrap(), &spec(None, 0));
        assert_eq!(odd(&manifest), None);
        let drawn = manifest.samples[50..100].iter_mut().enumerate();
        drawn.for_each(|(at, sample)| sample.group = Some(at as u32 / 25));
        let doubt = odd(&manifest).unwrap();
        assert!(doubt.detail.starts_with("validation has 25 images of \"1\" and not 10:"), "{}", doubt.detail);
    }

    #[test]
    fn many_small_classes_are_no_groups() {
        let manifest = manifest(&[[2usize; 99].as_slice(), &[500]].concat(), 0, 0);
        let told = |validation, validation_max| {
            let spec = SplitSpec { validation, validation_max, ..spec(None, 0) };
            odd_validation(&manifest, &split(&manifest, &spec).unwrap(), &spec).map(|doubt| doubt.detail)
        };
        let so = "validation has 41 images of \"99\" and not 100: each of the 100 classes needs one at least";
        for (validation, max, raise) in [(0.2, 1000, "raise validation"), (0.5, 140, "raise validation_max")] {
            let told = told(validation, max).unwrap();
            assert!(told.starts_with(so) && told.ends_with(raise) && !told.contains("group"), "{told}");
        }
        assert_eq!(told(0.5, 1000), None);
    }

    #[test]
    fn labels_that_were_picked_for_nothing_are_told() {
        let mut manifest = manifest(&[50, 50], 20, 0);
        let told = |manifest: &Manifest, labelled| {
            unused_picks(manifest, &split(manifest, &spec(labelled, 0)).unwrap()).map(|told| told.detail)
        };
        assert_eq!(told(&manifest, Some(10)), None, "none was picked");
        manifest.samples.iter_mut().take(110).step_by(10).for_each(|sample| sample.picked = true);
        // Ten with a label and one without; of the 90 others a fifth validates.
        assert_eq!((told(&manifest, None), told(&manifest, Some(82))), (None, None));
        for (labelled, used) in [(40, 0), (72, 0), (75, 3)] {
            let told = told(&manifest, Some(labelled)).unwrap();
            assert!(told.starts_with(&format!("10 labels of picked images are there and {used} of them")), "{told}");
            assert!(told.contains(&format!("labelled is {labelled} and the 72 images")), "{told}");
            assert!(told.contains("set labelled to 82"), "{told}");
        }
    }
}
