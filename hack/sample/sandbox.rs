//! The sandbox: a user namespace with ids that the host does not use, and new namespaces of all other types except
//! time. Its root is a tmpfs that has only some devices of the host. It has a new cgroup in each hierarchy.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgroups, setresgid, setresuid};

/// The host's id for the sandbox's root, and the number of ids.
const FIRST: u32 = 1_000_000_000;
const COUNT: u32 = 2_000_000;

/// A sandbox, for the process on the host.
pub struct Sandbox {
    child: Child,
    cgroups: Vec<PathBuf>,
}

impl Sandbox {
    /// Starts `worker`, a copy of this program in `work`, as the sandbox's first process. Its standard output is a
    /// pipe.
    pub fn begin(work: &Path, arguments: &[String]) -> Result<Sandbox> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let cgroups = make_cgroups(&format!("sample-{}-{number}", std::process::id()));
        let mut child = Command::new(work.join("sample"))
            .arg("enter")
            .args(arguments)
            .current_dir(work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        let mut ready = [0];
        child.stdout.as_mut().context("no pipe")?.read_exact(&mut ready).context("no user namespace")?;
        for name in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{name}"), format!("0 {FIRST} {COUNT}")).context(name)?;
        }
        for cgroup in &cgroups {
            // If a hierarchy refuses the process, the sandbox's containers do not use it either.
            let _ = fs::write(cgroup.join("cgroup.procs"), pid.to_string());
        }
        child.stdin.as_mut().context("no pipe")?.write_all(b"x")?;
        Ok(Sandbox { child, cgroups })
    }

    /// The standard output of the worker.
    pub fn out(&mut self) -> Result<std::process::ChildStdout> {
        self.child.stdout.take().context("no pipe")
    }

    /// Waits until the worker ends. All processes of the sandbox end with it.
    pub fn end(mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        for cgroup in &self.cgroups {
            remove_below(cgroup);
        }
        Ok(status)
    }
}

/// Removes cgroups from the leaves up. A process that is ending still counts for a moment.
fn remove_below(cgroup: &Path) {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_below(&entry.path()));
    for _ in 0..500 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("sample: {}: cannot be removed", cgroup.display());
}

/// The mounted hierarchies: the mount point, the type, and the name.
fn hierarchies() -> Vec<(PathBuf, String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(" - "));
    lines
        .filter_map(|(before, after)| {
            let (mount, mut after) = (before.split(' ').nth(4)?, after.split(' '));
            let (kind, words) = (after.next()?, after.nth(1)?);
            let words: Vec<&str> =
                words.split(',').filter(|word| !["rw", "ro", "xattr", "clone_children"].contains(word)).collect();
            kind.starts_with("cgroup").then(|| (mount.into(), kind.to_owned(), words.join(",")))
        })
        .collect()
}

/// Makes a cgroup for the sandbox in each hierarchy where this is possible. The sandbox's root may make more below.
fn make_cgroups(name: &str) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for (mount, kind, _) in hierarchies() {
        let cgroup = mount.join(name);
        if fs::create_dir(&cgroup).is_err() {
            continue;
        }
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| kind == "cgroup") {
            if let Ok(value) = fs::read(mount.join(file)) {
                let _ = fs::write(cgroup.join(file), value);
            }
        }
        for file in ["", "cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"] {
            let path = if file.is_empty() { cgroup.clone() } else { cgroup.join(file) };
            if path.exists() {
                let _ = chown(&path, Some(FIRST), Some(FIRST));
            }
        }
        made.push(cgroup);
    }
    made
}

/// In the new process: becomes root of the sandbox, and starts its first process with `arguments`.
pub fn enter(arguments: &[String]) -> Result<ExitStatus> {
    unshare(CloneFlags::CLONE_NEWUSER).context("unshare a user namespace")?;
    let mut out = std::io::stdout();
    out.write_all(b"x")?;
    out.flush()?;
    std::io::stdin().read_exact(&mut [0]).context("no id maps")?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)?;
    setgroups(&[])?;
    setresuid(uid, uid, uid)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )?;
    Ok(Command::new("./sample").arg("worker").args(arguments).stdin(Stdio::null()).status()?)
}

