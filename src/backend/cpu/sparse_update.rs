//! Updates of embedding rows: gradients of bags summed by row in the order of the batch, then the rule, in one sweep.

use super::{
    dense_update::add_squares,
    gemm::{Isa, Rows},
    groups::{Groups, row_of, sample_of},
    pool::{Pool, SharedMut},
    rule,
    simd::{Kernel, Lanes, One, launch, load_up_to, prefetch_row, store_up_to},
};
use crate::{
    data::Bags,
    embedding::{Table, TableSet},
    model::Pooling,
    optim::rules::{Rule, Step},
};

/// Occurrences of a chunk when only touched rows move.
const SPAN: usize = 256;

/// Elements of a chunk when all rows move.
const ELEMENTS: usize = 1 << 14;

/// Occurrences ahead of the present one whose memory is asked for.
const AHEAD: usize = 12;

/// Floats of scratch space are padded to this.
const PAD: usize = 16;

/// Gradient of the pooled vectors, and what else makes the gradient of a row.
#[derive(Debug, Clone, Copy)]
pub struct BagGradient<'a> {
    /// The bags that [`Groups::sort`] was given.
    pub bags: &'a [Bags],
    /// `[B, tables * dim]`: table `k` in columns `k * dim..(k + 1) * dim`.
    pub pooled: Rows<'a>,
    /// `l2 * p` is added to the gradient of every element `p` of all rows, touched or not; 0 is off.
    pub l2: f32,
}

/// Scratch space of sparse updates, made once.
#[derive(Debug)]
pub struct SparseUpdate {
    /// One row's gradient for each thread.
    rows: Vec<f32>,
    row_len: usize,
    threads: usize,
    /// One sum for each chunk.
    partials: Vec<f64>,
    /// First chunk of each table.
    first_chunk: Vec<usize>,
}

impl SparseUpdate {
    /// Scratch space for `threads` threads and the rows of all sets of `tables` tables with up to `max_dim` columns.
    pub fn new(max_dim: usize, tables: usize, threads: usize) -> Self {
        let row_len = max_dim.next_multiple_of(PAD);
        SparseUpdate {
            rows: vec![0.0; row_len * threads],
            row_len,
            threads,
            partials: Vec::new(),
            first_chunk: vec![0; tables + 1],
        }
    }

    /// Makes room for [`SparseUpdate::sum_squares`] of batches with up to `ids[k]` ids of table `k`.
    pub fn reserve(&mut self, ids: impl Iterator<Item = usize>) {
        let chunks = ids.map(|n| n.div_ceil(SPAN)).sum();
        self.partials.reserve(chunks);
    }

