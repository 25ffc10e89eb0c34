//! What must be undone when a container's making fails, or is cut off, or when its state.json can no longer be read. It is
//! written before each of these things is made, into a file of its own, and stays there as long as the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cgroup::UnitName;

/// A process: its pid, and when it began in clock ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// As the runtime counted.
    pub pid: i32,
    /// proc_pid_stat(5), field 22.
    pub start: u64,
}

/// What an older version has noted of a container without a mount namespace: not what it has mounted, but what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MountsBelow {
    /// Its root on the host.
    pub root: PathBuf,
    /// The ids of the mounts that were below it before.
    pub before: Vec<u64>,
}

/// What must be undone. A newer version may note more: what this one does not know, it does not undo half.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Who makes the container.
    pub creator: ProcessId,
    /// Directories of cgroups that were not there, and are made next. Somebody else may have been quicker: they are
    /// removed if they are empty, and no process in them is killed.
    pub coming: BTreeMap<String, PathBuf>,
    /// Its cgroup: who is in it belongs to the container.
    pub cgroup: BTreeMap<String, PathBuf>,
    /// Its unit of systemd.
    pub unit: Option<UnitName>,
    /// Its groups in resctrl.
    pub groups: Vec<PathBuf>,
    /// Its init, where no cgroup tells it.
    pub init: Option<ProcessId>,
    /// What was mounted on the host before. This version does not write it (`container/mounted.rs`).
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

    /// The last note of the file. None when a byte is not as it was written, but for a note at the end that was cut off:
    /// the writer was killed at that moment, and the note before it is valid.
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
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A few letters that change when one of `parts` does.
///
/// # Errors
/// A path is not UTF-8.
pub(super) fn seal(parts: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_vec(parts)?;
    Ok(sum(&text)[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_or_not_at_all() {
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
