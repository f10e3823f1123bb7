//! The bits of a scan to planes of brightness and colour, and those to pixels.

use super::bits::Bits;
use super::frame::{Component, Frame};
use super::huffman::{Codes, Coefficients};
use super::idct::{self, Block, PLACES, SCALE, Side};

/// A component's pixels.
struct Plane<'a> {
    means: &'a Codes,
    coefficients: &'a Coefficients,
    /// What the wanted coefficients are multiplied by.
    factors: [f32; PLACES.len()],
    /// Blocks of a unit, across and down.
    blocks: (usize, usize),
    side: Side,
    /// Pixels that are kept of a block, across and down: all of its side's, or the means of two.
    kept: (usize, usize),
    /// Pixels of a row.
    width: usize,
    pixels: Vec<u8>,
    /// The mean of the block before.
    mean: i32,
}

impl<'a> Plane<'a> {
    /// Of a component with so many `units`, of which one has `of_unit` pixels of the brightness.
    fn new(
        frame: &'a Frame,
        component: &Component,
        side: Side,
        units: (usize, usize),
        of_unit: (usize, usize),
    ) -> Option<Self> {
        let divisors = frame.divisors.get(component.divisors)?.as_ref()?;
        let kept = |of_unit: usize, blocks: usize| side.pixels().min(of_unit / blocks);
        let kept = (kept(of_unit.0, component.blocks.0), kept(of_unit.1, component.blocks.1));
        let width = units.0 * component.blocks.0 * kept.0;
        let height = units.1 * component.blocks.1 * kept.1;
        Some(Self {
            means: frame.means.get(component.codes.0)?.as_ref()?,
            coefficients: frame.coefficients.get(component.codes.1)?.as_ref()?,
            factors: std::array::from_fn(|index| f32::from(divisors[index]) * SCALE),
            blocks: component.blocks,
            side,
            kept,
            width,
            pixels: vec![0; width * height],
            mean: 0,
        })
    }

    /// The next block, whose upper left pixel is this one.
    fn block(&mut self, bits: &mut Bits, at: usize) -> Option<()> {
        self.mean = self.mean.wrapping_add(self.means.difference(bits)?);
        let mut block: Block = [0.0; 17];
        block[0] = self.mean as f32 * self.factors[0];
        let factors = &self.factors;
        self.coefficients.read(bits, self.side.last(), |index, value| {
            block[usize::from(PLACES[index])] = value as f32 * factors[index];
        })?;
        let (mut pixels, side) = (idct::pixels(&block, self.side), self.side.pixels());
        if self.kept != (side, side) {
            self.halve(&mut pixels);
        }
        match self.kept.0 {
            1 => self.store::<1>(&pixels, at),
            2 => self.store::<2>(&pixels, at),
            _ => self.store::<4>(&pixels, at),
        }
        Some(())
    }

    /// Means of two pixels beside or below each other, in place.
    fn halve(&self, pixels: &mut [u8; 16]) {
        let ((across, down), side) = (self.kept, self.side.pixels());
        // Where the other one of two is, and how far apart the first ones are.
        let (other, step) = if across < side { (1, (2, 1)) } else { (side, (1, 2)) };
        for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
            let first = y * step.1 * side + x * step.0;
            // Where it goes lies before both or is the first, so that none is read that was written over.
            pixels[y * side + x] = mean(pixels[first], pixels[first + other]);
        }
    }

    /// Keeps the first `N` pixels of each row of a block. (As many as the compiler knows: a call for two bytes takes longer than the two.)
    #[inline(always)]
    fn store<const N: usize>(&mut self, pixels: &[u8; 16], at: usize) {
        for (row, from) in pixels.chunks_exact(self.side.pixels()).take(self.kept.1).enumerate() {
            self.pixels[at + row * self.width..][..N].copy_from_slice(&from[..N]);
        }
    }
}

fn mean(a: u8, b: u8) -> u8 {
    u16::midpoint(a.into(), u16::from(b) + 1) as u8
}

