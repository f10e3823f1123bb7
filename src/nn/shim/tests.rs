//! The fused functions and the convolution against libtorch's own operations.

use super::*;
use tch::{Device, Kind};

/// The same by libtorch's own operations.
fn plain(input: &Tensor, by: NormAct<'_>) -> Tensor {
    let (mean, variance) = by.running.unzip();
    let y = input.f_batch_norm(Some(by.gamma), Some(by.beta), mean, variance, by.batch, by.momentum, by.eps, false);
    let y = y.unwrap();
    y.maximum(&(&y * by.slope))
}

struct Case {
    input: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Case {
    /// By the batch's statistics, which those that are named take in.
    fn of_the_batch<'a>(&'a self, mean: &'a Tensor, variance: &'a Tensor) -> NormAct<'a> {
        let (gamma, beta) = (&self.gamma, &self.beta);
        NormAct { gamma, beta, running: Some((mean, variance)), batch: true, momentum: 0.1, eps: 1e-3, slope: 0.1 }
    }
}

/// Channels that fill vector registers, half of one, and none; means far from zero.
fn case(channels: i64, kind: Kind) -> Case {
    let float = (Kind::Float, Device::Cpu);
    let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
    let input = Tensor::randn([5, channels, 7, 9], float) * 2.0 + Tensor::randn([1, channels, 1, 1], float) * 4.0;
    Case {
        input: leaf(input.to_kind(kind)),
        gamma: leaf(Tensor::rand([channels], float) + 0.5),
        beta: leaf(Tensor::randn([channels], float) * 0.3),
        mean: Tensor::randn([channels], float),
        variance: Tensor::rand([channels], float) + 0.5,
    }
}

