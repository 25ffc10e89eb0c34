//! The names of capabilities (capabilities(7)). The types of `oci-spec` refuse an unknown name, but the specification
//! wants a warning. So the names are checked first.

/// Every capability's name, by its number (capabilities(7)).
pub fn known() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(|cap| cap.index());
    all.into_iter().map(|cap| cap.to_string()).collect()
}

/// The number of a capability, with or without CAP_, in any case.
pub fn by_name(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    let full = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
    full.parse::<caps::Capability>().ok().map(|cap| cap.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_of_the_kernel_has_its_number() {
        assert_eq!(by_name("CAP_CHOWN"), Some(0));
        assert_eq!(by_name("kill"), Some(5));
        assert_eq!(by_name("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(by_name("CAP_NOPE"), None);
        assert_eq!(known().len(), 41);
    }
}
