//! A container that stops each new process of its pid namespace (SIGSTOP): an exec, and the init of a container that shares
//! the namespace, wait before they execute their program. A client can still end the container, or the waiting process.

use std::fs;

use crate::attack::{privileged, put_attacker};
use crate::loggers::never_ready;
use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, skip, world};

const EXECS: usize = 60;
/// The starts of one container that the shim keeps while they wait: 8 have threads, and 1,024 wait for one.
const HELD: usize = 8 + 1024;

/// A pod of `c1`, which stops new processes, and `c2`.
fn pod() -> Option<(World, Client, u32)> {
    if !root_is_here() {
        return None;
    }
    let world = world();
    if !put_attacker(&world) {
        skip("no C compiler");
        return None;
    }
    privileged(&world, "c1", &["/attacker", "stopper"], None);
    world.bundle("c2");
    let mut client = world.start();
    let pid = client.create(&world, "c1").expect("Create").pid;
    client.start("c1", "").expect("Start");
    Some((world, client, pid))
}

/// The children of the shim that are stopped, and are not yet a program of the container.
fn stopped(client: &Client) -> usize {
    let shim = client.pid.expect("a shim").as_raw_pid().to_string();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
            let mut words = rest.split(' ');
            words.next() == Some("T") && words.next() == Some(&*shim) && !name.ends_with("(shim")
        })
        .count()
}

fn kill(client: &mut Client, id: &str, exec: &str) {
    let asked = KillRequest { id: id.into(), exec_id: exec.into(), signal: 9, ..KillRequest::default() };
    let _: Empty = client.call("Kill", &asked).expect("Kill");
}

