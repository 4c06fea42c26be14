//! Gradients of rows, one row after another.

use super::{BagGradient, SPAN, rows_a_chunk};
use crate::{
    backend::cpu::{
        groups::{Groups, row_of, sample_of},
        simd::{Kernel, Lanes, One, load_up_to, store_up_to},
    },
    batch::Bags,
    embedding::{RowPointer, TableSet},
    host::prefetch_row,
    model::Pooling,
    random::philox::Philox,
};

/// Occurrences ahead of the present one whose memory is asked for.
const AHEAD: usize = 12;

/// Rows of scratch space: the gradient; the row in f32 if it is kept otherwise; the row as lookups
/// see it, if that differs.
pub(super) const SCRATCH: usize = 3;

/// Registers of a row's gradient that are summed at once, so that no sum waits for itself.
const SUMS: usize = 4;

/// Columns that share a draw of random bits ([`Philox::columns`]).
const COLUMNS: usize = 64;

/// A part of a table's rows and all that is needed to compute their gradients.
pub(super) struct Work<'a> {
    pub(super) table: usize,
    dim: usize,
    keys: &'a [u64],
    part: Part,
    bags: &'a Bags,
    pooled: *const f32,
    stride: usize,
    mean: bool,
    l2: f32,
    scale: f32,
    values: RowPointer,
    /// Random bits of rounding.
    noise: Philox,
    weights: Option<*mut f32>,
    learned: bool,
}

/// Which rows.
pub(super) enum Part {
    /// Those whose first occurrence is at these positions among the keys.
    Occurrences(usize, usize),
    /// All of a range.
    Rows(usize, usize),
}

impl<'a> Work<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        set: &'a TableSet,
        groups: &'a Groups,
        gradient: BagGradient<'a>,
        all_rows: bool,
        first_chunk: &[usize],
        chunk: usize,
        scale: f32,
        (seed, number): (u64, u64),
    ) -> Self {
        let table = first_chunk.partition_point(|&c| c <= chunk) - 1;
        let (at, dim) = (chunk - first_chunk[table], set.dim);
        let keys = groups.keys(set.column + table);
        let part = if all_rows {
            let n = rows_a_chunk(dim);
            Part::Rows(at * n, set.tables[table].rows().min((at + 1) * n))
        } else {
            Part::Occurrences(at * SPAN, keys.len().min((at + 1) * SPAN))
        };
        Work {
            table,
            dim,
            keys,
            part,
            bags: &gradient.bags[set.column + table],
            pooled: gradient.pooled.data.as_ptr().wrapping_add(table * dim),
            stride: gradient.pooled.stride,
            mean: set.pooling == Pooling::Mean,
            l2: gradient.l2,
            scale,
            values: set.tables[table].pointer(),
            noise: Philox::rounding(seed, number, (set.first + table) as u16),
            weights: set.weights.as_ref().map(|w| w.tables[table].as_ptr()),
            learned: set.weights.as_ref().is_some_and(|w| w.learned),
        }
    }
}

impl Work<'_> {
    /// The row of the table that an occurrence is of.
    #[inline(always)]
    fn place(&self, key: u64) -> usize {
        let number = row_of(key);
        if self.bags.ids.is_empty() { number } else { self.slot(number as u32, sample_of(key)) }
    }

    /// The slot of an id of a sample.
    fn slot(&self, id: u32, sample: usize) -> usize {
        let Bags { indices, offsets, ids, .. } = self.bags;
        let bag = offsets[sample] as usize..offsets[sample + 1] as usize;
        let at = ids[bag.clone()].iter().position(|&i| i == id);
        debug_assert!(at.is_some(), "keys are made of these bags");
        at.map_or(0, |at| indices[bag.start + at] as usize)
    }
}

/// What is done with a row and its gradient.
pub(super) trait Visit {
    /// Whether `visit` changes the row.
    const CHANGES: bool;

    /// Asks for the memory that `visit` will need for row `row` beside the row itself.
    fn prefetch(&self, row: usize);

    /// `p` are the elements of row `row` of the table in f32, `g` their gradient; `weight` the row's weight and
    /// its gradient, if trained.
    ///
    /// # Safety
    /// The row, its weight and its state must belong to the caller alone; the machine must have the
    /// instruction set of `L`.
    unsafe fn visit<L: Lanes>(
        &mut self,
        row: usize,
        p: *mut f32,
        g: &[f32],
        weight: Option<(*mut f32, f32)>,
    );

    /// After the last row.
    fn end(&mut self) {}
}

/// Computes the gradients of the rows of `work`, one at a time, and hands them to `visit`.
pub(super) struct Sweep<'a, V> {
    pub(super) work: Work<'a>,
    /// Room for [`SCRATCH`] rows, `row_len` apart.
    pub(super) scratch: *mut f32,
    pub(super) row_len: usize,
    pub(super) visit: V,
}

