//! Limits, labels, filters and rules that are silently ignored. Each property that confines is applied, an error, or a
//! warning, whatever the host cannot do (docs/spec.md, "Properties that cannot be applied").

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::rootless::Own;
use crate::world::{HostProcess, Outcome, Who, World, by_units, finish, runtime, wait_until};
use crate::{needs, needs_root, only};

/// The environment of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prepared {
    /// The host as it is.
    Host,
    /// No cgroup hierarchy is mounted.
    NoCgroup,
    /// The hierarchy of this controller is not mounted (version 1).
    Without(&'static str),
    /// Cgroups cannot be made or written.
    ReadOnly,
    /// Root of another user namespace, which owns the cgroups.
    NestedRoot,
    /// An ordinary user.
    User,
}

/// The result for a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Applied,
    Refused,
    Warned,
    /// None of these.
    Vanished,
}

/// A property, a value for it, and how to see that it is applied.
struct Case {
    place: &'static str,
    value: Value,
    /// Other properties that it needs, by JSON pointer.
    with: &'static [(&'static str, &'static str)],
    /// The controller of version 1 that applies it.
    controller: &'static str,
    applied: fn(&World) -> bool,
}

const fn never(_: &World) -> bool {
    false
}

/// Whether a file of the container's cgroups has this value.
fn says(world: &World, files: &[(&str, &str)]) -> bool {
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    world.cgroups().iter().any(|group| files.iter().any(|(file, value)| text(&group.join(file)) == *value))
}

/// Whether a file of init in /proc has a line with these words.
fn has_line(world: &World, file: &str, words: &[&str]) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/{file}", world.pid())).unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().windows(words.len()).any(|part| part == words))
}

/// Whether a program of the host prints this word about init.
fn prints(world: &World, program: &[&str], word: &str) -> bool {
    let pid = world.pid().to_string();
    let words: Vec<_> = program.iter().map(|word| if *word == "PID" { &pid } else { *word }).collect();
    finish(Command::new(words[0]).args(&words[1..])).out.contains(word)
}

