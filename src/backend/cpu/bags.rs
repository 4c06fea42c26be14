//! Embedding bags: the rows of each bag pooled into one vector, for all tables of a set in one
//! parallel region.

use super::{
    gemm::RowsMut,
    simd::{Kernel, Lanes, One, launch, load_up_to},
};
use crate::{
    batch::CheckedBags,
    embedding::{RowPointer, TableSet},
    host::{
        Isa,
        pool::{Pool, SharedMut},
        prefetch_row,
    },
    model::Pooling,
};

/// Samples of a chunk.
const BLOCK: usize = 256;

/// Ids ahead of the present one whose rows are asked for: memory answers in some 100 ns, a row of a
/// one-hot bag takes about 5.
const AHEAD: usize = 16;

/// Pools bag `b` of table `k`, one of column `set.column + k`, into `out[b, k * d..(k + 1) * d]` (`d = set.dim`).
///
/// # Panics
/// If the bags were checked for larger tables, or if shapes do not fit.
pub fn forward(pool: &Pool, isa: Isa, set: &TableSet, bags: CheckedBags<'_>, out: RowsMut<'_>) {
    let (tables, dim) = (&set.tables, set.dim);
    let columns = set.column..set.column + tables.len();
    assert!(columns.end <= bags.get().len(), "bags for each table");
    let rows = &bags.rows()[columns.clone()];
    assert!(
        tables.iter().zip(rows).all(|(table, &rows)| rows <= table.rows()),
        "bags of tables of {rows:?} rows",
    );
    let (samples, bags) = (bags.samples(), &bags.get()[columns]);
    assert!(tables.iter().all(|t| t.dim() == dim), "tables of a set have the same dimension");
    let needed = if samples == 0 { 0 } else { (samples - 1) * out.stride + tables.len() * dim };
    assert!(
        out.data.len() >= needed && (out.stride >= tables.len() * dim || samples <= 1),
        "pooled vectors do not fit"
    );
    let blocks = samples.div_ceil(BLOCK);
    let (stride, out) = (out.stride, SharedMut::new(out.data));
    pool.run(blocks * tables.len(), |chunk, _| {
        let (k, block) = (chunk / blocks, chunk % blocks);
        let first = block * BLOCK;
        let weights = set.weights.as_ref().map(|w| w.tables[k].values());
        assert!(weights.is_none_or(|w| w.len() == tables[k].rows()), "one weight for each row");
        let block = Block {
            table: (),
            dim,
            offsets: &bags[k].offsets[first..=samples.min(first + BLOCK)],
            indices: &bags[k].indices,
            mean: set.pooling == Pooling::Mean,
            weights,
            out: out.as_ptr().wrapping_add(first * stride + k * dim),
            stride,
        };
        match tables[k].pointer() {
            RowPointer::Fp32(p) => launch(isa, block.of(Fp32(p))),
            RowPointer::Bf16(p) | RowPointer::Bf16Split { high: p, .. } => {
                launch(isa, block.of(Bf16(p)))
            }
            RowPointer::Fp16(p) => launch(isa, block.of(Fp16(p))),
        }
    });
}

/// Elements of a table in one of their forms.
trait Elements: Copy {
    /// `n` elements from `at` on, at most a register.
    ///
    /// # Safety
    /// There must be so many, and the machine must have the instruction set of `L`.
    unsafe fn load<L: Lanes>(self, at: usize, n: usize) -> L::V;

    /// Asks for `n` elements from `at` on.
    fn prefetch(self, at: usize, n: usize);
}

#[derive(Clone, Copy)]
struct Fp32(*const f32);
#[derive(Clone, Copy)]
struct Bf16(*const u16);
#[derive(Clone, Copy)]
struct Fp16(*const u16);

impl Elements for Fp32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(self, at: usize, n: usize) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { load_up_to::<L>(self.0.add(at), n) }
    }
    #[inline(always)]
    fn prefetch(self, at: usize, n: usize) {
        prefetch_row(self.0.wrapping_add(at), n);
    }
}

impl Elements for Bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(self, at: usize, n: usize) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16(self.0.add(at), n) }
    }
    #[inline(always)]
    fn prefetch(self, at: usize, n: usize) {
        prefetch_row(self.0.wrapping_add(at), n);
    }
}

impl Elements for Fp16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(self, at: usize, n: usize) -> L::V {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(self.0.add(at), n) }
    }
    #[inline(always)]
    fn prefetch(self, at: usize, n: usize) {
        prefetch_row(self.0.wrapping_add(at), n);
    }
}

/// Consecutive bags of one table.
struct Block<'a, E> {
    table: E,
    dim: usize,
    offsets: &'a [u32],
    indices: &'a [u32],
    mean: bool,
    weights: Option<&'a [f32]>,
    /// Where the first bag's vector goes; this block alone writes its bags' vectors.
    out: *mut f32,
    stride: usize,
}

