//! The seeds and the function are `statistics` in src/libcontainer/fuzzed.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libcontainer::fuzzed::target("statistics")(bytes));
