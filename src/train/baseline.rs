//! What a run is measured against: the supervised run on the same labels; and which configurations are one run.

use super::config::{AlgorithmName, Policy, Schedule, TrainConfig};
use super::optimizer::warmed_decay;

/// Which fields a run does not read because of others, stated once: as names and as values.
macro_rules! unread {
    ($config:ident: $($field:ident if $is_unread:expr),+ $(,)?) => {
        /// Hyper-parameters that not every run reads.
        #[cfg(test)]
        const NOT_ALWAYS_READ: &[&str] = &[$(stringify!($field)),+];

        /// Whether `name` is a hyper-parameter that a run of `config` does not read.
        fn is_unread($config: &TrainConfig, name: &str) -> bool {
            [$((stringify!($field), $is_unread)),+].contains(&(name, true))
        }

        /// `config` with what its run does not read at fixed values.
        fn read_alone($config: &TrainConfig) -> TrainConfig {
            let fixed = TrainConfig::default();
            TrainConfig { $($field: if $is_unread { fixed.$field } else { $config.$field },)+ ..$config.clone() }
        }
    };
}

// A field that decides how much is drawn at random is read, even where nothing comes of what it makes: later draws are others then. So
// `k` and `anchor` are read wherever labels are guessed. `preset` counts as it is the name of all that it sets.
unread! { config:
    k if config.is_supervised(),
    anchor if config.is_supervised(),
    lambda_u if config.is_supervised(),
    ramp if config.is_supervised() || config.lambda_u == 0.0,
    temperature if config.wastes_guesses(),
    align if config.wastes_guesses(),
    // An average that keeps nothing is the raw weights.
    guess_from if config.wastes_guesses() || config.ema_decay == 0.0,
    // Labelled images alone are what a supervised run trains on after it too.
    warmup if config.is_supervised() && config.schedule == Schedule::Constant,
    alpha if !config.mixup,
    pretrain_batch if config.pretrain_epochs == 0,
    // The statistics of a backbone that stays as it was loaded do not move.
    bn_momentum if config.backbone_learning_rate_factor == 0.0,
    augment_fill if config.augment_rotation == 0.0 && config.augment_scale == 0.0,
    augment_grayscale if config.augment_policy == Policy::OneOfSeven,
}

impl TrainConfig {
    /// The supervised run on the same labels, with the same network, steps, augmentation and mixup. It sees no unlabelled image,
    /// in pretraining neither; what the weights in `pretrained`, from which it starts too, were trained on is not known.
    pub fn baseline(&self) -> Self {
        let Self { pretrain_epochs, pretrain_batch, .. } = Self::default();
        Self { algorithm: AlgorithmName::Supervised, pretrain_epochs, pretrain_batch, ..self.clone() }
    }

    /// The supervised run on the same labels after the same pretraining: what a run is measured against where there is no
    /// [baseline](Self::baseline).
    pub fn pretrained_baseline(&self) -> Self {
        Self { algorithm: AlgorithmName::Supervised, ..self.clone() }
    }

    /// Whether both configurations describe the same run, with the same weights and the same figures of them: what is not read does
    /// not count.
    pub fn trains_as(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }

    /// Whether the run would be another one with another value of the field `name`.
    pub fn reads(&self, name: &str) -> bool {
        !is_unread(self, name)
    }

    /// The configuration with what is not read at fixed values, and of values that come to the same always one.
    fn canonical(&self) -> Self {
        // In a short run the average's decay warms up to the end: what it never reaches makes no difference.
        Self { ema_decay: warmed_decay(self.ema_decay, self.steps()), ..read_alone(self) }
    }

    fn is_supervised(&self) -> bool {
        self.algorithm == AlgorithmName::Supervised
    }

