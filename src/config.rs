//! Every setting of the service: one struct for each concern, composed once from the command line
//! (`cli.rs`). What else is read from the environment is listed in ARCHITECTURE.md. Secrets never show in a log.

use std::fmt;
use std::net::SocketAddr;
use std::num::{IntErrorKind, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::data_dir::DataDir;
use crate::imaging::DecodeLimits;
use crate::store::KeyRow;
use crate::worker::{ChildCommand, Device, DeviceChoice};

/// The largest size that can be set, 1 PiB: more than any machine holds, and little enough to be added up.
const MOST_BYTES: u64 = 1 << 50;

/// A bearer key. It compares in constant time and prints as `[redacted]`.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key of at least 8 visible ASCII characters.
    ///
    /// # Errors
    /// A sentence about what a key must be.
    pub fn new(key: impl Into<String>) -> Result<Self, ConfigError> {
        let key = key.into();
        if key.len() < 8 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::WeakKey);
        }
        Ok(Self(key))
    }

    /// True for the right key; takes the same time whichever character is wrong.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What one request may bring.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Bytes of a `POST /datasets`, all of the form together; what it puts around its fields may be 64 KiB more.
    pub upload_bytes: u64,
    /// Bytes of a `POST /predict`.
    pub predict_bytes: usize,
    /// Bytes of all `POST /predict` that are under way together; more is a 503. One key has half of them (429), or one largest body.
    pub predict_memory: usize,
    /// Images of a `POST /predict`.
    pub predict_images: usize,
    /// Pixels of a `POST /predict`, all its images together, as they declare them.
    pub predict_pixels: u64,
    /// Bytes of any other body.
    pub body_bytes: usize,
    /// Requests a second of one key, and as many at once; `None` is no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// What an image may be.
    pub image: DecodeLimits,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            upload_bytes: 2 << 30,
            predict_bytes: 64 << 20,
            predict_memory: 512 << 20,
            predict_images: 64,
            predict_pixels: 200_000_000,
            body_bytes: 1 << 20,
            requests_per_second: NonZeroU32::new(100),
            image: DecodeLimits::default(),
        }
    }
}

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionsConfig {
    /// Connections at once; more wait to be accepted. `serve` takes fewer where few files may be open.
    pub most: usize,
    /// How long the head of a request may take to arrive, and how long an idle connection is kept.
    pub head: Duration,
    /// A body that does not go on arriving for so long is given up, and so is an answer of which nothing is taken for so long.
    pub stall: Duration,
    /// Bytes a second that a body must bring on average over each `pace_window`; zero is no limit.
    pub slowest: u64,
    /// Over how long a body's rate is taken, counting only what the server waits for it.
    pub pace_window: Duration,
    /// How long the body of a `POST /predict` may take in all.
    pub predict_body: Duration,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            most: 1024,
            head: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            slowest: 1 << 10,
            pace_window: Duration::from_secs(30),
            predict_body: Duration::from_secs(60),
        }
    }
}

/// What `--predict-device` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PredictDevice {
    /// The first GPU; without one, the processor.
    #[default]
    Auto,
    /// This one.
    On(Device),
}

impl FromStr for PredictDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            device => device.parse().map(Self::On).map_err(|error: String| format!("{error}; or auto")),
        }
    }
}

impl PredictDevice {
    /// The device, where `gpus` are usable.
    ///
    /// # Errors
    /// A sentence that says how many there are.
    pub fn settle(self, gpus: u32) -> Result<Device, String> {
        match self {
            Self::Auto if gpus > 0 => Ok(Device::Cuda(0)),
            Self::Auto => Ok(Device::Cpu),
            Self::On(device) => device.among(gpus),
        }
    }
}

/// What `--predict-precision` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PredictPrecision {
    /// What the device is fast at among the formats that training has, bf16 or float32.
    #[default]
    Auto,
    /// int8 on a processor, for models that were measured to answer nearly the same in it.
    Int8,
}

impl FromStr for PredictPrecision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "int8" => Ok(Self::Int8),
            other => Err(format!("{other:?} is none; write auto or int8")),
        }
    }
}

/// How predictions are served.
#[derive(Debug, Clone)]
pub struct PredictConfig {
    /// Where models compute.
    pub device: PredictDevice,
    /// In which number format.
    pub precision: PredictPrecision,
    /// Images that may wait for the model; more is a 503. One key has half of them (429), or one largest request.
    pub queue_images: usize,
    /// How long a request may take once its images are there; longer is a 504.
    pub deadline: Duration,
    /// Images in one forward pass.
    pub max_batch: usize,
    /// Models in memory.
    pub models: usize,
}

