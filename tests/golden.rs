//! Every step of MixMatch against values computed by PyTorch (`tests/golden/make_golden.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mixmatch::nn::layers::BatchNorm;
use mixmatch::nn::weights::{Init, Layout};
use mixmatch::nn::wrn::Wrn;
use mixmatch::nn::{Mode, Network, Weights, file};
use mixmatch::ssl::mixmatch::{MixMatch, MixedStep};
use mixmatch::ssl::mixup::{Mixup, Pairing};
use mixmatch::ssl::{guess, loss};
use mixmatch::train::checkpoint::Snapshot;
use mixmatch::train::optimizer::{Adam, move_average, warmed_decay};
use tch::{Device, Kind, Tensor};

#[path = "golden/augment.rs"]
mod augment;

/// One file of golden tensors.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        Self(Tensor::read_safetensors(path).unwrap().into_iter().collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no golden tensor {name}"))
    }

    fn number(&self, name: &str) -> f64 {
        self.get(name).double_value(&[0])
    }
}

/// The largest difference, relative to the size of what was expected.
fn assert_close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), expected.size(), "{what}: shape");
    let difference = (got - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    assert!(difference <= tolerance * scale, "{what}: off by {difference:e} where values reach {scale}");
}

#[test]
fn sharpening_at_two_and_ten_classes() {
    let golden = Golden::open("sharpen");
    for classes in [2, 10] {
        let sharpened = guess::sharpen(golden.get(&format!("c{classes}.input")), golden.number("t")).unwrap();
        assert_close("sharpen", &sharpened, golden.get(&format!("c{classes}.expected")), 1e-6);
    }
}

#[test]
fn guesses_are_the_mean_over_the_views_sharpened() {
    let golden = Golden::open("guess");
    let mean = guess::average_views(golden.get("logits_flat"), 2).unwrap();
    assert_close("mean", &mean, golden.get("mean"), 1e-6);
    assert_close("guess", &guess::sharpen(&mean, golden.number("t")).unwrap(), golden.get("expected"), 1e-6);
}

#[test]
fn mixup_with_given_lambda() {
    let golden = Golden::open("mixup");
    let pairing = Pairing {
        lambda: Vec::try_from(golden.get("lambda_max")).unwrap(),
        partner: Vec::try_from(golden.get("permutation")).unwrap(),
    };
    assert_close("images", &pairing.mix(golden.get("images")).unwrap(), golden.get("mixed_images"), 1e-6);
    assert_close("targets", &pairing.mix(golden.get("targets")).unwrap(), golden.get("mixed_targets"), 1e-6);
}

#[test]
fn both_losses_and_their_gradients() {
    let golden = Golden::open("losses");
    let check = |name: &str, loss: fn(&Tensor, &Tensor) -> Result<Tensor, tch::TchError>| {
        let logits = golden.get(&format!("{name}.logits")).copy().set_requires_grad(true);
        let value = loss(&logits, golden.get(&format!("{name}.targets"))).unwrap();
        assert_close(name, &value.detach().view([1]), golden.get(&format!("{name}.loss")), 1e-6);
        let gradient = Tensor::run_backward(&[&value], &[&logits], false, false).remove(0);
        assert_close(name, &gradient, golden.get(&format!("{name}.grad")), 1e-6);
        value.double_value(&[])
    };
    let labelled = check("labelled", loss::labelled);
    let unlabelled = check("unlabelled", loss::unlabelled);
    check("labelled2", loss::labelled);
    check("unlabelled2", loss::unlabelled);
    let total = labelled + golden.number("total.lambda_u") * unlabelled;
    assert!((total - golden.number("total.loss")).abs() < 1e-5, "{total}");
}

/// Weights of one parameter: a kernel `[1, n]`, so that the decay applies.
fn one_kernel(values: &Tensor) -> Weights {
    let mut layout = Layout::default();
    layout.kernel("w", &[1, values.numel() as i64], Init::Constant(0.0));
    let weights = Weights::zeros(&layout, Device::Cpu).unwrap();
    weights.flat().shallow_clone().copy_(values);
    weights
}

