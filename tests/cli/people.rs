//! `check` and `host`: what a user checks before making a container.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use super::{Place, err, fails, line, ok, out};

#[test]
fn check_as_json_has_mistakes_and_notes() {
    let place = Place::new();
    ok(&place.call(&format!("spec -b {}", place.path("").display())));
    fs::create_dir(place.path("rootfs")).unwrap();
    let check = || place.call(&format!("check --format json {}", place.path("").display()));
    let json = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    assert_eq!(json(&check()), json!({"mistakes": [], "notes": []}));
    let path = place.path("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["cwd"] = json!("tmp");
    config["root"]["readOnly"] = json!(true);
    fs::write(&path, config.to_string()).unwrap();
    let said = check();
    assert_eq!(said.status.code(), Some(1), "{}", err(&said));
    assert_eq!(json(&said)["mistakes"], json!([{"at": "process.cwd", "problem": "\"tmp\" is not absolute"}]));
    assert_eq!(json(&said)["notes"][0]["at"], "root.readOnly");
    fs::write(&path, "{").unwrap();
    let said = check();
    assert_eq!((said.status.code(), json(&said)["mistakes"][0]["at"].as_str()), (Some(1), Some("")));
    assert!(fails(&place.call("check --format xml ."), 1).contains("expected one of text, json"));
}

#[test]
fn check_security_has_findings_and_a_score() {
    let docker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exposure/docker-socket.json");
    let check = |flags: &str| line(&format!("check --security {flags} --config {docker} /"));
    let text = ok(&check(""));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "critical  mounts[7].source: /var/run/docker.sock obeys every client");
    assert!(
        lines[1].starts_with("          attacker: commands Docker") && text.contains("          change:   "),
        "{text}"
    );
    assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("exposure: 9.") && last.ends_with(" of 10 (open)"), "{last}");
    let json: Value = serde_json::from_str(&ok(&check("--format json"))).unwrap();
    assert!(json["score"].as_f64().unwrap() > 9.0);
    for (key, value) in [("at", json!("mounts[7].source")), ("risk", json!("critical"))] {
        assert_eq!(json["findings"][0][key], value);
    }
    assert_eq!(check("--fail-at 9").status.code(), Some(1));
    assert_eq!(check("--fail-at 10").status.code(), Some(0));
    assert_eq!(fails(&line("check --fail-at 3 /"), 1), "coracle: error: --fail-at needs --security\n");
    assert!(fails(&check("--fail-at x"), 1).contains("is not a score"));
    // no container is made from a config with a mistake, so it has no score
    let place = Place::new();
    let mut config: Value = serde_json::from_slice(&fs::read(docker).unwrap()).unwrap();
    config["process"]["cwd"] = json!("x");
    fs::write(place.path("config.json"), config.to_string()).unwrap();
    assert!(
        fails(&place.call(&format!("check --security --fail-at 9.9 {}", place.path("").display())), 1)
            .contains("process.cwd")
    );
}

/// A bundle with a root that has only /bin/sh, changed by `change`, and what `check` says of it.
fn checked(place: &Place, change: impl FnOnce(&mut Value)) -> Value {
    let path = place.path("config.json");
    let _ = fs::remove_file(&path);
    ok(&place.call(&format!("spec -b {}", place.path("").display())));
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    serde_json::from_slice(&place.call(&format!("check --format json {}", place.path("").display())).stdout).unwrap()
}

type Change = Box<dyn FnOnce(&mut Value)>;

fn set(path: &'static str, value: Value) -> Change {
    Box::new(move |config| *config.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value)
}

fn put(object: &'static str, name: &'static str, value: Value) -> Change {
    Box::new(move |config| config.pointer_mut(object).unwrap()[name] = value)
}

fn mount(mount: Value) -> Change {
    Box::new(move |config| config["mounts"].as_array_mut().unwrap().push(mount))
}

fn bind(options: Value) -> Change {
    mount(json!({"destination": "/x", "type": "bind", "source": "/nowhere", "options": options}))
}

/// A bundle's root with one program, and the place of a mount behind those of `spec`.
fn with_a_program() -> (Place, String) {
    let place = Place::new();
    fs::create_dir_all(place.path("rootfs/bin")).unwrap();
    fs::write(place.path("rootfs/bin/sh"), "").unwrap();
    assert_eq!(checked(&place, |_| ()), json!({"mistakes": [], "notes": []}));
    let found = checked(&place, bind(json!(["bind"])));
    let last = found["mistakes"][0]["at"].as_str().unwrap().trim_end_matches(".source").to_owned();
    (place, last)
}

