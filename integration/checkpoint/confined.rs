//! AppArmor profiles and SELinux labels at a checkpoint and a restore, on hosts that have them: the guests of hack/vm. The policy of
//! the guest with SELinux forbids CRIU's work, so there hack/vm/test makes it permissive: the labels are the same.

use std::fs;
use std::path::Path;

use super::{COUNTER, assert_counts_on, count, dump, needs_criu, restore};
use crate::labels::{ALL, FILES, Profile, current, has_apparmor, label_of, labelled, profiled};
use crate::needs;
use crate::world::{World, skip, test_name};

/// Whether the checkpoint was refused, because this CRIU does not keep the label. The container then continues.
fn is_refused(world: &World, before: u64) -> bool {
    let said = dump(world, "images", &[]);
    if said.status.success() {
        return false;
    }
    assert!(said.err.contains("criu has not saved the security label"), "{}", said.err);
    assert_counts_on(world, before);
    skip(&test_name(), "this criu was built without SELinux: the checkpoint is refused");
    true
}

#[test]
fn an_apparmor_profile_confines_after_it() {
    needs_criu!();
    needs!(has_apparmor(), "a host with AppArmor");
    let profile = Profile::load();
    let world = profiled(&profile.name, COUNTER);
    world.begin();
    let before = count(&world);
    if is_refused(&world, before) {
        return;
    }
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
    assert_eq!(current(world.pid()), profile.enforced().trim_end());
    assert!(world.exec(&["sh", "-c", "echo x >/denied/file"]).fails().contains("Permission denied"));
    // another profile
    dump(&world, "images", &[]).ok();
    let other = Profile::load();
    restore(&world, "images", &["--lsm-profile", &format!("apparmor:{}", other.name)]).ok();
    assert_eq!(current(world.pid()), other.enforced().trim_end());
}

#[test]
fn selinux_labels_of_processes_and_mounts_are_the_same_after_it() {
    needs_criu!();
    let permissive = fs::read("/sys/fs/selinux/enforce").is_ok_and(|text| text.first() == Some(&b'0'));
    needs!(permissive, "a host with SELinux that is permissive");
    let world = labelled(COUNTER);
    world.begin();
    let before = count(&world);
    let scratch = |world: &World| label_of(Path::new(&format!("/proc/{}/root/dev/shm", world.pid())));
    let contexts = |world: &World| {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", world.pid())).unwrap();
        let mut places: Vec<_> = text
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let context = words.last().and_then(|options| options.split(",context=").nth(1)).unwrap_or_default();
                format!("{} {context}", words[4])
            })
            .collect();
        places.sort();
        places
    };
    let (seen, of_shm) = (contexts(&world), scratch(&world));
    assert_eq!((current(world.pid()).as_str(), of_shm.as_str()), (ALL, FILES));
    if is_refused(&world, before) {
        return;
    }
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
    assert_eq!((current(world.pid()).as_str(), scratch(&world).as_str()), (ALL, FILES));
    assert_eq!(contexts(&world), seen);
    // the labels of another container
    dump(&world, "images", &[]).ok();
    let (process, files) = (ALL.replace("c1,c2", "c3"), FILES.replace("c1,c2", "c3"));
    restore(&world, "images", &["--lsm-profile", &format!("selinux:{process}"), "--lsm-mount-context", &files]).ok();
    assert_eq!((current(world.pid()), scratch(&world)), (process, files));
}
