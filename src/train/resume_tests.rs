//! Runs that are stopped in the middle of epochs, again and again, and end with the very bits of one that was left
//! alone.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::checkpoint::{CheckpointError, CheckpointPlan, Checkpoints, Snapshot};
use super::config::{AlgorithmName, TrainConfig};
use super::event::{EpochMetrics, Event, LogLevel, Phase, StepProgress};
use super::preset;
use super::setting::Setting;
use super::{RunInput, TrainError, run};
use crate::dataset::{ImportLimits, ImportRequest, import};
use crate::model::{ModelManifest, TrainingFacts};
use crate::nn::{self, Weights};

const EPOCHS: u32 = 3;
const STEPS: u32 = 7;

/// Dark and bright noise: 60 pictures, the first 40 of them with a label.
pub(super) fn data_set(directory: &Path) -> PathBuf {
    let archive = directory.join("images.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
    let mut sheet = "image,label\n".to_owned();
    for number in 0..60u32 {
        let bright = number % 2 == 0;
        let pixel = |x: u32, y: u32| {
            let value = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729) ^ number.wrapping_mul(2_654_435_761)) >> 3;
            let level = |shift: u32| (value >> shift) as u8 / 3 + if bright { 150 } else { 0 };
            image::Rgb([level(0), level(8), level(16)])
        };
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_fn(32, 32, pixel).write_to(&mut png, image::ImageFormat::Png).unwrap();
        zip.start_file(format!("{number}.png"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(png.get_ref()).unwrap();
        let label = match number {
            40.. => "",
            _ if bright => "bright",
            _ => "dark",
        };
        sheet.push_str(&format!("{number}.png,{label}\n"));
    }
    zip.finish().unwrap();
    let train = directory.join("train.csv");
    std::fs::write(&train, sheet).unwrap();
    let request = ImportRequest { task: "light".to_owned(), images: archive, train, ..ImportRequest::default() };
    let target = directory.join("dataset");
    import(&request, &ImportLimits::default(), &target, &|_| {}).unwrap();
    target
}

/// The preset whose guesses are aligned and anchored, as small as it gets.
pub(super) fn anchored() -> TrainConfig {
    TrainConfig {
        network: "wrn-10-1".to_owned(),
        size: 16,
        batch: 6,
        epochs: EPOCHS,
        steps_per_epoch: STEPS,
        ..preset::quick()
    }
}

/// What a run of `config` over the data set in `dataset` begins with.
pub(super) fn prepared<'a>(dataset: &'a Path, config: &'a TrainConfig) -> Setting<'a> {
    let input = RunInput {
        dataset_dir: dataset,
        run_dir: dataset,
        config,
        device: Device::Cpu,
        pretrained: None,
        checkpoints: None,
    };
    Setting::prepare(input, &|| false, &mut |_| {}).unwrap()
}

/// Has a network of two classes answer this one, whatever it is shown, by a bias of `by` for it and against the other.
pub(super) fn lean(weights: &Weights, class: usize, by: f32) {
    let head = weights.head();
    let mut bias = [-by; 2];
    bias[class] = by;
    // The head's bias is the end of it.
    weights.flat().narrow(0, head.start + head.length - 2, 2).copy_(&Tensor::from_slice(&bias));
}

/// One job's directories, and what its attempts said.
struct Job<'a> {
    dataset: &'a Path,
    config: &'a TrainConfig,
    directory: tempfile::TempDir,
    every: Duration,
    rows: Vec<EpochMetrics>,
    log: Vec<String>,
    /// After which step each attempt began to train, and whether from a checkpoint.
    starts: Vec<(u64, bool)>,
    pretraining: Vec<StepProgress>,
    /// After which steps a checkpoint was announced.
    kept: Vec<u64>,
}

