//! mounts: every flag, propagation and superblock option, as seen inside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::mountinfo::{HostMount, MOUNTINFO, bind, find_mount, mount_at, seen_with, tmpfs};
use crate::world::{Who, World, finish, who};
use crate::{needs_root, only};

#[test]
fn every_flag_of_a_mount_is_set_or_cleared() {
    only!(Who::Us, Who::Runc; "crun does not take ro back with rw");
    // Options, flags that must be set, flags that must not be set.
    let table: &[(&[&str], &[&str], &[&str])] = &[
        (&["ro"], &["ro"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &[]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &[]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &[]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["noatime", "relatime"]),
        (&["norelatime"], &["relatime"], &["noatime"]),
        (&["noatime", "norelatime"], &["noatime"], &["relatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["defaults"], &["rw"], &["nosuid", "nodev", "noexec"]),
        (&["nosuid", "nodev", "noexec", "ro"], &["nosuid", "nodev", "noexec", "ro"], &[]),
    ];
    // Debian's runc passes `defaults` to the file system, and keeps noatime if relatime follows.
    let table = if who() == Who::Us { table } else { &table[..9] };
    let list = table.iter().enumerate().map(|(n, (options, ..))| tmpfs(&format!("/m/{n}"), options)).collect();
    let seen = seen_with(list);
    for (n, (options, there, missing)) in table.iter().enumerate() {
        let line = mount_at(&seen, &format!("/m/{n}"));
        assert_eq!(line.fstype, "tmpfs");
        assert!(there.iter().all(|flag| line.has(flag)), "{options:?}: {there:?} in {line:?}");
        assert!(!missing.iter().any(|flag| line.has(flag)), "{options:?}: {missing:?} not in {line:?}");
    }
}

#[test]
fn every_flag_is_set_or_cleared_on_a_bind_mount_and_the_source_keeps_its_own() {
    needs_root!("mounts on the host");
    only!(Who::Us; "the peers clear flags of the source that nobody named: docs/spec.md");
    let table: &[(&[&str], &[&str], &[&str])] = &[
        (&["bind"], &["nosuid", "rw"], &["nodev"]),
        (&["bind", "ro"], &["nosuid", "ro"], &["rw"]),
        (&["bind", "nodev"], &["nosuid", "nodev"], &[]),
        (&["bind", "suid"], &[], &["nosuid"]),
        (&["rbind", "noexec"], &["noexec"], &[]),
        (&["bind", "noatime"], &["noatime"], &["relatime"]),
    ];
    let mut world = World::running(&MOUNTINFO);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "-o", "nosuid,relatime", "tmpfs"], &source);
    for (n, (options, ..)) in table.iter().enumerate() {
        world.mount(bind(&source, &format!("/m/{n}"), options));
    }
    *world.at("/root/readonly") = json!(false);
    let seen = world.run().ok();
    for (n, (options, there, missing)) in table.iter().enumerate() {
        let line = mount_at(&seen, &format!("/m/{n}"));
        assert!(there.iter().all(|flag| line.has(flag)), "{options:?}: {there:?} in {line:?}");
        assert!(!missing.iter().any(|flag| line.has(flag)), "{options:?}: {missing:?} not in {line:?}");
    }
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mount_at(&host, source.to_str().unwrap());
    assert!(line.has("nosuid") && line.has("rw") && line.has("relatime"), "{line:?}");
}

#[test]
fn a_flag_with_an_r_reaches_what_is_mounted_below_and_without_only_the_top() {
    needs_root!("mounts on the host");
    only!(Who::Us; "crun fails at rnodiratime, runc 1.1 does not take rro back, runc 1.3 leaves rnosuid of a tmpfs out");
    let mut world = World::running(&MOUNTINFO);
    let source = world.path("tree");
    let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    let _sub = HostMount::of(&["-t", "tmpfs", "-o", "noatime", "tmpfs"], &source.join("sub"));
    let flags = ["ro", "nosuid", "nodev", "noexec", "nodiratime"];
    for flag in flags {
        world.mount(bind(&source, &format!("/top/{flag}"), &["rbind", flag]));
        world.mount(bind(&source, &format!("/all/{flag}"), &["rbind", &format!("r{flag}")]));
    }
    world.mount(bind(&source, "/undone", &["rbind", "rro", "rrw", "rnosuid", "rsuid"]));
    world.mount(bind(&source, "/relatime", &["rbind", "rrelatime"]));
    world.mount(bind(&source, "/noatime", &["rbind", "rnoatime"]));
    world.mount(bind(&source, "/strict", &["rbind", "rstrictatime"]));
    world.mount(tmpfs("/fresh", &["rnosuid", "rnoexec"]));
    *world.at("/root/readonly") = json!(false);
    let seen = world.run().ok();
    for flag in flags {
        assert!(mount_at(&seen, &format!("/top/{flag}")).has(flag), "{flag}");
        assert!(!mount_at(&seen, &format!("/top/{flag}/sub")).has(flag), "{flag}");
        assert!(mount_at(&seen, &format!("/all/{flag}")).has(flag), "r{flag}");
        assert!(mount_at(&seen, &format!("/all/{flag}/sub")).has(flag), "r{flag}");
    }
    let undone = mount_at(&seen, "/undone/sub");
    assert!(undone.has("rw") && !undone.has("nosuid"), "{undone:?}");
    assert!(mount_at(&seen, "/relatime/sub").has("relatime"));
    assert!(mount_at(&seen, "/noatime/sub").has("noatime") && mount_at(&seen, "/noatime").has("noatime"));
    let strict = mount_at(&seen, "/strict/sub");
    assert!(!strict.has("noatime") && !strict.has("relatime"), "{strict:?}");
    let fresh = mount_at(&seen, "/fresh");
    assert!(fresh.has("nosuid") && fresh.has("noexec"), "{fresh:?}");
}

#[test]
fn nosymfollow_keeps_links_from_being_followed() {
    only!(Who::Us, Who::Runc; "crun does not know nosymfollow");
    let script = "cat /m/link >/dev/null 2>&1 && echo followed; cat /n/link >/dev/null 2>&1 || echo not; \
                  cat /o/link >/dev/null && echo again";
    let mut world = World::running(&["sh", "-c", script]);
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    symlink("file", source.join("link")).unwrap();
    world.mount(bind(&source, "/m", &["bind"]));
    world.mount(bind(&source, "/n", &["bind", "nosymfollow"]));
    world.mount(bind(&source, "/o", &["bind", "nosymfollow", "symfollow"]));
    *world.at("/root/readonly") = json!(false);
    assert_eq!(world.run().ok(), "followed\nnot\nagain\n");
}

#[test]
fn flags_of_the_superblock_are_given_to_the_file_system() {
    only!(Who::Us, Who::Runc; "crun knows few of them and clears none");
    // sync, dirsync and lazytime appear in the superblock's options. The others have no visible effect on a tmpfs.
    let mut list =
        vec![tmpfs("/m/sync", &["sync"]), tmpfs("/m/dirsync", &["dirsync"]), tmpfs("/m/async", &["sync", "async"])];
    for word in ["mand", "nomand"] {
        list.push(tmpfs(&format!("/m/{word}"), &[word]));
    }
    if who() != Who::Crun {
        // crun passes these on as options of the file system.
        for word in ["lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud"] {
            list.push(tmpfs(&format!("/m/{word}"), &[word]));
        }
    }
    let seen = seen_with(list);
    let shows = |place: &str, word: &str| mount_at(&seen, place).superblock.split(',').any(|one| one == word);
    assert!(shows("/m/sync", "sync"), "{seen}");
    assert!(shows("/m/dirsync", "dirsync"), "{seen}");
    assert!(!shows("/m/async", "sync"), "{seen}");
    if who() != Who::Crun {
        assert!(shows("/m/lazytime", "lazytime"), "{seen}");
        assert!(!shows("/m/nolazytime", "lazytime"), "{seen}");
        mount_at(&seen, "/m/iversion");
        mount_at(&seen, "/m/loud");
    }
}

#[test]
fn propagation_is_applied_in_the_order_it_is_listed() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun fails at rslave,rshared");
    let mut world = World::running(&MOUNTINFO);
    let source = world.path("source");
    let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
    let _sub = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("sub"));
    let table: &[(&str, &[&str])] = &[
        ("/default", &["rbind"]),
        ("/private", &["rbind", "private"]),
        ("/rprivate", &["rbind", "rprivate"]),
        ("/slave", &["rbind", "rslave"]),
        ("/shared", &["rbind", "rshared"]),
        ("/slaveshared", &["rbind", "rslave", "rshared"]),
        ("/unbindable", &["rbind", "unbindable"]),
        ("/runbindable", &["rbind", "runbindable"]),
        ("/sharedprivate", &["rbind", "rshared", "private"]),
    ];
    for (place, options) in table {
        world.mount(bind(&source, place, options));
    }
    *world.at("/root/readonly") = json!(false);
    let seen = world.run().ok();
    let optional = |place: &str| mount_at(&seen, place).optional;
    assert!(optional("/default").starts_with("master:") && optional("/default/sub").starts_with("master:"), "{seen}");
    assert_eq!(optional("/private"), "", "{seen}");
    assert!(optional("/private/sub").starts_with("master:"), "{seen}");
    assert_eq!((optional("/rprivate"), optional("/rprivate/sub")), (String::new(), String::new()));
    assert!(optional("/slave").starts_with("master:"), "{seen}");
    assert!(optional("/shared").contains("shared:") && optional("/shared/sub").contains("shared:"), "{seen}");
    assert!(optional("/slaveshared").contains("shared:"), "{seen}");
    assert_eq!(optional("/unbindable"), "unbindable", "{seen}");
    assert!(optional("/unbindable/sub").starts_with("master:"), "{seen}");
    assert_eq!(optional("/runbindable/sub"), "unbindable", "{seen}");
    assert_eq!(optional("/sharedprivate"), "", "{seen}");
    assert!(optional("/sharedprivate/sub").contains("shared:"), "{seen}");
}

