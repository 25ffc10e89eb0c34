//! The requirements of an ordinary user beside a user namespace: programs that map more ids than the user's own, and
//! granted ids.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::finding::{Area, Finding, Fitness};
use super::tried::said;
use crate::host::grants::{grants, own_names};
use crate::host::{Environment, Host};
use crate::sys::kernel_file::read_lossy;

/// As many ids as an image usually needs.
const ENOUGH: u32 = 65536;
const PACKAGE: &str = "install the package uidmap (Debian, Ubuntu), shadow-utils (Fedora) or shadow (Arch)";
const OWN_ID: &str = "an ordinary user can map only the own id";

pub(super) fn findings(host: &Host, environment: &Environment) -> Vec<Finding> {
    let mut found: Vec<_> = ["newuidmap", "newgidmap"].map(|name| mapper(name, environment)).into();
    if !host.me.is_root() {
        found.extend(["/etc/subuid", "/etc/subgid"].map(granted));
        found.push(runtime_directory(host.me.uid, environment));
        if host.me.no_new_privs {
            let said = format!("no_new_privs is set here: newuidmap has no rights, and {OWN_ID}");
            found.push(
                Finding::new(Area::Rootless, "rights of programs", Fitness::Without, said)
                    .advice("call coracle from a login without NoNewPrivileges"),
            );
        }
    }
    found
}

fn mapper(name: &str, environment: &Environment) -> Finding {
    let finding = |fitness, said: String| Finding::new(Area::Rootless, name, fitness, said);
    let Some(file) = environment.find_program(name) else {
        return finding(Fitness::Without, format!("not in PATH: {OWN_ID}")).advice(PACKAGE);
    };
    let set_user_id = file.metadata().is_ok_and(|data| data.permissions().mode() & 0o4000 != 0 && data.uid() == 0);
    let capabilities = rustix::fs::getxattr(&file, "security.capability", &mut [0u8; 0][..]).is_ok();
    if set_user_id || capabilities {
        return finding(Fitness::Good, file.display().to_string());
    }
    let said = format!("{} has neither set-user-ID nor file capabilities: {OWN_ID}", file.display());
    finding(Fitness::Without, said).advice(format!("chmod u+s {}", file.display()))
}

fn granted(file: &str) -> Finding {
    of_grants(file, &read_lossy(Path::new(file)).unwrap_or_default(), &own_names())
}

fn of_grants(file: &str, text: &str, names: &[String]) -> Finding {
    let finding = |fitness, said: String| Finding::new(Area::Rootless, file, fitness, said);
    let grants = grants(text, names);
    let name = names.first().map(String::as_str).unwrap_or_default();
    let kind = file.trim_start_matches("/etc/sub");
    let advice = format!("usermod --add-sub{kind}s 100000-165535 {name}");
    let count: u32 = grants.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    match grants.first() {
        None => finding(Fitness::Without, format!("no line for {}: {OWN_ID}", names.join(" or "))).advice(advice),
        Some(_) if count < ENOUGH => {
            finding(Fitness::Without, format!("{count} ids: most images need {ENOUGH}")).advice(advice)
        }
        Some((first, _)) => finding(Fitness::Good, format!("{count} ids from {first}")),
    }
}

fn runtime_directory(uid: u32, environment: &Environment) -> Finding {
    let finding = |fitness, said: String| Finding::new(Area::Rootless, "XDG_RUNTIME_DIR", fitness, said);
    let advice = format!(
        "log in by ssh or machinectl, or pass a directory of your own to Root::open (systemd makes /run/user/{uid})"
    );
    let Some(directory) = environment.runtime_directory() else {
        return finding(
            Fitness::Without,
            "not set: the state is below /run/coracle, where only root can write".to_owned(),
        )
        .advice(advice);
    };
    match directory.metadata() {
        Ok(data) if data.is_dir() && data.uid() == uid && data.mode() & 0o022 == 0 => {
            finding(Fitness::Good, directory.display().to_string())
        }
        Ok(_) => {
            let said =
                format!("{} is not a directory that only this user can write: coracle refuses it", directory.display());
            finding(Fitness::Without, said).advice(advice)
        }
        Err(error) => finding(Fitness::Without, format!("{}: {}", directory.display(), said(&error))).advice(advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_ids_are_counted() {
        let names = ["anna".to_owned(), "1000".to_owned()];
        let of = |text: &str| of_grants("/etc/subuid", text, &names);
        assert_eq!(
            (of("anna:100000:65536\n").fitness, of("anna:100000:65536\n").said.as_str()),
            (Fitness::Good, "65536 ids from 100000")
        );
        assert_eq!(of("1000:1:65535\nanna:70000:1\n").fitness, Fitness::Good);
        let few = of("anna:100000:10\n");
        assert_eq!((few.fitness, few.advice.as_str()), (Fitness::Without, "usermod --add-subuids 100000-165535 anna"));
        assert_eq!(
            of("bert:100000:65536\n").said,
            "no line for anna or 1000: an ordinary user can map only the own id"
        );
    }
}
