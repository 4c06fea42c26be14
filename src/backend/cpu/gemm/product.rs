//! The three passes of a layer as tiled products: pack, tile kernel, finish. Each operand is copied into the order in which the
//! tile kernel reads it; strides and transposition end there.

use super::{
    LinearShape, Rows,
    kernel::{Finish, Kernel, Tile},
    plan::{Blocks, Grid, K_BLOCK, share},
    scratch::{Room, Scratch},
};
use crate::backend::cpu::pool::{Pool, SharedMut};
use std::ops::Range;

/// The result, shared among chunks that write disjoint tiles of it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub to: SharedMut<f32>,
    pub stride: usize,
}

/// How the weights `[output, input]` enter a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// `X W^T`: columns of the result are rows of `W`.
    Transposed,
    /// `dZ W`: columns of the result are columns of `W`.
    Plain,
}

/// Elements of a weight matrix that are worth a chunk of packing.
const PACK_CHUNK: usize = 1 << 14;

/// `C = finish(A op(W))`, `A [batch, k]`, `C [batch, n]`.
pub(super) fn with_weights<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    a: Rows,
    (w, order): (&[f32], Weights),
    finish: Finish,
    c: Target,
) {
    let (k, n) = if order == Weights::Transposed { (s.input, s.output) } else { (s.output, s.input) };
    let (m, panels, blocks) = (Blocks::balanced(s.batch, K::MR), Blocks::of(n, K::NR), Blocks::balanced(k, K_BLOCK));
    let (weights, threads) = scratch.split();
    let packed = SharedMut::new(&mut weights[..panels.count * k * K::NR]);
    pack_weights::<K>(pool, (w, order), s, packed);
    let grid = Grid::with_packed_weights(&m, &panels, k);
    let finish = FinishShared(finish);
    pool.run(grid.chunks(), |chunk, thread| {
        let tiles = share(m.count, grid.rows, chunk / grid.cols);
        let panel_range = share(panels.count, grid.cols, chunk % grid.cols);
        // SAFETY: no two running chunks have the same thread number.
        let room = unsafe { threads.of(thread) };
        for block in 0..blocks.count {
            let (k0, terms) = blocks.get(block);
            for t in tiles.clone() {
                let (row, rows) = m.get(t);
                // SAFETY: the rows were checked to lie in `a.data`; a tile has its own place in the scratch space.
                unsafe {
                    let from = a.data.as_ptr().add(row * a.stride + k0);
                    K::pack_transposed(rows, terms, from, a.stride, room.a(t - tiles.start, K::LANES), K::LANES);
                }
            }
            let packed = Packed {
                a: room.a(0, K::LANES),
                // SAFETY: the block starts inside the first panel.
                b: unsafe { packed.as_ptr().add((panel_range.start * k + k0) * K::NR) },
                b_panel: k * K::NR,
                terms,
            };
            let last = block + 1 == blocks.count;
            let finish = if last { finish.get() } else { Finish::Store };
            // SAFETY: `packed` holds these tiles and panels; the chunk's part of `c` is its own.
            unsafe { tiles_by_panels::<K>(packed, (&m, tiles.clone()), (&panels, panel_range.clone()), c, block > 0, finish) };
        }
    });
}

/// Packs all weights, `[panel][k][NR]`.
fn pack_weights<K: Kernel>(pool: &Pool, (w, order): (&[f32], Weights), s: LinearShape, packed: SharedMut<f32>) {
    let chunks = w.len().div_ceil(PACK_CHUNK);
    match order {
        Weights::Transposed => {
            let panels = Blocks::of(s.output, K::NR);
            let chunks = chunks.min(panels.count);
            pool.run(chunks, |chunk, _| {
                for p in share(panels.count, chunks, chunk) {
                    let (at, width) = panels.get(p);
                    for lane in (0..width).step_by(K::LANES) {
                        let rows = (width - lane).min(K::LANES);
                        // SAFETY: `w` was checked to hold `[output, input]`; each panel is written by one chunk.
                        unsafe {
                            let from = w.as_ptr().add((at + lane) * s.input);
                            let to = packed.as_ptr().add(p * s.input * K::NR + lane);
                            K::pack_transposed(rows, s.input, from, s.input, to, K::NR);
                        }
                    }
                }
            });
        }
        Weights::Plain => {
            let chunks = chunks.min(s.output);
            pool.run(chunks, |chunk, _| {
                let rows = share(s.output, chunks, chunk);
                // SAFETY: as above; each row of every panel is written by one chunk.
                unsafe {
                    let from = w.as_ptr().add(rows.start * s.input);
                    let to = packed.as_ptr().add(rows.start * K::NR);
                    K::pack_rows(rows.len(), s.input, from, s.input, K::NR, to, K::NR, s.output * K::NR);
                }
            });
        }
    }
}

