//! The model card (Mitchell et al. 2019, arXiv 1810.03993): what a version is for, what it learned from, how well
//! it does and for whom. `words` decides what is said, `markdown` how it reads.

mod doubts;
#[cfg(test)]
mod figures_tests;
mod markdown;
mod words;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::imaging::Fit;
use crate::model::{Int8Figures, LastEpochs, ModelManifest, SplitSizes, TrainingFacts};
use crate::train::event::{EpochMetrics, GroupGap, TestMetrics};

/// What everybody should know before using a version.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Card {
    /// The model's name: its data set's task.
    pub name: String,
    /// The version.
    pub version: u32,
    /// Class names in the order of the network's outputs.
    pub classes: Vec<String>,
    /// What speaks against it: classes that its answers leave out. Empty where nothing does.
    pub doubts: Vec<String>,
    /// What the labels are, and are not.
    pub labels: String,
    /// What it is meant for.
    pub intended_use: String,
    /// What it must not be used for.
    pub out_of_scope: Vec<String>,
    /// What the figures do not show, and what to mind when using it.
    pub limits: Vec<String>,
    /// The network, for example `wrn-10-1`.
    pub network: String,
    /// Side of its square input, pixels.
    pub input_size: u32,
    /// How an image becomes that square.
    pub fit: Fit,
    /// SHA-256 over names, labels, splits, groups and pixels of the data set.
    pub dataset_hash: String,
    /// The column whose groups (people …) are never both trained on and validated with.
    pub group_column: Option<String>,
    /// What the import and the run found doubtful in the data and how it was split; empty in models of before this was kept.
    pub data_warnings: Vec<String>,
    /// Images it learned from, was chosen by and was tested on.
    pub split: SplitSizes,
    /// Labels trained with of each class, in class order; empty in models of before this was kept.
    pub labelled_classes: Vec<u64>,
    /// Calibration temperature of its probabilities, fitted on the validation split.
    pub temperature: f64,
    /// The chosen epoch on the validation split.
    pub validation: Option<EpochMetrics>,
    /// The run's last epochs on the validation split, without a choice among them.
    pub last_epochs: Option<LastEpochs>,
    /// Its answers in int8 beside these; absent where they were not measured.
    pub int8: Option<Int8Figures>,
    /// The test split, met once; absent where the data set has none.
    pub test: Option<TestMetrics>,
    /// The fully resolved configuration of the run.
    #[schema(value_type = Object)]
    pub config: serde_json::Value,
    /// On what it was trained, and for how long.
    pub training: Option<TrainingFacts>,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// RFC 3339.
    pub created_at: String,
}

impl Card {
    /// The card of version `version` of the model `name`.
    pub fn new(name: &str, version: u32, weights_sha256: &str, manifest: ModelManifest) -> Self {
        let mut test = manifest.test.as_ref().and_then(|test| TestMetrics::deserialize(test).ok());
        if let Some(test) = test.as_mut().filter(|test| test.group_gaps.is_empty()) {
            // Models of before the gaps were kept have the groups.
            test.group_gaps = GroupGap::all(&test.groups, test.accuracy);
        }
        let validation = EpochMetrics::deserialize(&manifest.validation).ok();
        let perceived = words::is_perceived_gender(name, &manifest.classes);
        Self {
            name: name.to_owned(),
            version,
            doubts: doubts::doubts(test.as_ref(), validation.as_ref(), &manifest.classes),
            labels: words::labels(perceived),
            intended_use: words::intended_use(&manifest.classes),
            out_of_scope: words::out_of_scope(perceived),
            limits: words::limits(test.as_ref(), &manifest),
            network: manifest.network,
            input_size: manifest.preprocess.size,
            fit: manifest.preprocess.fit,
            dataset_hash: manifest.dataset_hash,
            group_column: manifest.group_column,
            data_warnings: manifest.data_warnings,
            split: manifest.split,
            labelled_classes: manifest.labelled_classes,
            temperature: manifest.temperature,
            validation,
            last_epochs: manifest.last_epochs,
            int8: manifest.int8.and_then(|int8| int8.measured).map(|measured| measured.figures),
            test,
            config: manifest.config,
            training: manifest.training,
            weights_sha256: weights_sha256.to_owned(),
            created_at: manifest.created_at,
            classes: manifest.classes,
        }
    }

