//! The commands: one row for each, with its arguments and its help.

use clap::{ArgMatches, CommandFactory, Error, FromArgMatches};

use super::commands::*;
use super::go_style::Order;

/// One command.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// Its arguments besides the flags, as in the usage line.
    pub takes: &'static str,
    /// The least and the largest number of these arguments.
    pub words: (usize, Option<usize>),
    /// Where its flags may stand.
    pub order: Order,
    /// The word after which all words belong to a command for the container.
    pub tail: Option<&'static str>,
    /// What it does, in one line.
    pub about: &'static str,
    /// More about it.
    pub more: &'static str,
    /// Command lines, each with what it does. The help, the man page and the tests use them.
    pub examples: &'static [(&'static str, &'static str)],
    /// Its flags, for clap.
    pub definition: fn() -> clap::Command,
    /// Converts its parsed flags to a `Command`.
    pub understand: fn(&ArgMatches) -> Result<Command, Error>,
}

const ID: &str = "<container-id>";
const ONE: (usize, Option<usize>) = (1, Some(1));
const NONE: (usize, Option<usize>) = (0, Some(0));

/// All commands, in the order of the help.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "check",
        takes: "[<bundle>]",
        words: (0, Some(1)),
        order: Order::Anywhere,
        tail: None,
        about: "report every mistake in a bundle's config.json, or in images",
        more: "Reads the bundle as create does, but makes no container. Reports every mistake with its place in config.json, and\n\
               unusual values as notes. The exit status is 1 if there is a mistake.\n\
               --security shows what the config exposes. For each finding it prints the place, what an attacker in the container\n\
               gains, and the change that prevents it. The score is ten times the probability that the attacker escapes by one\n\
               of the findings. It does not depend on the host.\n\
               --image-path checks the images of a checkpoint: all files must exist, and this machine must be able to restore\n\
               them. If you name a bundle, it must have all mounts of the host that the images need.",
        examples: &[
            ("coracle check bundle/", "report every mistake in bundle/config.json"),
            (
                "coracle check --security --fail-at 7 bundle/",
                "show what an attacker gains; exit with 1 if the score is 7 or more",
            ),
            ("coracle check --image-path images/ bundle/", "check that restore can restore these images"),
        ],
        definition: Check::command,
        understand: |found| Check::from_arg_matches(found).map(Command::Check),
    },
    Verb {
        name: "checkpoint",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "checkpoint a running container",
        more: "Writes the container's processes to image files, with criu(8), and deletes the container. The command restore\n\
               makes the container again. With --leave-running or --pre-dump the container continues to run.",
        examples: &[("coracle checkpoint --image-path /var/tmp/box box", "write its processes to /var/tmp/box")],
        definition: Checkpoint::command,
        understand: |found| Checkpoint::from_arg_matches(found).map(|args| Command::Checkpoint(Box::new(args))),
    },
    Verb {
        name: "create",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "create a container",
        more: "Makes a container from a bundle: a directory with a config.json and a root filesystem. The command start starts its\n\
               program. The id is a name that no other container below the same --root has.",
        examples: &[("coracle create --bundle bundle box", "make the container; the command start starts its program")],
        definition: Create::command,
        understand: |found| Create::from_arg_matches(found).map(Command::Create),
    },
    Verb {
        name: "delete",
        takes: "<container-id>...",
        words: (1, None),
        order: Order::Anywhere,
        tail: None,
        about: "delete a container, its cgroup and its other resources",
        more: "Each container must be stopped, or not started yet. --force also kills a running container.",
        examples: &[
            ("coracle delete box", "remove a container that has stopped"),
            ("coracle delete --force box web", "end two containers, and remove them"),
        ],
        definition: Delete::command,
        understand: |found| Delete::from_arg_matches(found).map(Command::Delete),
    },
    Verb {
        name: "events",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "print events of a container: out of memory, and its use of CPU, memory and devices",
        more: "Prints one JSON object in each line, until the container ends. --format table prints columns.",
        examples: &[
            ("coracle events --stats --format table box", "print what the container uses now"),
            ("coracle events box", "print its events, one JSON object in each line"),
        ],
        definition: Events::command,
        understand: |found| Events::from_arg_matches(found).map(Command::Events),
    },
    Verb {
        name: "exec",
        takes: "<container-id> [<command> [argument...]] || --process process.json <container-id>",
        words: (1, None),
        order: Order::First,
        tail: None,
        about: "run a further process in a container",
        more: "All words after the id are the command and its arguments. --process reads the command from a file instead: a process\n\
               object as in config.json. Without a command, exec runs a shell if standard input and output are terminals.",
        examples: &[
            ("coracle exec box ps", "run ps in the container"),
            ("coracle exec -t box", "run a shell in the container"),
        ],
        definition: Exec::command,
        understand: |found| Exec::from_arg_matches(found).map(|exec| Command::Exec(Box::new(exec))),
    },
    Verb {
        name: "explain",
        takes: "[<bundle>]",
        words: (0, Some(1)),
        order: Order::Anywhere,
        tail: None,
        about: "show the steps that create, or restore, would take for a bundle",
        more: "Each line names the property of config.json that asks for the step. explain performs no step. #3 in a step is a file\n\
               that the runtime opens before it makes the first process. The line with \"open\" and #3 shows the path of the file.",
        examples: &[
            ("coracle explain bundle/", "show the steps that create would take"),
            ("coracle explain --format property bundle/", "show each property, and its steps"),
            ("coracle explain --image-path images/ bundle/", "show the steps that restore would take"),
        ],
        definition: Explain::command,
        understand: |found| Explain::from_arg_matches(found).map(Command::Explain),
    },
    Verb {
        name: "features",
        takes: "",
        words: NONE,
        order: Order::Anywhere,
        tail: None,
        about: "show the enabled features",
        more: "Prints one JSON object, as features.md of the runtime specification defines it.",
        examples: &[("coracle features", "show what this binary can do")],
        definition: NoArguments::command,
        understand: |_| Ok(Command::Features),
    },
    Verb {
        name: "host",
        takes: "",
        words: NONE,
        order: Order::Anywhere,
        tail: None,
        about: "check whether this machine can run containers (alias: info)",
        more: "Tries the system calls, namespaces, cgroups, systemd, programs for ordinary users, seccomp and security modules that\n\
               coracle uses. Changes nothing. Does not need root: the result is for the user who calls it. Each line that is\n\
               not \"ok\" says what does not work, and what to do. The exit status is 1 if this user cannot make a container.",
        examples: &[("coracle host", "check this machine"), ("coracle host --format json", "the same, for programs")],
        definition: Host::command,
        understand: |found| Host::from_arg_matches(found).map(Command::Host),
    },
    Verb {
        name: "kill",
        takes: "<container-id> [signal]",
        words: (1, Some(2)),
        order: Order::Anywhere,
        tail: None,
        about: "send a signal (default: SIGTERM) to the first process of a container",
        more: "The signal is a number or a name: 15, TERM, SIGTERM, RTMIN+3. Without a signal, kill sends the stop signal of the\n\
               image (the annotation org.opencontainers.image.stopSignal), or SIGTERM. --wait waits until the container has\n\
               ended. If it has not ended after the given time, kill sends SIGKILL.",
        examples: &[
            ("coracle kill box", "send its stop signal, mostly SIGTERM"),
            ("coracle kill --wait 10s box", "the same; after ten seconds send SIGKILL"),
        ],
        definition: Kill::command,
        understand: |found| Kill::from_arg_matches(found).map(Command::Kill),
    },
    Verb {
        name: "list",
        takes: "",
        words: NONE,
        order: Order::Anywhere,
        tail: None,
        about: "list the containers below --root",
        more: "If list cannot read a container, it prints a message on standard error and leaves this container out.",
        examples: &[
            ("coracle list", "list all containers"),
            ("coracle list --format wide", "the same, with processes, memory, CPU time and addresses"),
        ],
        definition: List::command,
        understand: |found| List::from_arg_matches(found).map(Command::List),
    },
    Verb {
        name: "mounts",
        takes: "add|remove <container-id> <file>",
        words: (3, Some(3)),
        order: Order::Anywhere,
        tail: None,
        about: "add mounts to a running container, or remove them",
        more: "The file is an array of mounts, as in config.json. add accepts bind mounts and tmpfs, at paths that exist in the\n\
               container. If one mount fails, it adds none. remove unmounts only mounts that add has made. It reads only the\n\
               destinations in the file.",
        examples: &[
            ("coracle mounts add box mounts.json", "add the mounts in this file to the container"),
            ("coracle mounts remove box mounts.json", "remove these mounts again"),
        ],
        definition: Mounts::command,
        understand: |found| Mounts::from_arg_matches(found).map(Command::Mounts),
    },
    Verb {
        name: "pause",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "suspend all processes of a container",
        more: "The command resume continues them.",
        examples: &[("coracle pause box", "suspend the container")],
        definition: OnlyId::command,
        understand: |found| OnlyId::from_arg_matches(found).map(Command::Pause),
    },
    Verb {
        name: "ps",
        takes: "<container-id> [ps options]",
        words: (1, None),
        order: Order::First,
        tail: None,
        about: "list the processes of a container",
        more: "Runs ps(1), by default ps -ef, and prints only the lines of the container's processes.",
        examples: &[
            ("coracle ps box", "list its processes"),
            ("coracle ps box -o pid,args", "the same, with options of ps(1)"),
        ],
        definition: Ps::command,
        understand: |found| Ps::from_arg_matches(found).map(Command::Ps),
    },
    Verb {
        name: "restore",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "restore a container from a previous checkpoint",
        more: "Makes a container from a bundle and the image files of a checkpoint, with criu(8). Its processes continue where the\n\
               checkpoint stopped them. Without --detach, waits for the first process and exits with its status.",
        examples: &[("coracle restore --bundle bundle --image-path /var/tmp/box box", "make the container again")],
        definition: Restore::command,
        understand: |found| Restore::from_arg_matches(found).map(|args| Command::Restore(Box::new(args))),
    },
    Verb {
        name: "resume",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "continue all processes of a paused container",
        more: "",
        examples: &[("coracle resume box", "continue a paused container")],
        definition: OnlyId::command,
        understand: |found| OnlyId::from_arg_matches(found).map(Command::Resume),
    },
    Verb {
        name: "run",
        takes: "<container-id> | <bundle>/ [-- <command> [argument...]]",
        words: ONE,
        order: Order::Anywhere,
        tail: Some("--"),
        about: "create and run a container",
        more: "Creates the container and starts its program. Without --detach, waits for the program and exits with its status.\n\
               The argument may also be the path of a bundle (bundle/ or ./bundle). Then coracle chooses the id, and prints it if\n\
               --detach is given. A name without a slash is an id wherever runc would accept it as an id.\n\
               The words after -- are a command that replaces process.args.",
        examples: &[
            ("coracle run bundle/", "run a bundle; coracle chooses the id"),
            ("coracle run bundle/ -- ls /", "run another program in the bundle"),
            ("coracle run --detach --bundle bundle box", "run it in the background, with the id box"),
        ],
        definition: Run::command,
        understand: |found| Run::from_arg_matches(found).map(Command::Run),
    },
    Verb {
        name: "spec",
        takes: "",
        words: NONE,
        order: Order::Anywhere,
        tail: Some("--args"),
        about: "write a config.json",
        more: "Writes an example config.json: a shell in a read-only root filesystem, which must be in rootfs/.\n\
               All words after --args are the command. --from takes command, environment, user, directory and stop signal from\n\
               an image (skopeo copy docker://IMAGE oci:LAYOUT:REF). It does not unpack the image: use umoci unpack.",
        examples: &[
            ("coracle spec --bundle bundle --no-terminal --args sleep 1000", "write a config.json for this command"),
            ("coracle spec --bundle bundle --from image:latest", "write one with the settings of an image"),
        ],
        definition: Spec::command,
        understand: |found| Spec::from_arg_matches(found).map(Command::Spec),
    },
    Verb {
        name: "start",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "start the program of a created container",
        more: "",
        examples: &[("coracle start box", "start the program of the container box")],
        definition: OnlyId::command,
        understand: |found| OnlyId::from_arg_matches(found).map(Command::Start),
    },
    Verb {
        name: "state",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "print the state of a container",
        more: "Prints one JSON object, as the runtime specification defines it.",
        examples: &[("coracle state box", "print its state, as JSON")],
        definition: OnlyId::command,
        understand: |found| OnlyId::from_arg_matches(found).map(Command::State),
    },
    Verb {
        name: "top",
        takes: "[<container-id>...]",
        words: (0, None),
        order: Order::Anywhere,
        tail: None,
        about: "show what containers use, and update the table every two seconds",
        more: "Shows CPU, memory, processes, network and block devices. Each container, or each named one, has one line. The\n\
               keys c, m, p and i sort by CPU, memory, processes and id; q ends it. --once prints one table, for scripts.",
        examples: &[
            ("coracle top", "show all containers"),
            ("coracle top --once box", "print one table with one container"),
        ],
        definition: Top::command,
        understand: |found| Top::from_arg_matches(found).map(Command::Top),
    },
    Verb {
        name: "update",
        takes: ID,
        words: ONE,
        order: Order::Anywhere,
        tail: None,
        about: "change the limits of a container",
        more: "Changes only the limits that the command names. --resources reads a resources object, as in config.json. Device rules\n\
               in it replace the old ones. If one limit cannot be set, no limit changes.",
        examples: &[("coracle update --memory 512M --pids-limit 100 box", "change two limits")],
        definition: Update::command,
        understand: |found| Update::from_arg_matches(found).map(|update| Command::Update(Box::new(update))),
    },
];

