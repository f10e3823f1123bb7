//! Which samples train with their label, without it, choose the epoch, and are tested on.

mod odd;
mod validation;

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::error::SplitError;
use super::manifest::{Manifest, Role};
pub use odd::{nothing_unlabelled, odd_validation, unused_picks};
use validation::take_validation;

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitSpec {
    /// Labels to train with: those of drawn images first, then of picked ones. None takes every labelled training row outside
    /// validation.
    pub labelled: Option<usize>,
    /// Share of the labelled training rows that is held out for validation.
    pub validation: f64,
    /// Upper bound of the validation split, but for one image of each class and whole groups that are larger.
    pub validation_max: usize,
    /// Same seed, same split.
    pub seed: u64,
}

impl SplitSpec {
    /// How many of `labelled` rows of `classes` classes are held out for validation: at least one of each class, and all but one at most.
    pub fn held_out(&self, labelled: usize, classes: usize) -> usize {
        // 100 · .07 is a little more than 7 in binary, and is 7 all the same.
        let share = ((labelled as f64 * self.validation - 1e-9).ceil() as usize).min(self.validation_max);
        share.min(labelled.saturating_sub(classes)).max(classes)
    }
}

/// Indices into the manifest's samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Trained on with their label, shuffled; those that were drawn are stratified.
    pub labelled: Vec<u32>,
    /// Trained on without a label: every training row outside validation and its groups, the labelled ones too, as
    /// the authors' code does.
    pub unlabelled: Vec<u32>,
    /// Held out to choose the best epoch; stratified, and whole groups alone.
    pub validation: Vec<u32>,
    /// Rows of the test sheet.
    pub test: Vec<u32>,
}

/// Splits a data set; deterministic in the seed.
///
/// What was picked ([`Sample::picked`](super::Sample::picked)) does not validate: a model was unsure of it, or somebody found it
/// interesting, and figures over such images are not of the images that the model will meet.
///
/// A group ([`Sample::group`](super::Sample::group)) is never both trained on and validated with. Validation then
/// has the number of images asked for or, where whole groups do not add up to it, the nearest number below; of a class whose groups
/// are larger than its share, the smallest validate all the same.
///
/// # Errors
/// When there are not enough labels for the split asked for.
pub fn split(manifest: &Manifest, spec: &SplitSpec) -> Result<Split, SplitError> {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); manifest.classes.len()];
    let (mut train, mut test, mut picked) = (Vec::new(), Vec::new(), Vec::new());
    for (index, sample) in manifest.samples.iter().enumerate() {
        let index = index as u32;
        match (sample.split, sample.label) {
            (Role::Test, _) => test.push(index),
            (Role::Train, label) => {
                train.push(index);
                if sample.picked && label.is_some() {
                    picked.push(index);
                } else if let Some(rows) = label.and_then(|label| by_class.get_mut(label as usize)) {
                    rows.push(index);
                }
            }
        }
    }
    for rows in &mut by_class {
        rows.shuffle(&mut rng);
    }
    if let Some(class) = by_class.iter().position(|rows| rows.len() < 2).filter(|_| !picked.is_empty()) {
        return Err(SplitError::TooFew(format!(
            "class {:?} has {} labels of images that were drawn, and needs two, one to train on and one to validate with; those that were \
             picked do not validate: label images of it that chance draws",
            manifest.classes[class],
            by_class[class].len()
        )));
    }
    let available: usize = by_class.iter().map(Vec::len).sum();
    let held_out = spec.held_out(available, by_class.len());
    let validation = take_validation(manifest, &mut by_class, held_out)?;
    let mut is_validation = vec![false; manifest.samples.len()];
    let mut groups = BTreeSet::new();
    for &row in &validation {
        is_validation[row as usize] = true;
        groups.extend(manifest.samples[row as usize].group);
    }
    // A row without a label may belong to a group that validates: it is not used at all.
    let of_validation = |row: u32| {
        is_validation[row as usize] || manifest.samples[row as usize].group.is_some_and(|group| groups.contains(&group))
    };
    let of_any_group = picked.len();
    picked.retain(|&row| !of_validation(row));
    let left: usize = by_class.iter().map(Vec::len).sum();
    let wanted = spec.labelled.unwrap_or(left + picked.len());
    if of_any_group > 0 && wanted > left + picked.len() {
        return Err(too_many(wanted, left, picked.len(), of_any_group - picked.len()));
    }
    // Where none was picked, more than was drawn is refused as that.
    let drawn = if of_any_group == 0 { wanted } else { wanted.min(left) };
    let mut labelled = take_stratified(&mut by_class, drawn)?;
    if drawn < wanted {
        picked.shuffle(&mut rng);
        labelled.extend(picked.drain(..wanted - drawn));
    }
    labelled.shuffle(&mut rng);
    let unlabelled = train.into_iter().filter(|&row| !of_validation(row)).collect();
    Ok(Split { labelled, unlabelled, validation, test })
}

