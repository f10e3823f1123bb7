//! Does an image's size alone tell its class? Where two classes were cropped by different hands, a network
//! learns the crop, and test figures from the same hands praise it for that.

use std::collections::BTreeMap;

use super::manifest::{Manifest, Sample};
use super::report::Warning;
use crate::statistics::{auc_of_ranks, rank_sums};

/// Area under the ROC curve from which a size is said to tell the class (½ is chance).
const TELLING: f64 = 0.7;

/// How many standard errors the area must be from ½ too, and within a value of a column from that of the whole set: where sizes tell a
/// little everywhere, some value shows more of it by chance. Three measures of each class within up to 50 values of each column are
/// many looks: one of them is two errors off by chance, none in thousands is four.
const SURELY: f64 = 4.0;

/// Fewer images than this, of the class or of the others, say nothing.
const FEWEST: usize = 20;

/// Width and height of an image, pixels.
pub(super) type Size = (u32, u32);

/// Something measured of a size, and its name.
type Measure = (&'static str, fn(Size) -> f64);

/// A labelled sample and its size.
type Row<'a> = (&'a Sample, Size);

/// What is measured.
const MEASURES: [Measure; 3] = [
    ("width", |(width, _)| f64::from(width)),
    ("height", |(_, height)| f64::from(height)),
    ("aspect ratio", |(width, height)| f64::from(width) / f64::from(height.max(1))),
];

/// Looks at all labelled samples, and within each value of every column with 2 to 50 values; `sizes[i]` is
/// the size of `manifest.samples[i]`.
pub(super) fn warnings(manifest: &Manifest, sizes: &[Size]) -> Vec<Warning> {
    let labelled: Vec<Row<'_>> =
        manifest.samples.iter().zip(sizes.iter().copied()).filter(|(sample, _)| sample.label.is_some()).collect();
    let whole = judged(&labelled, manifest.classes.len());
    let mut warnings = Vec::new();
    warnings.extend(telling(manifest, &whole, &[], "over the whole data set"));
    let mut columns: BTreeMap<&str, BTreeMap<&str, Vec<Row<'_>>>> = BTreeMap::new();
    for &(sample, size) in &labelled {
        for (column, value) in &sample.attributes {
            columns.entry(column).or_default().entry(value).or_default().push((sample, size));
        }
    }
    columns.retain(|_, values| (2..=50).contains(&values.len()));
    for (column, values) in columns {
        for (value, rows) in values {
            let here = judged(&rows, manifest.classes.len());
            warnings.extend(telling(manifest, &here, &whole, &format!("where {column} is {value:?}")));
        }
    }
    warnings
}

/// How well each measure tells one class.
struct Judged {
    /// The areas under the ROC curve, by measure.
    areas: [f64; MEASURES.len()],
    /// Their standard error by chance.
    error: f64,
}

impl Judged {
    /// How many standard errors an area is further from ½ than `other` is, on its own side.
    fn beyond(&self, area: f64, other: f64) -> f64 {
        (area - other) * (area - 0.5).signum() / self.error
    }
}

