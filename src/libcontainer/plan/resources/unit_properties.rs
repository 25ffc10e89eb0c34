//! The limits of a container as properties of its unit. When systemd reloads, it resets every limit that it does not know. So
//! coracle sends it every limit that it has a property for.

use super::unit::{Need, Property, PropertyValue};
use super::{DeviceAccess, Write};

/// The limits as unit properties, from the files and values.
pub fn properties(writes: &[Write]) -> Vec<Property> {
    let mut list: Vec<Property> = Vec::new();
    for property in writes.iter().flat_map(of_write).chain(quota_of_two_files(writes)) {
        // The last value counts. Rates of several devices are one property.
        match list.iter_mut().find(|there| there.name == property.name) {
            Some(Property { value: PropertyValue::Rates(there), .. }) => {
                if let PropertyValue::Rates(more) = property.value {
                    there.extend(more);
                }
            }
            Some(there) => *there = property,
            None => list.push(property),
        }
    }
    list
}

/// The files of version 1 for what version 2 has in `cpu.max`.
pub const QUOTA_AND_PERIOD: [&str; 2] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"];

/// Files that systemd writes at any change, and not always with our values. It rounds the CPU quota to whole percents, and does
/// not write a period without a quota. On version 1 the period comes first, because the quota refers to it.
pub const REWRITTEN: [&str; 4] = ["cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.oom.group"];

/// systemd accepts this property only when it starts a unit, not later.
pub const OOM_POLICY: &str = "OOMPolicy";

fn quota_of_two_files(writes: &[Write]) -> Vec<Property> {
    let value = |file: &str| writes.iter().rfind(|write| write.file == file).map(|write| write.value.as_str());
    match QUOTA_AND_PERIOD.map(value) {
        [None, None] => Vec::new(),
        [quota, period] => self::quota(&format!("{} {}", quota.unwrap_or("max"), period.unwrap_or_default())),
    }
}

fn of_write(write: &Write) -> Vec<Property> {
    let may = |name: &str, value| vec![Property { name: name.to_owned(), value, need: Need::May }];
    let number = |name: &str, need| {
        let property = |value| Property { name: name.to_owned(), value: PropertyValue::Uint64(value), need };
        limit(&write.value).map(property).into_iter().collect()
    };
    let must = |name: &str| number(name, Need::Must);
    match write.file.as_str() {
        "memory.max" => must("MemoryMax"),
        "memory.low" => must("MemoryLow"),
        "memory.high" => must("MemoryHigh"),
        "memory.min" => must("MemoryMin"),
        "memory.swap.max" => must("MemorySwapMax"),
        "memory.zswap.max" => number("MemoryZSwapMax", Need::May),
        "memory.limit_in_bytes" => must("MemoryLimit"),
        "pids.max" => must("TasksMax"),
        "cpu.weight" => must("CPUWeight"),
        "cpu.shares" => must("CPUShares"),
        // KERNEL(5.15), systemd 252: weight 0 means idle.
        "cpu.idle" if write.value.trim() == "1" => may("CPUWeight", PropertyValue::Uint64(0)),
        // No weight. The property for the shares follows, if there are any.
        "cpu.idle" => may("CPUWeight", PropertyValue::Uint64(u64::MAX)),
        "cpu.max" => quota(&write.value),
        "cpuset.cpus" => bitmap_value(&write.value).map(|bytes| may("AllowedCPUs", bytes)).unwrap_or_default(),
        "cpuset.mems" => bitmap_value(&write.value).map(|bytes| may("AllowedMemoryNodes", bytes)).unwrap_or_default(),
        // systemd writes the file from this property, also at a reload.
        "memory.oom.group" => {
            let policy = if write.value.trim() == "1" { "kill" } else { "continue" };
            may(OOM_POLICY, PropertyValue::Text(policy.to_owned()))
        }
        "blkio.weight" => must("BlockIOWeight"),
        "io.weight" | "io.bfq.weight" => io_weight(write),
        "io.max" => io_max(&write.value),
        _ => Vec::new(),
    }
}

