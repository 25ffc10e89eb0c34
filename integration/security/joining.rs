//! A process that joins a container, as seen from inside (CVE-2016-9962). The container looks at each new process in
//! its pid namespace from its first moment on. The process's root directory, working directory, descriptors, command
//! line, environment and memory lead to nothing of the host.
//!
//! The attack succeeds on earlier versions of coracle, without the bridge: they show their root directory in the first
//! `exec` and in `create`. Debian's runc does so in `create`.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::attacker;
use crate::namespaces::with_users;
use crate::ordinary;
use crate::world::{Who, World, finish, skip, test_name, wait_until};
use crate::{needs, needs_root, only};

const SECRET: &str = "correct-horse-battery-staple";

/// A container with an attacker that may trace every process that it sees.
pub(super) struct Watched {
    pub(super) world: World,
}

impl Watched {
    fn new(attacker: &std::path::Path) -> Watched {
        Watched::by(attacker, |world| {
            let secret: String = SECRET.chars().rev().collect();
            world.config["process"]["args"] =
                json!(["/bin/attacker", "joiner", "/found", "/stop", world.bundle().join("config.json"), secret]);
        })
    }

    pub(super) fn by(attacker: &std::path::Path, config: impl FnOnce(&mut World)) -> Watched {
        let mut world = World::running(&[]);
        finish(Command::new("cp").arg(attacker).arg(world.rootfs("bin/attacker"))).ok();
        config(&mut world);
        world.config["root"]["readonly"] = json!(false);
        let capabilities = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE", "CAP_KILL"]);
        for set in ["bounding", "effective", "permitted"] {
            world.config["process"]["capabilities"][set] = capabilities.clone();
        }
        world.begin();
        let watched = Watched { world };
        wait_until("the attacker looks", || watched.found().starts_with("looking"));
        watched
    }

    pub(super) fn found(&self) -> String {
        fs::read_to_string(self.world.rootfs("found")).unwrap_or_default()
    }

    /// Calls until the attacker has seen ten processes (on a busy machine it may miss some). It must have found
    /// nothing.
    #[track_caller]
    fn shows_nothing(&self, call: impl Fn()) {
        for _ in 0..500 {
            if self.found().lines().filter(|line| line.starts_with("seen")).count() >= 10 {
                break;
            }
            call();
        }
        let seen = self.found().lines().filter(|line| line.starts_with("seen")).count();
        assert!(seen >= 10, "the attacker has seen {seen} processes: it would miss what they show");
        fs::write(self.world.rootfs("stop"), "").unwrap();
        wait_until("the attacker has ended", || {
            let found = self.found();
            found.ends_with("nothing\n") || found.ends_with("through\n")
        });
        let found = self.found();
        let got: Vec<_> = found.lines().filter(|line| line.contains(": ")).collect();
        assert!(got.is_empty(), "a newcomer showed: {got:#?}");
    }
}

/// A container that may trace all processes attaches to each new process before it becomes the program. The new process
/// has no more rights than the container. Earlier versions of coracle, which dropped the rights after the spawn, and
/// runc come with all capabilities.
#[track_caller]
fn gives_no_rights(user: u32, call: impl Fn(&World)) {
    let Some(attacker) = attacker() else {
        skip(&test_name(), "no C compiler here, and ATTACKER names no program");
        return;
    };
    needs!(ordinary::root(), "in an ordinary user's container nobody may trace what is not the user's");
    let watched = Watched::by(attacker, |world| {
        world.config["process"]["args"] = json!(["/bin/attacker", "seize", "/found", "/stop", "true"]);
        world.config["process"]["user"] = json!({"uid": user, "gid": user});
        for set in ["inheritable", "ambient"] {
            world.config["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE"]);
        }
        finish(Command::new("chmod").arg("0777").arg(world.rootfs(""))).ok();
    });
    let caught = || watched.found().lines().filter(|line| line.starts_with("caught")).count();
    for _ in 0..40 {
        if caught() >= 5 || watched.found().contains("gained") {
            break;
        }
        call(&watched.world);
    }
    let found = watched.found();
    let gained: Vec<_> = found.lines().filter(|line| line.starts_with("gained")).collect();
    assert!(gained.is_empty(), "{gained:#?}");
    if caught() == 0 {
        skip(&test_name(), "the attacker has caught nobody: the machine is busy");
    }
}

