//! What a run is measured against: the supervised run on the same labels.

use super::config::{AlgorithmName, TrainConfig};

/// One list of fields as names and as values.
macro_rules! unlabelled_only {
    ($($field:ident),+) => {
        /// Hyper-parameters that only a run with unlabelled images reads.
        const UNLABELLED_ONLY: &[&str] = &[$(stringify!($field)),+];

        /// `config` with [`UNLABELLED_ONLY`] at fixed values.
        fn without_unlabelled(config: &TrainConfig) -> TrainConfig {
            let TrainConfig { $($field,)+ .. } = TrainConfig::default();
            TrainConfig { $($field,)+ ..config.clone() }
        }
    };
}
unlabelled_only!(pretrain_epochs, pretrain_batch, k, temperature, lambda_u, ramp, guess_from, align, anchor);

impl TrainConfig {
    /// The supervised run on the same labels, with the same network, steps, augmentation and mixup.
    pub fn baseline(&self) -> Self {
        Self { algorithm: AlgorithmName::Supervised, ..self.clone() }
    }

    /// Whether both configurations describe the same run: what their algorithm does not read does not count.
    pub fn trains_as(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }

    /// Whether the run would be another one with another value of the field `name`.
    pub fn reads(&self, name: &str) -> bool {
        self.algorithm != AlgorithmName::Supervised || !UNLABELLED_ONLY.contains(&name)
    }

    /// The configuration with [`UNLABELLED_ONLY`] at fixed values where they are not read.
    fn canonical(&self) -> Self {
        if self.algorithm == AlgorithmName::Supervised { without_unlabelled(self) } else { self.clone() }
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
    fn a_supervised_run_reads_nothing_about_unlabelled_images() {
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
    fn a_baseline_has_the_labels_of_its_job() {
        let config =
            TrainConfig { labelled: Some(40), seed: 7, validation: 0.3, validation_max: 50, ..TrainConfig::default() };
        assert_eq!(config.split_spec(), config.baseline().split_spec());
        assert_ne!(config.split_spec(), TrainConfig { seed: 8, ..config.clone() }.split_spec());
        assert!(!config.trains_as(&config.baseline()));
    }
}
