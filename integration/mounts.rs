//! mounts: where a mount is made, what it contains, and what may not be mounted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::mountinfo::{HostMount, MOUNTINFO, bind, find_mount, mount_at, refused, seen_with, tmpfs};
use crate::ordinary::root;
use crate::world::{Who, World, finish, runtime, who};
use crate::{needs_root, only};

#[test]
fn a_missing_destination_is_made_for_a_directory_and_for_a_file() {
    only!(Who::Us, Who::Runc; "crun 1.8 makes directories with mode 1755");
    let script = "stat -c '%F %a %u %n' /a /a/b /a/b/dir /a/b/file; cat /a/b/file";
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    fs::create_dir(world.path("source")).unwrap();
    fs::write(world.path("file"), "content\n").unwrap();
    world.mount(bind(world.path("source"), "/a/b/dir", &["bind"]));
    world.mount(bind(world.path("file"), "/a/b/file", &["bind", "ro"]));
    let out = world.run().ok();
    assert!(out.starts_with("directory 755 0 /a\ndirectory 755 0 /a/b\n"), "{out}");
    assert!(out.ends_with("content\n"), "{out}");
    let made = |below: &str| fs::metadata(world.rootfs(below)).unwrap();
    assert!(made("a/b/dir").is_dir() && made("a/b/file").is_file());
    assert_eq!(made("a/b/dir").mode() & 0o7777, 0o755);
    if who() == Who::Us {
        assert_eq!(made("a/b/file").mode() & 0o7777, 0o644);
    }
}

#[test]
fn a_relative_source_begins_at_the_bundle() {
    let mut world = World::running(&["cat", "/there"]);
    fs::write(world.bundle().join("here"), "from the bundle\n").unwrap();
    world.mount(bind("here", "/there", &["bind"]));
    *world.at("/root/readonly") = json!(false);
    world.write();
    // The result does not depend on the runtime's current directory.
    let mut command = world.command(&["run", "--bundle"]);
    command.arg(world.bundle()).arg(&world.id).current_dir("/");
    assert_eq!(finish(&mut command).ok(), "from the bundle\n");
}

#[test]
fn a_missing_source_is_reported_with_its_place() {
    let mut world = World::running(&["true"]);
    world.mount(bind("/nonexistent/x", "/there", &["bind"]));
    let said = world.run().fails();
    assert!(said.to_lowercase().contains("no such file or directory"), "{said}");
    if who() == Who::Us {
        assert!(said.contains("mounts[6].source: open /nonexistent/x"), "{said}");
    }
    world.assert_clean();
}

#[test]
fn a_relative_destination_begins_at_the_root() {
    let seen = seen_with(vec![tmpfs("tmp/x", &[]), tmpfs("/a/../b/./c", &[]), tmpfs("/../../d", &[])]);
    mount_at(&seen, "/tmp/x");
    mount_at(&seen, "/b/c");
    mount_at(&seen, "/d");
}

