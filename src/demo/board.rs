//! Where a job's progress is shown: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::client::{Epoch, Job};
use super::sse::SseEvent;

/// Without a terminal, about so many lines for a run.
const LINES: u32 = 20;

/// Where the progress of several jobs is shown: bars on a terminal, lines elsewhere.
#[derive(Debug)]
pub struct Board {
    bars: Option<MultiProgress>,
}

impl Default for Board {
    fn default() -> Self {
        Self::on(std::io::stderr().is_terminal(), MultiProgress::new())
    }
}

impl Board {
    /// On a terminal that cannot move its cursor the bars hide themselves, and all that is said to them.
    fn on(terminal: bool, bars: MultiProgress) -> Self {
        Self { bars: (terminal && !bars.is_hidden()).then_some(bars) }
    }

    /// A place for one job; `name` stands before all it says.
    pub fn row(&self, name: &str) -> Row {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("  {prefix:<11} {bar:24} {pos:>5}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(1).with_style(style).with_prefix(name.to_owned()))
        });
        Row { bar, name: name.to_owned(), progress: Progress::default(), told: 0 }
    }
}

/// What is known of a running job.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// What it does, where it is not training: queued, importing, evaluating …
    phase: Option<String>,
    epoch: u32,
    epochs: u32,
    step: u64,
    steps: u64,
    loss: Option<f64>,
    validation: Option<f64>,
    rate: Option<f64>,
    eta: Option<f64>,
}

impl Progress {
    fn of(job: &Job) -> Self {
        let phase = match (job.state.as_str(), job.queue_position) {
            ("running", _) => job.phase.clone(),
            ("queued", Some(position)) => Some(format!("queued, number {position}")),
            (state, _) => Some(state.to_owned()),
        };
        let last = job.last.as_ref();
        Self {
            phase: phase.filter(|phase| phase != "training"),
            epoch: job.epoch,
            epochs: job.epochs,
            step: job.step,
            steps: job.steps,
            loss: last.map(|last| last.loss),
            validation: last.map(|last| last.validation_accuracy),
            rate: job.images_per_second,
            eta: job.eta_seconds,
        }
    }

    /// `epoch 3/10 · loss 0.512 · validation 84.1 % · 420 images/s · 12 s left`, as far as it is known.
    fn text(&self) -> String {
        let mut parts = Vec::new();
        match (self.epoch, self.epochs) {
            (0, _) => {}
            // The events of epochs do not say of how many.
            (epoch, 0) => parts.push(format!("epoch {epoch}")),
            (epoch, epochs) => parts.push(format!("epoch {epoch}/{epochs}")),
        }
        parts.extend(self.loss.map(|loss| format!("loss {loss:.3}")));
        parts.extend(self.validation.map(|share| format!("validation {:.1} %", share * 100.0)));
        match &self.phase {
            Some(phase) => parts.push(phase.clone()),
            None => {
                parts.extend(self.rate.map(|rate| format!("{rate:.0} images/s")));
                parts.extend(self.eta.map(|seconds| format!("{seconds:.0} s left")));
            }
        }
        parts.join(" · ")
    }
}

/// One job's place on the board.
#[derive(Debug)]
pub struct Row {
    bar: Option<ProgressBar>,
    name: String,
    progress: Progress,
    /// The last epoch that got a line of its own.
    told: u32,
}

