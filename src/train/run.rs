//! A run from beginning to end: pack, split, train, choose, test, export.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use tch::Device;

use super::calibration;
use super::checkpoint::CheckpointPlan;
use super::config::TrainConfig;
use super::course::Best;
use super::epochs::{Trained, train};
use super::error::{TrainError, against_collapse};
use super::evaluate::Evaluation;
use super::event::{Event, Phase, TestMetrics};
use super::export::export;
use super::int8;
use super::metrics::{Collapse, Confusion};
use super::predictions::predict_all;
use super::retest::Told;
use super::room::write_when_there_is_room;
use super::setting::{Setting, info, sizes, warn};
use crate::model::predictions::{self, Prediction};
use crate::model::{FORMAT_VERSION, ModelManifest, PREDICTIONS_FILE, TrainingFacts};
use crate::nn::device;

/// What a run needs to know.
#[derive(Clone, Copy, Debug)]
pub struct RunInput<'a> {
    /// The imported data set's directory.
    pub dataset_dir: &'a Path,
    /// A directory of the run's own.
    pub run_dir: &'a Path,
    /// The resolved configuration.
    pub config: &'a TrainConfig,
    /// Where the arithmetic runs.
    pub device: Device,
    /// The file of `config.pretrained`.
    pub pretrained: Option<&'a Path>,
    /// Where the run's state is kept meanwhile; without, a run that is stopped is lost.
    pub checkpoints: Option<CheckpointPlan<'a>>,
}

/// Trains, and tells through `emit` what happens; `stop` is asked between steps, between the batches of
/// an evaluation, and while a finished model waits for room on the disk. Where `input.checkpoints` holds a
/// usable state of this very run, it goes on from there.
///
/// # Errors
/// See [`TrainError`]. No model is announced then.
pub fn run(input: RunInput<'_>, stop: &dyn Fn() -> bool, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
    let started = Instant::now();
    let setting = Setting::prepare(input, stop, emit)?;
    let prepared = started.elapsed();
    let Trained { best, seconds, computed_on } = train(&setting, stop, emit)?;
    let training = TrainingFacts {
        seconds: prepared.as_secs_f64() + seconds,
        pretraining_images: Some(if setting.config().pretrain_epochs > 0 {
            setting.split.unlabelled.len() as u64
        } else {
            0
        }),
        device: device::name(input.device),
        precision: device::precision(input.config.precision, input.device).name().to_owned(),
        computed_on,
        software: concat!("mixmatch ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    refuse_collapse(&setting, &best)?;
    best.metrics.left_out(&setting.manifest.classes).into_iter().for_each(|told| warn(emit, told));
    let truth = setting.truth(&setting.split.validation);
    let temperature = calibration::fit_temperature(&best.validation.logits, &truth);

    emit(Event::Phase { phase: Phase::Evaluating });
    let config = input.config;
    let precision = device::precision(config.precision, input.device);
    let network = super::learner::build_network(config, setting.manifest.classes.len(), precision.kind)?;
    let tested = if setting.split.test.is_empty() {
        info(emit, "the data set has no test sheet: no test figures".to_owned());
        None
    } else {
        let rows = &setting.split.test;
        Some(setting.evaluate(network.as_ref(), &best.weights, rows, stop, emit)?)
    };
    let test = tested.as_ref().map(|evaluation| test_metrics(&setting, &best, evaluation, temperature));
    if let Some(test) = &test {
        test.left_out(&setting.manifest.classes).into_iter().for_each(|told| warn(emit, told));
        emit(Event::Test(test.clone()));
    }
    let answers = (network.as_ref(), &best, tested.as_ref());
    let predictions = predict_all(&setting, answers, temperature, stop, emit)?;

    let int8 = int8::prepare(&setting, &best, tested.as_ref(), stop, emit)?;

    emit(Event::Phase { phase: Phase::Exporting });
    let manifest = &setting.manifest;
    let describe = |golden| ModelManifest {
        format_version: FORMAT_VERSION,
        network: config.network.clone(),
        head: config.head,
        classes: manifest.classes.clone(),
        preprocess: config.preprocess(),
        temperature,
        config: serde_json::to_value(config).unwrap_or_default(),
        dataset_hash: manifest.content_hash.clone(),
        group_column: manifest.group_column.clone(),
        data_warnings: manifest.warnings.iter().map(|warning| warning.detail.clone()).collect(),
        split: sizes(&setting.split, &setting.manifest),
        labelled_classes: setting.labelled_classes(),
        validation: serde_json::to_value(&best.metrics).unwrap_or_default(),
        last_epochs: Some(best.last),
        training: Some(training.clone()),
        test: test.as_ref().and_then(|test| serde_json::to_value(test).ok()),
        created_at: jiff::Timestamp::now().to_string(),
        golden,
        int8: int8.clone(),
    };
    let directory = input.run_dir.join("model");
    let mut write = || {
        export(&directory, config, &best.weights, describe, manifest.classes.len())?;
        write_predictions(&directory.join(PREDICTIONS_FILE), &predictions)
    };
    write_when_there_is_room(&directory, &mut write, stop, emit)?;
    emit(Event::Model { directory });
    Ok(())
}

fn write_predictions(path: &Path, rows: &[Prediction]) -> Result<(), TrainError> {
    let written = File::create(path).and_then(|file| {
        let mut writer = BufWriter::new(file);
        predictions::write(rows, &mut writer)?;
        writer.into_inner()?.sync_all()
    });
    written.map_err(|source| TrainError::RunDirectory { path: path.display().to_string(), source })
}

fn refuse_collapse(setting: &Setting<'_>, best: &Best) -> Result<(), TrainError> {
    let confusion = &best.validation.confusion;
    let Some(collapse) = confusion.collapse() else { return Ok(()) };
    let classes = &setting.manifest.classes;
    Err(TrainError::Collapsed {
        forgotten: forgotten(classes, confusion, &collapse),
        most: classes[collapse.most].clone(),
        most_answered: collapse.most_answered * 100.0,
        advice: against_collapse(best.metrics.lambda_u),
    })
}

/// Which classes are hardly answered: the one, or how many there are.
pub(super) fn forgotten(classes: &[String], confusion: &Confusion, collapse: &Collapse) -> String {
    let images = confusion.total().max(1) as f64;
    let due = confusion.true_counts().into_iter().map(|count| count as f64 / images);
    let hungry: Vec<(f64, f64)> =
        due.zip(confusion.answer_shares()).filter(|(due, answered)| *answered < due / 10.0).collect();
    let name = &classes[collapse.starved];
    if hungry.len() < 2 {
        let (answered, due) = (collapse.answered * 100.0, collapse.due * 100.0);
        return format!("{name:?} for {answered:.0} % of the validation images, where {due:.0} % are of it");
    }
    let (due, answered) = hungry.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0 * 100.0, sum.1 + one.1 * 100.0));
    format!(
        "{} of {} classes ({name:?} …) for {answered:.0} % of the validation images, where {due:.0} % are of them",
        hungry.len(),
        classes.len()
    )
}

