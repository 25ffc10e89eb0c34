//! The words of `mounts[].options`: flags of the mount, flags of the superblock, propagation, and options of the file
//! system itself. SPEC: config.md#linux-mount-options, mount(8), mount_setattr(2).

use std::ffi::{CStr, CString};

use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::step::{MountChange, Setting};
use crate::config::{At, Faults, Warning, is_near};
use crate::sys::mount::{Attributes, Reach};

/// All options of one mount, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// MOUNT_ATTR_* flags to set on the mount.
    pub set: u64,
    /// MOUNT_ATTR_* flags to clear on it. To set a field with several bits (atime), all its bits are cleared first.
    pub clear: u64,
    /// Flags to set on it and on all mounts below (`rro`, `rnosuid`, …).
    pub set_recursive: u64,
    /// Flags to clear on it and on all mounts below.
    pub clear_recursive: u64,
    /// Flags of the superblock, with the names of fsconfig(2).
    pub superblock: Vec<&'static str>,
    /// Changes of propagation, in order.
    pub propagation: Vec<PropagationChange>,
    /// `bind` or `rbind`.
    pub bind: Option<Reach>,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `idmap` or `ridmap`.
    pub idmap: Option<Reach>,
    /// What happens to symbolic links at both ends of a bind mount.
    pub links: Links,
    /// Options of the file system itself, in order.
    pub data: Vec<(String, Option<String>)>,
}

/// One change of propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropagationChange {
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
    pub kind: u64,
    /// Which mounts it changes.
    pub reach: Reach,
}

/// crun's options for symbolic links at the ends of a bind mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// `src-nofollow`: if the source is a symbolic link, the link itself is bound.
    pub source_itself: bool,
    /// `dest-nofollow`: if the destination is a symbolic link, the mount covers the link itself.
    pub destination_itself: bool,
    /// `copy-symlink`: if the source is a symbolic link, the same link is made at the destination.
    pub copied: bool,
}

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;

/// Word, MOUNT_ATTR_* to set, MOUNT_ATTR_* to clear. The word with an `r` before it is recursive.
const FLAGS: [(&str, u64, u64); 18] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
    // The atime field is one value: all its bits are cleared before some are set (mount_setattr(2)).
    ("noatime", NOATIME, ATIME),
    ("atime", RELATIME, ATIME),
    ("relatime", RELATIME, ATIME),
    // This word only undoes a `relatime` before it (`is_undone`).
    ("norelatime", 0, 0),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", RELATIME, ATIME),
];
/// Flags of the superblock that fsconfig(2) knows: word, flag for mount(2). A word without a flag undoes the one above it.
const SUPERBLOCK: [(&str, u64); 7] = [
    ("sync", libc::MS_SYNCHRONOUS),
    ("async", 0),
    ("dirsync", libc::MS_DIRSYNC),
    ("lazytime", MS_LAZYTIME),
    ("nolazytime", 0),
    ("mand", libc::MS_MANDLOCK),
    ("nomand", 0),
];
/// The libc crate does not have it.
const MS_LAZYTIME: u64 = 1 << 25;
/// Words without an effect. fsconfig(2) has no names for the first four: today's file systems count versions by
/// themselves, and the kernel's log does not concern the mount.
const WITHOUT_EFFECT: [&str; 6] = ["iversion", "noiversion", "silent", "loud", "defaults", "nofail"];
/// Word, kind of propagation. The word with an `r` before it is recursive.
pub(super) const PROPAGATION: [(&str, u64); 4] = [
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];
const WORDS: [&str; 9] =
    ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "src-nofollow", "dest-nofollow", "copy-symlink"];

