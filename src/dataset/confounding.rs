//! Doubts about a data set as a whole: shortcuts a network could take, groups on both sides, imbalance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::groups;
use super::labels::{EMPTY_CELL, first_of, gaps_among, quoted, same_column};
use super::manifest::{Manifest, Role, Sample};
use super::report::Warning;
use super::similar_groups;
use crate::statistics::wilson;

/// Cramér's V from which a column is said to predict the label.
const STRONG: f64 = 0.5;

/// Share of one class from which a single value of a column determines the label …
const PURE: f64 = 0.95;

/// … if, at 95 %, that share is so much larger than over all values …
const ABOVE_ALL: f64 = 0.2;

/// … and it would be so by chance in fewer than one of so many looks: there are up to 50 values in each column, and may be many columns.
const LOOKS: f64 = 1e6;

/// Looks at the labelled samples; `group_column` names people or other units that must not be in both sheets.
pub(super) fn warnings(manifest: &Manifest, group_column: Option<&str>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (attribute, sheets) in attributes(manifest) {
        if !group_column.is_some_and(|column| same_column(attribute, column)) {
            warnings.extend(shortcut(manifest, attribute, &sheets));
        }
    }
    warnings.extend(group_column.and_then(|column| gaps(manifest, column)));
    warnings.extend(group_column.and_then(|column| straddling(manifest, column)));
    warnings.extend(group_column.and_then(|column| similar_groups::warning(manifest, column)));
    warnings.extend(imbalance(manifest));
    warnings.extend(untested(manifest));
    warnings
}

/// Every column, and the sheets in which some cell of it is filled.
fn attributes(manifest: &Manifest) -> BTreeMap<&str, BTreeSet<Role>> {
    let mut columns: BTreeMap<&str, BTreeSet<Role>> = BTreeMap::new();
    for sample in &manifest.samples {
        for attribute in sample.attributes.keys() {
            columns.entry(attribute).or_default().insert(sample.split);
        }
    }
    columns
}

/// Values that a column may have: with more it tells one image from another rather than what they share.
const MOST_VALUES: usize = 50;

/// Labelled images by value and class; an empty cell's value is none.
type Table<'a> = BTreeMap<Option<&'a str>, Vec<u64>>;

/// A column with 2 to [`MOST_VALUES`] values that goes strongly with the label. Those who filled it in for one class alone
/// tell the class by that: an empty cell is a value, in the sheets that have the column.
fn shortcut(manifest: &Manifest, attribute: &str, sheets: &BTreeSet<Role>) -> Option<Warning> {
    let mut table = table(manifest, attribute, sheets)?;
    predictor(manifest, attribute, &table).or_else(|| {
        // Where most cells are empty, they would drown what the others say.
        table.remove(&None::<&str>)?;
        predictor(manifest, attribute, &table)
    })
}

/// None for a column with too many values.
fn table<'a>(manifest: &'a Manifest, attribute: &str, sheets: &BTreeSet<Role>) -> Option<Table<'a>> {
    let mut table = Table::new();
    for sample in manifest.samples.iter().filter(|sample| sheets.contains(&sample.split)) {
        if let Some(label) = sample.label {
            let value = sample.attributes.get(attribute).map(String::as_str);
            let row = table.entry(value).or_insert_with(|| vec![0; manifest.classes.len()]);
            row[label as usize] += 1;
            // Before the next row of counts: an id column would need one for each image.
            if table.len() > MOST_VALUES + usize::from(table.contains_key(&None::<&str>)) {
                return None;
            }
        }
    }
    Some(table)
}

/// A value as warnings say it.
fn told(value: Option<&str>) -> String {
    value.map_or_else(|| EMPTY_CELL.to_owned(), |value| format!("{value:?}"))
}

