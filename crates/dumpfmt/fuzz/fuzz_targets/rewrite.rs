//! Archives made of arbitrary ones.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::rewrite(data));
