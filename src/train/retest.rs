//! A published model on the test images of a data set, be it its own or another.
//!
//! Who labels more images trains again on a new data set with another test sheet; whether the new model is better than the old one can
//! only be told by the same images. What the old one has met in training is counted: of those it knows the answer.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tch::Device;

use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate};
use super::event::{GroupGap, TestMetrics};
use super::figures::figures;
use super::groups::{Answered, by_group};
use super::metrics::Confusion;
use crate::dataset::{
    DatasetError, EMPTY_CELL, MANIFEST_FILE, Manifest, PackedImages, Role, Sample, faces, files_among, same_column,
};
use crate::imaging::Fit;
use crate::model::ModelManifest;
use crate::model::predictions::{self, Prediction, Used};
use crate::nn::device::{self, PrecisionWish};
use crate::nn::{self, Network, NnError, Weights, file};
use crate::sha256;

/// Images that are decoded and asked together, where there is no packed file: what is held in memory, and when a stop is heard.
const TOGETHER: usize = 512;

/// The same where a face is looked for in each.
const FACES_TOGETHER: usize = 16;

/// What is measured, and where.
#[derive(Clone, Copy, Debug)]
pub struct RetestInput<'a> {
    /// The model's description.
    pub model: &'a ModelManifest,
    /// Its weights.
    pub weights: &'a Path,
    /// Their SHA-256.
    pub weights_sha256: &'a str,
    /// The directory of the data set whose test images are asked.
    pub dataset_dir: &'a Path,
    /// The directory of the data set that the model learned from, where it is still there.
    pub trained_on: Option<&'a Path>,
    /// What the model predicted for that data set, which says how its run used each image; none of a version that an older build published.
    pub predictions: Option<&'a Path>,
    /// Where the arithmetic runs.
    pub device: Device,
}

/// What a model reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Retested {
    /// The figures, as at the end of a run.
    pub test: TestMetrics,
    /// How many of the test images were among those that the model learned from, with a label or without, or that chose its epoch, by their
    /// files; without predictions among all of its training sheet. None where the data set that it learned from is gone. What the weights
    /// that it started from (`pretrained`) had met is not known and not counted.
    pub seen_in_training: Option<u64>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum RetestError {
    /// There is nothing to ask.
    #[error("the data set has no test images: import it with a test sheet")]
    NoTest,
    /// Its images are of a class that the model cannot answer.
    #[error("the data set has test images of the class {class:?}, and the model knows {known}")]
    UnknownClass {
        /// The class.
        class: String,
        /// The model's classes.
        known: String,
    },
    /// What the model predicted for its own data set cannot be read.
    #[error("the model's predictions {}: {error}", path.display())]
    Predictions {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// As in a run.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<DatasetError> for RetestError {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Stopped => TrainError::Stopped.into(),
            error => TrainError::from(error).into(),
        }
    }
}

/// Asks the model for every test image of the data set; `stop` is asked between batches. Nothing is written: where the data set is packed as
/// the model wants it, that is used, else the test images alone are decoded, on the calling thread's pool.
///
/// # Errors
/// See [`RetestError`].
pub fn retest(input: RetestInput<'_>, stop: &dyn Fn() -> bool) -> Result<Retested, RetestError> {
    let RetestInput { model, dataset_dir, .. } = input;
    let mut manifest = Manifest::read(dataset_dir)?;
    let packed = PackedImages::existing(dataset_dir, &manifest, &model.preprocess)?;
    let rows: Vec<u32> =
        (0..).zip(&manifest.samples).filter(|(_, one)| one.split == Role::Test).map(|(row, _)| row).collect();
    if rows.is_empty() {
        return Err(RetestError::NoTest);
    }
    translate(&mut manifest, &model.classes)?;
    let seen_in_training = match input.trained_on {
        Some(trained_on) => {
            let used = input.predictions.map(used_images).transpose()?;
            seen((&manifest, dataset_dir), (trained_on, used.as_ref()), stop)?
        }
        None => None,
    };

    let asked = Asked::open(&input)?;
    let mut answers = Answers::default();
    match packed {
        Some(packed) => {
            let faces = packed.faces().map(Iterator::collect::<Vec<bool>>);
            let faces = faces.map(|found| rows.iter().map(|&row| found[row as usize]).collect());
            answers.take(asked.ask(packed, &rows, &truth(&manifest, &rows), stop)?, faces);
        }
        None => {
            let together = if model.preprocess.fit == Fit::Face { FACES_TOGETHER } else { TOGETHER };
            for rows in rows.chunks(together) {
                if stop() {
                    return Err(TrainError::Stopped.into());
                }
                let samples: Vec<&Sample> = rows.iter().map(|&row| &manifest.samples[row as usize]).collect();
                let packed = PackedImages::of_samples(dataset_dir, &samples, &model.preprocess)?;
                let faces = packed.faces().map(Iterator::collect);
                let at: Vec<u32> = (0..).take(rows.len()).collect();
                answers.take(asked.ask(packed, &at, &truth(&manifest, rows), stop)?, faces);
            }
        }
    }
    let truth = truth(&manifest, &rows);
    let evaluation = answers.evaluation(model.classes.len(), &truth);
    let positive = model.config["positive_class"].as_str();
    let positive = model.classes.iter().position(|class| Some(class.as_str()) == positive).unwrap_or(0);
    if let Some(found) = &answers.faces {
        faces::write_column(&mut manifest, &rows, found);
    }
    let faceless = answers.faces.map(|found| found.into_iter().map(|found| !found).collect());
    let told = Told { manifest: &manifest, rows: &rows, truth: &truth, evaluation: &evaluation, positive, faceless };
    let epoch = model.validation["epoch"].as_u64().and_then(|epoch| u32::try_from(epoch).ok()).unwrap_or_default();
    Ok(Retested { test: told.metrics(model.temperature, epoch), seen_in_training })
}

