//! Work whose results are compared between a device and the CPU.

use super::numbers::Numbers;
use crate::{
    backend::{
        After, Backend, BackendError, Dropout, Gate, Linear, Norm, Onto, Precision, Quantisation,
        Result, RowsOf, SparseGradient, StepContext, StepControl, StepStart, TableState,
        TablesShape, Window,
        cpu::{CpuConfig, gemm::LinearShape},
    },
    batch::{Bags, Batch, BatchLimits},
    embedding::RowKind,
    model::{LossKind, LossSpec, Pooling},
    optim::{LossScaleSpec, OptimizerSpec},
};
use std::fmt::Debug;

/// What an operation leaves, piece by piece.
pub(crate) type Left = Vec<Vec<f32>>;

/// A piece of work, for any backend.
pub(crate) trait Case: Debug {
    /// What is tried.
    fn name(&self) -> &'static str;

    /// How far an element may be from the CPU's, as a share of the largest of its piece; 0 asks for
    /// the same bits.
    fn tolerance(&self) -> f32;

    /// Does the work.
    fn run<B: Backend>(&self, backend: &mut B) -> Result<Left>;

    /// Multiply-adds of its products, more or less: what takes long where they are emulated.
    fn work(&self) -> usize {
        0
    }

    /// How it is to be computed.
    fn config(&self) -> CpuConfig {
        bare()
    }
}

/// Two threads, nothing rounded.
pub(super) fn bare() -> CpuConfig {
    CpuConfig {
        threads: 2,
        precision: Precision::Fp32,
        pin_threads: false,
        quantisation: Quantisation::default(),
    }
}

/// A buffer with random rows every `stride` elements, and its window.
pub(super) fn matrix<B: Backend>(
    b: &mut B,
    numbers: &mut Numbers,
    rows: usize,
    cols: usize,
    gap: usize,
) -> Result<(B::Floats, Window)> {
    let window = Window { at: gap, stride: cols + gap, cols };
    let values = numbers.floats(gap + rows * window.stride);
    let mut buffer = b.zeros(values.len(), "a test")?;
    b.write(&mut buffer, 0, &values)?;
    Ok((buffer, window))
}

/// A training whose gradients come out `scale` times too large.
pub(super) fn control(rule: OptimizerSpec, clip_norm: Option<f64>, scale: f64) -> StepControl {
    StepControl { rule, clip_norm, loss_scale: LossScaleSpec::Static { scale }, seed: 1 << 33 }
}

/// Step `number` of it.
pub(super) fn step<B: Backend>(b: &mut B, number: u64) -> Result<()> {
    b.begin_step(StepStart { number, samples: 1, context: StepContext::at_rate(0.1) })
}

/// Ends a step: its number and how many have been skipped and not, its loss, the loss scale.
pub(super) fn end<B: Backend>(b: &mut B) -> Result<[Vec<f32>; 3]> {
    b.end_step()?;
    let end = b
        .finished(true)?
        .ok_or_else(|| BackendError::Device("a step that ended is not told of".into()))?;
    let counts = [end.start.number, end.loss_scale.skipped_steps, end.updates].map(|n| n as f32);
    Ok([counts.to_vec(), vec![end.loss], vec![end.loss_scale.scale as f32]])
}

pub(super) fn all<B: Backend>(b: &B, buffer: &B::Floats, n: usize) -> Result<Vec<f32>> {
    let mut out = vec![0.0; n];
    b.read(buffer, 0, &mut out)?;
    Ok(out)
}

/// A piece of sums, and behind it how large one of them usually is. Differences are measured by the
/// largest of a piece; where there are few sums and all of them happen to cancel, that would be
/// nothing like the terms whose roundings make the difference.
fn sums(mut piece: Vec<f32>, usual: f32) -> Vec<f32> {
    piece.push(usual);
    piece
}

/// The root of the mean square of a sum of so many products of two of [`Numbers::float`].
fn of_products(terms: usize) -> f32 {
    (terms as f32).sqrt() / 3.0
}

/// How often the id is there that is there most often.
fn most_often(bags: &Bags, rows: usize) -> usize {
    let mut times = vec![0; rows];
    bags.indices.iter().for_each(|&id| times[id as usize] += 1);
    times.into_iter().max().unwrap_or(0)
}

