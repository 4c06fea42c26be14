//! Products with the weights: forward and data gradient.

use super::{
    LinearShape, Rows,
    kernel::{Finish, Kernel},
    plan::{Blocks, FEW_TILES, Grid, K_BLOCK, STAGGER, share},
    product::{Ahead, Packed, Part, Target, tile_stride, tiles_by_panel},
    scratch::{Room, Scratch},
};
use crate::host::pool::{Pool, SharedMut};
use std::ops::Range;

/// How the weights `[output, input]` enter a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `X W^T`: columns of the result are rows of `W`.
    Transposed,
    /// `dZ W`: columns of the result are columns of `W`.
    Plain,
}

/// Elements of a weight matrix that are worth a chunk of packing.
const PACK_CHUNK: usize = 1 << 14;

/// `C = finish(A op(W))`, `A [batch, k]`, `C [batch, n]`.
pub(super) struct Product<'a> {
    a: Rows<'a>,
    w: &'a [f32],
    order: Order,
    /// Row length of `w`.
    input: usize,
    finish: Finish,
    /// Add to what `c` holds.
    add: bool,
    c: Target,
    k: usize,
    m: Blocks,
    panels: Blocks,
    blocks: Blocks,
    grid: Grid,
}

// SAFETY: the pointers in `finish` are only read through, and chunks write disjoint tiles of `c`.
unsafe impl Sync for Product<'_> {}

/// Computes `finish(A op(W))` into `c`, or adds it to what `c` holds.
///
/// With many tiles all weights are packed beforehand. With few, each chunk packs the panels of its
/// columns when it comes to them: they are warm then, and no other thread waits.
pub(super) fn run<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    a: Rows,
    (w, order): (&[f32], Order),
    (finish, add): (Finish, bool),
    c: Target,
) {
    let (k, n) = if order == Order::Transposed { (s.input, s.output) } else { (s.output, s.input) };
    let (m, panels, blocks) = (
        Blocks::balanced(s.batch, K::MR),
        Blocks::of(n, K::NR),
        Blocks::even(k, K_BLOCK * K::TERMS, K::TERMS),
    );
    let beforehand = m.count > FEW_TILES;
    let grid =
        if beforehand { Grid::of_rows(&m, &panels, k) } else { Grid::of_columns(&m, &panels, k) };
    let product =
        Product { a, w, order, input: s.input, finish, add, c, k, m, panels, blocks, grid };
    let (packed, rooms) = scratch.split();
    let packed = beforehand
        .then(|| SharedMut::new(&mut packed[..panels.count * product.panel_stride::<K>()]));
    if let Some(packed) = packed {
        product.pack_all::<K>(pool, packed);
    }
    pool.run(grid.chunks(), |chunk, thread| {
        // Most likely this thread's next chunk. A wrong guess costs time only.
        let next = chunk + pool.threads();
        // SAFETY: no two running chunks have the same thread number; each has its own part of `c`.
        unsafe { product.chunk::<K>(rooms.of(thread), packed, chunk, next) };
    });
}

