//! Work on buffers that products read, which a device may keep in 16 bits.

use super::{
    cases::{Case, Left, all, bare, control, end, step},
    numbers::Numbers,
};
use crate::{
    backend::{
        After, Backend, DotShape, Gate, Held, Join, Linear, Onto, Precision, ProductShape, Result,
        SparseGradient, TablesShape, Window, cpu::CpuConfig,
    },
    batch::{Batch, BatchLimits},
    embedding::RowKind,
    model::Pooling,
    optim::OptimizerSpec,
};

/// A buffer with random rows every `stride` numbers, and its window; one that products read if
/// `operand`. Numbers are `step` times a whole number up to `most`, so that rounding them to 16
/// bits changes nothing: what is compared then is what comes behind.
fn exact<B: Backend>(
    b: &mut B,
    n: &mut Numbers,
    shape: [usize; 3],
    grid: (usize, f32),
    operand: bool,
) -> Result<(B::Floats, Window)> {
    let [rows, cols, gap] = shape;
    let window = Window { at: gap, stride: cols + gap, cols };
    let values = whole(n, gap + rows * window.stride, grid);
    let mut buffer = if operand {
        b.operands(values.len(), "a test")?
    } else {
        b.zeros(values.len(), "a test")?
    };
    b.write(&mut buffer, 0, &values)?;
    Ok((buffer, window))
}

/// Random numbers, `step` times a whole number up to `most`.
pub(super) fn whole(n: &mut Numbers, len: usize, (most, step): (usize, f32)) -> Vec<f32> {
    (0..len).map(|_| (n.below(2 * most + 1) as f32 - most as f32) * step).collect()
}

/// Numbers from -1 to 1 that all kinds of numbers have.
pub(super) const FINE: (usize, f32) = (128, 1.0 / 128.0);
/// Minus one, zero and one.
const SIGNS: (usize, f32) = (1, 1.0);

/// The part of the largest element by which one may be off that is rounded once: half of the last
/// of 8 or 11 significant bits, and a little for sums in another order.
fn rounding(precision: Precision) -> f32 {
    let half = match precision {
        Precision::Fp32 | Precision::Tf32 => 0.0,
        Precision::Fp16 => 0.5f32.powi(11),
        Precision::Bf16 => 0.5f32.powi(8),
    };
    half + 1e-5
}

/// Forward and gradients of three layers, the way an MLP without dropout goes: what is between them
/// is for products alone. Of whole numbers and biases between them, so that no ReLU's input is near
/// zero and sums are the same in any order.
#[derive(Debug)]
pub(crate) struct NetworkCase {
    pub batch: usize,
    /// Of the input and the outputs.
    pub widths: [usize; 4],
    pub precision: Precision,
    pub seed: u64,
}

impl NetworkCase {
    fn layers(&self) -> [(usize, usize); 3] {
        let [a, b, c, d] = self.widths;
        [(a, b), (b, c), (c, d)]
    }
}