/// `dW = dZ^T X` and `db`, both overwritten.
pub(super) fn weight_gradient<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    dz: Rows,
    x: Rows,
    dw: &mut [f32],
    db: &mut [f32],
) {
    let (m, panels) = (Blocks::balanced(s.output, K::MR), Blocks::of(s.input, K::NR));
    let grid = Grid::with_fresh_operands(&m, &panels, s.batch);
    let (weights, threads) = scratch.split();
    // With one part the sums go where they belong, else each part has a `dW` and a `db` of its own.
    let (size, whole) = (s.output * s.input, grid.parts == 1);
    let (dw_parts, db_parts) = if whole {
        (SharedMut::new(dw), SharedMut::new(db))
    } else {
        let (dw_parts, rest) = weights.split_at_mut(grid.parts * size);
        (SharedMut::new(dw_parts), SharedMut::new(&mut rest[..grid.parts * s.output]))
    };
    pool.run(grid.chunks(), |chunk, thread| {
        let (part, cell) = (chunk / (grid.rows * grid.cols), chunk % (grid.rows * grid.cols));
        let tiles = share(m.count, grid.rows, cell / grid.cols);
        let panel_range = share(panels.count, grid.cols, cell % grid.cols);
        let samples = share(s.batch, grid.parts, part);
        // SAFETY: no two running chunks have the same thread number; each chunk has its own columns of its part.
        unsafe {
            let job = GradientChunk { samples, m: (&m, tiles), n: (&panels, panel_range), dz, x };
            let c = Target { to: dw_parts.tail(part * size), stride: s.input };
            job.run::<K>(threads.of(thread), c, db_parts.tail(part * s.output));
        }
    });
    if !whole {
        sum_parts::<K>(pool, grid.parts, dw_parts, dw);
        sum_parts::<K>(pool, grid.parts, db_parts, db);
    }
}

/// One chunk of a weight gradient: some tiles by some panels over some samples.
struct GradientChunk<'a> {
    samples: Range<usize>,
    m: (&'a Blocks, Range<usize>),
    n: (&'a Blocks, Range<usize>),
    dz: Rows<'a>,
    x: Rows<'a>,
}

impl GradientChunk<'_> {
    /// # Safety
    /// `room` is this chunk's alone, as are its elements of `dw` and, for the first panel, of `db`.
    unsafe fn run<K: Kernel>(self, room: Room, dw: Target, db: SharedMut<f32>) {
        let ((m, tiles), (n, panels)) = (&self.m, &self.n);
        let (row, col) = (tiles.start * m.size, panels.start * n.size);
        let (rows, cols) = ((tiles.end * m.size).min(m.total) - row, (panels.end * n.size).min(n.total) - col);
        let blocks = Blocks::balanced(self.samples.len(), K_BLOCK);
        for block in 0..blocks.count {
            let (at, terms) = blocks.get(block);
            let sample = self.samples.start + at;
            // SAFETY: the rows were checked to hold these columns; the grid keeps tiles and panels within the scratch space.
            unsafe {
                let from = self.dz.data.as_ptr().add(sample * self.dz.stride + row);
                K::pack_rows(terms, rows, from, self.dz.stride, m.size, room.a(0, K::LANES), K::LANES, K_BLOCK * K::LANES);
                let from = self.x.data.as_ptr().add(sample * self.x.stride + col);
                K::pack_rows(terms, cols, from, self.x.stride, n.size, room.b(), K::NR, K_BLOCK * K::NR);
                if panels.start == 0 {
                    for t in tiles.clone() {
                        let (row, rows) = m.get(t);
                        let to = db.slice(row, rows);
                        if block == 0 {
                            to.fill(0.0);
                        }
                        K::add_packed_sums(rows, terms, room.a(t - tiles.start, K::LANES), to.as_mut_ptr());
                    }
                }
                let packed = Packed { a: room.a(0, K::LANES), b: room.b(), b_panel: K_BLOCK * K::NR, terms };
                tiles_by_panels::<K>(packed, (m, tiles.clone()), (n, panels.clone()), dw, block > 0, Finish::Store);
            }
        }
    }
}

/// Sums consecutive parts of `to.len()` elements in their order.
pub(super) fn sum_parts<K: Kernel>(pool: &Pool, parts: usize, from: SharedMut<f32>, to: &mut [f32]) {
    let n = to.len();
    let (chunks, to) = (n.div_ceil(PACK_CHUNK), SharedMut::new(to));
    pool.run(chunks, |chunk, _| {
        let range = share(n, chunks, chunk);
        // SAFETY: the parts lie behind `from`; chunks write disjoint ranges.
        unsafe {
            let to = to.slice(range.start, range.len());
            K::sum_parts(parts, range.len(), from.as_ptr().add(range.start), n, to.as_mut_ptr());
        }
    });
}

/// Packed operands over one block of terms.
struct Packed {
    /// The first tile, tiles `K_BLOCK * LANES` apart.
    a: *const f32,
    /// The first panel.
    b: *const f32,
    /// Elements from panel to panel.
    b_panel: usize,
    terms: usize,
}

/// Every tile by every panel; a panel stays in the first-level cache while the tiles pass by.
///
/// # Safety
/// `packed` holds the tiles and panels of the ranges; their part of `c` is the caller's alone.
unsafe fn tiles_by_panels<K: Kernel>(
    packed: Packed,
    (m, tiles): (&Blocks, Range<usize>),
    (n, panels): (&Blocks, Range<usize>),
    c: Target,
    accumulate: bool,
    finish: Finish,
) {
    for p in panels.clone() {
        let (col, cols) = n.get(p);
        for t in tiles.clone() {
            let (row, rows) = m.get(t);
            // SAFETY: as the caller's.
            unsafe {
                K::tile(&Tile {
                    rows,
                    cols,
                    k: packed.terms,
                    a: packed.a.add((t - tiles.start) * K_BLOCK * K::LANES),
                    b: packed.b.add((p - panels.start) * packed.b_panel),
                    c: c.to.as_ptr().add(row * c.stride + col),
                    c_stride: c.stride,
                    accumulate,
                    finish: finish.at(row, col),
                });
            }
        }
    }
}

/// A finish among threads: its pointers are only read through.
struct FinishShared(Finish);

// SAFETY: see above.
unsafe impl Sync for FinishShared {}

impl FinishShared {
    fn get(&self) -> Finish {
        self.0
    }
}
