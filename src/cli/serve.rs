//! `mixmatch serve` and `mixmatch demo`.

mod open_files;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::output::tell;
use super::signals::{Signals, leave};
use super::{DataArgs, DeviceArgs, ImageArgs};
use crate::api::Server;
use crate::config::{ApiKey, ConfigError, PredictDevice, PredictPrecision, ServeConfig, parse_size};
use crate::nn::device::CudaStatus;
use crate::openmp;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Where to listen. Anything but this machine itself needs an API key (`mixmatch keys create`).
    #[arg(long, env = "MIXMATCH_LISTEN", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    listen: SocketAddr,
    #[command(flatten)]
    devices: DeviceArgs,
    /// Where predictions are computed: auto (the first GPU, else cpu), cpu, cuda:1. A training that fills a GPU's memory leaves
    /// none to predictions on it.
    #[arg(long, env = "MIXMATCH_PREDICT_DEVICE", default_value = "auto")]
    predict_device: PredictDevice,
    /// In which number format: auto (bf16 where the device is fast at it, else float32) or int8, on a processor about twice as fast as bf16
    /// and four times as float32, for models that gave at most one in a hundred validation images another class in it when they were
    /// trained.
    #[arg(long, env = "MIXMATCH_PREDICT_PRECISION", default_value = "auto")]
    predict_precision: PredictPrecision,
    /// A key of scope admin, sent as `Authorization: Bearer <key>`, beside those of `mixmatch keys`.
    #[arg(long, env = "MIXMATCH_API_KEY", hide_env_values = true)]
    api_key: Option<GivenKey>,
    /// Days that rows of the audit (who changed what) are kept. 0 keeps them for ever.
    #[arg(long, env = "MIXMATCH_AUDIT_DAYS", default_value_t = 400)]
    audit_days: u32,
    /// Seconds for which requests are still taken after a signal to stop, while /readyz says 503: as long as a load balancer needs to
    /// see that.
    #[arg(long, env = "MIXMATCH_DRAIN_DELAY", default_value = "0", value_parser = parse_seconds)]
    drain_delay: Duration,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What a request may bring.
#[derive(Debug, Args)]
struct LimitArgs {
    /// Most bytes of a data set's upload; 64 KiB more are allowed for what a form puts around its fields.
    #[arg(long, env = "MIXMATCH_MAX_UPLOAD", default_value = "2GiB", value_parser = parse_some)]
    max_upload: u64,
    /// Fewest bytes a second that a body must bring, on average over each half minute that the server waits for it; slower
    /// ones are answered with 408. 0 is no limit.
    #[arg(long, env = "MIXMATCH_MIN_UPLOAD_RATE", default_value = "1KiB", value_parser = parse_size)]
    min_upload_rate: u64,
    /// Most bytes of a prediction's body.
    #[arg(long, env = "MIXMATCH_MAX_PREDICT", default_value = "64MiB", value_parser = parse_some)]
    max_predict: u64,
    /// Most images of one prediction.
    #[arg(long, env = "MIXMATCH_MAX_IMAGES", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_images: usize,
    /// Requests a second of one key, and as many at once; more are answered with 429. 0 is no limit.
    #[arg(long, env = "MIXMATCH_RATE_LIMIT", default_value_t = 100)]
    rate_limit: u32,
    #[command(flatten)]
    image: ImageArgs,
    /// Most pixels of all images of one prediction.
    #[arg(long, env = "MIXMATCH_MAX_REQUEST_PIXELS", default_value_t = 200_000_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    max_request_pixels: u64,
    /// Images that may wait for the model; more are answered with 503, but where nothing waits one request always may. One key has half of
    /// them, or one largest request; more are answered with 429.
    #[arg(long, env = "MIXMATCH_PREDICT_QUEUE", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    predict_queue: usize,
    /// Models kept in memory; with more in use, the one not used for longest makes room and is loaded again when it is wanted.
    #[arg(long, env = "MIXMATCH_MODELS_IN_MEMORY", default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_MODELS))]
    models_in_memory: usize,
    /// Seconds until a prediction is answered with 504, from when its images are there; one whose model is not loaded in as long, with 503.
    #[arg(long, env = "MIXMATCH_PREDICT_DEADLINE", default_value_t = 10, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    predict_deadline: u64,
    /// Minutes of silence after which a run is taken for hung.
    #[arg(long, env = "MIXMATCH_RUN_SILENCE", default_value_t = 15, value_parser = RangedU64ValueParser::<u64>::new().range(1..=MINUTES_OF_A_YEAR))]
    run_silence: u64,
    /// Seconds that runs have for the step under way and a checkpoint when the server stops; then they are killed, and go on
    /// from the checkpoint before.
    #[arg(long, env = "MIXMATCH_RUN_GRACE", default_value_t = 20, value_parser = RangedU64ValueParser::<u64>::new().range(..=SECONDS_OF_A_YEAR))]
    run_grace: u64,
    /// Most seconds between two checkpoints of a run; where one takes long to write, they are rarer. 0 writes one after
    /// every step, whatever that costs.
    #[arg(long, env = "MIXMATCH_CHECKPOINT_SECONDS", default_value = "120", value_parser = parse_seconds)]
    checkpoint_seconds: Duration,
}

