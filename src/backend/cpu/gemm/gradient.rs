//! Weight and bias gradients: a sum over the batch.

use super::{
    LinearShape, Rows,
    kernel::{Finish, Kernel},
    plan::{BATCH_BLOCK, Blocks, Grid, share},
    product::{Ahead, Packed, Part, Target, tile_stride, tiles_by_panel},
    scratch::{Room, Scratch},
    shared_gradient,
    sums::{add_sums, sum_parts},
};
use crate::host::pool::{Pool, SharedMut};
use std::ops::Range;

/// `dW = dZ^T X` and, if there is a bias, `db`, both overwritten.
pub(super) fn run<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    dz: Rows,
    x: Rows,
    dw: &mut [f32],
    mut db: Option<&mut [f32]>,
) {
    let (m, panels) = (Blocks::balanced(s.output, K::MR), Blocks::of(s.input, K::NR));
    let (grid, copied) = Grid::with_fresh_operands(&m, &panels, s.batch, K::TERMS);
    let (shared, copied_shared) = Grid::with_shared_panels(&m, &panels, s.batch);
    if copied_shared < copied {
        return shared_gradient::run::<K>(scratch, pool, s, (m, panels, shared), dz, x, dw, db);
    }
    let (weights, threads) = scratch.split();
    // With one part the sums go where they belong, else each part has a `dW` and a `db` of its own.
    let (size, whole) = (s.output * s.input, grid.parts == 1);
    let (dw_parts, db_parts) = if whole {
        (SharedMut::new(dw), db.as_deref_mut().map(SharedMut::new))
    } else {
        let (dw_parts, rest) = weights.split_at_mut(grid.parts * size);
        let db_parts = &mut rest[..grid.parts * s.output];
        (SharedMut::new(dw_parts), db.is_some().then(|| SharedMut::new(db_parts)))
    };
    pool.run(grid.chunks(), |chunk, thread| {
        let (part, cell) = (chunk / (grid.rows * grid.cols), chunk % (grid.rows * grid.cols));
        let tiles = share(m.count, grid.rows, cell / grid.cols);
        let panel_range = share(panels.count, grid.cols, cell % grid.cols);
        let samples = share(s.batch, grid.parts, part);
        // SAFETY: no two running chunks have the same thread number; each chunk has its own columns
        // of its part.
        unsafe {
            let job = GradientChunk { samples, m: (&m, tiles), n: (&panels, panel_range), dz, x };
            let c = Target { to: dw_parts.tail(part * size), stride: s.input };
            let db = db_parts.as_ref().map(|db| db.tail(part * s.output));
            job.run::<K>(threads.of(thread), c, db);
        }
    });
    if !whole {
        sum_parts::<K>(pool, grid.parts, dw_parts, dw);
        if let (Some(parts), Some(db)) = (db_parts, db) {
            sum_parts::<K>(pool, grid.parts, parts, db);
        }
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
    unsafe fn run<K: Kernel>(self, room: Room, dw: Target, db: Option<SharedMut<f32>>) {
        let ((m, tiles), (n, panels)) = (&self.m, &self.n);
        let row = tiles.start * m.size;
        let rows = (tiles.end * m.size).min(m.total) - row;
        let blocks = Blocks::balanced(self.samples.len(), BATCH_BLOCK * K::TERMS);
        let stride = tile_stride::<K>(blocks.size);
        let part = |rows: Rows, block: usize, col: usize, width: usize| {
            let (at, terms) = blocks.get(block);
            let from =
                rows.data.as_ptr().wrapping_add((self.samples.start + at) * rows.stride + col);
            Part { from, stride: rows.stride, rows: terms, width }
        };
        for block in 0..blocks.count {
            let own = part(self.dz, block, row, rows);
            let terms = own.rows;
            // SAFETY: the rows were checked to hold these columns; the grid keeps the tiles within
            // the scratch space.
            unsafe {
                K::pack_rows(
                    terms,
                    rows,
                    (own.from, own.stride),
                    m.size,
                    (room.a(), K::LANES),
                    stride,
                );
                if let (0, Some(db)) = (panels.start, &db) {
                    add_sums::<K>((m, tiles.clone()), (room.a(), stride), terms, block == 0, db);
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
                    (false, false) => {
                        part(self.x, block + 1, n.get(panels.start).0, n.get(panels.start).1)
                    }
                    (false, true) => Part::NONE,
                };
                let mut next_x = Ahead::new(next_x, tiles.len());
                let packed =
                    Packed { a: room.a(), a_stride: stride, b: room.b(), next: None, terms };
                // SAFETY: as above; this chunk's part of `dw` is its own.
                unsafe {
                    K::pack_rows(terms, cols, (own.from, own.stride), n.size, (room.b(), K::NR), 0);
                    let ahead = [&mut next_dz, &mut next_x];
                    tiles_by_panel::<K, _>(
                        packed,
                        (m, tiles.clone()),
                        (col, cols),
                        dw,
                        block > 0,
                        Finish::Store,
                        ahead,
                    );
                }
            }
        }
    }
}
