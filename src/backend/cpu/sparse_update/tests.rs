use super::*;
use crate::{
    backend::cpu::testing::{Numbers, bits, checked, machines},
    embedding::{RowKind, sixteen},
    model::Pooling,
    optim::{
        OptimizerSpec,
        rules::{Step, tests::plain, update_row},
    },
    random::philox::Philox,
};
use proptest::prelude::*;

const POOLINGS: [Pooling; 4] =
    [Pooling::Sum, Pooling::Mean, Pooling::WeightedFixed, Pooling::WeightedLearned];

/// Number of the update that is tried on rows whose state has just begun.
const UPDATE: u64 = 3;

/// A batch and the tables that it is about.
struct Case {
    rows: Vec<usize>,
    dim: usize,
    samples: usize,
    hotness: usize,
    bags: Vec<Bags>,
    pooled: Vec<f32>,
    stride: usize,
    values: Vec<Vec<f32>>,
    weights: Vec<Vec<f32>>,
    l2: f32,
}

impl Case {
    fn new(
        samples: usize,
        rows: Vec<usize>,
        dim: usize,
        hotness: usize,
        l2: f32,
        seed: u64,
    ) -> Self {
        let mut numbers = Numbers::new(seed);
        let stride = rows.len() * dim + numbers.below(3);
        Case {
            bags: rows.iter().map(|&r| numbers.bags(samples, r, hotness)).collect(),
            pooled: numbers.floats(samples * stride),
            values: rows.iter().map(|&r| numbers.floats(r * dim)).collect(),
            weights: rows.iter().map(|&r| numbers.floats(r)).collect(),
            rows,
            dim,
            samples,
            hotness,
            stride,
            l2,
        }
    }

    fn set(&self, pooling: Pooling, rule: &OptimizerSpec) -> TableSet {
        self.set_of(RowKind::Fp32, pooling, rule)
    }

    fn set_of(&self, kind: RowKind, pooling: Pooling, rule: &OptimizerSpec) -> TableSet {
        let mut set = TableSet::new(kind, &self.rows, self.dim, pooling, rule).unwrap();
        set.tables.iter_mut().zip(&self.values).for_each(|(t, v)| t.write(0, v));
        let weights = set.weights.iter_mut().flat_map(|w| &mut w.tables);
        weights.zip(&self.weights).for_each(|(t, v)| t.values_mut().copy_from_slice(v));
        set
    }

    fn gradient(&self) -> BagGradient<'_> {
        BagGradient { bags: &self.bags, pooled: Rows::new(&self.pooled, self.stride), l2: self.l2 }
    }

    fn groups(&self, pool: &Pool) -> Groups {
        let mut groups = Groups::new(
            &self.rows,
            &vec![self.hotness.max(1); self.rows.len()],
            self.samples,
            pool.threads(),
        );
        groups.sort(pool, checked(&self.bags, &self.rows));
        groups
    }

    /// Gradients of table `k` in f64.
    fn plain(&self, pooling: Pooling, k: usize) -> Plain {
        let (d, rows) = (self.dim, self.rows[k]);
        let (mut g, mut dw) = (Sums::zeros(rows * d), Sums::zeros(rows));
        self.values[k]
            .iter()
            .enumerate()
            .for_each(|(i, &p)| g.add(i, f64::from(self.l2) * f64::from(p)));
        let mut touched = vec![self.l2 != 0.0; rows];
        for b in 0..self.samples {
            let bag = self.bags[k].bag(b);
            for &id in bag {
                let id = id as usize;
                touched[id] = true;
                let share = match pooling {
                    Pooling::Sum => 1.0,
                    Pooling::Mean => 1.0 / bag.len() as f64,
                    Pooling::WeightedFixed | Pooling::WeightedLearned => {
                        f64::from(self.weights[k][id])
                    }
                };
                for c in 0..d {
                    let slope = f64::from(self.pooled[b * self.stride + k * d + c]);
                    g.add(id * d + c, slope * share);
                    dw.add(id, slope * f64::from(self.values[k][id * d + c]));
                }
            }
        }
        Plain { rows: g, weights: dw, touched }
    }
}

/// Gradients of a table and of its row weights, and which rows are touched.
struct Plain {
    rows: Sums,
    weights: Sums,
    touched: Vec<bool>,
}

