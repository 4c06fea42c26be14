//! Weight gradients whose inputs are packed once for all chunks: for sums long and wide enough that
//! packing them anew for every chunk costs more than writing the packed form to memory and reading
//! it back.

use super::{
    LinearShape, Rows,
    kernel::{Finish, Kernel},
    plan::{Blocks, Grid, K_BLOCK, STAGGER, share, words_at_once},
    product::{Ahead, Packed, Part, Target, tile_stride, tiles_by_panel},
    scratch::{Room, Scratch},
    sums::add_sums,
};
use crate::host::pool::{Pool, SharedMut};

/// Samples that a chunk of packing takes: whole words in every format.
const PACK_SAMPLES: usize = 64;

/// `dW = dZ^T X` and, if there is a bias, `db`, both overwritten, in tiles `m` of outputs by panels of inputs.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    (m, panels, grid): (Blocks, Blocks, Grid),
    dz: Rows,
    x: Rows,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let (packed, rooms) = scratch.split();
    let (dw, db) = (Target { to: SharedMut::new(dw), stride: s.input }, db.map(SharedMut::new));
    let parts = Blocks::even(s.batch, words_at_once(s.input) * K::TERMS, K::TERMS);
    let stride = parts.size.div_ceil(K::TERMS) * K::NR + STAGGER;
    let packed = SharedMut::new(&mut packed[..panels.count * stride]);
    for part in 0..parts.count {
        let (start, samples) = parts.get(part);
        pool.run(samples.div_ceil(PACK_SAMPLES), |chunk, _| {
            let at = chunk * PACK_SAMPLES;
            // SAFETY: the rows were checked to hold these columns; a chunk writes its own words of
            // every panel.
            unsafe {
                let from = x.data.as_ptr().add((start + at) * x.stride);
                let to = packed.as_ptr().add(at / K::TERMS * K::NR);
                K::pack_rows(
                    PACK_SAMPLES.min(samples - at),
                    s.input,
                    (from, x.stride),
                    K::NR,
                    (to, K::NR),
                    stride,
                );
            }
        });
        pool.run(grid.chunks(), |chunk, thread| {
            let job = Chunk {
                m: &m,
                panels: &panels,
                grid,
                dz,
                start,
                samples,
                packed: (packed.as_ptr(), stride),
            };
            // SAFETY: no two running chunks have the same thread number; each has its own part of
            // `dw` and, with the first panel, of `db`.
            unsafe { job.run::<K>(rooms.of(thread), chunk, part == 0, dw, db) };
        });
    }
}

/// Some tiles by some panels over the samples that are packed.
struct Chunk<'a> {
    m: &'a Blocks,
    panels: &'a Blocks,
    grid: Grid,
    dz: Rows<'a>,
    start: usize,
    samples: usize,
    /// Panels and the words from one to the next.
    packed: (*const f32, usize),
}

impl Chunk<'_> {
    /// # Safety
    /// `room` and the chunk's part of `dw` and `db` are the caller's alone; `packed` holds all
    /// panels.
    unsafe fn run<K: Kernel>(
        &self,
        room: Room,
        chunk: usize,
        first: bool,
        dw: Target,
        db: Option<SharedMut<f32>>,
    ) {
        let m = self.m;
        let tiles = share(m.count, self.grid.rows, chunk / self.grid.cols);
        let columns = share(self.panels.count, self.grid.cols, chunk % self.grid.cols);
        let row = tiles.start * m.size;
        let rows = (tiles.end * m.size).min(m.total) - row;
        let blocks = Blocks::even(self.samples, K_BLOCK * K::TERMS, K::TERMS);
        let a_stride = tile_stride::<K>(blocks.size);
        let part = |block: usize| {
            let (at, terms) = blocks.get(block);
            let from = self.dz.data.as_ptr().wrapping_add((self.start + at) * self.dz.stride + row);
            Part { from, stride: self.dz.stride, rows: terms, width: rows }
        };
        for block in 0..blocks.count {
            let (at, terms) = blocks.get(block);
            let (own, set) = (part(block), first && block == 0);
            // SAFETY: the rows were checked to hold these columns; the grid keeps the tiles within
            // the scratch space.
            unsafe {
                K::pack_rows(
                    terms,
                    rows,
                    (own.from, own.stride),
                    m.size,
                    (room.a(), K::LANES),
                    a_stride,
                );
                if let (0, Some(db)) = (columns.start, &db) {
                    add_sums::<K>((m, tiles.clone()), (room.a(), a_stride), terms, set, db);
                }
            }
            let next = if block + 1 < blocks.count { part(block + 1) } else { Part::NONE };
            let mut next = Ahead::new(next, tiles.len() * columns.len());
            for p in columns.clone() {
                let b = self.packed.0.wrapping_add(p * self.packed.1 + at / K::TERMS * K::NR);
                let after = (p + 1 < columns.end).then(|| b.wrapping_add(self.packed.1));
                let packed = Packed { a: room.a(), a_stride, b, next: after, terms };
                // SAFETY: `packed` holds these tiles and this panel.
                unsafe {
                    let columns = self.panels.get(p);
                    tiles_by_panel::<K, _>(
                        packed,
                        (m, tiles.clone()),
                        columns,
                        dw,
                        !set,
                        Finish::Store,
                        [&mut next],
                    );
                }
            }
        }
    }
}

// SAFETY: the packed panels are only read while chunks run.
unsafe impl Sync for Chunk<'_> {}
