//! `wide_resnet50_2` against Python's torchvision (`tests/golden/make_torchvision.py`): the whole network with weights
//! that both sides make by the same formula, and the names and shapes of its file.

use std::path::PathBuf;

use mixmatch::nn::weights::Entry;
use mixmatch::nn::{Head, Mode, Network, Weights, build};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The tolerance of the project: float32 may add in another order, and no more.
const TOLERANCE: f64 = 1e-4;

fn golden_file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The tensor `name` by the formula in `make_torchvision.py`, row-major.
fn made(name: &str, shape: &[i64]) -> Tensor {
    let (low, high) = bounds(name, shape);
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let number = |index: u64| {
        let z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        (low + (high - low) * ((z >> 40) as f64 / 16_777_216.0)) as f32
    };
    let values: Vec<f32> = (0..shape.iter().product::<i64>() as u64).map(number).collect();
    Tensor::from_slice(&values).view(shape)
}

fn bounds(name: &str, shape: &[i64]) -> (f64, f64) {
    let around = |reach: f64| (-reach, reach);
    let fan_in = || shape[1..].iter().product::<i64>() as f64;
    match shape.len() {
        4 if name == "input" => around(1.0),
        4 => around((6.0 / fan_in()).sqrt()),
        2 => around((3.0 / fan_in()).sqrt()),
        _ if name.ends_with("running_var") => (0.5, 1.5),
        _ if name.ends_with("bn3.weight") => (0.0, 0.5),
        _ if name.ends_with("weight") => (0.5, 1.5),
        _ => around(0.2),
    }
}

fn filled(head: Head, classes: usize) -> (Box<dyn Network>, Weights) {
    let network = build("wide_resnet50_2", head, classes, Kind::Float).unwrap();
    let mut weights = Weights::zeros(network.layout(), Device::Cpu).unwrap();
    weights.set_bn_momentum(0.1);
    let _no_grad = tch::no_grad_guard();
    for (entry, tensor) in weights.tensors(network.layout()) {
        tensor.shallow_clone().copy_(&made(&entry.name, &entry.shape));
    }
    (network, weights)
}

/// Compares rows of numbers, relative to the largest.
fn assert_close(what: &str, got: &[f32], expected: &Value) {
    let flat = |value: &Value| match value.as_array() {
        Some(row) => row.iter().map(|number| number.as_f64().unwrap()).collect::<Vec<_>>(),
        None => vec![value.as_f64().unwrap()],
    };
    let expected: Vec<f64> = expected.as_array().unwrap().iter().flat_map(flat).collect();
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0f64, |most, value| most.max(value.abs()));
    for (got, wanted) in got.iter().zip(&expected) {
        let off = (f64::from(*got) - wanted).abs();
        assert!(off <= TOLERANCE * scale, "{what}: off by {off:e}: {got} for {wanted}");
    }
}

fn answers(network: &dyn Network, weights: &Weights, golden: &Value, mode: Mode) -> Vec<f32> {
    let _no_grad = tch::no_grad_guard();
    let (size, batch) = (golden["size"].as_i64().unwrap(), golden["batch"].as_i64().unwrap());
    let images = made("input", &[batch, 3, size, size]);
    network.forward(weights, &images, mode).unwrap().view([-1]).try_into().unwrap()
}

#[test]
fn logits_and_statistics_are_torchvisions() {
    let golden: Value = serde_json::from_str(&golden_file("wide_resnet50_2.json")).unwrap();
    let (network, weights) = filled(Head::Linear, 5);
    assert_close("evaluation", &answers(network.as_ref(), &weights, &golden, Mode::Eval), &golden["linear"]);
    let before = weights.statistics().copy();
    let guess = answers(network.as_ref(), &weights, &golden, Mode::Guess);
    assert_close("by batch statistics", &guess, &golden["linear_train"]);
    assert_eq!(weights.statistics(), &before, "guessing moved the running statistics");
    let train = answers(network.as_ref(), &weights, &golden, Mode::Train);
    assert_close("training", &train, &golden["linear_train"]);
    let mut compared = 0;
    for (entry, tensor) in weights.tensors(network.layout()) {
        if let Some(expected) = golden["statistics"].get(&entry.name) {
            let first: Vec<f32> = tensor.narrow(0, 0, 4).try_into().unwrap();
            assert_close(&entry.name, &first, expected);
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}

#[test]
fn the_reference_head_stands_behind_torchvisions_fc() {
    let golden: Value = serde_json::from_str(&golden_file("wide_resnet50_2.json")).unwrap();
    let (network, weights) = filled(Head::Reference, 2);
    assert_close("reference head", &answers(network.as_ref(), &weights, &golden, Mode::Eval), &golden["reference"]);
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let network = build("wide_resnet50_2", Head::Linear, 1000, Kind::Float).unwrap();
    let layout = network.layout();
    let line = |entry: &Entry| {
        let sides: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
        format!("{} {}", entry.name, sides.join(" "))
    };
    let mut ours: Vec<String> = layout.params().iter().chain(layout.buffers()).map(line).collect();
    let keys = golden_file("wide_resnet50_2_keys.txt");
    let mut theirs: Vec<&str> = keys.lines().collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}