/// The value that goes with the label most, if the column goes with it strongly.
fn predictor(manifest: &Manifest, attribute: &str, table: &Table<'_>) -> Option<Warning> {
    if table.len() < 2 {
        return None;
    }
    let v = cramers_v(&table.values().cloned().collect::<Vec<_>>());
    if v < STRONG {
        return pure_value(manifest, attribute, table);
    }
    // A value of a single image is pure, and says nothing.
    let surely = |row: &[u64]| wilson(row.iter().copied().max().unwrap_or(0), row.iter().sum())[0];
    let worst = table.iter().max_by(|a, b| surely(a.1).total_cmp(&surely(b.1)))?;
    let class = worst.1.iter().enumerate().max_by_key(|(_, count)| **count).map(|(class, _)| class)?;
    let detail = format!(
        "column {attribute:?} goes with the label (Cramér's V {v:.2}): where it is {}, {:.0} % of its {} labelled images are \
         {:?}. A network may learn to tell the {attribute} instead; judge it within each {attribute}",
        told(*worst.0),
        purity(worst.1) * 100.0,
        worst.1.iter().sum::<u64>(),
        manifest.classes[class]
    );
    Some(Warning::new("confounded_label", detail))
}

/// A single value under which (almost) all images are of one class, though the column as a whole goes with
/// the label only weakly: one of several sources, say.
fn pure_value(manifest: &Manifest, attribute: &str, table: &Table<'_>) -> Option<Warning> {
    let sum = |row: &[u64]| row.iter().sum::<u64>();
    let all: Vec<u64> = (0..manifest.classes.len()).map(|class| table.values().map(|row| row[class]).sum()).collect();
    let share = |class: usize| all[class] as f64 / sum(&all) as f64;
    let (value, class, row) = table
        .iter()
        .filter_map(|(value, row)| {
            let class = (0..row.len()).max_by_key(|&class| row[class])?;
            let surely = wilson(row[class], sum(row))[0];
            let is_pure = purity(row) >= PURE && surely >= share(class) + ABOVE_ALL;
            let is_sure = || by_chance(row[class], sum(row), share(class)) * LOOKS < 1.0;
            (is_pure && is_sure()).then_some((value, class, row))
        })
        .max_by_key(|(_, _, row)| sum(row))?;
    let detail = format!(
        "column {attribute:?} determines the label where it is {}: {:.0} % of its {} labelled images are {:?}, over all \
         {:.0} % are. A network may learn to tell the {attribute} instead; judge it within each {attribute}",
        told(*value),
        purity(row) * 100.0,
        sum(row),
        manifest.classes[class],
        share(class) * 100.0
    );
    Some(Warning::new("confounded_label", detail))
}

/// At most so large is the chance that of `total` images so many or more are of a class whose share is `share`, where that is
/// fewer than there are (Chernoff 1952).
fn by_chance(images: u64, total: u64, share: f64) -> f64 {
    let found = images as f64 / total as f64;
    let part = |found: f64, share: f64| if found > 0.0 { found * (found / share).ln() } else { 0.0 };
    (-(total as f64) * (part(found, share) + part(1.0 - found, 1.0 - share))).exp()
}

fn purity(row: &[u64]) -> f64 {
    let total: u64 = row.iter().sum();
    row.iter().max().map_or(0.0, |&most| most as f64 / total.max(1) as f64)
}

