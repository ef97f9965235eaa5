//! The `salvage` body under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anabranch_fuzz::body("salvage").expect("it is in the table")(data));