impl<V: Visit> Kernel for Sweep<'_, V> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: shapes have been checked by `SparseUpdate::plan`, rows and samples in keys by
        // `Groups::sort`. Chunks have rows of their own.
        unsafe {
            match self.work.dim {
                1 => self.sweep::<One, 1>(),
                16 => self.sweep::<L, 16>(),
                _ => self.sweep::<L, 0>(),
            }
            self.visit.end();
        }
    }
}

impl<V: Visit> Sweep<'_, V> {
    /// `D` is the dimension, or 0 for any.
    #[inline(always)]
    unsafe fn sweep<L: Lanes, const D: usize>(&mut self) {
        let keys = self.work.keys;
        match self.work.part {
            Part::Occurrences(mut i, to) => {
                while i > 0 && i < to && row_of(keys[i]) == row_of(keys[i - 1]) {
                    i += 1;
                }
                while i < to {
                    let row = row_of(keys[i]);
                    let from = i;
                    self.ahead::<D>(i);
                    i += 1;
                    while i < keys.len() && row_of(keys[i]) == row {
                        self.ahead::<D>(i);
                        i += 1;
                    }
                    // SAFETY: see `run`: rows, samples and columns exist.
                    unsafe { self.row::<L, D>(row, &keys[from..i]) };
                }
            }
            Part::Rows(low, high) => {
                let mut i = keys.partition_point(|&key| row_of(key) < low);
                for row in low..high {
                    let from = i;
                    while i < keys.len() && row_of(keys[i]) == row {
                        self.ahead::<D>(i);
                        i += 1;
                    }
                    // SAFETY: see `run`: rows, samples and columns exist.
                    unsafe { self.row::<L, D>(row, &keys[from..i]) };
                }
            }
        }
    }

    #[inline(always)]
    fn ahead<const D: usize>(&self, i: usize) {
        let w = &self.work;
        let d = if D == 0 { w.dim } else { D };
        let key = w.keys[(i + AHEAD).min(w.keys.len() - 1)];
        prefetch_row(w.pooled.wrapping_add(sample_of(key) * w.stride), d);
        let row = w.place(key);
        let at = row * d;
        if V::CHANGES {
            match w.values {
                RowPointer::Fp32(p) => prefetch_row(p.wrapping_add(at), d),
                RowPointer::Bf16(p) | RowPointer::Fp16(p) => prefetch_row(p.wrapping_add(at), d),
                RowPointer::Bf16Split { high, low } => {
                    prefetch_row(high.wrapping_add(at), d);
                    prefetch_row(low.wrapping_add(at), d);
                }
            }
        }
        self.visit.prefetch(row);
    }

    /// Gradient of one row from its occurrences; `number` is what the row is told apart by.
    #[inline(always)]
    unsafe fn row<L: Lanes, const D: usize>(&mut self, number: usize, keys: &[u64]) {
        let row = keys.first().map_or(number, |&key| self.work.place(key));
        // SAFETY: see `run`: rows, samples and columns exist.
        unsafe {
            let d = if D == 0 { self.work.dim } else { D };
            let weight = self.work.weights.map(|w| w.add(row));
            let (p, seen) = self.elements::<L>(row, d, weight.is_some());
            let seen_weight = weight.map(|weight| (*weight, seen));
            let mut slope = 0.0;
            let mut c = 0;
            while d - c >= SUMS * L::N {
                let sums = self.sums::<L, SUMS>(keys, c, d);
                for &sum in &sums {
                    slope += self.gradient::<L>(sum, (c, d), seen_weight, p);
                    c += L::N;
                }
            }
            while c < d {
                let [sum] = self.sums::<L, 1>(keys, c, d);
                slope += self.gradient::<L>(sum, (c, d), seen_weight, p);
                c += L::N;
            }
            let g = std::slice::from_raw_parts(self.scratch, d);
            let weight = weight.filter(|_| self.work.learned).map(|w| (w, slope * self.work.scale));
            self.visit.visit::<L>(row, p, g, weight);
            if V::CHANGES {
                self.keep::<L>((row, number), d, p);
            }
        }
    }

    /// Sums over occurrences of `R` registers of pooled gradients from column `c` on; several are
    /// whole ones.
    #[inline(always)]
    unsafe fn sums<L: Lanes, const R: usize>(&self, keys: &[u64], c: usize, d: usize) -> [L::V; R] {
        // SAFETY: see `run`: samples and columns exist.
        unsafe {
            let mut sums = [L::splat(0.0); R];
            for &key in keys {
                let g = self.work.pooled.add(sample_of(key) * self.work.stride + c);
                for (k, sum) in sums.iter_mut().enumerate() {
                    let left = if R > 1 { L::N } else { d - c };
                    let g = load_up_to::<L>(g.add(k * L::N), left);
                    *sum = if self.work.mean {
                        L::add(*sum, L::mul(self.share::<L>(key), g))
                    } else {
                        L::add(*sum, g)
                    };
                }
            }
            sums
        }
    }

    /// Writes the gradient of a register of columns from `c` on, of `d`, to scratch space: `sum`, with the row's
    /// `weight` and decay. Returns what the columns give to the weight's gradient; `weight` has the weight and
    /// the row as lookups see it.
    // Not a closure of `row`: one that is not inlined is compiled without the instruction set.
    #[inline(always)]
    unsafe fn gradient<L: Lanes>(
        &self,
        mut sum: L::V,
        (c, d): (usize, usize),
        weight: Option<(f32, *mut f32)>,
        p: *const f32,
    ) -> f32 {
        let (part, mut slope) = (d - c, 0.0);
        // SAFETY: see `run`: the row exists, scratch space has room for it.
        unsafe {
            if let Some((weight, seen)) = weight {
                slope = L::sum(L::mul(sum, load_up_to::<L>(seen.add(c), part)));
                sum = L::mul(sum, L::splat(weight));
            }
            if self.work.l2 != 0.0 {
                let decay = L::mul(L::splat(self.work.l2), load_up_to::<L>(p.add(c), part));
                sum = L::add(sum, decay);
            }
            store_up_to::<L>(self.scratch.add(c), part, L::mul(sum, L::splat(self.work.scale)));
        }
        slope
    }

    /// Where the elements of a row are in f32, and where they are as lookups see them: in the table
    /// itself, or in scratch space, which is filled only if somebody will look.
    #[inline(always)]
    unsafe fn elements<L: Lanes>(
        &self,
        row: usize,
        d: usize,
        weighted: bool,
    ) -> (*mut f32, *mut f32) {
        let (values, at) = (self.work.values, row * d);
        // SAFETY: see `run`: the row exists; scratch space has room for `SCRATCH` rows.
        unsafe {
            if let RowPointer::Fp32(p) = values {
                return (p.add(at), p.add(at));
            }
            let (p, mut seen) = (self.scratch.add(self.row_len), self.scratch.add(self.row_len));
            if V::CHANGES || weighted || self.work.l2 != 0.0 {
                widen::<L>(values, at, d, p);
            }
            if let (RowPointer::Bf16Split { high, .. }, true) = (values, weighted) {
                seen = self.scratch.add(2 * self.row_len);
                widen::<L>(RowPointer::Bf16(high), at, d, seen);
            }
            (p, seen)
        }
    }

    /// Puts a row that is not kept in f32 back from `p`; its noise goes by its number.
    #[inline(always)]
    unsafe fn keep<L: Lanes>(&self, (row, number): (usize, usize), d: usize, p: *const f32) {
        let (values, at) = (self.work.values, row * d);
        if let RowPointer::Fp32(_) = values {
            return;
        }
        let mut words = [0u32; COLUMNS / 2];
        let first = number * d.div_ceil(COLUMNS);
        let mut c = 0;
        while c < d {
            let n = L::N.min(d - c);
            // SAFETY: see `run`: the row exists. `L::N` divides `COLUMNS`, so that a register's
            // noise lies inside `words`, whose lower halves come first.
            unsafe {
                let v = load_up_to::<L>(p.add(c), d - c);
                if let RowPointer::Bf16Split { high, low } = values {
                    L::store_split(high.add(at + c), low.add(at + c), n, v);
                } else {
                    if c.is_multiple_of(COLUMNS) {
                        self.work.noise.columns(((first + c / COLUMNS) * 8) as u64, &mut words);
                    }
                    let noise = words.as_ptr().cast::<u16>().add(c % COLUMNS);
                    match values {
                        RowPointer::Bf16(to) => L::store_bf16(to.add(at + c), n, v, noise),
                        RowPointer::Fp16(to) => L::store_f16(to.add(at + c), n, v, noise),
                        RowPointer::Fp32(_) | RowPointer::Bf16Split { .. } => {}
                    }
                }
            }
            c += L::N;
        }
    }

    /// What an occurrence in a mean counts.
    #[inline(always)]
    unsafe fn share<L: Lanes>(&self, key: u64) -> L::V {
        let sample = sample_of(key);
        // SAFETY: see `run`: rows, samples and columns exist.
        unsafe {
            let offsets = &self.work.bags.offsets;
            let length = offsets.get_unchecked(sample + 1) - offsets.get_unchecked(sample);
            L::splat(1.0 / length as f32)
        }
    }
}

/// Writes `d` elements from `at` on to `out` in f32.
///
/// # Safety
/// There must be so many, and room for them; the machine must have the instruction set of `L`.
#[inline(always)]
unsafe fn widen<L: Lanes>(values: RowPointer, at: usize, d: usize, out: *mut f32) {
    let mut c = 0;
    while c < d {
        let n = L::N.min(d - c);
        // SAFETY: the caller's promise.
        unsafe {
            let v = match values {
                RowPointer::Fp32(p) => load_up_to::<L>(p.add(at + c), n),
                RowPointer::Bf16(p) => L::load_bf16(p.add(at + c), n),
                RowPointer::Fp16(p) => L::load_f16(p.add(at + c), n),
                RowPointer::Bf16Split { high, low } => {
                    L::load_split(high.add(at + c), low.add(at + c), n)
                }
            };
            store_up_to::<L>(out.add(c), n, v);
        }
        c += L::N;
    }
}
