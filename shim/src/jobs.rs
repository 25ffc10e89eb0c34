//! Work that may block runs in a thread, which is made for it. So an idle shim has one thread.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// The main thread's part of a job: it runs with the result, and changes the main thread's state.
pub type Done<State> = Box<dyn FnOnce(&mut State) + Send>;
type Job<State> = Box<dyn FnOnce() -> Done<State> + Send>;

/// The maximum number of threads.
const LIMIT: usize = 16;
/// The maximum number of threads for jobs that wait for a process of a container. The container can stop such a process: the other
/// threads are for what ends the container.
const EXECS: usize = 12;
/// The maximum number of jobs that wait for a thread.
const WAITING: usize = 1024;
/// The stack of a thread. The library parses configs of any depth on it.
const STACK: usize = 1 << 20;

/// The jobs that run, and those that wait for a thread.
pub struct Jobs<State> {
    shared: Arc<Shared<State>>,
    running: usize,
    waiting: VecDeque<Job<State>>,
    /// Each exec that has begun has a reference.
    execs: Arc<()>,
    waiting_execs: VecDeque<Job<State>>,
}

struct Shared<State> {
    done: Mutex<Vec<Done<State>>>,
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
        Ok(Jobs { shared, running: 0, waiting: VecDeque::new(), execs: Arc::new(()), waiting_execs: VecDeque::new() })
    }

    /// Readable when a job has ended.
    pub fn wake(&self) -> &OwnedFd {
        &self.shared.wake
    }

    /// Whether a job is running or waiting.
    pub fn any(&self) -> bool {
        self.running > 0
    }

    /// Whether no request may begin a job: a client sends them faster than they are done.
    pub fn are_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Starts the job, or queues it.
    pub fn begin(&mut self, job: impl FnOnce() -> Done<State> + Send + 'static) {
        self.waiting.push_back(Box::new(job));
        self.go_on();
    }

    /// The same for a job that waits for a process of a container.
    pub fn begin_exec(&mut self, job: impl FnOnce() -> Done<State> + Send + 'static) {
        self.waiting_execs.push_back(Box::new(job));
        self.go_on();
    }

    fn go_on(&mut self) {
        // one reference is our own
        while Arc::strong_count(&self.execs) <= EXECS
            && let Some(job) = self.waiting_execs.pop_front()
        {
            let begun = Arc::clone(&self.execs);
            self.waiting.push_back(Box::new(move || {
                let done = job();
                drop(begun);
                done
            }));
        }
        while self.running < LIMIT
            && let Some(job) = self.waiting.pop_front()
        {
            let shared = Arc::clone(&self.shared);
            // the thread that runs it takes it out
            let job = Arc::new(Mutex::new(Some(job)));
            let theirs = Arc::clone(&job);
            let run = move || shared.run(&theirs);
            self.running += 1;
            if thread::Builder::new().stack_size(STACK).spawn(run).is_ok() {
                continue;
            }
            let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
            if self.running > 1 {
                // no further thread can be made: the end of another one makes room
                self.running -= 1;
                self.waiting.extend(job);
                return;
            }
            self.shared.run(&Mutex::new(job));
        }
    }

    /// The jobs that have ended. Others may start now.
    pub fn ended(&mut self) -> Vec<Done<State>> {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        let done = std::mem::take(&mut *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner));
        self.running -= done.len();
        self.go_on();
        done
    }
}

impl<State> Shared<State> {
    fn run(&self, job: &Mutex<Option<Job<State>>>) {
        let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(job) = job {
            let done = job();
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            // it fails only if the counter is full, and the descriptor is readable then
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A container stops the processes of its execs: its kill and deletion still run.
    #[test]
    fn execs_that_wait_leave_threads_for_other_jobs() {
        let mut jobs: Jobs<()> = Jobs::new().unwrap();
        let mut stopped = Vec::new();
        let (count, counted) = mpsc::channel();
        for _ in 0..2 * LIMIT {
            let (go, wait) = mpsc::channel::<()>();
            let count = count.clone();
            stopped.push(go);
            jobs.begin_exec(move || {
                let _ = wait.recv();
                count.send(()).unwrap();
                Box::new(|_| ())
            });
        }
        let (told, killed) = mpsc::channel();
        jobs.begin(move || {
            told.send(()).unwrap();
            Box::new(|_| ())
        });
        killed.recv_timeout(Duration::from_secs(60)).expect("the kill waits for the execs");
        // those that waited for a thread begin when others have ended
        drop(stopped);
        let mut done = 0;
        while done < 2 * LIMIT + 1 {
            let _ =
                rustix::event::poll(&mut [rustix::event::PollFd::new(jobs.wake(), rustix::event::PollFlags::IN)], None);
            done += jobs.ended().len();
        }
        assert_eq!(counted.try_iter().count(), 2 * LIMIT);
    }
}
