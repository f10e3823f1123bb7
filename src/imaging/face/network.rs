//! `BlazeFace`'s short-range network: 128×128 pixels in, 896 anchors' scores and boxes out.
//!
//! A stem of 5×5 and sixteen blocks (depthwise 3×3, pointwise 1×1, the input added, a rectifier), 24 to 96 channels, 27 million
//! multiplications. Its answer's bits are the same whatever the processor, see [`super::kernels`].

use std::sync::OnceLock;

use half::f16;
use safetensors::SafeTensors;

use super::kernels::{Dense, Depthwise, Plane};

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

struct Block {
    depthwise: Depthwise,
    pointwise: Dense,
}

/// The network with its weights.
pub struct Network {
    stem: Dense,
    blocks: Vec<Block>,
    heads: [(Dense, Dense); 2],
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
        let numbers = |name: &str| -> Option<(Vec<usize>, Vec<f32>, Vec<f32>)> {
            let part = |part: &str| -> Option<(Vec<usize>, Vec<f32>)> {
                let view = file.tensor(&format!("{name}.{part}")).ok()?;
                let halves = view.data().chunks_exact(2);
                let values = halves.map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect();
                Some((view.shape().to_vec(), values))
            };
            let ((shape, values), (_, bias)) = (part("weight")?, part("bias")?);
            Some((shape, values, bias))
        };
        let dense = |name: &str| {
            let (shape, weight, bias) = numbers(name)?;
            Dense::new(&shape, &weight, &bias)
        };
        let blocks = (0..BLOCKS).map(|index| {
            let (shape, weight, bias) = numbers(&format!("blocks.{index}.depthwise"))?;
            let depthwise = Depthwise::new(&shape, &weight, &bias)?;
            Some(Block { depthwise, pointwise: dense(&format!("blocks.{index}.pointwise"))? })
        });
        let head = |places: u32| Some((dense(&format!("score{places}"))?, dense(&format!("box{places}"))?));
        Some(Self { stem: dense("stem")?, blocks: blocks.collect::<Option<_>>()?, heads: [head(16)?, head(8)?] })
    }

    /// What it says of a picture of [`SIDE`]² pixels, rows of RGB.
    pub fn run(&self, pixels: &[u8]) -> Answer {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.with_avx512(pixels) };
        } else if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the same.
            return unsafe { self.with_avx2(pixels) };
        }
        self.in_order::<1>(pixels)
    }

    /// The same sums in the same order, sixteen at a time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn with_avx512(&self, pixels: &[u8]) -> Answer {
        self.in_order::<2>(pixels)
    }

    /// Eight at a time: AVX2 alone multiplies and adds as two operations, each rounded.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn with_avx2(&self, pixels: &[u8]) -> Answer {
        self.in_order::<1>(pixels)
    }

    /// On any processor; as it is always inlined, with all that it calls, it is compiled for whichever the function around it is.
    #[inline(always)]
    fn in_order<const AT_ONCE: usize>(&self, pixels: &[u8]) -> Answer {
        let values = pixels.iter().map(|&value| f32::from(value) / 127.5 - 1.0).collect();
        let input = Plane { side: SIDE, channels: 3, values };
        // TensorFlow's padding, `SAME`: what is odd of it goes behind.
        let mut plane = self.stem.run::<AT_ONCE>(&input.bordered(1, 2), 2).rectified();
        let mut answer = Answer { scores: Vec::new(), boxes: Vec::new() };
        for (index, block) in self.blocks.iter().enumerate() {
            plane = block.run::<AT_ONCE>(plane, if HALVING.contains(&index) { 2 } else { 1 });
            let heads = match index {
                LAST_OF_16 => &self.heads[0],
                _ if index + 1 == BLOCKS => &self.heads[1],
                _ => continue,
            };
            answer.scores.extend(heads.0.run::<AT_ONCE>(&plane, 1).values);
            answer.boxes.extend(heads.1.run::<AT_ONCE>(&plane, 1).values);
        }
        answer
    }
}

impl Block {
    #[inline(always)]
    fn run<const AT_ONCE: usize>(&self, input: Plane, stride: usize) -> Plane {
        let mut out = self.pointwise.run::<AT_ONCE>(&self.depthwise.run(&input, stride), 1);
        out.add(&if stride == 1 { input } else { input.halved() });
        out.rectified()
    }
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
    fn every_processor_comes_to_the_same_bits() {
        let (network, waves) = (Network::get(), waves());
        let bits = |answer: &Answer| -> Vec<u32> {
            answer.scores.iter().chain(&answer.boxes).map(|value| value.to_bits()).collect()
        };
        let expected = bits(&network.run(&waves));
        assert!(bits(&network.in_order::<1>(&waves)) == expected && bits(&network.in_order::<2>(&waves)) == expected);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            assert!(bits(&unsafe { network.with_avx2(&waves) }) == expected);
        }
    }

    #[test]
    fn weights_that_are_not_whole_are_no_network() {
        assert!(Network::read(&WEIGHTS[..WEIGHTS.len() - 1]).is_none());
        assert!(Network::read(b"").is_none());
    }
}
