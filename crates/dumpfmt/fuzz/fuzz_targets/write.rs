//! Archives made of arbitrary data.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::write(data));