#[test]
fn adam_with_decoupled_decay() {
    let golden = Golden::open("adam");
    let mut weights = one_kernel(golden.get("w0"));
    let mut adam = Adam::new(&weights, golden.number("wd"), 1.0).unwrap();
    for step in 1..=3 {
        let rates = adam.next(golden.number("lr"), 0.0).on(Device::Cpu).unwrap();
        adam.step(&mut weights, golden.get(&format!("grad{step}")), &rates).unwrap();
        assert_close("weights", weights.flat(), golden.get(&format!("w{step}")), 1e-6);
        let mut state = Snapshot::default();
        adam.save(&mut state).unwrap();
        for (name, of_torch) in [("adam.first", "m"), ("adam.second", "v")] {
            let expected = golden.get(&format!("{of_torch}{step}"));
            // Each number beside its own size: they reach from 1e-16 to 1, and what cancels keeps few digits.
            let size = expected.abs().clamp_min(1e-30);
            assert_close(name, &(state.tensor(name).unwrap() / &size), &(expected / &size), 1e-3);
        }
    }
}

#[test]
fn the_moving_average() {
    let golden = Golden::open("ema");
    let decay = golden.number("decay");
    let mut average = one_kernel(golden.get("ema0"));
    let mut warmed = one_kernel(golden.get("ema0"));
    for step in 1..=3 {
        let weights = one_kernel(golden.get(&format!("params{step}")));
        let warm = warmed_decay(decay, step - 1);
        let expected = golden.number(&format!("warm_decay{step}"));
        assert!((warm - expected).abs() < 1e-6, "decay {warm} after {} steps, not {expected}", step - 1);
        for (moved, decay, name) in [(&mut average, decay, "ema"), (&mut warmed, warm, "warm_ema")] {
            let rates = Adam::new(&weights, 0.0, 1.0).unwrap().next(0.0, decay).on(Device::Cpu).unwrap();
            move_average(moved, &weights, &rates).unwrap();
            assert_close(name, moved.flat(), golden.get(&format!("{name}{step}")), 1e-6);
        }
    }
}

#[test]
fn batch_norm_in_every_mode_with_its_gradients() {
    let golden = Golden::open("batch_norm");
    let mut layout = Layout::default();
    let norm = BatchNorm::new(&mut layout, "bn", 3, 1e-3);
    let mut weights = Weights::zeros(&layout, Device::Cpu).unwrap();
    weights.set_bn_momentum(0.001);
    let both = |first: &str, second: &str| Tensor::cat(&[golden.get(first), golden.get(second)], 0);
    weights.flat().shallow_clone().copy_(&both("weight", "bias"));
    weights.statistics().shallow_clone().copy_(&both("running_mean", "running_var"));
    let input = golden.get("input").copy().set_requires_grad(true);

    let eval = norm.forward(&weights, &input, Mode::Eval).unwrap();
    assert_close("evaluation", &eval.detach(), golden.get("output_eval"), 1e-5);
    let guess = norm.forward(&weights, &input, Mode::Guess).unwrap();
    assert_close("guessing", &guess.detach(), golden.get("output"), 1e-5);
    assert_eq!(weights.statistics(), &both("running_mean", "running_var"), "guessing moved the running statistics");

    let output = norm.forward(&weights, &input, Mode::Train).unwrap();
    assert_close("training", &output.detach(), golden.get("output"), 1e-5);
    assert_close("statistics", weights.statistics(), &both("running_mean_after", "running_var_after"), 1e-5);
    let loss = (&output * golden.get("grad_output")).sum(Kind::Float);
    let input_gradient = Tensor::f_run_backward(&[&loss], &[&input], true, false).unwrap().remove(0);
    assert_close("input gradient", &input_gradient, golden.get("grad_input"), 1e-5);
    assert_close("gradient", &weights.gradient(&loss).unwrap(), &both("grad_weight", "grad_bias"), 1e-5);
}

/// The golden network, by way of a file as `nn::file` reads it.
fn golden_network(golden: &Golden, directory: &Path) -> (Wrn, Weights) {
    let network = Wrn::new("wrn-10-1".parse().unwrap(), 2, Kind::Float);
    let tensors: Vec<(&str, Tensor)> = golden
        .0
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("net.")?, tensor.to_kind(Kind::Float).contiguous())))
        .collect();
    let path = directory.join("wrn.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let weights = file::load(&network, &path, Device::Cpu).unwrap();
    (network, weights)
}

