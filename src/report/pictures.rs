//! What a data set, its augmentations and its mixed pairs look like: sheets of pictures as PNG files.
//!
//! Blocking, and libtorch computes: for a thread of its own. The same functions that training calls make the
//! views and the pairs, so that what is seen is what is learned from. Nothing is stored.

use std::path::Path;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use tch::{Kind, TchError, Tensor};

use super::canvas::{self, CHARACTER, Canvas, LINE, Tile};
use crate::augment::{Draws, network_input};
use crate::dataset::{DatasetError, Manifest, Role, Sample, read_images};
use crate::ssl::mixup::Mixup;
use crate::train::config::TrainConfig;

/// Side that small pictures are enlarged to at least, pixels.
const SHOWN: u32 = 96;
/// Width of the longest caption, `contrast 1.25`.
const CAPTION: u32 = 13 * CHARACTER;
/// Between pictures, and around the sheet, pixels.
const GAP: u32 = 8;
/// Pictures of a class.
const SAMPLES: usize = 8;
/// Rows of a sheet.
const ROWS: usize = 6;
/// Classes shown; the others are counted.
const CLASSES: usize = 16;
/// Characters of a class's name.
const NAME: usize = 16;
/// Draws behind the histogram of λ, and its bars over 0…1.
const LAMBDAS: usize = 50_000;
const BARS: usize = 50;

/// Why a sheet could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The data set cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There is nothing to show.
    #[error("the data set has no {0}")]
    Empty(&'static str),
    /// libtorch's.
    #[error("failed to compute the pictures: {0}")]
    Torch(#[from] TchError),
    /// The PNG cannot be written.
    #[error("failed to write the PNG: {0}")]
    Png(#[from] image::ImageError),
}

/// Images of a data set at one resolution, with their samples.
struct Shown<'a> {
    samples: Vec<&'a Sample>,
    /// uint8 `[N, side, side, 3]`.
    images: Tensor,
    side: u32,
}

impl<'a> Shown<'a> {
    /// Decodes the samples `rows`.
    fn read(
        directory: &Path,
        manifest: &'a Manifest,
        rows: &[usize],
        config: &TrainConfig,
    ) -> Result<Self, PictureError> {
        let samples: Vec<&Sample> = rows.iter().map(|&row| &manifest.samples[row]).collect();
        let pixels = read_images(directory, &samples, &config.preprocess())?.concat();
        let side = i64::from(config.size);
        let images = Tensor::from_slice(&pixels).f_view([rows.len() as i64, side, side, 3])?;
        Ok(Self { samples, images, side: config.size })
    }
}

/// Labelled training images, a row for each class, and one of unlabelled images.
///
/// # Errors
/// When the data set cannot be read.
pub fn samples(directory: &Path, config: &TrainConfig) -> Result<Vec<u8>, PictureError> {
    let manifest = Manifest::read(directory)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut groups: Vec<(String, Vec<usize>)> = (0..)
        .zip(manifest.classes.iter().take(CLASSES))
        .map(|(class, name)| (name.clone(), training(&manifest, |label| label == Some(class))))
        .collect();
    let unlabelled = training(&manifest, |label| label.is_none());
    if !unlabelled.is_empty() {
        groups.push(("(no label)".to_owned(), unlabelled));
    }
    let zoom = zoom(config.size);
    let cell = config.size * zoom;
    let hidden = manifest.classes.len().saturating_sub(CLASSES);
    let names = NAME as u32 * CHARACTER + GAP;
    let width = GAP + names + SAMPLES as u32 * (cell + GAP);
    let height = GAP + groups.len() as u32 * (cell + GAP) + if hidden > 0 { LINE + GAP } else { 0 };
    let mut canvas = Canvas::new(width, height);
    let mut top = GAP;
    for (name, rows) in groups {
        canvas.text(GAP, top + cell / 2 - LINE, &name, NAME, canvas::INK);
        canvas.text(GAP, top + cell / 2, &format!("{} images", rows.len()), NAME, canvas::QUIET);
        let shown = Shown::read(directory, &manifest, &pick(&rows, SAMPLES, &mut rng), config)?;
        let pixels = bytes(&shown.images)?;
        for (column, tile) in (0..).zip(tiles(&pixels, shown.side)) {
            canvas.tile(GAP + names + column * (cell + GAP), top, tile, zoom);
        }
        top += cell + GAP;
    }
    if hidden > 0 {
        canvas.text(GAP, top, &format!("and {hidden} more classes"), 40, canvas::QUIET);
    }
    Ok(canvas.png()?)
}

/// Training images, each beside K views of it, with what was drawn for each view.
///
/// # Errors
/// When the data set cannot be read or libtorch fails.
pub fn augmentations(directory: &Path, config: &TrainConfig) -> Result<Vec<u8>, PictureError> {
    let manifest = Manifest::read(directory)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let rows = pick(&training(&manifest, |_| true), ROWS, &mut rng);
    if rows.is_empty() {
        return Err(PictureError::Empty("training images"));
    }
    let shown = Shown::read(directory, &manifest, &rows, config)?;
    let (augment, k) = (config.augment(), config.k as usize);
    let draws = augment.draw_views(rows.len(), k, &mut rng);
    let views = augment.apply(&shown.images.f_repeat([k as i64, 1, 1, 1])?, &draws)?;

    let captions: Vec<Vec<String>> = (0..rows.len() * k).map(|row| caption(&draws, row, config)).collect();
    let lines = captions.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let zoom = zoom(shown.side);
    let cell = shown.side * zoom;
    let (across, down) = (cell.max(CAPTION) + GAP, cell + lines * LINE + GAP);
    let mut canvas = Canvas::new(GAP + (k as u32 + 1) * across, GAP + LINE + rows.len() as u32 * down);
    let characters = (across / CHARACTER) as usize;
    let (originals, views) = (bytes(&shown.images)?, bytes(&pixels_of(&views)?)?);
    let mut place = |column: usize, row: usize, tile: Tile<'_>, caption: &[String]| {
        let (left, top) = (GAP + column as u32 * across, GAP + LINE + row as u32 * down);
        if row == 0 {
            let head = if column == 0 { "original".to_owned() } else { format!("view {column}") };
            canvas.text(left, GAP, &head, characters, canvas::INK);
        }
        canvas.tile(left, top, tile, zoom);
        for (line, text) in (0..).zip(caption) {
            canvas.text(left, top + cell + 2 + line * LINE, text, characters, canvas::QUIET);
        }
    };
    for (row, tile) in tiles(&originals, shown.side).enumerate() {
        place(0, row, tile, &[]);
    }
    for ((index, tile), caption) in tiles(&views, shown.side).enumerate().zip(&captions) {
        place(1 + index / rows.len(), index % rows.len(), tile, caption);
    }
    Ok(canvas.png()?)
}

