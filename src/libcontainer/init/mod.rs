//! Becoming the container. This runs after the clone, in the bridge and in init. It is a loop over prepared steps, and never
//! returns. It makes system calls only: it parses nothing, decides nothing, and does not use the heap.
#![allow(clippy::result_large_err)] // a failure carries its text by value: init does not use the heap

mod console;
mod copy;
mod credentials;
mod exec;
mod home;
mod hooks;
mod landlock;
mod mounts;
mod pids;
mod prepared;
mod protocol;
mod resolve;
mod root;

pub use prepared::{Late, LateIds, Prepared, StepResults};

use crate::plan::step::{Slot, What};
use crate::wire::Request;
use prepared::Outcome;

/// Performs every step and becomes the program. A step that fails is reported, and the process ends.
///
/// ORDER: after `Seccomp`, the filter may deny every call with every action. So no step there relies on a result, and no loop
/// there tries a call again for ever.
pub fn run(prepared: &Prepared<'_>) -> ! {
    for (n, step) in (0..).zip(prepared.steps.iter().flat_map(|list| list.iter())) {
        prepared.page.at_step(n);
        if let Err(trouble) = perform(prepared, &step.what) {
            let after = match &step.what {
                What::FindProgram(_) | What::Exec(_) => protocol::After::Look,
                _ => protocol::After::Report,
            };
            protocol::fail(prepared, n, trouble, after);
        }
    }
    crate::sys::clone::exit(0)
}

