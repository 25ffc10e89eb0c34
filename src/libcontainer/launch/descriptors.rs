//! RLIMIT_NOFILE for the descriptors of a plan. A plan needs at least one for each mount, and 1024 is a common limit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use crate::plan::Plan;
use crate::sys::sched::set_limit;

/// The number of descriptors that the runtime and init open in addition to the plan's.
const OTHERS: usize = 128;

/// RLIMIT_NOFILE, soft and hard.
pub type NofileLimit = (u64, u64);

/// Our own limit while it is raised. All threads share the limit, and other threads make children, too.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// Our former RLIMIT_NOFILE, while at least one container needs a higher one.
    before: Option<NofileLimit>,
    /// The number of containers that need a higher limit.
    needed_by: usize,
}

/// The lock for each clone and each change of the limit.
static LENT: Mutex<Lent> = Mutex::new(Lent { before: None, needed_by: 0 });

pub(super) fn lent() -> MutexGuard<'static, Lent> {
    LENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    /// The limit that the program of `plan` gets back. None if the limit has not changed, or if `process.rlimits` sets
    /// it.
    pub(super) fn limit_of(&self, plan: &Plan) -> Option<NofileLimit> {
        self.before.filter(|_| !plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE))
    }
}

/// Our soft limit is raised while a value of this type exists. The last drop sets it back.
#[derive(Debug)]
pub struct Room(());

impl Room {
    /// Raises our own soft limit up to the hard limit, if `plan` needs more.
    pub fn make(plan: &Plan) -> Option<Room> {
        let needed = u64::try_from(plan.openings.len() + OTHERS).ok()?;
        let mut lent = lent();
        // If this fails, an open(2) reports EMFILE later.
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        if lent.before.unwrap_or(limit).0 >= needed {
            return None;
        }
        if lent.before.is_none() {
            set_limit(0, libc::RLIMIT_NOFILE, limit.1, limit.1).ok()?;
            lent.before = Some(limit);
        }
        lent.needed_by += 1;
        Some(Room(()))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut lent = lent();
        lent.needed_by -= 1;
        if lent.needed_by == 0
            && let Some((soft, hard)) = lent.before.take()
        {
            // The kernel never refuses a soft limit below the hard one.
            let _ = set_limit(0, libc::RLIMIT_NOFILE, soft, hard);
        }
    }
}
