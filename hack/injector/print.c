/* The program of the containers that hack/faults makes: prints its environment, one fact a line, and then `END`. Each
 * line is the same in every container of the same config. With the argument `stay`, the program does not end. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

static char out[1 << 18];
static size_t used;

static void say(const char *format, ...) {
  va_list list;
  va_start(list, format);
  int n = vsnprintf(out + used, sizeof out - used, format, list);
  va_end(list);
  if (n > 0) used += (size_t)n < sizeof out - used ? (size_t)n : sizeof out - used - 1;
}

/* The text of a file. If it cannot be read, prints a line and returns NULL. */
static char *text(const char *path) {
  static char buffer[1 << 16];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
  if (n < 0) say("%s: %s\n", path, strerror(errno));
  if (fd >= 0) close(fd);
  if (n < 0) return NULL;
  buffer[n] = 0;
  return buffer;
}

static void whole(const char *path) {
  char *all = text(path);
  if (!all) return;
  for (char *line = strtok(all, "\n"); line; line = strtok(NULL, "\n")) say("%s: %s\n", path, line);
}

static void status(void) {
  static const char *const keys[] = {"Umask:", "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
                                     "NoNewPrivs:", "Seccomp:", "Seccomp_filters:", "SigBlk:", "SigIgn:", "SigCgt:",
                                     "Cpus_allowed_list:", "Mems_allowed_list:", "THP_enabled:", "CoreDumping:"};
  char *all = text("/proc/self/status");
  for (char *line = all ? strtok(all, "\n") : NULL; line; line = strtok(NULL, "\n"))
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
      if (!strncmp(line, keys[i], strlen(keys[i]))) say("status %s\n", line);
}

/* Without the ids of mounts, devices and peer groups: these differ each time. */
static void mounts(void) {
  char *all = text("/proc/self/mountinfo");
  for (char *line = all ? strtok(all, "\n") : NULL; line; line = strtok(NULL, "\n")) {
    char *from = line;
    for (int i = 0; i < 3 && from; i++) from = strchr(from + 1, ' ');
    if (!from) continue;
    say("mount");
    for (char *c = from; *c; c++) {
      say("%c", *c);
      if (*c == ':' && (!strncmp(c - 6, "shared", 6) || !strncmp(c - 6, "master", 6))) {
        say("N");
        while (c[1] && c[1] != ' ') c++;
      }
    }
    say("\n");
  }
}

/* Permissions, owner, type and description of each key. */
static void keys(void) {
  char *all = text("/proc/keys");
  for (char *line = all ? strtok(all, "\n") : NULL; line; line = strtok(NULL, "\n")) {
    char permissions[32], type[32], description[128];
    int uid, gid;
    if (sscanf(line, "%*s %*s %*s %*s %31s %d %d %31s %127[^:]", permissions, &uid, &gid, type, description) == 5)
      say("key %s %d %d %s %s\n", permissions, uid, gid, type, description);
  }
}

static int ours(const struct dirent *entry) { return entry->d_name[0] != '.' || (entry->d_name[1] && entry->d_name[1] != '.'); }

/* Type, mode, owner, device number and target of each file in a directory. */
static void directory(const char *path) {
  struct dirent **names;
  int n = scandir(path, &names, ours, alphasort);
  if (n < 0) say("%s: %s\n", path, strerror(errno));
  for (int i = 0; i < n; i++) {
    char name[512], target[256] = "";
    struct stat stat;
    snprintf(name, sizeof name, "%s/%s", path, names[i]->d_name);
    if (lstat(name, &stat)) continue;
    if (S_ISLNK(stat.st_mode) && readlink(name, target, sizeof target - 1) < 0) target[0] = 0;
    say("%s %o %d:%d %d:%d %s\n", name, stat.st_mode, stat.st_uid, stat.st_gid, major(stat.st_rdev), minor(stat.st_rdev), target);
  }
}

static void descriptors(void) {
  for (int fd = 0; fd < 1024; fd++) {
    char name[64], target[512];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, target, sizeof target - 1);
    if (n < 0) continue;
    target[n] = 0;
    char *number = strstr(target, ":[");
    if (number) *number = 0;
    say("fd %d %s flags %x\n", fd, target, fcntl(fd, F_GETFL));
  }
}

static void namespaces(void) {
  static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char name[64], target[64];
    snprintf(name, sizeof name, "/proc/self/ns/%s", kinds[i]);
    ssize_t n = readlink(name, target, sizeof target - 1);
    say("namespace %.*s\n", n < 0 ? 0 : (int)n, target);
  }
}

static void calls(void) {
  struct utsname names;
  char cwd[4096];
  struct sched_param param;
  uname(&names);
  say("uname %s %s %s\n", names.nodename, names.domainname, names.machine);
  say("cwd %s\n", getcwd(cwd, sizeof cwd) ? cwd : strerror(errno));
  say("personality %x\n", personality(0xffffffff));
  say("nice %d policy %d", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
  say(" priority %d ioprio %ld\n", sched_getparam(0, &param) ? -1 : param.sched_priority, syscall(SYS_ioprio_get, 1, 0));
  int death = -1;
  prctl(PR_GET_PDEATHSIG, &death);
  say("death signal %d dumpable %d securebits %d", death, prctl(PR_GET_DUMPABLE), prctl(PR_GET_SECUREBITS));
  say(" keepcaps %d leads a session %d\n", prctl(PR_GET_KEEPCAPS), getsid(0) == getpid());
  /* the runtime's own memory policy, or that of the config */
  int policy = -1;
  if (syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 0)) policy = -errno;
  say("memory policy %d\n", policy);
  /* the filter of the rich bundles denies this call */
  int made = mkdir("/dev/shm/made", 0700);
  say("mkdir %s\n", made ? strerror(errno) : "done");
  if (!made) rmdir("/dev/shm/made");
}

int main(int count, char **arguments, char **environment) {
  static const char *const files[] = {
      "/proc/self/limits", "/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups",
      "/proc/self/timens_offsets", "/proc/self/coredump_filter", "/proc/self/attr/current", "/proc/self/cgroup",
      "/proc/sys/net/ipv4/ip_forward", "/proc/timer_list",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/devices/devices.list",
      "/sys/fs/cgroup/cpu/cpu.shares", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpu.weight"};
  /* a hook */
  if (count && strstr(arguments[0], "true")) return 0;
  descriptors();
  status();
  mounts();
  keys();
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) whole(files[i]);
  directory("/");
  directory("/dev");
  directory("/run");
  directory("/sys/firmware");
  directory("/sys/class/net");
  namespaces();
  calls();
  for (char **entry = environment; *entry; entry++) say("env %s\n", *entry);
  say("END\n");
  for (size_t done = 0; done < used;) {
    ssize_t n = write(1, out + done, used - done);
    if (n < 0) return 1;
    done += (size_t)n;
  }
  while (count > 1 && !strcmp(arguments[1], "stay")) pause();
  return 0;
}
