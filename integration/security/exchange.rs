//! Names that are exchanged with links to the host while the runtime works: CVE-2021-30465, CVE-2024-45310,
//! CVE-2025-31133, CVE-2025-52565. A second process shares the root, and exchanges a directory or file with a link by
//! renameat2(2), as fast as it can. Each kind of step runs many times meanwhile. The attack succeeds on Debian's runc
//! 1.1.5 and crun 1.8.1, which make nodes and links on the host (`nodes_and_links`), and on `naive` of attacker.c,
//! which checks a path and then uses it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::json;

use super::{Victim, attacker};
use crate::ordinary::root;
use crate::world::{Outcome, Who, World, finish};
use crate::{needs, needs_root, only};

/// The number of tries for each kind of step.
const ROUNDS: u32 = 20;

/// Exchanges pairs of names until it is stopped.
pub struct Racer(Child, BufReader<ChildStdout>);

impl Racer {
    pub fn between(pairs: &[(PathBuf, PathBuf)]) -> Racer {
        let mut command = Command::new(attacker().unwrap());
        command.arg("exchange").args(pairs.iter().flat_map(|(a, b)| [a, b]));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Racer(child, out)
    }

    /// Stops it. Returns the number of exchanges.
    pub fn stop(mut self) -> u64 {
        drop(self.0.stdin.take());
        let mut count = String::new();
        self.1.read_to_string(&mut count).unwrap();
        self.0.wait().unwrap();
        count.trim().parse().unwrap()
    }
}

/// A writable root with /race/a, and beside it /race/b, which is a link to the host.
fn racing(script: &str) -> (World, Victim, Vec<(PathBuf, PathBuf)>) {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    let victim = Victim::of(&world);
    fs::create_dir_all(world.rootfs("race/a/deep")).unwrap();
    fs::write(world.rootfs("race/a/file"), "the container's\n").unwrap();
    symlink(&victim.path, world.rootfs("race/b")).unwrap();
    let pairs = vec![(world.rootfs("race/a"), world.rootfs("race/b"))];
    (world, victim, pairs)
}

/// Asserts that the victim's files are not changed, not mounted and not shown.
#[track_caller]
fn harmless(world: &World, victim: &Victim, ran: &Outcome) {
    let here = victim.path.display().to_string();
    for line in ran.out.lines().filter(|line| line.contains(" - ")) {
        // The mount was made inside: no mount has the victim as its root.
        let root = line.split(' ').nth(3).unwrap_or_default();
        assert!(!root.ends_with("/victim") && !root.contains("/victim/"), "the host's directory is mounted: {line}");
    }
    assert!(!ran.out.contains("the host's"), "a file of the host is shown: {}", ran.out);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(&here), "mounted on the host: {host}");
    victim.assert_unharmed();
    assert!(world.path("victim").is_dir());
}

/// Runs the world's container many times while the racer runs.
#[track_caller]
fn race(world: &World, victim: &Victim, pairs: &[(PathBuf, PathBuf)], mut run: impl FnMut() -> Outcome) {
    world.write();
    let racer = Racer::between(pairs);
    for _ in 0..ROUNDS {
        harmless(world, victim, &run());
    }
    let exchanged = racer.stop();
    assert!(exchanged > 1000, "exchanged {exchanged} times only");
}

#[test]
fn the_racer_gets_through_where_a_path_is_checked_and_then_used() {
    needs!(attacker().is_some(), "no C compiler");
    let (world, victim, pairs) = racing("true");
    let racer = Racer::between(&pairs);
    let naive = |rounds: &str| {
        let mut command = Command::new(attacker().unwrap());
        finish(command.args(["naive", rounds]).arg(&pairs[0].0).arg(&victim.path))
    };
    assert_eq!(naive("1000000").ok(), "outside\n");
    racer.stop();
    assert_eq!(naive("10").code(), 1, "without the racer it is not seen");
    drop(world);
}

