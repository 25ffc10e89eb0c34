/* The programs that runc's tests call beside runc: recvtty, pidfd-kill, fs-idmap and seccompagent. The name of the file
   decides, as with busybox. runc's own are in Go and need modules that Debian's source package does not have. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void fail(const char *what) {
  /* requires_idmap_fs compares the kernel's word in lower case */
  char *word = strdup(strerror(errno));
  for (char *c = word; *c; c++)
    if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
  fprintf(stderr, "fatal error: %s: %s\n", what, word);
  exit(1);
}

static void write_text(const char *path, const char *format, ...) {
  va_list arguments;
  FILE *file = fopen(path, "w");
  if (!file) fail(path);
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  if (fclose(file)) fail(path);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (strlen(path) >= sizeof address.sun_path) errno = ENAMETOOLONG, fail(path);
  strcpy(address.sun_path, path);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 8)) fail(path);
  return fd;
}

/* The descriptors of one message; returns how many. `text` gets its bytes and a zero. */
static int receive(int socket, int *fds, int most, char *text, size_t size) {
  union {
    char bytes[CMSG_SPACE(16 * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {text, size - 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (!header || header->cmsg_type != SCM_RIGHTS) return 0;
  text[got] = 0;
  int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  if (count > most) count = most;
  memcpy(fds, CMSG_DATA(header), count * sizeof(int));
  return count;
}

static void thread(void *(*body)(void *), void *argument) {
  pthread_t id;
  if ((errno = pthread_create(&id, NULL, body, argument))) fail("pthread_create");
  pthread_detach(id);
}

static void copy(int from, int to) {
  char bytes[4096];
  ssize_t got;
  while ((got = read(from, bytes, sizeof bytes)) > 0)
    if (to >= 0 && write(to, bytes, got) != got) return;
}

static void *discard(void *argument) {
  int connection = (intptr_t)argument, master;
  char text[PATH_MAX];
  if (receive(connection, &master, 1, text, sizeof text) == 1) {
    copy(master, -1);
    close(master);
  }
  close(connection);
  return NULL;
}

static void *type(void *master) {
  copy(0, (intptr_t)master);
  return NULL;
}

static int recvtty(const char *mode, const char *no_stdin, const char *path) {
  int listener = listen_at(path), connection, master;
  if (mode && !strcmp(mode, "null"))
    while ((connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) thread(discard, (void *)(intptr_t)connection);
  struct termios settings;
  char text[PATH_MAX];
  connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (connection < 0 || receive(connection, &master, 1, text, sizeof text) != 1 || tcgetattr(master, &settings)) fail(path);
  settings.c_oflag &= ~ONLCR;
  if (tcsetattr(master, TCSANOW, &settings)) fail("tcsetattr");
  if (!no_stdin) thread(type, (void *)(intptr_t)master);
  copy(master, 1);
  return 0;
}

static int pidfd_kill(const char *name, const char *path) {
  int signal = name && !strcmp(name, "SIGTERM") ? SIGTERM : SIGKILL, pidfd;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, NULL);
  char text[PATH_MAX];
  int connection = accept(listen_at(path), NULL, NULL);
  if (connection < 0 || receive(connection, &pidfd, 1, text, sizeof text) != 1) fail(path);
  int got;
  sigwait(&term, &got);
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0)) fail("pidfd_send_signal");
  return 0;
}

/* Says "invalid argument" where the file system of the path has no mapped mounts. */
static int fs_idmap(const char *path) {
  int tree = syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
  if (tree < 0) fail(path);
  int ready[2];
  if (pipe(ready)) fail("pipe");
  pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWUSER)) fail("unshare");
    if (write(ready[1], "", 1) == 1) pause();
    _exit(1);
  }
  char byte, map[64];
  close(ready[1]);
  if (read(ready[0], &byte, 1) != 1) fail("user namespace");
  snprintf(map, sizeof map, "/proc/%d/uid_map", child);
  write_text(map, "0 65536 65536");
  snprintf(map, sizeof map, "/proc/%d/gid_map", child);
  write_text(map, "0 65536 65536");
  snprintf(map, sizeof map, "/proc/%d/ns/user", child);
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = open(map, O_RDONLY | O_CLOEXEC)};
  int failed = syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr), why = errno;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  errno = why;
  if (failed) fail("error calling mount_setattr");
  return 0;
}

