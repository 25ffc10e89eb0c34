"""The cases of the suite `cri`: a small CRI client over gRPC, since Debian 12 has no crictl.

    cri.py CASE   with W, PARENT, CACHE and SUITE_FILE from the suite in the environment"""
import http.server, os, re, sys, threading, time, subprocess, json, uuid

sys.path.insert(0, os.environ["CACHE"] + "/cri")
import grpc
import criapi_pb2 as p, criapi_pb2_grpc as g

W, PARENT = os.environ["W"], os.environ["PARENT"]
# (a pool of its own: after a restart of containerd, a new channel would get the old, broken connection)
CHANNEL = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
ch = grpc.insecure_channel("unix:" + W + "/c.sock", options=CHANNEL)
R, I = g.RuntimeServiceStub(ch), g.ImageServiceStub(ch)
IMG = "localhost/bb:1"
CTR = ["ctr", "-a", W + "/c.sock", "-n", "k8s.io"]
# cgroup v2, and how many times longer an emulated guest may take
UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
SLOW = int(os.environ.get("GUEST") or 1)


def eq(a, b, what="value"):
    if a != b:
        sys.exit(f"{what}: expected [{a}], got [{b}]")


def has(a, b, what="text"):
    if a not in b:
        sys.exit(f"{what}: no [{a}] in: {b}")


def ok(c, what):
    if not c:
        sys.exit(str(what))


def wait(f, what, n=8):
    t = time.time() + n * SLOW
    while time.time() < t:
        if f():
            return
        time.sleep(0.1)
    sys.exit("never so: " + what)


def pod(name="p", host=False, pidmode=p.POD, handler="rt", **kw):
    ns = p.NamespaceOption(network=p.NODE if host else p.POD, pid=pidmode, ipc=p.NODE if kw.pop("hostipc", False) else p.POD)
    sc = p.LinuxSandboxSecurityContext(namespace_options=ns, privileged=kw.pop("privileged", False))
    sc.seccomp.profile_type = p.SecurityProfile.RuntimeDefault
    lin = p.LinuxPodSandboxConfig(security_context=sc, cgroup_parent=f"/{PARENT}", sysctls=kw.pop("sysctls", {}))
    c = p.PodSandboxConfig(
        metadata=p.PodSandboxMetadata(name=name, uid=uuid.uuid4().hex, namespace="default"),
        hostname="" if host else "pod-" + name,
        log_directory=W + "/logs/" + name,
        linux=lin,
        **kw,
    )
    os.makedirs(c.log_directory, exist_ok=True)
    return R.RunPodSandbox(p.RunPodSandboxRequest(config=c, runtime_handler=handler)).pod_sandbox_id, c


def ctr(pid, cfg, cmd, name="c", sec=None, res=None, start=True, image=IMG, **kw):
    lin = p.LinuxContainerConfig(security_context=sec, resources=res)
    c = p.ContainerConfig(
        metadata=p.ContainerMetadata(name=name + uuid.uuid4().hex[:4]),
        image=p.ImageSpec(image=image),
        command=cmd,
        log_path=name + ".log",
        linux=lin,
        **kw,
    )
    cid = R.CreateContainer(p.CreateContainerRequest(pod_sandbox_id=pid, config=c, sandbox_config=cfg)).container_id
    if start:
        R.StartContainer(p.StartContainerRequest(container_id=cid))
    return cid


def st(cid, verbose=False):
    return R.ContainerStatus(p.ContainerStatusRequest(container_id=cid, verbose=verbose))


def pidof(cid):
    return json.loads(st(cid, True).info["info"])["pid"]


def sh(cid, *cmd, t=20 * SLOW):
    r = R.ExecSync(p.ExecSyncRequest(container_id=cid, cmd=cmd, timeout=t))
    return r.exit_code, r.stdout.decode(), r.stderr.decode()


def done(cid):
    wait(lambda: st(cid).status.state == p.CONTAINER_EXITED, "exited")
    return st(cid).status


def log(name="p", c="c"):
    return "".join(l.split(" ", 3)[3] for l in open(f"{W}/logs/{name}/{c}.log"))


def cg(ctl, pid):
    for l in open(f"/proc/{pid}/cgroup"):
        _, c, path = l.rstrip("\n").split(":", 2)
        if UNIFIED and not c:
            return f"/sys/fs/cgroup{path}"
        if ctl in c.split(","):
            return f"/sys/fs/cgroup/{ctl}{path}"