/// Asserts that the attacker sees no file of the host in the processes that `call` makes.
#[track_caller]
fn shows_nothing(needs: &str, call: impl Fn(&World)) {
    let Some(attacker) = attacker() else {
        skip(&test_name(), "no C compiler here, and ATTACKER names no program");
        return;
    };
    needs!(ordinary::root(), needs);
    let watched = Watched::new(attacker);
    watched.shows_nothing(|| call(&watched.world));
}

#[test]
fn an_exec_that_is_seized_has_no_more_rights_than_the_container() {
    for user in [0, 1000] {
        gives_no_rights(user, |world| {
            finish(&mut called(world, &["exec", &world.id, "/bin/true"])).ok();
        });
    }
}

/// A call of the runtime with a secret in the environment, and an open directory of the host.
fn called(world: &World, args: &[&str]) -> Command {
    let runtime = world.command(args);
    // A shell opens the directory: if this process did, the children of other tests would have it, too.
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec 9</; exec "$@""#, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
    command.env("HOST_SECRET", SECRET).current_dir(world.bundle());
    command
}

#[test]
fn an_exec_shows_nothing_of_the_host() {
    shows_nothing("in an ordinary user's container nobody may trace what is not the user's", |watched| {
        finish(&mut called(watched, &["exec", "--env", "PASSWORD=x", &watched.id, "/bin/true"])).ok();
    });
}

const NO_PIDS: &str = "an ordinary user joins no pid namespace without its user namespace";

#[test]
fn a_container_that_joins_a_pid_namespace_shows_nothing_of_the_host() {
    shows_nothing(NO_PIDS, |watched| {
        let joining = in_pids_of(watched);
        finish(&mut called(&joining, &["run", &joining.id])).ok();
    });
}

/// A container in the pid namespace of `watched`, with the same capabilities and the same user.
fn in_pids_of(watched: &World) -> World {
    let mut joining = World::running(&["/bin/true"]);
    joining.namespace("pid", Some(&format!("/proc/{}/ns/pid", watched.pid())));
    for name in ["capabilities", "user"] {
        joining.config["process"][name] = watched.config["process"][name].clone();
    }
    joining.write();
    joining
}

/// A container with a user namespace of its own in the pid namespace of `watched`, with the same capabilities.
fn with_users_beside(watched: &World) -> World {
    let mut joining = in_pids_of(watched);
    with_users(&mut joining);
    for (name, value) in [("maskedPaths", json!([])), ("readonlyPaths", json!([]))] {
        joining.config["linux"][name] = value;
    }
    // Only the owner of the pid namespace can make a proc for it.
    joining.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
    joining.write();
    joining
}

/// The attack succeeds on Debian's runc, and on versions of coracle in which the bridge did not make the user
/// namespace: they show the host's root directory.
#[test]
fn a_new_user_namespace_in_a_joined_pid_namespace_shows_nothing_of_the_host() {
    shows_nothing(NO_PIDS, |watched| {
        let joining = with_users_beside(watched);
        finish(&mut called(&joining, &["run", &joining.id])).ok();
    });
}

/// Tests the init of such a container, and the process that opens the proc of that pid namespace for it.
#[test]
fn a_container_that_joins_a_pid_namespace_gives_no_rights() {
    gives_no_rights(1000, |world| {
        let joining = in_pids_of(world);
        finish(&mut called(&joining, &["run", &joining.id])).ok();
    });
}