#[test]
fn a_whole_network_forward_in_every_mode() {
    let golden = Golden::open("wrn_10_1");
    let directory = tempfile::tempdir().unwrap();
    let (network, weights) = golden_network(&golden, directory.path());
    let input = golden.get("input");
    let statistics = weights.statistics().copy();

    let eval = network.forward(&weights, input, Mode::Eval).unwrap();
    assert_close("logits in evaluation", &eval.detach(), golden.get("logits_eval"), 1e-5);
    let guess = network.forward(&weights, input, Mode::Guess).unwrap();
    assert_close("logits by batch statistics", &guess.detach(), golden.get("logits_train"), 1e-5);
    assert_eq!(weights.statistics(), &statistics, "guessing moved the running statistics");

    let train = network.forward(&weights, input, Mode::Train).unwrap();
    assert_close("logits in training", &train.detach(), golden.get("logits_train"), 1e-5);
    let path = directory.path().join("after.safetensors");
    file::save(&network, &weights, &path).unwrap();
    let after: HashMap<String, Tensor> = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
    let mut compared = 0;
    for (name, expected) in &golden.0 {
        if let Some(name) = name.strip_prefix("after.") {
            assert_close(name, &after[name], expected, 1e-5);
            compared += 1;
        }
    }
    assert!(compared >= 14, "only {compared} running statistics were compared");
}

#[test]
fn a_whole_networks_gradients() {
    let golden = Golden::open("wrn_10_1");
    let directory = tempfile::tempdir().unwrap();
    let (network, weights) = golden_network(&golden, directory.path());
    let logits = network.forward(&weights, golden.get("input"), Mode::Train).unwrap();
    let gradient = weights.gradient(&loss::labelled(&logits, golden.get("targets")).unwrap()).unwrap();
    let gradients: HashMap<String, Tensor> =
        named_gradient(&network, &gradient, directory.path()).into_iter().collect();
    let mut compared = 0;
    for (name, expected) in &golden.0 {
        if let Some(name) = name.strip_prefix("grad.") {
            assert_close(name, &gradients[name], expected, 1e-5);
            compared += 1;
        }
    }
    assert_eq!(compared, 5);
}

/// `fill` of make_golden.py: splitmix64 of FNV-1a(name) + index, its upper 24 bits, in [−1, 1).
fn fill(name: &str, count: i64) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (1..=count as u64)
        .map(|index| {
            let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
        })
        .collect()
}

/// A set of weights by name, as a file holds it.
fn named(network: &Wrn, weights: &Weights, directory: &Path) -> Vec<(String, Tensor)> {
    let path = directory.join("named.safetensors");
    file::save(network, weights, &path).unwrap();
    let mut named = Tensor::read_safetensors(&path).unwrap();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}

/// A flat gradient by name: written through the same flat buffer as the weights, so that every part gets its name back.
fn named_gradient(network: &Wrn, gradient: &Tensor, directory: &Path) -> Vec<(String, Tensor)> {
    let gradients = Weights::zeros(network.layout(), Device::Cpu).unwrap();
    gradients.flat().shallow_clone().copy_(gradient);
    named(network, &gradients, directory)
}

/// Every `stride`th number of the parameters (or of the running statistics), in the order of their names.
fn every(named: &[(String, Tensor)], statistics: bool, stride: i64) -> Tensor {
    let wanted = named.iter().filter(|(name, _)| name.contains("running") == statistics);
    let parts: Vec<Tensor> = wanted.map(|(_, tensor)| tensor.view([-1]).slice(0, 0, i64::MAX, stride)).collect();
    Tensor::cat(&parts, 0)
}

/// The network of that name with the weights of make_golden.py's `fill_network`.
fn filled(name: &str, directory: &Path) -> (Wrn, Weights) {
    let network = Wrn::new(name.parse().unwrap(), 2, Kind::Float);
    let filled = |name: &str, shape: &[i64]| {
        let values = Tensor::from_slice(&fill(name, shape.iter().product())).view(shape);
        match *shape {
            [output, _, height, width] => values * (6.0 / (output * height * width) as f64).sqrt(),
            [_, _] => values * 0.3,
            _ if name.ends_with("weight") => values * 0.2 + 1.0,
            _ => values * 0.1,
        }
    };
    let layout = network.layout();
    let params = layout.params().iter().map(|entry| (entry.name.as_str(), filled(&entry.name, &entry.shape)));
    let buffers = layout.buffers().iter().map(|entry| {
        let start = if entry.name.ends_with("running_var") { 1.0 } else { 0.0 };
        (entry.name.as_str(), Tensor::full(entry.shape.as_slice(), start, (Kind::Float, Device::Cpu)))
    });
    let path = directory.join("filled.safetensors");
    Tensor::write_safetensors(&params.chain(buffers).collect::<Vec<_>>(), &path).unwrap();
    let weights = file::load(&network, &path, Device::Cpu).unwrap();
    (network, weights)
}

