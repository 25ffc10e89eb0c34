//! Volumes on /proc or below it that the runtime would write to: CVE-2019-16884, CVE-2019-19921, CVE-2023-28642,
//! CVE-2025-52881. Only a proc file system may be mounted on /proc, whatever path leads there. The attack succeeds on
//! crun 1.8.1, which mounts all of these.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::only;
use crate::world::{Who, World};

/// Mounts a volume with files as in /proc at `place`. It must fail. Returns the message.
fn refused(place: &str, prepare: impl Fn(&mut World)) -> String {
    let mut world = World::running(&["true"]);
    *world.at("/root/readonly") = json!(false);
    let volume = world.path("volume");
    fs::create_dir_all(volume.join("self/attr/apparmor")).unwrap();
    fs::create_dir_all(volume.join("sys/kernel")).unwrap();
    for name in ["self/attr/exec", "self/attr/apparmor/exec", "self/attr/keycreate", "sys/kernel/domainname"] {
        fs::write(volume.join(name), "").unwrap();
    }
    world.mount(json!({"destination": place, "type": "none", "source": volume, "options": ["rbind"]}));
    *world.at("/linux/sysctl") = json!({"kernel.domainname": "mine"});
    prepare(&mut world);
    let said = world.run().fails();
    for name in ["self/attr/exec", "self/attr/apparmor/exec", "self/attr/keycreate", "sys/kernel/domainname"] {
        assert_eq!(fs::read_to_string(volume.join(name)).unwrap(), "", "{place}: {name} was written");
    }
    world.assert_clean();
    said
}

#[test]
fn no_volume_lies_on_proc_or_in_it() {
    only!(Who::Us; "crun mounts in /proc, and runc has other words");
    let spelled = [
        "/proc",
        "/proc/",
        "//proc",
        "/./proc",
        "/x/../proc",
        "/proc/.",
        "proc",
        "../../proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/thread-self/attr",
        "/proc/1",
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/self/../sys",
    ];
    for place in spelled {
        let said = refused(place, |_| ());
        assert!(said.contains("mounts[6]") && said.contains("/proc"), "{place}: {said}");
    }
}

#[test]
fn no_link_of_the_root_leads_a_volume_there() {
    only!(Who::Us, Who::Runc; "crun mounts in /proc");
    for (link, to, place) in [
        ("way", "/proc", "/way"),
        ("way", "proc/self/attr", "/way"),
        ("way", "/proc/self", "/way/attr"),
        ("way", "../../../proc/sys", "/way/kernel"),
        ("way", "/proc/self/root/proc/self/attr", "/way"),
        ("way", "/proc/1/root", "/way/proc"),
    ] {
        refused(place, |world| symlink(to, world.rootfs(link)).unwrap());
    }
}

#[test]
fn another_file_system_is_not_accepted_as_proc() {
    only!(Who::Us; "Debian's crun mounts it");
    for (kind, options) in [("tmpfs", json!(["size=1m"])), ("sysfs", json!([])), ("mqueue", json!([]))] {
        let mut world = World::running(&["true"]);
        let mounts = world.config["mounts"].as_array_mut().unwrap();
        let proc: &mut Value = mounts.iter_mut().find(|mount| mount["destination"] == "/proc").unwrap();
        *proc = json!({"destination": "/proc", "type": kind, "source": kind, "options": options});
        let said = world.run().fails();
        assert!(said.contains("mounts[0]"), "{kind}: {said}");
    }
}