impl Default for PredictConfig {
    fn default() -> Self {
        Self {
            device: PredictDevice::Auto,
            precision: PredictPrecision::Auto,
            queue_images: 256,
            deadline: Duration::from_secs(10),
            max_batch: 32,
            models: 8,
        }
    }
}

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The slots.
    pub devices: DeviceChoice,
    /// What is started for a run; `None` is this binary's own `work`.
    pub child: Option<ChildCommand>,
    /// Between two renewals of a lease.
    pub heartbeat: Duration,
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// Between asking a child to stop and killing it; one that is asked to pause has as long as it may be silent.
    pub grace: Duration,
    /// A run that says nothing for so long is taken for hung.
    pub silence: Duration,
    /// At most so long between two checkpoints of a run, if it can be had for a fiftieth of its time. Zero: one after
    /// every step, at any price.
    pub checkpoint: Duration,
    /// How long collected events wait for company before they are written.
    pub flush: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            devices: DeviceChoice::Auto,
            child: None,
            heartbeat: Duration::from_secs(10),
            lease: Duration::from_secs(60),
            // Long enough for the step under way and a checkpoint.
            grace: Duration::from_secs(20),
            silence: Duration::from_secs(15 * 60),
            checkpoint: Duration::from_secs(120),
            flush: Duration::from_millis(250),
        }
    }
}

/// Everything `mixmatch serve` needs to know.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where everything is kept.
    pub data_dir: DataDir,
    /// Where to listen.
    pub listen: SocketAddr,
    /// A key of scope admin beside those in the data directory. A loopback server without any key is open.
    pub api_key: Option<ApiKey>,
    /// What a connection may cost.
    pub connections: ConnectionsConfig,
    /// What a request may bring.
    pub limits: LimitsConfig,
    /// How predictions are served.
    pub predict: PredictConfig,
    /// How jobs are run.
    pub worker: WorkerConfig,
    /// How long rows of the audit are kept; `None` is for ever.
    pub audit_kept: Option<Duration>,
    /// How long an ordinary request may take.
    pub request_timeout: Duration,
    /// How long the server goes on taking requests when it is asked to stop, no longer ready: until load balancers have seen that.
    pub drain_delay: Duration,
    /// How long connections may take to finish when the server stops.
    pub drain: Duration,
}

impl ServeConfig {
    /// The defaults around a data directory and an address.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data_dir: DataDir::new(data_dir),
            listen,
            api_key: None,
            connections: ConnectionsConfig::default(),
            limits: LimitsConfig::default(),
            predict: PredictConfig::default(),
            worker: WorkerConfig::default(),
            audit_kept: Some(Duration::from_secs(400 * 24 * 60 * 60)),
            request_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(20),
        }
    }

    /// Refuses what must not be served; `keys` are all of the data directory.
    ///
    /// # Errors
    /// An address beyond this machine without a key that opens anything.
    pub fn check(&self, keys: &[KeyRow]) -> Result<(), ConfigError> {
        if self.api_key.is_some() || self.listen.ip().is_loopback() || keys.iter().any(KeyRow::is_live) {
            return Ok(());
        }
        Err(ConfigError::OpenToAll {
            listen: self.listen,
            lack: lack_of(keys),
            data_dir: self.data_dir.root().to_owned(),
        })
    }
}

/// What is said of keys none of which opens anything.
fn lack_of(keys: &[KeyRow]) -> String {
    let ends = keys.iter().filter_map(|key| Some((key.ended_at()?, key)));
    match ends.max_by_key(|(end, _)| *end) {
        Some((end, last)) => {
            format!("no API key opens it any more: the last, {} ({}), ended {end:.0}", last.name, last.prefix)
        }
        None => "there is no API key".to_owned(),
    }
}

/// Why a configuration is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Everybody on the network could train and delete.
    #[error(
        "{listen} can be reached from other machines and {lack}; make one with \
         `mixmatch keys create --scope admin --name NAME --data-dir {}`, or set MIXMATCH_API_KEY, or listen on 127.0.0.1",
        data_dir.display()
    )]
    OpenToAll {
        /// The address.
        listen: SocketAddr,
        /// That there is no key, or which ended last.
        lack: String,
        /// Where keys would be.
        data_dir: PathBuf,
    },
    /// A key that is guessed at once or does not fit into a header.
    #[error(
        "--api-key (MIXMATCH_API_KEY): a key needs at least 8 characters, letters, digits and punctuation only, no spaces"
    )]
    WeakKey,
    /// A size that is no size.
    #[error("{text:?} is no size; write bytes, or 64MiB, or 2GiB")]
    Size {
        /// What was written.
        text: String,
    },
    /// A size that nobody can mean.
    #[error("{text:?} is more than any machine holds; write {}GiB at most", MOST_BYTES >> 30)]
    Vast {
        /// What was written.
        text: String,
    },
}

