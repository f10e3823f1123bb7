//! Where a run's files lie, in words. What a child says becomes a job's log and its reason, which answers repeat, and those
//! name no path of this machine.

use std::path::Path;

use super::spec::RunSpec;
use crate::train::event::Event;

/// The places of one run, each with what is said instead.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(String, &'static str)>);

impl Places {
    /// Those that a child is told of.
    pub(super) fn of(spec: &RunSpec) -> Self {
        // What lies inside of another comes before it.
        let places: [(Option<&Path>, &'static str); 5] = [
            (spec.checkpoint_dir.as_deref(), "checkpoints"),
            (spec.pretrained.as_deref(), "the weights to start from"),
            (Some(spec.dataset_dir.as_path()), "the data set"),
            (Some(spec.run_dir.as_path()), "the run"),
            (spec.run_dir.parent(), "the job"),
        ];
        let texts = places.into_iter().filter_map(|(path, words)| Some((path?.to_string_lossy().into_owned(), words)));
        // An empty path and the root are in every text.
        Self(texts.filter(|(path, _)| path.len() > 1).collect())
    }

    /// The text with the words instead of the places.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, (path, words)| text.replace(path.as_str(), words))
    }

    /// The event as others may hear it: what is meant for a person names no place. Where a model lies, only the supervisor
    /// hears.
    pub(super) fn told(&self, event: Event) -> Event {
        match event {
            Event::Log { level, message } => Event::Log { level, message: self.hide(message) },
            Event::Problem { code, detail } => Event::Problem { code, detail: self.hide(detail) },
            event => event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::TrainConfig;
    use crate::train::event::LogLevel;

    fn spec() -> RunSpec {
        RunSpec {
            job_id: uuid::Uuid::nil(),
            attempt: 1,
            dataset_dir: "/srv/data/datasets/d".into(),
            run_dir: "/srv/data/runs/j/1".into(),
            config: TrainConfig::default(),
            device: "cpu".into(),
            pretrained: Some("/srv/data/artifacts/sha256/ab/abc".into()),
            checkpoint_dir: Some("/srv/data/runs/j/checkpoints".into()),
            checkpoint_seconds: 1.0,
            threads: 1,
        }
    }

    #[test]
    fn no_place_of_a_run_is_told() {
        let places = Places::of(&spec());
        for (said, told) in [
            (
                "checkpoint /srv/data/runs/j/checkpoints/step-000000000012.checkpoint is damaged",
                "checkpoint checkpoints/step-000000000012.checkpoint is damaged",
            ),
            ("/srv/data/datasets/d/manifest.json: gone", "the data set/manifest.json: gone"),
            ("run directory /srv/data/runs/j/1/model: full", "run directory the run/model: full"),
            ("/srv/data/artifacts/sha256/ab/abc: gone", "the weights to start from: gone"),
            ("/srv/data/runs/j: read-only", "the job: read-only"),
            ("loss is 0.5 / 2", "loss is 0.5 / 2"),
        ] {
            let (level, code) = (LogLevel::Warn, "resume".to_owned());
            let log = places.told(Event::Log { level, message: said.to_owned() });
            assert_eq!(log, Event::Log { level, message: told.to_owned() });
            let problem = places.told(Event::Problem { code: code.clone(), detail: said.to_owned() });
            assert_eq!(problem, Event::Problem { code, detail: told.to_owned() });
        }
        let model = Event::Model { directory: "/srv/data/runs/j/1/model".into() };
        assert_eq!(places.told(model.clone()), model);
    }

    #[test]
    fn a_path_of_no_length_hides_nothing() {
        let places = Places::of(&RunSpec { run_dir: "1".into(), checkpoint_dir: Some("/".into()), ..spec() });
        assert_eq!(places.hide("a/b".to_owned()), "a/b");
    }
}