/// Parses `options`. `at` is their place.
///
/// For a bind mount, options that only a file system could use are ignored with a warning: mount(2) never looks at
/// them, so working configs contain them.
pub fn parse(options: &[String], at: &At) -> (MountOptions, Vec<Warning>) {
    let mut parsed = MountOptions::default();
    let mut data_at = Vec::new();
    // mount(8) accepts several options in one string. `context="a,b"` keeps its commas.
    let mut words = options.iter().enumerate().flat_map(|(n, option)| split(option).map(move |word| (n, word)));
    while let Some((n, word)) = words.next() {
        if is_undone(word, words.clone().map(|(_, later)| later)) || parsed.takes(word) {
            continue;
        }
        parsed.data.push(match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.trim_matches('"').to_owned())),
            None => (word.to_owned(), None),
        });
        data_at.push(at.index(n));
    }
    let mut warnings = Vec::new();
    if parsed.bind.is_some() {
        for ((key, _), at) in parsed.data.drain(..).zip(data_at) {
            let hint = suggestion(&key).map_or(String::new(), |meant| format!(": did you mean {meant:?}?"));
            let said = format!("{key:?} has no effect: a bind mount has no file system options{hint}");
            warnings.push(Warning { at, said });
        }
    }
    (parsed, warnings)
}

/// The option of a bind mount that a word without effect was meant for. The words of engines are longer.
fn suggestion(word: &str) -> Option<&'static str> {
    match word {
        "readonly" | "read-only" => return Some("ro"),
        "readwrite" | "read-write" => return Some("rw"),
        _ if word.len() < 4 => return None,
        _ => {}
    }
    let flags = FLAGS.iter().map(|(word, ..)| *word);
    let changes = PROPAGATION.iter().map(|(word, _)| *word).chain(["rshared", "rslave", "rprivate", "runbindable"]);
    flags.chain(changes).find(|known| *known != word && is_near(known, word))
}

/// True for a `relatime` that a later `norelatime` takes back. The mount keeps the atime flag that it had before, as with
/// mount(8).
fn is_undone<'o>(word: &str, mut later: impl Iterator<Item = &'o str>) -> bool {
    let by = match word {
        "relatime" => "norelatime",
        "rrelatime" => "rnorelatime",
        _ => return false,
    };
    later.any(|word| word == by)
}

/// The parts between commas. Commas in quotes do not count.
fn split(option: &str) -> impl Iterator<Item = &str> + Clone {
    let mut quoted = false;
    option
        .split(move |c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .filter(|part| !part.is_empty())
}

impl MountOptions {
    /// The superblock's flags and the file system's own options, for fsconfig(2). `at` is their place.
    ///
    /// # Errors
    /// A NUL byte.
    pub(super) fn settings(&self, at: &At) -> Result<Vec<Setting>, Faults> {
        let c =
            |text: &str| CString::new(text).map_err(|_| Faults::one(at.clone(), format!("{text:?} has a NUL byte")));
        let flags = self.superblock.iter().map(|flag| Ok((c(flag)?, None)));
        let own = self.data.iter().map(|(key, value)| Ok((c(key)?, value.as_deref().map(c).transpose()?)));
        flags.chain(own).collect()
    }

    /// The change of the flags of the mount alone, if there is one.
    pub(super) fn own_change(&self) -> Option<MountChange> {
        let attributes = Attributes::changing(self.set, self.clear);
        (self.set | self.clear != 0).then_some(MountChange { attributes, reach: Reach::One })
    }

    /// The changes of a detached mount before it is attached: flags of the whole tree, then each propagation in order.
    pub(super) fn changes(&self) -> Vec<MountChange> {
        let mut list = Vec::new();
        if self.set_recursive | self.clear_recursive != 0 {
            let attributes = Attributes::changing(self.set_recursive, self.clear_recursive);
            list.push(MountChange { attributes, reach: Reach::Tree });
        }
        for PropagationChange { kind, reach } in &self.propagation {
            list.push(MountChange { attributes: Attributes::propagating(*kind), reach: *reach });
        }
        list
    }

    /// True if the ids of `mount`, which has these options, go through maps.
    pub(super) fn maps_ids(&self, mount: &Mount) -> bool {
        let given = |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|list| !list.is_empty());
        self.idmap.is_some() || given(mount.uid_mappings()) || given(mount.gid_mappings())
    }

    /// True for a bind mount, by an option or by the type. `bind` beside `remount` needs no source (mount(2)).
    pub fn binds(&self, fstype: Option<&str>) -> bool {
        !self.remount && (self.bind.is_some() || fstype == Some("bind"))
    }

    /// True if `option` is a word of the specification. It is then recorded.
    fn takes(&mut self, option: &str) -> bool {
        if let Some((_, set, clear)) = FLAGS.iter().find(|(word, ..)| *word == option) {
            self.clear = self.clear & !set | clear;
            self.set = self.set & !clear | set;
            return true;
        }
        let recursive = option.strip_prefix('r');
        if let Some((_, set, clear)) = FLAGS.iter().find(|(word, ..)| Some(*word) == recursive) {
            self.clear_recursive = self.clear_recursive & !set | clear;
            self.set_recursive = self.set_recursive & !clear | set;
            return true;
        }
        if let Some((word, _)) = SUPERBLOCK.iter().find(|(word, _)| *word == option) {
            self.superblock.push(word);
            return true;
        }
        if let Some(change) = propagation(option) {
            self.propagation.push(change);
            return true;
        }
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(Reach::One)),
            "rbind" => self.bind = Some(Reach::Tree),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(Reach::One),
            "ridmap" => self.idmap = Some(Reach::Tree),
            "src-nofollow" => self.links.source_itself = true,
            "dest-nofollow" => self.links.destination_itself = true,
            "copy-symlink" => self.links.copied = true,
            other => return WITHOUT_EFFECT.contains(&other),
        }
        true
    }
}

