//! `mixmatch bench engine`.

use std::process::ExitCode;

use clap::Args;

use super::super::output::print_line;
use crate::bench::engine::{self, Format};
use crate::bench::machine;
use crate::openmp::compute_with;

/// Arguments of `bench engine`.
#[derive(Debug, Args)]
pub struct BenchEngineArgs {
    /// wrn-<depth>-<width>, wrn4-<depth>-<width> or wide_resnet50_2, with random weights.
    #[arg(long, default_value = "wrn-28-2")]
    network: String,
    /// Side of the input, pixels.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    /// Images in a batch, or several numbers.
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Vec<u32>,
    /// cpu or cuda:<index>.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Compute in float32 even where bf16 is fast.
    #[arg(long)]
    float32: bool,
    /// Compute in int8, on the CPU.
    #[arg(long, conflicts_with = "float32")]
    int8: bool,
    /// Threads on a CPU; all cores if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Batches that are timed.
    #[arg(long, default_value_t = 50, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures the engine.
pub fn run(args: BenchEngineArgs) -> anyhow::Result<ExitCode> {
    let machine = machine::look();
    compute_with(args.threads.unwrap_or(machine.cores).clamp(1, 1024) as i32);
    let format = match (args.float32, args.int8) {
        (true, _) => Format::Float32,
        (_, true) => Format::Int8,
        _ => Format::Auto,
    };
    let batches: Vec<usize> = args.batch.iter().map(|&batch| batch as usize).collect();
    let times = engine::measure(&args.network, args.size, &batches, &args.device, format, args.rounds)?;
    if args.json {
        let report = serde_json::json!({
            "network": args.network, "size": args.size, "device": args.device, "batches": times,
            "peak_resident_mib": machine::peak_resident_mib(), "machine": machine,
        });
        print_line(report)?;
    } else {
        print_line(format_args!(
            "{} {}×{} on {}, load before {:.2}",
            args.network, args.size, args.size, machine.cpu, machine.load_before
        ))?;
        for time in &times {
            let engine::EngineTimes { batch, images_per_second, batch_ms, first_ms } = time;
            print_line(format_args!(
                "batch {batch:>4}: {images_per_second:>9.1} images/s, {batch_ms:>8.2} ms, the first {first_ms:.2} ms"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
