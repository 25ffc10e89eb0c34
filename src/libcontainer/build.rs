//! Finds the commit that the library was built from: CORACLE_COMMIT where it is set, what git says for a release, or `unknown`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CORACLE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // a build for tests is not made again for every commit
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let set = std::env::var("CORACLE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = set.or_else(|| release.then(from_git).flatten()).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CORACLE_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    // the repository must be ours: a tarball may be unpacked inside somebody else's
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::current_dir().ok()?.canonicalize().ok()?;
    if here.strip_prefix(Path::new(&top).canonicalize().ok()?).ok()? != Path::new("src/libcontainer") {
        return None;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| std::path::Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
