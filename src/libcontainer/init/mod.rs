//! Becoming the container: runs after the fork, in the bridge and in init. A loop over prepared steps: syscalls only,
//! nothing parsed, nothing decided, no memory asked for, and it never returns.
#![allow(clippy::result_large_err)] // the words of a failure travel by value: there is no heap to put them on

mod console;
mod copy;
mod credentials;
mod exec;
mod mounts;
mod pids;
mod protocol;
mod resolve;
mod root;

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::plan::step::{Limit, Slot, Step, What};
use crate::sys::bounded::Bounded;
use crate::sys::clone::Alone;
use crate::sys::host_proc::HostProc;
use crate::sys::mount::Reach;
use crate::sys::page::Page;
use crate::sys::seccomp::Program;
use crate::wire::{Request, Words};

/// What the runtime process prepared for init before the fork.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The descriptors, by slot.
    pub fds: &'a [Option<OwnedFd>],
    /// Which of them is the container's root; without one the current directory is where paths begin.
    pub root: Option<Slot>,
    /// Sources of bind mounts that are opened when their turn comes.
    pub late: &'a [Late],
    /// The compiled seccomp filter.
    pub program: Option<&'a Program>,
    /// The resource limits.
    pub limits: &'a [Limit],
    /// RLIMIT_NOFILE, soft and hard, where the runtime has raised it for the set-up.
    pub nofile: Option<(u64, u64)>,
    /// The host's /proc.
    pub proc: &'a HostProc,
    /// Where each mount is written to before it is attached, if it is attached on the host (`container/mounted.rs`).
    pub mounted: Option<BorrowedFd<'a>>,
    /// Our end of the socket to the runtime process.
    pub talk: BorrowedFd<'a>,
    /// How far we have come, for the runtime to see when we are killed.
    pub page: &'a Page,
    /// The steps of the bridge (none in most cases), then those of init, counted through.
    pub steps: [&'a [Step]; 2],
    /// What steps leave for later ones.
    pub left: &'a Left,
    /// That this process is a child.
    pub alone: &'a Alone,
}

/// A source in the container's root. It may be there only through an earlier mount.
#[derive(Debug)]
pub struct Late {
    /// Where it goes; until then the slot holds some other file.
    pub slot: Slot,
    /// Relative to the root; the kernel resolves it there.
    pub path: CString,
    /// How much of it is mounted.
    pub reach: Reach,
    /// Whether the runtime is asked to map its ids.
    pub ids: LateIds,
}

/// Whose ids a late source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateIds {
    /// Its own.
    Own,
    /// Those that the runtime maps.
    Mapped,
}

/// What a step leaves for a later one.
#[derive(Debug, Default)]
pub struct Left {
    /// After `AwaitStart`: where failures are told.
    answer: Cell<Option<Slot>>,
    /// Where `start` has given its word.
    fifo: Cell<Option<Slot>>,
    /// True when `TryChdir` has got there, so that the user need not be able to.
    arrived: Cell<bool>,
    /// The ids of the new file systems that are mounted.
    new: RefCell<Bounded<u64>>,
    /// The mount in which nodes are made, once it is known not to be bound from the host.
    not_bound: Cell<Option<u64>>,
    /// `HOME=…`, NUL-terminated, after a `Home` step.
    home: RefCell<Bounded<u8>>,
}

impl Left {
    /// Bounded for what these steps will leave.
    pub fn by(steps: [&[Step]; 2]) -> Left {
        let new = |step: &&Step| matches!(step.what, What::NewMount(_));
        let count = steps.iter().flat_map(|list| list.iter()).filter(new).count();
        let home = steps.iter().flat_map(|list| list.iter()).any(|step| matches!(step.what, What::Home(_)));
        let home = Bounded::of(if home { exec::ROOM_FOR_HOME } else { 0 });
        Left { new: RefCell::new(Bounded::of(count)), home: RefCell::new(home), ..Left::default() }
    }

    /// Remembers a new file system by the id of its mount.
    fn is_mounted(&self, id: u64) {
        // there is room for each of the plan
        let _ = self.new.borrow_mut().push(id);
    }