#[test]
fn links_in_a_destination_are_followed_inside_the_root() {
    only!(Who::Us, Who::Runc; "crun 1.8 refuses one that dangles");
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(world.rootfs("real")).unwrap();
    symlink("/real", world.rootfs("absolute")).unwrap();
    symlink("../../../../real", world.rootfs("climbing")).unwrap();
    symlink(&outside, world.rootfs("away")).unwrap();
    for link in ["absolute", "climbing", "away"] {
        world.mount(tmpfs(&format!("/{link}/{link}"), &[]));
    }
    let seen = world.run().ok();
    mount_at(&seen, "/real/absolute");
    mount_at(&seen, "/real/climbing");
    // The host's path is made inside.
    mount_at(&seen, &format!("{}/away", outside.display()));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_dangling_link_as_the_destination_gets_its_target_made() {
    only!(Who::Us, Who::Runc; "crun 1.8 refuses it");
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    fs::write(world.path("file"), "").unwrap();
    symlink("/made/directory", world.rootfs("one")).unwrap();
    symlink("made/file", world.rootfs("two")).unwrap();
    symlink("three", world.rootfs("three")).unwrap();
    world.mount(tmpfs("/one", &[]));
    world.mount(bind(world.path("file"), "/two", &["bind"]));
    let seen = world.run().ok();
    mount_at(&seen, "/made/directory");
    mount_at(&seen, "/made/file");
    world.mount(tmpfs("/three", &[]));
    let said = world.run().fails();
    assert!(said.to_lowercase().contains("symbolic links") || said.contains("ELOOP"), "{said}");
}

#[test]
fn mounts_are_made_in_order_and_a_later_one_stands_on_an_earlier() {
    let mut world = World::running(&["sh", "-c", "cat /a/b/file; cat /proc/self/mountinfo"]);
    fs::create_dir_all(world.path("source")).unwrap();
    fs::write(world.path("source/file"), "there\n").unwrap();
    world.mount(tmpfs("/a", &["size=1m"]));
    world.mount(bind(world.path("source"), "/a/b", &["bind"]));
    world.mount(tmpfs("/a/c", &["size=2m"]));
    world.mount(tmpfs("/a/c", &["size=3m"]));
    *world.at("/root/readonly") = json!(false);
    let seen = world.run().ok();
    assert!(seen.starts_with("there\n"), "{seen}");
    let over = mount_at(&seen, "/a/c");
    assert!(over.superblock.contains("size=3072k"), "{over:?}");
    // It is made in the tmpfs, not in the root.
    assert!(!world.rootfs("a/b").exists());
}

#[test]
fn remount_changes_what_is_there() {
    let mut world = World::running(&MOUNTINFO);
    *world.at("/root/readonly") = json!(false);
    world.mount(tmpfs("/a", &["nosuid", "nodev"]));
    world.mount(json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro", "nosuid", "nodev"]}));
    let seen = world.run().ok();
    let line = mount_at(&seen, "/a");
    assert!(line.has("ro") && line.has("nosuid") && line.has("nodev"), "{line:?}");
    assert_eq!(seen.lines().filter(|line| line.contains(" /a ")).count(), 1, "{seen}");
}

#[test]
fn a_tmpfs_takes_mode_owner_size_and_inodes() {
    only!(Who::Us; "Debian's runc puts its own mode after the one asked for, crun has no mode of what is covered");
    let script = "stat -c '%a %u %g' /a /b /c /d; cat /proc/self/mountinfo";
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    fs::create_dir(world.rootfs("b")).unwrap();
    fs::set_permissions(world.rootfs("b"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::create_dir(world.rootfs("d")).unwrap();
    world.mount(tmpfs("/a", &["mode=1770", "uid=7", "gid=8", "size=64k", "nr_inodes=10"]));
    world.mount(tmpfs("/b", &[]));
    world.mount(tmpfs("/c", &[]));
    world.mount(tmpfs("/d", &["mode=700"]));
    let out = world.run().ok();
    // The mode of the covered directory if there was one, otherwise the kernel's default.
    let lines: Vec<_> = out.lines().take(4).collect();
    assert_eq!(lines, ["1770 7 8", "751 0 0", "1777 0 0", "700 0 0"], "{out}");
    let line = mount_at(&out, "/a");
    assert!(line.superblock.contains("size=64k") && line.superblock.contains("nr_inodes=10"), "{line:?}");
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_it_covers() {
    needs_root!("what belongs to root");
    only!(Who::Us; "runc loses set-group-ID and the owner of links, crun the mode");
    let script = "cd /v && stat -c '%n %F %a %u:%g' . dir dir/file link setuid; cat dir/file; readlink link; \
                  echo new >dir/more; ls dir";
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(true);
    *world.at("/process/capabilities/effective") = json!(["CAP_DAC_OVERRIDE"]);
    *world.at("/process/capabilities/permitted") = json!(["CAP_DAC_OVERRIDE"]);
    *world.at("/process/capabilities/bounding") = json!(["CAP_DAC_OVERRIDE"]);
    let set = |below: &str, mode: u32, uid: u32| {
        std::os::unix::fs::lchown(world.rootfs(below), Some(uid), Some(uid + 1)).unwrap();
        fs::set_permissions(world.rootfs(below), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(world.rootfs("v/dir")).unwrap();
    fs::write(world.rootfs("v/dir/file"), "x".repeat(100_000) + "\n").unwrap();
    fs::write(world.rootfs("v/setuid"), "").unwrap();
    symlink("/nowhere", world.rootfs("v/link")).unwrap();
    std::os::unix::fs::lchown(world.rootfs("v/link"), Some(9), Some(9)).unwrap();
    set("v/dir/file", 0o640, 5);
    set("v/setuid", 0o4755, 6);
    set("v/dir", 0o2710, 4);
    set("v", 0o751, 0);
    world.mount(tmpfs("/v", &["tmpcopyup"]));
    let out = world.run().ok();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], ". directory 751 0:1");
    assert_eq!(lines[1], "dir directory 2710 4:5");
    assert_eq!(lines[2], "dir/file regular file 640 5:6");
    assert_eq!(lines[3], "link symbolic link 777 9:9");
    assert_eq!(lines[4], "setuid regular empty file 4755 6:7");
    assert_eq!(lines[5].len(), 100_000);
    assert_eq!(&lines[6..], ["/nowhere", "file", "more"]);
    assert!(!world.rootfs("v/dir/more").exists());
}

#[test]
fn tmpcopyup_keeps_holes_and_names_what_has_no_room() {
    needs_root!("mounts");
    only!(Who::Us; "the peers copy holes, and the file is not named");
    let mut world = World::running(&[
        "sh",
        "-c",
        "stat -c '%s %b' /v/dir/lastlog; od -An -c /v/dir/lastlog | head -3; stat -c %s /v/end",
    ]);
    fs::create_dir_all(world.rootfs("v/dir")).unwrap();
    let sparse = fs::File::create(world.rootfs("v/dir/lastlog")).unwrap();
    sparse.set_len(200 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"me", 100 << 20).unwrap();
    fs::File::create(world.rootfs("v/end")).unwrap().set_len(12345).unwrap();
    world.mount(tmpfs("/v", &["tmpcopyup", "size=1m"]));
    let out = world.run().ok();
    let lines: Vec<_> = out.lines().collect();
    let blocks: u32 = lines[0].strip_prefix("209715200 ").unwrap().parse().unwrap();
    assert!((1..=64).contains(&blocks), "{out}");
    assert!(out.contains("m   e"), "{out}");
    assert_eq!(lines.last(), Some(&"12345"));
    fs::write(world.rootfs("v/dir/full"), vec![1; 2 << 20]).unwrap();
    let said = world.run().fails();
    assert!(
        said.contains("mounts[6]: mount tmpfs on /v: tmpcopyup: copy dir/full: no space left on device (ENOSPC)"),
        "{said}"
    );
}

#[test]
fn a_directory_on_a_file_and_the_reverse_name_both_sides() {
    let mut world = World::running(&["true"]);
    fs::create_dir(world.rootfs("directory")).unwrap();
    fs::write(world.rootfs("file"), "").unwrap();
    fs::create_dir(world.path("source")).unwrap();
    fs::write(world.path("source/file"), "").unwrap();
    let directory = world.path("source").display().to_string();
    let mounts = world.config["mounts"].clone();
    for (source, on) in [(directory.clone(), "file"), (format!("{directory}/file"), "directory")] {
        world.config["mounts"] = mounts.clone();
        world.mount(json!({"destination": format!("/{on}"), "type": "bind", "source": source, "options": ["bind"]}));
        let said = world.run().fails();
        // Docker looks for these words.
        assert!(said.to_lowercase().contains("not a directory"), "{said}");
        if who() == Who::Us {
            let it = if on == "file" { "directory" } else { "file" };
            let whole = format!("mounts[6]: mount {source} (a {it}) on /{on} (a {on}): not a directory (ENOTDIR)");
            assert!(said.contains(&whole), "{said}");
        }
    }
    world.config["mounts"] = mounts;
    world.mount(tmpfs("/file", &[]));
    let said = world.run().fails();
    assert!(said.to_lowercase().contains("not a directory"), "{said}");
}

#[test]
fn many_mounts_need_no_larger_limit_of_descriptors() {
    only!(Who::Us; "the peers open one after the other");
    let mut world = World::running(&["sh", "-c", "ulimit -Sn; ulimit -Hn; ls -A /m | wc -l"]);
    fs::create_dir(world.path("source")).unwrap();
    for n in 0..300 {
        let source = world.path("source");
        world.mount(json!({"destination": format!("/m/{n}"), "type": "bind", "source": source, "options": ["bind"]}));
    }
    world.write();
    let command = format!("ulimit -Sn 200; ulimit -Hn 2048; exec {} --root \"$0\" run \"$1\"", runtime().display());
    let mut run = std::process::Command::new("bash");
    run.args(["-c", &command]).arg(world.path("state")).arg(&world.id).current_dir(world.bundle());
    assert_eq!(finish(&mut run).ok(), "200\n2048\n300\n");
    *world.at("/process/rlimits") = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]);
    world.write();
    assert_eq!(finish(&mut run).ok(), "99\n100\n300\n");
}

#[test]
fn tmpcopyup_into_a_place_that_is_missing_or_on_another_file_system() {
    let seen = seen_with(vec![tmpfs("/missing/x", &["tmpcopyup", "size=1m"])]);
    assert!(mount_at(&seen, "/missing/x").superblock.contains("size=1024k"));
    only!(Who::Us, Who::Runc; "crun refuses it");
    let mut world = World::running(&["true"]);
    world.mount(json!({"destination": "/x", "type": "ramfs", "source": "x", "options": ["tmpcopyup"]}));
    let ran = world.run();
    let warned = ran.err.contains("mounts[6].options: tmpcopyup is for a tmpfs only: ignored");
    assert!(warned || who() == Who::Runc, "{}", ran.err);
    ran.ok();
}

#[test]
fn an_unknown_option_is_reported_with_the_kernels_word() {
    let said = refused(tmpfs("/x", &["nosuid", "rox"]));
    if who() == Who::Us {
        assert!(said.contains("mounts[6]: mount tmpfs on /x: tmpfs: Unknown parameter 'rox'"), "{said}");
    }
    let said = refused(tmpfs("/x", &["size=alot"]));
    if who() == Who::Us {
        assert!(said.contains("mounts[6]: mount tmpfs on /x: tmpfs: Bad value for 'size'"), "{said}");
    }
}

#[test]
fn an_unknown_or_missing_type_is_reported() {
    only!(Who::Us, Who::Runc; "crun 1.8 takes an empty type");
    let said = refused(json!({"destination": "/x", "type": "nosuchfs", "source": "x"}));
    assert!(said.to_lowercase().contains("no such device"), "{said}");
    let said = refused(json!({"destination": "/x", "type": "", "source": "x"}));
    if who() == Who::Us {
        assert!(said.contains("mounts[6].type: is missing"), "{said}");
    }
    let said = refused(json!({"destination": "/x", "source": "x"}));
    assert!(!said.is_empty());
}

#[test]
fn an_overlay_takes_many_lower_directories() {
    needs_root!("mounts on the host");
    let mut world = World::running(&["sh", "-c", "ls /o; echo more >/o/new; cat /o/new"]);
    *world.at("/root/readonly") = json!(false);
    let base = world.path("overlay");
    let _own = HostMount::of(&["-t", "tmpfs", "tmpfs"], &base);
    let mut lower = Vec::new();
    for n in 0..30 {
        let layer = base.join(format!("a-rather-long-name-of-a-layer-so-that-it-is-beyond-any-small-buffer-{n}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file{n}")), "").unwrap();
        lower.push(layer.display().to_string());
    }
    for name in ["upper", "work"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    let options = [
        format!("lowerdir={}", lower.join(":")),
        format!("upperdir={}", base.join("upper").display()),
        format!("workdir={}", base.join("work").display()),
        "nosuid".to_owned(),
    ];
    world.mount(json!({"destination": "/o", "type": "overlay", "source": "overlay", "options": options}));
    let out = world.run().ok();
    assert_eq!(out.lines().filter(|line| line.starts_with("file")).count(), 30, "{out}");
    assert!(out.ends_with("more\n"), "{out}");
    assert!(base.join("upper/new").exists());
}

#[test]
fn a_long_option_of_any_file_system_reaches_it() {
    needs_root!("mounts on the host");
    let mut world = World::running(&["sh", "-c", "ls /o; grep ' /o ' /proc/self/mountinfo"]);
    *world.at("/root/readonly") = json!(false);
    let base = world.path("overlay");
    let _own = HostMount::of(&["-t", "tmpfs", "tmpfs"], &base);
    let long = base.join("u".repeat(200)).join("v".repeat(100));
    for name in ["upper", "work"] {
        fs::create_dir_all(long.join(name)).unwrap();
    }
    fs::create_dir(base.join("lower")).unwrap();
    fs::write(base.join("lower/file"), "").unwrap();
    let options = [
        format!("lowerdir={}", base.join("lower").display()),
        format!("upperdir={}", long.join("upper").display()),
        format!("workdir={}", long.join("work").display()),
        "nodev".to_owned(),
        "ro".to_owned(),
    ];
    world.mount(json!({"destination": "/o", "type": "overlay", "source": "overlay", "options": options}));
    let out = world.run().ok();
    assert!(out.starts_with("file\n"), "{out}");
    let line = mount_at(&out, "/o");
    assert!(line.has("nodev") && line.has("ro"), "{line:?}");
}

#[test]
fn nothing_is_mounted_inside_proc() {
    only!(Who::Us; "Debian's runc and crun let some of these be mounted");
    for place in ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/sys/kernel", "/proc/cpuinfo2"] {
        let said = refused(tmpfs(place, &[]));
        if who() == Who::Us {
            assert!(said.contains("mounts[6].destination") && said.contains("inside /proc"), "{place}: {said}");
        }
    }
}

#[test]
fn the_files_of_proc_that_lxcfs_gives_may_be_covered() {
    let mut world = World::running(&["cat", "/proc/uptime", "/proc/cpuinfo"]);
    for name in ["uptime", "cpuinfo", "meminfo", "stat", "diskstats", "swaps", "loadavg"] {
        fs::write(world.path(name), format!("mine: {name}\n")).unwrap();
        world.mount(bind(world.path(name), &format!("/proc/{name}"), &["bind"]));
    }
    assert_eq!(world.run().ok(), "mine: uptime\nmine: cpuinfo\n");
}

#[test]
fn only_a_proc_file_system_lies_on_proc() {
    only!(Who::Us, Who::Runc; "crun mounts it");
    let said = refused(tmpfs("/proc", &[]));
    if who() == Who::Us {
        assert!(said.contains("only a proc file system may be mounted on /proc"), "{said}");
    }
    let mut world = World::running(&["true"]);
    fs::create_dir(world.path("fake")).unwrap();
    world.mount(bind(world.path("fake"), "/proc", &["bind"]));
    let said = world.run().fails();
    if who() == Who::Us {
        assert!(said.contains("mounts[6]") && said.contains("only a proc file system"), "{said}");
    }
    world.assert_clean();
}

#[test]
fn the_hosts_proc_may_be_bound_on_proc() {
    let mut world = World::running(&["cat", "/proc/version"]);
    *world.at("/mounts/0") = bind("/proc", "/proc", &["rbind"]);
    world.without_namespace("pid");
    assert_eq!(world.run().ok(), fs::read_to_string("/proc/version").unwrap());
}

#[test]
fn a_link_does_not_lead_a_mount_into_proc() {
    only!(Who::Us; "Debian's runc and crun mount it");
    let mut world = World::running(&["true"]);
    *world.at("/root/readonly") = json!(false);
    symlink("/proc/sys", world.rootfs("innocent")).unwrap();
    world.mount(tmpfs("/innocent/kernel", &[]));
    let said = world.run().fails();
    if who() == Who::Us {
        assert!(said.contains("mounts[6]") && said.contains("inside /proc"), "{said}");
    }
    world.assert_clean();
}

#[test]
fn nothing_is_mounted_on_the_root_itself() {
    only!(Who::Us, Who::Runc; "crun mounts it");
    for place in ["/", "/..", "/a/.."] {
        let said = refused(tmpfs(place, &[]));
        if who() == Who::Us {
            assert!(said.contains("mounts[6].destination: a mount on the root itself is not allowed"), "{said}");
        }
    }
}

#[test]
fn a_read_only_dev_is_closed_when_it_is_filled() {
    let script = "test -c /dev/null && test -d /dev/pts && test -L /dev/fd && echo filled; touch /dev/x 2>&1; \
                  cat /proc/self/mountinfo";
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/mounts/1/options") = json!(["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]);
    let out = world.run().ok();
    assert!(out.starts_with("filled\n") && out.contains("Read-only file system"), "{out}");
    let line = mount_at(&out, "/dev");
    assert!(line.has("ro") && line.has("nosuid"), "{line:?}");
}