/// The words for these MOUNT_ATTR_* flags. The word for the atime field comes last. `relatime` is the default, and has
/// no word here.
pub(super) fn words_that_set(attributes: u64) -> impl Iterator<Item = &'static str> {
    let flags = FLAGS.iter().filter(|(_, set, clear)| *set != 0 && *clear == 0);
    let atime = FLAGS.iter().filter(|(_, set, clear)| *set != 0 && *clear == ATIME);
    let flags = flags.filter(move |(_, set, _)| attributes & set != 0);
    flags.chain(atime.filter(move |(_, set, _)| attributes & ATIME == *set)).map(|(word, ..)| *word)
}

/// The flag of mount(2) for a flag of the superblock, by its name for fsconfig(2).
pub(super) fn superblock_flag(name: &CStr) -> Option<u64> {
    let known = |(word, _): &&(&str, u64)| word.as_bytes() == name.to_bytes();
    if name == c"ro" { Some(libc::MS_RDONLY) } else { SUPERBLOCK.iter().find(known).map(|(_, flag)| *flag) }
}

/// Every word that this parser knows, sorted, for `features`.
pub fn known_options() -> Vec<String> {
    let flags = FLAGS.iter().flat_map(|(word, ..)| [(*word).to_owned(), format!("r{word}")]);
    let propagation = PROPAGATION.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let others = SUPERBLOCK.iter().map(|(word, _)| *word).chain(WORDS).chain(WITHOUT_EFFECT).map(str::to_owned);
    let mut all: Vec<_> = flags.chain(propagation).chain(others).collect();
    all.sort_unstable();
    all
}

/// `linux.rootfsPropagation`. The word without an `r` is for the mount on `/` alone (mount(2) without MS_REC). The words
/// with an `r` are runc's extension.
///
/// # Errors
/// An unknown word.
pub fn rootfs_propagation(word: &str, at: &At) -> Result<PropagationChange, Faults> {
    propagation(word).ok_or_else(|| {
        let said =
            format!("unknown propagation {word:?} (expected one of shared, slave, private, unbindable, or one of these after an r)");
        Faults::one(at.clone(), said)
    })
}

