//! A card as Markdown: short sentences, tables for figures.

use std::fmt::Write;

use super::{Card, words};
use crate::imaging::Fit;
use crate::model::SplitSizes;
use crate::report::met::Met;
use crate::report::naming::escaped;
use crate::statistics::wilson;
use crate::train::event::{EpochMetrics, GroupAccuracy, GroupGap, SMALLEST_GROUP, TestMetrics};

/// Classes of which a matrix or table can still be read; the JSON has all.
const MOST_CLASSES: usize = 20;

/// The whole card.
pub fn write(card: &Card) -> String {
    let mut text = format!("# {} version {}\n\n", escaped(&card.name), card.version);
    line(&mut text, &format!("Classes: {}. {}", listed(&card.classes), card.labels));
    card.doubts.iter().for_each(|doubt| line(&mut text, &format!("\n**{}**", escaped(doubt))));
    heading(&mut text, "Intended use");
    line(&mut text, &escaped(&card.intended_use));
    heading(&mut text, "Out of scope");
    items(&mut text, &card.out_of_scope);
    data(&mut text, card);
    heading(&mut text, "Figures");
    validation(&mut text, card);
    match &card.test {
        Some(test) => tested(&mut text, card, test),
        None => line(&mut text, "No test split: how well it does on images that nothing was chosen by is unknown."),
    }
    heading(&mut text, "Limits");
    items(&mut text, &card.limits);
    made(&mut text, card);
    text
}

/// Whether the published weights are those of labels alone, although the run went on to guess.
fn chosen_in_warmup(card: &Card) -> bool {
    let warms_up = card.config["warmup"].as_f64().is_some_and(|share| share > 0.0);
    warms_up && card.validation.as_ref().is_some_and(|chosen| chosen.lambda_u.is_none())
}

fn data(text: &mut String, card: &Card) {
    heading(text, "Data");
    let SplitSizes { labelled, unlabelled, validation, test, left_out, picked } = card.split;
    let pretrained =
        card.training.as_ref().and_then(|training| training.pretraining_images).filter(|images| *images > 0);
    let pretraining = pretrained.map_or_else(String::new, |images| {
        format!(
            " Before that, its backbone learned from {images} images without their labels (contrastive pretraining)."
        )
    });
    let start = card.config["pretrained"].as_str();
    let started = start.map_or_else(String::new, |name| format!(", starting from the weights \"{}\"", escaped(name)));
    let alone = if pretrained.is_some() || start.is_some() { "" } else { " alone" };
    let learned = if card.config["algorithm"] == "supervised" {
        format!("Learned from {labelled} labelled images{alone}{started}")
    } else if chosen_in_warmup(card) {
        format!("Learned from {labelled} labelled images{alone}{started}: the chosen epoch lies before the first guess")
    } else {
        format!(
            "Learned from {labelled} labelled images, and from {unlabelled} without their label, the labelled ones among \
             them{started}"
        )
    };
    let picked = match picked {
        0 => String::new(),
        number => format!(
            " {number} of the labelled images were picked to be labelled, not drawn: none of those validates, and the classes' shares \
             are those of the others."
        ),
    };
    let left_out = match left_out {
        0 => String::new(),
        number => format!(
            " {number} training images were left out: they share the group of a validation image (the group column's, or near \
             duplicates of it)."
        ),
    };
    let temperature = if validation < words::CALIBRATES { "" } else { " and the temperature" };
    let met = match test {
        0 => String::new(),
        number => format!(" {number} test images were met once, at the end."),
    };
    line(
        text,
        &format!(
            "{learned}.{picked}{pretraining}{left_out} {validation} validation images chose the epoch{temperature}.{met}\n\nData set SHA-256: `{}`.",
            card.dataset_hash
        ),
    );
    if let Some(column) = &card.group_column {
        let column = escaped(column);
        line(text, &format!("\nGroups of the column \"{column}\" are never both trained on and validated with."));
    }
    if !card.data_warnings.is_empty() {
        line(text, "\nDoubts about the data and how it was split:\n");
        items(text, &card.data_warnings.iter().map(|warning| escaped(warning)).collect::<Vec<_>>());
    }
}

