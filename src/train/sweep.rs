//! From one request to the runs it asks for: lists of values span a grid, and `baseline` puts the supervised
//! run on the same labels before each run that uses unlabelled images.

mod axes;

use serde_json::{Map, Value};

use self::axes::{Axis, take_axes};
use super::config::{AlgorithmName, DataFacts, FieldProblem, TrainConfig, resolve};
use super::resolve::shortened;
use crate::dataset::{Manifest, SplitError, SplitSpec, split};

/// The most runs that one request may ask for.
pub const MOST_RUNS: usize = 200;

/// The most fields that a request and its grid may have together: several times what there are.
const MOST_FIELDS: usize = 200;

/// Fields of a request that are no hyper-parameters.
pub const REQUEST_FIELDS: [&str; 2] = ["baseline", "grid"];

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order in which they are to run.
    pub runs: Vec<PlannedRun>,
    /// Whether the request spans a grid; else there is one run, and its baseline where that is asked for.
    pub sweep: bool,
    /// Whether the request says how many labels; a preset's number is the most that it takes.
    numbered: bool,
    /// The list of numbers of labels, where the request has one.
    listed: Vec<Option<u32>>,
}

/// One run of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// The run, fully resolved.
    pub config: TrainConfig,
    /// The place in the plan of the run that this one is the baseline of.
    pub baseline_of: Option<usize>,
}

/// Resolves every run that `request` asks for.
///
/// A baseline comes directly before its run: it takes a fraction of the time, and so a run that is over has
/// its comparison. Runs that would train alike (a supervised run does not read λ_U, one without mixup not α) are planned once.
///
/// # Errors
/// Every problem of every run, with pointers into the lists (`/labelled/2`, `/grid/lambda_u/0`).
pub fn plan(request: &Map<String, Value>, facts: &DataFacts) -> Result<Plan, Vec<FieldProblem>> {
    let fields = request.len() + request.get("grid").and_then(Value::as_object).map_or(0, Map::len);
    if fields > MOST_FIELDS {
        // Each would be told what is wrong with it, for each run.
        let detail = format!("the request has {fields} fields, allowed are {MOST_FIELDS}");
        return Err(vec![FieldProblem::whole("too_many_fields", detail)]);
    }
    let (mut rest, mut problems) = (request.clone(), Vec::new());
    let baseline = match rest.remove("baseline") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(wanted)) => wanted,
        Some(other) => {
            let detail = format!("{} is no baseline: true or false", shortened(&other.to_string()));
            problems.push(FieldProblem::new("baseline", "invalid_value", detail));
            false
        }
    };
    let (axes, sweep) = take_axes(&mut rest, &mut problems);
    let wanted = axes.iter().fold(1usize, |product, axis| product.saturating_mul(axis.values.len()));
    if wanted > MOST_RUNS {
        problems.push(too_many(wanted, &axes));
    }
    let mut configs: Vec<TrainConfig> = Vec::new();
    // Too many are refused anyway: one of them then shows what else is wrong.
    let tried = if wanted > MOST_RUNS { 1 } else { wanted };
    for number in 0..tried {
        match resolve_one(&rest, &axes, number, facts) {
            Ok(config) if configs.iter().any(|earlier| earlier.trains_as(&config)) => {}
            Ok(config) => configs.push(config),
            Err(found) => found.into_iter().for_each(|problem| {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }),
        }
    }
    let supervised = |config: &TrainConfig| config.algorithm == AlgorithmName::Supervised;
    if baseline && problems.is_empty() && configs.iter().all(supervised) {
        let detail = "a supervised run has no baseline: it is one; leave baseline out, or take algorithm mixmatch";
        problems.push(FieldProblem::new("baseline", "invalid_value", detail));
    }
    let runs = if baseline { with_baselines(configs) } else { configs.into_iter().map(PlannedRun::alone).collect() };
    if runs.len() > MOST_RUNS && wanted <= MOST_RUNS {
        problems.push(too_many(runs.len(), &axes));
    }
    let (numbered, listed) = (request.contains_key("labelled"), listed(&axes));
    if problems.is_empty() { Ok(Plan { runs, sweep, numbered, listed }) } else { Err(problems) }
}

