//! Tables of capabilities, system calls, paths and devices. Each row has a weight in percent, and the gain of an attacker. The
//! weight is for root of the host. With a user namespace, `MAPPED` percent of it count.

/// The number of CAP_SYS_ADMIN.
pub(super) const SYS_ADMIN: u8 = 21;

/// The part of a weight that counts if root in the container is not root on the host, in percent.
pub(super) const MAPPED: u8 = 20;

/// Capabilities (linux/capability.h) beyond those of Docker's default set.
pub(super) const CAPABILITIES: [(u8, &str, u8, &str); 27] = [
    (2, "CAP_DAC_READ_SEARCH", 60, "reads every file of the host by open_by_handle_at(2)"),
    (9, "CAP_LINUX_IMMUTABLE", 3, "makes files that their owner cannot delete"),
    (11, "CAP_NET_BROADCAST", 1, "listens to multicasts"),
    (12, "CAP_NET_ADMIN", 15, "changes routes, addresses and firewall rules, and reaches much kernel code"),
    (14, "CAP_IPC_LOCK", 3, "locks memory without a limit"),
    (15, "CAP_IPC_OWNER", 5, "reads the shared memory of other users"),
    (16, "CAP_SYS_MODULE", 90, "loads a module: code in the kernel"),
    (17, "CAP_SYS_RAWIO", 75, "reads and writes memory and ports of the machine"),
    (19, "CAP_SYS_PTRACE", 25, "controls every process that it sees, and reads its memory"),
    (20, "CAP_SYS_PACCT", 3, "turns process accounting on and off"),
    (
        SYS_ADMIN,
        "CAP_SYS_ADMIN",
        75,
        "mounts, enters namespaces and loads programs into the kernel: many ways to escape",
    ),
    (22, "CAP_SYS_BOOT", 30, "restarts the machine, or loads another kernel"),
    (23, "CAP_SYS_NICE", 4, "takes the CPU time of others by real-time priorities"),
    (24, "CAP_SYS_RESOURCE", 8, "goes beyond quotas and limits"),
    (25, "CAP_SYS_TIME", 20, "sets the clock of the host"),
    (26, "CAP_SYS_TTY_CONFIG", 5, "hangs up terminals"),
    (28, "CAP_LEASE", 2, "delays others that open a file"),
    (30, "CAP_AUDIT_CONTROL", 20, "turns off the audit log of the host"),
    (32, "CAP_MAC_OVERRIDE", 30, "ignores the rules of a security module"),
    (33, "CAP_MAC_ADMIN", 40, "changes the rules of the security modules"),
    (34, "CAP_SYSLOG", 8, "reads addresses in the kernel, which attacks on it need"),
    (35, "CAP_WAKE_ALARM", 1, "wakes the machine"),
    (36, "CAP_BLOCK_SUSPEND", 1, "keeps the machine awake"),
    (37, "CAP_AUDIT_READ", 8, "reads the audit log of the host"),
    (38, "CAP_PERFMON", 30, "traces the kernel and other processes"),
    (39, "CAP_BPF", 45, "loads programs into the kernel"),
    (40, "CAP_CHECKPOINT_RESTORE", 12, "reads the links of other processes in /proc"),
];

/// Capabilities that the kernel asks of the first user namespace alone. In another one they give nothing.
pub(super) const OF_THE_FIRST_NAMESPACE: [u8; 18] =
    [9, 14, 16, 17, 20, 25, 26, 27, 28, 29, 30, 32, 33, 34, 35, 37, 38, 39];