/// What the chosen weights answered to the test split.
fn test_metrics(setting: &Setting<'_>, best: &Best, evaluation: &Evaluation, temperature: f64) -> TestMetrics {
    let (manifest, rows) = (&setting.manifest, &setting.split.test);
    let faceless = setting.faceless.as_ref();
    let told = Told {
        manifest,
        rows,
        truth: &setting.truth(rows),
        evaluation,
        positive: setting.config().positive_index(&manifest.classes),
        faceless: faceless.map(|all| rows.iter().map(|&row| all[row as usize]).collect()),
    };
    told.metrics(temperature, best.metrics.epoch)
}

#[cfg(test)]
mod tests {
    use super::super::course_tests::untrained;
    use super::super::resume_tests::{anchored, data_set, prepared};
    use super::*;

    #[test]
    fn whether_a_test_image_shows_a_face_is_looked_up_by_its_row() {
        let directory = tempfile::tempdir().unwrap();
        let (dataset, config) = (data_set(directory.path()), anchored());
        let mut setting = prepared(&dataset, &config);
        // Two of the four show none; the data set's first images all do.
        setting.split.test = vec![30, 31, 32, 33];
        setting.faceless = Some((0..60).map(|row| row == 31 || row == 33).collect());
        let (network, best) = untrained(&setting);
        let rows = &setting.split.test;
        let answers = setting.evaluate(network.as_ref(), &best.weights, rows, &|| false, &mut |_| {}).unwrap();
        let test = test_metrics(&setting, &best, &answers, 1.0);
        assert_eq!((test.images, test.faceless), (4, Some(2)));
    }

    #[test]
    fn a_collapse_tells_of_one_class_or_of_all_that_are_forgotten() {
        let told = |classes: usize, answers: &dyn Fn(usize) -> usize| {
            let names: Vec<String> = (0..classes).map(|class| format!("k{class}")).collect();
            let truth: Vec<usize> = (0..100 * classes).map(|at| at % classes).collect();
            let answers: Vec<usize> = truth.iter().map(|&class| answers(class)).collect();
            let confusion = Confusion::new(classes, &truth, &answers);
            forgotten(&names, &confusion, &confusion.collapse().unwrap())
        };
        assert_eq!(told(2, &|_| 1), "\"k0\" for 0 % of the validation images, where 50 % are of it");
        // Of 50 classes those from 9 on are answered as the last.
        let many = told(50, &|class| if class < 9 { class } else { 49 });
        assert_eq!(many, "40 of 50 classes (\"k9\" …) for 0 % of the validation images, where 80 % are of them");
    }
}
