//! uid_map and gid_map of a new user namespace (user_namespaces(7)). The runtime writes them. For an ordinary user,
//! newuidmap(1) and newgidmap(1) write them: they read the grants in /etc/subuid and /etc/subgid.

use std::ffi::CStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use super::child::{has_ended, reap_within, status_of};
use crate::config::{At, Warning};
use crate::error::{Error, Result, bail, error};
use crate::host::grants::{grants, own_names};
use crate::host::{Environment, IdMap, id_map};
use crate::plan::{IdMaps, Writer};
use crate::sys::errno::{in_words, words};
use crate::sys::host_proc::HostProc;
use crate::wait::{self, limits};

/// The most bytes that are read of what a program writes to its standard error.
const MOST_WORDS: usize = 64 << 10;

/// One of the two maps.
struct IdMapFile<'a> {
    lines: &'a [IdMap],
    by: Writer,
    property: At,
    file: &'static CStr,
    program: &'static str,
    grants: &'static str,
}

/// The text of uid_map and gid_map.
fn map_lines(maps: &[IdMap]) -> String {
    maps.iter().map(IdMap::to_string).collect()
}

/// Writes both for process `pid`. `at` is the place that has `uidMappings` and `gidMappings`.
pub(super) fn write(proc: &HostProc, pid: i32, maps: &IdMaps, at: &At, environment: &Environment) -> Result<()> {
    let uids = IdMapFile {
        lines: &maps.uids,
        by: maps.uids_by,
        property: at.key("uidMappings"),
        file: c"uid_map",
        program: "newuidmap",
        grants: "/etc/subuid",
    };
    let gids = IdMapFile {
        lines: &maps.gids,
        by: maps.gids_by,
        property: at.key("gidMappings"),
        file: c"gid_map",
        program: "newgidmap",
        grants: "/etc/subgid",
    };
    if gids.by == Writer::User {
        // ORDER: before gid_map. Only then does the kernel accept gid_map from an ordinary user (CVE-2014-8989).
        proc.write_of(pid, c"setgroups", b"deny")
            .map_err(|errno| error!("{}: write setgroups: {}", gids.property, words(errno)))?;
    }
    uids.write(proc, pid, environment)?;
    gids.write(proc, pid, environment)
}

impl IdMapFile<'_> {
    fn write(&self, proc: &HostProc, pid: i32, environment: &Environment) -> Result<()> {
        match self.by {
            Writer::Program => self.run(pid, environment),
            Writer::Root | Writer::User => {
                let lines = map_lines(self.lines);
                proc.write_of(pid, self.file, lines.as_bytes()).map_err(|errno| self.refused(errno))
            }
        }
    }

    /// The error if the kernel refuses the map. In a user namespace of our own, we can map only ids that it has.
    fn refused(&self, errno: Errno) -> Error {
        let file = self.file.to_string_lossy();
        let own = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let own = ids(&own);
        let why = match self.lines.iter().position(|line| !is_within(line, &own)) {
            Some(n) => {
                let IdMap { host, size, .. } = self.lines[n];
                format!("[{n}]: {host}:{size} is more than the ids of the runtime's user namespace ({})", shown(&own))
            }
            None => String::new(),
        };
        error!("{}{why}: write {file}: {}", self.property, words(errno))
    }

    fn run(&self, pid: i32, environment: &Environment) -> Result<()> {
        let numbers = self.lines.iter().flat_map(|m| [m.container, m.host, m.size]);
        let mut command = environment.command(Path::new(self.program));
        command.arg(pid.to_string()).args(numbers.map(|number| number.to_string())).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        crate::sys::fds::keep_only_stdio(&mut command);
        let child = match crate::sys::fds::spawn(&mut command) {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{}: {} is not installed (package uidmap), and without it an ordinary user can map only the own id",
                self.property,
                self.program
            ),
            Err(error) => bail!("{}: run {}: {error}", self.property, self.program, error = in_words(&error)),
        };
        let (status, said) = end_of(child).map_err(|error| error.context(self.program).context(&self.property))?;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let text = fs::read_to_string(self.grants).unwrap_or_default();
        match self.why(&grants(&text, &own_names())) {
            Some(why) => bail!("{}: {}: {why}", self.property, self.program),
            None if said.is_empty() => {
                bail!("{}: {}: it failed without a message ({status})", self.property, self.program)
            }
            None => bail!("{}: {}: {said} ({status})", self.property, self.program),
        }
    }

    /// The difference between the grants and the map, if the files show one.
    fn why(&self, grants: &[(u32, u32)]) -> Option<String> {
        let own = match self.file {
            file if file == c"uid_map" => rustix::process::getuid().as_raw(),
            _ => rustix::process::getgid().as_raw(),
        };
        let beyond = self.lines.iter().find(|line| {
            let itself = line.host == own && line.size == 1;
            !itself && !is_within(line, grants)
        })?;
        let (file, user) = (self.grants, own_names().join(" or "));
        if grants.is_empty() {
            return Some(format!("{file} has no range for {user}"));
        }
        let (host, size) = (beyond.host, beyond.size);
        Some(format!("{host}:{size} is more than {file} has for {user}: {}", shown(grants)))
    }
}