/// Forward and both gradients of a fully connected layer.
#[derive(Debug)]
pub(crate) struct LinearCase {
    pub shape: LinearShape,
    pub gap: usize,
    pub bias: bool,
    pub relu: bool,
    pub precision: Precision,
    pub seed: u64,
}

impl Case for LinearCase {
    fn name(&self) -> &'static str {
        "fully connected layer"
    }

    fn tolerance(&self) -> f32 {
        // Where the library has no sums at the end of a product, gradients of biases are summed
        // before they are rounded to 16 bits.
        match self.precision {
            Precision::Fp32 => 1e-5f32.max(2e-6 * self.shape.batch as f32),
            Precision::Tf32 => 2e-3,
            Precision::Bf16 | Precision::Fp16 => 4e-3,
        }
    }

    fn work(&self) -> usize {
        let LinearShape { batch, input, output } = self.shape;
        3 * batch * input * output
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let LinearShape { batch, input, output } = self.shape;
        let mut n = Numbers::new(self.seed);
        let bias = self.bias.then_some(input * output);
        let layer = Linear { weight: 0, bias, inputs: input, outputs: output };
        b.plan_linear(layer, batch)?;
        b.plan_dropout(output, batch)?;
        let len = output * (input + 1);
        let (params, _) = matrix(b, &mut n, 1, len, 0)?;
        let mut grads = b.zeros(len, "gradients")?;
        let (x, wx) = matrix(b, &mut n, batch, input, self.gap)?;
        let (mut y, wy) = matrix(b, &mut n, batch, output, self.gap)?;
        let (dy, wdy) = matrix(b, &mut n, batch, output, 0)?;
        let (mut dx, wdx) = matrix(b, &mut n, batch, input, self.gap)?;
        b.begin(&control(OptimizerSpec::SGD, None, 1.0))?;
        step(b, 9)?;
        let dropout = Dropout { layer: 1, p: 0.3, first: 3 };
        let after = After { relu: self.relu, dropout: self.relu.then_some(dropout) };
        b.linear_forward(wx.of(&x, batch), &params, layer, after, wy.of_mut(&mut y, batch))?;
        let onto = match self.relu {
            true => Onto::Gate(Gate { activation: wx.of(&x, batch), factor: 1.25 }),
            false => Onto::Set,
        };
        b.linear_backward_data(
            wdy.of(&dy, batch),
            &params,
            layer,
            onto,
            wdx.of_mut(&mut dx, batch),
        )?;
        let (mut sum, _) = matrix(b, &mut n, batch, input, self.gap)?;
        let to = wdx.of_mut(&mut sum, batch);
        b.linear_backward_data(wdy.of(&dy, batch), &params, layer, Onto::Add, to)?;
        b.linear_backward_weight(wdy.of(&dy, batch), wx.of(&x, batch), layer, &mut grads)?;
        let (y, dx) = (
            all(b, &y, self.gap + batch * wy.stride)?,
            all(b, &dx, self.gap + batch * wdx.stride)?,
        );
        // A gradient of a bias may be off by the roundings of `batch` terms of up to 1, whatever it
        // is itself.
        let grads = sums(all(b, &grads, len)?, (batch as f32).sqrt());
        let sum = all(b, &sum, self.gap + batch * wdx.stride)?;
        let of_outputs = of_products(output);
        Ok(vec![
            sums(y, of_products(input + 1)),
            sums(dx, of_outputs),
            sums(sum, of_outputs),
            grads,
        ])
    }
}

/// Element by element work, normalisation, dropout, fields, factorisation machine.
#[derive(Debug)]
pub(crate) struct RowsCase {
    pub rows: usize,
    pub cols: usize,
    pub dim: usize,
    pub gap: usize,
}