/// A limit as the kernel reads it (memparse): a number with an optional K, M, G, T, P or E. `max` and negative numbers
/// mean infinity. None for anything else: systemd gets no wider limit, and the kernel reports the mistake when the file
/// is written.
fn limit(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == "max" || text.parse::<i64>().is_ok_and(|number| number < 0) {
        return Some(u64::MAX);
    }
    let suffix = text.chars().last().and_then(|last| "KMGTPE".find(last.to_ascii_uppercase()));
    let (digits, shift) = suffix.map_or((text, 0), |n| (&text[..text.len() - 1], 10 * (n + 1)));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `quota period` in microseconds, as CPU time per second. systemd computes the quota from it, and drops the fraction.
/// Rounded up to a microsecond, it gives the same quota again, because no period is longer than a second. After a
/// reload, systemd has whole percents, and less than one percent means no limit.
fn quota(text: &str) -> Vec<Property> {
    let mut parts = text.split_whitespace();
    let (quota, period) = (parts.next().unwrap_or("max"), parts.next().and_then(|text| text.parse::<u64>().ok()));
    let period = period.unwrap_or(100_000).max(1);
    let per_second = match limit(quota) {
        Some(u64::MAX) => u64::MAX,
        Some(quota) => quota.saturating_mul(1_000_000).div_ceil(period).max(10_000),
        None => return Vec::new(),
    };
    vec![
        Property { name: "CPUQuotaPerSecUSec".to_owned(), value: PropertyValue::Uint64(per_second), need: Need::Must },
        Property { name: "CPUQuotaPeriodUSec".to_owned(), value: PropertyValue::Uint64(period), need: Need::May },
    ]
}

/// A list such as `0-3,7` as the bytes of a bit mask: the lowest byte first, without zero bytes at the end.
fn bitmap_value(list: &str) -> Option<PropertyValue> {
    let words = crate::plan::values::bitmap(list)?;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Some(PropertyValue::Bytes(bytes))
}

/// `default 100`, or a number for all devices, or `8:0 100` for one device. systemd uses the scale of io.weight.
fn io_weight(write: &Write) -> Vec<Property> {
    let value = match &write.on_failure {
        super::OnFailure::Instead(_, value) => value,
        _ => &write.value,
    };
    let (device, weight) = value.split_once(' ').unwrap_or(("default", value));
    let Some(weight) = limit(weight) else { return Vec::new() };
    let (name, value) = match device {
        "default" => ("IOWeight", PropertyValue::Uint64(weight)),
        device => ("IODeviceWeight", PropertyValue::Rates(vec![(format!("/dev/block/{device}"), weight)])),
    };
    vec![Property { name: name.to_owned(), value, need: Need::May }]
}

/// `8:0 rbps=1 wiops=max`.
fn io_max(text: &str) -> Vec<Property> {
    let Some((device, settings)) = text.split_once(' ') else { return Vec::new() };
    let one = |setting: &str| {
        let (key, rate) = setting.split_once('=')?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return None,
        };
        let value = PropertyValue::Rates(vec![(format!("/dev/block/{device}"), limit(rate)?)]);
        Some(Property { name: name.to_owned(), value, need: Need::May })
    };
    settings.split_whitespace().filter_map(one).collect()
}

/// On version 1 the kernel has one list of devices, and systemd writes it again at every reload. So systemd must know
/// our list. On version 2 our program exists beside systemd's.
pub fn device_properties(access: &DeviceAccess) -> Vec<Property> {
    let DeviceAccess::List(list) = access else { return Vec::new() };
    let writes = list.writes("");
    let allowed = writes.iter().filter(|write| write.file == "devices.allow");
    let list: Vec<_> = allowed.filter_map(|write| device(&write.value)).collect();
    let property = |name: &str, value| Property { name: name.to_owned(), value, need: Need::Must };
    vec![
        property("DevicePolicy", PropertyValue::Text("strict".to_owned())),
        property("DeviceAllow", PropertyValue::Devices(list)),
    ]
}

