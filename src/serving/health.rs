//! Whether the device that predictions are computed on still computes: a GPU that is gone, or in a state that only the
//! process's end mends, fails every batch from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, TchError, Tensor};

use crate::nn::NnError;

/// What is known of it. Written by the compute thread, read by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<String>>,
    /// Somebody wants it to be asked anew.
    wanted: AtomicBool,
}

impl Health {
    /// Why the device does not compute; none where it does, as far as anybody knows.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that it computed something.
    pub fn computed(&self) {
        self.set(None);
    }

    /// Has `device` add two numbers. A batch that failed says nothing of the device by itself: the model may be at
    /// fault, or too little memory for so many images.
    pub fn ask(&self, device: Device) {
        self.wanted.store(false, Ordering::Relaxed);
        self.set(sum(device).err().map(|error| NnError::from(error).to_string()));
    }

    /// Notes the wish to ask it anew; false where that was noted already.
    pub fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::Relaxed)
    }

    fn set(&self, now: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &now) {
            (None, Some(reason)) => tracing::error!(%reason, "the device of predictions does not compute"),
            (Some(_), None) => tracing::info!("the device of predictions computes again"),
            _ => {}
        }
        *trouble = now;
    }
}

/// 1 + 1, waited for.
fn sum(device: Device) -> Result<f64, TchError> {
    let one = Tensor::f_ones([1], (Kind::Float, device))?;
    one.f_add(&one)?.f_double_value(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_what_the_device_says_until_it_computes() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        health.ask(Device::Cuda(99));
        assert!(health.trouble().unwrap().starts_with("libtorch: "), "{health:?}");
        health.ask(Device::Cpu);
        assert_eq!(health.trouble(), None);
        health.ask(Device::Cuda(99));
        health.computed();
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_wish_to_ask_is_noted_once_until_it_is_met() {
        let health = Health::default();
        assert!(health.want() && !health.want());
        health.ask(Device::Cpu);
        assert!(health.want());
    }
}
