//! Values that several properties share: texts for the kernel, paths, ids, lists of numbers.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::notes::Notes;
use crate::config::At;
use crate::host::cpu_list;

/// A C string, or a fault.
pub(super) fn c_string(text: &str, at: &At, notes: &mut Notes) -> Option<CString> {
    CString::new(text).map_err(|_| notes.fault(at, format!("{text:?} has a NUL byte"))).ok()
}

/// A path as a C string, or a fault.
pub(super) fn c_path(path: &Path, at: &At, notes: &mut Notes) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| notes.fault(at, format!("{path:?} has a NUL byte"))).ok()
}

/// A fault for -1, which calls with an id as argument do not take as an id.
pub(super) fn must_be_an_id(id: u32, at: &At, notes: &mut Notes) {
    if id == u32::MAX {
        notes.fault(at, format!("{id} is not an id: to the kernel it means \"unchanged\""));
    }
}

/// `path` relative to the root. `..` is resolved in the text, and never leads above the root. The root itself is the
/// empty path.
pub(crate) fn inside(path: &Path) -> PathBuf {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::ParentDir => drop(inside.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    inside
}

/// The same as text, with `.` for the root.
pub(super) fn clean(path: &Path) -> String {
    let inside = inside(path);
    if inside.as_os_str().is_empty() { ".".to_owned() } else { inside.to_string_lossy().into_owned() }
}

/// The highest number of a list, plus one: a mask of 1 KiB.
const MASK_BITS: usize = 8192;

/// A list such as `0-3,7` (cpuset(7), "List format") as a bit mask, the lowest first. None if the syntax is wrong.
pub(super) fn bitmap(list: &str) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for bit in cpu_list::ranges(list)?.into_iter().flatten().map(usize::from) {
        if bit >= MASK_BITS {
            return None;
        }
        if mask.len() <= bit / 64 {
            mask.resize(bit / 64 + 1, 0);
        }
        mask[bit / 64] |= 1 << (bit % 64);
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_mask_lowest_first() {
        assert_eq!(bitmap("0-3,7"), Some(vec![0b1000_1111]));
        assert_eq!(bitmap("64"), Some(vec![0, 1]));
        assert_eq!(bitmap(""), Some(vec![]));
        assert_eq!(bitmap(" 1 , 2-2 "), Some(vec![0b110]));
        for bad in ["x", "3-1", "-1", "1-", "99999"] {
            assert_eq!(bitmap(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_destination_never_climbs_above_the_root() {
        for (given, wanted) in
            [("/a/b", "a/b"), ("a//b/", "a/b"), ("/../../x", "x"), ("/a/../b/./c", "b/c"), ("/", "."), ("/..", ".")]
        {
            assert_eq!(clean(Path::new(given)), wanted, "{given}");
        }
    }
}