#[test]
fn a_read_only_root_keeps_its_other_flags_and_a_writable_one_is_written() {
    needs_root!("mounts on the host");
    only!(Who::Us; "Debian's runc and crun drop nosuid and nodev");
    let mut world = World::running(&["sh", "-c", "touch /new 2>&1; cat /proc/self/mountinfo"]);
    let rootfs = world.rootfs("");
    let copy = world.path("copy");
    fs::rename(&rootfs, &copy).unwrap();
    let _own = HostMount::of(
        &["-t", "tmpfs", "-o", "nosuid,nodev", "tmpfs"],
        Path::new(rootfs.to_str().unwrap().trim_end_matches('/')),
    );
    finish(Command::new("cp").arg("-a").arg(copy.join(".")).arg(&rootfs)).ok();
    let out = world.run().ok();
    assert!(out.contains("Read-only file system"), "{out}");
    let line = mount_at(&out, "/");
    assert!(line.has("ro") && line.has("nosuid") && line.has("nodev"), "{line:?}");
    // Mounts below it do not change.
    assert!(mount_at(&out, "/dev").has("rw"), "{out}");
    *world.at("/root/readonly") = json!(false);
    let out = world.run().ok();
    assert!(!out.contains("Read-only") && world.rootfs("new").exists(), "{out}");
}

