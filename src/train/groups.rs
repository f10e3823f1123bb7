//! For whom a model does well: figures by every column that the sheets have beside image and label.

use std::collections::BTreeMap;
use std::f64::consts::SQRT_2;

use super::event::{GroupAccuracy, GroupGap, SMALLEST_GROUP};
use super::metrics::Confusion;
use crate::dataset::{EMPTY_CELL, Manifest, same_column};
use crate::statistics::{Z_95, normal_above, wilson, wilson_within};

/// A column with more values is cut into bands if they are numbers, and else says nothing about groups.
const MOST_VALUES: usize = 20;

/// Bands of a column of many numbers: fifths of the images.
const BANDS: usize = 5;

/// Of so many cells in a column of numbers one may be none: `90+`, `n/k`.
const CELLS_PER_WORD: usize = 10;

/// What different cells that are no numbers are called together.
const NO_NUMBER: &str = "(no number)";

/// What was answered to some rows of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The data set.
    pub manifest: &'a Manifest,
    /// Indices of its samples.
    pub rows: &'a [u32],
    /// Their true classes.
    pub truth: &'a [usize],
    /// Their answered classes.
    pub answers: &'a [usize],
    /// The class that F1 speaks of.
    pub positive: usize,
}

/// Figures by attribute and value, and what became of the columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// By attribute, then in the order of the values.
    pub groups: Vec<GroupAccuracy>,
    /// Columns of many numbers, cut into fifths or near them.
    pub banded: Vec<String>,
    /// Columns that make no groups.
    pub skipped: Vec<String>,
}

/// Looks at every column. A few values are groups as they are. Many numbers, such as ages, become five bands
/// of about as many images each, and a few cells among them that are no number become a group behind those. Many other
/// values (names, files), and numbers that hardly repeat (identities), are skipped, and so is the group column. Where a column
/// makes groups, the images with an empty cell in it are the last: nobody knows who they are, and the worst group may hide among
/// them.
pub fn by_group(answered: &Answered<'_>) -> Groups {
    let Answered { manifest, rows, .. } = *answered;
    let mut columns: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    for (at, &row) in rows.iter().enumerate() {
        let filled = manifest.samples[row as usize].attributes.iter().filter(|(_, value)| !is_empty(value));
        for (attribute, value) in filled {
            columns.entry(attribute).or_default().push((at, value));
        }
    }
    let group_column = manifest.group_column.as_deref();
    let mut found = Groups::default();
    for (attribute, cells) in columns {
        let mut values: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        cells.iter().for_each(|(at, value)| values.entry(value).or_default().push(*at));
        let is_groups = group_column.is_some_and(|column| same_column(column, attribute));
        let empty: Vec<usize> =
            (0..rows.len()).filter(|at| cells.binary_search_by_key(at, |(at, _)| *at).is_err()).collect();
        // Beside one value the empty cells are a second group; whether there are too many is asked of the filled ones.
        let mut members: Vec<(String, Vec<usize>)> = if is_groups || values.len() + usize::from(!empty.is_empty()) < 2 {
            Vec::new()
        } else if values.len() <= MOST_VALUES {
            let mut members: Vec<_> = values.into_iter().map(|(value, at)| (value.to_owned(), at)).collect();
            members.sort_by(|a, b| {
                (leading(&a.0), &a.0).partial_cmp(&(leading(&b.0), &b.0)).unwrap_or(std::cmp::Ordering::Equal)
            });
            members
        } else if values.len() * 2 <= cells.len() {
            let members = bands(&cells);
            found.banded.extend((!members.is_empty()).then(|| attribute.to_owned()));
            members
        } else {
            Vec::new()
        };
        if members.is_empty() {
            found.skipped.push(attribute.to_owned());
        } else if !empty.is_empty() {
            members.push((EMPTY_CELL.to_owned(), empty));
        }
        found.groups.extend(members.into_iter().map(|(value, at)| figures(answered, attribute, value, &at)));
    }
    found
}

/// Whether a cell says nothing: pandas may have written that as NaN.
fn is_empty(cell: &str) -> bool {
    cell == EMPTY_CELL || cell.eq_ignore_ascii_case("nan")
}

