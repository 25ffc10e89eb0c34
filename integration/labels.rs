//! AppArmor profiles and SELinux labels, on hosts that have them: the guests of hack/vm. Guests without --selinux have
//! AppArmor. Those with it have a policy with the types container_t, container_file_t and host_file_t. The tests for
//! hosts without labels are in `run_as.rs`.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::world::{Outcome, Who, World, who};
use crate::{namespaces, needs, only};

// --- AppArmor

pub fn has_apparmor() -> bool {
    let enabled = fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'));
    enabled && Path::new("/sys/kernel/security/apparmor/profiles").exists()
}

/// A profile that allows everything except writing below /denied. It is unloaded in the end.
pub struct Profile {
    pub name: String,
}

impl Profile {
    pub fn load() -> Profile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("coracle-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let profile = Profile { name };
        let rules = "file, capability, network, mount, umount, pivot_root, signal, ptrace, unix, dbus, change_profile,";
        profile.parse("--replace", &format!("{rules} deny /denied/** w,"));
        profile
    }

    fn parse(&self, how: &str, rules: &str) {
        let mut parser = Command::new("apparmor_parser")
            .args([how, "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("apt-get install apparmor");
        let text = format!("profile {} flags=(attach_disconnected, mediate_deleted) {{ {rules} }}\n", self.name);
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "apparmor_parser {how}: {text}");
    }

    /// The contents of /proc/PID/attr/current.
    pub fn enforced(&self) -> String {
        format!("{} (enforce)\n", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse("--remove", "");
    }
}

const CURRENT: &str = "cat /proc/self/attr/current";
const WRITES: &str =
    "cat /proc/self/attr/current; echo x >/allowed/file && echo allowed; echo x >/denied/file && echo written";

/// A container with that profile. Only the profile denies writing to /denied.
pub fn profiled(profile: &str, script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/process/apparmorProfile") = json!(profile);
    for destination in ["/allowed", "/denied"] {
        world.mount(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}));
    }
    world
}

#[test]
fn a_profile_confines_init_and_what_it_denies_is_denied() {
    needs!(has_apparmor(), "a host with AppArmor");
    let profile = Profile::load();
    let said = profiled(&profile.name, WRITES).run();
    assert_eq!(said.out, format!("{}allowed\n", profile.enforced()), "{said:?}");
    assert!(said.err.contains("/denied/file: Permission denied"), "{said:?}");
    // Without the profile, the same script succeeds.
    let said = profiled("unconfined", WRITES).run();
    assert_eq!(said.out, "unconfined\nallowed\nwritten\n", "{said:?}");
}

#[test]
fn a_profile_confines_every_user_in_every_namespace() {
    needs!(has_apparmor(), "a host with AppArmor");
    let profile = Profile::load();
    let mut user = profiled(&profile.name, WRITES);
    *user.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    let mut privileged = profiled(&profile.name, WRITES);
    *privileged.at("/process/noNewPrivileges") = json!(false);
    let mut mapped = profiled(&profile.name, WRITES);
    namespaces::with_users(&mut mapped);
    for (what, world) in [("user", user), ("no_new_privs off", privileged), ("user namespace", mapped)] {
        let said = world.run();
        assert_eq!(said.out, format!("{}allowed\n", profile.enforced()), "{what}: {said:?}");
    }
}

#[test]
fn a_profile_confines_exec_too_unless_it_has_another() {
    needs!(has_apparmor(), "a host with AppArmor");
    let (first, second) = (Profile::load(), Profile::load());
    let world = profiled(&first.name, "exec sleep 1000");
    world.begin();
    let of_init = fs::read_to_string(format!("/proc/{}/attr/current", world.pid())).unwrap();
    assert_eq!(of_init, first.enforced());
    let said = world.exec(&["sh", "-c", WRITES]);
    assert_eq!(said.out, format!("{}allowed\n", first.enforced()), "{said:?}");
    let words: Vec<_> = CURRENT.split(' ').collect();
    let other = ["exec", "--apparmor", &second.name, &world.id];
    assert_eq!(world.call(&[&other[..], &words].concat()).ok(), second.enforced());
    let free = ["exec", "--apparmor", "unconfined", &world.id];
    assert_eq!(world.call(&[&free[..], &words].concat()).ok(), "unconfined\n");
}

