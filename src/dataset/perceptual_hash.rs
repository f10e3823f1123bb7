//! What a picture looks like in the large, in 64 bits, and which of many look alike.
//!
//! The hash is the signs of the lowest frequencies of the luminance (a discrete cosine transform, as pHash
//! does; Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"). Brightness and
//! contrast do not move a sign, JPEG and resizing hardly do, and a mirror image has the signs of the odd
//! horizontal frequencies turned, so that one look-up more finds those too. A crop or a shift changes it.

use std::sync::LazyLock;

/// Side of the pictures that are hashed, pixels.
pub(super) const SIDE: usize = 32;

/// Hashes that differ in more bits are of different pictures. The search below is exact up to 7: of four
/// bands one differs in a single bit at most (the pigeonhole principle).
pub(super) const MAX_DISTANCE: u32 = 7;

/// Bits that turn when a picture is mirrored left to right: bit 8·v + u has the horizontal frequency u.
const MIRROR: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// A picture whose luminance varies less (standard deviation, of 255) has no look: its signs are noise.
const FLAT: f32 = 4.0;

const BANDS: u32 = 4;
const BAND_BITS: u32 = 16;
const KEYS: usize = 1 << BAND_BITS;

/// The luminance of a picture, `SIDE·SIDE`.
pub(super) type Luma = [f32; SIDE * SIDE];

/// The lowest frequencies of each direction.
const FREQUENCIES: usize = 8;

/// cos(π·k·(2n + 1) / 2·SIDE): for each pixel n those of the frequencies k = 0 … 7 side by side, then of 8.
static COSINES: LazyLock<([[f32; FREQUENCIES]; SIDE], [f32; SIDE])> = LazyLock::new(|| {
    let angle = |k: usize, n: usize| std::f64::consts::PI * (k * (2 * n + 1)) as f64 / (2 * SIDE) as f64;
    let cosine = |k: usize, n: usize| angle(k, n).cos() as f32;
    (std::array::from_fn(|n| std::array::from_fn(|k| cosine(k, n))), std::array::from_fn(|n| cosine(FREQUENCIES, n)))
});

/// Luminance (BT.601) of `SIDE·SIDE·3` bytes, rows of RGB, less its mean.
pub(super) fn luma(pixels: &[u8]) -> Luma {
    let mut luma = [0.0; SIDE * SIDE];
    for (value, rgb) in luma.iter_mut().zip(pixels.chunks_exact(3)) {
        *value = 0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2]);
    }
    let mean = sum(&luma, |value| value) / luma.len() as f32;
    luma.iter_mut().for_each(|value| *value -= mean);
    luma
}

/// Running sums side by side, as many as a vector register holds: one alone waits for itself.
const LANES: usize = 16;

/// The sum of `of` each value.
fn sum(values: &Luma, of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    for some in values.as_chunks::<LANES>().0 {
        (0..LANES).for_each(|lane| sums[lane] += of(some[lane]));
    }
    sums.iter().sum()
}

/// The sum of the products of two luminances, of `a` and the mirror image of `b` where that is asked for.
pub(super) fn dot(a: &Luma, b: &Luma, mirrored: bool) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<SIDE>().0.iter().zip(b.as_chunks::<SIDE>().0) {
        let mut b = *b;
        if mirrored {
            b.reverse();
        }
        for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
            (0..LANES).for_each(|lane| sums[lane] += a[lane] * b[lane]);
        }
    }
    sums.iter().sum()
}

/// The hash of a picture's luminance (its mean taken off); none for a picture of one colour.
pub(super) fn hash(luma: &Luma) -> Option<u64> {
    let variance = sum(luma, |value| value * value) / luma.len() as f32;
    if variance < FLAT * FLAT {
        return None;
    }
    let (cosines, next) = &*COSINES;
    // Frequencies side by side, so that they are summed side by side: vertical v, horizontal u.
    let mut spectrum = [[0.0; FREQUENCIES]; FREQUENCIES];
    // The mean, v = u = 0, says nothing; the next vertical frequency takes its place.
    let mut instead = 0.0;
    for (y, row) in luma.as_chunks::<SIDE>().0.iter().enumerate() {
        let mut along = [0.0; FREQUENCIES];
        for (value, cosines) in row.iter().zip(cosines) {
            (0..FREQUENCIES).for_each(|u| along[u] += value * cosines[u]);
        }
        for (of_v, cosine) in spectrum.iter_mut().zip(&cosines[y]) {
            (0..FREQUENCIES).for_each(|u| of_v[u] += along[u] * cosine);
        }
        instead += along[0] * next[y];
    }
    spectrum[0][0] = instead;
    let positive = spectrum.as_flattened().iter().enumerate().map(|(bit, value)| u64::from(*value > 0.0) << bit);
    Some(positive.sum())
}

