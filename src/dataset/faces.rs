//! In how many of a data set's photos a face was found, and whether that goes with the label: where `fit: face` cuts photos to
//! the face, those without one are learned from whole, and a network may learn that instead of the face.

use super::labels::same_column;
use super::manifest::{Manifest, Role, Sample};
use super::report::Warning;
use crate::statistics::wilson;

/// The column that says of each image whether a face was found: test figures are told for both.
pub const COLUMN: &str = "face_found";

/// A share of images without a face from which it is a doubt.
const MANY: f64 = 0.05;

/// A difference between the classes' shares from which it is a doubt, where their intervals do not meet.
const APART: f64 = 0.02;

/// Images of a class without a face that are not chance, at least.
const NOT_CHANCE: u64 = 5;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faces {
    /// How many, in words.
    pub told: String,
    /// Doubts.
    pub warnings: Vec<Warning>,
}

/// Counts, and [writes the column](write_column) of all samples (`found` in their order).
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
    let rows: Vec<u32> = (0..).take(found.len().min(manifest.samples.len())).collect();
    write_column(manifest, &rows, found);
    Faces { told, warnings }
}

/// Writes into the columns of the samples `rows` whether a face was found in each (`found` in the order of the rows), where the test images
/// among them are of both kinds, and unless the sheets have such a column themselves.
pub fn write_column(manifest: &mut Manifest, rows: &[u32], found: &[bool]) {
    let of_its_own = |sample: &Sample| sample.attributes.keys().any(|name| same_column(name, COLUMN));
    let samples = &manifest.samples;
    let tested = || rows.iter().zip(found).filter(|(row, _)| samples[**row as usize].split == Role::Test);
    // One value alone compares nothing.
    let both = tested().any(|(_, found)| *found) && tested().any(|(_, found)| !found);
    if !both || samples.iter().any(of_its_own) {
        return;
    }
    for (&row, found) in rows.iter().zip(found) {
        let told = if *found { "yes" } else { "no" };
        manifest.samples[row as usize].attributes.insert(COLUMN.to_owned(), told.to_owned());
    }
}

/// Images of a class, and those of them in which a face was found.
struct Count<'a> {
    name: &'a str,
    all: u64,
    with: u64,
}

impl Count<'_> {
    fn share(&self) -> f64 {
        self.with as f64 / self.all as f64
    }
}

/// Whether a face is found more often in one class's images than in another's.
fn by_class(manifest: &Manifest, found: &[bool]) -> Option<Warning> {
    let mut counts: Vec<Count<'_>> = manifest.classes.iter().map(|name| Count { name, all: 0, with: 0 }).collect();
    for (sample, found) in manifest.samples.iter().zip(found) {
        if let Some(count) = sample.label.and_then(|label| counts.get_mut(label as usize)) {
            count.all += 1;
            count.with += u64::from(*found);
        }
    }
    counts.retain(|count| count.all > 0);
    let rare = counts.iter().min_by(|a, b| a.share().total_cmp(&b.share()))?;
    let common = counts.iter().max_by(|a, b| a.share().total_cmp(&b.share()))?;
    let beyond_chance = wilson(rare.with, rare.all)[1] < wilson(common.with, common.all)[0];
    let enough = rare.all - rare.with >= NOT_CHANCE && common.share() - rare.share() > APART;
    (beyond_chance && enough).then(|| {
        let detail = format!(
            "a face was found in {:.1} % of the images of {:?} and in {:.1} % of {:?}: whether one is found goes with the label, and \
             a network may learn that",
            100.0 * rare.share(),
            rare.name,
            100.0 * common.share(),
            common.name
        );
        Warning::new("faces_by_class", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: Option<u32>, split: Role) -> Sample {
        Sample {
            image: "a.jpg".into(),
            entry: 0,
            label,
            split,
            picked: false,
            group: None,
            attributes: std::collections::BTreeMap::new(),
        }
    }

    /// `images[class]` training images, of which `found[class]` have a face; behind them a test image with a face and, if wanted,
    /// one without.
    fn set(images: [usize; 2], faces: [usize; 2], tested_without: bool) -> (Manifest, Vec<bool>) {
        let (mut samples, mut found) = (Vec::new(), Vec::new());
        for class in 0..2 {
            samples.extend((0..images[class]).map(|_| sample(Some(class as u32), Role::Train)));
            found.extend((0..images[class]).map(|at| at < faces[class]));
        }
        samples.push(sample(None, Role::Test));
        found.push(true);
        if tested_without {
            samples.push(sample(None, Role::Test));
            found.push(false);
        }
        let classes = vec!["mask".to_owned(), "no_mask".to_owned()];
        (Manifest { classes, samples, ..Manifest::default() }, found)
    }

    fn codes(images: [usize; 2], faces: [usize; 2]) -> Vec<String> {
        let (mut manifest, found) = set(images, faces, false);
        note(&mut manifest, &found).warnings.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn it_is_counted_and_each_image_says_it_where_the_test_images_differ() {
        let (mut manifest, found) = set([10, 10], [9, 10], true);
        assert_eq!(note(&mut manifest, &found).told, "a face was found in 20 of 22 images");
        let told: Vec<&str> = manifest.samples.iter().map(|sample| sample.attributes[COLUMN].as_str()).collect();
        assert_eq!((told[0], told[9], told[20], told[21]), ("yes", "no", "yes", "no"));

        let (mut manifest, found) = set([10, 10], [9, 10], false);
        note(&mut manifest, &found);
        assert!(manifest.samples.iter().all(|sample| sample.attributes.is_empty()), "no test image is without");
    }

    #[test]
    fn of_the_test_images_alone_it_is_told_as_of_all() {
        let (mut manifest, found) = set([10, 10], [9, 10], true);
        let mut all = manifest.clone();
        note(&mut all, &found);
        write_column(&mut manifest, &[20, 21], &found[20..]);
        assert_eq!(manifest.samples[20..], all.samples[20..]);
        assert!(manifest.samples[..20].iter().all(|sample| sample.attributes.is_empty()));
    }

    #[test]
    fn a_sheets_own_column_of_that_name_is_left_alone() {
        let (mut manifest, found) = set([2, 2], [2, 2], true);
        manifest.samples[3].attributes.insert("Face_Found".to_owned(), "perhaps".to_owned());
        note(&mut manifest, &found);
        assert!(manifest.samples.iter().all(|sample| !sample.attributes.contains_key(COLUMN)));
    }

    #[test]
    fn few_faces_are_a_doubt_and_so_are_more_in_one_class_than_in_another() {
        assert_eq!(codes([500, 500], [495, 498]), Vec::<String>::new());
        assert_eq!(codes([500, 500], [400, 410]), ["faces_not_found"]);
        assert_eq!(codes([500, 500], [460, 500]), ["faces_by_class"]);
        assert_eq!(codes([500, 500], [100, 500]), ["faces_not_found", "faces_by_class"]);
        // One image of a class, or few of ten.
        assert_eq!(codes([1, 500], [0, 500]), Vec::<String>::new());
        assert_eq!(codes([10, 10], [10, 8]), ["faces_not_found"]);
        // Of very many, a difference that is surely there and too small to be learned from.
        assert_eq!(codes([5000, 5000], [4920, 5000]), Vec::<String>::new());
        assert_eq!(codes([5000, 5000], [4890, 5000]), ["faces_by_class"]);
    }
}