impl<'a> Job<'a> {
    fn new(dataset: &'a Path, config: &'a TrainConfig) -> Self {
        let (directory, every) = (tempfile::tempdir().unwrap(), Duration::from_secs(3600));
        let (rows, log, starts, pretraining, kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { dataset, config, directory, every, rows, log, starts, pretraining, kept }
    }

    fn checkpoints(&self) -> PathBuf {
        self.directory.path().join("checkpoints")
    }

    /// One attempt, which is asked to stop when it asks for the `stop`th time in training: before a step or while it evaluates.
    fn attempt(&mut self, stop: Option<u32>) -> Result<(), TrainError> {
        let run_dir = self.directory.path().join("run");
        std::fs::create_dir_all(&run_dir).unwrap();
        let checkpoints = self.checkpoints();
        // The first question is put before training.
        let asked = Cell::new(0);
        let over = Cell::new(false);
        let stop = || !over.get() && asked.replace(asked.get() + 1) == stop.map_or(u32::MAX, |stop| stop + 1);
        let input = RunInput {
            dataset_dir: self.dataset,
            run_dir: &run_dir,
            config: self.config,
            device: Device::Cpu,
            pretrained: None,
            checkpoints: Some(CheckpointPlan { directory: &checkpoints, every: self.every }),
        };
        let (rows, log, starts) = (&mut self.rows, &mut self.log, &mut self.starts);
        let (pretraining, kept) = (&mut self.pretraining, &mut self.kept);
        run(input, &stop, &mut |event| match event {
            Event::Phase { phase: Phase::Evaluating } => over.set(true),
            Event::Start { step, epoch, restored } => {
                starts.push((step, restored));
                rows.retain(|row| row.epoch <= epoch);
            }
            Event::Epoch(row) => {
                // What a store does with a row that it has: it takes the newer one.
                rows.retain(|old| old.epoch != row.epoch);
                rows.push(row);
            }
            Event::Log { level, message } => log.push(format!("{}: {message}", level.as_str())),
            Event::Pretraining(progress) => pretraining.push(progress),
            Event::Checkpoint { step } => kept.push(step),
            _ => {}
        })
    }

    /// What the model says of how it was trained.
    fn facts(&self) -> TrainingFacts {
        let path = self.directory.path().join("run/model/model.json");
        ModelManifest::read(&path).unwrap().training.unwrap()
    }

    /// All that can be compared: the rows but for the clock, the published weights, and the last state.
    fn outcome(&self) -> (Vec<EpochMetrics>, Vec<u8>, String) {
        let rows = self.rows.iter().map(|row| EpochMetrics { seconds: 0.0, images_per_second: 0.0, ..row.clone() });
        let weights = std::fs::read(self.directory.path().join("run/model/weights.safetensors")).unwrap();
        (rows.collect(), weights, last_state(&self.checkpoints()))
    }
}

/// Every fact but the clock's and the hash of every tensor's bits in the newest checkpoint.
fn last_state(directory: &Path) -> String {
    let mut checkpoints = Checkpoints::open(CheckpointPlan { directory, every: Duration::ZERO }).unwrap();
    let describe = |snapshot: &Snapshot| Ok::<_, CheckpointError>(snapshot.describe());
    checkpoints.newest(describe, |error| panic!("{error}")).unwrap().unwrap()
}

fn undisturbed(dataset: &Path, config: &TrainConfig) -> (Vec<EpochMetrics>, Vec<u8>, String) {
    let mut job = Job::new(dataset, config);
    job.attempt(None).unwrap();
    job.outcome()
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let plain = TrainConfig { epochs: EPOCHS, ..preset::plain() };
    let configs = [
        anchored(),
        TrainConfig { algorithm: AlgorithmName::Supervised, class_balanced: true, ..anchored() },
        TrainConfig {
            lambda_u: 1.0,
            k: 2,
            bn_momentum: 0.1,
            preset: plain.preset.clone(),
            warmup: 0.0,
            align: false,
            anchor: false,
            ..anchored()
        },
    ];
    for config in configs {
        let whole = undisturbed(&dataset, &config);
        assert_eq!(whole.0.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 3]);

        let mut job = Job::new(&dataset, &config);
        // In the middle of the first epoch; at once again; in the last part of its evaluation; twice in the second.
        for stop in [4, 0, 5, STEPS - 2, 3] {
            assert!(matches!(job.attempt(Some(stop)), Err(TrainError::Stopped)));
        }
        job.attempt(None).unwrap();
        let broken = job.outcome();
        assert_eq!(broken.0, whole.0, "{:?}: metrics", config.algorithm);
        assert_eq!(broken.2, whole.2, "{:?}: the last state", config.algorithm);
        assert!(broken.1 == whole.1, "{:?}: the weights differ", config.algorithm);
        let resumed = job.log.iter().filter(|line| line.contains("goes on from the checkpoint")).count();
        assert_eq!(resumed, 5, "{:#?}", job.log);
        // Of an epoch that was stopped while it was evaluated no step is made again.
        let started = [(0, false), (4, true), (4, true), (7, true), (9, true), (12, true)];
        assert_eq!(job.starts, started, "{:?}", config.algorithm);
    }
}