/// The same, and the mount namespace is joined, too. A mount on its `/` must not keep the process that opens the proc
/// from making a user namespace. The attack succeeds on earlier versions of coracle, which did not check what covers
/// the new root.
#[test]
fn a_container_that_joins_a_pid_and_a_mount_namespace_gives_no_rights() {
    // Its root stays the root of that mount namespace.
    let joining = std::cell::OnceCell::new();
    gives_no_rights(0, |world| {
        let joining = joining.get_or_init(|| {
            let mut joining = in_pids_of(world);
            joining.namespace("mount", Some(&format!("/proc/{}/ns/mnt", world.pid())));
            joining.write();
            joining
        });
        finish(&mut called(joining, &["run", &joining.id])).ok();
    });
}

#[test]
fn a_new_user_namespace_in_a_joined_pid_namespace_gives_no_rights() {
    gives_no_rights(0, |world| {
        let joining = with_users_beside(world);
        finish(&mut called(&joining, &["run", &joining.id])).ok();
    });
}

#[test]
fn an_exec_into_a_user_namespace_beside_a_joined_pid_namespace_gives_no_rights() {
    let joining = std::cell::OnceCell::new();
    gives_no_rights(0, |world| {
        let joining = joining.get_or_init(|| {
            let mut joining = with_users_beside(world);
            joining.config["process"]["args"] = json!(["sleep", "1000"]);
            joining.begin();
            joining
        });
        finish(&mut called(joining, &["exec", &joining.id, "/bin/true"])).ok();
    });
}

/// The pid namespace belongs to the host, and the user namespace does not own it: a process in the pid namespace could
/// trace init.
#[test]
fn a_pid_namespace_is_not_joined_with_a_foreign_user_namespace() {
    only!(Who::Us; "runc and crun join both");
    needs!(ordinary::root(), NO_PIDS);
    let (pids, mut users) = (World::running(&["sleep", "1000"]), World::running(&["sleep", "1000"]));
    pids.begin();
    with_users(&mut users);
    users.begin();
    let mut world = with_users_beside(&pids);
    world.in_users_of(&format!("/proc/{}/ns/user", users.pid()));
    let said = world.run().fails();
    assert!(said.contains("does not belong to the user namespace that is joined"), "{said}");
    with_users(&mut world);
    world.mount(json!({"destination": "/proc", "type": "proc", "source": "proc"}));
    let said = world.run().fails();
    assert!(said.contains("the new user namespace does not own it"), "{said}");
}

/// A process that waits for `start` holds only the descriptors for the program and those that `start` needs.
#[test]
fn a_container_that_waits_for_start_holds_no_descriptor_of_the_caller() {
    needs_root!("a look at a process that is closed");
    let world = World::running(&["/bin/true"]);
    world.write();
    finish(&mut called(&world, &["create", &world.id])).ok();
    let directory = format!("/proc/{}/fd", world.pid());
    let links = fs::read_dir(directory).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        (number > 2).then(|| fs::read_link(entry.path()).unwrap().display().to_string())
    });
    let state = world.path("state").display().to_string();
    let others: Vec<_> = links.filter(|link| !link.starts_with(&state) && !link.starts_with("socket:")).collect();
    assert!(others.is_empty(), "{others:?}");
    let read = |file: &str| {
        let text = fs::read(format!("/proc/{}/{file}", world.pid())).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(!read("cmdline").contains(&state), "{}", read("cmdline"));
    assert!(!read("environ").contains(SECRET));
}

/// The runtime reads the namespaces of the new process between its last word and its program.
#[test]
fn an_exec_that_is_killed_before_its_program_says_so() {
    let Some(attacker) = attacker() else {
        skip(&test_name(), "no C compiler here, and ATTACKER names no program");
        return;
    };
    let mut world = World::running(&["/bin/attacker", "stopper", "15"]);
    finish(Command::new("cp").arg(attacker).arg(world.rootfs("bin/attacker"))).ok();
    world.config["root"]["readonly"] = json!(false);
    world.begin();
    for _ in 0..100 {
        let exec = world.exec(&["sleep", "0.01"]);
        // 143: its program had begun. 0: the attacker missed it.
        let said = exec.code() == 143 || exec.code() == 0 || exec.err.contains("unable to start container process");
        assert!(said && !exec.err.contains("ENOENT"), "{exec:?}");
    }
}
