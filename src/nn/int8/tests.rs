use super::*;
use crate::nn::{self, Head, Mode};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Device;

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn zero_has_a_byte_of_its_own_in_every_range() {
    assert_eq!(Range(0.0, 2.55).steps().1, 0);
    assert_eq!(Range(-1.0, 4.1), Range(-1.0, 4.1));
    assert_eq!(Range(-0.51, 2.04).steps().1, 51);
    assert!((Range(-0.51, 2.04).steps().0 - 0.01).abs() < 1e-8);
    // All above 0, all below it, nothing at all.
    assert_eq!(Range(1.0, 2.55).steps(), Range(0.0, 2.55).steps());
    assert_eq!(Range(-2.55, -1.0).steps().1, 255);
    assert_eq!(Range(0.0, 0.0).steps().1, 0);
}

#[test]
fn bytes_are_the_nearest_steps_and_end_at_the_range() {
    for channels in [3, 16, 35] {
        for kind in [Kind::Float, Kind::BFloat16] {
            tch::manual_seed(2);
            let x = (Tensor::randn([3, 5, 7, channels], FLOAT) * 2.0).permute([0, 3, 1, 2]).to_kind(kind);
            let quantise = Quantise {
                scale: Tensor::rand([channels], FLOAT) * 100.0 + 50.0,
                shift: Tensor::randn([channels], FLOAT) * 10.0,
                slope: 0.1,
                zero: 10,
            };
            let bytes = quantise.forward(&x).unwrap();
            assert_eq!((bytes.kind(), bytes.size()), (Kind::Uint8, x.size()));
            let view = |tensor: &Tensor| tensor.view([1, -1, 1, 1]);
            let z = x.to_kind(Kind::Float) * view(&quantise.scale) + view(&quantise.shift);
            let exact = z.maximum(&(&z * 0.1)) + 10.0;
            let off = (bytes.to_kind(Kind::Float) - exact.clamp(0.0, 255.0)).abs().max().double_value(&[]);
            assert!(off <= 0.5 + 1e-3, "{channels} channels, {kind:?}: off by {off}");
            let ends = (bytes.eq(255).any(), bytes.eq(0).any());
            assert_eq!((i64::try_from(ends.0).unwrap(), i64::try_from(ends.1).unwrap()), (1, 1), "{channels}");
        }
    }
}

/// A network whose BatchNorms have seen something, and images.
fn lived(name: &str, side: i64, kind: Kind) -> (Box<dyn nn::Network>, Weights, Tensor) {
    tch::manual_seed(3);
    let network = nn::build(name, Head::Linear, 3, kind).unwrap();
    let mut weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(8)).unwrap();
    weights.set_bn_momentum(0.5);
    let _no_grad = tch::no_grad_guard();
    for (entry, tensor) in weights.tensors(network.layout()) {
        if entry.shape.len() == 1 {
            let _ = tensor.shallow_clone().f_add_(&(Tensor::rand_like(tensor) * 0.2)).unwrap();
        }
    }
    let images = Tensor::rand([16, 3, side, side], FLOAT) * 2.0 - 1.0;
    for _ in 0..4 {
        let _ = network.forward(&weights, &images, Mode::Train).unwrap();
    }
    (network, weights, images)
}

fn ranges_of(name: &str, weights: &Weights, side: i64, images: &Tensor) -> Ranges {
    let exact = nn::build(name, Head::Linear, 3, Kind::Float).unwrap();
    let mut ranges = Ranges::default();
    ranges.widen(exact.fold(weights, side).unwrap().as_ref(), images).unwrap();
    ranges
}

/// Standard deviation of what is off, in those of the logits.
fn off_by(exact: &Tensor, ours: &Tensor) -> f64 {
    (ours - exact).std(false).double_value(&[]) / exact.std(false).double_value(&[])
}

#[test]
fn a_network_in_int8_answers_nearly_as_the_network_does() {
    if !is_fast() {
        eprintln!("this processor has no VNNI: int8 is not used here");
        return;
    }
    for (name, side) in [("wrn-10-1", 32), ("wrn-16-2", 32), ("wrn4-12-1", 64), ("tiny_resnet", 64)] {
        for kind in [Kind::Float, Kind::BFloat16] {
            let (network, weights, images) = lived(name, side, kind);
            let ranges = ranges_of(name, &weights, side, &images);
            let int8 = ranges.quantise(network.as_ref(), &weights, side).unwrap();
            let exact = nn::build(name, Head::Linear, 3, Kind::Float).unwrap();
            let exact = exact.forward(&weights, &images, Mode::Eval).unwrap().detach();
            let ours = int8.forward(&images).unwrap();
            let off = off_by(&exact, &ours);
            eprintln!("{name} {kind:?}: off by {off:.4}");
            assert!(off < 0.15, "{name}, {kind:?}: off by {off} standard deviations");
            // What an image is answered does not depend on those beside it: one alone, and five.
            for count in [1, 5] {
                let few = int8.forward(&images.narrow(0, 0, count)).unwrap();
                let beside = (few - ours.narrow(0, 0, count)).abs().max().double_value(&[]);
                let scale = exact.std(false).double_value(&[]);
                assert!(beside <= 0.03 * scale, "{name}, {kind:?}, {count}: {beside} of {scale}");
            }
        }
    }
}
