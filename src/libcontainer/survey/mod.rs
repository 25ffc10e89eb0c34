//! Is this machine fit for containers? The survey tries the calls and files that coracle uses, and changes nothing.
//! Each finding has a remedy. The survey does not read configuration files of the kernel: the behaviour of the kernel
//! counts.

mod cgroups;
mod finding;
mod kernel;
mod namespaces;
mod rootless;
mod security;
mod tried;

use std::io;

pub use finding::{Area, Finding, Fitness};

use crate::host::{Environment, Host, Labels};

/// Looks at this machine as the caller's user. It changes nothing, and needs no rights. It makes short-lived children, which
/// try namespaces.
///
/// ```
/// use libcontainer::{Environment, Fitness, survey};
///
/// let own = Environment { path: std::env::var_os("PATH"), ..Environment::default() };
/// let findings = survey(&own)?;
/// let missing = findings.iter().filter(|finding| finding.fitness == Fitness::Missing);
/// missing.for_each(|finding| println!("{}: {} {}", finding.name, finding.said, finding.advice));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// /proc cannot be read.
pub fn survey(environment: &Environment) -> io::Result<Vec<Finding>> {
    let host = Host::probe(Labels::Given)?;
    let mut found = kernel::findings(&host);
    found.extend(namespaces::findings(&host));
    found.extend(cgroups::findings(&host, environment));
    found.extend(rootless::findings(&host, environment));
    found.extend(security::findings(&host, environment));
    Ok(found)
}
