//! maskedPaths and readonlyPaths: covered paths, read-only paths, and missing ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::mountinfo::{bind, find_mount, mount_at, tmpfs};
use crate::namespaces::with_users;
use crate::world::{Who, World, finish, runtime, who};
use crate::{needs_root, only};

fn with_secrets(script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    fs::create_dir_all(world.rootfs("secret/dir/below")).unwrap();
    fs::write(world.rootfs("secret/dir/below/file"), "secret\n").unwrap();
    fs::write(world.rootfs("secret/file"), "secret\n").unwrap();
    world
}

#[test]
fn a_masked_file_is_empty_and_a_masked_directory_too() {
    let script = "cat /secret/file | wc -c; ls /secret/dir | wc -l; touch /secret/dir/x 2>&1; echo more >/secret/file; \
                  cat /proc/self/mountinfo";
    let mut world = with_secrets(script);
    *world.at("/linux/maskedPaths") = json!(["/secret/file", "/secret/dir", "/secret/missing"]);
    if who() == Who::Us {
        // Debian's runc and crun fail for a path below a file.
        world.at("/linux/maskedPaths").as_array_mut().unwrap().push(json!("/secret/file/below"));
    }
    let out = world.run().ok();
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
    assert_eq!(mount_at(&out, "/secret/file").root, "/null");
    let directory = mount_at(&out, "/secret/dir");
    assert!(directory.fstype == "tmpfs" && directory.has("ro"), "{directory:?}");
    assert!(directory.superblock.starts_with("ro"), "{directory:?}");
    assert!(find_mount(&out, "/secret/missing").is_none());
    assert_eq!(fs::read_to_string(world.rootfs("secret/file")).unwrap(), "secret\n");
    // exec sees the same.
    world.config["process"]["args"] = json!(["sleep", "1000"]);
    world.begin();
    assert_eq!(world.exec(&["cat", "/secret/file"]).ok(), "");
}

#[test]
fn a_path_that_is_masked_twice_is_mounted_once_and_a_mount_is_masked_too() {
    let mut world = with_secrets("cat /bound/file; ls /fresh /secret/dir; cat /proc/self/mountinfo");
    fs::create_dir(world.path("source")).unwrap();
    fs::write(world.path("source/file"), "secret\n").unwrap();
    symlink("secret", world.rootfs("link")).unwrap();
    world.mount(bind(world.path("source"), "/bound", &["bind"]));
    world.mount(tmpfs("/fresh", &[]));
    let all =
        ["/secret/dir", "/secret/dir", "/secret//dir/", "/link/dir", "/secret/file", "/link/file", "/secret/file"];
    *world.at("/linux/maskedPaths") = json!(all);
    let list = world.at("/linux/maskedPaths").as_array_mut().unwrap();
    list.extend(["/bound", "/fresh"].map(|path| json!(path)));
    *world.at("/linux/readonlyPaths") = json!(["/bound", "/bound", "/fresh"]);
    let out = world.run().ok();
    assert!(!out.contains("secret\n") && !out.contains("below\n"), "{out}");
    assert!(mount_at(&out, "/bound").fstype == "tmpfs" && mount_at(&out, "/fresh").has("ro"), "{out}");
    if who() == Who::Us {
        let count = |place: &str| out.lines().filter(|line| line.split(' ').nth(4) == Some(place)).count();
        assert_eq!((count("/secret/dir"), count("/secret/file")), (1, 1), "{out}");
        // The mount itself, read-only, and masked.
        assert_eq!((count("/bound"), count("/fresh")), (3, 3), "{out}");
    }
}

#[test]
fn a_null_device_with_another_number_is_reported() {
    needs_root!("a mount on /dev/null");
    only!(Who::Us; "the words are ours");
    let world = with_secrets("true");
    world.write();
    let script = "mount --bind /dev/zero /dev/null && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]).arg(runtime());
    let said =
        finish(command.arg("--root").arg(world.path("state")).arg("run").arg(&world.id).current_dir(world.bundle()))
            .fails();
    assert!(said.contains("linux.maskedPaths: open the host's /dev/null: it is another device (ENODEV)"), "{said}");
}

#[test]
fn all_masked_directories_are_one_file_system() {
    let mut world = with_secrets("cat /proc/self/mountinfo");
    let names: Vec<_> = (0..20).map(|n| format!("/secret/{n}")).collect();
    for name in &names {
        fs::create_dir(world.rootfs(&name[1..])).unwrap();
    }
    *world.at("/linux/maskedPaths") = json!(names);
    let out = world.run().ok();
    let device = |name: &str| {
        out.lines()
            .find(|line| line.contains(&format!(" {name} ")))
            .and_then(|line| line.split(' ').nth(2))
            .map(str::to_owned)
    };
    assert!(device("/secret/0").is_some() && device("/secret/19").is_some(), "{out}");
    if who() == Who::Us {
        assert!(names.iter().all(|name| device(name) == device("/secret/0")), "{out}");
    }
}

