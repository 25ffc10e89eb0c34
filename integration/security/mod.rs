//! Attacks: one file for each class of advisory (docs/security.md), each with an attacker written for it. An attacker
//! is a subcommand of attacker.c, a static program that is copied into a root. Each test names an older
//! runtime on which the attack succeeds: this shows that the test detects the attack.

use std::fs;
use std::os::unix::fs::MetadataExt;

mod binary;
mod cgroup;
mod covered_proc;
mod credentials;
mod descriptors;
mod exchange;
mod exe;
mod files;
mod filter;
mod freezer;
mod fuse;
mod host_mounts;
mod host_root;
mod impostor;
mod joining;
mod keyring;
mod limits;
mod links;
mod live_mounts;
mod names;
mod nodes;
mod own_namespaces;
mod proc_writes;
mod sources;
mod streams;
mod views;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::world::{World, finish};

/// The attackers' program: the one that ATTACKER names, or attacker.c compiled here. None without a C compiler.
pub fn attacker() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            if let Some(program) = std::env::var_os("ATTACKER") {
                return Some(PathBuf::from(program));
            }
            let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("integration/security/attacker.c");
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let (program, new) =
                (directory.join("attacker"), directory.join(format!("attacker.{}", std::process::id())));
            let compiler = Command::new("cc").arg("--version").output().is_ok();
            if !compiler || !source.exists() {
                return None;
            }
            finish(
                Command::new("cc")
                    .args(["-static", "-O1", "-Wall", "-Werror", "-pthread", "-o"])
                    .arg(&new)
                    .arg(&source),
            )
            .ok();
            // Another run may use the earlier file.
            fs::rename(&new, &program).unwrap();
            Some(program)
        })
        .as_ref()
}

/// A directory of the host that must not change.
pub struct Victim {
    pub path: PathBuf,
    before: Vec<(PathBuf, u32, u32, u64, i64)>,
}

impl Victim {
    /// Makes it, with the names that a runtime makes or replaces in a root.
    pub fn of(world: &World) -> Victim {
        let path = world.path("victim");
        fs::create_dir_all(path.join("pts")).unwrap();
        fs::create_dir(path.join("deep")).unwrap();
        for name in ["file", "ptmx", "console", "deep/file"] {
            fs::write(path.join(name), "the host's\n").unwrap();
        }
        fs::write(path.join("passwd"), "root:x:0:0::/the host's:/bin/sh\n").unwrap();
        let before = listing(&path);
        Victim { path, before }
    }

    #[track_caller]
    pub fn assert_unharmed(&self) {
        assert_eq!(listing(&self.path), self.before, "the host's directory has changed");
    }
}

/// Everything in a directory, for a comparison.
fn listing(directory: &Path) -> Vec<(PathBuf, u32, u32, u64, i64)> {
    let mut list = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        list.push((path.clone(), stat.mode(), stat.uid(), stat.ino(), stat.mtime_nsec()));
        if stat.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    list.sort_unstable();
    list
}

/// Gives the program all capabilities that help an attacker.
pub fn capable(world: &mut World) {
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) =
            json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SYS_PTRACE"]);
    }
}

/// Copies the attackers' program into the root, as /attacker.
#[track_caller]
pub fn put_attacker(world: &World) {
    // cp is another process: a descriptor that is open for writing makes an exec fail (ETXTBSY).
    let place = world.rootfs("attacker");
    finish(Command::new("cp").arg(attacker().unwrap()).arg(place)).ok();
}

#[test]
fn the_attackers_program_is_there_and_knows_its_words() {
    let Some(attacker) = attacker() else {
        crate::world::skip(&crate::world::test_name(), "no C compiler here, and ATTACKER names no program");
        return;
    };
    let said = finish(Command::new(attacker).arg("nonsense")).fails();
    assert!(said.contains("usage: attacker"), "{said}");
}