fn assert_same(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    let (got, expected) = (got.to_kind(Kind::Float), expected.to_kind(Kind::Float));
    let difference = (&got - &expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    assert!(difference <= tolerance * scale, "{what}: off by {difference:e} where values reach {scale}");
}

#[test]
fn the_fused_function_and_its_gradients_are_libtorchs() {
    tch::manual_seed(4);
    // 35: two vectors and three channels that are left over.
    for (channels, kind, tolerance) in [(3, Kind::Float, 1e-5), (16, Kind::Float, 1e-5), (80, Kind::Float, 1e-5)]
        .into_iter()
        .chain([(48, Kind::BFloat16, 2e-2), (35, Kind::Float, 1e-5), (35, Kind::BFloat16, 2e-2)])
    {
        for (batch, slope) in [(true, 0.1), (true, 1.0), (true, 0.0), (false, 0.1)] {
            let case = case(channels, kind);
            let upstream = Tensor::randn(case.input.size(), (Kind::Float, Device::Cpu)).to_kind(kind);
            let run = |act: &dyn Fn(&Tensor, NormAct<'_>) -> Tensor| {
                let (mean, variance) = (case.mean.copy(), case.variance.copy());
                let running = Some((&mean, &variance));
                let (gamma, beta) = (&case.gamma, &case.beta);
                let by = NormAct { gamma, beta, running, batch, momentum: 0.1, eps: 1e-3, slope };
                let y = act(&case.input, by);
                let loss = (&y * &upstream).sum(Kind::Float);
                let mut all = Tensor::run_backward(&[loss], &[&case.input, gamma, beta], false, false);
                all.extend([y.detach(), mean, variance]);
                all
            };
            let got = run(&|input, by| norm_act(input, by).unwrap());
            let expected = run(&|input, by| plain(input, by));
            for (what, (got, expected)) in
                ["dx", "dγ", "dβ", "y", "mean", "variance"].into_iter().zip(got.iter().zip(&expected))
            {
                let what = format!("{what} of {channels} channels, {kind:?}, batch {batch}, slope {slope}");
                assert_eq!(got.kind(), expected.kind(), "{what}: number format");
                assert_same(&what, got, expected, tolerance);
            }
        }
    }
}

#[test]
fn a_fused_sum_gives_both_its_gradients() {
    tch::manual_seed(5);
    for (channels, kind, tolerance) in [(20, Kind::Float, 1e-5), (64, Kind::Float, 1e-5), (32, Kind::BFloat16, 3e-2)] {
        let case = case(channels, kind);
        let other = Tensor::randn(case.input.size(), (Kind::Float, Device::Cpu)).to_kind(kind);
        let other = other.set_requires_grad(true);
        let weight = |seed: f64| (Tensor::ones_like(&case.input).to_kind(Kind::Float).cumsum(1, None) * seed).sin();
        // The sum is used by itself too (the shortcut), or not at all (before the head).
        for shortcut in [true, false] {
            let run = |act: &dyn Fn(&Tensor, &Tensor, NormAct<'_>) -> (Tensor, Tensor)| {
                let (mean, variance) = (case.mean.copy(), case.variance.copy());
                let by = case.of_the_batch(&mean, &variance);
                let (sum, y) = act(&case.input, &other, by);
                let mut loss = (&y * weight(0.7)).sum(Kind::Float);
                if shortcut {
                    loss += (&sum * weight(1.3)).sum(Kind::Float);
                }
                let mut all =
                    Tensor::run_backward(&[loss], &[&case.input, &other, &case.gamma, &case.beta], false, false);
                all.extend([sum.detach(), y.detach(), mean, variance]);
                all
            };
            let got = run(&|a, b, by| add_norm_act(a, Some(b), None, by).unwrap());
            let expected = run(&|a, b, by| {
                let sum = a + b;
                let y = plain(&sum, by);
                (sum, y)
            });
            let names = ["da", "db", "dγ", "dβ", "sum", "y", "mean", "variance"];
            for (what, (got, expected)) in names.into_iter().zip(got.iter().zip(&expected)) {
                let what = format!("{what} of {channels} channels, {kind:?}, shortcut {shortcut}");
                assert_same(&what, got, expected, tolerance);
            }
        }
    }
}

/// Of a sum that was made elsewhere: it is passed on, and the gradient that comes back from there is added.
#[test]
fn what_is_passed_on_gives_its_gradient_back() {
    tch::manual_seed(6);
    for (channels, kind, tolerance) in [(20, Kind::Float, 1e-5), (64, Kind::Float, 1e-5), (32, Kind::BFloat16, 3e-2)] {
        let case = case(channels, kind);
        let weight = |seed: f64| (Tensor::ones_like(&case.input).to_kind(Kind::Float).cumsum(1, None) * seed).sin();
        for (passed_on, activated) in [(true, true), (false, true), (true, false)] {
            let run = |act: &dyn Fn(&Tensor, NormAct<'_>) -> (Tensor, Tensor)| {
                let (mean, variance) = (case.mean.copy(), case.variance.copy());
                let by = case.of_the_batch(&mean, &variance);
                let (passed, y) = act(&case.input, by);
                let part =
                    |used: bool, tensor: &Tensor, seed: f64| used.then(|| (tensor * weight(seed)).sum(Kind::Float));
                let loss = [part(activated, &y, 0.7), part(passed_on, &passed, 1.3)].into_iter().flatten();
                let loss = loss.reduce(|a, b| a + b).unwrap();
                let inputs = [&case.input, &case.gamma, &case.beta];
                let mut all = Tensor::run_backward(&[loss], &inputs[..if activated { 3 } else { 1 }], false, false);
                all.extend([passed.detach(), y.detach(), mean, variance]);
                all
            };
            let got = run(&|x, by| add_norm_act(x, None, None, by).unwrap());
            let expected = run(&|x, by| (x.shallow_clone(), plain(x, by)));
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let what =
                    format!("{at} of {channels} channels, {kind:?}, passed on {passed_on}, activated {activated}");
                assert_same(&what, got, expected, tolerance);
            }
        }
    }
}

/// Batches that do not divide by the threads, that are smaller, and of one; more bytes than are computed together; inputs that need
/// no gradient, as the first layer's. Each in a thread of its own, whose OpenMP threads libtorch has not met: that it sets their
/// number when it first looks must not reach into what is computed.
#[test]
fn a_convolutions_gradients_are_libtorchs_whatever_the_threads() {
    for threads in [1, 2, 3] {
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
            for sizes in [
                [8, 32, 64, 1, 1],
                [7, 16, 16, 3, 1],
                [200, 32, 8, 3, 2],
                [4, 3, 16, 3, 1],
                [2, 32, 64, 1, 2],
                [1, 16, 16, 3, 1],
            ] {
                let case = move || gradients_are_libtorchs(threads, kind, tolerance, sizes);
                std::thread::spawn(case).join().unwrap();
            }
        }
    }
}

