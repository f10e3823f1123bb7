//! The pickle machine: a stack, a memo, and the two dozen instructions that `torch.save` writes for a state dict.
//!
//! Values are indices into arenas, so that nesting cannot overflow the stack and a memo cannot multiply
//! memory: each instruction adds at most one value, and a pickle has at most [`MOST_BYTES`] of them.

use std::collections::HashMap;

use super::{Dtype, PthError, TensorRef};

/// A state dict's pickle has some hundred bytes a tensor.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// Dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// A value on the stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool,
    Float,
    Int(i64),
    /// Bytes `start..end` of the pickle, checked to be UTF-8.
    Text {
        start: usize,
        end: usize,
    },
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

impl Value {
    /// The characters of a text.
    pub fn text(self, pickle: &[u8]) -> Option<&str> {
        let Self::Text { start, end } = self else { return None };
        std::str::from_utf8(pickle.get(start..end)?).ok()
    }
}

/// The globals that are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(Dtype),
}

/// The numbers behind one or several tensors.
#[derive(Clone, Debug)]
pub(super) struct StorageRef {
    /// Its name in the archive.
    pub key: String,
    pub dtype: Dtype,
    pub numel: usize,
}

/// Everything that a pickle made.
#[derive(Debug, Default)]
pub(super) struct Heap {
    pub tuples: Vec<Vec<Value>>,
    pub lists: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<StorageRef>,
    pub tensors: Vec<TensorRef>,
}

/// A pickle that has run to its end.
#[derive(Debug)]
pub(super) struct Unpickled {
    pub root: Value,
    pub heap: Heap,
    /// The pickle itself: texts are ranges of it.
    pub text: Vec<u8>,
    /// Bytes up to and with its STOP.
    pub length: usize,
}

/// Runs the pickle at the start of `bytes`.
pub(super) fn run(bytes: &[u8]) -> Result<Unpickled, PthError> {
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::default() };
    let root = machine.run()?;
    let length = machine.at;
    Ok(Unpickled { root, heap: machine.heap, text: bytes[..length].to_vec(), length })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Heap,
}

type Step<T = ()> = Result<T, PthError>;

