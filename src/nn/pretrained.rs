//! Weights to start from: brought in once from somebody's file, checked against the network by name and shape,
//! kept as safetensors in float32; then taken over by any run of that network.
//!
//! The backbone must be there whole. The head is new in each run: a file does not say which classes its own answers, and as many may be
//! others.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::layout::Entry;
use super::{Architecture, Head, Network, NnError, Weights, file};

/// Bytes of a safetensors file's header: it has some hundred a tensor, and the largest network some hundred tensors.
const MOST_HEADER_BYTES: u64 = 4 << 20;

/// Tensors of a file for each that the network has: a file of another network is told what is missing; of many times as many, each
/// would be looked at.
const MOST_FOR_EACH: usize = 16;

/// Classes of a head that is kept, as many as a data set may have: the head [`Head::Reference`] stands on one of a thousand, and no run
/// takes over another. A larger one could take gigabytes.
const MOST_KEPT_CLASSES: i64 = 1000;

/// Tensors by name, in whatever format somebody keeps them.
pub trait NamedTensors {
    /// All names.
    fn names(&self) -> Vec<String>;

    /// The shape of a tensor that is there.
    fn shape(&self, name: &str) -> Option<Vec<i64>>;

    /// The numbers of a tensor, row-major.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    fn read(&mut self, name: &str) -> Result<Vec<f32>, String>;

    /// The network that the file itself says it is for; ours do.
    fn network(&self) -> Option<String> {
        None
    }
}

/// The network that weights are for: the one that is named, else what the file says, else torchvision's.
pub fn network_of(source: &dyn NamedTensors, named: Option<&str>) -> String {
    let own = || source.network().filter(|name| name.parse::<Architecture>().is_ok());
    named.map(str::to_owned).or_else(own).unwrap_or_else(|| "wide_resnet50_2".to_owned())
}

/// A safetensors file, mapped into memory: one that turns out to be of another network has cost nothing.
#[derive(Debug)]
pub struct SafeTensorsFile {
    bytes: Mmap,
    /// Read once: it may describe very many tensors.
    header: Metadata,
    /// Where the numbers begin.
    numbers: usize,
}

impl SafeTensorsFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read or is no safetensors file.
    pub fn open(path: &Path) -> Result<Self, NnError> {
        let io = |error: std::io::Error| NnError::Io { path: path.to_owned(), error };
        let refused =
            |reason: String| NnError::File { path: path.to_owned(), reason: format!("no safetensors file: {reason}") };
        let file = File::open(path).map_err(io)?;
        // SAFETY: an upload's own file, or one that its owner imports by hand: whoever writes to that meanwhile may end this
        // command, as with every mapped file.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        let length = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
        if length > MOST_HEADER_BYTES {
            return Err(refused(format!("its header would have {length} bytes, allowed are {MOST_HEADER_BYTES}")));
        }
        let (length, header) = SafeTensors::read_metadata(&bytes).map_err(|error| refused(error.to_string()))?;
        Ok(Self { bytes, header, numbers: size_of::<u64>() + length })
    }

    /// What the header says of a tensor, and its bytes.
    fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.header.info(name)?;
        let (start, end) = info.data_offsets;
        Some((info, self.bytes.get(self.numbers + start..self.numbers + end)?))
    }
}

impl NamedTensors for SafeTensorsFile {
    fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    fn shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.header.info(name)?.shape.iter().map(|&side| side as i64).collect())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>, String> {
        let (info, bytes) = self.tensor(name).ok_or("it is not there")?;
        let (kind, size) = match info.dtype {
            Dtype::F64 => (Kind::Double, 8),
            Dtype::F32 => (Kind::Float, 4),
            Dtype::F16 => (Kind::Half, 2),
            Dtype::BF16 => (Kind::BFloat16, 2),
            other => return Err(format!("it holds {other:?} numbers, floating-point ones are needed")),
        };
        to_float32(bytes, kind, size)
    }

    fn network(&self) -> Option<String> {
        self.header.metadata().as_ref()?.get("network").cloned()
    }
}

/// Little-endian numbers of `kind`, `size` bytes each, as float32.
pub(super) fn to_float32(bytes: &[u8], kind: Kind, size: usize) -> Result<Vec<f32>, String> {
    let convert = || {
        let whole = Tensor::f_from_data_size(bytes, &[(bytes.len() / size) as i64], kind)?;
        Vec::<f32>::try_from(whole.f_to_kind(Kind::Float)?)
    };
    convert().map_err(|error| NnError::from(error).to_string())
}