/// Each class against all others, by one order of the rows, and not by one each: there may be a thousand. None of a class with too few
/// images here; nothing at all where that is every one.
fn judged(rows: &[Row<'_>], classes: usize) -> Vec<Option<Judged>> {
    let mut images: Vec<usize> = vec![0; classes];
    rows.iter().filter_map(|(sample, _)| sample.label).for_each(|label| images[label as usize] += 1);
    let enough = |images: usize| images.min(rows.len() - images) >= FEWEST;
    if !images.iter().any(|&images| enough(images)) {
        return Vec::new();
    }
    let rank_sums = MEASURES.map(|(_, measure)| rank_sums(measured(rows, measure), classes));
    let of_class = |(class, images): (usize, usize)| {
        let others = rows.len() - images;
        enough(images).then(|| Judged {
            areas: rank_sums.each_ref().map(|sums| auc_of_ranks(sums[class], images, others)),
            error: error_by_chance(images, others),
        })
    };
    images.into_iter().enumerate().map(of_class).collect()
}

/// The most telling measure of some rows, if it tells enough, and surely more than it tells of the `whole` set.
fn telling(manifest: &Manifest, judged: &[Option<Judged>], whole: &[Option<Judged>], place: &str) -> Option<Warning> {
    let mut most: Option<(f64, &str, &str)> = None;
    for (class, here) in judged.iter().enumerate() {
        let Some(here) = here else { continue };
        let everywhere = whole.get(class).and_then(Option::as_ref).map_or([0.5; MEASURES.len()], |whole| whole.areas);
        for (((name, _), area), everywhere) in MEASURES.into_iter().zip(here.areas).zip(everywhere) {
            if here.beyond(area, 0.5).min(here.beyond(area, everywhere)) < SURELY {
                continue;
            }
            let auc = area.max(1.0 - area);
            if most.is_none_or(|(best, ..)| auc > best) {
                most = Some((auc, name, &manifest.classes[class]));
            }
        }
    }
    let (auc, measure, class) = most.filter(|(auc, ..)| *auc >= TELLING)?;
    let detail = format!(
        "{place} the {measure} of an image alone tells {class:?} from the rest (AUC {auc:.2}): a network may learn how the \
         images were cropped; crop all classes alike, or judge it on images of another origin"
    );
    Some(Warning::new("crop_tells_label", detail))
}

/// Standard error of an area where the measure says nothing (Mann and Whitney's U, without ties).
fn error_by_chance(positives: usize, negatives: usize) -> f64 {
    let (positives, negatives) = (positives as f64, negatives as f64);
    ((positives + negatives + 1.0) / (12.0 * positives * negatives)).sqrt()
}

/// What a measure says of each labelled row, and the row's class.
fn measured(rows: &[Row<'_>], measure: fn(Size) -> f64) -> impl Iterator<Item = (f64, usize)> {
    rows.iter().filter_map(move |&(sample, size)| Some((measure(size), sample.label? as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Role;

    fn manifest(rows: &[(u32, &str)]) -> Manifest {
        let sample = |&(label, source): &(u32, &str)| Sample {
            image: "a.jpg".into(),
            entry: 0,
            label: Some(label),
            split: Role::Train,
            picked: false,
            group: None,
            attributes: BTreeMap::from([("source".to_owned(), source.to_owned())]),
        };
        Manifest {
            task: "mask".into(),
            classes: vec!["mask".into(), "no_mask".into()],
            samples: rows.iter().map(sample).collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn a_crop_that_tells_the_class_within_one_source_is_named_there() {
        let rows: Vec<_> = (0..1000).map(|i| (i % 2, if i < 60 { "web" } else { "studio" })).collect();
        // In "web" masks are wide; in "studio" sizes say nothing.
        let sizes: Vec<Size> =
            rows.iter()
                .enumerate()
                .map(|(i, (label, source))| {
                    if *source == "web" {
                        (if *label == 0 { 90 } else { 60 }, 96)
                    } else {
                        (64 + i as u32 / 2 % 16, 96)
                    }
                })
                .collect();
        let found = warnings(&manifest(&rows), &sizes);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].code, "crop_tells_label");
        assert!(found[0].detail.contains("web") && found[0].detail.contains("AUC 1.00"), "{}", found[0].detail);
    }

    #[test]
    fn a_class_that_is_smaller_than_all_others_is_named_too() {
        let rows: Vec<(u32, &str)> = (0..900).map(|i| (i % 3, "studio")).collect();
        let mut three = manifest(&rows);
        three.classes.push("no_face".into());
        let sizes: Vec<Size> = rows.iter().map(|(label, _)| (if *label == 2 { 60 } else { 90 }, 96)).collect();
        let found = warnings(&three, &sizes);
        assert!(found.iter().any(|warning| warning.detail.contains("AUC 1.00")), "{found:?}");
    }

    #[test]
    fn of_many_looks_none_is_taken_for_a_finding_by_chance() {
        let cameras: Vec<String> = (0..40).map(|camera| format!("camera {camera}")).collect();
        let mut noise = 7u32;
        let mut draw = |below: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) % below
        };
        let rows: Vec<(u32, &str)> = (0..2000).map(|i| (draw(2), cameras[i % 40].as_str())).collect();
        let sizes: Vec<Size> = rows.iter().map(|_| (60 + draw(40), 60 + draw(40))).collect();
        assert_eq!(warnings(&manifest(&rows), &sizes), []);
    }

    #[test]
    fn what_sizes_tell_everywhere_is_not_told_again_of_the_values_that_show_a_little_more() {
        let mut noise = 7u32;
        let mut draw = |below: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) % below
        };
        let rows: Vec<(u32, &str)> = (0..2000).map(|_| (draw(2), "web")).collect();
        // An area of .66 over all.
        let sizes: Vec<Size> = rows.iter().map(|&(label, _)| (60 + draw(40) + 7 * label, 96)).collect();
        let mut manifest = manifest(&rows);
        for sample in &mut manifest.samples {
            sample.attributes = (0..100).map(|column| (format!("column {column}"), draw(10).to_string())).collect();
        }
        assert_eq!(warnings(&manifest, &sizes), []);
    }

    #[test]
    fn the_areas_are_those_of_each_class_judged_alone() {
        let rows: Vec<_> = (0..300).map(|i| (i * i % 7 % 3, "web")).collect();
        let manifest = Manifest { classes: ["a", "b", "c"].map(str::to_owned).to_vec(), ..manifest(&rows) };
        // Many are as wide as others.
        let sizes: Vec<Size> = (0..300).map(|i| (60 + i * 37 % 23, 96)).collect();
        let labelled: Vec<Row<'_>> = manifest.samples.iter().zip(sizes).collect();
        let (_, width) = MEASURES[0];
        let sums = rank_sums(measured(&labelled, width), 3);
        for class in 0..3 {
            let scores: Vec<(f64, bool)> =
                labelled.iter().map(|&(sample, size)| (width(size), sample.label == Some(class))).collect();
            let images = scores.iter().filter(|(_, of_class)| *of_class).count();
            let area = auc_of_ranks(sums[class as usize], images, 300 - images);
            assert_eq!(Some(area), crate::statistics::auc(&scores), "class {class}");
        }
    }

    #[test]
    fn a_thousand_classes_are_judged_by_one_order() {
        // Sorted for each class, and within each source, these were 153,000 orders.
        let sources: Vec<String> = (0..50).map(|source| format!("source {source}")).collect();
        let rows: Vec<(u32, &str)> =
            (0..100_000).map(|i| (i % 1000, sources[i as usize / 1000 % 50].as_str())).collect();
        let classes = (0..1000).map(|class| format!("class {class}")).collect();
        let manifest = Manifest { classes, ..manifest(&rows) };
        let sizes: Vec<Size> =
            (0..100_000).map(|i| (if i % 1000 == 7 { 200 } else { 64 + i / 1000 % 16 }, 96)).collect();
        let found = warnings(&manifest, &sizes);
        assert_eq!(found.len(), 1, "two images of a class in each source say nothing: {found:?}");
        assert!(found[0].detail.contains("width") && found[0].detail.contains("\"class 7\""), "{}", found[0].detail);
    }
}