def rd(*a):
    return open(os.path.join(*a)).read().strip()


# the limits of a process: memory, cpu quota, cpu shares (on cgroup v2 a weight, by the line or by the curve), cpus
def limits(q):
    if not UNIFIED:
        names = [("memory", "memory.limit_in_bytes"), ("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.shares"), ("cpuset", "cpuset.cpus")]
        return [rd(cg(c, q), name) for c, name in names]
    weights = {"20": "512", "59": "512", "10": "256", "35": "256"}
    d = cg("", q)
    weight = rd(d, "cpu.weight")
    return [rd(d, "memory.max"), rd(d, "cpu.max").split()[0], weights.get(weight, weight), rd(d, "cpuset.cpus")]


def status(pid):
    return dict(l.rstrip("\n").split(":\t", 1) for l in open(f"/proc/{pid}/status") if ":\t" in l)


def sleep(*a, **k):
    return ctr(*a, ["sleep", "1000"], **k)


def case_status():
    v = R.Version(p.VersionRequest())
    eq("containerd", v.runtime_name)
    for c in R.Status(p.StatusRequest()).status.conditions:
        ok(c.status, f"{c.type}: {c.message}")
    ok(IMG in [t for i in I.ListImages(p.ListImagesRequest()).images for t in i.repo_tags], "no image")


def case_pod():
    i, c = pod()
    s = R.PodSandboxStatus(p.PodSandboxStatusRequest(pod_sandbox_id=i)).status
    eq(p.SANDBOX_READY, s.state)
    ok(re.match(r"10\.66\.0\.", s.network.ip), "ip " + s.network.ip)
    k = sleep(i, c)
    rc, o, e = sh(k, "sh", "-c", "hostname; ip -4 addr show eth0; ip link show lo")
    has("pod-p", o)
    has(s.network.ip, o)
    has("LOOPBACK,UP", o)
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=i))
    eq(p.CONTAINER_EXITED, st(k).status.state)
    eq(137, st(k).status.exit_code)
    R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=i))
    eq(0, len(R.ListPodSandbox(p.ListPodSandboxRequest()).items))
    eq(0, len(R.ListContainers(p.ListContainersRequest()).containers))


def case_logs():
    i, c = pod()
    k = ctr(i, c, ["sh", "-c", "echo out; echo err >&2; exit 42"])
    s = done(k)
    eq(42, s.exit_code)
    eq("Error", s.reason)
    l = open(W + "/logs/p/c.log").read()
    ok(re.search(r" stdout F out\n", l) and re.search(r" stderr F err\n", l), l)
    k = ctr(i, c, ["true"])
    s = done(k)
    eq(0, s.exit_code)
    eq("Completed", s.reason)


def case_exec():
    i, c = pod()
    k = sleep(i, c, working_dir="/data", envs=[p.KeyValue(key="V", value="1")])
    eq((33, "1\n/data\n", "e\n"), sh(k, "sh", "-c", "echo $V; pwd; echo e >&2; exit 33"))
    try:
        r = sh(k, "nosuch")
        sys.exit(f"it ran: {r}")
    except grpc.RpcError as e:
        ok("nosuch" in e.details() and re.search("(?i)not found|no such file", e.details()), e.details())
    t = time.time()
    try:
        sh(k, "sleep", "20", t=1)
        sys.exit("no time limit")
    except grpc.RpcError as e:
        eq(grpc.StatusCode.DEADLINE_EXCEEDED, e.code(), "code")
        ok(time.time() - t < 8 * SLOW, "slow")
    eq(p.CONTAINER_RUNNING, st(k).status.state)
    eq(0, sh(k, "true")[0])
    wait(
        lambda: "sleep\x0020" not in "".join(rd("/proc", q, "cmdline") for q in rd(cg("pids", pidof(k)), "cgroup.procs").split()),
        "the timed-out process ended",
    )


