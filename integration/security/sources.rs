//! A bind source in the container's root: links of the image must not lead it to the host, or to what config.json
//! protects. The attack succeeds on earlier versions of coracle, on Debian's runc 1.1.5 and on crun 1.8.1, which
//! resolve the link on the host.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::Victim;
use crate::mountinfo::{HostMount, bind, mount_at};
use crate::world::{Who, World};
use crate::{needs_root, only};

fn with_source(path: &str, options: &[&str]) -> World {
    let mut world = World::running(&["sh", "-c", "cat /stolen/file; ls /stolen"]);
    *world.at("/root/readonly") = json!(false);
    world.mount(bind(world.rootfs(path), "/stolen", options));
    world
}

const REFUSED: &str = "the path has a link inside the container's root";

#[test]
fn a_link_of_the_image_leads_no_source_to_the_host() {
    only!(Who::Us; "the peers follow it on the host");
    for climb in ["", "../../../../../../../.."] {
        let world = with_source("link", &["bind"]);
        let victim = Victim::of(&world);
        symlink(format!("{climb}{}", victim.path.display()), world.rootfs("link")).unwrap();
        let said = world.run().fails();
        assert!(said.contains(REFUSED), "{said}");
        // Also if the image has the same path.
        let inside = world.rootfs(&victim.path.display().to_string()[1..]);
        fs::create_dir_all(&inside).unwrap();
        assert!(world.run().fails().contains(REFUSED));
        victim.assert_unharmed();
        // Also below a link of the host that leads into the root, through the root and out again, and for a link
        // itself.
        let mut world = world;
        symlink(world.rootfs(""), world.path("alias")).unwrap();
        let below = victim.path.join("below");
        fs::create_dir_all(&below).unwrap();
        symlink(&below, world.rootfs("below")).unwrap();
        let sources = [
            (world.path("alias/link"), &["bind"][..], REFUSED),
            (world.rootfs("below/../../stolen"), &["bind"], "no such file"),
            (world.rootfs("link/file"), &["bind", "src-nofollow"], "symbolic links"),
            (world.rootfs("link/file"), &["bind", "copy-symlink"], "symbolic links"),
        ];
        for (source, options, reason) in sources {
            world.config["mounts"].as_array_mut().unwrap().pop();
            world.mount(bind(&source, "/stolen", options));
            let said = world.run().fails();
            assert!(said.contains(reason), "{}: {said}", source.display());
            world.assert_clean();
        }
    }
}

/// `rbind` would copy the mounts below the path that the image names: proc and sysfs without masks.
#[test]
fn a_link_of_the_image_leads_no_source_to_proc_or_sys() {
    only!(Who::Us; "the peers follow it on the host");
    for target in ["/", ".", "/proc", "/proc/sys", "/sys/kernel", "proc/1/root", "/proc/self/cwd"] {
        for options in [&["bind"], &["rbind"]] {
            let world = with_source("link", options);
            symlink(target, world.rootfs("link")).unwrap();
            let said = world.run().fails();
            assert!(said.contains(REFUSED), "{target}: {said}");
            world.assert_clean();
        }
    }
    // Not by a name either: these are magic links.
    for path in ["proc/self/root", "proc/1/cwd", "proc/self/fd/3"] {
        let said = with_source(path, &["bind"]).run().fails();
        assert!(said.contains(REFUSED) || said.contains("no such file"), "{path}: {said}");
    }
}

/// Runs on earlier versions too, which warned about every option of a remount. runc and crun change the host's file system.
#[test]
fn a_link_of_the_image_leads_no_remount_to_a_file_system_of_the_host() {
    needs_root!("mounts on the host");
    only!(Who::Us; "the peers change the host's file system");
    let mut world = World::running(&["true"]);
    *world.at("/root/readonly") = json!(false);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &source);
    world.mount(bind(&source, "/volume", &["bind"]));
    symlink("/volume", world.rootfs("link")).unwrap();
    let place = json!({"destination": "/link", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "size=2m"]});
    world.mount(place);
    let said = world.run().fails();
    assert!(said.contains("options are allowed only for a file system that config.json mounts"), "{said}");
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mount_at(&host, source.to_str().unwrap()).superblock.contains("size=1024k"), "{host}");
}
