//! run BUNDLE ID   a container from its creation to its end, below /run/coracle.

use libcontainer::{Bundle, Force, Kind, Root};

fn main() -> libcontainer::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, directory, id] = words.as_slice() else {
        eprintln!("usage: run BUNDLE ID");
        return Ok(());
    };
    let root = Root::open("/run/coracle")?;
    let bundle = Bundle::read(directory)?;
    for warning in bundle.check()? {
        eprintln!("{warning}");
    }
    let (container, process) = root.create(id, &bundle).run().inspect_err(|error| {
        if *error.kind() == Kind::Exists {
            eprintln!("choose another id");
        }
    })?;
    println!("{id} runs as process {}", process.pid());
    println!("it ended: {}", process.wait()?);
    for warning in container.delete(Force::Kill)? {
        eprintln!("{warning}");
    }
    Ok(())
}
