//! What `--help` and `--version` say. The first words are what a client of runc looks for.

/// The commands, with a line for each.
const COMMANDS: [(&str, &str); 14] = [
    ("create", "create a container"),
    ("delete", "delete any resources held by the container"),
    ("exec", "execute new process inside the container"),
    ("explain", "show what would be done for a bundle, step by step, and do none of it"),
    ("features", "show the enabled features"),
    ("kill", "kill sends the specified signal (default: SIGTERM) to the container's init process"),
    ("list", "lists containers started by coracle with the given root"),
    ("pause", "pause suspends all processes inside the container"),
    ("ps", "ps displays the processes running inside a container"),
    ("resume", "resumes all processes that have been previously paused"),
    ("run", "create and run a container"),
    ("spec", "create a new specification file"),
    ("start", "executes the user defined process in a created container"),
    ("state", "output the state of a container"),
];
const OPTIONS: [(&str, &str); 9] = [
    ("--debug", "enable debug logging"),
    ("--log value", "set the log file to write coracle logs to (default is '/dev/stderr')"),
    ("--log-format value", "set the log format ('text' (default), or 'json') (default: \"text\")"),
    ("--root value", "root directory for storage of container state (default: \"/run/coracle\")"),
    ("--systemd-cgroup", "enable systemd cgroup support"),
    ("--cgroup-manager value", "cgroup manager: cgroupfs, systemd or disabled"),
    ("--rootless value", "ignore cgroup permission errors ('true', 'false', or 'auto') (default: \"auto\")"),
    ("--help, -h", "show help"),
    ("--version, -v", "print the version"),
];

/// `coracle --help`.
pub fn general_help() -> String {
    let list = |entries: &[(&str, &str)]| -> String {
        entries.iter().map(|(name, text)| format!("   {name:22}  {text}\n")).collect()
    };
    format!(
        "NAME:\n   coracle - Open Container Initiative runtime\n\n\
         coracle runs applications packaged as OCI bundles: a directory with a config.json and a root filesystem.\n\
         `coracle run bundle/` runs one; `coracle explain bundle/` shows what that would do.\n\n\
         USAGE:\n   coracle [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
        env!("CARGO_PKG_VERSION"),
        list(&COMMANDS),
        list(&OPTIONS)
    )
}

/// `coracle --version`, in the lines that go-runc and docker read.
pub fn version() -> String {
    let commit = option_env!("CORACLE_COMMIT").unwrap_or("unknown");
    format!("coracle version {}\ncommit: {commit}\nspec: 1.3.0\nlibseccomp: 2.5\n", env!("CARGO_PKG_VERSION"))
}
