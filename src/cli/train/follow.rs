//! Where a run stands, on the terminal: a bar, and above it the run's log and a line for each epoch.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::super::output::tell;
use crate::report::{ComparedRun, Outcome};
use crate::store::{JobRow, JobState, LogRow, Store};
use crate::train::event::{Phase, StepProgress};
use crate::worker::Supervisor;

/// Follows jobs in the order of the queue, each named by what it has of the grid's `axes`; one that ended meanwhile, on another
/// slot, is passed at once.
pub async fn follow_all(store: &Store, supervisor: &Supervisor, jobs: &[Uuid], axes: &[String]) -> anyhow::Result<()> {
    for (at, &id) in jobs.iter().enumerate() {
        if jobs.len() > 1 {
            let job = store.job(id).await?;
            let run = ComparedRun::new(id, job.config, job.baseline_of.is_some(), axes, Outcome::default());
            tell(format_args!("[{}/{}] {}", at + 1, jobs.len(), run.name()));
        }
        follow(store, supervisor, id).await?;
    }
    Ok(())
}

fn log_line(line: &LogRow) -> String {
    if line.level == "info" { line.message.clone() } else { format!("{}: {}", line.level, line.message) }
}

/// Lines of a run's log that are read at once.
const LINES: u32 = 200;

/// Shows where a run stands, and its log, until it ends.
async fn follow(store: &Store, supervisor: &Supervisor, id: Uuid) -> anyhow::Result<JobRow> {
    let style =
        ProgressStyle::with_template("{prefix:11} {bar:32} {elapsed} gone {msg}").expect("the template is constant");
    let bar = ProgressBar::new(1).with_style(style);
    let mut watch = supervisor.changes().watch(id);
    let (mut epoch, mut told) = (0, 0);
    loop {
        let job = store.job(id).await?;
        loop {
            let lines = store.job_logs(id, told, LINES).await?;
            let Some(last) = lines.last() else { break };
            told = last.seq;
            lines.iter().for_each(|line| tell_above(&bar, &log_line(line)));
        }
        Shown::of(&job).put(&bar);
        if let Some(last) = job.last.as_ref().filter(|last| last.epoch > epoch) {
            epoch = last.epoch;
            let epoch = format!(
                "epoch {:>3}/{}  loss {:.4}  validation accuracy {:.4}  F1 macro {:.4}",
                last.epoch, job.config.epochs, last.loss, last.validation_accuracy, last.validation_f1_macro
            );
            tell_above(&bar, &epoch);
        }
        if job.state.is_final() {
            bar.finish_and_clear();
            return Ok(job);
        }
        tokio::select! {
            () = watch.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// What the bar says of a job.
#[derive(Debug, PartialEq)]
struct Shown {
    /// The phase, or the state of a job that is in none.
    doing: String,
    step: u64,
    steps: u64,
    /// Steps, rate and loss, while the phase is one of steps.
    figures: String,
}

impl Shown {
    fn of(job: &JobRow) -> Self {
        let phase = job.phase.as_deref().filter(|_| job.state == JobState::Running);
        // Pretraining has steps of its own.
        let progress = if phase == Some(Phase::Pretraining.as_str()) { &job.pretraining } else { &job.progress };
        Self::new(phase, job.state, progress.as_ref(), job.config.steps())
    }

    /// `steps` are the run's, where nothing has been told yet.
    fn new(phase: Option<&str>, state: JobState, progress: Option<&StepProgress>, steps: u64) -> Self {
        let has_steps = [Phase::Pretraining, Phase::Training].iter().any(|with| phase == Some(with.as_str()));
        let figures = |progress: &StepProgress| {
            let StepProgress { step, steps, images_per_second, eta_seconds, loss, .. } = progress;
            format!(
                "· {step}/{steps} steps · {images_per_second:.0} images/s · {eta_seconds:.0} s left · loss {loss:.3}"
            )
        };
        Self {
            doing: phase.unwrap_or(state.as_str()).to_owned(),
            step: progress.map_or(0, |progress| progress.step),
            steps: progress.map_or(steps, |progress| progress.steps),
            figures: progress.filter(|_| has_steps).map(figures).unwrap_or_default(),
        }
    }

    fn put(self, bar: &ProgressBar) {
        bar.set_length(self.steps);
        bar.set_position(self.step);
        bar.set_prefix(self.doing);
        bar.set_message(self.figures);
    }
}

/// A line above the bar; where there is no terminal for a bar, the line alone.
fn tell_above(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() { tell(line) } else { bar.println(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_the_phase_and_counts_the_steps_of_those_that_have_any() {
        let progress = |step, steps| StepProgress {
            epoch: 1,
            epochs: 3,
            step,
            steps,
            loss: 0.5,
            images_per_second: 64.0,
            eta_seconds: 20.0,
        };
        let shown = |phase, state, progress: Option<StepProgress>| {
            let Shown { doing, step, steps, figures } = Shown::new(phase, state, progress.as_ref(), 300);
            (doing, (step, steps), figures)
        };
        let expected = |doing: &str, at: (u64, u64), figures: &str| (doing.to_owned(), at, figures.to_owned());
        let figures = "· 46/300 steps · 64 images/s · 20 s left · loss 0.500";
        let is = |phase, progress| shown(Some(phase), JobState::Running, progress);
        assert_eq!(is("training", Some(progress(46, 300))), expected("training", (46, 300), figures));
        assert_eq!(is("training", None), expected("training", (0, 300), ""));
        assert_eq!(is("pretraining", None), expected("pretraining", (0, 300), ""));
        let own = "· 5/60 steps · 64 images/s · 20 s left · loss 0.500";
        assert_eq!(is("pretraining", Some(progress(5, 60))), expected("pretraining", (5, 60), own));
        // What was true of the last step is not said of what follows it.
        assert_eq!(is("evaluating", Some(progress(300, 300))), expected("evaluating", (300, 300), ""));
        assert_eq!(is("importing", None), expected("importing", (0, 300), ""));
        let waits = shown(None, JobState::Queued, Some(progress(46, 300)));
        assert_eq!(waits, expected("queued", (46, 300), ""));
        let bar = ProgressBar::hidden();
        Shown::new(Some("training"), JobState::Running, Some(&progress(46, 300)), 300).put(&bar);
        assert_eq!((bar.position(), bar.length()), (46, Some(300)));
        assert_eq!((bar.prefix().as_str(), bar.message().as_str()), ("training", figures));
    }
}