    /// Whether nothing comes of guessed labels: none are made, or no loss weighs them and no labelled image is mixed with theirs.
    fn wastes_guesses(&self) -> bool {
        self.is_supervised() || self.lambda_u == 0.0 && !self.mixup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::preset::quick;
    use serde_json::{Value, json};

    /// `config` with one field set to a value that it does not have.
    fn changed(config: &TrainConfig, name: &str) -> TrainConfig {
        let mut fields = serde_json::to_value(config).unwrap();
        fields[name] = match &fields[name] {
            Value::Bool(value) => json!(!value),
            Value::Number(value) if value.is_u64() => json!(value.as_u64().unwrap() + 1),
            Value::Number(value) => json!(value.as_f64().unwrap() / 2.0 + 0.013),
            word if name == "guess_from" => json!(if word == "raw" { "ema" } else { "raw" }),
            word if name == "augment_fill" => json!(if word == "black" { "reflect" } else { "black" }),
            other => panic!("{name} is {other}"),
        };
        let changed = serde_json::from_value(fields).unwrap();
        assert_ne!(changed, *config, "{name}");
        changed
    }

    /// Whether the run is another one with another value of the field, which both must say.
    #[track_caller]
    fn reads(config: &TrainConfig, name: &str) -> bool {
        let reads = config.reads(name);
        assert_eq!(changed(config, name).trains_as(config), !reads, "{name}");
        reads
    }

    /// The fields that `changed` knows another value of.
    fn fields(config: &TrainConfig) -> Vec<String> {
        let Value::Object(fields) = serde_json::to_value(config).unwrap() else { panic!("no object") };
        let can_change = |(name, value): &(String, Value)| {
            value.is_boolean() || value.is_number() || ["guess_from", "augment_fill"].contains(&name.as_str())
        };
        fields.into_iter().filter(can_change).map(|(name, _)| name).collect()
    }

    #[test]
    fn what_other_fields_make_needless_is_not_read_and_makes_no_other_run() {
        let all = TrainConfig { pretrain_epochs: 9, ..quick() };
        let supervised = all.pretrained_baseline();
        let wasted = TrainConfig { lambda_u: 0.0, mixup: false, ..all.clone() };
        let constant = TrainConfig { schedule: Schedule::Constant, ..supervised.clone() };
        let still = TrainConfig { augment_rotation: 0.0, augment_scale: 0.0, ..all.clone() };
        let guesses = ["anchor", "align", "guess_from", "k", "lambda_u", "ramp", "temperature"];
        let with_the_warmup = [&guesses[..], &["warmup"]].concat();
        let cases: [(TrainConfig, &[&str]); 11] = [
            (all.clone(), &[]),
            (supervised, &guesses),
            // The cosine schedule begins after the warm-up.
            (constant.clone(), &with_the_warmup),
            (TrainConfig { algorithm: AlgorithmName::Mixmatch, ..constant }, &[]),
            (TrainConfig { mixup: false, ..all.clone() }, &["alpha"]),
            // Labelled images are mixed with unlabelled ones and their guesses, whatever these weigh themselves.
            (TrainConfig { lambda_u: 0.0, ..all.clone() }, &["ramp"]),
            (wasted, &["align", "alpha", "guess_from", "ramp", "temperature"]),
            (TrainConfig { ema_decay: 0.0, ..all.clone() }, &["guess_from"]),
            (TrainConfig { pretrain_epochs: 0, ..all.clone() }, &["pretrain_batch"]),
            (TrainConfig { backbone_learning_rate_factor: 0.0, ..all.clone() }, &["bn_momentum"]),
            (still, &["augment_fill"]),
        ];
        let of_seven = TrainConfig { augment_policy: Policy::OneOfSeven, ..all };
        let mut met: Vec<String> = Vec::new();
        for (config, unread) in cases.into_iter().chain([(of_seven, &["augment_grayscale"][..])]) {
            let mut found: Vec<String> = fields(&config).into_iter().filter(|name| !reads(&config, name)).collect();
            found.sort_unstable();
            let mut expected = unread.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected);
            met.extend(found);
        }
        let unmet: Vec<_> = NOT_ALWAYS_READ.iter().filter(|name| !met.iter().any(|found| found == *name)).collect();
        assert!(unmet.is_empty(), "no configuration here does without {unmet:?}");
    }

    #[test]
    fn an_average_that_a_short_run_never_reaches_makes_no_other_run() {
        let of = |ema_decay, steps_per_epoch| TrainConfig { ema_decay, epochs: 10, steps_per_epoch, ..quick() };
        // 101/110 is the most that a hundred steps come to, 100,001/100,010 what ten thousand times ten do.
        assert!(of(0.999, 10).trains_as(&of(0.9999, 10)) && of(0.999, 10).reads("ema_decay"));
        assert!(!of(0.9, 10).trains_as(&of(0.999, 10)));
        assert!(!of(0.999, 10_000).trains_as(&of(0.9999, 10_000)));
    }

    #[test]
    fn a_baseline_sees_no_unlabelled_image_but_a_supervised_run_may_be_pretrained() {
        let mixmatch = TrainConfig { pretrain_epochs: 100, pretrain_batch: 64, ..quick() };
        let baseline = mixmatch.baseline();
        assert!(baseline.trains_as(&quick().baseline()) && baseline.pretrain_epochs == 0);
        let pretrained = TrainConfig { algorithm: AlgorithmName::Supervised, ..mixmatch.clone() };
        assert!(!pretrained.trains_as(&baseline) && pretrained.reads("pretrain_epochs"));
        // How many images a step has that there is none of.
        for (config, read) in [(&pretrained, true), (&baseline, false), (&quick(), false)] {
            assert_eq!(config.reads("pretrain_batch"), read);
            assert_ne!(changed(config, "pretrain_batch").trains_as(config), read);
        }
        assert!(mixmatch.pretrained_baseline().trains_as(&pretrained));
    }

    #[test]
    fn a_baseline_has_the_labels_of_its_job() {
        let config =
            TrainConfig { labelled: Some(40), seed: 7, validation: 0.3, validation_max: 50, ..TrainConfig::default() };
        assert_eq!(config.split_spec(), config.baseline().split_spec());
        assert_ne!(config.split_spec(), TrainConfig { seed: 8, ..config.clone() }.split_spec());
        assert!(!config.trains_as(&config.baseline()));
    }
}
