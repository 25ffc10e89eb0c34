//! Becoming the container: runs after the fork, in the bridge and in init. A loop over prepared steps: syscalls only,
//! nothing parsed, nothing decided, no memory asked for, and it never returns.
#![allow(clippy::result_large_err)] // the words of a failure travel by value: there is no heap to put them on

mod be;
mod console;
mod copy;
mod go;
mod pids;
mod place;
mod root;
mod see;
mod talk;

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::plan::step::{Limit, Slot, Step, What};
use crate::sys::host_proc::HostProc;
use crate::sys::mount::Reach;
use crate::sys::page::Page;
use crate::sys::room::Room;
use crate::sys::seccomp::Program;
use crate::wire::{Ask, Words};

/// What the runtime process prepared for init before the fork.
#[derive(Debug)]
pub struct Scene<'a> {
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
    pub talk: OwnedFd,
    /// How far we have come, for the runtime to see when we are killed.
    pub page: &'a Page,
    /// The steps of the bridge (none in most cases), then those of init, counted through.
    pub steps: [&'a [Step]; 2],
    /// What steps leave for later ones.
    pub left: Left,
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
    new: RefCell<Room<u64>>,
    /// The mount in which nodes are made, once it is known not to be bound from the host.
    not_bound: Cell<Option<u64>>,
    /// `HOME=…`, NUL-terminated, after a `Home` step.
    home: RefCell<Room<u8>>,
}