/// Performs one step. There is one arm for each kind of step.
#[expect(clippy::too_many_lines, reason = "a table: the function for each step")]
fn perform(prepared: &Prepared<'_>, what: &What) -> Outcome {
    match what {
        // the thread that `Seccomp` began sends the request
        What::Request(Request::SeccompListener) => protocol::await_go(prepared),
        What::Request(Request::Tree(slot)) => match prepared.late(Slot(*slot as usize)) {
            Some(late) => resolve::open_late(prepared, late),
            None => protocol::take_tree(prepared, *slot),
        },
        What::Request(Request::Limits) => credentials::limits(prepared),
        What::Request(request) => protocol::request(prepared, *request),
        What::Join(file, namespaces) => credentials::join(prepared, prepared.fd(*file)?, *namespaces),
        What::Unshare(namespaces) => Ok(crate::sys::namespace::unshare(namespaces.0)?),
        What::EnterTime => credentials::enter_time(prepared),
        What::Loopback => Ok(crate::sys::net::loopback_up()?),
        What::BecomeRoot(groups) => credentials::become_root(*groups),
        // the runtime reads the pid from that memory when init sends its first request
        What::Spawn(new) => Ok(crate::sys::clone::replace_by_sibling(prepared.alone, new.0, prepared.first_child)?),
        What::Signals => Ok(crate::sys::signals::reset()?),
        What::ExitOnSignals => Ok(crate::sys::signals::exit_on_end_signals()?),
        What::Undumpable => credentials::undumpable(),
        What::Session => Ok(rustix::process::setsid().map(drop)?),
        What::ControllingTerminal => Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?),
        What::Keyring(name) => credentials::keyring(name),
        What::Label { file, value } => Ok(prepared.proc.write_own(file, value.to_bytes())?),
        What::Propagate { path, flags } => Ok(crate::sys::mount::set_propagation(path, *flags)?),
        What::PrivateAbove(path) => root::private_above(path),
        What::AttachRoot { tree, path, changes } => root::attach(prepared.fd(*tree)?, path, changes),
        What::NewMount(mount) => mounts::new_mount(prepared, mount),
        What::Find(slot) => prepared.late(*slot).map_or_else(|| resolve::reopen(prepared, *slot), |_| Ok(())),
        What::Copy(slot, reach) => match prepared.late(*slot) {
            Some(late) => resolve::open_late(prepared, late),
            None => resolve::copy(prepared, *slot, *reach),
        },
        What::EmptyDirectory(slot, label) => resolve::open_empty_tmpfs(prepared, *slot, label.as_deref()),
        What::Bind(tree, changes, target) => mounts::bind(prepared, *tree, changes, target),
        What::BindOrLink(tree, changes, target) => mounts::bind_or_link(prepared, *tree, changes, target),
        What::Remount(remount) => mounts::remount(prepared, remount),
        What::Mknod(node) => mounts::mknod(prepared, node),
        What::Symlink { to, path } => mounts::symlink(prepared, to, path),
        What::Replace { to, path } => mounts::replace(prepared, to, path),
        What::Pivot => root::pivot(prepared.root()?),
        What::Unmount(path) => root::unmount(path),
        What::MoveRoot => root::to_the_top(prepared.root()?),
        What::Chroot(directory) => root::chroot(prepared.fd(*directory)?),
        What::Mask { path, null, empty } => mounts::mask(prepared, path, *null, *empty),
        What::ReadOnly(path) => mounts::read_only(prepared, path),
        What::Finish { path, attributes } => mounts::finish(prepared, path, attributes),
        What::Sysctl { name, value } => Ok(prepared.proc.write_sys(name, value.to_bytes())?),
        What::Hostname(name) => Ok(rustix::system::sethostname(name.to_bytes())?),
        What::Domainname(name) => Ok(rustix::system::setdomainname(name.to_bytes())?),
        What::Console(terminal) => console::make(prepared, terminal),
        What::Umask(mask) => credentials::umask(prepared, *mask),
        What::Groups(groups) => credentials::groups(groups),
        What::OwnStdio(uid) => credentials::own_stdio(*uid),
        What::Bounding(drop) => credentials::drop_bounding(*drop),
        What::Ids { uid, gid } => credentials::become_user(*uid, *gid),
        What::Capabilities(sets) => credentials::capabilities(sets),
        What::NoNewPrivs => Ok(rustix::thread::set_no_new_privs(true)?),
        What::Allow { ruleset, path, access, absent, files, nth, role } => {
            let known = landlock::KnownFile { files: *files, nth: *nth, role: *role };
            landlock::allow(prepared, *ruleset, path, *access, *absent, known)
        }
        What::Restrict(ruleset) => landlock::restrict(prepared, *ruleset),
        What::Seccomp(flags) => protocol::load_filter(prepared, *flags),
        What::Scheduler(attr) => Ok(crate::sys::sched::set_scheduler(0, attr)?),
        What::Processes { soft, hard } => Ok(crate::sys::sched::set_limit(0, libc::RLIMIT_NPROC, *soft, *hard)?),
        What::IoPriority(value) => Ok(crate::sys::sched::set_io_priority(*value)?),
        What::Personality(persona) => Ok(crate::sys::sched::set_personality(*persona)?),
        What::MemoryPolicy { mode, nodes } => Ok(crate::sys::sched::set_memory_policy(*mode, nodes)?),
        What::DeathSignal(signal) => credentials::death_signal(*signal),
        What::AllCpus => credentials::all_cpus(),
        What::Affinity(cpus) => Ok(crate::sys::sched::set_affinity(0, cpus)?),
        What::MakeCwd(path) => mounts::make_cwd(prepared, path),
        What::TryChdir(path) => exec::try_chdir(prepared, path),
        What::Chdir(path) => exec::chdir(prepared, path),
        What::Home(uid) => home::read_home(prepared, *uid),
        What::CloseFds { first, kept } => exec::close_fds(prepared, *first, kept),
        What::FindProgram(exec) => exec::find_program(exec),
        What::Ready => protocol::send_ready(prepared),
        What::AwaitStart { fifo, answer } => protocol::await_start(prepared, *fifo, *answer),
        What::Hooks { point, commands, state, output } => hooks::run(prepared, *point, commands, *state, *output),
        What::AboutToExec(answer) => protocol::about_to_exec(prepared, *answer),
        What::Exec(exec) => exec::exec(prepared, exec),
    }
}
