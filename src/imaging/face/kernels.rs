//! Pictures of many channels, and the two kinds of convolutions that the detector's network has.
//!
//! All of it is inlined into whoever calls it, so that it is compiled for whichever processor that is. Each sum is taken in one order, without
//! fused multiplication; beyond the picture pixels are zeros, which are multiplied like others.

/// A picture of `side`×`side` places with some channels each.
pub struct Plane {
    pub side: usize,
    pub channels: usize,
    /// Rows of pixels, all channels of a pixel beside each other.
    pub values: Vec<f32>,
}

impl Plane {
    /// The channels of so many pixels beside each other.
    #[inline(always)]
    pub fn pixels(&self, y: usize, x: usize, count: usize) -> &[f32] {
        let first = (y * self.side + x) * self.channels;
        &self.values[first..first + count * self.channels]
    }

    /// The same with so many pixels of zeros before it and behind, across and down.
    #[inline(always)]
    pub fn bordered(&self, before: usize, behind: usize) -> Self {
        let (side, channels) = (before + self.side + behind, self.channels);
        let mut values = vec![0.0; side * side * channels];
        let rows = values.chunks_exact_mut(side * channels).skip(before);
        for (row, of) in rows.zip(self.values.chunks_exact(self.side * channels)) {
            row[before * channels..][..of.len()].copy_from_slice(of);
        }
        Self { side, channels, values }
    }

    /// With 0 for what is less.
    #[inline(always)]
    pub fn rectified(mut self) -> Self {
        self.values.iter_mut().for_each(|value| *value = value.max(0.0));
        self
    }

    /// The largest of each four neighbours.
    #[inline(always)]
    pub fn halved(&self) -> Self {
        let (side, channels) = (self.side / 2, self.channels);
        let mut values = vec![0.0; side * side * channels];
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (2 * y, 2 * x)));
        for ((y, x), values) in places.zip(values.chunks_exact_mut(channels)) {
            let (above, below) = (self.pixels(y, x, 2), self.pixels(y + 1, x, 2));
            let ((a, b), (c, d)) = (above.split_at(channels), below.split_at(channels));
            for ((((value, a), b), c), d) in values.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *value = a.max(*b).max(c.max(*d));
            }
        }
        Self { side, channels, values }
    }

    /// Adds another of as many places to it; channels that the other does not have are zero in it.
    #[inline(always)]
    pub fn add(&mut self, other: &Self) {
        let places = self.values.chunks_exact_mut(self.channels).zip(other.values.chunks_exact(other.channels));
        for (sum, added) in places {
            sum.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
        }
    }
}

/// Outputs of a block, which are summed side by side.
const LANES: usize = 16;

/// Places for which they are.
const ROWS: usize = 4;

/// A convolution's kernel in which each output sees all inputs.
pub struct Dense {
    /// Rows and columns of taps.
    side: usize,
    inputs: usize,
    outputs: usize,
    /// For each block of [`LANES`] outputs, filled up with zeros, `taps × inputs` times their weights.
    weight: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
}

impl Dense {
    /// From `PyTorch`'s `outputs × inputs × taps`; None where the numbers are not as many as the shape says.
    pub fn new(shape: &[usize], weight: &[f32], bias: &[f32]) -> Option<Self> {
        let &[outputs, inputs, side, across] = shape else { return None };
        let inner = side * across * inputs;
        if side != across || weight.len() != outputs * inner || bias.len() != outputs || weight.is_empty() {
            return None;
        }
        let blocks = outputs.div_ceil(LANES);
        let (mut lanes, mut biases) = (vec![[0.0; LANES]; blocks * inner], vec![[0.0; LANES]; blocks]);
        for (output, &bias) in bias.iter().enumerate() {
            biases[output / LANES][output % LANES] = bias;
        }
        for (at, &value) in weight.iter().enumerate() {
            let (output, input, tap) = (at / inner, at / (side * side) % inputs, at % (side * side));
            lanes[output / LANES * inner + tap * inputs + input][output % LANES] = value;
        }
        Some(Self { side, inputs, outputs, weight: lanes, bias: biases })
    }

