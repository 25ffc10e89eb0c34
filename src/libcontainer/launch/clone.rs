//! The clone: one call makes the first child, in its namespaces and, if the kernel supports it, in its cgroup. If the
//! kernel does not (version 1), the child enters its cgroups first.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::DumpableBehavior;

use super::child::Child;
use super::launched::{Launched, ToEnter};
use super::nofile;
use super::open::Opened;
use super::protection::{Protected, ProtectedBy};
use crate::cgroup::Cgroup;
use crate::config::{At, Warning};
use crate::error::{Context, Error, Result, error};
use crate::init::{self, Prepared};
use crate::plan::step::{Step, What};
use crate::plan::{Dumpable, OomScore, Plan};
use crate::sys::clone::{Alone, clone, exit};
use crate::sys::command_line::CommandLine;
use crate::sys::errno::words;
use crate::sys::host_proc::HostProc;
use crate::sys::page::FirstChildPage;
use crate::sys::sched::{own_affinity, set_affinity};
use crate::sys::signals;
use crate::wire::{Failure, Up, Words};

const NEWPID: u64 = libc::CLONE_NEWPID as u64;

impl Opened {
    /// Makes the first child, in `cgroup` if the kernel supports that. `protected` proves that nobody in the container can write
    /// our own program.
    ///
    /// # Errors
    /// The error of clone3(2), with the namespaces that were requested.
    pub fn launch<'a>(mut self, plan: &'a Plan, cgroup: Option<&Cgroup>, protected: Protected) -> Result<Launched<'a>> {
        let affinity = plan.initial_affinity.as_ref().map(|(at, cpus)| -> Result<FormerCpus> {
            let before = own_affinity().with_context(|| format!("{at}: sched_getaffinity"))?;
            set_affinity(0, cpus).with_context(|| format!("{at}: sched_setaffinity {cpus:x?}"))?;
            Ok(FormerCpus(before))
        });
        let affinity = affinity.transpose()?;
        let (ours, mut theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .context("socketpair")?;
        self.raise_descriptors(&mut theirs)?;
        // ORDER: the mount is closed before the container can see the child (`protection::protect`). If no container can see
        // it, the mount is closed later, while init works.
        let (mount, mut by) = protected.into_parts();
        let mut mount = mount.filter(|_| !can_be_seen(plan));
        // One clone at a time: the process changes for a moment, so that the child inherits the change, and other
        // threads make children, too.
        let raised = nofile::lock();
        let nofile = raised.limit_of_program(plan);
        let score = plan
            .oom_score_adj
            .map(|wanted| Score::set_for_child(&self.proc, wanted, &mut self.warnings))
            .transpose()?;
        let (mut tasks_files, mut to_enter) = cgroup.map(|cgroup| tasks_files(cgroup, plan)).unwrap_or_default();
        let strings = CommandLine::of_now().context("read /proc/self/stat")?;
        let steps: [&[_]; 2] = [&plan.bridge, &plan.init];
        let results = init::StepResults::with_room(steps);
        let ours_alone = matches!(by, ProtectedBy::Us);
        let blocked = signals::block_all().context("rt_sigprocmask")?;
        let was_dumpable = ours_alone && is_dumpable();
        if ours_alone && let Err(errno) = make_undumpable(plan.clone_args.dumpable) {
            signals::restore_mask(blocked);
            return Err(Error::from(errno).context("prctl PR_SET_DUMPABLE 0"));
        }
        let mut ours = Some(ours);
        let cloned = clone_into(plan.clone_args.new.0, cgroup, |alone| {
            self.protect(plan, alone, &mut by, &theirs);
            strings.overwrite(alone);
            // When the runtime ends, init must see the end of the stream.
            drop((ours.take(), mount.take()));
            enter_cgroups(&mut tasks_files, &self.first_child);
            self.take_streams(alone, &theirs);
            let prepared = self.prepared(plan, alone, theirs.as_fd(), steps, &results);
            init::run(&Prepared { nofile, ..prepared })
        });
        signals::restore_mask(blocked);
        if was_dumpable {
            make_dumpable_again();
        }
        // This restores our own score. The child keeps its score.
        drop((score, raised, affinity));
        let (pid, pidfd, cloned) =
            cloned.with_context(|| format!("linux.namespaces: clone {}", plan.clone_args.new))?;
        let child = Child::new(pid, pidfd);
        drop(theirs);
        to_enter.by_us.retain(|key| !key.is_empty() || cloned == Cloned::OutsideCgroup);
        let socket = ours.ok_or_else(|| error!("the socket to init is closed"))?;
        Ok(Launched { plan, opened: self, socket, child, to_enter, mount })
    }

    /// What init gets.
    fn prepared<'a>(
        &'a self,
        plan: &'a Plan,
        alone: &'a Alone,
        socket: BorrowedFd<'a>,
        steps: [&'a [Step]; 2],
        results: &'a init::StepResults,
    ) -> Prepared<'a> {
        Prepared {
            fds: &self.fds,
            root: plan.root,
            late: &self.late,
            filter: self.filter.as_ref(),
            limits: &plan.limits,
            nofile: None,
            proc: &self.proc,
            mounted: self.mounted.as_ref().map(AsFd::as_fd),
            socket,
            page: &self.page,
            first_child: &self.first_child,
            steps,
            results,
            alone,
        }
    }

    /// The child's first act if the caller is not our own program. The parent must not change, so the child makes
    /// itself undumpable, and makes sure that no process can write its program. No container can see the child before
    /// this (`can_be_seen`: the bridge).
    fn protect(&self, plan: &Plan, alone: &Alone, by: &mut ProtectedBy, socket: &OwnedFd) {
        let done = match by {
            ProtectedBy::Us => return,
            ProtectedBy::Caller => make_undumpable(plan.clone_args.dumpable),
            ProtectedBy::Child(own, file) => make_undumpable(plan.clone_args.dumpable)
                .and_then(|()| own.map_again_in_child(alone, &file.take().ok_or(Errno::BADF)?)),
        };
        if let Err(errno) = done {
            self.fail(NOT_PROTECTED, errno, socket)
        }
    }

    /// In the child, after it has closed all that init does not use: moves its streams to descriptors 0 to 2.
    fn take_streams(&self, alone: &Alone, socket: &OwnedFd) {
        if let Err(errno) = self.streams.take_their_places(alone) {
            self.fail(NO_STREAMS, errno, socket)
        }
    }

    /// In the child: reports that this step has failed, and ends.
    fn fail(&self, step: u32, errno: Errno, socket: &OwnedFd) -> ! {
        let packet = Up::Failed(Failure { step, errno, said: Words::NONE }).encode();
        self.page.has_failed(&packet);
        // If this fails, the runtime has ended, or reads the failure in the page.
        let _ = rustix::io::write(socket, &packet);
        exit(1)
    }
}