#[test]
fn a_run_that_is_stopped_while_it_pretrains_ends_with_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { pretrain_epochs: 6, ..anchored() };
    let whole = undisturbed(&dataset, &config);
    let mut job = Job::new(&dataset, &config);
    // Twice in pretraining, of one step an epoch with so few images; at once after it; and in the first epoch.
    for stop in [2, 3, 1, 3] {
        assert!(matches!(job.attempt(Some(stop)), Err(TrainError::Stopped)));
    }
    assert!(!job.checkpoints().join("pretraining").exists(), "the run's own checkpoints hold what came of it");
    job.attempt(None).unwrap();
    assert!(job.outcome() == whole);
    let told = |what: &str| job.log.iter().filter(|line| line.contains(what)).count();
    assert_eq!((told("pretraining goes on after step 2 of 6"), told("pretraining goes on after step 5 of 6")), (1, 1));
    assert_eq!((told("pretraining, epoch 6 of 6: contrastive loss"), told("goes on from the checkpoint")), (1, 2));
    // The last step is always told.
    let last = job.pretraining.last().unwrap();
    assert_eq!((last.epoch, last.epochs, last.step, last.steps, last.eta_seconds), (6, 6, 6, 6, 0.0));
    assert!(last.loss > 0.0 && last.images_per_second > 0.0, "{last:?}");
    assert_eq!(job.starts, [(0, false), (0, true), (3, true)], "what pretraining left is a checkpoint after no step");

    let plain = undisturbed(&dataset, &anchored());
    assert!(plain.1 != whole.1, "it made no difference");
    let supervised = TrainConfig { algorithm: AlgorithmName::Supervised, ..config.clone() };
    assert!(
        undisturbed(&dataset, &supervised).1 != undisturbed(&dataset, &config.baseline()).1,
        "it made no difference"
    );
}

#[test]
fn of_fewer_images_than_a_step_of_pretraining_may_hold_each_is_in_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let trained = |pretrain_batch| {
        let config = TrainConfig { pretrain_epochs: 2, pretrain_batch, epochs: 1, ..anchored() };
        let mut job = Job::new(&dataset, &config);
        job.attempt(None).unwrap();
        (job.facts().pretraining_images.unwrap(), job.outcome().1)
    };
    let (images, of_more) = trained(256);
    assert!((20..60).contains(&images), "{images}");
    let (_, of_all) = trained(images as u32);
    assert!(of_all == of_more, "a step for 256 images took some of the {images} several times");
}

#[test]
fn what_pretraining_left_is_forgotten_once_the_runs_own_checkpoint_is_written_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { pretrain_epochs: 6, epochs: 1, ..anchored() };
    let whole = undisturbed(&dataset, &config);
    let mut job = Job::new(&dataset, &config);
    assert!(matches!(job.attempt(Some(2)), Err(TrainError::Stopped)));
    // A directory is in the way of the run's first checkpoint; the run is stopped before its first step.
    let in_the_way = job.checkpoints().join("step-000000000000.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(job.attempt(Some(4)), Err(TrainError::Stopped)));
    assert_eq!(job.starts, [(0, false)], "{:#?}", job.log);
    assert!(job.checkpoints().join("pretraining").is_dir(), "all there was to go on from is gone");
    let told = job.log.iter().filter(|line| line.contains("would start again from the one before")).count();
    assert_eq!(told, 1, "{:#?}", job.log);
    std::fs::remove_dir(&in_the_way).unwrap();
    job.attempt(None).unwrap();
    let resumed = job.log.iter().filter(|line| line.contains("pretraining goes on after step 2 of 6")).count();
    assert_eq!(resumed, 2, "{:#?}", job.log);
    assert!(!job.checkpoints().join("pretraining").exists());
    assert!(job.outcome() == whole);
}

#[test]
fn a_run_that_is_stopped_before_its_first_step_has_no_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { epochs: 1, ..anchored() };
    let whole = undisturbed(&dataset, &config);
    let mut job = Job::new(&dataset, &config);
    assert!(matches!(job.attempt(Some(0)), Err(TrainError::Stopped)));
    assert_eq!((job.starts.as_slice(), job.kept.len()), ([(0, false)].as_slice(), 0));
    job.attempt(None).unwrap();
    assert!(job.outcome() == whole);
    assert_eq!(job.kept, [u64::from(STEPS)]);
}

