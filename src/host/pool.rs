//! Fork and join without allocation: one parallel region at a time, work handed out in chunks.
//!
//! Kernels cut their work into chunks whose borders depend on shapes alone, never on the number of
//! threads; each chunk writes its own output. Who runs a chunk then does not matter, which is what
//! makes results bitwise equal for any thread count.

use super::affinity;
use region::Region;
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

mod region;

/// A fixed set of threads; the calling thread is one of them.
pub struct Pool {
    region: Arc<Region>,
    workers: Vec<JoinHandle<()>>,
    /// Workers that are woken for a region: no more threads work than there are processors for. The
    /// others would only take turns with them, and hold chunks while they have no turn.
    useful: usize,
    /// Guards against nested or concurrent regions.
    busy: AtomicBool,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads (at least 1), the caller included. Those beyond the processors
    /// that the process may use at once sleep.
    pub fn new(threads: usize) -> Self {
        Pool::with_pinning(threads, false)
    }

    /// The same; with `pin`, thread `i` keeps to the `i`-th core that the process may use. The
    /// caller stays free, because threads that it starts later would inherit its core.
    pub fn with_pinning(threads: usize, pin: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        // One worker at least, so that tests meet two threads everywhere.
        Pool::of(threads, pin, (processors - 1).max(1))
    }

    fn of(threads: usize, pin: bool, useful: usize) -> Self {
        let threads = threads.max(1);
        let region = Arc::new(Region::new(threads - 1));
        // Nobody waits for a worker that is late for a region. But what starting a thread takes is
        // over when the pool is there, so that regions allocate nothing.
        let all_started = Arc::new(Barrier::new(threads));
        let workers = (1..threads)
            .map(|id| {
                let (region, all_started) = (Arc::clone(&region), Arc::clone(&all_started));
                std::thread::Builder::new()
                    .name(format!("kernel-{id}"))
                    .spawn(move || {
                        if pin {
                            affinity::pin(id);
                        }
                        all_started.wait();
                        drop(all_started);
                        region.work(id - 1);
                    })
                    .expect("the operating system gives a thread")
            })
            .collect();
        all_started.wait();
        Pool { region, workers, useful, busy: AtomicBool::new(false) }
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(chunk, thread)` once for every `chunk` in `0..chunks`, `thread < self.threads()`
    /// (for scratch space: no two calls run at once with the same `thread`), and returns when all
    /// are done. Allocates nothing.
    ///
    /// # Panics
    /// If called from inside a region of the same pool, or with what `f` panicked with first. Chunks
    /// that nobody has begun by then are left out.
    pub fn run(&self, chunks: usize, f: impl Fn(usize, usize) + Sync) {
        if chunks == 0 {
            return;
        }
        if self.workers.is_empty() || chunks == 1 {
            (0..chunks).for_each(|c| f(c, 0));
            return;
        }
        assert!(!self.busy.swap(true, Ordering::Acquire), "a pool runs one region at a time");
        let done = self.region.run(chunks, self.useful.min(chunks - 1), &f);
        self.busy.store(false, Ordering::Release);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    }

    /// Calls `f(chunk, thread, part)` once for every part of `slice`, cut into chunks of `len`
    /// elements (the last may be shorter). The safe form of [`Pool::run`] with [`SharedMut`] where
    /// each chunk writes one contiguous part.
    ///
    /// # Panics
    /// If `len` is 0, and as [`Pool::run`].
    pub fn for_each_chunk<T: Send>(
        &self,
        slice: &mut [T],
        len: usize,
        f: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        let total = slice.len();
        let shared = SharedMut::new(slice);
        self.run(total.div_ceil(len), |chunk, thread| {
            let at = chunk * len;
            // SAFETY: chunks are disjoint, each is visited once, and `slice` is borrowed until
            // `run` returns.
            f(chunk, thread, unsafe { shared.slice(at, len.min(total - at)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.region.quit();
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

/// A raw pointer that chunks of a region share; each chunk must keep to its own part.
#[derive(Debug, Clone, Copy)]
pub struct SharedMut<T>(*mut T, usize);

// SAFETY: only `slice` hands out references, and its contract asks for disjoint ranges.
unsafe impl<T: Send> Sync for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// Shares a slice among the chunks of a region.
    pub fn new(slice: &mut [T]) -> Self {
        SharedMut(slice.as_mut_ptr(), slice.len())
    }

    /// The part `at..at + len`.
    ///
    /// # Safety
    /// No two live references may overlap, and the slice given to [`SharedMut::new`] must outlive
    /// the result.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at + len <= self.1, "range {at}+{len} of a slice of {}", self.1);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }

    /// What lies from `at` on.
    pub fn tail(&self, at: usize) -> Self {
        assert!(at <= self.1, "tail at {at} of a slice of {}", self.1);
        SharedMut(self.0.wrapping_add(at), self.1 - at)
    }

    /// Pointer to the first element.
    pub fn as_ptr(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests;
