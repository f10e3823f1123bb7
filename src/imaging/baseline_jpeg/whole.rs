//! Coefficients to as many pixels: the cosine transform of eight in whole numbers of twelve bits behind the point (Loeffler, Ligtenberg and Moschytz,
//! "Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP 1989), as libjpeg and those after it have it. Bits are cut off where zune-jpeg
//! does, so that a picture has the same pixels whoever decodes it.

/// Rows of coefficients, eight in each.
pub type Block = [[i32; 8]; 8];

/// Where a coefficient of the file's order is in a [`Block`].
pub const PLACES: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Bits behind the point of the transform's factors.
const POINT: u32 = 12;

/// The same of what is kept between the two directions.
const KEPT: u32 = 2;

/// The pixels of a block, rows of eight.
#[inline(always)]
pub fn pixels(block: &Block) -> [u8; 64] {
    let down = eight(block, 1 << (POINT - KEPT - 1), POINT - KEPT);
    // Columns side by side, and then rows side by side.
    let across = eight(&turned(&down), ROUNDED, POINT + KEPT + 3);
    let mut pixels = [0; 64];
    for (x, column) in across.iter().enumerate() {
        for (y, level) in column.iter().enumerate() {
            pixels[8 * y + x] = (*level).clamp(0, 255) as u8;
        }
    }
    pixels
}

/// A half of the last bit, and the middle of all levels. (The half is a little more, as zune-jpeg has it.)
const ROUNDED: i32 = (1 << 16) + 512 + (128 << 17);

/// The pixels of a block that has a mean and nothing else: all the same.
#[inline(always)]
pub fn flat(mean: i32) -> [u8; 64] {
    [(mean.wrapping_add(4 + (128 << 3)) >> 3).clamp(0, 255) as u8; 64]
}

#[inline(always)]
fn turned(rows: &[[i32; 8]; 8]) -> [[i32; 8]; 8] {
    let mut columns = [[0; 8]; 8];
    for (y, row) in rows.iter().enumerate() {
        for (x, value) in row.iter().enumerate() {
            columns[x][y] = *value;
        }
    }
    columns
}

/// A factor of the transform, in 4,096ths. (Less than 0 it is rounded to the next higher one, as zune-jpeg has it.)
const fn factor(of: f64) -> i32 {
    (of * (1 << POINT) as f64 + 0.5) as i32
}

/// Eight transforms of eight coefficients, side by side: `rounding` added before so many bits are cut off. What a damaged picture's coefficients
/// come to may wrap around.
#[inline(always)]
fn eight(c: &[[i32; 8]; 8], rounding: i32, cut: u32) -> [[i32; 8]; 8] {
    let mut pixels = [[0; 8]; 8];
    for x in 0..8 {
        let (c0, c1, c2, c3) = (c[0][x], c[1][x], c[2][x], c[3][x]);
        let (c4, c5, c6, c7) = (c[4][x], c[5][x], c[6][x], c[7][x]);
        let times = |value: i32, of: f64| value.wrapping_mul(factor(of));
        // Of even frequencies.
        let shared = times(c2.wrapping_add(c6), 0.541_196_100);
        let (slow, fast) =
            (shared.wrapping_add(times(c2, 0.765_366_865)), shared.wrapping_add(times(c6, -1.847_759_065)));
        let sum = (c0.wrapping_add(c4) << POINT).wrapping_add(rounding);
        let difference = (c0.wrapping_sub(c4) << POINT).wrapping_add(rounding);
        let even = [
            sum.wrapping_add(slow),
            difference.wrapping_add(fast),
            difference.wrapping_sub(fast),
            sum.wrapping_sub(slow),
        ];
        // And of odd ones.
        let (a, b, c, d) = (c7.wrapping_add(c3), c5.wrapping_add(c1), c7.wrapping_add(c1), c5.wrapping_add(c3));
        let shared = times(a.wrapping_add(b), 1.175_875_602);
        let (a, b) = (shared.wrapping_add(times(a, -1.961_570_560)), shared.wrapping_add(times(b, -0.390_180_644)));
        let (c, d) = (times(c, -0.899_976_223), times(d, -2.562_915_447));
        let odd = [
            times(c1, 1.501_321_110).wrapping_add(c).wrapping_add(b),
            times(c3, 3.072_711_026).wrapping_add(d).wrapping_add(a),
            times(c5, 2.053_119_869).wrapping_add(d).wrapping_add(b),
            times(c7, 0.298_631_336).wrapping_add(c).wrapping_add(a),
        ];
        for place in 0..4 {
            pixels[place][x] = even[place].wrapping_add(odd[place]) >> cut;
            pixels[7 - place][x] = even[place].wrapping_sub(odd[place]) >> cut;
        }
    }
    pixels
}
