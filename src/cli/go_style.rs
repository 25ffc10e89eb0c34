//! Converts flags in Go's style to what clap reads: one dash or two, `--flag value` or `--flag=value`, switches with a
//! value, flags before and after the arguments. All words after a command for the container belong to that command.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before and between the arguments, up to `--`.
    Anywhere,
    /// Only before the first argument. The rest belongs to the command in the container.
    First,
}

/// A command line, split into its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The flags, each as one word that clap reads: `--flag` or `--flag=value`.
    pub flags: Vec<OsString>,
    /// The arguments that are not flags.
    pub rest: Vec<OsString>,
    /// `--help` was among the flags.
    pub help: bool,
    /// `--version` or `-v` was among the flags, as it was typed.
    pub version: Option<String>,
}

/// The kind of a flag.
enum FlagKind {
    /// A flag without a value.
    Switch,
    /// A flag with a value.
    Value,
}

fn kind(arg: &Arg) -> FlagKind {
    match arg.get_action() {
        // Such a flag has a value only in the same word: `--flag=false`.
        _ if arg.is_require_equals_set() => FlagKind::Switch,
        ArgAction::Set | ArgAction::Append => FlagKind::Value,
        _ => FlagKind::Switch,
    }
}

/// Parses `words`. Errors have the words of Go's flag package.
pub(super) fn split_flags(definition: &Command, words: &[OsString], order: Order) -> Result<Parts, String> {
    let mut found = Parts::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            found.rest.extend(words.by_ref().cloned());
        } else if bytes.len() < 2 || bytes[0] != b'-' {
            found.rest.push(word.clone());
            if order == Order::First {
                found.rest.extend(words.by_ref().cloned());
            }
        } else {
            flag(definition, bytes, || words.next(), &mut found)?;
        }
    }
    Ok(found)
}

/// Reads one flag, with its value if it needs one.
fn flag<'a>(
    definition: &Command,
    word: &[u8],
    next: impl FnOnce() -> Option<&'a OsString>,
    found: &mut Parts,
) -> Result<(), String> {
    let bare = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
    let (name, value) = match bare.iter().position(|byte| *byte == b'=') {
        Some(n) => (&bare[..n], Some(OsStr::from_bytes(&bare[n + 1..]))),
        None => (bare, None),
    };
    let name = String::from_utf8_lossy(name);
    let same =
        |arg: &&Arg| arg.get_long() == Some(&*name) || arg.get_short().is_some_and(|short| name.chars().eq([short]));
    let Some(arg) = definition.get_arguments().find(same) else {
        match &*name {
            "help" | "h" | "?" => found.help = true,
            "version" | "v" | "V" => found.version = Some(name.into_owned()),
            _ => return Err(not_defined(definition, &name)),
        }
        return Ok(());
    };
    let long = arg.get_long().unwrap_or_default();
    let flag = OsString::from(format!("--{long}"));
    match kind(arg) {
        FlagKind::Switch => {
            let on = value.map_or(Some(true), truth);
            let said = || value.unwrap_or_default().to_string_lossy().into_owned();
            let on = on.ok_or_else(|| format!("invalid boolean value {:?} for -{name}: parse error", said()))?;
            // The last one counts.
            found.flags.retain(|earlier| *earlier != flag);
            if on {
                found.flags.push(flag);
            }
        }
        FlagKind::Value => {
            let value = value.or_else(|| next().map(OsString::as_os_str));
            let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            if !(value.is_empty() && nothing_is_unset(arg)) {
                let mut whole = flag;
                whole.push("=");
                whole.push(value);
                found.flags.push(whole);
            }
        }
    }
    Ok(())
}

/// The error about a flag that does not exist.
pub(super) fn not_defined(definition: &Command, name: &str) -> String {
    format!("flag provided but not defined: -{name}{}", suggestion(definition, name))
}