/// Two pictures whose hashes are near each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike {
    /// The earlier one's index.
    pub first: u32,
    /// The later one's index.
    pub second: u32,
    /// Whether one is like the other's mirror image.
    pub mirrored: bool,
}

/// Every pair of hashes at most [`MAX_DISTANCE`] bits apart, as they are or mirrored; true beside it unless
/// more than `budget` pairs had to be compared or more than `most` were found, and the search stopped there.
///
/// Compared are only hashes of which some band of 16 bits differs in one bit at most: for pictures that do
/// not look alike that is about one other in 1,000, and the time grows with the pictures, not their square.
pub(super) fn search(hashes: &[Option<u64>], mut budget: u64, most: usize) -> (Vec<Alike>, bool) {
    let bands: Vec<Band> = (0..BANDS).map(|band| Band::new(hashes, band)).collect();
    let mut found = Vec::new();
    for (first, hash) in hashes.iter().enumerate().filter_map(|(index, hash)| Some((index as u32, (*hash)?))) {
        for mirrored in [false, true] {
            let wanted = if mirrored { hash ^ MIRROR } else { hash };
            for (number, band) in bands.iter().enumerate() {
                for second in band.near(key(wanted, number as u32), first) {
                    let Some(left) = budget.checked_sub(1) else { return (found, false) };
                    budget = left;
                    let difference = wanted ^ hashes[second as usize].unwrap_or(!wanted);
                    // A pair that is near in several bands is met in the first of them.
                    let met = || (0..number as u32).any(|earlier| key(difference, earlier).count_ones() <= 1);
                    if difference.count_ones() <= MAX_DISTANCE && !met() {
                        if found.len() == most {
                            return (found, false);
                        }
                        found.push(Alike { first, second, mirrored });
                    }
                }
            }
        }
    }
    (found, true)
}

fn key(hash: u64, band: u32) -> u16 {
    (hash >> (band * BAND_BITS)) as u16
}

/// Pictures by the value of one band of their hash.
struct Band {
    /// Indices, sorted by value, then by index.
    order: Vec<u32>,
    /// Where each value's indices begin.
    starts: Vec<u32>,
}

impl Band {
    /// A counting sort.
    fn new(hashes: &[Option<u64>], band: u32) -> Self {
        let keys = || hashes.iter().enumerate().filter_map(|(index, hash)| Some((index as u32, key((*hash)?, band))));
        let mut starts = vec![0u32; KEYS + 1];
        keys().for_each(|(_, key)| starts[usize::from(key) + 1] += 1);
        for value in 0..KEYS {
            starts[value + 1] += starts[value];
        }
        let (mut next, mut order) = (starts.clone(), vec![0; starts[KEYS] as usize]);
        for (index, key) in keys() {
            let place = &mut next[usize::from(key)];
            order[*place as usize] = index;
            *place += 1;
        }
        Self { order, starts }
    }

