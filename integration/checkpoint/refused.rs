//! Impossible checkpoints. The container does not change.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use serde_json::json;

use super::{COUNTER, assert_counts_on, call, command, count, dump, needs_criu, restore};
use crate::only;
use crate::world::{Who, World};

#[test]
fn an_impossible_checkpoint_is_reported_and_the_container_continues() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.create().ok();
    let said = dump(&world, "images", &[]).fails();
    assert!(said.contains("container cannot be checkpointed in created state"), "{said}");
    world.call(&["start", &world.id]).ok();
    let before = count(&world);
    fs::write(world.bundle().join("file"), "").unwrap();
    let cases: [(&[&str], &str); 14] = [
        (&["--image-path", "rootfs/images"], "--image-path: "),
        (&["--image-path", "file"], "--image-path: "),
        (&["--work-path", "rootfs"], "is inside the container's root"),
        (&["--parent-path", "/images"], "--parent-path must be a path relative to --image-path"),
        (&["--parent-path", "nowhere"], "invalid --parent-path: "),
        (&["--parent-path", "../file"], "not a directory"),
        (&["--page-server", "host"], "is not ADDRESS:PORT"),
        (&["--lazy-pages"], "--lazy-pages needs --page-server"),
        (&["--lazy-pages", "--page-server", "::1:7", "--pre-dump"], "a pre-dump writes all of the memory"),
        (&["--status-fd", "77"], "invalid --status-fd argument 77"),
        (&["--manage-cgroups-mode", "hard"], "--manage-cgroups-mode: unknown value \"hard\""),
        (&["--empty-ns", "pid"], "namespace \"pid\" is not supported"),
        (&["--network-lock", "x"], "--network-lock: unknown value"),
        (&["--tcp-close"], "flag provided but not defined: -tcp-close"),
    ];
    for (flags, expected) in cases {
        let said = call(&world, &[&["checkpoint"], flags, &[&world.id]].concat()).fails();
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
    let said = call(&world, &["checkpoint", "nobody"]).fails();
    assert!(said.contains("container does not exist"), "{said}");
    let said = call(&world, &["--criu", "/nowhere/criu", "checkpoint", &world.id]).fails();
    assert!(said.contains("start /nowhere/criu: no such file"), "{said}");
    let said = world.command(&["checkpoint", &world.id]).env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("criu is not in PATH") && said.contains("the package criu"), "{said}");
    assert_counts_on(&world, before);
    assert!(!world.rootfs("images").exists());
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    let said = dump(&world, "images", &[]).fails();
    assert!(said.contains("container cannot be checkpointed in stopped state"), "{said}");
}

#[test]
fn a_failure_of_criu_is_reported_in_its_words() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.write();
    // the other end of a connection is outside
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut run = command(&world, &["run", "-d", &world.id]);
    assert!(run.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let before = count(&world);
    let said = dump(&world, "images", &[]).fails();
    let log = world.bundle().join("work/dump.log");
    assert!(said.starts_with("coracle: error: checkpoint: criu dump: unix: Unix socket "), "{said}");
    assert!(said.contains(&format!("({})", log.display())) && !said.contains("rlimit"), "{said}");
    assert_counts_on(&world, before);
    world.call(&["delete", "--force", &world.id]).ok();

    world.begin();
    count(&world);
    dump(&world, "images", &[]).ok();
    fs::remove_file(world.bundle().join("images/mm-1.img")).unwrap();
    let said = restore(&world, "images", &["--pid-file", "pid"]).fails();
    assert!(said.starts_with("coracle: error: restore: criu restore: ") && said.contains("restore.log"), "{said}");
    assert!(!world.bundle().join("pid").exists());
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    count(&world);
    dump(&world, "images", &[]).ok();
    let mut said = |change: &dyn Fn(&mut World), flags: &[&str]| {
        let config = world.config.clone();
        change(&mut world);
        world.write();
        let said = restore(&world, flags.first().unwrap_or(&"images"), flags.get(1..).unwrap_or_default()).fails();
        world.config = config;
        world.assert_clean();
        said
    };
    let nothing = |_: &mut World| {};
    let hook = |world: &mut World| {
        world.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]}]);
    };
    let text = said(&nothing, &["nowhere"]);
    assert!(text.contains("--image-path: ") || text.contains("nowhere"), "{text}");
    let text = said(&nothing, &["rootfs"]);
    assert!(text.contains("it is not a checkpoint"), "{text}");
    let text = said(&hook, &[]);
    assert!(text.contains("hooks.createRuntime[0]") && text.contains("stdout: no"), "{text}");
    let text = said(&nothing, &["images", "--pid-file", "/nowhere/pid"]);
    assert!(text.contains("--pid-file"), "{text}");
    let text = said(&nothing, &["images", "--tcp-close", "--tcp-established"]);
    assert!(text.contains("contradict each other"), "{text}");
    let limit = |world: &mut World| *world.at("/linux/resources/unified") = json!({"nonsense.max": "1"});
    let text = said(&limit, &[]);
    assert!(text.contains("linux.resources.unified"), "{text}");
    // after all this the container still runs
    world.write();
    restore(&world, "images", &[]).ok();
    let said = restore(&world, "images", &[]).fails();
    assert!(said.contains("container with given ID already exists"), "{said}");
    assert!(count(&world) > 0);
}