/// The hint for an unknown flag: what to use instead. It may be empty.
fn suggestion(definition: &Command, name: &str) -> String {
    let arguments = || definition.get_arguments().filter(|arg| !arg.is_hide_set());
    // exec has --tty, --user, --env and --cwd
    let own = |long: &str| arguments().any(|arg| arg.get_long() == Some(long));
    match ELSEWHERE.iter().find(|(words, ..)| words.contains(&name)) {
        // not a flag of kill: its second argument
        _ if SIGNAL.contains(&name) && own("regex") && own("wait") => {
            " (the signal comes after the id: kill <container-id> KILL)".to_owned()
        }
        Some((_, flag, _)) if !flag.is_empty() && own(flag) => {
            let more = if ["it", "ti"].contains(&name) { " -i is not needed" } else { "" };
            format!(" (did you mean --{flag}?{more})")
        }
        Some((.., instead)) if own("bundle") || own("tty") => format!(" ({instead})"),
        _ => {
            let near = super::typo::near(name, arguments().filter_map(Arg::get_long));
            near.map(|near| format!(" (did you mean --{near}?)")).unwrap_or_default()
        }
    }
}

/// Flags of docker and podman: our flag for it in commands that have one, and what a bundle has instead.
const ELSEWHERE: [(&[&str], &str, &str); 26] = [
    (&["it", "ti", "t", "tty"], "tty", "process.terminal in config.json asks for a terminal"),
    (&["i", "interactive"], "", "the standard streams are always those of the caller"),
    (&["rm"], "", "run deletes the container at its end, unless --keep is given"),
    (&["name"], "", "the argument is the container's id"),
    (&["v", "volume", "mount", "tmpfs"], "", "use mounts in config.json"),
    (&["p", "publish", "P", "expose"], "", "an engine forwards ports"),
    (&["privileged"], "", "config.json lists capabilities, devices and paths one by one"),
    (&["e", "env", "env-file"], "env", "use process.env in config.json"),
    (&["u", "user"], "user", "use process.user in config.json"),
    (&["w", "workdir"], "cwd", "use process.cwd in config.json"),
    (&["hostname"], "", "use hostname in config.json"),
    (&["net", "network", "pid", "ipc", "uts", "userns"], "", "use linux.namespaces in config.json"),
    (&["m", "memory"], "memory", "use linux.resources.memory.limit in config.json"),
    (&["cpus", "cpu-quota"], "cpu-quota", "use linux.resources.cpu.quota in config.json"),
    (&["pids-limit"], "", "use linux.resources.pids.limit in config.json"),
    (&["cap-add", "cap-drop"], "cap", "use process.capabilities in config.json"),
    (&["entrypoint"], "", "use process.args in config.json"),
    (&["read-only"], "", "use root.readonly in config.json"),
    (&["device"], "", "use linux.devices and linux.resources.devices in config.json"),
    (&["security-opt"], "", "use linux.seccomp, process.apparmorProfile and process.noNewPrivileges in config.json"),
    (&["ulimit"], "", "use process.rlimits in config.json"),
    (&["sysctl"], "", "use linux.sysctl in config.json"),
    (&["l", "label"], "", "use annotations in config.json"),
    (&["restart"], "", "an engine or systemd starts a container again"),
    (&["cgroup-parent"], "", "use linux.cgroupsPath in config.json"),
    (&["time", "timeout"], "", "kill --wait DURATION stops a container"),
];

/// What people type before a signal, and the numbers of signals that they send.
const SIGNAL: [&str; 10] = ["signal", "s", "9", "15", "1", "2", "KILL", "TERM", "SIGKILL", "SIGTERM"];

