//! Version 2: a cgroup that the container owns, one that belongs to an ordinary user, and threaded cgroups.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cgroups::{directory, read, unified};
use crate::world::{Who, World, finish, skip, test_name, wait_until, who};
use crate::{needs, needs_root, only};

const VERSION_2: &str = "this is about cgroup v2";

/// A container in a user namespace whose root is uid 200000 on the host, with its cgroup mounted.
fn mapped(args: &[&str], options: &[&str]) -> World {
    let mut world = World::running(args);
    for kind in ["user", "cgroup"] {
        world.namespace(kind, None);
    }
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    *world.at("/linux/uidMappings") = map.clone();
    *world.at("/linux/gidMappings") = map;
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    finish(Command::new("chown").args(["-hR", "200000:200000"]).arg(world.rootfs(""))).ok();
    world
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}

/// The files that may be given to another owner, by the kernel.
fn delegated() -> Vec<String> {
    fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_container_that_may_write_its_cgroup_owns_it() {
    needs_root!("ids that are granted to nobody");
    only!(Who::Us; "runc does it under systemd alone, and crun whatever is mounted");
    needs!(unified(), VERSION_2);
    let script = "cd /sys/fs/cgroup && mkdir one && echo 1 >one/cgroup.procs && cat /proc/self/cgroup && \
        echo +pids >cgroup.subtree_control && echo 7 >one/pids.max && cat one/pids.max; \
        echo 3 >pids.max; echo 1 >memory.max; touch /dev/shm/done; sleep 1000";
    let world = mapped(&["sh", "-c", script], &["rw", "nosuid"]);
    world.write();
    let (out, err) = (world.path("out"), world.path("err"));
    let mut run = world.command(&["run", "-d", &world.id]);
    run.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    assert!(run.status().unwrap().success());
    let done = format!("/proc/{}/root/dev/shm/done", world.pid());
    wait_until("it has tried", || Path::new(&done).exists());
    assert_eq!(fs::read_to_string(&out).unwrap(), "0::/one\n7\n");
    // The limits belong to the host.
    assert_eq!(fs::read_to_string(&err).unwrap().matches("ermission denied").count(), 2);
    let group = directory("", &world.group());
    assert_eq!(owner(&group), 200_000);
    for entry in fs::read_dir(&group).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        let expected = if delegated().contains(&name) { 200_000 } else { 0 };
        assert_eq!(owner(&entry.path()), expected, "{name}");
    }
    // An exec enters a group that accepts it. A container that has made groups is deleted completely.
    assert_eq!(world.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/one\n");
}

#[test]
fn root_of_a_joined_user_namespace_owns_the_cgroup() {
    needs_root!("ids that are granted to nobody");
    only!(Who::Us; "runc does it under systemd alone, and crun whatever is mounted");
    needs!(unified(), VERSION_2);
    let pod = mapped(&["sleep", "1000"], &["rw"]);
    pod.begin();
    let mut world = mapped(&["sleep", "1000"], &["rw"]);
    world.in_users_of(&format!("/proc/{}/ns/user", pod.pid()));
    *world.at("/process/user") = json!({"uid": 5, "gid": 5});
    world.begin();
    assert_eq!(owner(&directory("", &world.group())), 200_005);
    assert_eq!(owner(&directory("", &pod.group())), 200_000);
}

#[test]
fn who_may_only_look_owns_nothing() {
    needs_root!("ids that are granted to nobody");
    needs!(unified(), VERSION_2);
    only!(Who::Us, Who::Runc; "crun gives it away whatever is mounted");
    let read_only = mapped(&["sleep", "1000"], &["ro"]);
    let mut shared = mapped(&["sleep", "1000"], &["rw"]);
    shared.without_namespace("cgroup");
    let mut elsewhere = mapped(&["sleep", "1000"], &[]);
    *elsewhere.config["mounts"].as_array_mut().unwrap().last_mut().unwrap() =
        json!({"destination": "/cgroups", "type": "cgroup", "source": "cgroup"});
    fs::create_dir(elsewhere.rootfs("cgroups")).unwrap();
    for world in [read_only, shared, elsewhere] {
        world.begin();
        assert_eq!(owner(&directory("", &world.group())), 0);
        assert_eq!(owner(&directory("", &world.group()).join("cgroup.procs")), 0);
    }
}

/// The cgroup of the container's first process, as the host sees it.
fn cgroup_of_init(world: &World) -> String {
    fs::read_to_string(format!("/proc/{}/cgroup", world.pid())).unwrap().trim_start_matches("0::").trim().to_owned()
}

#[test]
fn a_delegated_cgroup_is_below_the_containers_own() {
    needs_root!("ids that are granted to nobody");
    only!(Who::Us, Who::Crun; "an annotation of crun");
    needs!(unified(), VERSION_2);
    let script = "cd /sys/fs/cgroup/payload && mkdir a b && echo 1 >a/cgroup.procs && \
        echo +pids >cgroup.subtree_control && echo 7 >b/pids.max && cat b/pids.max /proc/self/cgroup; \
        echo 3 >../pids.max; touch /dev/shm/done; sleep 1000";
    let mut world = mapped(&["sh", "-c", script], &["rw", "nosuid"]);
    world.config["annotations"] = json!({"run.oci.delegate-cgroup": "payload"});
    *world.at("/linux/resources/pids") = json!({"limit": 20});
    world.write();
    let (out, err) = (world.path("out"), world.path("err"));
    let mut run = world.command(&["run", "-d", &world.id]);
    run.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    assert!(run.status().unwrap().success(), "{}", fs::read_to_string(&err).unwrap());
    let done = format!("/proc/{}/root/dev/shm/done", world.pid());
    wait_until("it has tried", || Path::new(&done).exists());
    assert_eq!(fs::read_to_string(&out).unwrap(), "7\n0::/payload/a\n", "{}", fs::read_to_string(&err).unwrap());
    assert_eq!(fs::read_to_string(&err).unwrap().matches("ermission denied").count(), 1);
    let group = directory("", &world.group());
    let below = group.join("payload");
    assert!(cgroup_of_init(&world).ends_with(&format!("{}/payload/a", world.group())), "{}", cgroup_of_init(&world));
    assert_eq!((owner(&below), owner(&below.join("cgroup.procs"))), (200_000, 200_000));
    if who() == Who::Us {
        assert_eq!((owner(&group), owner(&group.join("cgroup.procs"))), (0, 0));
    }
    assert_eq!((read(&group, "pids.max"), read(&below, "pids.max")), ("20".to_owned(), "max".to_owned()));
    if who() == Who::Crun {
        return;
    }
    assert_eq!(owner(&below.join("pids.max")), 0);
    // Every command works on the container's own cgroup.
    assert_eq!(world.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/payload/a\n");
    let listed = world.call(&["ps", "--format", "json", &world.id]).ok();
    assert!(listed.contains(&world.pid().to_string()), "{listed}");
    world.call(&["pause", &world.id]).ok();
    assert_eq!((read(&group, "cgroup.freeze"), world.status()), ("1".to_owned(), "paused".to_owned()));
    world.call(&["resume", &world.id]).ok();
    let stats: Value = serde_json::from_str(&world.call(&["events", "--stats", &world.id]).ok()).unwrap();
    assert!(stats["data"]["pids"]["current"].as_u64() > Some(0), "{stats}");
    world.call(&["update", "--pids-limit", "15", &world.id]).ok();
    assert_eq!((read(&group, "pids.max"), read(&below, "pids.max")), ("15".to_owned(), "max".to_owned()));
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn a_cgroup_is_delegated_in_the_hosts_cgroup_namespace_and_in_a_pod() {
    only!(Who::Us; "exec by crun fails there");
    needs!(unified(), VERSION_2);
    let mut world = World::running(&["sleep", "1000"]);
    world.without_namespace("cgroup");
    world.config["annotations"] = json!({"run.oci.delegate-cgroup": "/payload/init"});
    world.begin();
    let own = format!("{}/payload/init", world.group());
    assert!(cgroup_of_init(&world).ends_with(&own), "{} {own}", cgroup_of_init(&world));
    assert!(world.exec(&["cat", "/proc/self/cgroup"]).ok().trim().ends_with(&own));
    let pids = format!("/proc/{}/ns/pid", world.pid());
    let mut member = World::running(&["sleep", "1000"]);
    member.without_namespace("pid");
    member.namespace("pid", Some(&pids));
    if !crate::ordinary::root() {
        return; // who may join it must be in its user namespace
    }
    member.config["annotations"] = json!({"run.oci.delegate-cgroup": "payload"});
    member.begin();
    assert!(cgroup_of_init(&member).ends_with(&format!("{}/payload", member.group())), "{}", cgroup_of_init(&member));
}

#[test]
fn no_cgroup_of_version_1_is_delegated() {
    only!(Who::Us; "crun finds out after it has made the container");
    needs!(!unified(), "this is about cgroup v1");
    let mut world = World::running(&["true"]);
    world.config["annotations"] = json!({"run.oci.delegate-cgroup": "payload"});
    let said = world.run().fails();
    assert!(said.contains("annotations[\"run.oci.delegate-cgroup\"]: needs a host with cgroup version 2"), "{said}");
    world.assert_clean();
}

/// A level above the container's group, with a process of its own.
struct Above {
    name: String,
    process: std::process::Child,
}

impl Above {
    fn with_a_process(world: &World) -> Above {
        // The name does not contain the id, because the world checks that no cgroup with the id is left.
        let name = format!("above-{}", world.id.replace('-', "_"));
        let group = directory("", &name);
        fs::create_dir(&group).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(group.join("cgroup.procs"), process.id().to_string()).unwrap();
        Above { name, process }
    }

    fn file(&self, file: &str) -> String {
        read(&directory("", &self.name), file)
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for below in fs::read_dir(directory("", &self.name)).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(below.path());
        }
        let _ = fs::remove_dir(directory("", &self.name));
    }
}

/// A container in `above`, with these resources.
fn inside(above: &Above, mut world: World, resources: Value) -> (World, PathBuf) {
    let group = format!("{}/{}", above.name, world.id);
    *world.at("/linux/cgroupsPath") = json!(format!("/{group}"));
    *world.at("/linux/resources") = resources;
    (world, directory("", &group))
}

#[test]
fn below_a_group_with_processes_a_container_is_threaded_where_a_limit_needs_it() {
    needs_root!("begins at the top of the hierarchy");
    only!(Who::Us; "the peers make it threaded without need, and cannot kill or delete it then");
    needs!(unified(), VERSION_2);
    let world = World::running(&["sh", "-c", "sleep 1000 & wait"]);
    let above = Above::with_a_process(&world);
    // Without limits, the type of the level above does not change.
    let (world, group) = inside(&above, world, json!({}));
    world.begin();
    assert_eq!((read(&group, "cgroup.type"), above.file("cgroup.type")), ("domain".into(), "domain".into()));
    world.call(&["delete", "--force", &world.id]).ok();
    let (world, group) = inside(&above, world, json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}));
    let said = world.create().fails();
    let expected = format!(
        "linux.resources.memory.limit: controller \"memory\" not available: /sys/fs/cgroup/{} has ",
        above.name
    );
    assert!(said.contains(&expected) && said.contains("has processes of its own"), "{said}");
    assert_eq!((group.exists(), above.file("cgroup.type")), (false, "domain".to_owned()));
    let (world, group) = inside(&above, world, json!({"pids": {"limit": 20}, "cpu": {"shares": 1024}}));
    world.begin();
    assert_eq!((read(&group, "cgroup.type"), above.file("cgroup.type")), ("threaded".into(), "domain threaded".into()));
    assert_eq!((read(&group, "pids.max"), read(&group, "cpu.weight")), ("20".into(), "100".into()));
    let processes =
        || -> Vec<i32> { serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap() };
    wait_until("both are there", || processes().len() == 2);
    assert!(world.exec(&["cat", "/proc/self/cgroup"]).ok().ends_with(&format!("/{}\n", world.id)));
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    world.call(&["resume", &world.id]).ok();
    let all = processes();
    world.call(&["kill", "--all", &world.id, "KILL"]).ok();
    wait_until("all are gone", || all.iter().all(|pid| !Path::new(&format!("/proc/{pid}/root/bin")).exists()));
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(!group.exists());
    // Once a group is threaded, all groups below are. Limits for whole processes are not possible there.
    let (world, group) = inside(&above, world, json!({"memory": {"limit": 64 << 20}}));
    let said = world.create().fails();
    assert!(said.contains("linux.resources.memory.limit: controller \"memory\" is for whole processes"), "{said}");
    assert!(!group.exists());
}

