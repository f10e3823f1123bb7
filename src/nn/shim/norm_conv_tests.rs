//! BatchNorm, leaky ReLU and Winograd's convolution as one function (`native/norm_conv.h`) against libtorch's operations in float64.

use tch::{Device, Kind, Tensor};

use super::own_conv_tests::{self, Case, LIMITS, Sizes, apart};
use super::{ConvBy, NormAct, NormConv, add_norm_act, norm_conv};

const SLOPE: f64 = 0.1;
const EPS: f64 = 1e-3;
const MOMENTUM: f64 = 0.1;

const FITTING: [Sizes; 6] = [
    [1, 2, 4, 16, 16],
    [3, 6, 8, 16, 48],
    [5, 8, 8, 32, 32],
    [2, 38, 36, 64, 16], // a row of 18 tiles, more than a block has
    [9, 8, 8, 128, 96],
    [20, 32, 32, 16, 32], // several blocks of tiles for each thread
];

fn is_used(kind: Kind) -> bool {
    own_conv_tests::is_used(kind, "MIXMATCH_WINOGRAD", "v3")
}

fn used_kinds() -> impl Iterator<Item = (Kind, f64)> {
    LIMITS.into_iter().filter(|&(kind, _)| is_used(kind))
}

/// Everything that the function takes.
struct Whole {
    case: Case,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    plus: Tensor,
}

impl Whole {
    fn new(sizes: Sizes, kind: Kind) -> Self {
        let case = Case::new(sizes, 3, 1, kind);
        let vector = || Tensor::randn([sizes[3]], (Kind::Float, Device::Cpu));
        let (gamma, beta) = (vector() * 0.2 + 1.0, vector() * 0.3);
        let (mean, variance) = (vector() * 0.5, vector().square() + 0.5);
        let plus = case.dy.flip([0i64]) * 0.7;
        Self { case, gamma, beta, mean, variance, plus }
    }

    fn conv(&self) -> ConvBy<'_> {
        ConvBy { weight: &self.case.weight, stride: 1, padding: 1 }
    }

    fn norm<'a>(&'a self, mean: &'a Tensor, variance: &'a Tensor, batch: bool) -> NormAct<'a> {
        let (gamma, beta) = (&self.gamma, &self.beta);
        NormAct { gamma, beta, running: Some((mean, variance)), batch, momentum: MOMENTUM, eps: EPS, slope: SLOPE }
    }

    /// y by libtorch, and what it moved the running statistics to, in the number format of what is given.
    fn libtorchs(&self, leaves: &[Tensor; 5], plus: bool, batch: bool) -> (Tensor, Tensor, Tensor) {
        let [x, gamma, beta, weight, added] = leaves;
        let (mean, variance) = (self.mean.to_kind(x.kind()), self.variance.to_kind(x.kind()));
        let running = (Some(&mean), Some(&variance));
        let z = x.f_batch_norm(Some(gamma), Some(beta), running.0, running.1, batch, MOMENTUM, EPS, false).unwrap();
        let y = self.case.libtorchs(&z.maximum(&(&z * SLOPE)), weight);
        (if plus { y + added } else { y }, mean, variance)
    }

    /// Ours of the leaves, and what it moved the running statistics to.
    fn fused(&self, leaves: &[Tensor; 5], sums: Option<&Tensor>, plus: bool) -> (NormConv, Tensor, Tensor) {
        let [x, gamma, beta, weight, added] = leaves;
        let (mean, variance) = (self.mean.copy(), self.variance.copy());
        let by = NormAct { gamma, beta, ..self.norm(&mean, &variance, true) };
        let conv = ConvBy { weight, ..self.conv() };
        let made = norm_conv(x, sums, by, conv, plus.then_some(added)).unwrap().unwrap();
        (made, mean, variance)
    }

    /// x, γ, β, the weight and what is added, to be differentiated; vectors are float32 at least.
    fn leaves(&self, kind: Kind) -> [Tensor; 5] {
        let vectors = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        [
            (&self.case.x, kind),
            (&self.gamma, vectors),
            (&self.beta, vectors),
            (&self.case.weight, kind),
            (&self.plus, kind),
        ]
        .map(|(one, kind)| one.to_kind(kind).detach().copy().set_requires_grad(true))
    }
}

/// The gradients of Σ y·dy, and of Σ x·dx where x is passed on to somebody else; those of the five leaves, then y.
fn differentiated(whole: &Whole, leaves: &[Tensor; 5], y: &Tensor, passed: Option<&Tensor>, plus: bool) -> Vec<Tensor> {
    let kind = y.kind();
    let mut loss = (y * whole.case.dy.to_kind(kind)).sum(Kind::Double);
    if let Some(x) = passed {
        loss += (x * (whole.case.x.to_kind(kind) * 0.3 + 0.1)).sum(Kind::Double);
    }
    let mut all = Tensor::run_backward(&[loss], &leaves[..if plus { 5 } else { 4 }], false, false);
    all.push(y.detach());
    all
}

