//! PyTorch's `.pth` files: a state dict read without running anything that the file says.
//!
//! A pickle is a program, and `torch.load` on a stranger's file may run any code. This reader knows the few
//! instructions that a state dict is made of and four kinds of globals by name; everything else is an error
//! that names what was found. Sizes, offsets and strides are checked against what is there before they are used.
//!
//! The server never comes here: only `mixmatch import-weights` does, a process of its own.

mod pickle;
mod storage;

use std::collections::BTreeMap;
use std::path::Path;

use tch::Kind;

use self::pickle::{Heap, Value};
use self::storage::Container;
use super::NnError;
use super::pretrained::{NamedTensors, to_float32};

/// Why a `.pth` file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// The file system's.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The archive around the pickle.
    #[error("no PyTorch archive: {0}")]
    Archive(String),
    /// The pickle ends in the middle.
    #[error("the pickle is cut off at byte {0}")]
    Truncated(usize),
    /// An instruction that no state dict needs.
    #[error("instruction 0x{opcode:02x} at byte {at} of the pickle is not read here: a state dict has none such")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where it stands.
        at: usize,
    },
    /// A global that no state dict needs; it may be harmless or an attack.
    #[error(
        "the file refers to {0}, which is not allowed: only tensors in plain or ordered dictionaries are read. \
         Save the state dict alone: torch.save(model.state_dict(), FILE)"
    )]
    Global(String),
    /// The pickle does not fit together.
    #[error("the pickle makes no sense at byte {at}: {reason}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A tensor reaches beyond its storage, or is larger than is read here.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// There is a pickle, but no state dict in it.
    #[error("there is no state dict in it: a dictionary of tensors, by itself or under \"state_dict\" or \"model\"")]
    NoStateDict,
}

/// Number format of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    Double,
    Float,
    Half,
    BFloat16,
    Long,
    Int,
    Short,
    Char,
    Byte,
    Bool,
}

impl Dtype {
    /// That of the class `torch.<name>`.
    fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" => Self::Double,
            "FloatStorage" => Self::Float,
            "HalfStorage" => Self::Half,
            "BFloat16Storage" => Self::BFloat16,
            "LongStorage" => Self::Long,
            "IntStorage" => Self::Int,
            "ShortStorage" => Self::Short,
            "CharStorage" => Self::Char,
            "ByteStorage" => Self::Byte,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one number.
    fn size(self) -> usize {
        match self {
            Self::Double | Self::Long => 8,
            Self::Float | Self::Int => 4,
            Self::Half | Self::BFloat16 | Self::Short => 2,
            Self::Char | Self::Byte | Self::Bool => 1,
        }
    }

    /// libtorch's name for it, where it is a floating-point format.
    fn float_kind(self) -> Option<Kind> {
        match self {
            Self::Double => Some(Kind::Double),
            Self::Float => Some(Kind::Float),
            Self::Half => Some(Kind::Half),
            Self::BFloat16 => Some(Kind::BFloat16),
            _ => None,
        }
    }
}

/// A tensor as the file describes it; nothing of it is read yet.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    /// Index into the heap's storages.
    storage: usize,
    /// Of its first number in the storage.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensors of a file by name.
#[derive(Debug)]
pub struct StateDict {
    tensors: BTreeMap<String, TensorRef>,
    heap: Heap,
    container: Container,
    /// The storage read last: several tensors may be parts of one.
    last: Option<(usize, Vec<u8>)>,
}

impl StateDict {
    /// Reads the description of every tensor in the file at `path`, checked against the sizes it states.
    ///
    /// # Errors
    /// [`PthError`] with the path.
    pub fn open(path: &Path) -> Result<Self, NnError> {
        Self::read_description(path).map_err(|error| NnError::File { path: path.to_owned(), reason: error.to_string() })
    }

    fn read_description(path: &Path) -> Result<Self, PthError> {
        let (container, pickle) = Container::open(path)?;
        let heap = pickle.heap;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in heap.state_dict(pickle.root, &pickle.text).ok_or(PthError::NoStateDict)? {
            let tensor = heap.tensors[tensor].clone();
            check(&heap, &tensor).map_err(|reason| PthError::Tensor { name: name.clone(), reason })?;
            tensors.insert(name, tensor);
        }
        Ok(Self { tensors, heap, container, last: None })
    }