/// Writes the newest checkpoint in `directory` as `change` would have it.
fn change_newest(directory: &Path, change: impl Fn(&Snapshot) -> Snapshot) {
    let open = || Checkpoints::open(CheckpointPlan { directory, every: Duration::ZERO }).unwrap();
    let changed = |snapshot: &Snapshot| {
        let step: u64 = snapshot.get("steps").or_else(|_| snapshot.get("pretraining.steps"))?;
        Ok::<_, CheckpointError>((step, change(snapshot)))
    };
    let (step, changed) = open().newest(changed, |error| panic!("{error}")).unwrap().unwrap();
    open().save(step, || Ok(changed)).unwrap();
}

/// Has the newest checkpoint in `directory` say that all before it was computed on a GPU.
fn move_to_a_gpu(directory: &Path) {
    change_newest(directory, |snapshot| snapshot.with("computed_on", &["bf16 on cuda:0"]));
}

#[test]
fn a_model_tells_of_all_that_its_run_was_computed_on() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let pretraining = TrainConfig { pretrain_epochs: 6, ..anchored() };
    for (config, place) in [(anchored(), "checkpoints"), (pretraining, "checkpoints/pretraining")] {
        let mut job = Job::new(&dataset, &config);
        assert!(job.attempt(Some(4)).is_err());
        move_to_a_gpu(&job.directory.path().join(place));
        assert!(job.attempt(Some(1)).is_err());
        job.attempt(None).unwrap();
        let facts = job.facts();
        let here = format!("{} on cpu", facts.precision);
        assert_eq!((facts.computed_on, facts.device), (vec!["bf16 on cuda:0".to_owned(), here], "cpu".to_owned()));
        // The best epoch out of a checkpoint.
        let told = job.facts().computed_on;
        std::fs::remove_dir_all(job.directory.path().join("run")).unwrap();
        job.attempt(None).unwrap();
        assert_eq!(job.facts().computed_on, told, "{place}");
    }
    let config = anchored();
    let mut job = Job::new(&dataset, &config);
    job.attempt(None).unwrap();
    assert_eq!(job.facts().computed_on.len(), 1);
}

/// DESIGN §4.4 h: the averaged weights are what is judged and published.
#[test]
fn what_is_published_is_the_average_of_the_weights() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { epochs: 1, ema_decay: 0.9, ..anchored() };
    let mut job = Job::new(&dataset, &config);
    job.attempt(None).unwrap();
    let network = nn::build(&config.network, config.head, 2, Kind::Float).unwrap();
    let published = job.directory.path().join("run/model/weights.safetensors");
    let published = nn::file::load(network.as_ref(), &published, Device::Cpu).unwrap();
    let checkpoints = job.checkpoints();
    let mut checkpoints = Checkpoints::open(CheckpointPlan { directory: &checkpoints, every: Duration::ZERO }).unwrap();
    let off = |snapshot: &Snapshot| {
        let of = |name: &str| (snapshot.tensor(name).unwrap() - published.flat()).abs().max().double_value(&[]);
        let statistics = snapshot.tensor("average.statistics").unwrap();
        Ok::<_, CheckpointError>((of("average.flat"), of("weights.flat"), statistics == published.statistics()))
    };
    let (average, raw, statistics) = checkpoints.newest(off, |error| panic!("{error}")).unwrap().unwrap();
    assert!(average == 0.0 && raw > 1e-4, "{average} from the average, {raw} from the raw weights");
    assert!(statistics, "BatchNorm's statistics are not those of the average");
}

#[test]
fn a_run_that_has_ended_can_be_asked_again_for_its_model() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = anchored();
    let mut job = Job::new(&dataset, &config);
    job.attempt(None).unwrap();
    let whole = job.outcome();
    std::fs::remove_dir_all(job.directory.path().join("run")).unwrap();
    // Not a single step is asked for: the first question about stopping in training would stop it.
    job.attempt(Some(0)).unwrap();
    assert!(job.outcome() == whole);
}

#[test]
fn a_damaged_checkpoint_costs_the_steps_since_the_one_before_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = anchored();
    let whole = undisturbed(&dataset, &config);
    let mut job = Job::new(&dataset, &config);
    for stop in [4, 9] {
        assert!(job.attempt(Some(stop)).is_err());
    }
    let newest = job.checkpoints().join("step-000000000010.checkpoint");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    job.attempt(None).unwrap();
    assert!(job.outcome() == whole);
    let told = |what: &str| job.log.iter().any(|line| line.starts_with("warn") && line.contains(what));
    assert!(told("step-000000000010.checkpoint is damaged"), "{:#?}", job.log);
    assert!(job.log.iter().any(|line| line.contains("after step 4,")), "{:#?}", job.log);
}