/// Cramér's V of a contingency table: 0 for independent, 1 for determined. Less what chance alone brings, which with many values and
/// few labels is most of it (Bergsma 2013, "A bias-correction for Cramér's V and Tschuprow's T").
fn cramers_v(table: &[Vec<u64>]) -> f64 {
    let total: u64 = table.iter().flatten().sum();
    let columns = table.first().map_or(0, Vec::len);
    let column_sums: Vec<u64> = (0..columns).map(|c| table.iter().map(|row| row[c]).sum()).collect();
    let mut chi2 = 0.0;
    for row in table {
        let row_sum: u64 = row.iter().sum();
        for (observed, column_sum) in row.iter().zip(&column_sums) {
            let expected = row_sum as f64 * *column_sum as f64 / total.max(1) as f64;
            if expected > 0.0 {
                chi2 += (*observed as f64 - expected).powi(2) / expected;
            }
        }
    }
    let others = total.saturating_sub(1) as f64;
    let (rows, columns) = (table.len() as f64, column_sums.iter().filter(|&&sum| sum > 0).count() as f64);
    let corrected = |count: f64| count - (count - 1.0).powi(2) / others;
    let degrees = corrected(rows).min(corrected(columns)) - 1.0;
    let association = chi2 / total as f64 - (rows - 1.0) * (columns - 1.0) / others;
    if others > 0.0 && degrees > 0.0 && association > 0.0 { (association / degrees).sqrt().min(1.0) } else { 0.0 }
}

/// Names of groups that may mean that nobody knows the group: all images of one are taken for one person's.
fn gaps(manifest: &Manifest, column: &str) -> Option<Warning> {
    let mut images: BTreeMap<&str, usize> = BTreeMap::new();
    for value in manifest.samples.iter().filter_map(|sample| groups::value(sample, column)) {
        *images.entry(value).or_default() += 1;
    }
    let values: Vec<&str> = images.keys().copied().collect();
    // A single image is on its own, whatever its group is called.
    let meant = gaps_among(&values).into_iter().map(|value| (value, images[value])).filter(|(_, images)| *images > 1);
    let told: Vec<String> = meant.map(|(value, images)| format!("{value:?} ({images} images)")).collect();
    let detail = format!(
        "{} in column {column:?} became a group of its own, as if its images were of one person: where one of them validates, \
         the others are not learned from; if it means that the group is not known, leave those cells empty",
        told.join(", ")
    );
    (!told.is_empty()).then(|| Warning::new("group_may_be_a_gap", detail))
}

/// Groups that the warning about those in both sheets shows.
const SHOWN: usize = 5;

fn straddling(manifest: &Manifest, column: &str) -> Option<Warning> {
    let value = |sample| groups::value(sample, column);
    let of = |role: Role| manifest.samples.iter().filter(move |sample: &&Sample| sample.split == role);
    let train: BTreeSet<&str> = of(Role::Train).filter_map(value).collect();
    let mut test: BTreeMap<&str, usize> = BTreeMap::new();
    of(Role::Test).filter_map(value).for_each(|group| *test.entry(group).or_default() += 1);
    let there = test.iter().map(|(group, images)| (*group, *images));
    let mut both: Vec<(&str, usize)> = there.filter(|(group, _)| train.contains(group)).collect();
    // What is no person but a word for all that are unknown is among the largest.
    both.sort_by_key(|&(_, images)| Reverse(images));
    let (images, all) = (both.iter().map(|(_, images)| images).sum::<usize>(), of(Role::Test).count());
    (!both.is_empty()).then(|| {
        let detail = format!(
            "{} of {} groups in column {column:?} of the test sheet are in the training sheet too, with {images} of {all} \
             test images ({:.1} %): test figures will look better than on new ones; put each group in one sheet",
            both.len(),
            test.len(),
            100.0 * images as f64 / all as f64
        );
        let examples = both.iter().take(SHOWN);
        let examples = examples.map(|(group, images)| format!("{} with {images} of the test images", quoted(group))).collect();
        Warning::new("group_in_both_sheets", detail).with_examples(examples)
    })
}

fn imbalance(manifest: &Manifest) -> Option<Warning> {
    let counts = manifest.counts().train;
    let (most, least) = (counts.iter().max_by_key(|(_, n)| **n)?, counts.iter().min_by_key(|(_, n)| **n)?);
    (*most.1 > 10 * *least.1).then(|| {
        let detail = format!(
            "{} labelled training images are {:?} and {} are {:?}: look at F1 and balanced accuracy, not at accuracy",
            most.1, most.0, least.1, least.0
        );
        Warning::new("imbalanced_classes", detail)
    })
}

