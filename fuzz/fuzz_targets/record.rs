//! The seeds and the function are `record` in src/libcontainer/fuzzed.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libcontainer::fuzzed::target("record")(bytes));
