//! The bits of a scan to planes of brightness and colour.

use super::bits::Bits;
use super::colour::{self, Plane};
use super::frame::{Component, Divisors, Frame};
use super::huffman::Codes;
use super::small::{self, SCALE, Side};
use super::whole;

/// What makes a component's plane.
struct Decoder<'a> {
    means: &'a Codes,
    coefficients: &'a Codes,
    divisors: &'a Divisors,
    /// What the wanted coefficients of a side that is less than eight are multiplied by.
    factors: [f32; small::PLACES.len()],
    /// Blocks of a unit, across and down.
    blocks: (usize, usize),
    side: Side,
    /// Pixels that are kept of a block, across and down: all of its side's, or the means of two.
    kept: (usize, usize),
    plane: Plane,
    /// The mean of the block before.
    mean: i32,
}

impl<'a> Decoder<'a> {
    /// Of a component with so many `units`; of each, `of_unit` pixels across and down are kept at most.
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
            divisors,
            factors: std::array::from_fn(|index| f32::from(divisors[index]) * SCALE),
            blocks: component.blocks,
            side,
            kept,
            plane: Plane { width, pixels: vec![0; width * height] },
            mean: 0,
        })
    }

    /// The next block, whose upper left pixel is this one.
    #[inline(always)]
    fn block(&mut self, bits: &mut Bits, at: usize) -> Option<()> {
        self.mean = self.mean.wrapping_add(self.means.difference(bits)?);
        let side = self.side.pixels();
        let mut pixels = match self.side {
            Side::Eight => self.whole(bits)?,
            _ => self.small(bits)?,
        };
        if self.kept != (side, side) {
            self.halve(&mut pixels);
        }
        match self.kept.0 {
            1 => self.store::<1>(&pixels, at),
            2 => self.store::<2>(&pixels, at),
            4 => self.store::<4>(&pixels, at),
            _ => self.store::<8>(&pixels, at),
        }
        Some(())
    }

    #[inline(always)]
    fn whole(&self, bits: &mut Bits) -> Option<[u8; 64]> {
        let mean = self.mean.wrapping_mul(self.divisors[0].into());
        let (mut block, mut is_flat): (whole::Block, bool) = ([[0; 8]; 8], true);
        block[0][0] = mean;
        let divisors = self.divisors;
        self.coefficients.read(bits, 63, |index, value| {
            block.as_flattened_mut()[usize::from(whole::PLACES[index]) & 63] =
                value.wrapping_mul(divisors[index].into());
            is_flat = false;
        })?;
        Some(if is_flat { whole::flat(mean) } else { whole::pixels(&block) })
    }

    #[inline(always)]
    fn small(&self, bits: &mut Bits) -> Option<[u8; 64]> {
        let mut block: small::Block = [0.0; 17];
        block[0] = self.mean as f32 * self.factors[0];
        let factors = &self.factors;
        self.coefficients.read(bits, self.side.last(), |index, value| {
            block[usize::from(small::PLACES[index])] = value as f32 * factors[index];
        })?;
        let mut pixels = [0; 64];
        pixels[..16].copy_from_slice(&small::pixels(&block, self.side));
        Some(pixels)
    }

    /// Means of two pixels beside or below each other, in place.
    fn halve(&self, pixels: &mut [u8; 64]) {
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
    fn store<const N: usize>(&mut self, pixels: &[u8; 64], at: usize) {
        for (row, from) in pixels.chunks_exact(self.side.pixels()).take(self.kept.1).enumerate() {
            self.plane.pixels[at + row * self.plane.width..][..N].copy_from_slice(&from[..N]);
        }
    }
}

fn mean(a: u8, b: u8) -> u8 {
    u16::midpoint(a.into(), u16::from(b) + 1) as u8
}

/// Decodes the scan behind a frame to a picture of so many pixels across and down, `side` of them for each block's eight; RGB. None where it is damaged.
pub fn decode(frame: &Frame, scan: &[u8], side: Side, size: (usize, usize)) -> Option<Vec<u8>> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_avx2(frame, scan, side, size) };
    }
    anywhere(frame, scan, side, size)
}

/// The same, and the same pixels, in two thirds of the time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2")]
fn with_avx2(frame: &Frame, scan: &[u8], side: Side, size: (usize, usize)) -> Option<Vec<u8>> {
    anywhere(frame, scan, side, size)
}

/// On any processor; as it is always inlined, it is compiled for whichever the function around it is.
#[inline(always)]
pub(super) fn anywhere(frame: &Frame, scan: &[u8], side: Side, size: (usize, usize)) -> Option<Vec<u8>> {
    let first = frame.components.first()?;
    let of_unit = (8 * first.blocks.0, 8 * first.blocks.1);
    let units = (frame.width.div_ceil(of_unit.0), frame.height.div_ceil(of_unit.1));
    // Colours that are stored at half the size have as many pixels of their own as the brightness, unless that has all of its own.
    let colour = if first.blocks == (1, 1) { side } else { side.doubled() };
    let small_unit = (side.pixels() * first.blocks.0, side.pixels() * first.blocks.1);
    let decoder = |(component, side)| Decoder::new(frame, component, side, units, small_unit);
    let mut decoders =
        frame.components.iter().zip([side, colour, colour]).map(decoder).collect::<Option<Vec<Decoder>>>()?;
    let mut bits = Bits::new(scan);
    let (mut since, mut restarts) = (0, 0);
    for row in 0..units.1 {
        for column in 0..units.0 {
            if frame.restart_after > 0 && since == frame.restart_after {
                bits.restart(restarts)?;
                (since, restarts) = (0, (restarts + 1) % 8);
                decoders.iter_mut().for_each(|decoder| decoder.mean = 0);
            }
            since += 1;
            for decoder in &mut decoders {
                let (blocks, kept) = (decoder.blocks, decoder.kept);
                for (y, x) in (0..blocks.1).flat_map(|y| (0..blocks.0).map(move |x| (y, x))) {
                    let (top, left) = ((row * blocks.1 + y) * kept.1, (column * blocks.0 + x) * kept.0);
                    decoder.block(&mut bits, top * decoder.plane.width + left)?;
                }
            }
            if bits.overread() {
                return None;
            }
        }
    }
    let planes: Vec<Plane> = decoders.into_iter().map(|decoder| decoder.plane).collect();
    Some(colour::rgb(&planes, size))
}
