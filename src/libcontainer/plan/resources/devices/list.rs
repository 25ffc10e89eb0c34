//! A list that allows all devices or none, with exceptions. This is how version 1 describes device access (kernel:
//! security/device_cgroup.c). Also the writes that change one such list into another.

use std::collections::HashMap;

use oci_spec::runtime::LinuxDeviceType;

use super::super::write::{OnFailure, Write};
use super::rule::{Access, DEVICES, DeviceRule};
use crate::config::{At, Faults};

/// The devices that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    /// True if every device may be used that is not an exception (the kernel: DEVCG_DEFAULT_ALLOW).
    pub(super) default_allow: bool,
    pub(super) exceptions: Vec<DeviceRule>,
    /// The property of each exception, and the property of the rule for all other devices.
    ats: Vec<At>,
    at: At,
}

impl DeviceList {
    /// The result of the rules, applied one after the other.
    pub(super) fn from_rules(rules: &[(DeviceRule, At)]) -> Result<DeviceList, Faults> {
        let at = At::new(DEVICES);
        let mut list = DeviceListBuilder::new(false, at);
        let mut faults = Faults::none();
        for (rule, at) in rules {
            if rule.kind == LinuxDeviceType::A {
                list = DeviceListBuilder::new(rule.allow, at.clone());
            } else if rule.allow == list.list.default_allow {
                if let Err(problem) = list.take_back(rule) {
                    faults.add(at.clone(), problem);
                }
            } else {
                list.except(rule, at);
            }
        }
        faults.into_result(list.build())
    }

    /// True if the list allows every device.
    pub(super) fn allows_everything(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// The lines that turn `there`, the text of `devices.list`, into this list. What both lists allow stays allowed all
    /// the time: additions come before removals, and only a list that allowed everything must be emptied first.
    pub fn writes(&self, there: &str) -> Vec<Write> {
        let Some(there) = parse(there).filter(|there| !there.default_allow && !self.default_allow) else {
            // devices.list does not show the exceptions of a list that allows by default (seq_show): write all of it.
            let begin = std::iter::once(self.write(self.default_allow, "a".to_owned(), &self.at));
            let rules = self.exceptions.iter().zip(&self.ats);
            return begin
                .chain(rules.map(|(rule, at)| self.write(!self.default_allow, rule.line(rule.access), at)))
                .collect();
        };
        let by_devices = |list: &DeviceList| {
            list.exceptions.iter().map(|rule| (rule.devices(), rule.access)).collect::<HashMap<_, _>>()
        };
        let without = |rule: &DeviceRule, others: &HashMap<DeviceNumbers, Access>| {
            let other = others.get(&rule.devices()).map_or(0, |other| other.0);
            Some(Access(rule.access.0 & !other)).filter(|access| access.0 != 0)
        };
        let (here, before) = (by_devices(self), by_devices(&there));
        let more = self
            .exceptions
            .iter()
            .zip(&self.ats)
            .filter_map(|(rule, at)| without(rule, &before).map(|access| self.write(true, rule.line(access), at)));
        let less = there
            .exceptions
            .iter()
            .filter_map(|rule| without(rule, &here).map(|access| self.write(false, rule.line(access), &self.at)));
        more.chain(less).collect()
    }

    fn write(&self, allow: bool, value: String, at: &At) -> Write {
        let file = if allow { "devices.allow" } else { "devices.deny" };
        // If the parent cgroup may not use all devices, no child can be allowed all.
        let on_failure = if self.allows_everything() { OnFailure::SkipForbidden } else { OnFailure::Fail };
        Write {
            controller: "devices".to_owned(),
            file: file.to_owned(),
            value,
            on_failure,
            unless_used: None,
            at: at.clone(),
        }
    }
}

/// The devices of a rule: whether they are block devices, the major and the minor number. None means all.
type DeviceNumbers = (bool, Option<u32>, Option<u32>);

/// Makes a list rule by rule. The time for a rule does not depend on the length of the list.
struct DeviceListBuilder {
    /// An exception that was taken back stays until the end, with no access.
    list: DeviceList,
    /// The index of the exception for these devices.
    places: HashMap<DeviceNumbers, usize>,
    /// The number of exceptions for each letter of access: for a major and a minor, for one of them with any other
    /// (None), and for all.
    counts: HashMap<(bool, ExceptionGroup, ExceptionGroup), [i64; 3]>,
    /// The exceptions with a letter of access: those of one major, or all of them (None).
    having: HashMap<(bool, ExceptionGroup, u32), Vec<usize>>,
}

impl DeviceListBuilder {
    fn new(default_allow: bool, at: At) -> DeviceListBuilder {
        let list = DeviceList { default_allow, exceptions: Vec::new(), ats: Vec::new(), at };
        DeviceListBuilder { list, places: HashMap::new(), counts: HashMap::new(), having: HashMap::new() }
    }