/// Pairs of labelled training images, what mixup makes of them, and how λ is distributed at this α.
///
/// # Errors
/// When the data set cannot be read or libtorch fails.
pub fn mixup(directory: &Path, config: &TrainConfig) -> Result<Vec<u8>, PictureError> {
    let manifest = Manifest::read(directory)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let rows = pick(&training(&manifest, |label| label.is_some()), ROWS, &mut rng);
    let shown = Shown::read(directory, &manifest, &rows, config)?;
    let mixup = Mixup { alpha: Some(config.alpha) };
    let pairing = mixup.draw(rows.len(), &mut rng).filter(|_| !rows.is_empty());
    let pairing = pairing.ok_or(PictureError::Empty("labelled training images"))?;
    let mixed = bytes(&pixels_of(&pairing.mix(&network_input(&shown.images)?)?)?)?;
    let originals = bytes(&shown.images)?;
    let originals: Vec<Tile<'_>> = tiles(&originals, shown.side).collect();

    let zoom = zoom(shown.side);
    let cell = shown.side * zoom;
    let (across, down) = (cell.max(CAPTION) + GAP, cell + LINE + GAP);
    let words = 3 * across + GAP;
    let mut canvas =
        Canvas::new(words + PLOT_WIDTH + 2 * GAP, GAP + LINE + (rows.len() as u32 * down).max(PLOT_HEIGHT));
    let characters = (across / CHARACTER) as usize;
    for (column, head) in (0..).zip(["image", "partner", "mixed"]) {
        canvas.text(GAP + column * across, GAP, head, characters, canvas::INK);
    }
    let name = |row: usize| shown.samples[row].label.map_or("", |label| manifest.classes[label as usize].as_str());
    for (row, tile) in tiles(&mixed, shown.side).enumerate() {
        let (partner, lambda) = (pairing.partner[row] as usize, pairing.lambda[row]);
        let top = GAP + LINE + row as u32 * down;
        let cells = [
            (originals[row], name(row).to_owned()),
            (originals[partner], name(partner).to_owned()),
            (tile, format!("\u{3bb}' {lambda:.2}")),
        ];
        for (column, (tile, caption)) in (0..).zip(cells) {
            canvas.tile(GAP + column * across, top, tile, zoom);
            canvas.text(GAP + column * across, top + cell + 2, &caption, characters, canvas::QUIET);
        }
    }
    histogram(&mut canvas, words, GAP, config.alpha, &mut rng);
    Ok(canvas.png()?)
}

const BAR_WIDTH: u32 = 6;
const BAR_HEIGHT: u32 = 160;
const PLOT_WIDTH: u32 = BARS as u32 * BAR_WIDTH;
const PLOT_HEIGHT: u32 = BAR_HEIGHT + 6 * LINE;

