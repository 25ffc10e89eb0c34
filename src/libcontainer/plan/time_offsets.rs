//! `linux.timeOffsets`. SPEC: config-linux.md#offset-for-time-namespace, time_namespaces(7).

use std::collections::BTreeSet;

use super::annotations::TIME_OFFSET;
use super::finished::TimeOffset;
use super::given::Given;
use super::namespaces::{PlannedNamespaces, TIME, USER};
use super::notes::Notes;
use crate::config::At;

/// Reads the offsets of the clocks in the new time namespace, by clock name.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Vec<TimeOffset> {
    let map = given.linux().and_then(|linux| linux.time_offsets().as_ref());
    let (top, mut offsets) = match (map, given.annotation(TIME_OFFSET)) {
        (None, None) => return Vec::new(),
        (Some(_), None) => (At::new("linux.timeOffsets"), Vec::new()),
        (None, Some(text)) => (At::annotation(TIME_OFFSET), by_annotation(text, notes)),
        (Some(_), Some(_)) => {
            notes.fault(&At::annotation(TIME_OFFSET), "linux.timeOffsets is set, too");
            return Vec::new();
        }
    };
    for (clock, offset) in map.into_iter().flatten() {
        let at = top.key(clock);
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if clock != "monotonic" && clock != "boottime" {
            notes.fault(&at, "unknown clock (expected one of monotonic, boottime)");
        }
        if nanosecs >= 1_000_000_000 {
            notes.fault(&at.key("nanosecs"), format!("{nanosecs} is not less than a second (1000000000)"));
        }
        offsets.push(TimeOffset { clock: clock.clone(), secs: offset.secs().unwrap_or(0), nanosecs, at });
    }
    offsets.sort_by(|a, b| a.clock.cmp(&b.clock));
    if !offsets.is_empty() && !namespaces.new.has(TIME) {
        notes.fault(&top, "needs a new time namespace (linux.namespaces)");
    } else if !offsets.is_empty() && given.host.me.uid != 0 && namespaces.joins(USER) {
        // Init is not dumpable, so that processes in the joined user namespace cannot trace it (CVE-2016-9962). So the
        // file belongs to the host's root (proc(5)).
        let said = "an ordinary user cannot set them if the user namespace is joined by path: it must be a new one";
        notes.fault(&top, said);
    }
    offsets
}

/// crun's annotation: `CLOCK SECONDS NANOSECONDS`, one clock on each line, as the kernel reads it.
fn by_annotation(text: &str, notes: &mut Notes) -> Vec<TimeOffset> {
    let at = At::annotation(TIME_OFFSET);
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let clock = match words.next()? {
            clock @ ("monotonic" | "boottime") => clock,
            "1" => "monotonic",
            "7" => "boottime",
            _ => return None,
        };
        let (secs, nanosecs) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let whole = words.next().is_none() && nanosecs < 1_000_000_000;
        whole.then(|| TimeOffset { clock: clock.to_owned(), secs, nanosecs, at: at.clone() })
    };
    let offsets: Option<Vec<_>> = text.lines().map(one).collect();
    match offsets {
        Some(offsets) if !offsets.is_empty() => {
            let clocks = offsets.iter().map(|offset| &offset.clock).collect::<BTreeSet<_>>();
            if clocks.len() < offsets.len() {
                notes.fault(&at, format!("{text:?} has two offsets for one clock"));
            }
            offsets
        }
        _ => {
            notes
                .fault(&at, format!("{text:?} is not CLOCK SECONDS NANOSECONDS, with the clock monotonic or boottime"));
            Vec::new()
        }
    }
}
