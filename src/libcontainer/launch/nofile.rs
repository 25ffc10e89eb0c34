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
pub(super) struct Raised {
    /// Our former RLIMIT_NOFILE, while at least one container needs a higher one.
    before: Option<NofileLimit>,
    /// The number of containers that need a higher limit.
    needed_by: usize,
}

/// The lock for each clone and each change of the limit.
static RAISED: Mutex<Raised> = Mutex::new(Raised { before: None, needed_by: 0 });

/// Takes the lock.
pub(super) fn lock() -> MutexGuard<'static, Raised> {
    RAISED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Raised {
    /// The limit that the program of `plan` gets back. None if the limit has not changed, or if `process.rlimits` sets
    /// it.
    pub(super) fn limit_of_program(&self, plan: &Plan) -> Option<NofileLimit> {
        self.before.filter(|_| !plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE))
    }
}

/// Our soft limit is raised while a value of this type exists. The last drop sets it back.
#[derive(Debug)]
pub struct MoreDescriptors(());

impl MoreDescriptors {
    /// Raises our own soft limit up to the hard limit, if `plan` needs more.
    pub fn raise_limit(plan: &Plan) -> Option<MoreDescriptors> {
        let needed = u64::try_from(plan.openings.len() + OTHERS).ok()?;
        let mut raised = lock();
        // If this fails, an open(2) reports EMFILE later.
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        if raised.before.unwrap_or(limit).0 >= needed {
            return None;
        }
        if raised.before.is_none() {
            set_limit(0, libc::RLIMIT_NOFILE, limit.1, limit.1).ok()?;
            raised.before = Some(limit);
        }
        raised.needed_by += 1;
        Some(MoreDescriptors(()))
    }
}

impl Drop for MoreDescriptors {
    fn drop(&mut self) {
        let mut raised = lock();
        raised.needed_by -= 1;
        if raised.needed_by == 0
            && let Some((soft, hard)) = raised.before.take()
        {
            // The kernel never refuses a soft limit below the hard one.
            let _ = set_limit(0, libc::RLIMIT_NOFILE, soft, hard);
        }
    }
}
