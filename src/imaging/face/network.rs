//! `BlazeFace`'s short-range network: 128×128 pixels in, 896 anchors' scores and boxes out.
//!
//! A stem of 5×5 and sixteen blocks (depthwise 3×3, pointwise 1×1, the input added, a rectifier), 24 to 96 channels, 27 million
//! multiplications. Planes are rows of pixels, all channels of a pixel beside each other. Each sum is taken in one
//! order, without fused multiplication, so that its bits are the same whatever the processor.

use std::sync::OnceLock;

use half::f16;
use safetensors::SafeTensors;

/// Side of the network's input, pixels.
pub const SIDE: usize = 128;

/// Numbers for each anchor: the box's middle and size, then six points.
pub const REGRESSED: usize = 16;

const WEIGHTS: &[u8] = include_bytes!("blazeface.safetensors");

/// The blocks that halve the picture.
const HALVING: [usize; 3] = [2, 5, 11];

/// The last block that sees 16×16 places; the one behind it, and the last, see 8×8.
const LAST_OF_16: usize = 10;

const BLOCKS: usize = 16;

/// What the network says of each anchor, in the order of [`super::anchors`].
pub struct Answer {
    /// Logits, one an anchor.
    pub scores: Vec<f32>,
    /// [`REGRESSED`] numbers an anchor, pixels of the input relative to the anchor.
    pub boxes: Vec<f32>,
}