/// The step number that says: the child could not protect our program.
pub(super) const NOT_PROTECTED: u32 = u32::MAX;
/// The step number that says: the child could not move its streams.
pub(super) const NO_STREAMS: u32 = u32::MAX - 1;

/// The former CPUs of this thread. A drop restores them.
struct FormerCpus(Vec<u64>);

impl Drop for FormerCpus {
    fn drop(&mut self) {
        // This fails if these CPUs were removed in the meantime. The kernel has then chosen other CPUs.
        let _ = set_affinity(0, &self.0);
    }
}

/// True if init enters a pid namespace that already has processes.
fn can_be_seen(plan: &Plan) -> bool {
    let mut steps = plan.bridge.iter().chain(&plan.init);
    steps.any(|step| matches!(step.what, What::Join(_, namespaces) if namespaces.has(NEWPID)))
}

/// Makes this process undumpable, unless it must stay dumpable until its ids are mapped.
///
/// ORDER: before the clone, so that the child is undumpable from its beginning (CVE-2016-9962).
fn make_undumpable(dumpable: Dumpable) -> Result<(), Errno> {
    match dumpable {
        Dumpable::No => rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
        Dumpable::UntilMapped => Ok(()),
    }
}

/// Whether this process is dumpable: its user may have made it undumpable before.
fn is_dumpable() -> bool {
    rustix::process::dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::Dumpable)
}

