//! How the program runs: scheduler, priorities, CPUs, memory, keyring, labels; for a container's init and for exec.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::process::{both_say, refused, set};
use crate::world::{Outcome, Who, World, finish, wait_until, who};
use crate::{needs, needs_cgroup, needs_root, only};

/// Policy, real-time priority and nice value (proc(5)).
const STAT: [&str; 3] = ["awk", "{ print $41, $40, $19 }", "/proc/self/stat"];

#[test]
fn every_scheduling_policy_is_set() {
    needs_cgroup!();
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know scheduler");
    // If nice(1) runs this test, the nice value stays for a config without one.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap();
    let cases = [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), "0 0 5\n"),
        (json!({"policy": "SCHED_BATCH", "nice": 19}), "3 0 19\n"),
        (json!({"policy": "SCHED_IDLE"}), &format!("5 0 {nice}\n")),
        (json!({"policy": "SCHED_FIFO", "priority": 10}), &format!("1 10 {nice}\n")),
        (json!({"policy": "SCHED_RR", "priority": 11, "flags": ["SCHED_RESET_ON_FORK"]}), &format!("2 11 {nice}\n")),
    ];
    for (scheduler, expected) in cases {
        both_say(expected, &STAT, |world| {
            *world.at("/process/scheduler") = scheduler.clone();
            if fs::exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").unwrap() {
                // A cgroup has no realtime time by default (CONFIG_RT_GROUP_SCHED).
                *world.at("/linux/resources/cpu") = json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 1000});
            }
        });
    }
    let deadline =
        json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 50_000_000, "period": 100_000_000});
    let ran = {
        let mut world = World::running(&STAT);
        *world.at("/process/scheduler") = deadline;
        world.run()
    };
    assert!(ran.out.starts_with("6 ") || ran.err.contains("process.scheduler: sched_setattr policy 6"), "{ran:?}");
}

#[test]
fn an_invalid_policy_is_refused() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know scheduler");
    let cases = [
        (json!({"policy": "SCHED_BATCH", "nice": -21}), "process.scheduler.nice: -21 is not in -20..19"),
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice: 20 is not in -20..19"),
        (
            json!({"policy": "SCHED_OTHER", "priority": 1}),
            "process.scheduler.priority: is for SCHED_FIFO and SCHED_RR only",
        ),
        (json!({"policy": "SCHED_RR", "runtime": 1}), "process.scheduler.runtime: is for SCHED_DEADLINE only"),
        (json!({"policy": "SCHED_NONE"}), "process.scheduler.policy: unknown value \"SCHED_NONE\""),
        (json!({"policy": "SCHED_OTHER", "flags": ["X"]}), "process.scheduler.flags[0]: unknown value \"X\""),
        (json!({"policy": "SCHED_ISO"}), "process.scheduler: sched_setattr policy 4"),
        (json!({"policy": "SCHED_FIFO", "priority": 100}), "process.scheduler"),
    ];
    for (scheduler, words) in cases {
        refused(words, set("/process/scheduler", &scheduler));
    }
}

#[test]
fn the_io_priority_is_set() {
    needs_root!("a raised limit or priority");
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know ioPriority");
    let show = |priority: Value| {
        move |world: &mut World| {
            symlink("busybox", world.rootfs("bin/ionice")).unwrap();
            *world.at("/process/ioPriority") = priority.clone();
        }
    };
    both_say("best-effort: prio 6\n", &["ionice"], show(json!({"class": "IOPRIO_CLASS_BE", "priority": 6})));
    both_say(
        "idle\n",
        &["sh", "-c", "ionice | sed 's/:.*//'"],
        show(json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0})),
    );
    both_say("realtime: prio 3\n", &["ionice"], show(json!({"class": "IOPRIO_CLASS_RT", "priority": 3})));
    refused(
        "process.ioPriority.priority: 8 is not in 0..7",
        set("/process/ioPriority", &json!({"class": "IOPRIO_CLASS_BE", "priority": 8})),
    );
}

#[test]
fn the_personality_is_set() {
    let with = |domain: &'static str| {
        move |world: &mut World| {
            symlink("busybox", world.rootfs("bin/uname")).unwrap();
            *world.at("/linux/personality") = json!({"domain": domain});
        }
    };
    only!(Who::Us, Who::Crun; "runc 1.1 does not know personality");
    both_say("i686\n", &["uname", "-m"], with("LINUX32"));
    both_say("x86_64\n", &["uname", "-m"], with("LINUX"));
}

