//! From a request to a configuration in which nothing is left open: the request laid over its preset and checked against the data.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::config::TrainConfig;
use super::{limits, preset, start, sweep};

/// What a configuration is checked against.
#[derive(Clone, Debug, Default)]
pub struct DataFacts {
    /// Class names in order.
    pub classes: Vec<String>,
    /// Labelled training rows per class, in class order.
    pub labelled: Vec<u64>,
    /// Those among them that were picked: they do not validate.
    pub picked: u64,
    /// All training rows.
    pub train: u64,
    /// Weights that a run may start from.
    pub pretrained: Vec<PretrainedFacts>,
}

/// Imported weights, as far as a configuration is checked against them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PretrainedFacts {
    /// What `pretrained` calls them.
    pub name: String,
    /// Hash of the file.
    pub sha256: String,
    /// The network that they are for.
    pub network: String,
    /// Classes of their head; none without one.
    pub classes: Option<u32>,
}

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    /// A stable snake_case word.
    pub code: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl FieldProblem {
    /// A problem with the top-level field `field`.
    pub fn new(field: &str, code: &str, detail: impl Into<String>) -> Self {
        let escaped = field.replace('~', "~0").replace('/', "~1");
        Self { pointer: format!("/{escaped}"), code: code.to_owned(), detail: detail.into() }
    }

    /// A problem with the request as a whole, at which RFC 6901 points with nothing: `/` is a field of no name.
    pub(super) fn whole(code: &str, detail: impl Into<String>) -> Self {
        Self { pointer: String::new(), code: code.to_owned(), detail: detail.into() }
    }
}

/// What somebody sent, as far as a message repeats it.
pub(in crate::train) fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Lays `request` over its preset and checks the result against the data.
///
/// # Errors
/// Every problem found, not the first alone: unknown fields and presets, wrong types, values out of range,
/// more labels than the data set has.
pub fn resolve(request: &Map<String, Value>, facts: &DataFacts) -> Result<TrainConfig, Vec<FieldProblem>> {
    match named_preset(request) {
        Ok(base) => laid_over(base, request, facts),
        Err(unknown) => Err(beside_a_preset(unknown, request, facts)),
    }
}

/// What is wrong with a request of which nobody knows the preset: that, and what would be wrong with it over any.
fn beside_a_preset(unknown: FieldProblem, request: &Map<String, Value>, facts: &DataFacts) -> Vec<FieldProblem> {
    let mut rest = request.clone();
    rest.remove("preset");
    let problems_over = |base: TrainConfig| laid_over(base, &rest, facts).err().unwrap_or_default();
    let mut presets = preset::NAMES.into_iter().filter_map(preset::by_name);
    let mut problems = presets.next().map(problems_over).unwrap_or_default();
    for base in presets {
        let found = problems_over(base);
        problems.retain(|problem| found.contains(problem));
    }
    problems.insert(0, unknown);
    problems
}