struct agent {
  int listener;
  char suffix[NAME_MAX];
};

/* mkdir of the name with a suffix, as the process would do it. */
static int make_directory(const struct seccomp_notif *call, const char *suffix) {
  char place[64], name[PATH_MAX] = "";
  snprintf(place, sizeof place, "/proc/%u/mem", call->pid);
  int memory = open(place, O_RDONLY | O_CLOEXEC);
  if (memory < 0 || pread(memory, name, sizeof name - NAME_MAX, call->data.args[0]) <= 0) return -1;
  close(memory);
  name[sizeof name - NAME_MAX - 1] = 0;
  strcat(strcat(name, "-"), suffix);
  pid_t child = fork();
  if (child == 0) {
    snprintf(place, sizeof place, "/proc/%u/cwd", call->pid);
    int directory = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(place, sizeof place, "/proc/%u/root", call->pid);
    _exit(directory < 0 || chroot(place) || fchdir(directory) || mkdir(name, call->data.args[1]));
  }
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0 ? 0 : -1;
}

static void *answer(void *argument) {
  struct agent *agent = argument;
  for (;;) {
    struct seccomp_notif call = {0};
    if (ioctl(agent->listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
      if (errno == EINTR || errno == ENOENT) continue;
      return NULL;
    }
    struct seccomp_notif_resp response = {.id = call.id};
    switch (call.data.nr) {
    case SYS_mkdir:
      if (make_directory(&call, agent->suffix)) response.error = -ENOSYS;
      break;
    case SYS_chmod:
    case SYS_fchmod:
    case SYS_fchmodat:
      response.error = -ENOMEDIUM;
      break;
    default:
      response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    ioctl(agent->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
  }
}

static int seccompagent(const char *path) {
  unlink(path);
  int listener = listen_at(path), connection;
  while ((connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    char text[4096];
    int fds[16], count = receive(connection, fds, 16, text, sizeof text);
    struct agent *agent = calloc(1, sizeof *agent);
    if (count == 1 && strstr(text, "\"seccompFd\"")) {
      const char *at = strstr(text, "\"metadata\":\"");
      agent->listener = fds[0];
      if (at) sscanf(at, "\"metadata\":\"%200[^\"/]", agent->suffix);
      thread(answer, agent);
    } else {
      fprintf(stderr, "seccompagent: %d descriptors with %s\n", count, text);
    }
    close(connection);
  }
  return 1;
}

int main(int count, char **words) {
  const char *name = strrchr(words[0], '/') ? strrchr(words[0], '/') + 1 : words[0];
  const char *mode = NULL, *signal = NULL, *no_stdin = NULL, *socket = NULL, *path = NULL;
  for (int i = 1; i < count; i++) {
    char *word = words[i], *value = strchr(word, '=');
    if (word[0] != '-') {
      path = word;
      continue;
    }
    while (*word == '-') word++;
    if (value) *value++ = 0;
    else if (strcmp(word, "no-stdin")) value = words[++i];
    if (!strcmp(word, "pid-file")) write_text(value, "%d\n", getpid());
    if (!strcmp(word, "mode")) mode = value;
    if (!strcmp(word, "signal")) signal = value;
    if (!strcmp(word, "no-stdin")) no_stdin = word;
    if (!strcmp(word, "socketfile")) socket = value;
  }
  if (!strcmp(name, "seccompagent") && socket) return seccompagent(socket);
  if (!strcmp(name, "recvtty") && path) return recvtty(mode, no_stdin, path);
  if (!strcmp(name, "pidfd-kill") && path) return pidfd_kill(signal, path);
  if (!strcmp(name, "fs-idmap") && path) return fs_idmap(path);
  fprintf(stderr, "%s: unknown name or arguments\n", name);
  return 2;
}