#[test]
fn the_root_begins_as_config_says_and_the_host_hears_nothing_of_it() {
    only!(Who::Us, Who::Crun; "runc 1.1 leaves the root private where shared is asked for");
    for (word, wanted) in
        [("private", ""), ("rprivate", ""), ("slave", "master:"), ("rslave", "master:"), ("shared", "shared:")]
    {
        let mut world = World::running(&MOUNTINFO);
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        *world.at("/linux/rootfsPropagation") = json!(word);
        let ran = world.run();
        let seen = ran.ok();
        let root = mount_at(&seen, "/").optional;
        match wanted {
            "" => assert_eq!(root, "", "{word}: {seen}"),
            // A slave without a master is private. This depends on the mount that contains the bundle.
            "master:" => assert!(root.is_empty() || root.contains(wanted), "{word}: {seen}"),
            _ => assert!(root.contains(wanted), "{word}: {seen}"),
        }
        let here = world.path("").to_str().unwrap().to_owned();
        let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!after.contains(&here), "{after}");
        let count = |text: &str| text.lines().filter(|line| line.contains(" / / ")).count();
        assert_eq!(count(&before), count(&after));
    }
}

#[test]
fn the_propagation_of_the_root_is_that_of_all_mounts_with_r_only() {
    only!(Who::Us, Who::Crun; "runc 1.1 leaves the root private where shared is asked for");
    for (word, proc, kept) in [
        ("shared", "", "shared:"),
        ("rshared", "shared:", "shared:"),
        ("slave", "", "shared:"),
        ("unbindable", "", "shared:"),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        let mut world = World::running(&MOUNTINFO);
        *world.at("/linux/rootfsPropagation") = json!(word);
        // crun 1.8 cannot bind in an unbindable root.
        *world.at("/linux/maskedPaths") = json!([]);
        *world.at("/linux/readonlyPaths") = json!([]);
        fs::create_dir(world.rootfs("kept")).unwrap();
        world.mount(json!({"destination": "/kept", "type": "tmpfs", "source": "tmpfs", "options": ["shared"]}));
        let seen = world.run().ok();
        let is = |path: &str, wanted: &str| match (mount_at(&seen, path).optional.as_str(), wanted) {
            (optional, "") => optional.is_empty(),
            (optional, _) => optional.starts_with(wanted),
        };
        assert!(is("/proc", proc) && is("/kept", kept), "{word}: {seen}");
    }
}

