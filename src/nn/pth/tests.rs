//! Files that Python wrote (`tests/golden/make_pth.py`), and the same files damaged.

use std::io::{Read, Write};
use std::path::PathBuf;

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
