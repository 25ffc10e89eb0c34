//! Room for the descriptors of a plan: one for each mount and more. Many mounts need more than the 1024 that a shell has.

use rustix::process::{Resource, getrlimit};

use crate::plan::Plan;
use crate::sys::sched::set_limit;

/// What the runtime and init open beside a plan's openings.
const OTHERS: usize = 128;

/// RLIMIT_NOFILE, soft and hard.
pub type Limit = (u64, u64);

/// Raises our own soft limit as far as we may, where `plan` needs more. Returns the limit that the program is to have again;
/// nothing where it stays, or `process.rlimits` has one.
pub fn make_room(plan: &Plan) -> Option<Limit> {
    let now = getrlimit(Resource::Nofile);
    let needed = u64::try_from(plan.openings.len() + OTHERS).ok()?;
    let (soft, hard) = (now.current.filter(|soft| *soft < needed)?, now.maximum?);
    // what is refused is met again by the open that finds no number
    set_limit(0, libc::RLIMIT_NOFILE, hard, hard).ok()?;
    let asked = plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE);
    (!asked).then_some((soft, hard))
}