/// Takes `count` rows to train with, shares by class as they stand, at least one of each.
fn take_stratified(by_class: &mut [Vec<u32>], count: usize) -> Result<Vec<u32>, SplitError> {
    let sizes = sizes(by_class);
    let shares = shares(&sizes, &sizes, count).ok_or_else(|| impossible(&sizes, count, "training"))?;
    Ok(by_class.iter_mut().zip(shares).flat_map(|(rows, share)| rows.drain(..share).collect::<Vec<_>>()).collect())
}

/// How many of `count` rows each class of these `sizes` holds out.
fn validation_shares(sizes: &[usize], count: usize) -> Result<Vec<usize>, SplitError> {
    shares(sizes, &most_held_out(sizes), count).ok_or_else(|| impossible(sizes, count, "validation"))
}

/// All rows of each class but one, which is left to train with.
fn most_held_out(sizes: &[usize]) -> Vec<usize> {
    sizes.iter().map(|&size| size.saturating_sub(1).max(1)).collect()
}

fn sizes(by_class: &[Vec<u32>]) -> Vec<usize> {
    by_class.iter().map(Vec::len).collect()
}

fn impossible(sizes: &[usize], count: usize, what: &str) -> SplitError {
    let (have, classes) = (sizes.iter().sum::<usize>(), sizes.len());
    let detail = format!(
        "{count} labels are wanted for {what}, {have} are left in {classes} classes (per class: {sizes:?}), and each class needs \
         one; label more images or ask for fewer"
    );
    if count > have { SplitError::TooMany(detail) } else { SplitError::TooFew(detail) }
}

/// More labels than are left, of `drawn` and of `picked` images; `held_back` are the picked ones that are kept out for their group.
fn too_many(wanted: usize, drawn: usize, picked: usize, held_back: usize) -> SplitError {
    let held_back = match held_back {
        0 => String::new(),
        count => format!(", and {count} other picked ones share the group of a validation image, and are not used"),
    };
    SplitError::TooMany(format!(
        "{wanted} labels are wanted for training, {} are left: {drawn} of images that were drawn and {picked} of picked ones{held_back}; \
         label more images or ask for fewer",
        drawn + picked
    ))
}

