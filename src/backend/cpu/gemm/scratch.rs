//! The memory that products work in, made once.

use super::{
    LinearShape,
    plan::{
        K_BLOCK, MAX_LANES, MAX_PARTIAL, MAX_PARTS, MAX_THIN_CHUNKS, STAGGER, TILE_ROOM,
        words_at_once,
    },
};
use crate::{
    backend::{Result, cpu::pages::Pages},
    host::pool::{Pool, SharedMut},
};

/// Columns of the narrowest panel.
const MIN_PANEL: usize = 8;

/// Floats of a thread's packed panel.
const PANEL: usize = K_BLOCK * 2 * MAX_LANES;

/// Memory of all products, aligned to cache lines.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Packed weights, or packed inputs or the partial sums of a weight gradient.
    shared: Pages,
    /// Packed operands, one part a thread.
    own: Pages,
    threads: usize,
}

impl Scratch {
    pub fn new(threads: usize, shapes: &[LinearShape]) -> Result<Self> {
        let threads = threads.max(1);
        let shared = shapes.iter().map(|&s| needed(s)).max().unwrap_or(0);
        let (shared, own) = (
            Pages::zeros(shared, "packed weights")?,
            Pages::zeros(threads * (TILE_ROOM + PANEL), "packed operands")?,
        );
        Ok(Scratch { shared, own, threads })
    }

    /// Makes ready for one more layer.
    pub fn plan(&mut self, shape: LinearShape) -> Result<()> {
        let shared = needed(shape);
        if shared > self.shared.get().len() {
            self.shared = Pages::zeros(shared, "packed weights")?;
        }
        Ok(())
    }

    /// # Panics
    /// If the pool or the layer is larger than this memory was made for.
    pub fn check(&self, pool: &Pool, s: LinearShape) {
        assert!(
            pool.threads() <= self.threads,
            "made for {} threads, the pool has {}",
            self.threads,
            pool.threads()
        );
        let (needed, there) = (needed(s), self.shared.get().len());
        assert!(
            needed <= there,
            "{s:?} needs {needed} elements of scratch space, made with {there}: a layer not named to `new`"
        );
    }

    /// The shared part and the threads' parts.
    pub fn split(&mut self) -> (&mut [f32], Rooms) {
        (self.shared.get_mut(), Rooms(SharedMut::new(self.own.get_mut())))
    }
}

/// Shared memory of a layer for its batch or less: both orders of packed weights with the widest
/// panels, packed inputs, partial sums.
fn needed(s: LinearShape) -> usize {
    // Narrower panels are more in number, each with its stagger.
    let packed = |n: usize, k: usize| {
        n.next_multiple_of(2 * MAX_LANES) * k + n.div_ceil(MIN_PANEL) * STAGGER
    };
    let weights = packed(s.output, s.input).max(packed(s.input, s.output));
    let partial = (MAX_PARTS * s.output * s.input).min(MAX_PARTIAL) + MAX_PARTS * s.output;
    let inputs = packed(s.input, words_at_once(s.input).min(s.batch.max(1)));
    weights.max(inputs).max(partial).max(if s.output == 1 { MAX_THIN_CHUNKS * s.input } else { 0 })
}

/// The threads' parts.
pub(super) struct Rooms(SharedMut<f32>);

impl Rooms {
    /// # Safety
    /// No two users of a thread's part at once.
    pub unsafe fn of(&self, thread: usize) -> Room {
        Room(self.0.tail(thread * (TILE_ROOM + PANEL)).as_ptr())
    }
}

/// Scratch space of one thread.
#[derive(Clone, Copy)]
pub(super) struct Room(*mut f32);

impl Room {
    /// Place of the packed tiles.
    pub fn a(self) -> *mut f32 {
        self.0
    }

    /// Place of a packed panel.
    pub fn b(self) -> *mut f32 {
        self.0.wrapping_add(TILE_ROOM)
    }
}
