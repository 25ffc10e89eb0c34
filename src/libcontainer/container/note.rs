//! The objects to undo when a container cannot be completed, or when its state.json can no longer be read. The note is
//! written before each object is made, to a separate file, which exists as long as the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cgroup::UnitName;
use crate::printable::hex;

/// A process: its pid, and its start time in clock ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// In the pid namespace of the runtime.
    pub pid: i32,
    /// proc_pid_stat(5), field 22.
    pub start: u64,
}

/// The note of an older version about a container without a mount namespace: the mounts that existed before, and not
/// its own mounts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MountsBelow {
    /// Its root on the host.
    pub root: PathBuf,
    /// The ids of the mounts that existed below the root before.
    pub before: Vec<u64>,
}

/// The objects to undo. A newer version may write more members. Then this version undoes nothing, because it would undo only
/// a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The process that makes the container.
    pub creator: ProcessId,
    /// Directories of cgroups that did not exist, and are made next. Another process may have made them first. So they
    /// are removed only if they are empty, and no process in them is killed.
    pub coming: BTreeMap<String, PathBuf>,
    /// Its cgroup: the processes in it belong to the container.
    pub cgroup: BTreeMap<String, PathBuf>,
    /// Its systemd unit.
    pub unit: Option<UnitName>,
    /// Its groups in resctrl.
    pub groups: Vec<PathBuf>,
    /// Its init, if it has no cgroup.
    pub init: Option<ProcessId>,
    /// The mounts of the host before. This version does not write this member (`container/mounted.rs`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<MountsBelow>,
}

impl Note {
    /// The file: a line of JSON, and a line with the SHA-256 of the first.
    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        let sum = sum(&text);
        text.push(b'\n');
        text.extend_from_slice(sum.as_bytes());
        text.push(b'\n');
        Ok(text)
    }

    /// The last note of the file. None if a byte has changed. A cut note at the end is ignored: the writer was killed
    /// at that moment, and the note before it is valid.
    pub(super) fn decode(text: &[u8]) -> Option<Note> {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let mut last = None;
        while let (Some(line), Some(seal)) = (lines.next(), lines.next()) {
            let Some(seal) = seal.strip_suffix(b"\n") else { break };
            let line = line.strip_suffix(b"\n")?;
            if seal != sum(line).as_bytes() {
                return None;
            }
            last = Some(line);
        }
        serde_json::from_slice(last?).ok()
    }
}

fn sum(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

/// A checksum that changes if one of `parts` changes.
///
/// # Errors
/// A path is not UTF-8.
pub(super) fn seal(parts: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_vec(parts)?;
    Ok(hex(&Sha256::digest(&text)[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_written_or_refused() {
        let paths = BTreeMap::from([("pids".to_owned(), PathBuf::from("/sys/fs/cgroup/pids/x"))]);
        let note = Note { cgroup: paths, init: Some(ProcessId { pid: 7, start: 9 }), ..Note::default() };
        let text = note.encode().unwrap();
        assert_eq!(Note::decode(&text), Some(note));
        let earlier = Note::default();
        let both = [earlier.encode().unwrap(), text.clone()].concat();
        assert_eq!(Note::decode(&both), Note::decode(&text));
        for length in 0..text.len() {
            assert_eq!(Note::decode(&text[..length]), None, "{length}");
            assert_eq!(Note::decode(&both[..both.len() - text.len() + length]), Some(earlier.clone()), "{length}");
            let mut other = text.clone();
            other[length] ^= 1;
            assert_eq!(Note::decode(&other), None, "{length}");
        }
        let more = br#"{"creator":{"pid":1,"start":1},"coming":{},"cgroup":{},"unit":null,"groups":[],"init":null,"mounts":null,"more":1}"#;
        let text = [&more[..], b"\n", sum(more).as_bytes(), b"\n"].concat();
        assert_eq!(Note::decode(&text), None);
    }
}
