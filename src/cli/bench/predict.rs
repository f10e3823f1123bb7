//! `mixmatch bench predict`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::super::output::print_line;
use crate::bench::load::{self, Load};
use crate::bench::machine;
use crate::demo::dataset::draw;

/// Images that are sent in turn.
const IMAGES: usize = 256;

/// Arguments of `bench predict`.
#[derive(Debug, Args)]
pub struct BenchPredictArgs {
    /// The whole address, such as http://127.0.0.1:8080/predict?model=mask; any endpoint that takes one JPEG as the body
    /// and answers 200.
    #[arg(long)]
    url: String,
    /// Send each image as a multipart form in this field, instead of as the body.
    #[arg(long)]
    field: Option<String>,
    /// A directory with JPEG files to send; drawn faces if absent.
    #[arg(long)]
    images: Option<PathBuf>,
    /// Requests under way at any moment, or several numbers.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128", value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: Vec<u32>,
    /// Seconds that are measured at each.
    #[arg(long, default_value = "10", value_parser = parse_some_seconds)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value = "2", value_parser = parse_seconds)]
    warm: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// No more than a day.
fn parse_seconds(text: &str) -> Result<f64, String> {
    let fits = |seconds: &f64| (0.0..=86_400.0).contains(seconds);
    text.parse().ok().filter(fits).ok_or_else(|| "seconds are a number from 0 to 86400".to_owned())
}

fn parse_some_seconds(text: &str) -> Result<f64, String> {
    match parse_seconds(text)? {
        0.0 => Err("in 0 seconds nothing is measured".to_owned()),
        seconds => Ok(seconds),
    }
}

/// Measures an endpoint.
pub async fn run(args: BenchPredictArgs) -> anyhow::Result<ExitCode> {
    let machine = machine::look();
    let images = Arc::new(match &args.images {
        Some(directory) => read(directory)?,
        None => draw(IMAGES, 2, "face")?.into_iter().map(|drawn| drawn.bytes).collect(),
    });
    let mut results = Vec::new();
    for &concurrency in &args.concurrency {
        let load = Load {
            url: args.url.clone(),
            field: args.field.clone(),
            images: images.clone(),
            concurrency: concurrency as usize,
            seconds: args.seconds,
            warm_seconds: args.warm,
        };
        let result = load::run(&load).await?;
        if !args.json {
            let spread =
                result.batches.map_or(String::new(), |[low, middle, high]| format!(" ({low}, {middle}, {high})"));
            let batch = result.mean_batch.map_or("?".to_owned(), |batch| format!("{batch:.1}{spread}"));
            print_line(format_args!(
                "{:>4} at a time: {:>8.1} images/s, p50 {:>7.1} ms, p95 {:>7.1} ms, p99 {:>7.1} ms, batch {batch}, \
                 errors {:?}",
                result.concurrency,
                result.images_per_second,
                result.p50_ms,
                result.p95_ms,
                result.p99_ms,
                result.errors
            ))?;
        }
        results.push(result);
    }
    if args.json {
        print_line(serde_json::json!({"url": args.url, "levels": results, "machine": machine}))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first files of a directory, by name.
fn read(directory: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("failed to list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.is_file());
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{} holds no file", directory.display());
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    files.iter().take(IMAGES).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_some_and_no_more_than_a_day() {
        assert_eq!((parse_seconds("0"), parse_some_seconds("0.5")), (Ok(0.0), Ok(0.5)));
        for text in ["nan", "-1", "inf", "1e30", "x", ""] {
            assert!(parse_seconds(text).is_err() && parse_some_seconds(text).is_err(), "{text}");
        }
        assert!(parse_some_seconds("0").is_err());
    }
}