impl Case for RowsCase {
    fn name(&self) -> &'static str {
        "rows: ReLU, dropout, normalisation, fields, FM"
    }

    fn tolerance(&self) -> f32 {
        2e-5
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &RowsCase { rows, cols, dim, gap } = self;
        let mut n = Numbers::new(7);
        let n = &mut n;
        b.plan_norm(cols, rows)?;
        b.plan_dropout(cols, rows)?;
        let len = gap + rows * (cols + gap);
        let (x, wx) = matrix(b, n, rows, cols, gap)?;
        let mut left = Vec::new();

        let (mut y, wy) = matrix(b, n, rows, cols, gap)?;
        b.relu_backward(wx.of(&x, rows), wy.of_mut(&mut y, rows))?;
        b.begin(&control(OptimizerSpec::SGD, None, 1.0))?;
        step(b, (1 << 39) + 5)?;
        b.dropout(Dropout { layer: 2, p: 0.4, first: 7 }, wy.of_mut(&mut y, rows))?;
        left.push(all(b, &y, len)?);
        b.fill(&mut y, 2.5)?;
        left.push(all(b, &y, len)?);

        let norm = Norm {
            scale: 0,
            shift: cols,
            mean: cols,
            var: 0,
            cols,
            eps: 1e-5,
            momentum: 0.1,
            unbiased: true,
            relu: true,
        };
        let (params, _) = matrix(b, n, 1, 2 * cols, 0)?;
        let (mut running, _) = matrix(b, n, 1, 2 * cols, 0)?;
        let (mut stats, _) = matrix(b, n, 1, 2 * cols, 0)?;
        let (mut grads, _) = matrix(b, n, 1, 2 * cols, 0)?;
        let (mut g, wg) = matrix(b, n, rows, cols, 0)?;
        b.batch_norm_train(
            wx.of(&x, rows),
            &params,
            norm,
            &mut running,
            &mut stats,
            wy.of_mut(&mut y, rows),
        )?;
        left.extend([all(b, &y, len)?, all(b, &running, 2 * cols)?, all(b, &stats, 2 * cols)?]);
        b.batch_norm_backward(
            wx.of(&x, rows),
            &params,
            norm,
            &stats,
            wg.of_mut(&mut g, rows),
            &mut grads,
        )?;
        left.extend([all(b, &g, rows * cols)?, all(b, &grads, 2 * cols)?]);
        b.fill(&mut running, 0.7)?;
        b.batch_norm_eval(
            wx.of(&x, rows),
            &params,
            norm,
            &running,
            &mut stats,
            wy.of_mut(&mut y, rows),
        )?;
        left.push(all(b, &y, len)?);
        // The other order: the input has passed a ReLU, and the running variance is biased.
        let norm = Norm { eps: 1e-3, momentum: 0.01, unbiased: false, relu: false, ..norm };
        b.batch_norm_train(
            wx.of(&x, rows),
            &params,
            norm,
            &mut running,
            &mut stats,
            wy.of_mut(&mut y, rows),
        )?;
        left.extend([all(b, &y, len)?, all(b, &running, 2 * cols)?]);

        let (w, _) = matrix(b, n, 1, 3 + cols * dim, 0)?;
        let mut dw = b.zeros(3 + cols * dim, "gradients")?;
        let (mut v, wv) = matrix(b, n, rows, cols * dim, gap)?;
        b.fields_forward(wx.of(&x, rows), &w, 3, dim, wv.of_mut(&mut v, rows))?;
        b.fields_backward(wx.of(&x, rows), wv.of(&v, rows), 3, dim, &mut dw)?;
        left.extend([all(b, &v, gap + rows * wv.stride)?, all(b, &dw, 3 + cols * dim)?]);

        let (mut logits, wl) = matrix(b, n, rows, 1, 0)?;
        b.fm_forward(wv.of(&v, rows), dim, wx.of(&x, rows), wl.of_mut(&mut logits, rows))?;
        let (mut dv, wdv) = matrix(b, n, rows, cols * dim, 0)?;
        let (mut d_linear, wd) = matrix(b, n, rows, cols, gap)?;
        let d = wd.of_mut(&mut d_linear, rows);
        b.fm_backward(wv.of(&v, rows), dim, wl.of(&logits, rows), wdv.of_mut(&mut dv, rows), d)?;
        left.extend([
            all(b, &logits, rows)?,
            all(b, &dv, rows * cols * dim)?,
            all(b, &d_linear, len)?,
        ]);
        Ok(left)
    }
}

/// A batch, its lookup, gradients of tables, updates; and losses.
#[derive(Debug)]
pub(crate) struct TablesCase {
    pub rows: Vec<usize>,
    pub dim: usize,
    pub kind: RowKind,
    pub pooling: Pooling,
    pub rule: OptimizerSpec,
    pub batch: usize,
    pub hotness: usize,
    pub l2: f32,
    pub gap: usize,
}

