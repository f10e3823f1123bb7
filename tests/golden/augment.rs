//! Every augmentation against torchvision's (`tests/golden/make_augment.py`).

use mixmatch::augment::{Augment, Draws, Fill, Policy};
use tch::Kind;

use super::{Golden, assert_close};

const IMAGES: usize = 3;

fn numbers(golden: &Golden, name: &str) -> Vec<f32> {
    Vec::try_from(golden.get(name)).unwrap()
}

fn marks(golden: &Golden, name: &str) -> Vec<bool> {
    Vec::<u8>::try_from(golden.get(name)).unwrap().into_iter().map(|byte| byte == 1).collect()
}

/// Applies `draws` and compares with `{name}.expected`, in torchvision's 0…1.
fn check(golden: &Golden, name: &str, augment: Augment, draws: Draws) {
    let augmented = augment.apply(golden.get("images"), &draws).unwrap();
    let expected = golden.get(&format!("{name}.expected"));
    assert_close(name, &((augmented + 1.0) / 2.0), expected, 1e-5);
}

fn neutral() -> Draws {
    Draws::neutral(IMAGES, 0)
}

#[test]
fn colours() {
    let golden = Golden::open("augment_operations");
    let factors = |name: &str| numbers(&golden, &format!("{name}.factor"));
    let drawn = |name: &str| marks(&golden, &format!("{name}.drawn"));
    let all = [
        ("brightness", Draws { brightness: factors("brightness"), ..neutral() }),
        ("contrast", Draws { contrast: factors("contrast"), ..neutral() }),
        ("saturation", Draws { saturation: factors("saturation"), ..neutral() }),
        ("hue", Draws { hue: factors("hue"), ..neutral() }),
        ("gamma", Draws { gamma: factors("gamma"), ..neutral() }),
        ("grayscale", Draws { grayscale: drawn("grayscale"), ..neutral() }),
        ("flip", Draws { flip: drawn("flip"), ..neutral() }),
    ];
    for (name, draws) in all {
        check(&golden, name, Augment::default(), draws);
    }
}

#[test]
fn rotation_and_zoom() {
    let golden = Golden::open("augment_operations");
    let turned = || Draws { rotation: numbers(&golden, "rotation"), ..neutral() };
    let zoomed = || Draws { scale: numbers(&golden, "scale"), ..turned() };
    let black = Augment { fill: Fill::Black, ..Augment::default() };
    check(&golden, "rotate_black", black, turned());
    check(&golden, "affine_black", black, zoomed());
    check(&golden, "affine_reflect", Augment::default(), zoomed());
    // The reference's way: torchvision's on tensors, and Pillow's, which it called.
    let nearest = Augment { policy: Policy::OneOfSeven, ..black };
    check(&golden, "rotate_nearest", nearest, turned());
    check(&golden, "rotate_pillow", nearest, turned());
}

#[test]
fn erasing() {
    let golden = Golden::open("augment_operations");
    let places = Vec::<f32>::try_from(golden.get("hole").view([-1])).unwrap();
    let hole = places.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
    check(&golden, "erase", Augment { erase: 0.5, ..Augment::default() }, Draws { hole, ..neutral() });
}

#[test]
fn flip_pad_and_crop() {
    let golden = Golden::open("augment");
    let whole = |name: &str| Vec::<i64>::try_from(golden.get(name)).unwrap();
    let pad = golden.get("pad").int64_value(&[0]) as u32;
    let draws = Draws {
        flip: whole("flip").iter().map(|&flip| flip == 1).collect(),
        top: whole("dy").iter().map(|&row| row as u32).collect(),
        left: whole("dx").iter().map(|&column| column as u32).collect(),
        ..Draws::neutral(golden.get("flip").size()[0] as usize, pad)
    };
    let augmented = Augment { flip: true, pad, ..Augment::default() }.apply(golden.get("images"), &draws).unwrap();
    // Back from −1…1 to the bytes.
    let bytes = ((augmented.permute([0, 2, 3, 1]) + 1.0) * 127.5).round();
    assert_close("pixels", &bytes, &golden.get("expected").to_kind(Kind::Float), 1e-9);
}