/// Decodes the scan behind a frame to a picture of `across` and `down` pixels, `side` of them for each block's eight; RGB. None where it is damaged.
pub fn decode(frame: &Frame, scan: &[u8], side: Side, (across, down): (usize, usize)) -> Option<Vec<u8>> {
    let first = frame.components.first()?;
    let of_unit = (8 * first.blocks.0, 8 * first.blocks.1);
    let units = (frame.width.div_ceil(of_unit.0), frame.height.div_ceil(of_unit.1));
    // Colours that are stored at half the size have as many pixels of their own as the brightness, where that is possible.
    let colour = match (side, first.blocks) {
        (side, (1, 1)) => side,
        (Side::One, _) => Side::Two,
        (Side::Two | Side::Four, _) => Side::Four,
    };
    let small_unit = (side.pixels() * first.blocks.0, side.pixels() * first.blocks.1);
    let plane = |(component, side)| Plane::new(frame, component, side, units, small_unit);
    let mut planes = frame.components.iter().zip([side, colour, colour]).map(plane).collect::<Option<Vec<Plane>>>()?;
    let mut bits = Bits::new(scan);
    let (mut since, mut restarts) = (0, 0);
    for row in 0..units.1 {
        for column in 0..units.0 {
            if frame.restart_after > 0 && since == frame.restart_after {
                bits.restart(restarts)?;
                (since, restarts) = (0, (restarts + 1) % 8);
                planes.iter_mut().for_each(|plane| plane.mean = 0);
            }
            since += 1;
            for plane in &mut planes {
                let (blocks, kept) = (plane.blocks, plane.kept);
                for (y, x) in (0..blocks.1).flat_map(|y| (0..blocks.0).map(move |x| (y, x))) {
                    let (top, left) = ((row * blocks.1 + y) * kept.1, (column * blocks.0 + x) * kept.0);
                    plane.block(&mut bits, top * plane.width + left)?;
                }
            }
            if bits.overread() {
                return None;
            }
        }
    }
    Some(rgb(&planes, (across, down)))
}

fn rgb<'b>(planes: &'b [Plane<'b>], (across, down): (usize, usize)) -> Vec<u8> {
    let mut rgb = vec![0; 3 * across * down];
    for (y, row) in rgb.chunks_exact_mut(3 * across).enumerate() {
        let pixels = row.as_chunks_mut::<3>().0;
        let of = |plane: &'b Plane, halved: usize| &plane.pixels[(y >> halved) * plane.width..][..plane.width];
        match planes {
            [brightness, blue, red] => {
                // How often a colour is halved against the brightness: not at all or once.
                let halved = |brightness: usize, colour: usize| (brightness / colour).ilog2() as usize;
                let x_halved = halved(brightness.blocks.0 * brightness.kept.0, blue.kept.0);
                let y_halved = halved(brightness.blocks.1 * brightness.kept.1, blue.kept.1);
                let (brightness, blue, red) = (of(brightness, 0), of(blue, y_halved), of(red, y_halved));
                if x_halved == 0 {
                    for (((pixel, y), cb), cr) in pixels.iter_mut().zip(brightness).zip(blue).zip(red) {
                        *pixel = colour(*y, *cb, *cr);
                    }
                } else {
                    for (x, (pixel, y)) in pixels.iter_mut().zip(brightness).enumerate() {
                        *pixel = colour(*y, blue[x >> x_halved], red[x >> x_halved]);
                    }
                }
            }
            _ => pixels.iter_mut().zip(of(&planes[0], 0)).for_each(|(pixel, grey)| *pixel = [*grey; 3]),
        }
    }
    rgb
}

/// RGB of a brightness and its differences (JFIF 1.02), in 65,536ths.
#[inline(always)]
fn colour(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    let level = |value: i32| ((value + (1 << 15)) >> 16).clamp(0, 255) as u8;
    [level(y + 91_881 * cr), level(y - 22_554 * cb - 46_802 * cr), level(y + 116_130 * cb)]
}