impl TablesCase {
    /// Some rows, their weights and state as they are, and with others in their places for a while.
    fn some_rows<B: Backend>(
        &self,
        b: &mut B,
        n: &mut Numbers,
        tables: &mut B::Tables,
    ) -> Result<Left> {
        let state = self.rule.state();
        let learned = self.pooling == Pooling::WeightedLearned;
        let mut left = Vec::new();
        for (k, &rows) in self.rows.iter().enumerate() {
            let stored = |of_weights, dim| {
                let widths = state.rows(dim).map(|(width, _)| width).enumerate();
                widths.map(move |(buffer, width)| {
                    (RowsOf::State(TableState { table: k, of_weights, buffer }), width)
                })
            };
            let all = [(RowsOf::Values(k), self.dim), (RowsOf::Weights(k), 1)].into_iter();
            let all = all.chain(stored(false, self.dim)).chain(stored(true, 1).filter(|_| learned));
            // Every third or so, from the last one on; never none.
            let some: Vec<u32> =
                (0..rows as u32).rev().filter(|&r| r == 0 || n.below(3) == 0).collect();
            for (of, width) in all.collect::<Vec<_>>() {
                let mut there = vec![0.0; some.len() * width];
                b.read_rows(tables, of, &some, &mut there)?;
                b.write_rows(tables, of, &some, &n.floats(there.len()))?;
                let mut now = vec![0.0; there.len()];
                b.read_rows(tables, of, &some, &mut now)?;
                b.write_rows(tables, of, &some, &there)?;
                left.extend([there, now]);
            }
            let mut whole = vec![0.0; rows * self.dim];
            b.read_table(tables, k, 0, &mut whole)?;
            left.push(whole);
        }
        Ok(left)
    }
}

impl Case for TablesCase {
    fn name(&self) -> &'static str {
        "tables: bags, sorting, update, loss"
    }

    fn tolerance(&self) -> f32 {
        // Sums of many occurrences are cut otherwise than on the CPU; a 16-bit row may then fall on
        // the other side of its noise.
        match self.kind {
            RowKind::Fp32 => 2e-5,
            RowKind::Fp16 => 2e-3,
            RowKind::Bf16 | RowKind::Bf16Split => 1e-2,
        }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &TablesCase { dim, kind, pooling, rule, batch, hotness, l2, gap, .. } = self;
        let rows = &self.rows[..];
        let mut n = Numbers::new(5);
        let (dense, width) = (3, 5);
        let most = vec![hotness.max(1); rows.len()];
        let limits = BatchLimits::new(batch + 1, dense, rows.to_vec(), most);
        let mut input = b.input(&limits, width)?;
        let mut tables =
            b.tables(&TablesShape { rows, dim, column: 0, kind, first: 2, pooling, rule })?;
        for k in 0..rows.len() {
            b.with_table(&mut tables, k, &mut |_, part, _| {
                part.iter_mut().for_each(|v| *v = n.float())
            })?;
            b.with_row_weights(&mut tables, k, &mut |part, _| {
                part.iter_mut().for_each(|v| *v = n.float())
            })?;
        }
        let mut left = Vec::new();
        let (mut out, w) = matrix(b, &mut n, batch, rows.len() * dim, gap)?;
        let (pooled, wp) = matrix(b, &mut n, batch, rows.len() * dim, gap)?;
        let (logits, _) = matrix(b, &mut n, 1, batch, 0)?;
        b.begin(&control(rule, Some(0.5), 2.0))?;
        for number in 1..=2 {
            let bags: Vec<Bags> = rows.iter().map(|&r| n.bags(batch, r, hotness)).collect();
            let terms: Vec<usize> =
                bags.iter().zip(rows).map(|(bags, &r)| most_often(bags, r)).collect();
            let labels = (0..batch).map(|_| n.below(2) as f32).collect();
            let data = Batch { len: batch, dense: n.floats(batch * dense), bags, labels };
            let mut data = b.upload(limits.check(&data)?, &mut input)?;
            left.push(all(b, b.dense(&data).buf, batch * width)?);
            step(b, number)?;
            b.bags_forward(&tables, &data, w.of_mut(&mut out, batch))?;
            left.push(all(b, &out, gap + batch * w.stride)?);
            b.group_rows(&mut data)?;
            let gradient = SparseGradient { pooled: wp.of(&pooled, batch), l2 };
            b.add_sparse_squares(&tables, &data, gradient)?;
            for (k, &r) in rows.iter().enumerate().filter(|(_, r)| **r < 1000) {
                let (mut g, mut gw) = (vec![0.0; r * dim], vec![0.0; r]);
                b.table_gradient(&tables, k, &data, gradient, (&mut g, &mut gw))?;
                left.push(sums(g, of_products(terms[k])));
                // Without learned weights nothing is summed, and nothing may be there.
                left.push(if pooling == Pooling::WeightedLearned {
                    sums(gw, of_products(terms[k] * dim))
                } else {
                    gw
                });
            }
            b.decide_update()?;
            b.sparse_update(&mut tables, &data, gradient)?;
            left.extend(end(b)?);
            b.with_table(&mut tables, 0, &mut |first, part, _| {
                part[0] += if first == 0 { 1.0 } else { 0.0 }
            })?;
            for (k, &r) in rows.iter().enumerate() {
                let (mut t, mut tw) = (vec![0.0; r * dim], vec![0.0; r]);
                b.read_table(&tables, k, 0, &mut t)?;
                b.read_row_weights(&tables, k, 0, &mut tw)?;
                left.extend([t, tw]);
            }
            left.extend(self.some_rows(b, &mut n, &mut tables)?);
            let kinds = [
                LossKind::Bce,
                LossKind::Wbce { weights: [0.5, 2.0] },
                LossKind::Mse,
                LossKind::KerasBce,
            ];
            let plain = kinds.into_iter().flat_map(|k| [(k, 0.0, false), (k, 0.3, false)]);
            let of = kinds.into_iter().take(2).flat_map(|k| [(k, 0.0, true), (k, 0.3, true)]);
            for (kind, clamp, of_probability) in plain.chain(of) {
                let column = Window::whole(1);
                let mut d = b.zeros(batch, "gradients")?;
                let spec = LossSpec { kind, clamp, of_probability };
                step(b, 11)?;
                // In two parts, if there are samples for two; the mean over the batch, then over the
                // part.
                let half = batch / 2;
                for (first, rows, over) in [(0, half, batch), (half, batch - half, batch - half)] {
                    let part = column.from_row(first);
                    if rows > 0 {
                        let d = part.of_mut(&mut d, rows);
                        b.loss(&spec, part.of(&logits, rows), &data, first, over, d)?;
                    }
                }
                left.extend(end(b)?);
                left.push(all(b, &d, batch)?);
            }
            let mut p = vec![0.0; batch];
            b.probabilities(Window::whole(1).of(&logits, batch), &mut p)?;
            left.push(p);
        }
        Ok(left)
    }
}

