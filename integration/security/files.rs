//! Files that the caller names: the runtime never replaces a file that is not a regular file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;

use crate::needs_root;
use crate::world::{World, finish, runtime};

#[test]
fn a_device_as_pid_file_stays_a_device() {
    needs_root!("device nodes");
    let world = World::running(&["true"]);
    world.write();
    let place = world.path("dev");
    fs::create_dir(&place).unwrap();
    // In a separate mount namespace, so that no device of the host can be damaged.
    let script = r#"mount -t tmpfs dev "$1" && mknod "$1/null" c 1 3 && ln -s null "$1/link" || exit 9
        "$2" --root "$3" run --pid-file "$1/null" "$4" && "$2" --root "$3" run --pid-file "$1/link" "$4" || exit 8
        stat -c %F:%t,%T "$1/null"; stat -c %F "$1/link"; ls -A "$1""#;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(&place).arg(runtime()).arg(world.path("state")).arg(&world.id).current_dir(world.bundle());
    assert_eq!(finish(&mut command).ok(), "character special file:1,3\nsymbolic link\nlink\nnull\n");
}

#[test]
fn a_fifo_or_a_link_as_pid_file_is_refused_at_once_and_left() {
    let world = World::running(&["true"]);
    world.write();
    let fifo = world.path("fifo");
    finish(Command::new("mkfifo").arg(&fifo)).ok();
    fs::write(world.path("precious"), "precious").unwrap();
    symlink("precious", world.path("link")).unwrap();
    for (name, why) in [("fifo", "no such device or address"), ("link", "it is a link to a file")] {
        let path = world.path(name);
        let said = world.call(&["run", "--pid-file", path.to_str().unwrap(), &world.id]).fails();
        assert!(said.contains(&format!("--pid-file: write {}: {why}", path.display())), "{said}");
    }
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(world.path("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(world.path("precious")).unwrap(), "precious");
}
