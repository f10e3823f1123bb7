//! The command line: parsed here once, then each command resolves its arguments into the configuration
//! structs of `config.rs` and runs. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly.

mod audited;
mod backup;
mod bench;
mod export;
mod import;
mod import_weights;
mod keys;
mod output;
mod predict;
mod predictions;
mod serve;
mod settings;
mod signals;
mod test;
mod train;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use self::output::{print, tell};
use crate::data_dir::DataDir;
use crate::imaging::DecodeLimits;
use crate::nn::device::CudaStatus;
use crate::store::Store;
use crate::worker::DeviceChoice;

/// Trains image classifiers from few labels and many unlabelled images, and serves them.
#[derive(Debug, Parser)]
#[command(name = "mixmatch", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Which log lines are written, for example `debug` or `mixmatch=debug,warn`. [default: mixmatch=info,warn;
    /// for demo: warn, as it tells its own story]
    #[arg(long, global = true, env = "MIXMATCH_LOG", hide_env_values = true)]
    log: Option<String>,
    /// How log lines are written.
    #[arg(long, global = true, env = "MIXMATCH_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl LogArgs {
    /// Which lines are written: those that are asked for, else the command's `usual` ones. An empty text asks for nothing: so a compose
    /// file or a unit passes on what nobody set.
    fn wanted<'a>(&'a self, usual: &'a str) -> &'a str {
        self.log.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or(usual)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: HTTP API, job queue, predictions, dashboard.
    Serve(serve::ServeArgs),
    /// Import a data set (a ZIP of images with a CSV or XLSX) without a server.
    Import(import::ImportArgs),
    /// Import weights to start from (.safetensors or PyTorch's .pth) without a server.
    ImportWeights(import_weights::ImportWeightsArgs),
    /// Train on an imported data set without a server, with a progress bar.
    Train(train::TrainArgs),
    /// Classify image files with a trained model; prints one JSON object a line.
    Predict(predict::PredictArgs),
    /// Measure a published model on the test images of any data set: two versions on the same images can be compared.
    Test(test::TestArgs),
    /// Print what a model predicts for its data set: which images to label next, which labels to doubt.
    Predictions(predictions::PredictionsArgs),
    /// Write a model's weights, description and card as plain files.
    Export(export::ExportArgs),
    /// Make, list and revoke API keys; works beside a running server, which sees it at once.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Copy a data directory, verified, while its server runs.
    Backup(backup::BackupArgs),
    /// Put a backup into a new data directory, verified.
    Restore(backup::RestoreArgs),
    /// Draw a data set, train twice on 40 labels, predict, and keep serving: the whole way in minutes.
    Demo(serve::DemoArgs),
    /// Measure: training steps, the engine, or a running service.
    Bench(bench::BenchArgs),
    /// Print every hyper-parameter (Markdown): its meaning, its range, and its value in each preset.
    Presets,
    /// Print the OpenAPI description.
    Openapi,
    /// The child process of a job: reads a run specification on standard input.
    #[command(hide = true)]
    Work,
}

/// Where the data lies: the same for every command.
#[derive(Debug, Clone, Args)]
struct DataArgs {
    /// Where data sets, jobs and models are kept.
    #[arg(long, env = "MIXMATCH_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
}

impl DataArgs {
    /// The store of a directory that has models. It may be opened beside a server.
    async fn open_models(self) -> anyhow::Result<Store> {
        let data = DataDir::new(self.data_dir);
        Ok(Store::open_beside(&data).await?)
    }
}

/// What an image may be: the same for `serve`, `import` and `predict`.
#[derive(Debug, Clone, Args)]
struct ImageArgs {
    /// Most pixels of one image. Its file may have half as many bytes, and 25 MiB in any case.
    #[arg(long, env = "MIXMATCH_MAX_PIXELS", default_value_t = DecodeLimits::default().max_pixels, value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,
}

impl ImageArgs {
    fn limits(&self) -> DecodeLimits {
        DecodeLimits::of_pixels(self.max_pixels)
    }
}

/// What trains: the same for `serve`, `demo` and `train`.
#[derive(Debug, Clone, Args)]
struct DeviceArgs {
    /// One slot for a run on each device: auto (every GPU, else one CPU slot), cpu, cpu,cpu, cuda:0,cuda:1; cuda:0,cuda:0 are two on one GPU.
    #[arg(long, env = "MIXMATCH_DEVICES", default_value = "auto", value_parser = parse_devices)]
    devices: DeviceChoice,
}

fn parse_devices(text: &str) -> Result<DeviceChoice, String> {
    text.parse()
}

