//! The annotation `org.coracle.landlock`: a ruleset that restricts every process of the container (landlock(7)). The
//! JSON has the names of landlockconfig, so that a policy can be tried outside of a container.

use std::ffi::CString;

use serde::Deserialize;

use super::credentials::Credentials;
use super::finished::Opening;
use super::given::{Given, PlannedProcess};
use super::notes::Notes;
use super::ruleset::{self, FS, NET, RightsField, Ruleset, SCOPES, Word};
use super::step::{Absent, Role, What};
use super::steps::Steps;
use super::values::c_string;
use crate::config::{self, At, JsonObject};

/// The annotation.
pub const LANDLOCK: &str = "org.coracle.landlock";

/// The ruleset of a container.
#[derive(Debug)]
pub(super) struct Landlock {
    at: At,
    ruleset: Ruleset,
    paths: Vec<(At, CString, u64)>,
    absent: Absent,
    role: Role,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    abi: Option<u32>,
    #[serde(default)]
    compatibility: Compatibility,
    ruleset: Vec<JsonObject<Handled>>,
    #[serde(default)]
    path_beneath: Vec<JsonObject<PathRule>>,
    #[serde(default)]
    net_port: Vec<JsonObject<PortRule>>,
}

/// The behaviour if the kernel does not have a right, or a path is missing.
#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Compatibility {
    /// It is an error.
    #[default]
    Required,
    /// A warning says which rights are not restricted. A missing path is skipped.
    BestEffort,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Handled {
    #[serde(default)]
    handled_access_fs: Vec<String>,
    #[serde(default)]
    handled_access_net: Vec<String>,
    #[serde(default)]
    scoped: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathRule {
    allowed_access: Vec<String>,
    parent: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortRule {
    allowed_access: Vec<String>,
    port: Vec<u16>,
}

/// Reads the annotation. Every process of the container has this ruleset: exec applies it as init does.
pub(super) fn read(
    planned: PlannedProcess<'_>,
    given: &Given<'_>,
    credentials: &Credentials,
    notes: &mut Notes,
) -> Option<Landlock> {
    let text = given.annotation(LANDLOCK)?;
    let at = At::annotation(LANDLOCK);
    let JsonObject(policy): JsonObject<Policy> = notes.collect(config::load_annotation(text, &at))?;
    if policy.abi.is_some_and(|abi| !(1..=ruleset::NEWEST).contains(&abi)) {
        notes.fault(&at.key("abi"), format!("must be between 1 and {}", ruleset::NEWEST));
        return None;
    }
    let mut reader = LandlockReader { at: &at, abi: policy.abi, notes };
    let ruleset = reader.handled(&policy);
    let mut landlock = Landlock {
        paths: reader.paths(&policy, ruleset.fs),
        ruleset: Ruleset { ports: reader.ports(&policy, ruleset.net), ..ruleset },
        absent: if policy.compatibility == Compatibility::Required { Absent::Refused } else { Absent::Skipped },
        role: planned.role,
        at: at.clone(),
    };
    planned.process?;
    if !landlock.fit(given.host.landlock, policy.compatibility, notes) {
        return None;
    }
    credentials.needed_to_restrict(&at, "applied", given, notes);
    Some(landlock)
}

struct LandlockReader<'a> {
    at: &'a At,
    abi: Option<u32>,
    notes: &'a mut Notes,
}

impl LandlockReader<'_> {
    fn handled(&mut self, policy: &Policy) -> Ruleset {
        let mut all = Ruleset::default();
        for (n, JsonObject(handled)) in policy.ruleset.iter().enumerate() {
            let at = self.at.key("ruleset").index(n);
            all.fs |= self.union(&handled.handled_access_fs, RightsField::Files, &at.key("handledAccessFs"));
            all.net |= self.union(&handled.handled_access_net, RightsField::Network, &at.key("handledAccessNet"));
            all.scoped |= self.union(&handled.scoped, RightsField::Scopes, &at.key("scoped"));
        }
        if policy.ruleset.iter().all(|JsonObject(handled)| handled.is_empty()) {
            self.notes.fault(&self.at.key("ruleset"), "restricts nothing");
        }
        all
    }

    fn words(&mut self, list: &[String], field: RightsField, at: &At) -> Vec<(At, Word)> {
        let mut words = Vec::new();
        for (n, word) in list.iter().enumerate() {
            match Word::read(word, field, self.abi) {
                Some(read) if read.bits() == 0 => {
                    self.notes.fault(&at.index(n), format!("{word:?} contains no right of this property"));
                }
                Some(read) => words.push((at.index(n), read)),
                None if word.starts_with("abi.") && self.abi.is_none() => {
                    self.notes.fault(&at.index(n), format!("{word:?} needs the property \"abi\""));
                }
                None => {
                    let known: Vec<_> = ruleset::names(field.table(), u64::MAX).collect();
                    let known = known.join(", ");
                    self.notes.fault(&at.index(n), format!("unknown right {word:?} (known are {known})"));
                }
            }
        }
        words
    }

    fn union(&mut self, list: &[String], field: RightsField, at: &At) -> u64 {
        self.words(list, field, at).into_iter().fold(0, |all, (_, word)| all | word.bits())
    }

    /// The rights of a rule. A right that the ruleset does not handle is not restricted: to allow it is a mistake.
    fn allowed(&mut self, list: &[String], field: RightsField, handled: u64, at: &At) -> u64 {
        let at = at.key("allowedAccess");
        if list.is_empty() {
            self.notes.fault(&at, "is empty");
        }
        let (mut all, words) = (0, self.words(list, field, &at));
        let groups_alone = words.iter().all(|(_, word)| matches!(word, Word::Group(_)));
        for (at, word) in words {
            if matches!(word, Word::Right(bit) if handled & bit == 0) {
                self.notes.fault(&at, "the ruleset does not handle this right");
            }
            all |= word.bits();
        }
        if groups_alone && all != 0 && all & handled == 0 {
            self.notes.fault(&at, "the ruleset handles none of these rights");
        }
        all & handled
    }

    fn paths(&mut self, policy: &Policy, handled: u64) -> Vec<(At, CString, u64)> {
        let mut all = Vec::new();
        for (n, JsonObject(rule)) in policy.path_beneath.iter().enumerate() {
            let at = self.at.key("pathBeneath").index(n);
            let access = self.allowed(&rule.allowed_access, RightsField::Files, handled, &at);
            for (n, path) in rule.parent.iter().enumerate() {
                let at = at.key("parent").index(n);
                if !path.starts_with('/') {
                    self.notes.fault(&at, format!("{path:?} is not absolute"));
                    continue;
                }
                let below = path.trim_start_matches('/');
                let below = c_string(if below.is_empty() { "." } else { below }, &at, self.notes);
                all.extend(below.map(|path| (at, path, access)));
            }
        }
        all
    }

    fn ports(&mut self, policy: &Policy, handled: u64) -> Vec<(u16, u64)> {
        let mut all = Vec::new();
        for (n, JsonObject(rule)) in policy.net_port.iter().enumerate() {
            let at = self.at.key("netPort").index(n);
            let access = self.allowed(&rule.allowed_access, RightsField::Network, handled, &at);
            all.extend(rule.port.iter().map(|port| (*port, access)));
        }
        all
    }
}

