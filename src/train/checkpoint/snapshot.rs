//! What a run is made of at one moment, by name: tensors, and facts that are no tensors. Each part of a run puts its
//! own state in and takes it out again under a prefix of its own; nobody else needs to know what that is.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tch::Tensor;

use super::CheckpointError;

/// A moment of a run.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(super) facts: Map<String, Value>,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Snapshot {
    /// Puts a fact in.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put(&mut self, name: &str, fact: &impl Serialize) -> Result<(), CheckpointError> {
        let value = serde_json::to_value(fact).map_err(|error| CheckpointError::Encoding(error.to_string()))?;
        self.facts.insert(name.to_owned(), value);
        Ok(())
    }

    /// Puts a tensor in: not a copy, so that it must be written before the run goes on.
    pub fn put_tensor(&mut self, name: &str, tensor: &Tensor) {
        self.tensors.insert(name.to_owned(), tensor.shallow_clone());
    }

    /// A fact.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`] when it is not there or something else.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, CheckpointError> {
        let value = self.facts.get(name).ok_or_else(|| CheckpointError::Unfit(format!("{name} is missing")))?;
        T::deserialize(value).map_err(|error| CheckpointError::Unfit(format!("{name}: {error}")))
    }

    /// A tensor, on the CPU.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`] when it is not there.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::Unfit(format!("{name} is missing")))
    }

    /// Copies a tensor into `target`, whose shape it must have: libtorch would broadcast another one without a word.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`].
    pub fn fill(&self, name: &str, target: &Tensor) -> Result<(), CheckpointError> {
        let stored = self.tensor(name)?;
        if stored.size() != target.size() || stored.kind() != target.kind() {
            let found = format!(
                "{name} is {:?} {:?}, needed is {:?} {:?}",
                stored.kind(),
                stored.size(),
                target.kind(),
                target.size()
            );
            return Err(CheckpointError::Unfit(found));
        }
        let _no_grad = tch::no_grad_guard();
        target.shallow_clone().f_copy_(stored)?;
        Ok(())
    }

    pub(super) fn facts_json(&self) -> Result<Vec<u8>, CheckpointError> {
        serde_json::to_vec(&self.facts).map_err(|error| CheckpointError::Encoding(error.to_string()))
    }

    /// The same with another fact: as another machine, or another version, would have left it.
    #[cfg(test)]
    pub fn with(&self, name: &str, fact: &impl Serialize) -> Self {
        let mut other = self.shallow();
        other.put(name, fact).unwrap();
        other
    }

    /// The same with another tensor.
    #[cfg(test)]
    pub fn with_tensor(&self, name: &str, tensor: &Tensor) -> Self {
        let mut other = self.shallow();
        other.put_tensor(name, tensor);
        other
    }

    #[cfg(test)]
    fn shallow(&self) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self { facts: self.facts.clone(), tensors }
    }

    /// Every fact but what the clock says, and the hash of every tensor: to compare two of them bit by bit.
    #[cfg(test)]
    pub fn describe(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut facts = self.facts.clone();
        facts.retain(|name, _| !name.contains("seconds") && name != "epoch.training");
        for row in facts.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
            row["seconds"] = Value::Null;
            row["images_per_second"] = Value::Null;
        }
        facts["best.metrics"]["seconds"] = Value::Null;
        facts["best.metrics"]["images_per_second"] = Value::Null;
        let mut text = serde_json::to_string_pretty(&facts).unwrap();
        for (name, tensor) in &self.tensors {
            let size = if tensor.kind() == tch::Kind::Float { 4 } else { 8 };
            let mut bytes = vec![0; tensor.numel() * size];
            tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
            text.push_str(&format!("\n{name} {:?} {:x?}", tensor.size(), Sha256::digest(&bytes)));
        }
        text
    }
}
