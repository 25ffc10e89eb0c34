//! RLIMIT_NOFILE for the descriptors of a plan: at least one for each mount. Many mounts need more than 1024, a common limit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use crate::plan::Plan;
use crate::sys::sched::set_limit;

/// How many descriptors the runtime and init open besides the plan's.
const OTHERS: usize = 128;

/// RLIMIT_NOFILE, soft and hard.
pub type Limit = (u64, u64);

/// What is lent to our children: it is the process's, and other threads make children too.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// Our RLIMIT_NOFILE as it was, while somebody needs more.
    before: Option<Limit>,
    /// How many need more.
    needed_by: usize,
}

/// Held around each clone, and while a limit changes.
static LENT: Mutex<Lent> = Mutex::new(Lent { before: None, needed_by: 0 });

pub(super) fn lent() -> MutexGuard<'static, Lent> {
    LENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    /// The limit that the program of `plan` is to have again; nothing where it has not changed, or `process.rlimits` has one.
    pub(super) fn limit_of(&self, plan: &Plan) -> Option<Limit> {
        self.before.filter(|_| !plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE))
    }
}

/// Our soft limit is raised while this lives. The last one that is dropped puts it back.
#[derive(Debug)]
pub struct Room(());

impl Room {
    /// Raises our own soft limit as far as we may, where `plan` needs more.
    pub fn make(plan: &Plan) -> Option<Room> {
        let needed = u64::try_from(plan.openings.len() + OTHERS).ok()?;
        let mut lent = lent();
        // if this fails, an open(2) reports EMFILE later
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
            // a soft limit that is not above the hard one is never refused
            let _ = set_limit(0, libc::RLIMIT_NOFILE, soft, hard);
        }
    }
}
