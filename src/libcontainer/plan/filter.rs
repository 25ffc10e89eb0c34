//! The seccomp filter of the process, and the steps that load it. SPEC: config-linux.md#seccomp.

use std::borrow::Cow;

use oci_spec::runtime::LinuxSeccomp;

use super::annotations::{self, BPF_DATA, FAIL_UNKNOWN_SYSCALL, SECCOMP_RECEIVER};
use super::credentials::Credentials;
use super::given::{Given, PlannedProcess, Switch};
use super::notes::Notes;
use super::seccomp::{self, Filter};
use super::step::What;
use super::steps::Steps;
use crate::config::At;
use crate::wire::Request;

/// A filter, and what loading it needs.
#[derive(Debug)]
pub(super) struct PlannedFilter {
    pub(super) filter: Filter,
    /// The capabilities that the process keeps until the exec, because loading the filter needs them.
    pub(super) until_exec: u64,
}

/// Reads `linux.seccomp`. Every process of the container has this filter: exec loads it as init does.
pub(super) fn read(
    planned: PlannedProcess<'_>,
    given: &Given<'_>,
    credentials: &Credentials,
    notes: &mut Notes,
) -> Option<PlannedFilter> {
    planned.process?;
    let requested = given.linux().and_then(|linux| linux.seccomp().as_ref());
    let (at, filter) = match (requested, given.annotation(BPF_DATA)) {
        (None, None) => return None,
        (Some(requested), None) => {
            let at = At::new("linux.seccomp");
            let requested = with_receiver(requested, given);
            if annotations::switch(given, FAIL_UNKNOWN_SYSCALL, notes) == Switch::On {
                notes.collect(seccomp::all_known(&requested, &at));
            }
            let (filter, warnings) = notes.collect(seccomp::filter(&requested, &at))?;
            notes.warnings(warnings);
            (at, filter)
        }
        (None, Some(text)) => {
            let at = At::annotation(BPF_DATA);
            let filter = notes.collect(seccomp::given_as_data(text, &at))?;
            (at, filter)
        }
        // As with crun, the data would replace the profile: an annotation could remove the profile.
        (Some(_), Some(_)) => {
            notes.fault(&At::annotation(BPF_DATA), "linux.seccomp is set, too, and the annotation cannot replace it");
            return None;
        }
    };
    // The process keeps CAP_SYS_ADMIN until the filter is loaded, if that needs it.
    let until_exec = credentials.needed_to_restrict(&at, "loaded", given, notes) & !credentials.capabilities.effective;
    Some(PlannedFilter { filter, until_exec })
}

/// Uses the annotation as `listenerPath` if config.json has none.
fn with_receiver<'a>(requested: &'a LinuxSeccomp, given: &Given<'_>) -> Cow<'a, LinuxSeccomp> {
    match given.annotation(SECCOMP_RECEIVER).filter(|path| !path.is_empty()) {
        Some(path) if requested.listener_path().is_none() => {
            let mut requested = requested.clone();
            requested.set_listener_path(Some(path.into()));
            Cow::Owned(requested)
        }
        _ => Cow::Borrowed(requested),
    }
}

impl PlannedFilter {
    fn has_listener(&self) -> bool {
        self.filter.listener().is_some()
    }

    /// ORDER: a filter with a listener is loaded before Ready. The runtime sends the listener to the agent, and the
    /// runtime has ended when `start` is called.
    pub(super) fn before_ready(&self, steps: &mut Steps) {
        if self.has_listener() {
            let at = self.filter.at();
            steps.add(at, What::Seccomp(self.filter.flags()));
            steps.add(&at.key("listenerPath"), What::Request(Request::SeccompListener));
        }
    }

    /// Its place.
    pub(super) fn at(&self) -> &At {
        self.filter.at()
    }

    /// The flags of a filter without a listener. The step before the exec loads it.
    pub(super) fn flags_at_exec(&self) -> Option<u32> {
        (!self.has_listener()).then(|| self.filter.flags())
    }
}
