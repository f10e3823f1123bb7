//! The configuration of a run: every hyper-parameter of the algorithm by its usual name.
//!
//! A request names a preset and whatever it wants otherwise; [`resolve`] lays the one over the other and
//! answers with a [`TrainConfig`] in which nothing is left open. That is what a job stores, so that a run
//! can be read and repeated years later even if a preset has changed meanwhile.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::limits;
use super::preset;
use super::start;
use super::sweep;
pub use crate::augment::{Fill, Policy};
use crate::dataset::SplitSpec;
use crate::imaging::{Fit, Preprocess};
pub use crate::nn::Head;
pub use crate::nn::device::PrecisionWish;

/// The learning algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmName {
    /// Berthelot et al. 2019, arXiv 1905.02249.
    Mixmatch,
    /// The labelled images alone, with the same network and augmentation.
    Supervised,
}

impl AlgorithmName {
    /// The algorithm's stable word, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AlgorithmName::Mixmatch => "mixmatch",
            AlgorithmName::Supervised => "supervised",
        }
    }
}

/// How the learning rate moves over the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// As in the paper.
    Constant,
    /// Constant over the warm-up, then lr·½(1 + cos(π · progress)) down to 0 (SGDR without restarts, arXiv
    /// 1608.03983).
    Cosine,
}

/// Whose answers become the guessed labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuessFrom {
    /// The weights being trained, as in the paper.
    Raw,
    /// Their moving average, as a mean teacher does (arXiv 1703.01780): steadier in short runs.
    Ema,
}

/// A run, fully resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The preset that the rest was laid over.
    pub preset: String,
    /// The learning algorithm.
    pub algorithm: AlgorithmName,
    /// Labels to train with (stratified sample); null takes every labelled training row outside validation.
    pub labelled: Option<u32>,
    /// Share of the labelled training rows that choose the best epoch and are never trained on.
    pub validation: f64,
    /// Upper bound of the validation split, images.
    pub validation_max: u32,
    /// Decides splits, initial weights, batches and augmentations.
    pub seed: u64,
    /// `wrn-<depth>-<width>`: depth 6n + 4, for example `wrn-28-2`; `wrn4-<depth>-<width>`, for 64 pixels and more: depth 8n + 4,
    /// for example `wrn4-20-1`; or `wide_resnet50_2`, torchvision's.
    pub network: String,
    /// From the network's features to the classes.
    pub head: Head,
    /// Name of imported weights to start from (`GET /pretrained`); null starts at random.
    pub pretrained: Option<String>,
    /// SHA-256 of those weights, filled in when the run is queued. Given in a request, it must be that of `pretrained`.
    pub pretrained_sha256: Option<String>,
    /// Passes over the training images, validation left out, in which the backbone learns before anything else, and without any
    /// label, which two views show the same image (SimCLR, arXiv 2002.05709); 0 is none. `supervised` has none.
    pub pretrain_epochs: u32,
    /// Images in a step of that, each in two views: every view has all other images' to be told from, so that large is better.
    pub pretrain_batch: u32,
    /// Factor on the learning rate (and so on the weight decay) of everything but the head; 0 leaves the backbone as
    /// it was loaded, its BatchNorm statistics too, and needs `pretrained`.
    pub backbone_learning_rate_factor: f64,
    /// Side of the square input, pixels.
    pub size: u32,
    /// How an image becomes square.
    pub fit: Fit,
    /// Number format of activations and convolutions.
    pub precision: PrecisionWish,
    /// Labelled images in a step (B); as many unlabelled ones go with them.
    pub batch: u32,
    /// Fill each labelled batch with equally many images of every class, however few or lopsided the labels are.
    pub class_balanced: bool,
    /// Epochs: after each, the EMA weights are evaluated on the validation split.
    pub epochs: u32,
    /// Optimiser steps in an epoch.
    pub steps_per_epoch: u32,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Decoupled weight decay wd: w ← w·(1 − wd·lr) after the step, convolution and linear kernels only.
    pub weight_decay: f64,
    /// Decay of the exponential moving average of the weights, per step.
    pub ema_decay: f64,
    /// Momentum of BatchNorm's running statistics (PyTorch's convention: the new batch's share).
    pub bn_momentum: f64,
    /// Mix pairs of images and targets; false is λ' = 1.
    pub mixup: bool,
    /// λ ~ Beta(α, α), λ' = max(λ, 1 − λ), drawn for each sample.
    pub alpha: f64,
    /// K: augmented views of an unlabelled image that are averaged into its guess.
    pub k: u32,
    /// T: sharpening temperature of the guesses.
    pub temperature: f64,
    /// λ_U: weight of the unlabelled loss after the ramp.
    pub lambda_u: f64,
    /// Share of the steps after the warm-up over which λ_U rises linearly from 0.
    pub ramp: f64,
    /// Share of the run that trains on the labelled images alone before unlabelled ones join: guesses of a
    /// network that knows nothing yet stick. The ramp and the schedule begin after it.
    pub warmup: f64,
    /// Whose answers become the guessed labels.
    pub guess_from: GuessFrom,
    /// Distribution alignment (ReMixMatch §3.1, arXiv 1911.09785): guesses are scaled so that on the whole
    /// they have the labelled images' class shares. Right only where both sets have the same shares.
    pub align: bool,
    /// Augmentation anchoring (ReMixMatch §3.2, arXiv 1911.09785): labels are guessed on weak views, mirrored and cropped
    /// alone, and trained on views with every augmentation below. False guesses on the very views that are trained on,
    /// as MixMatch does.
    pub anchor: bool,
    /// Whether a view gets every operation that is switched on below (`compose`) or exactly one of seven
    /// (`one_of_seven`, as in the notebooks this service grew from), where the K views of an image get different
    /// ones.
    pub augment_policy: Policy,
    /// Mirror images left to right with probability ½.
    pub augment_flip: bool,
    /// Reflect-pad by so many pixels on each side, then crop at random; 0 switches it off.
    pub augment_pad: u32,
    /// Multiply brightness by a factor from 1 ± this, one draw an image; 0 switches it off.
    pub augment_brightness: f64,
    /// Scale contrast about the image's mean luma by a factor from 1 ± this; 0 switches it off.
    pub augment_contrast: f64,
    /// Scale saturation (each pixel about its own luma) by a factor from 1 ± this; 0 switches it off.
    pub augment_saturation: f64,
    /// Turn each pixel's hue by ± this share of the circle, 0.5 for any hue; 0 switches it off.
    pub augment_hue: f64,
    /// Raise pixels (0…1) to a power from 1 ± this; 0 switches it off.
    pub augment_gamma: f64,
    /// Probability of losing all colour; 0 switches it off. Under `one_of_seven` any other value stands for 1 in 7.
    pub augment_grayscale: f64,
    /// Rotate about the middle by an angle from ± this, degrees; 0 switches it off.
    pub augment_rotation: f64,
    /// Zoom about the middle by a factor from 1 ± this; 0 switches it off.
    pub augment_scale: f64,
    /// What rotation and zoom show beyond the border.
    pub augment_fill: Fill,
    /// Cutout (arXiv 1708.04552): cover a mid-grey square anywhere in the image, its side this share of the
    /// image's; 0 switches it off.
    pub augment_erase: f64,
    /// The class that F1 speaks of; null takes the first class.
    pub positive_class: Option<String>,
}