/// Runs the command line; `cuda` says what was found before anything touched libtorch.
pub fn main(cuda: CudaStatus) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // The child speaks on standard output and sets up nothing else.
    if let Command::Work = cli.command {
        return crate::worker::child::main();
    }
    let usual = if matches!(cli.command, Command::Demo(_)) { "warn" } else { "mixmatch=info,warn" };
    if let Err(error) = start_log(&cli.log, usual) {
        tell(format_args!("mixmatch: {error}"));
        return ExitCode::from(2);
    }
    // The others see to it themselves, once what they do is done.
    let prints = matches!(
        cli.command,
        Command::Predict(_)
            | Command::Predictions(_)
            | Command::Export(_)
            | Command::Presets
            | Command::Test(_)
            | Command::Openapi
            | Command::Import(_)
    );
    if prints {
        signals::end_with_the_reader();
    }
    match run(cli.command, cuda) {
        Ok(code) => code,
        Err(error) => {
            tell(format_args!("mixmatch: {}", with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, less what was said already: many errors end with their cause's words.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Whether a command writes into a data directory or a copy of one, and not only what somebody asked for by its name.
fn keeps_data(command: &Command) -> bool {
    matches!(
        command,
        Command::Serve(_)
            | Command::Demo(_)
            | Command::Import(_)
            | Command::ImportWeights(_)
            | Command::Train(_)
            | Command::Keys(_)
            | Command::Backup(_)
            | Command::Restore(_)
    )
}

fn run(command: Command, cuda: CudaStatus) -> anyhow::Result<ExitCode> {
    if keeps_data(&command) {
        // Photos, labels and key hashes are their owner's alone, whoever may look into the directory that they lie in.
        // SAFETY: it takes a number, cannot fail, and no other thread makes a file yet.
        unsafe { libc::umask(0o077) };
    }
    match command {
        Command::Serve(args) => block_on(serve::run(args, cuda)),
        Command::Demo(args) => block_on(serve::demo(args, cuda)),
        Command::Import(args) => block_on(import::run(args)),
        Command::ImportWeights(args) => block_on(import_weights::run(args)),
        Command::Train(args) => block_on(train::run(args, cuda)),
        Command::Predict(args) => block_on(predict::run(args)),
        Command::Test(args) => block_on(test::run(args)),
        Command::Predictions(args) => block_on(predictions::run(args)),
        Command::Export(args) => block_on(export::run(args)),
        Command::Bench(args) => bench::run(args, &cuda),
        Command::Keys(command) => block_on(keys::run(command)),
        Command::Backup(args) => block_on(backup::backup(args)),
        Command::Restore(args) => block_on(backup::restore(args)),
        Command::Presets => {
            print(crate::train::hyper_parameters::markdown())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Openapi => {
            print(crate::api::openapi_json())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Work => unreachable!("handled before the log starts"),
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("mixmatch-io").build()?;
    let result = runtime.block_on(future);
    // A blocking thread that is stuck (a slow disk) must not keep the process alive for good.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

fn start_log(args: &LogArgs, usual: &str) -> anyhow::Result<()> {
    let wanted = args.wanted(usual);
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| anyhow::anyhow!("--log {wanted:?} cannot be understood: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so on stderr, and panic where that is a terminal that has gone.
        .log_internal_errors(false)
        .with_ansi(has_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()));
    match args.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Whether log lines are coloured: on a terminal, unless whoever sits there wants none (<https://no-color.org>).
fn has_colours(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_calls_parse() {
        for line in [
            "mixmatch serve --data-dir d --listen 127.0.0.1:0",
            "mixmatch import --name faces --task gender --images a.zip --train a.csv",
            "mixmatch import-weights wide_resnet50_2-95faca4d.pth --name imagenet --data-dir d",
            "mixmatch import-weights a.safetensors --network wrn-28-2 --output b.safetensors",
            "mixmatch train --dataset faces --algorithm mixmatch --preset quick --labelled 40 --set k=3",
            "mixmatch train --dataset faces --labelled 20,40,100 --seed 0,1,2 --baseline",
            "mixmatch predict --model gender@champion a.jpg b.png",
            "mixmatch predictions --model gender --rows unlabelled --limit 50",
            "mixmatch keys create --scope train --name laptop --expires 90d --data-dir d",
            "mixmatch keys revoke laptop",
            "mixmatch backup --data-dir d --to copy",
            "mixmatch restore --from copy --data-dir e",
            "mixmatch demo --exit",
            "mixmatch bench train --network wrn-28-2 --size 32 --batch 64 --steps 30 --json",
            "mixmatch openapi",
            "mixmatch work",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_an_error_says_of_its_cause_is_told_once() {
        use crate::store::StoreError;

        // Each of the three ends with the words of the next.
        let full = || StoreError::from(sqlx::Error::Io(std::io::Error::other("the disk is full")));
        let told = "database: error communicating with database: the disk is full";
        assert_eq!(with_causes(&full().into()), told);
        assert_eq!(with_causes(&anyhow::Error::from(full()).context("no copy")), format!("no copy: {told}"));
        let newer = sqlx::migrate::MigrateError::VersionMissing(9999);
        let newer = StoreError::Migration { path: "data/mixmatch.db".into(), source: newer };
        assert_eq!(with_causes(&newer.into()).matches("9999").count(), 1);
    }

    #[test]
    fn an_empty_setting_silences_no_log() {
        for (given, wanted) in [("", "warn"), (" ", "warn"), ("off", "off")] {
            let cli = Cli::try_parse_from(["mixmatch", "openapi", "--log", given]).unwrap();
            assert_eq!(cli.log.wanted("warn"), wanted, "{given:?}");
        }
    }

    #[test]
    fn log_lines_are_coloured_on_a_terminal_unless_nobody_wants_it() {
        let set = |text: &'static str| Some(OsStr::new(text));
        assert!(has_colours(true, None) && has_colours(true, set("")));
        assert!(!has_colours(true, set("1")) && !has_colours(true, set("0")));
        assert!(!has_colours(false, None));
    }

    #[test]
    fn a_wrong_device_is_a_usage_error_that_says_what_is_allowed() {
        let error = Cli::try_parse_from(["mixmatch", "serve", "--devices", "gpu"]).unwrap_err().to_string();
        assert!(error.contains("cuda:0"), "{error}");
    }
}
