//! `explain` as a user calls it: without root. It changes nothing.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A bundle that any user can read, and a copy of the program that any user can run, outside of root's home directory.
fn bundle(config: &str) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("config.json"), config).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_coracle"), directory.path().join("program")).unwrap();
    directory
}

/// Runs as the user nobody if this test runs as root: `explain` needs no rights.
fn explain(bundle: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(bundle.join("program"));
    command.arg("explain").args(args).env_clear().current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    loop {
        match command.output() {
            // A child of another test still has our copy open for writing, from its fork until its exec.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn explain_makes_nothing() {
    let bundle = bundle(include_str!("../config.json.example"));
    let before: Vec<_> = names(bundle.path());
    let path = bundle.path().to_str().unwrap();
    for args in [vec![path], vec!["--bundle", path], vec!["-b", path]] {
        let output = explain(bundle.path(), &args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        assert!(printed.starts_with("  1 runtime open mounts "), "{printed}");
        assert!(printed.trim_end().ends_with("process.args"), "{printed}");
        assert_eq!(text(&output.stderr), "");
    }
    assert_eq!(names(bundle.path()), before, "explain made something");
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn json_is_one_object_for_each_line() {
    let bundle = bundle(include_str!("../config.json.example"));
    let path = bundle.path().to_str().unwrap();
    let lines = text(&explain(bundle.path(), &[path]).stdout);
    let steps: Vec<Value> =
        serde_json::from_slice(&explain(bundle.path(), &["--format", "json", path]).stdout).unwrap();
    assert_eq!(lines.lines().count(), steps.len());
    for (line, step) in lines.lines().zip(&steps) {
        let part = |name: &str| step[name].as_str().unwrap_or_else(|| panic!("{step}: no {name}")).to_owned();
        assert!(line[4..].starts_with(&part("process")) && line.contains(&part("text")), "{line}: {step}");
        assert!(
            line.ends_with(&part("from")) && !part("what").is_empty() && step["fields"].is_object(),
            "{line}: {step}"
        );
    }
    let fields = |what: &str, text: &str| {
        let is = |step: &&Value| step["what"] == what && step["text"].as_str().unwrap().contains(text);
        steps.iter().find(is).map(|step| step["fields"].clone()).unwrap_or_else(|| panic!("no {what} with {text}"))
    };
    assert_eq!(fields("mask", "/proc/kcore")["inside"], "proc/kcore");
    assert_eq!(fields("setresuid", "")["uid"], 0);
    assert_eq!(fields("open", "/rootfs")["slot"], 0);
    let tmpfs = fields("mount", "on /dev ");
    assert_eq!((&tmpfs["type"], &tmpfs["settings"][1]), (&json!("tmpfs"), &json!(["mode", "755"])), "{tmpfs}");
}

#[test]
fn each_property_has_its_steps_below_it() {
    let config = include_str!("../config.json.example");
    let bundle = bundle("{}");
    let other = bundle.path().join("other.json");
    fs::write(&other, config).unwrap();
    let path = bundle.path().to_str().unwrap();
    let output = explain(bundle.path(), &["--format", "property", "--config", other.to_str().unwrap(), path]);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("#N is a file that the runtime opens"), "{printed}{}", text(&output.stderr));
    assert!(printed.contains("\nmounts[0]\n    init    mount proc on /proc"), "{printed}");
    let steps = printed.lines().skip(1).filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let plain = text(&explain(bundle.path(), &["--config", other.to_str().unwrap(), path]).stdout);
    assert_eq!(steps.count(), plain.lines().count());
}

#[test]
fn all_mistakes_are_reported_and_the_status_is_1() {
    let mut config: Value = serde_json::from_str(include_str!("../config.json.example")).unwrap();
    config["process"]["cwd"] = json!("x");
    config["process"]["args"] = json!([]);
    let bundle = bundle(&config.to_string());
    let output = explain(bundle.path(), &[bundle.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let printed = text(&output.stderr);
    for expected in ["config.json has 2 mistakes:", "process.args: is empty", "process.cwd: \"x\" is not absolute"] {
        assert!(printed.contains(expected), "{printed}");
    }
}

#[test]
fn warnings_are_beside_the_plan_and_not_in_it() {
    let mut config: Value = serde_json::from_str(include_str!("../config.json.example")).unwrap();
    config["root"]["readOnly"] = json!(true);
    let bundle = bundle(&config.to_string());
    let output = explain(bundle.path(), &[bundle.path().to_str().unwrap()]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("root.readOnly: unknown property"), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("readOnly"));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let bundle = bundle("{}");
    let path = bundle.path().to_str().unwrap();
    for args in [vec!["--format", "yaml", path], vec!["/nonexistent"], vec![path, "another"]] {
        assert_eq!(explain(bundle.path(), &args).status.code(), Some(1), "{args:?}");
    }
}
