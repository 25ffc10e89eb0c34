//! The seeds and the function are `bus` in src/libcontainer/fuzzed.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libcontainer::fuzzed::target("bus")(bytes));
