//! `mixmatch bench …`: measurements, as a table for people or as JSON for the scripts in `benches/`.

mod engine;
mod predict;
mod train;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::signals::end_with_the_reader;
use crate::nn::device::CudaStatus;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Training steps: images a second, and where the time goes.
    Train(train::BenchTrainArgs),
    /// The inference engine alone: images a second at some batch sizes.
    Engine(engine::BenchEngineArgs),
    /// An endpoint under load: images a second and latencies at some numbers of simultaneous requests.
    Predict(predict::BenchPredictArgs),
}

/// Measures.
pub fn run(args: BenchArgs, _cuda: &CudaStatus) -> anyhow::Result<ExitCode> {
    // Not `predict`: a server that closes a connection would end it, too.
    if !matches!(args.what, What::Predict(_)) {
        end_with_the_reader();
    }
    match args.what {
        What::Train(args) => train::run(args),
        What::Engine(args) => engine::run(args),
        What::Predict(args) => super::block_on(predict::run(args)),
    }
}
