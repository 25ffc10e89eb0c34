//! The same tests as an ordinary user (`hack/rootless`): what each config needs then, and what is not allowed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::world::by_units;

/// True if the tests run as root.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Skips the test, with the reason, unless it runs as root.
#[macro_export]
macro_rules! needs_root {
    ($why:expr) => {
        $crate::needs!($crate::ordinary::root(), concat!("needs root: ", $why));
    };
}

/// Skips the test unless it may make cgroups.
#[macro_export]
macro_rules! needs_cgroup {
    () => {
        let may = $crate::ordinary::root() || $crate::ordinary::group().is_some();
        $crate::needs!(may, "needs root: a cgroup is root's here");
    };
}

/// The cgroup that is delegated to the ordinary user, below the mount of version 2: the parent of the user's own
/// cgroup, or the cgroup of the user's own systemd.
pub fn group() -> Option<&'static str> {
    static GROUP: LazyLock<Option<String>> = LazyLock::new(delegated);
    GROUP.as_deref()
}

fn delegated() -> Option<String> {
    let mount = Path::new("/sys/fs/cgroup");
    if !mount.join("cgroup.controllers").exists() {
        return None;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let manager = format!("user.slice/user-{uid}.slice/user@{uid}.service");
    let above = Path::new(own).parent().and_then(Path::to_str).unwrap_or_default();
    [above, &manager]
        .into_iter()
        .find(|group| !group.is_empty() && rustix::fs::access(mount.join(group), rustix::fs::Access::WRITE_OK).is_ok())
        .map(str::to_owned)
}

/// The first of 65536 host ids for containers with id maps: some for root, or those that /etc/subuid grants to the
/// ordinary user.
pub fn first() -> u32 {
    static FIRST: LazyLock<u32> = LazyLock::new(|| if root() { 200_000 } else { granted() });
    *FIRST
}

fn granted() -> u32 {
    let uid = rustix::process::getuid().as_raw();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mine = |line: &&str| line.split(':').nth(2) == Some(&uid.to_string());
    let name = users.lines().find(mine).and_then(|line| line.split(':').next()).unwrap_or_default().to_owned();
    let grants = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let first = grants.lines().find_map(|line| {
        let (who, range) = line.split_once(':')?;
        let (first, count) = range.split_once(':')?;
        (who == name || who == uid.to_string()).then_some(())?;
        count.parse::<u32>().is_ok_and(|count| count >= 65536).then(|| first.parse().ok())?
    });
    first.unwrap_or_else(|| panic!("/etc/subuid grants uid {uid} no 65536 ids"))
}

/// Adds what an ordinary user needs in every config: a user namespace, and a cgroup only below the delegated one.
pub fn adapt(config: &mut Value, id: &str) {
    let linux = config["linux"].as_object_mut().unwrap();
    match group() {
        Some(_) if by_units() => {
            drop(linux.insert("cgroupsPath".to_owned(), json!(format!("user.slice:coracle:{id}"))))
        }
        Some(group) => drop(linux.insert("cgroupsPath".to_owned(), json!(format!("/{group}/{id}")))),
        None => drop(linux.remove("cgroupsPath")),
    }
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": first(), "size": 65535}]);
    linux.insert("uidMappings".to_owned(), map(rustix::process::getuid().as_raw()));
    linux.insert("gidMappings".to_owned(), map(rustix::process::getgid().as_raw()));
}

/// A command with rights over the granted ids: 0 is the user's own id, 1 is the first granted one.
pub fn inside(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--map-auto", "--", program]);
    command
}

/// Makes the first id of containers the owner of everything below a path.
#[track_caller]
pub fn give_to_first(place: &Path) {
    let mut command = if root() { Command::new("chown") } else { inside("chown") };
    let id = if root() { first() } else { 1 };
    crate::world::finish(command.arg("-hR").arg(format!("{id}:{id}")).arg(place)).ok();
}

/// Removes files of the granted ids. The user alone may not.
pub fn clear_away(place: &Path) {
    if !root() {
        let _ = inside("rm").arg("-rf").arg(place).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