/// Those of Docker's default set that are of use to an attacker.
pub(super) const DEFAULT_CAPABILITIES: [(u8, &str, u8, &str); 9] = [
    (0, "CAP_CHOWN", 1, "changes the owner of files in volumes"),
    (1, "CAP_DAC_OVERRIDE", 3, "reads and writes every file that is mounted into the container"),
    (6, "CAP_SETGID", 1, "can become a member of every group"),
    (7, "CAP_SETUID", 2, "can become every user"),
    (13, "CAP_NET_RAW", 7, "sends forged packets to its neighbours (ARP, DNS)"),
    (18, "CAP_SYS_CHROOT", 1, "changes its root directory"),
    (27, "CAP_MKNOD", 4, "makes device nodes, for which only the device rules are left"),
    (31, "CAP_SETFCAP", 2, "gives capabilities to files in volumes"),
    (29, "CAP_AUDIT_WRITE", 1, "writes to the audit log of the host"),
];

/// System calls that a profile should deny. Each has the weight if it is allowed, and a well-known attack or use. All weights
/// together are at most the weight of a missing profile.
pub(super) const CALLS: [(&str, u8, &str); 19] = [
    ("unshare", 5, "makes user namespaces, and so reaches much more kernel code (CVE-2022-0185)"),
    ("io_uring_setup", 4, "io_uring, which many attacks on the kernel use (CVE-2022-29582)"),
    ("bpf", 3, "programs in the kernel (CVE-2021-3490)"),
    ("userfaultfd", 2, "stops the kernel at a page fault, which helps to win races in it"),
    ("keyctl", 3, "the keys of other containers, which no namespace separates (CVE-2016-0728)"),
    ("perf_event_open", 2, "traces, and kernel code that has had many vulnerabilities (CVE-2013-2094)"),
    ("open_by_handle_at", 1, "opens files by handle, outside of the root"),
    ("kexec_load", 1, "another kernel"),
    ("init_module", 1, "modules"),
    ("finit_module", 1, "modules"),
    ("ptrace", 1, "controls other processes of the container"),
    ("process_vm_writev", 1, "writes the memory of other processes"),
    ("mount", 1, "mounts, where a capability or a user namespace allows it"),
    ("setns", 1, "enters namespaces, where a capability allows it"),
    ("move_mount", 1, "mounts by the newer calls"),
    ("swapon", 1, "swap space"),
    ("reboot", 1, "restarts, where a capability allows it"),
    ("iopl", 1, "ports of the machine"),
    ("acct", 1, "process accounting"),
];

/// Sockets that obey whoever connects: the end of the path.
pub(super) const SOCKETS: [(&str, &str); 17] = [
    ("docker.sock", "Docker"),
    ("containerd.sock", "containerd"),
    ("containerd.sock.ttrpc", "containerd"),
    ("crio.sock", "CRI-O"),
    ("podman.sock", "podman"),
    ("cri-dockerd.sock", "cri-dockerd"),
    ("dockershim.sock", "the kubelet"),
    ("buildkitd.sock", "BuildKit"),
    ("kubelet.sock", "the kubelet"),
    ("frakti.sock", "the kubelet"),
    ("snapd.socket", "snapd"),
    ("lxd/unix.socket", "LXD"),
    ("incus/unix.socket", "Incus"),
    ("libvirt/libvirt-sock", "libvirt"),
    ("system_bus_socket", "the system bus (systemd)"),
    ("systemd/private", "systemd"),
    ("io.systemd.Manager", "systemd"),
];

/// A directory or a file of the host.
pub(super) struct SensitivePath {
    pub(super) path: &'static str,
    /// The weight where it can be written.
    pub(super) write: u8,
    /// The weight where it can only be read. A socket obeys also where it is read-only.
    pub(super) read: u8,
    /// The weight of a path inside it that has no row of its own, in percent of this weight.
    pub(super) part: u8,
    pub(super) inside: &'static str,
}

const fn row(path: &'static str, write: u8, read: u8, part: u8, inside: &'static str) -> SensitivePath {
    SensitivePath { path, write, read, part, inside }
}

const ENGINES: &str = "the sockets of an engine, which starts containers with all rights";
const LIBRARIES: &str = "the programs and libraries of the host";
const CONTAINERS: &str = "the files of all containers";
const HARMLESS: &str = "names, times and certificates that programs of the host trust";
const NODES: &str = "a device that every container has";

