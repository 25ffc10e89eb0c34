//! exec ROOT ID PROGRAM [ARGUMENT...]   a further process in the container ID below ROOT (mostly /run/coracle).

use libcontainer::Root;

fn main() -> libcontainer::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, root, id, args @ ..] = words.as_slice() else {
        eprintln!("usage: exec ROOT ID PROGRAM [ARGUMENT...]");
        return Ok(());
    };
    let process = Root::open(root)?.load(id)?.exec(args).spawn()?;
    println!("{}", process.wait()?);
    Ok(())
}
