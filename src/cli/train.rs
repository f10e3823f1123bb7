//! `mixmatch train`: the same jobs as `POST /jobs`, through a supervisor in this process, with a progress
//! bar. A run is a child process here too, so an abort inside libtorch is an error message.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::audited::audited;
use super::settings::{parse_grid, parse_setting, together};
use super::signals::{Signals, end_with_the_reader};
use super::{DataArgs, DeviceArgs};
use crate::api::JobReport;
use crate::config::WorkerConfig;
use crate::data_dir::DataDir;
use crate::dataset::Manifest;
use crate::nn::device::CudaStatus;
use crate::report::{ComparedRun, Outcome};
use crate::store::{JobEntry, JobRow, JobState, LogRow, NewJobs, Store, StoreError};
use crate::train::event::{GroupGap, Phase, StepProgress, TestMetrics};
use crate::train::sweep::plan;
use crate::worker::{Changes, Supervisor};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every hyper-parameter can be set: --set epochs=60 --set fit=face --set lambda_u=10; GET /jobs/{id} and the dashboard name them all."
)]
pub struct TrainArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    devices: DeviceArgs,
    /// The data set, by name or id.
    #[arg(long)]
    dataset: String,
    /// mixmatch or supervised; several with commas between train them all and print a table.
    #[arg(long, value_delimiter = ',')]
    algorithm: Vec<String>,
    /// The starting point: quick, thorough, gpu, paper, reference, demo.
    #[arg(long)]
    preset: Option<String>,
    /// Labels to train with, or several numbers: --labelled 20,40,100; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    labelled: Vec<u32>,
    /// Decides splits, initial weights, batches and augmentations; or several: --seed 0,1,2.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    /// Train the supervised baseline on the same labels too, and compare.
    #[arg(long)]
    baseline: bool,
    /// Several values of another hyper-parameter: --grid lambda_u=3,10.
    #[arg(long = "grid", value_name = "NAME=VALUE,…", value_parser = parse_grid)]
    grid: Vec<(String, Value)>,
    /// Any other hyper-parameter: --set k=3 --set lambda_u=10.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    /// Print the finished job, or the report of several, as one JSON object.
    #[arg(long)]
    json: bool,
}

impl TrainArgs {
    /// The body of the `POST /jobs` that this stands for.
    ///
    /// # Errors
    /// What is given in two places: neither may win without a word.
    fn request(&self) -> Result<Map<String, Value>, String> {
        let request = together(
            &self.settings,
            [
                ("algorithm", one_or_list(&self.algorithm)),
                ("preset", self.preset.clone().map(Value::from)),
                ("labelled", one_or_list(&self.labelled)),
                ("seed", one_or_list(&self.seed)),
                ("baseline", self.baseline.then_some(Value::Bool(true))),
                ("grid", (!self.grid.is_empty()).then(|| Value::Object(self.grid.iter().cloned().collect()))),
            ],
        )?;
        let names: Vec<&str> = self.grid.iter().map(|(name, _)| name.as_str()).collect();
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, name)) => {
                Err(format!("--grid {name} is given twice; put all values into one list: --grid {name}=A,B,C"))
            }
            None => Ok(request),
        }
    }
}

fn one_or_list<T: Clone + Into<Value>>(values: &[T]) -> Option<Value> {
    match values {
        [] => None,
        [one] => Some(one.clone().into()),
        many => Some(many.to_vec().into()),
    }
}

