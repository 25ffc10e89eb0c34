//! The directory of a worker: it runs the runtime's commands, and finds what they leave.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bundle::{self, Then};
use crate::trace::{self, Aim, Report, Traced};
use crate::watch::{self, Watch};

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
    /// The processes that still existed at the deadline.
    pub hung: Option<String>,
}

impl Ran {
    /// Exit status and message, for a finding.
    pub fn summary(&self) -> String {
        let hung = self.hung.as_ref().map(|who| format!(", hung: {who}")).unwrap_or_default();
        format!("exit {}, {:?}{hung}", self.code, self.err.trim())
    }
}

/// A worker: its directory, and the id of its container.
pub struct Worker {
    pub work: PathBuf,
    pub runtime: PathBuf,
    pub id: String,
    /// The ids of the mounts that were there before.
    mounts: HashSet<String>,
    hierarchies: Vec<PathBuf>,
}

impl Worker {
    pub fn new(work: &Path, runtime: &Path, id: &str) -> Result<Worker> {
        fs::create_dir_all(work.join("state"))?;
        bundle::make(work, runtime, &format!("/{id}"))?;
        Ok(Worker {
            work: work.to_owned(),
            runtime: runtime.to_owned(),
            id: id.to_owned(),
            mounts: mounts()?.lines().map(|line| mount_id(line).to_owned()).collect(),
            hierarchies: hierarchies()?,
        })
    }

    pub fn bundle(&self, name: &str, then: Then) -> String {
        bundle::path(&self.work, name, then).display().to_string()
    }

    /// The whole command line of `arguments`.
    pub fn command(&self, arguments: &[&str]) -> Vec<String> {
        let begin =
            [self.runtime.display().to_string(), "--root".to_owned(), self.work.join("state").display().to_string()];
        begin.into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).collect()
    }

    /// The output of the container's program so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.work.join("out")).unwrap_or_default()
    }

    /// Runs the command without a fault. Its output goes to `out` and `err`, which a container may keep open.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        self.run_into(arguments, "out")
    }

    /// The same, but the output goes elsewhere: the container's output stays in `out`.
    pub fn call(&self, arguments: &[&str]) -> Result<Ran> {
        self.run_into(arguments, "answer")
    }

    fn run_into(&self, arguments: &[&str], out: &str) -> Result<Ran> {
        let command = self.command(arguments);
        let watch = Watch::new();
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .stdout(File::create(self.work.join(out))?)
            .stderr(File::create(self.work.join("err"))?)
            .spawn()?;
        let status = child.wait()?;
        let hung = watch.end();
        let read =
            |name: &str| fs::read(self.work.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Ran { code, out: read(out)?, err: read("err")?, hung })
    }

    /// Runs the command under the injector. With `waiting`, the init with that pid is traced, too.
    pub fn trace(&self, arguments: &[&str], waiting: Option<i32>, aim: Aim, out: &str) -> Result<(Report, Ran)> {
        let command = self.command(arguments);
        let (out_file, err_file) = (File::create(self.work.join(out))?, File::create(self.work.join("err"))?);
        let watch = Watch::new();
        let work = self.work.clone();
        let traced = std::thread::spawn(move || {
            let traced = Traced {
                command: &command,
                directory: &work,
                out: &out_file,
                err: &err_file,
                waiting: waiting.map(Pid::from_raw),
            };
            trace::run(&traced, aim)
        });
        let report = traced.join().map_err(|_| anyhow::anyhow!("the injector fell over"))?;
        let hung = watch.end();
        let report = report?;
        let read =
            |name: &str| fs::read(self.work.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let ran = Ran { code: report.code, out: read(out)?, err: read("err")?, hung };
        Ok((report, ran))
    }

    /// The object that `state` prints, or its failure.
    pub fn state(&self) -> Result<Result<Value, Ran>> {
        let ran = self.call(&["state", &self.id])?;
        let state = if ran.code == 0 { serde_json::from_str(&ran.out).ok() } else { None };
        Ok(state.ok_or(ran))
    }

    /// The objects that are left and should not be. It waits a moment, because the end of a process takes time.
    pub fn left(&self) -> Result<Vec<String>> {
        let until = Instant::now() + Duration::from_millis(1500);
        loop {
            reap();
            let left = self.left_now()?;
            if left.is_empty() || Instant::now() > until {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The processes only.
    pub fn processes_left(&self) -> Vec<String> {
        let until = Instant::now() + Duration::from_millis(1500);
        loop {
            reap();
            let left = watch::processes();
            if left.is_empty() || Instant::now() > until {
                return left.into_iter().map(watch::description).collect();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left_now(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.work.join("state"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let inside: Vec<String> = fs::read_dir(entry.path())
                .map(|entries| {
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
                })
                .unwrap_or_default();
            left.push(format!("directory {} ({})", entry.file_name().to_string_lossy(), inside.join(", ")));
        }
        left.extend(self.cgroups().into_iter().map(|path| format!("cgroup {}", path.display())));
        left.extend(watch::processes().into_iter().map(|pid| format!("process {}", watch::description(pid))));
        let mounts = mounts()?;
        // A mount that disappears belonged to another process of the host, which has removed the directory below it. A
        // mount with another path has moved with a directory above it.
        let new: Vec<&str> = mounts.lines().filter(|line| !self.mounts.contains(mount_id(line))).collect();
        if !new.is_empty() {
            left.push(format!("mounts {}", new.join("; ")));
        }
        Ok(left)
    }

    /// The container's cgroups, in all hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let there = |cgroup: &PathBuf| cgroup.join(&self.id).is_dir();
        self.hierarchies.iter().filter(|cgroup| there(cgroup)).map(|cgroup| cgroup.join(&self.id)).collect()
    }

    /// Removes everything without the runtime, for the next case.
    pub fn clear(&self) -> Result<()> {
        for cgroup in self.cgroups() {
            for name in ["freezer.state", "cgroup.freeze"] {
                let thawed = if name == "freezer.state" { "THAWED" } else { "0" };
                let _ = fs::write(cgroup.join(name), thawed);
            }
        }
        watch::kill_all();
        self.processes_left();
        for cgroup in self.cgroups() {
            let _ = fs::remove_dir(cgroup);
        }
        for entry in fs::read_dir(self.work.join("state"))? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Reaps orphans: we are the first process of our pid namespace.
pub fn reap() {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    while waitpid(None, Some(flags)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

/// Our mounts (proc_pid_mountinfo(5)).
fn mounts() -> Result<String> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?)
}

/// The first field of a line of mountinfo. It does not change while the mount exists.
fn mount_id(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// Each hierarchy's root, and our own cgroup in it.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut cgroups = Vec::new();
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(mount), Some(kind)) = (words.next(), words.next()) else { continue };
        if !kind.starts_with("cgroup") {
            continue;
        }
        let mount = PathBuf::from(mount);
        for line in own.lines() {
            let path = line.splitn(3, ':').nth(2).unwrap_or("/");
            let cgroup = mount.join(path.trim_start_matches('/'));
            if cgroup.is_dir() && !cgroups.contains(&cgroup) {
                cgroups.push(cgroup);
            }
        }
        cgroups.push(mount);
    }
    cgroups.sort();
    cgroups.dedup();
    Ok(cgroups)
}
