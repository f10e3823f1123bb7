//! Which samples train with their label, without it, choose the epoch, and are tested on.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::error::DatasetError;
use super::manifest::{Manifest, Role};

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitSpec {
    /// Labels to train with; none takes every labelled training row outside validation.
    pub labelled: Option<usize>,
    /// Share of the labelled training rows that is held out for validation.
    pub validation: f64,
    /// Upper bound of the validation split.
    pub validation_max: usize,
    /// Same seed, same split.
    pub seed: u64,
}

/// Indices into the manifest's samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Trained on with their label; stratified, shuffled.
    pub labelled: Vec<u32>,
    /// Trained on without a label: every training row outside validation, the labelled ones too, as the
    /// authors' code does.
    pub unlabelled: Vec<u32>,
    /// Held out to choose the best epoch; stratified.
    pub validation: Vec<u32>,
    /// Rows of the test sheet.
    pub test: Vec<u32>,
}

/// Splits a data set; deterministic in the seed.
///
/// # Errors
/// When there are not enough labels for the split asked for.
pub fn split(manifest: &Manifest, spec: &SplitSpec) -> Result<Split, DatasetError> {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); manifest.classes.len()];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, sample) in manifest.samples.iter().enumerate() {
        let index = index as u32;
        match (sample.split, sample.label) {
            (Role::Test, _) => test.push(index),
            (Role::Train, label) => {
                train.push(index);
                if let Some(rows) = label.and_then(|label| by_class.get_mut(label as usize)) {
                    rows.push(index);
                }
            }
        }
    }
    for rows in &mut by_class {
        rows.shuffle(&mut rng);
    }
    let available: usize = by_class.iter().map(Vec::len).sum();
    let held_out = ((available as f64 * spec.validation).ceil() as usize).min(spec.validation_max);
    let validation = take_stratified(&mut by_class, held_out, "validation")?;
    let left: usize = by_class.iter().map(Vec::len).sum();
    let mut labelled = take_stratified(&mut by_class, spec.labelled.unwrap_or(left), "training")?;
    labelled.shuffle(&mut rng);
    let mut is_validation = vec![false; manifest.samples.len()];
    for &row in &validation {
        is_validation[row as usize] = true;
    }
    let unlabelled = train.into_iter().filter(|&row| !is_validation[row as usize]).collect();
    Ok(Split { labelled, unlabelled, validation, test })
}

/// Takes `count` rows, shares by class as they stand, at least one of each.
fn take_stratified(by_class: &mut [Vec<u32>], count: usize, what: &str) -> Result<Vec<u32>, DatasetError> {
    let sizes: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let shares = shares(&sizes, count).ok_or_else(|| {
        let (have, classes) = (sizes.iter().sum::<usize>(), sizes.len());
        DatasetError::Split(format!(
            "{count} labels are wanted for {what}, {have} are left in {classes} classes (per class: {sizes:?}), and each \
             class needs one; label more images or ask for fewer"
        ))
    })?;
    Ok(by_class.iter_mut().zip(shares).flat_map(|(rows, share)| rows.drain(..share).collect::<Vec<_>>()).collect())
}

