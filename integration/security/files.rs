//! Files that the caller names: the runtime never replaces a file that is not a regular file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, chown, symlink};
use std::process::Command;

use serde_json::json;

use crate::life::alive;
use crate::world::{Who, World, finish, runtime};
use crate::{needs_root, only};

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

/// In a `--root` that all may write, a user could let root run a hook, and kill any process.
#[test]
fn a_state_directory_of_another_user_is_not_believed() {
    needs_root!("files of another user");
    only!(Who::Us; "the peers believe it");
    let mut world = World::running(&["sleep", "1000"]);
    let ran = world.path("ran");
    let script = format!("touch {}", ran.display());
    *world.at("/hooks") = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    world.begin();
    let (pid, directory) = (world.pid(), world.path("state").join(&world.id));
    let state = fs::read(directory.join("state.json")).unwrap();
    // The note says what to undo if state.json is damaged.
    for (foreign, damaged) in [("state.json", false), ("undo", true)] {
        let file = directory.join(foreign);
        chown(&file, Some(1001), None).unwrap();
        if damaged {
            fs::write(directory.join("state.json"), "{").unwrap();
        }
        let said = world.call(&["delete", "--force", &world.id]).fails();
        assert!(said.contains("belongs to uid 1001: only this user can use the container"), "{foreign}: {said}");
        for command in [&["kill", &world.id, "KILL"][..], &["exec", &world.id, "true"], &["pause", &world.id]] {
            let said = world.call(command).fails();
            assert!(said.contains(if damaged { "damaged" } else { "belongs to uid 1001" }), "{foreign}: {said}");
        }
        if !damaged {
            assert_eq!(world.status(), "running");
        }
        assert!(alive(pid) && !ran.exists(), "{foreign}");
        chown(&file, Some(0), None).unwrap();
    }
    fs::write(directory.join("state.json"), state).unwrap();
    fs::hard_link(directory.join("config.json"), world.path("other")).unwrap();
    assert!(world.exec(&["true"]).fails().contains("config.json has another name"));
    fs::remove_file(world.path("other")).unwrap();
    chown(directory.join("config.json"), Some(1001), None).unwrap();
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert!(deleted.err.contains("config.json belongs to uid 1001") && !ran.exists(), "{}", deleted.err);
    assert!(!alive(pid) && !directory.exists());
}

/// A user who may write the `--root` makes a link to the directory of another container.
#[test]
fn a_link_in_the_root_is_not_a_container() {
    needs_root!("a container of root");
    only!(Who::Us; "the peers follow it");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let other = world.path("other-root");
    fs::create_dir(&other).unwrap();
    symlink(world.path("state").join(&world.id), other.join(&world.id)).unwrap();
    let id = world.id.as_str();
    for args in [
        &["state", id][..],
        &["kill", id, "KILL"],
        &["exec", id, "true"],
        &["ps", id],
        &["pause", id],
        &["delete", "--force", id],
    ] {
        let said = finish(Command::new(runtime()).arg("--root").arg(&other).args(args)).fails();
        assert!(said.contains("is a symbolic link") || args[0] == "delete", "{args:?}: {said}");
    }
    let listed = finish(Command::new(runtime()).arg("--root").arg(&other).arg("list"));
    assert!(!listed.out.contains("running"), "{}", listed.out);
    assert_eq!(world.status(), "running");
}
