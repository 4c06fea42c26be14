//! Every operation on a GPU, emulated where there is none, against the CPU's, on odd shapes.

use super::{Cuda, CudaConfig, testing::devices};
use crate::{
    backend::{
        After, Backend, DotShape, Dropout, Gate, InputShape, Linear, MaskKey, Norm, Precision, SparseGradient, TablesShape,
        Update, Window,
        cpu::{Cpu, CpuConfig, gemm::LinearShape, testing::Numbers},
    },
    data::Batch,
    embedding::RowKind,
    engine::{LossKind, LossSpec},
    model::Pooling,
    optim::{AdamForm, AdamRows, OptimizerSpec, rules::Step},
};
use proptest::prelude::*;

/// What an operation leaves, piece by piece.
type Left = Vec<Vec<f32>>;

/// A piece of work, for any backend.
trait Case {
    fn run<B: Backend>(&self, backend: &mut B) -> Left;

    /// The shapes that the CPU wants to know.
    fn config(&self) -> CpuConfig {
        CpuConfig {
            threads: 2,
            precision: Precision::Fp32,
            pin_threads: false,
            linears: Vec::new(),
            norm: (0, 0),
            dropout: (0, 0),
            tables: (0, 0),
            dot: None,
        }
    }
}

/// Runs a case everywhere: elements may differ by `tolerance` times the largest of their piece; 0 asks for the same bits.
fn check(case: &impl Case, tolerance: f32) {
    let config = case.config();
    let want = case.run(&mut Cpu::new(&config).unwrap());
    for driver in devices() {
        let cuda = CudaConfig { threads: 2, pin_threads: false, precision: config.precision, dot: config.dot };
        let got = case.run(&mut Cuda::on(driver, &cuda).unwrap());
        assert_eq!(got.len(), want.len());
        for (piece, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.len(), want.len(), "piece {piece}");
            let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                assert!(g == w || (g - w).abs() <= tolerance * largest, "piece {piece}, element {i}: {g}, on the CPU {w}");
            }
        }
    }
}

/// A buffer with random rows every `stride` elements, and its window.
fn matrix<B: Backend>(b: &mut B, numbers: &mut Numbers, rows: usize, cols: usize, gap: usize) -> (B::Floats, Window) {
    let window = Window { at: gap, stride: cols + gap, cols };
    let values = numbers.floats(gap + rows * window.stride);
    let mut buffer = b.zeros(values.len(), "a test").unwrap();
    b.write(&mut buffer, 0, &values).unwrap();
    (buffer, window)
}

fn all<B: Backend>(b: &B, buffer: &B::Floats, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    b.read(buffer, 0, &mut out).unwrap();
    out
}

#[derive(Debug)]
struct LinearCase {
    shape: LinearShape,
    gap: usize,
    relu: bool,
    precision: Precision,
    seed: u64,
}