impl Case for NetworkCase {
    fn name(&self) -> &'static str {
        "layers with 16-bit activations between them"
    }

    fn tolerance(&self) -> f32 {
        // TF32 keeps 11 significant bits; outputs of the second layer, halves of up to some 1,400,
        // need 12.
        let half = if self.precision == Precision::Tf32 { 0.5f32.powi(11) } else { 0.0 };
        // Sums of gradients over the batch are of rounded ones.
        2.0 * (half + rounding(self.precision))
    }

    fn work(&self) -> usize {
        self.layers().iter().map(|(inputs, outputs)| 5 * self.batch * inputs * outputs).sum()
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let (batch, mut n) = (self.batch, Numbers::new(self.seed));
        let mut len = 0;
        let layers = self.layers().map(|(inputs, outputs)| {
            let weight = len;
            len += inputs * outputs + outputs;
            Linear { weight, bias: Some(weight + inputs * outputs), inputs, outputs }
        });
        layers.iter().try_for_each(|&layer| b.plan_linear(layer, batch))?;
        let bias = |l: &Linear| {
            let at = l.weight + l.inputs * l.outputs;
            at..at + l.outputs
        };
        let mut values = whole(&mut n, len, SIGNS);
        for l in &layers {
            values[bias(l)].iter_mut().for_each(|b| *b += 0.5);
        }
        let (mut params, mut grads) = (b.zeros(len, "a test")?, b.zeros(len, "gradients")?);
        b.write(&mut params, 0, &values)?;
        let (x, wx) = exact(b, &mut n, [batch, layers[0].inputs, 0], SIGNS, false)?;
        let (dy, wy) = exact(b, &mut n, [batch, layers[2].outputs, 0], SIGNS, false)?;
        let mut y = b.zeros(batch * wy.stride, "outputs")?;
        let [w1, w2] = [layers[0], layers[1]].map(|l| {
            let cols = l.outputs;
            Window { at: 0, stride: cols.next_multiple_of(16), cols }
        });
        let mut hidden = |w: Window| b.operands(batch * w.stride, "activations");
        let (mut h1, mut h2, mut d1, mut d2) = (hidden(w1)?, hidden(w2)?, hidden(w1)?, hidden(w2)?);
        let (relu, last) = (After { relu: true, dropout: None }, After::default());
        // Twice, so that bits of a ReLU are those of its last forward pass.
        for rows in [batch, batch.div_ceil(2)] {
            b.linear_forward(wx.of(&x, rows), &params, layers[0], relu, w1.of_mut(&mut h1, rows))?;
            b.linear_forward(w1.of(&h1, rows), &params, layers[1], relu, w2.of_mut(&mut h2, rows))?;
            b.linear_forward(w2.of(&h2, rows), &params, layers[2], last, wy.of_mut(&mut y, rows))?;
            let gate = |a| Onto::Gate(Gate { activation: a, factor: 1.0 });
            b.linear_backward_weight(wy.of(&dy, rows), w2.of(&h2, rows), layers[2], &mut grads)?;
            b.linear_backward_data(
                wy.of(&dy, rows),
                &params,
                layers[2],
                gate(w2.of(&h2, rows)),
                w2.of_mut(&mut d2, rows),
            )?;
            b.linear_backward_weight(w2.of(&d2, rows), w1.of(&h1, rows), layers[1], &mut grads)?;
            b.linear_backward_data(
                w2.of(&d2, rows),
                &params,
                layers[1],
                gate(w1.of(&h1, rows)),
                w1.of_mut(&mut d1, rows),
            )?;
            b.linear_backward_weight(w1.of(&d1, rows), wx.of(&x, rows), layers[0], &mut grads)?;
        }
        b.relu_backward(w1.of(&h1, batch), w1.of_mut(&mut d1, batch))?;
        b.begin(&control(OptimizerSpec::SGD, None, 1.0))?;
        step(b, 1)?;
        b.check_finite(w1.of(&d1, batch))?;
        b.decide_update()?;
        let mut left = vec![all(b, &y, batch * wy.stride)?];
        left.extend(end(b)?);
        for (buffer, w) in [(&h1, w1), (&h2, w2), (&d1, w1), (&d2, w2)] {
            left.push(all(b, buffer, batch * w.stride)?);
        }
        b.write(&mut d2, w2.at + 1, &[f32::NAN])?;
        step(b, 2)?;
        b.check_finite(w2.of(&d2, batch))?;
        b.decide_update()?;
        left.extend(end(b)?);
        b.fill(&mut d2, 2.5)?;
        left.push(all(b, &d2, batch * w2.stride)?);
        let grads = all(b, &grads, len)?;
        left.extend(
            layers
                .iter()
                .flat_map(|l| [&grads[l.weight..bias(l).start], &grads[bias(l)]])
                .map(<[f32]>::to_vec),
        );
        Ok(left)
    }
}

/// A product and a sum, element by element, and their gradients.
#[derive(Debug)]
pub(crate) struct MultiplyAddCase {
    pub precision: Precision,
    pub rows: usize,
    pub cols: usize,
    pub gap: usize,
}

