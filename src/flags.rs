//! Texts of the library name its own API. The user of the command knows the flags.

use std::borrow::Cow;

/// What the library says, and the flag that sets it.
const FLAGS: [(&str, &str); 22] = [
    // runc's words
    ("Root::open: must not be /", "Option --root argument should not be set to /"),
    ("Root::open", "--root"),
    ("`pid_file`", "--pid-file"),
    ("CgroupUse::Disabled", "--cgroup-manager=disabled"),
    ("CgroupUse::Unit", "--systemd-cgroup"),
    ("Keyring::Inherited", "--no-new-keyring"),
    ("RootChange::Move", "--no-pivot"),
    ("Ready::pass_on_pidfd", "--pidfd-socket"),
    ("Exec::sub_cgroups", "--cgroup"),
    ("Paused::Allowed", "--ignore-paused"),
    ("Force::Kill", "`delete --force`"),
    ("Images::new", "--image-path"),
    ("Images::work", "--work-path"),
    ("Images::network_lock", "--network-lock"),
    ("Dump::status", "--status-fd"),
    ("Dump::parent", "--parent-path"),
    ("Afterwards::PreDumped", "--pre-dump"),
    ("Allow::LazyPages", "--lazy-pages"),
    ("Allow::TcpClose", "--tcp-close"),
    ("RestoreFrom::console", "--console-socket"),
    ("RestoreFrom::lsm_profile", "--lsm-profile"),
    ("RestoreFrom::lsm_mount_context", "--lsm-mount-context"),
];

/// A text of the library, with the names of the flags. A name in quotes, or one that is part of a longer word, is the user's own
/// and stays.
pub fn in_flags(text: &str) -> Cow<'_, str> {
    let mut named = Cow::Borrowed(text);
    for (api, flag) in FLAGS {
        if named.contains(api) {
            named = Cow::Owned(with_flag(&named, api, flag));
        }
    }
    named
}

/// Replaces `api` where it is a word of the sentence.
fn with_flag(text: &str, api: &str, flag: &str) -> String {
    let begins = |before: &str| before.is_empty() || before.ends_with([' ', '(']);
    let ends = |after: &str| after.is_empty() || after.starts_with([' ', ':', ',', ';', ')']);
    let (mut done, mut copied, mut quoted) = (String::with_capacity(text.len()), 0, false);
    for (at, _) in text.match_indices(api) {
        let (end, between) = (at + api.len(), &text[copied..at]);
        quoted ^= quotes(between) % 2 == 1;
        done += between;
        done += if !quoted && begins(&text[..at]) && ends(&text[end..]) { flag } else { api };
        copied = end;
    }
    done + &text[copied..]
}

/// How many quotes begin or end a text in quotes. Others have a backslash before them (`{:?}`).
fn quotes(text: &str) -> usize {
    let mut escaped = false;
    let counts = |byte: u8| {
        let counts = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        counts
    };
    text.bytes().map(counts).filter(|counts| *counts).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_names_is_a_flag_for_the_user() {
        for (api, user) in [
            ("Root::open: must not be /", "Option --root argument should not be set to /"),
            ("Root::open: /x: EACCES", "--root: /x: EACCES"),
            ("container: Images::new: /x is in Images::work", "container: --image-path: /x is in --work-path"),
            ("`pid_file`: write /pid_file: no", "--pid-file: write /pid_file: no"),
            ("linux.resources: not set", "linux.resources: not set"),
            // the user's own text
            ("/Force::Kill/config.json not found", "/Force::Kill/config.json not found"),
            ("exec: \"a Force::Kill b\": not found", "exec: \"a Force::Kill b\": not found"),
            ("\"a\\\" Force::Kill b\": Force::Kill kills", "\"a\\\" Force::Kill b\": `delete --force` kills"),
            ("\"\\\\\": Force::Kill kills", "\"\\\\\": `delete --force` kills"),
            (
                "exec: \"Force::Kill\": not found: Force::Kill kills",
                "exec: \"Force::Kill\": not found: `delete --force` kills",
            ),
        ] {
            assert_eq!(in_flags(api), user);
        }
        assert!(FLAGS.iter().all(|(api, flag)| in_flags(api) == *flag), "one name is part of another one");
    }
}
