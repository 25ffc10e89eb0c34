//! The runtime's side of the protocol: one loop that answers init's requests. It does not read the config again: init
//! sends a request if the plan has it. A process that traces init can change its requests, so the runtime refuses a request
//! that is not the next one (`turns.rs`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use super::child::Child;
use super::hook_files::HookFiles;
use super::hooks::HookList;
use super::identity::Identity;
use super::launched::Launched;
use super::resources::devices_not_restricted;
use super::turns::Turns;
use super::{agent, failure, host_mounts, id_maps, mount_id_maps, net_devices, open, scm_rights};
use crate::cgroup::{Cgroup, systemd};
use crate::config::{At, Warning};
use crate::container::{Lock, has_executed};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::Environment;
use crate::host::mountinfo;
use crate::host::views::{self, View};
use crate::plan::step::{Slot, What};
use crate::plan::{self, OomScore, Opening, Plan, PlannedCgroup, RuntimeHooks};
use crate::resctrl::{self, Kernel};
use crate::sys::process_status::ProcessStatus;
use crate::wait::{self, limits};
use crate::wire::{GO, HookPoint, Request, UP_SIZE, Up};

impl<'a> Launched<'a> {
    /// Answers init until it is ready. `lock` is the lock of a container that is being made.
    ///
    /// # Errors
    /// A failure in init, with its step; or a request that we could not carry out.
    pub fn serve(
        mut self,
        cgroup: Option<&Cgroup>,
        identity: &Identity<'_>,
        lock: Option<&Lock>,
    ) -> Result<SetUpProcess<'a>> {
        if let Err(error) = until_ready(&mut self, cgroup, identity, lock) {
            end_bridge(&mut self);
            let moved = self.opened.moved.take();
            return Err(match moved {
                Some(moved) => moved.back_after(error),
                None => error,
            });
        }
        if let Some(maps) = &self.plan.joined_maps {
            self.opened.warnings.extend(id_maps::differing(self.child.pid, maps));
        }
        Ok(SetUpProcess { launched: self, cgroup: cgroup.cloned() })
    }
}

/// A process that is completely set up, and waits for one more message. If this is dropped, it is killed.
#[derive(Debug)]
pub struct SetUpProcess<'a> {
    launched: Launched<'a>,
    /// Its count of OOM kills is the only sign of such a kill.
    cgroup: Option<Cgroup>,
}

impl SetUpProcess<'_> {
    /// The time of each step so far, in microseconds, by the step's number in the plan.
    pub fn times(&self) -> Vec<(usize, u32)> {
        self.launched.opened.page.times()
    }

    /// Requests of config.json that were left out. The user gets a warning.
    pub fn warnings(&self) -> &[Warning] {
        &self.launched.opened.warnings
    }

    /// The process's pid in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.launched.child.pid
    }

    /// The process's pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.launched.child.pidfd.as_fd()
    }

    /// The reason why the process has ended before its program began. None if it lives.
    pub fn why_it_ended(&self) -> Option<Error> {
        let ended = failure::ends_within(&self.launched.child.pidfd, limits::CLOSED);
        ended.then(|| failure::of_end(&self.launched, self.cgroup.as_ref()))
    }

    /// The files at the paths of the Landlock ruleset.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(super) fn files_of_ruleset(&self) -> Result<Vec<(u64, u64)>> {
        self.launched.opened.files_of_ruleset(self.launched.plan)
    }

    /// Tells init to continue, after everything is recorded. Init waits for `start` on its fifo, or becomes the program. In
    /// the second case this returns when the program has begun.
    ///
    /// # Errors
    /// A startContainer hook fails, the execve(2) fails, or init has ended.
    pub fn continue_init(mut self) -> Result<Child> {
        await_program(&self.launched, self.cgroup.as_ref())?;
        if let Some(moved) = self.launched.opened.moved.take() {
            moved.keep();
        }
        Ok(self.launched.child.keep())
    }
}