/// The longest path that a source begins with counts.
pub(super) const SENSITIVE_PATHS: [SensitivePath; 72] = [
    row("/", 92, 55, 0, "the whole host"),
    row("/etc", 85, 35, 30, "users, passwords and services of the host"),
    row("/etc/shadow", 85, 45, 100, "the passwords of the host"),
    row("/etc/kubernetes", 85, 60, 80, "the keys of the cluster"),
    row("/etc/ssh", 85, 40, 50, "the keys of the host"),
    row("/etc/cron.d", 85, 2, 100, "the jobs of cron"),
    row("/etc/ssl", 40, 25, 50, "certificates and keys of the host"),
    row("/etc/ssl/certs", 25, 0, 100, HARMLESS),
    row("/etc/pki/ca-trust", 25, 0, 100, HARMLESS),
    row("/etc/pki/tls/certs", 25, 0, 100, HARMLESS),
    row("/etc/ca-certificates", 25, 0, 100, HARMLESS),
    row("/etc/localtime", 8, 0, 100, HARMLESS),
    row("/etc/timezone", 8, 0, 100, HARMLESS),
    row("/etc/os-release", 8, 0, 100, HARMLESS),
    row("/etc/hostname", 12, 0, 100, HARMLESS),
    row("/etc/hosts", 20, 0, 100, HARMLESS),
    row("/etc/resolv.conf", 20, 0, 100, HARMLESS),
    row("/etc/machine-id", 12, 1, 100, HARMLESS),
    row("/root", 80, 40, 60, "root's keys and start-up files"),
    row("/boot", 75, 5, 100, "the kernel that starts next"),
    row("/usr", 85, 2, 40, LIBRARIES),
    row("/usr/share", 30, 0, 40, "data of the programs of the host"),
    row("/bin", 85, 2, 40, LIBRARIES),
    row("/sbin", 85, 2, 40, LIBRARIES),
    row("/lib", 85, 2, 40, LIBRARIES),
    row("/lib64", 85, 2, 40, LIBRARIES),
    row("/dev", 80, 60, 15, "the devices of the host"),
    row("/dev/null", 0, 0, 0, NODES),
    row("/dev/zero", 0, 0, 0, NODES),
    row("/dev/full", 0, 0, 0, NODES),
    row("/dev/random", 0, 0, 0, NODES),
    row("/dev/urandom", 0, 0, 0, NODES),
    row("/dev/tty", 0, 0, 0, NODES),
    row("/dev/shm", 10, 6, 50, "the shared memory of processes of the host"),
    row("/dev/mqueue", 6, 3, 50, "the message queues of the host"),
    row("/proc", 80, 30, 60, "the processes and the settings of the host"),
    row("/proc/sys", 80, 2, 100, "the settings of the host: a program of its own runs as root (kernel.core_pattern)"),
    row("/sys", 60, 8, 30, "the devices and the kernel of the host"),
    row("/sys/fs/cgroup", 45, 2, 60, "the limits of all processes; with CAP_SYS_ADMIN, release_agent runs programs"),
    row("/sys/kernel/debug", 60, 25, 100, "the debugger of the kernel"),
    row("/sys/kernel/tracing", 60, 25, 100, "the debugger of the kernel"),
    row("/sys/kernel/security", 40, 5, 100, "the rules of the security modules"),
    row("/sys/fs/bpf", 40, 10, 100, "programs in the kernel"),
    row("/run", 85, 75, 5, "the sockets of engines and services"),
    row("/run/docker", 85, 80, 20, ENGINES),
    row("/run/containerd", 85, 80, 20, ENGINES),
    row("/run/crio", 85, 80, 20, ENGINES),
    row("/run/podman", 85, 80, 20, ENGINES),
    row("/run/k3s", 85, 80, 20, ENGINES),
    row("/run/systemd", 85, 80, 10, "systemd's own socket, which starts programs as root"),
    row("/run/dbus", 85, 80, 100, "the system bus, which starts programs as root"),
    row("/run/user", 40, 40, 30, "the sockets of users"),
    row("/var", 80, 40, 4, "the files of all containers and services"),
    row("/var/lib", 80, 40, 4, "the files of all containers and services"),
    row("/var/lib/docker", 85, 30, 30, CONTAINERS),
    row("/var/lib/containerd", 85, 30, 30, CONTAINERS),
    row("/var/lib/containers", 85, 30, 30, CONTAINERS),
    row("/var/lib/rancher", 85, 45, 50, "the keys and the files of a cluster"),
    row("/var/lib/etcd", 85, 65, 100, "all secrets of the cluster"),
    row("/var/lib/kubelet", 80, 45, 40, "the secrets of all pods on this node"),
    row("/var/lib/kubelet/pki", 80, 65, 100, "the keys of this node in the cluster"),
    row("/var/lib/kubelet/pods", 75, 45, 50, "the secrets of all pods on this node"),
    row("/var/lib/kubelet/device-plugins", 30, 30, 100, "the sockets that give devices to pods"),
    row("/var/spool/cron", 80, 5, 100, "the jobs of cron"),
    row("/var/log", 15, 10, 50, "the logs of the host; in pods, links there lead to its files (CVE-2017-1002101)"),
    row("/home", 40, 25, 30, "the files of users"),
    row("/opt", 40, 2, 20, "programs of the host"),
    row("/srv", 15, 8, 20, "data of services"),
    row("/mnt", 15, 8, 10, "file systems of the host"),
    row("/media", 15, 8, 10, "file systems of the host"),
    row("/tmp", 12, 8, 10, "files and sockets of other processes"),
    row("/var/tmp", 12, 8, 10, "files and sockets of other processes"),
];