#[test]
fn images_are_checked_and_a_restore_is_explained() {
    only!(Who::Us; "the peers have no such commands");
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    let volume = world.path("volume");
    fs::create_dir(&volume).unwrap();
    world.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["bind"]}));
    world.begin();
    count(&world);
    dump(&world, "images", &[]).ok();
    let with_bundle = ["check", "--image-path", "images", "."];
    let said = call(&world, &with_bundle).ok();
    assert!(said.contains("of the host), ") && said.ends_with("images: no mistakes\n"), "{said}");
    assert_eq!(call(&world, &["check", "images"]).ok(), said);
    let plan = call(&world, &["explain", "--image-path", "images"]).ok();
    for expected in ["read the images", &format!("bind {} at /data", volume.display()), "the processes run"] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    let steps = call(&world, &["explain", "--format", "json", "--image-path", "images"]).ok();
    let steps: serde_json::Value = serde_json::from_str(&steps).unwrap();
    assert_eq!(steps.as_array().unwrap().len(), plan.lines().count());

    // each fault is reported by check, and refuses the restore before CRIU begins
    let images = world.bundle().join("images");
    let config = world.config.clone();
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/data");
    world.write();
    let refused = |expected: &str| {
        let (checked, said) = (call(&world, &with_bundle).fails(), restore(&world, "images", &[]).fails());
        assert!(checked.contains(expected) && said.contains(expected), "{expected}: {checked} {said}");
        assert!(said.starts_with("coracle: error: restore: --image-path: "), "{said}");
        world.assert_clean();
    };
    refused("mounts: the checkpoint has a file of the host at /data, and config.json mounts no file there");
    fs::write(world.bundle().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    let mut core = fs::read(images.join("core-1.img")).unwrap();
    // the first field of the first message is the architecture
    assert_eq!(core[12], 8);
    core[13] = 5;
    let before = fs::read(images.join("core-1.img")).unwrap();
    fs::write(images.join("core-1.img"), core).unwrap();
    refused("core-1.img: the images are of another architecture: s390x; this machine is ");
    fs::write(images.join("core-1.img"), &before).unwrap();
    // CRIU reads such a file without end
    let pages = fs::read(images.join("pages-1.img")).unwrap();
    fs::write(images.join("pages-1.img"), &pages[..20]).unwrap();
    refused("pages-1.img: it is cut off: it has 20 bytes");
    fs::write(images.join("pages-1.img"), pages).unwrap();
    std::os::unix::fs::symlink("../gone", images.join("parent")).unwrap();
    refused("parent: ../gone does not exist: it has the rest of the memory");
    fs::remove_file(images.join("parent")).unwrap();
    fs::rename(images.join("descriptors.json"), images.join("other")).unwrap();
    refused("descriptors.json: ");
    let json = call(&world, &["check", "--format", "json", "--image-path", "images"]);
    assert!(!json.status.success() && json.out.contains("\"at\": \"descriptors.json\""), "{}", json.out);
    fs::rename(images.join("other"), images.join("descriptors.json")).unwrap();
    call(&world, &with_bundle).ok();
}

/// Each mistake is reported by check, and refuses the restore before CRIU begins.
#[test]
fn files_that_others_have_written_beside_the_images_are_checked() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    count(&world);
    dump(&world, "images", &[]).ok();
    let (images, with_bundle) = (world.bundle().join("images"), ["check", "--image-path", "images", "."]);
    let refused = |expected: &str| {
        let (checked, said) = (call(&world, &with_bundle).fails(), restore(&world, "images", &[]).fails());
        assert!(checked.contains(expected) && said.contains(expected), "{expected}: {checked} {said}");
        world.assert_clean();
    };
    let names = fs::read(images.join("descriptors.json")).unwrap();
    for (text, expected) in [
        ("", "is empty"),
        ("[\"x", "is not JSON: EOF while parsing a string (line 1, column 3)"),
        ("null", "expected an array of names, got null"),
        ("[]", "has 0 names, and there are three standard streams"),
        ("[1,2,3]", "[0]: expected a string, got the number 1"),
        (r#"["x","pipe:[1]","/etc/passwd"]"#, "the name file["),
    ] {
        fs::write(images.join("descriptors.json"), text).unwrap();
        refused(&format!("descriptors.json: {expected}"));
    }
    fs::write(images.join("descriptors.json"), names).unwrap();
    for (text, expected) in [
        (r#"{"/x": "../.."}"#, r#"/x: "../.." is not absolute"#),
        (r#"{"/x": 5}"#, "/x: expected a path, or {"),
        ("[]", "expected an object, got an array"),
    ] {
        fs::write(images.join("mounts.json"), text).unwrap();
        refused(&format!("mounts.json: {expected}"));
    }
    // CRIU gets only the names of mounts that it has: so many do not fit into one message
    let many: serde_json::Map<_, _> = (0..50_000).map(|n| (format!("/{n}"), "/etc".into())).collect();
    fs::write(images.join("mounts.json"), serde_json::to_vec(&many).unwrap()).unwrap();
    call(&world, &with_bundle).ok();
    restore(&world, "images", &[]).ok();
}

#[test]
fn an_ordinary_user_is_refused_with_the_reason() {
    only!(Who::Us; "the words are ours");
    crate::needs!(!crate::ordinary::root(), "an ordinary user's");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    for words in
        [&["checkpoint", "--image-path", "images", &world.id][..], &["restore", "--image-path", "images", "another"]]
    {
        let mut call = world.command(words);
        let said = crate::world::finish(call.current_dir(world.bundle())).fails();
        assert!(said.contains("of an ordinary user's containers are not implemented: criu needs root"), "{said}");
    }
    assert_eq!(world.status(), "running");
}
