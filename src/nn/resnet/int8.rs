//! A bottleneck ResNet in int8: all of its blocks.

use tch::Tensor;

use super::super::bottleneck::Int8Bottleneck;
use super::super::folded::{Folded, See};
use super::super::int8::Next;
use super::super::{NnError, Weights};
use super::{FoldedClassifier, FoldedStem, ResNet};

/// A bottleneck ResNet for inference in int8.
#[derive(Debug)]
pub(super) struct Int8ResNet {
    stem: FoldedStem,
    blocks: Vec<Int8Bottleneck>,
    classifier: FoldedClassifier,
}

impl Int8ResNet {
    /// `network` with the ranges of its activations.
    pub fn new(network: &ResNet, weights: &Weights, side: i64, ranges: &mut Next<'_>) -> Result<Self, NnError> {
        let (stem, mut shape) = network.fold_stem(weights, side)?;
        let mut blocks = Vec::with_capacity(network.blocks.len());
        for block in &network.blocks {
            let (block, behind) = Int8Bottleneck::new(block, weights, shape, ranges)?;
            blocks.push(block);
            shape = behind;
        }
        Ok(Self { stem, blocks, classifier: network.fold_classifier(weights)? })
    }
}

impl Folded for Int8ResNet {
    /// What is seen is bytes already: nothing is told.
    fn forward_seen(&self, images: &Tensor, _see: &mut See<'_>) -> Result<Tensor, NnError> {
        let _no_grad = tch::no_grad_guard();
        let mut x = self.stem.forward(images)?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        self.classifier.forward(&x)
    }
}
