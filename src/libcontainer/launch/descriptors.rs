//! RLIMIT_NOFILE for the descriptors of a plan: at least one for each mount. Many mounts need more than 1024, a common limit.

use nix::sys::resource::{Resource, getrlimit};

use crate::plan::Plan;
use crate::sys::sched::set_limit;

/// How many descriptors the runtime and init open besides the plan's.
const OTHERS: usize = 128;

/// RLIMIT_NOFILE, soft and hard.
pub type Limit = (u64, u64);

/// Raises our own soft limit to the hard limit, if `plan` needs more. Returns the limit that the program must get back; None if it
/// did not change, or if `process.rlimits` sets it.
pub fn make_room(plan: &Plan) -> Option<Limit> {
    // if this fails, an open(2) reports EMFILE later
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= u64::try_from(plan.openings.len() + OTHERS).ok()? {
        return None;
    }
    set_limit(0, libc::RLIMIT_NOFILE, hard, hard).ok()?;
    let asked = plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE);
    (!asked).then_some((soft, hard))
}
