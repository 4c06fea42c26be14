//! Reads and writes of the row file beside training, so that a step does not wait for a disk: reads
//! by io_uring, which takes the least of the processor, or by threads; writes by threads.

use super::{
    reads::{ReadBy, Reads},
    ring::Ring,
    threads::{READERS, Threads},
};
use crate::host::positioned::{read_at, write_at};
use std::{
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Records that a thread reads one after another.
const RUN: usize = 16;
/// Threads that write, where they have nothing to read.
const WRITERS: usize = 2;

/// Takes a lock, whoever panicked with it.
pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
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

/// A place of a file.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub file: Arc<File>,
    pub offset: u64,
}

/// Some of the records of a [`Fetch`].
#[derive(Debug)]
struct Run {
    /// Where they begin; `None` = what is there already.
    from: Vec<Option<At>>,
    bytes: Vec<u8>,
    result: io::Result<()>,
}

/// Records that are being read.
#[derive(Debug)]
pub(super) struct Fetch {
    runs: Vec<Mutex<Run>>,
    per_run: usize,
    left: Left,
    /// Bytes of one.
    pub record: usize,
}

impl Fetch {
    /// Records of `record` bytes: each from its place, or it is there already. Who reads has up to
    /// `per_run` of them to himself.
    fn new(record: usize, records: &[Result<At, &[u8]>], per_run: usize) -> Self {
        let run = |records: &[Result<At, &[u8]>]| {
            let mut bytes = vec![0; records.len() * record];
            for (out, from) in bytes.chunks_exact_mut(record).zip(records) {
                if let Err(there) = from {
                    out.copy_from_slice(there);
                }
            }
            let from = records.iter().map(|from| from.as_ref().ok().cloned()).collect();
            Mutex::new(Run { from, bytes, result: Ok(()) })
        };
        let per_run = per_run.max(1);
        let runs: Vec<Mutex<Run>> = records.chunks(per_run).map(run).collect();
        Fetch { left: Left::new(runs.len()), runs, per_run, record }
    }

    /// Waits until all are there.
    pub fn wait(&self) {
        self.left.wait();
    }

    /// Copies record number `n` out, once it has been waited for.
    pub fn copy(&self, n: usize, out: &mut [u8]) -> io::Result<()> {
        let mut run = lock(&self.runs[n / self.per_run]);
        std::mem::replace(&mut run.result, Ok(()))?;
        let from = run.bytes.get(n % self.per_run * self.record..).unwrap_or_default();
        out.copy_from_slice(from.get(..self.record).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Reads the records of a run, one after another.
    pub fn read(&self, run: usize) {
        let (from, mut bytes) = self.lend(run);
        let records = from.iter().zip(bytes.chunks_exact_mut(self.record));
        let mut there = records.filter_map(|(at, out)| Some((at.as_ref()?, out)));
        let result = there.try_for_each(|(at, out)| read_at(&at.file, out, at.offset));
        self.give_back(run, bytes, result);
    }

    /// Hands a run out, to be read: where its records begin, and their bytes.
    pub fn lend(&self, run: usize) -> (Vec<Option<At>>, Vec<u8>) {
        let mut run = lock(&self.runs[run]);
        (std::mem::take(&mut run.from), std::mem::take(&mut run.bytes))
    }

    /// Takes the bytes of a run that was handed out.
    pub fn give_back(&self, run: usize, bytes: Vec<u8>, result: io::Result<()>) {
        {
            let mut run = lock(&self.runs[run]);
            (run.bytes, run.result) = (bytes, result);
        }
        self.left.done();
    }
}

/// Bytes on their way to a file.
#[derive(Debug)]
pub(super) struct Writing {
    /// Where they go.
    pub to: At,
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

    /// Writes them.
    pub fn write(&self) {
        *lock(&self.result) = write_at(&self.to.file, &self.bytes, self.to.offset);
        self.left.done();
    }
}

/// Who reads and writes.
#[derive(Debug)]
pub(super) struct Io {
    threads: Threads,
    ring: Option<Ring>,
    /// Who reads.
    pub by: ReadBy,
}

impl Io {
    /// io_uring reads, if `reads` and the system let it.
    pub fn new(reads: Reads) -> io::Result<Self> {
        let (ring, by) = match reads {
            Reads::Threads => (None, ReadBy::Threads),
            Reads::Ring => match Ring::new() {
                Ok(ring) => (Some(ring), ReadBy::Ring),
                Err(e) => (None, ReadBy::without(&e)),
            },
        };
        let threads = Threads::new(if ring.is_some() { WRITERS } else { READERS })?;
        Ok(Io { threads, ring, by })
    }

    /// Begins to read records of `record` bytes: each from its place, or it is there already.
    pub fn fetch(&self, record: usize, records: &[Result<At, &[u8]>]) -> Arc<Fetch> {
        let per_run = if self.ring.is_some() { records.len() } else { RUN };
        let fetch = Arc::new(Fetch::new(record, records, per_run));
        match &self.ring {
            Some(ring) if !records.is_empty() => ring.read(Arc::clone(&fetch)),
            _ => self.threads.read(&fetch, fetch.runs.len()),
        }
        fetch
    }

    /// Begins to write.
    pub fn write(&self, to: At, bytes: Vec<u8>) -> Arc<Writing> {
        let (left, result) = (Left::new(1), Mutex::new(Ok(())));
        let writing = Arc::new(Writing { to, bytes, left, result });
        self.threads.write(&writing);
        writing
    }
}
