//! Finds the commit that `--version` tells: CORACLE_COMMIT where it is set, what git says for a release, or `unknown`. Orders the
//! release's text.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CORACLE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // a build for tests is not made anew for every commit
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let set = std::env::var("CORACLE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = set.or_else(|| release.then(from_git).flatten()).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CORACLE_COMMIT={commit}");
    println!("cargo::rerun-if-changed=hack/order.ld");
    if release && std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        let top = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // what runs in a container's life lies side by side (hack/order)
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{top}/hack/order.ld");
    }
}

fn from_git() -> Option<String> {
    // the repository must be ours: a tarball may be unpacked inside somebody else's
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if std::path::Path::new(&top).canonicalize().ok()? != std::env::current_dir().ok()?.canonicalize().ok()? {
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
