#!/usr/bin/env python3
"""terminal.py [--size RxC] [--on TEXT send:STR|size:RxC|sig:N]... -- cmd args...

Run cmd on a fresh pty of the given size (its controlling terminal), copy what
it writes to stdout (CR LF turned into LF), react once to each TEXT, in order, and
end with cmd's own exit status.  Nothing is read from our stdin."""
import fcntl, os, pty, select, signal, struct, sys, termios, time


def winsize(fd, rc):
    r, c = (int(x) for x in rc.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", r, c, 0, 0))


def main(argv):
    size, acts, limit = "24x80", [], 40.0
    while argv and argv[0] != "--":
        a = argv.pop(0)
        if a == "--size":
            size = argv.pop(0)
        elif a == "--limit":
            limit = float(argv.pop(0))
        elif a == "--on":
            acts.append((argv.pop(0).encode(), argv.pop(0)))
        else:
            sys.exit("terminal: bad option " + a)
    argv.pop(0)
    master, slave = pty.openpty()
    winsize(master, size)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(master)
        if slave > 2:
            os.close(slave)
        os.execvp(argv[0], argv)
    os.close(slave)
    end, seen, pos, status = time.time() + limit, b"", 0, None
    while True:
        if time.time() > end:
            os.kill(pid, signal.SIGKILL)
            sys.stdout.write("\nterminal: out of time\n")
            break
        r, _, _ = select.select([master], [], [], 0.1)
        if r:
            try:
                d = os.read(master, 65536)
            except OSError:
                d = b""
            if not d:
                break
            seen += d
            while acts and acts[0][0] in seen[pos:]:
                text, act = acts.pop(0)
                pos = seen.index(text, pos) + len(text)
                kind, _, arg = act.partition(":")
                if kind == "send":
                    os.write(master, arg.encode().decode("unicode_escape").encode())
                elif kind == "size":
                    winsize(master, arg)
                elif kind == "sig":
                    os.kill(pid, int(arg))
        else:
            p, st = os.waitpid(pid, os.WNOHANG)
            if p:
                status = st
                break
    if status is None:
        _, status = os.waitpid(pid, 0)
    sys.stdout.flush()
    sys.stdout.buffer.write(seen.replace(b"\r\n", b"\n"))
    sys.stdout.flush()
    sys.exit(os.waitstatus_to_exitcode(status) & 255)


main(sys.argv[1:])