/// Reads `64MiB`, `2GiB`, `1000`.
///
/// # Errors
/// Anything else, and what is more than any machine holds.
pub fn parse_size(text: &str) -> Result<u64, ConfigError> {
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match trimmed[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(ConfigError::Size { text: text.to_owned() }),
    };
    let bytes = match digits.parse::<u64>() {
        Ok(number) => number.saturating_mul(factor),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => u64::MAX,
        Err(_) => return Err(ConfigError::Size { text: text.to_owned() }),
    };
    if bytes > MOST_BYTES { Err(ConfigError::Vast { text: text.to_owned() }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_in_int8_where_that_is_said() {
        assert_eq!(" int8 ".parse(), Ok(PredictPrecision::Int8));
        assert_eq!("auto".parse(), Ok(PredictPrecision::Auto));
        let refused = "bf16".parse::<PredictPrecision>().unwrap_err();
        assert_eq!(refused, "\"bf16\" is none; write auto or int8");
    }

    #[test]
    fn predictions_go_to_the_first_gpu_or_where_they_are_told_to() {
        let settle = |text: &str, gpus| text.parse::<PredictDevice>().and_then(|device| device.settle(gpus));
        assert_eq!((settle("auto", 2), settle("auto", 0)), (Ok(Device::Cuda(0)), Ok(Device::Cpu)));
        assert_eq!((settle("cpu", 2), settle("cuda:1", 2)), (Ok(Device::Cpu), Ok(Device::Cuda(1))));
        assert!(settle("cuda:1", 1).unwrap_err().ends_with("is 1"));
        assert!(settle("gpu", 1).unwrap_err().contains("or auto"));
    }

    #[test]
    fn beyond_loopback_a_key_is_needed() {
        let day = jiff::SignedDuration::from_hours(24);
        let key = |name: &str, days: i32| KeyRow {
            id: uuid::Uuid::now_v7(),
            name: name.to_owned(),
            prefix: "x05sn8wQ".to_owned(),
            sha256: "ab".repeat(32),
            scope: crate::keys::Scope::Admin,
            created_at: jiff::Timestamp::now() - day * 900,
            expires_at: Some(jiff::Timestamp::now() + day * days),
            revoked_at: None,
        };
        let mut config = ServeConfig::new("data", "0.0.0.0:8080".parse().unwrap());
        let refusal = config.check(&[]).unwrap_err().to_string();
        assert!(refusal.contains("and there is no API key; make one"), "{refusal}");
        for way in ["mixmatch keys create", "--data-dir data", "MIXMATCH_API_KEY", "127.0.0.1"] {
            assert!(refusal.contains(way), "{refusal}");
        }
        let revoked = KeyRow { revoked_at: Some(jiff::Timestamp::now() - day * 9), ..key("c", 9) };
        let ended = [key("a", -2), key("b", -1), revoked];
        let refusal = config.check(&ended).unwrap_err().to_string();
        let last = format!("the last, b (x05sn8wQ), ended {:.0}; make one", ended[1].expires_at.unwrap());
        assert!(refusal.contains(&last) && !refusal.contains("there is no API key"), "{refusal}");
        assert_eq!(config.check(&[key("a", -2), key("d", 1)]), Ok(()));
        config.api_key = Some(ApiKey::new("a-long-enough-key").unwrap());
        assert_eq!(config.check(&[]), Ok(()));
        assert_eq!(ServeConfig::new("data", "[::1]:8080".parse().unwrap()).check(&[]), Ok(()));
    }

    #[test]
    fn a_key_never_prints() {
        let mut config = ServeConfig::new("data", "127.0.0.1:0".parse().unwrap());
        config.api_key = Some(ApiKey::new("hunter2-hunter2").unwrap());
        let printed = format!("{config:?}");
        assert!(printed.contains("[redacted]") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_key_matches_itself_only() {
        let key = ApiKey::new("hunter2-hunter2").unwrap();
        assert!(key.matches(b"hunter2-hunter2"));
        assert!(!key.matches(b"hunter2-hunter3") && !key.matches(b"") && !key.matches(b"hunter2"));
        assert!(ApiKey::new("short").is_err() && ApiKey::new("with a space in it").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1000"), Ok(1000));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("2 g"), Ok(2 << 30));
        assert_eq!(parse_size("1048576GiB"), Ok(MOST_BYTES));
        for text in ["many", "", "-1", "1.5GiB", "GiB"] {
            assert_eq!(parse_size(text), Err(ConfigError::Size { text: text.to_owned() }));
        }
        // The sum of two of the largest would be small again.
        for text in ["18446744073709551615", "18446744073709551616", "9999999999999g", "1048577GiB"] {
            let refused = parse_size(text).unwrap_err();
            assert_eq!(refused, ConfigError::Vast { text: text.to_owned() });
            assert!(refused.to_string().ends_with("write 1048576GiB at most"), "{refused}");
        }
    }
}