/// See `Launched::serve`.
fn until_ready(
    launched: &mut Launched<'_>,
    cgroup: Option<&Cgroup>,
    identity: &Identity<'_>,
    lock: Option<&Lock>,
) -> Result<()> {
    let mut entry = CgroupEntry::new(cgroup);
    let mut turns = Turns::new(launched.plan);
    if enters_at_once(launched.plan) {
        prepare_init(launched, identity)?;
        entry.begin(launched, identity.environment)?;
    }
    // ORDER: before we wait for init, which has closed its own end long ago.
    drop(launched.mount.take());
    loop {
        let said = receive(launched);
        // ORDER: before the warnings are returned, and also if init sends nothing any more: a dropped process is
        // killed.
        let took_over = !turns.init_exists() && take_over_init(launched, &mut entry, identity)?;
        if took_over {
            turns.begin_init();
        }
        let (up, carried) = said?;
        match up {
            Some(Up::Request(request)) => {
                turns.accept(request)?;
                if matches!(request, Request::Cgroup | Request::Hooks(_)) {
                    entry.finish(launched)?;
                }
                if let (Request::Hooks(_), Some(_), Some(lock)) = (request, &launched.opened.mounted, lock) {
                    // ORDER: a mount that a hook makes does not belong to the container.
                    host_mounts::add_submounts(lock)?;
                }
                carry_out(launched, request, carried, cgroup, identity)?;
                match request {
                    Request::Tree(slot) => send_tree(launched, Slot(slot as usize))?,
                    _ => send_go(&launched.socket)?,
                }
            }
            Some(Up::Ready) => {
                entry.finish(launched)?;
                return Ok(());
            }
            Some(Up::Failed(failed)) => return Err(failure::of_step(launched, &failed)),
            // The bridge has ended.
            None if took_over => {}
            None => return Err(failure::of_end(launched, cgroup)),
        }
    }
}

/// True if the first child is in its cgroup before init is cloned, or if the first child is init.
fn enters_at_once(plan: &Plan) -> bool {
    plan.bridge.is_empty() || plan.bridge.iter().any(|step| step.what == What::Request(Request::Cgroup))
}

/// How init enters its cgroup, and what systemd does for that.
struct CgroupEntry<'c> {
    /// The cgroup that init must enter. None after it has entered.
    cgroup: Option<&'c Cgroup>,
    starting: Option<systemd::Starting>,
}

