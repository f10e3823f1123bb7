//! The model card (Mitchell et al. 2019, arXiv 1810.03993): what a version is for, what it learned from, how well
//! it does and for whom.

use std::fmt::Write;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{ModelManifest, SplitSizes};
use crate::train::event::{EpochMetrics, TestMetrics};

/// What everybody should know before using a version.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Card {
    /// The model's name: its data set's task.
    pub name: String,
    /// The version.
    pub version: u32,
    /// Class names in the order of the network's outputs.
    pub classes: Vec<String>,
    /// What the labels are, and are not.
    pub labels: String,
    /// What it is meant for.
    pub intended_use: String,
    /// What it must not be used for.
    pub out_of_scope: Vec<String>,
    /// The network, for example `wrn-10-1`.
    pub network: String,
    /// Side of its square input, pixels.
    pub input_size: u32,
    /// SHA-256 over names, labels, splits and pixels of the data set.
    pub dataset_hash: String,
    /// Images it learned from, was chosen by and was tested on.
    pub split: SplitSizes,
    /// Calibration temperature of its probabilities.
    pub temperature: f64,
    /// The chosen epoch on the validation split.
    pub validation: Option<EpochMetrics>,
    /// The test split, met once; absent where the data set has none.
    pub test: Option<TestMetrics>,
    /// The fully resolved configuration of the run.
    #[schema(value_type = Object)]
    pub config: serde_json::Value,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// RFC 3339.
    pub created_at: String,
}

impl Card {
    /// The card of version `version` of the model `name`.
    pub fn new(name: &str, version: u32, weights_sha256: &str, manifest: ModelManifest) -> Self {
        Self {
            name: name.to_owned(),
            version,
            labels: labels(name),
            intended_use: format!(
                "To sort images like those of its data set into {}, where a wrong answer does no harm or a person looks at \
                 it before anything follows from it.",
                manifest.classes.join(" / ")
            ),
            out_of_scope: out_of_scope(name),
            network: manifest.network,
            input_size: manifest.preprocess.size,
            dataset_hash: manifest.dataset_hash,
            split: manifest.split,
            temperature: manifest.temperature,
            validation: serde_json::from_value(manifest.validation).ok(),
            test: manifest.test.and_then(|test| serde_json::from_value(test).ok()),
            config: manifest.config,
            weights_sha256: weights_sha256.to_owned(),
            created_at: manifest.created_at,
            classes: manifest.classes,
        }
    }

    /// The card as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {} version {}\n\n", self.name, self.version);
        paragraph(&mut text, &format!("Classes: {}. {}", self.classes.join(", "), self.labels));
        heading(&mut text, "Intended use");
        paragraph(&mut text, &self.intended_use);
        heading(&mut text, "Out of scope");
        for item in &self.out_of_scope {
            line(&mut text, &format!("- {item}"));
        }
        heading(&mut text, "Data");
        let SplitSizes { labelled, unlabelled, validation, test } = self.split;
        paragraph(
            &mut text,
            &format!(
                "Learned from {labelled} labelled and {unlabelled} unlabelled images; the epoch was chosen on {validation} \
                 validation images and tested once on {test}. Data set {}.",
                self.dataset_hash
            ),
        );
        self.figures(&mut text);
        heading(&mut text, "How it was made");
        paragraph(
            &mut text,
            &format!(
                "{} at {} × {} pixels, {} ({} preset), seed {}. Made {}. Weights SHA-256 {}.",
                self.network,
                self.input_size,
                self.input_size,
                self.word("algorithm"),
                self.word("preset"),
                self.config["seed"],
                self.created_at,
                self.weights_sha256
            ),
        );
        text
    }

    fn word(&self, field: &str) -> &str {
        self.config[field].as_str().unwrap_or("unknown")
    }

    fn figures(&self, text: &mut String) {
        heading(text, "Figures");
        if let Some(validation) = &self.validation {
            let accuracy = percent(validation.validation_accuracy);
            paragraph(text, &format!("Validation, chosen epoch {}: accuracy {accuracy}.", validation.epoch));
        }
        let Some(test) = &self.test else {
            paragraph(text, "No test split: how well it does on images that nothing was chosen by is unknown.");
            return;
        };
        line(text, &format!("Test, {} images, met once:\n", test.images));
        line(text, "| figure | value |\n|---|---|");
        let positive = &test.positive_class;
        let rows = [
            ("accuracy".to_owned(), with_interval(test.accuracy, test.accuracy_interval)),
            ("balanced accuracy".to_owned(), percent(test.balanced_accuracy)),
            (format!("F1 of {positive}"), format!("{:.3}", test.f1)),
            ("F1, mean of the classes".to_owned(), format!("{:.3}", test.f1_macro)),
            (format!("precision of {positive}"), percent(test.precision)),
            (format!("recall of {positive}"), percent(test.recall)),
            ("ROC-AUC".to_owned(), test.roc_auc.map_or("–".to_owned(), |auc| format!("{auc:.3}"))),
            ("expected calibration error".to_owned(), percent(test.calibration_error)),
        ];
        for (name, value) in rows {
            line(text, &format!("| {name} | {value} |"));
        }
        line(
            text,
            "\nIf answers below a `threshold` are withheld:\n\n| threshold | answered | accuracy |\n|---|---|---|",
        );
        for row in &test.abstention {
            let accuracy = row.accuracy.map_or("–".to_owned(), percent);
            line(text, &format!("| {} | {} | {accuracy} |", row.threshold, percent(row.coverage)));
        }
        self.groups(text, test);
    }

    fn groups(&self, text: &mut String, test: &TestMetrics) {
        if test.groups.is_empty() {
            paragraph(
                text,
                "\nThe sheets have no column to tell groups by: whether it does worse for some is unknown.",
            );
            return;
        }
        line(text, "\n| group | images | accuracy (95 %) |\n|---|---|---|");
        for group in &test.groups {
            let accuracy = with_interval(group.accuracy, group.interval);
            line(text, &format!("| {} = {} | {} | {accuracy} |", group.attribute, group.value, group.images));
        }
        // A handful of images would always win.
        let known = test.groups.iter().filter(|group| group.images >= 30);
        if let Some(worst) = known.min_by(|a, b| a.accuracy.total_cmp(&b.accuracy)) {
            let gap = (test.accuracy - worst.accuracy) * 100.0;
            paragraph(
                text,
                &format!(
                    "\nWorst group of at least 30 images: {} = {}, {} ({gap:.1} points below the whole).",
                    worst.attribute,
                    worst.value,
                    percent(worst.accuracy)
                ),
            );
        }
    }
}