/// Sums of terms in f64, and how far off sums of the same terms in f32 may be. The rounding of an
/// addition is up to 2^-24 of the sum so far; of a few thousand terms of random signs, that is well
/// below this share of their sizes.
struct Sums {
    sum: Vec<f64>,
    size: Vec<f64>,
}

const ROUNDING: f64 = 2e-6;

impl Sums {
    fn zeros(n: usize) -> Self {
        Sums { sum: vec![0.0; n], size: vec![0.0; n] }
    }

    fn add(&mut self, at: usize, term: f64) {
        self.sum[at] += term;
        self.size[at] += term.abs();
    }

    #[track_caller]
    fn check(&self, got: &[f32], what: &str) {
        assert_eq!(got.len(), self.sum.len(), "{what}");
        for (i, &g) in got.iter().enumerate() {
            let (sum, size) = (self.sum[i], self.size[i]);
            assert!(
                (f64::from(g) - sum).abs() <= ROUNDING * size,
                "{what}: element {i} is {g}, should be {sum} of {size}"
            );
        }
    }

    /// The sum of squares, and how far off it may be in f32: where an element g is off by d, its
    /// square is off by up to (2|g| + d) d. That is much of the total only where terms cancel.
    fn squares(&self) -> [f64; 2] {
        let each = self.sum.iter().zip(&self.size).map(|(g, size)| (g, ROUNDING * size));
        each.fold([0.0; 2], |[total, off], (g, d)| [total + g * g, off + (2.0 * g.abs() + d) * d])
    }

    /// Row `row` of `width` elements times `scale`: as it is, and as far off as it may be to either
    /// side, upwards and outwards.
    fn row(&self, row: usize, width: usize, scale: f64) -> [Vec<f64>; 5] {
        let elements = row * width..(row + 1) * width;
        let moved = |up: f64, out: f64| {
            let one = |i: usize| {
                (self.sum[i] + ROUNDING * self.size[i] * (up + out * self.sum[i].signum())) * scale
            };
            elements.clone().map(one).collect()
        };
        [moved(0.0, 0.0), moved(1.0, 0.0), moved(-1.0, 0.0), moved(0.0, 1.0), moved(0.0, -1.0)]
    }
}

/// What f32 makes of a row must lie between what the formula makes of the gradients that it may
/// have.
struct Between {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Between {
    fn of(values: &[&[f64]]) -> Self {
        let ends = |pick: fn(f64, f64) -> f64| {
            (0..values[0].len())
                .map(|i| values.iter().map(|v| v[i]).reduce(pick).unwrap())
                .collect()
        };
        Between { low: ends(f64::min), high: ends(f64::max) }
    }