impl Product<'_> {
    /// Words from one panel that is packed beforehand to the next.
    fn panel_stride<K: Kernel>(&self) -> usize {
        self.k.div_ceil(K::TERMS) * K::NR + STAGGER
    }

    fn tiles(&self, chunk: usize) -> Range<usize> {
        share(self.m.count, self.grid.rows, chunk / self.grid.cols)
    }

    /// The rows of `a` that a chunk packs for a block of terms.
    fn part_of_a(&self, tiles: &Range<usize>, block: usize) -> Part {
        let (row, (k0, terms)) = (tiles.start * self.m.size, self.blocks.get(block));
        let from = self.a.data.as_ptr().wrapping_add(row * self.a.stride + k0);
        Part {
            from,
            stride: self.a.stride,
            rows: (tiles.end * self.m.size).min(self.m.total) - row,
            width: terms,
        }
    }

    /// The elements of `w` that make up a panel over some terms.
    fn part_of_w(&self, panel: usize, (k0, terms): (usize, usize)) -> Part {
        let (at, width) = self.panels.get(panel);
        let part = |row: usize, col: usize| self.w.as_ptr().wrapping_add(row * self.input + col);
        match self.order {
            Order::Transposed => {
                Part { from: part(at, k0), stride: self.input, rows: width, width: terms }
            }
            Order::Plain => Part { from: part(k0, at), stride: self.input, rows: terms, width },
        }
    }

    /// Packs all panels, reading the weights in the order in which they lie in memory.
    fn pack_all<K: Kernel>(&self, pool: &Pool, packed: SharedMut<f32>) {
        let stride = self.panel_stride::<K>();
        let chunks = self.w.len().div_ceil(PACK_CHUNK).max(1);
        let panel = |p: usize| packed.as_ptr().wrapping_add(p * stride);
        match self.order {
            Order::Transposed => {
                let chunks = chunks.min(self.panels.count);
                pool.run(chunks, |chunk, _| {
                    for p in share(self.panels.count, chunks, chunk) {
                        // SAFETY: a panel's place is written by one chunk.
                        unsafe { self.pack_panel::<K>(p, (0, self.k), panel(p)) };
                    }
                });
            }
            Order::Plain => {
                let parts = Blocks::even(
                    self.k,
                    self.k.div_ceil(chunks).next_multiple_of(K::TERMS),
                    K::TERMS,
                );
                pool.run(parts.count, |chunk, _| {
                    let (k0, terms) = parts.get(chunk);
                    // SAFETY: `w` was checked to hold `[output, input]`; a chunk writes its own
                    // words of every panel.
                    unsafe {
                        let from = (self.w.as_ptr().add(k0 * self.input), self.input);
                        let to = panel(0).add(k0 / K::TERMS * K::NR);
                        K::pack_rows(terms, self.panels.total, from, K::NR, (to, K::NR), stride);
                    }
                });
            }
        }
    }

    /// Packs one panel, `[words][NR]`.
    ///
    /// # Safety
    /// `to` has room for it.
    unsafe fn pack_panel<K: Kernel>(&self, panel: usize, terms: (usize, usize), to: *mut f32) {
        let w = self.part_of_w(panel, terms);
        // SAFETY: `w` was checked to hold `[output, input]`.
        unsafe {
            match self.order {
                Order::Plain => {
                    K::pack_rows(w.rows, w.width, (w.from, w.stride), K::NR, (to, K::NR), 0)
                }
                Order::Transposed => {
                    for lane in (0..w.rows).step_by(K::LANES) {
                        let rows = (w.rows - lane).min(K::LANES);
                        K::pack_transposed(
                            rows,
                            w.width,
                            w.from.add(lane * w.stride),
                            w.stride,
                            to.add(lane),
                            K::NR,
                        );
                    }
                }
            }
        }
    }

    /// # Safety
    /// `room` and the chunk's part of `c` are the caller's alone; `packed` holds all panels, if
    /// any.
    unsafe fn chunk<K: Kernel>(
        &self,
        room: Room,
        packed: Option<SharedMut<f32>>,
        chunk: usize,
        next: usize,
    ) {
        let (m, tiles) = (&self.m, self.tiles(chunk));
        let columns = share(self.panels.count, self.grid.cols, chunk % self.grid.cols);
        let a_stride = tile_stride::<K>(self.blocks.size);
        for block in 0..self.blocks.count {
            let (k0, terms) = self.blocks.get(block);
            let own = self.part_of_a(&tiles, block);
            for (t, row) in (0..own.rows).step_by(m.size).enumerate() {
                let rows = m.size.min(own.rows - row);
                // SAFETY: the rows were checked to lie in `a.data`; a tile has its own place in the
                // scratch space.
                unsafe {
                    let from = own.from.add(row * own.stride);
                    K::pack_transposed(
                        rows,
                        terms,
                        from,
                        own.stride,
                        room.a().add(t * a_stride),
                        K::LANES,
                    );
                }
            }
            let last = block + 1 == self.blocks.count;
            let next_a = match last {
                false => self.part_of_a(&tiles, block + 1),
                true if next < self.grid.chunks() => self.part_of_a(&self.tiles(next), 0),
                true => Part::NONE,
            };
            let mut next_a = Ahead::new(next_a, tiles.len() * columns.len());
            let finish = if last { self.finish } else { Finish::Store };
            for p in columns.clone() {
                let follows = p + 1 < columns.end;
                let (b, next, next_w) = match packed {
                    Some(packed) => {
                        let b = packed
                            .as_ptr()
                            .wrapping_add(p * self.panel_stride::<K>() + k0 / K::TERMS * K::NR);
                        let next = b.wrapping_add(self.panel_stride::<K>()).cast_const();
                        (b, follows.then_some(next), Part::NONE)
                    }
                    None => {
                        // SAFETY: the room holds one panel.
                        unsafe { self.pack_panel::<K>(p, (k0, terms), room.b()) };
                        let next_w =
                            if follows { self.part_of_w(p + 1, (k0, terms)) } else { Part::NONE };
                        (room.b(), None, next_w)
                    }
                };
                let ahead = [&mut next_a, &mut Ahead::new(next_w, tiles.len())];
                let packed = Packed { a: room.a(), a_stride, b, next, terms };
                // SAFETY: `packed` holds these tiles and this panel.
                unsafe {
                    tiles_by_panel::<K, _>(
                        packed,
                        (m, tiles.clone()),
                        self.panels.get(p),
                        self.c,
                        self.add || block > 0,
                        finish,
                        ahead,
                    );
                }
            }
        }
    }
}
