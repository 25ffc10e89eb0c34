//! The arguments of a step as JSON. `explain --format json` prints them beside the text, for programs.

use serde_json::{Value, json};

use super::namespaces::names;
use super::needs::{Right, Writes};
use super::ruleset::fs_names;
use super::step::{Absent, ConsoleDevice, Execve, HookCommand, MountChange, NewMount, Role, Setting, What};
use super::step_text::text;
use crate::sys::mount::Reach;
use crate::wire::Request;

impl What {
    /// The arguments of the step, and what it needs and touches.
    pub(super) fn fields(&self) -> Value {
        let mut fields = self.arguments();
        let slots: Vec<_> = self.slots().map(|(slot, _)| slot.0).collect();
        if !slots.is_empty() {
            fields["slots"] = json!(slots);
        }
        match self.right() {
            Right::Anybody => {}
            Right::Capability(set) => fields["capabilities"] = json!(format!("{:#x}", set.bits())),
            Right::AdminOrNoNewPrivs => fields["capabilities"] = json!("CAP_SYS_ADMIN or no_new_privs"),
            Right::SameIds => fields["capabilities"] = json!("those of the runtime's ids"),
        }
        match self.writes() {
            Writes::Nothing => {}
            Writes::Path(path) => fields["path"] = json!(text(path)),
            Writes::HostProc(path) => fields["hostProc"] = json!(text(path)),
            Writes::Inside(path) => fields["inside"] = json!(text(path)),
        }
        fields
    }

    #[expect(clippy::too_many_lines, reason = "a table: the fields of each step")]
    fn arguments(&self) -> Value {
        match self {
            What::Request(request) => json!({"for": request_name(*request)}),
            What::Join(_, namespaces) | What::Unshare(namespaces) | What::Spawn(namespaces) => {
                json!({"namespaces": names(*namespaces).collect::<Vec<_>>()})
            }
            What::Keyring(name) | What::Hostname(name) | What::Domainname(name) => json!({"name": text(name)}),
            What::Label { value, .. } | What::Sysctl { value, .. } => json!({"value": text(value)}),
            What::Propagate { flags, .. } => json!({"flags": flags}),
            What::AttachRoot { changes, .. } => json!({"changes": changed(changes)}),
            What::NewMount(mount) => new_mount(mount),
            What::Copy(_, reach) => json!({"recursive": *reach == Reach::Tree}),
            What::EmptyDirectory(_, label) => json!({"label": label.as_ref().map(|label| text(label))}),
            What::Bind(_, changes, _) | What::BindOrLink(_, changes, _) => json!({"changes": changed(changes)}),
            What::Remount(remount) => {
                json!({"settings": settings(&remount.settings), "changes": changed(&remount.changes)})
            }
            What::Mknod(node) => json!({"mode": node.mode, "major": rustix::fs::major(node.device),
                "minor": rustix::fs::minor(node.device), "uid": node.uid, "gid": node.gid}),
            What::Symlink { to, .. } | What::Replace { to, .. } => json!({"to": text(to)}),
            What::Mask { .. } => json!({}),
            What::Finish { attributes, .. } => json!({"set": attributes.set, "clear": attributes.clear}),
            What::Console(console) => json!({"size": console.size, "uid": console.uid,
                "device": matches!(console.device, ConsoleDevice::Bound(_))}),
            What::Umask(mask) => json!({"umask": mask}),
            What::Groups(groups) => json!({"gids": groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>()}),
            What::OwnStdio(uid) | What::Home(uid) => json!({"uid": uid}),
            What::Bounding(drop) => json!({"drop": format!("{drop:#x}")}),
            What::Ids { uid, gid } => json!({"uid": uid, "gid": gid}),
            What::Capabilities(sets) => {
                let [effective, permitted, inheritable, ambient, until_exec] =
                    [sets.effective, sets.permitted, sets.inheritable, sets.ambient, sets.until_exec]
                        .map(|set| format!("{set:#x}"));
                json!({"effective": effective, "permitted": permitted, "inheritable": inheritable, "ambient": ambient,
                    "untilExec": until_exec})
            }
            What::Allow { path, access, absent, role, .. } => {
                json!({"inside": text(path), "access": fs_names(*access),
                "optional": *absent == Absent::Skipped, "same": *role == Role::Further})
            }
            What::Seccomp(flags) => json!({"flags": flags}),
            What::Scheduler(attr) => json!({"policy": attr.policy, "flags": attr.flags, "nice": attr.nice,
                "priority": attr.priority, "runtime": attr.runtime, "deadline": attr.deadline, "period": attr.period}),
            What::Processes { soft, hard } => json!({"soft": soft, "hard": hard}),
            What::IoPriority(value) => json!({"class": value >> 13, "level": value & 7}),
            What::Personality(persona) => json!({"persona": persona}),
            What::MemoryPolicy { mode, nodes } => json!({"mode": mode, "nodes": nodes}),
            What::DeathSignal(signal) => json!({"signal": signal}),
            What::Affinity(cpus) => json!({"cpus": cpus}),
            What::TryChdir(path) | What::Chdir(path) => json!({"directory": text(path)}),
            What::CloseFds { first, kept } => {
                json!({"first": first, "kept": kept.slots.iter().map(|slot| slot.0).collect::<Vec<_>>()})
            }
            What::FindProgram(exec) | What::Exec(exec) => program(exec),
            What::Hooks { point, commands, .. } => {
                json!({"point": point.name(), "hooks": commands.iter().map(hook).collect::<Vec<_>>()})
            }
            What::BecomeRoot(_)
            | What::EnterTime
            | What::Loopback
            | What::Signals
            | What::ExitOnSignals
            | What::Undumpable
            | What::Session
            | What::ControllingTerminal
            | What::PrivateAbove(_)
            | What::Find(_)
            | What::Pivot
            | What::Unmount(_)
            | What::MoveRoot
            | What::Chroot(_)
            | What::ReadOnly(_)
            | What::NoNewPrivs
            | What::AllCpus
            | What::MakeCwd(_)
            | What::Ready
            | What::AwaitStart { .. }
            | What::Restrict(_)
            | What::AboutToExec(_) => json!({}),
        }
    }
}

