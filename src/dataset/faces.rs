//! In how many of a data set's photos a face was found, and whether that goes with the label: where `fit: face` cuts photos to
//! the face, those without one are learned from whole, and a network may learn that instead of the face.

use super::manifest::{Manifest, Sample};
use super::report::Warning;

/// The column that says of each image whether a face was found: test figures are told for both.
pub const COLUMN: &str = "face_found";

/// A share of images without a face from which it is a doubt.
const MANY: f64 = 0.05;

/// A difference between the classes' shares from which it is a doubt, beyond what chance makes of them.
const APART: f64 = 0.02;

/// Standard errors that a difference is beyond chance.
const BEYOND_CHANCE: f64 = 3.0;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faces {
    /// How many, in words.
    pub told: String,
    /// Doubts.
    pub warnings: Vec<Warning>,
}

/// Counts, and where faces were found in some images and not in others, writes into each sample's columns whether one was
/// (`found` in the order of the samples), unless the sheets have such a column themselves.
pub fn note(manifest: &mut Manifest, found: &[bool]) -> Faces {
    let (all, with) = (found.len(), found.iter().filter(|found| **found).count());
    let told = format!("a face was found in {with} of {all} images");
    let mut warnings = Vec::new();
    if ((all - with) as f64) > MANY * all as f64 {
        let detail = format!(
            "no face was found in {} of {all} images, and those are learned from whole: are they photos of one person each, \
             the face at least a tenth of the longer side?",
            all - with
        );
        warnings.push(Warning::new("faces_not_found", detail));
    }
    warnings.extend(by_class(manifest, found));
    let of_its_own = manifest.samples.iter().any(|sample| sample.attributes.contains_key(COLUMN));
    // One value alone compares nothing.
    if (1..all).contains(&with) && !of_its_own {
        for (sample, found) in manifest.samples.iter_mut().zip(found) {
            sample.attributes.insert(COLUMN.to_owned(), if *found { "yes" } else { "no" }.to_owned());
        }
    }
    Faces { told, warnings }
}

/// Whether a face is found more often in one class's images than in another's.
fn by_class(manifest: &Manifest, found: &[bool]) -> Option<Warning> {
    let mut counts = vec![(0_usize, 0_usize); manifest.classes.len()];
    let labelled = manifest.samples.iter().zip(found).filter_map(|(sample, found)| Some((class(sample)?, found)));
    for (class, found) in labelled {
        let count = counts.get_mut(class)?;
        count.0 += usize::from(*found);
        count.1 += 1;
    }
    let mut shares: Vec<(f64, usize, &String)> = counts
        .into_iter()
        .zip(&manifest.classes)
        .filter(|((_, all), _)| *all > 0)
        .map(|((with, all), name)| (with as f64 / all as f64, all, name))
        .collect();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (&(least, few, rare), &(most, many, common)) = (shares.first()?, shares.last()?);
    let chance = (least * (1.0 - least) / few as f64 + most * (1.0 - most) / many as f64).sqrt();
    (most - least > APART && most - least > BEYOND_CHANCE * chance).then(|| {
        let detail = format!(
            "a face was found in {:.1} % of the images of {rare:?} and in {:.1} % of {common:?}: whether one is found goes with the \
             label, and the figures for {COLUMN} = no show what that does",
            100.0 * least,
            100.0 * most
        );
        Warning::new("faces_by_class", detail)
    })
}

fn class(sample: &Sample) -> Option<usize> {
    sample.label.map(|label| label as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::manifest::Role;

    fn sample(label: Option<u32>) -> Sample {
        Sample {
            image: "a.jpg".into(),
            entry: 0,
            label,
            split: Role::Train,
            group: None,
            attributes: std::collections::BTreeMap::new(),
        }
    }

    /// `images[class]` images, of which `found[class]` have a face; and one unlabelled without.
    fn set(images: [usize; 2], faces: [usize; 2]) -> (Manifest, Vec<bool>) {
        let mut samples = vec![sample(None)];
        let mut found = vec![false];
        for class in 0..2 {
            samples.extend((0..images[class]).map(|_| sample(Some(class as u32))));
            found.extend((0..images[class]).map(|at| at < faces[class]));
        }
        let classes = vec!["mask".to_owned(), "no_mask".to_owned()];
        (Manifest { classes, samples, ..Manifest::default() }, found)
    }

    fn codes(images: [usize; 2], faces: [usize; 2]) -> Vec<String> {
        let (mut manifest, found) = set(images, faces);
        note(&mut manifest, &found).warnings.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn it_is_counted_and_each_image_says_it() {
        let (mut manifest, found) = set([10, 10], [9, 10]);
        assert_eq!(note(&mut manifest, &found).told, "a face was found in 19 of 21 images");
        let told: Vec<&str> = manifest.samples.iter().map(|sample| sample.attributes[COLUMN].as_str()).collect();
        assert_eq!((told[0], told[1], told[10], told[11]), ("no", "yes", "no", "yes"));
    }

    #[test]
    fn a_sheets_own_column_of_that_name_is_left_alone() {
        let (mut manifest, found) = set([2, 2], [2, 2]);
        manifest.samples[3].attributes.insert(COLUMN.to_owned(), "perhaps".to_owned());
        note(&mut manifest, &found);
        assert_eq!(manifest.samples[3].attributes[COLUMN], "perhaps");
        assert!(manifest.samples[1].attributes.is_empty());
    }

    #[test]
    fn few_faces_are_a_doubt_and_so_are_more_in_one_class_than_in_another() {
        assert_eq!(codes([500, 500], [495, 498]), Vec::<String>::new());
        assert_eq!(codes([500, 500], [400, 410]), ["faces_not_found"]);
        assert_eq!(codes([500, 500], [460, 500]), ["faces_by_class"]);
        assert_eq!(codes([500, 500], [100, 500]), ["faces_not_found", "faces_by_class"]);
        // A tenth apart, but of ten images each.
        assert_eq!(codes([10, 10], [10, 9]), ["faces_not_found"]);
    }
}
