//! The flags before the command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Parser};

use super::go_style;

/// Flags before the command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// enable debug logging
    #[arg(long)]
    pub debug: bool,
    /// set the log file to write coracle logs to: a path, file:PATH, journald:NAME or syslog:NAME (default is standard
    /// error)
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// set the log format (text or json)
    #[arg(long, default_value = "text")]
    pub log_format: String,
    /// set the log level (debug, info, warning or error)
    #[arg(long)]
    pub log_level: Option<String>,
    /// log to the systemd journal as well
    #[arg(long)]
    pub systemd_log: bool,
    /// root directory for storage of container state (default: /run/coracle, for a user $XDG_RUNTIME_DIR/coracle)
    #[arg(long)]
    pub root: Option<OsString>,
    /// enable systemd cgroup support, expects cgroupsPath to be of form "slice:prefix:name"
    #[arg(long, short = 's')]
    pub systemd_cgroup: bool,
    /// cgroup manager: cgroupfs, systemd or disabled
    #[arg(long)]
    pub cgroup_manager: Option<String>,
    /// ignore cgroup permission errors (true, false or auto)
    #[arg(long, default_value = "auto")]
    pub rootless: String,
    /// path to the criu binary used for checkpoint and restore (default: criu in PATH)
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