def case_stop():
    i, c = pod()
    k = ctr(i, c, ["trapper"])
    wait(lambda: "ready" in log(), "ready")
    R.StopContainer(p.StopContainerRequest(container_id=k, timeout=10))
    eq(7, st(k).status.exit_code)
    has("got TERM", log())
    k = ctr(i, c, ["sh", "-c", 'trap "" TERM; sleep 1000'])
    time.sleep(0.3)
    t = time.time()
    R.StopContainer(p.StopContainerRequest(container_id=k, timeout=1))
    eq(137, st(k).status.exit_code)
    ok(time.time() - t < 6 * SLOW, "slow")
    R.RemoveContainer(p.RemoveContainerRequest(container_id=k))
    ok(k not in [x.id for x in R.ListContainers(p.ListContainersRequest()).containers], "still listed")


def case_startfail():
    i, c = pod()
    k = ctr(i, c, ["nosuch"], start=False)
    try:
        R.StartContainer(p.StartContainerRequest(container_id=k))
        sys.exit("it started")
    except grpc.RpcError as e:
        ok("nosuch" in e.details() and re.search("(?i)not found|no such file", e.details()), e.details())
    s = st(k).status
    eq(128, s.exit_code)
    eq("StartError", s.reason)
    has("nosuch", s.message)


def case_mountfail():
    i, c = pod()
    k = ctr(i, c, ["true"], start=False, mounts=[p.Mount(container_path="/etc/passwd/x", host_path=W)])
    try:
        R.StartContainer(p.StartContainerRequest(container_id=k))
        sys.exit("it started")
    except grpc.RpcError as e:
        told = e.details()
    s = st(k).status
    eq("StartError", s.reason)
    for text in (told, s.message):
        ok(re.search("(?i)not a directory", text), text)
        ok(os.path.basename(os.environ["RUNTIME"]) != "coracle" or re.search(r"mounts\[[0-9]+\]", text), text)


def case_res():
    i, c = pod()
    k = sleep(
        i,
        c,
        res=p.LinuxContainerResources(
            memory_limit_in_bytes=67108864, cpu_quota=25000, cpu_period=100000, cpu_shares=512, cpuset_cpus=str(os.cpu_count() - 1), oom_score_adj=321
        ),
    )
    q = pidof(k)
    last = str(os.cpu_count() - 1)
    eq(["67108864", "25000", "512", last], limits(q), "limits")
    eq("321", rd("/proc", str(q), "oom_score_adj"))
    has(f"/{PARENT}/{'cri-containerd-' if PARENT.endswith('.slice') else ''}{k}", cg("memory", q))
    R.UpdateContainerResources(
        p.UpdateContainerResourcesRequest(
            container_id=k,
            linux=p.LinuxContainerResources(memory_limit_in_bytes=83886080, cpu_quota=50000, cpu_period=100000, cpu_shares=256, cpuset_cpus="0"),
        )
    )
    eq(["83886080", "50000", "256", "0"], limits(q), "limits after the update")
    s = R.ContainerStats(p.ContainerStatsRequest(container_id=k)).stats
    ok(s.memory.working_set_bytes.value > 0 and s.cpu.usage_core_nano_seconds.value > 0, s)
    k = ctr(i, c, ["tail", "/dev/zero"], res=p.LinuxContainerResources(memory_limit_in_bytes=20971520))
    s = done(k)
    eq(137, s.exit_code)
    eq("OOMKilled", s.reason)


def case_sec():
    i, c = pod()
    S = p.LinuxContainerSecurityContext
    s = status(pidof(sleep(i, c, sec=S(seccomp=p.SecurityProfile(profile_type=p.SecurityProfile.RuntimeDefault)))))
    eq("2", s["Seccomp"], "RuntimeDefault")
    eq("00000000a80425fb", s["CapEff"])
    s = status(
        pidof(
            sleep(
                i,
                c,
                sec=S(
                    seccomp=p.SecurityProfile(profile_type=p.SecurityProfile.Unconfined),
                    no_new_privs=True,
                    capabilities=p.Capability(add_capabilities=["SYS_ADMIN"], drop_capabilities=["ALL"]),
                ),
            )
        )
    )
    eq("0", s["Seccomp"])
    eq("1", s["NoNewPrivs"])
    eq("0000000000200000", s["CapEff"], "drop ALL, add SYS_ADMIN")
    open(W + "/prof.json", "w").write(
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}'
    )
    k = sleep(i, c, sec=S(seccomp=p.SecurityProfile(profile_type=p.SecurityProfile.Localhost, localhost_ref=W + "/prof.json")))
    has("No space left", sh(k, "mkdir", "/x")[2], "own profile, in exec too")
    k = sleep(
        i, c, sec=S(run_as_user=p.Int64Value(value=1234), run_as_group=p.Int64Value(value=777), supplemental_groups=[42, 43], readonly_rootfs=True)
    )
    rc, o, e = sh(k, "sh", "-c", "id; grep Groups /proc/self/status; touch /x")
    has("uid=1234", o)
    has("gid=777", o)
    has("42", o.split("Groups:")[1])
    ok("Read-only" in e or "ermission" in e, e)
    k = sleep(i, c, sec=S(masked_paths=["/etc/image-marker"], readonly_paths=["/data"]))
    rc, o, e = sh(k, "sh", "-c", "wc -c < /etc/image-marker; touch /data/x")
    eq("0", o.strip())
    has("Read-only", e)


