//! Without root: an ordinary user of this host calls the built binary.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::mountinfo::{HostMount, LOOP, missing, mount_at, tmpfs};
use crate::ordinary::{group, root};
use crate::roots::{LOOK, Seal, aside, erofs, overlay_without_upper, squashfs};
use crate::world::{Outcome, Who, World, finish, runtime, skip, test_name, wait_until, who};
use crate::{needs, only};

/// An ordinary user's uid and gid. If the tests do not run as root, their own.
pub fn user() -> u32 {
    if root() { 4321 } else { rustix::process::getuid().as_raw() }
}

/// A world that belongs to an ordinary user, with a copy of the runtime that this user can reach.
pub struct Own {
    pub world: World,
    program: PathBuf,
    user: u32,
}

impl Own {
    pub fn running(args: &[&str]) -> Own {
        Own::by_user(user(), args)
    }

    fn by_user(user: u32, args: &[&str]) -> Own {
        let mut world = World::running(args);
        world.for_one_user(user);
        let linux = world.config["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
        let mounts = world.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        for directory in ["state", "run"] {
            fs::create_dir_all(world.path(directory)).unwrap();
        }
        let program = world.path(runtime().file_name().unwrap().to_str().unwrap());
        // cp is another process: otherwise an exec could fail with ETXTBSY.
        assert!(Command::new("cp").arg(runtime()).arg(&program).status().unwrap().success());
        finish(Command::new("chown").arg("-hR").arg(format!("{user}:{user}")).arg(world.path(""))).ok();
        Own { world, program, user }
    }

    /// A command of the user, with the user's environment.
    fn by(&self, program: &Path) -> Command {
        let mut command = Command::new(if root() { Path::new("/usr/bin/setpriv") } else { program });
        if root() {
            let ids = [format!("--reuid={}", self.user), format!("--regid={}", self.user)];
            command.args(ids).args(["--clear-groups", "--inh-caps=-all"]).arg(program);
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("XDG_RUNTIME_DIR", self.world.path("run"));
        command.current_dir(self.world.bundle());
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.by(&self.program);
        command.arg("--root").arg(self.world.path("state")).args(args);
        command
    }

    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        finish(&mut self.command(args))
    }

    #[track_caller]
    fn run(&self) -> Outcome {
        self.world.write();
        self.call(&["run", &self.world.id])
    }

    #[track_caller]
    fn create(&self) -> Outcome {
        self.world.write();
        self.call(&["create", &self.world.id])
    }

    #[track_caller]
    fn begin(&self) {
        self.create().ok();
        self.call(&["start", &self.world.id]).ok();
    }

    #[track_caller]
    fn exec(&self, args: &[&str]) -> Outcome {
        self.call(&[&["exec", &self.world.id], args].concat())
    }

    #[track_caller]
    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.call(&["state", &self.world.id]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_life_from_create_to_delete() {
    let own = Own::running(&["sleep", "1000"]);
    own.create().ok();
    assert_eq!(own.status(), "created");
    own.call(&["start", &own.world.id]).ok();
    assert_eq!(own.status(), "running");
    let seen = own.exec(&["sh", "-c", "id -u; id -g; hostname; cat /proc/self/uid_map; touch /dev/shm/x"]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "0", "coracle", "0", &user().to_string(), "1"]);
    // Groups can take rights away. So a user who maps only the own id may not drop them (CVE-2014-8989).
    assert_eq!(own.exec(&["cat", "/proc/self/setgroups"]).ok(), "deny\n");
    assert!(own.exec(&["true"]).status.success());
    assert_eq!(own.exec(&["sh", "-c", "exit 7"]).code(), 7);
    assert!(own.call(&["list"]).ok().contains(&own.world.id));
    own.call(&["kill", &own.world.id, "KILL"]).ok();
    wait_until("it has stopped", || own.status() == "stopped");
    own.call(&["delete", &own.world.id]).ok();
    own.world.assert_clean();
}

#[test]
fn its_files_belong_to_the_user_on_the_host() {
    let mut own = Own::running(&["sh", "-c", "id -u > /made; stat -c %u:%g /dev/pts /dev/shm /dev/mqueue /dev /made"]);
    *own.world.at("/root/readonly") = json!(false);
    assert_eq!(own.run().ok().split_whitespace().collect::<Vec<_>>(), ["0:0"; 5]);
    use std::os::unix::fs::MetadataExt;
    let made = fs::metadata(own.world.rootfs("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (user(), user()));
}

#[test]
fn devices_are_the_hosts_and_masks_hold() {
    let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 1 /dev/urandom | wc -c
        cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/domainname || echo no";
    let seen = Own::running(&["sh", "-c", script]).run();
    assert_eq!(seen.out.split_whitespace().collect::<Vec<_>>(), ["3", "1", "0", "0", "no"], "{}", seen.err);
}

#[test]
fn the_bundle_of_spec_rootless_runs_unchanged() {
    let own = Own::running(&[]);
    own.call(&["spec", "--rootless"]).ok();
    let path = own.world.bundle().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // Without the terminal, because no process receives it here.
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["id", "-u"]);
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(own.call(&["run", &own.world.id]).ok(), "0\n");
}

#[test]
fn without_a_cgroup_the_processes_are_known_by_their_namespace_and_pause_is_refused() {
    needs!(root() || group().is_none(), "there is a cgroup for her here");
    only!(Who::Us; "the peers know processes by cgroups alone");
    let own = Own::running(&["sh", "-c", "sleep 555; true"]);
    own.create().ok();
    let pids = || -> Vec<i32> { serde_json::from_str(&own.call(&["ps", "-f", "json", &own.world.id]).ok()).unwrap() };
    assert_eq!(pids().len(), 1);
    own.call(&["start", &own.world.id]).ok();
    wait_until("both are seen", || pids().len() == 2);
    let said = own.call(&["pause", &own.world.id]).fails();
    assert!(said.contains("this container has no cgroup with a freezer"), "{said}");
    own.call(&["kill", &own.world.id, "KILL"]).ok();
    wait_until("it has stopped", || own.status() == "stopped");
    assert_eq!(pids(), [0; 0]);
}

#[test]
fn mounts_that_show_the_hosts_namespaces_belong_to_the_host() {
    only!(Who::Us; "the peers want the bind mounts to be asked for");
    let script = "grep -c ' /proc \\| /sys ' /proc/self/mountinfo; readlink /proc/self/ns/pid; ls /sys/class | wc -l";
    let mut own = Own::running(&["sh", "-c", script]);
    own.world.without_namespace("pid");
    let mounts = own.world.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys" && mount["destination"] != "/dev/mqueue");
    mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}));
    let seen = own.run().ok();
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[1], fs::read_link("/proc/self/ns/pid").unwrap().to_str().unwrap(), "{seen}");
    assert!(lines[0].parse::<u32>().unwrap() >= 2 && lines[2].parse::<u32>().unwrap() > 5, "{seen}");
}

