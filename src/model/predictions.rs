//! `predictions.csv`: what a version answers to the images of the data set that it learned from, with or without a label.
//!
//! It says of every image what it is, which images are worth a label next, and which labels are worth a second look.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a run used an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Used {
    /// Trained on with its label.
    Labelled,
    /// Trained on without a label, whether or not the sheet has one.
    Unlabelled,
    /// Chose the epoch.
    Validation,
    /// Of the test sheet.
    Test,
    /// Not at all: a supervised run has no use for it, or it shares its group with a validation image.
    Unused,
}

/// The answer to one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The image's name in the archive.
    pub image: String,
    /// How the run used it.
    pub used: Used,
    /// What the sheet says of it, if it does.
    pub label: Option<String>,
    /// The answered class.
    pub prediction: String,
    /// The calibrated probability of that class.
    pub probability: f64,
    /// That probability less the next class's: 0 is a toss-up.
    pub margin: f64,
    /// Images of one number are of one group (a person, or near duplicates).
    pub group: Option<u32>,
}

/// Which predictions, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All, in the data set's order.
    #[default]
    All,
    /// Images without a label, one of each group, the least sure first (margin sampling; Settles, Active Learning
    /// Literature Survey, 2009, §3.1): those whose label would say most. Not those of a validation image's group: with its label, too, such
    /// an image would not be used.
    Unlabelled,
    /// Images whose label is another than the answer, the surest answer first and those of the test sheet behind all others: wrong
    /// labels are among them. Who mends test labels only where the model contradicts them makes its figures better than they are.
    Disagreeing,
}

impl Selection {
    const ALL: [Self; 3] = [Self::All, Self::Unlabelled, Self::Disagreeing];

    /// Its stable word, as in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Unlabelled => "unlabelled",
            Self::Disagreeing => "disagreeing",
        }
    }

    /// The selected predictions, at most `limit`.
    pub fn of(self, mut all: Vec<Prediction>, limit: usize) -> Vec<Prediction> {
        let by_margin = |a: &Prediction, b: &Prediction| a.margin.total_cmp(&b.margin);
        match self {
            Self::All => {}
            Self::Unlabelled => {
                let validate = all.iter().filter(|one| one.used == Used::Validation);
                let mut met: BTreeSet<u32> = validate.filter_map(|one| one.group).collect();
                all.retain(|one| one.label.is_none());
                all.sort_by(by_margin);
                all.retain(|one| one.group.is_none_or(|group| met.insert(group)));
            }
            Self::Disagreeing => {
                all.retain(|one| one.label.as_ref().is_some_and(|label| *label != one.prediction));
                let tested = |one: &Prediction| one.used == Used::Test;
                all.sort_by(|a, b| tested(a).cmp(&tested(b)).then_with(|| by_margin(b, a)));
            }
        }
        all.truncate(limit);
        all
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| format!("there are no rows {text:?}, only {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Writes predictions as CSV with a header. Names stand in it as they are, without the apostrophe that would keep a spreadsheet from
/// computing one like `=A1.jpg`: the rows come back as a sheet with labels, where that would be the name of another image.
///
/// # Errors
/// The writer's.
pub fn write(predictions: &[Prediction], to: impl Write) -> std::io::Result<()> {
    // The header comes with the first row; without any it would be missing.
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(to);
    writer.write_record(["image", "used", "label", "prediction", "probability", "margin", "group"])?;
    for prediction in predictions {
        writer.serialize(prediction)?;
    }
    writer.flush()
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// The reader's, or that it is another table.
pub fn read(from: impl Read) -> std::io::Result<Vec<Prediction>> {
    Ok(csv::Reader::from_reader(from).deserialize().collect::<Result<_, csv::Error>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(image: &str, label: Option<&str>, prediction: &str, margin: f64, group: Option<u32>) -> Prediction {
        let (image, label, prediction) = (image.to_owned(), label.map(str::to_owned), prediction.to_owned());
        let used = if label.is_some() { Used::Validation } else { Used::Unlabelled };
        Prediction { image, used, label, prediction, probability: (1.0 + margin) / 2.0, margin, group }
    }

    fn some() -> Vec<Prediction> {
        vec![
            prediction("sure, \"quoted\".jpg", None, "cat", 0.9, None),
            prediction("right.jpg", Some("cat"), "cat", 0.1, None),
            prediction("twin a.jpg", None, "dog", 0.3, Some(4)),
            prediction("rather wrong.jpg", Some("dog"), "cat", 0.2, Some(1)),
            prediction("twin b.jpg", None, "dog", 0.2, Some(4)),
            prediction("surely wrong.jpg", Some("dog"), "cat", 0.8, None),
            prediction("unsure.jpg", None, "cat", 0.01, Some(2)),
            prediction("like one that validates.jpg", None, "cat", 0.0, Some(1)),
        ]
    }

    fn names(selection: Selection, limit: usize) -> Vec<String> {
        selection.of(some(), limit).into_iter().map(|one| one.image).collect()
    }

    #[test]
    fn the_least_sure_without_a_label_come_first_and_one_of_each_group() {
        assert_eq!(names(Selection::Unlabelled, 9), ["unsure.jpg", "twin b.jpg", "sure, \"quoted\".jpg"]);
        assert_eq!(names(Selection::Unlabelled, 2), ["unsure.jpg", "twin b.jpg"]);
    }

    #[test]
    fn an_image_like_one_that_trains_may_be_labelled_and_one_like_one_that_validates_not() {
        let of_use = |used| {
            let labelled = Prediction { used, ..prediction("labelled.jpg", Some("cat"), "cat", 0.5, Some(1)) };
            let all = vec![labelled, prediction("like it.jpg", None, "cat", 0.1, Some(1))];
            !Selection::Unlabelled.of(all, 9).is_empty()
        };
        assert_eq!([Used::Labelled, Used::Validation].map(of_use), [true, false]);
    }

    #[test]
    fn labels_that_the_answers_contradict_come_by_how_surely() {
        assert_eq!(names(Selection::Disagreeing, 9), ["surely wrong.jpg", "rather wrong.jpg"]);
        let of_the_test = prediction("of the test.jpg", Some("dog"), "cat", 0.99, None);
        let all = [vec![Prediction { used: Used::Test, ..of_the_test }], some()].concat();
        let last = Selection::Disagreeing.of(all, 9).pop().unwrap();
        assert_eq!(last.image, "of the test.jpg", "its label is not to be mended because the model contradicts it");
    }

    #[test]
    fn what_is_written_is_read_again_in_its_order() {
        let mut bytes = Vec::new();
        write(&some(), &mut bytes).unwrap();
        assert!(bytes.starts_with(b"image,used,label,prediction,probability,margin,group\n"));
        assert_eq!(read(bytes.as_slice()).unwrap(), some());
        assert_eq!(Selection::All.of(some(), 2), some()[..2]);
        bytes.clear();
        write(&[], &mut bytes).unwrap();
        assert_eq!(read(bytes.as_slice()).unwrap(), []);
    }
}
