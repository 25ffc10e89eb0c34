//! The seeds and the function are `passwd` in src/libcontainer/fuzzed.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libcontainer::fuzzed::target("passwd")(bytes));
