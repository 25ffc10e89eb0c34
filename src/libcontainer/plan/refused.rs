//! What config.json may ask and nobody here does yet: refused by its name, never ignored.

use super::Asked;
use super::draft::Draft;
use crate::config::At;

pub(super) fn all(ask: &Asked<'_>, plan: &mut Draft) {
    let spec = &ask.config.spec;
    let linux = spec.linux().as_ref();
    let asked = [("linux.intelRdt", linux.is_some_and(|linux| linux.intel_rdt().is_some()))];
    for (property, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        plan.fault(&At::new(property), "is not there yet");
    }
}
