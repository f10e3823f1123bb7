use super::*;
use crate::nn::weights::Layout;
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
    // Down to images of which a single pixel is left at the end.
    for (name, side) in [
        ("wrn-10-1", 32),
        ("wrn-10-1", 4),
        ("wrn-16-2", 32),
        ("wrn4-12-1", 64),
        ("tiny_resnet", 64),
        ("tiny_resnet", 32),
    ] {
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

/// Which loops run is chosen once in a process.
#[test]
fn every_instruction_set_makes_the_same_bytes() {
    let name = "nn::int8::tests::bytes_are_the_nearest_steps_and_end_at_the_range";
    for version in ["v1", "v3", "v4", "v4_bf16"] {
        crate::own_process::run(name, &[("MIXMATCH_KERNELS", version)]);
    }
}

#[test]
fn int8_is_not_used_where_its_sums_are_not_exact() {
    if std::env::var_os("ONEDNN_MAX_CPU_ISA").is_none() {
        // What oneDNN may use is settled once in a process. With AVX-512 and no VNNI it adds two products in 16 bits.
        let name = "nn::int8::tests::int8_is_not_used_where_its_sums_are_not_exact";
        crate::own_process::run(name, &[("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")]);
    } else if cfg!(target_arch = "x86_64") {
        assert!(!is_fast());
    }
}

#[test]
fn a_convolution_of_bytes_is_one_of_the_numbers_that_they_mean() {
    if !is_fast() {
        eprintln!("this processor has no VNNI: int8 is not used here");
        return;
    }
    tch::manual_seed(6);
    let mut layout = Layout::default();
    let conv = Conv::new(&mut layout, "conv", 8, 16, 3, 2);
    let weights = Weights::initialise(&layout, Device::Cpu, &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    let shape = Shape { images: 16, side: 9, kind: Kind::Float };
    // Zero is no byte's end, and what stands beyond the border is zero.
    let range = Range(-1.0, 1.55);
    let bytes = (Tensor::rand([3, 9, 9, 8], FLOAT) * 255.0).to_kind(Kind::Uint8).permute([0, 3, 1, 2]);
    let numbers = (bytes.to_kind(Kind::Float) - 100.0) * 0.01;
    let (weight, _) = folded_weight(&weights, &conv, None).unwrap();
    let steps = weight.abs().amax([1, 2, 3], true) / 127.0;
    let weight = (&weight / &steps).round() * steps;
    let _no_grad = tch::no_grad_guard();
    let exact = numbers.conv2d(&weight, None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
    let near = |ours: Tensor, exact: &Tensor, tolerance: f64, what: &str| {
        assert_eq!(ours.size(), exact.size(), "{what}");
        let off = (ours.to_kind(Kind::Float) - exact).abs().max().double_value(&[]);
        assert!(off <= tolerance, "{what}: off by {off}");
    };
    let of = |gives| Int8Conv::new(&weights, &conv, None, shape, (range, gives)).unwrap();
    near(of(Gives::Sum).numbers(&bytes, Kind::Float).unwrap(), &exact, 1e-4, "numbers");
    near(of(Gives::Relu).numbers(&bytes, Kind::Float).unwrap(), &exact.relu(), 1e-4, "after ReLU");
    // One image alone has weights in a layout of its own.
    let one = bytes.narrow(0, 1, 1);
    near(of(Gives::Sum).numbers(&one, Kind::Float).unwrap(), &exact.narrow(0, 1, 1), 1e-4, "one image");
    let onto = Tensor::randn([3, 5, 5, 16], FLOAT).permute([0, 3, 1, 2]);
    let sum = &exact + &onto;
    near(of(Gives::Sum).onto(&bytes, onto.copy()).unwrap(), &sum, 1e-4, "onto");
    near(of(Gives::Relu).onto(&bytes, onto.copy()).unwrap(), &sum.relu(), 1e-4, "onto, then ReLU");
    let most = exact.max().double_value(&[]) as f32;
    let given = of(Gives::Bytes(Range(0.0, most))).bytes(&bytes).unwrap();
    assert_eq!(given.kind(), Kind::Uint8);
    let step = f64::from(most) / 255.0;
    near(given.to_kind(Kind::Float) * step, &exact.relu(), step * 0.51, "bytes");
    assert!(of(Gives::Sum).numbers(&exact, Kind::Float).is_err(), "numbers are no bytes");
    assert!(of(Gives::Sum).numbers(&bytes, Kind::Double).is_err(), "doubles are not given");
}

#[test]
fn ranges_grow_with_every_batch_and_are_one_networks() {
    let (network, weights, images) = lived("wrn-10-1", 16, Kind::Float);
    let exact = network.fold(&weights, 16).unwrap();
    let mut ranges = Ranges::default();
    ranges.widen(exact.as_ref(), &images.narrow(0, 0, 4)).unwrap();
    let few = ranges.clone();
    ranges.widen(exact.as_ref(), &images).unwrap();
    // Two convolutions in each of three blocks.
    assert_eq!((few.0.len(), ranges.0.len()), (6, 6));
    assert!(few.0.iter().zip(&ranges.0).all(|(few, all)| all.0 <= few.0 && few.1 <= all.1), "{few:?}, {ranges:?}");
    assert_ne!(few, ranges);
    let again = ranges.clone();
    ranges.widen(exact.as_ref(), &images.narrow(0, 0, 4)).unwrap();
    assert_eq!(ranges, again, "what was seen is not forgotten");
    let read: Ranges = serde_json::from_str(&serde_json::to_string(&ranges).unwrap()).unwrap();
    assert_eq!(read, ranges);

    let refused = |ranges: &Ranges| ranges.quantise(network.as_ref(), &weights, 16).map(drop).unwrap_err().to_string();
    let fewer = Ranges(ranges.0[..5].to_vec());
    assert!(refused(&fewer).contains("fewer ranges than activations"), "{}", refused(&fewer));
    let more = Ranges([&ranges.0[..], &ranges.0[..2]].concat());
    assert!(refused(&more).contains("wrn-10-1 has 2 activations less"), "{}", refused(&more));
    let told = ranges.widen(exact.as_ref(), &(images * f64::NAN)).unwrap_err().to_string();
    assert!(told.contains("activation 0 reaches from NaN to NaN"), "{told}");
}
