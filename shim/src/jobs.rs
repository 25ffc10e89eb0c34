//! Work that may block runs in a thread, which is made for it. So an idle shim has one thread.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// The main thread's part of a job: it runs with the result, and changes the main thread's state.
pub type Done<State> = Box<dyn FnOnce(&mut State) + Send>;
type Job<State> = Box<dyn FnOnce() -> Done<State> + Send>;

/// The maximum number of threads for jobs that no container can block: among them are those that end a container.
const LIMIT: usize = 16;
/// The maximum number of threads for jobs of one container that wait for its processes. The container can stop these.
const OF_ONE: usize = 8;
/// The maximum number of threads for such jobs of all containers.
const OF_ALL: usize = 64;
/// The maximum number of jobs of one container, and of those of no container, that wait for a thread.
const WAITING: usize = 1024;
/// The stack of a thread. The library parses configs of any depth on it.
const STACK: usize = 1 << 20;

/// The jobs that run, and those that wait for a thread.
pub struct Jobs<State> {
    shared: Arc<Shared<State>>,
    /// Those of no container, and those that wait for processes of a container, by its id. One without jobs is not here.
    classes: BTreeMap<Option<String>, Class<State>>,
}

/// Jobs that wait for each other's threads.
struct Class<State> {
    running: usize,
    waiting: VecDeque<Job<State>>,
}

struct Shared<State> {
    done: Mutex<Vec<(Option<String>, Done<State>)>>,
    wake: OwnedFd,
}

impl<State: 'static> Jobs<State> {
    /// An empty list.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> Result<Jobs<State>, Errno> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { done: Mutex::new(Vec::new()), wake });
        Ok(Jobs { shared, classes: BTreeMap::new() })
    }

    /// Readable when a job has ended.
    pub fn wake(&self) -> &OwnedFd {
        &self.shared.wake
    }

    /// Whether a job is running or waiting.
    pub fn any(&self) -> bool {
        !self.classes.is_empty()
    }

    /// Whether a job has ended whose result is not taken.
    pub fn have_results(&self) -> bool {
        !self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether a request that needs a job must be refused: a client sends them faster than they are done. The jobs that wait for the
    /// processes of one container do not count for others: its kill and deletion, and those of the pod, must begin.
    pub fn are_full(&self) -> bool {
        self.is_full(&None)
    }

    /// The same for a job that waits for a process of this container.
    pub fn are_full_of(&self, container: &str) -> bool {
        self.is_full(&Some(container.to_owned()))
    }

    fn is_full(&self, of: &Option<String>) -> bool {
        self.classes.get(of).is_some_and(|class| class.waiting.len() >= WAITING)
    }

    /// Starts the job, or queues it. No process of a container can block it for ever.
    pub fn begin(&mut self, job: impl FnOnce() -> Done<State> + Send + 'static) {
        self.add(None, Box::new(job));
    }

    /// The same for a job that waits for a process of this container.
    pub fn begin_of(&mut self, container: &str, job: impl FnOnce() -> Done<State> + Send + 'static) {
        self.add(Some(container.to_owned()), Box::new(job));
    }

    fn add(&mut self, of: Option<String>, job: Job<State>) {
        let class = self.classes.entry(of).or_insert_with(|| Class { running: 0, waiting: VecDeque::new() });
        class.waiting.push_back(job);
        self.go_on();
    }

    fn go_on(&mut self) {
        let mut of_all: usize =
            self.classes.iter().filter(|(of, _)| of.is_some()).map(|(_, class)| class.running).sum();
        let mut running: usize = self.classes.values().map(|class| class.running).sum();
        for (of, class) in &mut self.classes {
            let limit = if of.is_some() { OF_ONE } else { LIMIT };
            while class.running < limit
                && (of.is_none() || of_all < OF_ALL)
                && let Some(job) = class.waiting.pop_front()
            {
                class.running += 1;
                of_all += usize::from(of.is_some());
                let Some(job) = self.shared.spawn(of.as_ref(), job) else {
                    running += 1;
                    continue;
                };
                if running > 0 {
                    // no further thread can be made: the end of another one makes room
                    class.running -= 1;
                    class.waiting.push_front(job);
                    return;
                }
                running += 1;
                self.shared.run(of.as_ref(), job);
            }
        }
    }

    /// The jobs that have ended. Others may start now.
    pub fn ended(&mut self) -> Vec<Done<State>> {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        let done = std::mem::take(&mut *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner));
        let done = done.into_iter().map(|(of, done)| {
            if let Some(class) = self.classes.get_mut(&of) {
                class.running -= 1;
                if class.running == 0 && class.waiting.is_empty() {
                    self.classes.remove(&of);
                }
            }
            done
        });
        let done = done.collect();
        self.go_on();
        done
    }
}

