//! A bundle with busybox, and whether a container can be made of it here.

#[allow(dead_code)] // not every test compares it
pub mod state;

use std::fs;
use std::path::Path;

use libcontainer::Bundle;
use libcontainer::config::example::{ExampleUser, spec};

pub const BUSYBOX: &str = "/bin/busybox";

/// The reason is printed where it cannot.
pub fn may_run() -> bool {
    let may = rustix::process::geteuid().is_root() && Path::new(BUSYBOX).exists();
    if !may {
        eprintln!("skipped: needs root and {BUSYBOX}");
    }
    may
}

pub fn bundle(directory: &Path, args: &[&str]) -> Bundle {
    fs::create_dir_all(directory.join("rootfs/bin")).unwrap();
    fs::copy(BUSYBOX, directory.join("rootfs/bin/busybox")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&spec(ExampleUser::Rootful)).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = args.into();
    config["process"]["rlimits"] = serde_json::json!([]);
    config["root"]["readonly"] = false.into();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    Bundle::read(directory).unwrap()
}