/// A picture of `side`×`side` places with some channels each.
struct Plane {
    side: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Plane {
    fn at(&self, y: usize, x: usize) -> &[f32] {
        let first = (y * self.side + x) * self.channels;
        &self.values[first..first + self.channels]
    }
}

/// Outputs that are summed side by side, and places.
const LANES: usize = 16;
const ROWS: usize = 4;

/// A convolution's kernel as `taps × inputs × outputs`, the outputs filled up with zeros to whole [`LANES`], and its bias likewise.
struct Kernel {
    side: usize,
    inputs: usize,
    outputs: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Kernel {
    /// From `PyTorch`'s `outputs × inputs × taps`; None where the numbers are not as many as the shape says.
    fn new(shape: &[usize], weight: &[f32], bias: &[f32]) -> Option<Self> {
        let &[outputs, inputs, side, across] = shape else { return None };
        let taps = side * across;
        if side != across || weight.len() != outputs * inputs * taps || bias.len() != outputs || weight.is_empty() {
            return None;
        }
        let wide = outputs.next_multiple_of(LANES);
        let mut filled = Self { side, inputs, outputs, weight: vec![0.0; taps * inputs * wide], bias: vec![0.0; wide] };
        filled.bias[..outputs].copy_from_slice(bias);
        for (at, &value) in weight.iter().enumerate() {
            let (output, input, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
            filled.weight[(tap * inputs + input) * wide + output] = value;
        }
        Some(filled)
    }
}

struct Block {
    depthwise: Kernel,
    pointwise: Kernel,
}

/// The network with its weights.
pub struct Network {
    stem: Kernel,
    blocks: Vec<Block>,
    heads: [(Kernel, Kernel); 2],
}

impl Network {
    /// The one that is built in.
    pub fn get() -> &'static Self {
        static NETWORK: OnceLock<Network> = OnceLock::new();
        // The weights are part of the program, and a test reads them: a build in which they do not fit passes none.
        NETWORK.get_or_init(|| Self::read(WEIGHTS).expect("the built-in weights are whole"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let file = SafeTensors::deserialize(bytes).ok()?;
        let kernel = |name: String| {
            let numbers = |part: &str| -> Option<(Vec<usize>, Vec<f32>)> {
                let view = file.tensor(&format!("{name}.{part}")).ok()?;
                let halves = view.data().chunks_exact(2);
                let values = halves.map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect();
                Some((view.shape().to_vec(), values))
            };
            let ((shape, values), (_, bias)) = (numbers("weight")?, numbers("bias")?);
            Kernel::new(&shape, &values, &bias)
        };
        let blocks = (0..BLOCKS).map(|index| {
            let part = |part: &str| kernel(format!("blocks.{index}.{part}"));
            Some(Block { depthwise: part("depthwise")?, pointwise: part("pointwise")? })
        });
        let head = |places: u32| Some((kernel(format!("score{places}"))?, kernel(format!("box{places}"))?));
        Some(Self {
            stem: kernel("stem".to_owned())?,
            blocks: blocks.collect::<Option<_>>()?,
            heads: [head(16)?, head(8)?],
        })
    }

    /// What it says of a picture of [`SIDE`]² pixels, rows of RGB.
    pub fn run(&self, pixels: &[u8]) -> Answer {
        let values = pixels.iter().map(|&value| f32::from(value) / 127.5 - 1.0).collect();
        let input = Plane { side: SIDE, channels: 3, values };
        let mut plane = rectified(dense(&self.stem, &input, 2));
        let mut answer = Answer { scores: Vec::new(), boxes: Vec::new() };
        for (index, block) in self.blocks.iter().enumerate() {
            plane = block.run(plane, if HALVING.contains(&index) { 2 } else { 1 });
            let heads = match index {
                LAST_OF_16 => &self.heads[0],
                _ if index + 1 == BLOCKS => &self.heads[1],
                _ => continue,
            };
            answer.scores.extend(dense(&heads.0, &plane, 1).values);
            answer.boxes.extend(dense(&heads.1, &plane, 1).values);
        }
        answer
    }
}

impl Block {
    fn run(&self, input: Plane, stride: usize) -> Plane {
        let mut out = dense(&self.pointwise, &depthwise(&self.depthwise, &input, stride), 1);
        let around = if stride == 1 { input } else { halved(&input) };
        // Channels that the input does not have yet are zero in it.
        for (sum, added) in out.values.chunks_exact_mut(out.channels).zip(around.values.chunks_exact(around.channels)) {
            sum.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
        }
        rectified(out)
    }
}

fn rectified(mut plane: Plane) -> Plane {
    plane.values.iter_mut().for_each(|value| *value = value.max(0.0));
    plane
}

/// The largest of each four neighbours.
fn halved(plane: &Plane) -> Plane {
    let side = plane.side / 2;
    let mut values = Vec::with_capacity(side * side * plane.channels);
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (2 * y, 2 * x))) {
        let four = [plane.at(y, x), plane.at(y, x + 1), plane.at(y + 1, x), plane.at(y + 1, x + 1)];
        values.extend((0..plane.channels).map(|c| four[0][c].max(four[1][c]).max(four[2][c].max(four[3][c]))));
    }
    Plane { side, channels: plane.channels, values }
}

/// For each place of the output: which taps of the kernel lie on the picture, and where. Padding is TensorFlow's `SAME`:
/// what is odd of it goes behind.
fn taps(kernel: usize, stride: usize, side: usize, out: usize) -> impl Iterator<Item = (usize, usize)> {
    let before = (kernel - stride) / 2;
    (0..kernel).filter_map(move |tap| {
        let at = (out * stride + tap).checked_sub(before)?;
        (at < side).then_some((tap, at))
    })
}

/// A convolution in which each output sees all inputs.
fn dense(kernel: &Kernel, input: &Plane, stride: usize) -> Plane {
    let side = input.side / stride;
    let values = if kernel.side == 1 {
        product(&input.values, kernel)
    } else {
        product(&patches(kernel, input, stride), kernel)
    };
    Plane { side, channels: kernel.outputs, values }
}

/// For each place of the output what the kernel lies on, `taps × inputs`; zero beyond the picture.
fn patches(kernel: &Kernel, input: &Plane, stride: usize) -> Vec<f32> {
    let (side, width) = (input.side / stride, kernel.side * kernel.side * kernel.inputs);
    let mut values = vec![0.0; side * side * width];
    let places = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
    for ((y, x), patch) in places.zip(values.chunks_exact_mut(width)) {
        for (tap_y, at_y) in taps(kernel.side, stride, input.side, y) {
            for (tap_x, at_x) in taps(kernel.side, stride, input.side, x) {
                let first = (tap_y * kernel.side + tap_x) * kernel.inputs;
                patch[first..first + kernel.inputs].copy_from_slice(input.at(at_y, at_x));
            }
        }
    }
    values
}

/// A convolution of each channel with a kernel of its own.
fn depthwise(kernel: &Kernel, input: &Plane, stride: usize) -> Plane {
    let (side, channels, wide) = (input.side / stride, kernel.outputs, kernel.bias.len());
    let mut values = Vec::with_capacity(side * side * channels);
    let mut sums = vec![0.0; channels];
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        sums.copy_from_slice(&kernel.bias[..channels]);
        for (tap_y, at_y) in taps(kernel.side, stride, input.side, y) {
            for (tap_x, at_x) in taps(kernel.side, stride, input.side, x) {
                let first = (tap_y * kernel.side + tap_x) * wide;
                let (pixel, weights) = (input.at(at_y, at_x), &kernel.weight[first..first + channels]);
                for ((sum, value), weight) in sums.iter_mut().zip(pixel).zip(weights) {
                    *sum += value * weight;
                }
            }
        }
        values.extend_from_slice(&sums);
    }
    Plane { side, channels, values }
}

/// `rows × (taps·inputs)` times the kernel, its bias added: `rows × outputs`.
fn product(rows: &[f32], kernel: &Kernel) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { product_avx2(rows, kernel) };
    }
    product_in_order(rows, kernel)
}

