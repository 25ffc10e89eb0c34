//! hack/pages DIR: writes the man pages to DIR/man1, and the completions to DIR/bash, DIR/zsh and DIR/fish. They come
//! from the same definitions that parse the command line.
#![allow(dead_code, missing_docs)] // the binary uses the rest of these files

#[path = "../src/cli/mod.rs"]
mod cli;
#[path = "../src/flags.rs"]
mod flags;
#[path = "../src/log.rs"]
mod log;

use std::fs;
use std::io;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, ValueHint};
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: hack/pages DIR"));
    };
    let directory = Path::new(&directory);
    let man = directory.join("man1");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(tree(), &man)?;
    for (shell, name, file) in
        [(Shell::Bash, "bash", "coracle.bash"), (Shell::Zsh, "zsh", "_coracle"), (Shell::Fish, "fish", "coracle.fish")]
    {
        let section = directory.join(name);
        fs::create_dir_all(&section)?;
        fs::write(section.join(file), completion(shell))?;
    }
    Ok(())
}

/// The words that a flag takes.
const WORDS: [(&str, &[&str]); 7] = [
    ("log-format", &["text", "json"]),
    ("log-level", &["debug", "info", "warning", "error"]),
    ("cgroup-manager", &["cgroupfs", "systemd", "disabled"]),
    ("rootless", &["true", "false", "auto"]),
    ("manage-cgroups-mode", &["soft", "full", "strict", "ignore"]),
    ("network-lock", &["iptables", "nftables", "skip"]),
    ("sort", &["cpu", "memory", "processes", "id"]),
];
const SIGNALS: &str = "TERM KILL INT HUP QUIT USR1 USR2 STOP CONT";

/// What a user may type for an argument: its words, or files, or directories.
fn completed(arg: clap::Arg) -> clap::Arg {
    let name = arg.get_long().unwrap_or_default().to_owned();
    if let Some((_, words)) = WORDS.iter().find(|(flag, _)| *flag == name) {
        return arg.value_parser(PossibleValuesParser::new(*words));
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // `text or json`, `table, wide or json`: the help has the words
    if name == "format" {
        let plain = help.split('(').map(|part| part.rsplit(')').next().unwrap_or_default()).collect::<String>();
        let words = plain.replace(" or ", ",").split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
        return arg.value_parser(PossibleValuesParser::new(words));
    }
    let is_path = arg.get_value_parser().type_id() == std::any::TypeId::of::<std::path::PathBuf>();
    let directory = ["bundle", "root", "image-path", "work-path", "parent-path", "from"].contains(&&*name)
        || arg.get_id() == "directory";
    match () {
        () if directory => arg.value_hint(ValueHint::DirPath),
        () if is_path => arg.value_hint(ValueHint::FilePath),
        () => arg,
    }
}

/// The commands whose first argument is the id of a container.
fn of_ids() -> Vec<&'static str> {
    let takes_id =
        |verb: &&cli::Verb| verb.takes.starts_with("<container-id>") || verb.takes.starts_with("[<container-id>");
    let made = ["create", "run", "restore"];
    cli::VERBS.iter().filter(takes_id).map(|verb| verb.name).filter(|name| !made.contains(name)).collect()
}

