//! `check` and `host`: what a person asks before a container is made.

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

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let place = Place::new();
    assert!(fails(&place.call("run bundl/"), 1).contains("bundl/: no such file or directory: run the directory of a"));
    assert!(fails(&line("--root /dev/null list"), 1).contains("--root /dev/null: not a directory"));
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
