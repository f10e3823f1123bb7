//! Pictures that look alike, as those do that were saved again: re-encoded, resized, brightened, recoloured or mirrored.
//!
//! Hashes propose ([`perceptual_hash`]), the pictures themselves decide: the luminance of both at 32 × 32 pixels
//! has to correlate. The thresholds were chosen for few false claims (docs/benchmarks.md): on two sets of faces
//! and in a sample of CIFAR-10 every pair claimed was the same picture to the eye. Of pictures with little in them, such
//! as handwritten digits, different ones are claimed too: so nothing here says how two came to look alike. Another crop of
//! the same photograph is not found: at this size it cannot be told from another person in the same pose.
//!
//! Such rows are kept, unlike identical ones: a likeness is a judgement, and whoever owns the labels makes it.
//! They are named in the report, and the validation split keeps them on one side.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::groups::Forest;
use super::manifest::{Manifest, Role};
use super::perceptual_hash::{self, Alike, Luma};
use super::report::Warning;

/// Correlation of the luminance from which two pictures look alike.
const CORRELATION: f32 = 0.93;

/// The same against a mirror image: more, because a face is nearly its own mirror image.
const CORRELATION_MIRRORED: f32 = 0.97;

/// Hashes compared before the search gives up: seconds. Only where thousands of images are alike (frames of
/// a film, say) is it reached.
const BUDGET: u64 = 500_000_000;

/// Pairs whose pictures are compared.
const MAX_PAIRS: usize = 1_000_000;

/// Pairs named beside a warning.
const NAMED: usize = 5;

/// Images that may be copies of one: at least so many, and at most one 500th of the data set. More of them in one
/// cluster look alike by nature, as parts before the same camera do, and likeness says nothing about copies.
const MOST_COPIES: usize = 20;

/// Near duplicates among a data set's samples.
#[derive(Debug, Default)]
pub(super) struct NearDuplicates {
    /// Pairs of sample indices, each once, in order.
    pub pairs: Vec<Alike>,
    /// Images that look alike by nature, and the first image of each one's cluster; no pair is of them.
    pub alike: Vec<(u32, u32)>,
    /// Whether the search went to its end.
    pub complete: bool,
}

/// Searches; `hashes[i]` and `pixels(i)` (`SIDE·SIDE·3` bytes) are of sample i.
pub(super) fn find<'a>(hashes: &[Option<u64>], pixels: impl Fn(usize) -> &'a [u8] + Sync) -> NearDuplicates {
    let (alike, complete) = perceptual_hash::search(hashes, BUDGET, MAX_PAIRS);
    let is_one = |pair: &Alike| {
        let luma = |index: u32| perceptual_hash::luma(pixels(index as usize));
        let least = if pair.mirrored { CORRELATION_MIRRORED } else { CORRELATION };
        correlation(&luma(pair.first), &luma(pair.second), pair.mirrored) >= least
    };
    let mut pairs: Vec<Alike> = alike.into_par_iter().filter(is_one).collect();
    // A symmetric picture is like the other and like its mirror image: said once, as the former.
    pairs.sort_unstable();
    pairs.dedup_by_key(|pair| (pair.first, pair.second));

    let mut clusters = Forest::new(hashes.len());
    pairs.iter().for_each(|pair| clusters.join(pair.first, pair.second));
    let sets = clusters.sets();
    let by_nature = |size: usize| size > MOST_COPIES.max(hashes.len() / 500);
    pairs.retain(|pair| !by_nature(sets[pair.first as usize].1));
    let alike =
        (0..).zip(&sets).filter(|(_, (_, size))| by_nature(*size)).map(|(at, (cluster, _))| (at, *cluster)).collect();
    NearDuplicates { pairs, alike, complete }
}

/// Pearson's correlation of two luminances that have no mean; of `a` and the mirror image of `b`.
fn correlation(a: &Luma, b: &Luma, mirrored: bool) -> f32 {
    let norm = |luma: &Luma| perceptual_hash::dot(luma, luma, false).sqrt();
    perceptual_hash::dot(a, b, mirrored) / (norm(a) * norm(b)).max(f32::MIN_POSITIVE)
}