    /// The convolution, whose taps lie on every `stride`-th pixel of a picture that has its border. `AT_ONCE` blocks of outputs, 1 or 2, are
    /// summed side by side, for which there should be registers.
    #[inline(always)]
    pub fn run<const AT_ONCE: usize>(&self, bordered: &Plane, stride: usize) -> Plane {
        let side = (bordered.side - self.side) / stride + 1;
        let mut values = vec![0.0; side * side * self.outputs];
        let places = side * side;
        for (group, out) in values.chunks_mut(ROWS * self.outputs).enumerate() {
            // Of the last places there may be fewer: the last one stands for the others, whose sums are not kept.
            let mut corners = [(0, 0); ROWS];
            for (row, corner) in corners.iter_mut().enumerate() {
                let place = (group * ROWS + row).min(places - 1);
                *corner = (place / side * stride, place % side * stride);
            }
            let mut first = 0;
            while first < self.bias.len() {
                if AT_ONCE == 2 && first + 2 <= self.bias.len() {
                    self.sums::<2>(bordered, corners, first, out);
                    first += 2;
                } else {
                    self.sums::<1>(bordered, corners, first, out);
                    first += 1;
                }
            }
        }
        Plane { side, channels: self.outputs, values }
    }

    /// So many blocks of outputs, for the places whose taps begin at these corners, into rows of outputs, of which there may be fewer.
    #[inline(always)]
    fn sums<const AT_ONCE: usize>(
        &self,
        bordered: &Plane,
        [a, b, c, d]: [(usize, usize); ROWS],
        first: usize,
        out: &mut [f32],
    ) {
        let (across, inner) = (self.side * self.inputs, self.side * self.side * self.inputs);
        let mut sums = [[[0.0; LANES]; ROWS]; AT_ONCE];
        for (block, sums) in sums.iter_mut().enumerate() {
            *sums = [self.bias[first + block]; ROWS];
        }
        for tap in 0..self.side {
            // A row of taps, and all that they see of a row of the picture.
            let seen = |(y, x): (usize, usize)| bordered.pixels(y + tap, x, self.side);
            let mut weights: [&[[f32; LANES]]; AT_ONCE] = [&[]; AT_ONCE];
            for (block, weights) in weights.iter_mut().enumerate() {
                *weights = &self.weight[(first + block) * inner + tap * across..][..across];
            }
            for (at, (((a, b), c), d)) in seen(a).iter().zip(seen(b)).zip(seen(c)).zip(seen(d)).enumerate() {
                for block in 0..AT_ONCE {
                    let (weights, sums) = (weights[block][at], &mut sums[block]);
                    for lane in 0..LANES {
                        sums[0][lane] += a * weights[lane];
                        sums[1][lane] += b * weights[lane];
                        sums[2][lane] += c * weights[lane];
                        sums[3][lane] += d * weights[lane];
                    }
                }
            }
        }
        for (block, sums) in sums.iter().enumerate() {
            let first = (first + block) * LANES;
            for (out, sums) in out.chunks_exact_mut(self.outputs).zip(sums) {
                match out[first..].first_chunk_mut() {
                    Some(out) => *out = *sums,
                    None => out[first..].iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum),
                }
            }
        }
    }
}

/// Rows and columns of taps of a kernel that has channels of its own.
const TAPS: usize = 3;

/// Pixels beside each other for which such a kernel's weights are repeated, so that a row is one loop over them.
const REPEATED: usize = 16;

/// A convolution's kernel of 3×3 for each channel alone.
pub struct Depthwise {
    channels: usize,
    /// For each tap the weights of [`REPEATED`] pixels' channels.
    weight: [[Vec<f32>; TAPS]; TAPS],
    /// The biases, likewise.
    bias: Vec<f32>,
}