impl Case for MultiplyAddCase {
    fn name(&self) -> &'static str {
        "products and sums, element by element"
    }

    fn tolerance(&self) -> f32 {
        // Numbers are such that nothing but the result is rounded.
        match rounding(self.precision) {
            exact if exact <= 1e-5 => 0.0,
            rounded => rounded,
        }
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &MultiplyAddCase { rows, cols, gap, .. } = self;
        let mut n = Numbers::new(4);
        let shape = |gap| [rows, cols, gap];
        let (x, wx) = exact(b, &mut n, shape(gap), FINE, true)?;
        let (y, wy) = exact(b, &mut n, shape(0), FINE, true)?;
        let (c, wc) = exact(b, &mut n, shape(1), FINE, false)?;
        let (mut out, wo) = exact(b, &mut n, shape(gap), FINE, true)?;
        let matrices = (wx.of(&x, rows), wy.of(&y, rows));
        let mut left = Vec::new();
        for term in [Some(wc.of(&c, rows)), None] {
            b.multiply_add(matrices.0, matrices.1, term, wo.of_mut(&mut out, rows))?;
            left.push(all(b, &out, gap + rows * wo.stride)?);
        }
        b.copy(wc.of(&c, rows), wo.of_mut(&mut out, rows))?;
        left.push(all(b, &out, gap + rows * wo.stride)?);
        for (there, sum) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut da, wa) = exact(b, &mut n, shape(gap), FINE, true)?;
            let (mut db, wb) = exact(b, &mut n, shape(2), FINE, true)?;
            let to = (wa.of_mut(&mut da, rows), Join { there, sum });
            let factors = [wx.of(&x, rows), wy.of(&y, rows)];
            b.multiply_add_backward(factors, wc.of(&c, rows), to, wb.of_mut(&mut db, rows))?;
            left.push(all(b, &da, gap + rows * wa.stride)?);
            left.push(all(b, &db, 2 + rows * wb.stride)?);
        }
        Ok(left)
    }
}

/// Products of two matrices a sample behind some columns, their gradients, and a sum.
#[derive(Debug)]
pub(crate) struct ProductsCase {
    pub precision: Precision,
    pub shape: ProductShape,
    pub cols: usize,
    pub batch: usize,
    pub gap: usize,
}

impl Case for ProductsCase {
    fn name(&self) -> &'static str {
        "products a sample"
    }

    fn tolerance(&self) -> f32 {
        rounding(self.precision)
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &ProductsCase { shape, cols, batch, gap, .. } = self;
        let ProductShape { left, inner, right } = shape;
        let mut n = Numbers::new(12);
        let (x, wx) = exact(b, &mut n, [batch, cols, gap], FINE, true)?;
        let (p, wp) = exact(b, &mut n, [batch, left * inner, gap], FINE, true)?;
        let (q, wq) = exact(b, &mut n, [batch, inner * right, 0], FINE, true)?;
        let (mut out, wo) = exact(b, &mut n, [batch, cols + left * right, 1], FINE, true)?;
        let (dout, wd) = exact(b, &mut n, [batch, cols + left * right, gap], FINE, true)?;
        let (mut dp, wdp) = exact(b, &mut n, [batch, left * inner, 0], FINE, true)?;
        let (mut dq, wdq) = exact(b, &mut n, [batch, inner * right, gap], FINE, true)?;
        let (mut dx, wdx) = exact(b, &mut n, [batch, cols, 2], FINE, true)?;
        let factors = [wp.of(&p, batch), wq.of(&q, batch)];
        b.products_forward(shape, wx.of(&x, batch), factors, wo.of_mut(&mut out, batch))?;
        let to = [wdp.of_mut(&mut dp, batch), wdq.of_mut(&mut dq, batch)];
        b.products_backward(shape, factors, wd.of(&dout, batch), to)?;
        b.add(wd.columns(0, cols).of(&dout, batch), wdx.of_mut(&mut dx, batch))?;
        Ok(vec![
            all(b, &out, 1 + batch * wo.stride)?,
            all(b, &dp, batch * wdp.stride)?,
            all(b, &dq, gap + batch * wdq.stride)?,
            all(b, &dx, 2 + batch * wdx.stride)?,
        ])
    }
}

/// Forward and gradient of a dot interaction.
#[derive(Debug)]
pub(crate) struct DotCase {
    pub shape: DotShape,
    pub precision: Precision,
    pub batch: usize,
    pub gap: usize,
}