impl Case for LinearCase {
    fn config(&self) -> CpuConfig {
        let LinearShape { batch, output, .. } = self.shape;
        CpuConfig { precision: self.precision, linears: vec![self.shape], dropout: (batch, output), ..Bare.config() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Left {
        let LinearShape { batch, input, output } = self.shape;
        let mut n = Numbers::new(self.seed);
        let layer = Linear { weight: 0, bias: input * output, inputs: input, outputs: output };
        let len = output * (input + 1);
        let (params, _) = matrix(b, &mut n, 1, len, 0);
        let mut grads = b.zeros(len, "gradients").unwrap();
        let (x, wx) = matrix(b, &mut n, batch, input, self.gap);
        let (mut y, wy) = matrix(b, &mut n, batch, output, self.gap);
        let (dy, wdy) = matrix(b, &mut n, batch, output, 0);
        let (mut dx, wdx) = matrix(b, &mut n, batch, input, self.gap);
        let key = MaskKey { seed: 3, step: 9, layer: 1 };
        let after = After { relu: self.relu, dropout: self.relu.then_some(Dropout { key, p: 0.3 }) };
        b.linear_forward(wx.of(&x, batch), &params, layer, after, wy.of_mut(&mut y, batch)).unwrap();
        let gate = self.relu.then(|| Gate { activation: wx.of(&x, batch), factor: 1.25 });
        b.linear_backward_data(wdy.of(&dy, batch), &params, layer, gate, wdx.of_mut(&mut dx, batch)).unwrap();
        b.linear_backward_weight(wdy.of(&dy, batch), wx.of(&x, batch), layer, &mut grads).unwrap();
        let gap = self.gap;
        vec![all(b, &y, gap + batch * wy.stride), all(b, &dx, gap + batch * wdx.stride), all(b, &grads, len)]
    }
}

/// Nothing to be ready for.
struct Bare;
impl Case for Bare {
    fn run<B: Backend>(&self, _: &mut B) -> Left {
        Vec::new()
    }
}

#[derive(Debug)]
struct DotCase {
    shape: DotShape,
    batch: usize,
    gap: usize,
}

impl Case for DotCase {
    fn config(&self) -> CpuConfig {
        CpuConfig { dot: Some(self.shape), ..Bare.config() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Left {
        let DotShape { features, dim, itself } = self.shape;
        let mut n = Numbers::new(1);
        let cols = dim + features * (features - 1) / 2 + if itself { features } else { 0 } + self.gap;
        let (t, wt) = matrix(b, &mut n, self.batch, features * dim, 0);
        let (mut dt, wdt) = matrix(b, &mut n, self.batch, features * dim, self.gap);
        let (mut out, wo) = matrix(b, &mut n, self.batch, cols, self.gap);
        let (dout, wdo) = matrix(b, &mut n, self.batch, cols, 1);
        b.dot_forward(wt.of(&t, self.batch), wo.of_mut(&mut out, self.batch)).unwrap();
        b.dot_backward(wt.of(&t, self.batch), wdo.of(&dout, self.batch), wdt.of_mut(&mut dt, self.batch)).unwrap();
        vec![all(b, &out, self.gap + self.batch * wo.stride), all(b, &dt, self.gap + self.batch * wdt.stride)]
    }
}

/// Element by element work, normalisation, dropout, fields, factorisation machine.
#[derive(Debug)]
struct RowsCase {
    rows: usize,
    cols: usize,
    dim: usize,
    gap: usize,
}

impl Case for RowsCase {
    fn config(&self) -> CpuConfig {
        CpuConfig { norm: (self.rows, self.cols), dropout: (self.rows, self.cols), ..Bare.config() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Left {
        let &RowsCase { rows, cols, dim, gap } = self;
        let mut n = Numbers::new(7);
        let n = &mut n;
        let len = gap + rows * (cols + gap);
        let (x, wx) = matrix(b, n, rows, cols, gap);
        let mut left = Vec::new();

        let (mut y, wy) = matrix(b, n, rows, cols, gap);
        b.relu_backward(wx.of(&x, rows), wy.of_mut(&mut y, rows)).unwrap();
        b.scale(0.75, wy.of_mut(&mut y, rows)).unwrap();
        b.dropout(Dropout { key: MaskKey { seed: 1 << 40, step: 5, layer: 2 }, p: 0.4 }, wy.of_mut(&mut y, rows)).unwrap();
        left.push(all(b, &y, len));
        left.push(vec![b.sum_squares(&y).unwrap() as f32, f32::from(u8::from(b.all_finite(wy.of(&y, rows)).unwrap()))]);
        let mut odd = all(b, &y, len);
        odd[len - 1] = f32::INFINITY;
        b.write(&mut y, 0, &odd).unwrap();
        left.push(vec![f32::from(u8::from(b.all_finite(wy.of(&y, rows)).unwrap()))]);
        b.fill(&mut y, 2.5).unwrap();
        left.push(all(b, &y, len));

        let norm = Norm { scale: 0, shift: cols, mean: cols, var: 0, cols, eps: 1e-5, momentum: 0.1 };
        let (params, _) = matrix(b, n, 1, 2 * cols, 0);
        let (mut running, _) = matrix(b, n, 1, 2 * cols, 0);
        let (mut stats, _) = matrix(b, n, 1, 2 * cols, 0);
        let (mut grads, _) = matrix(b, n, 1, 2 * cols, 0);
        let (mut g, wg) = matrix(b, n, rows, cols, 0);
        b.batch_norm_train(wx.of(&x, rows), &params, norm, &mut running, &mut stats, wy.of_mut(&mut y, rows)).unwrap();
        left.extend([all(b, &y, len), all(b, &running, 2 * cols), all(b, &stats, 2 * cols)]);
        b.batch_norm_backward(wx.of(&x, rows), &params, norm, &stats, wg.of_mut(&mut g, rows), &mut grads).unwrap();
        left.extend([all(b, &g, rows * cols), all(b, &grads, 2 * cols)]);
        b.fill(&mut running, 0.7).unwrap();
        b.batch_norm_eval(wx.of(&x, rows), &params, norm, &running, &mut stats, wy.of_mut(&mut y, rows)).unwrap();
        left.push(all(b, &y, len));

        let (w, _) = matrix(b, n, 1, 3 + cols * dim, 0);
        let mut dw = b.zeros(3 + cols * dim, "gradients").unwrap();
        let (mut v, wv) = matrix(b, n, rows, cols * dim, gap);
        b.fields_forward(wx.of(&x, rows), &w, 3, dim, wv.of_mut(&mut v, rows)).unwrap();
        b.fields_backward(wx.of(&x, rows), wv.of(&v, rows), 3, dim, &mut dw).unwrap();
        left.extend([all(b, &v, gap + rows * wv.stride), all(b, &dw, 3 + cols * dim)]);

        let (mut logits, wl) = matrix(b, n, rows, 1, 0);
        b.fm_forward(wv.of(&v, rows), dim, wx.of(&x, rows), wl.of_mut(&mut logits, rows)).unwrap();
        let (mut dv, wdv) = matrix(b, n, rows, cols * dim, 0);
        let (mut d_linear, wd) = matrix(b, n, rows, cols, gap);
        let d = wd.of_mut(&mut d_linear, rows);
        b.fm_backward(wv.of(&v, rows), dim, wl.of(&logits, rows), wdv.of_mut(&mut dv, rows), d).unwrap();
        left.extend([all(b, &logits, rows), all(b, &dv, rows * cols * dim), all(b, &d_linear, len)]);
        left
    }
}

/// A batch, its lookup, gradients of tables, updates; and losses.
#[derive(Debug)]
struct TablesCase {
    rows: Vec<usize>,
    dim: usize,
    kind: RowKind,
    pooling: Pooling,
    rule: OptimizerSpec,
    batch: usize,
    hotness: usize,
    l2: f32,
    gap: usize,
}

impl Case for TablesCase {
    fn config(&self) -> CpuConfig {
        CpuConfig { tables: (self.rows.len(), self.dim), ..Bare.config() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Left {
        let &TablesCase { dim, kind, pooling, rule, batch, hotness, l2, gap, .. } = self;
        let rows = &self.rows[..];
        let mut n = Numbers::new(5);
        let (dense, width) = (3, 5);
        let most = vec![hotness.max(1); rows.len()];
        let shape = InputShape { max_batch: batch + 1, dense, dense_width: width, rows, max_hotness: &most };
        let mut input = b.input(&shape).unwrap();
        let mut tables = b.tables(&TablesShape { rows, dim, kind, first: 2, pooling, rule }).unwrap();
        for k in 0..rows.len() {
            b.with_table(&mut tables, k, &mut |_, part, _| part.iter_mut().for_each(|v| *v = n.float())).unwrap();
            b.with_row_weights(&mut tables, k, &mut |part, _| part.iter_mut().for_each(|v| *v = n.float())).unwrap();
        }
        let mut left = Vec::new();
        let (mut out, w) = matrix(b, &mut n, batch, rows.len() * dim, gap);
        let (pooled, wp) = matrix(b, &mut n, batch, rows.len() * dim, gap);
        let (logits, _) = matrix(b, &mut n, 1, batch, 0);
        for step in 1..=2 {
            let bags = rows.iter().map(|&r| n.bags(batch, r, hotness)).collect();
            let labels = (0..batch).map(|_| n.below(2) as f32).collect();
            b.upload(&Batch { len: batch, dense: n.floats(batch * dense), bags, labels }, &mut input).unwrap();
            left.push(all(b, b.dense(&input).buf, batch * width));
            b.bags_forward(&tables, &input, w.of_mut(&mut out, batch)).unwrap();
            left.push(all(b, &out, gap + batch * w.stride));
            b.group_rows(&mut input).unwrap();
            let gradient = SparseGradient { pooled: wp.of(&pooled, batch), l2 };
            left.push(vec![b.sparse_sum_squares(&tables, &input, gradient).unwrap() as f32]);
            for (k, &r) in rows.iter().enumerate().filter(|(_, r)| **r < 1000) {
                let (mut g, mut gw) = (vec![0.0; r * dim], vec![0.0; r]);
                b.table_gradient(&tables, k, &input, gradient, (&mut g, &mut gw)).unwrap();
                left.extend([g, gw]);
            }
            let update = Update { step: Step::new(&rule, 0.1, step), scale: 0.5, noise: (77, step) };
            b.sparse_update(&mut tables, &input, gradient, &update).unwrap();
            for (k, &r) in rows.iter().enumerate() {
                let (mut t, mut tw) = (vec![0.0; r * dim], vec![0.0; r]);
                b.read_table(&tables, k, &mut t).unwrap();
                b.read_row_weights(&tables, k, &mut tw).unwrap();
                left.extend([t, tw]);
            }
            let kinds = [LossKind::Bce, LossKind::Wbce { weights: [0.5, 2.0] }, LossKind::Mse];
            for (kind, clamp) in kinds.into_iter().flat_map(|k| [(k, 0.0), (k, 0.3)]) {
                let column = Window::whole(1);
                let mut d = b.zeros(batch, "gradients").unwrap();
                let spec = LossSpec { kind, clamp };
                let loss = b.loss(&spec, column.of(&logits, batch), &input, column.of_mut(&mut d, batch)).unwrap();
                left.extend([vec![loss], all(b, &d, batch)]);
            }
            let mut p = vec![0.0; batch];
            b.probabilities(Window::whole(1).of(&logits, batch), &mut p).unwrap();
            left.push(p);
        }
        left
    }
}

fn rules() -> Vec<OptimizerSpec> {
    let adam = |form, rows| OptimizerSpec::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-3, form, rows };
    vec![
        OptimizerSpec::Sgd,
        OptimizerSpec::Adagrad { eps: 1e-3, initial_accumulator: 0.1, lr_decay: 0.001 },
        OptimizerSpec::RowwiseAdagrad { eps: 1e-3, initial_accumulator: 0.1 },
        adam(AdamForm::Torch, AdamRows::Dense),
        adam(AdamForm::Tf, AdamRows::Lazy),
    ]
}

const POOLINGS: [Pooling; 4] = [Pooling::Sum, Pooling::Mean, Pooling::WeightedFixed, Pooling::WeightedLearned];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layers(batch in 1usize..150, input in 1usize..40, output in 1usize..30, thin: bool, gap in 0usize..3, relu: bool, p in 0usize..3, seed in 0u64..100) {
        let shape = LinearShape { batch, input, output: if thin { 1 } else { output } };
        let precision = Precision::ALL[p];
        // Where the library has no sums at the end of a product, gradients of biases are summed before they are rounded to 16 bits.
        let tolerance = if precision == Precision::Fp32 { 2e-6 * batch as f32 } else { 4e-3 };
        check(&LinearCase { shape, gap, relu, precision, seed }, tolerance);
    }

    #[test]
    fn interactions(features in 1usize..40, dim in 1usize..70, itself: bool, batch in 1usize..5, gap in 0usize..4) {
        check(&DotCase { shape: DotShape { features, dim, itself }, batch, gap }, 1e-5);
    }

    #[test]
    fn rows(rows in 2usize..200, cols in 1usize..40, dim in 1usize..40, gap in 0usize..3) {
        check(&RowsCase { rows, cols, dim, gap }, 2e-5);
    }

    #[test]
    fn tables(
        sizes in proptest::collection::vec(1usize..300, 1..5), dim in 1usize..40, kind in 0usize..4, pooling in 0usize..4,
        rule in 0usize..5, batch in 1usize..200, hotness in 0usize..4, l2: bool, gap in 0usize..3
    ) {
        let case = TablesCase {
            rows: sizes, dim, kind: RowKind::ALL[kind], pooling: POOLINGS[pooling], rule: rules()[rule], batch, hotness,
            l2: if l2 { 0.01 } else { 0.0 }, gap,
        };
        check(&case, case.tolerance());
    }
}

impl TablesCase {
    /// Sums of many occurrences are cut otherwise than on the CPU; a 16-bit row may then fall on the other side of its noise.
    fn tolerance(&self) -> f32 {
        match self.kind {
            RowKind::Bf16 => 1e-2,
            RowKind::Fp16 => 2e-3,
            RowKind::Fp32 => 2e-5,
            RowKind::Bf16Split => 1e-2,
        }
    }
}

/// Rows of all widths that kernels tell apart, more occurrences than a tile of the sort holds, ids that need every pass.
#[test]
fn wide_rows_and_many_occurrences() {
    for (rows, dim, batch, hotness, rule) in [
        (vec![3, 70_000, 1], 128, 400, 3, 0),
        (vec![90_000, 2], 16, 1700, 3, 1),
        (vec![40, 9], 200, 60, 2, 2),
        (vec![13], 1024, 40, 1, 4),
        (vec![17_000_000], 1, 50, 2, 0),
    ] {
        let case = TablesCase {
            rows,
            dim,
            kind: RowKind::Fp32,
            pooling: Pooling::Sum,
            rule: rules()[rule],
            batch,
            hotness,
            l2: 0.0,
            gap: 4,
        };
        check(&case, case.tolerance());
    }
}

/// Where nothing is summed in another order there is not a bit's difference: one occurrence a row, every rule but the row-wise one.
#[test]
fn single_occurrences_have_the_bits_of_the_cpu() {
    for (r, rule) in rules().into_iter().enumerate().filter(|&(r, _)| r != 2) {
        for kind in RowKind::ALL {
            let case = OneEach(TablesCase {
                rows: vec![5, 9],
                dim: 130,
                kind,
                pooling: Pooling::Sum,
                rule,
                batch: 5,
                hotness: 0,
                l2: if r == 3 { 0.01 } else { 0.0 },
                gap: 0,
            });
            check(&case, 0.0);
        }
    }
}

/// As a [`TablesCase`], each sample with a row of its own.
struct OneEach(TablesCase);

impl Case for OneEach {
    fn config(&self) -> CpuConfig {
        self.0.config()
    }

    fn run<B: Backend>(&self, b: &mut B) -> Left {
        let &TablesCase { dim, kind, pooling, rule, batch, l2, .. } = &self.0;
        let rows = &self.0.rows[..];
        let mut n = Numbers::new(3);
        let shape = InputShape { max_batch: batch, dense: 0, dense_width: 0, rows, max_hotness: &[1, 1] };
        let mut input = b.input(&shape).unwrap();
        let mut tables = b.tables(&TablesShape { rows, dim, kind, first: 1, pooling, rule }).unwrap();
        for k in 0..2 {
            b.with_table(&mut tables, k, &mut |_, part, _| part.iter_mut().for_each(|v| *v = n.float())).unwrap();
        }
        let mut bags = vec![crate::data::Bags::default(); 2];
        bags.iter_mut().for_each(crate::data::Bags::clear);
        (0..batch as u32).for_each(|i| bags.iter_mut().for_each(|b| b.push([i])));
        b.upload(&Batch { len: batch, dense: Vec::new(), bags, labels: vec![0.0; batch] }, &mut input).unwrap();
        b.group_rows(&mut input).unwrap();
        let (pooled, w) = matrix(b, &mut n, batch, 2 * dim, 0);
        let mut left = Vec::new();
        for step in 1..4 {
            let update = Update { step: Step::new(&rule, 0.1, step), scale: 0.3, noise: (1 << 33, step) };
            b.sparse_update(&mut tables, &input, SparseGradient { pooled: w.of(&pooled, batch), l2 }, &update).unwrap();
            for (k, &r) in rows.iter().enumerate() {
                let mut t = vec![0.0; r * dim];
                b.read_table(&tables, k, &mut t).unwrap();
                left.push(t);
            }
        }
        left
    }
}

#[test]
fn dense_updates_have_the_bits_of_the_cpu() {
    struct Dense(OptimizerSpec);
    impl Case for Dense {
        fn run<B: Backend>(&self, b: &mut B) -> Left {
            let (mut n, len) = (Numbers::new(2), 1000);
            let (mut p, _) = matrix(b, &mut n, 1, len, 0);
            let (g, _) = matrix(b, &mut n, 1, len, 0);
            let mut state = Vec::new();
            for _ in 0..crate::optim::rules::StateShape::of(&self.0).buffers {
                state.push(b.zeros(len, "state").unwrap());
            }
            for step in 1..4 {
                let update = Update { step: Step::new(&self.0, 0.1, step), scale: 0.3, noise: (1, step) };
                b.dense_update(&mut p, &g, &mut state, &update).unwrap();
            }
            std::iter::once(&p).chain(&state).map(|x| all(b, x, len)).collect()
        }
    }
    rules().into_iter().for_each(|rule| check(&Dense(rule), 0.0));
}

#[test]
fn memory_that_is_not_there_is_refused_by_name() {
    for driver in devices() {
        let config = CudaConfig { threads: 1, pin_threads: false, precision: Precision::Fp32, dot: None };
        let mut cuda = Cuda::on(driver, &config).unwrap();
        let error = cuda.zeros(usize::MAX / 8, "activations").unwrap_err().to_string();
        assert!(error.contains("activations on the GPU"), "{error}");
        let rule = OptimizerSpec::Sgd;
        let wide = TablesShape { rows: &[1], dim: 1025, kind: RowKind::Fp32, first: 0, pooling: Pooling::Sum, rule };
        assert!(cuda.tables(&wide).unwrap_err().to_string().contains("1024"));
    }
}
