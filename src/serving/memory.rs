//! Which models are in memory, and which could not be loaded a moment ago.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ServingError;
use crate::model::ModelManifest;

/// A model in memory. No other model takes its place as long as somebody has one of these; only [`unload`](super::Predictor::unload) puts it out.
#[derive(Clone, Debug)]
pub struct Held {
    pub(super) key: String,
    /// Counted: whoever has this beside the predictor still needs the model.
    pub(super) manifest: Arc<ModelManifest>,
    /// Whether it computes in int8.
    pub(super) int8: bool,
}

impl Held {
    pub(super) fn new(key: &str, manifest: ModelManifest) -> Self {
        Self { key: key.to_owned(), manifest: Arc::new(manifest), int8: false }
    }

    /// What the model is called in memory.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Takes those out that are more than `most`, the least recently used first and none that is held: their keys.
pub(super) fn put_out(models: &mut Vec<Held>, most: usize) -> Vec<String> {
    let mut keys = Vec::new();
    // Without the last one, which somebody has just asked for.
    let mut at = 0;
    while models.len() > most.max(1) && at + 1 < models.len() {
        if Arc::strong_count(&models[at].manifest) == 1 {
            keys.push(models.remove(at).key);
        } else {
            at += 1;
        }
    }
    keys
}

/// How long it is believed that a model which could not be loaded still cannot: as many callers as wait for it are answered by
/// one attempt, and keep no other model waiting.
const BELIEVED: Duration = Duration::from_secs(5);

/// Models that could not be loaded a moment ago.
#[derive(Default)]
pub(super) struct Refused(Vec<(String, Instant, ServingError)>);

impl Refused {
    pub(super) fn note(&mut self, key: &str, error: &ServingError) {
        self.0.retain(|(_, since, _)| since.elapsed() < BELIEVED);
        self.0.push((key.to_owned(), Instant::now(), error.clone()));
    }

    pub(super) fn lately(&self, key: &str) -> Option<ServingError> {
        let found = self.0.iter().find(|(refused, since, _)| refused == key && since.elapsed() < BELIEVED);
        found.map(|(_, _, error)| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(key: &str) -> Held {
        Held::new(key, crate::model::example_manifest())
    }

    #[test]
    fn the_least_recently_used_makes_room_unless_somebody_has_it() {
        let keys = |models: &[Held]| models.iter().map(|held| held.key.clone()).collect::<Vec<_>>();
        let mut models = vec![held("a"), held("b"), held("c"), held("d")];
        assert!(put_out(&mut models, 4).is_empty());
        let answering = models[0].clone();
        assert_eq!(put_out(&mut models, 3), ["b"]);
        assert_eq!(put_out(&mut models, 1), ["c"], "the last one was just asked for");
        assert_eq!(keys(&models), ["a", "d"]);
        drop(answering);
        assert_eq!(put_out(&mut models, 0), ["a"], "one at least stays");
        assert_eq!(keys(&models), ["d"]);
    }
}