impl Default for TrainConfig {
    /// [`preset::plain`].
    fn default() -> Self {
        preset::plain()
    }
}

impl TrainConfig {
    /// Optimiser steps in the run.
    pub fn steps(&self) -> u64 {
        u64::from(self.epochs) * u64::from(self.steps_per_epoch)
    }

    /// Optimiser steps on the labelled images alone.
    pub fn warmup_steps(&self) -> u64 {
        (self.steps() as f64 * self.warmup) as u64
    }

    /// How an image becomes the network's input.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess { size: self.size, fit: self.fit }
    }

    /// Which rows train, choose and test: nothing else decides it, so that an algorithm and its baseline have the
    /// same labels.
    pub fn split_spec(&self) -> SplitSpec {
        SplitSpec {
            labelled: self.labelled.map(|labels| labels as usize),
            validation: self.validation,
            validation_max: self.validation_max as usize,
            seed: self.seed,
        }
    }

    /// Index of the class that F1 speaks of.
    pub fn positive_index(&self, classes: &[String]) -> usize {
        let name = self.positive_class.as_deref();
        classes.iter().position(|class| Some(class.as_str()) == name).unwrap_or(0)
    }
}

/// What a configuration is checked against.
#[derive(Clone, Debug, Default)]
pub struct DataFacts {
    /// Class names in order.
    pub classes: Vec<String>,
    /// Labelled training rows per class, in class order.
    pub labelled: Vec<u64>,
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
}

/// What somebody sent, as far as a message repeats it.
pub(super) fn shortened(text: &str) -> String {
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
    let base = named_preset(request, facts).map_err(|problem| vec![problem])?;
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

fn named_preset(request: &Map<String, Value>, facts: &DataFacts) -> Result<TrainConfig, FieldProblem> {
    let classes = facts.classes.len();
    match request.get("preset") {
        None | Some(Value::Null) => Ok(preset::for_classes(preset::quick(), classes)),
        Some(value) => {
            value.as_str().and_then(preset::by_name).map(|base| preset::for_classes(base, classes)).ok_or_else(|| {
                let names = preset::NAMES.join(", ");
                let detail = format!("no preset {}; there are {names}", shortened(&value.to_string()));
                FieldProblem::new("preset", "unknown_preset", detail)
            })
        }
    }
}

/// Lays the fields on one at a time, so that each wrong one is named and the others still count.
fn overlay(base: TrainConfig, request: &Map<String, Value>) -> (TrainConfig, Vec<FieldProblem>) {
    let mut problems = Vec::new();
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&base) else {
        return (base, vec![FieldProblem::new("", "internal", "the preset could not be written as JSON")]);
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
                    format!("{} is no {name}: {}", shortened(&value.to_string()), shortened(&error.to_string()));
                problems.push(FieldProblem::new(name, "invalid_value", detail));
                if let Some(before) = before {
                    fields.insert(name.clone(), before);
                }
            }
        }
    }
    (config, problems)
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
        let supervised = json!({"backbone_learning_rate_factor": 0, "pretrain_epochs": 5, "algorithm": "supervised"});
        assert!(!pointers(supervised).contains(&"/pretrain_epochs".to_owned()), "it has none");
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