/// What a file of weights to start from holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The network that the weights are for.
    pub network: String,
    /// How many classes its head answers; none where the file has no head.
    pub classes: Option<u32>,
    /// How many numbers the optimiser moves, the head's among them.
    pub parameters: u64,
    /// Tensors kept.
    pub tensors: usize,
}

/// Writes `source`'s tensors for the network `name` to `target` as safetensors.
///
/// A head of more classes than a data set may have is checked by shape and counted, but neither read nor kept: each run's is new.
///
/// A prefix `module.` on every name (PyTorch's `DataParallel`) is taken off, `num_batches_tracked` and `n_averaged` are left out.
///
/// # Errors
/// [`NnError::Mismatch`] with the first tensor that is missing, of another shape, unknown, not finite or a variance below 0, or where
/// there are far too many; [`NnError::UnknownNetwork`]; or when `target` cannot be written.
pub fn import(source: &mut dyn NamedTensors, name: &str, target: &Path) -> Result<Contents, NnError> {
    let architecture: Architecture = name.parse()?;
    let mismatch = |reason: String| NnError::Mismatch { network: name.to_owned(), reason };
    let probe = architecture.network(Head::Linear, 1, Kind::Float)?;
    let (found, needed) = (source.names(), entries(probe.as_ref()).count());
    if found.len() > MOST_FOR_EACH * needed {
        return Err(mismatch(format!("{} tensors in the file, {needed} in the network", found.len())));
    }
    let mut names = own_names(found);
    // A published model with head `reference`: what lies on top of its fc is new in each run.
    if let Ok(reference) = architecture.network(Head::Reference, 1, Kind::Float) {
        for entry in reference.layout().params().iter().filter(|entry| entry.head) {
            names.remove(&entry.name);
        }
    }
    let head = probe.layout().params().iter().find(|entry| entry.head && entry.shape.len() == 2);
    let rows = head.and_then(|entry| source.shape(names.get(&entry.name)?)?.first().copied());
    let classes = rows.filter(|&rows| (1..=1_000_000).contains(&rows));
    let network = architecture.network(Head::Linear, classes.unwrap_or(1) as usize, Kind::Float)?;
    let (mut kept, mut parameters) = (Vec::new(), 0);
    for (entry, parameter) in entries(network.as_ref()) {
        let Some(theirs) = names.remove(&entry.name) else {
            // Either both of the head's tensors or neither.
            if entry.head && classes.is_none() {
                continue;
            }
            let there = match names.keys().min() {
                Some(other) => format!("; the file has {} other tensors, such as {other}", names.len()),
                None => String::new(),
            };
            return Err(mismatch(format!("{} is missing{there}", entry.name)));
        };
        let shape = source.shape(&theirs).unwrap_or_default();
        if shape != entry.shape {
            return Err(mismatch(format!("{} has the shape {shape:?}, needed is {:?}", entry.name, entry.shape)));
        }
        parameters += if parameter { entry.numel() as u64 } else { 0 };
        if entry.head && classes > Some(MOST_KEPT_CLASSES) {
            continue;
        }
        let values = source.read(&theirs).map_err(|reason| mismatch(format!("{}: {reason}", entry.name)))?;
        if values.len() as i64 != entry.numel() || values.iter().any(|value| !value.is_finite()) {
            return Err(mismatch(format!("{} holds values that are not finite", entry.name)));
        }
        // Its root would be no number, nor any loss of a run that starts from it.
        if entry.name.ends_with(".running_var") && values.iter().any(|&value| value < 0.0) {
            return Err(mismatch(format!("{} holds a negative variance", entry.name)));
        }
        kept.push((entry, little_endian(&values)));
    }
    if let Some(unknown) = names.keys().min() {
        return Err(mismatch(format!("{unknown} is no tensor of it, {} such in all", names.len())));
    }
    file::write(target, name, &kept)?;
    let classes = classes.map(|classes| classes as u32);
    Ok(Contents { network: name.to_owned(), classes, parameters, tensors: kept.len() })
}