/// Each thing that `check` looks for on the host, once.
#[test]
fn check_sees_what_can_be_seen_on_the_host() {
    let (place, last) = with_a_program();
    fs::write(place.path("file"), "").unwrap();
    let file = place.path("file").display().to_string();
    let (missing, is_file) = ("no such file or directory (ENOENT)", format!("{file}: not a directory (ENOTDIR)"));
    let mistakes: Vec<(Change, String, String)> = vec![
        (set("/root/path", json!("nowhere")), "root.path".into(), missing.into()),
        (set("/root/path", json!(file)), "root.path".into(), is_file),
        (bind(json!(["bind"])), format!("{last}.source"), format!("/nowhere: {missing}")),
        (bind(json!(["ro"])), format!("{last}.options"), "add \"bind\" or \"rbind\"".into()),
        (
            put("/linux/namespaces/0", "path", json!("/nowhere")),
            "linux.namespaces[0].path".into(),
            format!("/nowhere: {missing}"),
        ),
        (
            put("/linux/namespaces/0", "path", json!(file)),
            "linux.namespaces[0].path".into(),
            "is not a namespace".into(),
        ),
        (
            put("/linux/namespaces/0", "path", json!("/proc/self/ns/mnt")),
            "linux.namespaces[0].path".into(),
            "is not a ".into(),
        ),
        (
            put("", "hooks", json!({"poststop": [{"path": "/nowhere"}]})),
            "hooks.poststop[0].path".into(),
            missing.into(),
        ),
        (put("", "hooks", json!({"poststop": [{"path": "/"}]})), "hooks.poststop[0].path".into(), "(EISDIR)".into()),
        (
            put("", "hooks", json!({"poststop": [{"path": file}]})),
            "hooks.poststop[0].path".into(),
            "is not executable".into(),
        ),
        (
            put(
                "/linux",
                "seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": file,
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
            ),
            "linux.seccomp.listenerPath".into(),
            "is not a socket".into(),
        ),
    ];
    for (change, at, problem) in mistakes {
        let found = checked(&place, change)["mistakes"].clone();
        let said = found.as_array().unwrap().iter().find(|found| found["at"] == json!(at));
        let said = said.unwrap_or_else(|| panic!("{at}: {found}"))["problem"].as_str().unwrap();
        assert!(said.contains(&problem), "{at}: {said}");
    }
}

#[test]
fn check_notes_what_the_host_has_not() {
    let (place, last) = with_a_program();
    let resources = |value: Value| put("/linux", "resources", value);
    let notes: Vec<(Change, String, &str)> = vec![
        (mount(json!({"destination": "/x", "type": "nofs", "source": "x"})), format!("{last}.type"), "\"nofs\""),
        (resources(json!({"memory": {"limit": 512}})), "linux.resources.memory.limit".into(), "512 bytes are too few"),
        (resources(json!({"cpu": {"cpus": "0,4000"}})), "linux.resources.cpu.cpus".into(), "this host has the CPUs 0"),
        (
            resources(json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]})),
            "linux.resources.hugepageLimits[0].pageSize".into(),
            "this host has",
        ),
        (
            put("/linux", "netDevices", json!({"nowhere0": {}})),
            "linux.netDevices.nowhere0".into(),
            "no such network interface",
        ),
        (set("/process/args", json!(["nothing"])), "process.args[0]".into(), "is in no directory of PATH"),
        (set("/process/args", json!(["/bin/nothing"])), "process.args[0]".into(), "is not in the root file system"),
        (
            // `create` then searches the default PATH
            Box::new(|config| {
                config["process"]["args"] = json!(["nothing"]);
                config["process"]["env"] = json!([]);
            }),
            "process.args[0]".into(),
            "is in no directory of PATH",
        ),
    ];
    for (change, at, said) in notes {
        let found = checked(&place, change)["notes"].clone();
        let note = found.as_array().unwrap().iter().find(|found| found["at"] == json!(at));
        let note = note.unwrap_or_else(|| panic!("{at}: {found}"))["said"].as_str().unwrap();
        assert!(note.contains(said), "{at}: {note}");
    }
    // a mount or a hook may bring the program, and /bin/sh is a file of the root
    let mounted = checked(&place, |config| {
        config["process"]["args"] = json!(["/opt/program"]);
        mount(json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs"}))(config);
    });
    assert_eq!(mounted["notes"], json!([]));
}

