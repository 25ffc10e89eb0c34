//! Values that several commands read in the same way: a duration, and the ids that a regular expression matches.

use std::time::Duration;

use anyhow::{Result, anyhow};
use libcontainer::Root;

/// Parses Go's durations: `5s`, `500ms`, `1m30s`.
pub fn duration(flag: &str, text: &str) -> Result<Duration> {
    // Go takes this one without a unit
    let text = if text == "0" { "0s" } else { text };
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| anyhow!("{flag}: {text:?} is not a duration such as 5s"))?;
    let span = Duration::try_from(span).ok().filter(|span| !span.is_zero());
    span.ok_or_else(|| anyhow!("duration interval must be greater than 0"))
}

/// The ids that match this regular expression.
pub fn matching(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let pattern = regex_lite::Regex::new(pattern).map_err(|error| anyhow!("--regex {pattern:?}: {error}"))?;
    Ok(root.ids()?.into_iter().filter(|id| pattern.is_match(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_as_in_go() {
        assert_eq!(duration("--interval", "5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("--interval", "500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("--interval", "1m30s").unwrap(), Duration::from_secs(90));
        let zero = duration("--interval", "0").unwrap_err().to_string();
        assert_eq!(zero, "duration interval must be greater than 0");
        for bad in ["0s", "-1s", "5", "x"] {
            assert!(duration("--interval", bad).is_err(), "{bad}");
        }
    }
}
