//! A root that was made to harm the host: links where directories should be, exchanged while we look, descriptors and
//! binaries that should not be reachable. Each test is named for what it tries, with the advisory that taught it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::mountinfo::mount_at;
use crate::ordinary::root;
use crate::world::{Who, World, finish, runtime, who};
use crate::{needs_root, only};

fn capable(world: &mut World) {
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) =
            json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SYS_PTRACE"]);
    }
}

/// Everything in a directory of the host, to compare.
fn listing(directory: &Path) -> Vec<(PathBuf, u32, u64)> {
    let mut list = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            list.push((path.clone(), stat.mode(), stat.len()));
            if stat.is_dir() {
                todo.push(path);
            }
        }
    }
    list.sort_unstable();
    list
}

/// A directory of the host that must stay as it is.
fn victim(world: &World) -> PathBuf {
    let victim = world.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "the host's\n").unwrap();
    victim
}

#[test]
fn proc_and_sys_as_links_are_refused() {
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-54867
    only!(Who::Us, Who::Runc; "crun follows them inside the root");
    for name in ["proc", "sys"] {
        for target in ["/elsewhere", "../../../../../elsewhere", "/"] {
            let world = World::running(&["true"]);
            fs::create_dir(world.rootfs("elsewhere")).unwrap();
            symlink(target, world.rootfs(name)).unwrap();
            let said = world.run().fails();
            assert!(said.contains("must be mounted on ordinary directory"), "{name} -> {target}: {said}");
            assert_eq!(fs::read_dir(world.rootfs("elsewhere")).unwrap().count(), 0);
            world.assert_clean();
        }
    }
}

#[test]
fn dev_as_a_link_to_the_host_leaves_the_host_alone() {
    only!(Who::Us; "Debian's runc and crun make nodes and links on the host");
    // CVE-2026-41579, CVE-2019-18837
    for with_mounts in ["all", "none"] {
        let mut world = World::running(&["sh", "-c", "test -c /dev/null && echo inside"]);
        *world.at("/root/readonly") = json!(false);
        *world.at("/linux/maskedPaths") = json!([]);
        let victim = victim(&world);
        fs::create_dir(victim.join("pts")).unwrap();
        fs::write(victim.join("ptmx"), "").unwrap();
        let before = listing(&victim);
        symlink(&victim, world.rootfs("dev")).unwrap();
        if with_mounts == "none" {
            world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        }
        let ran = world.run();
        if who() == Who::Us {
            assert_eq!(ran.ok(), "inside\n");
        }
        assert_eq!(listing(&victim), before, "with mounts: {with_mounts}");
    }
}

#[test]
fn pts_ptmx_and_console_as_links_leave_the_host_alone() {
    // CVE-2025-52565
    let mut world = World::running(&["sh", "-c", "readlink /dev/ptmx; ls /dev/pts"]);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/maskedPaths") = json!([]);
    let victim = victim(&world);
    let before = listing(&victim);
    fs::create_dir(world.rootfs("dev")).unwrap();
    for name in ["pts", "shm", "mqueue"] {
        symlink(&victim, world.rootfs("dev").join(name)).unwrap();
    }
    symlink(victim.join("file"), world.rootfs("dev/ptmx")).unwrap();
    symlink(victim.join("file"), world.rootfs("dev/console")).unwrap();
    symlink(victim.join("new"), world.rootfs("dev/tty")).unwrap();
    let mounts: Vec<_> = world.config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["destination"] != "/dev")
        .cloned()
        .collect();
    world.config["mounts"] = json!(mounts);
    let ran = world.run();
    assert_eq!(listing(&victim), before, "{ran:?}");
    // a bind mount, which is an ordinary user's device, goes to where the link leads inside
    if who() == Who::Us && root() {
        let said = ran.fails();
        assert!(said.contains("mknod /dev/tty") && said.contains("something else is there already"), "{said}");
        fs::remove_file(world.rootfs("dev/tty")).unwrap();
        let out = world.run().ok();
        assert!(out.starts_with("pts/ptmx\n"), "{out}");
        assert_eq!(listing(&victim), before);
    }
}