#[test]
fn no_pivot_ends_in_the_same_root() {
    let mut world =
        World::running(&["sh", "-c", "ls -d /bin /etc; ls /work /home 2>&1 | head -1; cat /proc/self/mountinfo"]);
    *world.at("/root/readonly") = json!(true);
    world.write();
    let out = world.call_apart(&["run", "--no-pivot", &world.id]).ok();
    assert!(out.starts_with("/bin\n/etc\n"), "{out}");
    assert!(mount_at(&out, "/").has("ro"), "{out}");
    assert!(mount_at(&out, "/proc/sys").has("ro"), "{out}");
    let here = world.path("").display().to_string();
    assert!(!out.lines().any(|line| line.split(' ').nth(4).is_some_and(|place| place.starts_with(&here))), "{out}");
}

#[test]
fn nothing_of_the_host_is_mounted_in_the_container() {
    let mut world = World::running(&MOUNTINFO);
    world.config["linux"]["readonlyPaths"] = json!([]);
    world.config["linux"]["maskedPaths"] = json!([]);
    let seen = world.run().ok();
    let mut places: Vec<_> = seen.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    places.sort_unstable();
    if !root() {
        // An ordinary user's devices are the host's, each a bind mount.
        places.retain(|place| {
            !["full", "null", "random", "tty", "urandom", "zero"]
                .map(|name| format!("/dev/{name}"))
                .contains(&(*place).to_owned())
        });
    }
    assert_eq!(places, ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"], "{seen}");
}

#[test]
fn a_hundred_mounts_are_made() {
    let list = (0..100).map(|n| tmpfs(&format!("/many/{n}"), &["size=4k"])).collect();
    let seen = seen_with(list);
    assert_eq!(seen.lines().filter(|line| line.contains(" /many/")).count(), 100);
}

#[test]
fn a_later_mount_of_the_host_reaches_a_slave_and_nothing_comes_back() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun 1.8 breaks the link to the host");
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/root/readonly") = json!(false);
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
    }
    let source = world.path("source");
    let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
    fs::create_dir(source.join("inside")).unwrap();
    world.mount(bind(&source, "/slave", &["rbind", "rslave"]));
    world.mount(bind(&source, "/private", &["rbind", "rprivate"]));
    world.begin();
    let _later = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("later"));
    let seen = world.exec(&MOUNTINFO).ok();
    mount_at(&seen, "/slave/later");
    assert!(find_mount(&seen, "/private/later").is_none(), "{seen}");
    world.exec(&["mount", "-t", "tmpfs", "tmpfs", "/slave/inside"]).ok();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(find_mount(&host, source.join("inside").to_str().unwrap()).is_none(), "{host}");
}

