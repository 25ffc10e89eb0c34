// keeper: opens one of each thing that a process can have open, and on request says whether each is still as it was.
// Prints to /dev/shm/result when /dev/shm/check is there. With an argument it has a connection of TCP as well.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned long turns;
static void *turn(void *nothing) {
  for (;;) {
    turns++;
    usleep(1000);
  }
  return nothing;
}
static int must(const char *what, int result) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}
// a connection over `listener`, whose address is there
static void connected(int family, const struct sockaddr *address, socklen_t length, int *ours, int *theirs) {
  int listener = must("socket", socket(family, SOCK_STREAM, 0));
  must("bind", bind(listener, address, length));
  must("listen", listen(listener, 4));
  *ours = must("socket", socket(family, SOCK_STREAM, 0));
  must("connect", connect(*ours, address, length));
  *theirs = must("accept", accept(listener, 0, 0));
}
static int talks(int a, int b) {
  char text[8] = {0};
  return write(a, "hello", 5) == 5 && read(b, text, 5) == 5 && !strcmp(text, "hello") && write(b, "x", 1) == 1 && read(a, text, 1) == 1;
}
// what the session keyring is: type, owner, rights and name; each new one has another number behind the last dot
static void keyring(char *text, size_t size) {
  memset(text, 0, size);
  // KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING
  must("keyctl", syscall(SYS_keyctl, 6, -3, text, size - 1));
  char *dot = strrchr(text, '.');
  if (dot)
    *dot = 0;
}
// another process finds the lock of this one
static int is_locked(const char *path) {
  struct flock range = {.l_type = F_WRLCK, .l_len = 1};
  int status = 0;
  if (!must("fork", fork()))
    _exit(fcntl(must("open", open(path, O_RDWR)), F_GETLK, &range) == 0 && range.l_type == F_WRLCK ? 0 : 1);
  return wait(&status) > 0 && status == 0;
}
static void told(FILE *out, const char *what, int fine) { fprintf(out, "%s %s\n", what, fine ? "fine" : "LOST"); }

int main(int count, char **args) {
  int with_tcp = count > 1 && args[1];
  char text[16] = {0};
  pthread_t thread;
  must("thread", -pthread_create(&thread, 0, turn, 0));
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons(7777), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/dev/shm/socket"};
  int tcp[2], stream[2], pair[2], tube[2];
  if (with_tcp)
    connected(AF_INET, (void *)&inet, sizeof inet, &tcp[0], &tcp[1]);
  connected(AF_UNIX, (void *)&local, sizeof local, &stream[0], &stream[1]);
  must("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  must("pipe", pipe(tube));
  must("write", write(tube[1], "in the pipe", 11));
  int locked = must("open", open("/dev/shm/lock", O_RDWR | O_CREAT, 0600));
  must("flock", flock(locked, LOCK_EX));
  struct flock range = {.l_type = F_WRLCK, .l_len = 1};
  must("fcntl", fcntl(must("open", open("/dev/shm/range", O_RDWR | O_CREAT, 0600)), F_SETLK, &range));
  int deleted = must("open", open("/dev/shm/deleted", O_RDWR | O_CREAT, 0600));
  must("write", write(deleted, "still here", 10));
  must("unlink", unlink("/dev/shm/deleted"));
  must("mkdir", mkdir("/dev/shm/watched", 0700));
  int watch = must("inotify", inotify_init1(IN_NONBLOCK));
  must("watch", inotify_add_watch(watch, "/dev/shm/watched", IN_CREATE));
  int counter = must("eventfd", eventfd(41, EFD_NONBLOCK)), timer = must("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  struct itimerspec soon = {{0, 1000000}, {0, 1000000}};
  must("settime", timerfd_settime(timer, 0, &soon, 0));
  int poll = must("epoll", epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 77};
  must("epoll_ctl", epoll_ctl(poll, EPOLL_CTL_ADD, counter, &event));
  char session[256], again[256];
  keyring(session, sizeof session);
  must("chmod", fchmod(must("open", open("/dev/shm/kept", O_RDWR | O_CREAT, 0600)), 0641));
  must("symlink", symlink("watched", "/dev/shm/link"));
  must("mkfifo", mkfifo("/dev/shm/fifo", 0620));
  int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  // a child that counts in shared memory
  if (!must("fork", fork()))
    for (;;) {
      ++*shared;
      usleep(1000);
    }
  close(must("open", open("/dev/shm/ready", O_WRONLY | O_CREAT, 0600)));
  while (access("/dev/shm/check", F_OK))
    usleep(10000);

  FILE *out = fopen("/dev/shm/result.new", "w");
  unsigned long before = turns;
  int counted = *(volatile int *)shared;
  usleep(300000);
  told(out, "thread", turns > before);
  told(out, "child", *(volatile int *)shared > counted && waitpid(-1, 0, WNOHANG) == 0);
  if (with_tcp)
    told(out, "tcp", talks(tcp[0], tcp[1]));
  told(out, "unix-stream", talks(stream[0], stream[1]));
  told(out, "socketpair", talks(pair[0], pair[1]));
  told(out, "pipe", read(tube[0], text, 11) == 11 && !strcmp(text, "in the pipe"));
  int other = open("/dev/shm/lock", O_RDWR);
  told(out, "flock", flock(other, LOCK_EX | LOCK_NB) < 0);
  memset(text, 0, sizeof text);
  told(out, "deleted", pread(deleted, text, 10, 0) == 10 && !strcmp(text, "still here"));
  close(open("/dev/shm/watched/new", O_WRONLY | O_CREAT, 0600));
  char events[512];
  told(out, "inotify", read(watch, events, sizeof events) > 0);
  told(out, "range", is_locked("/dev/shm/range"));
  struct stat kept, fifo;
  int there = stat("/dev/shm/kept", &kept) == 0 && stat("/dev/shm/fifo", &fifo) == 0 && readlink("/dev/shm/link", text, sizeof text) == 7;
  told(out, "tmpfs", there && (kept.st_mode & 0777) == 0641 && S_ISFIFO(fifo.st_mode));
  keyring(again, sizeof again);
  told(out, "keyring", !strcmp(session, again) && strstr(session, ";_ses."));
  unsigned long value = 0;
  told(out, "epoll", epoll_wait(poll, &event, 1, 0) == 1 && event.data.u32 == 77);
  told(out, "eventfd", read(counter, &value, 8) == 8 && value == 41);
  told(out, "timerfd", read(timer, &value, 8) == 8 && value > 0);
  fclose(out);
  rename("/dev/shm/result.new", "/dev/shm/result");
  for (;;)
    pause();
}