#[test]
fn a_link_to_what_is_masked_is_followed_inside_the_root() {
    let mut world = with_secrets("cat /secret/file; ls /secret/dir; cat /proc/self/mountinfo");
    symlink("/secret/file", world.rootfs("one")).unwrap();
    symlink("../../../secret/dir", world.rootfs("two")).unwrap();
    symlink("/nowhere", world.rootfs("three")).unwrap();
    *world.at("/linux/maskedPaths") = json!(["/one", "/two", "/three", "/bin/../one"]);
    *world.at("/linux/readonlyPaths") = json!(["/three"]);
    let out = world.run().ok();
    assert!(!out.starts_with("secret") && !out.starts_with("below"), "{out}");
    mount_at(&out, "/secret/file");
    mount_at(&out, "/secret/dir");
    assert!(!world.rootfs("nowhere").exists());
}

#[test]
fn a_read_only_path_is_closed_with_all_below_and_keeps_its_flags() {
    only!(Who::Us, Who::Runc; "crun 1.8 drops flags");
    let script = "touch /data/x 2>&1; touch /data/sub/x 2>&1; touch /file 2>&1; cat /proc/self/mountinfo";
    let mut world = with_secrets(script);
    fs::write(world.rootfs("file"), "").unwrap();
    world.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec"]}));
    world.mount(json!({"destination": "/data/sub", "type": "tmpfs", "source": "tmpfs", "options": ["nodev"]}));
    *world.at("/linux/readonlyPaths") = json!(["/data", "/file", "/missing", "/proc/sys"]);
    let out = world.run().ok();
    let count = out.matches("Read-only file system").count();
    let data = mount_at(&out, "/data");
    assert!(data.has("ro") && data.has("nosuid") && data.has("noexec"), "{data:?}");
    assert!(mount_at(&out, "/file").has("ro") && mount_at(&out, "/proc/sys").has("ro"));
    if who() == Who::Us {
        // Other runtimes make only the topmost mount read-only.
        assert_eq!(count, 3, "{out}");
        let sub = mount_at(&out, "/data/sub");
        assert!(sub.has("ro") && sub.has("nodev"), "{sub:?}");
    }
    assert!(count >= 2, "{out}");
}

#[test]
fn a_path_that_is_not_absolute_is_refused_by_its_place() {
    only!(Who::Us; "the words are ours");
    let mut world = World::running(&["true"]);
    *world.at("/linux/maskedPaths") = json!(["/proc/kcore", "proc/keys"]);
    *world.at("/linux/readonlyPaths") = json!(["x"]);
    let said = world.run().fails();
    assert!(said.contains("linux.maskedPaths[1]: \"proc/keys\" is not absolute"), "{said}");
    assert!(said.contains("linux.readonlyPaths[0]: \"x\" is not absolute"), "{said}");
}

#[test]
fn masked_and_read_only_paths_hold_in_a_user_namespace() {
    let script = "ls /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w; cat /proc/keys | wc -c; \
                  echo 1 2>&1 >/proc/sys/net/ipv4/ip_forward; cat /proc/self/mountinfo";
    let mut world = World::running(&["sh", "-c", script]);
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
    }
    let out = world.run().ok();
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert!(mount_at(&out, "/proc/sys").has("ro"), "{out}");
    // The root of the user namespace cannot remove them.
    world.config["process"]["args"] = json!(["sh", "-c", "umount /proc/keys; umount -l /proc/sys; true"]);
    world.config["process"]["args"] =
        json!(["sh", "-c", "mount -o remount,bind,rw /proc/sys 2>&1; cat /proc/self/mountinfo"]);
    let out = world.run().ok();
    mount_at(&out, "/proc/sys");
}

#[test]
fn the_root_among_the_read_only_paths_is_read_only_for_every_process() {
    only!(Who::Us; "runc and crun 1.8 close what is attached on the root, which init or exec does not see");
    let write = "touch /made; touch /dev/made; true";
    let mut world = World::running(&["sh", "-c", &format!("{write}; sleep 1000")]);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/readonlyPaths") = json!(["/proc/..", "/proc/sys"]);
    *world.at("/process/cwd") = json!("/made-as-cwd");
    world.begin();
    let mounts = world.exec(&["cat", "/proc/self/mountinfo"]).ok();
    for place in ["/", "/dev"] {
        assert!(mount_at(&mounts, place).has("ro"), "{place}: {mounts}");
    }
    let said = world.exec(&["sh", "-c", &format!("{{ {write}; }} 2>&1")]).ok();
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    assert!(!world.rootfs("made").exists() && world.rootfs("made-as-cwd").exists());
}

#[test]
fn the_root_cannot_be_masked() {
    only!(Who::Us; "with runc and crun exec fails, and init does not notice");
    let mut world = World::running(&["true"]);
    *world.at("/linux/maskedPaths") = json!(["/proc/.."]);
    let said = world.run().fails();
    assert!(said.contains("linux.maskedPaths[0]: the root cannot be masked"), "{said}");
    // a link of the image must not do it either
    symlink("/", world.rootfs("link")).unwrap();
    *world.at("/linux/maskedPaths") = json!(["/link"]);
    let said = world.run().fails();
    assert!(said.contains("linux.maskedPaths[0]: mask /link: it is the container's root"), "{said}");
    world.assert_clean();
}