#[test]
fn clocks_are_shifted() {
    only!(Who::Us; "Debian's runc and crun are older than time namespaces in the spec");
    let mut own = Own::running(&["cat", "/proc/uptime"]);
    own.world.namespace("time", None);
    *own.world.at("/linux/timeOffsets") = json!({"boottime": {"secs": 7_000_000}});
    let seen = own.run().ok();
    assert!(seen.split('.').next().unwrap().parse::<u64>().unwrap() > 7_000_000, "{seen}");
}

#[test]
fn devices_parameters_and_cpus_are_as_requested() {
    only!(Who::Us; "the peers know no execCPUAffinity, and their words are others");
    let script = "stat -c '%F %t:%T' /dev/kmsg /dev/pipe; cat /proc/sys/net/ipv4/ip_unprivileged_port_start \
        /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max; sleep 1000; true";
    let mut own = Own::running(&["sh", "-c", &format!("{{ {script}; }} >/dev/shm/seen")]);
    own.world.namespace("network", None);
    *own.world.at("/linux/sysctl") =
        json!({"net.ipv4.ip_unprivileged_port_start": "81", "kernel.shmmni": "77", "fs.mqueue.msg_max": "12"});
    *own.world.at("/linux/devices") = json!([
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
        {"path": "/dev/pipe", "type": "p"},
    ]);
    *own.world.at("/process/execCPUAffinity") = json!({"initial": "0", "final": "0"});
    own.begin();
    let seen = || own.exec(&["cat", "/dev/shm/seen"]).out;
    wait_until("it has looked", || seen().lines().count() == 5);
    assert_eq!(seen(), "character special file 1:b\nfifo 0:0\n81\n77\n12\n");
    assert_eq!(own.exec(&["grep", "Cpus_allowed_list", "/proc/self/status"]).ok(), "Cpus_allowed_list:\t0\n");
    own.call(&["delete", "--force", &own.world.id]).ok();
    let null_at = |path: &str| json!([{"path": path, "type": "c", "major": 1, "minor": 3}]);
    let (bound, why) = ("linux.devices[0]: bind the host's", "where no node can be made");
    for (pointer, value, words) in [
        ("/linux/sysctl", json!({"kernel.panic": "1"}), "linux.sysctl.kernel.panic: sysctl \"kernel.panic\" is not in"),
        ("/linux/sysctl", json!({"net.core.somaxconn": "many"}), "linux.sysctl.net.core.somaxconn: write "),
        ("/linux/devices", null_at("/dev/full"), &format!("{bound} /dev/full, {why}: it is another device (ENODEV)")),
        (
            "/linux/devices",
            null_at("/dev/nope"),
            &format!("{bound} /dev/nope, {why}: no such file or directory (ENOENT)"),
        ),
        ("/process/execCPUAffinity", json!({"initial": "0-"}), "process.execCPUAffinity.initial: "),
    ] {
        let before = std::mem::replace(own.world.at(pointer), value);
        let said = own.run().fails();
        assert!(said.contains(words), "{said}");
        own.world.assert_clean();
        *own.world.at(pointer) = before;
    }
}

