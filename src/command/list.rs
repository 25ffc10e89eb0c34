//! `list`: prints all containers of this root, as a table, as JSON, or only their ids.

use std::os::unix::fs::MetadataExt;

use anyhow::{Result, bail};
use libcontainer::host::user_name;
use libcontainer::internals::words;
use libcontainer::{Container, Status};
use rustix::io::Errno;
use serde_json::Value;

use super::session::{Session, print};
use super::state;
use super::usage::{self, Usage, time};
use crate::cli::List;

pub fn run(session: &Session<'_>, args: &List) -> Result<()> {
    if !args.quiet && !["json", "table", "wide"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of table, wide, json)", args.format);
    }
    let root = session.root()?;
    if session.global.root.is_some() && !root.path().is_dir() {
        bail!("--root {}: {}", root.path().display(), words(Errno::NOENT));
    }
    let mut containers = Vec::new();
    for found in root.list()? {
        match found {
            Ok(found) => containers.push(found),
            Err(error) => session.log.warning(&error.to_string()),
        }
    }
    let text = match (args.quiet, args.format.as_str()) {
        (true, _) => containers.iter().map(|(container, _)| format!("{}\n", container.record().id)).collect(),
        (false, "json") => json(&containers),
        (false, "wide") => wide(&containers),
        (false, _) => table(&containers),
    };
    // The process ends, so memory need not be freed.
    std::mem::forget(containers);
    print(&text)
}

/// The names of users from /etc/passwd, as with runc. They are read once for all containers.
struct Users(String);

impl Users {
    fn read() -> Users {
        Users(String::from_utf8_lossy(&std::fs::read("/etc/passwd").unwrap_or_default()).into_owned())
    }

    fn owner(&self, container: &Container) -> String {
        let own = container.record().coracle.as_ref().map(|own| own.owner);
        let uid = own.or_else(|| std::fs::metadata(container.directory()).map(|data| data.uid()).ok()).unwrap_or(0);
        user_name(&self.0, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
    }
}

fn json(containers: &[(Container, Status)]) -> String {
    if containers.is_empty() {
        // Go writes null for a list that was never made. Clients expect it.
        return "null\n".to_owned();
    }
    let users = Users::read();
    let list: Vec<_> =
        containers.iter().map(|(there, status)| state::document(there, *status, users.owner(there))).collect();
    format!("{}\n", Value::from(list))
}

fn table(containers: &[(Container, Status)]) -> String {
    let users = Users::read();
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()];
    rows.extend(containers.iter().map(|(container, status)| {
        let record = container.record();
        let pid = if *status == Status::Stopped { 0 } else { record.init_process_pid };
        vec![
            record.id.clone(),
            pid.to_string(),
            status.to_string(),
            record.bundle().display().to_string(),
            record.created.clone(),
            users.owner(container),
        ]
    }));
    as_runc(&rows)
}

/// With what each of them uses.
fn wide(containers: &[(Container, Status)]) -> String {
    let header = ["ID", "PID", "STATUS", "PROCESSES", "MEMORY", "CPU", "ADDRESSES", "BUNDLE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(containers.iter().map(|(container, status)| {
        let record = container.record();
        let bundle = record.bundle().display().to_string();
        if *status == Status::Stopped {
            let none = || "-".to_owned();
            return vec![record.id.clone(), "0".to_owned(), status.to_string(), none(), none(), none(), none(), bundle];
        }
        let usage = Usage::of(container);
        let addresses: Vec<_> = container.addresses().unwrap_or_default().iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { "-".to_owned() } else { addresses.join(",") };
        let pid = record.init_process_pid.to_string();
        let (processes, memory, cpu) = (usage.processes.to_string(), usage.memory_text(), time(usage.cpu));
        vec![record.id.clone(), pid, status.to_string(), processes, memory, cpu, addresses, bundle]
    }));
    usage::columns(&rows, 0, usage::APART)
}

/// The layout of Go's tabwriter in runc: columns are at least 12 wide and 3 apart.
fn as_runc(rows: &[Vec<String>]) -> String {
    usage::columns(rows, 12, 3)
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_twelve_wide_at_least() {
        let header =
            super::as_runc(&[["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()]);
        assert_eq!(header, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
}
