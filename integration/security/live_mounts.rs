//! `mounts add` while a process exchanges the destination with links: into /proc, to the host by an absolute path and by
//! `..`, and into a mount that the host shares.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use super::exchange::Racer;
use super::{Victim, attacker};
use crate::live_mounts::mounts;
use crate::mountinfo::HostMount;
use crate::world::{Who, World, finish};
use crate::{needs, needs_root, only};

const ROUNDS: u32 = 15;

#[test]
fn a_target_that_changes_leads_no_mount_to_proc_or_the_host() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "the command is another one");
    needs!(attacker().is_some(), "no C compiler");
    let mut world = World::running(&["sleep", "1000"]);
    let victim = Victim::of(&world);
    let (share, shared) = (world.path("share"), world.path("shared"));
    fs::create_dir(&share).unwrap();
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &shared);
    finish(Command::new("mount").arg("--make-shared").arg(&shared)).ok();
    fs::create_dir(shared.join("in")).unwrap();
    // the container's /shared is a peer of the host's
    *world.at("/linux/rootfsPropagation") = json!("rshared");
    world.mount(json!({"destination": "/shared", "source": shared, "options": ["rbind", "rshared"]}));
    let away = format!("../../../../../../../..{}", victim.path.display());
    let links = ["/proc/1", victim.path.to_str().unwrap(), &away, "/shared/in"];
    let mut pairs = Vec::new();
    for (n, link) in links.iter().enumerate() {
        let (place, other) = (world.rootfs(&format!("race{n}")), world.rootfs(&format!("other{n}")));
        fs::create_dir(&place).unwrap();
        symlink(link, &other).unwrap();
        pairs.push((place, other));
    }
    world.begin();
    // other tests mount on the host meanwhile
    let of_ours = || {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = world.path("").display().to_string();
        all.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let host = of_ours();
    // what is always refused
    let add =
        |name: &str| mounts(&world, "add", &json!([{"destination": name, "source": share, "options": ["bind", "ro"]}]));
    symlink("/", world.rootfs("top")).unwrap();
    for (name, said) in [("/other0", "(ELOOP)"), ("/other1", "(ELOOP)"), ("/other2", "(ELOOP)"), ("/top", "(ELOOP)")] {
        let printed = add(name).fails();
        assert!(printed.contains(said), "{name}: {printed}");
    }
    let printed = add("/shared/in").fails();
    assert!(printed.contains("the host shares the mount there"), "{printed}");
    let racer = Racer::between(&pairs);
    for _ in 0..ROUNDS {
        for n in 0..links.len() {
            let _ = add(&format!("/race{n}"));
        }
    }
    assert!(racer.stop() > 0);
    assert_eq!(of_ours(), host, "the host's mounts");
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", world.pid())).unwrap();
    let added = |line: &&str| line.split(' ').nth(3).is_some_and(|root| root.ends_with("/share"));
    for line in inside.lines().filter(added) {
        let place = line.split(' ').nth(4).unwrap();
        assert!(!place.starts_with("/proc") && !place.starts_with("/shared"), "{line}");
    }
    victim.assert_unharmed();
}
