//! The convolutions of stride 2 (`native/strided.h`) against libtorch's in float64, and where they are used.

use tch::Kind;

use super::own_conv_tests::{self, Case, Sizes, assert_exact, assert_repeatable};

const FITTING: [Sizes; 9] = [
    [1, 2, 4, 16, 16],
    [3, 6, 8, 16, 48],
    [5, 8, 8, 32, 64],
    [2, 4, 20, 48, 64],
    [2, 36, 36, 64, 16],
    [7, 12, 12, 80, 32],
    [2, 10, 12, 128, 96], // five rows of six pixels: the last block of rows is smaller
    [9, 8, 8, 128, 256],
    [40, 32, 32, 16, 32], // several blocks of rows for each thread, and parts that end within an image
];

fn is_used(kind: Kind) -> bool {
    own_conv_tests::is_used(kind, "MIXMATCH_STRIDED", "v4")
}

#[test]
fn every_pixel_and_gradient_is_the_convolutions() {
    assert_exact(&FITTING, 3, 2);
    assert_exact(&FITTING, 1, 2);
}

#[test]
fn the_bits_depend_on_no_thread_and_on_no_other_image() {
    assert_repeatable(&FITTING, 3, 2, is_used);
    assert_repeatable(&FITTING, 1, 2, is_used);
}

#[test]
fn it_is_used_where_it_fits_and_nowhere_else() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let differs = |sizes: Sizes, kernel: i64, stride: i64| Case::new(sizes, kernel, stride, kind).differs();
        // Large enough that among sums of another order some round otherwise. In float32 oneDNN has the same order for y and dw.
        let large = [8, 32, 32, 64, 64];
        assert_eq!(differs(large, 3, 2)[1], is_used(kind), "{kind:?}");
        for (kernel, stride) in [(1, 1), (5, 2), (3, 3)] {
            assert_eq!(differs(large, kernel, stride), [false; 3], "{kernel}, {stride}, {kind:?}");
        }
        assert_eq!(Case::new(large, 3, 2, kind).rows_first().differs(), [false; 3], "{kind:?}");
        for unfit in [
            [8, 32, 30, 64, 64],
            [8, 31, 32, 64, 64],
            [8, 32, 32, 72, 64],
            [8, 32, 32, 64, 72],
            [2, 32, 32, 272, 16],
            [2, 32, 32, 16, 272],
        ] {
            assert_eq!(differs(unfit, 3, 2), [false; 3], "{unfit:?}, {kind:?}");
        }
    }
}

#[test]
fn it_can_be_switched_off_and_needs_its_instructions() {
    let name = "nn::shim::strided_tests::it_is_used_where_it_fits_and_nowhere_else";
    own_conv_tests::switched_off(name, "MIXMATCH_STRIDED");
}

#[test]
fn every_instruction_set_computes_it() {
    let names = ["every_pixel_and_gradient_is_the_convolutions", "the_bits_depend_on_no_thread_and_on_no_other_image"];
    // Under v3 there are none.
    own_conv_tests::under_instruction_sets(&["v4"], "strided_tests", &names);
}
