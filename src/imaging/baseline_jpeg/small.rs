//! Coefficients to pixels, fewer than the coefficients of the whole block: the lowest frequencies of each direction, by a transform of their number.
//! (Dugad and Ahuja, "A fast scheme for image size change in the compressed domain", IEEE Transactions on Circuits and Systems for Video
//! Technology 11(4), 2001, who take four of eight.)

use super::whole;

/// Pixels of a block's side: 1, 2, 4 or all 8.
#[derive(Clone, Copy)]
pub enum Side {
    One,
    Two,
    Four,
    Eight,
}

impl Side {
    /// In pixels.
    pub fn pixels(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Twice as many, as far as there are.
    pub fn doubled(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::Four,
            Self::Four | Self::Eight => Self::Eight,
        }
    }

    /// The last coefficient, in the order of the file, that its pixels are made of.
    pub fn last(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Two => 4,
            Self::Four => 24,
            Self::Eight => 63,
        }
    }
}

/// Rows of coefficients, four in each, and a place for those that are not wanted.
pub type Block = [f32; 17];

/// Where a coefficient of the file's order is in a [`Block`]: the frequencies up to 3 of each direction.
pub const PLACES: [u8; 25] = {
    let (mut places, mut index) = ([16; 25], 0);
    while index < places.len() {
        let (y, x) = (whole::PLACES[index] / 8, whole::PLACES[index] % 8);
        if y < 4 && x < 4 {
            places[index] = 4 * y + x;
        }
        index += 1;
    }
    places
};

/// By what a dequantised coefficient is multiplied, whatever the side: half for each direction of the four pixels' transform and again for their
/// being four of eight; for two and one it comes to the same.
pub const SCALE: f32 = 0.125;

/// The pixels of a block, rows of `side`, which is less than eight.
#[inline(always)]
pub fn pixels(block: &Block, side: Side) -> [u8; 16] {
    let mut pixels = [0; 16];
    let level = |value: f32| (value + 128.5) as u8;
    match side {
        Side::One => pixels[0] = level(block[0]),
        Side::Two => {
            let [a, b, c, d] = [block[0], block[1], block[4], block[5]];
            let (top, bottom) = ([a + c, b + d], [a - c, b - d]);
            for (pixels, [mean, slope]) in pixels.as_chunks_mut::<2>().0.iter_mut().zip([top, bottom]) {
                *pixels = [level(mean + slope), level(mean - slope)];
            }
        }
        _ => {
            let row = |row: usize| -> [f32; 4] { std::array::from_fn(|x| block[4 * row + x]) };
            let down = four([row(0), row(1), row(2), row(3)]);
            // Columns side by side, and then rows side by side.
            let turned = |rows: &[[f32; 4]; 4]| -> [[f32; 4]; 4] { std::array::from_fn(|x| rows.map(|row| row[x])) };
            let across = turned(&four(turned(&down)));
            for (pixels, row) in pixels.as_chunks_mut::<4>().0.iter_mut().zip(across) {
                *pixels = row.map(level);
            }
        }
    }
    pixels
}

/// √2 · cos(π/8) and √2 · cos(3π/8): the four pixels' transform, less a half that [`SCALE`] has.
const ODD: [f32; 2] = [1.306_563, 0.541_196_1];

/// Four transforms of four coefficients, side by side.
#[inline(always)]
fn four([c0, c1, c2, c3]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let mut pixels = [[0.0; 4]; 4];
    for x in 0..4 {
        let (even, odd) = (c0[x] + c2[x], c0[x] - c2[x]);
        let (outer, inner) = (ODD[0] * c1[x] + ODD[1] * c3[x], ODD[1] * c1[x] - ODD[0] * c3[x]);
        (pixels[0][x], pixels[1][x], pixels[2][x], pixels[3][x]) =
            (even + outer, odd + inner, odd - inner, even - outer);
    }
    pixels
}
