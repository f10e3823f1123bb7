//! Whether the device that predictions are computed on still computes: a GPU that is gone, or in a state that only the
//! process's end mends, fails every batch from then on, or never comes to the end of one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::{Device, Kind, TchError, Tensor};

use crate::nn::NnError;

/// What is wrong with it, as the end of a sentence that begins with its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// It refuses to compute, and why.
    Refuses(String),
    /// It has been at one and the same batch for so long.
    Stuck(Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuses(reason) => write!(f, "cannot even add two numbers ({reason})"),
            Self::Stuck(since) => write!(f, "has not come to the end of a batch for {} seconds", since.as_secs()),
        }
    }
}

/// What is known of it. Written by the compute thread, read by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<String>>,
    /// Since when the compute thread is at what it does.
    began: Mutex<Option<Instant>>,
    /// Somebody wants it to be asked anew.
    wanted: AtomicBool,
}

impl Health {
    /// Why the device does not compute; none where it does, as far as anybody knows. Whoever waits for a batch is to have
    /// `patience`.
    pub fn trouble(&self, patience: Duration) -> Option<Trouble> {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = began.map(|began| began.elapsed()).filter(|since| *since > patience);
        let refuses = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stuck.map(Trouble::Stuck).or_else(|| refuses().map(Trouble::Refuses))
    }

    /// Notes that the compute thread is at something, until the answer is dropped.
    pub fn at_work(&self) -> AtWork<'_> {
        let work = AtWork(self);
        work.goes_on();
        work
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

/// As long as there is one, the compute thread is at something.
pub(super) struct AtWork<'a>(&'a Health);

impl AtWork<'_> {
    /// Notes that a part of it has come to its end, and that it goes on with the next one.
    pub fn goes_on(&self) {
        *self.0.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        *self.0.began.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        let trouble = || health.trouble(Duration::MAX);
        assert_eq!(trouble(), None);
        health.ask(Device::Cuda(99));
        let told = trouble().unwrap();
        assert!(matches!(&told, Trouble::Refuses(reason) if reason.starts_with("libtorch: ")), "{health:?}");
        assert!(told.to_string().starts_with("cannot even add two numbers (libtorch: "), "{told}");
        health.ask(Device::Cpu);
        assert_eq!(trouble(), None);
        health.ask(Device::Cuda(99));
        health.computed();
        assert_eq!(trouble(), None);
    }

    #[test]
    fn work_without_an_end_is_trouble_until_it_ends() {
        let (health, patience) = (Health::default(), Duration::from_millis(5));
        let work = health.at_work();
        assert_eq!(health.trouble(Duration::MAX), None);
        std::thread::sleep(2 * patience);
        let told = health.trouble(patience).unwrap();
        assert!(matches!(told, Trouble::Stuck(since) if since > patience), "{told:?}");
        assert_eq!(
            Trouble::Stuck(Duration::from_secs(64)).to_string(),
            "has not come to the end of a batch for 64 seconds"
        );
        drop(work);
        assert_eq!(health.trouble(patience), None);
    }

    #[test]
    fn a_wish_to_ask_is_noted_once_until_it_is_met() {
        let health = Health::default();
        assert!(health.want() && !health.want());
        health.ask(Device::Cpu);
        assert!(health.want());
    }
}
