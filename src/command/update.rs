//! `update`: changes the limits of a container, by flags or by a resources object.

use anyhow::{Context, Result, anyhow};
use libcontainer::config;
use libcontainer::internals::wait;
use libcontainer::{At, Faults, Schemata, Update};
use serde_json::{Value, json};

use super::session::Session;
use crate::cli;

/// The origin of a limit, for messages.
enum Source {
    /// Properties, and the flags that set them.
    Flags(Vec<(&'static str, &'static str)>),
    /// `--resources`.
    Object,
}

pub fn run(session: &Session<'_>, args: &cli::Update) -> Result<()> {
    let mut container = session.root()?.load(&args.id)?;
    let (requested, source) = requested(session, args)?;
    let update = requested
        .schemata(Schemata { l3_cache: given(&args.l3_cache_schema), bandwidth: given(&args.mem_bw_schema) })
        .places(|at| source.flag_of(at));
    let warnings = container.update(&update)?;
    warnings.iter().for_each(|warning| session.log.warning(&warning.to_string()));
    Ok(())
}

/// A flag with an empty value is ignored.
fn given(value: &Option<String>) -> Option<String> {
    value.clone().filter(|text| !text.is_empty())
}

/// The requested limits, as a resources object.
fn requested<'a>(session: &Session<'_>, args: &cli::Update) -> Result<(Update<'a>, Source)> {
    let flags = given_flags(args);
    let Some(path) = &args.resources else {
        for (flag, value) in
            [("--kernel-memory", &args.kernel_memory), ("--kernel-memory-tcp", &args.kernel_memory_tcp)]
        {
            if value.is_some() {
                session.log.warning(&format!("{flag} is ignored: the kernel no longer has this limit"));
            }
        }
        return Ok((
            Update::of(of_flags(&flags)?),
            Source::Flags(flags.iter().map(|flag| (flag.property, flag.name)).collect()),
        ));
    };
    let text = if path == "-" {
        wait::contents_of(std::io::stdin()).context("--resources: read standard input")?
    } else {
        wait::contents(path).with_context(|| format!("--resources: {}", path.display()))?
    };
    if let Some(flag) = flags.first() {
        session.log.warning(&format!("{} is ignored: --resources replaces it", flag.name));
    }
    let read = Update::read(&text).map_err(|error| match error.kind() {
        libcontainer::Kind::Config(faults) => Source::Object.as_error(faults),
        _ => error.into(),
    });
    Ok((read?, Source::Object))
}

/// A flag that was given.
struct Flag<'a> {
    name: &'static str,
    /// Its property below `linux.resources`.
    property: &'static str,
    text: &'a str,
    kind: FlagType,
}

/// The type of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlagType {
    /// A number.
    Number,
    /// A number of bytes, with or without a unit; -1 means no limit.
    Bytes,
    /// A list, without changes.
    List,
}

fn given_flags(args: &cli::Update) -> Vec<Flag<'_>> {
    use FlagType::{Bytes, List, Number};
    let all = [
        ("--blkio-weight", "blockIO.weight", &args.blkio_weight, Number),
        ("--cpu-period", "cpu.period", &args.cpu_period, Number),
        ("--cpu-quota", "cpu.quota", &args.cpu_quota, Number),
        ("--cpu-burst", "cpu.burst", &args.cpu_burst, Number),
        ("--cpu-share", "cpu.shares", &args.cpu_share, Number),
        ("--cpu-rt-period", "cpu.realtimePeriod", &args.cpu_rt_period, Number),
        ("--cpu-rt-runtime", "cpu.realtimeRuntime", &args.cpu_rt_runtime, Number),
        ("--cpu-idle", "cpu.idle", &args.cpu_idle, Number),
        ("--cpuset-cpus", "cpu.cpus", &args.cpuset_cpus, List),
        ("--cpuset-mems", "cpu.mems", &args.cpuset_mems, List),
        ("--memory", "memory.limit", &args.memory, Bytes),
        ("--memory-reservation", "memory.reservation", &args.memory_reservation, Bytes),
        ("--memory-swap", "memory.swap", &args.memory_swap, Bytes),
        ("--pids-limit", "pids.limit", &args.pids_limit, Number),
    ];
    let given = all
        .into_iter()
        .filter_map(|(name, property, text, kind)| Some(Flag { name, property, text: text.as_deref()?, kind }));
    given.collect()
}

fn of_flags(flags: &[Flag<'_>]) -> Result<Value> {
    let mut requested = json!({});
    for Flag { name, property, text, kind } in flags {
        let value = match kind {
            FlagType::Number => json!(text.parse::<i64>().map_err(|_| anyhow!("{name}: {text:?} is not a number"))?),
            FlagType::Bytes => {
                json!(bytes(text).ok_or_else(|| anyhow!("{name}: {text:?} is not a size such as 512M"))?)
            }
            FlagType::List => json!(text),
        };
        let (section, property) = property.split_once('.').unwrap_or_default();
        requested[section][property] = value;
    }
    // The value does not fit into any property.
    let text = serde_json::to_vec(&requested)?;
    let source = Source::Flags(flags.iter().map(|flag| (flag.property, flag.name)).collect());
    let read = config::load_resources(&text).map_err(|faults| source.as_error(&faults))?;
    Ok(read.0)
}

/// `512M`, `1.5GiB`, `-1`: units are powers of 1024.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // checked to be in range
fn bytes(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number).filter(|number| *number >= -1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let unit = text[end..].trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix('b').unwrap_or(&unit).trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = text[..end].parse::<f64>().ok()? * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

impl Source {
    /// The flag of a property, or the property's place in the given object.
    fn flag_of(&self, at: &At) -> String {
        match at.as_str() {
            "linux.intelRdt.l3CacheSchema" => return "--l3-cache-schema".to_owned(),
            "linux.intelRdt.memBwSchema" => return "--mem-bw-schema".to_owned(),
            _ => {}
        }
        let place = at.as_str().strip_prefix("linux.resources").unwrap_or_default().trim_start_matches('.');
        let flags = match self {
            Source::Object if place.is_empty() => return "--resources".to_owned(),
            Source::Object => return format!("--resources: {place}"),
            Source::Flags(flags) => flags,
        };
        let section = place.split('.').next().unwrap_or_default();
        let exact = flags.iter().find(|(property, _)| *property == place);
        // A limit that follows from another one.
        let near = || flags.iter().find(|(property, _)| property.split('.').next() == Some(section));
        exact.or_else(near).map_or_else(|| at.as_str().to_owned(), |(_, flag)| (*flag).to_owned())
    }

    fn as_error(&self, faults: &Faults) -> anyhow::Error {
        let all: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}", self.flag_of(&fault.at), fault.problem)).collect();
        anyhow!(all.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases =
            [("512", 512), ("512M", 512 << 20), ("1g", 1 << 30), ("1.5GiB", 3 << 29), ("2 kb", 2048), ("-1", -1)];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for bad in ["", "M", "-2", "5x", "-1M", "9999999P", "1.2.3M", "1e3"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mistake_is_reported_with_the_flag() {
        let source = Source::Flags(vec![("memory.limit", "--memory")]);
        assert_eq!(source.flag_of(&At::new("linux.resources.memory.limit")), "--memory");
        assert_eq!(source.flag_of(&At::new("linux.resources.memory.swap")), "--memory");
        assert_eq!(source.flag_of(&At::new("linux.resources.pids.limit")), "linux.resources.pids.limit");
        assert_eq!(Source::Object.flag_of(&At::new("linux.resources.devices[0].type")), "--resources: devices[0].type");
    }
}
