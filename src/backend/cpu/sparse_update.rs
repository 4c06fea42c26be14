//! Updates of embedding rows: gradients of bags summed by row in the order of the batch, then the
//! rule, in one sweep.

mod sweep;
mod visit;

use super::{
    gemm::Rows,
    groups::{Groups, row_of},
    simd::launch,
};
use crate::{
    backend::Update,
    batch::Bags,
    embedding::{RowTable, Table, TableSet},
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
    optim::rules::{Formula, Visitor},
};
use std::marker::PhantomData;
use sweep::{SCRATCH, Sweep, Work};
use visit::{Apply, Slots, Squares, WriteOut};

/// Occurrences of a chunk when only touched rows move.
const SPAN: usize = 256;

/// Elements of a chunk when all rows move.
const ELEMENTS: usize = 1 << 14;

/// Floats of scratch space are padded to this.
const PAD: usize = 16;

/// Gradient of the pooled vectors, and what else makes the gradient of a row.
#[derive(Debug, Clone, Copy)]
pub struct BagGradient<'a> {
    /// The bags that [`Groups::sort`] was given.
    pub bags: &'a [Bags],
    /// `[B, tables * dim]`: table `k` in columns `k * dim..(k + 1) * dim`.
    pub pooled: Rows<'a>,
    /// `l2 * p` is added to the gradient of every element `p` of all rows, touched or not; 0 is
    /// off.
    pub l2: f32,
}

/// Scratch space of sparse updates, made once.
#[derive(Debug)]
pub struct SparseUpdate {
    /// [`SCRATCH`] rows for each thread.
    rows: Vec<f32>,
    row_len: usize,
    threads: usize,
    /// One sum for each chunk.
    partials: Vec<f64>,
    /// First chunk of each table.
    first_chunk: Vec<usize>,
}

impl SparseUpdate {
    /// Scratch space for `threads` threads and the rows of all sets of `tables` tables with up to
    /// `max_dim` columns.
    pub fn new(max_dim: usize, tables: usize, threads: usize) -> Self {
        let row_len = max_dim.next_multiple_of(PAD);
        SparseUpdate {
            rows: vec![0.0; SCRATCH * row_len * threads],
            row_len,
            threads,
            partials: Vec::new(),
            first_chunk: vec![0; tables + 1],
        }
    }

    /// Makes room for a set of `tables` tables of `dim` columns too.
    pub fn reserve_tables(&mut self, dim: usize, tables: usize) {
        self.row_len = self.row_len.max(dim.next_multiple_of(PAD));
        self.rows.resize(SCRATCH * self.row_len * self.threads, 0.0);
        self.first_chunk.resize((tables + 1).max(self.first_chunk.len()), 0);
    }

    /// Makes room for [`SparseUpdate::sum_squares`] of batches with up to `ids[k]` ids of table
    /// `k`.
    pub fn reserve(&mut self, ids: impl Iterator<Item = usize>) {
        let chunks = ids.map(|n| n.div_ceil(SPAN)).sum();
        self.partials.reserve(chunks);
    }

