//! The flags before the command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Parser};

use super::go_style;

/// Flags before the command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// log each step, and how long it took
    #[arg(long)]
    pub debug: bool,
    /// write the log to a path, file:PATH, journald:NAME or syslog:NAME (default: standard error)
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// the format of the log: text or json
    #[arg(long, default_value = "text")]
    pub log_format: String,
    /// the least level that is logged: debug, info, warning or error
    #[arg(long)]
    pub log_level: Option<String>,
    /// write the log to systemd's journal, too
    #[arg(long)]
    pub systemd_log: bool,
    /// the directory of the state of containers (default: /run/coracle, for a user $XDG_RUNTIME_DIR/coracle)
    #[arg(long)]
    pub root: Option<OsString>,
    /// make cgroups through systemd; cgroupsPath must have the form "slice:prefix:name"
    #[arg(long, short = 's')]
    pub systemd_cgroup: bool,
    /// how to make cgroups: cgroupfs, systemd or disabled
    #[arg(long)]
    pub cgroup_manager: Option<String>,
    /// ignore cgroup permission errors (true, false or auto)
    #[arg(long, default_value = "auto")]
    pub rootless: String,
    /// the program of CRIU, for checkpoint and restore (default: criu in PATH)
    #[arg(long)]
    pub criu: Option<PathBuf>,
}

impl Global {
    /// The value of `--rootless`. None for `auto`.
    pub fn says_rootless(&self) -> Option<bool> {
        go_style::truth(OsStr::new(&self.rootless))
    }
}

/// The global flags alone, as a command that clap can parse.
#[derive(Debug, Parser)]
#[command(name = "coracle", args_override_self = true, disable_help_flag = true, disable_version_flag = true)]
pub struct GlobalOnly {
    #[command(flatten)]
    pub global: Global,
}
