//! The request that may come next. We do not trust a process that a container can trace. It could send a request that the plan
//! does not have, or send one twice (for a writable tree of a read-only mount, for the hooks of the host).

use std::slice;

use crate::error::{Result, bail};
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::wire::Request;

/// The steps that have not sent their request.
#[derive(Debug)]
pub(super) struct Turns<'p> {
    rest: slice::Iter<'p, Step>,
    /// The steps of an init that the bridge has not made yet.
    init: Option<&'p [Step]>,
}

impl<'p> Turns<'p> {
    /// The turns of the first child: of the bridge, or of init if there is no bridge.
    pub(super) fn new(plan: &'p Plan) -> Turns<'p> {
        if plan.bridge.is_empty() {
            Turns { rest: plan.init.iter(), init: None }
        } else {
            Turns { rest: plan.bridge.iter(), init: Some(&plan.init) }
        }
    }

    /// The bridge has made init. From now on, requests of the bridge are refused.
    pub(super) fn begin_init(&mut self) {
        self.rest = self.init.take().unwrap_or_default().iter();
    }

    /// True if init exists. Without a bridge, it exists from the start. A bridge makes it later.
    pub(super) fn init_exists(&self) -> bool {
        self.init.is_none()
    }

    /// Accepts a request. The steps before it can no longer send theirs.
    ///
    /// # Errors
    /// No remaining step sends this request.
    pub(super) fn accept(&mut self, request: Request) -> Result<()> {
        match self.rest.find(|step| step.what.may_request(request)) {
            Some(_) => Ok(()),
            None => bail!("init has sent a request that it must not send at this time: {request:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;
    use crate::plan::step::What;
    use crate::wire::HookPoint;

    #[test]
    fn each_request_has_one_turn_in_the_order_of_the_plan() {
        let step = |request| Step::new(&At::new("x"), What::Request(request));
        let hooks = Request::Hooks(HookPoint::CreateRuntime);
        let (bridge, init) = ([step(Request::Tree(3)), step(hooks)], [step(Request::Limits), step(Request::Scheduler)]);
        let mut turns = Turns { rest: bridge.iter(), init: Some(&init) };
        assert!(turns.accept(Request::Tree(4)).is_err(), "another tree");
        let mut turns = Turns { rest: bridge.iter(), init: Some(&init) };
        assert!(turns.accept(Request::Tree(3)).is_ok());
        assert!(turns.accept(hooks).is_ok());
        assert!(turns.accept(hooks).is_err(), "twice");
        turns.begin_init();
        assert!(turns.accept(Request::Scheduler).is_ok(), "a step need not ask");
        assert!(turns.accept(Request::Limits).is_err(), "too late");
        let mut turns = Turns { rest: bridge.iter(), init: Some(&init) };
        turns.begin_init();
        assert!(turns.accept(Request::Tree(3)).is_err(), "the bridge's");
    }
}