impl<'a> Block<'a, ()> {
    /// The block of a table whose elements are at `table`.
    fn of<E: Elements>(self, table: E) -> Block<'a, E> {
        let Block { table: (), dim, offsets, indices, mean, weights, out, stride } = self;
        Block { table, dim, offsets, indices, mean, weights, out, stride }
    }
}

impl<E: Elements> Kernel for Block<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (first, last) =
            (self.offsets[0] as usize, self.offsets[self.offsets.len() - 1] as usize);
        let ids = &self.indices[first..last];
        let one_hot = self.weights.is_none()
            && self.offsets.iter().enumerate().all(|(i, &o)| o as usize == first + i);
        // SAFETY: ids are rows of the table, since the bags are checked and `forward` has compared
        // the tables' sizes; it has also seen that the vectors lie inside `out`.
        unsafe {
            match (one_hot, self.dim) {
                (true, 1) => self.one_hot_scalar(ids),
                (true, _) => self.one_hot::<L>(ids),
                (false, _) => self.bags::<L>(first, ids),
            }
        }
    }
}

impl<E: Elements> Block<'_, E> {
    #[inline(always)]
    unsafe fn one_hot_scalar(&self, ids: &[u32]) {
        for (b, &id) in ids.iter().enumerate() {
            // SAFETY: see `run`: ids are rows of the table, vectors lie inside the output.
            unsafe { *self.out.add(b * self.stride) = self.table.load::<One>(id as usize, 1) };
        }
    }

    #[inline(always)]
    unsafe fn one_hot<L: Lanes>(&self, ids: &[u32]) {
        let d = self.dim;
        for (b, &id) in ids.iter().enumerate() {
            let ahead = ids[(b + AHEAD).min(ids.len() - 1)] as usize;
            self.table.prefetch(ahead * d, d);
            // SAFETY: see `run`: ids are rows of the table, vectors lie inside the output.
            unsafe {
                let (row, out) = (id as usize * d, self.out.add(b * self.stride));
                let mut c = 0;
                while c + L::N <= d {
                    L::store(out.add(c), self.table.load::<L>(row + c, L::N));
                    c += L::N;
                }
                if c < d {
                    L::store_part(out.add(c), d - c, self.table.load::<L>(row + c, d - c));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn bags<L: Lanes>(&self, first: usize, ids: &[u32]) {
        let d = self.dim;
        for (b, w) in self.offsets.windows(2).enumerate() {
            let (from, to) = (w[0] as usize - first, w[1] as usize - first);
            let bag = &ids[from..to];
            // The rows of the bag after this one are fetched while this one is summed.
            for &id in &ids[to..(to + bag.len().max(4)).min(ids.len())] {
                self.table.prefetch(id as usize * d, d);
            }
            let scale = if self.mean && bag.len() > 1 { 1.0 / bag.len() as f32 } else { 1.0 };
            // SAFETY: see `run`: ids are rows of the table, vectors lie inside the output.
            unsafe {
                let out = self.out.add(b * self.stride);
                let mut c = 0;
                while c + 4 * L::N <= d {
                    self.columns::<L, 4>(bag, c, scale, out);
                    c += 4 * L::N;
                }
                while c + L::N <= d {
                    self.columns::<L, 1>(bag, c, scale, out);
                    c += L::N;
                }
                if c < d {
                    self.tail::<L>(bag, c, scale, out);
                }
            }
        }
    }

    #[inline(always)]
    fn weight(&self, id: u32) -> f32 {
        match self.weights {
            // SAFETY: as many weights as rows, and the id is below that.
            Some(w) => unsafe { *w.get_unchecked(id as usize) },
            None => 1.0,
        }
    }

    /// `R` registers of columns from `c`.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const R: usize>(
        &self,
        bag: &[u32],
        c: usize,
        scale: f32,
        out: *mut f32,
    ) {
        // SAFETY: see `run`: ids are rows of the table, vectors lie inside the output.
        unsafe {
            let mut sum = [L::splat(0.0); R];
            for &id in bag {
                let row = id as usize * self.dim + c;
                let weight = L::splat(self.weight(id));
                for (r, s) in sum.iter_mut().enumerate() {
                    *s = L::add(*s, L::mul(weight, self.table.load::<L>(row + r * L::N, L::N)));
                }
            }
            for (r, s) in sum.iter().enumerate() {
                L::store(out.add(c + r * L::N), L::mul(L::splat(scale), *s));
            }
        }
    }

    /// The last columns, fewer than a register.
    #[inline(always)]
    unsafe fn tail<L: Lanes>(&self, bag: &[u32], c: usize, scale: f32, out: *mut f32) {
        // SAFETY: see `run`: ids are rows of the table, vectors lie inside the output.
        unsafe {
            let n = self.dim - c;
            let mut sum = L::splat(0.0);
            for &id in bag {
                let row = id as usize * self.dim + c;
                sum = L::add(sum, L::mul(L::splat(self.weight(id)), self.table.load::<L>(row, n)));
            }
            L::store_part(out.add(c), n, L::mul(L::splat(scale), sum));
        }
    }
}

#[cfg(test)]
mod tests;