/// Converts `c 1:3 rwm` to systemd's form (systemd.resource-control(5), DeviceAllow). Since systemd 240, a major number
/// may replace its name in /proc/devices.
fn device(line: &str) -> Option<(String, String)> {
    let mut words = line.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let kind = match kind {
        "c" => "char",
        "b" => "block",
        _ => return None,
    };
    let name = match numbers.split_once(':')? {
        ("*", "*") => format!("{kind}-*"),
        (major, "*") => format!("{kind}-{major}"),
        (major, minor) => format!("/dev/{kind}/{major}:{minor}"),
    };
    Some((name, access.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;
    use crate::plan::resources::OnFailure;

    fn write(file: &str, value: &str) -> Write {
        Write {
            controller: String::new(),
            file: file.to_owned(),
            value: value.to_owned(),
            on_failure: OnFailure::Fail,
            unless_used: None,
            at: At::default(),
        }
    }

    fn said(writes: &[Write]) -> String {
        let lines = properties(writes).into_iter().map(|property| format!("{}={}", property.name, property.value));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_limit_has_its_word() {
        let cases = [
            ("memory.max", "max", "MemoryMax=infinity"),
            ("memory.max", "64M", "MemoryMax=67108864"),
            ("memory.max", "1g", "MemoryMax=1073741824"),
            ("memory.max", "64X", ""),
            ("memory.max", "99999999E", ""),
            ("cpu.max", "many 100000", ""),
            ("memory.swap.max", "5", "MemorySwapMax=5"),
            ("pids.max", "10", "TasksMax=10"),
            ("cpu.max", "50000 100000", "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000"),
            ("cpu.max", "12345 100000", "CPUQuotaPerSecUSec=123450 CPUQuotaPeriodUSec=100000"),
            ("cpu.max", "30000 900000", "CPUQuotaPerSecUSec=33334 CPUQuotaPeriodUSec=900000"),
            ("cpu.max", "1000 1000000", "CPUQuotaPerSecUSec=10000 CPUQuotaPeriodUSec=1000000"),
            ("cpu.max", "max 100000", "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=100000"),
            ("memory.oom.group", "1", "OOMPolicy=kill"),
            ("memory.oom.group", "0", "OOMPolicy=continue"),
            ("cpu.idle", "1", "CPUWeight=0"),
            ("cpu.idle", "0", "CPUWeight=infinity"),
            ("cpuset.cpus", "0-3,8", "AllowedCPUs=[15, 1]"),
            (
                "io.max",
                "8:0 rbps=7 wiops=max",
                "IOReadBandwidthMax=/dev/block/8:0 7 IOWriteIOPSMax=/dev/block/8:0 18446744073709551615",
            ),
            ("io.weight", "default 50", "IOWeight=50"),
            ("hugetlb.2MB.max", "1", ""),
            ("memory.limit_in_bytes", "-1", "MemoryLimit=infinity"),
            ("cpu.shares", "512", "CPUShares=512"),
            ("cpu.cfs_quota_us", "5000", "CPUQuotaPerSecUSec=50000 CPUQuotaPeriodUSec=100000"),
            ("cpu.cfs_period_us", "50000", "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=50000"),
        ];
        for (file, value, expected) in cases {
            assert_eq!(said(&[write(file, value)]), expected, "{file} {value}");
        }
        // In either order.
        let two = [write("cpu.cfs_period_us", "50000"), write("cpu.cfs_quota_us", "20000")];
        assert_eq!(said(&two), "CPUQuotaPerSecUSec=400000 CPUQuotaPeriodUSec=50000");
    }

    #[test]
    fn devices_are_named_by_their_numbers() {
        let named = |line| device(line).map(|(name, access)| format!("{name} {access}"));
        for (line, expected) in [
            ("c 1:3 rwm", "/dev/char/1:3 rwm"),
            ("b 8:* r", "block-8 r"),
            ("c 136:* rw", "char-136 rw"),
            ("c *:* m", "char-* m"),
        ] {
            assert_eq!(named(line).as_deref(), Some(expected));
        }
        assert_eq!(named("a *:* rwm"), None);
    }
}