impl<State: 'static> Shared<State> {
    /// Runs the job in a new thread. Returns it if none can be made.
    fn spawn(self: &Arc<Self>, of: Option<&String>, job: Job<State>) -> Option<Job<State>> {
        // the thread that runs it takes it out
        let job = Arc::new(Mutex::new(Some(job)));
        let (shared, theirs, of) = (Arc::clone(self), Arc::clone(&job), of.cloned());
        let run = move || {
            let job = theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(job) = job {
                shared.run(of.as_ref(), job);
            }
        };
        if thread::Builder::new().stack_size(STACK).spawn(run).is_ok() {
            return None;
        }
        job.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn run(&self, of: Option<&String>, job: Job<State>) {
        let done = job();
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push((of.cloned(), done));
        // it fails only if the counter is full, and the descriptor is readable then
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A job that ends when its sender is dropped.
    fn blocked(ends: &mut Vec<mpsc::Sender<()>>) -> impl FnOnce() -> Done<()> + Send + 'static {
        let (end, ended) = mpsc::channel::<()>();
        ends.push(end);
        move || {
            let _ = ended.recv();
            Box::new(|()| ())
        }
    }

    #[test]
    fn a_container_whose_queue_is_full_fills_no_other_queue() {
        let mut jobs: Jobs<()> = Jobs::new().unwrap();
        let mut ends = Vec::new();
        while !jobs.are_full_of("c1") {
            jobs.begin_of("c1", blocked(&mut ends));
        }
        assert_eq!(ends.len(), OF_ONE + WAITING);
        assert!(!jobs.are_full() && !jobs.are_full_of("c2"), "the end of c1 and its neighbours are refused");
        // what the container cannot block is bounded as well
        while !jobs.are_full() {
            jobs.begin(blocked(&mut ends));
        }
        assert_eq!(ends.len(), OF_ONE + WAITING + LIMIT + WAITING);
        assert!(!jobs.are_full_of("c2"));
        drop(ends);
        while jobs.any() {
            let _ =
                rustix::event::poll(&mut [rustix::event::PollFd::new(jobs.wake(), rustix::event::PollFlags::IN)], None);
            jobs.ended();
        }
    }

    /// A container stops the processes of its execs: its kill and deletion still run.
    #[test]
    fn jobs_of_a_container_leave_threads_for_its_end_and_for_other_containers() {
        let mut jobs: Jobs<()> = Jobs::new().unwrap();
        let mut stopped = Vec::new();
        let (count, counted) = mpsc::channel();
        for _ in 0..2 * LIMIT {
            let (go, wait) = mpsc::channel::<()>();
            let count = count.clone();
            stopped.push(go);
            jobs.begin_of("c1", move || {
                let _ = wait.recv();
                count.send(()).unwrap();
                Box::new(|_| ())
            });
        }
        let (sender, killed) = mpsc::channel();
        let others = sender.clone();
        let job = |sender: mpsc::Sender<()>| {
            move || -> Done<()> {
                sender.send(()).unwrap();
                Box::new(|()| ())
            }
        };
        jobs.begin(job(sender));
        jobs.begin_of("c2", job(others));
        for what in ["one", "both"] {
            killed.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what} waits for the execs"));
        }
        // those that waited for a thread begin when others have ended
        drop(stopped);
        let mut done = 0;
        while done < 2 * LIMIT + 2 {
            let _ =
                rustix::event::poll(&mut [rustix::event::PollFd::new(jobs.wake(), rustix::event::PollFlags::IN)], None);
            done += jobs.ended().len();
        }
        assert_eq!(counted.try_iter().count(), 2 * LIMIT);
        assert!(!jobs.any());
    }
}
