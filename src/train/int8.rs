//! The chosen weights in int8: the ranges of their activations, and what they answer then.

use tch::{Device, Tensor};

use super::course::Best;
use super::error::TrainError;
use super::evaluate::Evaluation;
use super::event::Event;
use super::export::golden_input;
use super::learner::build_network;
use super::setting::{Setting, info, warn};
use crate::augment::network_input;
use crate::model::{Int8, Int8Agreement, Int8Figures, Int8Measured};
use crate::nn::Folded;
use crate::nn::device::{self, PrecisionWish};
use crate::nn::int8::{self, Ranges};

/// Images whose activations give the ranges.
const RANGED: usize = 256;

/// Most images of a split that are answered.
const ANSWERED: usize = 1000;

/// Images in one forward pass.
const BATCH: usize = 32;

/// What the model needs to be served in int8; none where it is to be served in float32, and where libtorch cannot do it, which is told:
/// a run is not lost for it.
///
/// # Errors
/// [`TrainError::Stopped`].
pub(super) fn prepare(
    setting: &Setting<'_>,
    best: &Best,
    tested: Option<&Evaluation>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Option<Int8>, TrainError> {
    if setting.config().precision == PrecisionWish::Float32 {
        return Ok(None);
    }
    match (Preparing { setting, best, stop }).int8(tested) {
        Ok(int8) => {
            if let Some(measured) = &int8.measured {
                info(emit, told(&measured.figures));
            }
            Ok(Some(int8))
        }
        Err(TrainError::Stopped) => Err(TrainError::Stopped),
        Err(error) => {
            warn(emit, format!("the model cannot be served in int8: {error}"));
            Ok(None)
        }
    }
}

fn told(figures: &Int8Figures) -> String {
    let of = |what: &str, agreement: &Int8Agreement| {
        let Int8Agreement { images, same, right, right_before } = agreement;
        format!("{same} of {images} {what} images the same class ({right} the right one, {right_before} before)")
    };
    let test = figures.test.map(|test| format!(", {}", of("test", &test))).unwrap_or_default();
    format!("int8 gives {}{test}", of("validation", &figures.validation))
}

struct Preparing<'a> {
    setting: &'a Setting<'a>,
    best: &'a Best,
    stop: &'a dyn Fn() -> bool,
}

impl Preparing<'_> {
    fn int8(&self, tested: Option<&Evaluation>) -> Result<Int8, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let (setting, config) = (self.setting, self.setting.config());
        // As a server on this processor computes what stays in numbers.
        let kind = device::precision(PrecisionWish::Auto, Device::Cpu).kind;
        let network = build_network(config, setting.manifest.classes.len(), kind)?;
        let weights = self.best.weights.copied_to(network.layout(), Device::Cpu)?;
        let side = i64::from(config.size);
        let exact = network.fold(&weights, side)?;
        let mut ranges = Ranges::default();
        let rows = evenly(&setting.split.unlabelled, RANGED);
        for batch in rows.chunks(BATCH) {
            ranges.widen(exact.as_ref(), &self.images(batch)?)?;
        }
        let images = rows.len() as u64;
        if !int8::is_fast() {
            return Ok(Int8 { ranges, images, measured: None });
        }
        let int8 = ranges.quantise(network.as_ref(), &weights, side)?;
        let compare = |rows: &[u32], before: &Evaluation| self.compare(int8.as_ref(), rows, before);
        let figures = Int8Figures {
            validation: compare(&setting.split.validation, &self.best.validation)?,
            test: tested.map(|tested| compare(&setting.split.test, tested)).transpose()?,
        };
        let golden = Vec::<Vec<f32>>::try_from(int8.forward(&golden_input(config)?)?)?;
        Ok(Int8 { ranges, images, measured: Some(Int8Measured { golden, figures }) })
    }

    /// The network's input, on the CPU.
    fn images(&self, rows: &[u32]) -> Result<Tensor, TrainError> {
        if (self.stop)() {
            return Err(TrainError::Stopped);
        }
        Ok(network_input(&self.setting.images.gather(rows)?.f_to_device(Device::Cpu)?)?)
    }

    /// What `int8` answers to `rows`, which were answered `before`.
    fn compare(&self, int8: &dyn Folded, rows: &[u32], before: &Evaluation) -> Result<Int8Agreement, TrainError> {
        let truth = self.setting.truth(rows);
        let all: Vec<usize> = (0..rows.len()).collect();
        let some = evenly(&all, ANSWERED);
        let pick = |of: &[usize]| some.iter().map(|&at| of[at]).collect::<Vec<usize>>();
        let mut answers = Vec::with_capacity(some.len());
        for batch in some.chunks(BATCH) {
            let batch: Vec<u32> = batch.iter().map(|&at| rows[at]).collect();
            let most = int8.forward(&self.images(&batch)?)?.f_argmax(1, false)?;
            answers.extend(Vec::<i64>::try_from(most)?.into_iter().map(|class| class as usize));
        }
        Ok(Int8Agreement::of(&pick(&truth), &pick(&before.answers), &answers))
    }
}

/// At most `most` of `all`, in their order, from the first to nearly the last.
fn evenly<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let count = all.len().min(most);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_taken_from_all_of_it() {
        assert_eq!(evenly(&[1, 2, 3], 5), [1, 2, 3]);
        assert_eq!(evenly(&(0..10).collect::<Vec<_>>(), 4), [0, 2, 5, 7]);
        assert!(evenly::<u32>(&[], 4).is_empty());
    }

    #[test]
    fn a_run_says_how_near_int8_comes() {
        let validation = Int8Agreement { images: 1000, same: 997, right: 961, right_before: 962 };
        let figures = |test| told(&Int8Figures { validation, test });
        let alone = "int8 gives 997 of 1000 validation images the same class (961 the right one, 962 before)";
        assert_eq!(figures(None), alone);
        let test = Int8Agreement { images: 50, same: 49, right: 40, right_before: 41 };
        let both = format!("{alone}, 49 of 50 test images the same class (40 the right one, 41 before)");
        assert_eq!(figures(Some(test)), both);
    }
}
