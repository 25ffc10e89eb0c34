//! The seccomp agent, which answers SCMP_ACT_NOTIFY for the container. The runtime sends one message to its socket: the
//! state of the process, and the listener. SPEC: config-linux.md#containerprocessstate.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::identity::Identity;
use super::launched::Launched;
use super::scm_rights;
use crate::error::{Context, Result, error};
use crate::plan::seccomp::Listener;

/// The name of the descriptor in the message.
const FD_NAME: &str = "seccompFd";

/// Sends the agent the listener that came from init.
///
/// # Errors
/// The property, and the call that failed.
pub(super) fn send_listener(launched: &Launched<'_>, fd: Option<OwnedFd>, identity: &Identity<'_>) -> Result<()> {
    let listener = launched.plan.filter.as_ref().and_then(|filter| filter.listener());
    let listener = listener.ok_or_else(|| error!("no listener in the plan"))?;
    let fd = fd.ok_or_else(|| error!("{}: init has sent no listener", listener.at))?;
    if !is_listener(fd.as_fd()) {
        return Err(error!("{}: init has sent another file than a listener", listener.at));
    }
    send(listener, fd.as_fd(), &state(listener, identity, launched.child.pid)).with_context(|| listener.at.to_string())
}

/// True for a listener of seccomp(2). A process that traces init could send another file.
fn is_listener(fd: BorrowedFd<'_>) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(link).is_ok_and(|to| to.as_os_str() == "anon_inode:seccomp notify")
}

fn send(listener: &Listener, fd: BorrowedFd<'_>, text: &[u8]) -> Result<()> {
    let agent = scm_rights::connect(&listener.path).context("failed to connect with seccomp agent")?;
    scm_rights::send(agent.as_fd(), text, fd)
}

/// ContainerProcessState. For an exec, it contains the state of the container and the pid of the new process.
fn state(listener: &Listener, identity: &Identity<'_>, pid: i32) -> Vec<u8> {
    let container = match identity.init {
        Some(init) => identity.state_value("running", init),
        None => identity.state_value("creating", pid),
    };
    let mut state = serde_json::json!({
        "ociVersion": identity.version,
        "fds": [FD_NAME],
        "pid": pid,
        "state": container,
    });
    if !listener.metadata.is_empty() {
        state["metadata"] = serde_json::json!(listener.metadata);
    }
    state.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::path::Path;

    #[test]
    fn an_agent_receives_the_state_of_the_process_and_of_its_container() {
        let annotations = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let mut identity = Identity {
            id: "x",
            bundle: Path::new("/b"),
            version: "1.2.0",
            annotations: &annotations,
            init: None,
            environment: &crate::host::Environment::default(),
        };
        let listener = Listener { at: crate::config::At::new("l"), path: "/s".into(), metadata: "m".to_owned() };
        let message = |identity: &Identity<'_>| -> serde_json::Value {
            serde_json::from_slice(&state(&listener, identity, 7)).unwrap()
        };
        assert_eq!(
            message(&identity),
            serde_json::json!({"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": 7, "metadata": "m", "state": {
                "ociVersion": "1.2.0", "id": "x", "status": "creating", "pid": 7, "bundle": "/b",
                "annotations": {"a": "b"}}})
        );
        identity.init = Some(3);
        let further = message(&identity);
        assert_eq!((&further["pid"], &further["state"]["pid"]), (&7.into(), &3.into()));
        assert_eq!(further["state"]["status"], "running");
    }
}
