//! `exec`: starts a further process in a running container.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::cgroup::Cgroup;
use libcontainer::config::{self, At, Config};
use libcontainer::container::{Container, Status};
use libcontainer::host::{Cgroups, Host, Labels};
use libcontainer::launch::foreground::{self, Reap, Relay};
use libcontainer::launch::{Child, Identity, console, pidfile, seal};
use libcontainer::plan::{self, Flags, Given, Joining, capabilities};
use libcontainer::wait;
use libcontainer::{NOT_STARTED, open_exec};
use oci_spec::runtime::{LinuxCapabilities, Process};

use super::bundle::{Detached, Master, check_extra_fds, listen_fds};
use super::{Session, absolute};
use crate::cli::Exec;

pub fn run(session: &Session<'_>, args: &Exec) -> Result<u8> {
    let protected = seal::protect()?;
    let root = session.root()?;
    let container = root.load(&args.id)?;
    match container.status()? {
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Paused if !args.ignore_paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Created | Status::Running | Status::Paused => {}
    }
    let config = config::load(&container.config()?)?;
    let (process, at) = process(args, &config)?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let master = Master::of(process.terminal().unwrap_or(false), args.console_socket.as_deref(), detached)?;
    let mut flags = flags(args, &container, &master);
    flags.death_signal = (detached == Detached::No).then(foreground::death_signal).flatten();
    check_extra_fds(flags.extra_fds)?;
    let host = Host::probe(Labels::Given).context("look at the host")?;
    let ask = Given { config: &config, host: &host, flags: &flags };
    let joined = libcontainer::joined(&container, &config)?;
    let plan = plan::exec(&ask, &Joining { process: &process, at: &at, container: joined })?;
    session.planned(&plan);
    let held = (detached == Detached::No).then(foreground::hold_signals).transpose()?;
    let (theirs, ours) = master.ends();
    let cgroup = cgroup(args, &container, &host)?;
    let opened = open_exec(&container, &plan, theirs)?;
    opened.keep_times(session.times());
    let annotations = container.record().annotations();
    let identity = Identity::of_joined(container.record(), &annotations);
    let listening = wait::listen()?;
    let launched = opened.launch(&plan, cgroup.as_ref(), protected)?;
    let ready = launched.serve(cgroup.as_ref(), &identity, None).context(NOT_STARTED)?;
    session.made(&plan, &ready);
    if let Some(socket) = &args.pidfd_socket {
        console::send_pidfd(socket, "setns", ready.pidfd())?;
    }
    let relay = ours.map(|socket| console::receive(socket.as_fd()).and_then(Relay::begin)).transpose()?;
    if let Some(path) = &args.pid_file {
        pidfile::write(&absolute(path)?, ready.pid())?;
    }
    let pid = ready.pid();
    let child: Child = ready.go().context(NOT_STARTED).inspect_err(|_| {
        if let Some(path) = &args.pid_file {
            pidfile::forget(path, pid);
        }
    })?;
    session.log.worked();
    match held {
        None => {
            listening.until_the_end();
            Ok(0)
        }
        Some(held) => {
            // From here on, a signal goes to the process.
            drop(listening);
            Ok(foreground::supervise(&child, &held, relay, None, Reap::Child)?)
        }
    }
}

fn flags(args: &Exec, container: &Container, master: &Master) -> Flags {
    let listen_fds = listen_fds();
    Flags {
        terminal: master.kind(),
        extra_fds: listen_fds + args.preserve_fds,
        listen_fds,
        ..libcontainer::exec_flags(container)
    }
}

/// The process object: from a file, or the container's own with the changes of the flags.
fn process(args: &Exec, config: &Config) -> Result<(Process, At)> {
    if let Some(path) = &args.process {
        let text = wait::contents(path).with_context(|| format!("--process {}", path.display()))?;
        let at = At::new("process");
        let (mut process, _) =
            config::load_process(&text, &at).map_err(|faults| anyhow!("{}: {faults}", path.display()))?;
        confine(&mut process, config);
        return Ok((process, at));
    }
    if args.command.is_empty() {
        bail!("process args cannot be empty");
    }
    let mut process = config.spec.process().clone().ok_or_else(|| anyhow!("the container's config has no process"))?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    user(args, &mut process)?;
    add_capabilities(&args.cap, &mut process)?;
    Ok((process, At::new("process")))
}

/// A further process gets the labels of the first one, unless it names others (such as `unconfined`).
fn confine(process: &mut Process, config: &Config) {
    let Some(first) = config.spec.process() else { return };
    let unsaid = |label: &Option<String>| label.as_ref().is_none_or(String::is_empty);
    if unsaid(process.apparmor_profile()) {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    if unsaid(process.selinux_label()) {
        process.set_selinux_label(first.selinux_label().clone());
    }
}

/// Parses `UID[:GID]`: only numbers (CVE-2026-30892). Without a gid, the config's gid and groups stay, as with runc.
fn user(args: &Exec, process: &mut Process) -> Result<()> {
    let mut user = process.user().clone();
    if let Some(text) = &args.user {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| digits).ok_or_else(|| anyhow!("--user: {text:?} is not UID[:GID]"))
        };
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
            None => (number(text)?, None),
        };
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    Ok(())
}

