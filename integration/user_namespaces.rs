//! User namespaces: new with mappings, or joined by path; and the owners of files in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::mountinfo::mount_at;
use crate::namespaces::{KINDS, Pod, inode, with_users};
use crate::ordinary::{first, give_to_first, root};
use crate::world::{Who, World, finish, wait_until, who};
use crate::{needs_root, only};

#[test]
fn users_are_mapped_and_what_is_theirs_is_theirs() {
    only!(Who::Us; "mqueue is nobody's with Debian's runc, and crun makes nodes");
    let script = "id -u; id -g; cat /proc/self/uid_map; touch /made; stat -c '%u:%g %n' /made /dev/null /dev/pts \
                  /dev/shm /dev/mqueue /proc/1 /proc/sys/net/ipv4/ip_forward /dev/fd; sleep 1000; true";
    let mut world = World::running(&["sh", "-c", script]);
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/sysctl") = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"});
    world.write();
    let out = world.path("out");
    let mut command = world.command(&["run", "--detach", &world.id]);
    command.stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap()).stderr(Stdio::inherit());
    assert!(command.status().unwrap().success());
    wait_until("it has said all", || fs::read_to_string(&out).unwrap().contains("/dev/fd"));
    let said = fs::read_to_string(&out).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{said}");
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    for line in &lines[3..] {
        // The host's root owns the host's node. The container's root owns everything else.
        let wanted = if line.ends_with("/dev/null") { "65534:65534" } else { "0:0" };
        assert!(line.starts_with(wanted), "{line}\n{said}");
    }
    let pid = world.pid().to_string();
    let process = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((process.uid(), process.gid()), (first(), first()));
    assert_eq!(fs::metadata(world.rootfs("made")).unwrap().uid(), first());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}", first())), "{status}");
    // exec joins the user namespace, too.
    assert_eq!(world.exec(&["sh", "-c", "id -u; readlink /proc/self/ns/user"]).ok().lines().next(), Some("0"));
    let seen = world.exec(&["readlink", "/proc/self/ns/user"]).ok();
    assert_eq!(seen.trim(), fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().display().to_string());
    let sysctl = world.exec(&["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax"]).ok();
    assert_eq!(sysctl, "1\n4096\n");
}

#[test]
fn a_user_namespace_with_every_other_kind_has_its_own_file_systems() {
    let mut world =
        World::running(&["sh", "-c", "cat /proc/self/mountinfo; echo x >/dev/null && echo y >/dev/full || echo full"]);
    with_users(&mut world);
    for kind in ["cgroup", "time"] {
        if kind != "time" || who() == Who::Us {
            world.namespace(kind, None);
        }
    }
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
    let seen = world.run().ok();
    for (place, fstype) in [("/proc", "proc"), ("/dev/mqueue", "mqueue"), ("/dev/pts", "devpts"), ("/sys", "sysfs")] {
        assert_eq!(mount_at(&seen, place).fstype, fstype, "{seen}");
    }
    assert!(seen.ends_with("full\n"), "{seen}");
    assert!(mount_at(&seen, "/proc/sys").has("ro"), "{seen}");
}

#[test]
fn a_user_and_group_other_than_root_in_a_user_namespace() {
    only!(Who::Us, Who::Runc; "crun 1.8 gives the host's /dev/null to that user");
    let mut world = World::running(&["sh", "-c", "touch /tmp/x; sleep 1000; true"]);
    with_users(&mut world);
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]});
    world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}));
    world.begin();
    let pid = world.pid();
    wait_until("the program runs", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("Name:\tsh")
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{0}\t{0}", first() + 1000)), "{status}");
    assert!(status.contains(&format!("Gid:\t{0}\t{0}", first() + 1001)), "{status}");
    assert!(status.contains(&format!("Groups:\t{} {}", first() + 5, first() + 6)), "{status}");
    // The runtime reports ids that are not mapped before it makes anything.
    let mut other = World::running(&["true"]);
    with_users(&mut other);
    *other.at("/process/user/uid") = json!(70_000);
    let said = other.run().fails();
    if who() == Who::Us {
        assert!(said.contains("process.user.uid: 70000 is not mapped in linux.uidMappings"), "{said}");
    }
}

