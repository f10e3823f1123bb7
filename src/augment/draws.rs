//! The random choices of a batch.

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::{Augment, Policy};

/// Operations that [`Policy::OneOfSeven`] chooses from: the most views of an image that it can tell apart.
pub const CANDIDATES: usize = SEVEN.len();

/// The reference's seven.
const SEVEN: [Candidate; 7] = [
    Candidate::Brightness,
    Candidate::Contrast,
    Candidate::Saturation,
    Candidate::Flip,
    Candidate::Rotation,
    Candidate::Grayscale,
    Candidate::Gamma,
];

#[derive(Clone, Copy)]
enum Candidate {
    Brightness,
    Contrast,
    Saturation,
    Flip,
    Rotation,
    Grayscale,
    Gamma,
}

/// The choices for a batch, one of each per image.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// Mirror it?
    pub flip: Vec<bool>,
    /// Row where the crop starts in the padded image, 0 to 2·pad.
    pub top: Vec<u32>,
    /// Column where the crop starts in the padded image, 0 to 2·pad.
    pub left: Vec<u32>,
    /// Factors of brightness.
    pub brightness: Vec<f32>,
    /// Factors of contrast.
    pub contrast: Vec<f32>,
    /// Factors of saturation.
    pub saturation: Vec<f32>,
    /// Turns of the hue, −½ to ½.
    pub hue: Vec<f32>,
    /// Exponents.
    pub gamma: Vec<f32>,
    /// Take the colour away?
    pub grayscale: Vec<bool>,
    /// Angles in degrees, counter-clockwise.
    pub rotation: Vec<f32>,
    /// Factors of size; above 1 the middle fills the image.
    pub scale: Vec<f32>,
    /// Middle of the erased square as shares of height and width, 0 to 1. Read only where erasing is on.
    pub hole: Vec<[f32; 2]>,
    /// The piece that is cut out: middle and side lengths, down and across, in libtorch's coordinates (−1…1, a whole side is 1
    /// long). Read only where cropping is on.
    pub window: Vec<Window>,
}

/// A piece of an image: the middle lies at `y`, `x`; `height` and `width` are shares of the sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Middle, −1…1 from top to bottom.
    pub y: f32,
    /// Middle, −1…1 from left to right.
    pub x: f32,
    /// Share of the height.
    pub height: f32,
    /// Share of the width.
    pub width: f32,
}

impl Window {
    /// All of it.
    const WHOLE: Self = Self { y: 0.0, x: 0.0, height: 1.0, width: 1.0 };

    /// A piece of at least the share `least` of the area, inside the image.
    fn draw(least: f64, rng: &mut ChaCha8Rng) -> Self {
        let area: f64 = rng.random_range(least.min(1.0)..=1.0);
        let slant: f64 = rng.random_range(-SLANT..=SLANT);
        let (height, width) = ((area * slant.exp()).sqrt().min(1.0), (area / slant.exp()).sqrt().min(1.0));
        let mut middle = |side: f64| (rng.random_range(-1.0..=1.0) * (1.0 - side)) as f32;
        Self { y: middle(height), x: middle(width), height: height as f32, width: width as f32 }
    }
}

/// ln(5/4): how far a piece's sides may be from equal.
const SLANT: f64 = 0.223_143_551_314_209_76;

impl Draws {
    /// The choices that leave `count` images padded by `pad` as they were.
    pub fn neutral(count: usize, pad: u32) -> Self {
        Self {
            flip: vec![false; count],
            top: vec![pad; count],
            left: vec![pad; count],
            brightness: vec![1.0; count],
            contrast: vec![1.0; count],
            saturation: vec![1.0; count],
            hue: vec![0.0; count],
            gamma: vec![1.0; count],
            grayscale: vec![false; count],
            rotation: vec![0.0; count],
            scale: vec![1.0; count],
            hole: vec![[0.5; 2]; count],
            window: vec![Window::WHOLE; count],
        }
    }

    /// Puts the choices of `more` images behind these, as [`Tensor::f_cat`](tch::Tensor::f_cat) puts their images.
    pub fn append(&mut self, more: Self) {
        let Self {
            flip,
            top,
            left,
            brightness,
            contrast,
            saturation,
            hue,
            gamma,
            grayscale,
            rotation,
            scale,
            hole,
            window,
        } = more;
        self.flip.extend(flip);
        self.top.extend(top);
        self.left.extend(left);
        self.brightness.extend(brightness);
        self.contrast.extend(contrast);
        self.saturation.extend(saturation);
        self.hue.extend(hue);
        self.gamma.extend(gamma);
        self.grayscale.extend(grayscale);
        self.rotation.extend(rotation);
        self.scale.extend(scale);
        self.hole.extend(hole);
        self.window.extend(window);
    }
}

