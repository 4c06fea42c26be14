//! What the passes of a layer share: packed operands go through the tile kernel, panel by panel.
//! Each operand is copied into the order in which the kernel reads it; strides and transposition
//! end there.

use super::{
    kernel::{Finish, Kernel, NEXT_WORDS, Tile},
    plan::{Blocks, MAX_LANES, STAGGER},
    simd::Simd,
};
use crate::host::pool::SharedMut;
use std::ops::Range;

/// The result, shared among chunks that write disjoint tiles of it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub to: SharedMut<f32>,
    pub stride: usize,
}

/// Words from one packed tile of blocks of `size` terms to the next.
pub(super) fn tile_stride<K: Kernel>(size: usize) -> usize {
    size.div_ceil(K::TERMS) * K::LANES + STAGGER
}

/// Packed operands over one block of terms.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    /// The first tile.
    pub a: *const f32,
    pub a_stride: usize,
    /// The panel.
    pub b: *const f32,
    /// The panel that is read after this one, where it is packed already.
    pub next: Option<*const f32>,
    pub terms: usize,
}

/// Every tile by one panel, which stays in the first-level cache while the tiles pass by; meanwhile
/// what is packed next is brought closer.
///
/// # Safety
/// `packed` holds the tiles and the panel; their part of `c` is the caller's alone.
pub(super) unsafe fn tiles_by_panel<K: Kernel, const AHEAD: usize>(
    packed: Packed,
    (m, tiles): (&Blocks, Range<usize>),
    (col, cols): (usize, usize),
    c: Target,
    accumulate: bool,
    finish: Finish,
    mut ahead: [&mut Ahead; AHEAD],
) {
    let words = packed.terms.div_ceil(K::TERMS);
    let (steps, lines) = (words / NEXT_WORDS, words * K::NR / MAX_LANES);
    let next_lines = packed.next.map_or(0, |_| lines.div_ceil((steps * tiles.len()).max(1)));
    let mut next = packed.next.unwrap_or(std::ptr::null());
    for t in tiles.clone() {
        ahead.iter_mut().for_each(|part| part.step::<K>());
        let (row, rows) = m.get(t);
        // SAFETY: as the caller's.
        unsafe {
            K::tile(&Tile {
                rows,
                cols,
                words,
                a: packed.a.add((t - tiles.start) * packed.a_stride),
                b: packed.b,
                next,
                next_lines,
                c: c.to.as_ptr().add(row * c.stride + col),
                c_stride: c.stride,
                accumulate,
                finish: finish.at(row, col),
            });
        }
        next = next.wrapping_add(steps * next_lines * MAX_LANES);
    }
}

/// Part of a matrix that will be packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub from: *const f32,
    pub stride: usize,
    pub rows: usize,
    pub width: usize,
}

impl Part {
    /// Nothing.
    pub const NONE: Part = Part { from: std::ptr::null(), stride: 0, rows: 0, width: 0 };
}

/// A part that is prefetched in equal steps, so that packing does not wait for memory.
#[derive(Debug)]
pub(super) struct Ahead {
    part: Part,
    /// Cache lines a step.
    pace: usize,
    row: usize,
    col: usize,
}

impl Ahead {
    /// Prefetches `part` in `steps` steps.
    pub fn new(part: Part, steps: usize) -> Self {
        let lines = part.rows * part.width.div_ceil(MAX_LANES);
        Ahead { part, pace: lines.div_ceil(steps), row: 0, col: 0 }
    }

    pub fn step<K: Kernel>(&mut self) {
        let Part { from, stride, rows, width } = self.part;
        let (mut row, mut col, mut left) = (self.row, self.col, self.pace);
        while left > 0 && row < rows {
            let line = from.wrapping_add(row * stride);
            while left > 0 && col < width {
                // SAFETY: prefetching is safe at any address.
                unsafe { K::S::prefetch(line.wrapping_add(col)) };
                (col, left) = (col + MAX_LANES, left - 1);
            }
            if col >= width {
                (row, col) = (row + 1, 0);
            }
        }
        (self.row, self.col) = (row, col);
    }
}
