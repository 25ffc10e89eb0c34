//! Memory that the runtime process shares with its children: what init says of itself, and what only the first child can say.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use rustix::io::Errno;

use super::errno::from_number;
use super::shared_memory::{Atomics, SharedMemory};

/// What init says of itself. Init writes it. The runtime reads it, also after init has ended. A process that traces init can write
/// it, too: the runtime makes only words of it.
#[derive(Debug)]
pub struct Page(SharedMemory<PageLayout>);

// SAFETY: atomics.
unsafe impl Atomics for PageLayout {}

/// What the first child says. A bridge hides it from the init that it makes (`hide_from_children`): others may trace that init,
/// and could write the pid of another process.
#[derive(Debug)]
pub struct FirstChildPage(SharedMemory<FirstChildLayout>);

// SAFETY: atomics.
unsafe impl Atomics for FirstChildLayout {}

#[repr(C)]
#[derive(Debug)]
struct FirstChildLayout {
    /// The pid of the process that a child of ours has made, in the runtime's pid namespace; 0 before.
    pid: AtomicI32,
    /// How many of its cgroups the first child has entered.
    entered: AtomicUsize,
}

impl FirstChildPage {
    /// A new page of zeros, shared with every process that is forked later.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> Result<FirstChildPage, Errno> {
        SharedMemory::new().map(FirstChildPage)
    }

    /// The first child: "I have entered `n` of my cgroups."
    pub fn has_entered(&self, n: usize) {
        self.0.get().entered.store(n, Ordering::Release);
    }

    /// How many cgroups the first child has entered by itself.
    pub fn entered(&self) -> usize {
        self.0.get().entered.load(Ordering::Acquire)
    }

    /// The pid of the process that was made.
    pub fn pid(&self) -> Option<i32> {
        Some(self.0.get().pid.load(Ordering::Acquire)).filter(|pid| *pid > 0)
    }

    /// Where the kernel writes that pid, before the process runs (CLONE_PARENT_SETTID).
    pub(super) fn pid_pointer(&self) -> *mut i32 {
        self.0.get().pid.as_ptr()
    }

    /// Processes that this process makes from now on do not get the page (MADV_DONTFORK).
    ///
    /// # Errors
    /// Those of madvise(2).
    pub fn hide_from_children(&self) -> Result<(), Errno> {
        self.0.hide_from_children()
    }
}

#[repr(C)]
#[derive(Debug)]
struct PageLayout {
    step: AtomicU32,
    /// Why a hook did not begin: the number of the failed call plus one, and errno in the low 16 bits. 0 if none failed.
    hook: AtomicU32,
    /// Not 0 if the times are recorded.
    timed: AtomicU32,
    /// When each step began, in microseconds of a wrapped clock (`now`); 0 if it has not begun.
    times: [AtomicU32; MOST_TIMED],
    /// Not 0 if `failure` is valid.
    failed: AtomicU32,
    /// The packet that describes the failure. It ends in the second page of the mapping, which only an init that fails touches.
    failure: [AtomicU32; FAILURE_WORDS],
}

/// The size of a packet, in words.
const FAILURE_WORDS: usize = 64;

/// How many steps have their time recorded: as many as fit into the first page.
const MOST_TIMED: usize = 1000;

/// The time of day in microseconds, wrapped. A time namespace does not change this clock (time_namespaces(7)).
fn now() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let micros = now.tv_sec.wrapping_mul(1_000_000).wrapping_add(now.tv_nsec / 1000);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // wrapped
    let wrapped = micros as u32;
    wrapped.max(1)
}

impl Page {
    /// A new page of zeros, shared with every process that is forked later (mmap(2), MAP_SHARED).
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> Result<Page, Errno> {
        SharedMemory::new().map(Page)
    }

    /// Processes that this process makes from now on do not get the page (MADV_DONTFORK).
    ///
    /// # Errors
    /// Those of madvise(2).
    pub fn hide_from_children(&self) -> Result<(), Errno> {
        self.0.hide_from_children()
    }

    fn words(&self) -> &PageLayout {
        self.0.get()
    }

