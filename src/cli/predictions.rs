//! `mixmatch predictions`: what a model predicts for the images of the data set that it learned from, as CSV. It only reads the
//! data directory, so it may run beside a server.

use std::fs::File;
use std::io::{BufReader, stdout};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::DataArgs;
use crate::model::predictions::{self, Selection};

/// Arguments of `predictions`.
#[derive(Debug, Args)]
pub struct PredictionsArgs {
    #[command(flatten)]
    data: DataArgs,
    /// gender (its champion), gender@alias, or gender:3.
    #[arg(long)]
    model: String,
    /// all, in the data set's order; unlabelled: images without a label, one of each group, the least sure first, which are
    /// worth a label next; disagreeing: those whose label is another than the prediction, the surest first and test images last (correct
    /// test labels only where you look at all of them alike: else the model's figures look better than they are).
    #[arg(long, default_value_t = Selection::All)]
    rows: Selection,
    /// At most so many rows.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Prints them.
pub async fn run(args: PredictionsArgs) -> anyhow::Result<ExitCode> {
    let store = args.data.open_models().await?;
    let row = store.resolve_model(&args.model).await?;
    let Some(sha256) = &row.predictions_sha256 else {
        bail!("an older build published {}, without predictions; train again to have them", row.key());
    };
    let path = store.artifact(sha256);
    let gone = || format!("the predictions of {} cannot be read: {}", row.key(), path.display());
    let rows = File::open(&path).and_then(|file| predictions::read(BufReader::new(file))).with_context(gone)?;
    store.close().await;
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    predictions::write(&args.rows.of(rows, limit), stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
