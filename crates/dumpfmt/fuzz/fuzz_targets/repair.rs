//! Arbitrary bytes, repaired.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::repair(data));