#[test]
fn the_memory_policy_is_set() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know memoryPolicy");
    needs!(fs::exists("/proc/self/numa_maps").unwrap(), "a kernel without NUMA");
    let show = ["sh", "-c", "head -n1 /proc/self/numa_maps | awk '{ print $2 }'"];
    let policy = |mode: &str, nodes: &str, flags: Value| json!({"mode": mode, "nodes": nodes, "flags": flags});
    both_say("interleave:0\n", &show, set("/linux/memoryPolicy", &policy("MPOL_INTERLEAVE", "0", json!([]))));
    both_say(
        "bind=static:0\n",
        &show,
        set("/linux/memoryPolicy", &policy("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]))),
    );
    both_say("default\n", &show, set("/linux/memoryPolicy", &policy("MPOL_DEFAULT", "", json!([]))));
    refused(
        "linux.memoryPolicy.nodes: must be empty",
        set("/linux/memoryPolicy", &policy("MPOL_LOCAL", "0", json!([]))),
    );
    refused(
        "linux.memoryPolicy.nodes: \"x\" is not a list",
        set("/linux/memoryPolicy", &policy("MPOL_BIND", "x", json!([]))),
    );
    refused("linux.memoryPolicy: set_mempolicy", set("/linux/memoryPolicy", &policy("MPOL_BIND", "63", json!([]))));
}

// --- CPUs

const CPUS: [&str; 3] = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status | sed 's/.*\\t//'"];

/// The runtime, confined to CPU 0.
fn pinned(world: &World, args: &[&str]) -> Outcome {
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(crate::world::runtime()).arg("--root").arg(world.path("state"));
    finish(command.args(args).current_dir(world.bundle()))
}

fn two_cpus() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("Cpus_allowed_list:\t0-")
}

#[test]
fn our_own_cpus_are_not_the_containers() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not reset the mask");
    needs!(two_cpus(), "one CPU");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
    let mut world = World::running(&CPUS);
    world.write();
    assert_eq!(pinned(&world, &["run", &world.id]).ok().trim(), own);
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    assert_eq!(pinned(&world, &[&["exec", &world.id], &CPUS[..]].concat()).ok().trim(), own);
}

#[test]
fn exec_runs_on_the_requested_cpus() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know execCPUAffinity");
    needs!(two_cpus(), "one CPU");
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/process/execCPUAffinity") = json!({"initial": "0", "final": "1"});
    world.begin();
    let exec = world.exec(&CPUS);
    assert_eq!(exec.ok(), "1\n");
    // The affinity of a process object counts. If it has none, the container's does.
    let mut process = world.config["process"].clone();
    process["args"] = json!(CPUS);
    for (affinity, expected) in
        [(json!({"initial": "0", "final": ""}), "0\n"), (Value::Null, "1\n"), (json!({"final": "0"}), "0\n")]
    {
        process["execCPUAffinity"] = affinity;
        fs::write(world.path("process.json"), process.to_string()).unwrap();
        let path = world.path("process.json");
        assert_eq!(world.call(&["exec", "--process", path.to_str().unwrap(), &world.id]).ok(), expected);
    }
    process["execCPUAffinity"] = json!({"initial": "500"});
    fs::write(world.path("process.json"), process.to_string()).unwrap();
    let path = world.path("process.json");
    let said = world.call(&["exec", "--process", path.to_str().unwrap(), &world.id]).fails();
    assert!(said.contains("process.execCPUAffinity.initial: sched_setaffinity"), "{said}");
}

#[test]
fn exec_is_on_those_cpus_in_a_user_namespace_and_by_a_pinned_caller_too() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know execCPUAffinity");
    needs!(two_cpus(), "one CPU");
    let mut world = World::running(&["sleep", "1000"]);
    crate::namespaces::with_users(&mut world);
    *world.at("/process/execCPUAffinity") = json!({"initial": "0", "final": "1"});
    world.begin();
    assert_eq!(world.exec(&CPUS).ok(), "1\n");
    assert_eq!(pinned(&world, &[&["exec", &world.id], &CPUS[..]].concat()).ok(), "1\n");
    // Init may use all CPUs of its cpuset.
    assert!(!world.exec(&["grep", "Cpus_allowed_list:\t1$", "/proc/1/status"]).status.success());
}

