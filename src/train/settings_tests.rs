//! The borders of what a request may ask for, and what is made of it.

use serde_json::{Value, json};
use tch::{Device, Kind};

use super::config::{FieldProblem, TrainConfig, resolve};
use super::learner::Learner;
use super::resolve::tests::facts;
use super::sweep::tests::forty_images;
use super::{preset, start, sweep};
use crate::dataset::{Split, SplitSpec};
use crate::sha256;

fn resolved(request: &Value) -> Result<TrainConfig, Vec<FieldProblem>> {
    resolve(request.as_object().unwrap(), &facts())
}

/// Pointer, code and sentence of the one thing that is wrong.
fn refused(request: &Value) -> [String; 3] {
    let mut problems = resolved(request).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let FieldProblem { pointer, code, detail } = problems.remove(0);
    [pointer, code, detail]
}

#[test]
fn guesses_weigh_more_the_more_classes_there_are_up_to_ten() {
    let weight = |of: fn() -> TrainConfig, classes| preset::for_classes(of(), classes).lambda_u;
    assert_eq!([2, 10, 11, 100].map(|classes| weight(preset::paper, classes)), [15.0, 75.0, 75.0, 75.0]);
    assert_eq!([2, 10, 11, 100].map(|classes| weight(preset::quick, classes)), [3.0, 15.0, 15.0, 15.0]);
}

#[test]
fn one_label_of_each_class_is_enough_and_fewer_are_not() {
    assert_eq!(resolved(&json!({"labelled": 2})).unwrap().labelled, Some(2));
    let detail = "labelled is 1, but there are 2 classes and each needs one label";
    assert_eq!(refused(&json!({"labelled": 1})), ["/labelled", "out_of_range", detail]);
}

#[test]
fn a_positive_class_that_there_is_not_is_refused() {
    let config = resolved(&json!({"positive_class": "no_mask"})).unwrap();
    assert_eq!(config.positive_index(&facts().classes), 1);
    let detail = "no class \"no mask\"; there are mask, no_mask";
    assert_eq!(refused(&json!({"positive_class": "no mask"})), ["/positive_class", "unknown_class", detail]);
}

#[test]
fn a_seed_is_what_every_table_and_client_can_repeat() {
    assert_eq!(resolved(&json!({"seed": 9_223_372_036_854_775_807_u64})).unwrap().seed, 9_223_372_036_854_775_807);
    let detail = "seed is 9223372036854775808, allowed is 0 to 9223372036854775807";
    assert_eq!(refused(&json!({"seed": 9_223_372_036_854_775_808_u64})), ["/seed", "out_of_range", detail]);
}

#[test]
fn what_one_of_seven_never_does_is_refused_beside_it() {
    for field in ["augment_scale", "augment_hue", "augment_erase"] {
        let request = json!({"preset": "reference", field: 0.1});
        let detail =
            format!("{field} is none of the seven of augment_policy one_of_seven: set it to 0, or take compose");
        assert_eq!(refused(&request), [format!("/{field}"), "not_in_policy".to_owned(), detail]);
    }
}

#[test]
fn a_picture_is_padded_by_less_than_its_side() {
    assert_eq!(resolved(&json!({"size": 32, "augment_pad": 31})).unwrap().augment_pad, 31);
    let detail = "augment_pad must be smaller than size (32)";
    assert_eq!(refused(&json!({"size": 32, "augment_pad": 32})), ["/augment_pad", "out_of_range", detail]);
}

#[test]
fn a_pointer_leads_to_a_field_of_any_name() {
    let [pointer, code, _] = refused(&json!({"a/b~c~1": 1}));
    assert_eq!((pointer.as_str(), code.as_str()), ("/a~1b~0c~01", "unknown_field"));
}

#[test]
fn a_run_is_split_as_its_configuration_says() {
    let config =
        TrainConfig { labelled: Some(40), validation: 0.3, validation_max: 50, seed: 7, ..TrainConfig::default() };
    let spec = config.split_spec();
    assert_eq!(spec, SplitSpec { labelled: Some(40), validation: 0.3, validation_max: 50, seed: 7 });
    assert_eq!([100, 1000].map(|labels| spec.held_out(labels, 2)), [30, 50]);
}

#[test]
fn a_baseline_behind_runs_that_were_dropped_is_that_of_its_own_run() {
    let manifest = forty_images(|_| None);
    let request = json!({"labelled": [32, null, 20], "seed": 1, "validation": 0.2, "baseline": true});
    let mut plan = sweep::plan(request.as_object().unwrap(), &facts()).unwrap();
    assert_eq!(plan.runs.len(), 6);
    // Of 40 images 8 validate: 32 are all there are.
    assert_eq!(plan.check_splits(&manifest), Ok(()));
    let told: Vec<_> = plan.runs.iter().map(|run| (run.config.labelled, run.baseline_of)).collect();
    assert_eq!(told, [(Some(32), Some(1)), (Some(32), None), (Some(20), Some(3)), (Some(20), None)]);
}

#[test]
fn weights_that_changed_since_they_were_imported_are_not_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("start.safetensors");
    std::fs::write(&path, b"as it was imported").unwrap();
    let config = TrainConfig {
        network: "wrn-10-1".to_owned(),
        pretrained: Some("shapes".to_owned()),
        pretrained_sha256: Some(sha256::of(b"as it was imported")),
        ..TrainConfig::default()
    };
    let prior = [0.5, 0.5];
    let mut learner = Learner::new(&config, &Split::default(), &[], &prior, Device::Cpu, Kind::Float).unwrap();
    let mut refused = || start::load(&mut learner, &config, &path).unwrap_err().to_string();
    let looked_into = refused();
    assert!(looked_into.contains("no safetensors file"), "{looked_into}");
    std::fs::write(&path, b"as somebody left it").unwrap();
    let changed = "the file has changed since it was imported; import it again";
    assert_eq!(refused(), format!("pretrained weights \"shapes\": {changed}"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(), "pretrained weights \"shapes\": they were deleted; import them again");
}
