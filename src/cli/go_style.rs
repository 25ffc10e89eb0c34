//! Go's flag style made into what clap reads: `-bundle` is `--bundle`, and what follows a command that is to be run in
//! the container is not ours.

use clap::{ArgAction, Command};

/// True when `--name` is a flag of `definition`.
fn is_long(definition: &Command, name: &str) -> bool {
    definition.get_arguments().any(|arg| arg.get_long() == Some(name)) || ["help", "version"].contains(&name)
}

/// True when the flag takes the next word as its value.
fn takes_value(definition: &Command, flag: &str) -> bool {
    if flag.contains('=') {
        return false;
    }
    let name = flag.trim_start_matches('-');
    let found = definition.get_arguments().find(|arg| {
        if flag.starts_with("--") {
            arg.get_long() == Some(name)
        } else {
            arg.get_short().map(String::from) == Some(name.into())
        }
    });
    found.is_some_and(|arg| {
        matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
    })
}

/// One word: a single dash before a long name becomes two.
fn dashed(definition: &Command, word: &str) -> String {
    let name = word.strip_prefix('-').unwrap_or_default().split('=').next().unwrap_or_default();
    if name.len() > 1 && !name.starts_with('-') && is_long(definition, name) {
        format!("-{word}")
    } else {
        word.to_owned()
    }
}

/// The words before the first that is no flag, normalised, and the rest as it is.
pub(super) fn leading_flags<'a>(definition: &Command, words: &'a [String]) -> (Vec<String>, &'a [String]) {
    let mut flags = Vec::new();
    let mut n = 0;
    while n < words.len() && words[n].starts_with('-') && words[n] != "-" && words[n] != "--" {
        let flag = dashed(definition, &words[n]);
        n += 1;
        if takes_value(definition, &flag) && n < words.len() {
            flags.extend([flag, words[n].clone()]);
            n += 1;
        } else {
            flags.push(flag);
        }
    }
    (flags, &words[n.min(words.len())..])
}

/// All words normalised; of a command that runs another, only those before the first that is no flag.
pub(super) fn normalised(definition: &Command, words: &[String]) -> Vec<String> {
    let trailing = definition.get_arguments().any(|arg| arg.is_trailing_var_arg_set());
    if trailing {
        let (mut flags, rest) = leading_flags(definition, words);
        let rest = rest.strip_prefix(&["--".to_owned()][..]).unwrap_or(rest);
        let Some((id, command)) = rest.split_first() else { return flags };
        // from here on nothing is ours; clap is told so
        let command = command.strip_prefix(&["--".to_owned()][..]).unwrap_or(command);
        flags.extend([id.clone(), "--".to_owned()]);
        flags.extend_from_slice(command);
        return flags;
    }
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word.clone());
            out.extend(words.by_ref().cloned());
            break;
        }
        let flag = dashed(definition, word);
        let value = flag.starts_with('-') && takes_value(definition, &flag);
        out.push(flag);
        if value {
            // a value may begin with a dash: --memory -1
            if let (Some(value), Some(flag)) = (words.next(), out.last_mut()) {
                if flag.starts_with("--") {
                    flag.push('=');
                    flag.push_str(value);
                } else {
                    out.push(value.clone());
                }
            }
        }
    }
    out
}