fn propagation(word: &str) -> Option<PropagationChange> {
    let kind = |word: &str| PROPAGATION.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind);
    let alone = kind(word).map(|kind| PropagationChange { kind, reach: Reach::One });
    let below = || kind(word.strip_prefix('r')?).map(|kind| PropagationChange { kind, reach: Reach::Tree });
    alone.or_else(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> MountOptions {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        parse(&options, &At::new("mounts[0].options")).0
    }

    #[test]
    fn flags_set_and_clear_and_the_last_one_wins() {
        assert_eq!(parsed(&["ro", "nosuid"]).set, RDONLY | NOSUID);
        let undone = parsed(&["ro", "rw"]);
        assert_eq!((undone.set, undone.clear), (0, RDONLY));
        let again = parsed(&["rw", "ro"]);
        assert_eq!((again.set, again.clear), (RDONLY, 0));
        let strict = parsed(&["strictatime"]);
        assert_eq!((strict.set, strict.clear), (STRICTATIME, ATIME));
        let recursive = parsed(&["rro", "rsuid", "rnoatime"]);
        assert_eq!((recursive.set_recursive, recursive.clear_recursive), (RDONLY | NOATIME, NOSUID | ATIME));
    }

    #[test]
    fn norelatime_takes_relatime_back_and_nothing_else() {
        for (options, set, clear) in [
            (&["relatime", "norelatime"][..], 0, 0),
            (&["relatime,ro,norelatime"], RDONLY, 0),
            (&["noatime", "relatime", "norelatime"], NOATIME, ATIME),
            (&["noatime", "norelatime"], NOATIME, ATIME),
            (&["norelatime", "relatime"], RELATIME, ATIME),
        ] {
            let parsed = parsed(options);
            assert_eq!((parsed.set, parsed.clear), (set, clear), "{options:?}");
        }
        assert_eq!(parsed(&["rrelatime", "rnorelatime"]).clear_recursive, 0);
    }

    #[test]
    fn rbind_and_relatime_are_not_parsed_as_recursive_flags() {
        assert_eq!(parsed(&["rbind", "bind"]).bind, Some(Reach::Tree));
        assert_eq!(parsed(&["relatime"]).set_recursive, 0);
        assert_eq!(parsed(&["remount"]).data, []);
    }

    #[test]
    fn propagation_keeps_its_order() {
        let options = parsed(&["rshared", "private"]);
        assert_eq!(
            options.propagation,
            [
                PropagationChange { kind: libc::MS_SHARED, reach: Reach::Tree },
                PropagationChange { kind: libc::MS_PRIVATE, reach: Reach::One }
            ]
        );
    }

    #[test]
    fn what_is_not_ours_is_the_file_systems() {
        let options = parsed(&["size=65536k,mode=755", "context=\"a:b,c\"", "lowerdir=/a:/b", "nr_inodes=1"]);
        let data: Vec<_> = options.data.iter().map(|(k, v)| (k.as_str(), v.as_deref().unwrap_or(""))).collect();
        assert_eq!(
            data,
            [("size", "65536k"), ("mode", "755"), ("context", "a:b,c"), ("lowerdir", "/a:/b"), ("nr_inodes", "1")]
        );
    }

    #[test]
    fn a_bind_mount_takes_no_file_system_options() {
        let (options, warnings) = parse(&["bind".into(), "size=1k".into()], &At::new("mounts[2].options"));
        assert_eq!(options.data, []);
        assert!(warnings[0].to_string().contains("mounts[2].options[1]: \"size\" has no effect"), "{warnings:?}");
        for (word, meant) in
            [("readonly", Some("ro")), ("rslav", Some("rslave")), ("nosuidd", Some("nosuid")), ("z", None)]
        {
            let (_, warnings) = parse(&["bind".into(), word.into()], &At::new("mounts[2].options"));
            let hint = meant.map_or("options".to_owned(), |meant| format!("did you mean {meant:?}?"));
            assert!(warnings[0].said.ends_with(&hint), "{warnings:?}");
        }
    }

    #[test]
    fn the_propagation_of_the_root_is_for_one_mount_or_with_an_r_for_all() {
        let read = |word| rootfs_propagation(word, &At::new("linux.rootfsPropagation")).ok();
        assert_eq!(read("rslave"), Some(PropagationChange { kind: libc::MS_SLAVE, reach: Reach::Tree }));
        assert_eq!(read("slave"), Some(PropagationChange { kind: libc::MS_SLAVE, reach: Reach::One }));
        assert_eq!(read("sometimes"), None);
    }
}