impl Row {
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {:<11} {text}", self.name)),
            // Whoever read it may have gone; the training goes on.
            None => drop(writeln!(std::io::stderr(), "  {:<11} {text}", self.name)),
        }
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(self.progress.steps.max(1));
            bar.set_position(self.progress.step);
            bar.set_message(format!("steps · {}", self.progress.text()));
        }
    }

    /// How long the run is, before its events tell how far it has come.
    pub(super) fn expect(&mut self, job: &Job) {
        self.progress = Progress { epochs: job.epochs, steps: job.steps, ..Progress::default() };
        self.draw();
    }

    /// What a look at the job says: the whole state, so nothing that was missed matters.
    pub(super) fn look(&mut self, job: &Job) {
        let validation = self.progress.validation;
        self.progress = Progress::of(job);
        self.progress.validation = self.progress.validation.or(validation);
        if let Some(last) = &job.last {
            self.epoch_done(last);
        }
        self.draw();
    }

    fn epoch_done(&mut self, epoch: &Epoch) {
        // An attempt after a crash counts its epochs anew.
        if epoch.epoch < self.told {
            self.told = 0;
        }
        if self.bar.is_some() || epoch.epoch == self.told {
            return;
        }
        let every = self.progress.epochs.div_ceil(LINES).max(1);
        if epoch.epoch.is_multiple_of(every) || epoch.epoch == self.progress.epochs {
            self.told = epoch.epoch;
            self.say(&self.progress.text());
        }
    }

    pub(super) fn show(&mut self, event: &SseEvent) {
        match event.name.as_str() {
            "step" => {
                let Some(step) = read::<Step>(event) else { return };
                self.progress = Progress {
                    phase: None,
                    epoch: step.epoch,
                    epochs: step.epochs,
                    step: step.step,
                    steps: step.steps,
                    loss: Some(step.loss),
                    rate: Some(step.images_per_second),
                    eta: Some(step.eta_seconds),
                    validation: self.progress.validation,
                };
            }
            "epoch" => {
                let Some(epoch) = read::<Epoch>(event) else { return };
                self.progress.epoch = epoch.epoch;
                self.progress.step = epoch.step;
                self.progress.loss = Some(epoch.loss);
                self.progress.rate = Some(epoch.images_per_second);
                self.progress.validation = Some(epoch.validation_accuracy);
                self.epoch_done(&epoch);
            }
            "phase" => {
                let phase = read::<Phase>(event).map(|said| said.phase);
                self.progress.phase = phase.filter(|phase| phase != "training");
            }
            "state" => {
                let Some(said) = read::<State>(event) else { return };
                if said.state == "running" && said.attempt > 1 {
                    self.say(&format!("attempt {}", said.attempt));
                }
                self.progress.phase = Some(said.state);
            }
            "log" => {
                if let Some(line) = read::<Log>(event).filter(|line| line.level != "info") {
                    self.say(&format!("{}: {}", line.level, line.message));
                }
            }
            // The job's own error, read at the end, tells the same in one place.
            _ => {}
        }
        self.draw();
    }

    pub(super) fn close(&self, job: &Job) {
        let summary = match (&job.test, job.seconds()) {
            (Some(test), Some(seconds)) => {
                format!("done in {seconds:.0} s: test accuracy {:.1} %", test.accuracy * 100.0)
            }
            _ => job.state.clone(),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("steps · {summary}"));
            bar.abandon();
        } else {
            self.say(&summary);
        }
    }
}

#[derive(Deserialize)]
struct Step {
    epoch: u32,
    epochs: u32,
    step: u64,
    steps: u64,
    loss: f64,
    images_per_second: f64,
    eta_seconds: f64,
}

#[derive(Deserialize)]
struct Phase {
    phase: String,
}

#[derive(Deserialize)]
struct State {
    state: String,
    #[serde(default)]
    attempt: u32,
}

#[derive(Deserialize)]
struct Log {
    level: String,
    message: String,
}

/// An event of a newer server may have another shape: it is passed over.
fn read<T: for<'a> Deserialize<'a>>(event: &SseEvent) -> Option<T> {
    serde_json::from_str(&event.data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { id: None, name: name.to_owned(), data: data.to_owned() }
    }

    fn row() -> Row {
        Board { bars: None }.row("mixmatch")
    }

    #[test]
    fn a_terminal_that_cannot_draw_bars_is_told_in_lines() {
        let hidden = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        assert!(Board::on(true, hidden).bars.is_none());
        assert!(Board::on(false, MultiProgress::new()).bars.is_none());
    }

    #[test]
    fn events_become_one_line() {
        let mut row = row();
        row.show(&event("state", r#"{"state":"running","attempt":1}"#));
        row.show(&event("phase", r#"{"phase":"training"}"#));
        row.show(&event(
            "epoch",
            r#"{"epoch":2,"step":120,"loss":0.5,"validation_accuracy":0.841,"images_per_second":410.2}"#,
        ));
        row.show(&event(
            "step",
            r#"{"epoch":3,"epochs":10,"step":130,"steps":600,"loss":0.4567,"images_per_second":420.4,"eta_seconds":12.3}"#,
        ));
        assert_eq!(row.progress.text(), "epoch 3/10 · loss 0.457 · validation 84.1 % · 420 images/s · 12 s left");
        row.show(&event("phase", r#"{"phase":"evaluating"}"#));
        assert_eq!(row.progress.text(), "epoch 3/10 · loss 0.457 · validation 84.1 % · evaluating");
        row.show(&event("step", "not JSON"));
        assert_eq!(row.progress.step, 130);
    }

    #[test]
    fn epochs_that_are_told_again_say_of_how_many() {
        let epoch =
            event("epoch", r#"{"epoch":1,"step":60,"loss":0.5,"validation_accuracy":0.841,"images_per_second":410.2}"#);
        let mut resumed = row();
        resumed.expect(&Job { epoch: 7, epochs: 10, step: 420, steps: 600, ..Job::default() });
        resumed.show(&epoch);
        assert!(resumed.progress.text().starts_with("epoch 1/10 · "), "{}", resumed.progress.text());
        let mut unknown = row();
        unknown.show(&epoch);
        assert!(unknown.progress.text().starts_with("epoch 1 · "), "{}", unknown.progress.text());
    }

    #[test]
    fn a_queued_job_says_its_place() {
        let job = Job { state: "queued".to_owned(), queue_position: Some(2), ..Job::default() };
        assert_eq!(Progress::of(&job).text(), "queued, number 2");
    }
}