#[test]
fn a_state_of_another_configuration_or_of_other_data_is_not_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let (config, other) = (anchored(), TrainConfig { seed: 5, ..anchored() });
    let mut job = Job::new(&dataset, &config);
    assert!(job.attempt(Some(4)).is_err());
    job.config = &other;
    job.attempt(None).unwrap();
    assert!(job.log.iter().any(|line| line.contains("another configuration")), "{:#?}", job.log);
    assert!(job.log.iter().any(|line| line.contains("begins anew")), "{:#?}", job.log);
    assert!(job.outcome() == undisturbed(&dataset, &other));

    // The same configuration over pictures that were imported anew meanwhile.
    let mut job = Job::new(&dataset, &config);
    assert!(job.attempt(Some(4)).is_err());
    change_newest(&job.checkpoints(), |snapshot| snapshot.with("dataset_hash", &"of other pictures"));
    job.attempt(None).unwrap();
    let told = "warn: the checkpoint does not fit this run: it was made with other data; it is set aside";
    assert!(job.log.iter().any(|line| line == told), "{:#?}", job.log);
    assert_eq!(job.starts, [(0, false), (0, false)]);
    assert!(job.outcome() == undisturbed(&dataset, &config));
}

#[test]
fn a_run_whose_best_epoch_answers_one_class_alone_publishes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { epochs: 1, validation: 0.6, ..anchored() };
    let mut job = Job::new(&dataset, &config);
    // Whatever it answers after a single epoch, its last state is kept.
    let _ = job.attempt(None);
    change_newest(&job.checkpoints(), |snapshot| {
        snapshot.with_tensor("best.answers", &snapshot.tensor("best.answers").unwrap().zeros_like())
    });
    std::fs::remove_dir_all(job.directory.path().join("run")).unwrap();
    let refused = job.attempt(None).unwrap_err();
    assert_eq!(refused.code(), "collapsed");
    let told = refused.to_string();
    assert!(told.contains("\"dark\" for 0 % of the validation images, where 50 % are of it"), "{told}");
    assert!(!job.directory.path().join("run/model").exists());
}

#[test]
fn a_state_whose_loss_is_no_number_is_not_kept_to_go_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let (dataset, config) = (data_set(directory.path()), anchored());
    drop(prepared(&dataset, &config));
    let mut job = Job::new(&dataset, &config);
    assert!(matches!(job.attempt(Some(4)), Err(TrainError::Stopped)));
    change_newest(&job.checkpoints(), |snapshot| {
        snapshot.with_tensor("weights.flat", &(snapshot.tensor("weights.flat").unwrap() * f64::NAN))
    });
    // Stopped after one step with such weights.
    let failed = job.attempt(Some(1)).unwrap_err();
    assert_eq!((failed.code(), job.kept.as_slice()), ("diverged", [4].as_slice()), "{failed}");
}

#[test]
fn without_a_place_for_checkpoints_a_run_says_so_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { epochs: 1, ..anchored() };
    let mut job = Job::new(&dataset, &config);
    std::fs::write(job.checkpoints(), b"a file is in the way").unwrap();
    job.attempt(None).unwrap();
    let warned = job.log.iter().filter(|line| line.starts_with(LogLevel::Warn.as_str()));
    assert_eq!(warned.filter(|line| line.contains("without checkpoints")).count(), 1, "{:#?}", job.log);
}

#[test]
fn where_the_checkpoints_cannot_be_read_the_run_does_not_begin_anew() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = anchored();
    let whole = undisturbed(&dataset, &config);
    let mut job = Job::new(&dataset, &config);
    assert!(job.attempt(Some(12)).is_err());
    // A directory that cannot be looked into: its name leads round in a circle.
    let (place, aside) = (job.checkpoints(), job.checkpoints().with_extension("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::os::unix::fs::symlink(&place, &place).unwrap();
    let refused = job.attempt(None).unwrap_err();
    assert!(matches!(refused, TrainError::Resume(_)), "{refused}");
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    job.attempt(None).unwrap();
    assert!(job.outcome() == whole);
}
