//! Strangers' bytes against every reader: the committed corpora (`fuzz/corpus`), then seeded mutations of them.
//!
//! A few seconds as a test; `MIXMATCH_MUTATE_SECONDS=600 cargo test --test hostile` goes on for as long as one likes.
//! A finding prints its target and seed; the same seed makes the same bytes again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mixmatch::fuzz_targets::TARGETS;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of a target without a wish for more.
const MUTATIONS: u64 = 8000;

/// Bytes that mean something to one of the readers.
const WORDS: [&[u8]; 20] = [
    b"\xff\xd8\xff",
    b"\xff\xda",
    b"\xff\xd9",
    b"\xff\xc0",
    b"IHDR",
    b"IDAT",
    b"iCCP",
    b"acTL",
    b"VP8X",
    b"ANIM",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\"",
    b",",
    b"\x80\x02",
    b"data_offsets",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places = vec![root.join("fuzz/corpus").join(target)];
    if target == "pth" {
        places.push(root.join("tests/golden/pth"));
    }
    let mut files: Vec<_> = places
        .iter()
        .flat_map(|place| std::fs::read_dir(place).unwrap())
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{target}: {} files in its corpus", files.len());
    files
}

/// A few changes at once, of the kinds that fuzzers make: flips, numbers, words, cuts, repeats, splices.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=6) {
        let length = bytes.len();
        let at = rng.random_range(0..=length);
        match rng.random_range(0..8) {
            0 if at < length => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < length => bytes[at] = rng.random(),
            2 if at + 4 <= length => bytes[at..at + 4].copy_from_slice(&rng.next_u32().to_le_bytes()),
            3 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                bytes.splice(at..(at + word.len()).min(length), word.iter().copied());
            }
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..rng.random_range(at..=length.min(at + 64)))),
            6 => {
                let end = rng.random_range(at..=length.min(at + 64));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len().min(from + 256));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(256 << 10);
}

/// Runs one input; what it does wrong, if it does.
fn run(target: fn(&[u8]), bytes: &[u8]) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(|| target(bytes))).err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

fn mutations_of(name: &str, target: fn(&[u8]), files: &[(PathBuf, Vec<u8>)]) -> Vec<String> {
    let seconds = std::env::var("MIXMATCH_MUTATE_SECONDS").ok().map(|text| text.parse::<f64>().expect("seconds"));
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(0.0) / TARGETS.len() as f64);
    let (mut findings, mut seed, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    while if seconds.is_some() { Instant::now() < end } else { seed < MUTATIONS } {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pick = || &files[rng.random_range(0..files.len())].1;
        let (mut bytes, other) = (pick().clone(), pick());
        mutate(&mut bytes, other, &mut rng);
        let began = Instant::now();
        if let Some(wrong) = run(target, &bytes) {
            findings.push(format!("{name}, seed {seed}: {wrong}"));
        }
        slowest = slowest.max(began.elapsed());
        seed += 1;
    }
    let (found, slowest, peak) = (findings.len(), slowest.as_secs_f64(), peak_memory());
    println!("{name}: {seed} mutations, {found} findings, the slowest took {slowest:.3} s; peak memory {peak} MiB");
    findings
}

/// The most memory this process has used, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn no_reader_falls_over_strangers_bytes() {
    // Contained panics of a decoder would fill the screen; findings are told at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut findings, before) = (Vec::new(), peak_memory());
    for (name, target) in TARGETS {
        let files = corpus(name);
        for (path, bytes) in &files {
            findings.extend(run(target, bytes).map(|wrong| format!("{}: {wrong}", path.display())));
        }
        findings.extend(mutations_of(name, target, &files));
    }
    let _ = std::panic::take_hook();
    let grown = peak_memory() - before;
    println!("peak memory grew by {grown} MiB");
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    assert!(grown < 700, "small files took {grown} MiB");
}