/// The number that a value begins with, for an order in which 2-9 stands before 10-19, and −10 before −2; words stand behind.
fn leading(value: &str) -> f64 {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unsigned = value.strip_prefix(['-', '−', '+']).unwrap_or(value);
    let whole = digits(unsigned);
    let fraction = unsigned[whole..].strip_prefix('.').map_or(0, |rest| 1 + digits(rest));
    let sign = if value.starts_with(['-', '−']) { -1.0 } else { 1.0 };
    unsigned[..whole + fraction].parse::<f64>().map_or(f64::INFINITY, |number| sign * number)
}

/// Fifths of the images in the order of their numbers, or near them, as equal numbers are together; behind them the images whose cells
/// are no numbers, and nothing at all where those are many. Equal numbers are where the middle of them lies, so that however many there
/// are of one it is never all there is: the middles of the first and the last are half of the images apart.
fn bands(cells: &[(usize, &str)]) -> Vec<(String, Vec<usize>)> {
    let mut numbers: Vec<(f64, usize)> = Vec::new();
    let mut words: Vec<(usize, &str)> = Vec::new();
    for &(at, value) in cells {
        match value.parse::<f64>().ok().filter(|number| number.is_finite()) {
            Some(number) => numbers.push((number, at)),
            None => words.push((at, value)),
        }
    }
    if words.len() * CELLS_PER_WORD > cells.len() {
        return Vec::new();
    }
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut bands: Vec<Vec<(f64, usize)>> = vec![Vec::new(); BANDS];
    let (mut seen, all) = (0, numbers.len());
    for equals in numbers.chunk_by(|a, b| a.0 == b.0) {
        bands[(2 * seen + equals.len()) * BANDS / (2 * all)].extend(equals);
        seen += equals.len();
    }
    bands.retain(|band| !band.is_empty());
    let name = |band: &[(f64, usize)]| match (band.first(), band.last()) {
        (Some((low, _)), Some((high, _))) if low < high => format!("{low} to {high}"),
        (Some((low, _)), _) => low.to_string(),
        _ => String::new(),
    };
    let no_numbers: Option<(String, Vec<usize>)> = words.first().map(|(_, first)| {
        let name = if words.iter().all(|(_, word)| word == first) { *first } else { NO_NUMBER };
        (name.to_owned(), words.iter().map(|(at, _)| *at).collect())
    });
    bands.iter().map(|band| (name(band), band.iter().map(|(_, at)| *at).collect())).chain(no_numbers).collect()
}

fn figures(answered: &Answered<'_>, attribute: &str, value: String, at: &[usize]) -> GroupAccuracy {
    let of = |classes: &[usize]| at.iter().map(|&at| classes[at]).collect::<Vec<_>>();
    let confusion = Confusion::new(answered.manifest.classes.len(), &of(answered.truth), &of(answered.answers));
    let present = confusion.true_counts();
    let mixed = present.iter().filter(|&&images| images > 0).count() > 1;
    GroupAccuracy {
        attribute: attribute.to_owned(),
        value,
        images: confusion.total(),
        accuracy: confusion.accuracy(),
        interval: wilson(confusion.right(), confusion.total()),
        balanced_accuracy: mixed.then(|| confusion.balanced_accuracy()),
        f1: (mixed && present[answered.positive] > 0).then(|| confusion.f1(answered.positive)),
    }
}

/// Of two equal groups the one's 95 % interval lies below the other's with this chance: beyond [`Z_95`]·√2 deviations of their difference.
const APART: f64 = 0.002_787;

/// How many deviations wide the intervals of the lowest and the highest of so many groups are, to be apart by chance no more often than
/// the 95 % intervals of two groups (Bonferroni's bound over all pairs). At 95 % those of 20 equal groups are in three to four of ten cases.
fn z_of_extremes(groups: usize) -> f64 {
    match groups * groups.saturating_sub(1) / 2 {
        0 | 1 => Z_95,
        pairs => normal_above(APART / pairs as f64) / SQRT_2,
    }
}

/// Whether the intervals of the lowest and the highest of so many groups overlap.
fn may_be_chance(worst: &GroupAccuracy, best: &GroupAccuracy, groups: usize) -> bool {
    let interval = |group: &GroupAccuracy| {
        let right = (group.accuracy * group.images as f64).round() as u64;
        wilson_within(z_of_extremes(groups), right, group.images)
    };
    interval(worst)[1] >= interval(best)[0]
}