/// The values of the list `labelled`: no number is as many as there are.
fn listed(axes: &[Axis]) -> Vec<Option<u32>> {
    let values = axes.iter().find(|axis| axis.field == "labelled").map(|axis| axis.values.as_slice());
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    values.unwrap_or_default().iter().map(number).collect()
}

impl Plan {
    /// Whether the data set's labels can be split as each run wants it, which counting them does not tell: groups stay on one
    /// side of the split and may leave fewer. Of runs that split alike only the one with the most labels is tried, and the others
    /// where that is refused. Where only the preset asks for more than one of the seeds leaves, each takes all that there are. Runs that
    /// turn out to train alike, as a number of labels is all that there are, stay planned once. Blocks.
    ///
    /// # Errors
    /// One problem for each seed that leaves too few, and for each number of a list that is too many; what no seed would mend once.
    pub fn check_splits(&mut self, manifest: &Manifest) -> Result<(), Vec<FieldProblem>> {
        let mut specs: Vec<SplitSpec> = Vec::new();
        for spec in self.runs.iter().map(|run| run.config.split_spec()) {
            // No number of labels is what is there: that fits.
            let alike = specs.iter_mut().find(|known| SplitSpec { labelled: known.labelled, ..spec } == **known);
            match alike {
                Some(known) => known.labelled = known.labelled.max(spec.labelled),
                None => specs.push(spec),
            }
        }
        let mut refused: Vec<_> =
            specs.iter().filter_map(|spec| split(manifest, spec).err().map(|error| (*spec, error))).collect();
        if !self.numbered && !refused.is_empty() {
            refused.retain(|(spec, _)| split(manifest, &SplitSpec { labelled: None, ..*spec }).is_err());
            // Seeds are one line of the report, and so have one number.
            let of_any_seed = |spec: SplitSpec| SplitSpec { seed: 0, ..spec };
            let specs = self.runs.iter().map(|run| run.config.split_spec());
            let unfit: Vec<SplitSpec> = specs.filter(|spec| split(manifest, spec).is_err()).map(of_any_seed).collect();
            for run in &mut self.runs {
                if unfit.contains(&of_any_seed(run.config.split_spec())) {
                    run.config.labelled = None;
                }
            }
        }
        let mut problems: Vec<FieldProblem> = Vec::new();
        for (spec, error) in &refused {
            let found = match error {
                SplitError::TooMany(_) if !self.listed.is_empty() => self.too_many_listed(manifest, spec),
                error => vec![FieldProblem::new("labelled", error.code(), why(error, spec.seed))],
            };
            for problem in found {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        if self.runs.iter().any(|run| run.config.labelled.is_none()) {
            self.drop_twins(manifest);
        }
        Ok(())
    }

    /// Keeps one, the first, of the runs that train alike where a number of labels is all that there are. Seeds are one line of the report:
    /// where the number is all with some of them alone, each run stays.
    fn drop_twins(&mut self, manifest: &Manifest) {
        let alike = |spec: SplitSpec| SplitSpec { labelled: None, seed: 0, ..spec };
        let specs: Vec<SplitSpec> = self.runs.iter().map(|run| run.config.split_spec()).collect();
        let mut left: Vec<(SplitSpec, Option<usize>)> = Vec::new();
        for spec in specs.iter().filter(|spec| spec.labelled.is_none()) {
            if !left.iter().any(|(known, _)| known == spec) {
                left.push((*spec, split(manifest, spec).ok().map(|split| split.labelled.len())));
            }
        }
        let is_all = |spec: &SplitSpec| {
            let mut of_line = left.iter().filter(|(known, _)| alike(*known) == alike(*spec)).peekable();
            of_line.peek().is_some() && of_line.all(|(_, left)| *left == spec.labelled)
        };
        let trained: Vec<TrainConfig> = self
            .runs
            .iter()
            .zip(&specs)
            .map(|(run, spec)| match spec.labelled {
                Some(_) if is_all(spec) => TrainConfig { labelled: None, ..run.config.clone() },
                _ => run.config.clone(),
            })
            .collect();
        // Where each run is now: in its own place, or in that of its twin.
        let (mut kept, mut places): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (at, config) in trained.iter().enumerate() {
            let twin = kept.iter().position(|&earlier| trained[earlier].trains_as(config));
            places.push(twin.unwrap_or(kept.len()));
            if twin.is_none() {
                kept.push(at);
            }
        }
        let keep = |&at: &usize| {
            let PlannedRun { config, baseline_of } = self.runs[at].clone();
            PlannedRun { config, baseline_of: baseline_of.map(|of| places[of]) }
        };
        self.runs = kept.iter().map(keep).collect();
    }

    /// The numbers in the list that are more than a split leaves, each with its place: where one is too many, others may be as well.
    fn too_many_listed(&self, manifest: &Manifest, spec: &SplitSpec) -> Vec<FieldProblem> {
        let refused = |(at, labelled): (usize, &Option<u32>)| {
            let wanted = SplitSpec { labelled: labelled.map(|labels| labels as usize), ..*spec };
            let error = split(manifest, &wanted).err()?;
            let (pointer, code) = (format!("/labelled/{at}"), error.code().to_owned());
            Some(FieldProblem { pointer, code, detail: why(&error, spec.seed) })
        };
        self.listed.iter().enumerate().filter_map(refused).collect()
    }
}

/// Why labels cannot be split, and where groups may be why, that.
fn why(error: &SplitError, seed: u64) -> String {
    match error {
        SplitError::TooMany(detail) => format!(
            "{detail} (seed {seed}; rows of one group, by the group column or as near duplicates, stay on one side of the split)"
        ),
        SplitError::TooFew(detail) | SplitError::OneGroup(detail) => detail.clone(),
    }
}

impl PlannedRun {
    fn alone(config: TrainConfig) -> Self {
        Self { config, baseline_of: None }
    }
}

/// Puts each run's baseline before it, once for all runs that share it; a supervised run that was asked for
/// by name is a baseline already.
fn with_baselines(configs: Vec<TrainConfig>) -> Vec<PlannedRun> {
    let mut runs: Vec<PlannedRun> = Vec::new();
    for config in &configs {
        let baseline = config.baseline();
        let there = configs.iter().chain(runs.iter().map(|run| &run.config)).any(|other| other.trains_as(&baseline));
        // A pretrained supervised run has none, and is none.
        if config.algorithm != AlgorithmName::Supervised && !there {
            let baseline_of = Some(runs.len() + 1);
            runs.push(PlannedRun { config: baseline, baseline_of });
        }
        runs.push(PlannedRun::alone(config.clone()));
    }
    runs
}

/// Run `number` of the grid; its problems point at the values in the lists.
fn resolve_one(
    rest: &Map<String, Value>,
    axes: &[Axis],
    mut number: usize,
    facts: &DataFacts,
) -> Result<TrainConfig, Vec<FieldProblem>> {
    let (mut request, mut places) = (rest.clone(), Vec::new());
    for axis in axes.iter().rev() {
        let at = number % axis.values.len();
        number /= axis.values.len();
        places.push((FieldProblem::new(&axis.field, "", "").pointer, format!("{}/{at}", axis.pointer)));
        request.insert(axis.field.clone(), axis.values[at].clone());
    }
    resolve(&request, facts).map_err(|mut problems| {
        for problem in &mut problems {
            if let Some((_, place)) = places.iter().find(|(field, _)| *field == problem.pointer) {
                problem.pointer.clone_from(place);
            }
        }
        problems
    })
}

fn too_many(wanted: usize, axes: &[Axis]) -> FieldProblem {
    let longest = axes.iter().max_by_key(|axis| axis.values.len());
    let sizes = axes.iter().map(|axis| format!("{} {}", axis.values.len(), axis.field)).collect::<Vec<_>>().join(" × ");
    FieldProblem {
        pointer: longest.map_or_else(String::new, |axis| axis.pointer.clone()),
        code: "too_many_jobs".into(),
        detail: format!("this asks for {wanted} jobs ({sizes}); one request may ask for {MOST_RUNS}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dataset::{Role, Sample};
    use crate::train::resolve::tests::facts;
    use serde_json::json;

    fn planned(request: Value) -> Result<Plan, Vec<FieldProblem>> {
        let Value::Object(map) = request else { panic!("an object is needed") };
        plan(&map, &facts())
    }

    fn pointers(request: Value) -> Vec<String> {
        let mut pointers: Vec<_> = planned(request).unwrap_err().into_iter().map(|problem| problem.pointer).collect();
        pointers.sort_unstable();
        pointers
    }

    /// `seed labels algorithm`, and `→ n` for a baseline of run n.
    fn told(plan: &Plan) -> Vec<String> {
        let tell = |run: &PlannedRun| {
            let TrainConfig { seed, labelled, algorithm, .. } = &run.config;
            let baseline = run.baseline_of.map_or(String::new(), |of| format!(" → {of}"));
            format!("{seed} {} {}{baseline}", labelled.unwrap_or(0), algorithm.as_str())
        };
        plan.runs.iter().map(tell).collect()
    }

    #[test]
    fn a_plain_request_is_one_run_as_resolve_has_it() {
        let request = json!({"labelled": 40, "seed": 1});
        let plan = planned(request.clone()).unwrap();
        assert!(!plan.sweep);
        let config = resolve(request.as_object().unwrap(), &facts()).unwrap();
        assert_eq!(plan.runs, [PlannedRun { config, baseline_of: None }]);
    }

    /// As many images of either class, each with a label, and whose they are.
    pub fn forty_images(group: impl Fn(u32) -> Option<u32>) -> Manifest {
        let sample = |row: u32| Sample {
            image: format!("{row}.jpg"),
            entry: row,
            label: Some(row % 2),
            split: Role::Train,
            picked: false,
            group: group(row),
            attributes: Default::default(),
        };
        let classes = vec!["mask".to_owned(), "no_mask".to_owned()];
        Manifest { classes, samples: (0..40).map(sample).collect(), ..Manifest::default() }
    }

    #[test]
    fn labels_that_groups_take_away_are_missed_before_a_run_begins() {
        // Two people of twenty images each: one of them validates.
        let manifest = forty_images(|row| Some(row / 20));
        let check = |request: Value| planned(request).unwrap().check_splits(&manifest);
        assert_eq!(check(json!({"labelled": [10, 20], "seed": [0, 1]})), Ok(()));
        let problems = check(json!({"labelled": [10, 21], "seed": [0, 1]})).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].pointer == "/labelled/1" && problems[0].detail.contains("20 are left"), "{problems:?}");
        // Each number of a list that is too many is named; one that is no list has no places.
        let refused = |request: Value| -> Vec<(String, String)> {
            let problems = check(request).unwrap_err().into_iter();
            let wanted = |detail: String| detail.split(' ').next().unwrap_or_default().to_owned();
            problems.map(|problem| (problem.pointer, wanted(problem.detail))).collect()
        };
        let told = |pointer: &str, wanted: &str| (pointer.to_owned(), wanted.to_owned());
        let expected = [told("/labelled/0", "24"), told("/labelled/2", "21")];
        assert_eq!(refused(json!({"labelled": [24, 20, 21], "seed": 1, "baseline": true})), expected);
        assert_eq!(refused(json!({"labelled": 21, "seed": [1]})), [told("/labelled", "21")]);
        assert!(problems[1].detail.contains("seed 1") && problems[1].detail.contains("group"), "{problems:?}");
        // A preset's own number, which counting the labels alone allows, is the most that it takes.
        let mut plan = planned(json!({"preset": "reference", "baseline": true})).unwrap();
        plan.runs.iter_mut().for_each(|run| run.config.labelled = Some(30));
        assert_eq!(plan.check_splits(&manifest), Ok(()));
        assert!(plan.runs.len() == 2 && plan.runs.iter().all(|run| run.config.labelled.is_none()), "{plan:?}");
    }

    #[test]
    fn a_number_of_labels_that_is_all_there_are_is_no_other_run_than_all() {
        let checked = |manifest: &Manifest, request: Value| {
            let mut plan = planned(request).unwrap();
            assert_eq!(plan.check_splits(manifest), Ok(()));
            told(&plan)
        };
        // Of 40 images, none of a group, 8 validate.
        let mut manifest = forty_images(Some);
        let request = |labelled: Value| json!({"labelled": labelled, "seed": 1, "validation": 0.2, "baseline": true});
        assert_eq!(checked(&manifest, request(json!([null, 32]))), ["1 0 supervised → 1", "1 0 mixmatch"]);
        assert_eq!(checked(&manifest, request(json!([32, null]))), ["1 32 supervised → 1", "1 32 mixmatch"]);
        assert_eq!(
            checked(&manifest, request(json!(32))),
            ["1 32 supervised → 1", "1 32 mixmatch"],
            "as it was asked for"
        );
        let others = ["1 32 supervised → 1", "1 32 mixmatch", "1 20 supervised → 3", "1 20 mixmatch"];
        assert_eq!(checked(&manifest, request(json!([32, 20, null]))), others);
        assert_eq!(checked(&manifest, request(json!([31, null]))).len(), 4);
        let seeds = |labels: u32| json!({"labelled": [labels, null], "seed": [0, 1, 2], "validation": 0.2});
        assert_eq!(checked(&manifest, seeds(32)), ["0 32 mixmatch", "1 32 mixmatch", "2 32 mixmatch"]);
        let shares = json!({"labelled": [20, null], "grid": {"validation": [0.2, 0.5]}});
        assert_eq!(checked(&manifest, shares).len(), 3, "with half held out 20 are all");
        // Groups leave 32 with some seeds and 34 with others: one group of six validates, or two of four.
        manifest = forty_images(|row| Some(if row < 24 { row / 6 } else { row / 4 }));
        let seeds = json!({"labelled": [32, null], "seed": (0..12).collect::<Vec<u32>>(), "validation": 0.2});
        assert_eq!(checked(&manifest, seeds).len(), 24, "lines of the report have the same seeds");
    }

    #[test]
    fn where_one_seed_leaves_too_few_for_the_presets_number_no_seed_takes_it() {
        // Of 40 images 8 are to validate: one group of six, or two of four, whichever the seed draws first.
        let manifest = forty_images(|row| Some(if row < 24 { row / 6 } else { row / 4 }));
        let seeds: Vec<u32> = (0..12).collect();
        let mut plan = planned(json!({"preset": "reference", "seed": seeds, "baseline": true})).unwrap();
        for run in &mut plan.runs {
            (run.config.labelled, run.config.validation) = (Some(33), 0.2);
        }
        let fits = |run: &PlannedRun| split(&manifest, &run.config.split_spec()).is_ok();
        assert!(plan.runs.iter().any(fits) && !plan.runs.iter().all(fits), "{plan:?}");
        assert_eq!(plan.check_splits(&manifest), Ok(()));
        assert!(plan.runs.iter().all(|run| run.config.labelled.is_none()), "{plan:?}");
        // Runs that hold out less than one for which too few are left keep it: they are other lines.
        plan.runs.iter_mut().for_each(|run| run.config.labelled = Some(32));
        plan.runs[0].config.validation = 0.99;
        assert_eq!(plan.check_splits(&manifest), Ok(()));
        let kept: Vec<bool> = plan.runs.iter().map(|run| run.config.labelled.is_some()).collect();
        assert!(!kept[0] && kept[1..].iter().all(|kept| *kept), "{kept:?}");
    }

    #[test]
    fn labels_that_cannot_be_split_are_told_with_why() {
        let refused = |groups: [Option<u32>; 2], picked: bool, request: Value| {
            let sample = |row: u32| Sample {
                image: format!("{row}.jpg"),
                entry: row,
                label: Some(row % 2),
                split: Role::Train,
                picked: picked && row % 2 == 1 && row > 1,
                group: groups[row as usize % 2],
                attributes: Default::default(),
            };
            let classes = vec!["mask".to_owned(), "no_mask".to_owned()];
            let manifest = Manifest { classes, samples: (0..40).map(sample).collect(), ..Manifest::default() };
            let problems = planned(request).unwrap().check_splits(&manifest).unwrap_err();
            problems.into_iter().map(|problem| (problem.code, problem.detail)).collect::<Vec<_>>()
        };
        let with = |seed: Value| json!({"labelled": 10, "seed": seed});
        // Of one class all are near duplicates; of one a single image was drawn. No seed mends that.
        for (groups, picked, code, said) in [
            ([None, Some(1)], false, "one_group", "belong to one group"),
            ([None, None], true, "too_few_labels", "1 labels of images that were drawn"),
        ] {
            let problems = refused(groups, picked, with(json!([0, 1])));
            assert!(problems.len() == 1 && problems[0].0 == code, "{problems:?}");
            assert!(problems[0].1.contains(said) && !problems[0].1.contains("stay on one side"), "{problems:?}");
        }
        let problems = refused([None, None], false, json!({"labelled": 33, "seed": [0, 1]}));
        assert!(problems.len() == 2 && problems.iter().all(|(code, _)| code == "too_many_labels"), "{problems:?}");
        assert!(problems[1].1.contains("seed 1; rows of one group"), "{problems:?}");
    }

    #[test]
    fn a_baseline_runs_before_its_job_on_the_same_labels() {
        let plan = planned(json!({"labelled": 40, "seed": 1, "baseline": true})).unwrap();
        assert_eq!((told(&plan), plan.sweep), (vec!["1 40 supervised → 1".into(), "1 40 mixmatch".into()], false));
        assert_eq!(plan.runs[0].config, plan.runs[1].config.baseline());
        assert_eq!(planned(json!({"baseline": false})).unwrap().runs.len(), 1);
        // A supervised run that was pretrained is none.
        let request =
            json!({"labelled": 40, "algorithm": ["mixmatch", "supervised"], "pretrain_epochs": 9, "baseline": true});
        let plan = planned(request).unwrap();
        let pretrained: Vec<u32> = plan.runs.iter().map(|run| run.config.pretrain_epochs).collect();
        assert_eq!((told(&plan)[0].as_str(), pretrained), ("0 40 supervised → 1", vec![0, 9, 9]));
    }

    #[test]
    fn lists_span_a_grid_seed_by_seed() {
        let plan = planned(json!({"labelled": [20, 40], "seed": [0, 1], "baseline": true})).unwrap();
        let expected = [
            "0 20 supervised → 1",
            "0 20 mixmatch",
            "0 40 supervised → 3",
            "0 40 mixmatch",
            "1 20 supervised → 5",
            "1 20 mixmatch",
            "1 40 supervised → 7",
            "1 40 mixmatch",
        ];
        assert_eq!((told(&plan), plan.sweep), (expected.map(String::from).to_vec(), true));
        assert!(planned(json!({"labelled": [40]})).unwrap().sweep, "a list of one is a list");
    }

    #[test]
    fn runs_that_train_alike_are_planned_once() {
        let grid = json!({"labelled": 40, "grid": {"lambda_u": [3, 10], "k": [1, 2]}, "baseline": true});
        let plan = planned(grid).unwrap();
        assert_eq!(plan.runs.len(), 5, "one baseline for four: {:?}", told(&plan));
        assert_eq!(plan.runs[0].baseline_of, Some(1));
        // What a supervised run does read gives each value a baseline of its own.
        assert_eq!(
            planned(json!({"grid": {"learning_rate": [0.001, 0.002]}, "baseline": true})).unwrap().runs.len(),
            4
        );
        // Asked for by name, it is no baseline besides.
        let named =
            planned(json!({"labelled": 40, "algorithm": ["mixmatch", "supervised"], "baseline": true})).unwrap();
        assert_eq!(told(&named), ["0 40 mixmatch", "0 40 supervised"]);
        let named = json!({"algorithm": ["mixmatch", "supervised"], "grid": {"lambda_u": [3, 10]}});
        assert_eq!(planned(named).unwrap().runs.len(), 3);
    }

    #[test]
    fn a_value_that_no_run_would_read_is_no_run_of_its_own() {
        let runs = |request: Value| {
            let runs = planned(request).unwrap().runs.into_iter();
            runs.map(|run| (run.config.mixup, run.config.alpha)).collect::<Vec<_>>()
        };
        // Whether it is read may be decided in the grid itself, which begins with the first field by its name.
        let both = json!({"grid": {"alpha": [0.5, 0.75], "mixup": [true, false]}});
        assert_eq!(runs(both), [(true, 0.5), (false, 0.5), (true, 0.75)]);
        assert_eq!(runs(json!({"mixup": false, "grid": {"alpha": [0.5, 0.75]}})), [(false, 0.5)]);
        // At a constant learning rate a supervised run trains as well before the warm-up's end as after it: one baseline for all.
        let warmups = json!({"preset": "paper", "labelled": 40, "grid": {"warmup": [0, 0.1, 0.2]}, "baseline": true});
        let told = told(&planned(warmups).unwrap());
        assert_eq!(told, ["0 40 supervised → 1", "0 40 mixmatch", "0 40 mixmatch", "0 40 mixmatch"]);
    }

    #[test]
    fn every_problem_of_every_run_points_at_its_value() {
        let request = json!({
            "labelled": [20, 1, 10_000], "seed": [0, 1], "algorithm": ["mixmatch", "magic"], "batch": 0,
            "grid": {"lambda_u": [3, -1], "lamda": [1]}
        });
        let expected = ["/algorithm/1", "/batch", "/grid/lambda_u/1", "/grid/lamda/0", "/labelled/1", "/labelled/2"];
        assert_eq!(pointers(request), expected);
    }

    #[test]
    fn lists_that_are_none_are_named() {
        assert_eq!(pointers(json!({"labelled": [], "k": 0})), ["/k", "/labelled"]);
        assert_eq!(pointers(json!({"seed": [1, 2, 1]})), ["/seed/2"]);
        assert_eq!(pointers(json!({"k": [1, 2]})), ["/k"], "lists of others stand in grid");
        assert_eq!(pointers(json!({"grid": {"k": 2}})), ["/grid/k"]);
        assert_eq!(pointers(json!({"grid": [1]})), ["/grid"]);
        assert_eq!(pointers(json!({"grid": {"k": [1, 2], "seed": [1]}, "k": 1})), ["/grid/k", "/grid/seed"]);
        assert_eq!(pointers(json!({"baseline": "yes"})), ["/baseline"]);
        let long = planned(json!({"baseline": "y".repeat(10_000)})).unwrap_err();
        assert!(long[0].detail.len() < 300, "{long:?}");
        assert_eq!(pointers(json!({"grid": {"baseline": [true, false]}})), ["/grid/baseline"]);
        assert_eq!(pointers(json!({"baseline": true, "algorithm": "supervised"})), ["/baseline"]);
    }

    #[test]
    fn a_request_of_very_many_fields_is_refused_at_once() {
        let fields = |count: u32| (0..count).map(|at| (format!("f{at}"), json!(1))).collect::<Map<String, Value>>();
        let problems = planned(Value::Object(fields(100_000))).unwrap_err();
        assert!(problems.len() == 1 && problems[0].code == "too_many_fields", "{problems:?}");
        assert_eq!(problems[0].pointer, "", "the whole request, not a field of no name");
        let problems = planned(json!({"grid": fields(201)})).unwrap_err();
        assert!(problems.len() == 1 && problems[0].code == "too_many_fields", "{problems:?}");
        assert_eq!(planned(Value::Object(fields(150))).unwrap_err().len(), 150);
    }

    #[test]
    fn too_many_are_refused_with_their_number() {
        let seeds: Vec<u32> = (0..101).collect();
        assert_eq!(planned(json!({"seed": seeds, "baseline": false})).unwrap().runs.len(), 101);
        let problems = planned(json!({"seed": seeds, "baseline": true})).unwrap_err();
        assert!(problems[0].pointer == "/seed" && problems[0].detail.contains("202 jobs"), "{problems:?}");
        let many: Vec<u32> = (0..5000).collect();
        let problems = planned(json!({"seed": many, "labelled": [20, 40], "k": 0})).unwrap_err();
        assert!(problems.iter().any(|problem| problem.detail.contains("10000 jobs")), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.pointer == "/k"), "{problems:?}");
    }

    #[test]
    fn a_list_that_is_too_long_is_not_searched_for_repeats() {
        for request in [json!({"seed": vec![7; 201]}), json!({"grid": {"k": vec![2; 201]}})] {
            let problems = planned(request).unwrap_err();
            assert!(problems.len() == 1 && problems[0].code == "too_many_jobs", "{problems:?}");
        }
        assert_eq!(planned(json!({"seed": vec![7; 200]})).unwrap_err()[0].code, "repeated");
    }

    #[test]
    fn a_wrong_name_may_have_meant_a_field_of_the_request() {
        let problems = planned(json!({"baselin": true})).unwrap_err();
        assert!(problems[0].detail.contains("did you mean baseline"), "{problems:?}");
    }
}