#[test]
fn the_propagation_of_the_root_leaves_that_of_the_mounts() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; "runc 1.1 leaves the root private where shared is asked for, and refuses unbindable");
    let script = "for m in shared private slave none; do mount -t tmpfs tmpfs /$m/in; done; mount --bind /shared /again \
                  && cat /proc/self/mountinfo";
    let table = [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")];
    for (word, of_root) in table {
        let mut world = World::running(&["sh", "-c", script]);
        *world.at("/root/readonly") = json!(false);
        *world.at("/linux/rootfsPropagation") = json!(word);
        for set in ["effective", "permitted", "bounding"] {
            *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
        }
        fs::create_dir(world.rootfs("again")).unwrap();
        let mut sources = Vec::new();
        for name in ["shared", "private", "slave", "none"] {
            let source = world.path(name);
            sources.push(HostMount::of(&["-t", "tmpfs", "tmpfs"], &source));
            finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
            fs::create_dir(source.join("in")).unwrap();
            let own = format!("r{name}");
            let options = if name == "none" { vec!["rbind"] } else { vec!["rbind", &own] };
            world.mount(bind(&source, &format!("/{name}"), &options));
        }
        // Something is mounted in the root's directory on the host, and the container mounts in that.
        let inside = world.rootfs("inside");
        sources.push(HostMount::of(&["-t", "tmpfs", "tmpfs"], &inside));
        finish(Command::new("mount").arg("--make-shared").arg(&inside)).ok();
        world.mount(tmpfs("/inside/own", &[]));
        let ran = world.run();
        let seen = ran.ok();
        let optional = |place: &str| mount_at(&seen, place).optional;
        assert!(optional("/").starts_with(of_root) && optional("/").is_empty() == of_root.is_empty(), "{word}: {seen}");
        for place in ["/private", "/proc", "/dev"] {
            assert_eq!(optional(place), "", "{word}, {place}: {seen}");
        }
        assert!(optional("/slave").starts_with("master:") && !optional("/slave").contains("shared:"), "{word}: {seen}");
        assert!(
            optional("/shared").starts_with("shared:") && !optional("/shared").contains("master:"),
            "{word}: {seen}"
        );
        mount_at(&seen, "/again");
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let arrived = |place: &Path| find_mount(&host, place.to_str().unwrap()).is_some();
        assert!(arrived(&world.path("shared/in")), "{word}: {host}");
        for place in ["private/in", "slave/in"].map(|place| world.path(place)).into_iter().chain([inside.join("own")]) {
            assert!(!arrived(&place), "{word}, {place:?}: {host}");
        }
        if who() == Who::Us {
            // For crun, it is a peer of the host's mount.
            assert!(!arrived(&world.path("none/in")), "{word}: {host}");
        }
    }
}

