//! linux.intelRdt. Our machines do not support it, so the tests use a directory with the files of resctrl, and a
//! mountinfo that only the runtime sees. This mountinfo lists the directory as resctrl. Tests that need the
//! kernel, such as a new group with its files, are in `src/libcontainer/resctrl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Outcome, Who, World, finish, runtime, who};
use crate::{needs, only};

const WHOLE: &str = "    L3:0=fff\n    MB:0=100\n";

/// A container that uses resctrl, on a machine with resctrl.
struct Machine(World);

impl Machine {
    fn new(rdt: Value) -> Machine {
        let mut world = World::running(&["sleep", "1000"]);
        *world.at("/linux/intelRdt") = rdt;
        let machine = Machine(world);
        for directory in ["info/L3", "info/MB", "mon_groups", "gold/mon_groups"] {
            fs::create_dir_all(machine.tree(directory)).unwrap();
        }
        for group in ["", "gold"] {
            fs::write(machine.tree(group).join("tasks"), "").unwrap();
            fs::write(machine.tree(group).join("schemata"), WHOLE).unwrap();
        }
        for (file, text) in
            [("info/L3/cbm_mask", "fff\n"), ("info/L3/min_cbm_bits", "1\n"), ("info/L3/num_closids", "16\n")]
        {
            fs::write(machine.tree(file), text).unwrap();
        }
        for (file, text) in
            [("bandwidth_gran", "10\n"), ("delay_linear", "1\n"), ("min_bandwidth", "10\n"), ("num_closids", "8\n")]
        {
            fs::write(machine.tree("info/MB").join(file), text).unwrap();
        }
        fs::write(machine.tree("info/last_cmd_status"), "no luck today\n").unwrap();
        machine
    }

    fn tree(&self, below: &str) -> PathBuf {
        self.0.path("resctrl").join(below)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.tree(file)).unwrap()
    }

    /// Calls the runtime, which finds resctrl mounted.
    #[track_caller]
    fn call(&self, args: &[&str]) -> Outcome {
        self.0.write();
        let script = self.0.path("with-resctrl");
        let text = "#!/bin/sh\nset -e\ncd \"$HERE\"\n{ cat /proc/$$/mountinfo; \
            echo \"900 1 0:99 / $HERE/resctrl rw - resctrl resctrl rw\"; } >mountinfo\n\
            echo 'flags : fpu cat_l3 mba' >cpuinfo\n\
            mount --bind cpuinfo /proc/cpuinfo\nmount --bind mountinfo /proc/$$/mountinfo\ncd bundle\nexec \"$@\"\n";
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("unshare");
        command.arg("--mount").arg(&script).arg(runtime()).arg("--root").arg(self.0.path("state")).args(args);
        finish(command.env("HERE", self.0.bundle().parent().unwrap()))
    }
}