/// `count` divided in proportion to `sizes` by largest remainders, at least one each, never more than there
/// are; none where that is impossible.
fn shares(sizes: &[usize], count: usize) -> Option<Vec<usize>> {
    let total: usize = sizes.iter().sum();
    if count > total || count < sizes.len() || sizes.contains(&0) {
        return None;
    }
    let ideal = |size: usize| count as f64 * size as f64 / total as f64;
    let mut shares: Vec<usize> = sizes.iter().map(|&size| (ideal(size) as usize).clamp(1, size)).collect();
    while shares.iter().sum::<usize>() != count {
        let given: usize = shares.iter().sum();
        let missing = |class: usize| ideal(sizes[class]) - shares[class] as f64;
        let classes = 0..sizes.len();
        if given < count {
            let most = classes.filter(|&c| shares[c] < sizes[c]).max_by(|&a, &b| missing(a).total_cmp(&missing(b)))?;
            shares[most] += 1;
        } else {
            let least = classes.filter(|&c| shares[c] > 1).min_by(|&a, &b| missing(a).total_cmp(&missing(b)))?;
            shares[least] -= 1;
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Sample;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// `sizes[c]` labelled training rows of class c, then `unlabelled` ones, then `test` ones.
    fn manifest(sizes: &[usize], unlabelled: usize, test: usize) -> Manifest {
        let labels = sizes.iter().enumerate().flat_map(|(class, &n)| vec![Some(class as u32); n]);
        let rows = labels.map(|label| (label, Role::Train));
        let rows = rows.chain(vec![(None, Role::Train); unlabelled]).chain(vec![(Some(0), Role::Test); test]);
        let samples = rows.enumerate().map(|(index, (label, split))| Sample {
            image: index.to_string(),
            entry: index as u32,
            label,
            split,
            attributes: BTreeMap::new(),
        });
        Manifest {
            format_version: 1,
            task: "t".into(),
            classes: (0..sizes.len()).map(|c| c.to_string()).collect(),
            samples: samples.collect(),
            content_hash: String::new(),
        }
    }

    fn spec(labelled: Option<usize>, seed: u64) -> SplitSpec {
        SplitSpec { labelled, validation: 0.2, validation_max: 1000, seed }
    }

    proptest! {
        #[test]
        fn splits_are_disjoint_complete_and_stratified(
            sizes in prop::collection::vec(10usize..200, 2..6), unlabelled in 0usize..50, share in 0.2f64..0.7, seed in 0u64..99,
        ) {
            let manifest = manifest(&sizes, unlabelled, 7);
            let total: usize = sizes.iter().sum();
            let wanted = ((total as f64 * share) as usize).max(sizes.len());
            let split = split(&manifest, &spec(Some(wanted), seed)).unwrap();
            let set = |rows: &[u32]| rows.iter().copied().collect::<BTreeSet<u32>>();
            let (l, u, v) = (set(&split.labelled), set(&split.unlabelled), set(&split.validation));
            prop_assert_eq!(l.len(), wanted);
            prop_assert_eq!(v.len(), (total as f64 * 0.2).ceil() as usize);
            prop_assert!(l.is_disjoint(&v) && u.is_disjoint(&v) && l.is_subset(&u));
            prop_assert_eq!(u.len() + v.len(), total + unlabelled);
            prop_assert_eq!(split.test.len(), 7);
            for (class, &size) in sizes.iter().enumerate() {
                let got = split.labelled.iter().filter(|&&row| manifest.samples[row as usize].label == Some(class as u32)).count();
                let ideal = wanted as f64 * size as f64 / total as f64;
                prop_assert!(got >= 1 && (got as f64 - ideal).abs() < 2.0, "class {}: {} for {}", class, got, ideal);
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let manifest = manifest(&[100, 80], 0, 0);
        let of = |seed| split(&manifest, &spec(Some(40), seed)).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).labelled, of(2).labelled);
        assert_ne!(of(1).validation, of(2).validation);
    }

    #[test]
    fn without_a_number_all_labels_outside_validation_are_used() {
        let split = split(&manifest(&[60, 40], 30, 0), &spec(None, 0)).unwrap();
        assert_eq!((split.labelled.len(), split.validation.len(), split.unlabelled.len()), (80, 20, 110));
    }

    #[test]
    fn too_many_labels_is_an_error_that_counts() {
        let error = split(&manifest(&[30, 20], 0, 0), &spec(Some(41), 0)).unwrap_err().to_string();
        assert!(error.contains("41") && error.contains("40"), "{error}");
        assert!(split(&manifest(&[1, 1], 0, 0), &spec(None, 0)).is_err(), "one label each cannot be held out");
    }
}
