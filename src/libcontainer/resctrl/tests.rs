//! Tests on a directory that behaves like resctrl: mkdir(2) in it makes the files of a group, and each write is
//! checked.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::At;

/// The schemata of a new group.
const WHOLE: &str = "    MB:0=100;1=100\n    L3:0=fff;1=fff\n";

#[derive(Debug)]
struct MadeUp;

impl MadeUp {
    fn files(directory: &Path) {
        fs::write(directory.join("tasks"), "").unwrap();
        fs::write(directory.join("schemata"), WHOLE).unwrap();
        fs::create_dir(directory.join("mon_data")).unwrap();
    }

    fn refuse(directory: &Path, said: &str) -> io::Result<()> {
        let mount = directory.ancestors().find(|path| path.join("info").is_dir()).unwrap();
        fs::write(mount.join("info/last_cmd_status"), format!("{said}\n")).unwrap();
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

impl ResctrlFs for MadeUp {
    fn mkdir(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir(directory)?;
        MadeUp::files(directory);
        if directory.parent().is_none_or(|parent| !parent.ends_with("mon_groups")) {
            fs::create_dir(directory.join("mon_groups"))?;
        }
        Ok(())
    }

    fn rmdir(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir_all(directory)
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        let (directory, before) = (file.parent().unwrap(), fs::read_to_string(file)?);
        if file.ends_with("tasks") {
            let counted = directory.parent().is_some_and(|parent| parent.ends_with("mon_groups"));
            if counted && !fs::read_to_string(directory.join("../../tasks"))?.lines().any(|task| task == text) {
                return MadeUp::refuse(directory, "Can't move task to different control group");
            }
            return fs::write(file, format!("{before}{text}\n"));
        }
        let (kind, list) = text.trim_end().split_once(':').unwrap();
        if !text.ends_with('\n') || !before.lines().any(|line| line.trim().starts_with(kind)) {
            return MadeUp::refuse(directory, &format!("Unknown or unsupported resource name '{kind}'"));
        }
        let mut lines: Vec<_> =
            before.lines().filter(|line| !line.trim().starts_with(kind)).map(str::to_owned).collect();
        lines.push(format!("    {kind}:{list}"));
        fs::write(file, lines.join("\n") + "\n")
    }
}

/// The file system without processes in its groups.
fn mounted() -> TempDir {
    let mount = tempfile::tempdir().unwrap();
    MadeUp::files(mount.path());
    for directory in ["mon_groups", "info", "info/MB", "info/L3"] {
        fs::create_dir(mount.path().join(directory)).unwrap();
    }
    for (file, text) in [
        ("info/last_cmd_status", "ok\n"),
        ("info/MB/bandwidth_gran", "10\n"),
        ("info/MB/min_bandwidth", "10\n"),
        ("info/L3/cbm_mask", "fff\n"),
        ("info/L3/num_closids", "16\n"),
    ] {
        fs::write(mount.path().join(file), text).unwrap();
    }
    mount
}

fn group(mount: &TempDir, name: &str, owner: GroupOwner, lines: &[&str]) -> ResctrlGroup {
    let at = At::new("linux.intelRdt.schemata");
    let schemata = lines.iter().enumerate().map(|(n, line)| Schema { line: (*line).to_owned(), at: at.index(n) });
    let mount = mount.path().to_path_buf();
    let directory = if name.is_empty() { mount.clone() } else { mount.join(name) };
    ResctrlGroup {
        mount,
        directory,
        owner,
        schemata: schemata.collect(),
        monitoring: None,
        at: At::new("linux.intelRdt.closID"),
    }
}

fn counted(mut group: ResctrlGroup) -> ResctrlGroup {
    group.monitoring = Some(group.directory.join("mon_groups/box"));
    group
}

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap()
}

#[test]
fn its_own_group_is_made_joined_and_removed() {
    let mount = mounted();
    let group = counted(group(&mount, "box", GroupOwner::Container, &["L3:0=f;1=f0", "MB:0=20"]));
    make(&group, &MadeUp).unwrap().keep();
    assert_eq!(text(&group.directory, "schemata"), "    L3:0=f;1=f0\n    MB:0=20\n");
    join(&group.joined(), 77, &MadeUp).unwrap();
    assert_eq!(
        (text(&group.directory, "tasks"), text(&group.directory, "mon_groups/box/tasks")),
        ("77\n".into(), "77\n".into())
    );
    remove(&group.own_directories(), &MadeUp).unwrap();
    assert!(!group.directory.exists());
    // To remove it again is not an error.
    remove(&group.own_directories()[..1], &MadeUp).unwrap();
}

#[test]
fn a_failure_leaves_nothing() {
    let mount = mounted();
    let bad = counted(group(&mount, "box", GroupOwner::Container, &["L3:0=f", "L9:0=f"]));
    let said = make(&bad, &MadeUp).unwrap_err().to_string();
    let wanted = format!(
        "linux.intelRdt.schemata[1]: write L9:0=f to {}: invalid argument (EINVAL): Unknown or unsupported resource name 'L9'",
        bad.directory.join("schemata").display()
    );
    assert_eq!(said, wanted);
    assert!(!bad.directory.exists());
    let shared = group(&mount, "gold", GroupOwner::Everybody, &["L9:0=f"]);
    assert!(make(&shared, &MadeUp).is_err() && !shared.directory.exists());
    drop(make(&counted(group(&mount, "box", GroupOwner::Container, &[])), &MadeUp).unwrap());
    assert!(!bad.directory.exists());
}

#[test]
fn a_name_that_is_in_use_is_not_taken_away() {
    let mount = mounted();
    let own = group(&mount, "box", GroupOwner::Container, &[]);
    make(&own, &MadeUp).unwrap().keep();
    // A group that was left behind: it has no processes.
    make(&own, &MadeUp).unwrap().keep();
    join(&own.joined(), 77, &MadeUp).unwrap();
    let said = make(&own, &MadeUp).unwrap_err().to_string();
    assert!(said.ends_with("box: file exists (EEXIST)"), "{said}");
    assert!(own.directory.exists());
}

#[test]
fn a_named_group_is_made_once_and_then_must_be_the_same() {
    let mount = mounted();
    let gold = |lines: &[&str]| group(&mount, "gold", GroupOwner::Everybody, lines);
    let said = make(&gold(&[]), &MadeUp).unwrap_err().to_string();
    assert!(
        said.starts_with("linux.intelRdt.closID: ") && said.contains("gold is missing, and config.json has no schema"),
        "{said}"
    );
    make(&gold(&["L3:0=f;1=f0"]), &MadeUp).unwrap().keep();
    for same in [&[][..], &["L3:1=0F0;0=f"], &["L3:0=f", "MB:0=100"]] {
        make(&gold(same), &MadeUp).unwrap();
    }
    let said = make(&gold(&["L3:0=f", "MB:0=50"]), &MadeUp).unwrap_err().to_string();
    let there = mount.path().join("gold");
    let wanted = format!(
        "linux.intelRdt.schemata[1]: MB:0=50 is requested, but {} has the schemata MB:0=100;1=100",
        there.display()
    );
    assert_eq!(said, wanted);
    assert!(gold(&[]).own_directories().is_empty());
    assert!(there.exists());
}

#[test]
fn a_named_group_that_others_have_joined_stays_when_the_container_fails() {
    let mount = mounted();
    let gold = group(&mount, "gold", GroupOwner::Everybody, &["L3:0=f"]);
    let made = make(&gold, &MadeUp).unwrap();
    join(&gold.joined(), 78, &MadeUp).unwrap();
    drop(made);
    assert!(gold.directory.exists());
}

#[test]
fn the_group_of_all_is_there() {
    let mount = mounted();
    let all = counted(group(&mount, "", GroupOwner::Everybody, &["MB:1=100"]));
    make(&all, &MadeUp).unwrap().keep();
    join(&all.joined(), 79, &MadeUp).unwrap();
    assert_eq!(text(mount.path(), "mon_groups/box/tasks"), "79\n");
    remove(&all.own_directories(), &MadeUp).unwrap();
    assert!(mount.path().join("tasks").exists() && !mount.path().join("mon_groups/box").exists());
    fs::remove_dir(mount.path().join("mon_groups")).unwrap();
    let said = make(&all, &MadeUp).unwrap_err().to_string();
    assert!(said.starts_with("linux.intelRdt.enableMonitoring: this machine cannot monitor"), "{said}");
}

#[test]
fn a_change_is_complete_or_not_made_and_can_be_undone() {
    let mount = mounted();
    let own = group(&mount, "box", GroupOwner::Container, &["L3:0=f"]);
    make(&own, &MadeUp).unwrap().keep();
    let schemata = |lines: &[&str]| group(&mount, "box", GroupOwner::Container, lines).schemata;
    let before = text(&own.directory, "schemata");
    let changed = change(&own.directory, &schemata(&["L3:0=ff", "MB:0=50"]), &MadeUp).unwrap();
    assert_eq!(text(&own.directory, "schemata"), "    L3:0=ff\n    MB:0=50\n");
    changed.undo(&MadeUp).unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&text(&own.directory, "schemata")), sorted(&before));
    let said = change(&own.directory, &schemata(&["L3:0=ff", "L9:0=1"]), &MadeUp).unwrap_err().to_string();
    assert!(said.contains("schemata[1]: write L9:0=1") && !said.contains("could not be undone"), "{said}");
    assert_eq!(sorted(&text(&own.directory, "schemata")), sorted(&before));
}

