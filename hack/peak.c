/* peak PROGRAM [ARG...]   runs it and prints the most memory that it, or a child it has waited for, ever had resident, in
 * KiB, on descriptor 9. It is a small separate program, because a new process inherits the peak of the process that
 * starts it. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
	pid_t pid;
	int status;
	struct rusage used;
	fcntl(9, F_SETFD, FD_CLOEXEC); /* a container that lives on must not hold it */
	if (argc < 2 || posix_spawnp(&pid, argv[1], 0, 0, argv + 1, environ) || wait4(pid, &status, 0, &used) < 0)
		return 127;
	dprintf(9, "%ld\n", used.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