/// A group that belongs to an ordinary user, as on a machine without systemd.
#[test]
fn an_ordinary_user_has_limits_in_a_group_that_is_hers() {
    needs_root!("delegates a group itself");
    needs!(unified(), VERSION_2);
    needs!(Path::new("/usr/bin/setpriv").exists(), "no setpriv");
    if who() == Who::Runc {
        return skip(&test_name(), "runc moves itself first");
    }
    let user: u32 = 4321;
    let mut world = World::running(&["sh", "-c", "cat /proc/self/cgroup; sleep 1000"]);
    let top = format!("user-{}", world.id);
    let group = directory("", &top);
    let own = group.join("own");
    fs::create_dir_all(&own).unwrap();
    for controller in read(&group, "cgroup.controllers").split_whitespace() {
        fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    for path in [&group, &own] {
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(path.join(file), Some(user), Some(user)).unwrap();
        }
    }
    world.for_one_user(user);
    world.namespace("cgroup", None);
    *world.at("/linux/cgroupsPath") = json!(format!("/{top}/box"));
    *world.at("/linux/resources") = json!({"pids": {"limit": 20}, "memory": {"limit": 64 << 20}});
    world.write();
    fs::create_dir_all(world.path("state")).unwrap();
    let program = world.path(crate::world::runtime().file_name().unwrap().to_str().unwrap());
    assert!(Command::new("cp").arg(crate::world::runtime()).arg(&program).status().unwrap().success());
    finish(Command::new("chown").arg("-hR").arg(format!("{user}:{user}")).arg(world.path(""))).ok();
    let call = |args: &str| {
        // Inside the group, as its owner.
        let script = format!(
            "echo $$ >{}/cgroup.procs && exec setpriv --reuid={user} --regid={user} --clear-groups --inh-caps=-all {} --root {} {args}",
            own.display(),
            program.display(),
            world.path("state").display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(world.bundle()).env("XDG_RUNTIME_DIR", world.path("state"));
        finish(&mut command)
    };
    call(&format!("run -d {}", world.id)).ok();
    let place = group.join("box");
    assert_eq!((read(&place, "pids.max"), read(&place, "memory.max")), ("20".into(), (64 << 20).to_string()));
    assert_eq!(owner(&place), user);
    assert!(call(&format!("exec {} cat /proc/self/cgroup", world.id)).ok().ends_with("::/\n"));
    call(&format!("update --pids-limit 30 {}", world.id)).ok();
    assert_eq!(read(&place, "pids.max"), "30");
    call(&format!("pause {}", world.id)).ok();
    call(&format!("resume {}", world.id)).ok();
    call(&format!("delete --force {}", world.id)).ok();
    assert!(!place.exists());
    fs::remove_dir(&own).unwrap();
    fs::remove_dir(&group).unwrap();
}
