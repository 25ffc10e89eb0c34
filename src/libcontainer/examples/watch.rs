//! watch ROOT BUNDLE   creates, starts, watches and deletes a container, and runs a further process in it, beside ten busy threads.

use std::time::Duration;
use std::{env, hint, thread};

use libcontainer::{Bundle, Force, Happened, Result, Root, Stopped};

fn main() -> Result<()> {
    for _ in 0..10 {
        thread::spawn(|| {
            loop {
                hint::black_box(vec![0u8; 4096]);
                thread::yield_now()
            }
        });
    }
    let words: Vec<String> = env::args().collect();
    let (root, bundle) = (Root::open(&words[1])?, Bundle::read(&words[2])?);
    let (mut container, init) = root.create("watched", &bundle).create()?;
    let mut events = container.events()?;
    container.start()?;
    println!("{}", container.exec(&["/bin/busybox", "sh", "-c", "exit 3"]).spawn()?.wait()?);
    container.kill(9, Stopped::Fine)?;
    while events.next(Duration::from_secs(60))? != Happened::Ended {}
    println!("{}", init.wait()?);
    for warning in container.delete(Force::None)? {
        eprintln!("{warning}");
    }
    Ok(())
}