#[test]
fn a_shared_mount_tells_the_host_what_is_mounted_in_it() {
    needs_root!("mounts on the host");
    let mut world = World::running(&["mount", "-t", "tmpfs", "tmpfs", "/shared/inside"]);
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
    }
    *world.at("/linux/rootfsPropagation") = json!("rshared");
    let source = world.path("source");
    let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
    fs::create_dir(source.join("inside")).unwrap();
    fs::create_dir(world.rootfs("shared")).unwrap();
    world.mount(bind(&source, "/shared", &["rbind", "rshared"]));
    world.run().ok();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mount_at(&host, source.join("inside").to_str().unwrap());
}

#[test]
fn links_at_the_ends_of_a_bind_mount_are_treated_as_requested() {
    only!(Who::Us; "crun 1.8 and runc do not have these options");
    let script = "readlink /itself; readlink /copied; cat /plain";
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    fs::write(world.path("file"), "content\n").unwrap();
    symlink("file", world.path("link")).unwrap();
    symlink("dangling", world.rootfs("itself")).unwrap();
    world.mount(bind(world.path("link"), "/itself", &["bind", "src-nofollow", "dest-nofollow"]));
    world.mount(bind(world.path("link"), "/copied", &["bind", "copy-symlink"]));
    world.mount(bind(world.path("file"), "/plain", &["bind", "copy-symlink"]));
    assert_eq!(world.run().ok(), "file\nfile\ncontent\n");
}

#[test]
fn the_config_is_read_once() {
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/process/env") = json!(["PATH=/bin", "WHEN=before"]);
    world.create().ok();
    let original = world.config.clone();
    *world.at("/process/env") = json!(["PATH=/bin", "WHEN=after"]);
    *world.at("/process/args") = json!(["false"]);
    *world.at("/process/user/uid") = json!(7);
    world.write();
    world.call(&["start", &world.id]).ok();
    world.wait_for_status("running");
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", world.pid())).unwrap(), "sleep\n");
    if who() == Who::Us {
        // runc's exec reads the bundle again.
        assert_eq!(world.exec(&["sh", "-c", "echo $WHEN; id -u"]).ok(), "before\n0\n");
    }
    world.config = original;
}
