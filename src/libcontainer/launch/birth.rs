//! The clone: one call that makes the first child, in its namespaces and, where the kernel can, in its cgroup. Where it
//! cannot (version 1), the child goes there itself, before all else.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::seal::Protected;
use super::{Armed, Child, Launched, Lodging};
use crate::cgroup::Cgroup;
use crate::config::{At, Warning};
use crate::init::{self, Scene};
use crate::plan::failure::words;
use crate::plan::step::{Slot, What};
use crate::plan::{OomScore, Plan};
use crate::sys::clone::{Parentage, Side, clone, setns};
use crate::sys::page::Page;
use crate::sys::sched::set_affinity;

const NEWPID: u64 = libc::CLONE_NEWPID as u64;

/// See `Armed::launch`.
pub(super) fn give<'a>(
    mut armed: Armed,
    plan: &'a Plan,
    cgroup: Option<&Cgroup>,
    protected: Protected,
) -> Result<Launched<'a>> {
    if let Some((at, cpus)) = &plan.initial_affinity {
        set_affinity(0, cpus).map_err(|errno| anyhow!("{at}: sched_setaffinity {cpus:x?}: {}", words(errno)))?;
    }
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| anyhow!("socketpair: {}", words(errno)))?;
    // ORDER: before the container can see the child (`seal::protect`). Where nobody can, it is done while init is at work
    let protected = Some(protected).filter(|_| !can_be_seen(plan));
    let inside = plan.birth.pid_namespace.map(|slot| Inside::enter(&armed, slot)).transpose()?;
    let flags = plan.birth.new.0;
    let score = plan.oom_score_adj.map(|wanted| Score::lend(wanted, &mut armed.warnings)).transpose()?;
    let (doors, mut lodging) = cgroup.map(|cgroup| doors(cgroup, plan)).unwrap_or_default();
    let (side, born) = clone_into(flags, cgroup);
    if !matches!(side, Ok(Side::Child)) {
        // ours again; the child keeps it
        score.iter().for_each(Score::back);
    }
    let side = side.map_err(|errno| anyhow!("linux.namespaces: clone {}: {}", plan.birth.new, words(errno)))?;
    match side {
        Side::Child => {
            // the end of the stream must be seen when the runtime is gone
            drop((ours, protected));
            enter(doors, &armed.page);
            init::run(&Scene {
                fds: &armed.fds,
                root: plan.root,
                program: armed.program.as_ref(),
                limits: &plan.limits,
                talk: theirs,
                page: &armed.page,
                steps: [&plan.bridge, &plan.init],
                left: init::Left::default(),
            })
        }
        Side::Parent(pid, pidfd) => {
            let pidfd = pidfd.ok_or_else(|| anyhow!("clone gave no pidfd"))?;
            let child = Child::new(pid, pidfd);
            drop(theirs);
            drop(inside);
            lodging.by_us.retain(|key| !key.is_empty() || born == Born::Outside);
            Ok(Launched { plan, armed, talk: ours, child, lodging, protected })
        }
    }
}

/// True when the child, or the one that it spawns, enters a pid namespace that has processes already.
fn can_be_seen(plan: &Plan) -> bool {
    let steps = plan.bridge.iter().chain(&plan.init);
    let mut joins = steps.filter(|step| matches!(step.what, What::Join(_, kinds) if kinds.has(NEWPID)));
    plan.birth.pid_namespace.is_some() || joins.next().is_some()
}

/// The clone, in the best of the cgroup's directories of version 2 that takes the child, or outside of them.
fn clone_into(flags: u64, cgroup: Option<&Cgroup>) -> (Result<Side, Errno>, Born) {
    for place in cgroup.into_iter().flat_map(Cgroup::birthplaces) {
        match clone(flags, Parentage::Child, Some(place.as_fd())) {
            // EBUSY: the cgroup has given its processes away to others below it
            Err(Errno::BUSY) => {}
            // KERNEL(5.7): CLONE_INTO_CGROUP; EACCES: it is ours, and what is above us and it is not. EPERM may be about the
            // namespaces, and is then met again
            Err(Errno::INVAL | Errno::TOOBIG | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => break,
            result => return (result, Born::Inside),
        }
    }
    (clone(flags, Parentage::Child, None), Born::Outside)
}

/// Where the child was born, on version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Born {
    /// In its cgroup.
    Inside,
    /// Where we are.
    Outside,
}