/// Sums that say a mean and a variance of `pixels` pixels.
fn sums_for(mean: &Tensor, variance: &Tensor, pixels: i64) -> Tensor {
    let (mean, variance) = (mean.to_kind(Kind::Double), variance.to_kind(Kind::Double));
    Tensor::stack(&[mean.shallow_clone(), variance + mean.square()], 0) * pixels as f64
}

#[test]
fn every_pixel_gradient_and_statistic_is_libtorchs() {
    for (kind, limit) in used_kinds() {
        for sizes in FITTING {
            let whole = Whole::new(sizes, kind);
            for (plus, pass) in [(true, true), (false, false), (false, true)] {
                let leaves = whole.leaves(kind);
                let (NormConv { x, y, sums }, mean, variance) = whole.fused(&leaves, None, plus);
                let ours = differentiated(&whole, &leaves, &y, pass.then_some(&x), plus);

                let exact = whole.leaves(Kind::Double);
                let (exact_y, exact_mean, exact_variance) = whole.libtorchs(&exact, plus, true);
                let theirs = differentiated(&whole, &exact, &exact_y, pass.then_some(&exact[0]), plus);
                let names = ["dx", "dγ", "dβ", "dw", if plus { "dplus" } else { "y" }, "y"];
                for (what, (got, exact)) in names.into_iter().zip(ours.iter().zip(&theirs)) {
                    let off = apart(got, exact);
                    assert!(off < limit, "{what} of {sizes:?} in {kind:?}, plus {plus}, passed on {pass}: {off:e}");
                }
                assert!(apart(&mean, &exact_mean) < 1e-5, "{sizes:?}, {kind:?}");
                assert!(apart(&variance, &exact_variance) < 1e-5, "{sizes:?}, {kind:?}");

                assert_eq!((sums.kind(), sums.requires_grad()), (Kind::Double, false));
                let y = y.detach().to_kind(Kind::Double);
                let over = |values: Tensor| values.sum_dim_intlist([0i64, 2, 3].as_slice(), false, Kind::Double);
                let real = Tensor::stack(&[over(y.shallow_clone()), over(y.square())], 0);
                let size = Tensor::stack(&[over(y.abs()), over(y.square())], 0);
                let off = ((&sums - &real).abs() / size).max().double_value(&[]);
                assert!(off < 1e-5, "the sums of {sizes:?} in {kind:?}: {off:e}");
            }
        }
    }
}

/// What is added belongs to somebody else, too.
#[test]
fn nothing_that_is_read_is_written_to() {
    let _no_grad = tch::no_grad_guard();
    for (kind, _) in used_kinds() {
        let whole = Whole::new(FITTING[2], kind);
        let (x, plus) = (whole.case.x.copy(), whole.plus.copy());
        let by = whole.norm(&whole.mean, &whole.variance, true);
        norm_conv(&whole.case.x, None, by, whole.conv(), Some(&whole.plus)).unwrap().unwrap();
        assert_eq!((&whole.case.x, &whole.plus), (&x, &plus), "{kind:?}");
    }
}

/// Sums that come with x are believed: here those of another batch, which are the same as its running statistics.
#[test]
fn sums_that_are_known_are_not_made_again() {
    let _no_grad = tch::no_grad_guard();
    for (kind, _) in used_kinds() {
        for sizes in FITTING {
            let whole = Whole::new(sizes, kind);
            let Whole { mean, variance, .. } = &whole;
            let x = &whole.case.x;
            let sums = sums_for(mean, variance, sizes[0] * sizes[1] * sizes[2]);
            let (moved_mean, moved_variance) = (mean.copy(), variance.copy());
            let by = whole.norm(&moved_mean, &moved_variance, true);
            let known = norm_conv(x, Some(&sums), by, whole.conv(), None).unwrap().unwrap();
            let running = norm_conv(x, None, whole.norm(mean, variance, false), whole.conv(), None).unwrap().unwrap();
            let limit = if kind == Kind::Float { 1e-5 } else { 0.02 };
            assert!(apart(&known.y, &running.y.to_kind(Kind::Double)) < limit, "{sizes:?}, {kind:?}");
            assert!(apart(&moved_mean, &mean.to_kind(Kind::Double)) < 1e-5, "{sizes:?}, {kind:?}");

            let (mean, variance) = (mean.copy(), variance.copy());
            let (_, known) = add_norm_act(x, None, Some(&sums), whole.norm(&mean, &variance, true)).unwrap();
            let (_, running) = add_norm_act(x, None, None, whole.norm(&whole.mean, &whole.variance, false)).unwrap();
            assert!(apart(&known, &running.to_kind(Kind::Double)) < limit, "{sizes:?}, {kind:?}");

            let short = sums.narrow(1, 0, sizes[3] - 1);
            let by = whole.norm(&mean, &variance, true);
            let error = norm_conv(x, Some(&short), by, whole.conv(), None).unwrap_err().to_string();
            assert!(error.contains("the sums of another input"), "{error}");
        }
    }
}