impl Case for DotCase {
    fn name(&self) -> &'static str {
        "dot interaction"
    }

    fn tolerance(&self) -> f32 {
        rounding(self.precision)
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let DotShape { features, dim, self_interaction } = self.shape;
        let mut n = Numbers::new(1);
        let cols = dim
            + features * (features - 1) / 2
            + if self_interaction { features } else { 0 }
            + self.gap;
        let (t, wt) = exact(b, &mut n, [self.batch, features * dim, 0], FINE, true)?;
        let (mut dt, wdt) = exact(b, &mut n, [self.batch, features * dim, self.gap], FINE, true)?;
        let (mut out, wo) = exact(b, &mut n, [self.batch, cols, self.gap], FINE, true)?;
        let (dout, wdo) = exact(b, &mut n, [self.batch, cols, 1], FINE, true)?;
        let mut dot = b.plan_dot(self.shape, Held::Operands)?;
        b.dot_forward(&mut dot, wt.of(&t, self.batch), wo.of_mut(&mut out, self.batch))?;
        b.dot_backward(
            &mut dot,
            wt.of(&t, self.batch),
            wdo.of(&dout, self.batch),
            wdt.of_mut(&mut dt, self.batch),
        )?;
        Ok(vec![
            all(b, &out, self.gap + self.batch * wo.stride)?,
            all(b, &dt, self.gap + self.batch * wdt.stride)?,
        ])
    }
}

/// Pooled vectors and their gradients where products read them.
#[derive(Debug)]
pub(crate) struct PooledCase {
    pub precision: Precision,
    pub rows: Vec<usize>,
    pub dim: usize,
    pub batch: usize,
    pub hotness: usize,
}

impl Case for PooledCase {
    fn name(&self) -> &'static str {
        "tables with 16-bit pooled vectors"
    }

    fn tolerance(&self) -> f32 {
        rounding(self.precision)
    }

    fn config(&self) -> CpuConfig {
        CpuConfig { precision: self.precision, ..bare() }
    }

    fn run<B: Backend>(&self, b: &mut B) -> Result<Left> {
        let &PooledCase { dim, batch, hotness, .. } = self;
        let (rows, rule) = (&self.rows[..], OptimizerSpec::SGD);
        let mut n = Numbers::new(6);
        // Columns before and behind those that the tables read.
        let columns = [&[3], rows, &[2]].concat();
        let most = vec![hotness; columns.len()];
        let limits = BatchLimits::new(batch, 1, columns.clone(), most);
        let mut input = b.input(&limits, 1)?;
        let mut tables = b.tables(&TablesShape {
            rows,
            dim,
            column: 1,
            kind: RowKind::Fp32,
            first: 0,
            pooling: Pooling::Mean,
            rule,
        })?;
        let before: Vec<Vec<f32>> = rows.iter().map(|r| whole(&mut n, r * dim, FINE)).collect();
        for (k, values) in before.iter().enumerate() {
            b.with_table(&mut tables, k, &mut |at, part, _| {
                part.copy_from_slice(&values[at..][..part.len()])
            })?;
        }
        let bags = columns.iter().map(|&r| n.bags(batch, r, hotness)).collect();
        let data = Batch { len: batch, dense: n.floats(batch), bags, labels: vec![0.0; batch] };
        let mut data = b.upload(limits.check(&data)?, &mut input)?;
        let (mut out, w) = exact(b, &mut n, [batch, rows.len() * dim, 0], FINE, true)?;
        let (pooled, wp) = exact(b, &mut n, [batch, rows.len() * dim, 0], FINE, true)?;
        b.bags_forward(&tables, &data, w.of_mut(&mut out, batch))?;
        let mut left = vec![all(b, &out, batch * w.stride)?];
        b.group_rows(&mut data)?;
        let gradient = SparseGradient { pooled: wp.of(&pooled, batch), l2: 0.0 };
        b.begin(&control(rule, Some(0.5), 2.0))?;
        step(b, 1)?;
        b.add_sparse_squares(&tables, &data, gradient)?;
        b.check_finite(wp.of(&pooled, batch))?;
        // As it is before clipping, which would undo a factor in all of it.
        for (k, &r) in rows.iter().enumerate() {
            let mut g = vec![0.0; r * dim];
            b.table_gradient(&tables, k, &data, gradient, (&mut g, &mut vec![0.0; r]))?;
            left.push(g);
        }
        b.decide_update()?;
        b.sparse_update(&mut tables, &data, gradient)?;
        left.extend(end(b)?);
        for (k, before) in before.iter().enumerate() {
            let mut table = vec![0.0; before.len()];
            b.read_table(&tables, k, 0, &mut table)?;
            // What the update has changed: beside the rows themselves it is so small that none at
            // all would pass.
            table.iter_mut().zip(before).for_each(|(x, before)| *x -= before);
            left.push(table);
        }
        Ok(left)
    }
}
