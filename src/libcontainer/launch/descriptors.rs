//! Bounded for the descriptors of a plan: one for each mount and more. Many mounts need more than the 1024 that a shell has.

use nix::sys::resource::{Resource, getrlimit};

use crate::plan::Plan;
use crate::sys::sched::set_limit;

/// What the runtime and init open beside a plan's openings.
const OTHERS: usize = 128;

/// RLIMIT_NOFILE, soft and hard.
pub type Limit = (u64, u64);

/// Raises our own soft limit as far as we may, where `plan` needs more. Returns the limit that the program is to have again;
/// nothing where it stays, or `process.rlimits` has one.
pub fn make_room(plan: &Plan) -> Option<Limit> {
    // a failure here is met again by the open that finds no free number
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= u64::try_from(plan.openings.len() + OTHERS).ok()? {
        return None;
    }
    set_limit(0, libc::RLIMIT_NOFILE, hard, hard).ok()?;
    let asked = plan.limits.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE);
    (!asked).then_some((soft, hard))
}
