//! Files that Python wrote (`tests/golden/make_pth.py`), and the same files damaged.

use std::io::{Read, Write};
use std::path::PathBuf;

use half::f16;
use proptest::prelude::*;

use super::*;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pth").join(name)
}

/// Everything a caller could do with the file.
fn read_all(path: &Path) -> Result<usize, String> {
    let mut dict = StateDict::open(path).map_err(|error| error.to_string())?;
    let names = dict.names();
    let mut numbers = 0;
    for name in names {
        let values = dict.read(&name)?;
        assert_eq!(values.len() as i64, dict.shape(&name).unwrap().iter().product::<i64>(), "{name}");
        numbers += values.len();
    }
    Ok(numbers)
}

/// What `make_pth.py` put in.
fn assert_floats(path: &Path) {
    let mut dict = StateDict::open(path).unwrap();
    assert_eq!(dict.shape("float").unwrap(), [2, 3]);
    assert_eq!(dict.read("float").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    for name in ["double", "half", "bfloat16"] {
        assert_eq!(dict.read(name).unwrap(), [1.5, -2.0], "{name}");
    }
    // The transpose and the slice of tensors that others share their storage with.
    assert_eq!(
        (dict.shape("transposed").unwrap(), dict.read("transposed").unwrap()),
        (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    );
    assert_eq!(dict.read("slice").unwrap(), [4.0, 5.0]);
    // channels_last in memory, row-major when read.
    assert_eq!(dict.read("channels_last").unwrap(), (0..24).map(|value| value as f32).collect::<Vec<_>>());
    assert_eq!(dict.read("scalar").unwrap(), [7.0]);
    assert_eq!(dict.read("empty").unwrap(), [0.0; 0]);
    let refusal = dict.read("long").unwrap_err();
    assert!(refusal.contains("Long"), "{refusal}");
    assert_eq!(dict.names().len(), 10);
}

#[test]
fn a_state_dict_of_every_kind_is_read() {
    for name in ["zip.pth", "plain.pth", "nested.pth", "training.pth", "protocol4.pth"] {
        assert_floats(&fixture(name));
    }
}

#[test]
fn a_file_that_would_run_something_is_refused_by_name() {
    for (name, global) in
        [("malicious.pth", "posix.system"), ("whole_module.pth", "torch.nn"), ("eval.pth", "__builtin__.eval")]
    {
        let refusal = StateDict::open(&fixture(name)).unwrap_err().to_string();
        assert!(refusal.contains(global) && refusal.contains("state_dict()"), "{name}: {refusal}");
    }
}

#[test]
fn what_is_no_state_dict_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pth");
    for (bytes, word) in [(&b""[..], "archive"), (b"not a pickle", "archive"), (storage::OLD_MAGIC, "cut off")] {
        std::fs::write(&path, bytes).unwrap();
        let refusal = StateDict::open(&path).unwrap_err().to_string();
        assert!(refusal.contains(word) && refusal.contains("x.pth"), "{refusal}");
    }
    let refusal = StateDict::open(&fixture("list.pth")).unwrap_err().to_string();
    assert!(refusal.contains("no state dict"), "{refusal}");
}

#[test]
fn tensors_beyond_their_storage_and_expanded_ones_are_refused() {
    let refusal = StateDict::open(&fixture("expanded.pth")).unwrap_err().to_string();
    assert!(refusal.contains("expanded") && refusal.contains("beyond its storage"), "{refusal}");
    let heap = |numel| Heap {
        storages: vec![pickle::StorageRef { key: "0".to_owned(), dtype: Dtype::Float, numel }],
        ..Heap::default()
    };
    let tensor = |offset, shape: &[usize], strides: &[usize]| TensorRef {
        storage: 0,
        offset,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
    };
    assert!(check(&heap(6), &tensor(0, &[2, 3], &[3, 1])).is_ok());
    assert!(check(&heap(6), &tensor(1, &[2, 3], &[3, 1])).is_err(), "the last number is the seventh");
    assert!(check(&heap(6), &tensor(0, &[2, 3], &[4, 1])).is_err());
    assert!(check(&heap(6), &tensor(0, &[6], &[0])).is_ok(), "each number lies inside");
    assert!(check(&heap(6), &tensor(0, &[7], &[0])).is_err());
    assert!(check(&heap(6), &tensor(usize::MAX, &[2], &[usize::MAX])).is_err());
    assert!(check(&heap(6), &tensor(0, &[usize::MAX, usize::MAX], &[1, 1])).is_err());
    assert!(check(&heap(6), &tensor(0, &[2], &[1, 1])).is_err());
    assert!(check(&heap(0), &tensor(9, &[0], &[1])).is_ok(), "nothing lies nowhere");
}

/// A file whose only tensor `w` is so many zeros, deflated.
fn deflated(path: &Path, numel: u32) {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let number = [&b"J"[..], &numel.to_le_bytes()].concat();
    let class = b"ctorch\nFloatStorage\n";
    let storage = [&b"("[..], &text("storage"), class, &text("0"), &text("cpu"), &number, b"tQ"].concat();
    // {"w": _rebuild_tensor_v2(storage, 0, (numel,), (1,))}
    let function = b"ctorch._utils\n_rebuild_tensor_v2\n";
    let tensor = [&function[..], b"(", &storage, b"K\0", &number, b"\x85K\x01\x85tR"].concat();
    let pickle = [&b"\x80\x02}"[..], &text("w"), &tensor, b"s."].concat();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("x/data.pkl", options).unwrap();
    archive.write_all(&pickle).unwrap();
    archive.start_file("x/data/0", options).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(4 * u64::from(numel)), &mut archive).unwrap();
    archive.finish().unwrap();
}