impl Left {
    /// Room for what these steps will leave.
    pub fn by(steps: [&[Step]; 2]) -> Left {
        let new = |step: &&Step| matches!(step.what, What::NewMount(_));
        let count = steps.iter().flat_map(|list| list.iter()).filter(new).count();
        let home = steps.iter().flat_map(|list| list.iter()).any(|step| matches!(step.what, What::Home(_)));
        let home = Room::of(if home { go::ROOM_FOR_HOME } else { 0 });
        Left { new: RefCell::new(Room::of(count)), home: RefCell::new(home), ..Left::default() }
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

impl Scene<'_> {
    /// The descriptor in `slot`.
    fn fd(&self, slot: Slot) -> Outcome<BorrowedFd<'_>> {
        self.fds.get(slot.0).and_then(Option::as_ref).map(OwnedFd::as_fd).ok_or(Trouble::from(Errno::BADF))
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
pub fn run(scene: &Scene<'_>) -> ! {
    for (n, step) in scene.steps.iter().flat_map(|list| list.iter()).enumerate() {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        scene.page.at_step(n);
        if let Err(trouble) = perform(scene, &step.what) {
            let after = match &step.what {
                What::FindProgram(_) | What::Exec(_) => talk::After::Look,
                _ => talk::After::Telling,
            };
            talk::fail(scene, n, trouble, after);
        }
    }
    crate::sys::clone::exit(0)
}

/// One arm for each step: where the man page's word becomes its call.
fn perform(scene: &Scene<'_>, what: &What) -> Outcome {
    match what {
        // the thread that `Seccomp` began asks
        What::Ask(Ask::SeccompListener) => talk::await_go(scene),
        What::Ask(Ask::Tree(slot)) => match scene.late(Slot(*slot as usize)) {
            Some(late) => place::open_late(scene, late),
            None => talk::take_tree(scene, *slot),
        },
        What::Ask(Ask::Limits) => be::limits(scene),
        What::Ask(ask) => talk::ask(scene, *ask),
        What::Join(file, kinds) => be::join(scene, scene.fd(*file)?, *kinds),
        What::Unshare(kinds) => Ok(crate::sys::clone::unshare(kinds.0)?),
        What::EnterTime => be::enter_time(scene),
        What::Loopback => Ok(crate::sys::net::loopback_up()?),
        What::BecomeRoot => be::become_root(),
        // the runtime finds the pid in the page as soon as init asks something
        What::Spawn(new) => Ok(crate::sys::clone::replace_by_sibling(new.0, scene.page.place_of_init())?),
        What::Signals => Ok(crate::sys::signals::reset()?),
        What::Undumpable => be::undumpable(),
        What::Session => Ok(rustix::process::setsid().map(drop)?),
        What::ControllingTerminal => Ok(rustix::process::ioctl_tiocsctty(crate::sys::fds::inherited(0))?),
        What::Keyring(name) => be::keyring(name),
        What::Label { file, value } => Ok(scene.proc.write_own(file, value.to_bytes())?),
        What::Propagate { path, flags } => Ok(crate::sys::mount::set_propagation(path, *flags)?),
        What::PrivateAbove(path) => root::private_above(path),
        What::AttachRoot { tree, path, changes } => root::attach(scene.fd(*tree)?, path, changes),
        What::NewMount(mount) => see::new_mount(scene, mount),
        What::Find(slot) => scene.late(*slot).map_or_else(|| place::find(scene, *slot), |_| Ok(())),
        What::Copy(slot, reach) => match scene.late(*slot) {
            Some(late) => place::open_late(scene, late),
            None => place::copy(scene, *slot, *reach),
        },
        What::EmptyDirectory(slot, label) => place::empty(scene, *slot, label.as_deref()),
        What::Bind(tree, changes, target) => see::bind(scene, *tree, changes, target),
        What::BindOrLink(tree, changes, target) => see::bind_or_link(scene, *tree, changes, target),
        What::Remount(changes, target) => see::remount(scene, changes, target),
        What::Mknod(node) => see::mknod(scene, node),
        What::Symlink { to, path } => see::symlink(scene, to, path),
        What::Replace { to, path } => see::replace(scene, to, path),
        What::Pivot => root::pivot(scene.root()?),
        What::Unmount(path) => root::unmount(path),
        What::MoveRoot => root::to_the_top(scene.root()?),
        What::Chroot(directory) => root::chroot(scene.fd(*directory)?),
        What::Mask { path, null, empty } => see::mask(scene, path, *null, *empty),
        What::ReadOnly(path) => see::read_only(scene, path),
        What::Finish { path, attributes } => see::finish(scene, path, attributes),
        What::Sysctl { name, value } => Ok(scene.proc.write_sys(name, value.to_bytes())?),
        What::Hostname(name) => Ok(rustix::system::sethostname(name.to_bytes())?),
        What::Domainname(name) => Ok(rustix::system::setdomainname(name.to_bytes())?),
        What::Console(terminal) => console::make(scene, terminal),
        What::Umask(mask) => be::umask(*mask),
        What::Groups(groups) => be::groups(groups),
        What::OwnStdio(uid) => be::own_stdio(*uid),
        What::Bounding(drop) => be::drop_bounding(*drop),
        What::Ids { uid, gid } => be::become_user(*uid, *gid),
        What::Capabilities(sets) => be::capabilities(sets),
        What::NoNewPrivs => Ok(rustix::thread::set_no_new_privs(true)?),
        What::Seccomp(flags) => talk::load_filter(scene, *flags),
        What::Scheduler(attr) => Ok(crate::sys::sched::set_scheduler(0, attr)?),
        What::Processes { soft, hard } => Ok(crate::sys::sched::set_limit(0, libc::RLIMIT_NPROC, *soft, *hard)?),
        What::IoPriority(value) => Ok(crate::sys::sched::set_io_priority(*value)?),
        What::Personality(persona) => Ok(crate::sys::sched::set_personality(*persona)?),
        What::MemoryPolicy { mode, nodes } => Ok(crate::sys::sched::set_memory_policy(*mode, nodes)?),
        What::DeathSignal(signal) => be::death_signal(*signal),
        What::AllCpus => be::all_cpus(),
        What::Affinity(cpus) => Ok(crate::sys::sched::set_affinity(0, cpus)?),
        What::MakeCwd(path) => see::make_cwd(scene, path),
        What::TryChdir(path) => go::try_chdir(scene, path),
        What::Chdir(path) => go::chdir(scene, path),
        What::Home(uid) => go::home(scene, *uid),
        What::CloseFds { first, kept } => go::close_fds(scene, *first, kept),
        What::FindProgram(exec) => go::find(exec),
        What::Ready => talk::ready(scene),
        What::AwaitStart { fifo, answer } => talk::await_start(scene, *fifo, *answer),
        What::Hooks { point, commands, state, output } => go::hooks(scene, *point, commands, *state, *output),
        What::AboutToExec(answer) => talk::about_to_exec(scene, *answer),
        What::Exec(exec) => go::exec(scene, exec),
    }
}
