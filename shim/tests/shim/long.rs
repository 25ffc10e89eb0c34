//! A pod that lives for long: what its shim has at the end is what it had at the beginning.
//! `EXECS=2000 LIVES=500 cargo test -p containerd-shim-coracle-v1 long` runs more of it.

use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, world};

/// The number of containers that come and go at the same time.
const AT_ONCE: usize = 30;

/// A number for a test by hand.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// The descriptors, threads and private memory (KiB) of an idle shim.
fn at_rest(client: &Client) -> (usize, usize, usize) {
    // after its last work, it gives back the pages of its program (`Shim::rest`)
    std::thread::sleep(std::time::Duration::from_millis(1500));
    // clean pages are those of the program, which the shims of other tests share
    let private = || client.number("smaps_rollup", "Private_Dirty");
    gone("a thread of the shim", || client.number("status", "Threads") > 1);
    let mut last = usize::MAX;
    gone("change", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let before = std::mem::replace(&mut last, private());
        last < before
    });
    (client.descriptors(), client.number("status", "Threads"), private())
}

/// Execs in c1, in groups of at most 200 at once.
fn run_execs(client: &mut Client, count: usize) {
    for first in (0..count).step_by(200) {
        let execs: Vec<String> = (first..count.min(first + 200)).map(|n| format!("e{n}")).collect();
        for exec in &execs {
            let _: Empty = client.call("Exec", &Client::exec_order("c1", exec, "-v")).expect("Exec");
        }
        let waits: Vec<u32> = execs.iter().map(|exec| client.ask("Wait", &Client::wait("c1", exec))).collect();
        let start = |exec: &String| StartRequest { id: "c1".into(), exec_id: exec.clone() };
        let starts: Vec<u32> = execs.iter().map(|exec| client.ask("Start", &start(exec))).collect();
        for (exec, (begun, wait)) in execs.iter().zip(starts.into_iter().zip(waits)) {
            client.answer::<StartResponse>(begun).expect("Start");
            assert_eq!(client.answer::<WaitResponse>(wait).expect("Wait").exit_status, 0);
            client.delete("c1", exec).expect("Delete");
        }
    }
}

/// Whole lives of containers, `AT_ONCE` at a time.
fn run_lives(client: &mut Client, world: &World, count: usize) {
    for first in (0..count).step_by(AT_ONCE) {
        let ids: Vec<String> = (0..AT_ONCE.min(count - first)).map(|n| format!("l{n}")).collect();
        let creates: Vec<u32> = ids.iter().map(|id| client.ask("Create", &Client::order(world, id))).collect();
        for create in creates {
            client.answer::<CreateTaskResponse>(create).expect("Create");
        }
        for id in &ids {
            client.start(id, "").expect("Start");
            client.kill_container(id);
            let ended: WaitResponse = client.call("Wait", &Client::wait(id, "")).expect("Wait");
            assert_eq!(ended.exit_status, 137);
        }
        let delete = |id: &String| DeleteRequest { id: id.clone(), exec_id: String::new() };
        let deletes: Vec<u32> = ids.iter().map(|id| client.ask("Delete", &delete(id))).collect();
        for deletion in deletes {
            client.answer::<DeleteResponse>(deletion).expect("Delete");
        }
    }
}

#[test]
fn a_shim_that_has_done_much_is_as_small_as_before() {
    if !root_is_here() {
        return;
    }
    let (execs, lives) = (number("EXECS", 200), number("LIVES", 60));
    let world = world();
    for n in 0..AT_ONCE {
        world.bundle(&format!("l{n}"));
    }
    let mut client = world.start_c1();
    run_execs(&mut client, 200);
    run_lives(&mut client, &world, AT_ONCE);
    let mut before = at_rest(&client);
    // the heap takes its size with the first rounds, when most threads happen to run at once. A leak grows with each round
    let grows = (0..4).all(|_| {
        run_execs(&mut client, execs);
        run_lives(&mut client, &world, lives);
        let after = at_rest(&client);
        println!(
            "descriptors, threads, private KiB: {before:?} before {execs} execs and {lives} lives, {after:?} after"
        );
        assert_eq!((after.0, after.1), (before.0, before.1));
        let grown = after.2 > before.2 + 128;
        before = after;
        grown
    });
    assert!(!grows, "private memory grows with each round: {before:?}");
    client.end_c1();
    world.assert_empty();
}