/// In the sandbox's first process: makes its root. `work` is the current directory.
pub fn furnish() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let cgroups = hierarchies();
    fs::create_dir_all("root")?;
    mount(Some("tmpfs"), "root", Some("tmpfs"), MsFlags::empty(), Some("size=512m,mode=755"))?;
    for directory in ["bin", "proc", "sys", "dev", "tmp", "state", "bundle", "old"] {
        fs::create_dir(Path::new("root").join(directory))?;
    }
    for (from, to) in [("coracle", "bin/coracle"), ("program", "bin/program"), ("bases.json", "bases.json")] {
        fs::copy(from, Path::new("root").join(to)).context(from)?;
    }
    // The hooks of the cases.
    for name in ["true", "sh", "hook", "inside", "container", "poststart", "poststop", "prestart", "runtime", "second"]
    {
        fs::hard_link("root/bin/program", Path::new("root/bin").join(name))?;
    }
    // The directories that the cases mount and join.
    for directory in ["srv/a", "srv/b", "srv/c", "srv/d", "srv/data", "run/netns", "run/containers/shm", "usr"] {
        fs::create_dir_all(Path::new("root").join(directory))?;
    }
    symlink("../bin", "root/usr/bin")?;
    for file in ["srv/e", "srv/f", "srv/resolv.conf", "run/containers/hosts", "run/containers/.containerenv"] {
        fs::write(Path::new("root").join(file), "")?;
    }
    for name in ["blue", "m", "netns-1"] {
        let kind = if name == "m" { "mnt" } else { "net" };
        symlink(format!("/proc/1/ns/{kind}"), Path::new("root/run/netns").join(name))?;
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (from, to) = (Path::new("/dev").join(device), Path::new("root/dev").join(device));
        fs::write(&to, "")?;
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none).context(device)?;
    }
    mount(Some("proc"), "root/proc", Some("proc"), MsFlags::empty(), none).context("proc")?;
    mount(Some("sysfs"), "root/sys", Some("sysfs"), MsFlags::empty(), none).context("sysfs")?;
    mount_cgroups(&cgroups)?;
    pivot_root("root", "root/old")?;
    chdir("/")?;
    umount2("/old", MntFlags::MNT_DETACH)?;
    fs::remove_dir("/old")?;
    Ok(())
}

/// Mounts the hierarchies as on the host. The sandbox's own cgroup is the root of each.
fn mount_cgroups(hierarchies: &[(PathBuf, String, String)]) -> Result<()> {
    let top = Path::new("root/sys/fs/cgroup");
    if hierarchies.iter().any(|(_, kind, _)| kind == "cgroup") {
        mount(Some("tmpfs"), top, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    }
    for (at, kind, words) in hierarchies {
        let directory = top.join(at.strip_prefix("/sys/fs/cgroup").unwrap_or(Path::new("")));
        fs::create_dir_all(&directory)?;
        let options = (kind == "cgroup").then_some(words.as_str());
        mount(Some("cgroup"), &directory, Some(kind.as_str()), MsFlags::empty(), options)
            .with_context(|| format!("{kind} {words}"))?;
        if kind == "cgroup2" {
            // A cgroup that gives controllers to children cannot have processes.
            let driver = directory.join("driver");
            if fs::create_dir(&driver).is_ok() {
                fs::write(driver.join("cgroup.procs"), "0")?;
            }
        }
    }
    Ok(())
}

/// A new root for a container, without anything from an earlier case.
pub fn make_rootfs(root: &Path) -> Result<()> {
    for directory in ["bin", "proc", "sys", "dev", "tmp", "etc", "run", "var/lib"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let program = root.join("bin/true");
    fs::copy("/bin/program", &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for name in ["sh", "stay", "cat", "id"] {
        fs::hard_link(&program, root.join("bin").join(name))?;
    }
    symlink("/bin", root.join("link"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    ensure!(root.join("bin/stay").exists(), "no program in the root");
    Ok(())
}

/// Makes the sandbox's root the owner of everything in `work`.
pub fn hand_over(work: &Path) -> Result<()> {
    chown(work, Some(FIRST), Some(FIRST))?;
    for entry in fs::read_dir(work)? {
        chown(entry?.path(), Some(FIRST), Some(FIRST))?;
    }
    Ok(())
}
