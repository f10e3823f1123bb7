//! Which rows validate: whole groups, in the order that the seed drew.

use std::collections::{BTreeMap, BTreeSet};

use super::{sizes, validation_shares};
use crate::dataset::error::SplitError;
use crate::dataset::manifest::Manifest;

/// What is held out together: the labelled training rows of a group, in order, or a row alone.
struct Units<'a> {
    manifest: &'a Manifest,
    groups: BTreeMap<u32, Vec<u32>>,
}

impl<'a> Units<'a> {
    fn new(manifest: &'a Manifest, by_class: &[Vec<u32>]) -> Self {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut rows: Vec<u32> = by_class.iter().flatten().copied().collect();
        rows.sort_unstable();
        for row in rows {
            if let Some(group) = manifest.samples[row as usize].group {
                groups.entry(group).or_default().push(row);
            }
        }
        Self { manifest, groups }
    }

    /// The rows that are held out with `row`, and it.
    fn of<'b>(&'b self, row: &'b u32) -> &'b [u32] {
        let group = self.manifest.samples[*row as usize].group.and_then(|group| self.groups.get(&group));
        group.map_or(std::slice::from_ref(row), Vec::as_slice)
    }

    /// How many rows of each class a unit has.
    fn counts(&self, unit: &[u32]) -> BTreeMap<usize, usize> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for label in unit.iter().filter_map(|&row| self.manifest.samples[row as usize].label) {
            *counts.entry(label as usize).or_default() += 1;
        }
        counts
    }
}

/// Takes whole groups, `count` rows or the nearest number below, shares by class as they stand, at least one of
/// each and never the last; where groups are so large that less than a quarter of a class's share would be held out, more than the number.
/// Without groups these are the first rows of each class.
///
/// A unit's rows are counted once and not once for each of them: that would be the square of a large group.
pub(super) fn take_validation(
    manifest: &Manifest,
    by_class: &mut [Vec<u32>],
    count: usize,
) -> Result<Vec<u32>, SplitError> {
    let sizes = sizes(by_class);
    let targets = validation_shares(&sizes, count)?;
    let units = Units::new(manifest, by_class);
    let mut taken: Vec<usize> = vec![0; targets.len()];
    let mut validation: Vec<u32> = Vec::new();
    for (class, rows) in by_class.iter().enumerate() {
        for row in rows {
            if taken[class] == targets[class] {
                break;
            }
            let unit = units.of(row);
            // A group is met at its first row alone: met at any, the largest groups would be the likeliest.
            if unit[0] != *row {
                continue;
            }
            let counts = units.counts(unit);
            if counts.iter().all(|(&class, count)| taken[class] + count <= targets[class]) {
                counts.into_iter().for_each(|(class, count)| taken[class] += count);
                validation.extend(unit);
            }
        }
    }
    // Where the groups of a class are larger than its share, the smallest go: one at least, and others while less than a quarter of the
    // share is taken and they bring it nearer, by the ratio: a handful of images chooses no epoch.
    for class in 0..targets.len() {
        while taken[class] * 4 < targets[class].max(1) {
            let all_have_more = taken.iter().zip(&sizes).all(|(taken, size)| taken < size);
            let leaves_all = |unit: &&[u32]| {
                all_have_more && units.counts(unit).iter().all(|(&class, count)| taken[class] + count < sizes[class])
            };
            // Of its other classes, too.
            let nearer = |unit: &&[u32]| {
                taken[class] == 0
                    || units.counts(unit).into_iter().all(|(class, count)| {
                        let with = taken[class] + count;
                        with <= targets[class] || with * taken[class] < targets[class].pow(2)
                    })
            };
            let mut met: BTreeSet<u32> = validation.iter().copied().collect();
            let distinct = by_class[class].iter().map(|row| units.of(row)).filter(|unit| met.insert(unit[0]));
            let Some(smallest) = distinct.filter(leaves_all).filter(nearer).min_by_key(|unit| unit.len()) else {
                break;
            };
            units.counts(smallest).into_iter().for_each(|(class, count)| taken[class] += count);
            validation.extend(smallest);
        }
        if taken[class] == 0 {
            return Err(SplitError::OneGroup(format!(
                "all labelled images of class {:?} belong to one group (a person, or near duplicates), which cannot be both \
                 trained on and validated with; label images of other groups",
                manifest.classes[class]
            )));
        }
    }
    let held_out: BTreeSet<u32> = validation.iter().copied().collect();
    by_class.iter_mut().for_each(|rows| rows.retain(|row| !held_out.contains(row)));
    Ok(validation)
}

#[cfg(test)]
mod tests {
    use super::super::tests::manifest;
    use super::*;
    use proptest::prelude::*;