fn validation(text: &mut String, card: &Card) {
    if let Some(validation) = &card.validation {
        let images = match validation.validation_images {
            // Older runs did not count them with an epoch.
            0 => card.split.validation as u64,
            images => images,
        };
        let right = (validation.validation_accuracy * images as f64).round() as u64;
        let accuracy = with_interval(validation.validation_accuracy, wilson(right, images));
        let f1 = validation.validation_f1_macro;
        let raw = validation.validation_accuracy_raw.map_or(String::new(), |raw| {
            format!(" Accuracy with the weights as they were, not averaged: {}.", percent(raw))
        });
        line(
            text,
            &format!(
                "Validation, {images} images. Chosen epoch {}: accuracy (95 %) {accuracy}, F1 {f1:.3} (mean of the classes).{raw}",
                validation.epoch
            ),
        );
    }
    // The median of one epoch is that epoch's.
    if let Some(last) = card.last_epochs.filter(|last| last.epochs > 1) {
        line(
            text,
            &format!(
                "Without a choice, median accuracy of the last {} epochs: {}.",
                last.epochs,
                percent(last.accuracy_median)
            ),
        );
    }
    line(
        text,
        &if card.split.validation < words::CALIBRATES {
            format!("Temperature of the probabilities, not fitted: {:.3}.\n", card.temperature)
        } else {
            format!("Temperature of the probabilities, fitted on the validation images: {:.3}.\n", card.temperature)
        },
    );
    if let Some(int8) = &card.int8 {
        line(text, &words::int8(int8));
    }
    if let Some(validation) = &card.validation {
        shares(text, card, validation);
        let left_out = validation.left_out(&card.classes).map(|told| escaped(&told));
        let signs = validation.warnings.iter().map(|&sign| words::sign(sign).to_owned()).chain(left_out);
        let doubts: Vec<String> = signs.map(|told| format!("Doubt at this epoch: {told}.")).collect();
        if !doubts.is_empty() {
            items(text, &doubts);
            line(text, "");
        }
    }
}

/// Whether any class is answered more or less often than the labels have it: how a collapse shows. Of how many labels of a class were
/// picked nothing is kept: with any among them the labels have counts and no shares.
fn shares(text: &mut String, card: &Card, validation: &EpochMetrics) {
    let labels: u64 = card.labelled_classes.iter().sum();
    let known = [card.labelled_classes.len(), validation.validation_classes.len()];
    if labels == 0 || known != [card.classes.len(); 2] || card.classes.len() > MOST_CLASSES {
        return;
    }
    let rows = card.classes.iter().enumerate().map(|(class, name)| {
        let own = card.labelled_classes[class];
        let found = validation.unlabelled_classes.get(class).map_or("–".to_owned(), |&share| percent(share));
        let share = match card.split.picked {
            0 => format!("{own} ({})", percent(own as f64 / labels as f64)),
            _ => own.to_string(),
        };
        [escaped(name), share, percent(validation.validation_classes[class]), found]
    });
    table(
        text,
        ["class", "of the labels", "of the answers on validation", "of the unlabelled images, by the network"],
        rows,
    );
    let note = match card.split.picked {
        0 => String::new(),
        picked => format!(
            "\nThe {picked} picked labels are counted with the others, so that these counts say nothing of the classes' shares.\n"
        ),
    };
    line(text, &note);
}

