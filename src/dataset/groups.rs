//! Which samples belong together: rows of one person (the group column), and near duplicates.
//!
//! A group is what must not be on both sides of a split: what is learned of one of its images answers for
//! the others.

use std::collections::{BTreeMap, HashMap};

use super::labels::same_column;
use super::manifest::Sample;

/// The value of the group column in a sample's row, however the column is written in its sheet.
pub(super) fn value<'a>(sample: &'a Sample, column: &str) -> Option<&'a str> {
    cell(&sample.attributes, column)
}

/// The same of a row's further cells.
pub(super) fn cell<'a>(attributes: &'a BTreeMap<String, String>, column: &str) -> Option<&'a str> {
    attributes.iter().find(|(name, _)| same_column(name, column)).map(|(_, value)| value.as_str())
}

/// Numbers the groups of two samples or more, in the order of their first ones. `copies` are samples of which another row was dropped as
/// the same picture, and what the column says in that row: the picture is of both. `pairs` are samples that belong together whatever the
/// column says.
pub(super) fn assign(
    samples: &mut [Sample],
    column: Option<&str>,
    copies: &[(u32, &str)],
    pairs: impl Iterator<Item = (u32, u32)>,
) {
    let mut forest = Forest::new(samples.len());
    if let Some(column) = column {
        let mut firsts: HashMap<&str, u32> = HashMap::new();
        let kept = (0..).zip(samples.iter()).filter_map(|(index, sample)| Some((index, value(sample, column)?)));
        for (index, value) in kept.chain(copies.iter().copied()) {
            let first = *firsts.entry(value).or_insert(index);
            forest.join(first, index);
        }
    }
    pairs.for_each(|(a, b)| forest.join(a, b));
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    for (sample, (root, size)) in samples.iter_mut().zip(forest.sets()) {
        let next = numbers.len() as u32;
        sample.group = (size > 1).then(|| *numbers.entry(root).or_insert(next));
    }
}

/// Disjoint sets of indices.
pub(super) struct Forest {
    parents: Vec<u32>,
}

impl Forest {
    /// `len` sets of one.
    pub fn new(len: usize) -> Self {
        Self { parents: (0..len as u32).collect() }
    }

    /// Each index's set, by its smallest member, and that set's size.
    pub fn sets(mut self) -> Vec<(u32, usize)> {
        let roots: Vec<u32> = (0..self.parents.len() as u32).map(|index| self.root(index)).collect();
        let mut sizes = vec![0; roots.len()];
        roots.iter().for_each(|root| sizes[*root as usize] += 1);
        roots.into_iter().map(|root| (root, sizes[root as usize])).collect()
    }

    fn root(&mut self, mut index: u32) -> u32 {
        while self.parents[index as usize] != index {
            let above = self.parents[self.parents[index as usize] as usize];
            self.parents[index as usize] = above;
            index = above;
        }
        index
    }

    /// Makes one set of two.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Role;
    use super::*;

    fn groups(people: &[&str], column: Option<&str>, pairs: &[(u32, u32)]) -> Vec<Option<u32>> {
        groups_with(people, column, &[], pairs)
    }

    fn groups_with(
        people: &[&str],
        column: Option<&str>,
        copies: &[(u32, &str)],
        pairs: &[(u32, u32)],
    ) -> Vec<Option<u32>> {
        let sample = |person: &&str| Sample {
            image: String::new(),
            entry: 0,
            label: None,
            split: Role::Train,
            picked: false,
            group: None,
            attributes: BTreeMap::from_iter((!person.is_empty()).then(|| ("Person".to_owned(), (*person).to_owned()))),
        };
        let mut samples: Vec<Sample> = people.iter().map(sample).collect();
        assign(&mut samples, column, copies, pairs.iter().copied());
        samples.iter().map(|sample| sample.group).collect()
    }

    #[test]
    fn people_and_likenesses_make_groups_and_those_alone_have_none() {
        let people = ["anna", "bert", "anna", "", "", "cleo"];
        assert_eq!(groups(&people, Some("person"), &[]), [Some(0), None, Some(0), None, None, None]);
        assert_eq!(groups(&people, None, &[(3, 4)]), [None, None, None, Some(0), Some(0), None]);
        // Bert looks like one of Anna's pictures: all three are one group.
        assert_eq!(
            groups(&people, Some("person"), &[(1, 2), (4, 5)]),
            [0, 0, 0, 9, 1, 1].map(|g| (g < 9).then_some(g))
        );
    }

    #[test]
    fn a_picture_that_two_rows_had_belongs_to_the_people_of_both() {
        let people = ["anna", "anna", "bert", "cleo", "", "dora"];
        let of = |copies: &[(u32, &str)]| groups_with(&people, Some("person"), copies, &[]);
        assert_eq!(of(&[(0, "bert")]), [Some(0), Some(0), Some(0), None, None, None]);
        // Nothing is kept of Emil but what others have.
        assert_eq!(of(&[(2, "emil"), (4, "emil")]), [Some(0), Some(0), Some(1), None, Some(1), None]);
        assert_eq!(of(&[(0, "anna"), (3, "emil")]), [Some(0), Some(0), None, None, None, None]);
    }
}
