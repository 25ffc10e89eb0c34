//! The root file systems that snapshotters give: mounts, block devices, and files that need a loop device.

use std::fs;
use std::process::Command;

use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, skip, world};

/// A program of the host ran, and this is what it said. None if the host does not have it.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned())
}

/// An image of the root, made with the programs of that file system. None if they, or loop devices, are not there.
fn image(world: &World, kind: &str) -> Option<String> {
    let (root, image) = (world.text("rootfs"), world.text(kind));
    if !fs::exists("/dev/loop-control").expect("/dev") {
        skip("no loop devices");
        return None;
    }
    let made = match kind {
        "ext4" => run("mkfs.ext4", &["-q", "-d", &root, &image, "400M"]),
        "erofs" => run("mkfs.erofs", &["--quiet", &image, &root]),
        _ => run("mksquashfs", &[&root, &image, "-quiet", "-no-progress"]),
    };
    if made.is_none() {
        skip(&format!("no program makes {kind}"));
    }
    made.map(|_| image)
}

/// One life on these mounts. The root is the empty directory of the bundle.
fn live(world: &World, rootfs: Vec<Mount>) -> Result<(), String> {
    world.edit("c1", |config| config["root"]["path"] = "rootfs".into());
    let mut client = world.start();
    let order = CreateTaskRequest { rootfs, ..Client::order(world, "c1") };
    let created: Result<CreateTaskResponse, _> = client.call("Create", &order);
    let lived = created.map(|_| {
        client.start("c1", "").expect("Start");
        assert_eq!(client.exec(world, "e", "-v"), 0);
        client.close_stdin("c1");
        let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
        assert_eq!(ended.exit_status, 0);
        client.delete("c1", "").expect("Delete");
    });
    client.shut_down();
    world.assert_empty();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&world.text("b/c1/rootfs")), "a mount is left");
    lived.map_err(|status| status.message)
}

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        r#type: kind.into(),
        source: source.into(),
        target: String::new(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

/// The loop devices of a file.
fn loops(file: &str) -> String {
    run("losetup", &["-n", "-O", "NAME", "-j", file]).unwrap_or_default()
}

#[test]
fn a_root_file_system_is_a_file_on_a_loop_device() {
    if !root_is_here() {
        return;
    }
    for (kind, options) in [("ext4", &["loop"][..]), ("erofs", &["ro", "loop"]), ("squashfs", &["loop", "ro"])] {
        let world = world();
        let Some(image) = image(&world, kind) else { continue };
        let before = fs::read(&image).expect("the image");
        live(&world, vec![mount(kind, &image, options)]).expect("a life");
        gone("the loop device", || !loops(&image).is_empty());
        if options.contains(&"ro") {
            assert!(fs::read(&image).expect("the image") == before, "{kind}: written");
        }
    }
}

#[test]
fn a_loop_device_that_is_not_used_is_free_again() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let Some(image) = image(&world, "ext4") else { return };
    // another file system than that of the file
    let error = live(&world, vec![mount("squashfs", &image, &["loop"])]).expect_err("no squashfs");
    assert!(error.contains("failed to mount rootfs component: mount ") && error.contains("(EINVAL)"), "{error}");
    gone("the loop device", || !loops(&image).is_empty());
    let missing = world.text("missing");
    let error = live(&world, vec![mount("ext4", &missing, &["loop"])]).expect_err("no file");
    assert!(error.contains(&missing) && error.contains("(ENOENT)"), "{error}");
    // the next one succeeds
    live(&world, vec![mount("ext4", &image, &["loop"])]).expect("a life");
    gone("the loop device", || !loops(&image).is_empty());
}

#[test]
fn a_root_file_system_is_a_block_device() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let Some(image) = image(&world, "ext4") else { return };
    let Some(device) = run("losetup", &["-f", "--show", &image]) else { return skip("no losetup") };
    let lived = live(&world, vec![mount("ext4", &device, &["rw", "noatime"])]);
    run("losetup", &["-d", &device]);
    lived.expect("a life");
    gone("the loop device", || !loops(&image).is_empty());
}

/// Layers of a snapshotter: an overlay over the root, and a directory in it.
#[test]
fn a_root_file_system_is_an_overlay_with_a_bind_mount_in_it() {
    if !root_is_here() {
        return;
    }
    let world = world();
    for name in ["upper", "work", "more"] {
        fs::create_dir(world.path(name)).expect("mkdir");
    }
    fs::create_dir(world.path("rootfs/more")).expect("mkdir");
    fs::write(world.path("more/file"), "").expect("write");
    let layers = ["lowerdir=rootfs", "upperdir=upper", "workdir=work"].map(|option| {
        let (name, directory) = option.split_once('=').expect("an option");
        format!("{name}={}", world.text(directory))
    });
    let overlay = mount("overlay", "overlay", &layers.each_ref().map(String::as_str));
    let more = Mount { target: "/more".into(), ..mount("bind", &world.text("more"), &["rbind", "ro"]) };
    live(&world, vec![overlay, more]).expect("a life");
    assert!(fs::exists(world.path("more/file")).expect("its file"));
}