    fn except(&mut self, rule: &DeviceRule, at: &At) {
        let n = *self.places.entry(rule.devices()).or_insert_with(|| {
            self.list.exceptions.push(DeviceRule { access: Access(0), ..rule.clone() });
            self.list.ats.push(at.clone());
            self.list.exceptions.len() - 1
        });
        self.set(n, self.list.exceptions[n].access.0 | rule.access.0);
    }

    /// Takes access away from all exceptions that the rule covers. It is an error if an exception goes beyond the rule:
    /// a list cannot express the difference.
    fn take_back(&mut self, rule: &DeviceRule) -> Result<(), String> {
        for n in self.covered(rule) {
            self.set(n, self.list.exceptions[n].access.0 & !rule.access.0);
        }
        let mut others = [0; 3];
        for (major, minor) in
            groups_of(rule.major).flat_map(|major| groups_of(rule.minor).map(move |minor| (major, minor)))
        {
            let count = self.counts.get(&(rule.kind == LinuxDeviceType::B, major, minor)).copied().unwrap_or_default();
            (0..3).for_each(|n| others[n] += count[n]);
        }
        if (0..3).any(|n| rule.access.0 & 1 << n != 0 && others[n] > 0) {
            return Err("denies a part of an earlier wildcard rule: a device list cannot express that".to_owned());
        }
        Ok(())
    }

    /// The exceptions for all or some of the rule's devices. Each is found once for each letter that it was given, so
    /// the time for all rules together grows only with the length of the list.
    fn covered(&mut self, rule: &DeviceRule) -> Vec<usize> {
        let mut all: Vec<_> = self.places.get(&rule.devices()).copied().into_iter().collect();
        let (block, major, minor) = rule.devices();
        if minor.is_none() {
            let letters = (0..3).filter(|n| rule.access.0 & 1 << n != 0);
            let group = major.map(Some);
            all.extend(letters.flat_map(|n| self.having.remove(&(block, group, n)).unwrap_or_default()));
        }
        all
    }

    fn set(&mut self, n: usize, access: u32) {
        let rule = &mut self.list.exceptions[n];
        let (block, major, minor) = rule.devices();
        let before = std::mem::replace(&mut rule.access, Access(access)).0;
        for (major, minor) in [(Some(major), Some(minor)), (Some(major), None), (None, Some(minor)), (None, None)] {
            let count = self.counts.entry((block, major, minor)).or_default();
            for (n, count) in count.iter_mut().enumerate() {
                *count += i64::from(access >> n & 1) - i64::from(before >> n & 1);
            }
        }
        for letter in (0..3).filter(|n| access & !before & 1 << n != 0) {
            for group in [None, Some(major)] {
                self.having.entry((block, group, letter)).or_default().push(n);
            }
        }
    }

    fn build(self) -> DeviceList {
        let mut list = self.list;
        let kept: Vec<_> = list.exceptions.into_iter().zip(list.ats).filter(|(rule, _)| rule.access.0 != 0).collect();
        (list.exceptions, list.ats) = kept.into_iter().unzip();
        list
    }
}

/// Exceptions with the same number (or with the same None, which means all), or with any number.
type ExceptionGroup = Option<Option<u32>>;

/// The groups of exceptions that a rule's number concerns: all of them, or those with the same number and those for all
/// numbers.
fn groups_of(number: Option<u32>) -> impl Iterator<Item = ExceptionGroup> {
    let (first, second) = match number {
        None => (None, None),
        Some(_) => (Some(number), Some(Some(None))),
    };
    std::iter::once(first).chain(second)
}

/// Parses the text of devices.list. None if it is not understood.
fn parse(text: &str) -> Option<DeviceList> {
    let mut list = DeviceListBuilder::new(false, At::default());
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "a" => {
                list.list.default_allow = true;
                continue;
            }
            "b" => LinuxDeviceType::B,
            "c" => LinuxDeviceType::C,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let access = Access::parse(words.next()?)?;
        let rule = DeviceRule { allow: true, kind, major: number(major)?, minor: number(minor)?, access };
        list.except(&rule, &At::default());
    }
    Some(list.build())
}