#[test]
fn create_refuses_an_invalid_list_of_cpus() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not know execCPUAffinity");
    refused("process.execCPUAffinity.initial: ", set("/process/execCPUAffinity", &json!({"initial": "x"})));
    refused(
        "process.execCPUAffinity.final: \"3-1\" is not a list of CPUs",
        set("/process/execCPUAffinity", &json!({"final": "3-1"})),
    );
}

// --- keyring

const KEYS: [&str; 3] = ["sh", "-c", "grep ' _ses' /proc/keys | awk '{ print $1, $9 }'"];

fn open_keys(world: &mut World) {
    *world.at("/linux/maskedPaths") = json!([]);
}

#[test]
fn the_container_has_a_keyring_and_exec_joins_it() {
    only!(Who::Us, Who::Runc; "crun calls it by the bare id");
    let mut world = World::running(&["sh", "-c", &format!("{} >/dev/shm/keys; sleep 1000", KEYS[2])]);
    open_keys(&mut world);
    world.begin();
    wait_until("init has looked", || world.exec(&["cat", "/dev/shm/keys"]).out.contains("_ses"));
    // runc's name ends with the id.
    let names = [format!(" _ses.{}.", world.id), format!(" _ses.{}:", world.id)];
    // Keyrings of other tests may be visible there, too: that is how the kernel works.
    let own = |text: String| text.lines().find(|line| names.iter().any(|name| line.contains(name))).map(str::to_owned);
    let init = own(world.exec(&["cat", "/dev/shm/keys"]).ok());
    assert!(init.is_some());
    assert_eq!(own(world.exec(&KEYS).ok()), init);
}

#[test]
fn no_new_keyring_keeps_ours() {
    let mut world = World::running(&KEYS);
    open_keys(&mut world);
    world.write();
    let said = world.call(&["run", "--no-new-keyring", &world.id]).ok();
    assert!(!said.contains(&world.id), "{said}");
}

// --- ends

#[test]
fn a_parent_death_signal_reaches_the_container() {
    only!(Who::Us; "runc 1.1 and crun 1.8 leave the container running");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let script = format!(
        "setpriv --pdeathsig KILL {} --root {} run {} & wait",
        crate::world::runtime().display(),
        world.path("state").display(),
        world.id
    );
    let mut parent =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(world.bundle()).spawn().unwrap();
    wait_until("running", || world.call(&["state", &world.id]).status.success() && world.status() == "running");
    parent.kill().unwrap();
    parent.wait().unwrap();
    world.wait_for_status("stopped");
}

// --- labels

#[test]
fn a_label_that_the_host_cannot_apply_is_refused() {
    needs!(!fs::exists("/sys/fs/selinux/enforce").unwrap(), "a host with SELinux");
    needs!(
        fs::read("/sys/module/apparmor/parameters/enabled").map_or(true, |text| text[0] != b'Y'),
        "a host with AppArmor"
    );
    only!(Who::Us, Who::Runc; "crun finds out when it writes the label");
    refused("process.selinuxLabel: cannot be applied: SELinux", set("/process/selinuxLabel", &json!("a:b:c:s0")));
    let said = if who() == Who::Us { "process.apparmorProfile: cannot be applied: AppArmor" } else { "apparmor" };
    refused(said, set("/process/apparmorProfile", &json!("some-profile")));
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let said = world.call(&["exec", "--apparmor", "some-profile", &world.id, "true"]).fails();
    assert!(said.contains("pparmor"), "{said}");
}

#[test]
fn a_mount_label_that_the_host_cannot_apply_is_a_warning() {
    only!(Who::Us; "runc refuses it, crun says nothing");
    needs!(!fs::exists("/sys/fs/selinux/enforce").unwrap(), "a host with SELinux");
    let mut world = World::running(&["true"]);
    world.config["linux"]["mountLabel"] = json!("a:b:c:s0");
    let said = world.run();
    assert!(said.status.success() && said.err.contains("linux.mountLabel: cannot be applied: SELinux"), "{said:?}");
}

#[test]
fn an_unconfined_process_runs_on_every_host() {
    only!(Who::Us; "runc 1.1 fails without AppArmor even so");
    both_say("x\n", &["echo", "x"], set("/process/apparmorProfile", &json!("unconfined")));
    both_say("x\n", &["echo", "x"], set("/process/apparmorProfile", &json!("")));
    both_say("x\n", &["echo", "x"], set("/process/selinuxLabel", &json!("")));
    both_say("x\n", &["echo", "x"], set("/linux/mountLabel", &json!("")));
}