impl Handled {
    fn is_empty(&self) -> bool {
        [&self.handled_access_fs, &self.handled_access_net, &self.scoped].iter().all(|list| list.is_empty())
    }
}

impl Landlock {
    /// Limits the ruleset to the rights that a kernel with this ABI can restrict. False if it can restrict none.
    fn fit(&mut self, abi: u32, compatibility: Compatibility, notes: &mut Notes) -> bool {
        let Ruleset { fs, net, scoped, .. } = &mut self.ruleset;
        let mut lacking = Vec::new();
        for (table, bits) in [(&FS[..], fs), (&NET, net), (&SCOPES, scoped)] {
            let missing = *bits & !ruleset::supported(table, abi);
            lacking.extend(table.iter().filter(|(_, bit, _)| missing & bit != 0));
            *bits &= !missing;
        }
        if let Some(needed) = lacking.iter().map(|(_, _, since)| *since).max() {
            let names = lacking.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
            let here = match abi {
                0 => "this kernel has no Landlock, or it is not enabled (boot parameter lsm=)".to_owned(),
                abi => format!("this kernel has ABI {abi}"),
            };
            let said = format!("{names}: {} is needed, and {here}", ruleset::abi_text(needed));
            match compatibility {
                Compatibility::Required => notes.fault(&self.at, said),
                Compatibility::BestEffort => notes.warn(&self.at, format!("not restricted: {said}")),
            }
        }
        let Ruleset { fs, net, scoped, ports } = &mut self.ruleset;
        self.paths.iter_mut().for_each(|(_, _, access)| *access &= *fs);
        self.paths.retain(|(_, _, access)| *access != 0);
        ports.iter_mut().for_each(|(_, access)| *access &= *net);
        ports.retain(|(_, access)| *access != 0);
        (*fs, *net, *scoped) != (0, 0, 0)
    }

    /// ORDER: after the root has changed, because the paths are the container's, and after the last mount, because a
    /// process with such a ruleset cannot mount. Before the ids change: the paths are looked up as root, and
    /// landlock_restrict_self(2) may need CAP_SYS_ADMIN.
    pub(super) fn steps(&self, steps: &mut Steps) {
        let slot = steps.open(&self.at, Opening::Landlock(self.ruleset.clone()));
        if !self.paths.is_empty() {
            let files = steps.open(&self.at, Opening::FilesOfRuleset);
            for (nth, (at, path, access)) in self.paths.iter().enumerate() {
                let (path, access, absent, role) = (path.clone(), *access, self.absent, self.role);
                steps.add(at, What::Allow { ruleset: slot, path, access, absent, files, nth, role });
            }
        }
        steps.add(&self.at, What::Restrict(slot));
    }
}
