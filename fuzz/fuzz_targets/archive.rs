#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mixmatch::fuzz_targets::archive(bytes));
