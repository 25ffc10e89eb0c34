//! The findings of a survey.

/// The subject of a finding.
///
/// ```
/// use libcontainer::{Area, Environment, survey};
///
/// let findings = survey(&Environment::default())?;
/// let of_kernel = findings.iter().filter(|finding| finding.area == Area::Kernel);
/// assert!(of_kernel.count() > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// System calls and files of the kernel.
    Kernel,
    /// The kinds of namespaces.
    Namespaces,
    /// Hierarchies and controllers of cgroups, and systemd.
    Cgroups,
    /// The requirements of an ordinary user.
    Rootless,
    /// seccomp, AppArmor, SELinux, Landlock.
    Security,
    /// Programs that coracle calls.
    Programs,
}

/// How the machine does in one respect.
///
/// ```
/// use libcontainer::{Environment, Fitness, survey};
///
/// let worst = survey(&Environment::default())?.iter().map(|finding| finding.fitness).max();
/// println!("containers can be made: {}", worst != Some(Fitness::Missing));
/// assert!(Fitness::Missing > Fitness::Good);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It is there.
    Good,
    /// It cannot be tried by this user.
    Unknown,
    /// It is not there. Some containers, or some commands, need it.
    Without,
    /// It is not there, and no container can be made.
    Missing,
}

/// One result of the survey.
///
/// ```
/// for finding in libcontainer::survey(&libcontainer::Environment::default())? {
///     println!("{}: {} {}", finding.name, finding.said, finding.advice);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its subject.
    pub area: Area,
    /// The call, file or program that was tried.
    pub name: String,
    /// Whether it is there.
    pub fitness: Fitness,
    /// The result, or what happens without it. It may be empty.
    pub said: String,
    /// The remedy: a package, a sysctl, a boot parameter. Empty if there is nothing to do.
    pub advice: String,
}

impl Finding {
    pub(super) fn new(area: Area, name: impl Into<String>, fitness: Fitness, said: impl Into<String>) -> Finding {
        Finding { area, name: name.into(), fitness, said: said.into(), advice: String::new() }
    }

    pub(super) fn advice(self, advice: impl Into<String>) -> Finding {
        Finding { advice: advice.into(), ..self }
    }
}
