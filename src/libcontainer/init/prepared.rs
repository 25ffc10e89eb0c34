//! The values that the runtime process prepares for init, the results of steps that later steps need, and the failure
//! of a step.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::plan::step::{Rlimit, Slot, Step, What};
use crate::sys::bounded::Bounded;
use crate::sys::clone::Alone;
use crate::sys::host_proc::HostProc;
use crate::sys::mount::Reach;
use crate::sys::mount_id::{Location, location_of};
use crate::sys::page::{FirstChildPage, Page};
use crate::sys::seccomp::Program;
use crate::wire::{About, Words};

/// The beginning of the entry in the environment.
pub(super) const HOME: &[u8] = b"HOME=";
/// The longest path that can be a directory: PATH_MAX, without its NUL.
pub(super) const HOME_MAX: usize = 4095;
/// The size of the longest entry.
pub(super) const ROOM_FOR_HOME: usize = HOME.len() + HOME_MAX + 1;

/// The values that the runtime process prepared for init before the fork.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The descriptors, by slot.
    pub fds: &'a [Option<OwnedFd>],
    /// The slot of the container's root. If it is None, paths begin in the current directory.
    pub root: Option<Slot>,
    /// Sources of bind mounts that are opened when their turn comes.
    pub late: &'a [Late],
    /// The compiled seccomp filter.
    pub filter: Option<&'a Program>,
    /// The resource limits.
    pub limits: &'a [Rlimit],
    /// The program's RLIMIT_NOFILE, soft and hard, if the runtime has raised its own for the set-up.
    pub nofile: Option<(u64, u64)>,
    /// The host's /proc.
    pub proc: &'a HostProc,
    /// The file in which init notes each mount before it attaches it, if mounts are attached on the host (`container/mounted.rs`).
    pub mounted: Option<BorrowedFd<'a>>,
    /// Our end of the socket to the runtime process.
    pub socket: BorrowedFd<'a>,
    /// The shared page, in which the runtime sees how far init has come, even if init is killed.
    pub page: &'a Page,
    /// The memory in which the kernel writes the pid of an init that the bridge makes. That init does not have this memory.
    pub first_child: &'a FirstChildPage,
    /// The steps of the bridge (none in most cases), then those of init. They are numbered together.
    pub steps: [&'a [Step]; 2],
    /// The results of steps that later steps need.
    pub results: &'a StepResults,
    /// The proof that this process is a child.
    pub alone: &'a Alone,
}

/// A source in the container's root. It may exist only through an earlier mount.
#[derive(Debug)]
pub struct Late {
    /// The slot that it is put into. Until then the slot holds another file.
    pub slot: Slot,
    /// Relative to the root; the kernel resolves it there.
    pub path: CString,
    /// Says whether the mounts below it are included.
    pub reach: Reach,
    /// Whether the runtime maps its ids.
    pub ids: LateIds,
}

/// The id maps of a late source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateIds {
    /// Its own.
    Own,
    /// Those that the runtime maps.
    Mapped,
}

/// The results of steps that later steps need.
#[derive(Debug, Default)]
pub struct StepResults {
    /// After `AwaitStart`: the fifo on which failures are reported.
    pub(super) answer: Cell<Option<Slot>>,
    /// After `AwaitStart`: the fifo on which `start` wrote.
    pub(super) fifo: Cell<Option<Slot>>,
    /// True if `TryChdir` has entered the directory, so that the user need not be allowed to.
    pub(super) arrived: Cell<bool>,
    /// The ids of the new file systems that are mounted.
    new: RefCell<Bounded<u64>>,
    /// The mount in which nodes are made, after a check that it is not bound from the host.
    pub(super) not_bound: Cell<Option<u64>>,
    /// The place of the root, when a step has looked for it.
    root: Cell<Option<Location>>,
    /// True if a masked path has been covered with that mount itself: the others get copies.
    pub(super) empty_attached: Cell<bool>,
    pub(super) null_attached: Cell<bool>,
    /// The umask before the first `Umask` step: that of the runtime's caller.
    pub(super) umask: Cell<Option<Mode>>,
    /// `HOME=…`, NUL-terminated, after a `Home` step.
    pub(super) home: RefCell<Bounded<u8>>,
}

impl StepResults {
    /// Makes it with room for the results of these steps: init has no heap.
    pub fn with_room(steps: [&[Step]; 2]) -> StepResults {
        let new = |step: &&Step| matches!(step.what, What::NewMount(_));
        let count = steps.iter().flat_map(|list| list.iter()).filter(new).count();
        let home = steps.iter().flat_map(|list| list.iter()).any(|step| matches!(step.what, What::Home(_)));
        let home = Bounded::with_capacity(if home { ROOM_FOR_HOME } else { 0 });
        StepResults {
            new: RefCell::new(Bounded::with_capacity(count)),
            home: RefCell::new(home),
            ..StepResults::default()
        }
    }

    /// Remembers a new file system by the id of its mount.
    pub(super) fn remember_new(&self, id: u64) {
        // there is room for each one in the plan
        let _ = self.new.borrow_mut().push(id);
    }

    pub(super) fn is_new(&self, id: u64) -> bool {
        self.new.borrow().contains(&id)
    }
}

/// Why a step failed: the kernel's error number and, if it gave one, its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) errno: Errno,
    pub(super) said: Words,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble { errno, said: Words::NONE }
    }
}

impl Trouble {
    pub(super) fn saying(errno: Errno, said: &str) -> Trouble {
        Trouble { errno, said: Words::of(said.as_bytes()) }
    }

    pub(super) fn about(errno: Errno, about: About) -> Trouble {
        Trouble { errno, said: Words::NONE.about(about) }
    }
}

pub(super) type Outcome<T = ()> = Result<T, Trouble>;

impl Prepared<'_> {
    /// The descriptor in `slot`.
    pub(super) fn fd(&self, slot: Slot) -> Outcome<BorrowedFd<'_>> {
        self.fds.get(slot.0).and_then(Option::as_ref).map(OwnedFd::as_fd).ok_or(Trouble::from(Errno::BADF))
    }

    /// Puts another file into `slot`.
    pub(super) fn replace(&self, slot: Slot, new: &OwnedFd) -> Outcome {
        Ok(crate::sys::fds::replace(self.alone, self.fd(slot)?, new)?)
    }

    /// The late source for `slot`, if there is one.
    pub(super) fn late(&self, slot: Slot) -> Option<&Late> {
        self.late.iter().find(|late| late.slot == slot)
    }

    /// The result of `location_of` for the root.
    pub(super) fn root_location(&self) -> Outcome<Location> {
        match self.results.root.get() {
            Some(location) => Ok(location),
            None => {
                let location = location_of(self.root()?)?;
                self.results.root.set(Some(location));
                Ok(location)
            }
        }
    }

    /// The directory in which the container's paths begin.
    pub(super) fn root(&self) -> Outcome<BorrowedFd<'_>> {
        self.root.map_or(Ok(rustix::fs::CWD), |slot| self.fd(slot))
    }
}
