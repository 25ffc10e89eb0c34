//! Many containers at once: none is lost, none hangs, nothing is left. The test counts only what belongs to it, because
//! other tests run at the same time.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::namespaces::with_users;
use crate::world::{World, wait_until};

const RUNS: u32 = 60;
const AT_ONCE: usize = 8;

/// The objects of a test on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    mounts: usize,
    cgroups: usize,
    processes: usize,
    directories: usize,
}

impl Count {
    const NOTHING: Count = Count { mounts: 0, cgroups: 0, processes: 0, directories: 0 };

    /// Counts mounts below its directory, cgroups with its id, processes with its id or directory on their command
    /// line, and directories of containers.
    fn of(world: &World) -> Count {
        let here = world.path("").display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&world.id) || line.contains(here.trim_end_matches('/'))
        });
        let state = fs::read_dir(world.path("state")).into_iter().flatten().flatten();
        Count {
            mounts: mounts.lines().filter(|line| line.contains(here.trim_end_matches('/'))).count(),
            cgroups: world.cgroups().len(),
            processes: processes.count(),
            directories: state.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).count(),
        }
    }
}

/// Runs all containers. Each must end with `code` and print `said`.
fn all_run(world: &World, code: i32, said: &str) {
    assert_eq!(Count::of(world), Count::NOTHING, "before");
    let next = AtomicU32::new(0);
    let ended = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= RUNS {
                        return;
                    }
                    // `call` itself ends a run that hangs, and fails.
                    let run = world.call(&["run", &format!("{}-{n}", world.id)]);
                    assert_eq!((run.code(), run.out.as_str()), (code, said), "run {n}: {}", run.err);
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(ended.into_inner(), RUNS);
    wait_until("nothing is left", || Count::of(world) == Count::NOTHING);
}

/// A world in which each container has a cgroup with its own id.
fn each_its_cgroup(script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    world.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    world
}

#[test]
fn sixty_stock_containers_eight_at_a_time() {
    let world = each_its_cgroup("echo here; exit 7");
    world.write();
    all_run(&world, 7, "here\n");
}

#[test]
fn sixty_containers_with_users_and_seccomp_eight_at_a_time() {
    let mut world = each_its_cgroup("id -u; mkdir /dev/shm/no 2>/dev/null || exit 9");
    with_users(&mut world);
    let denied = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]);
    world.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": denied});
    world.write();
    all_run(&world, 9, "0\n");
}
