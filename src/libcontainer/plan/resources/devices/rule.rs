//! One device rule, and the access that it allows or denies.

use oci_spec::runtime::LinuxDeviceType;

/// The place of the rules.
pub const DEVICES: &str = "linux.resources.devices";

/// One rule, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub(super) allow: bool,
    pub(super) kind: LinuxDeviceType,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

/// r, w and m, with the kernel's bits (linux/bpf.h: BPF_DEVCG_ACC_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub(super) u32);

impl Access {
    pub(super) const ALL: Access = Access(7);
    /// Making nodes.
    pub(super) const MKNOD: Access = Access(1);

    pub(super) fn parse(text: &str) -> Option<Access> {
        text.chars()
            .try_fold(0, |bits, c| Some(bits | [('m', 1), ('r', 2), ('w', 4)].iter().find(|(l, _)| *l == c)?.1))
            .map(Access)
    }

    pub(super) fn letters(self) -> String {
        [('r', 2), ('w', 4), ('m', 1)].iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| *letter).collect()
    }
}