/// Values that no kernel takes are mistakes, and what only this host lacks is a note.
#[test]
fn check_sees_limits_that_no_kernel_takes() {
    let (place, _) = with_a_program();
    let cpu = |value: Value| put("/linux/resources", "cpu", value);
    for (change, at, said) in [
        (cpu(json!({"cpus": "two"})), "cpu.cpus", "\"two\" is not a list of CPUs such as 0-3,7"),
        (cpu(json!({"mems": "two"})), "cpu.mems", "\"two\" is not a list of memory nodes such as 0-3,7"),
        (cpu(json!({"quota": 10})), "cpu.quota", "10: a quota has at least 1000 microseconds"),
        (cpu(json!({"period": 10})), "cpu.period", "10: a period has from 1000 to 1000000 microseconds"),
    ] {
        let found = checked(&place, change);
        assert_eq!(found["mistakes"], json!([{"at": format!("linux.resources.{at}"), "problem": said}]), "{found}");
    }
    let fine = checked(&place, cpu(json!({"cpus": "0", "mems": "0", "quota": -1, "period": 0})));
    assert_eq!(fine, json!({"mistakes": [], "notes": []}));
    let device = checked(&place, put("/linux", "devices", json!([{"type": "c", "path": "/dev/x"}])));
    assert_eq!(device["notes"][0]["at"], "linux.devices[0]");
    let nothing =
        checked(&place, Box::new(|config: &mut Value| drop(config.as_object_mut().unwrap().remove("process"))));
    assert_eq!(nothing["notes"][0]["at"], "process");
}

/// One style for the errors of system calls, whatever crate made the call.
#[test]
fn errors_of_system_calls_have_libcs_words_and_a_name() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let file = place.path("file").display().to_string();
    for (args, said) in [
        (format!("--log {file}/log list"), "not a directory (ENOTDIR)"),
        (format!("spec -b {file}"), "(ENOTDIR)"),
        ("spec -b /nowhere".to_owned(), "no such file or directory"),
        ("spec --from /nowhere".to_owned(), "no such file or directory (ENOENT)"),
        (format!("check --config {file}/config.json /"), "(ENOTDIR)"),
    ] {
        let text = fails(&place.call(&args), 1);
        assert!(text.contains(said) && !text.contains("os error"), "{args}: {text}");
    }
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let place = Place::new();
    let said = fails(&place.call("run bundl/"), 1);
    assert!(said.contains("bundl/: no such file or directory (ENOENT): name the directory of a bundle"), "{said}");
    assert!(fails(&line("--root /dev/null list"), 1).contains("--root /dev/null: not a directory (ENOTDIR)"));
    assert!(fails(&line("--root /dev/null/x state a"), 1).contains("--root /dev/null/x: not a directory (ENOTDIR)"));
    fs::create_dir(place.path("b")).unwrap();
    let bundle = place.path("b").display().to_string();
    fs::write(place.path("b/config.json"), "{}").unwrap();
    for (args, said) in [
        ("run -b BUNDLE a/b", "invalid container ID format: \"a/b\" (letters"),
        ("run -b BUNDLE ..", "invalid container ID format: \"..\" is the name of a directory"),
        ("check BUNDLE/config.json", "not a directory (ENOTDIR): the bundle is the directory that has this file"),
        ("explain nowhere", "nowhere: no such file or directory (ENOENT)"),
        ("run alpine sh", "\"run\" requires exactly 1 argument(s) (write the command after --)"),
    ] {
        let text = fails(&place.call(&args.replace("BUNDLE", &bundle)), 1);
        assert!(text.contains(said), "{args}: {text}");
    }
    let long = fails(&place.call(&format!("run -b {bundle} {}", "a".repeat(2000))), 1);
    assert!(long.contains("\"aaaaaaaaaaaaaaaaaaaa…\" has 2000 characters (at most 255 are allowed)"), "{long}");
}

#[test]
fn host_says_whether_the_machine_is_fit() {
    let text = line("host");
    let json: Value = serde_json::from_slice(&line("info --format json").stdout).unwrap();
    let fit = json["fit"].as_bool().unwrap();
    assert_eq!(text.status.code(), Some(i32::from(!fit)), "{}", err(&text));
    let findings = json["findings"].as_array().unwrap();
    let missing = findings.iter().filter(|finding| finding["state"] == "missing").count();
    assert_eq!(fit, missing == 0);
    let areas: Vec<_> = ["kernel", "namespaces", "cgroups", "ordinary users", "security", "programs"].into();
    for area in areas {
        assert!(findings.iter().any(|finding| finding["area"] == area), "{area}");
        assert!(
            out(&text).contains(&format!("\n{area}:\n")) || out(&text).starts_with(&format!("{area}:\n")),
            "{area}"
        );
    }
    for finding in
        findings.iter().filter(|finding| ["without", "missing"].contains(&finding["state"].as_str().unwrap()))
    {
        assert!(finding["said"] != "" && finding["advice"] != "", "{finding}");
    }
    assert!(out(&text).lines().all(|line| line.len() <= 81), "{}", out(&text));
    assert!(fails(&line("host --format xml"), 1).contains("expected one of text, json"));
}