/// What the child goes through into its cgroups of version 1, and what is left to be done about the others.
fn doors(cgroup: &Cgroup, plan: &Plan) -> (Vec<OwnedFd>, Lodging) {
    let (mut doors, mut lodging) = (Vec::new(), Lodging::default());
    // a unit that is to be started takes the child into the hierarchies that are systemd's
    let starts = plan.cgroup.as_ref().is_some_and(|(placement, ..)| placement.unit.is_some());
    for key in cgroup.paths().keys().filter(|key| !(starts && matches!(key.as_str(), "" | "systemd"))) {
        match cgroup.door(key) {
            Some(door) => {
                doors.push(door);
                lodging.by_itself.push(key.clone());
            }
            None => lodging.by_us.push(key.clone()),
        }
    }
    (doors, lodging)
}

/// The child enters, closes the doors, and notes how far it has come: what it cannot enter is left to the runtime, which
/// tells why.
fn enter(doors: Vec<OwnedFd>, page: &Page) {
    let entered = doors.into_iter().take_while(|door| rustix::io::write(door, b"0").is_ok()).count();
    page.has_entered(u32::try_from(entered).unwrap_or(0));
}

/// Our own score, lent to the child for the moment of the clone: who is not root writes that of nobody else.
struct Score(Option<String>);

impl Score {
    const FILE: &str = "/proc/self/oom_score_adj";

    fn lend(wanted: OomScore, warnings: &mut Vec<Warning>) -> Result<Score> {
        let (score, refused) = match wanted {
            // `serve` writes it
            OomScore::OfInit(_) => return Ok(Score(None)),
            OomScore::Inherited(score) => (score, Err(())),
            OomScore::InheritedIfAllowed(score) => (score, Ok(())),
        };
        let own = std::fs::read_to_string(Score::FILE).unwrap_or_default().trim().to_owned();
        if own == score.to_string() {
            return Ok(Score(None));
        }
        match crate::cgroup::put(Path::new(Score::FILE), &score.to_string()) {
            Ok(()) => Ok(Score(Some(own))),
            Err(error) if error.kind() == ErrorKind::PermissionDenied && refused.is_ok() => {
                let said =
                    format!("not applied, the score stays {own}: only root of the initial user namespace lowers it");
                warnings.push(Warning { at: At::new("process.oomScoreAdj"), said });
                Ok(Score(None))
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(anyhow!(
                "process.oomScoreAdj: write {score} to oom_score_adj: permission denied: only root lowers it, and ours is {own}"
            )),
            Err(error) => Err(error).context(format!("process.oomScoreAdj: write {score} to oom_score_adj")),
        }
    }

    fn back(&self) {
        if let Some(own) = &self.0 {
            // what one may raise one may set back; if not, only our own last moments are concerned
            let _ = crate::cgroup::put(Path::new(Score::FILE), own);
        }
    }
}

/// While this lives, our children are born in another pid namespace. We stay where we are (setns(2)).
struct Inside(OwnedFd);

impl Inside {
    fn enter(armed: &Armed, slot: Slot) -> Result<Inside> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let own =
            rustix::fs::openat(CWD, c"/proc/self/ns/pid", flags, Mode::empty()).context("open own pid namespace")?;
        setns(armed.fd(slot)?.as_fd(), NEWPID).map_err(|errno| anyhow!("setns pid: {}", words(errno)))?;
        Ok(Inside(own))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = setns(self.0.as_fd(), NEWPID);
    }
}
