//! The credentials of a further process: capabilities that it must not have (CVE-2022-29162, CVE-2022-27650,
//! CVE-2025-27612), and user names that look like numbers (CVE-2016-3697, CVE-2026-30892). Debian's runc 1.1.5 and crun
//! 1.8.1 have these fixes already. A case with a set that is not empty shows that the test reads the sets correctly.

use std::fs;

use serde_json::json;

use crate::only;
use crate::world::{Outcome, Who, World};

fn status(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

#[test]
fn only_requested_capabilities_are_inheritable() {
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/process/noNewPrivileges") = json!(false);
    world.begin();
    let with_cap = ["exec", "--cap", "CAP_SYS_ADMIN", "--cap", "CAP_NET_RAW", &world.id, "cat", "/proc/self/status"];
    let as_user = ["exec", "--user", "1000:1000", &world.id, "cat", "/proc/self/status"];
    let plain = ["exec", &world.id, "cat", "/proc/self/status"];
    for args in [&with_cap[..], &as_user[..], &plain[..]] {
        let said = world.call(args).ok();
        assert_eq!(status(&said, "CapInh"), 0, "{args:?}");
        assert_eq!(status(&said, "CapAmb"), 0, "{args:?}");
        // It has no capability beyond the bounding set.
        assert_eq!(status(&said, "CapPrm") & !status(&said, "CapBnd"), 0, "{args:?}");
    }
    let said = world.call(&as_user).ok();
    assert_eq!((status(&said, "CapEff"), status(&said, "CapPrm")), (0, 0));
}

#[test]
fn an_inheritable_set_is_for_init_and_exec_as_written_and_no_wider() {
    let mut world = World::running(&["sh", "-c", "cat /proc/self/status; sleep 1000"]);
    *world.at("/process/capabilities/inheritable") = json!(["CAP_KILL"]);
    world.begin();
    let said = world.exec(&["cat", "/proc/self/status"]).ok();
    assert_eq!(status(&said, "CapInh"), 1 << 5, "{said}");
    assert_eq!(status(&said, "CapAmb"), 0);
}

#[test]
fn a_name_that_looks_like_a_number_is_not_a_user() {
    let world = World::running(&["sleep", "1000"]);
    let passwd = "1000:x:0:0:root in disguise:/stolen:/bin/sh\n0x3e8:x:0:0::/:/bin/sh\n+7:x:0:0::/:/bin/sh\n\
                  root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::write(world.rootfs("etc/passwd"), passwd).unwrap();
    fs::write(world.rootfs("etc/group"), "1000:x:0:\nuser:x:1000:\n").unwrap();
    world.begin();
    let exec =
        |user: &str, script: &str| -> Outcome { world.call(&["exec", "--user", user, &world.id, "sh", "-c", script]) };
    let said = exec("1000", "id -u; id -g; echo $HOME").ok();
    assert_eq!(said, "1000\n0\n/home/user\n");
    assert_eq!(exec("1000:1000", "id -u; id -g").ok(), "1000\n1000\n");
    only!(Who::Us; "runc looks names up, and crun has other words");
    for user in [
        "0x3e8",
        "+7",
        "user",
        "root",
        " 0",
        "0 ",
        "-0",
        "0:",
        ":0",
        "0:0:0",
        "00000000000000000000",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "1e3",
        "1_000",
        "\u{661}",
        "0\n",
    ] {
        let ran = exec(user, "id -u");
        if ran.status.success() {
            // Only digits: this is a number, however long it is.
            assert!(user.bytes().all(|byte| byte.is_ascii_digit()), "{user:?} is taken for {}", ran.out);
            assert_eq!(ran.out.trim().parse::<u32>().ok(), user.parse().ok(), "{user:?}");
        } else {
            assert!(ran.err.contains("user"), "{user:?}: {}", ran.err);
        }
    }
}
