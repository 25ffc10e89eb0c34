//! A Landlock ruleset, the names of its rights, and the version of the kernel's interface (ABI) that each one needs (landlock(7)).

/// A right: its name, its bit, the ABI that it came with.
pub(super) type AccessRight = (&'static str, u64, u32);

/// The field of struct landlock_ruleset_attr that contains the rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RightsField {
    Files,
    Network,
    Scopes,
}

impl RightsField {
    pub(super) fn table(self) -> &'static [AccessRight] {
        match self {
            RightsField::Files => &FS,
            RightsField::Network => &NET,
            RightsField::Scopes => &SCOPES,
        }
    }
}

/// LANDLOCK_ACCESS_FS_*, in the order of the bits.
pub(super) const FS: [AccessRight; 17] = [
    ("execute", 1, 1),
    ("write_file", 1 << 1, 1),
    ("read_file", 1 << 2, 1),
    ("read_dir", 1 << 3, 1),
    ("remove_dir", 1 << 4, 1),
    ("remove_file", 1 << 5, 1),
    ("make_char", 1 << 6, 1),
    ("make_dir", 1 << 7, 1),
    ("make_reg", 1 << 8, 1),
    ("make_sock", 1 << 9, 1),
    ("make_fifo", 1 << 10, 1),
    ("make_block", 1 << 11, 1),
    ("make_sym", 1 << 12, 1),
    ("refer", 1 << 13, 2),
    ("truncate", 1 << 14, 3),
    ("ioctl_dev", 1 << 15, 5),
    ("resolve_unix", 1 << 16, 9),
];

/// LANDLOCK_ACCESS_NET_*.
pub(super) const NET: [AccessRight; 2] = [("bind_tcp", 1, 4), ("connect_tcp", 1 << 1, 4)];

/// LANDLOCK_SCOPE_*.
pub(super) const SCOPES: [AccessRight; 2] = [("abstract_unix_socket", 1, 6), ("signal", 1 << 1, 6)];

/// execute, read_file, read_dir.
const READ_EXECUTE: u64 = 0b1101;

/// The newest ABI that this table knows.
pub(super) const NEWEST: u32 = 10;

/// The first kernel of each ABI, from 1 on.
const KERNELS: [&str; 7] = ["5.13", "5.19", "6.2", "6.7", "6.10", "6.12", "6.15"];

/// The meaning of a word of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One right.
    Right(u64),
    /// The rights of a group, such as `v5.read_execute`.
    Group(u64),
}

impl Word {
    /// Reads a word. `abi` is the version that `abi.` stands for. None if the word is unknown.
    pub(super) fn read(word: &str, field: RightsField, abi: Option<u32>) -> Option<Word> {
        let table = field.table();
        if let Some((_, bit, _)) = table.iter().find(|(name, ..)| *name == word) {
            return Some(Word::Right(*bit));
        }
        let (version, group) = word.split_once('.')?;
        let version = match version {
            "abi" => abi?,
            other => other.strip_prefix('v')?.parse().ok().filter(|version| (1..=NEWEST).contains(version))?,
        };
        let all = supported(table, version);
        let files = field == RightsField::Files;
        match group {
            "all" => Some(Word::Group(all)),
            "read_execute" if files => Some(Word::Group(all & READ_EXECUTE)),
            // all but execute
            "read_write" if files => Some(Word::Group(all & !1)),
            _ => None,
        }
    }

    pub(super) fn bits(self) -> u64 {
        match self {
            Word::Right(bits) | Word::Group(bits) => bits,
        }
    }
}

/// The rights of a table that this ABI knows.
pub(super) fn supported(table: &[AccessRight], abi: u32) -> u64 {
    table.iter().filter(|(_, _, since)| *since <= abi).map(|(_, bit, _)| bit).sum()
}

/// The names of these bits.
pub(super) fn names(table: &'static [AccessRight], bits: u64) -> impl Iterator<Item = &'static str> {
    table.iter().filter(move |(_, bit, _)| bits & bit != 0).map(|(name, ..)| *name)
}

/// `Landlock ABI 5 (Linux 6.10)`.
pub(super) fn abi_text(abi: u32) -> String {
    let kernel = (abi as usize).checked_sub(1).and_then(|n| KERNELS.get(n));
    kernel.map_or_else(|| format!("Landlock ABI {abi}"), |kernel| format!("Landlock ABI {abi} (Linux {kernel})"))
}

/// The rights that a ruleset restricts, and the ports that it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The handled rights over files: LANDLOCK_ACCESS_FS_*.
    pub fs: u64,
    /// The handled rights over the network: LANDLOCK_ACCESS_NET_*.
    pub net: u64,
    /// LANDLOCK_SCOPE_*.
    pub scoped: u64,
    /// TCP ports, and the rights that are allowed.
    pub ports: Vec<(u16, u64)>,
}

/// The names of rights over files.
pub(super) fn fs_names(bits: u64) -> Vec<&'static str> {
    names(&FS, bits).collect()
}

impl std::fmt::Display for Ruleset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("landlock ruleset")?;
        let handled = names(&FS, self.fs).chain(names(&NET, self.net));
        let handled = handled.chain(names(&SCOPES, self.scoped)).collect::<Vec<_>>();
        write!(f, " for {}", handled.join(","))?;
        for (port, access) in &self.ports {
            write!(f, ", {} on port {port}", names(&NET, *access).collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_right_or_a_group_of_a_version() {
        let fs = |word| Word::read(word, RightsField::Files, Some(2));
        assert_eq!(fs("refer"), Some(Word::Right(1 << 13)));
        assert_eq!(fs("v1.all"), Some(Word::Group((1 << 13) - 1)));
        assert_eq!(fs("abi.all"), Some(Word::Group((1 << 14) - 1)));
        assert_eq!(fs("v5.read_execute"), Some(Word::Group(0b1101)));
        assert_eq!(fs("v1.read_write"), Some(Word::Group((1 << 13) - 2)));
        for unknown in ["", "REFER", "v0.all", "v11.all", "v1.none", "all", "x.all", "v1.", "."] {
            assert_eq!(fs(unknown), None, "{unknown}");
        }
        assert_eq!(Word::read("abi.all", RightsField::Files, None), None);
        assert_eq!(Word::read("v4.all", RightsField::Network, None), Some(Word::Group(3)));
        assert_eq!(Word::read("v4.read_execute", RightsField::Network, None), None);
    }

    #[test]
    fn a_version_is_printed_with_its_kernel_if_that_is_known() {
        assert_eq!(abi_text(5), "Landlock ABI 5 (Linux 6.10)");
        assert_eq!(abi_text(9), "Landlock ABI 9");
    }
}