    /// Pictures behind `after` whose band differs from `key` in one bit at most.
    fn near(&self, key: u16, after: u32) -> impl Iterator<Item = u32> {
        let keys = std::iter::once(key).chain((0..BAND_BITS).map(move |bit| key ^ (1 << bit)));
        keys.flat_map(move |key| {
            let (start, end) = (self.starts[usize::from(key)], self.starts[usize::from(key) + 1]);
            self.order[start as usize..end as usize].iter().rev().copied().take_while(move |&index| index > after)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture of soft blobs, unlike its own mirror image.
    fn blobs(seed: u32) -> Vec<u8> {
        let wave = |n: u32, at: f32| (at * (1.0 + ((seed * 7 + n * 13) % 11) as f32) / 9.0 + (seed * n) as f32).sin();
        let pixel = |x: usize, y: usize| {
            let (x, y) = (x as f32, y as f32);
            let value = 128.0 + 50.0 * wave(1, x) * wave(2, y) + 40.0 * wave(3, x + 2.0 * y);
            [value as u8, (value * 0.9) as u8, (255.0 - value) as u8]
        };
        (0..SIDE * SIDE).flat_map(|at| pixel(at % SIDE, at / SIDE)).collect()
    }

    fn hash_of(pixels: &[u8]) -> u64 {
        hash(&luma(pixels)).unwrap()
    }

    #[test]
    fn brightness_and_contrast_leave_the_hash_alone() {
        for seed in 1..20 {
            let picture = blobs(seed);
            let changed: Vec<u8> = picture.iter().map(|&value| (f32::from(value) * 0.7 + 40.0) as u8).collect();
            assert!((hash_of(&picture) ^ hash_of(&changed)).count_ones() <= MAX_DISTANCE, "seed {seed}");
        }
    }

    #[test]
    fn a_mirror_image_has_the_mirrored_hash() {
        for seed in 1..20 {
            let picture = blobs(seed);
            let mirrored: Vec<u8> = picture
                .chunks(SIDE * 3)
                .flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>())
                .collect();
            assert!((hash_of(&picture) ^ MIRROR ^ hash_of(&mirrored)).count_ones() <= 1, "seed {seed}");
            assert!((hash_of(&picture) ^ hash_of(&mirrored)).count_ones() > MAX_DISTANCE, "seed {seed}");
        }
    }

    #[test]
    fn signs_match_a_transform_written_out() {
        // A single cosine of vertical frequency 2 and horizontal frequency 3 lights its own bit.
        let wave = |k: usize, n: usize| (std::f64::consts::PI * (k * (2 * n + 1)) as f64 / 64.0).cos();
        let pixels: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|at| [(128.0 + 100.0 * wave(3, at % SIDE) * wave(2, at / SIDE)) as u8; 3])
            .collect();
        assert_eq!(hash_of(&pixels) >> (8 * 2 + 3) & 1, 1);
        let negative: Vec<u8> = pixels.iter().map(|value| 255 - value).collect();
        assert_eq!(hash_of(&negative) >> (8 * 2 + 3) & 1, 0);
    }

    #[test]
    fn a_picture_of_one_colour_has_no_hash() {
        assert_eq!(hash(&luma(&[90; SIDE * SIDE * 3])), None);
    }

    #[test]
    fn a_spent_budget_stops_the_search_and_says_so() {
        let hashes = vec![Some(7); 100];
        assert_eq!(search(&hashes, u64::MAX, usize::MAX).0.len(), 100 * 99 / 2);
        let (found, complete) = search(&hashes, 500, usize::MAX);
        assert!(!complete && !found.is_empty() && found.len() <= 500);
        // Frames of a still camera are all alike: what is found must not outgrow what will be looked at.
        let (found, complete) = search(&hashes, u64::MAX, 10);
        assert_eq!((found.len(), complete), (10, false));
    }

    proptest! {
        #[test]
        fn the_bands_find_what_comparing_all_with_all_finds(
            bases in prop::collection::vec(any::<u64>(), 1..6),
            copies in prop::collection::vec((0usize..6, prop::collection::vec(0u32..64, 0..9), any::<bool>(), any::<bool>()), 0..40),
        ) {
            // Copies of a few hashes with a few bits turned, some mirrored, some absent.
            let hashes: Vec<Option<u64>> = copies.iter().map(|(base, bits, mirrored, there)| {
                let hash = bits.iter().fold(bases[base % bases.len()], |hash, bit| hash ^ (1 << bit));
                there.then_some(if *mirrored { hash ^ MIRROR } else { hash })
            }).collect();
            let mut expected = Vec::new();
            for (first, a) in hashes.iter().enumerate() {
                for (second, b) in hashes.iter().enumerate().skip(first + 1) {
                    for (mirrored, mask) in [(false, 0), (true, MIRROR)] {
                        if let (Some(a), Some(b)) = (a, b) && (a ^ b ^ mask).count_ones() <= MAX_DISTANCE {
                            expected.push(Alike { first: first as u32, second: second as u32, mirrored });
                        }
                    }
                }
            }
            let (mut found, complete) = search(&hashes, u64::MAX, usize::MAX);
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert!(complete);
            prop_assert_eq!(found, expected);
        }
    }
}
