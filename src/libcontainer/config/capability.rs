//! The names of capabilities (capabilities(7)). The types of `oci-spec` refuse an unknown name, but the specification
//! wants a warning. So the names are checked first.

use oci_spec::runtime::Capability;

use super::is_near;

/// Every capability's name, by its number (capabilities(7)).
pub fn known() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(|cap| cap.index());
    all.into_iter().map(|cap| cap.to_string()).collect()
}

/// The number of a capability. SPEC: config.md#linux-process: the names are those of capabilities(7), such as `CAP_CHOWN`.
pub fn by_name(name: &str) -> Option<u8> {
    name.parse::<caps::Capability>().ok().map(|cap| cap.index())
}

/// The number of a capability of the types.
pub fn number(capability: &Capability) -> Option<u8> {
    // they print it without CAP_
    by_name(&format!("CAP_{capability}"))
}

/// The warning about a name that is not the name of a capability.
pub fn unknown_message(name: &str) -> String {
    let full = format!("CAP_{}", name.to_ascii_uppercase().trim_start_matches("CAP_"));
    match by_name(&full) {
        Some(_) => format!("unknown capability {name:?}, ignored: did you mean {full:?}?"),
        None => match known().iter().find(|known| is_near(known, &full)) {
            Some(near) => format!("unknown capability {name:?}, ignored: did you mean {near:?}?"),
            None => format!("unknown capability {name:?}, ignored"),
        },
    }
}

/// False for a name that is not one of a capability although the types take it: in lower case, without `CAP_`, or with it twice.
pub(super) fn is_spelled_right(name: &[u8]) -> bool {
    let right = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    name.strip_prefix(b"CAP_").is_some_and(|rest| !rest.starts_with(b"CAP_") && rest.iter().all(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_of_the_kernel_has_its_number() {
        assert_eq!(by_name("CAP_CHOWN"), Some(0));
        assert!(["kill", "KILL", "cap_kill", "CAP_kill", "CAP_CAP_KILL"].iter().all(|name| {
            let hint = format!("unknown capability {name:?}, ignored: did you mean \"CAP_KILL\"?");
            by_name(name).is_none() && !is_spelled_right(name.as_bytes()) && unknown_message(name) == hint
        }));
        assert_eq!(unknown_message("CAP_FLYING"), "unknown capability \"CAP_FLYING\", ignored");
        assert!(unknown_message("CAP_NET_RWA").ends_with(": did you mean \"CAP_NET_RAW\"?"));
        assert!(known().iter().all(|name| is_spelled_right(name.as_bytes())));
        assert_eq!(by_name("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(by_name("CAP_NOPE"), None);
        assert_eq!(known().len(), 41);
    }
}