fn labels(name: &str) -> String {
    if name == "gender" {
        return "Gender here is perceived, binary, and as annotated in the data set: it says how a face was judged by those who \
                labelled it, not who a person is."
            .to_owned();
    }
    "The labels are those of the data set, with its errors.".to_owned()
}

fn out_of_scope(name: &str) -> Vec<String> {
    let mut items = vec![
        "Identifying people, or following them.".to_owned(),
        "Deciding about people (access, work, credit, policing) without a person who answers for it.".to_owned(),
        "Images of another kind than those it was tested on: other cameras, crops, ages, places.".to_owned(),
    ];
    if name == "gender" {
        items.push("Telling anybody's gender identity or sex; addressing people by the answer.".to_owned());
    }
    items
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn with_interval(share: f64, [low, high]: [f64; 2]) -> String {
    format!("{} ({:.1}–{:.1})", percent(share), low * 100.0, high * 100.0)
}

fn heading(text: &mut String, words: &str) {
    line(text, &format!("\n## {words}\n"));
}

fn paragraph(text: &mut String, words: &str) {
    line(text, words);
}

fn line(text: &mut String, words: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{Fit, Preprocess};
    use crate::model::Golden;
    use crate::train::event::{Abstention, GroupAccuracy};

    fn card(name: &str, test: Option<&TestMetrics>) -> Card {
        let manifest = ModelManifest {
            format_version: 1,
            network: "wrn-10-1".into(),
            head: crate::nn::Head::Linear,
            classes: vec!["female".into(), "male".into()],
            preprocess: Preprocess { size: 32, fit: Fit::Stretch },
            temperature: 1.5,
            config: serde_json::json!({"algorithm": "mixmatch", "preset": "quick", "seed": 7}),
            dataset_hash: "d4c3".into(),
            split: SplitSizes { labelled: 250, unlabelled: 6883, validation: 1000, test: 2035 },
            validation: serde_json::to_value(EpochMetrics { epoch: 4, ..EpochMetrics::default() }).unwrap(),
            test: test.map(|test| serde_json::to_value(test).unwrap()),
            created_at: "2026-01-01T00:00:00Z".into(),
            golden: Golden { seed: 1, logits: vec![vec![0.0, 1.0]] },
        };
        Card::new(name, 3, "a1b2", manifest)
    }

    fn group(value: &str, images: u64, accuracy: f64) -> GroupAccuracy {
        GroupAccuracy { attribute: "age_group".into(), value: value.into(), images, accuracy, interval: [0.0, 1.0] }
    }

    #[test]
    fn a_gender_card_says_what_the_labels_are_and_what_it_is_not_for() {
        let text = card("gender", None).markdown();
        assert!(text.contains("perceived, binary, and as annotated"), "{text}");
        assert!(text.contains("gender identity") && text.contains("Identifying people"), "{text}");
        assert!(text.contains("250 labelled and 6883 unlabelled") && text.contains("a1b2"), "{text}");
        assert!(text.contains("unknown"), "without a test split the card says that: {text}");
        assert!(!card("mask", None).markdown().contains("gender"));
    }

    #[test]
    fn figures_come_with_intervals_and_the_worst_group_is_named() {
        let test = TestMetrics {
            images: 100,
            accuracy: 0.85,
            accuracy_interval: [0.77, 0.91],
            positive_class: "female".into(),
            roc_auc: Some(0.912),
            abstention: vec![Abstention { threshold: 0.9, coverage: 0.5, accuracy: Some(0.96) }],
            groups: vec![group("2-9", 40, 0.7), group("10-19", 55, 0.9), group("70+", 5, 0.2)],
            ..TestMetrics::default()
        };
        let text = card("gender", Some(&test)).markdown();
        assert!(text.contains("85.0 % (77.0–91.0)") && text.contains("0.912"), "{text}");
        assert!(text.contains("| 0.9 | 50.0 % | 96.0 % |"), "{text}");
        assert!(
            text.contains("Worst group of at least 30 images: age_group = 2-9, 70.0 % (15.0 points below"),
            "{text}"
        );
    }
}
