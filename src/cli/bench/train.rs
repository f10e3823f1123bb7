//! `mixmatch bench train`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::output::{print_line, tell};
use super::super::settings::{parse_setting, together};
use crate::bench::{data, machine};
use crate::dataset::Manifest;
use crate::nn::device;
use crate::openmp::compute_with;
use crate::train::bench::{StepTimes, measure};
use crate::train::config::{DataFacts, TrainConfig, resolve};

/// Faces that are drawn where no data set is named.
const DRAWN: usize = 600;

/// Arguments of `bench train`.
#[derive(Debug, Args)]
pub struct BenchTrainArgs {
    /// Directory of an imported data set (data/datasets/ID); drawn faces if absent.
    #[arg(long)]
    dataset_dir: Option<PathBuf>,
    /// What the rest is laid over: the step's augmentation, algorithm and sizes. [default: paper]
    #[arg(long)]
    preset: Option<String>,
    /// mixmatch or supervised.
    #[arg(long)]
    algorithm: Option<String>,
    /// wrn-<depth>-<width>, wrn4-<depth>-<width> or wide_resnet50_2.
    #[arg(long)]
    network: Option<String>,
    /// Side of the input, pixels.
    #[arg(long)]
    size: Option<u32>,
    /// Labelled images in a step; as many unlabelled ones go with them.
    #[arg(long)]
    batch: Option<u32>,
    /// Views of an unlabelled image.
    #[arg(long)]
    k: Option<u32>,
    /// auto, bf16 or float32.
    #[arg(long)]
    precision: Option<String>,
    /// cpu or cuda:<index>.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads on a CPU; all cores if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before those.
    #[arg(long, default_value_t = 5)]
    warm: u32,
    /// Any other hyper-parameter: --set anchor=true.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    network: String,
    size: u32,
    batch: u32,
    k: u32,
    algorithm: &'static str,
    device: String,
    threads: usize,
    #[serde(flatten)]
    times: StepTimes,
    /// The most memory that the process held, MiB.
    peak_resident_mib: f64,
    /// What is taken of the GPU's memory behind the last step, MiB; 0 on a CPU.
    device_mib: f64,
    machine: machine::Machine,
}

/// Measures training steps.
pub fn run(args: BenchTrainArgs) -> anyhow::Result<ExitCode> {
    // As a run's own process does.
    crate::allocator::keep_freed_memory();
    let machine = machine::look();
    let threads = args.threads.unwrap_or(machine.cores).clamp(1, 1024);
    compute_with(threads as i32);
    let device = device::parse(&args.device)?;
    let scratch = tempfile::tempdir()?;
    let directory = match &args.dataset_dir {
        Some(directory) => directory.clone(),
        None => data::drawn(scratch.path(), DRAWN)?,
    };
    let manifest = Manifest::read(&directory)?;
    let request = match args.request() {
        Ok(request) => request,
        Err(refused) => {
            tell(format_args!("mixmatch: {refused}"));
            return Ok(ExitCode::from(2));
        }
    };
    let config = match resolve(&request, &facts(&manifest)) {
        Ok(config) => TrainConfig { warmup: 0.0, ..config },
        Err(problems) => {
            for problem in problems {
                tell(format_args!("mixmatch: {}: {}", problem.pointer.trim_start_matches('/'), problem.detail));
            }
            return Ok(ExitCode::from(2));
        }
    };
    let times = measure(&directory, &config, device, args.warm, args.steps)?;
    let report = Report {
        network: config.network.clone(),
        size: config.size,
        batch: config.batch,
        k: config.k,
        algorithm: config.algorithm.as_str(),
        device: device::name(device),
        threads,
        times,
        peak_resident_mib: machine::peak_resident_mib(),
        device_mib: machine::device_mib(),
        machine,
    };
    if args.json {
        print_line(serde_json::to_string(&report)?)?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl BenchTrainArgs {
    /// The body of the `POST /jobs` whose steps are timed.
    ///
    /// # Errors
    /// What is given in two places, or is the benchmark's to say: the figures would be another step's than was asked for.
    fn request(&self) -> Result<Map<String, Value>, String> {
        let mut request = together(
            &self.settings,
            [
                ("preset", self.preset.clone().map(Value::from)),
                ("algorithm", self.algorithm.clone().map(Value::from)),
                ("network", self.network.clone().map(Value::from)),
                ("size", self.size.map(Value::from)),
                ("batch", self.batch.map(Value::from)),
                ("k", self.k.map(Value::from)),
                ("precision", self.precision.clone().map(Value::from)),
            ],
        )?;
        // What happens before a run's plain steps, or decides which labels there are.
        let other = ["warmup", "pretrain_epochs", "pretrain_batch", "labelled"];
        if let Some(name) = other.into_iter().find(|name| request.contains_key(*name)) {
            return Err(format!(
                "{name} is none of a step's settings: all labels are used, without a warm-up and without pretraining"
            ));
        }
        request.entry("preset").or_insert_with(|| "paper".into());
        // A benchmark knows no imported weights and needs no particular number of labels.
        request.insert("labelled".to_owned(), Value::Null);
        Ok(request)
    }
}

/// What the configuration is checked against.
fn facts(manifest: &Manifest) -> DataFacts {
    let mut labelled = vec![0; manifest.classes.len()];
    let train = manifest.samples.iter().filter(|sample| sample.split == crate::dataset::Role::Train);
    train.clone().filter_map(|sample| sample.label).for_each(|label| labelled[label as usize] += 1);
    DataFacts { classes: manifest.classes.clone(), labelled, train: train.count() as u64, ..DataFacts::default() }
}

fn print(report: &Report) -> anyhow::Result<()> {
    let Report { times, machine, .. } = report;
    print_line(format_args!(
        "{} {}×{} B={} K={} {} {}",
        report.network, report.size, report.size, report.batch, report.k, report.algorithm, times.precision
    ))?;
    print_line(format_args!(
        "{} with {} threads of {}, load before {:.2}",
        report.device, report.threads, machine.cpu, machine.load_before
    ))?;
    print_line(format_args!("{:>10.1} labelled images/s", times.labelled_images_per_second))?;
    let spread = format!("median of {}; sd {:.2}", times.steps, times.step_ms_sd);
    print_line(format_args!("{:>10.2} ms a step ({spread})", times.step_ms))?;
    for (name, ms) in &times.phases_ms {
        print_line(format_args!("{ms:>10.2} ms {name}"))?;
    }
    print_line(format_args!("{:>10.0} MiB at most", report.peak_resident_mib))?;
    if let Some(note) = &report.times.note {
        print_line(note)?;
    }
    if report.device_mib > 0.0 {
        print_line(format_args!("{:>10.0} MiB on the device", report.device_mib))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchTrainArgs,
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let request = |words: &str| {
            Line::try_parse_from(std::iter::once("train").chain(words.split(' '))).unwrap().args.request()
        };
        assert_eq!(request("--json").unwrap()["preset"], "paper");
        assert_eq!(request("--set preset=demo").unwrap()["preset"], "demo");
        assert_eq!(request("--preset demo --k 1").unwrap()["k"], 1);
        for words in
            ["--preset demo --set preset=quick", "--k 1 --set k=2", "--set k=1 --set k=2", "--batch 8 --set batch=4"]
        {
            assert!(request(words).unwrap_err().contains("given twice"), "{words}");
        }
        for words in ["--set warmup=0.5", "--set labelled=40", "--set pretrain_epochs=3", "--set pretrain_batch=64"] {
            assert!(request(words).unwrap_err().contains("none of a step's settings"), "{words}");
        }
    }
}