def case_priv():
    i, c = pod("pp", privileged=True)
    k = sleep(i, c, sec=p.LinuxContainerSecurityContext(privileged=True))
    disk = next(d for d in os.listdir("/sys/block") if os.path.exists("/dev/" + d))
    rc, o, e = sh(
        k,
        "sh",
        "-c",
        f'wc -c < /proc/keys; mkdir /m && mount -t tmpfs t /m && echo mounted; [ -b /dev/{disk} ] && echo disk; grep -c " /proc/" /proc/mounts',
    )
    ok(o.split()[0] != "0", o)
    has("mounted", o)
    has("disk", o)
    eq("0", o.split()[-1], "masked paths")


def case_ns():
    i, c = pod()
    a, b = sleep(i, c), sleep(i, c)

    def n(k, t):
        return os.readlink(f"/proc/{pidof(k)}/ns/{t}")

    for t in ("net", "ipc", "uts"):
        eq(n(a, t), n(b, t), t)
    S, N = p.LinuxContainerSecurityContext, p.NamespaceOption
    x = sleep(i, c, sec=S(namespace_options=N(pid=p.CONTAINER)))
    y = sleep(i, c, sec=S(namespace_options=N(pid=p.CONTAINER)))
    ok(n(x, "pid") != n(y, "pid"), "pid namespace shared")
    z = sleep(i, c, sec=S(namespace_options=N(pid=p.POD)))
    z2 = sleep(i, c, sec=S(namespace_options=N(pid=p.POD)))
    eq(n(z, "pid"), n(z2, "pid"), "pod pid")
    t = sleep(i, c, sec=S(namespace_options=N(pid=p.TARGET, target_id=x)))
    eq(n(x, "pid"), n(t, "pid"), "target pid")
    i2, c2 = pod("hp", pidmode=p.NODE)
    h = sleep(i2, c2, sec=S(namespace_options=N(pid=p.NODE)))
    eq(os.readlink("/proc/self/ns/pid"), n(h, "pid"), "node pid")
    R.StopContainer(p.StopContainerRequest(container_id=t, timeout=0))
    eq(p.CONTAINER_RUNNING, st(x).status.state)
    R.StopContainer(p.StopContainerRequest(container_id=z, timeout=0))
    eq(p.CONTAINER_RUNNING, st(z2).status.state)


def case_sharedkill():
    i, c = pod(pidmode=p.POD)
    k = ctr(i, c, ["sh", "-c", "sleep 1555 & sleep 1556 & wait"], sec=p.LinuxContainerSecurityContext(namespace_options=p.NamespaceOption(pid=p.POD)))
    f = cg("pids", pidof(k)) + "/cgroup.procs"
    wait(lambda: len(rd(f).split()) == 3, "three processes")
    R.StopContainer(p.StopContainerRequest(container_id=k, timeout=0))
    wait(lambda: not os.path.exists(f) or not rd(f), "no process left of a container in the pod's pid namespace")


def case_host():
    i, c = pod("h", host=True, hostipc=True)
    k = sleep(i, c)
    q = pidof(k)
    for t in ("net", "ipc"):
        eq(os.readlink(f"/proc/self/ns/{t}"), os.readlink(f"/proc/{q}/ns/{t}"), t)


