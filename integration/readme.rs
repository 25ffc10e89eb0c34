//! Runs the commands in README.md, and compares their output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::ordinary::root;
use crate::world::{Outcome, Who, World, finish, runtime};
use crate::{needs, only};

/// The blocks of a page that have commands and their output.
pub fn blocks(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix('\n'));
    let lines = blocks.map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|lines| lines[0].starts_with("# ") || lines[0].starts_with("$ ")).collect()
}

/// The commands, and the output that README.md shows.
pub fn halves(block: &[String]) -> (String, Vec<&str>) {
    let typed = |line: &&String| line.starts_with("# ") || line.starts_with("$ ");
    let commands: Vec<_> = block.iter().filter(typed).map(|line| &line[2..]).collect();
    let shown = block.iter().filter(|line| !typed(line)).map(String::as_str);
    (commands.join("\n"), shown.collect())
}

/// Runs the commands in a shell. `coracle` is the runtime under test with a state directory of its own. Both output
/// streams are one.
pub fn type_in(world: &World, commands: &str) -> Outcome {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", world.path("bin").display());
    let commands = format!("exec 2>&1\n{commands}");
    finish(Command::new("sh").args(["-euc", &commands]).current_dir(world.path("typed")).env("PATH", path))
}

/// Makes a bundle `bad` beside `bundle`, with these mistakes (as hack/demo does).
fn spoil(world: &World, mistakes: &[(&str, &str)]) {
    let bad = world.path("typed/bad");
    let _ = fs::remove_dir_all(&bad);
    fs::create_dir_all(bad.join("rootfs")).unwrap();
    let mut config = fs::read_to_string(world.path("typed/bundle/config.json")).unwrap();
    for (right, wrong) in mistakes {
        assert!(config.contains(right), "{right} is not in config.json");
        config = config.replace(right, wrong);
    }
    fs::write(bad.join("config.json"), config).unwrap();
}

pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Makes the directory in which commands are typed, and a `coracle` for them.
pub fn shell(world: &World) {
    fs::create_dir_all(world.path("typed")).unwrap();
    fs::create_dir_all(world.path("bin")).unwrap();
    let script =
        format!("#!/bin/sh\nexec {} --root {} \"$@\"\n", runtime().display(), world.path("typed-state").display());
    fs::write(world.path("bin/coracle"), script).unwrap();
    fs::set_permissions(world.path("bin/coracle"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// The files in `examples` are what README.md and docs/engines.md show.
#[test]
fn the_examples_are_those_of_the_page() {
    only!(Who::Us; "a page of coracle's");
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let shown = [
        ("README.md", "containers.conf"),
        ("README.md", "daemon.json"),
        ("README.md", "containerd-1.toml"),
        ("README.md", "runtimeclass.yaml"),
        ("docs/engines.md", "containerd-shim.toml"),
    ];
    for (page, file) in shown {
        let text = fs::read_to_string(top.join("examples").join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("version"));
        let own = lines.collect::<Vec<_>>().join("\n");
        assert!(fs::read_to_string(top.join(page)).unwrap().contains(&own), "{page} does not show examples/{file}");
    }
}

#[test]
fn the_commands_of_the_readme_print_what_it_shows() {
    only!(Who::Us; "README.md shows coracle");
    needs!(root(), "README.md shows commands of root");
    let world = World::running(&["true"]);
    shell(&world);
    let mut seen = 0;
    for block in blocks("README.md") {
        let (commands, shown) = halves(&block);
        seen += 1;
        if commands.starts_with("mkdir -p bundle") {
            assert_eq!(type_in(&world, &commands).ok().lines().collect::<Vec<_>>(), shown, "{commands}");
        } else if commands == "coracle check bad/" {
            let mistakes = [
                ("\"type\": \"pid\"", "\"type\": \"pidd\""),
                ("\"hard\": 1024", "\"hard\": \"many\""),
                ("\"cwd\": \"/\"", "\"cwd\": \"tmp\""),
                ("\"readonly\"", "\"readOnly\""),
            ];
            spoil(&world, &mistakes);
            let said = type_in(&world, &commands);
            assert_eq!((said.code(), said.out.lines().collect::<Vec<_>>()), (1, shown), "{commands}");
        } else if commands == "coracle run bad/" {
            spoil(&world, &[("size=65536k", "sise=65536k")]);
            let said = type_in(&world, &commands);
            assert_eq!((said.code(), said.out.lines().collect::<Vec<_>>()), (1, shown), "{commands}");
        } else if commands == "coracle explain bundle/" {
            let plan = type_in(&world, &commands).ok();
            let plan: Vec<_> = plan.lines().map(|line| words(line)[1..].to_vec()).collect();
            for line in shown {
                // The number of steps before depends on the host.
                assert!(plan.contains(&words(line)[1..].to_vec()), "explain does not print {line:?}");
            }
        } else if commands == "coracle check --security bundle/" {
            let said = type_in(&world, &commands).ok();
            assert!(said.starts_with(&shown.join("\n")), "{said}");
        } else if commands == "coracle --debug run bundle/" {
            let said = type_in(&world, &commands);
            for line in shown {
                let (_, step) = line.split_once("µs: ").unwrap();
                assert!(said.out.contains(&format!("µs: {step}")), "--debug does not print {step:?}");
            }
        } else {
            panic!("README.md shows {commands:?}, and this test does not know what must be there before");
        }
    }
    assert_eq!(seen, 6, "blocks of README.md that were run");
}