/// Classes that a warning names at most.
const NAMED: usize = 10;

/// Classes that a test sheet has no image of.
fn untested(manifest: &Manifest) -> Option<Warning> {
    let tested: BTreeSet<u32> =
        manifest.samples.iter().filter(|sample| sample.split == Role::Test).filter_map(|sample| sample.label).collect();
    let classes = (0..).zip(&manifest.classes);
    let missing: Vec<&String> = classes.filter(|(class, _)| !tested.contains(class)).map(|(_, name)| name).collect();
    (!tested.is_empty() && !missing.is_empty()).then(|| {
        let named = first_of(missing.into_iter(), NAMED);
        let detail = format!(
            "the test sheet has no usable image of {named}: what a model makes of it stays unknown, and macro F1 counts it as 0 \
             where it is answered"
        );
        Warning::new("untested_class", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(rows: &[(u32, &str, Role)]) -> Manifest {
        let sample = |(index, &(label, source, split)): (usize, &(u32, &str, Role))| Sample {
            image: format!("{index}.jpg"),
            entry: index as u32,
            label: Some(label),
            split,
            picked: false,
            group: None,
            attributes: BTreeMap::from_iter((!source.is_empty()).then(|| ("source".to_owned(), source.to_owned()))),
        };
        Manifest {
            task: "mask".into(),
            classes: vec!["mask".into(), "no_mask".into()],
            samples: rows.iter().enumerate().map(sample).collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn a_class_that_no_image_has_changes_no_association() {
        let with = cramers_v(&[vec![10, 0, 0], vec![2, 8, 0]]);
        let without = cramers_v(&[vec![10, 0], vec![2, 8]]);
        assert_eq!(with, without);
        assert!(0.5 < with && with < 0.9, "{with}");
    }

    #[test]
    fn a_label_told_by_its_source_is_a_warning() {
        let mut rows = vec![(0, "web", Role::Train); 40];
        rows.extend(vec![(1, "studio", Role::Train); 40]);
        let found = warnings(&manifest(&rows), None);
        assert_eq!(found[0].code, "confounded_label");
        assert!(found[0].detail.contains("source") && found[0].detail.contains("1.00"), "{}", found[0].detail);
    }

    #[test]
    fn a_single_source_of_one_class_is_a_warning_though_the_others_are_mixed() {
        let mixed = (0..400).map(|i| (i % 2, if i % 4 < 2 { "web" } else { "studio" }, Role::Train));
        let rows: Vec<_> = mixed.chain(vec![(0, "film", Role::Train); 40]).collect();
        let found = warnings(&manifest(&rows), None);
        assert_eq!((found.len(), found[0].code.as_str()), (1, "confounded_label"));
        assert!(
            found[0].detail.contains("\"film\": 100 % of its 40 labelled images are \"mask\""),
            "{}",
            found[0].detail
        );
        // A handful may be of one class by chance, and so may many where most images are of it.
        let few: Vec<_> = rows[..403].to_vec();
        assert_eq!(warnings(&manifest(&few), None), []);
        let common =
            (0..400).map(|i| (u32::from(i % 8 == 0), "web", Role::Train)).chain(vec![(0, "film", Role::Train); 40]);
        assert_eq!(warnings(&manifest(&common.collect::<Vec<_>>()), None), []);
    }

    #[test]
    fn of_many_values_none_is_pure_by_chance() {
        let mut noise = 3u32;
        let mut draw = |below: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) % below
        };
        // Ten images a value, and of 4,000 values some are of one class.
        let rows: Vec<_> = (0..400).map(|_| (draw(2), "", Role::Train)).collect();
        let mut manifest = manifest(&rows);
        for sample in &mut manifest.samples {
            sample.attributes = (0..100).map(|column| (format!("column {column}"), draw(40).to_string())).collect();
        }
        assert_eq!(warnings(&manifest, None), []);
        // The bound is one: of ten fair throws, all are heads once in 1,024 times, and nine or ten 11 times.
        assert!((by_chance(10, 10, 0.5) - 1.0 / 1024.0).abs() < 1e-12);
        assert!(by_chance(9, 10, 0.5) > 11.0 / 1024.0 && by_chance(9, 10, 0.5) < 0.03);
    }

    #[test]
    fn an_empty_cell_is_a_value_where_others_are_filled() {
        let mut rows = vec![(0, "kaggle", Role::Train); 40];
        rows.extend(vec![(1, "", Role::Train); 40]);
        let found = warnings(&manifest(&rows), None);
        assert_eq!((found.len(), found[0].code.as_str()), (1, "confounded_label"));
        assert!(found[0].detail.contains("Cramér's V 1.00"), "{}", found[0].detail);

        let mixed = (0..400).map(|i| (i % 2, if i % 4 < 2 { "web" } else { "studio" }, Role::Train));
        let rows: Vec<_> = mixed.chain(vec![(0, "", Role::Train); 40]).collect();
        let found = warnings(&manifest(&rows), None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].detail.contains("(empty): 100 % of its 40 labelled images are \"mask\""),
            "{}",
            found[0].detail
        );
        let rows: Vec<_> = (0..80).map(|i| (i % 2, "", Role::Train)).collect();
        assert_eq!(warnings(&manifest(&rows), None), [], "a column that nobody filled is none");
    }

    #[test]
    fn a_sheet_without_the_column_has_no_empty_cells_of_it() {
        // The test sheet has other shares of the classes, as far from those of each source as a shortcut would be.
        let train = (0..80).map(|i| (i % 2, if i % 4 < 2 { "web" } else { "studio" }, Role::Train));
        let test = (0..105).map(|i| (u32::from(i >= 5), "", Role::Test));
        assert_eq!(warnings(&manifest(&train.chain(test).collect::<Vec<_>>()), None), []);
    }

    #[test]
    fn many_empty_cells_do_not_hide_what_the_others_say() {
        let filled = (0..200)
            .map(|i: u32| (u32::from(i.is_multiple_of(5)) ^ (i % 2), ["web", "studio"][i as usize % 2], Role::Train));
        let rows: Vec<_> = filled.chain((0..2000).map(|i| (i % 2, "", Role::Train))).collect();
        let found = warnings(&manifest(&rows), None);
        assert!(found.len() == 1 && found[0].detail.contains("Cramér's V 0.60"), "{found:?}");
    }

    #[test]
    fn an_independent_source_is_none() {
        let rows: Vec<_> = (0..80).map(|i| (i % 2, if i % 4 < 2 { "web" } else { "studio" }, Role::Train)).collect();
        assert_eq!(warnings(&manifest(&rows), None), []);
    }

    #[test]
    fn many_values_of_few_labels_do_not_go_with_the_label_by_chance() {
        // 80 labels over 40 ages, independent of each other: V without its correction is beyond .5.
        let ages: Vec<String> = (20..60).map(|age| age.to_string()).collect();
        let mut noise = 1u32;
        let mut draw = |below: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) % below
        };
        for _ in 0..20 {
            let rows: Vec<_> = (0..80).map(|_| (draw(2), ages[draw(40) as usize].as_str(), Role::Train)).collect();
            assert_eq!(warnings(&manifest(&rows), None), []);
        }
    }

    #[test]
    fn the_value_that_is_named_is_one_of_many_images() {
        let of = |label, source, images| vec![(label, source, Role::Train); images];
        let rows = [of(0, "web", 190), of(1, "web", 10), of(0, "studio", 9), of(1, "studio", 191), of(0, "phone", 1)];
        let found = warnings(&manifest(&rows.concat()), None);
        let told = "where it is \"studio\", 96 % of its 200 labelled images are \"no_mask\"";
        assert!(found[0].detail.contains(told), "{}", found[0].detail);
    }

    #[test]
    fn a_group_in_both_sheets_is_a_warning() {
        let mut rows: Vec<_> = (0..20).map(|i| (i % 2, "anna", Role::Train)).collect();
        rows.push((0, "anna", Role::Test));
        rows.push((1, "bert", Role::Test));
        let found = warnings(&manifest(&rows), Some("source"));
        assert_eq!(found[0].code, "group_in_both_sheets");
        assert!(found[0].detail.starts_with("1 of 2 groups"), "{}", found[0].detail);
        assert!(found[0].detail.contains("with 1 of 2 test images (50.0 %)"), "{}", found[0].detail);
        assert_eq!(warnings(&manifest(&rows), Some("SOURCE"))[0].code, "group_in_both_sheets", "whatever the case");
        // Of all test images, those of no group too.
        rows.extend([(1, "", Role::Test); 2]);
        let told = warnings(&manifest(&rows), Some("source")).remove(0).detail;
        assert!(told.starts_with("1 of 2 groups") && told.contains("with 1 of 4 test images (25.0 %)"), "{told}");
    }

    #[test]
    fn groups_in_both_sheets_are_shown_the_largest_first() {
        let people = ["anna", "bert", "cleo", "dora", "emil", "fred"];
        let of = |role: Role| (0..24).map(move |at: u32| (at % 2, people[at as usize % 6], role));
        let mut rows: Vec<_> = of(Role::Train).chain(of(Role::Test)).collect();
        rows.extend([(0, "fred", Role::Test), (1, "zoe", Role::Test)]);
        let found = warnings(&manifest(&rows), Some("source"));
        assert_eq!(found[0].code, "group_in_both_sheets");
        let shown = [("fred", 5), ("anna", 4), ("bert", 4), ("cleo", 4), ("dora", 4)]
            .map(|(group, images)| format!("{group:?} with {images} of the test images"));
        assert_eq!(found[0].examples, shown);
        // Who they are stands in the examples alone: models carry the sentence on.
        assert!(!found[0].detail.contains("fred"), "{}", found[0].detail);
    }

    #[test]
    fn a_group_that_may_mean_none_is_told_with_its_images() {
        let told = |people: &[&str]| -> Option<String> {
            let rows: Vec<_> = (0..).zip(people).map(|(at, &person)| (at % 2, person, Role::Train)).collect();
            let found = warnings(&manifest(&rows), Some("source")).into_iter();
            found.filter(|warning| warning.code == "group_may_be_a_gap").map(|warning| warning.detail).next()
        };
        let found = told(&["NA", "anna", "NA", "unknown", "NA", "unknown", "-", "anna"]).unwrap();
        let so = "\"NA\" (3 images), \"unknown\" (2 images) in column \"source\" became a group";
        assert!(found.starts_with(so), "one image is no group: {found}");
        assert_eq!(told(&["anna", "nana", "nana", "anna"]), None);
        // What clustering leaves over, as scikit-learn writes it.
        assert!(told(&["-1", "0", "-1", "1"]).unwrap().starts_with("\"-1\" (2 images)"));
        assert_eq!(told(&["-1", "1", "-1", "1"]), None);
    }

    #[test]
    fn a_class_without_test_images_is_a_warning() {
        let mut rows = vec![(0, "web", Role::Train), (1, "web", Role::Train), (0, "web", Role::Test)];
        let found = warnings(&manifest(&rows), None);
        assert_eq!(found.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["untested_class"]);
        rows.push((1, "web", Role::Test));
        assert!(warnings(&manifest(&rows), None).is_empty());
        assert!(warnings(&manifest(&rows[..2]), None).is_empty(), "no test sheet at all");
    }

    #[test]
    fn a_rare_class_is_a_warning() {
        let mut rows = vec![(0, "web", Role::Train); 50];
        rows.push((1, "web", Role::Train));
        assert_eq!(warnings(&manifest(&rows), None)[0].code, "imbalanced_classes");
    }
}
