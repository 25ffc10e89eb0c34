//! The bundles: one root file system with a program that prints its environment, and a config.json for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// All bundles: `rich` has all kinds of limits, masks, devices, users and hooks. `nonnp` is the same without
/// noNewPrivileges, and loads its filter earlier. `plain` is the stock config. `userns` has a user namespace, so its
/// `exec` needs a bridge.
pub const BUNDLES: [&str; 4] = ["rich", "nonnp", "plain", "userns"];

/// The behaviour of the program after it has printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Ends,
    Stays,
}

impl Then {
    fn suffix(self) -> &'static str {
        match self {
            Then::Ends => "",
            Then::Stays => "-stays",
        }
    }
}

/// The path of the bundle.
pub fn path(work: &Path, bundle: &str, then: Then) -> PathBuf {
    work.join(format!("{bundle}{}", then.suffix()))
}

/// Makes the root file system and all bundles below `work`.
pub fn make(work: &Path, runtime: &Path, cgroup: &str) -> Result<()> {
    let root = work.join("rootfs");
    for directory in ["bin", "proc", "sys", "dev", "tmp", "etc", "run"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::create_dir_all(work.join("source/below"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/injector/print.c");
    let built = Command::new("cc")
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(root.join("bin/print"))
        .arg(source)
        .status()
        .context("cc")?;
    ensure!(built.success(), "print.c does not compile");
    fs::copy(root.join("bin/print"), root.join("bin/true"))?;
    let stock = work.join("stock");
    fs::create_dir(&stock)?;
    let spec = Command::new(runtime).args(["spec", "--bundle"]).arg(&stock).status().context("spec")?;
    ensure!(spec.success(), "{} spec failed", runtime.display());
    let stock: Value = serde_json::from_slice(&fs::read(stock.join("config.json"))?)?;
    for bundle in BUNDLES {
        for then in [Then::Ends, Then::Stays] {
            let mut config = config(stock.clone(), bundle, work);
            config["root"]["path"] = json!(root);
            config["linux"]["cgroupsPath"] = json!(cgroup);
            config["process"]["args"] = match then {
                Then::Ends => json!(["/bin/print"]),
                Then::Stays => json!(["/bin/print", "stay"]),
            };
            let directory = path(work, bundle, then);
            fs::create_dir(&directory)?;
            fs::write(directory.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        }
    }
    Ok(())
}

fn config(mut config: Value, bundle: &str, work: &Path) -> Value {
    config["process"]["terminal"] = json!(false);
    if bundle == "plain" {
        return config;
    }
    let mounts = config["mounts"].as_array_mut().expect("the stock mounts");
    mounts.push(json!({"destination": "/run", "type": "bind", "source": work.join("source"),
        "options": ["rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"]}));
    merge(&mut config, rich());
    match bundle {
        "nonnp" => merge(&mut config, json!({"process": {"noNewPrivileges": false}, "hooks": hooks()})),
        "userns" => {
            merge(&mut config, user_namespace());
            let linux = config["linux"].as_object_mut().expect("linux");
            linux.remove("timeOffsets");
            linux.remove("devices");
        }
        _ => merge(&mut config, json!({"hooks": hooks()})),
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("the stock namespaces");
    namespaces.push(json!({"type": if bundle == "userns" { "user" } else { "time" }}));
    config
}

/// Merges objects. For other values, the one of `overlay` counts.
fn merge(base: &mut Value, overlay: Value) {
    match (base, overlay) {
        (Value::Object(base), Value::Object(overlay)) => {
            for (key, value) in overlay {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, overlay) => *base = overlay,
    }
}

fn hooks() -> Value {
    let hook = json!([{"path": "/bin/true"}]);
    json!({"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook, "poststart": hook,
        "poststop": hook})
}

fn rich() -> Value {
    let capabilities = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "domainname": "example",
        "process": {
            "user": {"uid": 1000, "gid": 1000, "umask": 63, "additionalGids": [10, 20]},
            "cwd": "/tmp",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": capabilities, "ambient": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
            "oomScoreAdj": 100,
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
            "scheduler": {"policy": "SCHED_BATCH", "nice": 19},
            "noNewPrivileges": true
        },
        "linux": {
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 67_108_864},
                "pids": {"limit": 50},
                "cpu": {"shares": 500}
            },
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "personality": {"domain": "LINUX32"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
            },
            "timeOffsets": {"boottime": {"secs": 100, "nanosecs": 0}},
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1000, "gid": 1000}],
            "rootfsPropagation": "private"
        }
    })
}

fn user_namespace() -> Value {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    json!({"linux": {"uidMappings": ids, "gidMappings": ids}})
}
