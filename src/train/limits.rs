//! What values a configuration may hold, field by field, and the sentences that say so.

use super::augmentation;
use super::config::{DataFacts, FieldProblem, TrainConfig};
use super::start;
use crate::nn::Architecture;

/// Checks every field of `config`; fields that `earlier` already complains of are passed over.
pub fn check(config: &TrainConfig, facts: &DataFacts, earlier: &[FieldProblem]) -> Vec<FieldProblem> {
    let mut problems = ranges(config);
    // What OpenAPI's int64 holds, and so what every client, JSON reader and table can repeat.
    if i64::try_from(config.seed).is_err() {
        let detail = format!("seed is {}, allowed is 0 to {}", config.seed, i64::MAX);
        problems.push(FieldProblem::new("seed", "out_of_range", detail));
    }
    match config.network.parse::<Architecture>() {
        Err(error) => problems.push(FieldProblem::new("network", "unknown_network", error.to_string())),
        Ok(network) => {
            let head = network.check_head(config.head).err();
            problems.extend(head.map(|error| FieldProblem::new("head", "invalid_value", error.to_string())));
            let size = network.check_size(config.size).err();
            problems.extend(size.map(|detail| FieldProblem::new("size", "invalid_value", detail)));
        }
    }
    problems.extend(start::check(config, facts));
    if config.pretrain_epochs > 0 && config.backbone_learning_rate_factor == 0.0 {
        let detail = "a backbone_learning_rate_factor of 0 leaves the backbone as it was loaded, and pretraining would change \
                      it; set pretrain_epochs to 0, or raise the factor";
        problems.push(FieldProblem::new("pretrain_epochs", "invalid_value", detail));
    }
    problems.extend(augmentation::check(config));
    if let Some(class) = &config.positive_class
        && !facts.classes.is_empty()
        && !facts.classes.contains(class)
    {
        let detail = format!("no class {class:?}; there are {}", facts.classes.join(", "));
        problems.push(FieldProblem::new("positive_class", "unknown_class", detail));
    }
    problems.extend(labels(config, facts));
    problems.retain(|problem| earlier.iter().all(|seen| seen.pointer != problem.pointer));
    problems
}

/// Name, value, least and greatest allowed value of each numeric field.
pub fn numbers(config: &TrainConfig) -> impl Iterator<Item = (&'static str, f64, f64, f64)> {
    let table = [
        ("validation", config.validation, 0.01, 0.99),
        ("validation_max", f64::from(config.validation_max), 2.0, 1e6),
        ("size", f64::from(config.size), 8.0, 512.0),
        ("batch", f64::from(config.batch), 2.0, 4096.0),
        ("pretrain_epochs", f64::from(config.pretrain_epochs), 0.0, 10_000.0),
        ("pretrain_batch", f64::from(config.pretrain_batch), 2.0, 4096.0),
        ("epochs", f64::from(config.epochs), 1.0, 100_000.0),
        ("steps_per_epoch", f64::from(config.steps_per_epoch), 1.0, 1e6),
        ("learning_rate", config.learning_rate, 1e-8, 1.0),
        ("weight_decay", config.weight_decay, 0.0, 1.0),
        ("ema_decay", config.ema_decay, 0.0, 0.999_999),
        ("backbone_learning_rate_factor", config.backbone_learning_rate_factor, 0.0, 1.0),
        ("bn_momentum", config.bn_momentum, 1e-4, 1.0),
        ("alpha", config.alpha, 0.01, 100.0),
        ("k", f64::from(config.k), 1.0, 16.0),
        ("temperature", config.temperature, 0.01, 10.0),
        ("lambda_u", config.lambda_u, 0.0, 10_000.0),
        ("ramp", config.ramp, 0.0, 1.0),
        ("warmup", config.warmup, 0.0, 0.9),
    ];
    table.into_iter().chain(augmentation::ranges(config))
}

fn ranges(config: &TrainConfig) -> Vec<FieldProblem> {
    numbers(config)
        .filter(|(_, value, low, high)| !(low..=high).contains(&value))
        .map(|(field, value, low, high)| {
            FieldProblem::new(field, "out_of_range", format!("{field} is {value}, allowed is {low} to {high}"))
        })
        .collect()
}

fn labels(config: &TrainConfig, facts: &DataFacts) -> Vec<FieldProblem> {
    let classes = facts.classes.len();
    let few: Vec<String> = facts
        .classes
        .iter()
        .zip(&facts.labelled)
        .filter(|(_, labels)| **labels < 2)
        .map(|(class, labels)| format!("{class:?} has {labels}"))
        .collect();
    if !few.is_empty() {
        let detail = format!(
            "each class needs two labelled training rows, one to train on and one to validate with, but {}; label more \
             images or leave the class out of the sheet",
            few.join(", ")
        );
        return vec![FieldProblem::new("labelled", "too_few_labels", detail)];
    }
    let Some(wanted) = config.labelled else { return Vec::new() };
    if (wanted as usize) < classes.max(1) {
        let detail = format!("labelled is {wanted}, but there are {classes} classes and each needs one label");
        return vec![FieldProblem::new("labelled", "out_of_range", detail)];
    }
    if let Some(left) = labels_left(config, facts)
        && u64::from(wanted) > left
    {
        let all: u64 = facts.labelled.iter().sum();
        let detail = format!(
            "labelled is {wanted}, but {all} training rows have a label and {} of them are held out for validation: at most \
             {left} are left",
            all - left
        );
        return vec![FieldProblem::new("labelled", "too_many_labels", detail)];
    }
    Vec::new()
}

/// Labels that are there to train with once validation has its share; none where nobody has counted them.
pub fn labels_left(config: &TrainConfig, facts: &DataFacts) -> Option<u64> {
    let all: u64 = facts.labelled.iter().sum();
    let drawn = all.saturating_sub(facts.picked);
    let held_out = config.split_spec().held_out(drawn as usize, facts.classes.len()) as u64;
    (!facts.labelled.is_empty()).then(|| all.saturating_sub(held_out))
}

/// The sentence for a field that does not exist: the nearest name, and all names.
pub fn unknown_field(name: &str, known: &[String]) -> String {
    const LONGEST: usize = 64;
    if name.chars().count() > LONGEST {
        let begins: String = name.chars().take(LONGEST).collect();
        return format!("no field {begins:?}…; there are {}", known.join(", "));
    }
    let nearest = known.iter().min_by_key(|candidate| edit_distance(name, candidate));
    let hint = nearest
        .filter(|candidate| edit_distance(name, candidate) <= (name.len() / 2).min(3))
        .map_or(String::new(), |candidate| format!("did you mean {candidate}? "));
    format!("no field {name:?}; {hint}there are {}", known.join(", "))
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_class_a_label_is_left_whatever_share_validates() {
        let facts = DataFacts {
            classes: vec!["rare".into(), "common".into()],
            labelled: vec![2, 100],
            train: 102,
            ..DataFacts::default()
        };
        let left = |validation| labels_left(&TrainConfig { validation, ..TrainConfig::default() }, &facts);
        assert_eq!([0.2, 0.9, 0.99].map(left), [Some(81), Some(10), Some(2)]);
    }

    #[test]
    fn edit_distance_counts_single_character_changes() {
        assert_eq!(edit_distance("lamda_u", "lambda_u"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_far_name_gets_no_wrong_hint() {
        assert!(!unknown_field("zzzzzzzz", &["k".into(), "alpha".into()]).contains("did you mean"));
        let long = unknown_field(&"k".repeat(1 << 20), &["k".into()]);
        assert!(long.len() < 200 && long.contains("there are k"), "{long}");
    }
}
