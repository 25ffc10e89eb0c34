//! `hostname` and `domainname`: the names in a UTS namespace.

use std::ffi::CString;

use super::given::Given;
use super::namespaces::{PlannedNamespaces, UTS};
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use super::values::c_string;
use crate::config::At;

/// The longest name (__NEW_UTS_LEN).
const MAX_NAME: usize = 64;

/// Both names. A name that config.json does not have is None.
#[derive(Debug)]
pub(super) struct UtsNames {
    hostname: Option<CString>,
    domainname: Option<CString>,
}

/// Reads both names.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> UtsNames {
    let spec = &given.config.spec;
    let mut read = |property: &str, value: &Option<String>| {
        let value = value.as_ref().filter(|value| !value.is_empty())?;
        let at = At::new(property);
        if !namespaces.private(UTS) {
            notes.fault(&at, format!("unable to set {property} without a private UTS namespace"));
            return None;
        }
        name(value, &at, notes)
    };
    UtsNames { hostname: read("hostname", spec.hostname()), domainname: read("domainname", spec.domainname()) }
}

/// A name that the kernel accepts.
pub(super) fn name(value: &str, at: &At, notes: &mut Notes) -> Option<CString> {
    if value.len() > MAX_NAME {
        notes.fault(at, format!("{value:?} has {} bytes: at most {MAX_NAME} are allowed", value.len()));
        return None;
    }
    c_string(value, at, notes)
}

impl UtsNames {
    pub(super) fn steps(self, steps: &mut Steps) {
        if let Some(name) = self.hostname {
            steps.add(&At::new("hostname"), What::Hostname(name));
        }
        if let Some(name) = self.domainname {
            steps.add(&At::new("domainname"), What::Domainname(name));
        }
    }
}