#[test]
fn a_machine_without_resctrl_is_reported() {
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("\tresctrl\n");
    needs!(!known, "a kernel or a CPU without resctrl");
    only!(Who::Us, Who::Runc; "crun 1.8 does not look");
    let mut world = World::running(&["true"]);
    *world.at("/linux/intelRdt") = json!({"closID": "gold", "l3CacheSchema": "L3:0=f"});
    let said = world.run().fails();
    let wanted = if who() == Who::Us { "linux.intelRdt: this machine has no resctrl: " } else { "RDT" };
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_group_that_is_there_is_joined_by_init_and_exec() {
    crate::needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun asks the file system for its type");
    let machine = Machine::new(json!({"closID": "gold"}));
    machine.call(&["create", &machine.0.id]).ok();
    // runc puts the process there that makes init.
    let there = machine.text("gold/tasks");
    assert!(if who() == Who::Us { there == machine.0.pid().to_string() } else { !there.is_empty() }, "{there}");
    assert_eq!(machine.text("gold/schemata"), WHOLE);
    machine.call(&["start", &machine.0.id]).ok();
    let path = machine.0.path("pid");
    machine.call(&["exec", "--detach", "--pid-file", path.to_str().unwrap(), &machine.0.id, "sleep", "1000"]).ok();
    assert_eq!(machine.text("gold/tasks").trim(), fs::read_to_string(path).unwrap());
    machine.call(&["delete", "--force", &machine.0.id]).ok();
    // The group has a name of its own, and stays.
    assert!(machine.tree("gold/tasks").exists());
}

#[test]
fn a_group_with_other_schemata_is_an_error() {
    crate::needs_root!("mounts on the host");
    only!(Who::Us; "runc 1.1 does not compare, and crun asks the file system for its type");
    let machine = Machine::new(json!({"closID": "gold", "l3CacheSchema": "L3:0=f"}));
    let said = machine.call(&["create", &machine.0.id]).fails();
    let wanted = format!(
        "linux.intelRdt.l3CacheSchema: L3:0=f is requested, but {} has the schemata L3:0=fff",
        machine.tree("gold").display()
    );
    assert!(said.contains(&wanted), "{said}");
    machine.0.assert_clean();
    let machine = Machine::new(json!({"closID": "gold", "l3CacheSchema": "L3:0=0fff", "memBwSchema": "MB:0=100"}));
    machine.call(&["create", &machine.0.id]).ok();
    let machine = Machine::new(json!({"closID": "silver"}));
    let said = machine.call(&["create", &machine.0.id]).fails();
    assert!(said.contains("silver"), "{said}");
}

#[test]
fn a_failure_leaves_no_group() {
    crate::needs_root!("mounts on the host");
    only!(Who::Us; "a peer's own group has no files in a directory of ours either");
    let machine = Machine::new(json!({"l3CacheSchema": "L3:0=f"}));
    // A new directory without files.
    let said = machine.call(&["create", &machine.0.id]).fails();
    let wanted = format!(
        "linux.intelRdt.l3CacheSchema: write L3:0=f to {}: no such file or directory (ENOENT): no luck today",
        machine.tree(&machine.0.id).join("schemata").display()
    );
    assert!(said.contains(&wanted), "{said}");
    assert!(!machine.tree(&machine.0.id).exists());
    machine.0.assert_clean();
    let machine = Machine::new(json!({"closID": "gold", "enableMonitoring": true}));
    let said = machine.call(&["create", &machine.0.id]).fails();
    assert!(said.contains(&format!("gold/mon_groups/{}/tasks: no such file", machine.0.id)), "{said}");
    assert!(!machine.tree("gold/mon_groups").join(&machine.0.id).exists());
    machine.0.assert_clean();
}

#[test]
fn a_group_is_updated_and_its_numbers_are_printed() {
    crate::needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun asks the file system for its type");
    let machine = Machine::new(json!({"closID": "gold"}));
    machine.call(&["create", &machine.0.id]).ok();
    machine.call(&["start", &machine.0.id]).ok();
    let stats = |machine: &Machine| {
        let event: Value = serde_json::from_str(&machine.call(&["events", "--stats", &machine.0.id]).ok()).unwrap();
        event["data"]["intel_rdt"].clone()
    };
    let rdt = stats(&machine);
    assert_eq!(rdt["l3_cache_info"], json!({"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 16}));
    assert_eq!((&rdt["l3_cache_schema"], &rdt["mem_bw_schema"]), (&json!("L3:0=fff"), &json!("MB:0=100")));
    let update = ["update", "--l3-cache-schema", "L3:0=0ff", "--mem-bw-schema", "MB:0=050", &machine.0.id];
    machine.call(&update).ok();
    // The kernel would keep the lines apart. A plain file has the last line, written over the one before.
    assert!(machine.text("gold/schemata").contains("MB:0=050"), "{}", machine.text("gold/schemata"));
    if who() == Who::Us {
        assert_eq!(stats(&machine)["mem_bw_schema"], "MB:0=050");
        let record: Value =
            serde_json::from_slice(&fs::read(machine.0.path("state").join(&machine.0.id).join("state.json")).unwrap())
                .unwrap();
        assert_eq!(record["config"]["intel_rdt"]["l3_cache_schema"], "L3:0=0ff");
        assert_eq!(record["intel_rdt_path"], json!(machine.tree("gold")));
        let said = machine.call(&["update", "--mem-bw-schema", "L3:0=f", &machine.0.id]).fails();
        assert!(said.contains("--mem-bw-schema: \"L3:0=f\" is not one line"), "{said}");
    }
}
