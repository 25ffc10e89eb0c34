//! What is known of capabilities, system calls, paths and devices: one row for each, with its weight in percent and what an
//! attacker gains. The weight is for root of the host; with a user namespace it is `MAPPED` of that.

/// The number of CAP_SYS_ADMIN.
pub(super) const SYS_ADMIN: u8 = 21;

/// How much is left of a weight where root in the container is nobody on the host, in percent.
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
    (SYS_ADMIN, "CAP_SYS_ADMIN", 75, "mounts, enters namespaces and loads programs into the kernel: many ways out"),
    (22, "CAP_SYS_BOOT", 30, "restarts the machine, or loads another kernel"),
    (23, "CAP_SYS_NICE", 4, "takes the CPUs of others by real-time priorities"),
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

/// Those of Docker's default set that are of use to an attacker.
pub(super) const DEFAULT_CAPABILITIES: [(u8, &str, u8, &str); 9] = [
    (0, "CAP_CHOWN", 1, "changes the owner of files in volumes"),
    (1, "CAP_DAC_OVERRIDE", 3, "reads and writes every file that is mounted into the container"),
    (6, "CAP_SETGID", 1, "takes every group"),
    (7, "CAP_SETUID", 2, "takes every uid"),
    (13, "CAP_NET_RAW", 7, "sends forged packets to its neighbours (ARP, DNS)"),
    (18, "CAP_SYS_CHROOT", 1, "changes its root directory"),
    (27, "CAP_MKNOD", 4, "makes device nodes, for which only the device rules are left"),
    (31, "CAP_SETFCAP", 2, "gives capabilities to files in volumes"),
    (29, "CAP_AUDIT_WRITE", 1, "writes to the audit log of the host"),
];

/// System calls that a profile should deny: the weight where they are allowed, and by what they are known.
pub(super) const CALLS: [(&str, u8, &str); 19] = [
    ("unshare", 5, "makes user namespaces, in which much kernel code is reached (CVE-2022-0185)"),
    ("io_uring_setup", 6, "io_uring, the way of many attacks on the kernel (CVE-2022-29582)"),
    ("bpf", 5, "programs in the kernel (CVE-2021-3490)"),
    ("userfaultfd", 3, "stops the kernel at a page, which wins races in it"),
    ("keyctl", 4, "the keys of other containers, which no namespace separates (CVE-2016-0728)"),
    ("perf_event_open", 3, "traces, and kernel code with many holes (CVE-2013-2094)"),
    ("open_by_handle_at", 2, "opens files by handle, outside of the root"),
    ("kexec_load", 3, "another kernel"),
    ("init_module", 3, "modules"),
    ("finit_module", 3, "modules"),
    ("ptrace", 1, "controls other processes of the container"),
    ("process_vm_writev", 1, "writes the memory of other processes"),
    ("mount", 2, "mounts, where a capability or a user namespace allows it"),
    ("setns", 2, "enters namespaces, where a capability allows it"),
    ("move_mount", 1, "mounts by the newer calls"),
    ("swapon", 1, "swap space"),
    ("reboot", 1, "restarts, where a capability allows it"),
    ("iopl", 2, "ports of the machine"),
    ("acct", 1, "process accounting"),
];

/// Sockets that obey whoever connects: the last name of the path.
pub(super) const SOCKETS: [(&str, &str); 11] = [
    ("docker.sock", "Docker"),
    ("containerd.sock", "containerd"),
    ("crio.sock", "CRI-O"),
    ("podman.sock", "podman"),
    ("cri-dockerd.sock", "cri-dockerd"),
    ("dockershim.sock", "the kubelet"),
    ("buildkitd.sock", "BuildKit"),
    ("kubelet.sock", "the kubelet"),
    ("system_bus_socket", "the system bus (systemd)"),
    ("io.systemd.Manager", "systemd"),
    ("frakti.sock", "the kubelet"),
];

/// Directories of the host: the weight if it can be written, the weight if it can only be read, and what is in it.
pub(super) const DIRECTORIES: [(&str, u8, u8, &str); 25] = [
    ("/", 92, 55, "the whole host"),
    ("/etc", 85, 35, "users, passwords and services of the host"),
    ("/root", 80, 40, "root's keys and start-up files"),
    ("/boot", 75, 5, "the kernel that starts next"),
    ("/usr", 85, 2, "the programs of the host"),
    ("/bin", 85, 2, "the programs of the host"),
    ("/sbin", 85, 2, "the programs of the host"),
    ("/lib", 85, 2, "the libraries of the host"),
    ("/lib64", 85, 2, "the libraries of the host"),
    ("/dev", 80, 60, "the devices of the host"),
    ("/proc", 80, 30, "the processes and the settings of the host"),
    ("/sys", 60, 8, "the devices and the kernel of the host"),
    ("/run", 85, 75, "the sockets of engines and services"),
    ("/var/run", 85, 75, "the sockets of engines and services"),
    ("/var/lib/docker", 85, 30, "the files of all containers"),
    ("/var/lib/containerd", 85, 30, "the files of all containers"),
    ("/var/lib/containers", 85, 30, "the files of all containers"),
    ("/var/lib/kubelet", 80, 45, "the secrets of all pods on this node"),
    ("/var/spool/cron", 80, 5, "the jobs of cron"),
    ("/var/log", 15, 10, "the logs of the host; in pods, links there lead to its files (CVE-2017-1002101)"),
    ("/home", 40, 25, "the files of users"),
    ("/var", 80, 40, "the files of all containers and services"),
    ("/opt", 40, 2, "programs of the host"),
    ("/srv", 15, 8, "data of services"),
    ("/tmp", 12, 8, "files and sockets of other processes"),
];

/// Paths below /proc and /sys that should be covered, where they are not: the weight for root of the host.
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

/// Paths below /proc that should not be writable, where they are: the weight for root of the host, and for others.
pub(super) const READ_ONLY: [(&str, u8, &str); 5] = [
    ("/proc/sys", 70, "runs a program on the host as root (kernel.core_pattern), and changes its settings"),
    ("/proc/sysrq-trigger", 35, "restarts or stops the machine"),
    ("/proc/irq", 3, "moves the interrupts of devices"),
    ("/proc/bus", 5, "the registers of PCI devices"),
    ("/proc/fs", 3, "settings of file systems"),
];

/// Character devices that are more than they seem: the beginning of the path.
pub(super) const CHARACTER_DEVICES: [(&str, u8, &str); 12] = [
    ("/dev/mem", 85, "the memory of the machine"),
    ("/dev/kmem", 85, "the memory of the kernel"),
    ("/dev/port", 80, "the ports of the machine"),
    ("/dev/vfio", 40, "a device with access to memory"),
    ("/dev/loop-control", 30, "loop devices, and with them file systems of its own making"),
    ("/dev/mapper/control", 60, "the disks of the host"),
    ("/dev/uinput", 20, "types on the host's keyboard"),
    ("/dev/input", 20, "reads what is typed on the host"),
    ("/dev/kmsg", 5, "reads and writes the log of the kernel"),
    ("/dev/kvm", 8, "virtual machines, and the kernel code for them"),
    ("/dev/fuse", 5, "file systems of its own making"),
    ("/dev/net/tun", 4, "network interfaces"),
];
