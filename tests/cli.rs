//! The command line: arguments, output and exit status. This needs no root, and makes no container.
#![allow(clippy::unwrap_used, missing_docs)] // a failed unwrap fails the test

#[path = "cli/people.rs"]
mod people;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn coracle() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.stdin(Stdio::null()).env_remove("XDG_RUNTIME_DIR");
    command
}

fn call<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    coracle().args(args).output().unwrap()
}

fn line(line: &str) -> Output {
    call(line.split_whitespace())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts success, and returns the output.
#[track_caller]
fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", out(output), err(output));
    out(output)
}

/// Asserts a failure with this status, and returns the message.
#[track_caller]
fn fails(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{}{}", out(output), err(output));
    err(output)
}

/// A state directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join(below)
    }

    fn call(&self, words: &str) -> Output {
        coracle().arg("--root").arg(self.0.path()).args(words.split_whitespace()).output().unwrap()
    }

    /// A container whose process ended long ago, with the state file of runc.
    fn container(&self, id: &str) {
        fs::create_dir(self.path(id)).unwrap();
        let state = json!({
            "id": id, "init_process_pid": i32::MAX, "init_process_start": 1, "created": "2026-01-02T03:04:05.678Z",
            "config": {"rootfs": "/b/rootfs", "labels": ["a=1=2", "bundle=/b"], "namespaces": [{"type": "NEWPID", "path": ""}],
                "cgroups": {"path": "/x"}},
            "cgroup_paths": null, "namespace_paths": {}, "external_descriptors": null, "rootless": false,
        });
        fs::write(self.path(id).join("state.json"), state.to_string()).unwrap();
    }
}

/// Every flag of every command of runc, crun or their clients.
const FLAGS: [(&str, &str); 18] = [
    (
        "create",
        "bundle b config f console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds no-subreaper",
    ),
    (
        "run",
        "bundle b config f console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds no-subreaper detach d \
         keep",
    ),
    ("start", ""),
    ("state", ""),
    ("kill", "all a regex r wait"),
    ("delete", "force f regex r"),
    (
        "exec",
        "console-socket pidfd-socket cwd env e tty t user u additional-gids g process p detach d pid-file process-label \
         apparmor no-new-privs cap c preserve-fds cgroup ignore-paused",
    ),
    ("list", "format f quiet q"),
    ("ps", "format f"),
    ("pause", ""),
    ("resume", ""),
    ("spec", "bundle b file f rootless no-terminal from"),
    ("top", "once interval sort"),
    ("events", "interval stats format"),
    ("features", ""),
    ("explain", "bundle b format f image-path"),
    ("check", "bundle b config f security image-path fail-at format"),
    ("host", "format f"),
];

