//! The findings about a config, and their score.

use std::fmt;

use crate::config::At;

/// How bad a finding is.
///
/// ```
/// use libcontainer::Risk;
///
/// let findings = libcontainer::Bundle::read("examples/bundle")?.exposure()?.findings;
/// let grave = findings.iter().filter(|found| found.risk >= Risk::High);
/// grave.for_each(|found| println!("{}: {}", found.risk, found.at));
/// assert!(Risk::Critical > Risk::High && Risk::Medium > Risk::Low);
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// A small step for an attacker, or a nuisance for other containers.
    Low,
    /// It helps an attacker who has found another hole.
    Medium,
    /// Much of the host, or of other containers, can be seen or disturbed.
    High,
    /// A process that controls the container also controls the host.
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
///
/// ```
/// let findings = libcontainer::Bundle::read("examples/bundle")?.exposure()?.findings;
/// let found = findings.iter().find(|found| found.at.as_str() == "linux.seccomp").expect("it has no profile");
/// assert_eq!(found.what, "is not set");
/// println!("an attacker {}. Change: {}", found.gain, found.change);
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// The property.
    pub at: At,
    /// How bad it is.
    pub risk: Risk,
    /// The probability, in percent, that an attacker succeeds through it. The score is computed from these.
    pub weight: u8,
    /// The value of the property, or that it is missing.
    pub what: String,
    /// The gain for an attacker in the container.
    pub gain: String,
    /// The change that closes it.
    pub change: String,
}

/// All that a config exposes, the worst first.
///
/// ```
/// let exposure = libcontainer::Bundle::read("examples/bundle")?.exposure()?;
/// assert_eq!(exposure.word(), "open");
/// println!("{} of 10", exposure.score());
/// for found in &exposure.findings {
///     println!("{}: {}: {}", found.at, found.what, found.change);
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposure {
    /// The findings.
    pub findings: Vec<Exposed>,
}

impl Exposure {
    /// From 0 (no finding) to 10: the probability that one of the findings is enough. Ten weak findings are worse than
    /// one, but never as bad as one severe finding.
    pub fn score(&self) -> f64 {
        let held = self.findings.iter().map(|found| 1.0 - f64::from(found.weight) / 100.0).product::<f64>();
        ((1.0 - held) * 100.0).round() / 10.0
    }

    /// The score as a word.
    pub fn word(&self) -> &'static str {
        match self.score() {
            score if score < 3.0 => "tight",
            score if score < 5.8 => "ordinary",
            score if score < 8.0 => "exposed",
            _ => "open",
        }
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
        if weight == 0 {
            return;
        }
        let risk = match weight {
            0..10 => Risk::Low,
            10..30 => Risk::Medium,
            30..65 => Risk::High,
            _ => Risk::Critical,
        };
        self.0.push(Exposed { at, risk, weight, what: what.into(), gain: gain.into(), change: change.into() });
    }
}