#[test]
fn a_profile_confines_an_exec_by_a_process_object() {
    needs!(has_apparmor(), "a host with AppArmor");
    let (first, second) = (Profile::load(), Profile::load());
    let world = profiled(&first.name, "exec sleep 1000");
    world.begin();
    let by = |change: &dyn Fn(&mut Value)| {
        let mut process = json!({"args": CURRENT.split(' ').collect::<Vec<_>>(), "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}});
        change(&mut process);
        let file = world.path("process.json");
        fs::write(&file, process.to_string()).unwrap();
        world.call(&["exec", "--process", file.to_str().unwrap(), &world.id]).ok()
    };
    assert_eq!(by(&|process| process["apparmorProfile"] = json!(second.name)), second.enforced());
    // The process object names no profile: the process gets the container's.
    if who() != Who::Runc {
        assert_eq!(by(&|_| {}), first.enforced());
    }
}

#[test]
fn hooks_do_not_wear_the_profile() {
    needs!(has_apparmor(), "a host with AppArmor");
    let profile = Profile::load();
    let mut world = profiled(&profile.name, CURRENT);
    let file = world.path("told");
    let script = format!("cat /proc/self/attr/current >>{}", file.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    *world.at("/hooks") = json!({"createRuntime": hook, "createContainer": hook, "poststop": hook});
    assert_eq!(world.run().ok(), profile.enforced());
    assert_eq!(fs::read_to_string(file).unwrap(), "unconfined\n".repeat(3));
}

/// A startContainer hook that succeeds only if it has that label.
fn hook_that_is(label: &str) -> Value {
    let script =
        format!("seen=$(cat /proc/self/attr/current); test \"$seen\" = '{label}' || {{ echo \"$seen\"; exit 1; }}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
}

/// The hook runs a program of the container's files, and may do no more than the process.
#[test]
fn a_start_container_hook_wears_the_profile() {
    needs!(has_apparmor(), "a host with AppArmor");
    let profile = Profile::load();
    let mut world = profiled(&profile.name, CURRENT);
    *world.at("/hooks") = json!({"startContainer": hook_that_is(profile.enforced().trim())});
    assert_eq!(world.run().ok(), profile.enforced());
    *world.at("/hooks") = json!({"startContainer": hook_that_is("unconfined")});
    let said = world.run().fails();
    // crun does not print the output of a hook.
    assert!(who() == Who::Crun || said.contains(profile.enforced().trim()), "{said}");
}

#[test]
fn a_profile_that_is_not_loaded_is_reported() {
    needs!(has_apparmor(), "a host with AppArmor");
    let world = profiled("coracle-it-nowhere", "true");
    let said = world.create().fails();
    match who() {
        Who::Us => {
            let wanted = "process.apparmorProfile: label exec coracle-it-nowhere in /proc/self/attr/apparmor/exec: ";
            assert!(said.contains(wanted) && said.contains("ENOENT"), "{said}");
        }
        Who::Runc => assert!(said.contains("apparmor"), "{said}"),
        Who::Crun => assert!(said.contains("attr/exec"), "{said}"),
    }
    world.assert_clean();
    let world = profiled("unconfined", "exec sleep 1000");
    world.begin();
    let said = world.call(&["exec", "--apparmor", "coracle-it-nowhere", &world.id, "true"]).fails();
    assert!(who() == Who::Crun || said.contains("apparmor"), "{said}");
}

// --- SELinux

pub const ALL: &str = "system_u:system_r:container_t:s0:c1,c2";
pub const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const OTHERS_FILES: &str = "system_u:object_r:container_file_t:s0:c3";

fn has_selinux() -> bool {
    fs::read("/sys/fs/selinux/enforce").is_ok_and(|text| text.first() == Some(&b'1'))
}

fn set_label(path: &Path, label: &str) {
    let text = [label.as_bytes(), b"\0"].concat();
    rustix::fs::lsetxattr(path, c"security.selinux", &text, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|errno| panic!("label {}: {errno}", path.display()));
}

pub fn label_of(path: impl AsRef<Path>) -> String {
    let mut text = [0; 256];
    let path = path.as_ref();
    let length = rustix::fs::getxattr(path, c"security.selinux", &mut text)
        .unwrap_or_else(|errno| panic!("label of {}: {errno}", path.display()));
    String::from_utf8_lossy(&text[..length]).trim_end_matches('\0').to_owned()
}

/// Labels a root as an engine does before it calls the runtime.
fn label_below(path: &Path) {
    set_label(path, FILES);
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| label_below(&entry.unwrap().path()));
    }
}

/// A container as engines make them on such a host.
pub fn labelled(script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/process/selinuxLabel") = json!(ALL);
    *world.at("/linux/mountLabel") = json!(FILES);
    label_below(&world.rootfs(""));
    world
}

/// The output of a program in the container goes through pipes: the files that other tests use belong to the host, and
/// are denied to the program.
#[track_caller]
fn heard(mut command: Command) -> Outcome {
    let said = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { status: said.status, out: text(&said.stdout), err: text(&said.stderr) }
}

#[track_caller]
fn run(world: &World) -> Outcome {
    world.write();
    heard(world.command(&["run", &world.id]))
}

#[track_caller]
fn exec(world: &World, flags: &[&str], words: &[&str]) -> String {
    let said = heard(world.command(&[&["exec"][..], flags, &[&world.id], words].concat())).ok();
    said.trim_end_matches(['\0', '\n']).to_owned()
}

/// /proc/PID/attr/current ends with a NUL.
pub fn current(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap().trim_end_matches(['\0', '\n']).to_owned()
}

#[test]
fn init_and_exec_wear_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let world = labelled("exec sleep 1000");
    world.begin();
    assert_eq!(current(world.pid()), ALL);
    let words = CURRENT.split(' ').collect::<Vec<_>>();
    assert_eq!(exec(&world, &[], &words), ALL);
    // A label with fewer categories could not read its own program.
    let more = "system_u:system_r:container_t:s0:c1.c3";
    assert_eq!(exec(&world, &["--process-label", more], &words), more);
    let process = json!({"args": words, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    let by = |process: &Value| {
        let file = world.path("process.json");
        fs::write(&file, process.to_string()).unwrap();
        exec(&world, &["--process", file.to_str().unwrap()], &[])
    };
    let mut asks = process.clone();
    asks["selinuxLabel"] = json!(more);
    assert_eq!(by(&asks), more);
    assert_eq!(by(&process), ALL);
}

#[test]
fn mounts_have_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let mut world = labelled("exec sleep 1000");
    world.mount(json!({"destination": "/own", "type": "tmpfs", "source": "tmpfs"}));
    fs::create_dir_all(world.path("bound")).unwrap();
    fs::create_dir_all(world.rootfs("hidden")).unwrap();
    set_label(&world.rootfs("hidden"), FILES);
    set_label(&world.path("bound"), OTHERS_FILES);
    let bound = json!({"destination": "/bound", "type": "bind", "source": world.path("bound"), "options": ["bind"]});
    world.mount(bound);
    world.config["linux"]["maskedPaths"] = json!(["/hidden", "/proc/kcore"]);
    world.begin();
    let inside = |path: &str| PathBuf::from(format!("/proc/{}/root{path}", world.pid()));
    for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/own", "/hidden", "/dev/null"] {
        assert_eq!(label_of(inside(path)), FILES, "{path}");
    }
    // A bind mount keeps its label, and the kernel labels these file systems itself.
    assert_eq!(label_of(inside("/bound")), OTHERS_FILES);
    assert!(label_of(inside("/proc")).contains(":pseudo_t:") && label_of(inside("/sys")).contains(":pseudo_t:"));
    let made = exec(&world, &[], &["sh", "-c", "echo x >/own/file && cat /own/file"]);
    assert_eq!((made.as_str(), label_of(inside("/own/file")).as_str()), ("x", FILES));
    // So has a tmpfs that is mounted later.
    let list = world.path("list.json");
    fs::write(&list, json!([{"destination": "/hidden", "type": "tmpfs", "source": "tmpfs"}]).to_string()).unwrap();
    if who() == Who::Us {
        let said = heard(world.command(&["mounts", "add", &world.id, list.to_str().unwrap()]));
        assert_eq!(said.code(), 0, "{}", said.err);
        assert_eq!(label_of(inside("/hidden")), FILES);
    }
}

#[test]
fn mounts_in_a_user_namespace_have_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let mut world = labelled("exec sleep 1000");
    namespaces::with_users(&mut world);
    fs::create_dir_all(world.rootfs("hidden")).unwrap();
    set_label(&world.rootfs("hidden"), FILES);
    world.config["linux"]["maskedPaths"] = json!(["/hidden"]);
    world.begin();
    assert_eq!(current(world.pid()), ALL);
    for path in ["/dev", "/dev/shm", "/dev/mqueue", "/hidden"] {
        assert_eq!(label_of(format!("/proc/{}/root{path}", world.pid())), FILES, "{path}");
    }
}