#[test]
fn version_has_the_lines_that_go_runc_reads() {
    for form in ["--version", "-version", "-v", "-V", "--debug --version"] {
        let text = ok(&line(form));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split_once("version ").unwrap().0, "coracle ", "{form}");
        let names: Vec<_> = lines[1..].iter().map(|line| line.split_once(": ").unwrap().0).collect();
        assert_eq!(names, ["commit", "spec", "libseccomp"], "{form}");
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

#[test]
fn help_in_every_form_begins_with_the_name() {
    for form in ["", "help", "h", "-h", "-?", "--help", "-help", "--debug", "--root /x --help"] {
        let text = ok(&line(form));
        assert!(text.starts_with("NAME:\n   coracle - Open Container Initiative runtime\n"), "{form}: {text}");
        for (verb, _) in FLAGS {
            assert!(text.contains(&format!("\n   {verb} ")), "{form}: {verb} is missing");
        }
        for flag in
            "debug log log-format log-level root systemd-cgroup cgroup-manager rootless systemd-log help version"
                .split(' ')
        {
            assert!(text.contains(&format!("\n   --{flag}")), "{form}: --{flag} is missing");
        }
    }
}

#[test]
fn the_help_of_a_command_lists_its_flags() {
    for (verb, flags) in FLAGS {
        for form in [format!("{verb} --help"), format!("{verb} -h"), format!("{verb} -help"), format!("help {verb}")] {
            let text = ok(&line(&form));
            assert!(text.starts_with(&format!("NAME:\n   coracle {verb} - ")), "{form}: {text}");
            for flag in flags.split_whitespace().chain(["help", "h"]) {
                let shown = if flag.len() > 1 { format!("\n   --{flag}") } else { format!(", -{flag} ") };
                assert!(text.contains(&shown), "{form}: {flag} is missing in {text}");
            }
        }
    }
    assert!(ok(&line("create -b /x --help")).starts_with("NAME:\n   coracle create"));
    // a flag without a value, although it takes `--stats=false`, too
    let text = ok(&line("events --help"));
    assert!(text.contains("--stats ") && !text.contains("--stats value") && !text.contains("default: false"), "{text}");
}

#[test]
fn every_flag_of_every_command_is_taken() {
    // The id is checked after the flags are parsed, and before anything is done.
    let place = Place::new();
    let values = "bundle b config f console-socket pidfd-socket pid-file preserve-fds cwd env e user u additional-gids g \
                  process p process-label apparmor cap c cgroup format file fail-at wait interval sort from \
                  image-path";
    for (verb, flags) in FLAGS {
        for flag in flags.split_whitespace() {
            let switch = (verb == "delete" && flag == "f") || !values.split_whitespace().any(|value| value == flag);
            for dashes in ["-", "--"] {
                let value = if switch { "" } else { "0" };
                let id = if ["list", "spec", "features", "check", "explain", "host", "top"].contains(&verb) {
                    ""
                } else {
                    "a/b"
                };
                let words = format!("{verb} {dashes}{flag} {value} {id}");
                let output = coracle()
                    .arg("--root")
                    .arg(place.0.path())
                    .args(words.split_whitespace())
                    .current_dir(place.0.path())
                    .output()
                    .unwrap();
                let said = err(&output);
                assert!(!out(&output).contains("Incorrect Usage"), "{words}: {said}");
            }
        }
    }
}

#[test]
fn a_wrong_number_of_arguments_is_reported() {
    for (words, said) in [
        ("create", "coracle: error: \"create\" requires exactly 1 argument(s)"),
        ("create a b", "coracle: error: \"create\" requires exactly 1 argument(s)"),
        ("start", "coracle: error: \"start\" requires exactly 1 argument(s)"),
        ("start a b", "coracle: error: \"start\" requires exactly 1 argument(s)"),
        ("state", "coracle: error: \"state\" requires exactly 1 argument(s)"),
        ("run -d", "coracle: error: \"run\" requires exactly 1 argument(s)"),
        ("delete", "coracle: error: \"delete\" requires a minimum of 1 argument(s)"),
        ("pause a b", "coracle: error: \"pause\" requires exactly 1 argument(s)"),
        ("resume", "coracle: error: \"resume\" requires exactly 1 argument(s)"),
        ("exec", "coracle: error: \"exec\" requires a minimum of 1 argument(s)"),
        ("kill", "coracle: error: \"kill\" requires a minimum of 1 argument(s)"),
        ("kill a b c", "coracle: error: \"kill\" requires a maximum of 2 argument(s)"),
        ("ps", "coracle: error: \"ps\" requires a minimum of 1 argument(s)"),
        ("list a", "coracle: error: \"list\" requires exactly 0 argument(s)"),
        ("spec a", "coracle: error: \"spec\" requires exactly 0 argument(s)"),
        ("features a", "coracle: error: \"features\" requires exactly 0 argument(s)"),
    ] {
        let output = line(words);
        assert_eq!(fails(&output, 1), format!("{said}\n"), "{words}");
        let verb = words.split(' ').next().unwrap();
        let help = format!("Incorrect Usage.\n\nNAME:\n   coracle {verb} - ");
        assert!(out(&output).starts_with(&help), "{words}: {}", out(&output));
    }
}

#[test]
fn an_unknown_flag_is_reported() {
    for (words, said) in [
        ("create --nope a", "flag provided but not defined: -nope"),
        ("create a -x", "flag provided but not defined: -x"),
        ("run --image-path /x a", "flag provided but not defined: -image-path"),
        ("--nope list", "flag provided but not defined: -nope"),
        ("create -bundel /x a", "flag provided but not defined: -bundel"),
        // Global flags come before the command.
        ("list --root /x", "flag provided but not defined: -root"),
        ("list --debug", "flag provided but not defined: -debug"),
        ("create a --bundle", "flag needs an argument: -bundle"),
        ("--root", "flag needs an argument: -root"),
        ("run --detach=maybe a", "invalid boolean value \"maybe\" for -detach: parse error"),
        (
            "create --preserve-fds x a",
            "invalid value \"x\" for flag -preserve-fds: expected a number from 0 to 1048575",
        ),
        ("create --preserve-fds 99999999 a", "invalid value \"99999999\" for flag -preserve-fds"),
    ] {
        let output = line(words);
        let error = fails(&output, 1);
        assert!(error.starts_with(&format!("coracle: error: {said}")), "{words}: {error}");
        assert!(out(&output).starts_with(&format!("Incorrect Usage: {said}")), "{words}: {}", out(&output));
        assert!(out(&output).contains("\n\nNAME:\n   coracle"), "{words}");
    }
}

#[test]
fn an_unknown_command_is_reported() {
    for words in ["foo", "foo --help", "help foo", "--debug=false foo"] {
        let output = line(words);
        assert_eq!(fails(&output, 3), "coracle: error: No help topic for 'foo'\n", "{words}");
        assert_eq!(out(&output), "", "{words}");
    }
}

#[test]
fn words_that_are_no_text_are_refused_or_kept() {
    let strange = OsStr::from_bytes(b"\xff\xfe");
    let said = fails(&call([OsStr::new("start"), strange]), 1);
    assert!(said.contains("not valid UTF-8"), "{said}");
    let said = fails(&call([strange]), 3);
    assert!(said.contains("No help topic for"), "{said}");
    // A path may have any bytes.
    let place = Place::new();
    let root = place.0.path().join(strange);
    fs::create_dir(&root).unwrap();
    assert_eq!(ok(&call([OsStr::new("--root"), root.as_os_str(), OsStr::new("list"), OsStr::new("-q")])), "");
}

#[test]
fn global_options_are_taken_and_checked() {
    let place = Place::new();
    for option in [
        "--debug=false",
        "--log-format json",
        "-log-format=text",
        "--log-level error",
        "--log-level debug",
        "--systemd-cgroup",
        "--systemd-cgroup=false",
        "--cgroup-manager cgroupfs",
        "--cgroup-manager=systemd",
        "--cgroup-manager disabled",
        "--rootless true",
        "--rootless=false",
        "--rootless auto",
    ] {
        assert_eq!(ok(&place.call(&format!("{option} list -q"))), "", "{option}");
    }
    for (option, said) in [
        ("--log-format xml", "invalid log-format: xml (expected one of text, json)"),
        (
            "--cgroup-manager foo",
            "--cgroup-manager: unknown value \"foo\" (expected one of cgroupfs, systemd, disabled)",
        ),
        ("--log-level loud", "invalid log-level: loud"),
        ("--rootless perhaps", "invalid rootless option: \"perhaps\""),
    ] {
        let error = fails(&place.call(&format!("{option} list")), 1);
        assert!(error.contains(said), "{option}: {error}");
    }
    ok(&place.call("--criu /x list -q"));
    assert!(err(&place.call("--debug list -q")).contains("level=debug msg="));
}

#[test]
fn an_explicit_root_is_a_separate_directory() {
    for root in ["/", "", "/.", "/.."] {
        let said = fails(&call(["--root", root, "list"]), 1);
        assert!(said.contains("Option --root argument should not be set to /"), "{root}: {said}");
    }
    let said = fails(&line("--root /nonexistent/x list"), 1);
    assert!(said.contains("/nonexistent/x: no such file or directory"), "{said}");
}

#[test]
fn root_within_a_user_namespace_uses_the_users_directory() {
    let place = Place::new();
    let root_of = |users: &[&str]| {
        let output = Command::new("unshare")
            .args(["-U", "-r", "env", "-u", "USER"])
            .args(users)
            .arg(format!("XDG_RUNTIME_DIR={}", place.0.path().display()))
            .args([env!("CARGO_BIN_EXE_coracle"), "--debug", "list", "-q"])
            .output()
            .unwrap();
        (output.status.success(), err(&output))
    };
    let probe = Command::new("unshare").args(["-U", "-r", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: there are no user namespaces for us here");
        return;
    }
    let users = format!("--root {}/coracle", place.0.path().display());
    let (went, said) = root_of(&[]);
    assert!(went && said.contains(&users), "{said}");
    let (_, said) = root_of(&["USER=root"]);
    assert!(said.contains("--root /run/coracle"), "{said}");
}

#[test]
fn an_empty_runtime_directory_counts_as_absent() {
    let output = coracle().args(["--debug", "state", "no-such-container"]).env("XDG_RUNTIME_DIR", "").output().unwrap();
    let said = fails(&output, 1);
    assert!(said.contains("--root /run/coracle"), "{said}");
    assert!(said.contains("container does not exist"), "{said}");
}

#[test]
fn list_of_nothing() {
    let place = Place::new();
    assert_eq!(ok(&place.call("list")), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    assert_eq!(ok(&place.call("list --format json")), "null\n");
    assert_eq!(ok(&place.call("list -q")), "");
    assert!(fails(&place.call("list -f xml"), 1).contains("invalid format option"));
}

#[test]
fn list_shows_what_can_be_read_and_tells_the_rest() {
    let place = Place::new();
    for id in ["b", "a"] {
        place.container(id);
    }
    fs::create_dir(place.path("making")).unwrap();
    fs::create_dir(place.path("broken")).unwrap();
    fs::write(place.path("broken/state.json"), "{").unwrap();
    fs::write(place.path("a-file"), "").unwrap();
    let output = place.call("list -q");
    assert_eq!(ok(&output), "a\nb\n");
    assert!(err(&output).contains("broken"), "{}", err(&output));
    assert!(!err(&output).contains("making"), "{}", err(&output));
    let list: Value = serde_json::from_str(&ok(&place.call("list --format=json"))).unwrap();
    let user = out(&Command::new("id").arg("-un").output().unwrap());
    assert_eq!(
        list[0],
        json!({"ociVersion": "1.0.2", "id": "a", "pid": 0, "status": "stopped", "bundle": "/b", "rootfs": "/b/rootfs",
            "created": "2026-01-02T03:04:05.678Z", "annotations": {"a": "1=2"}, "owner": user.trim()})
    );
    let table = ok(&place.call("list"));
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["a", "0", "stopped", "/b", "2026-01-02T03:04:05.678Z", user.trim()]);
}

#[test]
fn state_of_a_stopped_container() {
    let place = Place::new();
    place.container("x");
    let expected = "{\n  \"ociVersion\": \"1.0.2\",\n  \"id\": \"x\",\n  \"pid\": 0,\n  \"status\": \"stopped\",\n  \
                    \"bundle\": \"/b\",\n  \"rootfs\": \"/b/rootfs\",\n  \"created\": \"2026-01-02T03:04:05.678Z\",\n  \
                    \"annotations\": {\n    \"a\": \"1=2\"\n  },\n  \"owner\": \"\"\n}\n";
    assert_eq!(ok(&place.call("state x")), expected);
}

#[test]
fn a_container_that_does_not_exist_or_run_is_reported_in_the_words_that_clients_match() {
    let place = Place::new();
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        let said = fails(&place.call(&format!("{verb} nobody")), 1);
        assert!(said.contains("container does not exist"), "{verb}: {said}");
        let said = fails(&place.call(&format!("{verb} a/b")), 1);
        assert!(said.contains("invalid container ID format"), "{verb}: {said}");
    }
    assert!(fails(&place.call("exec nobody true"), 255).contains("container does not exist"));
    ok(&place.call("delete --force nobody"));
    place.container("x");
    assert!(fails(&place.call("kill x TERM"), 1).contains("container not running"));
    assert!(fails(&place.call("kill x NONSENSE"), 1).contains("NONSENSE"));
    ok(&place.call("kill --all x 9"));
    assert!(fails(&place.call("start x"), 1).contains("cannot start a container that has stopped"));
    assert!(fails(&place.call("exec x true"), 255).contains("cannot exec in a stopped container"));
    assert!(fails(&place.call("pause x"), 1).contains("container not running"));
    ok(&place.call("delete x"));
    assert!(!place.path("x").exists());
}

#[test]
fn a_regular_expression_names_several() {
    let place = Place::new();
    for id in ["web-1", "web-2", "db"] {
        place.container(id);
    }
    assert!(fails(&place.call("delete --regex ["), 1).contains("--regex"));
    ok(&place.call("delete --regex ^web-"));
    assert_eq!(ok(&place.call("list -q")), "db\n");
}

#[test]
fn a_failure_is_one_record_in_the_log_and_bare_text_on_standard_error() {
    let place = Place::new();
    for (log, words, status) in [("a", "start nobody", 1), ("b", "create a b", 1), ("c", "foo", 3)] {
        let file = place.path(log);
        let said = fails(&place.call(&format!("--log {} --log-format json {words}", file.display())), status);
        assert!(!said.starts_with('{'), "{said}");
        let text = fs::read_to_string(file).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["level"], "error");
        assert_eq!(format!("{}\n", record["msg"].as_str().unwrap()), said);
        let bare = fails(&place.call(words), status);
        let message = said.strip_prefix("coracle: ").unwrap_or(&said);
        assert_eq!(bare, format!("coracle: error: {message}"));
        assert!(record["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
    let text = place.path("text");
    fails(&place.call(&format!("--log file:{} start nobody", text.display())), 1);
    let text = fs::read_to_string(text).unwrap();
    assert!(text.starts_with("time=\"") && text.contains("level=error msg="), "{text}");
    let json = fails(&place.call("--log-format json start nobody"), 1);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["level"], "error");
}

#[test]
fn a_missing_journal_is_reported_together_with_the_failure() {
    let place = Place::new();
    for (log, socket) in [("journald:x", "/run/systemd/journal/socket"), ("syslog:x", "/dev/log")] {
        let said = fails(&place.call(&format!("--log {log} start nobody")), 1);
        assert!(said.contains("container does not exist"), "{said}");
        assert_eq!(said.contains("--log"), !Path::new(socket).exists(), "{said}");
    }
    // A mistake in the command line is reported first, wherever the log is.
    let said = fails(&place.call("--log /nonexistent/log nope"), 3);
    assert!(said.contains("nope") && !said.contains("--log: open"), "{said}");
}

#[test]
fn a_closed_pipe_does_not_crash_the_command() {
    let place = Place::new();
    (0..50).for_each(|n| place.container(&format!("c{n}")));
    for words in ["list", "features", "--help", "create --help", "--version", "list --nope", "start nobody"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = coracle()
            .arg("--root")
            .arg(place.0.path())
            .args(words.split(' '))
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .status()
            .unwrap();
        let expected = if words.contains("nope") || words.contains("nobody") { 1 } else { 0 };
        assert_eq!(status.code(), Some(expected), "{words}");
    }
}

#[test]
fn spec_writes_a_config_that_check_finds_good() {
    let place = Place::new();
    let bundle = place.path("bundle");
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    let spec = |words: &str| place.call(&format!("spec {words} -b {}", bundle.display()));
    ok(&spec(""));
    let text = fs::read_to_string(bundle.join("config.json")).unwrap();
    assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {"), "{text}");
    assert_eq!(fails(&spec(""), 1), "coracle: error: File config.json exists. Remove it first\n");
    ok(&spec("--rootless -f other.json"));
    let rootless: Value = serde_json::from_slice(&fs::read(bundle.join("other.json")).unwrap()).unwrap();
    let kinds: Vec<_> = rootless["linux"]["namespaces"].as_array().unwrap().iter().map(|n| &n["type"]).collect();
    assert!(kinds.contains(&&json!("user")) && !kinds.contains(&&json!("network")), "{kinds:?}");
    assert_eq!(rootless["linux"]["uidMappings"].as_array().unwrap().len(), 1);
    let bundle = bundle.display();
    assert!(ok(&place.call(&format!("check {bundle}"))).contains("no mistakes"));
    assert!(ok(&place.call(&format!("explain {bundle}"))).contains("linux.namespaces"));
    let steps: Value = serde_json::from_str(&ok(&place.call(&format!("explain -f json {bundle}")))).unwrap();
    assert!(steps.as_array().unwrap().len() > 10);
}

#[test]
fn check_tells_every_mistake() {
    let place = Place::new();
    let bundle = place.path("");
    ok(&place.call(&format!("spec -b {}", bundle.display())));
    fs::create_dir(place.path("rootfs")).unwrap();
    let path = place.path("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["cwd"] = json!("relative");
    config["linux"]["namespaces"][0]["type"] = json!("netwerk");
    fs::write(&path, config.to_string()).unwrap();
    let said = fails(&place.call(&format!("check {}", bundle.display())), 1);
    for part in ["linux.namespaces[0].type", "netwerk"] {
        assert!(said.contains(part), "{said}");
    }
    config["linux"]["namespaces"][0]["type"] = json!("pid");
    fs::write(&path, config.to_string()).unwrap();
    let said = fails(&place.call(&format!("check -b {}", bundle.display())), 1);
    assert!(said.contains("process.cwd"), "{said}");
    config["process"]["cwd"] = json!("/");
    config["root"]["readOnly"] = json!(true);
    fs::write(&path, config.to_string()).unwrap();
    let notes = ok(&place.call(&format!("check {}", bundle.display())));
    assert!(notes.contains("note: root.readOnly: "), "{notes}");
    let said = fails(&place.call("check /nonexistent"), 1);
    assert!(said.contains("no such file or directory"), "{said}");
}

#[test]
fn features_says_what_there_is_in_the_words_of_the_spec() {
    let text = ok(&line("features"));
    assert!(text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\","), "{text}");
    let features: Value = serde_json::from_str(&text).unwrap();
    let list = |pointer: &str| -> Vec<String> {
        let list = features.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer}"));
        list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("/hooks").len(), 6);
    assert_eq!(list("/linux/namespaces").len(), 8);
    assert_eq!(list("/linux/capabilities").len(), 41);
    assert_eq!(list("/linux/seccomp/actions").len(), 9);
    assert_eq!(list("/linux/seccomp/operators").len(), 7);
    assert!(list("/linux/seccomp/archs").contains(&"SCMP_ARCH_X86_64".to_owned()));
    assert!(list("/linux/seccomp/knownFlags").len() >= list("/linux/seccomp/supportedFlags").len());
    let options = list("/mountOptions");
    assert!(options.is_sorted() && options.contains(&"rbind".to_owned()), "{options:?}");
    for part in [
        "cgroup/v1",
        "cgroup/v2",
        "cgroup/systemd",
        "cgroup/systemdUser",
        "cgroup/rdma",
        "seccomp/enabled",
        "apparmor/enabled",
        "selinux/enabled",
        "intelRdt/enabled",
        "mountExtensions/idmap/enabled",
        "netDevices/enabled",
    ] {
        assert!(features.pointer(&format!("/linux/{part}")).is_some_and(Value::is_boolean), "{part}");
    }
    assert!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"].is_string());
    let annotations = list("/potentiallyUnsafeConfigAnnotations");
    for name in
        ["org.coracle.landlock", "run.oci.hooks.stdout", "run.oci.keep_original_groups", "run.oci.timens_offset"]
    {
        assert!(annotations.contains(&name.to_owned()), "{annotations:?}");
    }
    // An option is listed only if the feature is enabled.
    let idmap = features["linux"]["mountExtensions"]["idmap"]["enabled"].as_bool().unwrap();
    assert_eq!(options.contains(&"idmap".to_owned()), idmap);
}
