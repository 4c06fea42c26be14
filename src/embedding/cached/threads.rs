//! Threads that write the row file, and read it where io_uring cannot be had.

use super::io::{Fetch, Writing, lock};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

/// Threads where they read: what a disk has to do at one time.
pub(super) const READERS: usize = 16;

enum Job {
    Read(Arc<Fetch>, usize),
    Write(Arc<Writing>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    over: bool,
}

/// The threads.
pub(super) struct Threads {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Threads {
    /// So many.
    pub fn new(count: usize) -> io::Result<Self> {
        let queue = Arc::new((Mutex::default(), Condvar::new()));
        let mut all = Threads { queue, threads: Vec::new() };
        for _ in 0..count {
            let queue = Arc::clone(&all.queue);
            let thread = std::thread::Builder::new().name("rows".into());
            all.threads.push(thread.spawn(move || work(&queue))?);
        }
        Ok(all)
    }

    fn ask(&self, jobs: impl Iterator<Item = Job>) {
        lock(&self.queue.0).jobs.extend(jobs);
        self.queue.1.notify_all();
    }

    /// Begins to read runs `0..runs`.
    pub fn read(&self, fetch: &Arc<Fetch>, runs: usize) {
        self.ask((0..runs).map(|run| Job::Read(Arc::clone(fetch), run)));
    }

    /// Begins to write.
    pub fn write(&self, writing: &Arc<Writing>) {
        self.ask(std::iter::once(Job::Write(Arc::clone(writing))));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.queue.0);
            queue.over = true;
            queue.jobs.clear();
        }
        self.queue.1.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work((queue, ready): &(Mutex<Queue>, Condvar)) {
    loop {
        let waiting = |q: &mut Queue| q.jobs.is_empty() && !q.over;
        let mut queue =
            ready.wait_while(lock(queue), waiting).unwrap_or_else(PoisonError::into_inner);
        let Some(job) = queue.jobs.pop_front() else { return };
        drop(queue);
        match job {
            Job::Read(fetch, run) => fetch.read(run),
            Job::Write(writing) => writing.write(),
        }
    }
}
