//! The limits and the statistics of a group, in the form of runc's `events`.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{mount_of, schema};

/// Resource control: what the machine can do, what the container's group may use, and what it has used (resctrl.rst). What
/// this machine cannot do or count is left out.
///
/// ```
/// use libcontainer::stats::IntelRdt;
///
/// let bytes = |rdt: &IntelRdt| rdt.cmt_stats.iter().map(|cache| cache.llc_occupancy).sum::<u64>();
/// // The container has no group.
/// assert_eq!(bytes(&IntelRdt::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IntelRdt {
    /// The properties of the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// Its line in the root group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    /// Its line in the container's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The properties of the memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// Its line in the root group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    /// Its line in the container's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// All lines of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, by cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Traffic>,
    /// Use of the cache, by cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Occupancy>,
}

/// `info/L3`.
///
/// ```
/// use libcontainer::stats::CacheInfo;
///
/// let parts = |cache: &CacheInfo| u64::from_str_radix(&cache.cbm_mask, 16).map(u64::count_ones);
/// assert!(parts(&CacheInfo::default()).is_err(), "a machine without resctrl has no mask");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheInfo {
    /// The mask of all its parts, in hexadecimal.
    pub cbm_mask: String,
    /// How many bits a mask must have at least.
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// `info/MB`.
///
/// ```
/// use libcontainer::stats::BandwidthInfo;
///
/// let may_be = |info: &BandwidthInfo, percent: u64| percent >= info.min_bandwidth;
/// assert!(may_be(&BandwidthInfo::default(), 10));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BandwidthInfo {
    /// The step of a limit, in percent.
    pub bandwidth_gran: u64,
    /// 1 where the delay grows with the limit evenly.
    pub delay_linear: u64,
    /// The least limit, in percent.
    pub min_bandwidth: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// Bytes to and from memory so far.
///
/// ```
/// use libcontainer::stats::Traffic;
///
/// let remote = |traffic: &Traffic| traffic.mbm_total_bytes.saturating_sub(traffic.mbm_local_bytes);
/// assert_eq!(remote(&Traffic::default()), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Traffic {
    /// All memory.
    pub mbm_total_bytes: u64,
    /// The memory of the CPU's own node.
    pub mbm_local_bytes: u64,
}

/// Bytes in the cache now.
///
/// ```
/// use libcontainer::stats::Occupancy;
///
/// let mebibytes = |cache: &Occupancy| cache.llc_occupancy >> 20;
/// assert_eq!(mebibytes(&Occupancy::default()), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Occupancy {
    /// The last level cache.
    pub llc_occupancy: u64,
}

/// The numbers of the group at `control`. They are counted in `monitoring`, if the container has a monitoring group of
/// its own. What this machine does not support is left out.
pub fn stats(control: &Path, monitoring: Option<&Path>) -> IntelRdt {
    let Some(mount) = mount_of(control) else { return IntelRdt::default() };
    let (all, own) = (read_text(&mount.join("schemata")), read_text(&control.join("schemata")));
    let line = |kind: &str, of: &str| schema::line_of(kind, of).map(str::to_owned);
    let (cache, memory) = (mount.join("info/L3"), mount.join("info/MB"));
    let mut stats = IntelRdt {
        l3_cache_info: cache.is_dir().then(|| CacheInfo {
            cbm_mask: read_text(&cache.join("cbm_mask")).trim().to_owned(),
            min_cbm_bits: read_number(&cache.join("min_cbm_bits")).unwrap_or_default(),
            num_closids: read_number(&cache.join("num_closids")).unwrap_or_default(),
        }),
        l3_cache_schema_root: line("L3", &all),
        l3_cache_schema: line("L3", &own),
        mem_bw_info: memory.is_dir().then(|| BandwidthInfo {
            bandwidth_gran: read_number(&memory.join("bandwidth_gran")).unwrap_or_default(),
            delay_linear: read_number(&memory.join("delay_linear")).unwrap_or_default(),
            min_bandwidth: read_number(&memory.join("min_bandwidth")).unwrap_or_default(),
            num_closids: read_number(&memory.join("num_closids")).unwrap_or_default(),
        }),
        mem_bw_schema_root: line("MB", &all),
        mem_bw_schema: line("MB", &own),
        schemata: own.lines().map(|line| line.trim().to_owned()).collect(),
        ..IntelRdt::default()
    };
    for cache in caches(&monitoring.unwrap_or(control).join("mon_data")) {
        let counted = |name: &str| read_number(&cache.join(name));
        let traffic = (counted("mbm_total_bytes"), counted("mbm_local_bytes"));
        if traffic != (None, None) {
            let (total, local) = traffic;
            stats.mbm_stats.push(Traffic {
                mbm_total_bytes: total.unwrap_or_default(),
                mbm_local_bytes: local.unwrap_or_default(),
            });
        }
        stats.cmt_stats.extend(counted("llc_occupancy").map(|llc_occupancy| Occupancy { llc_occupancy }));
    }
    stats
}

fn caches(data: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(data).into_iter().flatten().flatten().map(|entry| entry.path());
    let named =
        |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mon_L3_"));
    let mut caches: Vec<_> = entries.filter(named).collect();
    caches.sort();
    caches
}

fn read_text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// None if it is not a number: the kernel writes `Unavailable` if it cannot count at the moment.
fn read_number(file: &Path) -> Option<u64> {
    read_text(file).trim().parse().ok()
}