#[test]
fn the_place_of_a_mount() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, mut pairs) = racing("cat /proc/self/mountinfo");
    let outside = Path::new("../../../../../../../../../../../..").join(victim.path.strip_prefix("/").unwrap());
    symlink(&outside, world.rootfs("race/c")).unwrap();
    fs::create_dir(world.rootfs("race/d")).unwrap();
    pairs.push((world.rootfs("race/c"), world.rootfs("race/d")));
    fs::write(world.path("file"), "").unwrap();
    let tmpfs = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]});
    world.mount(tmpfs("/race/a"));
    world.mount(tmpfs("/race/a/made/for/it"));
    world.mount(
        json!({"destination": "/race/c/made/file", "type": "none", "source": world.path("file"), "options": ["bind"]}),
    );
    world.mount(
        json!({"destination": "/race/d", "type": "none", "source": world.path("bundle"), "options": ["rbind", "ro"]}),
    );
    race(&world, &victim, &pairs, || world.run());
}

#[test]
fn proc_sys_and_what_lies_in_dev() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, _) = racing("cat /proc/self/mountinfo");
    let mut pairs = Vec::new();
    for name in ["proc", "sys", "dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir_all(world.rootfs(name)).unwrap();
        let link = world.rootfs(&format!("race/{}", name.replace('/', "-")));
        symlink(&victim.path, &link).unwrap();
        pairs.push((world.rootfs(name), link));
    }
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    race(&world, &victim, &pairs, || world.run());
}

#[test]
fn nodes_and_links() {
    only!(Who::Us; "Debian's runc and crun make nodes on the host");
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("nodes of its own");
    let (mut world, victim, mut pairs) = racing("cat /proc/self/mountinfo");
    fs::create_dir_all(world.rootfs("dev/deep")).unwrap();
    symlink(&victim.path, world.rootfs("race/dev")).unwrap();
    pairs.push((world.rootfs("dev"), world.rootfs("race/dev")));
    world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    *world.at("/linux/devices") = json!([
        {"path": "/race/a/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 5, "gid": 5},
        {"path": "/dev/deep/er/node", "type": "b", "major": 7, "minor": 0},
        {"path": "/race/a/fifo", "type": "p"},
    ]);
    race(&world, &victim, &pairs, || world.run());
}

#[test]
fn masks_and_read_only_paths() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, mut pairs) = racing("cat /proc/self/mountinfo");
    fs::write(world.rootfs("race/file"), "the container's\n").unwrap();
    symlink(victim.path.join("file"), world.rootfs("race/link")).unwrap();
    pairs.push((world.rootfs("race/file"), world.rootfs("race/link")));
    *world.at("/linux/maskedPaths") = json!(["/race/a/deep", "/race/b", "/race/file"]);
    *world.at("/linux/readonlyPaths") = json!(["/race/a", "/race/b/deep", "/race/link"]);
    race(&world, &victim, &pairs, || world.run());
}

#[test]
fn what_tmpcopyup_copies() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, pairs) = racing("cat /proc/self/mountinfo; cat /race/*/file /race/*/deep/* /tmp/*/*/file");
    let options = ["size=1m", "tmpcopyup"];
    world.mount(json!({"destination": "/race/a", "type": "tmpfs", "source": "tmpfs", "options": options}));
    world.mount(json!({"destination": "/race/a/deep", "type": "tmpfs", "source": "tmpfs", "options": options}));
    race(&world, &victim, &pairs, || world.run());
}

