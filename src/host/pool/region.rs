//! One parallel region after another: who does which chunk, when a region is over, who sleeps.
//!
//! A region is over when all its chunks are *done*, whoever did them. A worker that wakes late, or
//! that the system has not scheduled, is not waited for: it finds no chunk and goes back to sleep.
//!
//! # Why a late worker cannot do harm
//!
//! [`Region::left`] counts the chunks that nobody has claimed, [`Region::undone`] those that are
//! not done. A worker touches the closure after it has claimed a chunk, and only then.
//!
//! - *A claim is one atomic step*, from `left` to `left - 1`, and never from 0. Whatever a thread
//!   believed before, a claim that succeeds takes a chunk of the region that is under way at that
//!   moment: there is always at most one, and `left` is 0 between two. So the old trap (a thread
//!   looks, sleeps while regions come and go, and then acts on what it saw: ABA) is harmless: the
//!   same number again means that as many chunks of the *present* region are left, and everything
//!   else about the region is read after the claim.
//! - *What is read after the claim is the present region's.* The caller writes `job` and `chunks`,
//!   then stores `left` with release; a claim is an acquire of that store, or of a claim that
//!   follows it in its release sequence. The next region's caller writes them only after `undone`
//!   was 0, which it cannot be while a claimed chunk is not done.
//! - *Nothing is written while it is read.* Counting a chunk done is a release, and the caller's
//!   look at `undone` an acquire of all of them (they are one release sequence): each worker's last
//!   use of the closure, and all that chunks wrote, come before [`Region::run`] returns.
//!
//! # Why nobody sleeps for ever
//!
//! Who sleeps says so first and then looks once more; who has news writes it first and then looks
//! for sleepers. All four accesses are sequentially consistent, so one of the two sees the other.

