//! Namespaces: new, joined by path, or shared with the host, as the host and the container see them; and their contents.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::mountinfo::mount_at;
use crate::ordinary::{first, give_to_first, root};
use crate::world::{Who, World, finish, wait_until, who};
use crate::{needs_cgroup, needs_root, only};

/// The specification's word, and the file under /proc/PID/ns.
pub const KINDS: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("user", "user"),
    ("pid", "pid"),
    ("network", "net"),
    ("time", "time"),
];

/// A process of the test in namespaces of its own.
pub struct Pod(Child);

impl Pod {
    #[track_caller]
    pub fn with(flags: &[&str]) -> Pod {
        let child = Command::new("unshare")
            .args(flags)
            .args(["--", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .expect("apt-get install util-linux");
        let pod = Pod(child);
        wait_until("the pod sleeps", || {
            fs::read_to_string(format!("/proc/{}/comm", pod.pid())).is_ok_and(|comm| comm == "sleep\n")
        });
        pod
    }

    /// The pid of the sleep: `unshare --fork` waits for it.
    pub fn pid(&self) -> u32 {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(self.0.id())
    }

    pub fn file(&self, kind: &str) -> String {
        let file = KINDS.iter().find(|(word, _)| *word == kind).unwrap().1;
        format!("/proc/{}/ns/{file}", self.pid())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let inner = self.pid().to_string();
        let _ = Command::new("kill").args(["-9", &inner]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn inode(process: &str, file: &str) -> u64 {
    fs::metadata(format!("/proc/{process}/ns/{file}")).unwrap().ino()
}

/// A config with only these namespaces, and without mounts that need others.
pub fn only_with(kinds: &[&str], args: &[&str]) -> World {
    let mut world = World::running(args);
    world.config["linux"]["namespaces"] = json!([]);
    world.config.as_object_mut().unwrap().remove("hostname");
    for kind in kinds {
        world.namespace(kind, None);
    }
    world
}

pub fn with_users(world: &mut World) {
    world.namespace("user", None);
    let map = json!([{"containerID": 0, "hostID": first(), "size": 65536}]);
    *world.at("/linux/uidMappings") = map.clone();
    *world.at("/linux/gidMappings") = map;
    // The mapped root makes missing files in the root.
    give_to_first(&world.rootfs(""));
}

pub fn all_capabilities(world: &mut World, list: serde_json::Value) {
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) = list.clone();
    }
}

#[test]
fn each_kind_is_new_when_listed_and_the_hosts_when_not() {
    needs_root!("namespaces of the host's own");
    for (kind, file) in KINDS {
        if kind == "user" || (kind == "time" && who() != Who::Us) {
            continue; // user has its own tests; Debian's runc and crun do not support time
        }
        let kinds: &[&str] = if kind == "mount" { &["mount"] } else { &["mount", kind] };
        let world = only_with(kinds, &["sleep", "1000"]);
        world.begin();
        let pid = world.pid().to_string();
        for (other, other_file) in KINDS {
            let same = inode(&pid, other_file) == inode("self", other_file);
            assert_eq!(same, !kinds.contains(&other), "{other} with {kinds:?}");
        }
        assert_ne!(inode(&pid, file), inode("self", file));
        // exec is in the same namespaces.
        for (_, file) in KINDS {
            let seen = world.exec(&["readlink", &format!("/proc/self/ns/{file}")]).ok();
            let wanted = fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
            assert_eq!(seen.trim(), wanted, "{kind}");
        }
    }
}

#[test]
fn an_empty_path_counts_as_absent() {
    only!(Who::Us, Who::Runc; "crun 1.8 opens it");
    let mut world = World::running(&["readlink", "/proc/self/ns/uts"]);
    world.namespace("uts", Some(""));
    let seen = world.run().ok();
    assert_ne!(seen.trim(), fs::read_link("/proc/self/ns/uts").unwrap().display().to_string());
}

#[test]
fn each_kind_is_joined_by_its_path() {
    needs_root!("namespaces of the host's own");
    for (kind, flag) in [("uts", "-u"), ("ipc", "-i"), ("network", "-n"), ("cgroup", "-C"), ("time", "-T")] {
        if kind == "time" && who() != Who::Us {
            continue; // Debian's runc and crun do not know time namespaces
        }
        let pod = if kind == "time" { Pod::with(&["-T", "--fork"]) } else { Pod::with(&[flag]) };
        let mut world = World::running(&["sleep", "1000"]);
        if kind == "uts" && who() == Who::Crun {
            world.config.as_object_mut().unwrap().remove("hostname");
        }
        world.namespace(kind, Some(&pod.file(kind)));
        world.begin();
        let file = KINDS.iter().find(|(word, _)| *word == kind).unwrap().1;
        let (pod, own) = (pod.pid().to_string(), world.pid().to_string());
        assert_eq!(inode(&own, file), inode(&pod, file), "{kind}");
        let seen = world.exec(&["readlink", &format!("/proc/self/ns/{file}")]).ok();
        assert!(seen.contains(&inode(&pod, file).to_string()), "{kind}: {seen}");
    }
}

#[test]
fn a_joined_uts_namespace_takes_the_hostname_and_the_host_keeps_its_own() {
    needs_root!("namespaces of the host's own");
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let pod = Pod::with(&["-u"]);
    let mut world = World::running(&["hostname"]);
    world.namespace("uts", Some(&pod.file("uts")));
    assert_eq!(world.run().ok(), "coracle\n");
    let seen = finish(Command::new("nsenter").args(["-u", "-t", &pod.pid().to_string(), "hostname"])).ok();
    assert_eq!(seen, "coracle\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn a_joined_pid_namespace_counts_as_the_pod_does_and_state_as_the_host() {
    needs_root!("namespaces of the host's own");
    let pod = Pod::with(&["-p", "--fork", "--mount-proc"]);
    let mut world = World::running(&["sh", "-c", "sleep 1000; true"]);
    world.namespace("pid", Some(&pod.file("pid")));
    world.create().ok();
    let pid = world.pid();
    assert_eq!(inode(&pid.to_string(), "pid"), inode(&pod.pid().to_string(), "pid"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    let inside = inside.split_whitespace().last().unwrap().to_owned();
    assert_ne!(inside, "1");
    world.call(&["start", &world.id]).ok();
    wait_until("the program runs", || world.status() == "running");
    // The proc that it mounted shows the pod's processes.
    let seen = world.exec(&["cat", "/proc/1/comm"]).ok();
    assert_eq!(seen, "sleep\n");
    assert_eq!(world.exec(&["cat", &format!("/proc/{inside}/comm")]).ok(), "sh\n");
    // The pod continues after the container has ended.
    world.call(&["kill", &world.id, "KILL"]).ok();
    wait_until("stopped", || world.status() == "stopped");
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(fs::metadata(format!("/proc/{}", pod.pid())).is_ok());
    if who() == Who::Runc {
        // runc kills what is left, but does not always wait for it. The cgroup stays then.
        wait_until("its cgroup can go", || {
            world.cgroups().iter().for_each(|group| drop(fs::remove_dir(group)));
            world.cgroups().is_empty()
        });
    }
}

#[test]
fn joining_another_mount_namespace_does_not_change_the_hosts() {
    needs_root!("namespaces of the host's own");
    only!(Who::Us; "the peers of Debian fail in it in ways of their own");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let pod = Pod::with(&["-m", "--propagation", "private"]);
    let mut world = World::running(&["cat", "/proc/self/mountinfo"]);
    world.namespace("mount", Some(&pod.file("mount")));
    let seen = world.run().ok();
    mount_at(&seen, "/proc");
    let here = world.path("").display().to_string();
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(&here), "{after}");
    // Not all mounts are counted: other tests make and remove some meanwhile.
    let on_top = |text: &str| text.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
    assert_eq!(on_top(&before), on_top(&after));
}

/// pivot_root(2) changes the root of all processes in the namespace.
#[test]
fn the_runtimes_own_mount_namespace_is_not_joined() {
    needs_root!("a mount namespace that may be damaged");
    only!(Who::Us; "runc and crun give the container's root to all that is in the namespace");
    let mut world = World::running(&["true"]);
    for path in ["/proc/self/ns/mnt", "/proc/thread-self/ns/mnt"] {
        world.namespace("mount", Some(path));
        world.write();
        let said = world.call_apart(&["run", &world.id]).fails();
        let expected = format!("{}.path: {path} is the runtime's own mount namespace", world.last_namespace());
        assert!(said.contains(&expected), "{said}");
    }
    // The one of process 1, from another one. Process 1 is a shell whose root may change.
    let path = "/proc/1/ns/mnt";
    world.namespace("mount", Some(path));
    world.write();
    let call = world.command(&["run", &world.id]);
    let mut inside = Command::new("unshare");
    inside.args([
        "-p",
        "-f",
        "--mount-proc",
        "--propagation",
        "private",
        "sh",
        "-c",
        "unshare -m \"$@\"; exit $?",
        "sh",
    ]);
    let said = finish(inside.arg(call.get_program()).args(call.get_args()).current_dir(world.bundle())).fails();
    let expected = format!("{}.path: {path} is the mount namespace of process 1", world.last_namespace());
    assert!(said.contains(&expected), "{said}");
    leaves_nothing(&world);
}

/// crun 1.8 leaves the cgroup after such a failure on version 2.
fn leaves_nothing(world: &World) {
    match who() {
        Who::Crun => world.cgroups().iter().for_each(|group| fs::remove_dir(group).unwrap()),
        _ => world.assert_clean(),
    }
}

#[test]
fn a_path_of_another_kind_of_namespace_is_reported() {
    let mut world = World::running(&["true"]);
    world.namespace("network", Some("/proc/self/ns/uts"));
    let said = world.run().fails();
    if who() == Who::Us {
        assert!(
            said.contains(&format!(
                "{}.path: /proc/self/ns/uts is a uts namespace and not a network namespace",
                world.last_namespace()
            )),
            "{said}"
        );
    }
    for path in ["/nonexistent", "/etc/passwd"] {
        world.namespace("network", Some(path));
        let said = world.run().fails();
        if who() == Who::Us {
            assert!(said.contains(&format!("{}.path", world.last_namespace())) && said.contains(path), "{said}");
        }
    }
    leaves_nothing(&world);
}

#[test]
fn a_kind_listed_twice_or_unknown_is_refused() {
    let mut world = World::running(&["true"]);
    world.at("/linux/namespaces").as_array_mut().unwrap().push(json!({"type": "pid"}));
    if who() != Who::Crun {
        let said = world.run().fails();
        let ours = format!("{}: a second pid namespace", world.last_namespace());
        assert!(said.contains(if who() == Who::Us { &ours } else { "duplicated" }), "{said}");
    }
    *world.at("/linux/namespaces/5") = json!({"type": "netwerk"});
    let said = world.run().fails();
    if who() == Who::Us {
        assert!(said.contains("linux.namespaces[5].type: unknown value \"netwerk\""), "{said}");
    }
    leaves_nothing(&world);
}

#[test]
fn names_need_a_uts_namespace_and_are_set_in_it() {
    let mut world = World::running(&["cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"]);
    *world.at("/hostname") = json!("a.b-c");
    *world.at("/domainname") = json!("example.org");
    if who() == Who::Us {
        assert_eq!(world.run().ok(), "a.b-c\nexample.org\n");
    } else {
        // Debian's runc and crun are older than domainname.
        assert!(world.run().ok().starts_with("a.b-c\n"));
    }
    world.without_namespace("uts");
    let said = world.run().fails();
    if who() == Who::Us {
        assert!(said.contains("hostname: unable to set hostname without a private UTS namespace"), "{said}");
        assert!(said.contains("domainname: unable to set domainname without a private UTS namespace"), "{said}");
    }
}

#[test]
fn the_loopback_of_a_new_network_namespace_is_up() {
    needs_root!("namespaces of the host's own");
    let mut world = World::running(&["ip", "addr", "show", "lo"]);
    let out = world.run().ok();
    assert!(out.contains("UP") && out.contains("127.0.0.1/8"), "{out}");
    // A joined network namespace does not change.
    let pod = Pod::with(&["-n"]);
    world.namespace("network", Some(&pod.file("network")));
    let out = world.run().ok();
    assert!(!out.contains(",UP"), "{out}");
}

#[test]
fn a_cgroup_namespace_begins_at_the_containers_cgroup() {
    needs_cgroup!();
    let mut world = World::running(&["sh", "-c", "cat /proc/self/cgroup"]);
    world.namespace("cgroup", None);
    let out = world.run().ok();
    assert!(out.lines().all(|line| line.ends_with(":/")), "{out}");
    world.without_namespace("cgroup");
    let out = world.run().ok();
    assert!(out.lines().any(|line| line.ends_with(&world.group())), "{out}");
}

#[test]
fn clocks_of_a_time_namespace_are_shifted_for_init_and_exec() {
    only!(Who::Us; "Debian's runc and crun are older than time namespaces in the spec");
    let mut world = World::running(&["sleep", "1000"]);
    world.namespace("time", None);
    *world.at("/linux/timeOffsets") =
        json!({"monotonic": {"secs": 172_800, "nanosecs": 5}, "boottime": {"secs": 604_800}});
    world.begin();
    let uptime = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    let host = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let inside = uptime(&world.exec(&["cat", "/proc/uptime"]).ok());
    assert!((604_790..605_000).contains(&(inside - host)), "{inside} {host}");
    let offsets = fs::read_to_string(format!("/proc/{}/timens_offsets", world.pid())).unwrap();
    assert!(offsets.contains("172800         5"), "{offsets}");
    let pid = world.pid();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    assert_eq!(link("time"), link("time_for_children"));
    assert_eq!(world.exec(&["readlink", "/proc/self/ns/time"]).ok().trim(), link("time").display().to_string());
    let mut other = World::running(&["true"]);
    *other.at("/linux/timeOffsets") = json!({"monotonic": {"secs": 1}});
    assert!(other.run().fails().contains("linux.timeOffsets: needs a new time namespace"));
    other.namespace("time", None);
    *other.at("/linux/timeOffsets") = json!({"realtime": {"secs": 1}, "boottime": {"nanosecs": 1_000_000_000}});
    let said = other.run().fails();
    assert!(said.contains("linux.timeOffsets.realtime: unknown clock"), "{said}");
    assert!(said.contains("linux.timeOffsets.boottime.nanosecs: 1000000000 is not less than a second"), "{said}");
    *other.at("/linux/timeOffsets") = json!({"monotonic": {"secs": -1_000_000_000_000i64}});
    assert!(other.run().fails().contains("linux.timeOffsets.monotonic"), "told with its place");
}

#[test]
fn time_and_user_namespaces_go_together() {
    only!(Who::Us; "Debian's runc and crun are older than time namespaces in the spec");
    let mut world = World::running(&["cat", "/proc/uptime"]);
    with_users(&mut world);
    world.namespace("time", None);
    *world.at("/linux/timeOffsets") = json!({"boottime": {"secs": 604_800}});
    let uptime = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    let host = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let shifted = |seen: &str| {
        let inside = uptime(seen);
        assert!((604_790..605_000).contains(&(inside - host)), "{inside} {host}");
    };
    shifted(&world.run().ok());
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    shifted(&world.exec(&["cat", "/proc/uptime"]).ok());
    let time = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    let inside = world.exec(&["sh", "-c", "readlink /proc/self/ns/time; id -u"]).ok();
    assert_eq!(inside, format!("{}\n0\n", time(&world.pid().to_string()).display()));
    assert_ne!(time(&world.pid().to_string()), time("self"));
    // Beside a joined user namespace, which also owns the new time namespace.
    let mut other = World::running(&["sh", "-c", "id -u; cat /proc/uptime"]);
    give_to_first(&other.rootfs(""));
    other.in_users_of(&format!("/proc/{}/ns/user", world.pid()));
    other.namespace("time", None);
    *other.at("/linux/timeOffsets") = json!({"boottime": {"secs": 604_800}, "monotonic": {"secs": 3}});
    if !root() {
        let said = other.run().fails();
        assert!(said.contains("linux.timeOffsets: an ordinary user cannot set them if the user namespace"), "{said}");
        other.config["linux"].as_object_mut().unwrap().remove("timeOffsets");
        assert!(other.run().ok().starts_with("0\n"));
        return;
    }
    let said = other.run().ok();
    shifted(said.strip_prefix("0\n").unwrap_or_else(|| panic!("{said}")));
    // An offset before the beginning of the clock: the message names its place, and nothing is left.
    *other.at("/linux/timeOffsets") = json!({"boottime": {"secs": -1_000_000_000_000i64}});
    let said = other.run().fails();
    assert!(said.contains("linux.timeOffsets.boottime: "), "{said}");
    leaves_nothing(&other);
}

#[test]
fn without_a_mount_namespace_the_hosts_mounts_are_untouched() {
    needs_root!("namespaces of the host's own");
    only!(Who::Us; "the peers change the propagation of the host's mounts");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut world = only_with(&["pid", "uts", "ipc"], &["sh", "-c", "ls /; pwd; test -e /proc/self || echo no proc"]);
    let said = world.run().fails();
    for place in ["linux.maskedPaths", "linux.readonlyPaths"] {
        assert!(said.contains(&format!("{place}: needs a mount namespace")), "{said}");
    }
    world.config["mounts"] = json!([]);
    for list in ["maskedPaths", "readonlyPaths"] {
        world.config["linux"][list] = json!([]);
    }
    *world.at("/root/readonly") = json!(true);
    assert!(world.run().fails().contains("root.readonly: needs a mount namespace"));
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/devices") = json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]);
    world.config["process"]["args"] = json!(["true"]);
    let said = world.run().err;
    assert!(said.contains("linux.devices[0]: is not made: there is no mount namespace"), "{said}");
    assert!(said.contains("linux.namespaces: has no mount namespace: the default devices are not made"), "{said}");
    assert!(!world.rootfs("dev").exists());
    world.config["process"]["args"] = json!(["sh", "-c", "ls /; pwd; test -e /proc/self || echo no proc"]);
    world.config["linux"]["devices"] = json!([]);
    assert_eq!(world.run().ok(), "bin\netc\n/\nno proc\n");
    assert!(!world.rootfs("dev").exists());
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let peers = |text: &str| {
        text.lines().map(|line| line.split(" - ").next().unwrap().matches("master:").count()).sum::<usize>()
    };
    assert_eq!(peers(&before), peers(&after));
    assert!(!after.contains(world.path("").to_str().unwrap()), "{after}");
    world.config["process"]["args"] = json!(["sleep", "1000"]);
    world.begin();
    assert_eq!(world.exec(&["ls", "/"]).ok(), "bin\netc\n");
}

#[test]
fn parameters_of_the_kernel_are_set_where_a_namespace_holds_them() {
    let mut world = World::running(&[
        "cat",
        "/proc/sys/kernel/shmmni",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/fs/mqueue/msg_max",
        "/proc/sys/net/ipv4/conf/lo/forwarding",
    ]);
    let before = fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    *world.at("/linux/sysctl") = json!({
        "kernel.shmmni": "77",
        "net/ipv4/ip_unprivileged_port_start": "81",
        "fs.mqueue.msg_max": "12",
        "net.ipv4.conf.lo.forwarding": "1",
    });
    assert_eq!(world.run().ok(), "77\n81\n12\n1\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(), before);
    for (name, value, word) in [
        ("kernel.panic", "1", "not in a separate kernel namespace"),
        ("vm.swappiness", "1", "not in a separate kernel namespace"),
        ("kernel.hostname", "x", "hostname"),
        ("net.ipv4.nonsense", "1", "no such file"),
        ("net.ipv4.ip_forward", "many", "invalid argument"),
        ("fs.mqueue/../../kernel/panic", "1", ""),
    ] {
        *world.at("/linux/sysctl") = json!({name: value});
        let said = world.run().fails().to_lowercase();
        if who() == Who::Us {
            assert!(said.contains("linux.sysctl") && said.contains(word), "{name}: {said}");
        }
    }
    *world.at("/linux/sysctl") = json!({"net.ipv4.ip_forward": "1"});
    world.without_namespace("network");
    let said = world.run().fails();
    assert!(who() != Who::Us || said.contains("not in a separate kernel namespace"), "{said}");
    world.assert_clean();
}

/// The path of a joined namespace may lead to the runtime's own. The runtime is in namespaces of its own here: the host's
/// stay as they are whoever fails.
#[test]
fn what_would_change_the_runtimes_own_namespaces_is_refused() {
    needs_root!("namespaces of the host's own");
    only!(Who::Us; "runc refuses parameters of the network only, and crun none");
    let mut world = World::running(&["true"]);
    for kind in ["network", "ipc", "uts"] {
        world.without_namespace(kind);
    }
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        world.namespace(kind, Some(&format!("/proc/self/ns/{file}")));
    }
    *world.at("/hostname") = Value::Null;
    let script =
        r#"hostname ours; "$@"; echo $? $(hostname) $(cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni)"#;
    let run = |world: &World| {
        world.write();
        let command = world.command(&["run", &world.id]);
        let mut apart = Command::new("unshare");
        apart.args(["-n", "-i", "-u", "sh", "-c", script, "sh"]).arg(command.get_program());
        finish(apart.args(command.get_args()).current_dir(world.bundle()))
    };
    for (property, value, kind) in [
        ("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "77"}), "network"),
        ("/linux/sysctl", json!({"kernel.shmmni": "77"}), "ipc"),
        ("/linux/sysctl", json!({"kernel.domainname": "theirs"}), "uts"),
        ("/hostname", json!("theirs"), "uts"),
        ("/domainname", json!("theirs"), "uts"),
    ] {
        *world.at(property) = value;
        let ran = run(&world);
        assert_eq!(ran.out.trim(), "1 ours 64 4096", "{}", ran.err);
        let place = property[1..].replace('/', ".");
        let why = format!("is not in a separate kernel namespace: /proc/self/ns/{}", &kind[..3]);
        assert!(ran.err.contains(&place) && ran.err.contains(&why), "{}", ran.err);
        assert!(ran.err.contains(&format!("is the runtime's own {kind} namespace")), "{}", ran.err);
        *world.at(property) = Value::Null;
    }
    // An engine gives a container on the host's network the name of the host.
    *world.at("/hostname") = json!("ours");
    assert_eq!(run(&world).out.trim(), "0 ours 64 4096");
    world.assert_clean();
}

/// Every parameter that may be set, by the root of the container's user namespace, who owns only some of the files.
#[test]
fn parameters_of_the_kernel_are_set_in_a_user_namespace() {
    let ipc_and_network = [
        ("kernel.sem", "32000\t1024000000\t500\t32001"),
        ("kernel.shmall", "1000"),
        ("kernel.shmmax", "10000000"),
        ("kernel.shmmni", "40"),
        ("kernel.shm_rmid_forced", "1"),
        ("kernel.msgmax", "4096"),
        ("kernel.msgmnb", "16385"),
        ("kernel.msgmni", "33"),
        ("fs.mqueue.queues_max", "33"),
        ("fs.mqueue.msg_max", "12"),
        ("net.ipv4.ping_group_range", "0\t65535"),
        ("net.core.somaxconn", "77"),
    ];
    let others =
        [("kernel.domainname", "inside.example"), ("user.max_user_namespaces", "7"), ("user.max_mnt_namespaces", "9")];
    // Other runtimes may not write the first of them there, and do not know the parameters of user namespaces.
    let all = [&ipc_and_network[..], if who() == Who::Us { &others } else { &[] }].concat();
    let before = |name: &str| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap();
    let hosts: Vec<_> = all.iter().map(|(name, _)| before(name)).collect();
    let files: Vec<_> = all.iter().map(|(name, _)| format!("/proc/sys/{}", name.replace('.', "/"))).collect();
    let mut world = World::running(&[]);
    *world.at("/process/args") = json!([vec!["cat".to_owned()], files].concat());
    with_users(&mut world);
    *world.at("/linux/sysctl") = all.iter().map(|(name, value)| (*name, *value)).collect();
    let wanted: String = all.iter().map(|(_, value)| format!("{value}\n")).collect();
    assert_eq!(world.run().ok(), wanted);
    assert!(all.iter().zip(&hosts).all(|((name, _), value)| before(name) == *value), "{hosts:?}");
    only!(Who::Us; "the words are ours");
    *world.at("/linux/sysctl") = json!({"kernel.domainname": "x".repeat(65)});
    assert!(world.run().fails().contains("linux.sysctl.kernel.domainname: \"xxx"));
    for name in ["kernel.panic", "kernel.core_pattern", "kernel.keys.maxkeys", "fs.file-max"] {
        *world.at("/linux/sysctl") = json!({name: "1"});
        let said = world.run().fails();
        let wanted = format!("linux.sysctl.{name}: sysctl \"{name}\" is not in a separate kernel namespace");
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn the_hosts_ipc_and_network_are_seen_when_they_are_shared() {
    let mut world = World::running(&["cat", "/proc/net/dev"]);
    world.without_namespace("network");
    let out = world.run().ok();
    let names = |text: &str| {
        text.lines().filter_map(|line| line.split(':').next().map(|n| n.trim().to_owned())).collect::<Vec<_>>()
    };
    let host = fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(
        names(&host).iter().filter(|name| !name.starts_with("veth")).all(|name| names(&out).contains(name)),
        "{out}"
    );
    all_capabilities(&mut world, json!([]));
    world.run().ok();
}