    /// Sum of squares of the gradient of all rows (coalesced, `l2` term included) and of row
    /// weights, if trained; in f64, in an order that depends on the batch alone.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn sum_squares(
        &mut self,
        pool: &Pool,
        isa: Isa,
        set: &TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
    ) -> f64 {
        let all_rows = gradient.l2 != 0.0;
        let chunks = self.plan(pool, set, groups, gradient, all_rows);
        self.partials.clear();
        // Room for the largest batch at once, so that no later one allocates.
        self.partials.reserve(
            chunks.max((0..groups.tables()).map(|k| groups.capacity(k).div_ceil(SPAN)).sum()),
        );
        self.partials.resize(chunks, 0.0);
        let partials = SharedMut::new(&mut self.partials);
        let rows = SharedMut::new(&mut self.rows);
        let (first_chunk, row_len) = (&self.first_chunk, self.row_len);
        pool.run(chunks, |chunk, thread| {
            let work = Work::new(set, groups, gradient, all_rows, first_chunk, chunk, 1.0, (0, 0));
            let scratch = rows.as_ptr().wrapping_add(thread * SCRATCH * row_len);
            // SAFETY: each chunk has its own sum.
            let sum = unsafe { &mut partials.slice(chunk, 1)[0] };
            launch(
                isa,
                Sweep { work, scratch, row_len, visit: Squares { sums: [0.0; 16], total: sum } },
            );
        });
        self.partials.iter().sum()
    }

    /// Updates the rows that the batch touched, and all others if the rule or `gradient.l2` asks
    /// for it.
    ///
    /// # Panics
    /// If shapes do not fit each other, or the set was made for another rule.
    pub fn update(
        &mut self,
        pool: &Pool,
        isa: Isa,
        set: &mut TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
        update: &Update,
    ) {
        update.step.formula.visit(ByRow { sparse: self, pool, isa, set, groups, gradient, update });
    }

    #[allow(clippy::too_many_arguments)]
    fn update_by<F: Formula>(
        &mut self,
        pool: &Pool,
        isa: Isa,
        set: &mut TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
        update: &Update,
    ) {
        let learned = set.weights.as_ref().filter(|w| w.learned);
        let kept = |state: &[Vec<Table>], width: usize| {
            let widths = (0..F::ROW_STATES).map(|_| width).chain(F::ROW.then_some(1));
            state.len() == F::ROW_STATES + usize::from(F::ROW)
                && state.iter().zip(widths).all(|(s, width)| same_shape(s, &set.tables, width))
        };
        assert!(
            kept(&set.state, set.dim) && learned.is_none_or(|w| kept(&w.state, 1)),
            "the set has the state of another rule"
        );
        let all_rows = set.all_rows || gradient.l2 != 0.0;
        let chunks = self.plan(pool, set, groups, gradient, all_rows);
        let rows = SharedMut::new(&mut self.rows);
        let (first_chunk, row_len) = (&self.first_chunk, self.row_len);
        let set: &TableSet = set;
        pool.run(chunks, |chunk, thread| {
            let work = Work::new(
                set,
                groups,
                gradient,
                all_rows,
                first_chunk,
                chunk,
                update.scale,
                update.noise,
            );
            let scratch = rows.as_ptr().wrapping_add(thread * SCRATCH * row_len);
            let k = work.table;
            let state = Slots::of(&set.state, k);
            let learned = set.weights.as_ref().filter(|w| w.learned);
            let visit = Apply::<F> {
                formula: PhantomData,
                constants: update.step.constants,
                state,
                weight_state: learned.map(|w| Slots::of(&w.state, k)),
            };
            launch(isa, Sweep { work, scratch, row_len, visit });
        });
    }

    /// Checks shapes and cuts the work; returns the number of chunks.
    fn plan(
        &mut self,
        pool: &Pool,
        set: &TableSet,
        groups: &Groups,
        gradient: BagGradient<'_>,
        all_rows: bool,
    ) -> usize {
        let (n, dim) = (set.tables.len(), set.dim);
        assert!(
            groups.tables() >= set.column + n && gradient.bags.len() == groups.tables(),
            "groups and bags for {n} tables"
        );
        assert!(
            pool.threads() <= self.threads && dim <= self.row_len,
            "scratch space for all threads and rows"
        );
        let samples = gradient.bags.first().map_or(0, |b| b.offsets.len() - 1);
        let needed =
            if samples == 0 { 0 } else { (samples - 1) * gradient.pooled.stride + n * dim };
        assert!(gradient.pooled.data.len() >= needed, "{samples} rows of pooled gradients");
        assert!(
            set.weights.as_ref().is_none_or(|w| same_shape(&w.tables, &set.tables, 1)),
            "one weight for each row"
        );
        self.first_chunk.resize(n + 1, 0);
        for (k, table) in set.tables.iter().enumerate() {
            assert_eq!(table.dim(), dim, "tables of a set have the same dimension");
            let (bags, keys) = (&gradient.bags[set.column + k], groups.keys(set.column + k));
            assert_eq!(bags.offsets.len(), samples + 1, "bags of all tables have the same samples");
            assert_eq!(bags.indices.len(), keys.len(), "the bags that were grouped");
            let exist = match bags.ids.is_empty() {
                true => keys.last().is_none_or(|&key| row_of(key) < table.rows()),
                // All rows are swept by their numbers, which slots do not have.
                false => {
                    !all_rows && bags.indices.iter().all(|&slot| (slot as usize) < table.rows())
                }
            };
            assert!(exist, "groups of tables of the same sizes");
            let chunks = if all_rows {
                table.rows().div_ceil(rows_a_chunk(dim))
            } else {
                keys.len().div_ceil(SPAN)
            };
            self.first_chunk[k + 1] = self.first_chunk[k] + chunks;
        }
        self.first_chunk[n]
    }
}

/// An update of rows, whatever the formula.
struct ByRow<'a> {
    sparse: &'a mut SparseUpdate,
    pool: &'a Pool,
    isa: Isa,
    set: &'a mut TableSet,
    groups: &'a Groups,
    gradient: BagGradient<'a>,
    update: &'a Update,
}

impl Visitor for ByRow<'_> {
    type Output = ();

    fn visit<F: Formula>(self) {
        let ByRow { sparse, pool, isa, set, groups, gradient, update } = self;
        sparse.update_by::<F>(pool, isa, set, groups, gradient, update);
    }
}

/// Whether there is a table of `width` columns for each of `tables`, with as many rows.
fn same_shape(set: &[Table], tables: &[RowTable], width: usize) -> bool {
    set.len() == tables.len()
        && set.iter().zip(tables).all(|(s, t)| s.rows() == t.rows() && s.dim() == width)
}

fn rows_a_chunk(dim: usize) -> usize {
    (ELEMENTS / dim.max(1)).max(1)
}

/// Gradient of table `k` written out, `[rows, dim]`, and that of its row weights, `[rows]`, if they
/// are trained (else `weights` stays as it is). For tests and diagnosis: one thread, in the same
/// order as the update.
///
/// # Panics
/// If shapes do not fit each other.
pub fn gradient(
    set: &TableSet,
    k: usize,
    groups: &Groups,
    gradient: BagGradient<'_>,
    rows: &mut [f32],
    weights: &mut [f32],
) {
    let table = &set.tables[k];
    assert_eq!(rows.len(), table.elements(), "the gradient of a table has its size");
    let learned = set.weights.as_ref().is_some_and(|w| w.learned);
    assert!(
        !learned || weights.len() == table.rows(),
        "the gradient of row weights has their size"
    );
    let mut scratch = vec![0.0; SCRATCH * set.dim];
    let mut plan = SparseUpdate::new(set.dim, set.tables.len(), 1);
    let pool = Pool::new(1);
    plan.plan(&pool, set, groups, gradient, true);
    for chunk in plan.first_chunk[k]..plan.first_chunk[k + 1] {
        let work = Work::new(set, groups, gradient, true, &plan.first_chunk, chunk, 1.0, (0, 0));
        let visit = WriteOut { rows: &mut *rows, weights: &mut *weights };
        launch(Isa::best(), Sweep { work, scratch: scratch.as_mut_ptr(), row_len: set.dim, visit });
    }
}

#[cfg(test)]
mod tests;
