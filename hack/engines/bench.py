"""The rounds of hack/engines/bench, which calls it: bench.py ROUNDS PODS, with W, PARENT and CACHE in the environment."""
import glob, os, random, re, statistics, subprocess, sys, time

import cri
from cri import I, R, p

W, PARENT = os.environ["W"], os.environ["PARENT"]
ROUNDS, PODS = int(sys.argv[1]), int(sys.argv[2])
MINUTE = 60
NAMES = ["shim", "coracle", "crun", "runc", "floor"]
FLAGS = {
    "shim": ["--runtime", "io.containerd.coracle.v1"],
    "floor": ["--runtime", "io.containerd.floor.v1"],
    "coracle": ["--runc-binary", os.environ["CORACLE"]],
    "crun": ["--runc-binary", "/usr/bin/crun"],
    "runc": ["--runc-binary", "/usr/sbin/runc"],
}
found = {}  # what is measured: {name: [one value a round]}


def ctr(*args):
    """Milliseconds that it takes; it must succeed."""
    begun = time.perf_counter()
    command = ["ctr", "-a", W + "/c.sock", "-n", PARENT, *args]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    took = (time.perf_counter() - begun) * 1000
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return took


def run(name, number):
    return ctr("run", "--rm", *FLAGS[name], "localhost/bb:1", f"r-{name}-{number + 2}", "/bin/true")


def exec_(name, number):
    return ctr("t", "exec", "--exec-id", f"x{number + 2}", "e-" + name, "/bin/true")


def rounds(what, names, act):
    for number in range(-1, ROUNDS):  # the first warms up
        for name in random.sample(names, len(names)):
            took = act(name, number)
            for key, value in (took if isinstance(took, dict) else {what: took}).items():
                if number >= 0:
                    found.setdefault(key, {}).setdefault(name, []).append(value)


def pod(name, number):
    """The life of a pod through the CRI, without its own network: CNI takes the same time with each runtime."""
    pod = f"{name}{number + 2}"
    log = f"{W}/logs/{pod}/c.log"
    begun = time.perf_counter()
    sandbox, config = cri.pod(pod, host=True, handler=name)
    container = cri.ctr(sandbox, config, ["sh", "-c", "echo x; exec sleep 1000"])
    while not (os.path.exists(log) and os.path.getsize(log)):
        if time.perf_counter() - begun > 30:
            raise RuntimeError(f"{name}: no line in {log} after 30 s")
        time.sleep(0.0005)
    lines = time.perf_counter()
    R.ExecSync(p.ExecSyncRequest(container_id=container, cmd=["/bin/true"], timeout=20))
    execed = time.perf_counter()
    remove(sandbox)
    took = lambda a, b: (b - a) * 1000
    ended = time.perf_counter()
    return {"CRI pod to its first line": took(begun, lines), "CRI ExecSync": took(lines, execed), "CRI stop and remove": took(execed, ended)}


def remove(sandbox):
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=sandbox))


def shims():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        words = open(path).read().split("\0")
        if "containerd-shim-" in words[0] and "-namespace" in words:
            yield os.path.dirname(path)


def idle(name):
    """PODS pods that do nothing for a minute: the memory, threads and CPU time of each shim."""
    sandboxes = [cri.pod(f"idle{number}", host=True, handler=name)[0] for number in range(PODS)]
    time.sleep(2)
    here = list(shims())
    cpu = lambda: sum(int(open(path).read().split()[0]) for shim in here for path in glob.glob(shim + "/task/*/schedstat")) / 1e6
    before = cpu()
    time.sleep(MINUTE)
    values = {f"idle: CPU of {len(here)} in {MINUTE} s, ms": cpu() - before}
    sums = {"Rss": 0, "Private": 0}
    for shim in here:
        for kind, kib in re.findall(r"^(Rss|Private)_?\w*: +(\d+) kB", open(shim + "/smaps_rollup").read(), re.M):
            sums[kind] += int(kib)
    values |= {f"idle: {kind.lower()} KiB": total / len(here) for kind, total in sums.items()}
    values["idle: threads"] = sum(len(os.listdir(shim + "/task")) for shim in here) / len(here)
    for key, value in values.items():
        found.setdefault(key, {})[name] = [value]
    for sandbox in sandboxes:
        remove(sandbox)


def main():
    usable = []
    for name in NAMES:
        # a runtime that does not run here, as crun 1.8.1 on a hybrid host, takes no part
        try:
            run(name, -2)
            usable.append(name)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"without {name}: {error}")
    rounds("ctr run --rm", usable, run)
    for name in usable:
        ctr("run", "-d", *FLAGS[name], "localhost/bb:1", "e-" + name, "sleep", "1000")
    rounds("ctr task exec", usable, exec_)
    for name in usable:
        ctr("t", "rm", "-f", "e-" + name)
    rounds("", usable, pod)
    for name in usable if PODS else []:
        if name in ("shim", "runc"):
            idle(name)
    ratio = lambda values, other: statistics.median(a / b for a, b in zip(values["shim"], values[other])) if other in values else 0
    print(f"{'':34}" + "".join(f"{name:>10}" for name in usable) + "     /runc  /coracle")
    for what, values in found.items():
        cells = "".join(f"{statistics.median(values[name]):10.1f}" if name in values else f"{'':10}" for name in usable)
        print(f"{what:34}{cells}{ratio(values, 'runc'):10.2f}{ratio(values, 'coracle'):10.2f}")


main()