/// What to tell about them; `place(i)` says where sample i stands: `train row 17`.
pub(super) fn warnings(manifest: &Manifest, near: &NearDuplicates, place: impl Fn(usize) -> String) -> Vec<Warning> {
    let samples = &manifest.samples;
    let of = |pair: &Alike| (&samples[pair.first as usize], &samples[pair.second as usize]);
    let name = |index: u32| format!("{} {:?}", place(index as usize), samples[index as usize].image);
    let examples = |pairs: &[&Alike]| -> Vec<String> {
        let named = pairs.iter().take(NAMED).map(|pair| {
            let mirrored = if pair.mirrored { " (mirrored)" } else { "" };
            format!("{} and {}{mirrored}", name(pair.first), name(pair.second))
        });
        named.collect()
    };
    let mut warnings = Vec::new();

    let across: Vec<&Alike> = near.pairs.iter().filter(|pair| of(pair).0.split != of(pair).1.split).collect();
    if !across.is_empty() {
        let tested = |index: &u32| samples[*index as usize].split == Role::Test;
        let affected: BTreeSet<u32> = across.iter().flat_map(|pair| [pair.first, pair.second]).filter(tested).collect();
        let all = samples.iter().filter(|sample| sample.split == Role::Test).count();
        let detail = format!(
            "{} of {all} test images ({:.1} %) look like a training image (near duplicates), as a picture does that was saved again, \
             resized, brightened or mirrored, and as two plain drawings may: where they are the same picture, test figures will look \
             better than on new images. None was left out; look at them and take the training image out where it is the same",
            affected.len(),
            100.0 * affected.len() as f64 / all as f64
        );
        warnings.push(Warning::new("near_duplicate_in_both_sheets", detail).with_examples(examples(&across)));
    }

    let differ = |pair: &&Alike| matches!((of(pair).0.label, of(pair).1.label), (Some(a), Some(b)) if a != b);
    let contradicting: Vec<&Alike> = near.pairs.iter().filter(differ).collect();
    if !contradicting.is_empty() {
        let detail = format!(
            "{} pairs of near duplicates have different labels: where they are the same picture, one of the two is wrong",
            contradicting.len()
        );
        warnings.push(Warning::new("near_duplicate_labels_differ", detail).with_examples(examples(&contradicting)));
    }

    let within = near.pairs.iter().filter(|pair| of(pair).0.split == Role::Train && of(pair).1.split == Role::Train);
    let within: BTreeSet<u32> = within.flat_map(|pair| [pair.first, pair.second]).collect();
    if !within.is_empty() {
        let detail = format!(
            "{} training images have a near duplicate among the training images: where it is the same picture it weighs more than \
             others, and they are kept on one side when validation images are held out",
            within.len()
        );
        warnings.push(Warning::new("near_duplicates", detail));
    }
    if !near.alike.is_empty() {
        let of = |role: Role| near.alike.iter().filter(move |(image, _)| samples[*image as usize].split == role);
        let trained: BTreeSet<u32> = of(Role::Train).map(|&(_, cluster)| cluster).collect();
        let tested = of(Role::Test).filter(|(_, cluster)| trained.contains(cluster)).count();
        let leak = match tested {
            0 => String::new(),
            _ => format!(
                "; {tested} of them are test images that look like training images, and if they are, test figures will look better \
                 than on new ones"
            ),
        };
        let detail = format!(
            "{} of {} images look alike in the large, more than copies would: they are not taken for near duplicates. If they \
             are frames of a few films or shots of a few things, name those in a group column{leak}",
            near.alike.len(),
            samples.len()
        );
        warnings.push(Warning::new("images_look_alike", detail));
    }
    if !near.complete {
        let detail =
            "so many images are alike that the search for near duplicates was cut short: there are more than are told";
        warnings.push(Warning::new("near_duplicates_incomplete", detail));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Sample;
    use super::super::perceptual_hash::SIDE;
    use super::*;
    use std::collections::BTreeMap;

    /// Two diagonal waves; `seed` turns and shifts them.
    fn picture(seed: u32, change: impl Fn(f32) -> f32) -> Vec<u8> {
        let pixel = |x: f32, y: f32| {
            let (a, b) = (0.1 + 0.07 * seed as f32, 0.9 - 0.11 * seed as f32);
            change(128.0 + 60.0 * (a * x + b * y).sin() + 50.0 * (0.31 * x - a * y + seed as f32).cos())
        };
        (0..SIDE * SIDE)
            .flat_map(|at| [pixel((at % SIDE) as f32, (at / SIDE) as f32).clamp(0.0, 255.0) as u8; 3])
            .collect()
    }

    fn mirrored(pixels: &[u8]) -> Vec<u8> {
        pixels.chunks(SIDE * 3).flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>()).collect()
    }

    fn search(pictures: &[Vec<u8>]) -> NearDuplicates {
        let hashes: Vec<_> = pictures.iter().map(|p| perceptual_hash::hash(&perceptual_hash::luma(p))).collect();
        let near = find(&hashes, |index| &pictures[index]);
        assert!(near.complete);
        near
    }

    fn found(pictures: &[Vec<u8>]) -> Vec<(u32, u32, bool)> {
        search(pictures).pairs.iter().map(|pair| (pair.first, pair.second, pair.mirrored)).collect()
    }

    #[test]
    fn a_brightened_and_a_mirrored_copy_are_found_and_others_are_not() {
        let plain = |seed| picture(seed, |value| value);
        let brighter = picture(2, |value| value * 0.8 + 45.0);
        let pictures = [plain(1), plain(2), plain(3), brighter, mirrored(&plain(3)), plain(4)];
        assert_eq!(found(&pictures), [(1, 3, false), (2, 4, true)]);
    }

    #[test]
    fn a_mirror_image_has_to_be_more_alike_than_a_picture_as_it_is() {
        // A pattern too fine for the hash: the stronger it is, the less alike the pictures are.
        let patterned = |strength: u8| -> Vec<u8> {
            let change = |(at, value): (usize, u8)| {
                let (x, y) = (at / 3 % SIDE, at / 3 / SIDE);
                if (x + y) % 2 == 0 { value.saturating_add(strength) } else { value.saturating_sub(strength) }
            };
            picture(4, |value| value).into_iter().enumerate().map(change).collect()
        };
        let plain = patterned(0);
        let likeness = correlation(&perceptual_hash::luma(&plain), &perceptual_hash::luma(&patterned(18)), false);
        assert!((likeness - 0.95).abs() < 0.005, "{likeness}");
        assert_eq!(found(&[plain.clone(), patterned(18)]), [(0, 1, false)]);
        assert_eq!(found(&[plain.clone(), mirrored(&patterned(18))]), [], "as a face and its mirror image may be");
        assert_eq!(found(&[plain, mirrored(&patterned(9))]), [(0, 1, true)]);
    }

    #[test]
    fn many_images_that_look_alike_are_no_copies() {
        let mut pictures: Vec<Vec<u8>> = (0..25).map(|more| picture(1, |value| value + more as f32)).collect();
        pictures.extend([picture(2, |value| value), picture(2, |value| value + 3.0)]);
        let near = search(&pictures);
        assert_eq!(near.alike.iter().map(|(image, _)| *image).collect::<Vec<_>>(), Vec::from_iter(0..25));
        assert!(near.alike.iter().all(|(_, cluster)| *cluster == near.alike[0].1));
        assert_eq!(near.pairs.iter().map(|pair| (pair.first, pair.second)).collect::<Vec<_>>(), [(25, 26)]);
    }

    #[test]
    fn of_a_large_data_set_more_images_may_be_copies_of_one() {
        let (one, none) = (picture(1, |value| value), None);
        let hash = perceptual_hash::hash(&perceptual_hash::luma(&one));
        let pairs = |images: usize| {
            let hashes: Vec<Option<u64>> = (0..images).map(|at| if at < 21 { hash } else { none }).collect();
            find(&hashes, |_| &one).pairs.len()
        };
        assert_eq!((pairs(10_499), pairs(10_500)), (0, 21 * 20 / 2), "a 500th of them is 20, and 21");
    }

    #[test]
    fn correlation_is_pearsons() {
        // r of (1, 2, 3, 4 …) pairs: against itself 1, against its negative −1, against a constant 0.
        let ramp: Luma = std::array::from_fn(|at| at as f32 - 511.5);
        let fallen = ramp.map(|value| -value);
        assert!((correlation(&ramp, &ramp, false) - 1.0).abs() < 1e-6);
        assert!((correlation(&ramp, &fallen, false) + 1.0).abs() < 1e-6);
        assert_eq!(correlation(&ramp, &[0.0; SIDE * SIDE], false), 0.0);
    }

    #[test]
    fn what_straddles_contradicts_or_repeats_is_told_with_rows() {
        let sample = |image: &str, label, split| Sample {
            image: image.into(),
            entry: 0,
            label: Some(label),
            split,
            picked: false,
            group: None,
            attributes: BTreeMap::new(),
        };
        let manifest = Manifest {
            classes: vec!["a".into(), "b".into()],
            samples: vec![
                sample("t0.jpg", 0, Role::Train),
                sample("t1.jpg", 1, Role::Train),
                sample("e0.jpg", 0, Role::Test),
                sample("e1.jpg", 1, Role::Test),
            ],
            ..Manifest::default()
        };
        let pair = |first, second, mirrored| Alike { first, second, mirrored };
        let near =
            NearDuplicates { pairs: vec![pair(0, 1, false), pair(0, 2, true)], complete: true, ..Default::default() };
        let place = |index: usize| format!("{} row {}", manifest.samples[index].split.as_str(), index + 2);
        let told = warnings(&manifest, &near, place);
        let codes: Vec<&str> = told.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(codes, ["near_duplicate_in_both_sheets", "near_duplicate_labels_differ", "near_duplicates"]);
        let detail = &told[0].detail;
        assert!(detail.starts_with("1 of 2 test images (50.0 %) look like a training image"), "{detail}");
        assert_eq!(told[0].examples, ["train row 2 \"t0.jpg\" and test row 4 \"e0.jpg\" (mirrored)"]);
        assert!(!detail.contains(".jpg"), "a model's card repeats this, and names no image: {detail}");
        assert!(told[2].detail.starts_with("2 training images"), "{}", told[2].detail);
        let nothing = NearDuplicates { complete: true, ..NearDuplicates::default() };
        assert_eq!(warnings(&manifest, &nothing, place), []);
        let alike = |alike: &[(u32, u32)]| {
            let near = NearDuplicates { alike: alike.to_vec(), ..NearDuplicates::default() };
            warnings(&manifest, &near, place)
        };
        let doubtful = alike(&[(0, 0), (2, 0), (3, 3)]);
        let codes: Vec<&str> = doubtful.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(codes, ["images_look_alike", "near_duplicates_incomplete"]);
        assert!(doubtful[0].detail.contains("; 1 of them are test images"), "{}", doubtful[0].detail);
        let apart = alike(&[(0, 0), (1, 0), (3, 3)]);
        assert!(!apart[0].detail.contains("test images"), "{}", apart[0].detail);
    }
}