#[test]
fn a_null_device_that_is_none_hides_nothing_of_the_masks() {
    // CVE-2025-31133
    only!(Who::Us; "Debian's runc and crun have it");
    let mut world = World::running(&["sh", "-c", "cat /secret; cat /proc/self/mountinfo"]);
    *world.at("/root/readonly") = json!(false);
    world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "none", "source": world.path("dev"), "options": ["bind"]}]);
    fs::create_dir(world.path("dev")).unwrap();
    fs::write(world.path("dev/null"), "not null\n").unwrap();
    fs::write(world.rootfs("secret"), "secret\n").unwrap();
    *world.at("/linux/maskedPaths") = json!(["/secret", "/proc/keys"]);
    let out = world.run().ok();
    assert!(!out.starts_with("secret") && !out.starts_with("not null"), "{out}");
    assert_eq!(mount_at(&out, "/secret").root, "/null");
}

#[test]
fn a_working_directory_through_a_descriptor_is_refused() {
    // CVE-2024-21626
    for number in 3..20 {
        let mut world = World::running(&["sh", "-c", "ls ../../.."]);
        *world.at("/process/cwd") = json!(format!("/proc/self/fd/{number}"));
        let ran = world.run();
        // a descriptor of the container's own root is no way out
        assert!(!ran.status.success() || ran.out == "bin\ndev\netc\nproc\nsys\n", "fd {number}: {ran:?}");
        world.assert_clean();
    }
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let ran = world.call(&["exec", "--cwd", &cwd, &world.id, "ls", "../../.."]);
        assert!(!ran.status.success() || ran.out == "bin\ndev\netc\nproc\nsys\n", "fd {number}: {ran:?}");
    }
}

#[test]
fn no_descriptor_of_ours_reaches_the_program_or_a_hook() {
    only!(Who::Us, Who::Crun; "Debian's runc leaves descriptors open for createContainer");
    // CVE-2016-9962, CVE-2024-21626
    let mut world = World::running(&["sh", "-c", "ls /proc/self/fd"]);
    let hook = |name: &str| {
        let log = world.path(name);
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("ls /proc/self/fd > {}; cat >/dev/null", log.display())]}])
    };
    let mut hooks = json!({});
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[point] = hook(point);
    }
    *world.at("/hooks") = hooks;
    let out = world.run().ok();
    // the fourth is that of ls itself
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let seen = fs::read_to_string(world.path(point)).unwrap_or_else(|_| panic!("{point} has not run"));
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{point}");
    }
    world.config.as_object_mut().unwrap().remove("hooks");
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    let seen = world.exec(&["ls", "/proc/self/fd"]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_waiting_init_shows_no_way_to_the_host() {
    needs_root!("a look at a process that is closed");
    // CVE-2016-9962: what a process of the container sees of one that is on its way in
    only!(Who::Us; "about our own init");
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    let pid = world.pid();
    let root = fs::metadata(world.rootfs("")).unwrap();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(target) = fs::metadata(&path) else { continue };
        // the container's own root at most, and the empty directory that lies on masked ones
        let own = (target.dev(), target.ino()) == (root.dev(), root.ino());
        let own = own || (target.is_dir() && fs::read_dir(&path).unwrap().count() == 0);
        assert!(own || !target.is_dir(), "{path:?} -> {:?}", fs::read_link(&path));
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
}

#[test]
fn our_own_binary_cannot_be_written_from_inside() {
    needs_root!("a look at a process that is closed");
    // CVE-2019-5736: the program is an interpreter line that makes the runtime run itself again, and a library of the
    // root, or a second process, then opens /proc/PID/exe for writing
    only!(Who::Us; "it could overwrite the peer's binary");
    let own = runtime();
    let before = fs::read(&own).unwrap();
    let mut world = World::running(&["/evil"]);
    *world.at("/root/readonly") = json!(false);
    capable(&mut world);
    fs::write(world.rootfs("evil"), "#!/proc/self/exe\n").unwrap();
    finish(Command::new("chmod").arg("755").arg(world.rootfs("evil"))).ok();
    let _ = world.run();
    // the binary of a waiting init, from the side
    world.config["process"]["args"] = json!(["sleep", "1000"]);
    world.create().ok();
    let pid = world.pid();
    let exe = format!("/proc/{pid}/exe");
    fs::OpenOptions::new().write(true).open(&exe).expect_err("init's binary can be written");
    // and not for the moment only, as a file that is being run: by its mount, or as a sealed copy
    let flags = rustix::fs::statvfs(&exe).unwrap().f_flag;
    let sealed = fs::read_link(&exe).unwrap().to_string_lossy().starts_with("/memfd:coracle");
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) || sealed, "{flags:?}");
    // and it is not for want of luck: exec goes through the same, many times
    world.call(&["start", &world.id]).ok();
    for _ in 0..20 {
        let _ = world.exec(&["/evil"]);
        let _ = world.exec(&["sh", "-c", "for p in /proc/[0-9]*; do echo x 2>/dev/null >>$p/exe; done"]);
    }
    assert!(fs::read(&own).unwrap() == before, "our binary has changed");
}

