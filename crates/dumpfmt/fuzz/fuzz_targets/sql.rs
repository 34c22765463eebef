//! Arbitrary archives as SQL.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dumpfmt_fuzz::sql(data));