impl Machine<'_> {
    fn run(&mut self) -> Step<Value> {
        loop {
            let at = self.at;
            match self.byte()? {
                b'.' => return self.pop(),
                // PROTO; FRAME, a hint for streams.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(i64::from(number)));
                }
                b'K' => {
                    let number = self.byte()?;
                    self.stack.push(Value::Int(i64::from(number)));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(i64::from(number)));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Float);
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?) as usize;
                    self.text(length)?;
                }
                0x8c => {
                    let length = usize::from(self.byte()?);
                    self.text(length)?;
                }
                b')' => self.tuple(0)?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.since_mark()?;
                    self.push_tuple(items);
                }
                b']' => {
                    self.heap.lists.push(Vec::new());
                    self.stack.push(Value::List(self.heap.lists.len() - 1));
                }
                b'}' => self.push_dict(),
                b'(' => self.marks.push(self.stack.len()),
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set(items)?;
                }
                b'q' => {
                    let slot = self.byte()?;
                    self.memoize(u32::from(slot))?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.memoize(slot)?;
                }
                0x94 => self.memoize(self.memo.len() as u32)?,
                b'h' => {
                    let slot = self.byte()?;
                    self.recall(u32::from(slot))?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.recall(slot)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let word = |value: Value| value.text(self.bytes).map(str::to_owned);
                    let (Some(module), Some(name)) = (word(module), word(name)) else {
                        return Err(self.malformed("a global without a name"));
                    };
                    self.global(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                // The attributes of an ordered dictionary (`_metadata`): versions of modules, not needed here.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Dict(_))) {
                        return Err(self.malformed("attributes for something that is no dictionary"));
                    }
                }
                opcode => return Err(PthError::Opcode { opcode, at }),
            }
        }
    }

    fn malformed(&self, reason: &'static str) -> PthError {
        PthError::Malformed { at: self.at, reason }
    }

    fn take(&mut self, count: usize) -> Step<&[u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(PthError::Truncated(self.bytes.len()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(PthError::Truncated(self.bytes.len()))?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    /// LONG1: little-endian two's complement of any length; what does not fit 64 bits is no size of anything.
    fn long(&mut self) -> Step {
        let length = usize::from(self.byte()?);
        if length > 8 {
            return Err(self.malformed("a number of more than 64 bits"));
        }
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut whole = [sign; 8];
        whole[..length].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn text(&mut self, length: usize) -> Step {
        let start = self.at;
        if std::str::from_utf8(self.take(length)?).is_err() {
            return Err(self.malformed("a text that is no UTF-8"));
        }
        self.stack.push(Value::Text { start, end: self.at });
        Ok(())
    }

    /// What lies on top; an open MARK is a floor.
    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("it takes a value where none is"));
        }
        self.stack.pop().ok_or_else(|| self.malformed("it takes a value where none is"))
    }

    fn since_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("it closes what was not opened"))?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, length: usize) -> Step {
        let mut items = (0..length).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.push_tuple(items);
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        self.heap.tuples.push(items);
        self.stack.push(Value::Tuple(self.heap.tuples.len() - 1));
    }

    fn push_dict(&mut self) {
        self.heap.dicts.push(Vec::new());
        self.stack.push(Value::Dict(self.heap.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value>) -> Step {
        match self.stack.last() {
            Some(Value::List(list)) => self.heap.lists[*list].extend(items),
            _ => return Err(self.malformed("it appends to something that is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Step {
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        match self.stack.last() {
            Some(Value::Dict(dict)) => self.heap.dicts[*dict].extend(pairs.map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.malformed("it sets an item of something that is no dictionary")),
        }
        Ok(())
    }

    fn memoize(&mut self, slot: u32) -> Step {
        let value = *self.stack.last().ok_or_else(|| self.malformed("it remembers a value where none is"))?;
        self.memo.insert(slot, value);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Step {
        let value = *self.memo.get(&slot).ok_or_else(|| self.malformed("it recalls what it never remembered"))?;
        self.stack.push(value);
        Ok(())
    }

    /// The whole list of what a file may name.
    fn global(&mut self, module: &str, name: &str) -> Step {
        let global = match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch", name) => Dtype::of_storage(name).map(Global::Storage),
            _ => None,
        };
        let unknown = || PthError::Global(format!("{module}.{name}").chars().take(120).collect());
        self.stack.push(Value::Global(global.ok_or_else(unknown)?));
        Ok(())
    }

    fn items(&self, value: Value) -> Step<&[Value]> {
        match value {
            Value::Tuple(tuple) => Ok(&self.heap.tuples[tuple]),
            _ => Err(self.malformed("a tuple is needed")),
        }
    }

    fn sizes(&self, value: Value) -> Step<Vec<usize>> {
        let items = self.items(value)?;
        if items.len() > MOST_DIMENSIONS {
            return Err(self.malformed("a tensor of too many dimensions"));
        }
        items.iter().map(|&item| self.size(item)).collect()
    }

    fn size(&self, value: Value) -> Step<usize> {
        match value {
            Value::Int(number) => usize::try_from(number).map_err(|_| self.malformed("a negative size")),
            _ => Err(self.malformed("a size is needed")),
        }
    }

    /// BINPERSID: ("storage", class, key, location, numel), and in old files None behind it.
    fn storage(&mut self) -> Step {
        let id = self.pop()?;
        let (dtype, key, numel) = match *self.items(id)? {
            [kind, Value::Global(Global::Storage(dtype)), key, _, numel]
            | [kind, Value::Global(Global::Storage(dtype)), key, _, numel, Value::None]
                if kind.text(self.bytes) == Some("storage") =>
            {
                (dtype, key, self.size(numel)?)
            }
            _ => return Err(self.malformed("a reference to something that is no storage")),
        };
        let key = key.text(self.bytes).ok_or_else(|| self.malformed("a storage without a name"))?.to_owned();
        self.heap.storages.push(StorageRef { key, dtype, numel });
        self.stack.push(Value::Storage(self.heap.storages.len() - 1));
        Ok(())
    }

    fn reduce(&mut self) -> Step {
        let (arguments, function) = (self.pop()?, self.pop()?);
        match (function, self.items(arguments)?) {
            (Value::Global(Global::OrderedDict), []) => self.push_dict(),
            (Value::Global(Global::RebuildTensor), &[Value::Storage(storage), offset, shape, strides, ..]) => {
                let (offset, shape, strides) = (self.size(offset)?, self.sizes(shape)?, self.sizes(strides)?);
                self.heap.tensors.push(TensorRef { storage, offset, shape, strides });
                self.stack.push(Value::Tensor(self.heap.tensors.len() - 1));
            }
            _ => return Err(self.malformed("a call that makes neither a tensor nor a dictionary")),
        }
        Ok(())
    }
}
