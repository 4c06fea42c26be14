//! Threads that read and write the row file, so that a step does not wait for a disk.

use crate::host::positioned::{read_at, write_at};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// Reads that a disk has to do at one time.
const THREADS: usize = 16;
/// Records that a thread reads one after another.
const RUN: usize = 16;

/// Takes a lock, whoever panicked with it.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that threads work on, and that somebody waits for.
#[derive(Debug, Default)]
struct Left {
    count: Mutex<usize>,
    none: Condvar,
}

impl Left {
    fn new(count: usize) -> Self {
        Left { count: Mutex::new(count), none: Condvar::new() }
    }

    fn done(&self) {
        let mut count = lock(&self.count);
        *count -= 1;
        if *count == 0 {
            self.none.notify_all();
        }
    }

    fn is_done(&self) -> bool {
        *lock(&self.count) == 0
    }

    fn wait(&self) {
        let count = lock(&self.count);
        drop(self.none.wait_while(count, |n| *n > 0).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Some of the records of a [`Fetch`].
#[derive(Debug)]
struct Run {
    /// Where they begin in the file; `None` = what is there already.
    offsets: Vec<Option<u64>>,
    bytes: Vec<u8>,
    result: io::Result<()>,
}

/// Records that are being read.
#[derive(Debug)]
pub(super) struct Fetch {
    runs: Vec<Mutex<Run>>,
    left: Left,
    record: usize,
}

impl Fetch {
    /// Waits until all are there.
    pub fn wait(&self) {
        self.left.wait();
    }

    /// Copies record number `n` out, once it has been waited for.
    pub fn copy(&self, n: usize, out: &mut [u8]) -> io::Result<()> {
        let mut run = lock(&self.runs[n / RUN]);
        std::mem::replace(&mut run.result, Ok(()))?;
        out.copy_from_slice(&run.bytes[n % RUN * self.record..][..self.record]);
        Ok(())
    }

    fn read(&self, run: usize, file: &File) {
        let mut run = lock(&self.runs[run]);
        let Run { offsets, bytes, result } = &mut *run;
        for (&offset, out) in offsets.iter().zip(bytes.chunks_exact_mut(self.record)) {
            let Some(at) = offset else { continue };
            if let Err(e) = read_at(file, out, at) {
                *result = Err(e);
                break;
            }
        }
        self.left.done();
    }
}

/// Bytes on their way to the file.
#[derive(Debug)]
pub(super) struct Writing {
    /// Where they go.
    pub offset: u64,
    pub bytes: Vec<u8>,
    left: Left,
    result: Mutex<io::Result<()>>,
}

impl Writing {
    /// Whether they are there, or cannot be written.
    pub fn is_done(&self) -> bool {
        self.left.is_done()
    }

    /// Waits until they are there.
    pub fn wait(&self) -> io::Result<()> {
        self.left.wait();
        std::mem::replace(&mut lock(&self.result), Ok(()))
    }

    fn write(&self, file: &File) {
        *lock(&self.result) = write_at(file, &self.bytes, self.offset);
        self.left.done();
    }
}

enum Job {
    Read(Arc<Fetch>, usize),
    Write(Arc<Writing>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    over: bool,
}

/// The file and its threads.
pub(super) struct Threads {
    pub file: Arc<File>,
    queue: Arc<(Mutex<Queue>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Threads {
    pub fn new(file: File) -> io::Result<Self> {
        let (file, queue) = (Arc::new(file), Arc::new((Mutex::default(), Condvar::new())));
        let mut all = Threads { file, queue, threads: Vec::new() };
        for _ in 0..THREADS {
            let (file, queue) = (Arc::clone(&all.file), Arc::clone(&all.queue));
            let thread = std::thread::Builder::new().name("rows".into());
            all.threads.push(thread.spawn(move || work(&file, &queue))?);
        }
        Ok(all)
    }

    fn ask(&self, jobs: impl Iterator<Item = Job>) {
        lock(&self.queue.0).jobs.extend(jobs);
        self.queue.1.notify_all();
    }

    /// Begins to read records of `record` bytes: each from its place, or it is there already.
    pub fn fetch(&self, record: usize, records: &[Result<u64, &[u8]>]) -> Arc<Fetch> {
        let run = |records: &[Result<u64, &[u8]>]| {
            let mut bytes = vec![0; records.len() * record];
            for (out, from) in bytes.chunks_exact_mut(record).zip(records) {
                if let Err(there) = from {
                    out.copy_from_slice(there);
                }
            }
            let offsets = records.iter().map(|from| from.ok()).collect();
            Mutex::new(Run { offsets, bytes, result: Ok(()) })
        };
        let runs: Vec<Mutex<Run>> = records.chunks(RUN).map(run).collect();
        let fetch = Arc::new(Fetch { left: Left::new(runs.len()), runs, record });
        self.ask((0..fetch.runs.len()).map(|run| Job::Read(Arc::clone(&fetch), run)));
        fetch
    }

    /// Begins to write.
    pub fn write(&self, offset: u64, bytes: Vec<u8>) -> Arc<Writing> {
        let (left, result) = (Left::new(1), Mutex::new(Ok(())));
        let writing = Arc::new(Writing { offset, bytes, left, result });
        self.ask(std::iter::once(Job::Write(Arc::clone(&writing))));
        writing
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

fn work(file: &File, (queue, ready): &(Mutex<Queue>, Condvar)) {
    loop {
        let waiting = |q: &mut Queue| q.jobs.is_empty() && !q.over;
        let mut queue =
            ready.wait_while(lock(queue), waiting).unwrap_or_else(PoisonError::into_inner);
        let Some(job) = queue.jobs.pop_front() else { return };
        drop(queue);
        match job {
            Job::Read(fetch, run) => fetch.read(run, file),
            Job::Write(writing) => writing.write(file),
        }
    }
}
