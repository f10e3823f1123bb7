//! Winograd's convolution (`native/winograd.h`) against libtorch's in float64, and where it is used.

use tch::{Device, Kind, Tensor};

use super::own_conv_tests::{self, Case, LIMITS, Sizes, apart, assert_exact, assert_repeatable};
use super::{ConvBy, ConvNumbers, conv, conv_pack, conv_pack_winograd, conv_run};

const FITTING: [Sizes; 12] = [
    [1, 2, 4, 16, 16],
    [3, 6, 8, 16, 48],
    [5, 8, 8, 32, 32],
    [2, 4, 20, 48, 64],
    [2, 38, 36, 64, 16],  // a row of 18 tiles, more than a block has
    [2, 36, 100, 16, 32], // in float32 a row of 25, which is more there
    [7, 12, 12, 80, 32],
    [2, 10, 12, 128, 96],
    [9, 8, 8, 128, 256],
    [40, 32, 32, 16, 32], // several blocks of tiles for each thread
    [20, 30, 32, 48, 32],
    [9, 16, 24, 80, 48], // large tiles, in float32, for the weight's gradient, too
];

fn case(sizes: Sizes, kind: Kind) -> Case {
    Case::new(sizes, 3, 1, kind)
}

fn is_used(kind: Kind) -> bool {
    own_conv_tests::is_used(kind, "MIXMATCH_WINOGRAD", "v3")
}

#[test]
fn every_pixel_and_gradient_is_the_convolutions() {
    assert_exact(&FITTING, 3, 1);
}

#[test]
fn the_bits_depend_on_no_thread_and_on_no_other_image() {
    assert_repeatable(&FITTING, 3, 1, is_used);
}

#[test]
fn it_is_used_where_it_fits_and_nowhere_else() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let fits = is_used(kind);
        for sizes in FITTING {
            assert_eq!(case(sizes, kind).differs(), [fits; 3], "{sizes:?}, {kind:?}");
            assert_eq!(case(sizes, kind).rows_first().differs(), [false; 3], "not channels_last: {sizes:?}");
        }
        let unfit: [Sizes; 6] = [
            [2, 8, 6, 16, 16],
            [2, 7, 8, 16, 16],
            [2, 8, 8, 8, 16],
            [2, 8, 8, 16, 24],
            [1, 8, 8, 272, 16],
            [1, 8, 8, 16, 272],
        ];
        for sizes in unfit {
            assert_eq!(case(sizes, kind).differs(), [false; 3], "{sizes:?}, {kind:?}");
        }
    }
}

/// In float32 tiles are of 4×4 pixels where the height is a multiple of 4: in training always, in serving where an image alone has so many that
/// reading the larger weight pays.
#[test]
fn tiles_are_large_where_that_pays() {
    let _no_grad = tch::no_grad_guard();
    let cases: [(Sizes, bool, bool); 4] = [
        ([2, 32, 32, 32, 48], true, true),
        ([2, 8, 8, 128, 128], true, false),
        ([2, 8, 8, 16, 16], true, false),
        ([2, 30, 32, 32, 48], false, false),
    ];
    for (kind, limit) in LIMITS.into_iter().filter(|&(kind, _)| is_used(kind)) {
        let float = kind == Kind::Float;
        for (sizes, trained, served) in cases {
            let (trained, served) = (trained && float, served && float);
            let case = case(sizes, kind);
            let Case { x, weight, .. } = &case;
            let input = [1, sizes[3], sizes[1], sizes[2]];
            let (packed, bias) =
                (conv_pack(weight, input, 1, 1).unwrap(), Tensor::zeros([sizes[4]], (kind, Device::Cpu)));
            let winograd = conv_pack_winograd(weight, input, 1, 1).unwrap();
            let positions = winograd.numel() as i64 / (sizes[3] * sizes[4]);
            assert_eq!(positions, if served { 36 } else { 16 }, "{sizes:?}, {kind:?}");
            let run = |x: &Tensor| {
                let numbers = ConvNumbers { packed: &packed, winograd: &winograd, bias: &bias };
                conv_run(x, numbers, None, 1, 1, 1.0).unwrap()
            };
            // The same tiles have the same bits.
            let same = run(x) == conv(x, ConvBy { weight, stride: 1, padding: 1 }).unwrap();
            assert_eq!(same, trained == served, "{sizes:?}, {kind:?}");
            // Of another height than the weight was transformed for.
            let lower = x.permute([0, 2, 3, 1]).narrow(1, 0, sizes[1] - 2).contiguous().permute([0, 3, 1, 2]);
            let exact = case.libtorchs(&lower.to_kind(Kind::Double), &weight.to_kind(Kind::Double));
            let off = apart(&run(&lower), &exact);
            assert!(off < limit, "{sizes:?} lower, {kind:?}: {off:e}");
        }
    }
}