/// Waits for the end of a program: its status, and the first `MOST_WORDS` bytes of its standard error. The user's PATH names the
/// program, so it may write without end, or never end. A signal ends the wait, and kills the program.
fn end_of(mut child: Child) -> Result<(ExitStatus, Vec<u8>)> {
    let pidfd = crate::sys::fds::pidfd_of(&mut child)?;
    let kill = || {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        reap_within(pidfd.as_fd(), limits::KILLED_CHILD);
    };
    let mut pipe = child.stderr.take();
    if let Some(pipe) = &pipe {
        rustix::io::ioctl_fionbio(pipe, true).inspect_err(|_| kill())?;
    }
    let (mut said, mut ended) = (Vec::new(), false);
    while !ended {
        let fds = [Some(pidfd.as_fd()), pipe.as_ref().map(AsFd::as_fd)];
        let fds: Vec<_> = fds.into_iter().flatten().map(|fd| (fd, PollFlags::IN)).collect();
        wait::ready(&fds, None).inspect_err(|_| kill())?;
        // ORDER: before the last look at the pipe. A process that the program leaves behind may keep the pipe open.
        ended = has_ended(pidfd.as_fd());
        let room = (MOST_WORDS - said.len()) as u64;
        let read = pipe.as_mut().map(|pipe| pipe.take(room).read_to_end(&mut said));
        // At its end, or with enough words, the pipe is closed.
        if read.is_some_and(|read| read.is_ok()) {
            pipe = None;
        }
    }
    Ok((status_of(pidfd.as_fd())?, said))
}

/// A warning for each map of config.json that differs from that of the user namespace that process `pid` has joined.
pub(super) fn differing(pid: i32, given: &IdMaps) -> Vec<Warning> {
    let maps = [("linux.uidMappings", &given.uids, "uid_map"), ("linux.gidMappings", &given.gids, "gid_map")];
    let warning = |(property, given, file): (&'static str, &Vec<IdMap>, &str)| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let real: Vec<_> = id_map::lines(&text).collect();
        if given.is_empty() || merged(given) == merged(&real) {
            return None;
        }
        let real: Vec<_> = real.iter().map(|line| line.to_string().trim_end().to_owned()).collect();
        let said = format!("is not used: the user namespace is joined by path and has {}", real.join(", "));
        Some(Warning { at: At::new(property), said })
    };
    maps.into_iter().filter_map(warning).collect()
}

/// The lines in order. Two lines become one if the second continues the first.
fn merged(map: &[IdMap]) -> Vec<IdMap> {
    let mut lines: Vec<_> = map.to_vec();
    lines.sort_by_key(|line| line.container);
    lines.dedup_by(|next, line| {
        let continues = line.container.checked_add(line.size) == Some(next.container)
            && line.host.checked_add(line.size) == Some(next.host);
        if continues {
            line.size = line.size.saturating_add(next.size);
        }
        continues
    });
    lines
}

/// True if one of the ranges contains all ids of the mapping. A range is a first id and a count.
fn is_within(line: &IdMap, ranges: &[(u32, u32)]) -> bool {
    let end = u64::from(line.host) + u64::from(line.size);
    ranges.iter().any(|&(first, count)| first <= line.host && end <= u64::from(first) + u64::from(count))
}

fn shown(ranges: &[(u32, u32)]) -> String {
    ranges.iter().map(|(first, count)| format!("{first}:{count}")).collect::<Vec<_>>().join(", ")
}

/// First id and count of each line of a uid_map or gid_map (user_namespaces(7)).
fn ids(map: &str) -> Vec<(u32, u32)> {
    id_map::lines(map).map(|line| (line.container, line.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[IdMap]) -> IdMapFile<'_> {
        IdMapFile {
            lines,
            by: Writer::Program,
            property: At::new("linux.uidMappings"),
            file: c"uid_map",
            program: "newuidmap",
            grants: "/etc/subuid",
        }
    }

    /// The end of a program with this script.
    fn run(script: &str) -> String {
        let child = std::process::Command::new("/bin/sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        match end_of(child) {
            Ok((status, said)) => format!("{status}: {} bytes", said.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_program_that_writes_without_end_or_never_ends_is_bounded() {
        assert_eq!(run("exec yes hostile >&2"), "signal: 13 (SIGPIPE): 65536 bytes");
        assert_eq!(run("exit 1"), "exit status: 1: 0 bytes");
        // A process that it leaves behind keeps the pipe open.
        assert_eq!(run("sleep 3 & echo word >&2; exit 2"), "exit status: 2: 5 bytes");
        let stop = wait::Stop::new().unwrap();
        stop.interrupt();
        assert_eq!(stop.over(|| run("exec sleep 1000")), "interrupted by the caller");
    }

    #[test]
    fn the_ids_that_we_have_are_read() {
        assert_eq!(ids("         0       1000          1\n         1     100000      65536\n"), [(0, 1), (1, 65536)]);
        assert_eq!(ids(""), []);
    }

    #[test]
    fn maps_are_equal_however_they_are_cut() {
        let of = |text: &str| merged(&id_map::lines(text).collect::<Vec<_>>());
        assert_eq!(of("0 1000 1\n1 1001 9\n"), of(" 0  1000 10"));
        assert_eq!(of("5 2000 5\n0 1000 5\n"), of("0 1000 5\n5 2000 5\n"));
        assert_ne!(of("0 1000 1\n1 1002 9\n"), of("0 1000 10"));
        assert_ne!(of("0 1000 1\n2 1001 9\n"), of("0 1000 10"));
    }

    #[test]
    fn ids_that_are_not_granted_are_reported() {
        let lines = [IdMap { container: 0, host: 100, size: 11 }];
        assert!(map(&lines).why(&[]).unwrap().starts_with("/etc/subuid has no range for "));
        assert!(map(&lines).why(&[(100, 10)]).unwrap().starts_with("100:11 is more than /etc/subuid has for "));
        assert_eq!(map(&lines).why(&[(90, 30)]), None);
    }
}
