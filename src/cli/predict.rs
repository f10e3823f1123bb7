//! `mixmatch predict`: classify files with a published model, without a server. It only reads the data
//! directory, so it may run beside one.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::output::print_line;
use super::{DataArgs, ImageArgs};
use crate::imaging::{DecodeLimits, ImagingError};
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
    let limits = args.image.limits();
    let predictor = Predictor::new(predictor_options(args.files.len(), limits));
    let (weights, manifest) = store.version_files(&row);
    let options = PredictOptions { top_k: args.top_k, threshold: args.threshold };
    let mut failed = false;
    let outcome: anyhow::Result<()> = async {
        let model = predictor.load(&row.key(), ModelFiles { weights, manifest }).await?;
        for paths in args.files.chunks(BATCH) {
            failed |= predict(&predictor, &model, paths, options, limits.max_bytes).await?;
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
    max_bytes: usize,
) -> anyhow::Result<bool> {
    let mut images = Vec::new();
    let mut unread = Vec::new();
    for path in paths {
        let path = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path, max_bytes)).await?;
        match read {
            Ok(bytes) => {
                images.push(bytes);
                unread.push(None);
            }
            Err(problem) => unread.push(Some(problem)),
        }
    }
    let answer = predictor.predict(model, images, options, ()).await?;
    let mut results = answer.results.into_iter();
    let mut failed = false;
    for (path, unread) in paths.iter().zip(unread) {
        let answer = match unread {
            Some(Problem { code, detail }) => Err((code, detail)),
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
        print_line(serde_json::to_string(&line)?)?;
    }
    Ok(failed)
}

/// The bytes of a file that is not larger than a picture may be: of a larger one nothing is read.
fn read(path: &Path, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| {
        let detail = match error.kind() {
            ErrorKind::IsADirectory => format!("it is a folder; name its files, as {}/*.jpg", path.display()),
            _ => error.to_string(),
        };
        Problem { code: "unreadable", detail }
    };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    // That of a folder or a pipe is not the length of what it holds.
    let length = if about.is_file() { usize::try_from(about.len()).unwrap_or(usize::MAX) } else { 0 };
    if length > max_bytes {
        let error = ImagingError::TooManyBytes { bytes: length, allowed: max_bytes };
        return Err(Problem { code: error.code(), detail: error.to_string() });
    }
    let mut bytes = Vec::with_capacity(length);
    // With one byte too many it is refused all the same, once it is looked at.
    file.take((max_bytes as u64).saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_that_is_too_large_nothing_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge.png");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let Err(Problem { code, detail }) = read(&path, 1000) else { panic!("a terabyte was read") };
        assert!(code == "image_too_many_bytes" && detail.contains("1099511627776 bytes, allowed are 1000"), "{detail}");
        File::create(&path).unwrap().set_len(1000).unwrap();
        assert_eq!(read(&path, 1000).ok().unwrap().len(), 1000);
        // What does not say its length is read as far as it may be.
        assert_eq!(read(Path::new("/dev/zero"), 1000).ok().unwrap().len(), 1001);
        let Err(Problem { code, detail }) = read(directory.path(), 1000) else { panic!("a folder was read") };
        assert!(code == "unreadable" && detail.contains("it is a folder"), "{detail}");
    }

    #[test]
    fn no_batch_takes_too_long() {
        let options = predictor_options(1000, DecodeLimits::default());
        assert_eq!(options.max_batch, BATCH);
        assert!(options.deadline > Duration::from_secs(86_400 * 365), "{:?}", options.deadline);
    }
}