#[test]
fn a_root_that_is_mounted_read_only() {
    needs!(root(), "mounts on the host");
    let kinds = [("squashfs", "mksquashfs", LOOP), ("erofs", "mkfs.erofs", LOOP), ("overlay", "mount", "/")];
    for ((fstype, program, device), seal) in kinds.into_iter().zip([squashfs as Seal, erofs, overlay_without_upper]) {
        if let Some(why) = missing(fstype, program, device) {
            skip(&format!("{} ({fstype})", test_name()), &why);
            continue;
        }
        let mut own = Own::running(&LOOK);
        let (from, rootfs) = aside(&own.world);
        for directory in ["proc", "dev", "sys"] {
            fs::create_dir(from.join(directory)).unwrap();
        }
        let _root = seal(&own.world, &from, &rootfs);
        let seen = own.run().ok();
        assert_eq!(mount_at(&seen, "/").fstype, fstype, "{seen}");
        assert!(seen.contains("Read-only file system"), "{seen}");
        own.world.mount(tmpfs("/new", &[]));
        let said = own.run().fails();
        let missing =
            "mount tmpfs on /new: the mount point is missing, and cannot be made: read-only file system (EROFS)";
        assert!(who() != Who::Us || said.contains(missing), "{said}");
    }
}

#[test]
fn more_keyrings_than_a_user_may_have() {
    needs!(root(), "a user of its own, with all her keys used up");
    only!(Who::Us; "the peers say the kernel's word alone");
    needs!(cfg!(target_arch = "x86_64"), "the numbers of its calls");
    let own = Own::by_user(4322, &["sleep", "1000"]);
    // keyctl(2) KEYCTL_JOIN_SESSION_KEYRING, and add_key(2) until it fails with EDQUOT.
    let hoard = r#"my ($ring, $kind, $name, $value) = ("ring", "user", "", "x");
        syscall(250, 1, $ring) > 0 or die "keyctl: $!";
        my $n = 0;
        do { $name = "key" . $n++ } while syscall(248, $kind, $name, $value, 1, -3) > 0;
        $!{EDQUOT} or die "add_key: $!";
        exec @ARGV;"#;
    own.world.write();
    // exec joins the existing keyring.
    let each = r#"id=$1; shift
        "$@" run "$id" && exit 1
        "$@" run --detach --no-new-keyring "$id" >/dev/null && "$@" exec "$id" echo none && "$@" delete --force "$id" || exit 2
        exec "$@" exec "$id-before" echo joined"#;
    let before = format!("{}-before", own.world.id);
    own.call(&["create", &before]).ok();
    own.call(&["start", &before]).ok();
    let mut command = own.by(Path::new("/usr/bin/perl"));
    command.args(["-e", hoard, "/bin/sh", "-c", each, "-", &own.world.id]).arg(&own.program);
    let ran = finish(command.arg("--root").arg(own.world.path("state")));
    let words =
        "too many keyrings: raise the sysctls kernel.keys.maxkeys and maxbytes, or use --no-new-keyring (EDQUOT)";
    assert!(ran.err.contains(words), "{ran:?}");
    assert_eq!(ran.ok(), "none\njoined\n");
    own.call(&["delete", "--force", &before]).ok();
}

