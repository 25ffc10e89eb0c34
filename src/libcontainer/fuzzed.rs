//! The functions that fuzz/ calls with random bytes: one for each text or packet that another program writes. Only
//! tests and fuzzing build this file. Each function may refuse the bytes, and must return.

use std::hint::black_box;

use crate::container::Record;
use crate::host::cgroups::Cgroups;

/// A function that accepts any bytes.
pub type Reader = fn(&[u8]);

/// All functions, by the names of their seeds in fuzz/seeds.
pub const ALL: [(&str, Reader); 6] = [
    ("record", record),
    ("hierarchies", hierarchies),
    ("statistics", statistics),
    #[cfg(feature = "systemd")]
    ("bus", crate::cgroup::bus_reads),
    ("netlink", crate::launch::netlink_reads),
    ("passwd", passwd),
];

/// The function with this name.
///
/// # Panics
/// If no function has this name.
pub fn target(name: &str) -> Reader {
    let target = ALL.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("{name}: not a target")).1
}

/// state.json: coracle's, runc's, or a damaged one.
fn record(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    black_box((record.bundle(), record.annotations(), record.version(), record.groups(), record.own_groups()));
    let _ = black_box(serde_json::to_vec(&record));
}

/// /proc/self/mountinfo, a NUL, and /proc/self/cgroup.
fn hierarchies(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (mounts, cgroups) = text.split_once('\0').unwrap_or((&text, &text));
    let found = Cgroups::parse(mounts, cgroups);
    black_box((found.layout(), found.v1.iter().map(|one| (one.key(), one.has("memory"))).collect::<Vec<_>>()));
    let mounts = crate::host::mountinfo::parse(bytes);
    black_box(crate::host::views::views(&mounts, std::path::Path::new("/sys")));
}

/// The files of a cgroup: the same text for each.
fn statistics(bytes: &[u8]) {
    black_box(crate::cgroup::stats::of_text(&String::from_utf8_lossy(bytes)));
}

/// /etc/passwd.
fn passwd(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for uid in [0, 1000, u32::MAX] {
        black_box(crate::host::user_name(&text, uid));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A generator that always makes the same numbers (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
        }
    }

    /// Changes, removes, doubles or copies some bytes of a seed.
    fn changed(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(4) {
            let (from, to) = (numbers.below(bytes.len() + 1), numbers.below(bytes.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            match numbers.below(6) {
                0 if from < bytes.len() => bytes[from] = u8::try_from(numbers.below(256)).unwrap(),
                1 if from < bytes.len() => bytes[from] ^= 1 << numbers.below(8),
                2 => drop(bytes.drain(from..to)),
                3 => bytes.truncate(from),
                4 => {
                    let piece = bytes[from..to.min(from + 64)].to_vec();
                    let at = numbers.below(bytes.len() + 1);
                    drop(bytes.splice(at..at, piece));
                }
                _ => {
                    let odd: [&[u8]; 8] =
                        [b"18446744073709551616", b"-1", b"\0", b" ", b"\xff\xff\xff\xff", b"{}", b"null", b"\n"];
                    let at = numbers.below(bytes.len() + 1);
                    drop(bytes.splice(at..at, odd[numbers.below(odd.len())].iter().copied()));
                }
            }
        }
        bytes
    }

    #[test]
    fn whatever_others_write_is_read_or_refused() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        for (name, target) in ALL {
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
            let mut found = 0;
            for entry in fs::read_dir(seeds.join(name)).unwrap() {
                let seed = fs::read(entry.unwrap().path()).unwrap();
                target(&seed);
                (0..100).for_each(|_| target(&changed(&seed, &mut numbers)));
                found += 1;
            }
            assert!(found > 0, "{name} has no seeds");
        }
    }
}
