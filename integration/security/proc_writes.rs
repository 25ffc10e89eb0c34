//! Files of /proc that the container's root has covered before the runtime writes to them (CVE-2019-16884,
//! CVE-2025-52881). The kernel gets what the runtime writes, or the runtime fails. A file of the container never
//! gets the value.
//!
//! The attack succeeds on versions of coracle that did not use the host's /proc. They write the label of an `exec` into
//! a user namespace, and the labels and kernel parameters of a container in a joined mount namespace, to the
//! container's file, and report success.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::namespaces::Pod;
use crate::world::{Outcome, Who, World, finish, wait_until};
use crate::{needs, only, ordinary};

/// As on a host with AppArmor: the runtime reads this one file. The kernel here has no AppArmor, and refuses every
/// label.
fn where_apparmor_is_on(world: &World, args: &[&str]) -> Outcome {
    let script = "mount -t tmpfs none /sys/module && mkdir -p /sys/module/apparmor/parameters \
        && echo Y >/sys/module/apparmor/parameters/enabled && exec \"$@\"";
    let call = world.command(args);
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    finish(command.arg(call.get_program()).args(call.get_args()).current_dir(world.bundle()))
}

/// Files at the paths where the runtime writes.
fn fake_proc(directory: &Path) {
    for file in ["sys/net/ipv4/ip_forward", "self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj"] {
        let file = directory.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "untouched").unwrap();
    }
}

fn touched(directory: &Path) -> Vec<PathBuf> {
    let files = ["sys/net/ipv4/ip_forward", "self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj"];
    let files = files.iter().map(|file| directory.join(file));
    files.filter(|file| fs::read_to_string(file).unwrap() != "untouched").collect()
}

#[test]
fn the_label_of_an_exec_into_a_user_namespace_is_not_the_containers_to_take() {
    only!(Who::Us; "who else believes in AppArmor looks at other files");
    needs!(ordinary::root(), "mounts over /sys");
    needs!(!Path::new("/sys/module/apparmor").exists(), "the kernel has AppArmor itself");
    let mut world = World::running(&["sh", "-c", "mount -o bind /fake /proc && touch /covered && sleep 1000"]);
    world.namespace("user", None);
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    *world.at("/linux/uidMappings") = maps.clone();
    *world.at("/linux/gidMappings") = maps;
    world.config["root"]["readonly"] = json!(false);
    for set in ["bounding", "effective", "permitted"] {
        world.config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    }
    let fake = world.rootfs("fake");
    fake_proc(&fake);
    finish(Command::new("chown").args(["-R", "100000:100000"]).arg(world.rootfs("."))).ok();
    world.begin();
    wait_until("/proc is covered", || world.rootfs("covered").exists());
    let outcome = where_apparmor_is_on(&world, &["exec", "--apparmor", "confined", &world.id, "true"]);
    assert_eq!(touched(&fake), Vec::<PathBuf>::new());
    let said = outcome.fails();
    assert!(
        said.contains("process.apparmorProfile: label exec confined in /proc/self/attr/exec: invalid argument"),
        "{said}"
    );
}

/// A mount namespace whose members have covered /proc.
fn pod_with_covered_proc(fake: &Path) -> Pod {
    let pod = Pod::with(&["-m", "--propagation", "private"]);
    let target = pod.pid().to_string();
    finish(Command::new("nsenter").args(["-m", "-t", &target, "mount", "--bind"]).arg(fake).arg("/proc")).ok();
    pod
}

#[test]
fn a_kernel_parameter_in_a_joined_mount_namespace_reaches_the_kernel() {
    only!(Who::Us; "the peers of Debian fail in a joined mount namespace");
    needs!(ordinary::root(), "namespaces of the host's own");
    let mut world = World::running(&["cat", "/proc/sys/net/ipv4/ip_forward"]);
    let fake = world.path("fake");
    fake_proc(&fake);
    let pod = pod_with_covered_proc(&fake);
    world.namespace("mount", Some(&pod.file("mount")));
    *world.at("/linux/sysctl") = json!({"net.ipv4.ip_forward": "1"});
    world.config["process"]["oomScoreAdj"] = json!(500);
    let forwards = world.run().ok();
    assert_eq!(touched(&fake), Vec::<PathBuf>::new());
    assert_eq!(forwards, "1\n");
}

#[test]
fn a_label_in_a_joined_mount_namespace_is_not_its_members_to_take() {
    only!(Who::Us; "the peers of Debian fail in a joined mount namespace");
    needs!(ordinary::root(), "namespaces of the host's own");
    needs!(!Path::new("/sys/module/apparmor").exists(), "the kernel has AppArmor itself");
    let mut world = World::running(&["true"]);
    let fake = world.path("fake");
    fake_proc(&fake);
    let pod = pod_with_covered_proc(&fake);
    world.namespace("mount", Some(&pod.file("mount")));
    world.config["process"]["apparmorProfile"] = json!("confined");
    world.write();
    let outcome = where_apparmor_is_on(&world, &["run", &world.id]);
    assert_eq!(touched(&fake), Vec::<PathBuf>::new());
    let said = outcome.fails();
    assert!(
        said.contains("process.apparmorProfile: label exec confined in /proc/self/attr/exec: invalid argument"),
        "{said}"
    );
}
