//! Arbitrary files in a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::folder(data));