fn of_cgroups() -> Vec<Case> {
    let case = |place, value, controller, applied| Case { place, value, with: &[], controller, applied };
    let mut cases = vec![
        case("linux.resources.pids.limit", json!(33), "pids", |w| says(w, &[("pids.max", "33")])),
        case("linux.resources.memory.limit", json!(67_108_864), "memory", |w| {
            says(w, &[("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")])
        }),
        case("linux.resources.memory.reservation", json!(8_388_608), "memory", |w| {
            says(w, &[("memory.soft_limit_in_bytes", "8388608"), ("memory.low", "8388608")])
        }),
        case("linux.resources.memory.swappiness", json!(7), "memory", |w| says(w, &[("memory.swappiness", "7")])),
        case("linux.resources.memory.disableOOMKiller", json!(true), "memory", |w| {
            w.cgroups().iter().any(|group| {
                fs::read_to_string(group.join("memory.oom_control"))
                    .is_ok_and(|text| text.contains("oom_kill_disable 1"))
            })
        }),
        case("linux.resources.cpu.shares", json!(512), "cpu", |w| {
            says(w, &[("cpu.shares", "512"), ("cpu.weight", "59")])
        }),
        case("linux.resources.cpu.quota", json!(50_000), "cpu", |w| {
            says(w, &[("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")])
        }),
        case("linux.resources.cpu.period", json!(50_000), "cpu", |w| {
            says(w, &[("cpu.cfs_period_us", "50000"), ("cpu.max", "max 50000")])
        }),
        case("linux.resources.cpu.idle", json!(1), "cpu", |w| says(w, &[("cpu.idle", "1")])),
        case("linux.resources.cpu.realtimeRuntime", json!(1000), "cpu", |w| says(w, &[("cpu.rt_runtime_us", "1000")])),
        case("linux.resources.cpu.cpus", json!("0"), "cpuset", |w| says(w, &[("cpuset.cpus", "0")])),
        case("linux.resources.cpu.mems", json!("0"), "cpuset", |w| says(w, &[("cpuset.mems", "0")])),
        case("linux.resources.blockIO.weight", json!(300), "blkio", |w| {
            let files = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight"];
            says(w, &files.map(|file| (file, "300"))) || says(w, &[("io.weight", "default 2930")])
        }),
        case("linux.resources.network.classID", json!(5), "net_cls", |w| says(w, &[("net_cls.classid", "5")])),
        case("linux.resources.network.priorities", json!([{"name": "lo", "priority": 3}]), "net_prio", |w| {
            w.cgroups().iter().any(|group| {
                fs::read_to_string(group.join("net_prio.ifpriomap")).is_ok_and(|text| text.contains("lo 3"))
            })
        }),
        case("linux.resources.hugepageLimits", json!([{"pageSize": "2MB", "limit": 0}]), "hugetlb", |w| {
            says(w, &[("hugetlb.2MB.limit_in_bytes", "0"), ("hugetlb.2MB.max", "0")])
        }),
        case("linux.resources.rdma", json!({"mlx5_1": {"hcaHandles": 3}}), "rdma", never),
        case("linux.resources.unified", json!({"pids.max": "44"}), "", |w| says(w, &[("pids.max", "44")])),
    ];
    cases.push(Case {
        place: "linux.resources.devices",
        value: json!([{"allow": false, "type": "c", "major": 10, "minor": 237, "access": "rwm"}]),
        with: &[("/linux/devices", r#"[{"type": "c", "path": "/dev/loop-control", "major": 10, "minor": 237}]"#)],
        controller: "devices",
        applied: |w| {
            let opened = w.exec(&["dd", "if=/dev/loop-control", "count=0"]);
            opened.status.code() == Some(1) && opened.err.contains("Operation not permitted")
        },
    });
    cases
}

fn of_processes() -> Vec<Case> {
    let case = |place, value, applied| Case { place, value, with: &[], controller: "", applied };
    let errno = |name: &str| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO"}]});
    let mut cases = vec![
        case("process.rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]), |w| {
            has_line(w, "limits", &["open", "files", "77", "88"])
        }),
        case("process.oomScoreAdj", json!(500), |w| has_line(w, "oom_score_adj", &["500"])),
        case("process.oomScoreAdj", json!(-500), |w| has_line(w, "oom_score_adj", &["-500"])),
        case("process.ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 2}), |w| {
            prints(w, &["ionice", "-p", "PID"], "best-effort: prio 2")
        }),
        case("process.ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 2}), |w| {
            prints(w, &["ionice", "-p", "PID"], "realtime: prio 2")
        }),
        case("process.scheduler", json!({"policy": "SCHED_BATCH"}), |w| {
            prints(w, &["chrt", "-p", "PID"], "SCHED_BATCH")
        }),
        case("process.scheduler", json!({"policy": "SCHED_FIFO", "priority": 5}), |w| {
            prints(w, &["chrt", "-p", "PID"], "SCHED_FIFO")
        }),
        case("process.noNewPrivileges", json!(true), |w| has_line(w, "status", &["NoNewPrivs:", "1"])),
        case("process.capabilities", json!({"bounding": ["CAP_NO_SUCH"]}), never),
        case("process.apparmorProfile", json!("no-such-profile"), |w| {
            has_line(w, "attr/current", &["no-such-profile"])
        }),
        case("process.selinuxLabel", json!("a:b:c:s0"), |w| has_line(w, "attr/current", &["a:b:c:s0"])),
        case("linux.mountLabel", json!("a:b:c:s0"), never),
        case("linux.personality", json!({"domain": "LINUX32"}), |w| has_line(w, "personality", &["00000008"])),
        case("linux.memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}), |w| {
            has_line(w, "numa_maps", &["bind:0"])
        }),
        case("linux.memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "1000"}), never),
        case("linux.intelRdt", json!({"l3CacheSchema": "L3:0=f"}), never),
        case("linux.sysctl", json!({"kernel.msgmax": "9000"}), |w| {
            prints(w, &["nsenter", "-t", "PID", "-i", "cat", "/proc/sys/kernel/msgmax"], "9000")
        }),
        case("linux.sysctl", json!({"kernel.panic": "1"}), never),
        case("linux.netDevices", json!({"nosuchdevice": {}}), never),
        case("linux.seccomp", errno("mkdir"), |w| has_line(w, "status", &["Seccomp:", "2"])),
    ];
    cases.push(Case {
        place: "linux.timeOffsets",
        value: json!({"monotonic": {"secs": 7}}),
        with: &[("/linux/namespaces/-", r#"{"type": "time"}"#)],
        controller: "",
        applied: |w| has_line(w, "timens_offsets", &["monotonic", "7", "0"]),
    });
    // A filter without effect does not count, whatever `Seccomp:` shows.
    cases.push(case("linux.seccomp.syscalls[0].names[0]", json!("nosuchcall"), never));
    cases
}

impl Case {
    fn put_into(&self, world: &mut World) {
        for (pointer, text) in self.with {
            let value = serde_json::from_str(text).unwrap();
            match pointer.strip_suffix("/-") {
                Some(list) => world.at(list).as_array_mut().unwrap().push(value),
                None => *world.at(pointer) = value,
            }
        }
        if self.place.starts_with("linux.seccomp.") {
            *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": [self.value], "action": "SCMP_ACT_ERRNO"}]});
            return;
        }
        *world.at(&format!("/{}", self.place.replace('.', "/"))) = self.value.clone();
    }

    /// The message may be about the cgroup as a whole.
    fn is_named_in(&self, said: &str) -> bool {
        let of_cgroups = self.place.starts_with("linux.resources.");
        said.contains(self.place) || (of_cgroups && said.contains("linux.cgroupsPath: "))
    }

    fn verdict(&self, world: &World, seen: &Outcome) -> Verdict {
        match seen.status.success() {
            false if self.is_named_in(&seen.err) => Verdict::Refused,
            false => Verdict::Vanished,
            true if seen.err.contains(&format!("warning: {}", self.place)) => Verdict::Warned,
            true if (self.applied)(world) => Verdict::Applied,
            true => Verdict::Vanished,
        }
    }
}

/// A user namespace whose root is the host's root, and a mount namespace.
fn nest() -> HostProcess {
    let nest =
        HostProcess::begin(Command::new("unshare").args(["-U", "-m", "--", "sleep", "1000"]).stdin(Stdio::null()));
    let is_there = || fs::read_to_string(format!("/proc/{}/comm", nest.id())).is_ok_and(|comm| comm == "sleep\n");
    wait_until("the namespace is there", is_there);
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", nest.id()), "0 0 65536").unwrap();
    }
    nest
}