/// Classes of rows, which all have one.
fn truth(manifest: &Manifest, rows: &[u32]) -> Vec<usize> {
    rows.iter().filter_map(|&row| manifest.samples[row as usize].label).map(|label| label as usize).collect()
}

/// A model that is asked.
struct Asked {
    network: Box<dyn Network>,
    weights: Weights,
    classes: usize,
    device: Device,
}

impl Asked {
    fn open(input: &RetestInput<'_>) -> Result<Self, TrainError> {
        let RetestInput { model, device, .. } = *input;
        let unreadable = |reason: String| NnError::File { path: input.weights.to_owned(), reason };
        let hash = sha256::of_file(input.weights).map_err(|error| unreadable(error.to_string()))?;
        if hash != input.weights_sha256 {
            let changed = "its content has changed since it was published; restore it from a backup";
            return Err(unreadable(changed.to_owned()).into());
        }
        let wish = serde_json::from_value(model.config["precision"].clone()).unwrap_or(PrecisionWish::Auto);
        let compute = device::precision(wish, device).kind;
        let network = nn::build(&model.network, model.head, model.classes.len(), compute)?;
        let weights = file::load(network.as_ref(), input.weights, device)?;
        Ok(Self { network, weights, classes: model.classes.len(), device })
    }

    fn ask(
        &self,
        packed: PackedImages,
        rows: &[u32],
        truth: &[usize],
        stop: &dyn Fn() -> bool,
    ) -> Result<Evaluation, TrainError> {
        let images = Images::new(packed, self.device).map_err(NnError::from)?;
        let mut progress = |_done: usize| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        evaluate(self.network.as_ref(), &self.weights, &images, (rows, truth), self.classes, &mut progress)
    }
}

/// What was answered part by part.
#[derive(Default)]
struct Answers {
    logits: Vec<Vec<f32>>,
    answers: Vec<usize>,
    /// Of the cross-entropies.
    sum: f64,
    faces: Option<Vec<bool>>,
}

impl Answers {
    fn take(&mut self, part: Evaluation, faces: Option<Vec<bool>>) {
        self.sum += part.loss * part.answers.len() as f64;
        self.logits.extend(part.logits);
        self.answers.extend(part.answers);
        if let Some(faces) = faces {
            self.faces.get_or_insert_default().extend(faces);
        }
    }

    fn evaluation(&mut self, classes: usize, truth: &[usize]) -> Evaluation {
        let (logits, answers) = (std::mem::take(&mut self.logits), std::mem::take(&mut self.answers));
        let (confusion, loss) = (Confusion::new(classes, truth, &answers), self.sum / truth.len().max(1) as f64);
        Evaluation { logits, answers, confusion, loss }
    }
}

/// Labels as the model counts its classes.
fn translate(manifest: &mut Manifest, classes: &[String]) -> Result<(), RetestError> {
    let meant: Vec<Option<u32>> = manifest
        .classes
        .iter()
        .map(|class| (0..).zip(classes).find(|(_, known)| *known == class).map(|(index, _)| index))
        .collect();
    for sample in &mut manifest.samples {
        let Some(label) = sample.label else { continue };
        sample.label = meant[label as usize];
        if sample.label.is_none() && sample.split == Role::Test {
            let class = manifest.classes[label as usize].clone();
            return Err(RetestError::UnknownClass { class, known: classes.join(", ") });
        }
    }
    manifest.classes = classes.to_vec();
    Ok(())
}