/// As a [`TablesCase`], each sample with a row of its own: nothing is summed in another order.
#[derive(Debug)]
pub(crate) struct OneEach(pub TablesCase);

impl Case for OneEach {
    fn name(&self) -> &'static str {
        "tables, one occurrence a row"
    }

    fn tolerance(&self) -> f32 {
        0.0
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &TablesCase { dim, kind, pooling, rule, batch, l2, .. } = &self.0;
        let rows = &self.0.rows[..];
        let mut n = Numbers::new(3);
        let limits = BatchLimits::new(batch, 0, rows.to_vec(), vec![1, 1]);
        let mut input = b.input(&limits, 0)?;
        let mut tables =
            b.tables(&TablesShape { rows, dim, column: 0, kind, first: 1, pooling, rule })?;
        for k in 0..2 {
            b.with_table(&mut tables, k, &mut |_, part, _| {
                part.iter_mut().for_each(|v| *v = n.float())
            })?;
        }
        let mut bags = vec![Bags::default(); 2];
        bags.iter_mut().for_each(Bags::clear);
        (0..batch as u32).for_each(|i| bags.iter_mut().for_each(|b| b.push([i])));
        let data = Batch { len: batch, dense: Vec::new(), bags, labels: vec![0.0; batch] };
        let mut data = b.upload(limits.check(&data)?, &mut input)?;
        b.group_rows(&mut data)?;
        let (pooled, w) = matrix(b, &mut n, batch, 2 * dim, 0)?;
        let mut left = Vec::new();
        b.begin(&control(rule, None, 3.0))?;
        for number in 1..4 {
            step(b, number)?;
            b.decide_update()?;
            b.sparse_update(
                &mut tables,
                &data,
                SparseGradient { pooled: w.of(&pooled, batch), l2 },
            )?;
            end(b)?;
            for (k, &r) in rows.iter().enumerate() {
                let mut t = vec![0.0; r * dim];
                b.read_table(&tables, k, 0, &mut t)?;
                left.push(t);
            }
        }
        Ok(left)
    }
}

