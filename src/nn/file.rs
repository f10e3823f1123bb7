//! Weights as safetensors files: names and shapes as PyTorch knows them, float32, row-major.
//!
//! BatchNorm's `num_batches_tracked` is neither kept nor written: nothing here reads it, and PyTorch's strict
//! `load_state_dict` puts it in by itself where a state dict carries no version, as one from safetensors does.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::weights::Entry;
use super::{Network, NnError, Weights};

/// Writes `network`'s weights to `path` and syncs the file. Parameters and running statistics alike.
///
/// # Errors
/// When the file cannot be written.
pub fn save(network: &dyn Network, weights: &Weights, path: &Path) -> Result<(), NnError> {
    let layout = network.layout();
    let named = weights
        .tensors(layout)
        .map(|(entry, tensor)| Ok((entry, bytes_of(tensor)?)))
        .collect::<Result<Vec<_>, NnError>>()?;
    write(path, &network.name(), &named)
}

/// Writes tensors, each as its row-major float32 bytes, to `path` and syncs the file: the same ones are the same file.
pub(super) fn write(path: &Path, network: &str, tensors: &[(&Entry, Vec<u8>)]) -> Result<(), NnError> {
    let file_error = |reason: String| NnError::File { path: path.to_owned(), reason };
    let views = tensors
        .iter()
        .map(|(entry, bytes)| {
            let shape = entry.shape.iter().map(|&side| side as usize).collect();
            let view = TensorView::new(Dtype::F32, shape, bytes).map_err(|e| file_error(e.to_string()))?;
            Ok((entry.name.as_str(), view))
        })
        .collect::<Result<Vec<_>, NnError>>()?;
    let metadata = HashMap::from([("network".to_owned(), network.to_owned()), ("format".to_owned(), "pt".to_owned())]);
    let mut bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| file_error(e.to_string()))?;
    sort_header(&mut bytes);
    write_synced(path, &bytes).map_err(|error| NnError::Io { path: path.to_owned(), error })
}

/// Reads weights for `network` from `path` onto `device`.
///
/// Every name and shape is compared before anything is copied, because libtorch would broadcast a wrong
/// shape without a word.
///
/// # Errors
/// When the file cannot be read, is no safetensors file, or does not fit the network.
pub fn load(network: &dyn Network, path: &Path, device: Device) -> Result<Weights, NnError> {
    let file_error = |reason: String| NnError::File { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| NnError::Io { path: path.to_owned(), error })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| file_error(format!("no safetensors file: {e}")))?;
    let layout = network.layout();
    check_fit(network, &file)?;
    let weights = Weights::zeros(layout, device)?;
    let _no_grad = tch::no_grad_guard();
    for (entry, tensor) in weights.tensors(layout) {
        tensor.shallow_clone().f_copy_(&tensor_of(&file, entry, network)?)?;
    }
    Ok(weights)
}

/// Sorts the header's keys: the library writes its metadata in the order of a hash map, another one each time, and the
/// same weights must be the same file.
fn sort_header(bytes: &mut [u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length) as usize;
    let Some(header) = rest.get(..length) else { return };
    // Sorted, the JSON is as long as before; the spaces that fill it up stay behind it.
    let sorted = serde_json::from_slice::<serde_json::Value>(header).and_then(|header| serde_json::to_vec(&header));
    if let Ok(sorted) = sorted
        && sorted.len() <= length
    {
        let end = sorted.len();
        bytes[8..8 + end].copy_from_slice(&sorted);
        bytes[8 + end..8 + length].fill(b' ');
    }
}

fn check_fit(network: &dyn Network, file: &SafeTensors<'_>) -> Result<(), NnError> {
    let layout = network.layout();
    let expected = layout.params().len() + layout.buffers().len();
    if file.len() != expected {
        let reason = format!("{} tensors in the file, {expected} in the network", file.len());
        return Err(NnError::Mismatch { network: network.name(), reason });
    }
    layout.params().iter().chain(layout.buffers()).try_for_each(|entry| view_of(file, entry, network).map(drop))
}

fn view_of<'a>(file: &SafeTensors<'a>, entry: &Entry, network: &dyn Network) -> Result<TensorView<'a>, NnError> {
    let mismatch = |reason: String| NnError::Mismatch { network: network.name(), reason };
    let view = file.tensor(&entry.name).map_err(|_| mismatch(format!("{} is missing", entry.name)))?;
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    if shape != entry.shape || view.dtype() != Dtype::F32 {
        let found = format!("{} is {:?} {shape:?}, needed is F32 {:?}", entry.name, view.dtype(), entry.shape);
        return Err(mismatch(found));
    }
    Ok(view)
}

fn tensor_of(file: &SafeTensors<'_>, entry: &Entry, network: &dyn Network) -> Result<Tensor, NnError> {
    let view = view_of(file, entry, network)?;
    Ok(Tensor::f_from_data_size(view.data(), &entry.shape, Kind::Float)?)
}

/// Row-major float32 bytes, little-endian.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, NnError> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
    let mut values = vec![0f32; flat.numel()];
    flat.f_copy_data(&mut values, flat.numel())?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    crate::failpoint::pass("export.write")?;
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Mode;
    use crate::nn::wrn::Wrn;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn network(name: &str) -> Wrn {
        Wrn::new(name.parse().unwrap(), 2, Kind::Float)
    }

    #[test]
    fn a_saved_network_answers_the_same_after_loading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        let network = network("wrn-10-1");
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        let images = Tensor::randn([2, 3, 16, 16], (Kind::Float, Device::Cpu));
        // Running statistics that differ from their start, so that forgetting them would show.
        let _logits = network.forward(&weights, &images, Mode::Train).unwrap();
        let before = network.forward(&weights, &images, Mode::Eval).unwrap();
        save(&network, &weights, &path).unwrap();
        let loaded = load(&network, &path, Device::Cpu).unwrap();
        let after = network.forward(&loaded, &images, Mode::Eval).unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn the_same_weights_are_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let network = network("wrn-10-1");
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        let written = (0..8).map(|number| {
            let path = directory.path().join(format!("{number}.safetensors"));
            save(&network, &weights, &path).unwrap();
            std::fs::read(&path).unwrap()
        });
        let written: std::collections::BTreeSet<_> = written.collect();
        assert_eq!(written.len(), 1);
        let (_, metadata) = SafeTensors::read_metadata(written.first().unwrap()).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["network"], "wrn-10-1");
    }

    #[test]
    fn weights_of_another_network_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        let narrow = network("wrn-10-1");
        let weights = Weights::zeros(narrow.layout(), Device::Cpu).unwrap();
        save(&narrow, &weights, &path).unwrap();
        let error = load(&network("wrn-10-2"), &path, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("wrn-10-2") && error.contains("do not fit"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_safetensors_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        std::fs::write(&path, b"not weights").unwrap();
        assert!(matches!(load(&network("wrn-10-1"), &path, Device::Cpu), Err(NnError::File { .. })));
    }
}
