//! Attacks: one file for each class of advisory (docs/security.md), each with an attacker that is written for it. An attacker
//! is a subcommand of attacker.c, a static program that is put into a root; a test is only as good as what it would see, so
//! each says on which older runtime it sees it.

mod binary;
mod joining;
mod limits;
mod nodes;
mod streams;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::world::finish;

/// The attackers' program: what ATTACKER names, or attacker.c compiled here. Nothing where there is no C compiler.
pub fn attacker() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            if let Some(program) = std::env::var_os("ATTACKER") {
                return Some(PathBuf::from(program));
            }
            let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("integration/security/attacker.c");
            let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("attacker.{}", std::process::id()));
            let compiler = Command::new("cc").arg("--version").output().is_ok();
            if !compiler || !source.exists() {
                return None;
            }
            finish(
                Command::new("cc")
                    .args(["-static", "-O1", "-Wall", "-Werror", "-pthread", "-o"])
                    .arg(&program)
                    .arg(&source),
            )
            .ok();
            Some(program)
        })
        .as_ref()
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