    /// The card as Markdown.
    pub fn markdown(&self) -> String {
        markdown::write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Preprocess;
    use crate::model::{Golden, Int8, Int8Agreement, Int8Measured};
    use crate::nn::int8::Ranges;
    use crate::train::event::{Abstention, ClassMetrics, EpochWarning, GroupAccuracy};

    fn card_of(name: &str, classes: [&str; 2], test: Option<&TestMetrics>) -> Card {
        Card::new(name, 3, "a1b2", manifest(classes, test))
    }

    pub(super) fn manifest(classes: [&str; 2], test: Option<&TestMetrics>) -> ModelManifest {
        let chosen = EpochMetrics {
            epoch: 4,
            validation_accuracy: 0.871,
            validation_accuracy_raw: Some(0.702),
            validation_classes: vec![0.47, 0.53],
            unlabelled_classes: vec![0.31, 0.69],
            warnings: vec![EpochWarning::SharesApart, EpochWarning::AverageApart],
            ..EpochMetrics::default()
        };
        ModelManifest {
            format_version: 1,
            network: "wrn-10-1".into(),
            head: crate::nn::Head::Linear,
            classes: classes.map(str::to_owned).to_vec(),
            preprocess: Preprocess { size: 32, fit: Fit::Stretch },
            temperature: 1.5,
            config: serde_json::json!({"algorithm": "mixmatch", "preset": "quick", "seed": 7, "labelled": null, "pretrained": null, "k": 2}),
            dataset_hash: "d4c3".into(),
            group_column: Some("person".into()),
            data_warnings: vec!["column \"source\" goes with the label".into()],
            split: SplitSizes {
                labelled: 250,
                unlabelled: 6883,
                validation: 1000,
                test: 2035,
                left_out: 12,
                picked: 50,
            },
            labelled_classes: vec![140, 110],
            validation: serde_json::to_value(chosen).unwrap(),
            last_epochs: Some(LastEpochs { epochs: 20, accuracy_median: 0.862 }),
            training: Some(TrainingFacts {
                seconds: 754.0,
                pretraining_images: Some(0),
                device: "cpu".into(),
                precision: "bf16".into(),
                computed_on: vec!["bf16 on cpu".into()],
                software: "mixmatch 0.1.0".into(),
            }),
            test: test.map(|test| serde_json::to_value(test).unwrap()),
            created_at: "2026-01-01T00:00:00Z".into(),
            golden: Golden { seed: 1, logits: vec![vec![0.0, 1.0]] },
            int8: None,
        }
    }

    pub(super) fn card(name: &str, test: Option<&TestMetrics>) -> Card {
        let classes = if name == "gender" { ["female", "male"] } else { ["mask", "no_mask"] };
        card_of(name, classes, test)
    }

    #[test]
    fn a_card_tells_no_temperature_and_no_test_that_were_not_there() {
        let mut card = card("mask", None);
        card.split.validation = 20;
        card.split.test = 0;
        card.temperature = 1.0;
        let text = card.markdown();
        has(&text, &["20 validation images chose the epoch.\n", "Temperature of the probabilities, not fitted: 1.000"]);
        assert!(!text.contains("test images were met"), "{text}");
    }

    #[test]
    fn a_card_tells_how_near_int8_comes_where_that_was_measured() {
        let mut manifest = manifest(["mask", "no_mask"], None);
        let of = |manifest: &ModelManifest| Card::new("mask", 1, "w", manifest.clone()).markdown();
        assert!(!of(&manifest).contains("int8"), "{}", of(&manifest));
        let int8 = |measured| Some(Int8 { ranges: Ranges::default(), images: 9, measured });
        manifest.int8 = int8(None);
        assert!(!of(&manifest).contains("int8"), "{}", of(&manifest));
        let validation = Int8Agreement { images: 1000, same: 997, right: 961, right_before: 962 };
        let measured = |test| Some(Int8Measured { golden: vec![], figures: Int8Figures { validation, test } });
        manifest.int8 = int8(measured(None));
        let told = "Served in int8 (`--predict-precision int8`), 997 of 1000 validation images get the same class (961 the right one, 962 \
                    before)";
        has(&of(&manifest), &[&format!("{told}.\n")]);
        manifest.int8 = int8(measured(Some(Int8Agreement { images: 50, same: 49, right: 40, right_before: 41 })));
        has(
            &of(&manifest),
            &[&format!("{told}; 49 of 50 test images get the same class (40 the right one, 41 before).\n")],
        );
    }

    #[test]
    fn validation_has_an_interval_and_where_it_is_all_and_small_that_is_a_limit() {
        let of = |images: usize, counted: u64, test: Option<&TestMetrics>| {
            let mut manifest = manifest(["mask", "no_mask"], test);
            manifest.split.validation = images;
            let chosen = EpochMetrics {
                epoch: 4,
                validation_accuracy: 1.0,
                validation_images: counted,
                ..EpochMetrics::default()
            };
            manifest.validation = serde_json::to_value(chosen).unwrap();
            Card::new("mask", 3, "a1b2", manifest).markdown()
        };
        let told = "Validation, 2 images. Chosen epoch 4: accuracy (95 %) 100.0 % (34.2–100.0), F1";
        let limit = "- 2 validation images are all that it was judged by, too few to say how well it does.\n";
        has(&of(2, 2, None), &[told, limit]);
        has(&of(2, 0, None), &[told]);
        for text in [of(30, 30, None), of(2, 2, Some(&test_metrics()))] {
            assert!(!text.contains("all that it was judged by"), "{text}");
        }
    }

    #[test]
    fn f_and_m_are_genders_too() {
        assert!(card_of("faces", ["F", "M"], None).markdown().contains("perceived, binary"));
    }

    #[track_caller]
    pub(super) fn has(text: &str, wanted: &[&str]) {
        for words in wanted {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
    }

    fn group(value: &str, images: u64, accuracy: f64) -> GroupAccuracy {
        let interval = [accuracy - 0.01, accuracy + 0.01];
        GroupAccuracy {
            attribute: "age_group".into(),
            value: value.into(),
            images,
            accuracy,
            interval,
            ..GroupAccuracy::default()
        }
    }

    pub(super) fn test_metrics() -> TestMetrics {
        TestMetrics {
            images: 100,
            best_epoch: 4,
            accuracy: 0.85,
            accuracy_interval: [0.77, 0.91],
            positive_class: "female".into(),
            roc_auc: Some(0.912),
            aurc: Some(0.0421),
            temperature: 1.5,
            abstention: vec![Abstention { threshold: 0.9, coverage: 0.5, accuracy: Some(0.96) }],
            confusion: vec![vec![45, 5], vec![10, 40]],
            classes: vec![ClassMetrics { class: "fe|male".into(), images: 50, recall: 0.9, ..ClassMetrics::default() }],
            groups: vec![group("2-9", 40, 0.7), group("10-19", 55, 0.9), group("70+", 5, 0.2)],
            banded_columns: vec!["age".into()],
            skipped_columns: vec!["file".into()],
            ..TestMetrics::default()
        }
    }

    #[test]
    fn a_gender_card_says_what_the_labels_are_and_what_it_is_not_for() {
        let text = card("gender", None).markdown();
        has(&text, &["perceived, binary, and as annotated", "gender identity", "Identifying people"]);
        has(
            &text,
            &[
                "250 labelled images, and from 6883 without their label",
                "50 of the labelled images were picked to be labelled, not drawn: none of those validates",
                "the classes' shares are those of the others",
                "| female | 140 | 47.0 % | 31.0 % |\n| male | 110 | 53.0 % | 69.0 % |\n\nThe 50 picked labels are counted with \
                 the others, so that these counts say nothing of the classes' shares.\n",
                "12 training images were left out",
                "a1b2",
                "d4c3",
                "No test split",
            ],
        );
        assert!(!card("mask", None).markdown().contains("gender"));
        // The task's name is anybody's word; the classes tell it too.
        has(&card_of("faces", ["Female", "Male"], None).markdown(), &["perceived, binary, and as annotated"]);
    }

    #[test]
    fn figures_come_with_intervals_and_the_worst_group_is_named() {
        let text = card("gender", Some(&test_metrics())).markdown();
        has(&text, &["85.0 % (77.0–91.0)", "0.912", "0.0421", "| 0.9 | 50.0 % | 96.0 % |"]);
        has(&text, &["| fe\\|male | 50 |", "| **female** | 45 | 5 |", "| age_group = 70+ | 5 |"]);
        has(&text, &["lowest where it is 2-9 (70.0 %), highest where it is 10-19 (90.0 %): 20.0 points apart"]);
        has(
            &text,
            &[
                "15.0 points below the whole",
                "fewer than 30 images",
                "or near them where many have one number: age.\n",
                "make no groups: file",
            ],
        );
    }

    #[test]
    fn of_a_class_without_images_or_answers_nothing_is_claimed() {
        let class = |class: &str, images| ClassMetrics { class: class.into(), images, ..ClassMetrics::default() };
        let mut test = TestMetrics {
            confusion: vec![vec![0, 0], vec![10, 40]],
            classes: vec![class("female", 0), class("male", 50)],
            ..test_metrics()
        };
        let text = card("gender", Some(&test)).markdown();
        has(&text, &["| recall of female | – |", "| F1 of female | – |", "| precision of female | 0.0 % |"]);
        has(&text, &["| female | 0 | 0.0 % | – | – |", "| male | 50 | 0.0 % | 0.0 % (0.0–0.0) | 0.000 |"]);
        // Nor of the precision of answers that nobody gave; an older model's figures have no classes.
        (test.confusion, test.classes) = (vec![vec![0, 5], vec![0, 45]], vec![class("female", 5), class("male", 45)]);
        let text = card("gender", Some(&test)).markdown();
        has(
            &text,
            &["| recall of female | 0.0 % |", "| precision of female | – |", "| female | 5 | – | 0.0 % (0.0–0.0) |"],
        );
        (test.confusion, test.classes) = (vec![vec![0, 0], vec![10, 40]], Vec::new());
        has(&card("gender", Some(&test)).markdown(), &["| recall of female | – |", "| precision of female | 0.0 % |"]);
    }

    #[test]
    fn a_lowest_group_above_the_whole_is_called_so() {
        // The groups below it are too small to be called lowest.
        let told = |below_whole| gap_told(GroupGap { gap: 0.1, below_whole, ..GroupGap::default() });
        has(&told(-0.169), &["10.0 points apart. The lowest is 16.9 points above the whole.\n"]);
        has(&told(0.15), &["The lowest is 15.0 points below the whole.\n"]);
        has(&told(-0.0004), &["10.0 points apart.\n"]);
    }

    fn gap_told(gap: GroupGap) -> String {
        let gap = GroupGap { attribute: "age_group".into(), ..gap };
        card("gender", Some(&TestMetrics { group_gaps: vec![gap], ..test_metrics() })).markdown()
    }

    #[test]
    fn of_groups_without_a_difference_none_is_called_lowest() {
        let level = |below_whole| GroupGap {
            worst: "60+".into(),
            worst_accuracy: 1.0,
            best: "2-9".into(),
            best_accuracy: 1.0,
            intervals_overlap: true,
            below_whole,
            ..GroupGap::default()
        };
        // The third group has 5 images and nothing to do with it; that of another column has not either.
        let small = "no difference between its groups of 30 images and more: 100.0 % in each.\n";
        let text = gap_told(level(0.0));
        has(&text, &["- By age_group there is ", small]);
        assert!(!text.contains("lowest where") && !text.contains("may be chance"), "{text}");
        has(&gap_told(level(-0.02)), &["100.0 % in each. They are 2.0 points above the whole.\n"]);
        let mut test = TestMetrics {
            group_gaps: vec![GroupGap { attribute: "age_group".into(), ..level(0.0) }],
            ..test_metrics()
        };
        test.groups[2].attribute = "place".into();
        let text = card("gender", Some(&test)).markdown();
        has(&text, &["- By age_group there is no difference between its groups: 100.0 % in each.\n"]);
    }

    #[test]
    fn a_card_says_that_test_images_of_one_group_resemble_each_other() {
        let limits = |change: &dyn Fn(&mut ModelManifest)| {
            let mut manifest = manifest(["mask", "no_mask"], Some(&test_metrics()));
            change(&mut manifest);
            let card = Card::new("mask", 3, "a1b2", manifest);
            assert_eq!(
                card.markdown().matches("resemble each other").count(),
                card.limits.join(" ").matches("resemble").count()
            );
            card.limits.into_iter().find(|limit| limit.contains("resemble"))
        };
        let counted = |manifest: &mut ModelManifest, groups: u64| {
            manifest.test.as_mut().unwrap()["column_groups"] = groups.into();
        };
        assert_eq!(
            limits(&|manifest| counted(manifest, 20)).as_deref(),
            Some(
                "The 100 test images are of 20 groups (the group column's, see Data): images of one group resemble each other, so that \
                 true intervals are wider than those given."
            )
        );
        assert_eq!(limits(&|manifest| counted(manifest, 100)), None);
        // Figures of a build that did not count the groups.
        let skipped = |manifest: &mut ModelManifest| {
            manifest.test.as_mut().unwrap()["skipped_columns"] = serde_json::json!(["file", "Person"]);
        };
        assert!(
            limits(&skipped).unwrap().starts_with("The 100 test images may be of fewer groups (the group column's")
        );
        assert_eq!(limits(&|_| ()), None, "the test sheet does not have the column");
        let without_a_column = |manifest: &mut ModelManifest| {
            counted(manifest, 20);
            manifest.group_column = None;
        };
        assert_eq!(limits(&without_a_column), None);
    }

    #[test]
    fn no_name_of_a_sheet_is_markdown() {
        let (class, column, value) = ("*st_ar*", "pl|ace\nx", "# top\n\n## Limits");
        let group = |value: &str| GroupAccuracy { attribute: column.into(), ..group(value, 40, 0.8) };
        let gap = GroupGap {
            attribute: column.into(),
            worst: value.into(),
            best: "<none>".into(),
            gap: 0.2,
            ..GroupGap::default()
        };
        let test = TestMetrics {
            positive_class: class.into(),
            classes: [class, "a|b\\|c"]
                .map(|class| ClassMetrics { class: class.into(), images: 50, ..ClassMetrics::default() })
                .to_vec(),
            groups: vec![group(value), group("<none>")],
            group_gaps: vec![gap],
            banded_columns: vec![column.into()],
            skipped_columns: vec![column.into(), "`x`".into()],
            ..test_metrics()
        };
        let mut plain = manifest(["mask", "no_mask"], Some(&test_metrics()));
        plain.config["positive_class"] = "mask".into();
        let mut named = manifest([class, "a|b\\|c"], Some(&test));
        named.config["positive_class"] = value.into();
        named.group_column = Some(column.into());
        named.data_warnings = vec![format!("the column {column:?} of {value} tells the label")];
        let [plain, named] = [plain, named].map(|manifest| Card::new("mask", 3, "a1b2", manifest));
        let text = named.markdown();
        let headings = |text: &str| {
            text.lines()
                .filter(|line| line.trim_start_matches(['-', ' ']).starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(headings(&text), headings(&plain.markdown()), "{text}");
        has(
            &text,
            &[
                "Classes: \\*st_ar\\*, a\\|b\\\\\\|c. ",
                "its data set into \\*st_ar\\* / a\\|b\\\\\\|c, where",
                "| \\*st_ar\\* | 50 |",
                "| a\\|b\\\\\\|c | 50 |",
                "| **\\*st_ar\\*** | 45 | 5 |",
                "| F1 of \\*st_ar\\* |",
                "| pl\\|ace x = \\# top \\#\\# Limits | 40 |",
                "- By pl\\|ace x: lowest where it is \\# top \\#\\# Limits (0.0 %), highest where it is \\<none\\> (0.0 %)",
                "where many have one number: pl\\|ace x.\n",
                "make no groups: pl\\|ace x, \\`x\\`.\n",
                "Groups of the column \"pl\\|ace x\" are never",
                "tells the label\n",
                "| `positive_class` | \\# top \\#\\# Limits |",
            ],
        );
        let bars = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.iter().all(|row| row.ends_with('|') && (3..=6).contains(&bars(row))), "{text}");
        assert_eq!(
            (named.classes[0].as_str(), named.intended_use.contains(class)),
            (class, true),
            "the JSON form is plain"
        );
    }

    #[test]
    fn the_run_and_its_data_are_told_as_markdown_and_as_json() {
        let mut card = card("mask", Some(&test_metrics()));
        card.split.picked = 0;
        let text = card.markdown();
        assert!(!text.contains("picked"), "{text}");
        has(
            &text,
            &[
                "epoch 4: accuracy (95 %) 87.1 % (84.9–89.0), F1",
                "median accuracy of the last 20 epochs: 86.2 %",
                "12 min 34 s on cpu in bf16",
            ],
        );
        has(
            &text,
            &[
                "| mask | 140 (56.0 %) | 47.0 % | 31.0 % |",
                "with the weights as they were, not averaged: 70.2 %",
                "the network finds other shares of the classes among the unlabelled images",
            ],
        );
        has(
            &text,
            &[
                "Groups of the column \"person\" are never both",
                "\nDoubts about the data and how it was split:\n\n- column \"source\" goes with the label",
                "| `labelled` | all |",
                "| `pretrained` | none |",
                "| `k` | 2 |",
            ],
        );
        let json = serde_json::to_value(&card).unwrap();
        assert_eq!(json["last_epochs"]["accuracy_median"], 0.862);
        assert_eq!(json["training"]["device"], "cpu");
        assert_eq!(json["test"]["group_gaps"][0]["worst"], "2-9");
        assert!(json["limits"].as_array().unwrap().len() > 2, "{json:#}");
    }

    #[test]
    fn a_card_tells_of_each_device_and_number_format_that_the_run_had() {
        let mut card = card("mask", None);
        let training = card.training.as_mut().unwrap();
        training.computed_on = vec!["bf16 on cuda:0".to_owned(), "float32 on cpu".to_owned()];
        (training.device, training.precision) = ("cpu".to_owned(), "float32".to_owned());
        has(&card.markdown(), &["Trained in 12 min 34 s (bf16 on cuda:0, then float32 on cpu) by mixmatch 0.1.0."]);
        card.training.as_mut().unwrap().computed_on.clear();
        has(&card.markdown(), &["Trained in 12 min 34 s on cpu in float32 by mixmatch 0.1.0."]);
    }

    #[test]
    fn a_card_of_weights_from_before_the_first_guess_says_so() {
        let mut card = card("mask", None);
        card.config["warmup"] = 0.2.into();
        card.validation.as_mut().unwrap().lambda_u = None;
        has(
            &card.markdown(),
            &["Learned from 250 labelled images alone: the chosen epoch lies before the first guess."],
        );
        card.training.as_mut().unwrap().pretraining_images = Some(6883);
        has(
            &card.markdown(),
            &[
                "Learned from 250 labelled images: the chosen epoch lies before the first guess.",
                "Before that, its backbone learned from 6883 images without their labels",
            ],
        );
        card.validation.as_mut().unwrap().lambda_u = Some(3.0);
        has(&card.markdown(), &["and from 6883 without their label"]);
    }

    #[test]
    fn a_card_says_that_images_without_a_face_are_withheld() {
        let mut test = test_metrics();
        assert!(!card("mask", Some(&test)).markdown().contains("no face"));
        test.faceless = Some(22);
        has(&card("mask", Some(&test)).markdown(), &["are withheld, and the 22 to images in which no face was found:"]);
    }

    #[test]
    fn a_supervised_card_claims_no_unlabelled_images() {
        let mut card = card("mask", None);
        card.config["algorithm"] = "supervised".into();
        has(&card.markdown(), &["Learned from 250 labelled images alone."]);
        card.split.picked = 0;
        card.training.as_mut().unwrap().pretraining_images = Some(6883);
        let told =
            "Learned from 250 labelled images. Before that, its backbone learned from 6883 images without their labels";
        has(&card.markdown(), &[told]);
    }

    #[test]
    fn a_card_claims_not_to_know_what_imported_weights_have_met() {
        let unknown = "What the weights that it started from were trained on is not known here";
        let of = |pretrained: serde_json::Value, algorithm: &str| {
            let mut manifest = manifest(["mask", "no_mask"], Some(&test_metrics()));
            manifest.config["pretrained"] = pretrained;
            manifest.config["algorithm"] = algorithm.into();
            Card::new("mask", 3, "a1b2", manifest).markdown()
        };
        let text = of("own".into(), "supervised");
        has(&text, &["Learned from 250 labelled images, starting from the weights \"own\".", unknown]);
        let text = of("own".into(), "mixmatch");
        has(&text, &["the labelled ones among them, starting from the weights \"own\".", unknown]);
        let text = of(serde_json::Value::Null, "supervised");
        assert!(!text.contains(unknown) && !text.contains("starting from"), "{text}");
    }

    #[test]
    fn an_older_models_card_leaves_out_what_was_not_kept() {
        let mut card = card("mask", None);
        card.split.picked = 0;
        (card.last_epochs, card.training, card.group_column) = (None, None, None);
        card.labelled_classes.clear();
        card.validation = Some(EpochMetrics::default());
        let text = card.markdown();
        assert!(!text.contains("picked"), "{text}");
        assert!(!text.contains("not averaged") && !text.contains("of the answers"), "{text}");
        assert!(
            !text.contains("median accuracy") && !text.contains("Trained in") && !text.contains("Groups of the column"),
            "{text}"
        );
    }
}