impl Depthwise {
    /// From `PyTorch`'s `channels × 1 × 3 × 3`; None where the numbers are not as many as the shape says.
    pub fn new(shape: &[usize], weight: &[f32], bias: &[f32]) -> Option<Self> {
        let &[channels, 1, TAPS, TAPS] = shape else { return None };
        if weight.len() != channels * TAPS * TAPS || bias.len() != channels || channels == 0 {
            return None;
        }
        let of =
            |tap: usize| weight.iter().skip(tap).step_by(TAPS * TAPS).copied().collect::<Vec<_>>().repeat(REPEATED);
        let weight = |row: usize| std::array::from_fn(|tap| of(row * TAPS + tap));
        Some(Self { channels, weight: std::array::from_fn(weight), bias: bias.repeat(REPEATED) })
    }

    /// The convolution, whose taps lie on every `stride`-th pixel, 1 or 2.
    #[inline(always)]
    pub fn run(&self, input: &Plane, stride: usize) -> Plane {
        let (side, channels, bordered) = (input.side / stride, self.channels, input.bordered(1, 1));
        let mut values = vec![0.0; side * side * channels];
        let rows = values.chunks_exact_mut(side * channels).enumerate();
        if stride == 1 {
            for (y, row) in rows {
                self.row(&bordered, y, row);
            }
        } else {
            let mut all = vec![0.0; input.side * channels];
            for (y, row) in rows {
                // About every second pixel, from the second on: of TensorFlow's padding what is odd goes behind.
                self.row(&bordered, 2 * y + 1, &mut all);
                for (place, sums) in row.chunks_exact_mut(channels).zip(all.chunks_exact(channels).skip(1).step_by(2)) {
                    place.copy_from_slice(sums);
                }
            }
        }
        Plane { side, channels, values }
    }

    /// The sums about each pixel of a row, of which the first row of taps is this one of the bordered picture.
    #[inline(always)]
    fn row(&self, bordered: &Plane, above: usize, row: &mut [f32]) {
        for (part, sums) in row.chunks_mut(REPEATED * self.channels).enumerate() {
            sums.copy_from_slice(&self.bias[..sums.len()]);
            let count = sums.len() / self.channels;
            for (tap, [wa, wb, wc]) in self.weight.iter().enumerate() {
                let seen = |tap_x: usize| bordered.pixels(above + tap, part * REPEATED + tap_x, count);
                let seen = seen(0).iter().zip(wa).zip(seen(1)).zip(wb).zip(seen(2)).zip(wc);
                for (sum, (((((a, wa), b), wb), c), wc)) in sums.iter_mut().zip(seen) {
                    // In this order, each product and each sum rounded.
                    *sum = *sum + a * wa + b * wb + c * wc;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_as_many_numbers_as_its_shape_says() {
        assert!(Dense::new(&[2, 3, 1, 1], &[0.0; 6], &[0.0; 2]).is_some());
        for (shape, weights, biases) in
            [([2, 3, 1, 1], 5, 2), ([2, 3, 1, 1], 6, 1), ([2, 3, 1, 2], 12, 2), ([0, 3, 1, 1], 0, 0)]
        {
            assert!(Dense::new(&shape, &vec![0.0; weights], &vec![0.0; biases]).is_none(), "{shape:?}");
        }
        assert!(Depthwise::new(&[2, 1, 3, 3], &[0.0; 18], &[0.0; 2]).is_some());
        for (shape, weights, biases) in [
            ([2, 1, 3, 3], 17, 2),
            ([2, 1, 3, 3], 18, 1),
            ([2, 2, 3, 3], 36, 2),
            ([2, 1, 5, 5], 50, 2),
            ([0, 1, 3, 3], 0, 0),
        ] {
            assert!(Depthwise::new(&shape, &vec![0.0; weights], &vec![0.0; biases]).is_none(), "{shape:?}");
        }
    }
}
