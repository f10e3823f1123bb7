//! What a card says beside its figures.

use crate::dataset::same_column;
use crate::imaging::Fit;
use crate::model::{Int8Agreement, Int8Figures, ModelManifest};
use crate::train::event::{EpochWarning, SMALLEST_GROUP, TestMetrics};

/// A validation split smaller than this does not calibrate, see `train::calibration`.
pub const CALIBRATES: usize = 50;

/// The field of a test's figures that has the number of the group column's groups among its images, where they were counted.
const COLUMN_GROUPS: &str = "column_groups";

/// Pairs of class names that mean a judged gender, whatever the task is called.
const GENDERS: [[&str; 2]; 5] = [["f", "m"], ["female", "male"], ["woman", "man"], ["women", "men"], ["girl", "boy"]];

/// Whether the labels say which gender somebody saw in a face: by the task's name or by the classes'.
pub fn is_perceived_gender(name: &str, classes: &[String]) -> bool {
    let named = |word: &str| word == "gender" || word == "sex";
    let has = |wanted: &str| classes.iter().any(|class| class.eq_ignore_ascii_case(wanted));
    name.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(named)
        || GENDERS.iter().any(|pair| pair.iter().all(|name| has(name)))
}

pub fn labels(perceived: bool) -> String {
    if perceived {
        return "Gender here is perceived, binary, and as annotated in the data set: it says how a face was judged by those \
                who labelled it, not who a person is."
            .to_owned();
    }
    "The labels are those of the data set, with its errors.".to_owned()
}

pub fn intended_use(classes: &[String]) -> String {
    format!(
        "To sort images like those of its data set into {}, where a wrong answer does no harm or a person looks at it before \
         anything follows from it.",
        classes.join(" / ")
    )
}

pub fn out_of_scope(perceived: bool) -> Vec<String> {
    let mut items = vec![
        "Identifying people, or following them.".to_owned(),
        "Deciding about people (access, work, credit, policing) without a person who answers for it.".to_owned(),
        "Images of another kind than those it was tested on: other cameras, crops, ages, places.".to_owned(),
    ];
    if perceived {
        items.push("Telling anybody's gender identity or sex; addressing people by the answer.".to_owned());
    }
    items
}

/// What looked wrong at an epoch's end.
pub fn sign(sign: EpochWarning) -> &'static str {
    match sign {
        EpochWarning::AnswersCollapsed => "a class that the labels have is hardly answered on the validation images",
        EpochWarning::GuessesCollapsed => "a class that the labels have is hardly guessed among the unlabelled images",
        EpochWarning::SharesApart => {
            "the network finds other shares of the classes among the unlabelled images than the labels have, and its guesses were \
             pulled to those of the labels (`align`)"
        }
        EpochWarning::AverageApart => "averaged and raw weights differ by more than 15 points of validation accuracy",
    }
}

/// That several test images show the same person, or whatever the group column tells apart: the intervals take each image for one
/// that was drawn by itself. Near duplicates are not counted here: the import tells of them, and a few of many hardly matter.
fn alike(test: &TestMetrics, manifest: &ModelManifest) -> Option<String> {
    const WIDER: &str = "images of one group resemble each other, so that true intervals are wider than those given";
    let column = manifest.group_column.as_ref()?;
    let images = test.images;
    // Not a field of every build's figures: older ones did not count the groups.
    let counted = manifest.test.as_ref().and_then(|test| test.get(COLUMN_GROUPS)).and_then(serde_json::Value::as_u64);
    match counted {
        Some(groups) if groups < images => {
            Some(format!("The {images} test images are of {groups} groups (the group column's, see Data): {WIDER}."))
        }
        Some(_) => None,
        // The column makes no groups of figures: where the test images have it, it is among those.
        None => test.skipped_columns.iter().any(|skipped| same_column(skipped, column)).then(|| {
            format!("The {images} test images may be of fewer groups (the group column's, see Data): {WIDER}.")
        }),
    }
}

/// What the figures do not show.
pub fn limits(test: Option<&TestMetrics>, manifest: &ModelManifest) -> Vec<String> {
    let mut limits = vec![
        "It answers with one of its classes whatever the image shows, also where none of them fits. Set `threshold` at predict \
         to withhold answers that it is unsure of."
            .to_owned(),
        "The labels of the data set were taken as right. Where they are wrong, the figures are too.".to_owned(),
    ];
    match test {
        None => {
            limits.push(
                "There is no test split. The validation figures chose the epoch and read a little too high for that."
                    .to_owned(),
            );
            let validation = manifest.split.validation;
            if (validation as u64) < SMALLEST_GROUP {
                limits.push(format!(
                    "{validation} validation images are all that it was judged by, too few to say how well it does."
                ));
            }
        }
        Some(test) => {
            limits.push(
                "The test images come from the same data set. On images from elsewhere expect less, and test again on your own."
                    .to_owned(),
            );
            limits.extend(alike(test, manifest));
            if test.groups.is_empty() {
                limits.push(
                    "Its sheets tell no groups apart: whether it does worse for some people is unknown.".to_owned(),
                );
            } else {
                limits.push(format!(
                    "Groups are those columns that the sheets have. What they do not name was not looked at, and groups of fewer \
                     than {SMALLEST_GROUP} images are shown but too small to judge."
                ));
            }
        }
    }
    if manifest.config["pretrained"].is_string() {
        limits.push(
            "What the weights that it started from were trained on is not known here: if images of this data set were among it, \
             validation and test figures are too high."
                .to_owned(),
        );
    }
    if manifest.preprocess.fit == Fit::Face {
        limits.push(
            "It looks for one face and finds fewer of those that are masked, turned away, or smaller than a tenth of the photo. \
             Where it finds none it judges the whole picture, and says so (`face` is null); with a `threshold` it abstains there."
                .to_owned(),
        );
    }
    if manifest.split.validation < CALIBRATES {
        limits.push(format!(
            "{} validation images are too few to fit a temperature: the probabilities are as the network gave them.",
            manifest.split.validation
        ));
    }
    if !manifest.data_warnings.is_empty() {
        limits.push(
            "There are doubts about the data; they are listed under Data. Read the figures with them in mind."
                .to_owned(),
        );
    }
    limits
}

/// How the answers in int8 compare.
pub(super) fn int8(figures: &Int8Figures) -> String {
    let of = |what: &str, agreement: &Int8Agreement| {
        let Int8Agreement { images, same, right, right_before } = agreement;
        format!("{same} of {images} {what} images get the same class ({right} the right one, {right_before} before)")
    };
    let test = figures.test.map(|test| format!("; {}", of("test", &test))).unwrap_or_default();
    format!("Served in int8 (`--predict-precision int8`), {}{test}.\n", of("validation", &figures.validation))
}
