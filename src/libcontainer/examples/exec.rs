//! exec ID PROGRAM [ARGUMENT...]   a further process in a container below /run/coracle.

use libcontainer::Root;

fn main() -> libcontainer::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, id, args @ ..] = words.as_slice() else {
        eprintln!("usage: exec ID PROGRAM [ARGUMENT...]");
        return Ok(());
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let process = Root::open("/run/coracle")?.load(id)?.exec(&args)?;
    println!("{}", process.wait()?);
    Ok(())
}
