//! The mount table of a container or of the host; and functions for tests that need mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::world::{World, finish};

/// One line of /proc/PID/mountinfo (proc(5)).
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub root: String,
    pub options: String,
    pub optional: String,
    pub fstype: String,
    pub superblock: String,
}

impl Line {
    /// True if the mount has the flag.
    pub fn has(&self, flag: &str) -> bool {
        self.options.split(',').any(|one| one == flag)
    }
}

/// The topmost mount at a path.
#[track_caller]
pub fn mount_at(mountinfo: &str, place: &str) -> Line {
    find_mount(mountinfo, place).unwrap_or_else(|| panic!("nothing is mounted at {place}:\n{mountinfo}"))
}

/// The same, or None if nothing is mounted there.
pub fn find_mount(mountinfo: &str, place: &str) -> Option<Line> {
    let line = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some(place))?;
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    Some(Line {
        root: before.next()?.to_owned(),
        options: before.nth(1)?.to_owned(),
        optional: before.collect::<Vec<_>>().join(" "),
        fstype: after.next()?.to_owned(),
        superblock: after.nth(1).unwrap_or_default().to_owned(),
    })
}

/// A mount on the host that ends with the test.
pub struct HostMount(PathBuf);

impl HostMount {
    /// Calls `mount ARGS... PLACE`.
    #[track_caller]
    pub fn of(args: &[&str], place: &Path) -> HostMount {
        HostMount::by(Command::new("mount").args(args), place)
    }

    /// The same with another program.
    #[track_caller]
    pub fn by(mount: &mut Command, place: &Path) -> HostMount {
        fs::create_dir_all(place).unwrap();
        finish(mount.arg(place)).ok();
        HostMount(place.to_owned())
    }

    /// A mount that a hook has made.
    pub fn there(place: &Path) -> HostMount {
        HostMount(place.to_owned())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).status();
    }
}

/// Why a test of a file system cannot run here: the kernel lacks the file system, the program that fills it is missing,
/// or the device for the mount is missing. None if it can run.
pub fn missing(fstype: &str, program: &str, device: &str) -> Option<String> {
    let known = || fs::read_to_string("/proc/filesystems").unwrap().contains(&format!("\t{fstype}\n"));
    let loaded = || Command::new("modprobe").args(["-q", fstype]).status().is_ok() && known();
    let installed = finish(Command::new("sh").args(["-c", &format!("command -v {program}")])).status.success();
    match () {
        () if !known() && !loaded() => Some(format!("the kernel has no {fstype}")),
        () if !Path::new(device).exists() => Some(format!("no {device}")),
        () if !installed => Some(format!("no {program}")),
        () => None,
    }
}

/// The device for mounts of file systems in files.
pub const LOOP: &str = "/dev/loop-control";

/// Skips the test, with the reason, if a file system cannot be made.
#[macro_export]
macro_rules! needs_fs {
    ($($what:expr),+) => {
        if let Some(why) = $crate::mountinfo::missing($($what),+) {
            return $crate::world::skip(&$crate::world::test_name(), &why);
        }
    };
}

pub const MOUNTINFO: [&str; 2] = ["cat", "/proc/self/mountinfo"];

pub fn tmpfs(place: &str, options: &[&str]) -> serde_json::Value {
    json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options})
}

pub fn bind(source: impl AsRef<Path>, place: &str, options: &[&str]) -> serde_json::Value {
    json!({"destination": place, "type": "none", "source": source.as_ref(), "options": options})
}

/// Runs a container with the mounts of `list`. Returns the mountinfo that the program sees.
#[track_caller]
pub fn seen_with(list: Vec<serde_json::Value>) -> String {
    let mut world = World::running(&MOUNTINFO);
    list.into_iter().for_each(|mount| world.mount(mount));
    *world.at("/root/readonly") = json!(false);
    world.run().ok()
}

/// Runs a container with one more mount. It must fail. Returns the message.
#[track_caller]
pub fn refused(mount: serde_json::Value) -> String {
    let mut world = World::running(&["true"]);
    world.mount(mount);
    *world.at("/root/readonly") = json!(false);
    let said = world.run().fails();
    world.assert_clean();
    said
}