fn tested(text: &mut String, card: &Card, test: &TestMetrics) {
    line(text, &format!("Test, {} images, met once with the weights of epoch {}:\n", test.images, test.best_epoch));
    let positive = escaped(&test.positive_class);
    let area = |area: Option<f64>| area.map_or("–".to_owned(), |area| format!("{area:.3}"));
    let Met { images, answers } = Met::of_positive(test, &card.classes);
    let mut rows = vec![
        ["accuracy (95 %)".to_owned(), with_interval(test.accuracy, test.accuracy_interval)],
        ["balanced accuracy".to_owned(), percent(test.balanced_accuracy)],
        [format!("F1 of {positive}"), known(images, format!("{:.3}", test.f1))],
        ["F1, mean of the classes".to_owned(), format!("{:.3}", test.f1_macro)],
        [format!("precision of {positive}"), known(answers, percent(test.precision))],
        [format!("recall of {positive}"), known(images, percent(test.recall))],
        [format!("ROC-AUC of {positive}"), area(test.roc_auc)],
    ];
    if card.classes.len() > 2 {
        rows.push(["ROC-AUC, mean of one against the rest".to_owned(), area(test.roc_auc_macro)]);
    }
    rows.push(["expected calibration error".to_owned(), percent(test.calibration_error)]);
    rows.push(["the same without temperature".to_owned(), percent(test.calibration_error_raw)]);
    if let Some(aurc) = test.aurc {
        rows.push(["area under the risk-coverage curve".to_owned(), format!("{aurc:.4}")]);
    }
    table(text, ["figure", "value"], rows);
    classes(text, card, test);
    let faceless = match test.faceless {
        None | Some(0) => String::new(),
        Some(images) => format!(", and the {images} to images in which no face was found"),
    };
    line(
        text,
        &format!("\n### If it may abstain\n\nWhat is left if answers below a `threshold` are withheld{faceless}:\n"),
    );
    let withheld = test
        .abstention
        .iter()
        .map(|row| [row.threshold.to_string(), percent(row.coverage), row.accuracy.map_or("–".to_owned(), percent)]);
    table(text, ["threshold", "answered", "accuracy"], withheld);
    groups(text, test);
}

fn classes(text: &mut String, card: &Card, test: &TestMetrics) {
    if card.classes.len() > MOST_CLASSES {
        line(text, "\nFigures of each class and the confusion matrix: see the JSON form of this card.");
        return;
    }
    if !test.classes.is_empty() {
        line(text, "\n### Per class\n");
        let rows = test.classes.iter().enumerate().map(|(place, class)| {
            let Met { images, answers } = Met::of(test, place);
            [
                escaped(&class.class),
                class.images.to_string(),
                known(answers, percent(class.precision)),
                known(images, with_interval(class.recall, class.recall_interval)),
                known(images, format!("{:.3}", class.f1)),
            ]
        });
        table(text, ["class", "images", "precision", "recall (95 %)", "F1"], rows);
    }
    line(text, "\nTrue class by row, answered class by column:\n");
    let names: Vec<String> = card.classes.iter().map(|class| escaped(class)).collect();
    let head: Vec<String> = std::iter::once("true ╲ answered".to_owned()).chain(names.iter().cloned()).collect();
    let rows = names.iter().zip(&test.confusion).map(|(class, counts)| {
        std::iter::once(format!("**{class}**")).chain(counts.iter().map(u64::to_string)).collect::<Vec<_>>()
    });
    table(text, head, rows);
}

/// A figure, where it is known.
fn known(is_known: bool, figure: String) -> String {
    if is_known { figure } else { "–".to_owned() }
}

fn groups(text: &mut String, test: &TestMetrics) {
    line(text, "\n### For whom\n");
    if test.groups.is_empty() {
        line(text, "The sheets have no column to tell groups by: whether it does worse for some is unknown.");
    } else {
        let rows = test.groups.iter().map(|group| {
            let (accuracy, none) = (with_interval(group.accuracy, group.interval), || "–".to_owned());
            let balanced = group.balanced_accuracy.map_or_else(none, percent);
            let f1 = group.f1.map_or_else(none, |f1| format!("{f1:.3}"));
            let name = escaped(&format!("{} = {}", group.attribute, group.value));
            [name, group.images.to_string(), accuracy, balanced, f1]
        });
        let f1 = format!("F1 of {}", escaped(&test.positive_class));
        table(text, ["group", "images", "accuracy (95 %)", "balanced accuracy", &f1], rows);
        line(text, "");
    }
    let gaps = test.group_gaps.iter().map(|gap| apart(gap, &test.groups));
    items(text, &gaps.collect::<Vec<_>>());
    if test.groups.iter().any(|group| group.images < SMALLEST_GROUP) {
        line(
            text,
            &format!("\nGroups of fewer than {SMALLEST_GROUP} images are shown, and never called lowest or highest."),
        );
    }
    if !test.banded_columns.is_empty() {
        let columns = listed(&test.banded_columns);
        line(
            text,
            &format!(
                "\nColumns of many numbers, cut into fifths of the images, or near them where many have one number: {columns}."
            ),
        );
    }
    if !test.skipped_columns.is_empty() {
        line(text, &format!("\nColumns that make no groups: {}.", listed(&test.skipped_columns)));
    }
}