#[test]
fn a_container_that_is_not_started_is_closed_to_exec() {
    only!(Who::Us; "this is ours");
    let own = Own::running(&["sleep", "1000"]);
    own.create().ok();
    let said = own.exec(&["true"]).fails();
    assert!(said.contains("cannot exec in a container that is not started: until then only root may look"), "{said}");
    own.call(&["start", &own.world.id]).ok();
    own.exec(&["true"]).ok();
}

#[test]
fn a_terminal_works() {
    only!(Who::Us; "crun wants a console socket here, and runc a terminal of its own");
    let mut own = Own::running(&["sh", "-c", "tty; stat -c %u /dev/console"]);
    *own.world.at("/process/terminal") = json!(true);
    assert_eq!(own.run().ok().split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "0"]);
}

#[test]
fn a_bind_mount_of_what_only_the_user_reaches() {
    let mut own = Own::running(&["sh", "-c", "cat /data/file; touch /data/x 2>/dev/null || echo closed"]);
    let secret = own.world.path("secret");
    fs::create_dir_all(secret.join("inner")).unwrap();
    fs::write(secret.join("inner/file"), "hers\n").unwrap();
    for path in [secret.clone(), secret.join("inner"), secret.join("inner/file")] {
        chown(path, Some(user()), Some(user())).unwrap();
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    own.world.mount(json!({"destination": "/data", "type": "bind", "source": secret.join("inner"),
        "options": ["bind", "ro"]}));
    assert_eq!(own.run().ok(), "hers\nclosed\n");
}

#[test]
fn a_missing_user_namespace_is_a_mistake() {
    only!(Who::Us; "the peers have other words");
    let mut own = Own::running(&["true"]);
    own.world.without_namespace("user");
    own.world.config["linux"].as_object_mut().unwrap().remove("uidMappings");
    own.world.config["linux"].as_object_mut().unwrap().remove("gidMappings");
    let said = own.run().fails();
    assert!(said.contains("linux.namespaces: rootless container requires user namespaces"), "{said}");
}

#[test]
fn a_limit_that_cannot_be_set_is_reported_and_without_limits_there_is_no_cgroup() {
    needs!(root() || group().is_none(), "there is a cgroup for her here");
    only!(Who::Us, Who::Runc; "crun goes on without the limit");
    let mut own = Own::running(&["sleep", "1000"]);
    own.begin();
    own.call(&["delete", "--force", &own.world.id]).ok();
    for (pointer, value) in
        [("/linux/resources", json!({"pids": {"limit": 10}})), ("/linux/cgroupsPath", json!("/somewhere/else"))]
    {
        let mut own = Own::running(&["true"]);
        *own.world.at(pointer) = value;
        let said = own.run().fails();
        let words = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
        // runc 1.1 uses other words.
        let other = ["container could not join or create cgroup", "permission denied"];
        let other = who() == Who::Runc && other.iter().any(|other| said.contains(other));
        assert!(said.contains(words) || other, "{pointer}: {said}");
    }
    // For root, this is an error.
    *own.world.at("/linux/cgroupsPath") = Value::Null;
    own.world.write();
    if who() == Who::Us {
        let said = own.call(&["--rootless", "false", "run", &own.world.id]).fails();
        assert!(said.contains("linux.cgroupsPath: mkdir ") && said.contains("permission denied"), "{said}");
    }
}

#[test]
fn more_than_the_own_id_takes_a_grant() {
    needs!(root(), "about a user without a grant");
    only!(Who::Us; "the peers have other words");
    needs!(Path::new("/usr/bin/newuidmap").exists(), "newuidmap is not installed (package uidmap)");
    let mut own = Own::running(&["true"]);
    let maps =
        json!([{"containerID": 0, "hostID": user(), "size": 1}, {"containerID": 1, "hostID": 3_000_000, "size": 9}]);
    *own.world.at("/linux/uidMappings") = maps.clone();
    let said = own.run().fails();
    assert!(said.contains("linux.uidMappings: newuidmap: /etc/subuid has no range for 4321"), "{said}");
    own.world.write();
    let mut nowhere = own.command(&["run", &own.world.id]);
    nowhere.env("PATH", "/nowhere");
    let said = finish(&mut nowhere).fails();
    assert!(said.contains("newuidmap is not installed (package uidmap)"), "{said}");
}

/// The mount namespace is made after the maps are written. newuidmap waits here, so the new mount comes between the
/// plan and the namespace.
#[test]
fn no_pivot_refuses_a_proc_that_is_mounted_on_the_host_after_the_plan_was_made() {
    needs!(root(), "mounts on the host");
    only!(Who::Us; "the peers leave it where it is");
    let mut own = Own::running(&["true"]);
    let maps =
        json!([{"containerID": 0, "hostID": user(), "size": 1}, {"containerID": 1, "hostID": 3_000_000, "size": 9}]);
    *own.world.at("/linux/uidMappings") = maps;
    own.world.write();
    let (asked, go) = (own.world.path("run/asked"), own.world.path("run/go"));
    let script = format!(
        "#!/bin/sh\necho $1 >{0}.new; mv {0}.new {0}\nuntil test -e {1}; do sleep 0.01; done\n",
        asked.display(),
        go.display()
    );
    let helper = own.world.path("newuidmap");
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", own.world.path("").display());
    let mut command = own.command(&["run", "--no-pivot", &own.world.id]);
    command.env("PATH", path);
    let running = std::thread::spawn(move || finish(&mut command));
    wait_until("newuidmap is run", || asked.exists());
    let pid = fs::read_to_string(&asked).unwrap();
    let late = HostMount::of(&["-t", "proc", "proc"], &own.world.path("late"));
    fs::write(format!("/proc/{}/uid_map", pid.trim()), format!("0 {} 1\n1 3000000 9\n", user())).unwrap();
    fs::write(go, "").unwrap();
    let said = running.join().unwrap().fails();
    assert!(said.contains("--no-pivot: the host's mounts have changed, and "), "{said}");
    drop(late);
    own.world.assert_clean();
}

#[test]
fn granted_ids_are_mapped_and_others_are_reported() {
    needs!(root(), "makes up grants for a user, in a mount namespace");
    only!(Who::Us; "the peers have other words");
    needs!(Path::new("/usr/bin/newuidmap").exists(), "newuidmap is not installed (package uidmap)");
    let mut own = Own::running(&["cat", "/proc/self/uid_map", "/proc/self/gid_map"]);
    for (book, grants) in [("subuid", "3000000:9\n"), ("subgid", "4000000:5\n")] {
        fs::write(own.world.path(book), format!("{}:{grants}", user())).unwrap();
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(own.world.path("passwd"), format!("{users}mate:x:{0}:{0}::/:/bin/sh\n", user())).unwrap();
    let mut granted = |uids: [u32; 2], gids: [u32; 2]| {
        for (pointer, [first, size]) in [("/linux/uidMappings", uids), ("/linux/gidMappings", gids)] {
            *own.world.at(pointer) = json!([
                {"containerID": 0, "hostID": user(), "size": 1},
                {"containerID": 1, "hostID": first, "size": size},
            ]);
        }
        own.world.write();
        let script =
            r#"for book in passwd subuid subgid; do mount --bind "$1/$book" "/etc/$book"; done; shift; exec "$@""#;
        let run = own.command(&["run", &own.world.id]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, "-"]).arg(own.world.path(""));
        command.arg(run.get_program()).args(run.get_args()).current_dir(own.world.bundle());
        finish(command.env("XDG_RUNTIME_DIR", own.world.path("run")))
    };
    let maps = granted([3_000_000, 9], [4_000_000, 5]).ok();
    assert_eq!(maps.split_whitespace().skip(3).take(3).collect::<Vec<_>>(), ["1", "3000000", "9"], "{maps}");
    assert_eq!(maps.split_whitespace().skip(9).collect::<Vec<_>>(), ["1", "4000000", "5"], "{maps}");
    let beyond = |file: &str, had: &str| format!("is more than {file} has for mate or {}: {had}", user());
    let said = granted([3_000_000, 10], [4_000_000, 5]).fails();
    let wanted = format!("linux.uidMappings: newuidmap: 3000000:10 {}", beyond("/etc/subuid", "3000000:9"));
    assert!(said.contains(&wanted), "{said}");
    let said = granted([3_000_000, 9], [3_999_999, 5]).fails();
    let wanted = format!("linux.gidMappings: newgidmap: 3999999:5 {}", beyond("/etc/subgid", "4000000:5"));
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn all_properties_that_need_root_are_reported_together() {
    only!(Who::Us; "the peers have other words");
    let mut own = Own::running(&["true"]);
    own.world.namespace("network", None);
    *own.world.at("/ociVersion") = json!("1.3.0");
    *own.world.at("/linux/netDevices") = json!({"eth0": {}});
    let map = json!([{"containerID": 0, "hostID": user(), "size": 1}]);
    let n = own.world.config["mounts"].as_array().unwrap().len();
    own.world.mount(json!({"destination": "/data", "type": "bind", "source": "/usr", "options": ["bind"],
        "uidMappings": map, "gidMappings": map}));
    own.world.mount(
        json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "uidMappings": map, "gidMappings": map}),
    );
    *own.world.at("/process/user/uid") = json!(5);
    let said = own.run().fails();
    for mistake in [
        "linux.netDevices: needs root: a device of the host is moved".to_owned(),
        format!("mounts[{n}]: only root can map the ids of a mount"),
        format!("mounts[{}]: only root can map the ids of a mount", n + 1),
        "process.user.uid: 5 is not mapped in linux.uidMappings".to_owned(),
    ] {
        assert!(said.contains(&mistake), "{said}");
    }
    own.world.assert_clean();
    // A new file system has the container's ids, with the option and without.
    let mut own = Own::running(&["stat", "-c", "%u", "/new"]);
    own.world.mount(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"]}));
    *own.world.at("/root/readonly") = json!(false);
    assert_eq!(own.run().ok(), "0\n");
}

#[test]
fn a_missing_program_and_a_missing_source_are_reported() {
    let own = Own::running(&["nosuch"]);
    let outcome = own.run();
    assert!(outcome.fails().contains("nosuch"));
    let mut own = Own::running(&["true"]);
    own.world.mount(json!({"destination": "/data", "type": "bind", "source": "/nosuch", "options": ["bind"]}));
    let said = own.run().fails().to_lowercase();
    assert!(said.contains("nosuch") && said.contains("no such file"), "{said}");
    own.world.assert_clean();
}

#[test]
fn a_score_for_the_kernel_goes_up_and_not_down() {
    let mut own = Own::running(&["cat", "/proc/self/oom_score_adj"]);
    *own.world.at("/process/oomScoreAdj") = json!(321);
    assert_eq!(own.run().ok(), "321\n");
    if who() == Who::Us {
        *own.world.at("/process/oomScoreAdj") = json!(-500);
        // A process may lower its score to the lowest value that root has set for it or an ancestor (proc(5)). The
        // systemd of a guest has done so.
        let lower = "echo -500 2>&1 >/proc/self/oom_score_adj";
        if finish(own.by(Path::new("/bin/sh")).args(["-c", lower])).status.success() {
            assert_eq!(own.run().ok(), "-500\n");
            return;
        }
        let said = own.run().fails();
        assert!(said.contains("process.oomScoreAdj: write -500 to oom_score_adj: permission denied"), "{said}");
    }
}

#[test]
fn without_root_in_the_run_directory_and_with_the_users_own() {
    only!(Who::Us; "the name of the directory is ours");
    let own = Own::running(&["sleep", "1000"]);
    own.world.write();
    let mut command = own.by(&own.program);
    command.args(["run", "--detach", &own.world.id]).stdout(Stdio::null());
    finish(&mut command).ok();
    assert!(own.world.path("run").join("coracle").join(&own.world.id).join("state.json").exists());
    let mut command = own.by(&own.program);
    command.args(["delete", "--force", &own.world.id]);
    finish(&mut command).ok();
}

#[test]
fn a_run_directory_that_another_user_can_write_is_refused() {
    only!(Who::Us; "the name of the directory is ours");
    if !root() {
        return skip(&test_name(), "needs a second user");
    }
    let own = Own::running(&["true"]);
    let (run, coracle) = (own.world.path("run"), own.world.path("run/coracle"));
    let give = |path: &Path, user: u32, mode: &str| {
        finish(Command::new("chown").arg(format!("{user}:{user}")).arg(path)).ok();
        finish(Command::new("chmod").arg(mode).arg(path)).ok();
    };
    fs::create_dir(&coracle).unwrap();
    let list = || finish(own.by(&own.program).arg("list"));
    for (above, below, said) in [
        ((own.user, "700"), (own.user, "700"), ""),
        ((own.user, "700"), (own.user, "1700"), ""),
        ((0, "1777"), (own.user, "755"), ""),
        ((own.user, "755"), (0, "755"), "belongs to uid 0, and must belong to uid"),
        ((own.user, "755"), (5432, "1700"), "belongs to uid 5432, and must belong to uid"),
        ((5432, "1777"), (own.user, "700"), "belongs to uid 5432, and must belong to uid"),
        ((own.user, "700"), (own.user, "777"), "can be written by others (mode 777)"),
        ((own.user, "700"), (own.user, "1777"), "can be written by others (mode 1777)"),
        ((own.user, "700"), (own.user, "770"), "can be written by others (mode 770)"),
        ((0, "777"), (own.user, "700"), "can be written by others (mode 777)"),
    ] {
        give(&run, above.0, above.1);
        give(&coracle, below.0, below.1);
        let outcome = list();
        if said.is_empty() {
            outcome.ok();
        } else {
            let err = outcome.fails();
            assert!(err.contains(said) && err.contains("XDG_RUNTIME_DIR="), "{above:?} {below:?}: {err}");
        }
    }
    // A user who can rename a directory above.
    give(&run, own.user, "700");
    give(&coracle, own.user, "700");
    let top = own.world.path("run/..").canonicalize().unwrap();
    for (user, mode, said) in [
        (5432, "755", "belongs to uid 5432, and must belong to uid"),
        (own.user, "777", "can be written by others (mode 777)"),
        (own.user, "775", ""),
        (0, "1777", ""),
    ] {
        give(&top, user, mode);
        let outcome = list();
        if said.is_empty() { drop(outcome.ok()) } else { assert!(outcome.fails().contains(said), "{user} {mode}") }
    }
    give(&top, 0, "755");
    // A link may lead to a place that another user has chosen.
    give(&run, own.user, "700");
    fs::remove_dir(&coracle).unwrap();
    std::os::unix::fs::symlink(own.world.path("state"), &coracle).unwrap();
    finish(Command::new("chown").arg("-h").arg(format!("{}", own.user)).arg(&coracle)).ok();
    assert!(list().fails().contains("is not a directory"));
    fs::remove_file(&coracle).unwrap();
}
