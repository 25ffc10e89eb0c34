//! Network devices that move into the container. Everything, including the runtime, runs in a network namespace of the
//! test.

use std::process::Command;

use serde_json::{Value, json};

use crate::namespaces::Pod;
use crate::world::{Outcome, Who, World, finish, runtime};
use crate::{needs_root, only};

const OTHERS: &str = "Debian's runc and crun are older than netDevices";

/// The host of the test, with two veth pairs: `v0` and `v1`, `d0` and `d1`.
struct Host(Pod);

impl Host {
    #[track_caller]
    fn new() -> Host {
        let host = Host(Pod::with(&["-n"]));
        host.ip("link add v0 type veth peer name v1");
        host.ip("link add d0 type veth peer name d1");
        host.ip("link set lo up");
        host
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.0.file("network")));
        command
    }

    #[track_caller]
    fn ip(&self, words: &str) -> String {
        finish(self.enter().arg("ip").args(words.split(' '))).ok()
    }

    #[track_caller]
    fn run(&self, world: &World) -> Outcome {
        world.write();
        finish(
            self.enter()
                .arg(runtime())
                .arg("--root")
                .arg(world.path("state"))
                .args(["run", &world.id])
                .current_dir(world.bundle()),
        )
    }

    /// The names of its devices.
    fn devices(&self) -> Vec<String> {
        let all: Value = serde_json::from_str(&self.ip("-json link")).unwrap();
        let names = all.as_array().unwrap().iter();
        names.map(|device| device["ifname"].as_str().unwrap().to_owned()).collect()
    }
}

fn world(devices: Value, script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/ociVersion") = json!("1.3.0");
    *world.at("/linux/netDevices") = devices;
    world
}

#[test]
fn a_device_is_moved_and_renamed_with_its_addresses() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("addr add 192.0.2.7/24 broadcast 192.0.2.255 dev v0");
    host.ip("addr add 2001:db8::7/64 nodad noprefixroute dev v0");
    // One address with a lifetime, and one with a smaller scope.
    host.ip("addr add 192.0.2.8/32 valid_lft 1000 preferred_lft 1000 dev v0");
    host.ip("addr add 198.51.100.1/32 scope link dev v0");
    host.ip("link set v0 up");
    host.ip("link set v1 up");
    let world = world(json!({"v0": {"name": "eth0"}, "d0": {}}), "ip link; ip addr show eth0; ip route; ip -6 route");
    let said = host.run(&world).ok();
    let line =
        |wanted: &str| said.lines().find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{wanted}\n{said}"));
    assert!(line("eth0@").contains(",UP"), "{said}");
    assert!(line(" d0@").contains(",UP"), "{said}");
    assert!(line("192.0.2.7/24").contains("brd 192.0.2.255 scope global"), "{said}");
    assert!(line("2001:db8::7/64").contains("scope global"), "{said}");
    assert!(line("192.0.2.0/24 dev eth0").contains("src 192.0.2.7"), "{said}");
    assert!(!said.contains("2001:db8::/64"), "noprefixroute is gone:\n{said}");
    for other in ["192.0.2.8", "198.51.100.1"] {
        assert!(!said.contains(other), "{other}\n{said}");
    }
}

#[test]
fn parameters_of_a_moved_device_are_set() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    let mut world = world(json!({"d0": {"name": "lan"}}), "cat /proc/sys/net/ipv4/conf/lan/forwarding");
    *world.at("/linux/sysctl") = json!({"net.ipv4.conf.lan.forwarding": "1"});
    assert_eq!(host.run(&world).ok(), "1\n");
}

/// The kernel destroys a virtual device together with its network namespace.
#[test]
fn what_was_moved_is_moved_back_when_the_container_fails() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("addr add 192.0.2.7/24 dev v0");
    host.ip("link set v0 up");
    host.ip("link add z0 type bridge");
    let as_before = |said: &str| {
        let all = host.devices();
        assert!(["d0", "d1", "v0", "v1", "z0"].iter().all(|name| all.iter().any(|one| one == name)), "{all:?}\n{said}");
        let v0 = host.ip("addr show v0");
        assert!(v0.contains("192.0.2.7/24") && v0.contains(",UP"), "{v0}");
        assert!(!host.ip("link show d0").contains(",UP"));
    };
    // the kernel does not move a bridge: the last one
    let mut other = world(json!({"d0": {"name": "lan"}, "v0": {"name": "eth0"}, "z0": {}}), "true");
    let said = host.run(&other).fails();
    assert!(said.contains("linux.netDevices.z0: move it"), "{said}");
    as_before(&said);
    // a later step fails, and the program itself
    *other.at("/linux/netDevices") = json!({"d0": {"name": "lan"}, "v0": {"name": "eth0"}});
    *other.at("/linux/sysctl") = json!({"net.ipv4.conf.none.forwarding": "1"});
    as_before(&host.run(&other).fails());
    other.config["linux"].as_object_mut().unwrap().remove("sysctl");
    *other.at("/process/args") = json!(["/none"]);
    as_before(&host.run(&other).fails());
}

