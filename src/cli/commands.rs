//! One structure for each command. It has the flags as the user typed them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Parser;

/// The limit of --preserve-fds: more than any caller passes, and few enough to check each.
const MOST_FDS: i64 = (1 << 20) - 1;

/// The command that was typed.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Command {
    Check(Check),
    Checkpoint(Box<Checkpoint>),
    Create(Create),
    Delete(Delete),
    Events(Events),
    Exec(Box<Exec>),
    Explain(Explain),
    Features,
    Host(Host),
    Kill(Kill),
    List(List),
    Mounts(Mounts),
    Pause(OnlyId),
    Ps(Ps),
    Restore(Box<Restore>),
    Resume(OnlyId),
    Run(Run),
    Spec(Spec),
    Start(OnlyId),
    State(OnlyId),
    Top(Top),
    Update(Box<Update>),
}

/// A command without flags and arguments.
#[derive(Clone, Debug, Parser)]
pub struct NoArguments {}

/// A command with an id and no flags.
#[derive(Clone, Debug, Parser)]
pub struct OnlyId {
    /// id of the container
    pub id: String,
}

/// The flags of `create` and `run`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Making {
    /// the bundle directory, defaults to the current directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// a file to read instead of the bundle's config.json
    #[arg(long, short = 'f')]
    pub config: Option<PathBuf>,
    /// a Unix socket that gets the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// a Unix socket that gets a pidfd of the first process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// do not call pivot_root(2): move the root on top of / instead
    #[arg(long)]
    pub no_pivot: bool,
    /// do not make a session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// pass this number of file descriptors, from 3 on, to the container
    #[arg(long, default_value_t = 0, value_parser = number_in::<u32>(0..=MOST_FDS))]
    pub preserve_fds: u32,
    /// do not become the subreaper of the container's processes
    #[arg(long)]
    pub no_subreaper: bool,
}

/// create a container
#[derive(Clone, Debug, Parser)]
pub struct Create {
    /// its flags
    #[command(flatten)]
    pub making: Making,
    /// id of the container
    pub id: String,
}

/// create and run a container
#[derive(Clone, Debug, Parser)]
pub struct Run {
    /// its flags
    #[command(flatten)]
    pub making: Making,
    /// do not wait for the process
    #[arg(long, short)]
    pub detach: bool,
    /// do not delete the container when its program has ended
    #[arg(long)]
    pub keep: bool,
    /// id of the container, or a bundle directory: coracle then chooses the id
    pub id: String,
    /// the command that replaces process.args
    pub command: Vec<String>,
}

/// print events of a container
#[derive(Clone, Debug, Parser)]
pub struct Events {
    /// the time between two statistics
    #[arg(long, default_value = "5s")]
    pub interval: String,
    /// print the statistics once, and exit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub stats: bool,
    /// json or table
    #[arg(long, default_value = "json")]
    pub format: String,
    /// id of the container
    pub id: String,
}

