//! A step's arithmetic: run operation by operation, or on a GPU recorded once and then replayed as one graph.
//!
//! A small network's step is a thousand short operations. Handing them to a GPU one by one takes longer than they take there.

use tch::{Device, Tensor};

use crate::nn::NnError;
use crate::nn::graph::Graph;
use crate::ssl::{StepInputs, StepLosses};

/// Steps before the recording: libraries choose their kernels and take their workspaces in the first.
const REHEARSALS: u32 = 3;

/// Switches recording off where it is 0, to see whether a difference comes from there.
const SWITCH: &str = "MIXMATCH_CUDA_GRAPHS";

/// Settings of libtorch's allocator that break what recordings rely on: that a segment in which a block is held stays where it
/// is, and that a free one is split.
const ALLOCATOR: [&str; 3] = ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"];

/// How the steps of one algorithm are made on one GPU.
#[derive(Debug)]
pub struct Replay {
    device: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Rehearsing(u32),
    Recorded(Box<Recorded>),
    /// One by one, for good; with the reason until that is told.
    Plain(Option<String>),
}

/// A graph and the tensors that it reads and writes.
#[derive(Debug)]
struct Recorded {
    graph: Graph,
    inputs: StepInputs,
    rates: Tensor,
    losses: StepLosses,
}

impl Replay {
    /// For a GPU; none for a CPU, where nothing is to be gained, and where recording is switched off.
    pub fn new(device: Device) -> Option<Self> {
        match device {
            Device::Cuda(device) if std::env::var_os(SWITCH).is_none_or(|value| value != "0") => {
                let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let state = match ALLOCATOR.iter().find(|name| set(name)) {
                    Some(name) => {
                        let reason = format!("{name} is set, and recording needs the allocator as it is");
                        State::Plain(Some(slower(&reason)))
                    }
                    None => State::Rehearsing(REHEARSALS),
                };
                Some(Self { device, state })
            }
            _ => None,
        }
    }

    /// Forgets the recording, for steps of other operations. What could not be recorded is not tried again.
    pub fn begin_anew(&mut self) {
        if !matches!(self.state, State::Plain(_)) {
            self.state = State::Rehearsing(REHEARSALS);
        }
    }

    /// One step by `compute`, or by the recording of it; what `compute` does must not depend on anything but tensors. The
    /// second answer is why recording failed, once.
    ///
    /// # Errors
    /// Those of `compute`, and the driver's.
    pub fn step(
        &mut self,
        inputs: StepInputs,
        rates: Tensor,
        compute: &mut dyn FnMut(&StepInputs, &Tensor) -> Result<StepLosses, NnError>,
    ) -> Result<(StepLosses, Option<String>), NnError> {
        match &mut self.state {
            State::Rehearsing(0) => {}
            State::Rehearsing(left) => {
                *left -= 1;
                return Ok((Graph::rehearse(self.device, || compute(&inputs, &rates))?, None));
            }
            State::Recorded(recorded) => return Ok((recorded.replay(&inputs, &rates)?, None)),
            State::Plain(reason) => return Ok((compute(&inputs, &rates)?, reason.take())),
        }
        match Graph::record(self.device, || compute(&inputs, &rates)) {
            Ok((graph, losses)) => {
                graph.launch()?;
                let answer = losses.shallow();
                self.state = State::Recorded(Box::new(Recorded { graph, inputs, rates, losses }));
                Ok((answer, None))
            }
            Err(error) => {
                self.state = State::Plain(None);
                Ok((compute(&inputs, &rates)?, Some(slower(&error.to_string()))))
            }
        }
    }
}

fn slower(reason: &str) -> String {
    format!("steps cannot be recorded as a CUDA graph and are slower without ({reason})")
}

impl Recorded {
    fn replay(&self, inputs: &StepInputs, rates: &Tensor) -> Result<StepLosses, NnError> {
        let _no_grad = tch::no_grad_guard();
        let (mine, new) = (self.inputs.tensors(), inputs.tensors());
        if mine.len() != new.len() || mine.iter().zip(&new).any(|(mine, new)| mine.size() != new.size()) {
            return Err(NnError::Shim("a step's inputs have other shapes than those it was recorded with".into()));
        }
        for (mine, new) in mine.into_iter().zip(new) {
            mine.shallow_clone().f_copy_(new)?;
        }
        self.rates.shallow_clone().f_copy_(rates)?;
        self.graph.launch()?;
        Ok(self.losses.shallow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_cpu_nothing_is_recorded() {
        assert!(Replay::new(Device::Cpu).is_none());
        assert!(Replay::new(Device::Cuda(0)).is_some());
    }

    #[test]
    fn why_nothing_is_recorded_is_told_once() {
        let mut replay = Replay { device: 0, state: State::Plain(Some(slower("the allocator is another"))) };
        let numbers = || Tensor::from_slice(&[1.0f32]);
        let inputs = || StepInputs { x: numbers(), y: numbers(), unlabelled: None, mixing: None };
        let mut losses =
            |_: &StepInputs, _: &Tensor| Ok(StepLosses { total: numbers(), labelled: numbers(), unlabelled: None });
        let mut told = || replay.step(inputs(), numbers(), &mut losses).unwrap().1;
        assert!(told().unwrap().contains("allocator"));
        assert_eq!(told(), None);
    }
}
