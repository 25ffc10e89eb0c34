/* The floor of `run`: the kernel calls that the stock bundle of `coracle spec` needs, and nothing else: no JSON, no record,
 * no checks. hack/bench builds it static and measures it together with the runtimes. A runtime's own cost is the difference.
 *
 *   floor ROOTFS PROGRAM CGROUP...     CGROUP: a directory to make in each hierarchy, mounted where its third part says
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int answer, const char *what) {
	if (answer >= 0)
		return;
	perror(what);
	_exit(125);
}

static int put(const char *directory, const char *file, const char *text) {
	char path[512];
	snprintf(path, sizeof path, "%s/%s", directory, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int answer = write(fd, text, strlen(text));
	close(fd);
	return answer;
}

static void copy(const char *directory, const char *file) {
	char path[512], text[256];
	snprintf(path, sizeof path, "%s/../%s", directory, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd, path);
	ssize_t length = read(fd, text, sizeof text - 1);
	close(fd);
	text[length > 0 ? length : 0] = 0;
	must(put(directory, file, text), path);
}

static const char *const DEVICES[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm",
	"c 1:5 rwm", "c 1:9 rwm", "c 136:* rwm", "c 5:2 rwm"};

static void make(const char *cgroup) {
	must(mkdir(cgroup, 0755), cgroup);
	if (strstr(cgroup, "/cpuset/")) {
		copy(cgroup, "cpuset.cpus");
		copy(cgroup, "cpuset.mems");
	}
	if (strstr(cgroup, "/devices/")) {
		must(put(cgroup, "devices.deny", "a"), "devices.deny");
		for (size_t n = 0; n < sizeof DEVICES / sizeof *DEVICES; n++)
			must(put(cgroup, "devices.allow", DEVICES[n]), DEVICES[n]);
	}
}

static void mounts(char **cgroups) {
	const unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	must(mount("proc", "proc", "proc", 0, 0), "proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
	must(mkdir("dev/pts", 0755), "dev/pts");
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "devpts");
	must(mkdir("dev/shm", 0755), "dev/shm");
	must(mount("shm", "dev/shm", "tmpfs", quiet, "mode=1777,size=65536k"), "shm");
	must(mkdir("dev/mqueue", 0755), "dev/mqueue");
	must(mount("mqueue", "dev/mqueue", "mqueue", quiet, 0), "mqueue");
	must(mount("sysfs", "sys", "sysfs", quiet | MS_RDONLY, 0), "sysfs");
	must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", quiet, "mode=755,size=1m"), "cgroup tmpfs");
	for (char **cgroup = cgroups; *cgroup; cgroup++) {
		char target[64] = "sys/fs/cgroup/";
		const char *name = *cgroup + strlen("/sys/fs/cgroup/");
		strncat(target, name, strcspn(name, "/"));
		must(mkdir(target, 0755), target);
		must(mount(*cgroup, target, 0, MS_BIND, 0), target);
		must(mount(0, target, 0, MS_REMOUNT | MS_BIND | MS_RDONLY | quiet, 0), target);
	}
	must(mount(0, "sys/fs/cgroup", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | quiet, 0), "cgroup tmpfs");
}

static void devices(void) {
	static const struct { const char *path; int major, minor; } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},
		{"dev/full", 1, 7}, {"dev/tty", 5, 0}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
	for (size_t n = 0; n < sizeof nodes / sizeof *nodes; n++)
		must(mknod(nodes[n].path, S_IFCHR | 0666, makedev(nodes[n].major, nodes[n].minor)), nodes[n].path);
	must(symlink("/proc/self/fd", "dev/fd"), "dev/fd");
	must(symlink("/proc/self/fd/0", "dev/stdin"), "dev/stdin");
	must(symlink("/proc/self/fd/1", "dev/stdout"), "dev/stdout");
	must(symlink("/proc/self/fd/2", "dev/stderr"), "dev/stderr");
	must(symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
}

static void hide(void) {
	static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
	for (size_t n = 0; n < sizeof read_only / sizeof *read_only; n++)
		if (mount(read_only[n], read_only[n], 0, MS_BIND | MS_REC, 0) == 0)
			must(mount(0, read_only[n], 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), read_only[n]);
	for (size_t n = 0; n < sizeof masked / sizeof *masked; n++)
		if (mount("/dev/null", masked[n], 0, MS_BIND, 0) < 0 && errno == ENOTDIR)
			must(mount("tmpfs", masked[n], "tmpfs", MS_RDONLY, 0), masked[n]);
}

static void give_up(void) {
	const unsigned long kept = 1ul << CAP_KILL | 1ul << CAP_NET_BIND_SERVICE | 1ul << CAP_AUDIT_WRITE;
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!(kept >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap);
	must(syscall(SYS_setgroups, 0, 0), "setgroups");
	must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
	must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
	must(syscall(SYS_capset, &header, data), "capset");
}

/* a thread that moves itself waits for nobody; cgroup.procs makes the kernel wait for an RCU grace period */
static void enter(char **cgroups) {
	for (char **cgroup = cgroups; *cgroup; cgroup++)
		if (!strstr(*cgroup, "/unified/"))
			must(put(*cgroup, "tasks", "0"), *cgroup);
}

static void become(char **argv, int word) {
	char byte;
	enter(argv + 3);
	must(setsid(), "setsid");
	must(syscall(SYS_keyctl, 1, "_ses.floor"), "keyctl");
	must(mount(0, "/", 0, MS_REC | MS_SLAVE, 0), "slave");
	must(mount(argv[1], argv[1], 0, MS_BIND | MS_REC, 0), argv[1]);
	must(chdir(argv[1]), argv[1]);
	mounts(argv + 3);
	devices();
	int lo = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	must(ioctl(lo, SIOCSIFFLAGS, &request), "lo");
	must(sethostname("floor", 5), "sethostname");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount");
	must(chdir("/"), "/");
	hide();
	must(mount(0, "/", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), "/");
	/* the limits must be settled before the program begins */
	must(read(word, &byte, 1) == 1 ? 0 : -1, "word");
	give_up();
	char *args[] = {argv[2], 0}, *env[] = {"PATH=/bin", 0};
	execve(argv[2], args, env);
	must(-1, argv[2]);
}

int main(int argc, char **argv) {
	int word[2], status;
	if (argc < 3)
		return 2;
	for (char **cgroup = argv + 3; *cgroup; cgroup++)
		make(*cgroup);
	must(pipe2(word, O_CLOEXEC), "pipe");
	struct clone_args args = {.exit_signal = SIGCHLD,
		.flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET};
	for (char **cgroup = argv + 3; *cgroup; cgroup++)
		if (strstr(*cgroup, "/unified/")) {
			args.flags |= CLONE_INTO_CGROUP;
			args.cgroup = open(*cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
		}
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	must(pid, "clone3");
	if (pid == 0)
		become(argv, word[0]);
	struct rlimit files = {1024, 1024};
	must(prlimit(pid, RLIMIT_NOFILE, &files, 0), "prlimit");
	must(write(word[1], "", 1), "word");
	must(waitpid(pid, &status, 0), "wait");
	for (char **cgroup = argv + 3; *cgroup; cgroup++)
		must(rmdir(*cgroup), *cgroup);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