/// A script for a shell. clap does not know containers: their ids come from `coracle --root DIR list --quiet`, with the --root
/// that was typed.
fn completion(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut tree(), "coracle", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let ids = of_ids();
    match shell {
        Shell::Bash => {
            let verbs = ids.iter().map(|verb| format!("0:{verb}")).collect::<Vec<_>>().join(" | ");
            format!(
                r#"{text}
_coracle_with_ids() {{
    _coracle "$@"
    local word i verb="" before=0 root=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case $word in
            --root | -root) root=(--root "${{COMP_WORDS[i + 1]}}"); ((i++)) ;;
            --root=*) root=("$word") ;;
            -*) ;;
            *) if [[ -z $verb ]]; then verb=$word; else ((before++)); fi ;;
        esac
    done
    [[ ${{COMP_WORDS[COMP_CWORD]}} != -* ]] || return 0
    case $before:$verb in
        1:kill) word="{SIGNALS}" ;;
        0:mounts) word="add remove" ;;
        {verbs} | 1:mounts) word=$(coracle "${{root[@]}}" list --quiet 2>/dev/null) ;;
        *) return 0 ;;
    esac
    COMPREPLY=($(compgen -W "$word" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F _coracle_with_ids -o bashdefault -o default coracle
"#
            )
        }
        Shell::Fish => {
            let list = ids.iter().map(|verb| {
                format!("complete -c coracle -n '__fish_coracle_using_subcommand {verb}' -f -a '(__coracle_ids)'\n")
            });
            format!(
                "{text}\nfunction __coracle_ids\n    set -l words (commandline -opc)\n    set -l root\n    \
                 if set -l at (contains -i -- --root $words)\n        set root --root $words[(math $at + 1)]\n    end\n    \
                 coracle $root list --quiet 2>/dev/null\nend\n{}\
                 complete -c coracle -n '__fish_coracle_using_subcommand kill' -f -a '{SIGNALS}'\n\
                 complete -c coracle -n '__fish_coracle_using_subcommand mounts' -a 'add remove'\n",
                list.collect::<String>()
            )
        }
        _ => {
            // zsh: words[] has the whole line
            let ids = "_coracle_ids() {\n    local -a root\n    local at=${words[(i)--root]}\n    \
                       (( at < $#words )) && root=(--root $words[at+1])\n    \
                       compadd -- ${(f)\"$(coracle $root list --quiet 2>/dev/null)\"}\n}\n";
            let text = text.replace("id of the container:_default'", "id of the container:_coracle_ids'");
            let text = text.replace("ids of the containers:_default'", "ids of the containers:_coracle_ids'");
            let text =
                text.replace("signal -- name or number:_default'", &format!("signal -- name or number:({SIGNALS})'"));
            let text = text.replace("what -- add or remove:_default'", "what -- add or remove:(add remove)'");
            text.replacen("\n_coracle() {", &format!("\n{ids}\n_coracle() {{"), 1)
        }
    }
}

/// The whole command line as one definition. The binary builds only the part in use.
fn tree() -> clap::Command {
    let verbs = cli::VERBS.iter().map(|verb| {
        let more = if verb.more.is_empty() { verb.about.to_owned() } else { verb.more.to_owned() };
        let usage = format!("coracle {} [options] {}", verb.name, verb.takes);
        let parsed = (verb.definition)();
        let shown = parsed.get_arguments().filter(|arg| !arg.is_hide_set()).cloned().map(completed);
        let definition = clap::Command::new(verb.name).args(shown);
        let definition = definition.about(verb.about).long_about(more.replace('\n', " "));
        definition.override_usage(usage).after_long_help(after(verb))
    });
    let global = cli::GlobalOnly::command();
    clap::Command::new("coracle")
        .args(global.get_arguments().cloned().map(completed))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Open Container Initiative runtime")
        .long_about(
            "coracle runs applications packaged as OCI bundles: a directory with a config.json and a root filesystem. \
             It accepts the command lines of runc.",
        )
        .disable_help_flag(false)
        .disable_version_flag(false)
        .disable_help_subcommand(true)
        .subcommands(verbs)
}

