//! A bind source in the container's root: the image's links must not lead it to the host, nor to what config.json protects.
//! Seen on coracle before, on Debian's runc 1.1.5 and on crun 1.8.1, which bind what the link says on the host.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::Victim;
use crate::mountinfo::bind;
use crate::only;
use crate::world::{Who, World};

fn with_source(path: &str) -> World {
    let mut world = World::running(&["sh", "-c", "cat /stolen/file; ls /stolen"]);
    *world.at("/root/readonly") = json!(false);
    world.mount(bind(world.rootfs(path), "/stolen", &["bind"]));
    world
}

#[test]
fn a_link_of_the_image_leads_no_source_to_the_host() {
    only!(Who::Us; "the peers follow it on the host");
    for climb in ["", "../../../../../../../.."] {
        let world = with_source("link");
        let victim = Victim::of(&world);
        let target = format!("{climb}{}", victim.path.display());
        symlink(&target, world.rootfs("link")).unwrap();
        let said = world.run().fails();
        assert!(said.contains("no such file or directory"), "{said}");
        // the same path in the root is what it means
        let inside = world.rootfs(&victim.path.display().to_string()[1..]);
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("file"), "the image's\n").unwrap();
        assert_eq!(world.run().ok(), "the image's\nfile\n");
        victim.assert_unharmed();
        // also below a link of the host's that leads into the root
        let mut world = world;
        symlink(world.rootfs(""), world.path("alias")).unwrap();
        let list = world.config["mounts"].as_array_mut().unwrap();
        list.pop();
        world.mount(bind(world.path("alias/link"), "/stolen", &["bind"]));
        assert_eq!(world.run().ok(), "the image's\nfile\n");
    }
}

#[test]
fn a_link_of_the_image_leads_no_source_to_proc_or_sys() {
    only!(Who::Us; "the peers follow it on the host");
    for target in ["/proc/sys", "/sys/kernel", "proc/1/root", "/proc/self/cwd"] {
        let world = with_source("link");
        symlink(target, world.rootfs("link")).unwrap();
        let said = world.run().fails();
        let refused = ["a link leads inside /proc or /sys", "symbolic links", "no such file"];
        assert!(refused.iter().any(|why| said.contains(why)), "{target}: {said}");
        world.assert_clean();
    }
    // not by a name either: these are magic links
    for path in ["proc/self/root", "proc/1/cwd", "proc/self/fd/3"] {
        let said = with_source(path).run().fails();
        assert!(said.contains("symbolic links") || said.contains("no such file"), "{path}: {said}");
    }
}
