//! Fork and join without allocation: one parallel region at a time, work handed out in chunks.
//!
//! Kernels cut their work into chunks whose borders depend on shapes alone, never on the number of
//! threads; each chunk writes its own output. Who runs a chunk then does not matter, which is what
//! makes results bitwise equal for any thread count.

use super::affinity;
use std::{
    cell::UnsafeCell,
    sync::{
        Arc, Barrier, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// Spins of a waiting thread before it sleeps. A region follows the last one within microseconds
/// during a step.
const SPINS: u32 = 20_000;
/// The same where there are more threads than processors: who spins keeps another from working.
const CROWDED_SPINS: u32 = 100;
/// In [`Shared::gate`]: workers may enter the region.
const OPEN: u64 = 1 << 16;
/// In [`Shared::gate`]: workers inside.
const INSIDE: u64 = OPEN - 1;
/// In [`Shared::gate`]: one region.
const REGION: u64 = OPEN << 1;

type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// The region's closure; written by the caller only while no worker runs.
    job: UnsafeCell<Option<Job<'static>>>,
    chunks: AtomicUsize,
    next: AtomicUsize,
    /// Number of the current region, for whose change workers wait; whether it is [`OPEN`]; how
    /// many workers are inside. A worker enters by counting itself in while the region is open, and
    /// the caller closes it when no chunk is left: only who is inside is waited for, not a worker
    /// that the system has yet to schedule.
    gate: AtomicU64,
    spins: u32,
    panicked: AtomicBool,
    quit: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the thread that holds `&mut`-like ownership of the region (see
// `Pool::run`), while the gate is closed and nobody inside, and read by workers only while they
// are counted in, which an open gate alone allows.
unsafe impl Sync for Shared {}

/// A fixed set of threads; the calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Workers that are of use at once: one processor is the caller's.
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
    /// A pool of `threads` threads (at least 1), the caller included.
    pub fn new(threads: usize) -> Self {
        Pool::with_pinning(threads, false)
    }

    /// The same; with `pin`, thread `i` keeps to the `i`-th core that the process may use. The
    /// caller stays free, because threads that it starts later would inherit its core.
    pub fn with_pinning(threads: usize, pin: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let crowded = threads > processors;
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            chunks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            gate: AtomicU64::new(0),
            spins: if crowded { CROWDED_SPINS } else { SPINS },
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        // Nobody waits for a worker that is late for a region. But what starting a thread takes is
        // over when the pool is there, so that regions allocate nothing.
        let all_started = Arc::new(Barrier::new(threads.max(1)));
        let workers = (1..threads.max(1))
            .map(|id| {
                let (shared, all_started) = (Arc::clone(&shared), Arc::clone(&all_started));
                std::thread::Builder::new()
                    .name(format!("kernel-{id}"))
                    .spawn(move || {
                        if pin {
                            affinity::pin(id);
                        }
                        all_started.wait();
                        drop(all_started);
                        worker(&shared, id);
                    })
                    .expect("the operating system gives a thread")
            })
            .collect();
        all_started.wait();
        let useful = if crowded { (processors - 1).max(1) } else { threads };
        Pool { shared, workers, useful, busy: AtomicBool::new(false) }
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
    /// If called from inside a region of the same pool, or if `f` panics.
    pub fn run(&self, chunks: usize, f: impl Fn(usize, usize) + Sync) {
        if chunks == 0 {
            return;
        }
        if self.workers.is_empty() || chunks == 1 {
            (0..chunks).for_each(|c| f(c, 0));
            return;
        }
        assert!(!self.busy.swap(true, Ordering::Acquire), "a pool runs one region at a time");
        let s = &*self.shared;
        let job: Job<'_> = &f;
        // SAFETY: the lifetime is erased only for the time of this call: it returns (or unwinds)
        // after the gate is closed and nobody inside, when no worker can touch the closure.
        unsafe { *s.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        s.chunks.store(chunks, Ordering::Relaxed);
        s.next.store(0, Ordering::Relaxed);
        {
            let _guard = s.lock.lock().unwrap_or_else(|e| e.into_inner());
            // Closed and empty since the last region ended, so nobody else changes it.
            let region = s.gate.load(Ordering::Relaxed) & !(OPEN | INSIDE);
            s.gate.store(region.wrapping_add(REGION) | OPEN, Ordering::Release);
        }
        match self.useful.min(chunks - 1) {
            n if n >= self.workers.len() => s.wake.notify_all(),
            n => (0..n).for_each(|_| s.wake.notify_one()),
        }
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drain(s, job, 0)));
        let mut spins = 0u32;
        s.gate.fetch_and(!OPEN, Ordering::Relaxed);
        while s.gate.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < s.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.busy.store(false, Ordering::Release);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!s.panicked.swap(false, Ordering::Relaxed), "a kernel thread panicked");
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

fn drain(s: &Shared, job: Job<'_>, thread: usize) {
    let chunks = s.chunks.load(Ordering::Relaxed);
    loop {
        let c = s.next.fetch_add(1, Ordering::Relaxed);
        if c >= chunks {
            return;
        }
        job(c, thread);
    }
}

fn worker(s: &Shared, id: usize) {
    let mut seen = 0;
    let region = |s: &Shared| s.gate.load(Ordering::Acquire) / REGION;
    loop {
        let mut spins = 0u32;
        while region(s) == seen {
            if s.quit.load(Ordering::Relaxed) {
                return;
            }
            spins += 1;
            if spins < s.spins {
                std::hint::spin_loop();
                continue;
            }
            let mut guard = s.lock.lock().unwrap_or_else(|e| e.into_inner());
            while region(s) == seen && !s.quit.load(Ordering::Relaxed) {
                guard = s.wake.wait(guard).unwrap_or_else(|e| e.into_inner());
            }
        }
        match enter(s) {
            Ok(entered) => seen = entered,
            // Done without this thread.
            Err(closed) => {
                seen = closed;
                continue;
            }
        }
        // SAFETY: the caller wrote `job` before it opened the gate, and waits for this worker to
        // count itself out before it touches it again.
        if let Some(job) = unsafe { *s.job.get() }
            && std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drain(s, job, id))).is_err()
        {
            s.panicked.store(true, Ordering::Relaxed);
        }
        s.gate.fetch_sub(1, Ordering::Release);
    }
}

/// Counts a worker in and gives the region's number; that of the closed region as an error.
fn enter(s: &Shared) -> Result<u64, u64> {
    let open = |gate: u64| (gate & OPEN != 0).then_some(gate + 1);
    let gate = s.gate.fetch_update(Ordering::Acquire, Ordering::Acquire, open);
    gate.map(|before| before / REGION).map_err(|closed| closed / REGION)
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _guard = self.shared.lock.lock().unwrap_or_else(|e| e.into_inner());
            self.shared.quit.store(true, Ordering::Relaxed);
        }
        self.shared.wake.notify_all();
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
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for chunks in [0, 1, 2, 7, 1000] {
                for _ in 0..20 {
                    let mut hits = vec![0u8; chunks];
                    let shared = SharedMut::new(&mut hits);
                    pool.run(chunks, |c, t| {
                        assert!(t < threads);
                        // SAFETY: each chunk writes its own element.
                        unsafe { shared.slice(c, 1)[0] += 1 }
                    });
                    assert!(hits.iter().all(|&h| h == 1));
                }
            }
        }
    }

    /// Threads that the system does not schedule are not waited for; regions that follow each other
    /// at once still do all their chunks, once.
    #[test]
    fn many_more_threads_than_processors_do_every_chunk_once() {
        let pool = Pool::new(48);
        let mut sums = vec![0u32; 64];
        for _ in 0..500 {
            pool.for_each_chunk(&mut sums, 1, |_, _, part| part[0] += 1);
        }
        assert!(sums.iter().all(|&n| n == 500));
    }

    #[test]
    fn chunks_of_a_slice_cover_it_once() {
        for (n, len) in [(0, 3), (1, 3), (9, 3), (10, 3), (1000, 7)] {
            let mut x = vec![0usize; n];
            Pool::new(2).for_each_chunk(&mut x, len, |c, _, part| {
                part.iter_mut().enumerate().for_each(|(i, v)| *v += c * len + i + 1)
            });
            assert!(x.iter().enumerate().all(|(i, &v)| v == i + 1));
        }
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(100, |c, _| assert!(c != 50, "chunk 50"));
        }));
        assert!(r.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |c, _| {
            sum.fetch_add(c, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