/// Adds capabilities to bounding, effective and permitted; to ambient only if inheritable has them already, and never
/// to inheritable (CVE-2022-29162).
fn add_capabilities(names: &[String], process: &mut Process) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Vec::new();
    for name in names {
        let number = capabilities::by_name(name).ok_or_else(|| anyhow!("--cap: unknown capability {name:?}"))?;
        let known = capabilities::known();
        let full = known.get(usize::from(number)).cloned().unwrap_or_default();
        added.push(serde_json::from_value(serde_json::Value::from(full)).context("--cap")?);
    }
    let mut sets: LinuxCapabilities = match process.capabilities() {
        Some(sets) => sets.clone(),
        None => serde_json::from_str("{}")?,
    };
    let more = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) = (more(sets.bounding()), more(sets.effective()), more(sets.permitted()));
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    let mut ambient = sets.ambient().clone().unwrap_or_default();
    ambient.extend(added.iter().copied().filter(|cap| inheritable.contains(cap)));
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
    sets.set_ambient(Some(ambient));
    process.set_capabilities(Some(sets));
    Ok(())
}

/// The container's cgroup, or the cgroups below it that `--cgroup` names.
fn cgroup(args: &Exec, container: &Container, host: &Host) -> Result<Option<Cgroup>> {
    let own = container.cgroup();
    let mut paths = own.paths().clone();
    for (key, below) in sub_cgroups(&args.cgroup, &paths, &host.cgroups)? {
        let Some(path) = paths.get_mut(&key) else { continue };
        path.push(below.trim_matches('/'));
        if !path.is_dir() {
            bail!("--cgroup: {}: no such file or directory", path.display());
        }
    }
    if paths.is_empty() {
        return Ok(None);
    }
    let cgroup = Cgroup::open(paths, own.unit().cloned());
    // If the user names a cgroup, no other one is used.
    let named = !args.cgroup.is_empty();
    let pid = container.record().init_process_pid;
    Ok(Some(if named { cgroup } else { cgroup.or_where(pid, host.cgroups.v2.as_ref()) }))
}

/// The values of `--cgroup` by the keys of `paths`: one PATH for all, or CONTROLLER[,CONTROLLER...]:PATH for version 1.
/// As with runc, an unknown controller is an error: the process would run without its limit.
fn sub_cgroups<'a>(
    said: &'a [String],
    paths: &BTreeMap<String, PathBuf>,
    cgroups: &Cgroups,
) -> Result<BTreeMap<String, &'a str>> {
    let mut below = BTreeMap::new();
    let mut named = Vec::new();
    for word in said {
        let (controllers, path) =
            word.split_once(':').map_or((None, word.as_str()), |(names, path)| (Some(names), path));
        if path.split('/').any(|part| part == "..") {
            bail!("--cgroup {word:?}: leads out of the container's cgroup");
        }
        let Some(controllers) = controllers else {
            if said.len() > 1 {
                bail!("--cgroup {word:?}: names no controller; with several --cgroup each must (CONTROLLER:PATH)");
            }
            return Ok(paths.keys().map(|key| (key.clone(), path)).collect());
        };
        for controller in controllers.split(',') {
            let key = key_of(controller, paths, cgroups)
                .ok_or_else(|| anyhow!("--cgroup {word:?}: unknown controller {controller:?}"))?;
            // Controllers that are mounted together share one cgroup.
            let other = below.insert(key, path).is_some_and(|other| other != path);
            if other || named.contains(&controller) {
                bail!("--cgroup {word:?}: the cgroup of the controller {controller:?} is named twice");
            }
            named.push(controller);
        }
    }
    Ok(below)
}

/// The key of a controller's cgroup. A hierarchy without controllers has a name such as `name=systemd`.
fn key_of(controller: &str, paths: &BTreeMap<String, PathBuf>, cgroups: &Cgroups) -> Option<String> {
    let hierarchy = cgroups.v1.iter().find(|hierarchy| hierarchy.has(controller));
    let key = hierarchy.map_or_else(|| controller.to_owned(), libcontainer::host::cgroups::Hierarchy::key);
    Some(key).filter(|key| !key.is_empty() && paths.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &[&str]) -> Result<Vec<String>, String> {
        let cgroup = "4:memory:/m\n3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n";
        let mountinfo = "\
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let cgroups = Cgroups::parse(mountinfo, cgroup);
        let paths = ["", "cpu", "memory", "systemd"].map(|key| (key.to_owned(), PathBuf::new())).into();
        let said: Vec<_> = said.iter().map(|word| (*word).to_owned()).collect();
        let below = sub_cgroups(&said, &paths, &cgroups).map_err(|error| error.to_string())?;
        Ok(below.into_iter().map(|(key, path)| format!("{key}:{path}")).collect())
    }

    #[test]
    fn a_sub_cgroup_is_named_for_all_or_by_controllers() {
        assert_eq!(read(&[]).unwrap(), [""; 0]);
        assert_eq!(read(&["/a"]).unwrap(), [":/a", "cpu:/a", "memory:/a", "systemd:/a"]);
        assert_eq!(read(&["memory:a", "cpu,cpuacct:/b"]).unwrap(), ["cpu:/b", "memory:a"]);
        assert_eq!(read(&["cpuacct:b", "name=systemd:c"]).unwrap(), ["cpu:b", "systemd:c"]);
    }

    #[test]
    fn what_names_no_cgroup_of_the_container_is_refused() {
        for (said, wanted) in [
            (&["nonsense:a"][..], "unknown controller \"nonsense\""),
            (&[":a"], "unknown controller \"\""),
            (&["memory,:a"], "unknown controller \"\""),
            (&["mem:a"], "unknown controller \"mem\""),
            (&["name=cpu:a"], "unknown controller \"name=cpu\""),
            (&["memory:a", "memory:b"], "named twice"),
            (&["memory,memory:a"], "named twice"),
            (&["cpu:a", "cpuacct:b"], "named twice"),
            (&["memory:a", "b"], "names no controller"),
            (&["memory:../a"], "leads out"),
        ] {
            let told = read(said).unwrap_err();
            assert!(told.contains(wanted), "{said:?}: {told}");
        }
    }
}