    fn bytes_of(&mut self, tensor: &TensorRef) -> Result<Vec<u8>, PthError> {
        if self.last.as_ref().is_none_or(|(index, _)| *index != tensor.storage) {
            // Before the next is read: two would be twice as much.
            self.last = None;
            self.last = Some((tensor.storage, self.container.read(&self.heap.storages[tensor.storage])?));
        }
        let storage = self.last.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let size = self.heap.storages[tensor.storage].dtype.size();
        gather(storage, tensor, size).ok_or_else(|| PthError::Archive("a storage is shorter than it says".to_owned()))
    }
}

impl NamedTensors for StateDict {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(|tensor| tensor.shape.iter().map(|&side| side as i64).collect())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.tensors.get(name).cloned().ok_or("it is not there")?;
        let dtype = self.heap.storages[tensor.storage].dtype;
        let kind =
            dtype.float_kind().ok_or_else(|| format!("it holds {dtype:?} numbers, floating-point ones are needed"))?;
        let bytes = self.bytes_of(&tensor).map_err(|error| error.to_string())?;
        to_float32(&bytes, kind, dtype.size())
    }
}

/// Whether every number of the tensor lies in its storage, and none is there twice (an expanded tensor of a
/// few bytes could else ask for gigabytes).
fn check(heap: &Heap, tensor: &TensorRef) -> Result<(), String> {
    let storage = &heap.storages[tensor.storage];
    if tensor.shape.len() != tensor.strides.len() {
        return Err("it has another number of strides than of dimensions".to_owned());
    }
    let numel = tensor.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    let beyond = || format!("it reaches beyond its storage of {} numbers", storage.numel);
    let numel = numel.filter(|&numel| numel <= storage.numel).ok_or_else(beyond)?;
    if numel == 0 {
        return Ok(());
    }
    let last = tensor.shape.iter().zip(&tensor.strides).try_fold(tensor.offset, |last, (&side, &stride)| {
        (side - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
    });
    last.filter(|&last| last < storage.numel).map(drop).ok_or_else(beyond)
}

/// The tensor's numbers in row-major order, `size` bytes each; none where the storage is too short.
fn gather(storage: &[u8], tensor: &TensorRef, size: usize) -> Option<Vec<u8>> {
    let numel: usize = tensor.shape.iter().product();
    let mut bytes = Vec::with_capacity(numel * size);
    let mut index = vec![0; tensor.shape.len()];
    // The last dimensions that lie densely are copied in one piece.
    let (mut dense, mut run) = (tensor.shape.len(), 1);
    while dense > 0 && (tensor.strides[dense - 1] == run || tensor.shape[dense - 1] == 1) {
        dense -= 1;
        run *= tensor.shape[dense];
    }
    while bytes.len() < numel * size {
        let start =
            tensor.offset + index[..dense].iter().zip(&tensor.strides).map(|(i, stride)| i * stride).sum::<usize>();
        bytes.extend_from_slice(storage.get(start * size..(start + run) * size)?);
        for dimension in (0..dense).rev() {
            index[dimension] += 1;
            if index[dimension] < tensor.shape[dimension] {
                break;
            }
            index[dimension] = 0;
        }
    }
    Some(bytes)
}

impl Heap {
    /// The dictionary of tensors that `root` is or holds under a usual name: names and indices of tensors.
    fn state_dict(&self, root: Value, text: &[u8]) -> Option<Vec<(String, usize)>> {
        let Value::Dict(root) = root else { return None };
        let tensors = |dict: usize| {
            let named = self.dicts[dict].iter().filter_map(|(key, value)| match value {
                Value::Tensor(tensor) => Some((key.text(text)?.to_owned(), *tensor)),
                _ => None,
            });
            Some(named.collect::<Vec<_>>()).filter(|named| !named.is_empty())
        };
        let under = |name: &str| {
            self.dicts[root].iter().find_map(|(key, value)| match value {
                Value::Dict(dict) if key.text(text) == Some(name) => tensors(*dict),
                _ => None,
            })
        };
        // The usual names first: beside them a figure of the training may be a tensor, too.
        ["state_dict", "model", "model_state_dict"].into_iter().find_map(under).or_else(|| tensors(root))
    }
}

#[cfg(test)]
mod tests;