    /// Init: "I am about to perform step `n`."
    pub fn at_step(&self, n: u32) {
        let words = self.words();
        words.step.store(n, Ordering::Relaxed);
        if words.timed.load(Ordering::Relaxed) != 0
            && let Some(time) = words.times.get(n as usize)
        {
            time.store(now(), Ordering::Relaxed);
        }
    }

    /// Init: "this has failed". It makes no system call, so no filter can deny it.
    pub fn has_failed(&self, packet: &[u8; FAILURE_WORDS * 4]) {
        let words = self.words();
        for (word, bytes) in words.failure.iter().zip(packet.chunks_exact(4)) {
            word.store(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), Ordering::Relaxed);
        }
        words.failed.store(1, Ordering::Release);
    }

    /// The packet that describes the failure, if there is one.
    pub fn failure(&self) -> Option<[u8; FAILURE_WORDS * 4]> {
        let words = self.words();
        if words.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut packet = [0; FAILURE_WORDS * 4];
        for (bytes, word) in packet.chunks_exact_mut(4).zip(&words.failure) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        Some(packet)
    }

    /// The process of a hook: "call number `call` has failed before the hook began."
    pub fn hook_has_not_begun(&self, call: u16, errno: Errno) {
        let (call, errno) = (u32::from(call), errno.raw_os_error().unsigned_abs());
        self.words().hook.store((call + 1) << 16 | errno & 0xffff, Ordering::Release);
    }

    /// Why the hook has not begun: the call's number and the kernel's error.
    pub fn hook_failure(&self) -> Option<(usize, Errno)> {
        let noted = self.words().hook.load(Ordering::Acquire);
        let call = (noted >> 16).checked_sub(1)? as usize;
        Some((call, from_number((noted & 0xffff).cast_signed())))
    }

    /// From now on, records when each step begins.
    pub fn keep_times(&self) {
        self.words().timed.store(1, Ordering::Relaxed);
    }

    /// The number of each step, and how many microseconds it took. The last step is not included.
    pub fn times(&self) -> Vec<(usize, u32)> {
        let began = self.words().times.iter().map(|time| time.load(Ordering::Relaxed)).enumerate();
        let began: Vec<_> = began.filter(|(_, time)| *time != 0).collect();
        began.windows(2).map(|pair| (pair[0].0, pair[1].1.wrapping_sub(pair[0].1))).collect()
    }

    /// The step init was last about to perform.
    pub fn step(&self) -> u32 {
        self.words().step.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_if_requested() {
        let page = Page::new().unwrap();
        page.at_step(0);
        assert_eq!(page.times(), []);
        page.keep_times();
        page.at_step(3);
        page.at_step(4);
        let beyond = u32::try_from(MOST_TIMED).unwrap();
        page.at_step(beyond);
        assert_eq!(page.step(), beyond);
        let times = page.times();
        assert_eq!(times.len(), 1);
        assert!(times[0].0 == 3 && times[0].1 < 1_000_000, "{times:?}");
        assert!(std::mem::offset_of!(PageLayout, failed) <= 4096);
    }

    #[test]
    fn a_failure_is_read_as_it_was_written() {
        let page = Page::new().unwrap();
        assert_eq!(page.failure(), None);
        let packet: [u8; 256] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        page.has_failed(&packet);
        assert_eq!(page.failure(), Some(packet));
        assert_eq!(page.hook_failure(), None);
        page.hook_has_not_begun(0, Errno::NOENT);
        assert_eq!(page.hook_failure(), Some((0, Errno::NOENT)));
        // a process that traces init writes what it likes
        for word in [1 << 16, u32::MAX] {
            page.words().hook.store(word, Ordering::Relaxed);
            assert_eq!(page.hook_failure().unwrap().1, Errno::IO);
        }
    }

    #[test]
    fn what_was_entered_is_counted() {
        let first_child = FirstChildPage::new().unwrap();
        assert_eq!((first_child.entered(), first_child.pid()), (0, None));
        first_child.has_entered(11);
        assert_eq!(first_child.entered(), 11);
    }
}