#[test]
fn several_mappings_are_written_and_wrong_ones_refused() {
    only!(Who::Us, Who::Runc; "crun 1.8 mounts no proc there where the host's is covered in part");
    let mut world = World::running(&["cat", "/proc/self/uid_map", "/proc/self/gid_map"]);
    with_users(&mut world);
    let map: Vec<_> =
        (0..300u32).map(|n| json!({"containerID": n * 10, "hostID": first() + n * 10, "size": 5})).collect();
    *world.at("/linux/uidMappings") = json!(map);
    let out = world.run().ok();
    assert_eq!(out.lines().count(), 301, "{out}");
    only!(Who::Us; "the words are ours");
    if root() {
        // The largest number of lines, and few enough bytes.
        let map: Vec<_> = (0..340u32).map(|n| json!({"containerID": n, "hostID": 1000 + 2 * n, "size": 1})).collect();
        *world.at("/linux/uidMappings") = json!(map);
        finish(Command::new("chown").arg("-hR").arg("1000").arg(world.rootfs(""))).ok();
        assert_eq!(world.run().ok().lines().count(), 341);
    }
    *world.at("/linux/uidMappings") =
        json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 5, "hostID": 5000, "size": 1}]);
    assert!(world.run().fails().contains("linux.uidMappings[1]: overlaps with the mapping [0]"));
    *world.at("/linux/uidMappings") = json!([]);
    assert!(world.run().fails().contains("linux.uidMappings: is missing"));
    needs_root!("an ordinary user needs the user namespace");
    world.without_namespace("user");
    let outcome = world.run();
    assert!(outcome.err.contains("linux.gidMappings: is ignored: there is no user namespace"), "{}", outcome.err);
    outcome.ok();
}

#[test]
fn a_user_namespace_is_joined_by_path_alone_and_with_its_network() {
    only!(Who::Us, Who::Crun; "Debian's runc wants mappings as well");
    let mut pod = World::running(&["sleep", "1000"]);
    with_users(&mut pod);
    pod.begin();
    let pod_pid = pod.pid().to_string();
    let file = |kind: &str| format!("/proc/{pod_pid}/ns/{}", KINDS.iter().find(|(word, _)| *word == kind).unwrap().1);
    // In any order: a process that has rights in the user namespace enters the others that belong to it.
    for kinds in [&["user"][..], &["network", "user"], &["pid", "network", "ipc", "uts", "user"]] {
        let mut world = World::running(&["sleep", "1000"]);
        give_to_first(&world.rootfs(""));
        for kind in kinds.iter().filter(|kind| **kind != "user") {
            world.namespace(kind, Some(&file(kind)));
        }
        world.in_users_of(&file("user"));
        world.begin();
        let own = world.pid().to_string();
        for (kind, file) in KINDS {
            let same = inode(&own, file) == inode(&pod_pid, file);
            assert!(same || !kinds.contains(&kind), "{kind} with {kinds:?}");
        }
        assert_eq!(fs::metadata(format!("/proc/{own}")).unwrap().uid(), first());
        assert_eq!(world.exec(&["id", "-u"]).ok(), "0\n");
        assert_eq!(
            world.exec(&["readlink", "/proc/self/ns/user"]).ok().trim(),
            fs::read_link(format!("/proc/{own}/ns/user")).unwrap().display().to_string()
        );
        world.call(&["kill", &world.id, "KILL"]).ok();
        world.wait_for_status("stopped");
    }
}

#[test]
fn mappings_beside_a_joined_user_namespace_are_a_warning_where_they_are_others() {
    let mut pod = World::running(&["sleep", "1000"]);
    with_users(&mut pod);
    pod.begin();
    let mut world = World::running(&["cat", "/proc/self/uid_map"]);
    with_users(&mut world);
    world.namespace("user", Some(&format!("/proc/{}/ns/user", pod.pid())));
    let real = ["0", &first().to_string(), "65536"];
    // As containerd and podman write them for each container of a pod.
    let ran = world.run();
    assert_eq!(ran.err, "");
    assert_eq!(ran.ok().split_whitespace().collect::<Vec<_>>(), real);
    only!(Who::Us; "Debian's runc wants the real ones, and crun says nothing");
    *world.at("/linux/uidMappings") = json!([{"containerID": 0, "hostID": 7, "size": 3}]);
    let ran = world.run();
    let words =
        format!("linux.uidMappings: is not used: the user namespace is joined by path and has {}\n", real.join(" "));
    assert!(ran.err.ends_with(&words) && !ran.err.contains("gidMappings"), "{ran:?}");
    assert_eq!(ran.ok().split_whitespace().collect::<Vec<_>>(), real);
}

