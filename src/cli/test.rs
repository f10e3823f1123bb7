//! `mixmatch test`: a published model on the test images of any data set, so that an old and a new one can be compared.

use std::process::ExitCode;

use clap::Args;

use super::DataArgs;
use super::output::print_line;
use crate::data_dir::DataDir;
use crate::model::ModelManifest;
use crate::nn::device;
use crate::store::Store;
use crate::train::retest::{RetestInput, Retested, retest};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    data: DataArgs,
    /// gender (its champion), gender@alias, or gender:3.
    #[arg(long)]
    model: String,
    /// The data set whose test images are asked, by id or name.
    #[arg(long)]
    dataset: String,
    /// cpu, cuda:0 …
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print all figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the figures.
pub async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(args.data.data_dir);
    let store = Store::open_beside(&data).await?;
    let row = store.resolve_model(&args.model).await?;
    let dataset = store.dataset(&args.dataset).await?;
    let (weights, manifest) = store.version_files(&row);
    let model = ModelManifest::read(&manifest)?;
    let trained_on = store.dataset_of_content(&model.dataset_hash).await?.map(|id| data.dataset(id));
    let predictions = row.predictions_sha256.as_deref().map(|sha256| store.artifact(sha256));
    store.close().await;
    let input = RetestInput {
        model: &model,
        weights: &weights,
        weights_sha256: &row.weights_sha256,
        dataset_dir: &data.dataset(dataset.id),
        trained_on: trained_on.as_deref(),
        predictions: predictions.as_deref(),
        device: device::parse(&args.device)?,
    };
    let Retested { test, seen_in_training } = retest(input, &|| false)?;
    if args.json {
        let told = serde_json::json!({
            "model": {"name": row.name, "version": row.version},
            "dataset": {"id": dataset.id, "name": dataset.name},
            "seen_in_training": seen_in_training,
            "test": test,
        });
        print_line(told)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!("{} on {}", row.key(), dataset.name))?;
    super::train::print_test(&test)?;
    match seen_in_training {
        Some(0) => {}
        Some(seen) => print_line(format_args!(
            "  it learned from {seen} of these images, or was chosen by them: the figures flatter it by those"
        ))?,
        None => print_line(
            "  the data set that it learned from is gone: whether it has met some of these images cannot be told",
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