    #[track_caller]
    fn check(&self, got: &[f32], what: &str) {
        assert_eq!(got.len(), self.low.len(), "{what}");
        for (&g, (&low, &high)) in got.iter().zip(self.low.iter().zip(&self.high)) {
            let (g, off) = (f64::from(g), 1e-6 * (1.0 + high.abs()));
            assert!(
                (low - off..=high + off).contains(&g),
                "{what}: {g}, should be {low} to {high}"
            );
        }
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn values(table: &RowTable) -> Vec<f32> {
    let mut out = vec![0.0; table.elements()];
    table.read(0, &mut out);
    out
}

fn update_of(rule: &OptimizerSpec, rate: f64, scale: f32) -> Update {
    Update { step: Step::new(rule, rate, UPDATE), scale, noise: (7, 1) }
}

/// Everything that an update may move.
fn all_bits(set: &TableSet) -> Vec<u32> {
    let weights = set.weights.iter().flat_map(|w| w.tables.iter().chain(w.state.iter().flatten()));
    let rows = set.tables.iter().flat_map(|t| bits(&values(t)));
    rows.chain(set.state.iter().flatten().chain(weights).flat_map(|t| bits(t.values()))).collect()
}

/// One step against f64.
fn check_update(case: &Case, pooling: Pooling, rule: &OptimizerSpec, scale: f32) {
    let mut of_isa: Option<(Isa, Vec<u32>)> = None;
    for (isa, threads) in machines() {
        let pool = Pool::new(threads);
        let (groups, mut set) = (case.groups(&pool), case.set(pooling, rule));
        let mut sparse = SparseUpdate::new(case.dim, case.rows.len(), threads);
        sparse.update(
            &pool,
            isa,
            &mut set,
            &groups,
            case.gradient(),
            &update_of(rule, 0.05, scale),
        );
        let all = all_bits(&set);
        match &of_isa {
            // Only the gradient of a row weight may be rounded differently.
            Some((other, bits)) if *other == isa || pooling != Pooling::WeightedLearned => {
                assert!(bits == &all, "{isa:?}, {threads} threads");
            }
            _ => {
                (0..case.rows.len()).for_each(|k| check_table(case, pooling, rule, scale, &set, k))
            }
        }
        of_isa = Some((isa, all));
    }
}

fn check_table(
    case: &Case,
    pooling: Pooling,
    rule: &OptimizerSpec,
    scale: f32,
    set: &TableSet,
    k: usize,
) {
    let gradients = case.plain(pooling, k);
    let before = case.set(pooling, rule);
    let check = |got: [&[f32]; 3],
                 old: [Vec<f64>; 3],
                 gradients: [Vec<f64>; 5],
                 moves: bool,
                 what: &str| {
        let after = gradients.map(|g| {
            let [mut p, mut s0, mut s1] = old.clone();
            if moves {
                plain(rule, 0.05, UPDATE, &mut p, &g, [&mut s0, &mut s1], true);
            }
            [p, s0, s1]
        });
        for (i, got) in got.into_iter().enumerate().filter(|(i, _)| !old[*i].is_empty()) {
            Between::of(&after.each_ref().map(|a| &a[i][..]))
                .check(got, [what, "first state", "second state"][i]);
        }
    };
    fn state(state: &[Vec<Table>], k: usize, row: usize) -> [&[f32]; 2] {
        [0, 1].map(|i| state.get(i).map_or(&[][..], |s| s[k].row(row)))
    }
    let all = |row: &[f32], [s0, s1]: [&[f32]; 2]| [wide(row), wide(s0), wide(s1)];
    for row in 0..case.rows[k] {
        let moves = gradients.touched[row] || set.all_rows;
        let ([s0, s1], got) = (state(&set.state, k, row), set.tables[k].row(row));
        let old = all(&before.tables[k].row(row), state(&before.state, k, row));
        check([&got, s0, s1], old, gradients.rows.row(row, case.dim, scale.into()), moves, "rows");
        if let Some(w) = set.weights.as_ref().filter(|w| w.learned) {
            let (was, [s0, s1]) = (before.weights.as_ref().unwrap(), state(&w.state, k, row));
            let old = all(was.tables[k].row(row), state(&was.state, k, row));
            check(
                [w.tables[k].row(row), s0, s1],
                old,
                gradients.weights.row(row, 1, scale.into()),
                moves,
                "row weights",
            );
        }
    }
}

fn check_gradient(case: &Case, pooling: Pooling) {
    let rule = OptimizerSpec::SGD;
    let (pool, set) = (Pool::new(2), case.set(pooling, &rule));
    let groups = case.groups(&pool);
    let (mut total, mut off) = (0.0, 0.0);
    let mut count = |sums: &Sums| {
        let [squares, apart] = sums.squares();
        (total, off) = (total + squares, off + apart);
    };
    for k in 0..case.rows.len() {
        let want = case.plain(pooling, k);
        let (mut g, mut dw) =
            (vec![f32::NAN; case.rows[k] * case.dim], vec![f32::NAN; case.rows[k]]);
        gradient(&set, k, &groups, case.gradient(), &mut g, &mut dw);
        want.rows.check(&g, "gradient of rows");
        count(&want.rows);
        if pooling == Pooling::WeightedLearned {
            want.weights.check(&dw, "gradient of row weights");
            count(&want.weights);
        } else {
            assert!(dw.iter().all(|g| g.is_nan()));
        }
    }
    let mut first = None;
    for (isa, threads) in machines() {
        let pool = Pool::new(threads);
        let mut sparse = SparseUpdate::new(case.dim, case.rows.len(), threads);
        let sum = sparse.sum_squares(&pool, isa, &set, &groups, case.gradient());
        assert!((sum - total).abs() <= off + 1e-5 * total, "{sum}, should be {total}");
        if isa == Isa::best() {
            assert_eq!(*first.get_or_insert(sum.to_bits()), sum.to_bits(), "{threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_shape_agrees_with_plain_loops(
        samples in 1usize..700, tables in 1usize..4, dim in 1usize..40, hotness in 0usize..6,
        l2 in prop::sample::select(vec![0.0f32, 0.1]), scale in prop::sample::select(vec![1.0f32, 0.37]), seed: u64
    ) {
        let mut numbers = Numbers::new(seed);
        let rows: Vec<usize> = (0..tables).map(|_| 1 + numbers.below(600)).collect();
        let case = Case::new(samples, rows, dim, hotness, l2, seed);
        for pooling in POOLINGS {
            check_gradient(&case, pooling);
            for rule in OptimizerSpec::examples() {
                check_update(&case, pooling, &rule, scale);
            }
        }
    }
}

#[test]
fn the_dimensions_of_the_workloads_agree_with_plain_loops() {
    for dim in [1, 2, 10, 16, 64, 128] {
        let case = Case::new(600, vec![2000, 3], dim, 0, 0.0, dim as u64);
        check_gradient(&case, Pooling::Sum);
        OptimizerSpec::examples()
            .iter()
            .for_each(|rule| check_update(&case, Pooling::Sum, rule, 1.0));
    }
}

#[test]
fn untouched_rows_keep_their_bits() {
    let mut case = Case::new(4, vec![50], 16, 0, 0.0, 9);
    case.values[0].fill(-0.0);
    let pool = Pool::new(1);
    let lazy = |rule: &OptimizerSpec| !rule.state().moves_all_rows;
    for rule in OptimizerSpec::examples().into_iter().filter(lazy) {
        let (groups, mut set) = (case.groups(&pool), case.set(Pooling::Sum, &rule));
        SparseUpdate::new(16, 1, 1).update(
            &pool,
            Isa::best(),
            &mut set,
            &groups,
            case.gradient(),
            &update_of(&rule, 1.0, 1.0),
        );
        for row in (0..50).filter(|&r| !case.bags[0].indices.contains(&r)) {
            assert_eq!(bits(&set.tables[0].row(row as usize)), vec![(-0.0f32).to_bits(); 16]);
        }
    }
}

/// The random bits of an element, as [`Philox`]'s documentation has them.
fn noise(table: usize, row: usize, dim: usize, column: usize) -> u16 {
    let word = column % 64 / 2;
    let position = ((row * dim.div_ceil(64) + column / 64) * 8 + word % 8) as u64;
    (Philox::rounding(7, 1, table as u16).block(position)[word / 8] >> (16 * (column % 2))) as u16
}

/// An update of rows in 16 bits is the update of the same rows in f32, rounded; split halves are
/// not even rounded.
fn check_narrow(case: &mut Case, kind: RowKind, pooling: Pooling, rule: &OptimizerSpec) {
    let start = case.set_of(kind, pooling, rule);
    case.values = start.tables.iter().map(values).collect();
    for (isa, threads) in machines() {
        let pool = Pool::new(threads);
        let groups = case.groups(&pool);
        let (mut wide, mut narrow) = (case.set(pooling, rule), case.set_of(kind, pooling, rule));
        narrow.first = 3;
        let mut sparse = SparseUpdate::new(case.dim, case.rows.len(), threads);
        for set in [&mut wide, &mut narrow] {
            sparse.update(&pool, isa, set, &groups, case.gradient(), &update_of(rule, 0.05, 1.0));
        }
        for (k, (wide, narrow)) in wide.tables.iter().zip(&narrow.tables).enumerate() {
            let want = values(wide).into_iter().enumerate().map(|(i, x)| {
                let noise = noise(3 + k, i / case.dim, case.dim, i % case.dim);
                match kind {
                    RowKind::Bf16 => sixteen::from_bf16(sixteen::round_bf16(x, noise)),
                    RowKind::Fp16 => sixteen::from_f16(sixteen::round_f16(x, noise)),
                    RowKind::Fp32 | RowKind::Bf16Split => x,
                }
            });
            let want: Vec<f32> = want.collect();
            assert_eq!(
                bits(&values(narrow)),
                bits(&want),
                "{isa:?}, {threads} threads, {kind:?}, {rule:?}"
            );
        }
        for (wide, narrow) in wide.state.iter().flatten().zip(narrow.state.iter().flatten()) {
            assert_eq!(bits(wide.values()), bits(narrow.values()), "{kind:?}, {rule:?}");
        }
        // Lookups see the upper halves, and so does the gradient of the weights.
        if kind != RowKind::Bf16Split {
            let weights = |set: &TableSet| {
                set.weights
                    .iter()
                    .flat_map(|w| &w.tables)
                    .flat_map(|t| bits(t.values()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(weights(&wide), weights(&narrow));
        }
    }
}

#[test]
fn rows_in_16_bits_are_updated_in_f32_and_rounded_by_their_own_bits() {
    for (i, dim) in [1, 3, 16, 64, 70, 130].into_iter().enumerate() {
        let l2 = if i % 2 == 0 { 0.0 } else { 0.1 };
        let mut case = Case::new(150, vec![200, 3], dim, 2, l2, dim as u64);
        // Some of the numbers are subnormal in f16.
        case.values.iter_mut().flatten().step_by(5).for_each(|x| *x *= 1e-4);
        case.pooled.iter_mut().step_by(3).for_each(|g| *g *= 1e-4);
        for kind in [RowKind::Bf16, RowKind::Fp16, RowKind::Bf16Split] {
            OptimizerSpec::examples()
                .iter()
                .for_each(|rule| check_narrow(&mut case, kind, Pooling::Mean, rule));
            check_narrow(&mut case, kind, Pooling::WeightedLearned, &OptimizerSpec::SGD);
        }
    }
}

/// With split halves, the gradient of a row's weight is its product with what the forward pass saw.
#[test]
fn weights_of_split_rows_learn_from_what_lookups_see() {
    let mut case = Case::new(90, vec![40], 20, 3, 0.0, 4);
    let split = case.set_of(RowKind::Bf16Split, Pooling::WeightedLearned, &OptimizerSpec::SGD);
    split.tables[0].seen(0, &mut case.values[0]);
    let groups = case.groups(&Pool::new(1));
    let want = case.plain(Pooling::WeightedLearned, 0);
    let (mut g, mut dw) = (vec![0.0; 40 * 20], vec![0.0; 40]);
    gradient(&split, 0, &groups, case.gradient(), &mut g, &mut dw);
    want.rows.check(&g, "rows");
    want.weights.check(&dw, "weights");
}

/// Several updates in a row, so that state has gone somewhere, have the bits of the plain rule on
/// the gradient of each row.
#[test]
fn updates_in_a_row_have_the_bits_of_the_plain_rule() {
    for (rule, dim) in OptimizerSpec::examples().iter().zip([3, 16, 70, 1, 33].into_iter().cycle())
    {
        for (isa, threads) in machines() {
            let pool = Pool::new(threads);
            let mut case = Case::new(60, vec![50, 3], dim, 2, 0.0, 9);
            let mut set = case.set(Pooling::Sum, rule);
            let mut want = case.set(Pooling::Sum, rule);
            let mut sparse = SparseUpdate::new(dim, case.rows.len(), threads);
            for number in 1..=4 {
                let next = Case::new(60, vec![50, 3], dim, 2, 0.0, 10 + number);
                (case.bags, case.pooled, case.stride) = (next.bags, next.pooled, next.stride);
                let groups = case.groups(&pool);
                let step = Step::new(rule, 0.05, number);
                for k in 0..case.rows.len() {
                    let mut g = vec![0.0; case.rows[k] * dim];
                    gradient(&want, k, &groups, case.gradient(), &mut g, &mut []);
                    for row in 0..case.rows[k] {
                        let touched = case.bags[k].indices.contains(&(row as u32));
                        if touched || want.all_rows {
                            plain_row(&step, &mut want, k, row, &g[row * dim..][..dim]);
                        }
                    }
                }
                let update = Update { step, scale: 1.0, noise: (7, number) };
                sparse.update(&pool, isa, &mut set, &groups, case.gradient(), &update);
                assert!(
                    all_bits(&set) == all_bits(&want),
                    "{isa:?}, {threads} threads, {rule:?}, update {number}"
                );
            }
        }
    }
}

/// One row by the plain rule.
fn plain_row(step: &Step, set: &mut TableSet, k: usize, row: usize, g: &[f32]) {
    let mut p = set.tables[k].row(row);
    let mut state: Vec<Vec<f32>> = set.state.iter().map(|s| s[k].row(row).to_vec()).collect();
    let stored = state.len();
    state.resize(2, Vec::new());
    let [s0, s1] = &mut state[..] else { panic!("two buffers") };
    update_row(step, &mut p, g, s0, s1);
    set.tables[k].write(row * g.len(), &p);
    for (s, new) in set.state.iter_mut().zip(&state[..stored]) {
        let width = new.len();
        s[k].values_mut()[row * width..][..width].copy_from_slice(new);
    }
}
