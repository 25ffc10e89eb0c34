//! run ROOT BUNDLE ID   a container from its creation to its end, below ROOT (mostly /run/coracle).

use libcontainer::{Bundle, Force, Kind, Progress, Root};

fn main() -> libcontainer::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, root, directory, id] = words.as_slice() else {
        eprintln!("usage: run ROOT BUNDLE ID");
        return Ok(());
    };
    let root = Root::open(root)?;
    let bundle = Bundle::read(directory)?;
    let warnings = |progress: Progress<'_>| {
        if let Progress::Warning(warning) = progress {
            eprintln!("{warning}");
        }
        Ok(())
    };
    let (container, process) = root.create(id, &bundle).on_progress(warnings).run().inspect_err(|error| {
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
