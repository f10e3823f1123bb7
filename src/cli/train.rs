//! `mixmatch train`: the same jobs as `POST /jobs`, through a supervisor in this process, with a progress
//! bar. A run is a child process here too, so an abort inside libtorch is an error message.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::audited::audited;
use super::output::{print, print_line, tell};
use super::settings::{parse_grid, parse_setting, together};
use super::signals::{Signals, end_with_the_reader, leave};
use super::{DataArgs, DeviceArgs};
use crate::api::JobReport;
use crate::config::WorkerConfig;
use crate::data_dir::DataDir;
use crate::dataset::Manifest;
use crate::nn::device::CudaStatus;
use crate::report::ComparedRun;
use crate::store::{JobEntry, JobRow, JobState, NewJobs, StoreError};
use crate::train::event::{GroupGap, TestMetrics};
use crate::train::sweep::plan;
use crate::worker::{Changes, Supervisor};

mod follow;

use follow::follow_all;

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
    /// mixmatch or supervised; several with commas between train them all and print a table. [default: mixmatch]
    #[arg(long, value_delimiter = ',')]
    algorithm: Vec<String>,
    /// The starting point: quick, thorough, gpu, paper, reference, demo. [default: quick]
    #[arg(long)]
    preset: Option<String>,
    /// Labels to train with, or several numbers: --labelled 20,40,100. [default: all of them; with --preset reference 1000, and all with
    /// --set labelled=null]
    #[arg(long, value_delimiter = ',')]
    labelled: Vec<u32>,
    /// Decides splits, initial weights, batches and augmentations; or several: --seed 0,1,2. [default: 0]
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
            tell(format_args!("mixmatch: {error}"));
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
                tell(format_args!("mixmatch: {}: {}", problem.pointer.trim_start_matches('/'), problem.detail));
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
        tell(format_args!(
            "jobs of {} that wait or were interrupted are trained first: {older}; `mixmatch serve` can cancel them",
            args.data.data_dir.display()
        ));
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
            tell("stopping the run …");
            let none = |_: &Vec<Uuid>| None;
            match audited(&store, "train cancel", &format!("/jobs/{id}"), none, store.cancel_job(id)).await {
                Ok(jobs) => jobs.into_iter().for_each(|job| supervisor.nudge(job)),
                // They ended by themselves a moment ago; what they came to is reported as ever.
                Err(StoreError::State { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            unless_asked_again(&mut signals, followed).await?;
        }
    };
    unless_asked_again(&mut signals, supervisor.shutdown()).await;
    end_with_the_reader();
    let code = match store.job_or_sweep(id).await? {
        JobEntry::Job(job) if jobs.len() == 1 => report(*job, args.json)?,
        _ => compare(JobReport::read(&store, id).await?, args.json)?,
    };
    store.close().await;
    Ok(code)
}

/// The end of what was asked for; whoever asks again ends the process at once, and with it those of its runs.
async fn unless_asked_again<T>(signals: &mut Signals, end: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = end => ended,
        () = signals.wait_for_another() => {
            tell("asked to stop again: ending at once, without waiting for the run");
            leave(130)
        }
    }
}

fn compare(report: JobReport, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print_line(serde_json::to_string(&report)?)?;
    } else {
        print(report.markdown())?;
    }
    let succeeded = report.comparison.runs.iter().all(ComparedRun::succeeded);
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(job: JobRow, json: bool) -> anyhow::Result<ExitCode> {
    let succeeded = job.state == JobState::Succeeded;
    if json {
        print_line(serde_json::to_string(&crate::api::Job::from(job))?)?;
    } else if let Some((name, version)) = &job.model {
        print_line(format_args!("model {name}:{version}"))?;
        if let Some(best) = &job.best {
            print_line(format_args!(
                "  validation accuracy {:.4}, F1 macro {:.4} (epoch {})",
                best.validation_accuracy, best.validation_f1_macro, best.epoch
            ))?;
        }
        if let Some(median) = job.last.as_ref().and_then(|last| last.validation_accuracy_median) {
            print_line(format_args!("  median of the last epochs (up to 20) {median:.4}"))?;
        }
        if let Some(test) = &job.test {
            print_test(test)?;
        }
    } else if let Some((code, detail)) = &job.error {
        tell(format_args!("mixmatch: the run failed ({code}): {detail}"));
    } else {
        let id = job.id;
        tell(format_args!(
            "mixmatch: the run was {}; with `mixmatch serve`, POST /jobs/{id}/retry runs it again, from its last checkpoint if it has one",
            job.state.as_str()
        ));
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the figures of a test, its groups, and what is to be doubted.
pub(super) fn print_test(test: &TestMetrics) -> anyhow::Result<()> {
    print(test_in_words(test))
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
    fn the_help_tells_what_holds_where_nothing_is_given() {
        use crate::train::preset;

        let help = <Line as clap::CommandFactory>::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = preset::quick();
        for default in [plain.preset, plain.algorithm.as_str().to_owned(), plain.seed.to_string()] {
            assert!(help.contains(&format!("[default: {default}]")), "{default} is not in {help}");
        }
        for name in preset::NAMES {
            let labelled = preset::by_name(name).unwrap().labelled;
            let told = labelled.is_none_or(|labelled| help.contains(&format!("--preset {name} {labelled}")));
            assert!(told, "{name}: {help}");
        }
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
