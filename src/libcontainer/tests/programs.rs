//! Programs that embed the library: the examples, and one of them built outside of the workspace without any feature. They
//! need root and busybox.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{BUSYBOX, bundle, may_run};
use libcontainer::{Force, Root};

/// An example, where cargo has built it: it does so without `--test`.
fn example(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().unwrap().parent()?.parent()?.join("examples").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not built", path.display());
    }
    path.exists().then_some(path)
}

fn output(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{program:?} {args:?}: {out}{err}");
    out.into_owned()
}

#[test]
fn the_examples_run() {
    let (Some(run), Some(exec), Some(watch)) = (example("run"), example("exec"), example("watch")) else { return };
    if !may_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (bundle_path, root) = (directory.path().join("bundle"), directory.path().join("root"));
    let [bundle_text, root_text] = [&bundle_path, &root].map(|path| path.to_str().unwrap());
    let sleeps = bundle(&bundle_path, &[BUSYBOX, "sleep", "600"]);
    assert_eq!(output(&watch, &[root_text, bundle_text]), "exit status: 3\nsignal: 9 (SIGKILL)\n");
    let root_of = Root::open(&root).unwrap();
    let (container, init) = root_of.create("box", &sleeps).run().unwrap();
    let args = [root_text, "box", BUSYBOX, "sh", "-c", "exit 7"];
    assert_eq!(output(&exec, &args), "exit status: 7\n");
    assert!(container.delete(Force::Kill).unwrap().is_empty());
    init.wait().unwrap();
    bundle(&bundle_path, &[BUSYBOX, "true"]);
    let said = output(&run, &[root_text, bundle_text, "box"]);
    assert!(said.starts_with("box runs as process ") && said.ends_with("it ended: exit status: 0\n"), "{said}");
    assert_eq!(root_of.ids().unwrap(), [""; 0]);
}

/// The standard library panics if a program cannot be executed and the kernel keeps no exit status.
#[test]
fn a_caller_that_ignores_sigchld_gets_an_error_for_a_hook() {
    let Some(run) = example("run") else { return };
    if !may_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, root) = (directory.path().join("bundle"), directory.path().join("root"));
    bundle(&path, &[BUSYBOX, "true"]);
    let config = path.join("config.json");
    for hook in ["/nowhere/hook", "/bin/true"] {
        let mut changed: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        changed["hooks"] = serde_json::json!({"createRuntime": [{"path": hook}]});
        fs::write(&config, changed.to_string()).unwrap();
        let mut command = Command::new("env");
        let output = command.arg("--ignore-signal=CHLD").arg(&run).args([&root, &path]).arg("box").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("hooks.createRuntime[0]") && said.contains("ignores SIGCHLD"), "{hook}: {said}");
        assert_eq!(output.status.code(), Some(1), "{hook}: {said}");
    }
    assert_eq!(Root::open(&root).unwrap().ids().unwrap(), [""; 0]);
}

/// It has a package and a workspace of its own. The directory of the build is ours: what both need is built already.
#[test]
fn a_program_outside_of_the_workspace_needs_thirty_lines_and_no_feature() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2).unwrap();
    let source = fs::read_to_string(here.join("examples/watch.rs")).unwrap();
    assert!(source.lines().count() <= 30);
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("outside");
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("src/main.rs"), source).unwrap();
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies.libcontainer]\npackage = \
         \"coracle-libcontainer\"\npath = {here:?}\ndefault-features = false\n\n[patch.crates-io]\nregex = {{ path = {:?} }}\n\n\
         [profile.dev.package.\"*\"]\ndebug = false\n",
        workspace.join("hack/regex")
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(workspace.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    // TARGET/TRIPLE/debug/deps/THIS
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet", "--config"]).arg(workspace.join(".cargo/config.toml"));
    cargo.current_dir(&package).env("CARGO_TARGET_DIR", built.ancestors().nth(2).unwrap());
    assert!(cargo.status().unwrap().success());
    if !may_run() {
        return;
    }
    bundle(&directory.path().join("bundle"), &[BUSYBOX, "sleep", "600"]);
    let [root, bundle] = ["root", "bundle"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    let said = output(&built.join("outside"), &[&root, &bundle]);
    assert_eq!(said, "exit status: 3\nsignal: 9 (SIGKILL)\n");
}