    /// The same, row by row and without a thought for what it costs.
    fn plainly(manifest: &Manifest, by_class: &[Vec<u32>], count: usize) -> Result<Vec<u32>, SplitError> {
        let targets = validation_shares(&sizes(by_class), count)?;
        let group = |row: u32| manifest.samples[row as usize].group;
        let unit = |row: u32| {
            let mut rows: Vec<u32> = by_class.iter().flatten().copied().collect();
            rows.retain(|&other| other == row || group(row).is_some() && group(other) == group(row));
            rows.sort_unstable();
            rows
        };
        let with = |taken: &[usize], unit: &[u32]| {
            let mut next = taken.to_vec();
            unit.iter().for_each(|&row| next[manifest.samples[row as usize].label.unwrap() as usize] += 1);
            next
        };
        let (mut taken, mut validation) = (vec![0; targets.len()], Vec::new());
        for (class, rows) in by_class.iter().enumerate() {
            for &row in rows {
                let next = with(&taken, &unit(row));
                let fits = next.iter().zip(&targets).all(|(next, target)| next <= target);
                if taken[class] < targets[class] && unit(row)[0] == row && fits {
                    taken = next;
                    validation.extend(unit(row));
                }
            }
        }
        for class in 0..targets.len() {
            loop {
                let (now, target) = (taken[class], targets[class]);
                if now * 4 >= target.max(1) {
                    break;
                }
                let units = by_class[class].iter().filter(|row| !validation.contains(row)).map(|&row| unit(row));
                let leaves_all =
                    |unit: &Vec<u32>| with(&taken, unit).iter().zip(by_class).all(|(next, rows)| *next < rows.len());
                let nearer = |unit: &Vec<u32>| {
                    let next = with(&taken, unit);
                    now == 0
                        || (0..taken.len()).all(|c| {
                            next[c] == taken[c] || next[c] <= targets[c] || next[c] * taken[c] < targets[c] * targets[c]
                        })
                };
                let Some(smallest) = units.filter(leaves_all).filter(nearer).min_by_key(Vec::len) else { break };
                taken = with(&taken, &smallest);
                validation.extend(smallest);
            }
            if taken[class] == 0 {
                return Err(SplitError::OneGroup("one group".to_owned()));
            }
        }
        Ok(validation)
    }

    proptest! {
        #[test]
        fn the_rows_and_their_order_are_those_of_the_plain_way(
            sizes in prop::collection::vec(1usize..30, 2..5), count in 2usize..40,
            groups in prop::collection::vec(prop::option::weighted(0.7, 0u32..12), 120),
            order in Just((0u32..120).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut manifest = manifest(&sizes, 0, 0);
            for (sample, group) in manifest.samples.iter_mut().zip(&groups) {
                sample.group = *group;
            }
            let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); sizes.len()];
            for row in order.into_iter().filter(|row| (*row as usize) < manifest.samples.len()) {
                by_class[manifest.samples[row as usize].label.unwrap() as usize].push(row);
            }
            let expected = plainly(&manifest, &by_class, count);
            let found = take_validation(&manifest, &mut by_class, count);
            prop_assert_eq!(found.ok(), expected.ok());
        }
    }

    #[test]
    fn a_few_large_groups_are_quickly_judged() {
        // 100,000 rows in 5 groups: counted for each row, they were 2·10⁹ steps.
        let mut manifest = manifest(&[50_000, 50_000], 0, 0);
        let groups = [(0, 30_000), (1, 20_000), (2, 20_000), (3, 18_000), (4, 12_000)];
        let groups = groups.into_iter().flat_map(|(group, rows)| vec![group; rows]);
        manifest.samples.iter_mut().zip(groups).for_each(|(sample, group)| sample.group = Some(group));
        let mut by_class: Vec<Vec<u32>> = vec![(0..50_000).collect(), (50_000..100_000).collect()];
        let validation = take_validation(&manifest, &mut by_class, 1000).unwrap();
        // The smallest of each class: each is larger than its share.
        assert_eq!(validation, (30_000..50_000).chain(88_000..100_000).collect::<Vec<u32>>());
        assert_eq!(by_class[1], (50_000..88_000).collect::<Vec<u32>>());
    }

    #[test]
    fn a_further_group_does_not_validate_where_it_brings_another_class_far_beyond_its_share() {
        // Ten of each class are due. Of the first class two are a group, ten are, and so are all others.
        let held_out = |of_second_class: usize| {
            let mut manifest = manifest(&[100, 100], 0, 0);
            for (group, rows) in [(0, 0..2), (1, 2..12), (2, 12..100), (1, 100..100 + of_second_class)] {
                manifest.samples[rows].iter_mut().for_each(|sample| sample.group = Some(group));
            }
            let mut by_class: Vec<Vec<u32>> = vec![(0..100).collect(), (100..200).collect()];
            take_validation(&manifest, &mut by_class, 20).unwrap()
        };
        assert_eq!(
            held_out(0),
            (0..2).chain(100..110).chain(2..12).collect::<Vec<u32>>(),
            "twelve are nearer than two"
        );
        assert_eq!(
            held_out(40),
            (0..2).chain(140..150).collect::<Vec<u32>>(),
            "and not with fifty of the second class"
        );
    }
}
