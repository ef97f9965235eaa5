//! The `recording` body under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anabranch_fuzz::body("recording").expect("it is in the table")(data));