const READ_ONLY: &str = "grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5 | \
     while read -r m; do mount -o remount,bind,ro \"$m\"; done";

/// The runtime in this environment, without the command's arguments.
fn runtime_in(prepared: Prepared, nest: &HostProcess, world: &World) -> Command {
    let script = match prepared {
        Prepared::NoCgroup => "umount -l /sys/fs/cgroup".to_owned(),
        Prepared::Without(controller) => format!("umount -l /sys/fs/cgroup/{controller}"),
        Prepared::ReadOnly => READ_ONLY.to_owned(),
        Prepared::Host | Prepared::NestedRoot | Prepared::User => ":".to_owned(),
    };
    let mut command = match prepared {
        Prepared::NestedRoot => {
            let mut command = Command::new("nsenter");
            command.args(["-t", &nest.id().to_string(), "-U", "-m", "--"]);
            command
        }
        _ => {
            let mut command = Command::new("unshare");
            command.args(["-m", "--propagation", "private", "--"]);
            command
        }
    };
    let here = world.bundle().display().to_string();
    command.args(["sh", "-c", &format!("{script}; cd {here} && exec \"$@\""), "sh"]).arg(runtime());
    command.arg("--root").arg(world.path("state"));
    command
}

fn meets(case: &Case, prepared: Prepared, nest: &HostProcess) -> (Verdict, Outcome) {
    let args = ["sleep", "1000"];
    if prepared == Prepared::User {
        let mut own = Own::running(&args);
        case.put_into(&mut own.world);
        own.world.write();
        let seen = own.call(&["run", "-d", &own.world.id]);
        return (case.verdict(&own.world, &seen), seen);
    }
    let mut world = World::running(&args);
    if prepared == Prepared::NestedRoot {
        // As for `run` in a container: a cgroup that config.json does not name may be missing.
        world.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    }
    // This case is not about the stock rule.
    world.config["linux"].as_object_mut().unwrap().remove("resources");
    case.put_into(&mut world);
    world.write();
    let seen = finish(runtime_in(prepared, nest, &world).args(["run", "-d", &world.id]));
    let left = world.path("state").join(&world.id);
    assert!(seen.status.success() || !left.exists(), "{} in {prepared:?} leaves {left:?}: {seen:?}", case.place);
    (case.verdict(&world, &seen), seen)
}

/// Whether this host has the controller in a hierarchy of version 1.
fn is_mounted(controller: &str) -> bool {
    !controller.is_empty() && Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
}

#[track_caller]
fn no_case_vanishes(cases: &[Case], prepared_cases: impl Fn(&Case) -> Vec<(Prepared, Option<Verdict>)>) {
    let nest = nest();
    let mut wrong = Vec::new();
    for case in cases {
        for (prepared, expected) in prepared_cases(case) {
            let (verdict, seen) = meets(case, prepared, &nest);
            if verdict == Verdict::Vanished || expected.is_some_and(|expected| expected != verdict) {
                wrong.push(format!(
                    "{} = {} in {prepared:?}: {verdict:?}, expected {expected:?}: {seen:?}",
                    case.place, case.value
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_limit_of_a_cgroup_is_applied_refused_or_warned_about() {
    needs_root!("mounts of the host's");
    needs!(!by_units(), "systemd reads the cgroups that are hidden here");
    needs!(fs::exists("/dev/loop-control").unwrap(), "no /dev/loop-control, which no container may open");
    only!(Who::Us; "runc and crun ignore some");
    no_case_vanishes(&of_cgroups(), |case| {
        let devices = case.place == "linux.resources.devices";
        let mut prepared_cases = vec![
            (Prepared::Host, devices.then_some(Verdict::Applied)),
            (Prepared::NoCgroup, Some(Verdict::Refused)),
            (Prepared::ReadOnly, Some(Verdict::Refused)),
            (Prepared::NestedRoot, devices.then_some(Verdict::Warned)),
            (Prepared::User, devices.then_some(Verdict::Warned)),
        ];
        if is_mounted(case.controller) {
            let without = if case.controller == "hugetlb" { None } else { Some(Verdict::Refused) };
            prepared_cases.push((Prepared::Without(case.controller), without));
        }
        prepared_cases
    });
}

#[test]
fn every_confinement_is_applied_refused_or_a_warning() {
    needs_root!("user namespaces of other users");
    needs!(!by_units(), "the cgroups of systemd are not asked for here");
    only!(Who::Us; "runc and crun ignore some");
    no_case_vanishes(&of_processes(), |_| {
        [Prepared::Host, Prepared::NestedRoot, Prepared::User].map(|prepared| (prepared, None)).to_vec()
    });
}