/// The names of the images that a run used, by what the model predicted for them. Those that validate are among them: they chose the epoch
/// and the temperature, and so they flatter too.
fn used_images(predictions: &Path) -> Result<HashSet<String>, RetestError> {
    let read = File::open(predictions).and_then(|file| predictions::read(BufReader::new(file)));
    let rows = read.map_err(|error| RetestError::Predictions { path: predictions.to_owned(), error })?;
    let used = |row: &Prediction| matches!(row.used, Used::Labelled | Used::Unlabelled | Used::Validation);
    Ok(rows.into_iter().filter(used).map(|row| row.image).collect())
}

/// How many of the test images are among those of a data set's training sheet that a run `used`, or of all where that is not known; none
/// where that data set is gone, by now if not before.
fn seen(
    (asked, asked_dir): (&Manifest, &Path),
    (trained_on, used): (&Path, Option<&HashSet<String>>),
    stop: &dyn Fn() -> bool,
) -> Result<Option<u64>, RetestError> {
    let count = || {
        let of = Manifest::read(trained_on)?;
        let was_used = |sample: &&Sample| used.is_none_or(|used| used.contains(&sample.image));
        let learned: Vec<&Sample> = of_sheet(&of, Role::Train).filter(was_used).collect();
        let test: Vec<&Sample> = of_sheet(asked, Role::Test).collect();
        files_among((asked_dir, &test), (trained_on, &learned), stop)
    };
    match count() {
        Ok(seen) => Ok(Some(seen)),
        Err(_) if !trained_on.join(MANIFEST_FILE).exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn of_sheet(manifest: &Manifest, role: Role) -> impl Iterator<Item = &Sample> {
    manifest.samples.iter().filter(move |sample| sample.split == role)
}

/// Answers to labelled rows of a data set.
pub(super) struct Told<'a> {
    /// The data set; its classes are the model's.
    pub manifest: &'a Manifest,
    /// The rows.
    pub rows: &'a [u32],
    /// Their classes.
    pub truth: &'a [usize],
    /// What was answered.
    pub evaluation: &'a Evaluation,
    /// The class that F1 speaks of.
    pub positive: usize,
    /// In which of them no face was found, where one was looked for.
    pub faceless: Option<Vec<bool>>,
}

impl Told<'_> {
    /// All figures of a test.
    pub fn metrics(&self, temperature: f64, best_epoch: u32) -> TestMetrics {
        let Told { manifest, rows, truth, evaluation, positive, ref faceless } = *self;
        let answered = Answered { manifest, rows, truth, answers: &evaluation.answers, positive };
        let told = (truth, evaluation.logits.as_slice(), evaluation.answers.as_slice());
        let figures = figures(&manifest.classes, positive, told, temperature, faceless.as_deref());
        let groups = by_group(&answered);
        TestMetrics {
            best_epoch,
            loss: evaluation.loss,
            group_gaps: GroupGap::all(&groups.groups, figures.accuracy),
            groups: groups.groups,
            banded_columns: groups.banded,
            skipped_columns: groups.skipped,
            column_groups: column_groups(manifest, rows),
            ..figures
        }
    }
}