#[test]
fn a_file_that_the_label_does_not_allow_is_denied() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let script = "cat /ours/file; cat /others/file; cat /hosts/file";
    let mut world = labelled(script);
    for (name, label) in [("ours", FILES), ("others", OTHERS_FILES), ("hosts", "system_u:object_r:host_file_t:s0")] {
        let directory = world.path(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), format!("{name}\n")).unwrap();
        set_label(&directory, FILES);
        set_label(&directory.join("file"), label);
        let bind = json!({"destination": format!("/{name}"), "type": "bind", "source": directory, "options": ["bind"]});
        world.mount(bind);
    }
    let said = run(&world);
    assert_eq!(said.out, "ours\n", "{said:?}");
    for denied in ["/others/file", "/hosts/file"] {
        assert!(said.err.contains(&format!("{denied}': Permission denied")), "{said:?}");
    }
    // The host's domain may do this.
    *world.at("/process/selinuxLabel") = json!("");
    run(&world).ok();
}

#[test]
fn the_keyring_has_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let world = labelled("exec sleep 1000");
    world.begin();
    // crun 1.8 uses the name without a prefix.
    let names = [format!("_ses.{}.", world.id), format!("_ses.{}:", world.id), format!("{}:", world.id)];
    let keys = fs::read_to_string("/proc/keys").unwrap();
    let key = keys.lines().find(|line| names.iter().any(|name| line.contains(&format!(" {name}"))));
    let key = key.unwrap_or_else(|| panic!("{}\n{keys}", world.id));
    let serial = i32::from_str_radix(key.split(' ').next().unwrap(), 16).unwrap();
    assert_eq!(key_label(serial), ALL, "{key}");
    world.exec(&["true"]).ok();
}