/// Lays `request` over `base`, which is scaled to the number of classes before.
fn laid_over(
    base: TrainConfig,
    request: &Map<String, Value>,
    facts: &DataFacts,
) -> Result<TrainConfig, Vec<FieldProblem>> {
    let base = preset::for_classes(base, facts.classes.len());
    let (mut config, mut problems) = overlay(base, request);
    if !request.contains_key("labelled") {
        // A preset's number of labels is the most that it takes, not the least that there must be.
        let left = limits::labels_left(&config, facts).unwrap_or(u64::MAX);
        config.labelled = config.labelled.filter(|wanted| u64::from(*wanted) <= left);
    }
    if !request.contains_key("bn_momentum") {
        config.bn_momentum = preset::momentum_for(config.bn_momentum, config.steps());
    }
    problems.extend(limits::check(&config, facts, &problems));
    config.pretrained_sha256 = start::chosen(&config, facts).map(|weights| weights.sha256.clone());
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn named_preset(request: &Map<String, Value>) -> Result<TrainConfig, FieldProblem> {
    match request.get("preset") {
        None | Some(Value::Null) => Ok(preset::quick()),
        Some(value) => value.as_str().and_then(preset::by_name).ok_or_else(|| {
            let names = preset::NAMES.join(", ");
            let detail = format!("no preset {}; there are {names}", shortened(&value.to_string()));
            FieldProblem::new("preset", "unknown_preset", detail)
        }),
    }
}

/// Lays the fields on one at a time, so that each wrong one is named and the others still count.
fn overlay(base: TrainConfig, request: &Map<String, Value>) -> (TrainConfig, Vec<FieldProblem>) {
    let mut problems = Vec::new();
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&base) else {
        return (base, vec![FieldProblem::whole("internal", "the preset could not be written as JSON")]);
    };
    let mut config = base;
    // `"preset": null` is what it says elsewhere: none is named.
    for (name, value) in request.iter().filter(|(name, value)| *name != "preset" || !value.is_null()) {
        if !fields.contains_key(name) {
            let besides = sweep::REQUEST_FIELDS.map(str::to_owned);
            let known = fields.keys().cloned().chain(besides).collect::<Vec<_>>();
            problems.push(FieldProblem::new(name, "unknown_field", limits::unknown_field(name, &known)));
            continue;
        }
        let before = fields.insert(name.clone(), value.clone());
        match serde_json::from_value::<TrainConfig>(Value::Object(fields.clone())) {
            Ok(next) => config = next,
            Err(error) => {
                let detail =
                    format!("{} is no {name}: {}", shortened(&value.to_string()), wanted(value, &error.to_string()));
                problems.push(FieldProblem::new(name, "invalid_value", detail));
                if let Some(before) = before {
                    fields.insert(name.clone(), before);
                }
            }
        }
    }
    (config, problems)
}