/// Other names of commands.
const ALIASES: [(&str, &str); 1] = [("info", "host")];

/// The command with this name.
pub(super) fn named(name: &str) -> Option<&'static Verb> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    VERBS.iter().find(|verb| verb.name == name)
}

/// Commands of engines and of LXC, and what to use instead.
const ELSEWHERE: [(&str, &str); 36] = [
    ("rm", "did you mean \"delete\"?"),
    ("remove", "did you mean \"delete\"?"),
    ("destroy", "did you mean \"delete\"?"),
    ("stop", "did you mean \"kill\"?"),
    ("ls", "did you mean \"list\"?"),
    ("inspect", "did you mean \"state\"?"),
    ("status", "did you mean \"state\"?"),
    ("stats", "did you mean \"events --stats\"?"),
    ("monitor", "did you mean \"events\"?"),
    ("unpause", "did you mean \"resume\"?"),
    ("freeze", "did you mean \"pause\"?"),
    ("thaw", "did you mean \"resume\"?"),
    ("unfreeze", "did you mean \"resume\"?"),
    ("shell", "did you mean \"exec\"?"),
    ("enter", "did you mean \"exec\"?"),
    (
        "attach",
        "\"exec\" runs another program in the container; the process that called \"run\" has the streams of the first one",
    ),
    ("console", "\"exec --tty\" gives a terminal; --console-socket gets that of the first program"),
    ("logs", "coracle keeps no logs: the caller of \"run\" gets the output of the container"),
    ("restart", "delete the container and run it again"),
    ("wait", "\"run\" waits for the program; \"events\" ends when the container ends"),
    ("checkconfig", "did you mean \"host\"?"),
    ("doctor", "did you mean \"host\"?"),
    ("validate", "did you mean \"check\"?"),
    ("images", "coracle does not handle images: skopeo copies an image, and umoci unpacks it"),
    ("pull", "coracle does not handle images: skopeo copies an image, and umoci unpacks it"),
    ("build", "coracle does not build images: use buildah"),
    ("cp", "copy files to or from the root file system of the bundle"),
    ("init", "did you mean \"spec\"?"),
    ("version", "did you mean \"--version\"?"),
    ("container", "leave this word out: \"list\", \"run\", \"delete\""),
    ("image", "coracle does not handle images: skopeo copies an image, and umoci unpacks it"),
    ("dump", "did you mean \"checkpoint\"?"),
    ("execute", "did you mean \"exec\"?"),
    ("network", "use an engine; linux.netDevices in config.json moves a network device into the container"),
    ("volume", "use mounts in config.json"),
    ("compose", "use an engine: coracle does not read files of compose"),
];

/// The hint for a command that does not exist. It may be empty.
pub(super) fn suggestion(name: &str) -> String {
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(word, _)| *word == name) {
        return format!(": {instead}");
    }
    let names = VERBS.iter().map(|verb| verb.name).chain(ALIASES.iter().map(|(alias, _)| *alias));
    super::typo::near(name, names).map(|near| format!(": did you mean {near:?}?")).unwrap_or_default()
}

impl Verb {
    /// Checks the number of arguments. The error says how many the command needs.
    pub(super) fn count(&self, words: usize) -> Result<(), String> {
        match self.words {
            (least, Some(most)) if least == most && words != least => {
                Err(format!("requires exactly {least} argument(s)"))
            }
            (least, _) if words < least => Err(format!("requires a minimum of {least} argument(s)")),
            (_, Some(most)) if words > most => Err(format!("requires a maximum of {most} argument(s)")),
            _ => Ok(()),
        }
    }
}