/// `sizes`: images, channels in and out, the kernel's side, stride.
fn gradients_are_libtorchs(threads: i32, kind: Kind, tolerance: f64, sizes: [i64; 5]) {
    tch::set_num_threads(threads);
    tch::manual_seed(6);
    let float = (Kind::Float, Device::Cpu);
    let [images, input, output, kernel, stride] = sizes;
    let leaf = |tensor: Tensor| tensor.to_kind(kind).detach().set_requires_grad(true);
    let weight = leaf(Tensor::randn([output, input, kernel, kernel], float) * 0.1);
    // As activations are: channels_last in memory.
    let pictures = Tensor::randn([images, 12, 12, input], float).to_kind(kind).permute([0, 3, 1, 2]);
    for x in [pictures.copy(), leaf(pictures.copy())] {
        let of: Vec<&Tensor> = [&weight, &x].into_iter().filter(|tensor| tensor.requires_grad()).collect();
        let run = |conv: &dyn Fn() -> Tensor| {
            let y = conv();
            let towards = Tensor::arange(y.numel() as i64, float).sin().view_as(&y);
            let loss = (&y * towards).sum(Kind::Float);
            let mut all = Tensor::run_backward(&[loss], &of, false, false);
            all.push(y.detach());
            all
        };
        let ours = || run(&|| conv(&x, ConvBy { weight: &weight, stride, padding: kernel / 2 }).unwrap());
        let (got, again) = (ours(), ours());
        let plain = run(&|| x.conv2d(&weight, None::<&Tensor>, [stride; 2], [kernel / 2; 2], [1, 1], 1));
        assert_eq!(got.len(), of.len() + 1);
        for (i, (got, plain)) in got.iter().zip(&plain).enumerate() {
            let what = format!("{i} of {sizes:?}, {kind:?}, {threads} threads");
            assert_eq!(got.kind(), plain.kind(), "{what}");
            assert_eq!(got, &again[i], "{what}: other bits the second time");
            assert_same(&what, got, plain, tolerance);
        }
    }
}

/// Which loops run is chosen once in a process: each choice gets one, and runs tests of this file there. A choice that
/// this processor does not have, or nobody has, falls back to one that it has and says so.
#[test]
fn every_instruction_set_gives_the_same_numbers() {
    let name = "nn::shim::tests::the_fused_function_and_its_gradients_are_libtorchs";
    for version in ["v1", "v3", "v4", "v4_bf16", "v2"] {
        crate::own_process::run(
            "nn::shim::tests::a_fused_sum_gives_both_its_gradients",
            &[("MIXMATCH_KERNELS", version)],
        );
        let done = crate::own_process::run(name, &[("MIXMATCH_KERNELS", version)]);
        let complaint = String::from_utf8_lossy(&done.stderr);
        match version {
            "v1" => assert!(!complaint.contains("MIXMATCH_KERNELS"), "{complaint}"),
            "v2" => assert!(complaint.contains("MIXMATCH_KERNELS=v2 is none of"), "{complaint}"),
            _ => {}
        }
    }
}

#[test]
fn without_a_gradient_the_answer_is_the_same_and_nothing_is_kept() {
    let case = case(32, Kind::Float);
    let by = NormAct {
        gamma: &case.gamma,
        beta: &case.beta,
        running: Some((&case.mean, &case.variance)),
        batch: false,
        momentum: 0.1,
        eps: 1e-3,
        slope: 0.1,
    };
    let _no_grad = tch::no_grad_guard();
    let y = norm_act(&case.input, by).unwrap();
    assert!(!y.requires_grad());
    assert_same("evaluation", &y, &plain(&case.input, by), 1e-5);
}

#[test]
fn what_libtorch_refuses_is_an_error_with_its_first_line() {
    let case = case(4, Kind::Float);
    let gamma = Tensor::ones([3], (Kind::Float, Device::Cpu));
    let by =
        NormAct { gamma: &gamma, beta: &case.beta, running: None, batch: true, momentum: 0.1, eps: 1e-3, slope: 0.1 };
    let error = norm_act(&case.input, by).unwrap_err().to_string();
    assert!(error.lines().count() == 1 && error.contains('3') && error.contains('4'), "{error}");
}