/// Makes the process of an ordinary user dumpable again. The files in /proc of an undumpable process belong to root.
/// Root's process stays undumpable.
fn make_dumpable_again() {
    if rustix::process::geteuid().as_raw() != 0 {
        // This cannot fail (PR_SET_DUMPABLE(2const)).
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
}

/// Clones into the first of the cgroup's version 2 directories that accepts the child. If none accepts it, clones
/// without a cgroup.
fn clone_into(
    flags: u64,
    cgroup: Option<&Cgroup>,
    mut child: impl FnMut(&Alone) -> Infallible,
) -> Result<(i32, OwnedFd, Cloned), Errno> {
    for target in cgroup.into_iter().flat_map(Cgroup::clone_targets) {
        match clone(flags, Some(target.as_fd()), &mut child) {
            // EBUSY: the cgroup has enabled controllers for the cgroups below it.
            Err(Errno::BUSY) => {}
            // KERNEL(5.7): CLONE_INTO_CGROUP. EACCES: the cgroup belongs to us, but its ancestors do not. EPERM can be
            // about the namespaces: the next clone then returns it again.
            Err(Errno::INVAL | Errno::TOOBIG | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => break,
            cloned => return cloned.map(|(pid, pidfd)| (pid, pidfd, Cloned::IntoCgroup)),
        }
    }
    clone(flags, None, child).map(|(pid, pidfd)| (pid, pidfd, Cloned::OutsideCgroup))
}

/// The cgroup of version 2 into which the child was cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloned {
    /// The container's.
    IntoCgroup,
    /// The runtime's.
    OutsideCgroup,
}

/// The files through which the child enters its cgroups of version 1, and the cgroups into which the runtime must put
/// it.
fn tasks_files(cgroup: &Cgroup, plan: &Plan) -> (Vec<Option<OwnedFd>>, ToEnter) {
    let (mut tasks_files, mut to_enter) = (Vec::new(), ToEnter::default());
    // If a unit is started, systemd moves the child into its hierarchies.
    let starts = plan.cgroup.as_ref().is_some_and(|cgroup| cgroup.placement.unit.is_some());
    for key in cgroup.paths().keys().filter(|key| !(starts && matches!(key.as_str(), "" | "systemd"))) {
        match cgroup.tasks_file(key) {
            Some(tasks_file) => {
                tasks_files.push(Some(tasks_file));
                to_enter.by_itself.push(key.clone());
            }
            None => to_enter.by_us.push(key.clone()),
        }
    }
    (tasks_files, to_enter)
}

/// The child enters its cgroups, closes the files, and notes how many it has entered. The runtime tries the others
/// again, and reports the error. The list is not freed: a child does not use the heap.
fn enter_cgroups(tasks_files: &mut [Option<OwnedFd>], first_child: &FirstChildPage) {
    let entered = tasks_files.iter().flatten().take_while(|file| rustix::io::write(file, b"0").is_ok()).count();
    tasks_files.iter_mut().for_each(|file| drop(file.take()));
    first_child.has_entered(entered);
}

/// Our own oom_score_adj. We change it for the moment of the clone, so that the child inherits it: an ordinary user
/// cannot write the score of another process.
struct Score<'a> {
    proc: &'a HostProc,
    /// The former score, if it was changed.
    own: Option<String>,
}

impl<'a> Score<'a> {
    const FILE: &'static CStr = c"oom_score_adj";

    fn set_for_child(proc: &'a HostProc, wanted: OomScore, warnings: &mut Vec<Warning>) -> Result<Score<'a>> {
        let (score, refused) = match wanted {
            // `serve` writes it.
            OomScore::OfInit(_) => return Ok(Score { proc, own: None }),
            OomScore::Inherited(score) => (score, Err(())),
            OomScore::InheritedIfAllowed(score) => (score, Ok(())),
        };
        let own = std::fs::read_to_string("/proc/self/oom_score_adj")
            .context("process.oomScoreAdj: read /proc/self/oom_score_adj")?;
        let own = own.trim().to_owned();
        if own == score.to_string() {
            return Ok(Score { proc, own: None });
        }
        match proc.write_own(Score::FILE, score.to_string().as_bytes()) {
            Ok(()) => Ok(Score { proc, own: Some(own) }),
            Err(Errno::ACCESS | Errno::PERM) if refused.is_ok() => {
                let said =
                    format!("not applied, the score stays {own}: only root of the initial user namespace lowers it");
                warnings.push(Warning { at: At::new("process.oomScoreAdj"), said });
                Ok(Score { proc, own: None })
            }
            Err(Errno::ACCESS | Errno::PERM) => Err(error!(
                "process.oomScoreAdj: write {score} to oom_score_adj: {}: only root lowers it, and the runtime's is {own}",
                words(Errno::ACCESS)
            )),
            Err(errno) => {
                Err(Error::from(errno).context(format!("process.oomScoreAdj: write {score} to oom_score_adj")))
            }
        }
    }
}

impl Drop for Score<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            // A process may set back a raised score (proc_pid_oom_score_adj(5)). A failure would concern only the rest
            // of our own life.
            let _ = self.proc.write_own(Score::FILE, own.as_bytes());
        }
    }
}