#[test]
fn it_can_be_switched_off_and_needs_its_instructions() {
    let name = "nn::shim::winograd_tests::it_is_used_where_it_fits_and_nowhere_else";
    own_conv_tests::switched_off(name, "MIXMATCH_WINOGRAD");
}

#[test]
fn every_instruction_set_computes_it() {
    let names = [
        "every_pixel_and_gradient_is_the_convolutions",
        "the_bits_depend_on_no_thread_and_on_no_other_image",
        "what_follows_a_convolution_is_done_on_its_way_out",
        "tiles_are_large_where_that_pays",
    ];
    own_conv_tests::under_instruction_sets(&["v3", "v4"], "winograd_tests", &names);
}

/// y = lrelu(conv(x) + bias + onto), as a served network computes it.
#[test]
fn what_follows_a_convolution_is_done_on_its_way_out() {
    let _no_grad = tch::no_grad_guard();
    for (kind, limit) in LIMITS {
        for sizes in FITTING {
            let case = case(sizes, kind);
            let Case { x, weight, dy: before, .. } = &case;
            let bias = Tensor::randn([sizes[4]], (Kind::Float, Device::Cpu)).to_kind(kind);
            let (packed, winograd) = (
                conv_pack(weight, [16, sizes[3], 8, 8], 1, 1).unwrap(),
                conv_pack_winograd(weight, [16, sizes[3], sizes[1], sizes[2]], 1, 1).unwrap(),
            );
            let plain = case.libtorchs(&x.to_kind(Kind::Double), &weight.to_kind(Kind::Double))
                + bias.to_kind(Kind::Double).view([-1, 1, 1]);
            for slope in [0.0, 0.1, 1.0] {
                let numbers = ConvNumbers { packed: &packed, winograd: &winograd, bias: &bias };
                let exact = |sum: Tensor| sum.clamp_min(0.0) + sum.clamp_max(0.0) * slope;
                let y = conv_run(x, numbers, None, 1, 1, slope).unwrap();
                let off = apart(&y, &exact(plain.shallow_clone()));
                assert!(off < limit, "{sizes:?}, {kind:?}, slope {slope}: {off:e}");
                // oneDNN, which computes what is not for Winograd's method, has no leaky ReLU behind a sum.
                if slope == 0.1 {
                    continue;
                }
                let onto = Tensor::empty_like(before);
                onto.shallow_clone().copy_(before);
                let y = conv_run(x, numbers, Some(&onto), 1, 1, slope).unwrap();
                let off = apart(&y, &exact(&plain + before.to_kind(Kind::Double)));
                assert!(off < limit, "{sizes:?} onto something, {kind:?}, slope {slope}: {off:e}");
                assert_eq!(y.data_ptr(), onto.data_ptr());
            }
        }
    }
}

/// An image gets the same answer beside others as alone.
#[test]
fn a_served_convolution_answers_an_image_in_any_batch_alike() {
    let _no_grad = tch::no_grad_guard();
    for kind in [Kind::Float, Kind::BFloat16].into_iter().filter(|&kind| is_used(kind)) {
        for sizes in FITTING {
            let Case { x, weight, .. } = case(sizes, kind);
            let bias = Tensor::zeros([sizes[4]], (kind, Device::Cpu));
            let winograd = conv_pack_winograd(&weight, [1, sizes[3], sizes[1], sizes[2]], 1, 1).unwrap();
            // What it must not need: a layout for oneDNN that is wrong.
            let numbers = ConvNumbers { packed: &bias, winograd: &winograd, bias: &bias };
            let run = |x: &Tensor| conv_run(x, numbers, None, 1, 1, 1.0).unwrap();
            let together = run(&x);
            for image in 0..sizes[0] {
                assert_eq!(
                    run(&x.narrow(0, image, 1)),
                    together.narrow(0, image, 1),
                    "image {image} of {sizes:?}, {kind:?}"
                );
            }
        }
    }
}
