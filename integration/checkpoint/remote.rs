//! Processes that communicate: TCP connections between containers, and memory that is sent over the network.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{COUNTER, assert_counts_on, call, command, count, criu, dump, needs_criu, restore};
use crate::needs;
use crate::world::{World, finish, wait_until};

/// Two network namespaces with a cable between them.
struct Hosts([Child; 2]);

impl Hosts {
    fn new() -> Hosts {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let hosts = Hosts([(); 2].map(|()| Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap()));
        let is_there = |n| fs::read_link(hosts.path(n)).is_ok_and(|there| there != own);
        wait_until("the namespaces are there", || is_there(0) && is_there(1));
        hosts.ip(0, &format!("link add v0 type veth peer name v1 netns {}", hosts.0[1].id()));
        for n in [0, 1] {
            hosts.ip(n, &format!("addr add 10.77.7.{n}/31 dev v{n}"));
            hosts.ip(n, &format!("link set v{n} up"));
            hosts.ip(n, "link set lo up");
        }
        hosts
    }

    fn path(&self, n: usize) -> String {
        format!("/proc/{}/ns/net", self.0[n].id())
    }

    fn ip(&self, n: usize, args: &str) {
        let target = self.0[n].id().to_string();
        finish(Command::new("nsenter").args(["-n", "-t", &target, "ip"]).args(args.split(' '))).ok();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last number that has come over the connection.
fn come(world: &World) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/root/dev/shm/come", world.pid())).unwrap_or_default();
    text.lines().rev().find_map(|line| line.parse().ok()).unwrap_or(0)
}

#[test]
fn a_connection_between_two_containers_survives_or_is_closed_as_requested() {
    needs_criu!();
    needs!(
        Path::new("/usr/sbin/iptables-restore").exists(),
        "criu holds back packets with iptables, which is not installed"
    );
    needs!(
        !super::is_older_than((3, 18)),
        "in a network namespace that stays, this criu forbids packets twice, and allows them once: the same with runc"
    );
    let hosts = Hosts::new();
    let in_host = |n: usize, script: &str| {
        let mut world = World::running(&["sh", "-c", script]);
        world.namespace("network", Some(&hosts.path(n)));
        world.begin();
        world
    };
    let script = "exec </dev/null >/dev/null 2>&1; busybox mkfifo /dev/shm/in; sleep 1000 >/dev/shm/in & busybox nc -l -p 7000 </dev/shm/in >/dev/shm/come; \
        echo over >/dev/shm/over; sleep 1000";
    let server = in_host(0, script);
    wait_until("it listens", || server.exec(&["sh", "-c", "busybox netstat -ltn"]).out.contains(":7000"));
    let client = in_host(
        1,
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done | busybox nc 10.77.7.0 7000; echo over; sleep 1000",
    );
    wait_until("something comes", || come(&server) > 0);
    let refused = dump(&server, "images", &[]).fails();
    needs!(
        !refused.contains("Can't get 1:16 opt"),
        "this criu is older than the kernel: it cannot dump sockets of TCP"
    );
    assert!(refused.contains("criu dump: ") && refused.contains("tcp"), "{refused}");
    for flags in [&["--tcp-established"][..], &["--tcp-established", "--network-lock", "iptables"]] {
        dump(&server, "images", flags).ok();
        restore(&server, "images", flags).ok();
        let before = come(&server);
        wait_until("more comes", || come(&server) > before + 5);
    }
    dump(&server, "images", &["--tcp-established"]).ok();
    restore(&server, "images", &["--tcp-close"]).ok();
    wait_until("the server finds it closed", || {
        Path::new(&format!("/proc/{}/root/dev/shm/over", server.pid())).exists()
    });
    for world in [server, client] {
        world.call(&["delete", "--force", &world.id]).ok();
        world.assert_clean();
    }
}

/// A port that is not in use.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A CRIU that plays the other end, in the directory of the images.
fn other_end(world: &World, command: &str, port: u16) -> Child {
    let images = world.bundle().join("images");
    let mut other = Command::new(criu().unwrap());
    other.args([command, "--port", &port.to_string(), "-o", "other.log", "-D"]).arg(&images).arg("-W").arg(&images);
    if command == "lazy-pages" {
        other.args(["--page-server", "--address", "127.0.0.1"]);
    }
    other.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn listens(port: u16) -> bool {
    let line = format!(":{port:04X} 00000000:0000 0A");
    fs::read_to_string("/proc/net/tcp").unwrap().contains(&line)
}

#[test]
fn memory_is_sent_to_a_page_server() {
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let (before, port) = (count(&world), free_port());
    fs::create_dir(world.bundle().join("images")).unwrap();
    let mut other = other_end(&world, "page-server", port);
    wait_until("it listens", || listens(port));
    let said = dump(&world, "images", &["--page-server", &format!("127.0.0.1:{port}")]);
    assert!(other.wait().unwrap().success() && said.status.success(), "{}", said.err);
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
}

#[test]
fn memory_is_fetched_when_it_is_used() {
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let (before, port) = (count(&world), free_port());
    let server = format!("127.0.0.1:{port}");
    let flags = ["--lazy-pages", "--status-fd", "9", "--page-server", &server];
    let ours = command(
        &world,
        &[&["checkpoint", "--image-path", "images", "--work-path", "work"], &flags[..], &[&world.id]].concat(),
    );
    let mut dumping = Command::new("sh");
    dumping.args(["-c", "exec 9>&1 >&2; exec \"$@\"", "sh"]).arg(ours.get_program()).args(ours.get_args());
    dumping.current_dir(world.bundle()).envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = fs::File::create(world.path("said")).unwrap();
    let mut dumping = dumping.stdout(Stdio::piped()).stderr(said).spawn().unwrap();
    let mut status = Vec::new();
    std::io::Read::read_to_end(&mut dumping.stdout.take().unwrap(), &mut status).unwrap();
    if status.is_empty() {
        dumping.wait().unwrap();
        let said = fs::read_to_string(world.path("said")).unwrap();
        assert!(said.contains("--lazy-pages: criu and this kernel cannot") || said.contains("pipe-max-size"), "{said}");
        assert_counts_on(&world, before);
        crate::world::skip(&crate::world::test_name(), said.trim());
        return;
    }
    assert_eq!(status, [0]);
    let mut other = other_end(&world, "lazy-pages", port);
    let mut again = World::running(&["sh", "-c", COUNTER]);
    again.config = world.config.clone();
    *again.at("/linux/cgroupsPath") = json!(crate::world::cgroups_path(&again.id));
    again.write();
    let images = world.bundle().join("images");
    let images = images.to_str().unwrap();
    wait_until("the socket is there", || Path::new(images).join("lazy-pages.socket").exists());
    call(&again, &["restore", "-d", "--lazy-pages", "--image-path", images, "--work-path", images, &again.id]).ok();
    assert!(other.wait().unwrap().success() && dumping.wait().unwrap().success());
    assert_counts_on(&again, before);
    world.assert_clean();
}