    fn is_new(&self, id: u64) -> bool {
        self.new.borrow().contains(&id)
    }
}

/// Why a step did not work: the kernel's error and, where there are any, its words.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    errno: Errno,
    said: Words,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble { errno, said: Words::NONE }
    }
}

impl Trouble {
    fn saying(errno: Errno, said: &str) -> Trouble {
        Trouble { errno, said: Words::of(said.as_bytes()) }
    }
}

type Outcome<T = ()> = Result<T, Trouble>;

impl Prepared<'_> {
    /// The descriptor in `slot`.
    fn fd(&self, slot: Slot) -> Outcome<BorrowedFd<'_>> {
        self.fds.get(slot.0).and_then(Option::as_ref).map(OwnedFd::as_fd).ok_or(Trouble::from(Errno::BADF))
    }

    /// Puts another file into `slot`.
    fn replace(&self, slot: Slot, new: &OwnedFd) -> Outcome {
        Ok(crate::sys::fds::replace(self.alone, self.fd(slot)?, new)?)
    }

    /// What is opened only now, if it is this one.
    fn late(&self, slot: Slot) -> Option<&Late> {
        self.late.iter().find(|late| late.slot == slot)
    }

    /// The directory in which the container's paths begin.
    fn root(&self) -> Outcome<BorrowedFd<'_>> {
        self.root.map_or(Ok(rustix::fs::CWD), |slot| self.fd(slot))
    }
}

/// Performs every step and becomes the payload. A step that fails is reported, and the process ends.
///
/// ORDER: what comes after `Seccomp` may be denied, any call with any action: no result is taken for granted there, and
/// nothing is tried again for ever.
pub fn run(prepared: &Prepared<'_>) -> ! {
    for (n, step) in (0..).zip(prepared.steps.iter().flat_map(|list| list.iter())) {
        prepared.page.at_step(n);
        if let Err(trouble) = perform(prepared, &step.what) {
            let after = match &step.what {
                What::FindProgram(_) | What::Exec(_) => protocol::After::Look,
                _ => protocol::After::Telling,
            };
            protocol::fail(prepared, n, trouble, after);
        }
    }
    crate::sys::clone::exit(0)
}