/// Directories in which engines keep, by the id of a container or a pod, what they make for it: resolv.conf, hosts, hostname,
/// shm, secrets, volumes. What is below the id is not the host's.
pub(super) const OF_ENGINES: [&str; 15] = [
    "overlay-containers",
    "vfs-containers",
    "btrfs-containers",
    "zfs-containers",
    "containers/storage/volumes",
    "docker/containers",
    "docker/volumes",
    "io.containerd.grpc.v1.cri/sandboxes",
    "io.containerd.grpc.v1.cri/containers",
    "io.containerd.cri.v1.runtime/sandboxes",
    "io.containerd.runtime.v2.task",
    "nerdctl",
    "kubelet/pods",
    "crio/containers",
    "libpod/tmp",
];

/// Paths below /proc and /sys that should be masked. Each has the weight for root of the host, if it is not masked.
pub(super) const MASKED: [(&str, u8, &str); 9] = [
    ("/proc/kcore", 6, "the memory of the machine"),
    ("/proc/keys", 2, "the keys of others"),
    ("/proc/latency_stats", 1, "traces of other processes"),
    ("/proc/timer_list", 2, "timers and addresses of the kernel"),
    ("/proc/sched_debug", 2, "all processes of the host"),
    ("/proc/scsi", 2, "disks that it takes away"),
    ("/proc/acpi", 1, "power states of the machine"),
    ("/proc/interrupts", 1, "the timing of key presses"),
    ("/sys/firmware", 2, "tables of the firmware"),
];

/// Paths below /proc that should not be writable. Each has the weight for root of the host, if it is writable.
pub(super) const READ_ONLY: [(&str, u8, &str); 5] = [
    ("/proc/sys", 70, "runs a program on the host as root (kernel.core_pattern), and changes its settings"),
    ("/proc/sysrq-trigger", 35, "restarts or stops the machine"),
    ("/proc/irq", 3, "moves the interrupts of devices"),
    ("/proc/bus", 5, "the registers of PCI devices"),
    ("/proc/fs", 3, "settings of file systems"),
];

