//! Everything or nothing, with exceptions: version 1's idea of device access (kernel: security/device_cgroup.c), and the
//! way from one such list to another.

use oci_spec::runtime::LinuxDeviceType;

use super::super::{OnFailure, Write};
use super::{Access, Rule};
use crate::config::{At, Faults};

/// Which devices may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub(super) open: bool,
    pub(super) exceptions: Vec<Rule>,
    /// The property behind each exception, and behind what holds for all others.
    ats: Vec<At>,
    at: At,
}

impl List {
    /// What the rules come to, one after the other.
    pub(super) fn of(rules: &[(Rule, At)]) -> Result<List, Faults> {
        let at = At::new("linux.resources.devices");
        let mut list = List { open: false, exceptions: Vec::new(), ats: Vec::new(), at };
        let mut faults = Faults::none();
        for (rule, at) in rules {
            if rule.kind == LinuxDeviceType::A {
                list = List { open: rule.allow, exceptions: Vec::new(), ats: Vec::new(), at: at.clone() };
            } else if rule.allow == list.open {
                if let Err(problem) = list.take_back(rule) {
                    faults.add(at.clone(), problem);
                }
            } else {
                list.except(rule, at);
            }
        }
        faults.into_result(list)
    }

    /// True when there is nothing to keep anybody from.
    pub(super) fn allows_everything(&self) -> bool {
        self.open && self.exceptions.is_empty()
    }

    fn except(&mut self, rule: &Rule, at: &At) {
        match self.exceptions.iter_mut().find(|there| there.same_devices(rule)) {
            Some(there) => there.access.0 |= rule.access.0,
            None => {
                self.exceptions.push(rule.clone());
                self.ats.push(at.clone());
            }
        }
    }

    fn take_back(&mut self, rule: &Rule) -> Result<(), String> {
        let hole = |there: &Rule| {
            !there.same_devices(rule)
                && there.access.0 & rule.access.0 != 0
                && there.kind == rule.kind
                && there.meets(rule)
        };
        if self.exceptions.iter().any(hole) {
            return Err("is a hole in a wildcard rule before it, which a device list cannot have".to_owned());
        }
        if let Some(n) = self.exceptions.iter().position(|there| there.same_devices(rule)) {
            self.exceptions[n].access.0 &= !rule.access.0;
            if self.exceptions[n].access.0 == 0 {
                self.exceptions.remove(n);
                self.ats.remove(n);
            }
        }
        Ok(())
    }

    /// The lines that lead here from what `devices.list` says. What both lists allow is allowed all the time: additions
    /// come before removals, and only a list that allowed everything must be emptied first.
    pub fn writes(&self, there: &str) -> Vec<Write> {
        let Some(there) = parse(there).filter(|there| !there.open && !self.open) else {
            // an open list does not show its exceptions (seq_show of devices.list): begin anew
            let begin = std::iter::once(self.write(self.open, "a".to_owned(), &self.at));
            let rules = self.exceptions.iter().zip(&self.ats);
            return begin.chain(rules.map(|(rule, at)| self.write(!self.open, rule.line(rule.access), at))).collect();
        };
        let without = |rule: &Rule, others: &[Rule]| {
            let other = others.iter().find(|other| other.same_devices(rule)).map_or(0, |other| other.access.0);
            Some(Access(rule.access.0 & !other)).filter(|access| access.0 != 0)
        };
        let more = self.exceptions.iter().zip(&self.ats).filter_map(|(rule, at)| {
            without(rule, &there.exceptions).map(|access| self.write(true, rule.line(access), at))
        });
        let less = there.exceptions.iter().filter_map(|rule| {
            without(rule, &self.exceptions).map(|access| self.write(false, rule.line(access), &self.at))
        });
        more.chain(less).collect()
    }

    fn write(&self, allow: bool, value: String, at: &At) -> Write {
        let file = if allow { "devices.allow" } else { "devices.deny" };
        // below somebody who may not use all, nobody can be allowed all
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

/// What devices.list says, where we understand it.
fn parse(text: &str) -> Option<List> {
    let mut list = List { open: false, exceptions: Vec::new(), ats: Vec::new(), at: At::default() };
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "a" => {
                list.open = true;
                continue;
            }
            "b" => LinuxDeviceType::B,
            "c" => LinuxDeviceType::C,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let access = Access::parse(words.next()?)?;
        let rule = Rule { allow: true, kind, major: number(major)?, minor: number(minor)?, access };
        list.except(&rule, &At::default());
    }
    Some(list)
}

impl Rule {
    /// As devices.allow takes it.
    fn line(&self, access: Access) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        format!("{} {}:{} {}", self.kind.as_str(), number(self.major), number(self.minor), access.letters())
    }

    fn same_devices(&self, other: &Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn meets(&self, other: &Rule) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT, DeviceAccess, devices};
    use super::*;
    use crate::host::cgroups::{Cgroups, Hierarchy};

    fn list(json: &str) -> List {
        let v1 = vec![Hierarchy { controllers: vec!["devices".into()], ..Hierarchy::default() }];
        let rules: Vec<_> = serde_json::from_str(json).unwrap();
        match devices(&rules, &Cgroups { v1, v2: None }).unwrap() {
            DeviceAccess::List(list) => list,
            other => panic!("{other:?}"),
        }
    }

    fn lines(list: &List, there: &str) -> Vec<String> {
        list.writes(there).iter().map(|write| format!("{} {}", &write.file["devices.".len()..], write.value)).collect()
    }

    /// What devices.list says after these lines, as the kernel would have it.
    fn shown(list: &List) -> String {
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
            r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},{"allow":true,"type":"b","major":8}]"#,
        );
        let two = list(
            r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rm"},{"allow":true,"type":"c","major":1}]"#,
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
    fn a_rule_given_twice_is_one_and_a_rule_taken_back_is_none() {
        let rules = r#"[{"allow":true,"type":"c","major":7,"minor":1,"access":"r"},
            {"allow":true,"type":"c","major":7,"minor":1,"access":"w"},
            {"allow":false,"type":"c","major":7,"minor":1,"access":"r"}]"#;
        assert_eq!(lines(&list(rules), &shown(&list("[]"))), ["allow c 7:1 w"]);
    }
}