impl Augment {
    /// Draws the choices for `count` images, one view of each.
    pub fn draw(&self, count: usize, rng: &mut ChaCha8Rng) -> Draws {
        self.draw_views(count, 1, rng)
    }

    /// Draws the choices for `k` views of each of `images` images; view v of image i is row v·images + i.
    ///
    /// Under [`Policy::OneOfSeven`] the views of an image get different operations; `k` is at most
    /// [`CANDIDATES`] there, which is checked where configurations are resolved (a view beyond would stay
    /// unchanged).
    pub fn draw_views(&self, images: usize, k: usize, rng: &mut ChaCha8Rng) -> Draws {
        match self.policy {
            Policy::Compose => self.compose(images * k, rng),
            Policy::OneOfSeven => self.one_of_seven(images, k, rng),
        }
    }

    /// The order of the draws is part of what a seed means: a new operation draws behind the others, and only
    /// where it is on, so that older runs can be repeated.
    fn compose(&self, count: usize, rng: &mut ChaCha8Rng) -> Draws {
        let mut draws = Draws::neutral(count, self.pad);
        for row in 0..count {
            draws.flip[row] = self.flip && rng.random_bool(0.5);
            draws.top[row] = rng.random_range(0..=2 * self.pad);
            draws.left[row] = rng.random_range(0..=2 * self.pad);
            draws.brightness[row] = around(1.0, self.brightness, rng);
            draws.contrast[row] = around(1.0, self.contrast, rng);
            draws.saturation[row] = around(1.0, self.saturation, rng);
            draws.gamma[row] = around(1.0, self.gamma, rng);
            draws.grayscale[row] = self.grayscale > 0.0 && rng.random_bool(self.grayscale.min(1.0));
            draws.rotation[row] = around(0.0, self.rotation, rng);
            draws.scale[row] = around(1.0, self.scale, rng);
            if self.erase > 0.0 {
                draws.hole[row] = [rng.random(), rng.random()];
            }
            draws.hue[row] = around(0.0, self.hue, rng);
            if self.crop > 0.0 {
                draws.window[row] = Window::draw(self.crop, rng);
            }
        }
        draws
    }

    fn one_of_seven(&self, images: usize, k: usize, rng: &mut ChaCha8Rng) -> Draws {
        let mut draws = Draws::neutral(images * k, self.pad);
        for image in 0..images {
            let chosen = index::sample(rng, CANDIDATES, k.min(CANDIDATES));
            for (view, candidate) in chosen.iter().enumerate() {
                let row = view * images + image;
                match SEVEN[candidate] {
                    Candidate::Brightness => draws.brightness[row] = around(1.0, self.brightness, rng),
                    Candidate::Contrast => draws.contrast[row] = around(1.0, self.contrast, rng),
                    Candidate::Saturation => draws.saturation[row] = around(1.0, self.saturation, rng),
                    Candidate::Flip => draws.flip[row] = true,
                    Candidate::Rotation => draws.rotation[row] = around(0.0, self.rotation, rng),
                    Candidate::Grayscale => draws.grayscale[row] = true,
                    Candidate::Gamma => draws.gamma[row] = around(1.0, self.gamma, rng),
                }
            }
        }
        draws
    }
}