def case_mounts():
    d = W + "/mnt"
    os.makedirs(d, exist_ok=True)
    open(d + "/f", "w").write("seen\n")
    i, c = pod()
    M = p.Mount
    k = sleep(
        i,
        c,
        mounts=[
            M(container_path="/rw", host_path=d),
            M(container_path="/new/ro", host_path=d, readonly=True),
            M(container_path="/sl", host_path=d, propagation=p.PROPAGATION_HOST_TO_CONTAINER),
            M(container_path="/one", host_path=d + "/f"),
        ],
    )
    rc, o, e = sh(k, "sh", "-c", "cat /rw/f /new/ro/f /one; echo w > /rw/g; echo x > /new/ro/h; df /dev/shm | tail -1; cat /etc/hostname")
    has("seen\nseen\nseen", o)
    has("Read-only", e)
    eq("w", rd(d, "g"))
    has("/dev/shm", o)
    os.makedirs(d + "/sub", exist_ok=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "t", d + "/sub"])
    open(d + "/sub/late", "w").write("late")
    rc, o, e = sh(k, "cat", "/sl/sub/late")
    subprocess.check_call(["umount", d + "/sub"])
    eq("late", o, "host to container propagation")


def case_sysctl():
    i, c = pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "88", "kernel.shm_rmid_forced": "1"})
    k = sleep(i, c)
    eq("88\n1\n", sh(k, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced")[1])


def case_dev():
    i, c = pod()
    k = sleep(i, c, devices=[p.Device(container_path="/dev/fu", host_path="/dev/fuse", permissions="rw")])
    rc, o, e = sh(k, "sh", "-c", "stat -c %t:%T /dev/fu; : < /dev/fu && echo opened; mknod /tmp/k c 1 11; head -c1 /tmp/k")
    has("a:e5", o)
    has("opened", o)
    has("not permitted", e)


def case_tty():
    i, c = pod()
    k = ctr(i, c, ["sh", "-c", "tty; ls -l /dev/console | cut -c1; exit 4"], tty=True, stdin=True)
    eq(4, done(k).exit_code)
    has("/dev/pts/0", log())


def case_restart():
    i, c = pod()
    k = ctr(i, c, ["trapper"])
    wait(lambda: "ready" in log(), "ready")
    q = pidof(k)
    subprocess.check_call(["bash", os.environ["SUITE_FILE"], "--case", "restart_containerd"])
    global ch, R
    ch = grpc.insecure_channel("unix:" + W + "/c.sock", options=CHANNEL)
    R = g.RuntimeServiceStub(ch)
    eq(p.CONTAINER_RUNNING, st(k).status.state)
    eq(q, pidof(k))
    eq("back\n", sh(k, "echo", "back")[1])
    R.StopContainer(p.StopContainerRequest(container_id=k, timeout=10))
    eq(7, st(k).status.exit_code)


# an archive of a container's checkpoint
def checkpoint(k):
    if not os.environ["CHECKPOINTS"]:
        print("SKIP no checkpoint and restore here")
        sys.exit(77)
    # the definition of Debian 12 does not have this call yet: container_id, location
    archive = W + "/checkpoint.tar"
    asked = b"".join(bytes([tag, len(text)]) + text for tag, text in [(10, k.encode()), (18, archive.encode())])
    try:
        ch.unary_unary("/runtime.v1.RuntimeService/CheckpointContainer")(asked)
    except grpc.RpcError as e:
        if e.code() == grpc.StatusCode.UNIMPLEMENTED:
            print("SKIP containerd 1 has no CheckpointContainer")
            sys.exit(77)
        raise
    return archive


def case_checkpoint():
    i, c = pod()
    k = sleep(i, c)
    names = subprocess.check_output(["tar", "-tf", checkpoint(k)], text=True)
    # (dump.log is only there with the runc shim: containerd names its directory to no other)
    for name in ("checkpoint/inventory.img", "spec.dump"):
        has(name, names)
    eq(p.CONTAINER_RUNNING, st(k).status.state)
    eq("back\n", sh(k, "echo", "back")[1])


# a registry on port 80 of localhost, with what containerd has: containerd 2.1 pulls the image of a restored container in each case
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, digest = self.path.split("/")[-2:]
        blob = subprocess.run([*CTR, "content", "get", digest], stdout=subprocess.PIPE).stdout
        self.send_response(200 if blob else 404)
        if kind == "manifests" and blob:
            self.send_header("Content-Type", json.loads(blob)["mediaType"])
        self.send_header("Content-Length", str(len(blob)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(blob)

    do_HEAD = do_GET


def case_restore():
    # with the digest in its name
    digest = subprocess.check_output([*CTR, "images", "ls", f"name=={IMG}"], text=True).split("sha256:")[1].split()[0]
    name = f"localhost/bb@sha256:{digest}"
    subprocess.check_call([*CTR, "images", "tag", IMG, name])
    wait(lambda: name in [d for i in I.ListImages(p.ListImagesRequest()).images for d in i.repo_digests], name)
    threading.Thread(target=http.server.HTTPServer(("127.0.0.1", 80), Registry).serve_forever, daemon=True).start()
    i, c = pod()
    k = ctr(i, c, ["sh", "-c", "n=0; while sleep 0.1; do n=$((n + 1)); echo $n >/m; mv /m /n; done"])
    wait(lambda: int(sh(k, "cat", "/n")[1] or 0) > 20, "it counts")
    archive = checkpoint(k)
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=i))
    i, c = pod("restored")
    k = ctr(i, c, [], image=archive)
    first = int(sh(k, "cat", "/n")[1])
    ok(first > 20, f"it began again: {first}")
    wait(lambda: int(sh(k, "cat", "/n")[1] or 0) > first, "it counts on")


def case_example():
    i, c = pod(handler="coracle")
    k = sleep(i, c)
    eq("hello from the image\n", sh(k, "cat", "/etc/image-marker")[1])


def case_options():
    i, c = pod(handler="rooted")
    k = sleep(i, c)
    for x in (i, k):
        ok(os.path.exists(f"{W}/rooted/k8s.io/{x}/state.json"), "no state of " + x)
    eq("back\n", sh(k, "echo", "back")[1])
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=i))
    R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=i))
    eq([], [name for name in os.listdir(W + "/rooted/k8s.io") if not name.startswith(".")], "state")


