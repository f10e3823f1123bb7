//! The child process: one training run, told on standard input, reporting on standard output.
//!
//! The training loop runs on the main thread. Standard output carries events and nothing else; whatever a
//! library prints goes to standard error, which the parent keeps as log lines. SIGTERM asks the loop to stop
//! at the next step, with a checkpoint. The child opens no database. What it says for people names no path.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::allocator;
use crate::failpoint;
use crate::nn::device;
use crate::openmp::compute_with;
use crate::train::event::Event;
use crate::train::{CheckpointPlan, RunInput, TrainError, run};
use crate::worker::places::Places;
use crate::worker::spec::RunSpec;

/// Set by SIGTERM and by a parent that reads no more.
static STOP: AtomicBool = AtomicBool::new(false);

/// Reads the specification, trains, reports.
pub fn main() -> ExitCode {
    allocator::keep_freed_memory();
    heed_sigterm();
    name_itself();
    let spec = read_spec();
    let places = spec.as_ref().map(Places::of).unwrap_or_default();
    let outcome = match spec {
        Ok(spec) => catch_unwind(AssertUnwindSafe(|| train(&spec, &places))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            let what = what.unwrap_or_else(|| "no message".to_owned());
            Err(("panic".to_owned(), what.lines().next().unwrap_or_default().to_owned()))
        }),
        Err(reason) => Err(("invalid_specification".to_owned(), reason)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, detail)) => {
            emit(&places, Event::Problem { code, detail });
            ExitCode::FAILURE
        }
    }
}

fn read_spec() -> Result<RunSpec, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| format!("failed to read the run specification: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("the run specification is not understood: {e}"))
}

fn train(spec: &RunSpec, places: &Places) -> Result<(), (String, String)> {
    let problem = |error: TrainError| (error.code().to_owned(), error.to_string());
    compute_with(spec.threads.clamp(1, 1024) as i32);
    let device = device::parse(&spec.device).map_err(|error| problem(error.into()))?;
    let RunSpec { dataset_dir, run_dir, config, .. } = spec;
    let every = Duration::try_from_secs_f64(spec.checkpoint_seconds).unwrap_or(Duration::MAX);
    let checkpoints = spec.checkpoint_dir.as_deref().map(|directory| CheckpointPlan { directory, every });
    let pretrained = spec.pretrained.as_deref();
    let input = RunInput { dataset_dir, run_dir, config, device, pretrained, checkpoints };
    run(input, &|| STOP.load(Ordering::Relaxed), &mut |event| emit(places, event)).map_err(problem)
}

/// Writes one line. A parent that has gone reads nothing: the run then stops at its next step.
fn emit(places: &Places, event: Event) {
    let Ok(mut line) = serde_json::to_string(&places.told(event)) else { return };
    line.push('\n');
    let mut out = std::io::stdout().lock();
    if failpoint::pass("child.event").is_err() {
        return STOP.store(true, Ordering::Relaxed);
    }
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        STOP.store(true, Ordering::Relaxed);
    }
}

/// What `top` shows: the name of the file that it was started from says nothing.
fn name_itself() {
    // SAFETY: the name is a C string of less than 16 bytes.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"mixmatch".as_ptr());
    }
}

/// From here on SIGTERM asks the run to stop, and does not end the process. Harmless when called again.
pub fn heed_sigterm() {
    extern "C" fn on_sigterm(_signal: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe {
        libc::signal(libc::SIGTERM, on_sigterm as *const () as libc::sighandler_t);
    }
}