/// Dense parameters under a rule.
#[derive(Debug)]
pub(crate) struct Dense(pub OptimizerSpec);
impl Case for Dense {
    fn name(&self) -> &'static str {
        "dense update"
    }

    fn tolerance(&self) -> f32 {
        0.0
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let (mut n, len) = (Numbers::new(2), 1000);
        let (mut p, _) = matrix(b, &mut n, 1, len, 0)?;
        let (g, _) = matrix(b, &mut n, 1, len, 0)?;
        let mut state = Vec::new();
        for initial in self.0.state().dense() {
            let mut buffer = b.zeros(len, "state")?;
            b.fill(&mut buffer, initial)?;
            state.push(buffer);
        }
        b.begin(&control(self.0, None, 3.0))?;
        for number in 1..4 {
            step(b, number)?;
            b.decide_update()?;
            b.dense_update(&mut p, &g, &mut state)?;
            end(b)?;
        }
        std::iter::once(&p).chain(&state).map(|x| all(b, x, len)).collect()
    }
}

/// What steps leave to each other: loss scale, overflow, clipping, a loss that is not finite.
#[derive(Debug)]
pub(crate) struct StepControlCase {
    pub rule: OptimizerSpec,
    pub clip_norm: Option<f64>,
    pub loss_scale: LossScaleSpec,
    /// Steps whose gradients are not finite.
    pub overflows: [bool; 6],
    /// The step, counted from 0, whose loss is not finite; none if there are not so many.
    pub stops: usize,
}

impl Case for StepControlCase {
    fn name(&self) -> &'static str {
        "control of training steps"
    }

    fn tolerance(&self) -> f32 {
        // Norms and losses are sums in another order.
        2e-6
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let (mut n, len, column) = (Numbers::new(5), 3000, Window::whole(1));
        let (mut p, _) = matrix(b, &mut n, 1, len, 0)?;
        let mut state = Vec::new();
        for initial in self.rule.state().dense() {
            let mut buffer = b.zeros(len, "state")?;
            b.fill(&mut buffer, initial)?;
            state.push(buffer);
        }
        let limits = BatchLimits::new(2, 0, Vec::new(), Vec::new());
        let mut input = b.input(&limits, 0)?;
        let data = Batch { len: 2, labels: vec![0.0, 1.0], ..Batch::default() };
        let data = b.upload(limits.check(&data)?, &mut input)?;
        let mut d = b.zeros(2, "gradients")?;
        b.begin(&StepControl {
            rule: self.rule,
            clip_norm: self.clip_norm,
            loss_scale: self.loss_scale,
            seed: 1,
        })?;
        let mut left = Vec::new();
        for (k, &overflow) in self.overflows.iter().enumerate() {
            let (mut logits, _) = matrix(b, &mut n, 1, 2, 0)?;
            if k == self.stops {
                b.write(&mut logits, 1, &[f32::NAN])?;
            }
            let mut values = n.floats(len);
            if overflow && self.loss_scale != LossScaleSpec::Off {
                values[n.below(len)] = f32::INFINITY;
            }
            let mut g = b.zeros(len, "gradients")?;
            b.write(&mut g, 0, &values)?;
            step(b, k as u64 + 1)?;
            let spec = LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false };
            b.loss(&spec, column.of(&logits, 2), &data, 0, 2, column.of_mut(&mut d, 2))?;
            if self.loss_scale != LossScaleSpec::Off {
                b.check_finite(Window::whole(len).of(&g, 1))?;
            }
            if self.clip_norm.is_some() {
                b.add_squares(&g)?;
            }
            b.decide_update()?;
            b.dense_update(&mut p, &g, &mut state)?;
            let mut told = end(b)?;
            // NaN is not equal to itself.
            told[1][0] = if told[1][0].is_finite() { told[1][0] } else { -1.0 };
            left.extend(told);
            if k != self.stops {
                left.push(all(b, &d, 2)?);
            }
            left.push(all(b, &p, len)?);
        }
        b.resume()?;
        step(b, 7)?;
        b.decide_update()?;
        left.extend(end(b)?);
        Ok(left)
    }
}
