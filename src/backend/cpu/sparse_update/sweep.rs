//! Gradients of rows, one row after another.

use super::{BagGradient, SPAN, rows_a_chunk};
use crate::{
    backend::cpu::{
        groups::{Groups, row_of, sample_of},
        simd::{Kernel, Lanes, One, load_up_to, prefetch_row, store_up_to},
    },
    embedding::TableSet,
    model::Pooling,
};

/// Occurrences ahead of the present one whose memory is asked for.
const AHEAD: usize = 12;

/// A part of a table's rows and all that is needed to compute their gradients.
pub(super) struct Work<'a> {
    pub(super) table: usize,
    dim: usize,
    keys: &'a [u64],
    part: Part,
    offsets: &'a [u32],
    pooled: *const f32,
    stride: usize,
    mean: bool,
    l2: f32,
    scale: f32,
    values: *mut f32,
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
    pub(super) fn new(
        set: &'a TableSet,
        groups: &'a Groups,
        gradient: BagGradient<'a>,
        all_rows: bool,
        first_chunk: &[usize],
        chunk: usize,
        scale: f32,
    ) -> Self {
        let table = first_chunk.partition_point(|&c| c <= chunk) - 1;
        let (at, dim) = (chunk - first_chunk[table], set.dim);
        let keys = groups.keys(table);
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
            offsets: &gradient.bags[table].offsets,
            pooled: gradient.pooled.data.as_ptr().wrapping_add(table * dim),
            stride: gradient.pooled.stride,
            mean: set.pooling == Pooling::Mean,
            l2: gradient.l2,
            scale,
            values: set.tables[table].as_ptr(),
            weights: set.weights.as_ref().map(|w| w.tables[table].as_ptr()),
            learned: set.weights.as_ref().is_some_and(|w| w.learned),
        }
    }
}

/// What is done with a row and its gradient.
pub(super) trait Visit {
    /// Asks for the memory that `visit` will need for row `row`, whose `dim` elements are at `p`.
    fn prefetch(&self, row: usize, p: *const f32, dim: usize);

    /// `p` are the elements of row `row`, `g` their gradient; `weight` the row's weight and its gradient, if trained.
    ///
    /// # Safety
    /// The row, its weight and its state must belong to the caller alone; the machine must have the instruction set of `L`.
    unsafe fn visit<L: Lanes>(&mut self, row: usize, p: *mut f32, g: &[f32], weight: Option<(*mut f32, f32)>);

    /// After the last row.
    fn end(&mut self) {}
}

/// Computes the gradients of the rows of `work`, one at a time, and hands them to `visit`.
pub(super) struct Sweep<'a, V> {
    pub(super) work: Work<'a>,
    /// One row.
    pub(super) scratch: *mut f32,
    pub(super) visit: V,
}

impl<V: Visit> Kernel for Sweep<'_, V> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: shapes have been checked by `SparseUpdate::plan`, rows and samples in keys by `Groups::sort`. Chunks have rows
        // of their own.
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
        self.visit.prefetch(row_of(key), w.values.wrapping_add(row_of(key) * d), d);
    }

    /// Gradient of one row from its occurrences.
    #[inline(always)]
    unsafe fn row<L: Lanes, const D: usize>(&mut self, row: usize, keys: &[u64]) {
        // SAFETY: see `run`: rows, samples and columns exist.
        unsafe {
            let d = if D == 0 { self.work.dim } else { D };
            let p = self.work.values.add(row * d);
            let weight = self.work.weights.map(|w| w.add(row));
            let mut slope = 0.0;
            let mut c = 0;
            while c < d {
                let part = d - c;
                let mut sum = L::splat(0.0);
                for &key in keys {
                    let g = load_up_to::<L>(self.work.pooled.add(sample_of(key) * self.work.stride + c), part);
                    sum = if self.work.mean { L::add(sum, L::mul(self.share::<L>(key), g)) } else { L::add(sum, g) };
                }
                if let Some(weight) = weight {
                    slope += L::sum(L::mul(sum, load_up_to::<L>(p.add(c), part)));
                    sum = L::mul(sum, L::splat(*weight));
                }
                if self.work.l2 != 0.0 {
                    sum = L::add(sum, L::mul(L::splat(self.work.l2), load_up_to::<L>(p.add(c), part)));
                }
                sum = L::mul(sum, L::splat(self.work.scale));
                store_up_to::<L>(self.scratch.add(c), part, sum);
                c += L::N;
            }
            let g = std::slice::from_raw_parts(self.scratch, d);
            let weight = weight.filter(|_| self.work.learned).map(|w| (w, slope * self.work.scale));
            self.visit.visit::<L>(row, p, g, weight);
        }
    }

    /// What an occurrence in a mean counts.
    #[inline(always)]
    unsafe fn share<L: Lanes>(&self, key: u64) -> L::V {
        let sample = sample_of(key);
        // SAFETY: see `run`: rows, samples and columns exist.
        unsafe {
            let length = self.work.offsets.get_unchecked(sample + 1) - self.work.offsets.get_unchecked(sample);
            L::splat(1.0 / length as f32)
        }
    }
}