#[test]
fn a_network_of_four_groups() {
    let golden = Golden::open("wrn4_12_1");
    let directory = tempfile::tempdir().unwrap();
    let (network, mut weights) = filled("wrn4-12-1", directory.path());
    weights.set_bn_momentum(0.1);
    let images = Tensor::from_slice(&fill("images", 4 * 3 * 32 * 32)).view([4, 3, 32, 32]);

    let logits = network.forward(&weights, &images, Mode::Train).unwrap();
    assert_close("logits in training", &logits.detach(), golden.get("logits_train"), 1e-5);
    let gradient = weights.gradient(&loss::labelled(&logits, golden.get("targets")).unwrap()).unwrap();
    let sampled = every(&named_gradient(&network, &gradient, directory.path()), false, 101);
    assert_close("gradient", &sampled, golden.get("grad"), 1e-5);
    let after = every(&named(&network, &weights, directory.path()), true, 7);
    assert_close("statistics", &after, golden.get("statistics"), 1e-5);

    let logits = network.forward(&weights, &images, Mode::Eval).unwrap();
    assert_close("logits in evaluation", &logits.detach(), golden.get("logits_eval"), 1e-5);
}

#[test]
fn two_whole_training_steps_of_wrn_28_2() {
    let golden = Golden::open("mixmatch_step");
    let directory = tempfile::tempdir().unwrap();
    let (network, mut weights) = filled("wrn-28-2", directory.path());
    weights.set_bn_momentum(0.001);
    let mut average = Weights::zeros(network.layout(), Device::Cpu).unwrap();
    average.copy_from(&weights).unwrap();
    let mut adam = Adam::new(&weights, golden.number("wd"), 1.0).unwrap();
    let (lambda_u, lr) = (golden.number("lambda_u"), golden.number("lr"));
    let mixup = Mixup { alpha: Some(0.75) };
    let mut algorithm = MixMatch { mixup, k: 2, temperature: 0.5, lambda_u, ramp: 0.0, alignment: None };

    for step in 1..=2 {
        // The first step of Adam is lr · sign(g): where a gradient is nothing but rounding it may go either way, and the second step then starts
        // from slightly different weights: slightly, as lr is small. A gradient is further off where rounding puts one activation on the other side
        // of 0: measured by several kernels and threads 2e-5 and, at the second step, 9e-4.
        let (of_gradients, of_weights) = if step == 1 { (1e-4, lr * 0.05) } else { (5e-3, lr * 0.25) };
        let at = |name: &str| golden.get(&format!("{name}{step}"));
        let statistics = weights.statistics().copy();
        let (q, _) = algorithm.guess(&network, &weights, at("u")).unwrap();
        assert_close("guesses", &q, at("q"), 1e-5);
        assert_eq!(weights.statistics(), &statistics, "guessing moved the running statistics");

        let pairing = Pairing {
            lambda: Vec::try_from(golden.get("lambda")).unwrap(),
            partner: Vec::try_from(at("permutation")).unwrap(),
        };
        let (x, y, u) = (at("x"), golden.get("y"), at("u"));
        let (mixing, lambda_u) = (pairing.on(Device::Cpu).unwrap(), Tensor::from(lambda_u as f32));
        let step_of = MixedStep { x, y, u, q: &q, mixing: Some(&mixing), lambda_u: &lambda_u };
        let losses = step_of.losses(&network, &weights).unwrap();
        for (what, loss) in [("loss_x", &losses.labelled), ("loss_u", &losses.unlabelled), ("total", &losses.total)] {
            assert_close(&format!("{what} of step {step}"), &loss.detach().view([1]), at(what), 1e-5);
        }
        let gradient = weights.gradient(&losses.total).unwrap();
        let sampled = every(&named_gradient(&network, &gradient, directory.path()), false, 401);
        assert_close(&format!("gradient of step {step}"), &sampled, at("grad"), of_gradients);

        let rates = adam.next(lr, golden.number("decay")).on(Device::Cpu).unwrap();
        adam.step(&mut weights, &gradient, &rates).unwrap();
        move_average(&mut average, &weights, &rates).unwrap();
        let after = named(&network, &weights, directory.path());
        assert_close("statistics", &every(&after, true, 7), at("statistics"), 1e-5);
        // For the same reason the moved weights are compared where there is a gradient.
        let clear = at("grad").abs().gt(1e-4);
        assert!(clear.sum(Kind::Int64).int64_value(&[]) > 1_000, "too few gradients to compare");
        let compare = |what: &str, got: Tensor| {
            let clear = |tensor: &Tensor| tensor.masked_select(&clear);
            assert_close(&format!("{what} after step {step}"), &clear(&got), &clear(at(what)), of_weights);
        };
        compare("weights", every(&after, false, 401));
        compare("average", every(&named(&network, &average, directory.path()), false, 401));
    }
}
