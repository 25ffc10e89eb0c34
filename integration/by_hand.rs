//! Runs the commands of docs/by-hand.md in their order, in a network namespace of the test, and compares their output.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::readme::{blocks, halves, shell, type_in, words};
use crate::world::{Who, World, finish};
use crate::{needs_root, only};

/// Even after a failure, the namespace is removed.
const END: &str = "trap 'coracle delete --force box >/dev/null 2>&1 || :' EXIT";
/// A word of the page that stands for any text.
const ANY: &str = "…";

/// Whether a line is what the page shows.
fn is_like(line: &str, shown: &str) -> bool {
    let (line, shown) = (words(line), words(shown));
    let like = |(word, shown): (&&str, &&str)| match shown.split_once(ANY) {
        Some((begin, end)) => word.starts_with(begin) && word.ends_with(end),
        None => word == shown,
    };
    line.len() == shown.len() && line.iter().zip(&shown).all(like)
}

/// An image layout of busybox, without its layers: coracle reads none.
fn layout(place: &Path) {
    let blob = |value: &Value| {
        let text = value.to_string();
        let name: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::create_dir_all(place.join("blobs/sha256")).unwrap();
        fs::write(place.join("blobs/sha256").join(&name), text).unwrap();
        json!({"digest": format!("sha256:{name}")})
    };
    let config =
        blob(&json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"], "StopSignal": "SIGTERM"}}));
    let mut manifest = blob(&json!({"schemaVersion": 2, "config": config, "layers": []}));
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(place.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
}

#[test]
fn the_page_is_walked_from_its_begin_to_its_end() {
    only!(Who::Us; "docs/by-hand.md shows coracle");
    needs_root!("docs/by-hand.md shows commands of root");
    let world = World::running(&["true"]);
    shell(&world);
    layout(&world.path("layout"));
    // The registry and the layers do not exist: this is a copy of the layout, and the root of the test.
    let program = |name: &str, does: String| {
        fs::write(world.path("bin").join(name), format!("#!/bin/sh\nexec {does}\n")).unwrap();
        finish(std::process::Command::new("chmod").arg("755").arg(world.path("bin").join(name))).ok();
    };
    program("skopeo", format!("cp -r {} image", world.path("layout").display()));
    program("umoci", format!("cp -r {} box/rootfs", world.rootfs("").display()));
    let all = blocks("docs/by-hand.md");
    let script: Vec<String> =
        all.iter().flatten().filter(|line| line.starts_with("# ")).map(|line| line[2..].to_owned()).collect();
    // each command by itself is one piece of the output
    let marked: Vec<String> = script.iter().map(|line| format!("{line}\necho ==")).collect();
    let said = type_in(
        &world,
        &format!("unshare --net sh -euc '{}'", format!("{END}\n{}", marked.join("\n")).replace('\'', "'\\''")),
    )
    .ok();
    let pieces: Vec<&str> = said.split("==\n").collect();
    let mut n = 0;
    for block in &all {
        let mut lines = block.iter().peekable();
        while let Some(command) = lines.next() {
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("# ")) {
                shown.push(line.as_str());
            }
            let out: Vec<&str> = pieces[n].lines().collect();
            n += 1;
            let like = shown.is_empty()
                || shown.len() == out.len() && out.iter().zip(&shown).all(|(line, shown)| is_like(line, shown));
            assert!(like, "{command}\nthe page shows {shown:#?}\nand it is {out:#?}");
        }
    }
    assert!(n > 25 && halves(&all[0]).1.is_empty(), "{n} commands");
}