/// A user who may write the directory exchanges root's set-user-ID program with another file: each copy has the mode and the
/// content of one file.
#[test]
fn what_tmpcopyup_copies_has_the_mode_of_its_content() {
    needs!(attacker().is_some(), "no C compiler");
    let script = "cd /race/v && for f in *; do echo $(stat -c %a $f) $(cat $f); done";
    let (mut world, victim, _) = racing(script);
    let options = ["size=8m", "tmpcopyup"];
    world.mount(json!({"destination": "/race/v", "type": "tmpfs", "source": "tmpfs", "options": options}));
    fs::create_dir(world.rootfs("race/v")).unwrap();
    let file = |name: String, mode: u32| {
        let path = world.rootfs("race/v").join(name);
        fs::write(&path, format!("{mode:o}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let pairs: Vec<_> = (0..200).map(|n| (file(format!("a{n}"), 0o4755), file(format!("b{n}"), 0o644))).collect();
    race(&world, &victim, &pairs, || {
        let ran = world.run();
        let lines: Vec<_> = ran.out.lines().collect();
        assert_eq!(lines.len(), 400, "{}", ran.err);
        let mixed: Vec<_> = lines.iter().filter(|line| !["4755 4755", "644 644"].contains(line)).collect();
        assert!(mixed.is_empty(), "mode and content: {mixed:?}");
        ran
    });
}

#[test]
fn the_working_directory() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, pairs) = racing("cat file ../file ../../file; cat /proc/self/mountinfo");
    *world.at("/process/cwd") = json!("/race/a/made/cwd");
    race(&world, &victim, &pairs, || world.run());
    *world.at("/process/cwd") = json!("/race/a");
    race(&world, &victim, &pairs, || world.run());
}

#[test]
fn ptmx_and_the_console() {
    needs!(attacker().is_some(), "no C compiler");
    needs!(root(), "needs root: /dev is the root's own");
    let (mut world, victim, _) = racing("cat /proc/self/mountinfo");
    let mut pairs = Vec::new();
    fs::create_dir_all(world.rootfs("dev/pts")).unwrap();
    for name in ["ptmx", "console", "null", "tty"] {
        fs::write(world.rootfs("dev").join(name), "").unwrap();
        let link = world.rootfs("race").join(name);
        symlink(victim.path.join("file"), &link).unwrap();
        // These must be nodes, and stay as they are.
        if ["ptmx", "console"].contains(&name) {
            pairs.push((world.rootfs("dev").join(name), link));
        } else {
            fs::remove_file(world.rootfs("dev").join(name)).unwrap();
        }
    }
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    *world.at("/process/terminal") = json!(true);
    let socket = world.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    race(&world, &victim, &pairs, || {
        let created = world.call(&["create", "--console-socket", socket.to_str().unwrap(), &world.id]);
        if created.status.success() {
            drop(listener.accept().unwrap());
            world.call(&["delete", "--force", &world.id]).ok();
        }
        created
    });
}

#[test]
fn the_steps_of_exec() {
    needs!(attacker().is_some(), "no C compiler");
    let (mut world, victim, mut pairs) = racing("sleep 1000");
    *world.at("/process/args") = json!(["sleep", "1000"]);
    fs::write(world.rootfs("etc/passwd"), "root:x:0:0::/inside:/bin/sh\n").unwrap();
    symlink(victim.path.join("passwd"), world.rootfs("race/passwd")).unwrap();
    pairs.push((world.rootfs("etc/passwd"), world.rootfs("race/passwd")));
    fs::create_dir(world.rootfs("tools")).unwrap();
    symlink("/bin/busybox", world.rootfs("tools/cat")).unwrap();
    symlink(&victim.path, world.rootfs("race/tools")).unwrap();
    pairs.push((world.rootfs("tools"), world.rootfs("race/tools")));
    world.begin();
    let script = "echo $HOME; cat file ../file; cat /proc/self/mountinfo";
    let mut shown = 0;
    race(&world, &victim, &pairs, || {
        let args = ["exec", "--cwd", "/race/a", "--env", "PATH=/tools:/bin", &world.id, "sh", "-c", script];
        let ran = world.call(&args);
        shown += u32::from(ran.status.success());
        ran
    });
    assert!(shown > 0, "no exec has worked");
}