/// The kernel makes a shared mount a slave when it copies it into the mount namespace of another user namespace
/// (mount_namespaces(7)). A tree that the runtime copies must be one, too.
#[test]
fn nothing_that_a_user_namespace_mounts_reaches_the_host() {
    needs_root!("user namespaces with all ids");
    only!(Who::Us, Who::Runc; "for crun it is a peer of the host's mount");
    for word in ["shared", "rshared"] {
        let mut world = World::running(&["sh", "-c", "mount -t tmpfs tmpfs /shared/in; cat /proc/self/mountinfo"]);
        *world.at("/root/readonly") = json!(false);
        *world.at("/linux/rootfsPropagation") = json!(word);
        for set in ["effective", "permitted", "bounding"] {
            *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
        }
        world.namespace("user", None);
        for map in ["uidMappings", "gidMappings"] {
            *world.at(&format!("/linux/{map}")) = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        }
        let (source, inside) = (world.path("source"), world.rootfs("inside"));
        let _mounted = [&source, &inside].map(|place| HostMount::of(&["-t", "tmpfs", "tmpfs"], place));
        for place in [&source, &inside] {
            finish(Command::new("mount").arg("--make-shared").arg(place)).ok();
        }
        for place in [source.join("in"), inside.join("own")] {
            fs::create_dir(place).unwrap();
        }
        world.mount(bind(&source, "/shared", &["rbind", "rshared"]));
        world.mount(tmpfs("/inside/own", &[]));
        let seen = world.run().ok();
        mount_at(&seen, "/shared/in");
        let of_shared = mount_at(&seen, "/shared").optional;
        assert!(of_shared.contains("master:") && of_shared.contains("shared:"), "{word}: {seen}");
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for place in [source.join("in"), inside.join("own")] {
            assert!(find_mount(&host, place.to_str().unwrap()).is_none(), "{word}, {place:?}: {host}");
        }
    }
}