/// How far apart those of all `groups` are that a column has. Its name does not begin the line: `1.` and `-` would begin a list there.
fn apart(gap: &GroupGap, groups: &[GroupAccuracy]) -> String {
    // Small groups count into the whole: all others may lie above it.
    let side = if gap.below_whole < 0.0 { "above" } else { "below" };
    let points = format!("{:.1}", gap.below_whole.abs() * 100.0);
    let beside = |whom: &str| match points.as_str() {
        "0.0" => String::new(),
        points => format!(" {whom} {points} points {side} the whole."),
    };
    let (attribute, lowest) = (escaped(&gap.attribute), percent(gap.worst_accuracy));
    if gap.gap <= 0.0 {
        let whole = beside("They are");
        let is_small = |group: &GroupAccuracy| group.attribute == gap.attribute && group.images < SMALLEST_GROUP;
        let of =
            if groups.iter().any(is_small) { format!(" of {SMALLEST_GROUP} images and more") } else { String::new() };
        return format!("By {attribute} there is no difference between its groups{of}: {lowest} in each.{whole}");
    }
    let chance = if gap.intervals_overlap { ", which may be chance" } else { "" };
    let (worst, best, highest) = (escaped(&gap.worst), escaped(&gap.best), percent(gap.best_accuracy));
    format!(
        "By {attribute}: lowest where it is {worst} ({lowest}), highest where it is {best} ({highest}): {:.1} points apart{chance}.{}",
        gap.gap * 100.0,
        beside("The lowest is")
    )
}

fn made(text: &mut String, card: &Card) {
    heading(text, "How it was made");
    let word = |field: &str| card.config[field].as_str().unwrap_or("unknown");
    let mut sentence = format!(
        "{} at {size} × {size} pixels{}, {} ({} preset), seed {}.",
        card.network,
        if card.fit == Fit::Face { ", photos cut to the face" } else { "" },
        word("algorithm"),
        word("preset"),
        card.config["seed"],
        size = card.input_size
    );
    if let Some(training) = &card.training {
        let time = duration(training.seconds);
        let on = match training.computed_on.as_slice() {
            // Models of before all of it was kept have the last alone.
            [] | [_] => format!(" on {} in {}", training.device, training.precision),
            several => format!(" ({})", several.join(", then ")),
        };
        // Writing to a string cannot fail, here and below.
        let _ = write!(sentence, " Trained in {time}{on} by {}.", training.software);
    }
    line(text, &format!("{sentence} Made {}.\n\nWeights SHA-256: `{}`.\n", card.created_at, card.weights_sha256));
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = card.config.as_object().into_iter().flatten().map(|(name, setting)| {
        let shown = match name.as_str() {
            "labelled" if setting.is_null() => "all".to_owned(),
            "positive_class" if setting.is_null() => "the first".to_owned(),
            _ if setting.is_null() => "none".to_owned(),
            _ => escaped(&value(setting)),
        };
        [format!("`{name}`"), shown]
    });
    table(text, ["setting", "value"], rows);
}

pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn with_interval(share: f64, [low, high]: [f64; 2]) -> String {
    format!("{} ({:.1}–{:.1})", percent(share), low * 100.0, high * 100.0)
}

/// Names one after the other.
fn listed(names: &[String]) -> String {
    names.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(", ")
}

fn heading(text: &mut String, words: &str) {
    line(text, &format!("\n## {words}\n"));
}

fn items(text: &mut String, items: &[String]) {
    items.iter().for_each(|item| line(text, &format!("- {item}")));
}

fn table<H: AsRef<str>, C: AsRef<str>, R: AsRef<[C]>>(
    text: &mut String,
    head: impl AsRef<[H]>,
    rows: impl IntoIterator<Item = R>,
) {
    row(text, head.as_ref());
    line(text, &format!("{}|", "|---".repeat(head.as_ref().len())));
    rows.into_iter().for_each(|cells| row(text, cells.as_ref()));
}

/// A row of a table, its cells in Markdown: a name in one must be [`escaped`].
fn row(text: &mut String, cells: &[impl AsRef<str>]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

fn line(text: &mut String, words: &str) {
    let _ = writeln!(text, "{words}");
}
