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
    Host(HostArgs),
    Kill(Kill),
    List(List),
    Mounts(MountsArgs),
    Pause(Only),
    Ps(Ps),
    Restore(Box<Restore>),
    Resume(Only),
    Run(Run),
    Spec(SpecArgs),
    Start(Only),
    State(Only),
    Top(Top),
    Update(Box<Update>),
}

/// A command without flags.
#[derive(Clone, Debug, Parser)]
pub struct Nothing {}

/// A command with an id and no flags.
#[derive(Clone, Debug, Parser)]
pub struct Only {
    /// id of the container
    pub id: String,
}

/// The flags of `create` and `run`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Making {
    /// path to the root of the bundle directory, defaults to the current directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// a file to read instead of the bundle's config.json
    #[arg(long, short = 'f')]
    pub config: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive a file descriptor referencing the init process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// do not use pivot root to jail process inside rootfs
    #[arg(long)]
    pub no_pivot: bool,
    /// do not create a new session keyring for the container
    #[arg(long)]
    pub no_new_keyring: bool,
    /// pass N additional file descriptors to the container
    #[arg(long, default_value_t = 0, value_parser = number::<u32>(0..=MOST_FDS))]
    pub preserve_fds: u32,
    /// disable the use of the subreaper used to reap reparented processes
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
    /// detach from the container's process
    #[arg(long, short)]
    pub detach: bool,
    /// do not delete the container after it exits
    #[arg(long)]
    pub keep: bool,
    /// id of the container, or a bundle directory: coracle then chooses the id
    pub id: String,
    /// the command that replaces process.args
    pub command: Vec<String>,
}

/// display container events such as OOM notifications, cpu, memory, and IO usage statistics
#[derive(Clone, Debug, Parser)]
pub struct Events {
    /// set the stats collection interval
    #[arg(long, default_value = "5s")]
    pub interval: String,
    /// display the container's stats then exit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub stats: bool,
    /// json or table
    #[arg(long, default_value = "json")]
    pub format: String,
    /// id of the container
    pub id: String,
}

/// execute new process inside the container
#[derive(Clone, Debug, Parser)]
pub struct Exec {
    /// path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive a file descriptor referencing the exec process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// current working directory in the container
    #[arg(long)]
    pub cwd: Option<String>,
    /// set environment variables
    #[arg(long, short)]
    pub env: Vec<String>,
    /// allocate a pseudo-TTY
    #[arg(long, short)]
    pub tty: bool,
    /// UID (format: `<uid>[:<gid>]`)
    #[arg(long, short)]
    pub user: Option<String>,
    /// additional gids
    #[arg(long, short = 'g', value_parser = number::<u32>(0..=i64::from(u32::MAX)))]
    pub additional_gids: Vec<u32>,
    /// path to the process.json
    #[arg(long, short)]
    pub process: Option<PathBuf>,
    /// detach from the container's process
    #[arg(long, short)]
    pub detach: bool,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// set the asm process label for the process
    #[arg(long)]
    pub process_label: Option<String>,
    /// set the apparmor profile for the process
    #[arg(long)]
    pub apparmor: Option<String>,
    /// set the no new privileges value for the process
    #[arg(long)]
    pub no_new_privs: bool,
    /// add a capability to the bounding set for the process
    #[arg(long, short)]
    pub cap: Vec<String>,
    /// pass N additional file descriptors to the container
    #[arg(long, default_value_t = 0, value_parser = number::<u32>(0..=MOST_FDS))]
    pub preserve_fds: u32,
    /// run the process in an (existing) sub-cgroup(s)
    #[arg(long)]
    pub cgroup: Vec<String>,
    /// allow exec in a paused container
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
    /// check the images of a checkpoint, and a bundle only if it is named
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// with --security: exit with status 1 from this score on, such as 5 or 7.5
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

/// tell whether this machine is fit for containers
#[derive(Clone, Debug, Parser)]
pub struct HostArgs {
    /// text or json
    #[arg(long, short, default_value = "text")]
    pub format: String,
}

/// kill sends the specified signal (default: SIGTERM) to the container's init process
#[derive(Clone, Debug, Parser)]
pub struct Kill {
    /// send the signal to all processes; obsolete, because SIGKILL to a container without a pid namespace always does so
    #[arg(long, short)]
    pub all: bool,
    /// the id is a regular expression that may match several containers
    #[arg(long, short)]
    pub regex: bool,
    /// wait for the end of the container, and send SIGKILL after this time, such as 10s
    #[arg(long)]
    pub wait: Option<String>,
    /// id of the container
    pub id: String,
    /// name or number
    #[arg(allow_hyphen_values = true)]
    pub signal: Option<String>,
}

/// delete any resources held by the container
#[derive(Clone, Debug, Parser)]
pub struct Delete {
    /// forcibly deletes the container if it is still running (uses SIGKILL)
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
    /// display only container IDs
    #[arg(long, short)]
    pub quiet: bool,
}

/// add mounts to a running container, or remove them
#[derive(Clone, Debug, Parser)]
pub struct MountsArgs {
    /// add or remove
    pub what: String,
    /// id of the container
    pub id: String,
    /// a file with an array of mounts as in config.json, or - for standard input
    pub file: PathBuf,
}

/// ps displays the processes running inside a container
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

/// create a new specification file
#[derive(Clone, Debug, Parser)]
pub struct SpecArgs {
    /// path to the root of the bundle directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// the file to write instead of config.json
    #[arg(long, short = 'f')]
    pub file: Option<PathBuf>,
    /// generate a configuration for a rootless container
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

/// update container resource constraints
#[derive(Clone, Debug, Parser)]
pub struct Update {
    /// a file with a resources object as in config.json, or - for standard input; other limits are then ignored
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
    /// 1: the container runs only on CPUs that are otherwise idle
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
    /// path for the image files, defaults to ./checkpoint
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// path for criu's log and work files, defaults to the image path
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// allow open tcp connections
    #[arg(long)]
    pub tcp_established: bool,
    /// allow external unix sockets
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// allow shell jobs
    #[arg(long)]
    pub shell_job: bool,
    /// handle file locks, for safety
    #[arg(long)]
    pub file_locks: bool,
    /// cgroups mode: soft, full, strict or ignore
    #[arg(long, default_value = "")]
    pub manage_cgroups_mode: String,
    /// create a namespace, but do not restore its properties (always so for network)
    #[arg(long)]
    pub empty_ns: Vec<String>,
    /// enable auto deduplication of memory images
    #[arg(long)]
    pub auto_dedup: bool,
    /// use userfaultfd to lazily restore memory pages
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
    /// leave the process running after checkpointing
    #[arg(long)]
    pub leave_running: bool,
    /// skip in-flight tcp connections
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// give a name to deleted files that are still open
    #[arg(long)]
    pub link_remap: bool,
    /// the file descriptor to which criu writes a byte of 0 when lazy-pages is ready
    #[arg(long, allow_hyphen_values = true, value_parser = number::<i32>(0..=i64::from(i32::MAX)))]
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
    /// path to the root of the bundle directory, defaults to the current directory
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// detach from the container's process
    #[arg(long, short)]
    pub detach: bool,
    /// the file to write the process id to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// disable the use of the subreaper used to reap reparented processes
    #[arg(long)]
    pub no_subreaper: bool,
    /// accepted for old clients: criu changes the root
    #[arg(long)]
    pub no_pivot: bool,
    /// close open tcp connections
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
fn number<N: TryFrom<i64> + Clone + Send + Sync + 'static>(
    range: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
    }
}
