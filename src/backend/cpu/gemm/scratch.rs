//! The memory that products work in, made once.

use super::{
    LinearShape,
    plan::{K_BLOCK, MAX_PANELS, MAX_PARTIAL, MAX_PARTS, MAX_TILES},
    thin::MAX_CHUNKS,
};
use crate::backend::cpu::pool::{Pool, SharedMut};

/// Floats of the widest register, and of a cache line.
const MAX_LANES: usize = 16;

/// Floats of a thread's packed tiles and packed panels.
const TILES: usize = MAX_TILES * K_BLOCK * MAX_LANES;
const PANELS: usize = MAX_PANELS * K_BLOCK * 2 * MAX_LANES;

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; MAX_LANES]);

/// Memory of all products, aligned to cache lines.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Packed weights, or the partial sums of a weight gradient.
    shared: Vec<Line>,
    /// Packed operands, one part a thread.
    own: Vec<Line>,
    threads: usize,
}

impl Scratch {
    pub fn new(threads: usize, shapes: &[LinearShape]) -> Self {
        let threads = threads.max(1);
        let shared = shapes.iter().map(|&s| needed(s)).max().unwrap_or(0);
        let lines = |n: usize| vec![Line([0.0; MAX_LANES]); n.div_ceil(MAX_LANES)];
        Scratch { shared: lines(shared), own: lines(threads * (TILES + PANELS)), threads }
    }

    /// # Panics
    /// If the pool or the layer is larger than this memory was made for.
    pub fn check(&self, pool: &Pool, s: LinearShape) {
        assert!(pool.threads() <= self.threads, "made for {} threads, the pool has {}", self.threads, pool.threads());
        let (needed, there) = (needed(s), self.shared.len() * MAX_LANES);
        assert!(needed <= there, "{s:?} needs {needed} elements of scratch space, made with {there}: a layer not named to `new`");
    }

    /// The shared part and the threads' parts.
    pub fn split(&mut self) -> (&mut [f32], Rooms) {
        (flat(&mut self.shared), Rooms(SharedMut::new(flat(&mut self.own))))
    }
}

fn flat(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is an array of floats without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * MAX_LANES) }
}

/// Shared memory of a layer for any batch: both orders of packed weights with the widest panels, partial sums.
fn needed(s: LinearShape) -> usize {
    let panels = |n: usize| n.next_multiple_of(2 * MAX_LANES);
    let weights = (panels(s.output) * s.input).max(panels(s.input) * s.output);
    let partial = (MAX_PARTS * s.output * s.input).min(MAX_PARTIAL) + MAX_PARTS * s.output;
    weights.max(partial).max(if s.output == 1 { MAX_CHUNKS * s.input } else { 0 })
}

/// The threads' parts.
pub(super) struct Rooms(SharedMut<f32>);

impl Rooms {
    /// # Safety
    /// No two users of a thread's part at once.
    pub unsafe fn of(&self, thread: usize) -> Room {
        Room(self.0.tail(thread * (TILES + PANELS)).as_ptr())
    }
}

/// Scratch space of one thread.
#[derive(Clone, Copy)]
pub(super) struct Room(*mut f32);

impl Room {
    /// Place of packed tile `t`.
    pub fn a(self, t: usize, lanes: usize) -> *mut f32 {
        self.0.wrapping_add(t * K_BLOCK * lanes)
    }

    /// Place of the packed panels.
    pub fn b(self) -> *mut f32 {
        self.0.wrapping_add(TILES)
    }
}
