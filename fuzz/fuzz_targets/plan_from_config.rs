//! Any bytes as config.json: load and plan may only say what is wrong with them. The same bytes as a process object and as
//! a resources object, and, where they make a config, its process as a further one.
#![no_main]

use std::hint::black_box;

use libcontainer::config::{self, At};
use libcontainer::host::cgroups::{Hierarchy, Unified};
use libcontainer::host::{Cgroups, Host, Lsm, Me, Mounts, Resctrl, Users};
use libcontainer::plan::resources::update;
use libcontainer::plan::step::Namespaces;
use libcontainer::plan::{
    self, Asked, CgroupUse, Flags, Joined, Joining, Keyring, Manager, RootChange, Rootless, Start, Terminal,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    black_box(config::near_misses(bytes));
    let at = At::new("process");
    let _ = black_box(config::load_process(bytes, &at));
    let hosts = hosts();
    if let Ok(asked) = config::load_resources(bytes) {
        for host in &hosts {
            let _ = black_box(update::update(&serde_json::json!({"pids": {"limit": 5}}), &asked, &host.cgroups));
        }
    }
    let Ok(config) = config::load(bytes) else { return };
    for host in &hosts {
        for flags in [flags(CgroupUse::Own), flags(CgroupUse::Unit(Manager::System))] {
            let ask = Asked { config: &config, host, flags: &flags };
            told(plan::create(&ask));
            if let Some(process) = config.spec.process() {
                let container = Joined { pid: 4242, kinds: Namespaces(0x7e02_0000) };
                told(plan::exec(&ask, &Joining { process, at: &at, container }));
            }
        }
    }
});

/// As `explain` has it, and as mistakes are told.
fn told(plan: Result<plan::Plan, config::Faults>) {
    black_box(match plan {
        Ok(plan) => plan.to_string(),
        Err(faults) => faults.to_string(),
    });
}

/// Root with version 2 and all labels; root with version 1; an ordinary user.
fn hosts() -> [Host; 3] {
    let unified = Cgroups { v1: Vec::new(), v2: Some(Unified { mount: "/sys/fs/cgroup".into(), own: "/us".into() }) };
    let legacy = ["memory", "cpu", "cpuset", "pids", "devices", "blkio", "hugetlb", "rdma", "name=systemd"].map(|name| {
        Hierarchy {
            controllers: vec![name.to_owned()],
            mount: format!("/sys/fs/cgroup/{name}").into(),
            own: "/us".into(),
        }
    });
    let all = (1 << 41) - 1;
    let root = Me { bounding: all, ..Me::default() };
    let user = Me { uid: 1000, gid: 1000, users: Users::Nested, mounts: Mounts::Inside, bounding: all };
    let lsm = Lsm { apparmor: true, own_apparmor_files: true, selinux: true };
    let resctrl = Resctrl::At("/sys/fs/resctrl".into());
    [
        Host { cgroups: unified, me: root, lsm, has_kcore: true, resctrl: resctrl.clone() },
        Host { cgroups: Cgroups { v1: legacy.into(), v2: None }, me: root, resctrl, ..Host::default() },
        Host { me: user, ..Host::default() },
    ]
}

fn flags(cgroup: CgroupUse) -> Flags {
    Flags {
        id: "box".to_owned(),
        bundle: "/bundle".into(),
        terminal: Terminal::Sent,
        start: Start::OnFifo,
        root_change: RootChange::Pivot,
        keyring: Keyring::New,
        extra_fds: 0,
        listen_fds: 0,
        notify: None,
        cgroup,
        rootless: Rootless::Auto,
        death_signal: None,
    }
}