#[test]
fn the_hosts_mounts_are_the_same_before_and_after() {
    let mine = |text: &str, world: &World| {
        let here = world.path("").display().to_string();
        text.lines()
            .filter(|line| line.contains(&here) || line.contains(" / / "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut world = World::running(&["sleep", "1000"]);
    let read = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mine(&read(), &world);
    fs::create_dir(world.path("source")).unwrap();
    *world.at("/root/readonly") = json!(false);
    world.mount(
        json!({"destination": "/a", "type": "none", "source": world.path("source"), "options": ["rbind", "rshared"]}),
    );
    world.begin();
    assert_eq!(mine(&read(), &world), before);
    world.exec(&["true"]).ok();
    world.call(&["delete", "--force", &world.id]).ok();
    assert_eq!(mine(&read(), &world), before);
}

#[test]
fn nothing_of_the_hosts_root_is_reachable() {
    let script = "ls -a /.. ; ls -a /proc/1/root/../..; ls -a /proc/self/cwd/..; cat /marker 2>&1; \
                  mount | grep -c pivot; readlink /proc/1/cwd";
    for flag in [None, Some("--no-pivot")] {
        let mut world = World::running(&["sh", "-c", script]);
        capable(&mut world);
        world.write();
        let mut args = vec!["run"];
        args.extend(flag);
        args.push(&world.id);
        let out = world.call(&args).out;
        assert!(!out.contains("coracle-it-") && !out.contains("home") && !out.contains("boot"), "{out}");
        assert!(out.contains("can't open '/marker'"), "{out}");
    }
}

/// Exchanges two names of a directory as fast as it can.
struct Racer(Arc<AtomicBool>, Option<std::thread::JoinHandle<u64>>);

impl Racer {
    fn between(one: PathBuf, other: PathBuf) -> Racer {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags).unwrap();
                count += 1;
            }
            count
        });
        Racer(stop, Some(thread))
    }

    fn stop(mut self) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap()
    }
}

#[test]
fn a_destination_that_is_exchanged_with_a_link_never_leads_out() {
    only!(Who::Us; "Debian's runc makes directories on the host");
    // CVE-2021-30465, CVE-2024-45310
    let mut world = World::running(&["sh", "-c", "cat /proc/self/mountinfo"]);
    *world.at("/root/readonly") = json!(false);
    let victim = victim(&world);
    let before = listing(&victim);
    fs::create_dir_all(world.rootfs("race/a/deep")).unwrap();
    symlink(&victim, world.rootfs("race/b")).unwrap();
    let outside = Path::new("../../../../../../../../../../../..").join(victim.strip_prefix("/").unwrap());
    symlink(&outside, world.rootfs("race/c")).unwrap();
    fs::write(world.path("file"), "").unwrap();
    world.mount(json!({"destination": "/race/a", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    world.mount(json!({"destination": "/race/a/deep/er", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    world.mount(
        json!({"destination": "/race/c/made/file", "type": "none", "source": world.path("file"), "options": ["bind"]}),
    );
    if root() {
        *world.at("/linux/devices") =
            json!([{"path": "/race/b/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    }
    *world.at("/linux/maskedPaths") = json!(["/race/a/deep", "/race/b"]);
    *world.at("/linux/readonlyPaths") = json!(["/race/c"]);
    let racers = [
        Racer::between(world.rootfs("race/a"), world.rootfs("race/b")),
        Racer::between(world.rootfs("race/b"), world.rootfs("race/c")),
    ];
    let here = victim.display().to_string();
    let (mut went_well, mut last_words) = (0, String::new());
    for _ in 0..60 {
        let ran = world.run();
        went_well += i32::from(ran.status.success());
        last_words.clone_from(&ran.err);
        // whatever it was led to was made inside: the root of every mount is the root's, a tmpfs's, or a device's
        for line in ran.out.lines().filter(|line| line.contains("/victim")) {
            let root = line.split(' ').nth(3).unwrap();
            assert!(!root.starts_with(&here), "the host's directory is mounted: {line}");
        }
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(&here), "mounted on the host: {host}");
        assert_eq!(listing(&victim), before);
    }
    let exchanged: u64 = racers.map(Racer::stop).iter().sum();
    assert!(exchanged > 1000, "{exchanged}");
    if who() == Who::Us {
        assert!(went_well > 0, "none of the containers has started: {last_words}");
    }
}