/// The same sums in the same order, eight at a time: AVX2 alone multiplies and adds as two operations, each rounded.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn product_avx2(rows: &[f32], kernel: &Kernel) -> Vec<f32> {
    product_in_order(rows, kernel)
}

#[inline(always)]
fn product_in_order(rows: &[f32], kernel: &Kernel) -> Vec<f32> {
    let (wide, inner) = (kernel.bias.len(), kernel.weight.len() / kernel.bias.len());
    let count = rows.len() / inner;
    let mut values = vec![0.0; count * kernel.outputs];
    for (group, out) in values.chunks_mut(ROWS * kernel.outputs).enumerate() {
        // Of the last rows there may be fewer: the last one stands for the others, whose sums are not kept.
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row| {
            let first = (group * ROWS + row).min(count - 1) * inner;
            &rows[first..first + inner]
        });
        for first in (0..wide).step_by(LANES) {
            let mut sums = [[0.0_f32; LANES]; ROWS];
            sums.iter_mut().for_each(|sums| sums.copy_from_slice(&kernel.bias[first..first + LANES]));
            for (at, weights) in kernel.weight.chunks_exact(wide).enumerate() {
                let weights = &weights[first..first + LANES];
                for row in 0..ROWS {
                    let value = rows[row][at];
                    for lane in 0..LANES {
                        sums[row][lane] += value * weights[lane];
                    }
                }
            }
            let kept = LANES.min(kernel.outputs.saturating_sub(first));
            for (out, sums) in out.chunks_exact_mut(kernel.outputs).zip(&sums) {
                out[first..first + kept].copy_from_slice(&sums[..kept]);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `scripts/blazeface.py` shows OpenVINO.
    fn waves() -> Vec<u8> {
        let value = |y: usize, x: usize, c: usize| {
            let (y, x, c) = (y as f64, x as f64, c as f64);
            (127.0 + 80.0 * (x / 9.0 + c).sin() + 48.0 * (y / 7.0 - c).cos()).floor().clamp(0.0, 255.0) as u8
        };
        (0..SIDE).flat_map(|y| (0..SIDE).flat_map(move |x| (0..3).map(move |c| value(y, x, c)))).collect()
    }

    #[test]
    fn it_answers_as_openvino_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/blazeface.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let expected = |name: &str| -> Vec<f32> {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        };
        let answer = Network::get().run(&waves());
        for (name, ours) in [("scores", &answer.scores), ("boxes", &answer.boxes)] {
            let theirs = expected(name);
            assert_eq!(ours.len(), theirs.len(), "{name}");
            let largest = theirs.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert!((ours - theirs).abs() < 1e-5 * largest, "{name}[{at}]: {ours}, OpenVINO has {theirs}");
            }
        }
    }

    #[test]
    fn a_processor_without_avx2_comes_to_the_same_bits() {
        let network = Network::get();
        let rows: Vec<f32> = waves().iter().take(75 * 31).map(|&value| f32::from(value) / 99.0 - 1.0).collect();
        let kernels = network.blocks.iter().map(|block| &block.pointwise).chain([&network.stem, &network.heads[0].0]);
        for kernel in kernels {
            let inner = kernel.weight.len() / kernel.bias.len();
            let whole = &rows[..rows.len() / inner * inner];
            assert_eq!(product(whole, kernel), product_in_order(whole, kernel));
            assert_eq!(product(whole, kernel).len(), whole.len() / inner * kernel.outputs);
        }
    }

    #[test]
    fn weights_that_are_not_whole_are_no_network() {
        assert!(Network::read(&WEIGHTS[..WEIGHTS.len() - 1]).is_none());
        assert!(Network::read(b"").is_none());
        assert!(Kernel::new(&[2, 3, 1, 1], &[0.0; 6], &[0.0; 2]).is_some());
        for (shape, weights, biases) in
            [([2, 3, 1, 1], 5, 2), ([2, 3, 1, 1], 6, 1), ([2, 3, 1, 2], 12, 2), ([0, 3, 1, 1], 0, 0)]
        {
            assert!(Kernel::new(&shape, &vec![0.0; weights], &vec![0.0; biases]).is_none(), "{shape:?}");
        }
    }
}
