//! The text of uid_map and gid_map (user_namespaces(7)), as the kernel shows and reads it.

use std::fmt;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first id in the user namespace: that of the container.
    pub container: u32,
    /// The first id outside of it: that of the host, or of the user namespace around.
    pub host: u32,
    /// The number of ids.
    pub size: u32,
}

/// The format that the kernel reads.
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.container, self.host, self.size)
    }
}

/// The lines of such a file.
pub fn lines(map: &str) -> impl Iterator<Item = IdMap> {
    map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse);
        let mut next = || fields.next()?.ok();
        Some(IdMap { container: next()?, host: next()?, size: next()? })
    })
}

/// The host's id for `id` of the user namespace. None if the map does not have it.
pub fn host_id(map: &str, id: u32) -> Option<u32> {
    lines(map).find_map(|line| {
        let distance = id.checked_sub(line.container).filter(|distance| *distance < line.size)?;
        line.host.checked_add(distance)
    })
}

#[cfg(test)]
mod tests {
    use super::host_id;

    #[test]
    fn an_id_goes_out_through_the_map() {
        let map = "         0     100000       1000\n      1000       1000          1\n";
        assert_eq!([0, 999, 1000, 1001].map(|id| host_id(map, id)), [Some(100_000), Some(100_999), Some(1000), None]);
        assert_eq!(host_id("         0          0 4294967295\n", 7), Some(7));
        assert_eq!(host_id("", 0), None);
    }
}
