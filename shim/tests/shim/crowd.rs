//! Many at once: nothing is lost, and nothing comes twice.

use std::collections::BTreeMap;

use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, root_is_here, world};

const CONTAINERS: usize = 30;
const EXECS: usize = 200;

/// All that is asked for is asked for at once, and then the answers are taken.
fn at_once<T>(
    client: &mut Client,
    count: usize,
    ask: impl Fn(&mut Client, usize) -> u32,
    take: impl Fn(&mut Client, usize, u32) -> T,
) -> Vec<T> {
    let streams: Vec<u32> = (0..count).map(|n| ask(client, n)).collect();
    streams.into_iter().enumerate().map(|(n, stream)| take(client, n, stream)).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story of a pod")]
fn a_pod_of_many_containers_and_execs_loses_nothing_and_keeps_nothing() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let ids: Vec<String> = (1..=CONTAINERS).map(|n| format!("c{n}")).collect();
    for id in &ids[1..] {
        world.bundle(id);
    }
    let mut client = world.start();
    // containerd asks for the sandbox before it asks for the others
    client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let before = client.descriptors();
    let rest = &ids[1..];
    at_once(
        &mut client,
        rest.len(),
        |client, n| client.ask("Create", &Client::order(&world, &rest[n])),
        |client, _, stream| client.answer::<CreateTaskResponse>(stream).expect("Create"),
    );
    let start = |client: &mut Client, id: &str, exec: &str| {
        client.ask("Start", &StartRequest { id: id.into(), exec_id: exec.into() })
    };
    let started = |client: &mut Client, _, stream| client.answer::<StartResponse>(stream).expect("Start");
    at_once(&mut client, rest.len(), |client, n| start(client, &rest[n], ""), started);
    // an exec whose program ends before its start is answered: its end comes after its start all the same
    let exec = |n: usize| format!("e{n}");
    for n in 0..EXECS {
        let order = Client::exec_order("c1", &exec(n), if n % 2 == 0 { "-v" } else { "-x" });
        let _: Empty = client.call("Exec", &order).expect("Exec");
    }
    let waiting: Vec<u32> = (0..EXECS).map(|n| client.ask("Wait", &Client::wait("c1", &exec(n)))).collect();
    at_once(&mut client, EXECS, |client, n| start(client, "c1", &exec(n)), started);
    for (n, stream) in waiting.into_iter().enumerate() {
        assert_eq!(client.answer::<WaitResponse>(stream).expect("Wait").exit_status as usize, n % 2);
        client.delete("c1", &exec(n)).expect("Delete");
    }
    for id in rest {
        client.close_stdin(id);
        let ended: WaitResponse = client.call("Wait", &Client::wait(id, "")).expect("Wait");
        assert_eq!(ended.exit_status, 0);
        client.delete(id, "").expect("Delete");
    }
    assert_eq!(client.descriptors(), before);
    client.close_stdin("c1");
    let _: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in world.events_to("delete c1") {
        let whose = event.split(' ').nth(1).expect("a name").to_owned();
        of.entry(whose).or_default().push(event);
    }
    assert_eq!(of.len(), CONTAINERS + EXECS);
    for id in &ids {
        let expected = ["create", "start", "exit", "delete"].map(|topic| format!("{topic} {id}"));
        let came: Vec<String> = of[id].iter().map(|event| event.trim_end_matches(" 0").to_owned()).collect();
        assert_eq!(came, expected);
    }
    for n in 0..EXECS {
        let id = exec(n);
        let expected = [format!("exec-added {id}"), format!("exec-started {id}"), format!("exit {id} {}", n % 2)];
        assert_eq!(of[&id], expected);
    }
    world.assert_empty();
}

#[test]
fn a_kill_is_answered_before_the_end_is_reported() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    let waiting = client.ask("Wait", &Client::wait("c1", ""));
    // the kill waits behind these, and the container ends by itself meanwhile
    for _ in 0..200 {
        client.ask("Stats", &StatsRequest { id: "c1".into() });
    }
    let killing = client.ask("Kill", &KillRequest { id: "c1".into(), signal: 9, ..KillRequest::default() });
    client.ask("CloseIO", &CloseIoRequest { id: "c1".into(), stdin: true, ..CloseIoRequest::default() });
    let _: WaitResponse = client.answer(waiting).expect("Wait");
    assert!(client.has_answer(killing), "the end was reported first");
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}