/// Parses a boolean as Go's strconv.ParseBool does.
pub fn truth(text: &OsStr) -> Option<bool> {
    match text.to_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether an empty value means that the flag is not set. Scripts write `--pid-file ""`, and runc ignores that flag,
/// too. A list may have an empty member, and an empty --root is a mistake.
fn nothing_is_unset(arg: &Arg) -> bool {
    let value = arg.get_value_parser().type_id();
    let text = value == TypeId::of::<PathBuf>() || value == TypeId::of::<String>();
    text && matches!(arg.get_action(), ArgAction::Set) && arg.get_default_values().is_empty()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::{Create, Exec};

    fn words(definition: &Command, order: Order, line: &str) -> Result<(String, String), String> {
        let words: Vec<OsString> = line.split_whitespace().map(|word| word.replace('~', "").into()).collect();
        let found = split_flags(definition, &words, order)?;
        let line = |words: &[OsString]| words.join(OsStr::new(" ")).into_string().unwrap();
        Ok((line(&found.flags), line(&found.rest)))
    }

    fn create(line: &str) -> (String, String) {
        words(&Create::command(), Order::Anywhere, line).unwrap()
    }

    #[test]
    fn every_form_of_a_flag_is_one_form() {
        for line in
            ["-b /x id", "--b /x id", "-b=/x id", "-bundle /x id", "--bundle=/x id", "id --bundle /x", "id -b=/x"]
        {
            assert_eq!(create(line), ("--bundle=/x".to_owned(), "id".to_owned()), "{line}");
        }
        assert_eq!(create("--no-pivot -- --bundle").1, "--bundle");
        assert_eq!(create("--bundle -x - ").1, "-");
    }

    #[test]
    fn a_switch_may_have_a_value_and_the_last_one_counts() {
        for line in ["-no-pivot", "--no-pivot=T", "--no-pivot=false --no-pivot=1"] {
            assert_eq!(create(line).0, "--no-pivot", "{line}");
        }
        assert_eq!(create("--no-pivot --no-pivot=false").0, "");
        assert_eq!(create("--no-pivot false").1, "false");
        let wrong = words(&Create::command(), Order::Anywhere, "--no-pivot=maybe");
        assert_eq!(wrong.unwrap_err(), "invalid boolean value \"maybe\" for -no-pivot: parse error");
    }

    #[test]
    fn an_empty_value_counts_as_absent() {
        assert_eq!(create("--pid-file= --bundle ~ id"), (String::new(), "id".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        let wrong = |line| words(&Create::command(), Order::Anywhere, line).unwrap_err();
        assert_eq!(wrong("--nope"), "flag provided but not defined: -nope");
        assert_eq!(wrong("-bundel /x"), "flag provided but not defined: -bundel (did you mean --bundle?)");
        for (line, hint) in [
            ("-it x", "process.terminal in config.json"),
            ("--rm x", "unless --keep"),
            ("--name x", "the argument is the container's id"),
            ("-p 80:80 x", "an engine forwards ports"),
            ("--privileged x", "one by one"),
            ("--env A=1 x", "use process.env"),
        ] {
            assert!(wrong(line).contains(hint), "{line}: {}", wrong(line));
        }
        let exec = words(&Exec::command(), Order::First, "-it x sh").unwrap_err();
        assert_eq!(exec, "flag provided but not defined: -it (did you mean --tty? -i is not needed)");
        let of = |definition: &Command, line| words(definition, Order::Anywhere, line).unwrap_err();
        for line in ["a -9", "--signal KILL a", "-s KILL a"] {
            assert!(
                of(&crate::cli::Kill::command(), line)
                    .ends_with("(the signal comes after the id: kill <container-id> KILL)")
            );
        }
        let update = of(&crate::cli::Update::command(), "--cpus 2 a");
        assert_eq!(update, "flag provided but not defined: -cpus (did you mean --cpu-quota?)");
        assert_eq!(wrong("id --bundle"), "flag needs an argument: -bundle");
    }

    #[test]
    fn behind_the_id_of_exec_nothing_is_ours() {
        let exec = |line| words(&Exec::command(), Order::First, line).unwrap();
        assert_eq!(exec("-e A=1 --env B=-2 -t id ls -la --env").0, "--env=A=1 --env=B=-2 --tty");
        assert_eq!(exec("-t id ls -la --env").1, "id ls -la --env");
        assert_eq!(exec("id -- ls").1, "id -- ls");
    }
}
