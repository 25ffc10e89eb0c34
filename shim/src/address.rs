//! The socket of a pod's shim: where it is, who makes it, and who answers there.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};

use crate::messages::ttrpc::Request;
use crate::wire;

/// The time in which a new shim must report that it serves.
const ANSWER: Duration = Duration::from_secs(5);

/// The default directory of containerd's state.
pub const DIRECTORY: &str = "/run/containerd/s";

/// The socket for a group of containers of one containerd and namespace.
pub fn socket_path(directory: &Path, containerd: &str, namespace: &str, group: &str) -> PathBuf {
    // an annotation has the group: one that begins with `/` must not replace what is before it
    let group = group.trim_start_matches('/');
    let named: PathBuf = Path::new(containerd).join(namespace).join(group).components().collect();
    let digest = Sha256::digest(named.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(name)
}

/// The result of `take`.
pub enum Found {
    /// No shim answers there: the socket is ours now.
    Ours(UnixListener),
    /// A shim of the same group.
    Serving,
}

/// Takes the socket, unless a shim answers there. A socket without a shim is removed.
///
/// # Errors
/// Those of the file system.
pub fn take(path: &Path) -> io::Result<Found> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let lock = lock(directory)?;
    let stat = lock.metadata()?;
    let by_group = stat.mode() & 0o020 != 0 && ![0, rustix::process::getegid().as_raw()].contains(&stat.gid());
    if ![0, rustix::process::geteuid().as_raw()].contains(&stat.uid()) || stat.mode() & 0o002 != 0 || by_group {
        // another user's process could answer in place of a shim
        return Err(io::Error::other(format!("{}: other users can write this directory", directory.display())));
    }
    if answers(path, ANSWER) {
        return Ok(Found::Serving);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Found::Ours(listener))
}

/// Removes the socket when a shim ends, unless another shim has bound it in the meantime.
pub fn give_up(path: &Path, ours: Bound) {
    let Ok(_lock) = path.parent().map_or_else(|| Err(io::ErrorKind::NotFound.into()), lock) else { return };
    if bound(path) == ours {
        let _ = fs::remove_file(path);
    }
}

/// Removes the socket of a dead shim, which no process answers.
pub fn remove_dead(path: &Path) {
    let Ok(_lock) = path.parent().map_or_else(|| Err(io::ErrorKind::NotFound.into()), lock) else { return };
    if !answers(path, ANSWER) {
        let _ = fs::remove_file(path);
    }
}

/// Whether a shim lives there. A connection alone does not prove it: if a shim is killed while it makes a container,
/// the new process keeps the socket open for a moment. Such a connection ends without an answer. A shim that does not
/// answer in time is alive: a second shim must not serve its pod.
fn answers(path: &Path, time: Duration) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    let probe = || -> io::Result<bool> {
        let mut socket = connect(path)?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(time))?;
        let request = Request {
            service: "containerd.task.v2.Task".to_owned(),
            method: "Connect".to_owned(),
            ..Request::default()
        };
        socket.write_all(&wire::request(1, &request))?;
        Ok(socket.read(&mut [0])? > 0)
    };
    match probe() {
        Ok(answered) => answered,
        Err(error) => !matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound),
    }
}

/// A non-blocking connection. If the server accepts none (it is stopped, SIGSTOP) and the kernel keeps no more of them for it,
/// connect(2) would wait for ever.
///
/// # Errors
/// Those of connect(2); `WouldBlock` if the server lives, but has no room.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// The identity of the socket's file: its inode, and when this was made. A file system may give the number to the next file.
pub type Bound = Option<(u64, i64, i64)>;

/// The file that is there now.
pub fn bound(path: &Path) -> Bound {
    fs::symlink_metadata(path).ok().map(|stat| (stat.ino(), stat.ctime(), stat.ctime_nsec()))
}

/// Two shims must not check and bind at the same time.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = File::open(directory)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_runc_shim() {
        let path = socket_path(Path::new(DIRECTORY), "/run/containerd/containerd.sock", "k8s.io", "abc");
        // printf /run/containerd/containerd.sock/k8s.io/abc | sha256sum
        let expected = "/run/containerd/s/a99a1752d3a0fadfb1f869026f16760475df03a572e20f4ccea9e6c1e5470b72";
        assert_eq!(path, Path::new(expected));
        let other = socket_path(Path::new(DIRECTORY), "/run/x", "n", "/run/containerd/containerd.sock/k8s.io/abc");
        assert_ne!(other, path, "an annotation leads to the shim of another namespace");
    }

    #[test]
    fn a_shim_that_does_not_answer_in_time_lives() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        assert!(!answers(&path, ANSWER));
        let serving = UnixListener::bind(&path).expect("bind");
        assert!(answers(&path, Duration::from_millis(20)));
        drop(serving);
        assert!(!answers(&path, ANSWER));
    }

    /// A server with room for one connection that it does not accept, as containerd after SIGSTOP and many clients.
    fn full(path: &Path) -> (UnixListener, UnixStream) {
        let listener = UnixListener::bind(path).expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let first = UnixStream::connect(path).expect("connect");
        (listener, first)
    }

    #[test]
    fn a_server_that_is_stopped_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        let _stopped = full(&path);
        let (sender, receiver) = std::sync::mpsc::channel();
        let probed = path.clone();
        std::thread::spawn(move || {
            sender.send((connect(&probed).err().map(|error| error.kind()), answers(&probed, ANSWER)))
        });
        let said = receiver.recv_timeout(Duration::from_secs(20)).expect("connect waits for a server that is stopped");
        assert_eq!(said, (Some(io::ErrorKind::WouldBlock), true));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("chmod");
        let error = take(&path).err().expect("anybody can listen there").to_string();
        assert!(error.ends_with(": other users can write this directory"), "{error}");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o775)).expect("chmod");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(0), Some(1)).expect("chown");
            assert!(take(&path).is_err(), "its group can listen there");
            std::os::unix::fs::chown(directory.path(), Some(1), Some(0)).expect("chown");
            assert!(take(&path).is_err(), "its owner can listen there");
            std::os::unix::fs::chown(directory.path(), Some(0), None).expect("chown");
        }
        assert!(take(&path).is_ok());
    }

    #[test]
    fn one_of_a_group_serves_and_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s/x");
        let Found::Ours(first) = take(&path).expect("take") else { panic!("somebody serves") };
        let serving = first.try_clone().expect("a copy");
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = serving.accept().expect("accept");
            let mut buffer = [0; 512];
            assert_ne!(socket.read(&mut buffer).expect("a question"), 0);
            socket.write_all(b"x").expect("an answer");
        });
        assert!(matches!(take(&path), Ok(Found::Serving)));
        serving.join().expect("the answer");
        let first_bound = bound(&path);
        // the shim has died, and a process that it was making keeps the socket open for a moment
        let dying = std::thread::spawn(move || drop(first.accept()));
        let Found::Ours(_second) = take(&path).expect("take") else { panic!("somebody serves") };
        dying.join().expect("its end");
        give_up(&path, first_bound);
        assert!(path.exists());
        give_up(&path, bound(&path));
        assert!(!path.exists());
        drop(UnixListener::bind(&path).expect("bind"));
        remove_dead(&path);
        assert!(!path.exists());
    }
}