#[test]
fn a_container_that_stops_its_execs_is_killed_and_deleted() {
    let Some((world, mut client, _)) = pod() else { return };
    client.create(&world, "c2").expect("Create");
    client.start("c2", "").expect("Start");
    let exec = |n: usize| format!("e{n}");
    for n in 0..EXECS {
        let _: Empty = client.call("Exec", &Client::exec_order("c1", &exec(n), "-info")).expect("Exec");
    }
    let start =
        |client: &mut Client, n: usize| client.ask("Start", &StartRequest { id: "c1".into(), exec_id: exec(n) });
    let starts: Vec<u32> = (0..EXECS).map(|n| start(&mut client, n)).collect();
    gone("room for an exec", || stopped(&client) < 8);
    // the other container is as ever
    assert_eq!(client.exec_in("c2", &world, "x", "-v"), 0);
    let _: StatsResponse = client.call("Stats", &StatsRequest { id: "c1".into() }).expect("Stats");
    kill(&mut client, "c1", "");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 137);
    let failed = starts.into_iter().filter(|start| client.answer::<StartResponse>(*start).is_err()).count();
    assert!(failed >= 8, "{failed}");
    for n in 0..EXECS {
        let _: WaitResponse = client.call("Wait", &Client::wait("c1", &exec(n))).expect("Wait");
        client.delete("c1", &exec(n)).expect("Delete");
    }
    client.delete("c1", "").expect("Delete");
    assert_eq!(client.status("c2"), status::RUNNING);
    client.close_stdin("c2");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    client.delete("c2", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

#[test]
fn execs_that_wait_for_a_thread_refuse_no_call_of_the_pod() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.bundle("c2");
    let uri = never_ready(&world);
    let mut client = world.start();
    for id in ["c1", "c2"] {
        client.create(&world, id).expect("Create");
        client.start(id, "").expect("Start");
    }
    let begin = |client: &mut Client, n: usize| {
        let exec = format!("e{n}");
        let asked = ExecProcessRequest { stdout: uri.clone(), ..Client::exec_order("c1", &exec, "-v") };
        let _: Empty = client.call("Exec", &asked).expect("Exec");
        client.ask("Start", &StartRequest { id: "c1".into(), exec_id: exec })
    };
    let starts: Vec<u32> = (0..HELD).map(|n| begin(&mut client, n)).collect();
    let refused = begin(&mut client, HELD);
    assert_eq!(client.answer::<StartResponse>(refused).expect_err("it keeps all").code, 8);
    // every other call of the container and of its neighbour
    assert_eq!(client.status("c1"), status::RUNNING);
    let waiting = client.ask("Wait", &Client::wait("c1", ""));
    for id in ["c1", "c2"].map(str::to_owned) {
        let _: StatsResponse = client.call("Stats", &StatsRequest { id: id.clone() }).expect("Stats");
        let _: PidsResponse = client.call("Pids", &PidsRequest { id: id.clone() }).expect("Pids");
        let _: Empty = client.call("Pause", &PauseRequest { id: id.clone() }).expect("Pause");
        let _: Empty = client.call("Resume", &ResumeRequest { id }).expect("Resume");
    }
    assert_eq!(client.exec_in("c2", &world, "x", "-v"), 0);
    assert!(starts.iter().all(|start| !client.has_answer(*start)), "an exec has begun without its logger");
    kill(&mut client, "c1", "");
    assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 137);
    for start in starts {
        client.answer::<StartResponse>(start).expect_err("its init has ended");
    }
    client.delete("c1", "").expect("Delete");
    kill(&mut client, "c2", "");
    let _: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
    client.delete("c2", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

#[test]
fn a_process_that_is_stopped_before_its_program_can_be_killed() {
    let Some((world, mut client, pid)) = pod() else { return };
    // an exec
    let mut starts = Vec::new();
    for n in 0..EXECS {
        let exec = format!("e{n}");
        let _: Empty = client.call("Exec", &Client::exec_order("c1", &exec, "-info")).expect("Exec");
        starts.push((client.ask("Start", &StartRequest { id: "c1".into(), exec_id: exec.clone() }), exec));
    }
    gone("room for an exec", || stopped(&client) < 8);
    for (_, exec) in &starts {
        let asked = KillRequest { id: "c1".into(), exec_id: exec.clone(), signal: 9, ..KillRequest::default() };
        let _ = client.call::<Empty>("Kill", &asked);
    }
    for (start, exec) in starts {
        let _ = client.answer::<StartResponse>(start);
        let _: WaitResponse = client.call("Wait", &Client::wait("c1", &exec)).expect("Wait");
        client.delete("c1", &exec).expect("Delete");
    }
    assert_eq!(client.status("c1"), status::RUNNING);
    // the init of a container that shares the namespace
    privileged(&world, "c2", &["/shim", "-info"], Some(pid));
    let mut tries = 0;
    loop {
        let create = client.ask("Create", &Client::order(&world, "c2"));
        let mut created = None;
        gone("Create", || {
            let _ = client.status("c1");
            if client.has_answer(create) {
                created = Some(client.answer::<CreateTaskResponse>(create));
            }
            created.is_none() && stopped(&client) == 0
        });
        if let Some(created) = created {
            created.expect("Create");
            client.delete("c2", "").expect("Delete");
            tries += 1;
            assert!(tries < 200, "the container stops no init");
            continue;
        }
        let deleted = client.delete("c2", "");
        let created = client.answer::<CreateTaskResponse>(create);
        if created.is_err() {
            assert_eq!(deleted.expect_err("it was never there").code, 5);
            break;
        }
    }
    // and while the first ends
    kill(&mut client, "c1", "");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 137);
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// The shim is the parent of orphans of a container without a pid namespace.
#[test]
fn an_orphan_is_reaped_while_a_start_hangs() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !world.put_shell() {
        return skip("no static busybox");
    }
    world.bundle("c2");
    world.fifo("rootfs/gate");
    world.edit("c2", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let mut client = world.start_c1();
    client.create(&world, "c2").expect("Create");
    client.start("c2", "").expect("Start");
    let asked = ExecProcessRequest { stdout: never_ready(&world), ..Client::exec_order("c1", "e", "-v") };
    let _: Empty = client.call("Exec", &asked).expect("Exec");
    let hanging = client.ask("Start", &StartRequest { id: "c1".into(), exec_id: "e".into() });
    gone("the logger's begin", || !world.path("slow.began").exists());
    let mut order = Client::exec_order("c2", "parent", "");
    let args = ["/sh", "-c", "read line </gate >/dev/null & echo $!"];
    order.spec.as_mut().expect("a process").value =
        serde_json::json!({"cwd": "/", "args": args, "env": [], "user": {"uid": 0, "gid": 0}}).to_string().into_bytes();
    let asked = ExecProcessRequest { stdout: format!("file://{}", world.text("orphan")), ..order };
    let _: Empty = client.call("Exec", &asked).expect("Exec");
    client.start("c2", "parent").expect("Start");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c2", "parent")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    let orphan = fs::read_to_string(world.path("orphan")).expect("its pid");
    fs::write(world.path("rootfs/gate"), "\n").expect("the gate");
    gone("the orphan", || fs::exists(format!("/proc/{}", orphan.trim())).expect("/proc"));
    assert!(!client.has_answer(hanging));
    client.delete("c2", "parent").expect("Delete");
    kill(&mut client, "c1", "e");
    client.answer::<StartResponse>(hanging).expect_err("it was killed");
    client.close_stdin("c2");
    let _: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
    client.delete("c2", "").expect("Delete");
    client.end_c1();
    world.assert_empty();
}