/// Trains until every job is finished.
pub async fn run(args: TrainArgs, cuda: CudaStatus) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(args.data.data_dir.clone());
    // What is trained on was imported before: a directory without a store is a slip of the pen, and must not become one.
    if !data.database().exists() {
        return Err(StoreError::NotThere { path: data.database() }.into());
    }
    let (_lock, store) = crate::api::open_rooms(&data).await?;
    let dataset = store.dataset(&args.dataset).await?;
    let request = match args.request() {
        Ok(request) => request,
        Err(error) => {
            eprintln!("mixmatch: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let manifest = Manifest::read(&data.dataset(dataset.id))?;
    let checked = plan(&request, &store.job_facts(&dataset).await?)
        .and_then(|mut plan| plan.check_splits(&manifest).map(|()| plan));
    let plan = match checked {
        Ok(plan) => plan,
        Err(problems) => {
            for problem in problems {
                eprintln!("mixmatch: {}: {}", problem.pointer.trim_start_matches('/'), problem.detail);
            }
            return Ok(ExitCode::from(2));
        }
    };
    let worker = WorkerConfig { devices: args.devices.devices.clone(), ..WorkerConfig::default() };
    let slots = crate::api::machine_slots(&worker, &cuda)?;
    let new = NewJobs::of_plan(dataset.id, plan, request);
    let jobs: Vec<Uuid> = new.jobs.iter().map(|job| job.id).collect();
    let counts = store.count_jobs().await?;
    let unfinished = |(state, count): (JobState, u64)| {
        if matches!(state, JobState::Queued | JobState::Running) { count } else { 0 }
    };
    let older: u64 = counts.into_iter().map(unfinished).sum();
    if older > 0 {
        eprintln!(
            "jobs of {} that wait or were interrupted are trained first: {older}; `mixmatch serve` can cancel them",
            args.data.data_dir.display()
        );
    }
    // Before there is a job: one that nobody waits for any more would be trained by the next `mixmatch train` first.
    let mut signals = Signals::new()?;
    let created = |id: &Uuid| Some(format!("/jobs/{id}"));
    let id = audited(&store, "train", &args.dataset, created, store.insert_jobs(new)).await?;
    let supervisor = Supervisor::start(store.clone(), data, worker, slots, Changes::default()).await?;
    let axes: Vec<String> = args.grid.iter().map(|(name, _)| name.clone()).collect();
    let mut followed = std::pin::pin!(follow_all(&store, &supervisor, &jobs, &axes));
    tokio::select! {
        ended = &mut followed => ended?,
        () = signals.wait() => {
            eprintln!("stopping the run …");
            let none = |_: &Vec<Uuid>| None;
            match audited(&store, "train cancel", &format!("/jobs/{id}"), none, store.cancel_job(id)).await {
                Ok(jobs) => jobs.into_iter().for_each(|job| supervisor.nudge(job)),
                // They ended by themselves a moment ago; what they came to is reported as ever.
                Err(StoreError::State { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            followed.await?;
        }
    };
    supervisor.shutdown().await;
    end_with_the_reader();
    let code = match store.job_or_sweep(id).await? {
        JobEntry::Job(job) if jobs.len() == 1 => report(*job, args.json)?,
        _ => compare(JobReport::read(&store, id).await?, args.json)?,
    };
    store.close().await;
    Ok(code)
}

/// Follows jobs in the order of the queue, each named by what it has of the grid's `axes`; one that ended meanwhile, on another
/// slot, is passed at once.
async fn follow_all(store: &Store, supervisor: &Supervisor, jobs: &[Uuid], axes: &[String]) -> anyhow::Result<()> {
    for (at, &id) in jobs.iter().enumerate() {
        if jobs.len() > 1 {
            let job = store.job(id).await?;
            let run = ComparedRun::new(id, job.config, job.baseline_of.is_some(), axes, Outcome::default());
            eprintln!("[{}/{}] {}", at + 1, jobs.len(), run.name());
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
            lines.iter().for_each(|line| tell(&bar, &log_line(line)));
        }
        Shown::of(&job).put(&bar);
        if let Some(last) = job.last.as_ref().filter(|last| last.epoch > epoch) {
            epoch = last.epoch;
            let epoch = format!(
                "epoch {:>3}/{}  loss {:.4}  validation accuracy {:.4}  F1 macro {:.4}",
                last.epoch, job.config.epochs, last.loss, last.validation_accuracy, last.validation_f1_macro
            );
            tell(&bar, &epoch);
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
fn tell(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() { eprintln!("{line}") } else { bar.println(line) }
}

fn compare(report: JobReport, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.markdown());
    }
    let succeeded = report.comparison.runs.iter().all(ComparedRun::succeeded);
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(job: JobRow, json: bool) -> anyhow::Result<ExitCode> {
    let succeeded = job.state == JobState::Succeeded;
    if json {
        println!("{}", serde_json::to_string(&crate::api::Job::from(job))?);
    } else if let Some((name, version)) = &job.model {
        println!("model {name}:{version}");
        if let Some(best) = &job.best {
            println!(
                "  validation accuracy {:.4}, F1 macro {:.4} (epoch {})",
                best.validation_accuracy, best.validation_f1_macro, best.epoch
            );
        }
        if let Some(median) = job.last.as_ref().and_then(|last| last.validation_accuracy_median) {
            println!("  median of the last epochs (up to 20) {median:.4}");
        }
        if let Some(test) = &job.test {
            tell_test(test);
        }
    } else if let Some((code, detail)) = &job.error {
        eprintln!("mixmatch: the run failed ({code}): {detail}");
    } else {
        let id = job.id;
        eprintln!(
            "mixmatch: the run was {}; with `mixmatch serve`, POST /jobs/{id}/retry runs it again, from its last checkpoint if it has one",
            job.state.as_str()
        );
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the figures of a test, its groups, and what is to be doubted.
pub(super) fn tell_test(test: &TestMetrics) {
    print!("{}", test_in_words(test));
}

fn test_in_words(test: &TestMetrics) -> String {
    let [low, high] = test.accuracy_interval;
    // Without images of its class F1 is 0, and is not to be read so.
    let is_there = test.classes.iter().all(|class| class.class != test.positive_class || class.images > 0);
    let f1 = if is_there { format!("{:.4}", test.f1) } else { "–".to_owned() };
    let figures = format!(
        "  test accuracy {:.4} ({low:.4} to {high:.4}), F1 of {} {f1}, macro {:.4}, {} images\n",
        test.accuracy, test.positive_class, test.f1_macro, test.images
    );
    let gap = |gap: &GroupGap| {
        format!(
            "  {}: worst {} {:.4}, best {} {:.4}\n",
            gap.attribute, gap.worst, gap.worst_accuracy, gap.best, gap.best_accuracy
        )
    };
    let classes: Vec<String> = test.classes.iter().map(|class| class.class.clone()).collect();
    let doubt = test.left_out(&classes).map(|told| format!("  doubt: {told}\n"));
    std::iter::once(figures).chain(test.group_gaps.iter().map(gap)).chain(doubt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::event::ClassMetrics;

    #[test]
    fn the_f1_of_a_class_without_test_images_is_not_told_as_nought() {
        let told = |images: u64| {
            let class =
                |name: &str, images: u64| ClassMetrics { class: name.into(), images, ..ClassMetrics::default() };
            let gap = GroupGap { attribute: "age".into(), ..GroupGap::default() };
            test_in_words(&TestMetrics {
                positive_class: "mask".into(),
                classes: vec![class("hat", 0), class("mask", images)],
                group_gaps: vec![gap],
                ..TestMetrics::default()
            })
        };
        assert!(told(0).contains("F1 of mask –, macro 0.0000"), "{}", told(0));
        assert!(told(5).contains("F1 of mask 0.0000, macro"), "{}", told(5));
        assert!(told(5).ends_with(" images\n  age: worst  0.0000, best  0.0000\n"), "{}", told(5));
    }

    #[test]
    fn a_class_that_the_answers_leave_out_is_told_behind_the_figures() {
        let told = |confusion: Vec<Vec<u64>>| {
            let class = |name: &str| ClassMetrics { class: name.into(), images: 40, ..ClassMetrics::default() };
            let classes = vec![class("hat"), class("mask")];
            test_in_words(&TestMetrics { classes, confusion, ..TestMetrics::default() })
        };
        let all_hats = told(vec![vec![40, 0], vec![40, 0]]);
        assert!(all_hats.contains("\n  doubt: all 80 test images are answered \"hat\""), "{all_hats}");
        let both = told(vec![vec![39, 1], vec![2, 38]]);
        assert!(!both.contains("doubt"), "{both}");
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

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        train: TrainArgs,
    }

    fn request(line: &str) -> Value {
        let line: Line = clap::Parser::try_parse_from(line.split(' ')).unwrap();
        Value::Object(line.train.request().unwrap())
    }

    #[test]
    fn what_is_given_twice_is_refused() {
        for (line, what) in [
            ("train --dataset d --set k=3 --set k=2", "k is given twice"),
            ("train --dataset d --set seed=5 --seed 1", "seed is given twice"),
            ("train --dataset d --set preset=quick --preset demo", "preset is given twice"),
            ("train --dataset d --grid lambda_u=3,5 --grid lambda_u=10", "--grid lambda_u=A,B,C"),
        ] {
            let line: Line = clap::Parser::try_parse_from(line.split(' ')).unwrap();
            let refused = line.train.request().unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn the_arguments_are_the_body_of_a_request() {
        assert_eq!(
            request("train --dataset d --labelled 40 --seed 1 --set k=3"),
            serde_json::json!({"labelled": 40, "seed": 1, "k": 3})
        );
        assert_eq!(
            request(
                "train --dataset d --labelled 20,40 --seed 0,1 --algorithm mixmatch --baseline --grid lambda_u=3,10"
            ),
            serde_json::json!({
                "labelled": [20, 40], "seed": [0, 1], "algorithm": "mixmatch", "baseline": true,
                "grid": {"lambda_u": [3, 10]}
            })
        );
    }
}