/// What a field takes instead of `value`, out of serde's message (`invalid type: sequence, expected f64`), which names Rust's types.
fn wanted(value: &Value, message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or("", |(_, expected)| expected);
    let wanted = match expected {
        "f32" | "f64" => "it is a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "it is a whole number from 0 on, and not too large",
        "a boolean" => "it is true or false",
        "a string" => "it is a text",
        choices if choices.contains('`') => &format!("it is {choices}"),
        _ => message,
    };
    let several = if value.is_array() { "; several of them make a sweep, as a list in \"grid\"" } else { "" };
    format!("{}{several}", shortened(wanted))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Two classes and 500 labels, without imported weights.
    pub fn facts() -> DataFacts {
        DataFacts {
            classes: vec!["mask".into(), "no_mask".into()],
            labelled: vec![300, 200],
            train: 500,
            ..DataFacts::default()
        }
    }

    fn resolved(request: Value) -> Result<TrainConfig, Vec<FieldProblem>> {
        let Value::Object(map) = request else { panic!("an object is needed") };
        resolve(&map, &facts())
    }

    #[test]
    fn an_empty_request_is_the_quick_preset() {
        let config = resolved(json!({})).unwrap();
        assert_eq!(config, preset::for_classes(preset::quick(), 2));
        assert_eq!(resolved(json!({"preset": null})).unwrap(), config);
    }

    #[test]
    fn fields_lie_over_the_preset() {
        let config = resolved(json!({"preset": "paper", "k": 3, "lambda_u": 7.5, "labelled": 40})).unwrap();
        assert_eq!((config.k, config.lambda_u, config.labelled), (3, 7.5, Some(40)));
        assert_eq!(config.network, preset::paper().network);
    }

    #[test]
    fn every_problem_is_named_with_its_pointer_and_what_is_allowed() {
        let problems = resolved(json!({
            "lamda_u": 3, "batch": "many", "temperature": 0, "network": "resnet", "labelled": 10_000
        }))
        .unwrap_err();
        let mut pointers = problems.iter().map(|p| p.pointer.as_str()).collect::<Vec<_>>();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/batch", "/labelled", "/lamda_u", "/network", "/temperature"]);
        let unknown = problems.iter().find(|p| p.code == "unknown_field").unwrap();
        assert!(unknown.detail.contains("lambda_u"), "{}", unknown.detail);
        let labelled = problems.iter().find(|p| p.pointer == "/labelled").unwrap();
        assert!(labelled.detail.contains("400"), "the number that is there: {}", labelled.detail);
    }

    #[test]
    fn a_wrong_value_is_told_without_rusts_types() {
        let detail = |request| resolved(request).unwrap_err().remove(0).detail;
        assert_eq!(
            detail(json!({"batch": "many"})),
            "\"many\" is no batch: it is a whole number from 0 on, and not too large"
        );
        assert_eq!(detail(json!({"seed": -3})), "-3 is no seed: it is a whole number from 0 on, and not too large");
        assert_eq!(detail(json!({"mixup": "yes"})), "\"yes\" is no mixup: it is true or false");
        assert_eq!(detail(json!({"fit": "faces"})), "\"faces\" is no fit: it is one of `stretch`, `crop`, `face`");
        let several = detail(json!({"lambda_u": [1, 2]}));
        assert!(
            several.starts_with("[1,2] is no lambda_u: it is a number; several") && several.contains("grid"),
            "{several}"
        );
    }

    #[test]
    fn a_wrong_value_is_repeated_as_far_as_people_read() {
        for request in [json!({"labelled": "x".repeat(1 << 20)}), json!({"preset": "x".repeat(1 << 20)})] {
            let problems = resolved(request).unwrap_err();
            assert!(problems[0].detail.len() < 1000, "{} bytes", problems[0].detail.len());
        }
    }

    #[test]
    fn an_unknown_preset_lists_those_there_are() {
        let problems = resolved(json!({"preset": "fast"})).unwrap_err();
        assert!(problems[0].detail.contains("quick"), "{}", problems[0].detail);
    }

    #[test]
    fn an_unknown_preset_hides_nothing_that_is_wrong_with_any_preset() {
        let wrong = |request| -> Vec<String> {
            let problems = resolved(request).unwrap_err().into_iter();
            let mut pointers: Vec<_> = problems.map(|problem| problem.pointer).collect();
            pointers.sort_unstable();
            pointers
        };
        let request = json!({"preset": "papre", "batch": 0, "k": "two", "labelled": 10_000, "lamda_u": 3});
        assert_eq!(wrong(request), ["/batch", "/k", "/labelled", "/lamda_u", "/preset"]);
        assert_eq!(wrong(json!({"preset": 7, "batch": 0})), ["/batch", "/preset"]);
        // What is wrong beside quick's values may be right beside those of the preset that is meant.
        assert_eq!(wrong(json!({"preset": "refrence", "augment_policy": "one_of_seven"})), ["/preset"]);
        assert_eq!(wrong(json!({"preset": "refrence", "head": "reference"})), ["/preset"]);
    }

    #[test]
    fn every_preset_fits_a_data_set_of_its_size() {
        let facts = DataFacts { labelled: vec![1000, 1000], train: 2000, ..facts() };
        for name in preset::NAMES {
            let request = Map::from_iter([("preset".to_owned(), json!(name))]);
            let config = resolve(&request, &facts).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            assert_eq!(config.preset, name);
        }
    }

    #[test]
    fn a_presets_own_number_of_labels_is_the_most_that_it_takes() {
        let request = Map::from_iter([("preset".to_owned(), json!("reference"))]);
        let many = DataFacts { labelled: vec![1000, 1000], train: 2000, ..facts() };
        assert_eq!(resolve(&request, &many).unwrap().labelled, Some(1000));
        assert_eq!(resolve(&request, &facts()).unwrap().labelled, None, "500 labels: all of them");
    }

    #[test]
    fn picked_labels_train_and_none_of_them_is_held_out() {
        let picked = DataFacts { picked: 100, ..facts() };
        let with = |labelled: u32| {
            let request = Map::from_iter([("labelled".to_owned(), json!(labelled))]);
            resolve(&request, &picked)
        };
        // A fifth of the 400 that were drawn.
        assert_eq!(with(420).unwrap().labelled, Some(420));
        let refused = with(421).unwrap_err();
        assert!(refused[0].detail.contains("80 of them are held out"), "{refused:?}");
    }

    #[test]
    fn few_labels_of_many_classes_leave_one_of_each_for_validation() {
        let classes: Vec<String> = (0..10).map(|c| c.to_string()).collect();
        let few = DataFacts { classes, labelled: vec![4; 10], train: 500, ..DataFacts::default() };
        let wanted = |labelled: u32| Map::from_iter([("labelled".to_owned(), json!(labelled))]);
        // A fifth of 40 are 8; ten classes need ten.
        assert!(resolve(&Map::new(), &few).is_ok() && resolve(&wanted(30), &few).is_ok());
        let problems = resolve(&wanted(31), &few).unwrap_err();
        assert!(problems[0].detail.contains("10 of them are held out"), "{}", problems[0].detail);
        let lonely = DataFacts { labelled: vec![50, 1], ..facts() };
        let problems = resolve(&Map::new(), &lonely).unwrap_err();
        assert_eq!((problems.len(), problems[0].code.as_str()), (1, "too_few_labels"));
        assert!(problems[0].detail.contains("\"no_mask\" has 1"), "{}", problems[0].detail);
    }

    #[test]
    fn a_backbone_that_is_to_stay_as_it_was_loaded_is_not_pretrained() {
        let pointers = |request: Value| -> Vec<String> {
            let refused = resolve(request.as_object().unwrap(), &facts()).unwrap_err();
            refused.into_iter().map(|problem| problem.pointer).collect()
        };
        let frozen = json!({"backbone_learning_rate_factor": 0, "pretrain_epochs": 5});
        assert!(pointers(frozen).contains(&"/pretrain_epochs".to_owned()));
    }

    #[test]
    fn a_short_run_moves_the_running_statistics_faster_unless_it_is_told_how_fast() {
        let momentum = |request: Value| {
            resolve(request.as_object().unwrap(), &facts())
                .unwrap_or_else(|problems| panic!("{problems:?}"))
                .bn_momentum
        };
        assert_eq!(momentum(json!({"preset": "paper"})), 0.001);
        assert_eq!(momentum(json!({"preset": "paper", "epochs": 4, "steps_per_epoch": 250})), 0.005);
        assert_eq!(momentum(json!({"preset": "paper", "epochs": 1, "steps_per_epoch": 2})), 1.0);
        assert_eq!(momentum(json!({"preset": "paper", "epochs": 4, "bn_momentum": 0.001})), 0.001);
        assert_eq!(momentum(json!({})), preset::quick().bn_momentum);
    }

    #[test]
    fn the_weight_of_the_unlabelled_loss_depends_on_the_number_of_classes() {
        let classes = (0..10).map(|c| c.to_string()).collect();
        let ten = DataFacts { classes, labelled: vec![100; 10], train: 1000, ..DataFacts::default() };
        let request = Map::from_iter([("preset".to_owned(), json!("paper"))]);
        assert_eq!(resolve(&request, &ten).unwrap().lambda_u, 75.0);
        assert_eq!(resolve(&request, &facts()).unwrap().lambda_u, 15.0);
        let quick = Map::new();
        let (at_two, at_ten) = (resolve(&quick, &facts()).unwrap().lambda_u, resolve(&quick, &ten).unwrap().lambda_u);
        assert_eq!((at_two, at_ten), (preset::quick().lambda_u, 5.0 * preset::quick().lambda_u));
    }
}