    /// Sum of squares of the gradient of all rows (coalesced, `l2` term included) and of row weights, if trained; in f64, in an order
    /// that depends on the batch alone.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn sum_squares(&mut self, pool: &Pool, isa: Isa, set: &TableSet, groups: &Groups, gradient: BagGradient<'_>) -> f64 {
        let all_rows = gradient.l2 != 0.0;
        let chunks = self.plan(pool, set, groups, gradient, all_rows);
        self.partials.clear();
        // Room for the largest batch at once, so that no later one allocates.
        self.partials.reserve(chunks.max((0..groups.tables()).map(|k| groups.capacity(k).div_ceil(SPAN)).sum()));
        self.partials.resize(chunks, 0.0);
        let partials = SharedMut::new(&mut self.partials);
        let rows = SharedMut::new(&mut self.rows);
        let (first_chunk, row_len) = (&self.first_chunk, self.row_len);
        pool.run(chunks, |chunk, thread| {
            let work = Work::new(set, groups, gradient, all_rows, first_chunk, chunk, 1.0);
            let scratch = rows.as_ptr().wrapping_add(thread * row_len);
            // SAFETY: each chunk has its own sum.
            let sum = unsafe { &mut partials.slice(chunk, 1)[0] };
            launch(isa, Sweep { work, scratch, visit: Squares { sums: [0.0; 16], total: sum } });
        });
        self.partials.iter().sum()
    }

    /// Updates the rows that the batch touched, and all others if the rule or `gradient.l2` asks for it. Gradients are multiplied by
    /// `scale` first.
    ///
    /// # Panics
    /// If shapes do not fit each other, or the set was made for another rule.
    #[allow(clippy::too_many_arguments)]
    pub fn update(
        &mut self,
        pool: &Pool,
        isa: Isa,
        set: &mut TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
        step: &Step,
        scale: f32,
    ) {
        match *step {
            Step::Sgd(rule) => self.update_by(pool, isa, set, groups, gradient, rule, scale),
            Step::Adagrad(rule) => self.update_by(pool, isa, set, groups, gradient, rule, scale),
            Step::RowwiseAdagrad(rule) => self.update_by(pool, isa, set, groups, gradient, rule, scale),
            Step::Adam(rule) => self.update_by(pool, isa, set, groups, gradient, rule, scale),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn update_by<R: Rule>(
        &mut self,
        pool: &Pool,
        isa: Isa,
        set: &mut TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
        rule: R,
        scale: f32,
    ) {
        assert_eq!(set.state.len(), R::STATES, "the set has the state of another rule");
        let all_rows = set.all_rows || gradient.l2 != 0.0;
        let chunks = self.plan(pool, set, groups, gradient, all_rows);
        let rows = SharedMut::new(&mut self.rows);
        let (first_chunk, row_len) = (&self.first_chunk, self.row_len);
        let set: &TableSet = set;
        pool.run(chunks, |chunk, thread| {
            let work = Work::new(set, groups, gradient, all_rows, first_chunk, chunk, scale);
            let scratch = rows.as_ptr().wrapping_add(thread * row_len);
            let k = work.table;
            let state = Slots::of(&set.state, k);
            let learned = set.weights.as_ref().filter(|w| w.learned);
            let visit = Apply { rule, state, weight_state: learned.map(|w| Slots::of(&w.state, k)) };
            launch(isa, Sweep { work, scratch, visit });
        });
    }

    /// Checks shapes and cuts the work; returns the number of chunks.
    fn plan(&mut self, pool: &Pool, set: &TableSet, groups: &Groups, gradient: BagGradient<'_>, all_rows: bool) -> usize {
        let (n, dim) = (set.tables.len(), set.dim);
        assert!(groups.tables() == n && gradient.bags.len() == n, "{n} tables, as many groups and bags");
        assert!(pool.threads() <= self.threads && dim <= self.row_len, "scratch space for all threads and rows");
        let samples = gradient.bags.first().map_or(0, |b| b.offsets.len() - 1);
        let needed = if samples == 0 { 0 } else { (samples - 1) * gradient.pooled.stride + n * dim };
        assert!(gradient.pooled.data.len() >= needed, "{samples} rows of pooled gradients");
        self.first_chunk.resize(n + 1, 0);
        for (k, table) in set.tables.iter().enumerate() {
            assert_eq!(table.dim(), dim, "tables of a set have the same dimension");
            assert_eq!(gradient.bags[k].offsets.len(), samples + 1, "bags of all tables have the same samples");
            assert_eq!(gradient.bags[k].indices.len(), groups.keys(k).len(), "the bags that were grouped");
            let keys = groups.keys(k);
            assert!(keys.last().is_none_or(|&key| row_of(key) < table.rows()), "groups of tables of the same sizes");
            let chunks = if all_rows { table.rows().div_ceil(rows_a_chunk(dim)) } else { keys.len().div_ceil(SPAN) };
            self.first_chunk[k + 1] = self.first_chunk[k] + chunks;
        }
        self.first_chunk[n]
    }
}

fn rows_a_chunk(dim: usize) -> usize {
    (ELEMENTS / dim.max(1)).max(1)
}

/// Gradient of table `k` written out, `[rows, dim]`, and that of its row weights, `[rows]`, if they are trained (else
/// `weights` stays as it is). For tests and diagnosis: one thread, in the same order as the update.
///
/// # Panics
/// If shapes do not fit each other.
pub fn gradient(set: &TableSet, k: usize, groups: &Groups, gradient: BagGradient<'_>, rows: &mut [f32], weights: &mut [f32]) {
    let table = &set.tables[k];
    assert_eq!(rows.len(), table.values().len(), "the gradient of a table has its size");
    let learned = set.weights.as_ref().is_some_and(|w| w.learned);
    assert!(!learned || weights.len() == table.rows(), "the gradient of row weights has their size");
    let mut scratch = vec![0.0; set.dim];
    let mut plan = SparseUpdate::new(set.dim, set.tables.len(), 1);
    let pool = Pool::new(1);
    plan.plan(&pool, set, groups, gradient, true);
    for chunk in plan.first_chunk[k]..plan.first_chunk[k + 1] {
        let work = Work::new(set, groups, gradient, true, &plan.first_chunk, chunk, 1.0);
        let visit = WriteOut { rows: &mut *rows, weights: &mut *weights };
        launch(Isa::best(), Sweep { work, scratch: scratch.as_mut_ptr(), visit });
    }
}

/// A part of a table's rows and all that is needed to compute their gradients.
struct Work<'a> {
    table: usize,
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
enum Part {
    /// Those whose first occurrence is at these positions among the keys.
    Occurrences(usize, usize),
    /// All of a range.
    Rows(usize, usize),
}

impl<'a> Work<'a> {
    fn new(
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
trait Visit {
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
struct Sweep<'a, V> {
    work: Work<'a>,
    /// One row.
    scratch: *mut f32,
    visit: V,
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
        unsafe {
            let length = self.work.offsets.get_unchecked(sample + 1) - self.work.offsets.get_unchecked(sample);
            L::splat(1.0 / length as f32)
        }
    }
}

/// Sum of squares.
struct Squares<'a> {
    sums: [f64; 16],
    total: &'a mut f64,
}

impl Visit for Squares<'_> {
    #[inline(always)]
    fn prefetch(&self, _: usize, _: *const f32, _: usize) {}

    #[inline(always)]
    unsafe fn visit<L: Lanes>(&mut self, _: usize, _: *mut f32, g: &[f32], weight: Option<(*mut f32, f32)>) {
        // SAFETY: the caller has the instruction set.
        unsafe { add_squares::<L>(g, &mut self.sums) };
        if let Some((_, g)) = weight {
            self.sums[0] += f64::from(g) * f64::from(g);
        }
    }

    #[inline(always)]
    fn end(&mut self) {
        *self.total = self.sums.iter().sum();
    }
}