#[test]
fn numbers_are_those_of_the_group_that_counts() {
    let mount = mounted();
    let own = counted(group(&mount, "box", GroupOwner::Container, &["L3:0=f"]));
    make(&own, &MadeUp).unwrap().keep();
    let counting = own.monitoring.clone().unwrap();
    for (cache, occupied, traffic) in [("mon_L3_01", "Unavailable\n", "7\n"), ("mon_L3_00", "4096\n", "5\n")] {
        let cache = counting.join("mon_data").join(cache);
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("llc_occupancy"), occupied).unwrap();
        fs::write(cache.join("mbm_total_bytes"), traffic).unwrap();
    }
    let stats = stats::stats(&own.directory, Some(&counting));
    let wanted = serde_json::json!({
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 0, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fff;1=fff",
        "l3_cache_schema": "L3:0=f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 0, "min_bandwidth": 10, "num_closids": 0},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=100;1=100",
        "schemata": ["MB:0=100;1=100", "L3:0=f"],
        "mbm_stats": [{"mbm_total_bytes": 5, "mbm_local_bytes": 0}, {"mbm_total_bytes": 7, "mbm_local_bytes": 0}],
        "cmt_stats": [{"llc_occupancy": 4096}],
    });
    assert_eq!(serde_json::json!(stats), wanted);
}

#[test]
fn the_kernels_tree_takes_a_line_at_a_time() {
    let mount = mounted();
    let own = mount.path().join("box");
    Kernel.mkdir(&own).unwrap();
    assert_eq!(Kernel.mkdir(&own).unwrap_err().kind(), ErrorKind::AlreadyExists);
    // A write does not make a file there.
    assert_eq!(Kernel.write(&own.join("tasks"), "1").unwrap_err().kind(), ErrorKind::NotFound);
    Kernel.write(&mount.path().join("tasks"), "1").unwrap();
    Kernel.rmdir(&own).unwrap();
    assert_eq!(text(mount.path(), "tasks"), "1");
}
