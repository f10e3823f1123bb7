//! The pure functions and the decode path, one by one: `cargo bench --bench micro`. Whole steps, the engine and the service
//! are measured by `mixmatch bench` and the scripts beside this file.

use std::hint::black_box;

use divan::Bencher;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use mixmatch::augment::{Augment, network_input};
use mixmatch::demo::dataset::draw;
use mixmatch::imaging::{DecodeLimits, Fit, Preprocess, prepare};
use mixmatch::ssl::guess::{average_views, sharpen};
use mixmatch::ssl::loss;
use mixmatch::ssl::mixup::Mixup;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

fn main() {
    tch::set_num_threads(1);
    divan::main();
}

fn pixels(images: i64, side: i64) -> Tensor {
    tch::manual_seed(1);
    Tensor::randint(256, [images, side, side, 3], (Kind::Uint8, Device::Cpu))
}

fn jpeg(side: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(side, side, |x, y| {
        image::Rgb([(x * 255 / side) as u8, (y * 255 / side) as u8, ((x * 7 + y * 13) % 64) as u8])
    });
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 88)).expect("memory");
    bytes
}

/// Decode and resize to 64×64.
#[divan::bench(args = [64, 256, 1024, 4096])]
fn decode(bencher: Bencher, side: u32) {
    let bytes = jpeg(side);
    let (limits, preprocess) = (DecodeLimits::default(), Preprocess { size: 64, fit: Fit::Stretch });
    bencher.bench(|| prepare(black_box(&bytes), &limits, &preprocess));
}

/// A photo is decoded, searched and cut: of somebody, found in the whole of it; of nobody, so that its parts are searched too.
#[divan::bench(args = ["somebody", "nobody"])]
fn face(bencher: Bencher, who: &str) {
    let photo = if who == "nobody" { jpeg(256) } else { draw(1, 3, "face").expect("a drawing").remove(0).bytes };
    let (limits, preprocess) = (DecodeLimits::default(), Preprocess { size: 64, fit: Fit::Face });
    let found = prepare(&photo, &limits, &preprocess).expect("a picture").face;
    assert_eq!(found.is_some(), who == "somebody");
    bencher.bench(|| prepare(black_box(&photo), &limits, &preprocess));
}

/// 64 images of 32×32, mirrored and cropped.
#[divan::bench]
fn augment_weak(bencher: Bencher) {
    let (images, augment) = (pixels(64, 32), Augment { flip: true, pad: 4, ..Augment::default() });
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    bencher.bench_local(|| augment.apply(&images, &augment.draw(64, &mut rng)));
}

/// The same with rotation, zoom and colours, as `quick` has them.
#[divan::bench]
fn augment_strong(bencher: Bencher) {
    let images = pixels(64, 32);
    let augment = Augment {
        flip: true,
        pad: 4,
        rotation: 10.0,
        scale: 0.1,
        brightness: 0.3,
        contrast: 0.3,
        saturation: 0.3,
        ..Augment::default()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    bencher.bench_local(|| augment.apply(&images, &augment.draw(64, &mut rng)));
}

/// λ' and partners for 192 images of 32×32, and mixing them.
#[divan::bench]
fn mixup(bencher: Bencher) {
    let images = network_input(&pixels(192, 32)).expect("libtorch");
    let (mixup, mut rng) = (Mixup { alpha: Some(0.75) }, ChaCha8Rng::seed_from_u64(1));
    bencher.bench_local(|| mixup.draw(192, &mut rng).map(|pairing| pairing.mix(&images)));
}

/// 128 rows of logits to 64 sharpened guesses of ten classes.
#[divan::bench]
fn guess(bencher: Bencher) {
    let logits = Tensor::randn([128, 10], (Kind::Float, Device::Cpu));
    bencher.bench_local(|| average_views(&logits, 2).and_then(|mean| sharpen(&mean, 0.5)));
}

/// Both losses of 64 and 128 rows of ten classes.
#[divan::bench]
fn losses(bencher: Bencher) {
    let logits = Tensor::randn([192, 10], (Kind::Float, Device::Cpu));
    let targets = Tensor::randn([192, 10], (Kind::Float, Device::Cpu)).softmax(-1, Kind::Float);
    bencher.bench_local(|| {
        let part = |tensor: &Tensor, from, count| tensor.narrow(0, from, count);
        let labelled = loss::labelled(&part(&logits, 0, 64), &part(&targets, 0, 64));
        (labelled.is_ok(), loss::unlabelled(&part(&logits, 64, 128), &part(&targets, 64, 128)).is_ok())
    });
}