impl GroupGap {
    /// The gap of each attribute that has two groups of [`SMALLEST_GROUP`] images or more; `accuracy` is that of
    /// the whole. Whether intervals overlap is asked of those at 95 % where there are two groups, and of wider ones where the two are
    /// the extremes of more (`z_of_extremes`).
    pub fn all(groups: &[GroupAccuracy], accuracy: f64) -> Vec<Self> {
        let by_attribute = groups.chunk_by(|a, b| a.attribute == b.attribute);
        let gap = |groups: &[GroupAccuracy]| {
            let known: Vec<&GroupAccuracy> = groups.iter().filter(|group| group.images >= SMALLEST_GROUP).collect();
            let worst = *known.iter().min_by(|a, b| a.accuracy.total_cmp(&b.accuracy))?;
            // Of equals the last is the best and the first the worst: two groups, if there are two.
            let best = *known.iter().max_by(|a, b| a.accuracy.total_cmp(&b.accuracy))?;
            (known.len() > 1).then(|| Self {
                attribute: worst.attribute.clone(),
                worst: worst.value.clone(),
                worst_accuracy: worst.accuracy,
                best: best.value.clone(),
                best_accuracy: best.accuracy,
                gap: best.accuracy - worst.accuracy,
                below_whole: accuracy - worst.accuracy,
                intervals_overlap: may_be_chance(worst, best, known.len()),
            })
        };
        by_attribute.filter_map(gap).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Role, Sample};

