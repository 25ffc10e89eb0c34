//! A word that was typed wrong, and the one that was meant.

use libcontainer::config::distance;

/// The name that is nearest to what was typed, if it is near enough for a typing error.
pub(super) fn near<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = if typed.chars().count() < 5 { 1 } else { 2 };
    // a name of a hundred thousand letters is not a typing error
    let names = names.filter(|name| name.len().abs_diff(typed.len()) <= most);
    let found = names.map(|name| (distance(name, typed), name)).min_by_key(|(distance, _)| *distance);
    found.filter(|(distance, _)| *distance <= most).map(|(_, name)| name)
}