use std::{
    any::Any,
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// A chunk's number and the thread's.
pub(super) type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What tests hold a worker up with; told the worker's thread.
#[cfg(test)]
type Hook = std::sync::Arc<dyn Fn(usize) + Send + Sync>;

/// How long a thread looks for news before it sleeps. During a step regions follow each other
/// within microseconds, and the last chunks of one end as soon after each other; to sleep and to be
/// woken takes ten or more. Who shares its core keeps the other from working meanwhile, perhaps the
/// very thread that it waits for.
const PATIENCE: Duration = Duration::from_micros(50);
/// Looks between two at the clock.
const LOOKS: u32 = 32;

/// On cache lines of its own: one thread's counting does not disturb another's looking.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone<T>(T);

/// What the caller and the workers share.
pub(super) struct Region {
    /// The closure; written by the caller alone, while no chunk is claimed.
    job: UnsafeCell<Option<Job<'static>>>,
    /// Of the region.
    chunks: AtomicUsize,
    /// Chunks that nobody has claimed.
    left: Alone<AtomicUsize>,
    /// Chunks that are not done.
    undone: Alone<AtomicUsize>,
    /// One a worker, in order.
    beds: Box<[Bed]>,
    /// The caller's.
    caller: Bed,
    /// What the first chunk that panicked has left.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    panicked: AtomicBool,
    quit: AtomicBool,
    /// Called by a worker between its look at what is left and its claim.
    #[cfg(test)]
    pub(super) before_claim: Mutex<Option<Hook>>,
}

// SAFETY: `job` is written by the caller alone while no chunk is claimed, and read by who has
// claimed one that is not yet done; see above.
unsafe impl Sync for Region {}

/// Where one thread sleeps.
#[derive(Debug, Default)]
struct Bed {
    asleep: Alone<AtomicBool>,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bed {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is `news`: looks for a while, then sleeps.
    fn wait(&self, news: impl Fn(Ordering) -> bool) {
        if news(Ordering::Acquire) {
            return;
        }
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            for _ in 0..LOOKS {
                if news(Ordering::Acquire) {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        let mut guard = self.lock();
        loop {
            self.asleep.0.store(true, Ordering::SeqCst);
            if news(Ordering::SeqCst) {
                break;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.0.store(false, Ordering::Relaxed);
    }

    /// Wakes who sleeps here, after news were written; once, should it take its time to get up.
    /// Costs a look where nobody sleeps.
    fn wake(&self) {
        if self.asleep.0.load(Ordering::SeqCst) && self.asleep.0.swap(false, Ordering::SeqCst) {
            // Who lay down holds the lock until it really waits.
            drop(self.lock());
            self.wake.notify_one();
        }
    }
}

impl Region {
    /// For a caller and so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Region {
            job: UnsafeCell::new(None),
            chunks: AtomicUsize::new(0),
            left: Alone::default(),
            undone: Alone::default(),
            beds: (0..workers).map(|_| Bed::default()).collect(),
            caller: Bed::default(),
            panic: Mutex::new(None),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            #[cfg(test)]
            before_claim: Mutex::new(None),
        }
    }

    /// Does `chunks` chunks together with the first `helpers` workers (any other that is awake may
    /// join), and returns when all are done; with what the first panic left, as an error. Only
    /// one thread may be in here at a time.
    pub(super) fn run(
        &self,
        chunks: usize,
        helpers: usize,
        job: Job<'_>,
    ) -> Result<(), Box<dyn Any + Send>> {
        // SAFETY: the lifetime is erased only for the time of this call, which does not unwind: it
        // returns when all chunks are done, and the closure is used only for a claimed one. No
        // chunk of the last region is claimed and not done, so nobody reads `job` now.
        unsafe { *self.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        self.chunks.store(chunks, Ordering::Relaxed);
        self.undone.0.store(chunks, Ordering::Relaxed);
        // A release of the three above, and news for sleepers.
        self.left.0.store(chunks, Ordering::SeqCst);
        self.beds[..helpers.min(self.beds.len())].iter().for_each(Bed::wake);
        self.drain(0);
        self.caller.wait(|order| self.undone.0.load(order) == 0);
        // SAFETY: as above.
        unsafe { *self.job.get() = None };
        if !self.panicked.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(panic.unwrap_or_else(|| Box::new("a chunk panicked")))
    }

    /// Works until [`Region::quit`].
    pub(super) fn work(&self, worker: usize) {
        let news = |order| self.left.0.load(order) != 0 || self.quit.load(order);
        loop {
            self.beds[worker].wait(news);
            if self.quit.load(Ordering::Acquire) {
                return;
            }
            self.drain(worker + 1);
        }
    }

    /// Ends all workers; no region may be under way.
    pub(super) fn quit(&self) {
        self.quit.store(true, Ordering::SeqCst);
        self.beds.iter().for_each(Bed::wake);
    }

    /// Does chunks while there are any.
    fn drain(&self, thread: usize) {
        while let Some(chunk) = self.claim(thread) {
            // SAFETY: the caller wrote `job` before the claim could succeed, and does not touch it
            // before this chunk is done.
            let job = unsafe { *self.job.get() };
            let done = catch_unwind(AssertUnwindSafe(|| {
                if let Some(job) = job {
                    job(chunk, thread);
                }
            }));
            let chunks = match done {
                Ok(()) => 1,
                Err(panic) => {
                    self.keep(panic);
                    self.panicked.store(true, Ordering::Relaxed);
                    // What nobody has begun is not begun any more. The region cannot end before
                    // this chunk, so these are its own.
                    1 + self.left.0.swap(0, Ordering::Relaxed)
                }
            };
            if self.undone.0.fetch_sub(chunks, Ordering::SeqCst) == chunks {
                self.caller.wake();
            }
        }
    }

    /// Keeps the first panic for the caller.
    fn keep(&self, panic: Box<dyn Any + Send>) {
        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        match *first {
            None => *first = Some(panic),
            // Dropping it could panic again, and the chunk would never be done.
            Some(_) => std::mem::forget(panic),
        }
    }

    /// The next chunk, if there is one that nobody has claimed.
    fn claim(&self, thread: usize) -> Option<usize> {
        let mut left = self.left.0.load(Ordering::Relaxed);
        self.pause(thread);
        while left > 0 {
            match self.left.0.compare_exchange_weak(
                left,
                left - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(self.chunks.load(Ordering::Relaxed) - left),
                Err(now) => left = now,
            }
        }
        None
    }

    /// Tests hold workers up here.
    #[cfg(test)]
    fn pause(&self, thread: usize) {
        let hook = self.before_claim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook.filter(|_| thread > 0) {
            hook(thread);
        }
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn pause(&self, _thread: usize) {}
}
