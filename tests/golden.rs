//! Every step of MixMatch against values computed by PyTorch (`tests/golden/make_golden.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mixmatch::nn::layers::BatchNorm;
use mixmatch::nn::weights::{Init, Layout};
use mixmatch::nn::wrn::Wrn;
use mixmatch::nn::{Mode, Network, Weights, file};
use mixmatch::ssl::mixup::Pairing;
use mixmatch::ssl::{guess, loss};
use mixmatch::train::optimizer::{Adam, move_average};
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
    let mut adam = Adam::new(&weights, golden.number("wd")).unwrap();
    for step in 1..=3 {
        adam.step(&mut weights, golden.get(&format!("grad{step}")), golden.number("lr")).unwrap();
        assert_close("weights", weights.flat(), golden.get(&format!("w{step}")), 1e-6);
    }
}

#[test]
fn the_moving_average() {
    let golden = Golden::open("ema");
    let mut average = one_kernel(golden.get("ema0"));
    for step in 1..=3 {
        let weights = one_kernel(golden.get(&format!("params{step}")));
        move_average(&mut average, &weights, golden.number("decay")).unwrap();
        assert_close("average", average.flat(), golden.get(&format!("ema{step}")), 1e-6);
    }
}

#[test]
fn batch_norm_in_every_mode_with_its_gradients() {
    let golden = Golden::open("batch_norm");
    let mut layout = Layout::default();
    let norm = BatchNorm::new(&mut layout, "bn", 3);
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
    // Written through the same flat buffer as the weights, so that every gradient gets its name back.
    let mut named = Weights::zeros(network.layout(), Device::Cpu).unwrap();
    named.copy_from(&weights).unwrap();
    named.flat().shallow_clone().copy_(&gradient);
    let path = directory.path().join("gradient.safetensors");
    file::save(&network, &named, &path).unwrap();
    let gradients: HashMap<String, Tensor> = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
    let mut compared = 0;
    for (name, expected) in &golden.0 {
        if let Some(name) = name.strip_prefix("grad.") {
            assert_close(name, &gradients[name], expected, 1e-5);
            compared += 1;
        }
    }
    assert_eq!(compared, 5);
}