/// How many groups of the group column the rows are of, one with an empty cell a group of its own; nothing without such a column.
fn column_groups(manifest: &Manifest, rows: &[u32]) -> Option<u64> {
    let column = manifest.group_column.as_deref()?;
    let value = |row: &u32| {
        let cell = manifest.samples[*row as usize].attributes.iter().find(|(name, _)| same_column(name, column));
        cell.map(|(_, value)| value.as_str()).filter(|value| *value != EMPTY_CELL)
    };
    let named: HashSet<&str> = rows.iter().filter_map(value).collect();
    let alone = rows.iter().filter(|row| value(row).is_none()).count();
    Some((named.len() + alone) as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::dataset::IMAGES_FILE;

    fn manifest(classes: &[&str], labels: &[(u32, Role)]) -> Manifest {
        let samples = labels.iter().enumerate().map(|(at, &(label, split))| Sample {
            image: at.to_string(),
            entry: at as u32,
            label: Some(label),
            split,
            picked: false,
            group: None,
            attributes: Default::default(),
        });
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Manifest { classes, samples: samples.collect(), ..Manifest::default() }
    }

    #[test]
    fn of_a_data_set_that_is_gone_nobody_knows_what_was_met() {
        let directory = tempfile::tempdir().unwrap();
        let (asked, gone) = (manifest(&["a"], &[]), directory.path().join("gone"));
        let met = |trained_on: &Path| seen((&asked, directory.path()), (trained_on, None), &|| false);
        assert_eq!(met(&gone).unwrap(), None);
        // One that is there and cannot be read is no such case.
        std::fs::write(directory.path().join(MANIFEST_FILE), "{").unwrap();
        assert!(met(directory.path()).is_err());
    }

    /// A data set of these files, called 0, 1 …, as one sheet has them.
    fn stored(files: &[&[u8]], role: Role) -> (tempfile::TempDir, Manifest) {
        let directory = tempfile::tempdir().unwrap();
        let mut archive = zip::ZipWriter::new(File::create(directory.path().join(IMAGES_FILE)).unwrap());
        for (at, bytes) in files.iter().enumerate() {
            archive.start_file(at.to_string(), zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        let manifest = Manifest { format_version: 1, ..manifest(&["a"], &vec![(0, role); files.len()]) };
        std::fs::write(directory.path().join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
        (directory, manifest)
    }

    #[test]
    fn another_file_of_the_same_length_and_checksum_was_not_met() {
        let picture: Vec<u8> = (0..100).collect();
        let mut twin = picture.clone();
        // The polynomial of CRC-32: whatever it is added to keeps its checksum.
        twin[40..45].iter_mut().zip([0x41, 0x06, 0x71, 0xdb, 0x01]).for_each(|(byte, more)| *byte ^= more);
        let (learned, _) = stored(&[b"other", &picture], Role::Train);
        let (directory, asked) = stored(&[&twin, &picture, b"third"], Role::Test);
        let archive = File::open(directory.path().join(IMAGES_FILE)).unwrap();
        let mut archive = zip::ZipArchive::new(archive).unwrap();
        let mut crc32 = |at: usize| archive.by_index(at).unwrap().crc32();
        assert_eq!(crc32(0), crc32(1));
        let met = |stop: bool| seen((&asked, directory.path()), (learned.path(), None), &|| stop);
        assert_eq!(met(false).unwrap(), Some(1));
        assert!(matches!(met(true), Err(RetestError::Train(TrainError::Stopped))), "nobody waits for it");
    }

    #[test]
    fn an_image_that_a_run_had_no_use_for_was_not_met() {
        let pictures: [&[u8]; 5] = [b"labelled", b"unlabelled", b"validation", b"test", b"unused"];
        let (learned, _) = stored(&pictures, Role::Train);
        let (directory, asked) = stored(&pictures, Role::Test);
        let row = |(at, used): (usize, Used)| Prediction {
            image: at.to_string(),
            used,
            label: None,
            prediction: "a".to_owned(),
            probability: 1.0,
            margin: 1.0,
            group: None,
        };
        let used = [Used::Labelled, Used::Unlabelled, Used::Validation, Used::Test, Used::Unused];
        let rows: Vec<Prediction> = used.into_iter().enumerate().map(row).collect();
        let file = directory.path().join("predictions.csv");
        predictions::write(&rows, File::create(&file).unwrap()).unwrap();
        let used = used_images(&file).unwrap();
        let met = |used: Option<&HashSet<String>>| {
            seen((&asked, directory.path()), (learned.path(), used), &|| false).unwrap()
        };
        assert_eq!((met(Some(&used)), met(None)), (Some(3), Some(5)), "without predictions all are taken to be met");
        let gone = used_images(&directory.path().join("gone")).unwrap_err();
        assert!(gone.to_string().contains("predictions"), "{gone}");
    }

    #[test]
    fn images_of_a_group_are_counted_as_one_and_those_of_none_each() {
        let mut people = manifest(&["a"], &[(0, Role::Test); 6]);
        for (sample, person) in people.samples.iter_mut().zip(["x", "y", "x", EMPTY_CELL, EMPTY_CELL]) {
            sample.attributes.insert("Person".to_owned(), person.to_owned());
        }
        assert_eq!(column_groups(&people, &[0, 1, 2, 3, 4, 5]), None);
        people.group_column = Some("person".to_owned());
        assert_eq!(column_groups(&people, &[0, 1, 2, 3, 4, 5]), Some(5), "x, y, and three that nobody knows");
        assert_eq!(column_groups(&people, &[0, 2]), Some(1));
    }

    #[test]
    fn labels_are_understood_by_their_names() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let mut same = manifest(&["c", "a"], &[(0, Role::Test), (1, Role::Test), (0, Role::Train)]);
        translate(&mut same, &known).unwrap();
        let labels: Vec<Option<u32>> = same.samples.iter().map(|sample| sample.label).collect();
        assert_eq!((labels, same.classes.as_slice()), (vec![Some(2), Some(0), Some(2)], known.as_slice()));
        // A class that only training images have is nobody's trouble here.
        let mut more = manifest(&["a", "x"], &[(0, Role::Test), (1, Role::Train)]);
        translate(&mut more, &known).unwrap();
        assert_eq!(more.samples[1].label, None);
        let mut other = manifest(&["a", "x"], &[(1, Role::Test)]);
        let refused = translate(&mut other, &known).unwrap_err().to_string();
        assert!(refused.contains("\"x\"") && refused.contains("a, b, c"), "{refused}");
    }
}