    /// (column, value) pairs, true and answered class.
    type Row<'a> = (Vec<(&'a str, String)>, usize, usize);

    fn looked_at(rows: &[Row<'_>], group_column: Option<&str>) -> Groups {
        let sample = |(attributes, class, _): &Row<'_>| Sample {
            image: String::new(),
            entry: 0,
            label: Some(*class as u32),
            split: Role::Test,
            picked: false,
            group: None,
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        };
        let manifest = Manifest {
            classes: vec!["a".into(), "b".into()],
            samples: rows.iter().map(sample).collect(),
            group_column: group_column.map(str::to_owned),
            ..Manifest::default()
        };
        let indices: Vec<u32> = (0..rows.len() as u32).collect();
        let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
        let answers: Vec<usize> = rows.iter().map(|row| row.2).collect();
        by_group(&Answered { manifest: &manifest, rows: &indices, truth: &truth, answers: &answers, positive: 0 })
    }

    #[test]
    fn values_are_groups_with_figures_where_those_make_sense() {
        let cell = |value: &str| vec![("age_group", value.to_owned())];
        let (young, old) = (|| cell("2-9"), || cell("10-19"));
        let rows = [(old(), 0, 0), (old(), 0, 1), (old(), 1, 1), (young(), 1, 1), (young(), 1, 0)];
        let found = looked_at(&rows, None).groups;
        assert_eq!(found.iter().map(|group| group.value.as_str()).collect::<Vec<_>>(), ["2-9", "10-19"]);
        assert_eq!((found[0].images, found[0].accuracy), (2, 0.5));
        assert_eq!((found[0].balanced_accuracy, found[0].f1), (None, None), "one class alone");
        // Recalls ½ and 1; F1 of a: 2·1 / (2·1 + 0 + 1).
        assert_eq!((found[1].balanced_accuracy, found[1].f1), (Some(0.75), Some(2.0 / 3.0)));

        let ordered = |values: &[&str]| -> Vec<String> {
            let rows: Vec<Row<'_>> = values.iter().map(|value| (cell(value), 0, 0)).collect();
            looked_at(&rows, None).groups.into_iter().map(|group| group.value).collect()
        };
        assert_eq!(ordered(&["12", "-2", "0", "-10", "3"]), ["-10", "-2", "0", "3", "12"]);
        assert_eq!(ordered(&["1.5", "−1.25", "-1.5", "- none", "0.5"]), ["-1.5", "−1.25", "0.5", "1.5", "- none"]);
        let dates = ["2023-12-24", "2024-01-02"];
        assert_eq!(ordered(&["30-39", dates[1], "70+", "8-9", dates[0]]), ["8-9", "30-39", "70+", dates[0], dates[1]]);
    }

    #[test]
    fn many_numbers_become_bands_and_identities_are_skipped() {
        let rows: Vec<Row<'_>> = (0..200)
            .map(|at| {
                let name = ["x", "y"][at % 2];
                let pairs = [("age", (at / 4).to_string()), ("file", at.to_string()), ("person", (at % 3).to_string())];
                let more = [("word", format!("{name}{}", at / 8)), ("only", "1".to_owned())];
                (pairs.into_iter().chain(more).collect(), 0, 0)
            })
            .collect();
        let found = looked_at(&rows, Some("Person"));
        assert_eq!(found.banded, ["age"]);
        assert_eq!(found.skipped, ["file", "only", "person", "word"]);
        let bands: Vec<(&str, u64)> = found.groups.iter().map(|group| (group.value.as_str(), group.images)).collect();
        assert_eq!(bands, [("0 to 9", 40), ("10 to 19", 40), ("20 to 29", 40), ("30 to 39", 40), ("40 to 49", 40)]);

        // Most images have one number, be it the largest, the smallest or one between.
        for (most, expected) in [
            (99, vec![("0 to 29", 30), ("99", 170)]),
            (0, vec![("0", 171), ("1 to 29", 29)]),
            (20, vec![("0 to 19", 20), ("20", 171), ("21 to 29", 9)]),
        ] {
            let score = |at: usize| if at < 30 { at } else { most };
            let rows: Vec<Row<'_>> = (0..200).map(|at| (vec![("score", score(at).to_string())], 0, 0)).collect();
            let found = looked_at(&rows, None);
            let bands = found.groups.iter().map(|group| (group.value.as_str(), group.images)).collect::<Vec<_>>();
            assert_eq!((found.banded, bands), (vec!["score".to_owned()], expected));
        }

        // A few cells that are no number are a group behind the bands.
        let aged = |words: &[&str]| {
            let age = |at: usize| words.get(at).map_or_else(|| (at / 4).to_string(), |word| (*word).to_owned());
            looked_at(&(0..200).map(|at| (vec![("age", age(at))], 0, 0)).collect::<Vec<Row<'_>>>(), None)
        };
        for (words, last) in [
            (vec!["90+"], ("90+", 1)),
            (vec!["90+"; 20], ("90+", 20)),
            (vec!["90+", "n/k", "90+"], ("(no number)", 3)),
            (vec!["NaN", "nan"], ("(empty)", 2)),
            (vec!["inf"], ("inf", 1)),
        ] {
            let found = aged(&words);
            let groups: Vec<_> = found.groups.iter().map(|group| (group.value.as_str(), group.images)).collect();
            assert_eq!(found.banded, ["age"], "{words:?}");
            assert_eq!(groups.last(), Some(&last));
            assert_eq!((groups.len(), groups.iter().map(|group| group.1).sum::<u64>()), (6, 200), "{groups:?}");
        }
        let many = aged(&["90+"; 21]);
        assert_eq!((many.groups.len(), many.skipped), (0, vec!["age".to_owned()]), "more than a tenth");
    }

    #[test]
    fn images_with_an_empty_cell_are_a_group_of_their_own() {
        let pairs = |at: usize| -> Vec<(&str, String)> {
            let filled = [
                ("source", "kaggle".to_owned(), !at.is_multiple_of(4)),
                ("age", (at / 8).to_string(), !at.is_multiple_of(4)),
                ("tone", ["2 dark", "1 light", "(empty)"][at % 3].to_owned(), true),
                ("note", "blurry".to_owned(), at == 7),
                ("file", at.to_string(), !at.is_multiple_of(4)),
                ("person", (at % 3).to_string(), !at.is_multiple_of(2)),
            ];
            filled.into_iter().filter(|(.., filled)| *filled).map(|(name, value, _)| (name, value)).collect()
        };
        // All those without a source are answered wrongly.
        let rows: Vec<Row<'_>> = (0..200).map(|at| (pairs(at), 0, usize::from(at % 4 == 0))).collect();
        let found = looked_at(&rows, Some("person"));
        assert_eq!(found.skipped, ["file", "person"], "too many values, and the group column, stay what they are");
        assert_eq!(found.banded, ["age"]);
        let told = |attribute: &str| -> Vec<(&str, u64)> {
            let groups = found.groups.iter().filter(|group| group.attribute == attribute);
            groups.map(|group| (group.value.as_str(), group.images)).collect()
        };
        assert_eq!(told("source"), [("kaggle", 150), ("(empty)", 50)]);
        let bands = [("0 to 4", 30), ("5 to 9", 30), ("10 to 14", 30), ("15 to 19", 30), ("20 to 24", 30)];
        assert_eq!(told("age"), [&bands[..], &[("(empty)", 50)]].concat());
        assert_eq!(
            told("tone"),
            [("1 light", 67), ("2 dark", 67), ("(empty)", 66)],
            "one who wrote that meant the same"
        );
        assert_eq!(told("note"), [("blurry", 1), ("(empty)", 199)]);
        let gaps = GroupGap::all(&found.groups, 0.75);
        let source = gaps.iter().find(|gap| gap.attribute == "source").unwrap();
        assert_eq!((source.worst.as_str(), source.worst_accuracy), ("(empty)", 0.0));
        assert!(gaps.iter().all(|gap| gap.attribute != "note"), "a column that hardly anybody filled tells no gap");
    }

    fn group(value: &str, images: u64, right: u64) -> GroupAccuracy {
        GroupAccuracy {
            attribute: "source".into(),
            value: value.into(),
            images,
            accuracy: right as f64 / images as f64,
            interval: wilson(right, images),
            ..GroupAccuracy::default()
        }
    }

    #[test]
    fn the_worst_group_is_one_that_is_large_enough() {
        let groups = [group("a", 400, 380), group("b", 5, 1), group("c", 100, 70), group("d", 30, 28)];
        let gaps = GroupGap::all(&groups, 0.9);
        assert_eq!(gaps.len(), 1);
        let gap = &gaps[0];
        assert_eq!((gap.worst.as_str(), gap.best.as_str(), gap.intervals_overlap), ("c", "a", false));
        assert!((gap.gap - 0.25).abs() < 1e-12 && (gap.below_whole - 0.2).abs() < 1e-12);
        assert!(GroupGap::all(&[group("a", 40, 36), group("c", 40, 34)], 0.9)[0].intervals_overlap);
        assert!(GroupGap::all(&groups[..2], 0.9).is_empty(), "a single group has no gap");
    }

    #[test]
    fn the_extremes_of_many_groups_are_further_apart_by_chance() {
        // Of 60 images each, as they fall where all have a true accuracy of .85.
        let right = [51, 49, 53, 52, 50, 48, 54, 51, 52, 47, 53, 50, 49, 55, 51, 52, 50, 54, 43, 57];
        let groups: Vec<_> = right.iter().map(|&right| group(&right.to_string(), 60, right)).collect();
        let gap = |groups: &[GroupAccuracy]| GroupGap::all(groups, 0.85).remove(0);
        let all = gap(&groups);
        assert_eq!((all.worst.as_str(), all.best.as_str(), all.intervals_overlap), ("43", "57", true));
        let [.., lowest, highest] = &groups[..] else { panic!("{groups:?}") };
        assert!(lowest.interval[1] < highest.interval[0], "at 95 % they are apart: {groups:?}");
        assert!(!gap(&groups[18..]).intervals_overlap, "and of two groups that decides");
        // Further apart than chance brings.
        let one_fails: Vec<_> = groups.iter().cloned().chain([group("20", 60, 20)]).collect();
        assert!(!gap(&one_fails).intervals_overlap);
    }

    #[test]
    fn intervals_are_the_wider_the_more_groups_there_are() {
        let widths = [1, 2, 3, 5, 10, 21].map(z_of_extremes);
        assert_eq!(widths[..2], [Z_95; 2]);
        assert!(widths[1..].is_sorted_by(|a, b| a < b) && widths[5] < 3.0, "{widths:?}");
        // The chance that two are apart is what two 95 % intervals say.
        assert!((normal_above(APART) - Z_95 * SQRT_2).abs() < 1e-3);
    }
}
