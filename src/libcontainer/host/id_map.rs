//! The text of uid_map and gid_map (user_namespaces(7)).

/// One line: `size` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first id in the user namespace.
    pub inside: u32,
    /// The first id outside of it.
    pub outside: u32,
    /// How many ids.
    pub size: u32,
}

/// The lines of such a file.
pub fn ranges(map: &str) -> impl Iterator<Item = Range> {
    map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse);
        let mut next = || fields.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, size: next()? })
    })
}

/// What `id` is outside of the user namespace. None if the map does not have it.
pub fn outside(map: &str, id: u32) -> Option<u32> {
    ranges(map).find_map(|range| {
        let distance = id.checked_sub(range.inside).filter(|distance| *distance < range.size)?;
        range.outside.checked_add(distance)
    })
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn an_id_goes_out_through_the_map() {
        let map = "         0     100000       1000\n      1000       1000          1\n";
        assert_eq!([0, 999, 1000, 1001].map(|id| outside(map, id)), [Some(100_000), Some(100_999), Some(1000), None]);
        assert_eq!(outside("         0          0 4294967295\n", 7), Some(7));
        assert_eq!(outside("", 0), None);
    }
}
