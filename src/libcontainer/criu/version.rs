//! The features of each release of CRIU.

use std::fmt;

use super::rpc::VersionAnswer;
use crate::error::{Result, bail};

/// A release of CRIU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: i32,
    minor: i32,
    patch: i32,
}

impl Version {
    /// The release with these numbers.
    pub const fn new(major: i32, minor: i32, patch: i32) -> Version {
        Version { major, minor, patch }
    }

    /// CRIU's own version. A build from git is newer than the release in its version.
    pub(super) fn of(answer: &VersionAnswer) -> Version {
        let from_git = answer.gitid.as_deref().is_some_and(|id| !id.is_empty() && id != "0");
        let Version { major, minor, patch } =
            Version::new(answer.major_number, answer.minor_number, answer.sublevel.unwrap_or(0));
        if from_git { Version::new(major, minor + 1, 0) } else { Version { major, minor, patch } }
    }

    /// # Errors
    /// The error for a CRIU that is too old for a feature.
    pub fn must_have(self, need: Need) -> Result<()> {
        let (least, what) = need.of();
        if self < least {
            bail!("criu {least} or newer is needed for {what}; this is {self}");
        }
        Ok(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

/// A feature that not every CRIU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Messages, and the version as a message.
    Anything,
    /// A network namespace that is joined by path.
    NetworkNamespace,
    /// A pid namespace that is joined by path.
    PidNamespace,
    /// Other namespaces that are joined by path.
    OtherNamespaces,
    /// The freezer of cgroup version 2.
    UnifiedFreezer,
    /// A terminal with a master outside of the container.
    Terminal,
    /// `--status-fd`.
    StatusFd,
    /// `--lsm-profile`.
    LsmProfile,
    /// `--lsm-mount-context`.
    LsmMountContext,
    /// `--network-lock`.
    NetworkLock,
    /// `--tcp-close`.
    TcpClose,
}

impl Need {
    /// The first release with it, and its name.
    fn of(self) -> (Version, &'static str) {
        match self {
            Need::Anything => (Version::new(3, 0, 0), "checkpoint and restore"),
            Need::NetworkNamespace => (Version::new(3, 11, 0), "a network namespace that is joined by its path"),
            Need::PidNamespace => (Version::new(3, 15, 0), "a pid namespace that is joined by its path"),
            Need::OtherNamespaces => (Version::new(3, 16, 1), "a namespace that is joined by its path"),
            Need::UnifiedFreezer => (Version::new(3, 14, 0), "the freezer of cgroup version 2"),
            Need::Terminal => (Version::new(3, 15, 0), "a terminal"),
            Need::StatusFd => (Version::new(3, 15, 0), "--status-fd"),
            Need::LsmProfile => (Version::new(3, 16, 0), "--lsm-profile"),
            Need::LsmMountContext => (Version::new(3, 16, 0), "--lsm-mount-context"),
            Need::NetworkLock => (Version::new(3, 17, 0), "--network-lock"),
            Need::TcpClose => (Version::new(3, 12, 0), "--tcp-close"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_told_with_what_needs_it() {
        let old = Version::new(3, 9, 0);
        let said = old.must_have(Need::NetworkNamespace).unwrap_err().to_string();
        assert_eq!(
            said,
            "criu 3.11 or newer is needed for a network namespace that is joined by its path; this is 3.9"
        );
        let said = Version::new(3, 16, 0).must_have(Need::OtherNamespaces).unwrap_err().to_string();
        assert!(said.contains("criu 3.16.1 or newer"), "{said}");
        assert!(Version::new(4, 1, 1).must_have(Need::NetworkLock).is_ok());
        assert!(Version::new(3, 17, 1).must_have(Need::NetworkLock).is_ok());
    }

    #[test]
    fn a_build_from_git_is_newer_than_its_release() {
        let answer = |gitid: Option<&str>| VersionAnswer {
            major_number: 3,
            minor_number: 15,
            gitid: gitid.map(str::to_owned),
            sublevel: Some(2),
        };
        assert_eq!(Version::of(&answer(None)), Version::new(3, 15, 2));
        assert_eq!(Version::of(&answer(Some("v3.15-7-gabc"))), Version::new(3, 16, 0));
    }
}