/// A character device that is more than it seems.
pub(super) struct CharacterDevice {
    /// The node, or the directory of the nodes.
    pub(super) path: &'static str,
    pub(super) major: i64,
    /// None for all of them.
    pub(super) minor: Option<i64>,
    pub(super) weight: u8,
    /// The kernel asks for CAP_SYS_RAWIO, too.
    pub(super) raw: bool,
    pub(super) gain: &'static str,
}

const fn character(
    path: &'static str,
    (major, minor): (i64, Option<i64>),
    weight: u8,
    gain: &'static str,
) -> CharacterDevice {
    CharacterDevice { path, major, minor, weight, raw: false, gain }
}

/// One that needs CAP_SYS_RAWIO, too.
const fn raw(device: CharacterDevice) -> CharacterDevice {
    CharacterDevice { raw: true, ..device }
}

/// SPEC: Documentation/admin-guide/devices.txt of the kernel. Those of /dev/vfio have a number that the kernel chooses.
pub(super) const CHARACTERS: [CharacterDevice; 24] = [
    raw(character("/dev/mem", (1, Some(1)), 85, "reads and writes the memory of the machine")),
    raw(character("/dev/kmem", (1, Some(2)), 85, "reads and writes the memory of the kernel")),
    raw(character("/dev/port", (1, Some(4)), 80, "reads and writes the ports of the machine")),
    raw(character("/dev/cpu", (202, None), 60, "writes the registers of the processors")),
    character("/dev/mapper/control", (10, Some(236)), 60, "makes devices of the disks of the host"),
    character("/dev/sg", (21, None), 60, "sends commands to the disks of the host"),
    character("/dev/mtd", (90, None), 50, "writes the firmware of the machine"),
    character("/dev/vfio", (-1, None), 40, "a device with access to memory"),
    character("/dev/loop-control", (10, Some(237)), 30, "makes loop devices, and file systems of its own making"),
    character("/dev/watchdog", (10, Some(130)), 25, "restarts the machine"),
    character("/dev/bus/usb", (189, None), 25, "commands the USB devices of the host"),
    character("/dev/uinput", (10, Some(223)), 20, "types on the host's keyboard"),
    character("/dev/uhid", (10, Some(239)), 20, "types on the host's keyboard"),
    character("/dev/input", (13, None), 20, "reads what is typed on the host"),
    character("/dev/hidraw", (-1, None), 20, "reads what is typed on the host"),
    character("/dev/vcs", (7, None), 10, "reads the consoles of the host"),
    character("/dev/nvram", (10, Some(144)), 8, "writes the settings of the firmware"),
    character("/dev/btrfs-control", (10, Some(234)), 8, "changes file systems of the host"),
    character("/dev/kvm", (10, Some(232)), 8, "makes virtual machines, and reaches the kernel code for them"),
    character("/dev/vhost-net", (10, Some(238)), 6, "reaches the kernel code for virtual machines"),
    character("/dev/kmsg", (1, Some(11)), 5, "reads and writes the log of the kernel"),
    character("/dev/fuse", (10, Some(229)), 5, "mounts file systems of its own making"),
    character("/dev/dri", (226, None), 4, "reaches the kernel code for graphics"),
    character("/dev/net/tun", (10, Some(200)), 4, "makes network interfaces"),
];

/// How the names of disks and of parts of them begin.
pub(super) const DISKS: [&str; 21] = [
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/mmcblk",
    "/dev/dm-",
    "/dev/md",
    "/dev/loop",
    "/dev/sr",
    "/dev/zd",
    "/dev/nbd",
    "/dev/rbd",
    "/dev/drbd",
    "/dev/ram",
    "/dev/zram",
    "/dev/pmem",
    "/dev/bcache",
    "/dev/mapper/",
    "/dev/disk/",
    "/dev/block/",
];