#[test]
fn an_unbindable_root_still_gets_its_read_only_and_masked_paths() {
    only!(Who::Us, Who::Crun; "runc 1.1 cannot bind a root below an unbindable one");
    let mut world = World::running(&MOUNTINFO);
    *world.at("/linux/rootfsPropagation") = json!("unbindable");
    let seen = world.run().ok();
    assert_eq!(mount_at(&seen, "/").optional, "unbindable", "{seen}");
    assert!(mount_at(&seen, "/proc/sys").has("ro"), "{seen}");
}

/// A word, and its effect on the flags of a mount (mount(8)): `+` sets a flag, `-` clears it, `=` sets the whole atime
/// field.
const FLAGS: [(&str, &str); 18] = [
    ("ro", "+ro"),
    ("rw", "-ro"),
    ("nosuid", "+nosuid"),
    ("suid", "-nosuid"),
    ("nodev", "+nodev"),
    ("dev", "-nodev"),
    ("noexec", "+noexec"),
    ("exec", "-noexec"),
    ("nodiratime", "+nodiratime"),
    ("diratime", "-nodiratime"),
    ("nosymfollow", "+nosymfollow"),
    ("symfollow", "-nosymfollow"),
    ("noatime", "=noatime"),
    ("atime", "=relatime"),
    ("relatime", "=relatime"),
    ("norelatime", ""),
    ("strictatime", "="),
    ("nostrictatime", "=relatime"),
];
/// Words that change no flag of a bind mount.
const OTHERS: [&str; 24] = [
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "silent",
    "loud",
    "defaults",
    "nofail",
    "shared",
    "slave",
    "private",
    "unbindable",
    "rshared",
    "rslave",
    "rprivate",
    "runbindable",
    "dest-nofollow",
    "bind",
    "rbind",
];
const SOURCES: [&str; 8] = ["relatime", "noatime", "strictatime", "nodiratime", "ro", "nosuid", "nodev", "noexec"];

/// The flags of a mount, without `rw`, after a change.
fn changed(flags: &str, change: &str) -> BTreeSet<String> {
    let mut flags: BTreeSet<String> = flags.split(',').filter(|flag| *flag != "rw").map(str::to_owned).collect();
    match change.split_at_checked(1) {
        Some(("+", flag)) => drop(flags.insert(flag.to_owned())),
        Some(("-", flag)) => drop(flags.remove(flag)),
        Some((_, atime)) => {
            flags.retain(|flag| !flag.ends_with("atime") || flag == "nodiratime");
            flags.extend(Some(atime).filter(|atime| !atime.is_empty()).map(str::to_owned));
        }
        None => {}
    }
    flags
}

/// A mount with this flag, and another one inside with the same flag.
fn source_with(flag: &str, place: &Path) -> [HostMount; 2] {
    let mounts = [place.to_owned(), place.join("sub")].map(|place| HostMount::of(&["-t", "tmpfs", "tmpfs"], &place));
    for place in [place.join("sub"), place.to_owned()] {
        finish(Command::new("mount").args(["-o", &format!("remount,bind,{flag}")]).arg(place)).ok();
    }
    mounts
}