def case_left():
    i, c = pod()
    k = sleep(i, c)
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=i))
    R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=i))
    for x in (i, k):
        for top, dirs, files in os.walk("/sys/fs/cgroup"):
            if any(x in d for d in dirs):
                sys.exit(f"cgroup left: {top}/{x}")
        ok(not os.path.exists(f"/run/containerd/runc/k8s.io/{x}"), "state left")
    wait(lambda: subprocess.run(["pgrep", "-f", "containerd-shim.*" + i], capture_output=True).returncode == 1, "shim gone")
    eq([], os.listdir("/run/netns") if os.path.isdir("/run/netns") else [], "netns")


def sweep():
    for s in R.ListPodSandbox(p.ListPodSandboxRequest()).items:
        R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=s.id), timeout=15)
        R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=s.id), timeout=15)


def keeper():
    i, c = pod("keeper")
    k = sleep(i, c)
    open(W + "/keeper", "w").write(f"{i} {k}")
    open(W + "/keeper.config", "wb").write(c.SerializeToString())
    print(pidof(k))


def churn_round(name, number):
    # a pod that stays
    i, k = open(W + "/keeper").read().split()
    c = p.PodSandboxConfig.FromString(open(W + "/keeper.config", "rb").read())
    eq((0, "hi\n", ""), sh(k, "echo", "hi"))
    k = sleep(i, c, name=name)
    R.StopContainer(p.StopContainerRequest(container_id=k, timeout=0))
    R.RemoveContainer(p.RemoveContainerRequest(container_id=k))
    i, c = pod(name)
    k = sleep(i, c)
    eq((0, "hi\n", ""), sh(k, "echo", "hi"))
    if int(number) % 2:
        R.StopContainer(p.StopContainerRequest(container_id=k, timeout=0))
        R.RemoveContainer(p.RemoveContainerRequest(container_id=k))
    R.StopPodSandbox(p.StopPodSandboxRequest(pod_sandbox_id=i))
    R.RemovePodSandbox(p.RemovePodSandboxRequest(pod_sandbox_id=i))


def churn_worker(worker, until):
    number = 0
    while time.time() < int(until) and not os.path.exists(W + "/churn.failed"):
        number += 1
        try:
            churn_round("churn" + worker, number)
        except (grpc.RpcError, SystemExit) as e:
            open(W + "/churn.failed", "a").write(f"worker {worker}, round {number}: {e}\n")
    open(f"{W}/churn.rounds.{worker}", "w").write(f"{number}\n")


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except grpc.RpcError as e:
        sys.exit(f"{e.code()}: {e.details()}")