/// As long as `--run-silence` may be.
const MINUTES_OF_A_YEAR: u64 = 365 * 24 * 60;

/// As long as `--run-grace` may be.
const SECONDS_OF_A_YEAR: u64 = MINUTES_OF_A_YEAR * 60;

/// As many as `--models-in-memory` may be: more than any memory holds, and few enough to reckon with.
const MOST_MODELS: u64 = 1 << 20;

/// What `--audit-days` counts in.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address with a port is needed: 127.0.0.1:8080, 0.0.0.0:8080, [::1]:8080".to_owned())
}

/// Bytes, at least one.
fn parse_some(text: &str) -> Result<u64, String> {
    match parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("nothing could be sent: at least 1 is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("seconds are 0 or more: {error}"))
}

/// A key as it was given. Reading it never fails here: the parser's messages repeat the value, and that is a secret.
#[derive(Clone)]
struct GivenKey(String);

impl From<&str> for GivenKey {
    fn from(text: &str) -> Self {
        // What a file with the line ends of another system, or a secret's file, leaves behind it.
        Self(text.trim_end().to_owned())
    }
}

impl fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl ServeArgs {
    fn resolve(self) -> Result<ServeConfig, ConfigError> {
        let mut config = ServeConfig::new(self.data.data_dir, self.listen);
        config.api_key = self.api_key.map(|key| ApiKey::new(key.0)).transpose()?;
        config.audit_kept = NonZeroU32::new(self.audit_days).map(|days| DAY * days.get());
        config.drain_delay = self.drain_delay;
        config.worker.devices = self.devices.devices;
        config.worker.silence = Duration::from_secs(self.limits.run_silence * 60);
        config.worker.grace = Duration::from_secs(self.limits.run_grace);
        config.worker.checkpoint = self.limits.checkpoint_seconds;
        config.limits.upload_bytes = self.limits.max_upload;
        config.connections.slowest = self.limits.min_upload_rate;
        config.limits.predict_bytes = usize::try_from(self.limits.max_predict).unwrap_or(usize::MAX);
        config.limits.predict_images = self.limits.max_images;
        config.limits.requests_per_second = NonZeroU32::new(self.limits.rate_limit);
        config.limits.image = self.limits.image.limits();
        config.limits.predict_pixels = self.limits.max_request_pixels;
        config.predict.device = self.predict_device;
        config.predict.precision = self.predict_precision;
        config.predict.queue_images = self.limits.predict_queue;
        config.predict.models = self.limits.models_in_memory;
        config.predict.deadline = Duration::from_secs(self.limits.predict_deadline);
        Ok(config)
    }
}

/// Serves until SIGTERM, SIGINT, or SIGHUP where it has a terminal and that is not ignored.
pub async fn run(args: ServeArgs, cuda: CudaStatus) -> anyhow::Result<ExitCode> {
    // Before anything is started: a signal that comes during the start must not be lost.
    let mut signals = Signals::new()?;
    let started = match args.resolve() {
        Ok(mut config) => {
            open_files::make_room(&mut config.connections);
            start(config, cuda, &mut signals).await
        }
        Err(error) => Err(error.into()),
    };
    let server = match started {
        Err(error) if error.is::<ConfigError>() => {
            tell(format_args!("mixmatch: {error}"));
            return Ok(ExitCode::from(2));
        }
        started => started?,
    };
    signals.wait().await;
    stop(server, signals).await;
    Ok(ExitCode::SUCCESS)
}

/// Starts, unless it is asked to stop before it has: it may wait long for another process, or for tables of many rows, and a kill is
/// safe at every moment of that.
async fn start(config: ServeConfig, cuda: CudaStatus, signals: &mut Signals) -> anyhow::Result<Server> {
    if !openmp::is_told() {
        let [(policy, passive), (spins, number)] = openmp::WAITING;
        tracing::warn!(
            "the program could not start itself once more with {policy}={passive} and {spins}={number}: without them libtorch's threads \
             spin while they wait, and beside other processes predictions take many times as long; set them for it"
        );
    }
    tokio::select! {
        started = Server::start(config, cuda) => started,
        () = signals.wait() => {
            tracing::info!("asked to stop before it has started: ending at once");
            leave(0)
        }
    }
}

/// Stops; whoever asks again ends the process at once, or while it still waits for load balancers, that.
async fn stop(server: Server, mut signals: Signals) {
    tokio::select! {
        () = server.wait_to_be_seen() => {}
        () = signals.wait_for_another() => {
            tracing::info!("asked to stop again: not waiting any longer to be seen");
            signals.begin_anew();
        }
    }
    tokio::select! {
        () = server.finish() => {}
        () = signals.wait_for_another() => {
            tracing::warn!("asked to stop again: ending at once, without waiting for checkpoints");
            leave(130)
        }
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the demo's data is kept.
    #[arg(long, env = "MIXMATCH_DATA_DIR", default_value = "demo-data")]
    data_dir: PathBuf,
    /// Where to listen, on this machine alone.
    #[arg(long, env = "MIXMATCH_LISTEN", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    listen: SocketAddr,
    #[command(flatten)]
    devices: DeviceArgs,
    /// End after the predictions instead of serving on.
    #[arg(long, env = "DEMO_EXIT", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    exit: bool,
}

/// A server, and the demo as its first client.
pub async fn demo(args: DemoArgs, cuda: CudaStatus) -> anyhow::Result<ExitCode> {
    if !args.listen.ip().is_loopback() {
        // It serves without a key, and knows none.
        let port = args.listen.port();
        tell(format_args!("mixmatch: the demo listens on this machine alone: --listen 127.0.0.1:{port}"));
        return Ok(ExitCode::from(2));
    }
    let mut signals = Signals::new()?;
    let mut config = ServeConfig::new(args.data_dir, args.listen);
    config.worker.devices = args.devices.devices;
    open_files::make_room(&mut config.connections);
    let server = start(config, cuda, &mut signals).await?;
    let base = format!("http://{}", server.address());
    let outcome = tokio::select! {
        outcome = crate::demo::run(&base, crate::demo::DemoOptions::default()) => Some(outcome),
        () = signals.wait() => None,
    };
    if matches!(outcome, Some(Ok(_))) && !args.exit {
        tell(format_args!("serving on at {base} (Ctrl-C ends it)"));
        signals.wait().await;
    }
    stop(server, signals).await;
    match outcome {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use crate::config::PredictPrecision;
    use clap::Parser;

    #[test]
    fn arguments_become_the_configuration() {
        let line = "mixmatch serve --data-dir d --listen 127.0.0.1:1 --devices cpu,cpu --max-upload 1MiB --run-silence 2 --run-grace 90";
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("serve") };
        let config = args.resolve().unwrap();
        assert_eq!(config.limits.upload_bytes, 1 << 20);
        assert_eq!(config.worker.devices.to_string(), "cpu,cpu");
        assert_eq!((config.worker.silence.as_secs(), config.worker.grace.as_secs()), (120, 90));
        assert_eq!((config.connections.slowest, config.audit_kept), (1024, Some(super::DAY * 400)));
        assert!(config.drain_delay.is_zero());
        assert_eq!(config.predict.precision, PredictPrecision::Auto);
        let line = "mixmatch serve --audit-days 0 --min-upload-rate 0 --drain-delay 2.5 --predict-precision int8";
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("serve") };
        let config = args.resolve().unwrap();
        assert_eq!((config.connections.slowest, config.audit_kept), (0, None));
        assert_eq!(config.drain_delay.as_secs_f64(), 2.5);
        assert_eq!(config.predict.precision, PredictPrecision::Int8);
    }

    #[test]
    fn a_setting_that_nothing_could_run_with_is_refused() {
        for (setting, value) in [
            ("--checkpoint-seconds", "-5"),
            ("--checkpoint-seconds", "nan"),
            ("--run-silence", "0"),
            ("--run-silence", "18446744073709551615"),
            ("--run-grace", "18446744073709551615"),
            ("--predict-deadline", "0"),
            ("--max-images", "0"),
            ("--predict-queue", "0"),
            ("--models-in-memory", "0"),
            ("--models-in-memory", "9223372036854775808"),
            ("--max-upload", "0"),
            ("--max-predict", "0"),
            ("--max-upload", "18446744073709551615"),
            ("--max-predict", "18446744073709551615"),
            ("--min-upload-rate", "18446744073709551615"),
            ("--max-pixels", "0"),
            ("--max-request-pixels", "0"),
        ] {
            let given = format!("{setting}={value}");
            let refused = Cli::try_parse_from(["mixmatch", "serve", &given]).unwrap_err().to_string();
            assert!(refused.contains(setting) && refused.contains(value), "{given}: {refused}");
        }
        let Command::Serve(args) =
            Cli::try_parse_from(["mixmatch", "serve", "--checkpoint-seconds=0"]).unwrap().command
        else {
            panic!("serve")
        };
        assert!(args.resolve().unwrap().worker.checkpoint.is_zero());
    }

    #[test]
    fn a_key_that_is_refused_is_not_repeated() {
        let with = |key: &str| {
            let Command::Serve(args) = Cli::try_parse_from(["mixmatch", "serve", "--api-key", key]).unwrap().command
            else {
                panic!("serve")
            };
            let shown = format!("{args:?}");
            assert!(!shown.contains(key.trim_end()), "{shown}");
            args.resolve()
        };
        for key in ["correct horse battery staple", "short", "sk\u{fc}-long-enough"] {
            let refused = with(key).unwrap_err().to_string();
            assert!(refused.contains("--api-key") && !refused.contains(key), "{refused}");
        }
        // As a file with the line ends of another system gives it.
        assert!(with("correct-horse-battery\r").unwrap().api_key.unwrap().matches(b"correct-horse-battery"));
    }
}
