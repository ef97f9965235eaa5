//! The `request` body under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anabranch_fuzz::body("request").expect("it is in the table")(data));