/// By running statistics, as a frozen network normalises.
#[test]
fn running_statistics_are_used_where_nothing_is_differentiated() {
    for (kind, limit) in used_kinds() {
        for sizes in FITTING {
            let whole = Whole::new(sizes, kind);
            let by = whole.norm(&whole.mean, &whole.variance, false);
            let made = norm_conv(&whole.case.x, None, by, whole.conv(), Some(&whole.plus)).unwrap().unwrap();
            let exact = whole.leaves(Kind::Double);
            let off = apart(&made.y, &whole.libtorchs(&exact, true, false).0.detach());
            assert!(off < limit, "{sizes:?}, {kind:?}: {off:e}");
        }
    }
}

/// With sums that are known y has the same bits whatever the threads and whether it is differentiated; all else has them for the same
/// number of threads.
#[test]
fn the_same_numbers_make_the_same_bits() {
    for (kind, _) in used_kinds() {
        for sizes in FITTING {
            let whole = Whole::new(sizes, kind);
            let sums = sums_for(&whole.mean, &whole.variance, sizes[0] * sizes[1] * sizes[2]);
            let run = |threads: i32| {
                tch::set_num_threads(threads);
                let leaves = whole.leaves(kind);
                let (made, _, _) = whole.fused(&leaves, Some(&sums), true);
                let mut all = differentiated(&whole, &leaves, &made.y, Some(&made.x), true);
                all.push(made.sums);
                all
            };
            let one = run(1);
            for threads in [2, 3, 64] {
                let more = run(threads);
                assert_eq!(more[5], one[5], "y of {sizes:?}, {kind:?}, {threads} threads");
                assert_eq!(more, run(threads), "{sizes:?}, {kind:?}, {threads} threads, a second time");
            }
            let _no_grad = tch::no_grad_guard();
            let (mean, variance) = (whole.mean.copy(), whole.variance.copy());
            let by = whole.norm(&mean, &variance, true);
            let made = norm_conv(&whole.case.x, Some(&sums), by, whole.conv(), Some(&whole.plus)).unwrap().unwrap();
            assert_eq!(made.y, one[5], "{sizes:?}, {kind:?}");
        }
    }
}

#[test]
fn it_is_used_where_it_fits_and_nowhere_else() {
    let fits = |whole: &Whole, x: &Tensor, plus: Option<&Tensor>, stride: i64, by: NormAct<'_>| {
        norm_conv(x, None, by, ConvBy { stride, ..whole.conv() }, plus).unwrap().is_some()
    };
    for kind in [Kind::Float, Kind::BFloat16] {
        let other = if kind == Kind::Float { Kind::BFloat16 } else { Kind::Float };
        let whole = Whole::new([3, 6, 8, 16, 48], kind);
        let (x, plus) = (&whole.case.x, &whole.plus);
        let by = |batch| whole.norm(&whole.mean, &whole.variance, batch);
        assert_eq!(fits(&whole, x, None, 1, by(true)), is_used(kind), "{kind:?}");
        assert_eq!(fits(&whole, x, Some(plus), 1, by(true)), is_used(kind), "{kind:?}");
        for plus in [plus.contiguous(), plus.to_kind(other), plus.narrow(0, 0, 2), plus.narrow(2, 0, 1)] {
            assert!(!fits(&whole, x, Some(&plus), 1, by(true)), "{kind:?}: {plus:?}");
        }
        assert!(!fits(&whole, x, None, 2, by(true)), "a stride");
        assert!(!fits(&whole, &x.contiguous(), None, 1, by(true)), "not channels_last");
        assert!(!fits(&whole, &x.to_kind(other), None, 1, by(true)), "another number format than the weight's");
        assert!(!fits(&whole, x, None, 1, NormAct { slope: 1.5, ..by(true) }), "a slope beyond 1");
        assert!(!fits(&whole, &x.narrow(3, 0, 6), None, 1, by(true)), "a width that is no multiple of 4");
        let differentiated = x.copy().set_requires_grad(true);
        assert!(!fits(&whole, &differentiated, None, 1, by(false)), "running statistics with a gradient");
    }
}

#[test]
fn it_can_be_switched_off_and_needs_its_instructions() {
    let name = "nn::shim::norm_conv_tests::it_is_used_where_it_fits_and_nowhere_else";
    own_conv_tests::switched_off(name, "MIXMATCH_WINOGRAD");
}

#[test]
fn every_instruction_set_computes_it() {
    let names = [
        "every_pixel_gradient_and_statistic_is_libtorchs",
        "sums_that_are_known_are_not_made_again",
        "running_statistics_are_used_where_nothing_is_differentiated",
        "the_same_numbers_make_the_same_bits",
    ];
    own_conv_tests::under_instruction_sets(&["v3", "v4"], "norm_conv_tests", &names);
}
