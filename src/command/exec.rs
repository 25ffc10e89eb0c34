//! `exec`: another process in a running container.

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::config::capability;
use libcontainer::internals::wait;
use libcontainer::{At, Container, Kind, Paused, ProcessObject, protect_program};

use super::making::{Detached, close_on_exec_behind, consoles, listen_fds};
use super::session::Session;
use crate::cli::Exec;
use crate::foreground::{self, Reap};
use crate::relay::Relay;

pub fn run(session: &Session<'_>, args: &Exec) -> Result<u8> {
    let protection = protect_program()?;
    let container = session.root()?.load(&args.id)?;
    let object = object(args)?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let shell = object.is_none() && args.command.is_empty() && on_a_terminal();
    let terminal = object.as_ref().map_or(args.tty || shell, ProcessObject::terminal);
    let (console, master) = consoles(terminal.into(), args.console_socket.as_deref(), detached)?;
    let listen_fds = listen_fds();
    let mut exec = match &object {
        Some(object) => container.exec_process(object),
        None if shell => of_flags(session, &container, args, &SHELL.map(str::to_owned))?,
        None => of_flags(session, &container, args, &args.command)?,
    };
    exec = exec
        .protection(protection)
        .paused(if args.ignore_paused { Paused::Allowed } else { Paused::Refused })
        .sub_cgroups(&args.cgroup)
        .listen_fds(listen_fds)
        .preserve_fds(args.preserve_fds)
        .death_signal((detached == Detached::No).then(foreground::death_signal).flatten())
        .keep_times(session.times());
    if let Some(console) = console {
        exec = exec.console(console);
    }
    if let Some(path) = &args.pid_file {
        exec = exec.pid_file(path);
    }
    close_on_exec_behind(listen_fds.saturating_add(args.preserve_fds));
    let held = (detached == Detached::No).then(foreground::hold_signals).transpose()?;
    let listening = wait::listen()?;
    let (mut master, mut relay, socket) = (master, None, args.pidfd_socket.as_deref());
    let spawned = exec
        .on_progress(|progress| {
            session.on_progress(progress, |ready| {
                ready.pass_on_pidfd(socket, "setns")?;
                relay = master.take().map(|master| Relay::begin(master.receive()?)).transpose()?;
                Ok(())
            })
        })
        .spawn();
    let process = spawned.map_err(|error| by_flags(args, error))?;
    session.log.worked();
    match held {
        None => {
            listening.until_the_end();
            Ok(0)
        }
        Some(held) => {
            // From here on a signal is for the process.
            drop(listening);
            foreground::supervise(&process, &held, relay, None, Reap::Child)
        }
    }
}

/// What `exec ID` runs for a user at a terminal: bash where the container has it.
const SHELL: [&str; 3] = ["sh", "-c", "if command -v bash >/dev/null; then exec bash; fi; exec sh"];

fn on_a_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The process object of `--process`.
fn object(args: &Exec) -> Result<Option<ProcessObject>> {
    let Some(path) = &args.process else { return Ok(None) };
    let text = wait::contents(path).with_context(|| format!("--process {}", path.display()))?;
    Ok(Some(ProcessObject::read_from(&format!("--process {}", path.display()), &text)?))
}

/// The container's own process, with the changes of the flags.
fn of_flags<'a>(
    session: &Session<'_>,
    container: &'a Container,
    args: &'a Exec,
    command: &[String],
) -> Result<libcontainer::Exec<'a>> {
    if command.is_empty() {
        bail!("process args cannot be empty: write the command after the id");
    }
    let mut exec = container.exec(command);
    if let Some(cwd) = &args.cwd {
        exec = exec.cwd(cwd);
    }
    exec = args.env.iter().fold(exec, |exec, entry| exec.env(entry));
    if args.no_new_privs {
        exec = exec.no_new_privileges();
    }
    if let Some(profile) = &args.apparmor {
        exec = exec.apparmor_profile(profile);
    }
    if let Some(label) = &args.process_label {
        exec = exec.selinux_label(label);
    }
    if let Some(text) = &args.user {
        let (uid, gid) = user(text)?;
        exec = exec.user(uid, gid);
    }
    exec = args.additional_gids.iter().fold(exec, |exec, gid| exec.additional_gid(*gid));
    for name in &args.cap {
        // SPEC: config.md#linux-process: a capability that cannot be granted is a warning
        match capability::by_name(name) {
            Some(_) => exec = exec.capability(name).context("--cap")?,
            None => session.log.warning(&format!("--cap: {}", capability::unknown_message(name))),
        }
    }
    Ok(exec)
}

/// A mistake in the value of a flag is reported with the name of the flag.
fn by_flags(args: &Exec, error: libcontainer::Error) -> anyhow::Error {
    let Kind::Config(faults) = error.kind() else { return error.into() };
    let flag = |at: &At| match at.as_str() {
        "process.cwd" if args.cwd.is_some() => "--cwd".to_owned(),
        place if place.starts_with("process.env[") && !args.env.is_empty() => "--env".to_owned(),
        place => format!("config.json: {place}"),
    };
    if args.process.is_some() {
        return error.into();
    }
    let all: Vec<_> = faults.iter().map(|fault| format!("{}: {}", flag(&fault.at), fault.problem)).collect();
    anyhow!(all.join("\n"))
}

/// `UID[:GID]`: only numbers (CVE-2026-30892).
fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| digits).ok_or_else(|| anyhow!("--user: {text:?} is not UID[:GID]"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}
