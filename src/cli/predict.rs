//! `mixmatch predict`: classify files with a published model, without a server. It only reads the data
//! directory, so it may run beside one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{DataArgs, ImageArgs};
use crate::imaging::DecodeLimits;
use crate::serving::{Classified, Held, ModelFiles, PredictOptions, Predictor, PredictorOptions};

/// Images in one call of the predictor.
const BATCH: usize = 64;

/// A deadline that nobody meets: whoever gives the command waits for all of its files, however long they take.
const NO_DEADLINE: Duration = Duration::from_secs(u32::MAX as u64);

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    #[command(flatten)]
    data: DataArgs,
    /// gender (its champion), gender@alias, or gender:3.
    #[arg(long)]
    model: String,
    /// Only the most probable classes.
    #[arg(long, value_parser = parse_top_k)]
    top_k: Option<usize>,
    /// Abstain where the largest probability is below this; a model that cuts photos to the face then abstains where it finds none.
    #[arg(long, value_parser = parse_threshold)]
    threshold: Option<f32>,
    #[command(flatten)]
    image: ImageArgs,
    /// JPEG, PNG or WebP files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// What is printed of a file: numbers as the server writes them, which a detour through a map of fields would not.
#[derive(Serialize)]
struct Line<'a> {
    file: String,
    model: &'a str,
    #[serde(flatten)]
    classified: Option<Classified>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Why a file was not classified.
#[derive(Serialize)]
struct Problem {
    code: &'static str,
    detail: String,
}

fn parse_top_k(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&most| most > 0).ok_or_else(|| "allowed is 1 and more".to_owned())
}

fn parse_threshold(text: &str) -> Result<f32, String> {
    let threshold = text.parse().ok().filter(|threshold| (0.0..=1.0).contains(threshold));
    threshold.ok_or_else(|| "allowed is 0 to 1".to_owned())
}

/// Prints one JSON object a file, in order. The exit code is 1 if any file could not be classified.
pub async fn run(args: PredictArgs) -> anyhow::Result<ExitCode> {
    let store = args.data.open_models().await?;
    let row = store.resolve_model(&args.model).await?;
    let predictor = Predictor::new(predictor_options(args.files.len(), args.image.limits()));
    let (weights, manifest) = store.version_files(&row);
    let options = PredictOptions { top_k: args.top_k, threshold: args.threshold };
    let mut failed = false;
    let outcome: anyhow::Result<()> = async {
        let model = predictor.load(&row.key(), ModelFiles { weights, manifest }).await?;
        for paths in args.files.chunks(BATCH) {
            failed |= predict(&predictor, &model, paths, options).await?;
        }
        Ok(())
    }
    .await;
    // Its threads end before the process does: exiting while one is inside libtorch crashes.
    predictor.shutdown().await;
    store.close().await;
    outcome?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn predictor_options(files: usize, limits: DecodeLimits) -> PredictorOptions {
    // No larger than needed: every batch size up to it is warmed.
    let max_batch = files.min(BATCH);
    PredictorOptions { max_batch, limits, deadline: NO_DEADLINE, ..PredictorOptions::default() }
}

async fn predict(
    predictor: &Predictor,
    model: &Held,
    paths: &[PathBuf],
    options: PredictOptions,
) -> anyhow::Result<bool> {
    let mut images = Vec::new();
    let mut unread = Vec::new();
    for path in paths {
        let read = tokio::fs::read(path).await;
        unread.push(read.as_ref().err().map(|error| match error.kind() {
            std::io::ErrorKind::IsADirectory => format!("it is a folder; name its files, as {}/*.jpg", path.display()),
            _ => error.to_string(),
        }));
        images.extend(read.ok());
    }
    let answer = predictor.predict(model, images, options, ()).await?;
    let mut results = answer.results.into_iter();
    let mut failed = false;
    for (path, unread) in paths.iter().zip(unread) {
        let answer = match unread {
            Some(reason) => Err(("unreadable", reason)),
            None => match results.next() {
                Some(Ok(classified)) => Ok(classified),
                Some(Err(error)) => Err((error.code(), error.to_string())),
                None => Err(("no_answer", "the model gave no answer".to_owned())),
            },
        };
        failed |= answer.is_err();
        let (classified, problem) = match answer {
            Ok(classified) => (Some(classified), None),
            Err((code, detail)) => (None, Some(Problem { code, detail })),
        };
        let line = Line { file: path.display().to_string(), model: model.key(), classified, problem };
        println!("{}", serde_json::to_string(&line)?);
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_takes_too_long() {
        let options = predictor_options(1000, DecodeLimits::default());
        assert_eq!(options.max_batch, BATCH);
        assert!(options.deadline > Duration::from_secs(86_400 * 365), "{:?}", options.deadline);
    }
}
