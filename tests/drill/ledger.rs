//! What a server has promised: everything that it answered with yes, and every figure that it has shown.

use std::collections::BTreeMap;

use serde_json::Value;

/// A job that was accepted.
#[derive(Debug, Default)]
pub struct Job {
    /// The rows that were seen, but for the clock. A run is decided by its seed, so that whichever attempt makes an
    /// epoch, it makes the same one.
    rows: BTreeMap<u64, String>,
    /// The model version it published.
    model: Option<u64>,
}

/// All promises.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Names of data sets.
    pub datasets: Vec<String>,
    /// Jobs by id.
    pub jobs: BTreeMap<String, Job>,
    /// What the alias `shadow` may mean: the last answer, and what was asked for after it without an answer.
    pub shadow: Vec<u64>,
    /// That it means something was answered with yes once.
    pub has_shadow: bool,
}

impl Ledger {
    /// Takes in what `GET /jobs/{id}/metrics` says: epochs from 1 without gap or repeat, and none other than before.
    pub fn rows(&mut self, id: &str, page: &Value) {
        let Some(items) = page["items"].as_array() else { return };
        let seen = &mut self.jobs.get_mut(id).unwrap().rows;
        for (at, row) in items.iter().enumerate() {
            let epoch = row["epoch"].as_u64().unwrap();
            assert_eq!(epoch, at as u64 + 1, "job {id}: {items:#?}");
            let mut row = row.clone();
            row["seconds"] = Value::Null;
            row["images_per_second"] = Value::Null;
            let before = seen.entry(epoch).or_insert_with(|| row.to_string());
            assert_eq!(*before, row.to_string(), "job {id}: epoch {epoch} came out otherwise");
        }
    }

    /// Takes in what `GET /jobs/{id}` says.
    pub fn job(&mut self, id: &str, job: &Value) {
        assert_eq!(job["id"], id, "an accepted job is lost: {job}");
        let known = self.jobs.get_mut(id).unwrap();
        let model = job["model"]["version"].as_u64();
        assert!(known.model.is_none() || known.model == model, "job {id} published twice: {known:?} {job:#}");
        known.model = model;
    }

    /// The versions that are known to be published.
    pub fn versions(&self) -> Vec<u64> {
        self.jobs.values().filter_map(|job| job.model).collect()
    }

    /// Epochs that were seen of a job.
    pub fn epochs(&self, id: &str) -> usize {
        self.jobs[id].rows.len()
    }
}