/// The bytes of a tensor as a safetensors file has them.
fn little_endian(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The names of our kind, each with the one that stands in the file.
fn own_names(names: Vec<String>) -> HashMap<String, String> {
    // What PyTorch's BatchNorm and its averaged models count.
    let counted = |name: &String| !name.ends_with("num_batches_tracked") && name != "n_averaged";
    let names: Vec<String> = names.into_iter().filter(counted).collect();
    let wrapped = names.iter().all(|name| name.starts_with("module."));
    let own = |name: &str| if wrapped { name["module.".len()..].to_owned() } else { name.to_owned() };
    names.into_iter().map(|name| (own(&name), name)).collect()
}

/// Every tensor of a network, and whether the optimiser moves it.
fn entries(network: &dyn Network) -> impl Iterator<Item = (&Entry, bool)> {
    let layout = network.layout();
    layout.params().iter().map(|entry| (entry, true)).chain(layout.buffers().iter().map(|entry| (entry, false)))
}

/// Copies the weights in `bytes`, a file that [`import`] wrote, into `weights`, and gives the names of the head's tensors, which keep
/// their random start.
///
/// # Errors
/// [`NnError::Mismatch`] when a tensor of the backbone is missing or of another shape.
pub fn start(network: &dyn Network, weights: &mut Weights, bytes: &[u8]) -> Result<Vec<String>, NnError> {
    let mismatch = |reason: String| NnError::Mismatch { network: network.name(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|error| mismatch(format!("no safetensors file: {error}")))?;
    let _no_grad = tch::no_grad_guard();
    let mut new = Vec::new();
    for (entry, tensor) in weights.tensors(network.layout()) {
        if entry.head {
            new.push(entry.name.clone());
            continue;
        }
        let view = file.tensor(&entry.name).ok();
        let shape: Vec<i64> = view.iter().flat_map(|view| view.shape()).map(|&side| side as i64).collect();
        match view {
            Some(view) if shape == entry.shape && view.dtype() == Dtype::F32 => {
                tensor.shallow_clone().f_copy_(&Tensor::f_from_data_size(view.data(), &entry.shape, Kind::Float)?)?;
            }
            Some(_) => {
                return Err(mismatch(format!("{} has the shape {shape:?}, needed is {:?}", entry.name, entry.shape)));
            }
            None => return Err(mismatch(format!("{} is missing", entry.name))),
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::build;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, BTreeSet};
    use tch::Device;

    /// Tensors in memory.
    struct Memory(Tensors);

    type Tensors = BTreeMap<String, (Vec<i64>, Vec<f32>)>;

    impl NamedTensors for Memory {
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }

        fn shape(&self, name: &str) -> Option<Vec<i64>> {
            self.0.get(name).map(|(shape, _)| shape.clone())
        }

        fn read(&mut self, name: &str) -> Result<Vec<f32>, String> {
            self.0.get(name).map(|(_, values)| values.clone()).ok_or_else(|| "gone".to_owned())
        }
    }

    /// Every tensor of `tiny_resnet` with as many classes, tensor i all i.
    fn tiny(classes: usize, prefix: &str) -> Memory {
        let network = build("tiny_resnet", Head::Linear, classes, Kind::Float).unwrap();
        let tensors = entries(network.as_ref()).enumerate().map(|(at, (entry, _))| {
            (format!("{prefix}{}", entry.name), (entry.shape.clone(), vec![at as f32; entry.numel() as usize]))
        });
        Memory(tensors.collect())
    }

    fn imported(mut source: Memory) -> Result<(Contents, Vec<u8>), String> {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("start.safetensors");
        let contents = import(&mut source, "tiny_resnet", &target).map_err(|error| error.to_string())?;
        Ok((contents, std::fs::read(target).unwrap()))
    }

    fn fresh(head: Head, classes: usize) -> (Box<dyn Network>, Weights) {
        let network = build("tiny_resnet", head, classes, Kind::Float).unwrap();
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        (network, weights)
    }

    #[test]
    fn the_head_is_new_and_all_else_is_taken_over() {
        let (contents, bytes) = imported(tiny(7, "")).unwrap();
        assert_eq!((contents.network.as_str(), contents.classes), ("tiny_resnet", Some(7)));
        let (network, mut weights) = fresh(Head::Linear, 2);
        let (_, untouched) = fresh(Head::Linear, 2);
        assert_eq!(start(network.as_ref(), &mut weights, &bytes).unwrap(), ["fc.weight", "fc.bias"]);
        for (at, (entry, tensor)) in weights.tensors(network.layout()).enumerate() {
            if entry.head {
                let (_, before) = untouched.tensors(network.layout()).nth(at).unwrap();
                assert_eq!(tensor, before, "{}", entry.name);
            }
        }
        let (first, bn) = (weights.tensors(network.layout()).next().unwrap().1, weights.statistics());
        assert_eq!(first.abs().max().double_value(&[]), 0.0, "conv1 is tensor 0");
        assert!(bn.min().double_value(&[]) > 1.0, "running statistics are taken over too");
        // As many classes may be others: gender's head would answer masks with confidence, and wrong.
        let (network, mut weights) = fresh(Head::Linear, 7);
        assert_eq!(start(network.as_ref(), &mut weights, &bytes).unwrap(), ["fc.weight", "fc.bias"]);
    }

    #[test]
    fn the_reference_head_needs_an_fc_of_a_thousand() {
        let (_, bytes) = imported(tiny(1000, "")).unwrap();
        let (network, mut weights) = fresh(Head::Reference, 2);
        let new = start(network.as_ref(), &mut weights, &bytes).unwrap();
        assert_eq!((new.len(), new[0].as_str()), (6, "head.fc1.weight"));
        let (_, bytes) = imported(tiny(7, "")).unwrap();
        let refusal = start(network.as_ref(), &mut weights, &bytes).unwrap_err().to_string();
        assert!(refusal.contains("fc.weight") && refusal.contains("1000"), "{refusal}");
    }

    #[test]
    fn a_head_of_more_classes_than_a_data_set_has_is_counted_and_not_kept() {
        let kept =
            |bytes: &[u8]| SafeTensors::deserialize(bytes).unwrap().names().iter().any(|name| name.starts_with("fc."));
        let (largest, bytes) = imported(tiny(1000, "")).unwrap();
        assert!(kept(&bytes));
        // It is not even read: it could be gigabytes.
        let mut source = tiny(1001, "");
        source.0.get_mut("fc.weight").unwrap().1.clear();
        let (contents, bytes) = imported(source).unwrap();
        assert!(!kept(&bytes));
        assert_eq!((contents.classes, contents.tensors), (Some(1001), largest.tensors - 2));
        assert!(contents.parameters > largest.parameters, "{contents:?}, {largest:?}");
        let (network, mut weights) = fresh(Head::Linear, 2);
        assert_eq!(start(network.as_ref(), &mut weights, &bytes).unwrap(), ["fc.weight", "fc.bias"]);
        let mut source = tiny(1001, "");
        source.0.get_mut("fc.bias").unwrap().0 = vec![7];
        let refusal = imported(source).unwrap_err();
        assert!(refusal.contains("fc.bias has the shape [7]"), "{refusal}");
    }

    #[test]
    fn a_file_without_a_head_or_wrapped_for_several_gpus_is_read() {
        let mut source = tiny(7, "module.");
        source.0.remove("module.fc.weight");
        source.0.remove("module.fc.bias");
        source.0.insert("module.bn1.num_batches_tracked".to_owned(), (Vec::new(), vec![5.0]));
        source.0.insert("n_averaged".to_owned(), (Vec::new(), vec![9.0]));
        assert_eq!(imported(source).unwrap().0.classes, None);
    }

    #[test]
    fn the_network_that_is_named_counts_before_the_one_that_the_file_names() {
        struct Says(Option<&'static str>);
        impl NamedTensors for Says {
            fn names(&self) -> Vec<String> {
                Vec::new()
            }

            fn shape(&self, _name: &str) -> Option<Vec<i64>> {
                None
            }

            fn read(&mut self, _name: &str) -> Result<Vec<f32>, String> {
                Err("nothing is there".to_owned())
            }

            fn network(&self) -> Option<String> {
                self.0.map(str::to_owned)
            }
        }
        assert_eq!(network_of(&Says(Some("wrn-10-1")), Some("tiny_resnet")), "tiny_resnet");
        assert_eq!(network_of(&Says(Some("wrn-10-1")), None), "wrn-10-1");
        assert_eq!(network_of(&Says(Some("vgg16")), None), "wide_resnet50_2", "one that nobody knows");
        assert_eq!(network_of(&Says(None), None), "wide_resnet50_2");
    }

    #[test]
    fn every_floating_point_format_is_read_as_what_it_says_it_is() {
        // 1.5 and −2 in each, and two whole numbers.
        let tensors: [(&str, &[u8]); 5] = [
            ("BF16", &[0xc0, 0x3f, 0x00, 0xc0]),
            ("F16", &[0x00, 0x3e, 0x00, 0xc0]),
            ("F32", &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]),
            ("F64", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]),
            ("I32", &[1, 0, 0, 0, 2, 0, 0, 0]),
        ];
        let (mut header, mut numbers) = (serde_json::Map::new(), Vec::new());
        for (format, bytes) in tensors {
            let offsets = [numbers.len(), numbers.len() + bytes.len()];
            let info = serde_json::json!({ "dtype": format, "shape": [2], "data_offsets": offsets });
            header.insert(format.to_owned(), info);
            numbers.extend_from_slice(bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], &header, &numbers].concat()).unwrap();
        let mut file = SafeTensorsFile::open(&path).unwrap();
        for format in ["BF16", "F16", "F32", "F64"] {
            assert_eq!(file.read(format).unwrap(), [1.5, -2.0], "{format}");
        }
        assert_eq!(file.read("I32").unwrap_err(), "it holds I32 numbers, floating-point ones are needed");
    }

    /// Published weights have a reader of their own, which takes what it wrote and nothing else.
    #[test]
    fn a_file_of_a_deeper_network_or_of_other_numbers_is_no_published_model() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        let [network, deeper] = ["wrn-10-1", "wrn-16-1"].map(|name| build(name, Head::Linear, 3, Kind::Float).unwrap());
        let save = |network: &dyn Network| {
            file::save(network, &Weights::zeros(network.layout(), Device::Cpu).unwrap(), &path).unwrap();
        };
        let refused = || file::load(network.as_ref(), &path, Device::Cpu).unwrap_err().to_string();
        // Every tensor of the network is in it, in its shape, and others besides.
        save(deeper.as_ref());
        let told = refused();
        assert!(told.contains("tensors in the file") && told.contains("wrn-10-1"), "{told}");
        // Whole numbers take as many bytes.
        save(network.as_ref());
        assert!(file::load(network.as_ref(), &path, Device::Cpu).is_ok());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(5).position(|word| word == b"\"F32\"").unwrap();
        bytes[at + 1] = b'I';
        std::fs::write(&path, bytes).unwrap();
        let told = refused();
        assert!(told.contains("is I32") && told.contains("needed is F32"), "{told}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let with = |change: fn(&mut Tensors)| {
            let mut source = tiny(7, "");
            change(&mut source.0);
            imported(source).unwrap_err()
        };
        let missing = with(|tensors| drop(tensors.remove("layer2.0.bn1.running_var")));
        assert!(missing.contains("layer2.0.bn1.running_var is missing"), "{missing}");
        let prefixed = with(|tensors| {
            *tensors = std::mem::take(tensors)
                .into_iter()
                .map(|(name, tensor)| (format!("backbone.{name}"), tensor))
                .collect();
        });
        assert!(
            prefixed.contains("conv1.weight is missing; the file has") && prefixed.contains("backbone."),
            "{prefixed}"
        );
        let half_a_head = with(|tensors| drop(tensors.remove("fc.bias")));
        assert!(half_a_head.contains("fc.bias"), "{half_a_head}");
        let shape = with(|tensors| drop(tensors.insert("conv1.weight".to_owned(), (vec![4, 3, 3, 3], vec![0.0; 108]))));
        assert!(shape.contains("conv1.weight") && shape.contains("[4, 3, 7, 7]"), "{shape}");
        let unknown = with(|tensors| drop(tensors.insert("layer5.0.conv1.weight".to_owned(), (vec![1], vec![0.0]))));
        assert!(unknown.contains("layer5.0.conv1.weight"), "{unknown}");
        let not_finite = with(|tensors| tensors.get_mut("bn1.bias").unwrap().1[1] = f32::NAN);
        assert!(not_finite.contains("bn1.bias") && not_finite.contains("finite"), "{not_finite}");
        let negative = with(|tensors| tensors.get_mut("bn1.running_var").unwrap().1[1] = -0.5);
        assert!(negative.contains("bn1.running_var holds a negative variance"), "{negative}");
        let mut source = tiny(7, "");
        source.0.get_mut("bn1.running_mean").unwrap().1[1] = -0.5;
        assert!(imported(source).is_ok(), "a mean may be negative");
    }

    #[test]
    fn the_same_source_is_imported_as_the_same_file() {
        let files: BTreeSet<Vec<u8>> = (0..16).map(|_| imported(tiny(7, "")).unwrap().1).collect();
        assert_eq!(files.len(), 1);
        let (_, metadata) = SafeTensors::read_metadata(files.first().unwrap()).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["network"], "tiny_resnet");
    }

    #[test]
    fn a_published_model_with_the_references_head_can_be_started_from() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("weights.safetensors"), directory.path().join("start.safetensors"));
        let (network, weights) = fresh(Head::Reference, 3);
        file::save(network.as_ref(), &weights, &path).unwrap();
        let contents = import(&mut SafeTensorsFile::open(&path).unwrap(), "tiny_resnet", &target).unwrap();
        assert_eq!(contents.classes, Some(1000));
        let mut taken = Weights::zeros(network.layout(), Device::Cpu).unwrap();
        let new = start(network.as_ref(), &mut taken, &std::fs::read(target).unwrap()).unwrap();
        assert_eq!((new.len(), new[0].as_str()), (6, "head.fc1.weight"));
        let fc = |weights: &Weights| {
            let found = weights.tensors(network.layout()).find(|(entry, _)| entry.name == "fc.weight");
            found.map(|(_, tensor)| tensor.shallow_clone()).unwrap()
        };
        assert_eq!(fc(&taken), fc(&weights));
    }

    /// Adds so many tensors without a number, of a kind that is left out, to the file at `path`.
    fn add_counted(path: &Path, number: usize) {
        let bytes = std::fs::read(path).unwrap();
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let mut header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).unwrap();
        let none = serde_json::json!({ "dtype": "F32", "shape": [0], "data_offsets": [numbers.len(), numbers.len()] });
        header.extend((0..number).map(|at| (format!("x{at}.num_batches_tracked"), none.clone())));
        let header = serde_json::to_vec(&header).unwrap();
        std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, numbers].concat()).unwrap();
    }

    #[test]
    fn a_file_of_far_too_many_tensors_is_refused_before_each_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("weights.safetensors"), directory.path().join("start.safetensors"));
        let network = build("wrn-10-1", Head::Linear, 3, Kind::Float).unwrap();
        let weights = Weights::zeros(network.layout(), Device::Cpu).unwrap();
        for (number, refusal) in [(100, None), (10_000, Some("tensors in the file")), (100_000, Some("its header"))] {
            file::save(network.as_ref(), &weights, &path).unwrap();
            add_counted(&path, number);
            let answer = SafeTensorsFile::open(&path).and_then(|mut file| import(&mut file, "wrn-10-1", &target));
            match (refusal, answer) {
                (None, answer) => assert_eq!(answer.unwrap().tensors, entries(network.as_ref()).count()),
                (Some(word), answer) => {
                    let told = answer.unwrap_err().to_string();
                    assert!(told.contains(word), "{told}");
                }
            }
        }
    }

    #[test]
    fn a_published_models_file_can_be_imported() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("weights.safetensors"), directory.path().join("start.safetensors"));
        let network = build("wrn-10-1", Head::Linear, 3, Kind::Float).unwrap();
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        file::save(network.as_ref(), &weights, &path).unwrap();
        let contents = import(&mut SafeTensorsFile::open(&path).unwrap(), "wrn-10-1", &target).unwrap();
        assert_eq!((contents.classes, contents.parameters), (Some(3), network.layout().parameter_count() as u64));
        let mut taken = Weights::zeros(network.layout(), Device::Cpu).unwrap();
        let new = start(network.as_ref(), &mut taken, &std::fs::read(target).unwrap()).unwrap();
        assert_eq!(new.len(), 2, "weight and bias of its head: {new:?}");
        let theirs: BTreeMap<_, _> =
            weights.tensors(network.layout()).map(|(entry, own)| (entry.name.clone(), own)).collect();
        for (entry, tensor) in taken.tensors(network.layout()).filter(|(entry, _)| !entry.head) {
            assert_eq!(tensor, theirs[&entry.name], "{}", entry.name);
        }
    }
}