/// One arm for each step: where the man page's word becomes its call.
fn perform(prepared: &Prepared<'_>, what: &What) -> Outcome {
    match what {
        // the thread that `Seccomp` began asks
        What::Request(Request::SeccompListener) => protocol::await_go(prepared),
        What::Request(Request::Tree(slot)) => match prepared.late(Slot(*slot as usize)) {
            Some(late) => resolve::open_late(prepared, late),
            None => protocol::take_tree(prepared, *slot),
        },
        What::Request(Request::Limits) => credentials::limits(prepared),
        What::Request(ask) => protocol::ask(prepared, *ask),
        What::Join(file, kinds) => credentials::join(prepared, prepared.fd(*file)?, *kinds),
        What::Unshare(kinds) => Ok(crate::sys::clone::unshare(kinds.0)?),
        What::EnterTime => credentials::enter_time(prepared),
        What::Loopback => Ok(crate::sys::net::loopback_up()?),
        What::BecomeRoot => credentials::become_root(),
        // the runtime finds the pid in the page as soon as init asks something
        What::Spawn(new) => {
            Ok(crate::sys::clone::replace_by_sibling(prepared.alone, new.0, prepared.page.place_of_init())?)
        }
        What::Signals => Ok(crate::sys::signals::reset()?),
        What::Undumpable => credentials::undumpable(),
        What::Session => Ok(rustix::process::setsid().map(drop)?),
        What::ControllingTerminal => Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?),
        What::Keyring(name) => credentials::keyring(name),
        What::Label { file, value } => Ok(prepared.proc.write_own(file, value.to_bytes())?),
        What::Propagate { path, flags } => Ok(crate::sys::mount::set_propagation(path, *flags)?),
        What::PrivateAbove(path) => root::private_above(path),
        What::AttachRoot { tree, path, changes } => root::attach(prepared.fd(*tree)?, path, changes),
        What::NewMount(mount) => mounts::new_mount(prepared, mount),
        What::Find(slot) => prepared.late(*slot).map_or_else(|| resolve::find(prepared, *slot), |_| Ok(())),
        What::Copy(slot, reach) => match prepared.late(*slot) {
            Some(late) => resolve::open_late(prepared, late),
            None => resolve::copy(prepared, *slot, *reach),
        },
        What::EmptyDirectory(slot, label) => resolve::empty(prepared, *slot, label.as_deref()),
        What::Bind(tree, changes, target) => mounts::bind(prepared, *tree, changes, target),
        What::BindOrLink(tree, changes, target) => mounts::bind_or_link(prepared, *tree, changes, target),
        What::Remount(changes, target) => mounts::remount(prepared, changes, target),
        What::Mknod(node) => mounts::mknod(prepared, node),
        What::Symlink { to, path } => mounts::symlink(prepared, to, path),
        What::Replace { to, path } => mounts::replace(prepared, to, path),
        What::Pivot => root::pivot(prepared.root()?),
        What::Unmount(path) => root::unmount(path),
        What::MoveRoot => root::to_the_top(prepared.root()?),
        What::Chroot(directory) => root::chroot(prepared.fd(*directory)?),
        What::Mask { path, null, empty } => mounts::mask(prepared, path, *null, *empty),
        What::ReadOnly(path) => mounts::read_only(prepared, path),
        What::Finish { path, attributes } => mounts::finish(prepared, path, attributes),
        What::Sysctl { name, value } => Ok(prepared.proc.write_sys(name, value.to_bytes())?),
        What::Hostname(name) => Ok(rustix::system::sethostname(name.to_bytes())?),
        What::Domainname(name) => Ok(rustix::system::setdomainname(name.to_bytes())?),
        What::Console(terminal) => console::make(prepared, terminal),
        What::Umask(mask) => credentials::umask(*mask),
        What::Groups(groups) => credentials::groups(groups),
        What::OwnStdio(uid) => credentials::own_stdio(*uid),
        What::Bounding(drop) => credentials::drop_bounding(*drop),
        What::Ids { uid, gid } => credentials::become_user(*uid, *gid),
        What::Capabilities(sets) => credentials::capabilities(sets),
        What::NoNewPrivs => Ok(rustix::thread::set_no_new_privs(true)?),
        What::Seccomp(flags) => protocol::load_filter(prepared, *flags),
        What::Scheduler(attr) => Ok(crate::sys::sched::set_scheduler(0, attr)?),
        What::Processes { soft, hard } => Ok(crate::sys::sched::set_limit(0, libc::RLIMIT_NPROC, *soft, *hard)?),
        What::IoPriority(value) => Ok(crate::sys::sched::set_io_priority(*value)?),
        What::Personality(persona) => Ok(crate::sys::sched::set_personality(*persona)?),
        What::MemoryPolicy { mode, nodes } => Ok(crate::sys::sched::set_memory_policy(*mode, nodes)?),
        What::DeathSignal(signal) => credentials::death_signal(*signal),
        What::AllCpus => credentials::all_cpus(),
        What::Affinity(cpus) => Ok(crate::sys::sched::set_affinity(0, cpus)?),
        What::MakeCwd(path) => mounts::make_cwd(prepared, path),
        What::TryChdir(path) => exec::try_chdir(prepared, path),
        What::Chdir(path) => exec::chdir(prepared, path),
        What::Home(uid) => exec::home(prepared, *uid),
        What::CloseFds { first, kept } => exec::close_fds(prepared, *first, kept),
        What::FindProgram(exec) => exec::find(exec),
        What::Ready => protocol::ready(prepared),
        What::AwaitStart { fifo, answer } => protocol::await_start(prepared, *fifo, *answer),
        What::Hooks { point, commands, state, output } => exec::hooks(prepared, *point, commands, *state, *output),
        What::AboutToExec(answer) => protocol::about_to_exec(prepared, *answer),
        What::Exec(exec) => exec::exec(prepared, exec),
    }
}