#[test]
fn a_storage_that_inflates_beyond_measure_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pth");
    deflated(&path, 1 << 18);
    assert_eq!(read_all(&path), Ok(1 << 18), "a small one in any case");
    deflated(&path, (16 << 20) + 1);
    let refusal = read_all(&path).unwrap_err();
    assert!(refusal.contains("storage 0 inflates to more than 200 times"), "{refusal}");
}

/// The pickle of a state dict as `torch.save` writes it: all is remembered in the order of its coming, from slot 256 on by four bytes, and
/// what comes again is recalled by its slot.
#[derive(Default)]
struct Pickler {
    bytes: Vec<u8>,
    slots: BTreeMap<Vec<u8>, u32>,
    next: u32,
}

impl Pickler {
    /// The instruction of one byte for a slot, or that of four.
    fn slot(&mut self, [short, long]: [u8; 2], slot: u32) {
        match u8::try_from(slot) {
            Ok(slot) => self.bytes.extend([short, slot]),
            Err(_) => {
                self.bytes.push(long);
                self.bytes.extend(slot.to_le_bytes());
            }
        }
    }

    fn put(&mut self, instructions: &[u8]) {
        self.bytes.extend(instructions);
        self.slot(*b"qr", self.next);
        self.next += 1;
    }

    fn put_once(&mut self, instructions: &[u8]) {
        match self.slots.get(instructions) {
            Some(&slot) => self.slot(*b"hj", slot),
            None => {
                self.slots.insert(instructions.to_vec(), self.next);
                self.put(instructions);
            }
        }
    }

    fn number(&mut self, number: u16) {
        match u8::try_from(number) {
            Ok(number) => self.bytes.extend([b'K', number]),
            Err(_) => {
                self.bytes.push(b'M');
                self.bytes.extend(number.to_le_bytes());
            }
        }
    }

    /// A tensor of `numel` numbers in a row, all that is in the storage `key`.
    fn tensor(&mut self, name: &str, class: &str, key: usize, numel: u16) {
        let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        self.put(&text(name));
        self.put_once(b"ctorch._utils\n_rebuild_tensor_v2\n");
        self.bytes.extend(b"((");
        self.put_once(&text("storage"));
        self.put_once(format!("ctorch\n{class}\n").as_bytes());
        self.put(&text(&key.to_string()));
        self.put_once(&text("cpu"));
        self.number(numel);
        self.put(b"t");
        self.bytes.extend(b"QK\0");
        self.number(numel);
        self.put(b"\x85");
        self.number(1);
        self.put(b"\x85");
        self.put(b"t");
        self.put(b"R");
    }

