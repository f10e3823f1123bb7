//! Where a run stands, on the terminal: a bar, and above it the run's log and a line for each epoch.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::super::output::tell;
use crate::report::{ComparedRun, Outcome};
use crate::store::{JobRow, JobState, LogRow, Store};
use crate::train::event::{EpochMetrics, Phase, StepProgress};
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

fn epoch_line(row: &EpochMetrics, epochs: u32) -> String {
    format!(
        "epoch {:>3}/{epochs}  loss {:.4}  validation accuracy {:.4}  F1 macro {:.4}",
        row.epoch, row.loss, row.validation_accuracy, row.validation_f1_macro
    )
}

/// What has been told of a run.
#[derive(Default)]
struct Told {
    /// The number of its last log line.
    line: i64,
    epoch: u32,
}

impl Told {
    /// Rows that are read at once.
    const ROWS: u32 = 200;

    /// The lines that have come since, none left out: several epochs may have ended between two looks.
    async fn news(&mut self, store: &Store, job: &JobRow) -> anyhow::Result<Vec<String>> {
        let mut news = Vec::new();
        loop {
            let lines = store.job_logs(job.id, self.line, Self::ROWS).await?;
            let Some(last) = lines.last() else { break };
            self.line = last.seq;
            news.extend(lines.iter().map(log_line));
        }
        while job.last.as_ref().is_some_and(|last| last.epoch > self.epoch) {
            let rows = store.job_metrics(job.id, self.epoch, Self::ROWS).await?;
            let Some(last) = rows.last() else { break };
            self.epoch = last.epoch;
            news.extend(rows.iter().map(|row| epoch_line(row, job.config.epochs)));
        }
        Ok(news)
    }
}

/// Shows where a run stands, and its log, until it ends.
async fn follow(store: &Store, supervisor: &Supervisor, id: Uuid) -> anyhow::Result<JobRow> {
    let style =
        ProgressStyle::with_template("{prefix:11} {bar:32} {elapsed} gone {msg}").expect("the template is constant");
    let bar = ProgressBar::new(1).with_style(style);
    let mut watch = supervisor.changes().watch(id);
    let mut told = Told::default();
    loop {
        let job = store.job(id).await?;
        told.news(store, &job).await?.iter().for_each(|line| tell_above(&bar, line));
        Shown::of(&job).put(&bar);
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
    use crate::data_dir::DataDir;
    use crate::dataset::{ImportReport, Manifest};
    use crate::store::{NewDataset, NewJob, NewJobs};
    use crate::train::config::TrainConfig;
    use crate::train::event::{Event, LogLevel};

    #[tokio::test]
    async fn every_epoch_and_every_line_of_the_log_is_told_once_however_many_came_between_two_looks() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let manifest = Manifest { format_version: 1, task: "shape".into(), ..Manifest::default() };
        let (dataset_id, id, report) = (Uuid::now_v7(), Uuid::now_v7(), ImportReport::default());
        let (name, task) = ("shapes".to_owned(), "shape".to_owned());
        store
            .insert_dataset(NewDataset { id: dataset_id, name, task, manifest: &manifest, report: &report })
            .await
            .unwrap();
        let config = TrainConfig { epochs: 500, ..TrainConfig::default() };
        let jobs = vec![NewJob { id, config, baseline_of: None }];
        store.insert_jobs(NewJobs { dataset_id, jobs, sweep: None, idempotency: None }).await.unwrap();
        store.claim(Uuid::now_v7(), "cpu", Duration::from_secs(60)).await.unwrap().unwrap();

        let mut told = Told::default();
        let (mut logs, mut epochs) = (0, 0);
        // More of both than are read at once, then one of each, then none.
        for more in [Told::ROWS * 2 + 1, 1, 0] {
            let log = |at| Event::Log { level: LogLevel::Info, message: format!("line {at}") };
            let epoch = |epoch| Event::Epoch(EpochMetrics { epoch, loss: 0.25, ..EpochMetrics::default() });
            let events: Vec<_> = (logs..logs + more).map(log).chain((epochs + 1..=epochs + more).map(epoch)).collect();
            store.record(id, 1, &events).await.unwrap();
            let lines = (logs..logs + more).map(|at| format!("line {at}"));
            let ended = (epochs + 1..=epochs + more)
                .map(|epoch| format!("epoch {epoch:>3}/500  loss 0.2500  validation accuracy 0.0000  F1 macro 0.0000"));
            let expected: Vec<_> = lines.chain(ended).collect();
            assert_eq!(told.news(&store, &store.job(id).await.unwrap()).await.unwrap(), expected);
            (logs, epochs) = (logs + more, epochs + more);
        }
    }

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