/// Other runtimes know only some of the words, and drop a source's own flags for some (docs/spec.md). For them, the
/// test uses the first ten words and `noatime`, on a source without flags.
#[test]
fn every_option_does_to_every_source_what_mount_8_says() {
    needs_root!("mounts on the host");
    let ours = who() == Who::Us;
    let recursive = FLAGS.map(|(word, change)| (format!("r{word}"), change));
    let flags = FLAGS.iter().map(|(word, change)| ((*word).to_owned(), *change));
    let others = OTHERS.iter().map(|word| ((*word).to_owned(), ""));
    let options: Vec<_> = match ours {
        true => flags.chain(recursive).chain(others).collect(),
        // Debian's versions do not know nosymfollow and symfollow.
        false => flags.take(13).filter(|(word, _)| !word.ends_with("symfollow")).collect(),
    };
    let sources = if ours { &SOURCES[..] } else { &SOURCES[..1] };
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    let mut mounted = Vec::new();
    for source in sources {
        let place = world.path(source);
        mounted.extend(source_with(source, &place));
        for (n, (word, _)) in options.iter().enumerate() {
            world.mount(bind(&place, &format!("/m/{source}/{n}"), &["rbind", word]));
        }
    }
    let seen = world.run().ok();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for source in sources {
        let before = mount_at(&host, world.path(source).to_str().unwrap()).options;
        for (n, (word, change)) in options.iter().enumerate() {
            let all = FLAGS.iter().any(|(flag, _)| word.strip_prefix('r') == Some(flag));
            for (below, change) in [("", *change), ("/sub", if all { change } else { "" })] {
                let there = mount_at(&seen, &format!("/m/{source}/{n}{below}")).options;
                compared += 1;
                if changed(&there, "") != changed(&before, change) {
                    wrong.push(format!("{word} on {source}{below} ({before}): {there}"));
                }
            }
        }
    }
    eprintln!(
        "{} options, {} sources, {compared} mounts compared, {} differ",
        options.len(),
        sources.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_read_only_tmpfs_is_closed_before_what_covers_it_or_changes_it() {
    only!(Who::Us; "runc closes what lies on top, crun does not take ro back with rw");
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    world.mount(tmpfs("/covered", &["ro"]));
    world.mount(bind(&source, "/covered", &["bind", "rw"]));
    world.mount(tmpfs("/changed", &["ro"]));
    world.mount(tmpfs("/changed", &["remount", "rw"]));
    let seen = world.run().ok();
    assert!(mount_at(&seen, "/covered").has("rw") && mount_at(&seen, "/changed").has("rw"), "{seen}");
    let covered = seen.lines().find(|line| line.contains(" /covered ")).unwrap();
    assert!(covered.contains(" /covered ro,"), "{covered}");
}

#[test]
fn remount_beside_bind_changes_the_mount_that_is_there() {
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    world.mount(tmpfs("/a", &["nosuid"]));
    world.mount(json!({"destination": "/a", "source": "/etc", "options": ["remount", "bind", "ro", "nosuid"]}));
    let seen = world.run().ok();
    assert_eq!(seen.lines().filter(|line| line.contains(" /a ")).count(), 1, "{seen}");
    assert!(seen.contains(" /a ") && mount_at(&seen, "/a").has("ro"), "{seen}");
}

#[test]
fn a_remount_changes_the_options_of_the_file_system() {
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    world.mount(tmpfs("/a", &["size=1m"]));
    world.mount(tmpfs("/a", &["remount", "size=2m", "lazytime"]));
    world.mount(json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["remount", "hidepid=2"]}));
    let seen = world.run().ok();
    let superblock = mount_at(&seen, "/a").superblock;
    assert!(superblock.contains("size=2048k") && superblock.contains("lazytime"), "{superblock}");
    assert!(mount_at(&seen, "/proc").superblock.contains("hidepid="), "{seen}");
}

#[test]
fn a_remount_without_a_mount_or_with_an_unknown_option_is_an_error() {
    for (options, there, reason) in [
        (&["remount", "ro"][..], false, "is there a mount at this place?"),
        (&["remount", "size=2m"], false, "is there a mount at this place?"),
        (&["remount", "sise=2m"], true, "Unknown parameter 'sise'"),
    ] {
        let mut world = World::running(&["true"]);
        *world.at("/root/readonly") = json!(false);
        if there {
            world.mount(tmpfs("/a", &[]));
        }
        world.mount(tmpfs("/a", options));
        let said = world.run().fails();
        if who() == Who::Us {
            assert!(said.contains(reason) && said.contains("mounts["), "{options:?}: {said}");
        }
        world.assert_clean();
    }
}

#[test]
fn relatime_that_is_taken_back_leaves_the_atime_flag_of_the_source() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun clears the flags of a source that no option names");
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    let source = world.path("source");
    let _mounted = source_with("noatime", &source);
    world.mount(bind(&source, "/a", &["bind", "relatime", "norelatime"]));
    assert!(mount_at(&world.run().ok(), "/a").has("noatime"));
}
