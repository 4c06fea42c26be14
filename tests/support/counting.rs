//! A global allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, counted.
pub struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Allocations so far, of all threads.
pub fn calls() -> usize {
    CALLS.load(Relaxed)
}

/// The fewest allocations that `measure` has counted, of up to three times: the thread that waits
/// for the test may allocate meanwhile. Each time has to start anew, or what only a first time
/// allocates would be gone from the others.
pub fn fewest(mut measure: impl FnMut() -> usize) -> usize {
    let first = measure();
    (1..3).fold(first, |least, _| if least == 0 { 0 } else { least.min(measure()) })
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(p, layout, size) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(p, layout) }
    }
}
