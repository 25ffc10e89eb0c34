//! What the rules ask, and what they find.

use std::fmt;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

use super::tables::MAPPED;
use crate::config::At;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// A small step for an attacker, or a nuisance for other containers.
    Low,
    /// It helps an attacker who has found another hole.
    Medium,
    /// Much of the host, or of other containers, can be seen or disturbed.
    High,
    /// The host is in the hands of whoever controls the container.
    Critical,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
            Risk::Critical => "critical",
        })
    }
}

/// One thing that a config exposes.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// The property.
    pub at: At,
    /// How bad it is.
    pub risk: Risk,
    /// The probability, in percent, that it is what an attacker succeeds by. The score is made of these.
    pub weight: u8,
    /// What the property says or leaves out.
    pub what: String,
    /// What an attacker in the container gains.
    pub gain: String,
    /// The change that closes it.
    pub change: String,
}

/// All that a config exposes, the worst first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposure {
    /// The findings.
    pub findings: Vec<Exposed>,
}

impl Exposure {
    /// From 0, nothing was found, to 10: the probability that one of the findings is enough. Ten weak spots are worse than
    /// one, and never as bad as one open door.
    pub fn score(&self) -> f64 {
        let held = self.findings.iter().map(|found| 1.0 - f64::from(found.weight) / 100.0).product::<f64>();
        ((1.0 - held) * 100.0).round() / 10.0
    }

    /// The score as a word.
    pub fn word(&self) -> &'static str {
        match self.score() {
            score if score < 3.0 => "tight",
            score if score < 5.5 => "ordinary",
            score if score < 8.0 => "exposed",
            _ => "open",
        }
    }
}

/// What the rules ask of a config.
pub(super) struct ConfigFacts<'a> {
    pub(super) spec: &'a Spec,
    pub(super) process: Option<&'a Process>,
    pub(super) linux: Option<&'a Linux>,
    /// Root in the container is another user on the host.
    pub(super) mapped: bool,
    /// The process is root in the container.
    pub(super) root: bool,
    /// The capabilities that the process or a program that it executes can have, as a mask.
    pub(super) capabilities: u64,
}

impl ConfigFacts<'_> {
    /// Root of the host, with whatever capabilities: files of /proc and /sys obey it.
    pub(super) fn is_host_root(&self) -> bool {
        self.root && !self.mapped
    }

    /// A weight for root of the host, where root may be another user.
    pub(super) fn weighed(&self, weight: u8) -> u8 {
        let part = u16::from(weight) * u16::from(MAPPED) / 100;
        if self.mapped { part.max(1).try_into().unwrap_or(weight) } else { weight }
    }

    pub(super) fn can(&self, capability: u8) -> bool {
        self.capabilities & 1 << capability != 0
    }

    /// A kind of namespace that the container shares with the host.
    pub(super) fn shares(&self, kind: LinuxNamespaceType) -> bool {
        let namespaces = self.linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let of_host = |path: &std::path::Path| path.starts_with("/proc/1/ns") || path.starts_with("/proc/1/task");
        namespaces
            .iter()
            .find(|namespace| namespace.typ() == kind)
            .is_none_or(|namespace| namespace.path().as_deref().is_some_and(of_host))
    }
}

/// The findings of the rules.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Exposed>);

impl Findings {
    pub(super) fn add(
        &mut self,
        at: At,
        weight: u8,
        what: impl Into<String>,
        gain: impl Into<String>,
        change: impl Into<String>,
    ) {
        let risk = match weight {
            0..10 => Risk::Low,
            10..30 => Risk::Medium,
            30..65 => Risk::High,
            _ => Risk::Critical,
        };
        self.0.push(Exposed { at, risk, weight, what: what.into(), gain: gain.into(), change: change.into() });
    }
}
