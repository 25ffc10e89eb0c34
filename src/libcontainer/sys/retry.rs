//! A system call that is made again after EINTR.

use rustix::io::Errno;

/// Calls again after EINTR, but not for ever: a filter may return EINTR every time.
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..100 {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions, setrlimit, waitid};

    use super::*;
    use crate::sys::clone::{clone, exit};
    use crate::sys::host_proc::HostProc;
    use crate::sys::kernel_file;
    use crate::sys::seccomp::{failing, load};

    #[test]
    fn the_result_after_an_interruption_counts() {
        let mut results = [Err(Errno::INTR), Err(Errno::INTR), Ok(7)].into_iter();
        assert_eq!(retry(|| results.next().unwrap()), Ok(7));
        let mut results = [Err(Errno::INTR), Err(Errno::NOSPC)].into_iter();
        assert_eq!(retry(|| results.next().unwrap()), Err::<(), _>(Errno::NOSPC));
    }

    #[test]
    fn a_filter_that_always_interrupts_does_not_make_init_wait_for_ever() {
        let proc = HostProc::open().unwrap();
        for call in [libc::SYS_read, libc::SYS_write] {
            let filter = failing(call, Errno::INTR);
            let (_, child) = clone(0, None, |_| {
                // a loop without an end ends by SIGXCPU
                setrlimit(Resource::Cpu, Rlimit { current: Some(2), maximum: Some(2) })
                    .and_then(|()| rustix::thread::set_no_new_privs(true))
                    .and_then(|()| load(&filter, 0).map(drop))
                    .unwrap_or_else(|_| exit(1));
                let done = match call {
                    libc::SYS_read => kernel_file::read_pieces(Path::new("/proc/self/status"), |_| ()),
                    _ => proc.write_own(c"comm", b"interrupted"),
                };
                exit(if done == Err(Errno::INTR) { 7 } else { 2 })
            })
            .unwrap();
            let ended = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).unwrap();
            assert_eq!(ended.unwrap().exit_status(), Some(7), "system call {call}");
        }
    }
}
