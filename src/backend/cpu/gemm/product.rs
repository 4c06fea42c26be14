//! The three passes of a layer as tiled products: pack, tile kernel, finish. Each operand is copied into the order in which the
//! tile kernel reads it; strides and transposition end there.

use super::{
    LinearShape, Rows,
    kernel::{Finish, Kernel, Tile},
    plan::{BATCH_BLOCK, Blocks, Grid, K_BLOCK, share},
    scratch::{MAX_LANES, Room, STAGGER, Scratch},
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

/// Elements from one packed tile of blocks of `size` terms to the next.
fn tile_stride<K: Kernel>(size: usize) -> usize {
    size * K::LANES + STAGGER
}

/// Elements from one packed panel of `k` terms to the next.
fn panel_stride<K: Kernel>(k: usize) -> usize {
    k * K::NR + STAGGER
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
    let packed = SharedMut::new(&mut weights[..panels.count * panel_stride::<K>(k)]);
    pack_weights::<K>(pool, (w, order), s, packed);
    let grid = Grid::with_packed_weights(&m, &panels, k);
    let finish = FinishShared(finish);
    let tiles_of = |chunk: usize| share(m.count, grid.rows, chunk / grid.cols);
    // The rows of `a` that a chunk packs for a block of terms.
    let part_of_a = |tiles: &Range<usize>, block: usize| {
        let (row, (k0, terms)) = (tiles.start * m.size, blocks.get(block));
        let from = a.data.as_ptr().wrapping_add(row * a.stride + k0);
        Part { from, stride: a.stride, rows: (tiles.end * m.size).min(m.total) - row, width: terms }
    };
    pool.run(grid.chunks(), |chunk, thread| {
        let (tiles, panel_range) = (tiles_of(chunk), share(panels.count, grid.cols, chunk % grid.cols));
        // Most likely this thread's next chunk. A wrong guess costs time only.
        let next = chunk + pool.threads();
        // SAFETY: no two running chunks have the same thread number.
        let (room, stride) = (unsafe { threads.of(thread) }, tile_stride::<K>(blocks.size));
        for block in 0..blocks.count {
            let (k0, terms) = blocks.get(block);
            let own = part_of_a(&tiles, block);
            for (t, row) in (0..own.rows).step_by(m.size).enumerate() {
                let rows = m.size.min(own.rows - row);
                // SAFETY: the rows were checked to lie in `a.data`; a tile has its own place in the scratch space.
                unsafe {
                    K::pack_transposed(rows, terms, own.from.add(row * a.stride), a.stride, room.a().add(t * stride), K::LANES);
                }
            }
            let last = block + 1 == blocks.count;
            let ahead = match last {
                false => part_of_a(&tiles, block + 1),
                true if next < grid.chunks() => part_of_a(&tiles_of(next), 0),
                true => Part::NONE,
            };
            let mut ahead = Ahead::new(ahead, tiles.len() * panel_range.len());
            let finish = if last { finish.get() } else { Finish::Store };
            for p in panel_range.clone() {
                let b = packed.as_ptr().wrapping_add(p * panel_stride::<K>(k) + k0 * K::NR);
                let packed = Packed { a: room.a(), a_stride: stride, b, terms };
                // SAFETY: `packed` holds these tiles and this panel; the chunk's part of `c` is its own.
                unsafe { tiles_by_panel::<K, _>(packed, (&m, tiles.clone()), panels.get(p), c, block > 0, finish, [&mut ahead]) };
            }
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
                            let to = packed.as_ptr().add(p * panel_stride::<K>(s.input) + lane);
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
                    K::pack_rows(rows.len(), s.input, (from, s.input), K::NR, (to, K::NR), panel_stride::<K>(s.output));
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
        let row = tiles.start * m.size;
        let rows = (tiles.end * m.size).min(m.total) - row;
        let blocks = Blocks::balanced(self.samples.len(), BATCH_BLOCK);
        let stride = tile_stride::<K>(blocks.size);
        let part = |rows: Rows, block: usize, col: usize, width: usize| {
            let (at, terms) = blocks.get(block);
            let from = rows.data.as_ptr().wrapping_add((self.samples.start + at) * rows.stride + col);
            Part { from, stride: rows.stride, rows: terms, width }
        };
        for block in 0..blocks.count {
            let own = part(self.dz, block, row, rows);
            let terms = own.rows;
            // SAFETY: the rows were checked to hold these columns; the grid keeps the tiles within the scratch space.
            unsafe {
                K::pack_rows(terms, rows, (own.from, own.stride), m.size, (room.a(), K::LANES), stride);
                if panels.start == 0 {
                    add_sums::<K>((m, tiles.clone()), (room.a(), stride), terms, block == 0, &db);
                }
            }
            let last = block + 1 == blocks.count;
            let next_dz = if last { Part::NONE } else { part(self.dz, block + 1, row, rows) };
            let mut next_dz = Ahead::new(next_dz, tiles.len() * panels.len());
            for p in panels.clone() {
                let (col, cols) = n.get(p);
                let own = part(self.x, block, col, cols);
                let next_x = match (p + 1 < panels.end, last) {
                    (true, _) => part(self.x, block, n.get(p + 1).0, n.get(p + 1).1),
                    (false, false) => part(self.x, block + 1, n.get(panels.start).0, n.get(panels.start).1),
                    (false, true) => Part::NONE,
                };
                let mut next_x = Ahead::new(next_x, tiles.len());
                let packed = Packed { a: room.a(), a_stride: stride, b: room.b(), terms };
                // SAFETY: as above; this chunk's part of `dw` is its own.
                unsafe {
                    K::pack_rows(terms, cols, (own.from, own.stride), n.size, (room.b(), K::NR), 0);
                    let ahead = [&mut next_dz, &mut next_x];
                    tiles_by_panel::<K, _>(packed, (m, tiles.clone()), (col, cols), dw, block > 0, Finish::Store, ahead);
                }
            }
        }
    }
}

/// Adds a block's sums over the samples to `db`, or sets them.
///
/// # Safety
/// `a` holds the packed tiles, whose elements of `db` are the caller's alone.
unsafe fn add_sums<K: Kernel>(
    (m, tiles): (&Blocks, Range<usize>),
    (a, a_stride): (*const f32, usize),
    terms: usize,
    set: bool,
    db: &SharedMut<f32>,
) {
    for t in tiles.clone() {
        let (row, rows) = m.get(t);
        // SAFETY: as the caller's.
        unsafe {
            let to = db.slice(row, rows);
            if set {
                to.fill(0.0);
            }
            K::add_packed_sums(rows, terms, a.add((t - tiles.start) * a_stride), to.as_mut_ptr());
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
#[derive(Clone, Copy)]
struct Packed {
    /// The first tile.
    a: *const f32,
    a_stride: usize,
    /// The panel.
    b: *const f32,
    terms: usize,
}

/// Every tile by one panel, which stays in the first-level cache while the tiles pass by; meanwhile what is packed next is
/// brought closer.
///
/// # Safety
/// `packed` holds the tiles and the panel; their part of `c` is the caller's alone.
unsafe fn tiles_by_panel<K: Kernel, const AHEAD: usize>(
    packed: Packed,
    (m, tiles): (&Blocks, Range<usize>),
    (col, cols): (usize, usize),
    c: Target,
    accumulate: bool,
    finish: Finish,
    mut ahead: [&mut Ahead; AHEAD],
) {
    for t in tiles.clone() {
        ahead.iter_mut().for_each(|part| part.step::<K>());
        let (row, rows) = m.get(t);
        // SAFETY: as the caller's.
        unsafe {
            K::tile(&Tile {
                rows,
                cols,
                k: packed.terms,
                a: packed.a.add((t - tiles.start) * packed.a_stride),
                b: packed.b,
                c: c.to.as_ptr().add(row * c.stride + col),
                c_stride: c.stride,
                accumulate,
                finish: finish.at(row, col),
            });
        }
    }
}

/// Part of a matrix that will be packed.
#[derive(Debug, Clone, Copy)]
struct Part {
    from: *const f32,
    stride: usize,
    rows: usize,
    width: usize,
}

impl Part {
    /// Nothing.
    const NONE: Part = Part { from: std::ptr::null(), stride: 0, rows: 0, width: 0 };
}

/// A part that is prefetched in equal steps, so that packing does not wait for memory.
#[derive(Debug)]
struct Ahead {
    part: Part,
    /// Cache lines a step.
    pace: usize,
    row: usize,
    col: usize,
}

impl Ahead {
    /// Prefetches `part` in `steps` steps.
    fn new(part: Part, steps: usize) -> Self {
        let lines = part.rows * part.width.div_ceil(MAX_LANES);
        Ahead { part, pace: lines.div_ceil(steps), row: 0, col: 0 }
    }

    fn step<K: Kernel>(&mut self) {
        for _ in 0..self.pace {
            if self.row == self.part.rows {
                return;
            }
            // SAFETY: prefetching is safe at any address.
            unsafe { K::prefetch(self.part.from.wrapping_add(self.row * self.part.stride + self.col)) };
            self.col += MAX_LANES;
            if self.col >= self.part.width {
                (self.row, self.col) = (self.row + 1, 0);
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