impl<'c> CgroupEntry<'c> {
    fn new(cgroup: Option<&'c Cgroup>) -> CgroupEntry<'c> {
        CgroupEntry { cgroup, starting: None }
    }

    fn begin(&mut self, launched: &Launched<'_>, environment: &Environment) -> Result<()> {
        let unit = launched.plan.cgroup.as_ref().and_then(|cgroup| cgroup.placement.unit.as_ref());
        self.starting = unit.map(|unit| systemd::start(unit, launched.child.pid, environment)).transpose()?;
        Ok(())
    }

    fn finish(&mut self, launched: &mut Launched<'_>) -> Result<()> {
        let Some(cgroup) = self.cgroup.take() else { return Ok(()) };
        let pid = launched.child.pid;
        launched.still_outside().try_for_each(|key| cgroup.enter(key, pid))?;
        let Some(PlannedCgroup { placement, writes, devices }) = &launched.plan.cgroup else { return Ok(()) };
        if let Some(starting) = self.starting.take() {
            starting.wait().map_err(|error| failure::starved_or(launched, cgroup, error))?;
            cgroup.enter_below_unit(placement, writes, pid)?;
            let applied =
                cgroup.apply(writes).and_then(|()| cgroup.apply_devices(devices, placement.on_forbidden_devices));
            let why = applied.map_err(|error| failure::starved_or(launched, cgroup, error))?;
            launched.opened.warnings.extend(why.as_deref().map(devices_not_restricted));
        }
        // ORDER: last, after systemd has taken over the directory, and the maps of a user namespace are written.
        placement.owner.as_ref().map_or(Ok(()), |owner| cgroup.delegate_to(owner, pid))
    }
}

/// Receives a packet, with its descriptor. None if no packet can come any more.
fn receive(launched: &Launched<'_>) -> Result<(Option<Up>, Option<OwnedFd>)> {
    let (socket, process) = (&launched.socket, &launched.child.pidfd);
    let mut packet = [0u8; UP_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ended = false;
    loop {
        // The wait also ends with the process: another process may have init's end of the socket.
        wait::ready(&[(socket.as_fd(), PollFlags::IN), (process.as_fd(), PollFlags::IN)], None)
            .map_err(|stopped| failure::of_wait(launched, stopped))?;
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffer = &mut [IoSliceMut::new(&mut packet)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match rustix::net::recvmsg(socket, buffer, &mut control, flags).map(|got| got.bytes) {
            Ok(0) | Err(Errno::CONNRESET) => return Ok((None, None)),
            Err(Errno::AGAIN) if ended => return Ok((None, None)),
            // ORDER: init's last packet may have come in the meantime, so the socket is read once more. Signals are not read
            // here: a program that has begun gets them.
            Err(Errno::AGAIN) => {
                let mut end = [PollFd::new(process, PollFlags::IN)];
                ended = rustix::event::poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
            }
            Ok(length) => {
                let carried = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                let up = Up::decode(&packet[..length]).ok_or_else(|| error!("unknown packet from init"))?;
                return Ok((Some(up), carried));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno).context("read from init")),
        }
    }
}

fn send_go(socket: &OwnedFd) -> Result<()> {
    match rustix::io::write(socket, &GO) {
        Ok(_) => Ok(()),
        // Init has ended. The next read returns the reason.
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(Error::from(errno).context("write to init")),
    }
}

/// Init, which the bridge has cloned as our child (CLONE_PARENT). None if we have it already.
fn init_of_bridge(launched: &Launched<'_>) -> Result<Option<Child>> {
    let Some(pid) = launched.opened.first_child.pid().filter(|pid| *pid != launched.child.pid) else { return Ok(None) };
    let raw = Pid::from_raw(pid).ok_or_else(|| error!("init has no pid"))?;
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("pidfd_open {pid}"))?;
    // ORDER: before it is killed, limited or recorded as our child.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)
        .with_context(|| format!("process {pid} is not the init that we have made"))?;
    Ok(Some(Child::new(pid, pidfd)))
}

/// Kills the bridge if we do not know init yet, and an init that it has cloned after our last look: a container can stop init
/// before it asks for its own death with us (PR_SET_PDEATHSIG).
fn end_bridge(launched: &mut Launched<'_>) {
    if launched.plan.bridge.is_empty() || launched.opened.first_child.pid() == Some(launched.child.pid) {
        return;
    }
    // ORDER: a bridge that has ended clones no more.
    launched.child.kill();
    drop(init_of_bridge(launched));
}

/// Takes over init. Returns true if it is new.
fn take_over_init(launched: &mut Launched<'_>, entry: &mut CgroupEntry<'_>, identity: &Identity<'_>) -> Result<bool> {
    let Some(init) = init_of_bridge(launched)? else { return Ok(false) };
    // The bridge ends soon, unless the container has frozen it.
    drop(std::mem::replace(&mut launched.child, init));
    prepare_init(launched, identity)?;
    if !enters_at_once(launched.plan) {
        entry.begin(launched, identity.environment)?;
    }
    Ok(true)
}

/// Does the work that needs init's pid: writes the files that only we may write, and makes the state for hooks.
fn prepare_init(launched: &Launched<'_>, identity: &Identity<'_>) -> Result<()> {
    let pid = launched.child.pid;
    if let Some(OomScore::OfInit(score)) = launched.plan.oom_score_adj {
        let written = launched.opened.proc.write_of(pid, c"oom_score_adj", score.to_string().as_bytes());
        written.with_context(|| format!("process.oomScoreAdj: write {score} to oom_score_adj"))?;
    }
    resctrl::join(&launched.opened.resctrl_groups, pid, &Kernel)?;
    for (slot, (opening, _)) in launched.plan.openings.iter().enumerate() {
        if let Opening::HookState(status) = opening {
            let state = identity.state(status, pid_inside(pid)?);
            let file = launched.opened.fd(Slot(slot))?;
            // The list of the bridge may be longer.
            let state = rustix::fs::ftruncate(file, 0).and_then(|()| rustix::io::pwrite(file, &state, 0));
            state.context("write hook state")?;
        }
    }
    Ok(())
}

/// The pid in the container's pid namespace: the last one of NSpid in /proc/PID/status (proc(5)). A kernel without pid
/// namespaces has no such line.
fn pid_inside(pid: i32) -> Result<i32> {
    let failed = || format!("read /proc/{pid}/status");
    let status = ProcessStatus::read(pid).with_context(failed)?;
    let inside = status.field("NSpid").and_then(|pids| pids.split_whitespace().last());
    inside.map_or(Ok(pid), |inside| inside.parse().map_err(|why| error!("{}: NSpid: {why}", failed())))
}

/// Does what init requests. The caller sends the answer.
fn carry_out(
    launched: &mut Launched<'_>,
    request: Request,
    carried: Option<OwnedFd>,
    cgroup: Option<&Cgroup>,
    identity: &Identity<'_>,
) -> Result<()> {
    let pid = launched.child.pid;
    match request {
        Request::IdMaps => {
            let maps = launched.plan.id_maps.as_ref().ok_or_else(|| error!("no id maps in the plan"))?;
            id_maps::write(&launched.opened.proc, pid, maps, &At::new("linux"), identity.environment)
        }
        Request::TimeOffsets => {
            for offset in &launched.plan.time_offsets {
                let line = format!("{} {} {}", offset.clock, offset.secs, offset.nanosecs);
                let written = launched.opened.proc.write_of(pid, c"timens_offsets", line.as_bytes());
                written.with_context(|| format!("{}: write {line} to timens_offsets", offset.at))?;
            }
            Ok(())
        }
        // `CgroupEntry` has moved init, and the answer carries the tree.
        Request::Cgroup | Request::Tree(_) => Ok(()),
        Request::Delegate => cgroup.map_or(Ok(()), |cgroup| delegate(launched, cgroup)),
        Request::Limits => set_limits(launched),
        Request::Scheduler => set_scheduler(launched),
        Request::Hooks(HookPoint::CreateRuntime) => {
            let each = &launched.plan.runtime_hooks;
            let files = HookFiles::open_for(each, identity)?;
            let init = Some(launched.child.pidfd.as_fd());
            each.iter().try_for_each(|RuntimeHooks { list, status, at }| {
                HookList { hooks: list, state: &identity.state(status, pid), identity, at, files: &files, init }.run()
            })
        }
        Request::Hooks(HookPoint::CreateContainer | HookPoint::StartContainer) => {
            Err(error!("init runs these hooks itself"))
        }
        Request::MapIds(slot) => match launched.plan.openings.get(slot as usize) {
            Some((Opening::Source(path, _, Some(mapped)), at)) => {
                mount_id_maps::map_sent_tree(launched, carried, *mapped)
                    .with_context(|| format!("{at}: idmap {}", path.display()))
            }
            _ => mount_id_maps::map_new_file_system(launched, carried, Slot(slot as usize)),
        },
        Request::NetDevices => {
            launched.opened.moved = Some(net_devices::move_to(pid, &launched.plan.net_devices)?);
            Ok(())
        }
        Request::CheckViews => check_views(launched),
        Request::Kept(device) => {
            launched.opened.warnings.extend(plan::devices::kept_warning(device));
            Ok(())
        }
        Request::SeccompListener => agent::send_listener(launched, carried, identity),
    }
}

/// Gives init the cgroup below the container's own that the container manages.
fn delegate(launched: &Launched<'_>, cgroup: &Cgroup) -> Result<()> {
    let delegated = launched.plan.cgroup.as_ref().and_then(|cgroup| cgroup.placement.delegated.as_ref());
    delegated.map_or(Ok(()), |delegated| cgroup.delegate_below(delegated, launched.child.pid))
}

/// Refuses a complete proc or sysfs in init's mount namespace that no step unmounts. At this time, no mount of the
/// container is there.
fn check_views(launched: &Launched<'_>) -> Result<()> {
    let text = launched.opened.proc.read_of(launched.child.pid, c"mountinfo");
    let mounts = mountinfo::parse(&text.context("RootChange::Move: read mountinfo of init")?);
    let found = views::views(&mounts, Path::new("/"));
    let steps = launched.plan.bridge.iter().chain(&launched.plan.init);
    let unmounted = steps.filter_map(|step| match &step.what {
        What::Unmount(path) => Some(path.to_bytes()),
        _ => None,
    });
    match views::first_unknown(&found, unmounted.collect()) {
        None => Ok(()),
        Some(View { path, .. }) => {
            let changed = "the host's mounts have changed";
            bail!("RootChange::Move: {changed}, and {} would not be unmounted: try again", path.display())
        }
    }
}

/// Answers that init may continue, with the tree to mount.
fn send_tree(launched: &Launched<'_>, slot: Slot) -> Result<()> {
    let source = launched.opened.fd(slot)?;
    let Some((Opening::Source(path, reach, ids), at)) = launched.plan.openings.get(slot.0) else {
        return Err(error!("init asks for a mount tree that the plan does not have"));
    };
    let tree = open::tree_of(source, *reach).with_context(|| format!("{at}: open {}", path.display()))?;
    if let Some(mapped) = ids {
        mount_id_maps::map_tree(launched, &tree, path, *mapped)
            .with_context(|| format!("{}: idmap {}", at, path.display()))?;
    }
    scm_rights::send(launched.socket.as_fd(), &GO, tree.as_fd())
}

fn set_limits(launched: &Launched<'_>) -> Result<()> {
    for limit in &launched.plan.limits {
        crate::sys::sched::set_limit(launched.child.pid, limit.resource, limit.soft, limit.hard).map_err(|errno| {
            Error::from(errno).context(format!("{}: prlimit {} {}:{}", limit.at, limit.name, limit.soft, limit.hard))
        })?;
    }
    Ok(())
}

fn set_scheduler(launched: &Launched<'_>) -> Result<()> {
    let (attr, at) = launched.plan.scheduler.as_ref().ok_or_else(|| error!("no scheduler in the plan"))?;
    crate::sys::sched::set_scheduler(launched.child.pid, attr)
        .with_context(|| format!("{at}: {}", What::Scheduler(*attr)))
}

/// See `SetUpProcess::continue_init`.
pub(super) fn await_program(launched: &Launched<'_>, cgroup: Option<&Cgroup>) -> Result<()> {
    send_go(&launched.socket).context("init is gone")?;
    if launched.plan.init.iter().any(|step| matches!(step.what, What::AwaitStart { .. })) {
        return Ok(());
    }
    // A process that traces init can hold its end of the socket open. Then the end of the stream does not come.
    while !wait::ready(
        &[(launched.socket.as_fd(), PollFlags::IN), (launched.child.pidfd.as_fd(), PollFlags::IN)],
        Some(Instant::now() + limits::MOMENT),
    )
    .map_err(|stopped| failure::of_wait(launched, stopped))?
    {
        if has_executed(launched.child.pid) == Some(true) {
            return Ok(());
        }
    }
    match receive(launched)?.0 {
        None if failure::has_begun(launched) => Ok(()),
        None => Err(failure::of_end(launched, cgroup)),
        Some(Up::Failed(failed)) => Err(failure::of_step(launched, &failed)),
        Some(Up::Request(_) | Up::Ready) => Err(error!("unexpected packet from init")),
    }
}