impl DeviceRule {
    /// The line for devices.allow.
    fn line(&self, access: Access) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        format!("{} {}:{} {}", self.kind.as_str(), number(self.major), number(self.minor), access.letters())
    }

    fn devices(&self) -> DeviceNumbers {
        (self.kind == LinuxDeviceType::B, self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT, DeviceAccess, devices};
    use super::*;
    use crate::host::cgroups::{Cgroups, Hierarchy};

    fn list(json: &str) -> DeviceList {
        let v1 = vec![Hierarchy { controllers: vec!["devices".into()], ..Hierarchy::default() }];
        let rules: Vec<_> = serde_json::from_str(json).unwrap();
        match devices(&rules, &Cgroups { v1, v2: None }).unwrap() {
            DeviceAccess::List(list) => list,
            other => panic!("{other:?}"),
        }
    }

    fn lines(list: &DeviceList, there: &str) -> Vec<String> {
        list.writes(there).iter().map(|write| format!("{} {}", &write.file["devices.".len()..], write.value)).collect()
    }

    /// The text of devices.list after these lines, as the kernel would show it.
    fn shown(list: &DeviceList) -> String {
        list.exceptions.iter().map(|rule| rule.line(rule.access) + "\n").collect()
    }

    #[test]
    fn a_new_group_begins_with_nothing_and_ends_with_the_defaults() {
        let list = list(r#"[{"allow":false},{"allow":true,"type":"c","major":10,"access":"r"}]"#);
        let lines = lines(&list, "a *:* rwm\n");
        assert_eq!(lines[..3], ["deny a", "allow c 10:* r", "allow c *:* m"]);
        assert_eq!(lines.len(), 2 + DEFAULT.len());
    }

    #[test]
    fn from_one_list_to_another_nothing_is_lost_on_the_way() {
        let one = list(
            r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},{"allow":true,"type":"b","major":8,"access":"rwm"}]"#,
        );
        let two = list(
            r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rm"},{"allow":true,"type":"c","major":1,"access":"rwm"}]"#,
        );
        assert_eq!(lines(&one, &shown(&one)), [""; 0]);
        assert_eq!(
            lines(&two, &shown(&one)),
            ["allow c 10:229 m", "allow c 1:* rwm", "deny c 10:229 w", "deny b 8:* rwm"]
        );
    }

    #[test]
    fn between_everything_and_a_list() {
        let all = list(r#"[{"allow":true}]"#);
        assert_eq!(lines(&all, "c 1:3 rwm\n"), ["allow a"]);
        assert_eq!(all.writes("c 1:3 rwm\n")[0].on_failure, OnFailure::SkipForbidden);
        let but = list(r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"rw"}]"#);
        assert_eq!(lines(&but, "a *:* rwm\n"), ["allow a", "deny b 8:* rw"]);
        assert_eq!(lines(&list("[]"), "a *:* rwm\n")[0], "deny a");
    }

    #[test]
    fn a_later_rule_takes_back_all_that_it_covers() {
        // The defaults allow mknod(2) of everything, and come after.
        let but = list(r#"[{"allow":true},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#);
        assert_eq!(lines(&but, "a *:* rwm\n"), ["allow a", "deny c 10:229 rw"]);
        let rules = r#"[{"allow":true,"type":"c","major":7,"minor":1,"access":"rw"},
            {"allow":true,"type":"c","major":8,"minor":1,"access":"r"},
            {"allow":false,"type":"c","major":7,"access":"w"},{"allow":false,"type":"b"},
            {"allow":true,"type":"c","major":7,"minor":1,"access":"w"},{"allow":false,"type":"c","access":"w"}]"#;
        assert_eq!(lines(&list(rules), &shown(&list("[]"))), ["allow c 7:1 r", "allow c 8:1 r"]);
    }

    #[test]
    fn a_repeated_rule_counts_once_and_a_revoked_rule_does_not_count() {
        let rules = r#"[{"allow":true,"type":"c","major":7,"minor":1,"access":"r"},
            {"allow":true,"type":"c","major":7,"minor":1,"access":"w"},
            {"allow":false,"type":"c","major":7,"minor":1,"access":"r"}]"#;
        assert_eq!(lines(&list(rules), &shown(&list("[]"))), ["allow c 7:1 w"]);
    }
}