/// keyctl(2), KEYCTL_GETSECURITY.
#[allow(unsafe_code)] // no crate wraps this system call
fn key_label(serial: i32) -> String {
    const KEYCTL_GETSECURITY: i32 = 17;
    let mut text = [0u8; 256];
    // SAFETY: the kernel writes at most text.len() bytes.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GETSECURITY, serial, text.as_mut_ptr(), text.len()) };
    let length = usize::try_from(length).unwrap_or_else(|_| panic!("{}", std::io::Error::last_os_error()));
    String::from_utf8_lossy(&text[..length]).trim_end_matches('\0').to_owned()
}

#[test]
fn hooks_and_the_runtime_do_not_wear_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let mut world = labelled(CURRENT);
    let file = world.path("told");
    let script = format!("cat /proc/self/attr/current >>{}; echo >>{}", file.display(), file.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    *world.at("/hooks") = json!({"createRuntime": hook, "createContainer": hook, "poststop": hook});
    assert!(run(&world).ok().starts_with(ALL));
    let labels = fs::read_to_string(file).unwrap().replace('\0', "");
    assert_eq!(labels.lines().filter(|line| line.contains(":kernel_t:")).count(), 3, "{labels}");
    assert!(!labels.contains("container_t"), "{labels}");
}

#[test]
fn a_start_container_hook_wears_the_label() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let mut world = labelled(CURRENT);
    *world.at("/hooks") = json!({"startContainer": hook_that_is(ALL)});
    assert!(run(&world).ok().starts_with(ALL));
}

#[test]
fn a_label_that_the_policy_does_not_contain_is_reported() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    let mut world = labelled("true");
    *world.at("/process/selinuxLabel") = json!("system_u:system_r:nobody_t:s0");
    let said = world.create().fails();
    if who() == Who::Us {
        let wanted = "process.selinuxLabel: label system_u:system_r:nobody_t:s0 in /proc/self/attr/keycreate: invalid";
        assert!(said.contains(wanted), "{said}");
    }
    world.assert_clean();
    let mut world = labelled("true");
    *world.at("/linux/mountLabel") = json!("nothing");
    let said = world.create().fails();
    if who() == Who::Us {
        let wanted = "linux.mountLabel: mount an empty tmpfs labelled nothing: invalid argument (EINVAL)";
        assert!(said.contains(wanted), "{said}");
    }
    world.config["linux"]["maskedPaths"] = json!([]);
    let said = world.create().fails();
    assert!(who() != Who::Us || said.contains("mounts[1]: mount tmpfs on /dev: "), "{said}");
    world.assert_clean();
    let world = labelled("exec sleep 1000");
    world.begin();
    let said = world.call(&["exec", "--process-label", "system_u:system_r:nobody_t:s0", &world.id, "true"]);
    said.fails();
}

#[test]
fn a_terminal_has_the_label_of_its_mount() {
    needs!(has_selinux(), "a host with SELinux (hack/vm/run --selinux)");
    only!(Who::Us, Who::Runc; "crun leaves the terminal to its mount");
    let mut world = labelled("exec sleep 1000");
    *world.at("/process/terminal") = json!(true);
    world.write();
    let agent = world.path("terminal");
    let _listener = UnixListener::bind(&agent).unwrap();
    world.call(&["create", "--console-socket", agent.to_str().unwrap(), &world.id]).ok();
    world.call(&["start", &world.id]).ok();
    assert_eq!(label_of(format!("/proc/{}/root/dev/console", world.pid())), FILES);
}

#[test]
fn a_profile_is_refused_where_selinux_is() {
    needs!(has_selinux() && !has_apparmor(), "a host with SELinux and without AppArmor (hack/vm/run --selinux)");
    only!(Who::Us; "runc says it in other words, crun says nothing");
    let mut world = labelled(CURRENT);
    *world.at("/process/apparmorProfile") = json!("nowhere");
    let said = world.run().fails();
    assert!(said.contains("process.apparmorProfile: cannot be applied: AppArmor"), "{said}");
}