#[test]
fn the_hosts_network_of_another_goes_with_a_joined_user_namespace() {
    needs_root!("namespaces of the host's own");
    only!(Who::Us; "crun enters the user namespace first, and Debian's runc wants mappings as well");
    let mut pod = World::running(&["sleep", "1000"]);
    with_users(&mut pod);
    pod.begin();
    let network = Pod::with(&["--net", "--uts"]);
    let mut world = World::running(&["sleep", "1000"]);
    give_to_first(&world.rootfs(""));
    world.config.as_object_mut().unwrap().remove("hostname");
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    world.namespace("network", Some(&network.file("network")));
    world.namespace("uts", Some(&network.file("uts")));
    world.in_users_of(&format!("/proc/{}/ns/user", pod.pid()));
    world.begin();
    let (own, pod) = (world.pid().to_string(), pod.pid().to_string());
    assert_eq!(inode(&own, "user"), inode(&pod, "user"));
    let seen = world.exec(&["sh", "-c", "id -u; for n in net uts user; do readlink /proc/self/ns/$n; done"]).ok();
    let link = |name: &str| fs::read_link(format!("/proc/{own}/ns/{name}")).unwrap().display().to_string();
    assert_eq!(link("net"), fs::read_link(network.file("network")).unwrap().display().to_string());
    assert_eq!(seen, format!("0\n{}\n{}\n{}\n", link("net"), link("uts"), link("user")));
}

#[test]
fn a_mount_namespace_is_joined_with_the_user_namespace_it_belongs_to() {
    only!(Who::Us; "the peers change their root in a mount namespace of their own only");
    let pod = Pod::with(&["--user", "--map-root-user", "--mount"]);
    let mut world = World::running(&["sleep", "1000"]);
    let pts = world.at("/mounts/2/options").as_array_mut().unwrap();
    pts.retain(|option| option != "gid=5"); // gid 5 is not mapped there
    world.namespace("mount", Some(&pod.file("mount")));
    world.in_users_of(&pod.file("user"));
    world.begin();
    let own = world.pid().to_string();
    for kind in ["mnt", "user"] {
        assert_eq!(inode(&own, kind), inode(&pod.pid().to_string(), kind), "{kind}");
    }
    assert_eq!(world.exec(&["sh", "-c", "id -u; ls -d /bin /etc; ls /home 2>&1 | wc -l"]).ok(), "0\n/bin\n/etc\n1\n");
}

#[test]
fn a_new_user_namespace_beside_a_joined_one() {
    needs_root!("namespaces of the host's own");
    let pod = Pod::with(&["-u"]);
    let mut world = World::running(&["sh", "-c", "id -u; readlink /proc/self/ns/uts"]);
    with_users(&mut world);
    world.config.as_object_mut().unwrap().remove("hostname");
    world.namespace("uts", Some(&pod.file("uts")));
    let out = world.run().ok();
    let wanted = fs::read_link(pod.file("uts")).unwrap().display().to_string();
    assert_eq!(out, format!("0\n{wanted}\n"));
}

#[test]
fn a_user_namespace_with_the_hosts_network_binds_sys() {
    only!(Who::Us; "runc refuses it, crun 1.8 loses its flags");
    let mut world = World::running(&["sh", "-c", "test -d /sys/class/net/lo && echo lo; cat /proc/self/mountinfo"]);
    with_users(&mut world);
    world.without_namespace("network");
    let out = world.run().ok();
    assert!(out.starts_with("lo\n"), "{out}");
    let sys = mount_at(&out, "/sys");
    assert!(sys.has("ro") && sys.has("nosuid"), "{sys:?}");
}

#[test]
fn a_user_namespace_with_the_hosts_pid_and_ipc_namespaces() {
    let mut world = World::running(&["sh", "-c", "id -u; readlink /proc/self/ns/pid"]);
    with_users(&mut world);
    world.without_namespace("pid");
    world.without_namespace("ipc");
    *world.at("/mounts/0") = json!({"destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"]});
    let mounts: Vec<_> =
        world.config["mounts"].as_array().unwrap().iter().filter(|m| m["type"] != "mqueue").cloned().collect();
    world.config["mounts"] = json!(mounts);
    let out = world.run().ok();
    assert_eq!(out, format!("0\n{}\n", fs::read_link("/proc/self/ns/pid").unwrap().display()));
}

#[test]
fn a_bundle_that_the_mapped_root_cannot_reach_works() {
    only!(Who::Us; "the peers need the way to be open");
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::running(&["sh", "-c", "echo in; cat /file"]);
    with_users(&mut world);
    fs::write(world.path("file"), "bound\n").unwrap();
    world.mount(
        json!({"destination": "/file", "type": "none", "source": world.path("file"), "options": ["bind", "ro"]}),
    );
    *world.at("/root/readonly") = json!(false);
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(world.run().ok(), "in\nbound\n");
}