/// Uniform from `middle` ± `range`; nothing is drawn where the range is 0.
fn around(middle: f64, range: f64, rng: &mut ChaCha8Rng) -> f32 {
    if range > 0.0 { rng.random_range(middle - range..=middle + range) as f32 } else { middle as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn seven() -> Augment {
        Augment {
            policy: Policy::OneOfSeven,
            brightness: 0.5,
            contrast: 0.5,
            saturation: 0.5,
            gamma: 0.5,
            rotation: 10.0,
            ..Augment::default()
        }
    }

    /// Which of the seven a row drew.
    fn operations(draws: &Draws, row: usize) -> Vec<&'static str> {
        let drawn = [
            ("flip", draws.flip[row]),
            ("grayscale", draws.grayscale[row]),
            ("brightness", draws.brightness[row] != 1.0),
            ("contrast", draws.contrast[row] != 1.0),
            ("saturation", draws.saturation[row] != 1.0),
            ("gamma", draws.gamma[row] != 1.0),
            ("rotation", draws.rotation[row] != 0.0),
        ];
        drawn.into_iter().filter(|(_, drawn)| *drawn).map(|(name, _)| name).collect()
    }

    #[test]
    fn draws_are_seeded_and_differ_between_images() {
        let augment =
            Augment { policy: Policy::Compose, flip: true, pad: 4, grayscale: 0.5, erase: 0.3, hue: 0.5, ..seven() };
        let draw = |seed| augment.draw(64, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let draws = draw(1);
        assert!(draws.top.iter().all(|&top| top <= 8));
        assert!(draws.top.iter().any(|&top| top != draws.top[0]), "one offset for all images");
        for factors in
            [&draws.brightness, &draws.contrast, &draws.saturation, &draws.gamma, &draws.rotation, &draws.hue]
        {
            assert!(factors.windows(2).all(|pair| pair[0] != pair[1]), "one draw for two images");
        }
        assert!((16..48).contains(&draws.grayscale.iter().filter(|&&gray| gray).count()));
        assert!(draws.hole.windows(2).all(|pair| pair[0] != pair[1]));
    }

    /// Expected values: what these settings drew before the newer operations were added.
    #[test]
    fn old_settings_draw_what_they_always_drew() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws = Augment { flip: true, pad: 4, ..Augment::default() }.draw(4, &mut rng);
        let expected = Draws {
            flip: vec![true, false, true, true],
            top: vec![8, 3, 8, 6],
            left: vec![0, 1, 6, 1],
            ..Draws::neutral(4, 4)
        };
        assert_eq!(draws, expected);
        assert_eq!(rng.random::<u64>(), 16_136_862_674_430_550_035, "more was drawn");

        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws = Augment { flip: true, pad: 4, brightness: 0.25, contrast: 0.5, ..Augment::default() };
        let draws = draws.draw_views(1, 3, &mut rng);
        let expected = Draws {
            flip: vec![true, true, false],
            top: vec![8, 8, 1],
            left: vec![0, 6, 6],
            brightness: vec![1.0482801, 0.9805441, 0.9916286],
            contrast: vec![0.7193246, 0.6526527, 1.0772091],
            ..Draws::neutral(3, 4)
        };
        assert_eq!(draws, expected);
        assert_eq!(rng.random::<u64>(), 1_834_704_363_358_752_291, "more was drawn");
    }

    #[test]
    fn a_piece_lies_inside_the_image_and_may_reach_its_edges() {
        let augment = Augment { crop: 0.3, ..Augment::default() };
        let draws = augment.draw(2000, &mut ChaCha8Rng::seed_from_u64(5));
        let mut furthest = 0f32;
        for piece in &draws.window {
            for (middle, side) in [(piece.y, piece.height), (piece.x, piece.width)] {
                // From −1 to 1 a side is 2 long, and so half of a piece's is its share.
                assert!(middle.abs() + side < 1.0 + 1e-5, "{piece:?}");
                furthest = furthest.max(if side < 0.9 { middle.abs() + side } else { 0.0 });
            }
            let slant = piece.height / piece.width;
            assert!(piece.height * piece.width > 0.299 && (0.799..1.251).contains(&slant), "{piece:?}");
        }
        assert!(furthest > 0.99, "{furthest}");
    }

    #[test]
    fn every_one_of_the_seven_is_drawn_as_often() {
        let draws = seven().draw(7000, &mut ChaCha8Rng::seed_from_u64(4));
        let mut counts = std::collections::BTreeMap::new();
        for row in 0..7000 {
            *counts.entry(operations(&draws, row)[0]).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 7);
        // The standard deviation of each count is 29.
        assert!(counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn the_views_of_an_image_differ_in_their_one_operation(seed: u64, k in 1usize..=CANDIDATES) {
            let images = 5;
            let draws = seven().draw_views(images, k, &mut ChaCha8Rng::seed_from_u64(seed));
            let mut unchanged = 0;
            for image in 0..images {
                let mut seen = std::collections::BTreeSet::new();
                for view in 0..k {
                    let one = operations(&draws, view * images + image);
                    prop_assert!(one.len() <= 1, "{:?}", one);
                    unchanged += usize::from(one.is_empty());
                    for name in one {
                        prop_assert!(seen.insert(name), "two views by {}", name);
                    }
                }
            }
            // One factor in some ten million is 1 itself and cannot be told from none.
            prop_assert!(unchanged <= 1, "{} views by nothing", unchanged);
        }
    }
}
