//! The features of each release of CRIU.

use std::fmt;

use super::rpc::VersionAnswer;
use crate::error::{Result, bail};

/// A release of CRIU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CriuVersion {
    major: i32,
    minor: i32,
    patch: i32,
}

impl CriuVersion {
    /// The release with these numbers.
    pub const fn new(major: i32, minor: i32, patch: i32) -> CriuVersion {
        CriuVersion { major, minor, patch }
    }

    /// Checks that this release has a feature.
    ///
    /// # Errors
    /// It is too old.
    pub fn must_have(self, need: CriuFeature) -> Result<()> {
        let (least, what) = need.since();
        if self < least {
            bail!("criu {least} or newer is needed for {what}; this is {self}");
        }
        Ok(())
    }
}

impl From<&VersionAnswer> for CriuVersion {
    /// CRIU's own version. A build from git is newer than the release in its version.
    fn from(answer: &VersionAnswer) -> CriuVersion {
        let (major, minor) = (answer.major_number, answer.minor_number);
        match answer.gitid.as_deref() {
            None | Some("" | "0") => CriuVersion::new(major, minor, answer.sublevel.unwrap_or(0)),
            Some(_) => CriuVersion::new(major, minor + 1, 0),
        }
    }
}

impl fmt::Display for CriuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

/// A feature that not every CRIU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CriuFeature {
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

impl CriuFeature {
    /// The first release with it, and its name.
    fn since(self) -> (CriuVersion, &'static str) {
        match self {
            CriuFeature::Anything => (CriuVersion::new(3, 0, 0), "checkpoint and restore"),
            CriuFeature::NetworkNamespace => {
                (CriuVersion::new(3, 11, 0), "a network namespace that is joined by its path")
            }
            CriuFeature::PidNamespace => (CriuVersion::new(3, 15, 0), "a pid namespace that is joined by its path"),
            CriuFeature::OtherNamespaces => (CriuVersion::new(3, 16, 1), "a namespace that is joined by its path"),
            CriuFeature::UnifiedFreezer => (CriuVersion::new(3, 14, 0), "the freezer of cgroup version 2"),
            CriuFeature::Terminal => (CriuVersion::new(3, 15, 0), "a terminal"),
            CriuFeature::StatusFd => (CriuVersion::new(3, 15, 0), "Dump::status"),
            CriuFeature::LsmProfile => (CriuVersion::new(3, 16, 0), "RestoreFrom::lsm_profile"),
            CriuFeature::LsmMountContext => (CriuVersion::new(3, 16, 0), "RestoreFrom::lsm_mount_context"),
            CriuFeature::NetworkLock => (CriuVersion::new(3, 17, 0), "Images::network_lock"),
            CriuFeature::TcpClose => (CriuVersion::new(3, 12, 0), "Allow::TcpClose"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_is_too_old_is_reported_with_the_feature() {
        let old = CriuVersion::new(3, 9, 0);
        let said = old.must_have(CriuFeature::NetworkNamespace).unwrap_err().to_string();
        assert_eq!(
            said,
            "criu 3.11 or newer is needed for a network namespace that is joined by its path; this is 3.9"
        );
        let said = CriuVersion::new(3, 16, 0).must_have(CriuFeature::OtherNamespaces).unwrap_err().to_string();
        assert!(said.contains("criu 3.16.1 or newer"), "{said}");
        assert!(CriuVersion::new(4, 1, 1).must_have(CriuFeature::NetworkLock).is_ok());
        assert!(CriuVersion::new(3, 17, 1).must_have(CriuFeature::NetworkLock).is_ok());
    }

    #[test]
    fn a_build_from_git_is_newer_than_its_release() {
        let answer = |gitid: Option<&str>| VersionAnswer {
            major_number: 3,
            minor_number: 15,
            gitid: gitid.map(str::to_owned),
            sublevel: Some(2),
        };
        assert_eq!(CriuVersion::from(&answer(None)), CriuVersion::new(3, 15, 2));
        assert_eq!(CriuVersion::from(&answer(Some("v3.15-7-gabc"))), CriuVersion::new(3, 16, 0));
    }
}
