/* order OUT SECTIONS PROGRAM [ARG...]   runs PROGRAM and its children one instruction at a time, until they execute
 * another program. Writes to OUT the pieces of code that ran: first use, instructions, number of the piece. SECTIONS has a
 * line for each piece: its hexadecimal address and its number, in the order of addresses. OUT is complete when PROGRAM ends; order
 * itself ends after the last child of PROGRAM. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 100000 };
static struct { unsigned long at, count; int first, number; } piece[MOST + 1];
static int pieces, used;

static void read_pieces(const char *name) {
	FILE *file = fopen(name, "r");
	while (file && pieces < MOST && fscanf(file, "%lx %d", &piece[pieces].at, &piece[pieces].number) == 2)
		pieces++;
	if (!pieces)
		exit(125);
	fclose(file);
	piece[pieces].at = -1ul;
}

static void count(unsigned long ip) {
	static int now;
	if (ip < piece[0].at)
		return;
	if (ip < piece[now].at || ip >= piece[now + 1].at) {
		int low = 0, high = pieces;
		while (high - low > 1) {
			int middle = (low + high) / 2;
			if (piece[middle].at <= ip)
				low = middle;
			else
				high = middle;
		}
		now = low;
	}
	if (!piece[now].count++)
		piece[now].first = ++used;
}

static void write_out(const char *name) {
	FILE *file = fopen("order.part", "w");
	for (int n = 0; file && n < pieces; n++)
		if (piece[n].count)
			fprintf(file, "%d %lu %d\n", piece[n].first, piece[n].count, piece[n].number);
	if (!file || fclose(file) || rename("order.part", name))
		exit(125);
}

/* Whether it is the same program, also under another name: it compares the size. */
static int ours(pid_t pid, const char *program) {
	char name[64];
	struct stat theirs, own;
	snprintf(name, sizeof name, "/proc/%d/exe", pid);
	return !stat(name, &theirs) && !stat(program, &own) && theirs.st_size == own.st_size;
}

int main(int argc, char **argv) {
	int status;
	if (argc < 4)
		return 125;
	read_pieces(argv[2]);
	pid_t pid = fork(), first = pid;
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(argv[3], argv + 3);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
	ptrace(PTRACE_CONT, pid, 0, 0);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				write_out(argv[1]);
			continue;
		}
		int sent = WSTOPSIG(status), event = status >> 16;
		if (event == PTRACE_EVENT_EXEC && !ours(pid, argv[3])) {
			ptrace(PTRACE_DETACH, pid, 0, 0);
			continue;
		}
		if (event || sent == SIGTRAP || sent == SIGSTOP)
			sent = 0;
		count(ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), 0));
		ptrace(PTRACE_SINGLESTEP, pid, 0, sent);
	}
	return 0;
}
