//! The header and the table of contents of arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::contents(data));
