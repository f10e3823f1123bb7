//! What a run is measured against: the supervised run on the same labels.

use super::config::{AlgorithmName, TrainConfig};

/// One list of fields as names and as values.
macro_rules! unlabelled_only {
    ($($field:ident),+) => {
        /// Hyper-parameters that only a run that guesses labels reads.
        const UNLABELLED_ONLY: &[&str] = &[$(stringify!($field)),+];

        /// `config` with [`UNLABELLED_ONLY`] at fixed values.
        fn without_unlabelled(config: &TrainConfig) -> TrainConfig {
            let TrainConfig { $($field,)+ .. } = TrainConfig::default();
            TrainConfig { $($field,)+ ..config.clone() }
        }
    };
}
unlabelled_only!(k, temperature, lambda_u, ramp, guess_from, align, anchor);

impl TrainConfig {
    /// The supervised run on the same labels, with the same network, steps, augmentation and mixup. It sees no unlabelled image,
    /// in pretraining neither.
    pub fn baseline(&self) -> Self {
        let Self { pretrain_epochs, pretrain_batch, .. } = Self::default();
        Self { algorithm: AlgorithmName::Supervised, pretrain_epochs, pretrain_batch, ..self.clone() }
    }

    /// The supervised run on the same labels after the same pretraining: what a run is measured against where there is no
    /// [baseline](Self::baseline).
    pub fn pretrained_baseline(&self) -> Self {
        Self { algorithm: AlgorithmName::Supervised, ..self.clone() }
    }

    /// Whether both configurations describe the same run: what their algorithm does not read does not count.
    pub fn trains_as(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }

    /// Whether the run would be another one with another value of the field `name`.
    pub fn reads(&self, name: &str) -> bool {
        match name {
            "pretrain_batch" => self.pretrain_epochs > 0,
            _ => self.algorithm != AlgorithmName::Supervised || !UNLABELLED_ONLY.contains(&name),
        }
    }

    /// The configuration with what is not read at fixed values.
    fn canonical(&self) -> Self {
        let read = if self.algorithm == AlgorithmName::Supervised { without_unlabelled(self) } else { self.clone() };
        let pretrain_batch =
            if self.pretrain_epochs > 0 { self.pretrain_batch } else { Self::default().pretrain_batch };
        Self { pretrain_batch, ..read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `config` with one field set to a value that it does not have.
    fn changed(config: &TrainConfig, name: &str) -> TrainConfig {
        let mut fields = serde_json::to_value(config).unwrap();
        fields[name] = match &fields[name] {
            serde_json::Value::Bool(value) => json!(!value),
            serde_json::Value::Number(value) if value.is_u64() => json!(value.as_u64().unwrap() + 1),
            serde_json::Value::Number(value) => json!(value.as_f64().unwrap() / 2.0 + 0.01),
            _ => json!("raw"),
        };
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn a_supervised_run_reads_nothing_about_guesses() {
        let mixmatch = crate::train::preset::quick();
        let supervised = mixmatch.baseline();
        for name in UNLABELLED_ONLY {
            let (a, b) = (changed(&mixmatch, name), changed(&supervised, name));
            assert_ne!(a, mixmatch, "{name}");
            assert!(!a.trains_as(&mixmatch) && a.reads(name), "{name}");
            assert!(b.trains_as(&supervised) && !b.reads(name), "{name}");
        }
        // The cosine schedule begins after the warm-up, and mixup mixes labelled images too.
        for name in ["warmup", "mixup", "alpha", "seed", "labelled", "learning_rate"] {
            let config = TrainConfig { labelled: Some(40), ..supervised.clone() };
            assert!(!changed(&config, name).trains_as(&config) && config.reads(name), "{name}");
        }
    }

    #[test]
    fn a_baseline_sees_no_unlabelled_image_but_a_supervised_run_may_be_pretrained() {
        let mixmatch = TrainConfig { pretrain_epochs: 100, pretrain_batch: 64, ..crate::train::preset::quick() };
        let baseline = mixmatch.baseline();
        assert!(baseline.trains_as(&crate::train::preset::quick().baseline()) && baseline.pretrain_epochs == 0);
        let pretrained = TrainConfig { algorithm: AlgorithmName::Supervised, ..mixmatch.clone() };
        assert!(!pretrained.trains_as(&baseline) && pretrained.reads("pretrain_epochs"));
        // How many images a step has that there is none of.
        for (config, read) in [(&pretrained, true), (&baseline, false), (&crate::train::preset::quick(), false)] {
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