fn request_name(request: Request) -> &'static str {
    match request {
        Request::IdMaps => "id maps",
        Request::TimeOffsets => "time offsets",
        Request::Cgroup => "cgroup",
        Request::Delegate => "delegated cgroup",
        Request::Limits => "limits",
        Request::Scheduler => "scheduler",
        Request::Hooks(_) => "hooks",
        Request::SeccompListener => "seccomp listener",
        Request::NetDevices => "network devices",
        Request::Tree(_) => "mounts",
        Request::MapIds(_) => "mapped ids",
        Request::CheckViews => "views",
        Request::Kept(_) => "kept",
    }
}

fn new_mount(mount: &NewMount) -> Value {
    json!({"type": text(&mount.fstype), "settings": settings(&mount.settings), "attributes": mount.attributes,
        "changes": changed(&mount.changes)})
}

fn settings(list: &[Setting]) -> Vec<Value> {
    list.iter().map(|(key, value)| json!([text(key), value.as_ref().map(|value| text(value))])).collect()
}

fn changed(changes: &[MountChange]) -> Vec<Value> {
    let one = |change: &MountChange| {
        let attributes = change.attributes;
        json!({"set": attributes.set, "clear": attributes.clear, "propagation": attributes.propagation,
            "recursive": change.reach == Reach::Tree})
    };
    changes.iter().map(one).collect()
}

fn hook(command: &HookCommand) -> Value {
    let args: Vec<_> = command.args.iter().map(text).collect();
    json!({"path": text(&command.path), "args": args, "timeout": command.timeout})
}

fn program(exec: &Execve) -> Value {
    let args: Vec<_> = exec.args.iter().map(text).collect();
    let candidates: Vec<_> = exec.candidates.iter().map(|path| text(path)).collect();
    json!({"args": args, "candidates": candidates})
}