/// The kernel moves a device, and refuses a name only then.
#[test]
fn an_alternative_name_finds_the_device_and_a_refused_name_does_not_destroy_it() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("link property add dev v0 altname other0");
    host.ip("addr add 192.0.2.7/24 dev v0");
    host.ip("link set v0 up");
    let as_before = |said: &str| {
        let v0 = host.ip("addr show v0");
        assert!(v0.contains("192.0.2.7/24") && v0.contains(",UP") && v0.contains("altname other0"), "{v0}\n{said}");
    };
    for (devices, wanted) in [
        (
            json!({"v0": {"name": "other0"}}),
            "linux.netDevices.v0: move it, and name it \"other0\": file exists (EEXIST)",
        ),
        (json!({"v0": {}, "other0": {"name": "x"}}), "linux.netDevices.v0: linux.netDevices.other0 is the same device"),
        (json!({"v0": {"name": "all"}}), "linux.netDevices.v0.name: \"all\" is not a name for a network device"),
        (json!({"v0": {"name": "default"}}), "\"default\" is not a name for a network device"),
    ] {
        let said = host.run(&world(devices, "true")).fails();
        assert!(said.contains(wanted), "{said}");
        as_before(&said);
    }
    // A later failure: it has its own name and its state again.
    let mut fails = world(json!({"other0": {"name": "eth0"}}), "true");
    *fails.at("/process/args") = json!(["/none"]);
    as_before(&host.run(&fails).fails());
    let said = host.run(&world(json!({"other0": {}}), "ip addr show v0")).ok();
    assert!(said.contains("192.0.2.7/24") && said.contains(",UP"), "{said}");
}

#[test]
fn a_device_is_moved_into_a_namespace_that_is_joined() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    let pod = Pod::with(&["-n"]);
    let mut world = world(json!({"d0": {"name": "joined"}}), "ip link");
    world.namespace("network", Some(&pod.file("network")));
    assert!(host.run(&world).ok().contains("joined@"));
    // A device that has moved does not move back. A second one with that name is refused before it moves.
    host.ip("link add d0 type veth peer name d2");
    let said = host.run(&world).fails();
    let wanted = "linux.netDevices.d0.name: the container's network namespace has a device \"joined\" already";
    assert!(said.contains(wanted), "{said}");
    assert!(host.devices().contains(&"d0".to_owned()));
}

/// A process with CAP_NET_ADMIN there would have its own device on the host, with the name and the addresses of the host's.
#[test]
fn another_device_with_the_number_of_a_moved_one_stays_in_the_namespace_that_is_joined() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("addr add 192.0.2.7/24 dev d0");
    let pod = Pod::with(&["-n"]);
    let mut world = world(json!({"d0": {"name": "joined"}, "v0": {}}), "true");
    world.namespace("network", Some(&pod.file("network")));
    let script = "number=$(cat /sys/class/net/joined/ifindex) && ip link del joined && \
                  ip link add mine index $number type veth peer name other && ip link set mine up; exit 1";
    // sysfs shows the devices of the namespace in which it was mounted
    let script = format!("mount -t sysfs sysfs /sys; {script}");
    let hook = json!({"path": "/usr/bin/unshare", "args": ["unshare", "-m", "sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
    *world.at("/hooks") = json!({"createContainer": [hook]});
    let said = host.run(&world).fails();
    assert!(said.contains("createContainer hook #0: exit status 1"), "{said}");
    assert!(said.contains("move d0 back: a process in the container's network namespace has removed it"), "{said}");
    let devices = host.devices();
    assert!(devices.contains(&"v0".to_owned()) && !devices.contains(&"d0".to_owned()), "{devices:?}");
    let mut within = Command::new("nsenter");
    within.arg(format!("--net={}", pod.file("network"))).args(["ip", "link"]);
    let within = finish(&mut within).ok();
    assert!(within.contains("mine@") && !within.contains("joined"), "{within}");
}

#[test]
fn a_device_that_is_not_there_or_a_namespace_that_is_the_hosts() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    let mut world = world(json!({"d0": {}, "nope": {}}), "true");
    let said = host.run(&world).fails();
    assert!(said.contains("linux.netDevices.nope: find the device: no such device (ENODEV)"), "{said}");
    assert!(host.devices().contains(&"d0".to_owned()));
    *world.at("/linux/netDevices") = json!({"d0": {}});
    world.namespace("network", Some(&host.0.file("network")));
    let said = host.run(&world).fails();
    assert!(said.contains("linux.netDevices: the container is in the host's network namespace"), "{said}");
    assert!(host.devices().contains(&"d0".to_owned()));
}

#[test]
fn a_device_goes_into_a_container_with_a_user_namespace() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("addr add 192.0.2.7/24 dev d0");
    let mut world = world(json!({"d0": {"name": "eth0"}}), "ip addr show eth0");
    crate::namespaces::with_users(&mut world);
    let said = host.run(&world).ok();
    assert!(said.contains("192.0.2.7/24"), "{said}");
}

#[test]
fn a_device_that_cannot_be_moved_is_reported() {
    needs_root!("a network device of the host's");
    only!(Who::Us; OTHERS);
    let host = Host::new();
    host.ip("link add br0 type bridge");
    let said = host.run(&world(json!({"br0": {}}), "true")).fails();
    let at = "linux.netDevices.br0: move it, and name it \"br0\": ";
    // The kernel's own words, or the errno's of a kernel without them.
    let words = ["The interface netns is immutable (EINVAL)", "invalid argument (EINVAL)"];
    assert!(words.iter().any(|words| said.contains(&format!("{at}{words}"))), "{said}");
    assert!(host.devices().contains(&"br0".to_owned()));
}
