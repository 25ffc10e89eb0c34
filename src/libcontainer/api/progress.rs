//! The progress of making a process: warnings as values, the plan, and the moment before the program begins.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::config::Warning;
use crate::error::Result;
use crate::launch;
use crate::plan::Plan;
use crate::plan::explain::Line;

/// The progress of making a process.
///
/// ```no_run
/// use libcontainer::{Bundle, Progress, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let bundle = Bundle::read("/bundles/box")?;
/// let print = |progress: Progress<'_>| {
///     if let Progress::Warning(warning) = progress {
///         eprintln!("{warning}");
///     }
///     Ok(())
/// };
/// Root::open("/run/coracle")?.create("box", &bundle).on_progress(print).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'p> {
    /// A part of config.json is left out, or is probably a mistake.
    Warning(&'p Warning),
    /// The plan is complete. Nothing is done yet.
    Planned(&'p Explanation),
    /// The process is set up, and waits for its last message. What must be ready before the program begins is done now.
    Ready(Ready<'p>),
}

/// The steps of a plan. The text is the same as that of `coracle explain`.
///
/// ```
/// let bundle = libcontainer::Bundle::read("examples/bundle")?;
/// let plan = bundle.explain(libcontainer::CgroupUse::Own)?;
/// for line in plan.lines() {
///     println!("{}: {} ({})", line.process, line.act, line.from);
/// }
/// plan.warnings().iter().for_each(|warning| println!("{warning}"));
/// assert!(plan.to_string().contains("pivot_root"));
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Debug)]
pub struct Explanation(pub(super) Plan);

impl Explanation {
    /// The steps.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lines()
    }

    /// Warnings: what is left out, and what is probably a mistake.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    /// The flags of the seccomp filter (SECCOMP_FILTER_FLAG_*), if there is one.
    pub fn filter_flags(&self) -> Option<u32> {
        self.0.filter.as_ref().map(crate::plan::seccomp::Filter::flags)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process that is set up, and waits.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Progress, Root};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// let ready = |progress: Progress<'_>| {
///     if let Progress::Ready(ready) = progress {
///         println!("{} waits for its last message", ready.pid());
///     }
///     Ok(())
/// };
/// root.create("box", &bundle).on_progress(ready).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ready<'p> {
    plan: &'p Explanation,
    process: &'p launch::SetUpProcess<'p>,
}

impl Ready<'_> {
    /// Its pid in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// Sends its pidfd to `--pidfd-socket`. `name` is `standard` for a container's first process, and `setns` for
    /// another one.
    #[doc(hidden)]
    pub fn pass_on_pidfd(&self, socket: Option<&Path>, name: &str) -> Result<()> {
        socket.map_or(Ok(()), |socket| launch::scm_rights::send_pidfd(socket, name, self.pidfd()))
    }

    /// The time of each step in microseconds, if `keep_times` was set.
    pub fn times(&self) -> Vec<(Line, u32)> {
        let lines: Vec<_> = self.plan.lines().into_iter().filter(|line| line.process != "runtime").collect();
        let times = self.process.times().into_iter();
        times.filter_map(|(n, micros)| Some((lines.get(n)?.clone(), micros))).collect()
    }
}

/// The caller's callback, if there is one.
#[derive(Default)]
pub(super) struct Observer<'a>(Option<Callback<'a>>);

type Callback<'a> = Box<dyn FnMut(Progress<'_>) -> Result<()> + Send + 'a>;

impl<'a> Observer<'a> {
    pub(super) fn new(callback: impl FnMut(Progress<'_>) -> Result<()> + Send + 'a) -> Observer<'a> {
        Observer(Some(Box::new(callback)))
    }

    fn call(&mut self, progress: Progress<'_>) -> Result<()> {
        self.0.as_mut().map_or(Ok(()), |callback| callback(progress))
    }

    pub(super) fn warn(&mut self, warnings: &[Warning]) -> Result<()> {
        warnings.iter().try_for_each(|warning| self.call(Progress::Warning(warning)))
    }

    pub(super) fn planned(&mut self, plan: &Explanation) -> Result<()> {
        self.warn(plan.warnings())?;
        self.call(Progress::Planned(plan))
    }

    pub(super) fn ready(&mut self, plan: &Explanation, process: &launch::SetUpProcess<'_>) -> Result<()> {
        self.warn(process.warnings())?;
        self.call(Progress::Ready(Ready { plan, process }))
    }
}

impl fmt::Debug for Observer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observer({})", if self.0.is_some() { "set" } else { "none" })
    }
}