/// The text after the options of a man page.
fn after(verb: &cli::Verb) -> String {
    let mut text = "EXAMPLES\n".to_owned();
    for (line, what) in verb.examples {
        text.push_str(&format!("{line}\n    {what}\n"));
    }
    let status = match verb.name {
        "run" | "exec" | "restore" => {
            "The exit status of the program; 128 plus the number of the signal that has ended it; 1 (exec: 255) if coracle fails."
        }
        "check" => "0 if the config has no mistake, and the score is below --fail-at; otherwise 1.",
        "host" => "0 if this user can make a container; otherwise 1.",
        _ => "0, or 1 if coracle fails.",
    };
    text.push_str(&format!(
        "\nEXIT STATUS\n{status}\n\nFILES\n/run/coracle, $XDG_RUNTIME_DIR/coracle: the state of containers (--root)\n\n\
         ENVIRONMENT\nXDG_RUNTIME_DIR, NOTIFY_SOCKET, LISTEN_FDS\n\nSEE ALSO\ncoracle(1)\n"
    ));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap fails the test
mod tests {
    use super::*;

    /// The help is made from the definitions that parse; the pages and scripts are made here.
    #[test]
    fn help_man_page_and_completions_have_the_same_flags() {
        let scripts = [Shell::Bash, Shell::Zsh, Shell::Fish].map(completion);
        for verb in cli::VERBS {
            let mut page = Vec::new();
            let command = tree().find_subcommand(verb.name).unwrap().clone();
            clap_mangen::Man::new(command).render(&mut page).unwrap();
            let page = String::from_utf8(page).unwrap().replace('\\', "");
            let help = cli::command_help(verb);
            for arg in (verb.definition)().get_arguments().filter(|arg| arg.get_long().is_some()) {
                let flag = format!("--{}", arg.get_long().unwrap());
                let shown = !arg.is_hide_set();
                assert_eq!((help.contains(&flag), page.contains(&flag)), (shown, shown), "{} {flag}", verb.name);
            }
            for (line, _) in verb.examples {
                assert!(page.contains(line) && help.contains(line), "{line}");
            }
        }
        assert!(scripts.iter().all(|script| !script.contains("kernel-memory")), "a hidden flag");
        let bash = std::process::Command::new("bash").args(["-n", "-c", &scripts[0]]).status().unwrap();
        assert!(bash.success(), "the script for bash");
        assert!(scripts[1].contains(&format!(":({SIGNALS})")) && scripts[1].contains(":(add remove)"), "words for zsh");
        zsh_completes(&scripts[1]);
        fish_completes(&scripts[2]);
        for word in ["kill", "warning", "cgroupfs", "property", "list --quiet"] {
            assert!(scripts.iter().all(|script| script.contains(word)), "{word}");
        }
        assert!(of_ids().contains(&"kill") && of_ids().contains(&"top") && !of_ids().contains(&"run"));
    }

    /// Prints what zsh itself offers for a line: zsh completes only on a terminal, which its module zpty makes. The inner zsh says READY
    /// when its line editor has the terminal: before, the terminal itself would take Control-U, and remove the line.
    const ZSH: &str = r#"
zmodload zsh/zpty || exit 9
zpty inner zsh -f -i
tell() { zpty -w inner "$1" }
tell 'PS1=; LISTMAX=9999; unsetopt prompt_cr prompt_sp beep; autoload -Uz compinit; compinit -D -u; source '$1
tell 'compadd() {
  local -a hits; local n=${@[(i)(-|--)]}
  if [[ ${@[1,$n]} == *-(O|A|D)* ]]; then builtin compadd "$@"; return; fi
  builtin compadd -A hits "$@"; builtin compadd "$@"; local code=$?
  print -l -- "HIT:"${^hits}; return $code
}; zle-line-init() { print READY:$((1+1)) }; zle -N zle-line-init'
while zpty -r inner line; do [[ $line == *READY:2* ]] && break; done
zpty -n -w inner "$2"$'\t'
zpty -n -w inner $'\x15'
tell 'print END:$((1+1))'
while zpty -r inner line; do
  [[ $line == *HIT:* ]] && print -r -- ${${line##*HIT:}%%[[:space:]]*}
  [[ $line == *END:2* ]] && break
done
zpty -d inner
"#;

    fn zsh_completes(script: &str) {
        let Ok(found) = std::process::Command::new("zsh").arg("--version").output() else {
            return eprintln!("skipped: zsh is not installed: its completions are not tried");
        };
        assert!(found.status.success());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("_coracle");
        std::fs::write(&file, script).unwrap();
        for (line, word) in COMPLETED {
            // `zpty -r` waits for ever for a word that does not come
            let mut zsh = std::process::Command::new("timeout");
            let said = zsh.args(["60", "zsh", "-f", "-c", ZSH, "zsh"]).arg(&file).arg(line).output().unwrap();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.lines().any(|one| one == word), "{line}: {said}");
        }
    }

    /// A line, and a word that completes it.
    const COMPLETED: [(&str, &str); 5] = [
        ("coracle ru", "run"),
        ("coracle list --format ", "wide"),
        ("coracle kill box T", "TERM"),
        ("coracle mounts a", "add"),
        ("coracle run --det", "--detach"),
    ];

    /// What fish itself offers.
    fn fish_completes(script: &str) {
        let Ok(found) = std::process::Command::new("fish").arg("--version").output() else {
            return eprintln!("skipped: fish is not installed: its completions are not tried");
        };
        assert!(found.status.success());
        for (line, word) in COMPLETED {
            let program = format!("{script}\ncomplete -C {line:?}");
            let said = std::process::Command::new("fish").args(["--no-config", "-c", &program]).output().unwrap();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.lines().any(|one| one.split('\t').next() == Some(word)), "{line}: {said}");
        }
    }
}