/// `count` divided in proportion to `sizes` by largest remainders, at least one each, never more than `most`, which is no more than
/// there are; none where that is impossible.
fn shares(sizes: &[usize], most: &[usize], count: usize) -> Option<Vec<usize>> {
    let total: usize = sizes.iter().sum();
    if count > most.iter().sum::<usize>() || count < sizes.len() || sizes.contains(&0) {
        return None;
    }
    let ideal = |size: usize| count as f64 * size as f64 / total as f64;
    let mut shares: Vec<usize> =
        sizes.iter().zip(most).map(|(&size, &most)| (ideal(size) as usize).clamp(1, most)).collect();
    while shares.iter().sum::<usize>() != count {
        let given: usize = shares.iter().sum();
        let missing = |class: usize| ideal(sizes[class]) - shares[class] as f64;
        let classes = 0..sizes.len();
        if given < count {
            let first = classes.filter(|&c| shares[c] < most[c]).max_by(|&a, &b| missing(a).total_cmp(&missing(b)))?;
            shares[first] += 1;
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
    use std::collections::BTreeMap;

    /// `sizes[c]` labelled training rows of class c, then `unlabelled` ones, then `test` ones.
    pub(super) fn manifest(sizes: &[usize], unlabelled: usize, test: usize) -> Manifest {
        let labels = sizes.iter().enumerate().flat_map(|(class, &n)| vec![Some(class as u32); n]);
        let rows = labels.map(|label| (label, Role::Train));
        let rows = rows.chain(vec![(None, Role::Train); unlabelled]).chain(vec![(Some(0), Role::Test); test]);
        let samples = rows.enumerate().map(|(index, (label, split))| Sample {
            image: index.to_string(),
            entry: index as u32,
            label,
            split,
            picked: false,
            group: None,
            attributes: BTreeMap::new(),
        });
        Manifest {
            format_version: 1,
            task: "t".into(),
            classes: (0..sizes.len()).map(|c| c.to_string()).collect(),
            samples: samples.collect(),
            ..Manifest::default()
        }
    }

    pub(super) fn spec(labelled: Option<usize>, seed: u64) -> SplitSpec {
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

    proptest! {
        #[test]
        fn whatever_share_validates_each_class_trains_with_an_image_and_validates_with_another(
            sizes in prop::collection::vec(2usize..120, 2..6), validation in 0.01f64..0.99, seed in 0u64..99,
        ) {
            let (manifest, spec) = (manifest(&sizes, 5, 3), SplitSpec { validation, ..spec(None, seed) });
            let total: usize = sizes.iter().sum();
            let cut = split(&manifest, &spec).unwrap();
            let held_out = spec.held_out(total, sizes.len());
            prop_assert_eq!((cut.validation.len(), cut.labelled.len()), (held_out, total - held_out));
            let wanted = SplitSpec { labelled: Some(total - held_out), ..spec };
            prop_assert_eq!(split(&manifest, &wanted).unwrap().labelled.len(), total - held_out);
            for class in 0..sizes.len() {
                let has = |rows: &[u32]| rows.iter().any(|&row| manifest.samples[row as usize].label == Some(class as u32));
                prop_assert!(has(&cut.validation) && has(&cut.labelled), "class {}: {:?}", class, cut);
            }
        }
    }

    #[test]
    fn chance_says_which_of_the_picked_labels_train() {
        let mut manifest = manifest(&[20, 20], 0, 0);
        manifest.samples[20..36].iter_mut().for_each(|sample| sample.picked = true);
        let picks = |seed| {
            let all = split(&manifest, &spec(None, seed)).unwrap().labelled.len();
            let some = split(&manifest, &spec(Some(all - 13), seed)).unwrap().labelled;
            let picked: BTreeSet<u32> = some.into_iter().filter(|row| (20..36).contains(row)).collect();
            assert_eq!(picked.len(), 3);
            picked
        };
        let met: BTreeSet<BTreeSet<u32>> = (0..8).map(picks).collect();
        assert!(met.len() > 4, "{met:?}");
    }

    #[test]
    fn a_share_that_is_a_whole_number_of_images_is_that_number() {
        let of = |labelled, validation| SplitSpec { validation, ..spec(None, 0) }.held_out(labelled, 2);
        assert_eq!([0.07, 0.28, 0.55, 0.2].map(|share| of(100, share)), [7, 28, 55, 20]);
        assert_eq!((of(101, 0.2), of(1000, 0.0071)), (21, 8), "parts of an image are one more");
    }

    #[test]
    fn a_small_class_keeps_an_image_to_train_on_where_nearly_all_are_held_out() {
        let of = |validation| {
            let manifest = manifest(&[2, 100], 0, 0);
            let cut = split(&manifest, &SplitSpec { validation, ..spec(None, 0) }).unwrap();
            let first = |rows: &[u32]| rows.iter().filter(|&&row| row < 2).count();
            [(cut.validation.len(), first(&cut.validation)), (cut.labelled.len(), first(&cut.labelled))]
        };
        assert_eq!(of(0.9), [(92, 1), (10, 1)]);
        assert_eq!(of(0.99), [(100, 1), (2, 1)]);
    }

    #[test]
    fn validation_has_one_image_of_each_class_however_few_are_asked_for() {
        let cut = split(&manifest(&[4; 10], 20, 0), &spec(None, 3)).unwrap();
        assert_eq!((cut.validation.len(), cut.labelled.len(), cut.unlabelled.len()), (10, 30, 50));
        let cut = split(&manifest(&[9, 9, 9], 0, 0), &SplitSpec { validation_max: 2, ..spec(None, 3) }).unwrap();
        assert_eq!((cut.validation.len(), cut.labelled.len()), (3, 24));
    }

    proptest! {
        #[test]
        fn no_group_is_trained_on_and_validated_with(
            sizes in prop::collection::vec(20usize..120, 2..4), unlabelled in 0usize..40,
            groups in prop::collection::vec(prop::option::weighted(0.6, 0u32..60), 420), seed in 0u64..99,
        ) {
            let mut manifest = manifest(&sizes, unlabelled, 5);
            for (sample, group) in manifest.samples.iter_mut().zip(&groups) {
                sample.group = *group;
            }
            let total: usize = sizes.iter().sum();
            let held_out = (total as f64 * 0.2).ceil() as usize;
            let spec = spec(Some(total - held_out), seed);
            let cut = split(&manifest, &spec).unwrap();
            // A group has ten rows at most, so that none is larger than a class's share and single rows fill up.
            prop_assert!(cut.validation.len() <= held_out && cut.validation.len() * 2 >= held_out, "{} of {}", cut.validation.len(), held_out);
            prop_assert_eq!(cut.labelled.len(), total - held_out, "the number of labels is kept to");
            let group = |rows: &[u32]| rows.iter().filter_map(|&row| manifest.samples[row as usize].group).collect::<BTreeSet<_>>();
            let validation = group(&cut.validation);
            prop_assert!(validation.is_disjoint(&group(&cut.labelled)) && validation.is_disjoint(&group(&cut.unlabelled)));
            let rows: BTreeSet<u32> = cut.validation.iter().copied().collect();
            prop_assert_eq!(rows.len(), cut.validation.len(), "no row twice");
            prop_assert!(cut.validation.iter().all(|&row| manifest.samples[row as usize].label.is_some()));
            for (class, size) in sizes.iter().enumerate() {
                let got = cut.validation.iter().filter(|&&row| manifest.samples[row as usize].label == Some(class as u32)).count();
                prop_assert!(got >= 1 && got as f64 <= (*size as f64 * 0.2).ceil() + 1.0, "class {}: {} of {}", class, got, size);
            }
            prop_assert_eq!(cut, split(&manifest, &spec).unwrap());
        }
    }

    #[test]
    fn groups_of_one_change_nothing() {
        let plain = manifest(&[100, 80], 10, 3);
        let mut numbered = plain.clone();
        numbered.samples.iter_mut().enumerate().for_each(|(index, sample)| sample.group = Some(index as u32));
        let spec = spec(Some(60), 4);
        assert_eq!(split(&plain, &spec).unwrap(), split(&numbered, &spec).unwrap());
    }

    #[test]
    fn large_groups_are_no_likelier_to_validate_than_single_images() {
        // Half of the images stand alone, half in groups of ten: over many seeds each half gives its share.
        let mut manifest = manifest(&[200, 200], 0, 0);
        manifest.samples.iter_mut().enumerate().filter(|(row, _)| row % 200 < 100).for_each(|(row, sample)| {
            sample.group = Some(row as u32 / 10);
        });
        let grouped = |seed| {
            let validation = split(&manifest, &spec(None, seed)).unwrap().validation;
            assert_eq!(validation.len(), 80);
            validation.iter().filter(|&&row| manifest.samples[row as usize].group.is_some()).count()
        };
        let mean = (0..200).map(grouped).sum::<usize>() as f64 / 200.0;
        // 40 would be their share; the last places can be filled by single images only, which makes it 34.
        assert!((31.0..44.0).contains(&mean), "{mean} of 80 validation images come from groups");
    }

    #[test]
    fn a_class_of_large_groups_still_has_validation_images_and_a_class_of_one_group_is_an_error() {
        let mut two = manifest(&[60, 40], 0, 0);
        two.samples.iter_mut().skip(60).for_each(|sample| sample.group = Some(1));
        two.samples.iter_mut().skip(75).for_each(|sample| sample.group = Some(2));
        let cut = split(&two, &spec(None, 0)).unwrap();
        let group =
            |rows: &[u32], wanted| rows.iter().filter(|&&row| two.samples[row as usize].group == Some(wanted)).count();
        assert_eq!((group(&cut.validation, 1), group(&cut.labelled, 1)), (15, 0), "the smaller of the two");
        assert_eq!((group(&cut.validation, 2), group(&cut.labelled, 2)), (0, 25));

        two.samples.iter_mut().skip(60).for_each(|sample| sample.group = Some(1));
        let error = split(&two, &spec(None, 0)).unwrap_err().to_string();
        assert!(error.contains("class \"1\" belong to one group"), "{error}");
    }

    #[test]
    fn a_few_rows_without_a_group_do_not_stand_for_a_class_of_large_groups() {
        // Two persons of 100 images in each class, and three images of nobody's.
        let mut manifest = manifest(&[203, 203], 0, 0);
        manifest.samples.iter_mut().enumerate().filter(|(row, _)| row % 203 < 200).for_each(|(row, sample)| {
            sample.group = Some(row as u32 / 203 * 2 + u32::from(row % 203 >= 100));
        });
        for seed in 0..5 {
            // A fifth are 82, 41 of each class: three are a fourteenth of that, with a person they are two and a half times.
            assert_eq!(split(&manifest, &spec(None, seed)).unwrap().validation.len(), 206);
            // Of 14, seven of each class, three are nearer.
            let few = SplitSpec { validation: 0.033, ..spec(None, seed) };
            assert_eq!(split(&manifest, &few).unwrap().validation.len(), 6);
        }
    }

    #[test]
    fn an_unlabelled_image_of_a_validation_group_is_not_used() {
        let mut manifest = manifest(&[20, 20], 10, 0);
        // Each unlabelled image belongs to the labelled one of the same place.
        (0..10).for_each(|at| {
            manifest.samples[at].group = Some(at as u32);
            manifest.samples[40 + at].group = Some(at as u32);
        });
        let cut = split(&manifest, &spec(None, 3)).unwrap();
        let held_out = cut.validation.iter().filter(|&&row| row < 10).count();
        assert!(held_out > 0, "seed 3 validates with none of them: choose another");
        assert_eq!(cut.unlabelled.len() + cut.validation.len(), 50 - held_out);
    }

    /// 60 drawn rows of two classes, and 40 that were picked, nearly all of the second.
    fn with_picked() -> Manifest {
        let mut manifest = manifest(&[33, 67], 10, 5);
        manifest.samples.iter_mut().take(100).skip(60).for_each(|sample| sample.picked = true);
        manifest.samples.iter_mut().take(3).for_each(|sample| sample.picked = true);
        manifest
    }

    #[test]
    fn picked_images_never_validate_and_train_after_the_drawn_ones() {
        let manifest = with_picked();
        let picked = |rows: &[u32]| rows.iter().filter(|&&row| manifest.samples[row as usize].picked).count();
        for seed in 0..20 {
            let cut = |labelled| split(&manifest, &spec(labelled, seed)).unwrap();
            let all = cut(None);
            // A fifth of the 57 that were drawn.
            assert_eq!((all.validation.len(), picked(&all.validation)), (12, 0));
            assert_eq!((all.labelled.len(), picked(&all.labelled)), (45 + 43, 43));
            assert_eq!(all.unlabelled.len() + 12, 110);
            for (labelled, expected) in [(20, 0), (45, 0), (46, 1), (80, 35)] {
                let cut = cut(Some(labelled));
                assert_eq!((cut.labelled.len(), picked(&cut.labelled)), (labelled, expected), "{labelled} labels");
                assert_eq!(cut.validation, all.validation);
            }
        }
        let error = split(&manifest, &spec(Some(89), 0)).unwrap_err().to_string();
        assert!(
            error.contains("89 labels are wanted for training, 88 are left: 45 of images that were drawn"),
            "{error}"
        );
        assert!(error.contains("43 of picked ones; label more"), "no group has any of them: {error}");
    }

    #[test]
    fn a_class_of_picked_images_alone_is_told_as_that() {
        let mut manifest = manifest(&[40, 31], 0, 0);
        manifest.samples.iter_mut().skip(41).for_each(|sample| sample.picked = true);
        let error = split(&manifest, &spec(None, 0)).unwrap_err().to_string();
        assert!(error.contains("class \"1\" has 1 labels of images that were drawn"), "{error}");
    }

    #[test]
    fn what_was_drawn_is_split_as_if_nothing_were_picked() {
        let manifest = with_picked();
        let mut before = manifest.clone();
        before.samples.iter_mut().filter(|sample| sample.picked).for_each(|sample| {
            sample.picked = false;
            sample.label = None;
        });
        let spec = spec(Some(30), 4);
        assert_eq!(split(&manifest, &spec).unwrap(), split(&before, &spec).unwrap());
    }

    #[test]
    fn a_picked_image_of_a_validation_group_is_not_used() {
        let mut manifest = with_picked();
        // Every picked image of the second class is a near duplicate of a drawn one.
        (60..100).for_each(|at: usize| {
            manifest.samples[at].group = Some(at as u32);
            manifest.samples[at - 40].group = Some(at as u32);
        });
        let cut = split(&manifest, &spec(None, 1)).unwrap();
        let groups =
            |rows: &[u32]| rows.iter().filter_map(|&row| manifest.samples[row as usize].group).collect::<BTreeSet<_>>();
        let held_out = groups(&cut.validation);
        assert!(!held_out.is_empty(), "seed 1 validates with none of them: choose another");
        assert!(held_out.is_disjoint(&groups(&cut.labelled)) && held_out.is_disjoint(&groups(&cut.unlabelled)));
        let most = 45 + 43 - held_out.len();
        assert_eq!(cut.labelled.len(), most);
        assert_eq!(split(&manifest, &spec(Some(most), 1)).unwrap().labelled.len(), most);
        for wanted in [most + 1, 88] {
            let error = split(&manifest, &spec(Some(wanted), 1)).unwrap_err().to_string();
            let told = format!("{wanted} labels are wanted for training, {most} are left");
            assert!(error.contains(&told), "{error}");
            assert!(error.contains(&format!("and {} other picked ones share the group", held_out.len())), "{error}");
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