/// The gradients themselves.
struct WriteOut<'a> {
    rows: &'a mut [f32],
    weights: &'a mut [f32],
}

impl Visit for WriteOut<'_> {
    #[inline(always)]
    fn prefetch(&self, _: usize, _: *const f32, _: usize) {}

    #[inline(always)]
    unsafe fn visit<L: Lanes>(&mut self, row: usize, _: *mut f32, g: &[f32], weight: Option<(*mut f32, f32)>) {
        self.rows[row * g.len()..][..g.len()].copy_from_slice(g);
        if let Some((_, g)) = weight {
            self.weights[row] = g;
        }
    }
}

/// State of a table's rows: pointers to up to two buffers, and their elements a row.
#[derive(Debug, Clone, Copy)]
struct Slots {
    buffers: [*mut f32; 2],
    width: usize,
}

impl Slots {
    fn of(state: &[Vec<Table>], k: usize) -> Self {
        let mut slots = Slots { buffers: [std::ptr::dangling_mut(); 2], width: 0 };
        for (slot, tables) in slots.buffers.iter_mut().zip(state) {
            *slot = tables[k].as_ptr();
            slots.width = tables[k].dim();
        }
        slots
    }

    /// State of one row; only for buffers that there are.
    #[inline(always)]
    fn row(self, row: usize) -> [*mut f32; 2] {
        self.buffers.map(|b| b.wrapping_add(row * self.width))
    }
}

/// The update.
struct Apply<R> {
    rule: R,
    state: Slots,
    weight_state: Option<Slots>,
}

impl<R: Rule> Visit for Apply<R> {
    #[inline(always)]
    fn prefetch(&self, row: usize, p: *const f32, dim: usize) {
        prefetch_row(p, dim);
        for state in &self.state.row(row)[..R::STATES] {
            prefetch_row(*state, self.state.width);
        }
    }

    #[inline(always)]
    unsafe fn visit<L: Lanes>(&mut self, row: usize, p: *mut f32, g: &[f32], weight: Option<(*mut f32, f32)>) {
        // SAFETY: the row's state is as wide as the rule has it, and is the caller's alone.
        unsafe {
            rule::update_row::<L, R>(self.rule, g.len(), p, g.as_ptr(), self.state.row(row));
            if let (Some((w, g)), Some(state)) = (weight, self.weight_state) {
                rule::update_row::<One, R>(self.rule, 1, w, &g, state.row(row));
            }
        }
    }
}

#[cfg(test)]
mod tests;