/// λ as it is drawn (pale) and λ' = max(λ, 1 − λ) (dark), from many draws of the same functions.
fn histogram(canvas: &mut Canvas, left: u32, top: u32, alpha: f64, rng: &mut ChaCha8Rng) {
    let Ok(beta) = Beta::new(alpha, alpha) else { return };
    let lambdas: Vec<f64> = (0..LAMBDAS).map(|_| beta.sample(rng)).collect();
    let larger = lambdas.iter().map(|lambda| lambda.max(1.0 - lambda));
    let mean = larger.clone().sum::<f64>() / LAMBDAS as f64;
    let (all, larger) = (counts(lambdas.iter().copied()), counts(larger));
    let most = larger.iter().copied().max().unwrap_or(1).max(1);
    canvas.text(left, top, &format!("\u{3bb} ~ Beta({alpha}, {alpha})"), 37, canvas::INK);
    let floor = top + LINE + BAR_HEIGHT;
    for (counts, ink) in [(larger, canvas::BAR), (all, canvas::PALE)] {
        for (bar, count) in (0..).zip(counts) {
            let height = (u64::from(BAR_HEIGHT) * count / most) as u32;
            canvas.bar(left + bar * BAR_WIDTH, floor - height, BAR_WIDTH - 1, height, ink);
        }
    }
    canvas.bar(left, floor, PLOT_WIDTH, 1, canvas::INK);
    for (place, text) in [(0, "0"), (PLOT_WIDTH / 2 - 12, "0.5"), (PLOT_WIDTH - CHARACTER, "1")] {
        canvas.text(left + place, floor + 3, text, 3, canvas::QUIET);
    }
    canvas.text(left, floor + 2 * LINE, "pale: \u{3bb} as drawn", 37, canvas::QUIET);
    canvas.text(left, floor + 3 * LINE, "dark: \u{3bb}' = max(\u{3bb}, 1 - \u{3bb}), as used", 37, canvas::QUIET);
    canvas.text(left, floor + 4 * LINE, &format!("mean of \u{3bb}': {mean:.3}"), 37, canvas::QUIET);
}

/// How many of the values in 0…1 fall under each bar.
fn counts(values: impl Iterator<Item = f64>) -> Vec<u64> {
    let mut counts = vec![0; BARS];
    for value in values {
        counts[((value * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    counts
}

/// What was done to a view, a line for each operation.
fn caption(draws: &Draws, row: usize, config: &TrainConfig) -> Vec<String> {
    let pad = i64::from(config.augment_pad);
    let (down, right) = (pad - i64::from(draws.top[row]), pad - i64::from(draws.left[row]));
    let factor = |name: &str, value: f32| (value != 1.0).then(|| format!("{name} {value:.2}"));
    [
        draws.flip[row].then(|| "flip".to_owned()),
        (down != 0 || right != 0).then(|| format!("shift {right:+},{down:+}")),
        (draws.rotation[row] != 0.0).then(|| format!("turn {:.1}", draws.rotation[row])),
        factor("zoom", draws.scale[row]),
        factor("contrast", draws.contrast[row]),
        factor("bright", draws.brightness[row]),
        factor("satur.", draws.saturation[row]),
        (draws.hue[row] != 0.0).then(|| format!("hue {:+.2}", draws.hue[row])),
        factor("gamma", draws.gamma[row]),
        draws.grayscale[row].then(|| "grayscale".to_owned()),
        (config.augment_erase > 0.0).then(|| "erase".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rows of the training sheet whose label is wanted.
fn training(manifest: &Manifest, wanted: impl Fn(Option<u32>) -> bool) -> Vec<usize> {
    let samples = manifest.samples.iter().enumerate();
    samples.filter(|(_, sample)| sample.split == Role::Train && wanted(sample.label)).map(|(row, _)| row).collect()
}

/// At most `most` of `rows`, at random.
fn pick(rows: &[usize], most: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    index::sample(rng, rows.len(), most.min(rows.len())).iter().map(|place| rows[place]).collect()
}

fn zoom(side: u32) -> u32 {
    SHOWN.div_ceil(side)
}

fn tiles(pixels: &[u8], side: u32) -> impl Iterator<Item = Tile<'_>> {
    pixels.chunks_exact((side * side * 3) as usize).map(move |pixels| Tile { side, pixels })
}

/// Network input `[N, 3, H, W]` in −1…1 → uint8 `[N, H, W, 3]`.
fn pixels_of(x: &Tensor) -> Result<Tensor, TchError> {
    let scaled = x.f_permute([0, 2, 3, 1])?.f_add_scalar(1.0)?.f_mul_scalar(127.5)?;
    scaled.f_round()?.f_clamp(0.0, 255.0)?.f_to_kind(Kind::Uint8)
}

fn bytes(images: &Tensor) -> Result<Vec<u8>, TchError> {
    Vec::try_from(images.f_contiguous()?.f_view([-1])?)
}