    /// Everything as a file, with its storages and the byte order that it names.
    fn save(&self, path: &Path, storages: &[Vec<u8>], byte_order: &str) {
        let pickle = [&b"\x80\x02}("[..], &self.bytes, b"u."].concat();
        let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        let mut add = |name: &str, content: &[u8]| {
            let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            archive.start_file(format!("x/{name}"), options).unwrap();
            archive.write_all(content).unwrap();
        };
        add("data.pkl", &pickle);
        add("byteorder", byte_order.as_bytes());
        for (key, storage) in storages.iter().enumerate() {
            add(&format!("data/{key}"), storage);
        }
        archive.finish().unwrap();
    }
}

#[test]
fn names_and_classes_are_recalled_of_however_many_tensors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pth");
    let (mut pickler, mut storages) = (Pickler::default(), Vec::new());
    // The second class comes late, so that it is remembered, and recalled, beyond slot 255.
    for number in 0..300_u16 {
        let value = f32::from(number);
        let (class, bytes) = match number {
            ..150 => ("FloatStorage", value.to_le_bytes().to_vec()),
            _ => ("HalfStorage", f16::from_f32(value).to_le_bytes().to_vec()),
        };
        pickler.tensor(&format!("t{number}"), class, storages.len(), 1);
        storages.push(bytes);
    }
    assert!(pickler.slots[&b"ctorch\nHalfStorage\n"[..]] > 255);
    pickler.save(&path, &storages, "little");
    let mut dict = StateDict::open(&path).unwrap();
    assert_eq!(dict.names().len(), 300);
    for number in 0..300_u16 {
        assert_eq!(dict.read(&format!("t{number}")).unwrap(), [f32::from(number)], "t{number}");
    }
}

#[test]
fn sizes_of_two_bytes_are_read_and_numbers_of_another_byte_order_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pth");
    let values: Vec<f32> = (0..300_u16).map(f32::from).collect();
    let storage: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut pickler = Pickler::default();
    pickler.tensor("w", "FloatStorage", 0, 300);
    pickler.save(&path, std::slice::from_ref(&storage), "little");
    let mut dict = StateDict::open(&path).unwrap();
    assert_eq!((dict.shape("w").unwrap(), dict.read("w").unwrap()), (vec![300], values));
    pickler.save(&path, &[storage], "big");
    let refusal = StateDict::open(&path).unwrap_err().to_string();
    assert!(refusal.contains("its numbers are not little-endian"), "{refusal}");
}

#[test]
fn a_pickle_of_mere_nesting_does_no_harm() {
    let mut pickle = vec![b'N'];
    pickle.resize(pickle::MOST_BYTES - 1, 0x85);
    pickle.push(b'.');
    assert!(matches!(pickle::run(&pickle).unwrap().root, Value::Tuple(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        which in 0usize..3,
        cut in 0.0f64..1.2,
        changes in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..4),
    ) {
        let mut bytes = std::fs::read(fixture(["zip.pth", "plain.pth", "protocol4.pth"][which])).unwrap();
        for (place, byte) in changes {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = byte;
        }
        bytes.truncate((cut * bytes.len() as f64) as usize);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pth");
        std::fs::write(&path, bytes).unwrap();
        let _any_answer = read_all(&path);
    }

    #[test]
    fn damaged_pickles_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        // Inside an archive a changed byte only fails the checksum; here the machine itself meets it.
        let mut pickle = std::fs::read(fixture("data.pkl")).unwrap();
        for (at, byte) in changes {
            let length = pickle.len();
            pickle[at.index(length)] = byte;
        }
        if let Ok(pickle) = pickle::run(&pickle) {
            for (_, tensor) in pickle.heap.state_dict(pickle.root, &pickle.text).unwrap_or_default() {
                let _any_answer = check(&pickle.heap, &pickle.heap.tensors[tensor]);
            }
        }
    }

    #[test]
    fn any_instructions_never_panic(bytes in prop::collection::vec(prop::sample::select(
        &b".N}])(tuaesbRQc\x85\x86\x87\x88\x94\x8a\x8c\x93qhKJMX0\x01\x02\x00\n"[..]), 0..200)) {
        let _any_answer = pickle::run(&bytes);
    }
}