/// run a further process in a container
#[derive(Clone, Debug, Parser)]
pub struct Exec {
    /// a Unix socket that gets the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// a Unix socket that gets a pidfd of the process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// working directory, a path of the container
    #[arg(long)]
    pub cwd: Option<String>,
    /// set an environment variable: NAME=value
    #[arg(long, short)]
    pub env: Vec<String>,
    /// allocate a pseudo-TTY
    #[arg(long, short)]
    pub tty: bool,
    /// user id, or user id and group id: UID or UID:GID
    #[arg(long, short)]
    pub user: Option<String>,
    /// additional gids
    #[arg(long, short = 'g', value_parser = number_in::<u32>(0..=i64::from(u32::MAX)))]
    pub additional_gids: Vec<u32>,
    /// a file with a process object, as in config.json
    #[arg(long, short)]
    pub process: Option<PathBuf>,
    /// do not wait for the process
    #[arg(long, short)]
    pub detach: bool,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// the SELinux label of the process
    #[arg(long)]
    pub process_label: Option<String>,
    /// the AppArmor profile of the process
    #[arg(long)]
    pub apparmor: Option<String>,
    /// set no_new_privs for the process
    #[arg(long)]
    pub no_new_privs: bool,
    /// add a capability to the process
    #[arg(long, short)]
    pub cap: Vec<String>,
    /// pass this number of file descriptors, from 3 on, to the container
    #[arg(long, default_value_t = 0, value_parser = number_in::<u32>(0..=MOST_FDS))]
    pub preserve_fds: u32,
    /// run the process in this cgroup below the container's: PATH, or on cgroup v1 CONTROLLER:PATH
    #[arg(long)]
    pub cgroup: Vec<String>,
    /// accept a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// disable the use of the subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// id of the container
    pub id: String,
    /// the command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// report every mistake in a bundle's config.json
#[derive(Clone, Debug, Parser)]
pub struct Check {
    /// the bundle directory, defaults to the current directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// a file to read instead of the bundle's config.json
    #[arg(long, short = 'f')]
    pub config: Option<PathBuf>,
    /// show what the config exposes to an attacker in the container, with a score from 0 to 10
    #[arg(long)]
    pub security: bool,
    /// check the images of a checkpoint, and the bundle if it is given
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// with --security: exit with status 1 if the score is at least this number, such as 5 or 7.5
    #[arg(long)]
    pub fail_at: Option<String>,
    /// text or json
    #[arg(long, default_value = "text")]
    pub format: String,
    /// the bundle directory
    pub directory: Option<PathBuf>,
}

/// show the steps that create, or restore, would take for a bundle
#[derive(Clone, Debug, Parser)]
pub struct Explain {
    /// the bundle directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// a file to read instead of the bundle's config.json
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// text, property (each property with its steps) or json
    #[arg(long, short, default_value = "text")]
    pub format: String,
    /// show the steps of a restore of these images
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// the bundle directory
    pub directory: Option<PathBuf>,
}

/// check whether this machine can run containers
#[derive(Clone, Debug, Parser)]
pub struct Host {
    /// text or json
    #[arg(long, short, default_value = "text")]
    pub format: String,
}

/// send a signal to the first process of a container
#[derive(Clone, Debug, Parser)]
pub struct Kill {
    /// send the signal to all processes; obsolete: SIGKILL reaches all processes of a container without a pid namespace
    #[arg(long, short)]
    pub all: bool,
    /// the id is a regular expression that may match several containers
    #[arg(long, short)]
    pub regex: bool,
    /// wait until the container has ended, and send SIGKILL after this time, such as 10s
    #[arg(long)]
    pub wait: Option<String>,
    /// id of the container
    pub id: String,
    /// name or number
    #[arg(allow_hyphen_values = true)]
    pub signal: Option<String>,
}

/// delete a container and its resources
#[derive(Clone, Debug, Parser)]
pub struct Delete {
    /// kill the container with SIGKILL if it still runs
    #[arg(long, short)]
    pub force: bool,
    /// the id is a regular expression that may match several containers
    #[arg(long, short)]
    pub regex: bool,
    /// ids of the containers
    pub ids: Vec<String>,
}

/// list containers
#[derive(Clone, Debug, Parser)]
pub struct List {
    /// table, wide or json
    #[arg(long, short, default_value = "table")]
    pub format: String,
    /// print only the ids
    #[arg(long, short)]
    pub quiet: bool,
}

/// add mounts to a running container, or remove them
#[derive(Clone, Debug, Parser)]
pub struct Mounts {
    /// add or remove
    pub what: String,
    /// id of the container
    pub id: String,
    /// a file with an array of mounts as in config.json, or - for standard input
    pub file: PathBuf,
}

/// list the processes of a container
#[derive(Clone, Debug, Parser)]
pub struct Ps {
    /// table or json
    #[arg(long, short, default_value = "table")]
    pub format: String,
    /// id of the container
    pub id: String,
    /// options for ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// write a config.json
#[derive(Clone, Debug, Parser)]
pub struct Spec {
    /// the bundle directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// the file to write instead of config.json
    #[arg(long, short = 'f')]
    pub file: Option<PathBuf>,
    /// write a config for a container of an ordinary user
    #[arg(long)]
    pub rootless: bool,
    /// write a config without a terminal, as for a service
    #[arg(long)]
    pub no_terminal: bool,
    /// take the settings of an image: the directory of an OCI image layout, then :REF for one of several images
    #[arg(long)]
    pub from: Option<String>,
    /// the command: all words that follow
    #[arg(long)]
    pub args: bool,
    /// the command and its arguments
    pub command: Vec<String>,
}

/// show what containers use
#[derive(Clone, Debug, Parser)]
pub struct Top {
    /// print one table and exit
    #[arg(long)]
    pub once: bool,
    /// the time between two updates of the table
    #[arg(long, default_value = "2s")]
    pub interval: String,
    /// the column to sort by: cpu, memory, processes or id
    #[arg(long, default_value = "cpu")]
    pub sort: String,
    /// ids of the containers; without an id, all containers
    pub ids: Vec<String>,
}

/// change the limits of a container
#[derive(Clone, Debug, Parser)]
pub struct Update {
    /// a file with a resources object as in config.json, or - for standard input; the flags of other limits are then ignored, except the schemata
    #[arg(long, short)]
    pub resources: Option<PathBuf>,
    /// relative weight of block I/O, 10 to 1000
    #[arg(long, allow_hyphen_values = true)]
    pub blkio_weight: Option<String>,
    /// CPU CFS period in microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_period: Option<String>,
    /// CPU CFS quota in microseconds within a period, -1 for none
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU CFS burst in microseconds within a period
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_burst: Option<String>,
    /// CPU shares, relative to other containers
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_share: Option<String>,
    /// CPU realtime period in microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_rt_period: Option<String>,
    /// CPU realtime runtime in microseconds within a period
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// 1: the container runs only on idle CPUs
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
    /// CPUs to use, such as 0-2,7
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// memory nodes to use
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// accepted and ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// accepted and ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    /// memory limit, with or without a unit (512M), -1 for none
    #[arg(long, allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// memory reservation, or soft limit
    #[arg(long, allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// memory and swap together, -1 for unlimited swap
    #[arg(long, allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// maximum number of processes, -1 for no limit
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Intel RDT/CAT L3 cache schema
    #[arg(long)]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT/MBA memory bandwidth schema
    #[arg(long)]
    pub mem_bw_schema: Option<String>,
    /// id of the container
    pub id: String,
}

/// The directory of the images, and CRIU's options.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Imaging {
    /// the directory of the image files, defaults to ./checkpoint
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// the directory of criu's log and work files, defaults to the image path
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// accept open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// accept Unix sockets whose other end is outside of the container
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// accept a terminal that is not the container's own
    #[arg(long)]
    pub shell_job: bool,
    /// checkpoint and restore file locks
    #[arg(long)]
    pub file_locks: bool,
    /// cgroups mode: soft, full, strict or ignore
    #[arg(long, default_value = "")]
    pub manage_cgroups_mode: String,
    /// make a namespace of this type without its contents (criu always does so for network)
    #[arg(long)]
    pub empty_ns: Vec<String>,
    /// remove pages from images: in a checkpoint, those of earlier images that the new ones have; in a restore, all that are restored
    #[arg(long)]
    pub auto_dedup: bool,
    /// restore memory pages when the processes use them (userfaultfd(2))
    #[arg(long)]
    pub lazy_pages: bool,
    /// how criu blocks packets of open connections: iptables, nftables or skip
    #[arg(long)]
    pub network_lock: Option<String>,
}

/// checkpoint a running container
#[derive(Clone, Debug, Parser)]
pub struct Checkpoint {
    /// its images
    #[command(flatten)]
    pub imaging: Imaging,
    /// path of the image files of an earlier pre-dump, relative to the image path
    #[arg(long)]
    pub parent_path: Option<PathBuf>,
    /// let the container run on after the checkpoint
    #[arg(long)]
    pub leave_running: bool,
    /// skip TCP connections that are not established yet
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// give names to open files that were deleted
    #[arg(long)]
    pub link_remap: bool,
    /// the file descriptor to which criu writes a byte of 0 when lazy-pages is ready
    #[arg(long, allow_hyphen_values = true, value_parser = number_in::<i32>(0..=i64::from(i32::MAX)))]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long)]
    pub page_server: Option<String>,
    /// dump the memory only, and leave the container running
    #[arg(long)]
    pub pre_dump: bool,
    /// id of the container
    pub id: String,
}

/// restore a container from a previous checkpoint
#[derive(Clone, Debug, Parser)]
pub struct Restore {
    /// its images
    #[command(flatten)]
    pub imaging: Imaging,
    /// the bundle directory, defaults to the current directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// a Unix socket that gets the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// do not wait for the process
    #[arg(long, short)]
    pub detach: bool,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// do not become the subreaper of the container's processes
    #[arg(long)]
    pub no_subreaper: bool,
    /// accepted for old clients: criu changes the root
    #[arg(long)]
    pub no_pivot: bool,
    /// close the open TCP connections
    #[arg(long)]
    pub tcp_close: bool,
    /// the security profile to apply, TYPE:NAME, where TYPE is apparmor or selinux
    #[arg(long)]
    pub lsm_profile: Option<String>,
    /// the SELinux label of the mounts
    #[arg(long)]
    pub lsm_mount_context: Option<String>,
    /// id of the container
    pub id: String,
}

/// Reads a number of this range. Its words for a wrong one are ours.
fn number_in<N: TryFrom<i64> + Clone + Send + Sync + 'static>(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
    }
}
