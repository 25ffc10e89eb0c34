//! Any words as a command line, one on each line. It must be parsed or refused.
#![no_main]
#![allow(dead_code)] // the target only parses

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[path = "../../src/cli/mod.rs"]
mod cli;
#[path = "../../src/flags.rs"]
mod flags;
#[path = "../../src/log.rs"]
mod log;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> = bytes.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let _ = std::hint::black_box(cli::parse(&words));
});
