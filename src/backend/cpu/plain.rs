//! Embedding tables, interactions, losses and updates in plain loops (to be replaced, one by one, by kernels of their own).

use super::{
    gemm::{Rows, RowsMut},
    memory::Input,
    pool::{Pool, SharedMut},
};
use crate::{
    backend::{DotShape, TablesShape, Update},
    data::Bags,
    engine::{LossKind, LossSpec},
    model::Pooling,
    optim::{AdamForm, AdamRows, OptimizerSpec},
};

/// One table with what belongs to its rows.
#[derive(Debug)]
pub struct Table {
    /// `[rows, dim]`.
    pub rows: Vec<f32>,
    /// `[rows]` or empty.
    pub weights: Vec<f32>,
    state: [Vec<f32>; 2],
    weight_state: [Vec<f32>; 2],
}

/// A set of tables.
#[derive(Debug)]
pub struct Tables {
    /// The tables.
    pub tables: Vec<Table>,
    dim: usize,
    pooling: Pooling,
}

fn weighted(p: Pooling) -> bool {
    matches!(p, Pooling::WeightedFixed | Pooling::WeightedLearned)
}

fn state(rule: &OptimizerSpec, n: usize) -> [Vec<f32>; 2] {
    match *rule {
        OptimizerSpec::Sgd => [vec![], vec![]],
        OptimizerSpec::Adagrad { initial_accumulator, .. } | OptimizerSpec::RowwiseAdagrad { initial_accumulator, .. } => {
            [vec![initial_accumulator as f32; n], vec![]]
        }
        OptimizerSpec::Adam { .. } => [vec![0.0; n], vec![0.0; n]],
    }
}

/// Initial values of the buffers that a rule keeps beside dense parameters.
pub fn dense_state(rule: &OptimizerSpec) -> Vec<f32> {
    state(rule, 1).into_iter().flatten().collect()
}

impl Tables {
    /// Zeros; row weights of one.
    pub fn new(s: &TablesShape<'_>) -> Self {
        let tables = s.rows.iter().map(|&n| {
            let w = if weighted(s.pooling) { n } else { 0 };
            let per_row = if matches!(s.rule, OptimizerSpec::RowwiseAdagrad { .. }) { n } else { n * s.dim };
            let weight_state = if s.pooling == Pooling::WeightedLearned { state(&s.rule, n) } else { [vec![], vec![]] };
            Table { rows: vec![0.0; n * s.dim], weights: vec![1.0; w], state: state(&s.rule, per_row), weight_state }
        });
        Tables { tables: tables.collect(), dim: s.dim, pooling: s.pooling }
    }
}

fn factor(p: Pooling, t: &Table, bag: &[u32], id: usize) -> f32 {
    match p {
        Pooling::Sum => 1.0,
        Pooling::Mean => 1.0 / bag.len() as f32,
        _ => t.weights[id],
    }
}

/// Pools.
pub fn bags_forward(pool: &Pool, t: &Tables, input: &Input, out: RowsMut<'_>) {
    let (d, stride, y) = (t.dim, out.stride, SharedMut::new(out.data));
    pool.run(t.tables.len(), |k, _| {
        for b in 0..input.len {
            // SAFETY: each table has its own columns.
            let y = unsafe { y.slice(b * stride + k * d, d) };
            y.fill(0.0);
            let bag = input.bags[k].bag(b);
            for &id in bag {
                let w = factor(t.pooling, &t.tables[k], bag, id as usize);
                y.iter_mut().zip(&t.tables[k].rows[id as usize * d..][..d]).for_each(|(y, p)| *y += w * p);
            }
        }
    });
}

/// Dense gradient of one table and its row weights.
fn spread(
    t: &Table,
    d: usize,
    pooling: Pooling,
    k: usize,
    bags: &Bags,
    n: usize,
    g: Rows<'_>,
) -> (Vec<f32>, Vec<f32>, Vec<bool>) {
    let mut out = vec![0.0; t.rows.len()];
    let mut dw = vec![0.0; t.weights.len()];
    let mut hit = vec![false; t.rows.len() / d];
    for b in 0..n {
        let g = &g.data[b * g.stride + k * d..][..d];
        let bag = bags.bag(b);
        for &id in bag {
            let id = id as usize;
            hit[id] = true;
            let w = factor(pooling, t, bag, id);
            out[id * d..][..d].iter_mut().zip(g).for_each(|(o, g)| *o += w * g);
            if pooling == Pooling::WeightedLearned {
                dw[id] += t.rows[id * d..][..d].iter().zip(g).map(|(p, g)| p * g).sum::<f32>();
            }
        }
    }
    (out, dw, hit)
}

/// Squares.
pub fn sparse_sum_squares(t: &Tables, input: &Input, g: Rows<'_>, l2: f32) -> f64 {
    let mut sum = 0.0;
    for (k, table) in t.tables.iter().enumerate() {
        let (mut rows, w, _) = spread(table, t.dim, t.pooling, k, &input.bags[k], input.len, g);
        rows.iter_mut().zip(&table.rows).for_each(|(g, p)| *g += l2 * p);
        sum += rows.iter().chain(&w).map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    }
    sum
}

fn apply(u: &Update, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let lr = u.learning_rate;
    for i in 0..p.len() {
        let g = g[i] * u.scale;
        match u.rule {
            OptimizerSpec::Sgd => p[i] -= lr as f32 * g,
            OptimizerSpec::Adagrad { eps, lr_decay, .. } => {
                m[i] += g * g;
                p[i] -= (lr / (1.0 + (u.step - 1) as f64 * lr_decay)) as f32 * g / (m[i].sqrt() + eps as f32);
            }
            OptimizerSpec::RowwiseAdagrad { eps, .. } => {
                m[i] += g * g;
                p[i] -= lr as f32 * g / (m[i].sqrt() + eps as f32);
            }
            OptimizerSpec::Adam { beta1, beta2, eps, form, .. } => {
                m[i] += (1.0 - beta1) as f32 * (g - m[i]);
                v[i] += (1.0 - beta2) as f32 * (g * g - v[i]);
                let (c1, c2) = (1.0 - beta1.powi(u.step as i32), 1.0 - beta2.powi(u.step as i32));
                p[i] -= match form {
                    AdamForm::Torch => (lr / c1) as f32 * m[i] / ((v[i] / c2 as f32).sqrt() + eps as f32),
                    AdamForm::Tf => (lr * c2.sqrt() / c1) as f32 * m[i] / (v[i].sqrt() + eps as f32),
                }
            }
        }
    }
}

fn part(v: &mut [f32], at: usize, n: usize) -> &mut [f32] {
    if v.is_empty() { v } else { &mut v[at..at + n] }
}

/// Sparse update.
pub fn sparse_update(pool: &Pool, t: &mut Tables, input: &Input, g: Rows<'_>, l2: f32, u: &Update) {
    let (d, pooling) = (t.dim, t.pooling);
    let tables = SharedMut::new(&mut t.tables);
    pool.run(input.bags.len(), |k, _| {
        // SAFETY: one table a chunk.
        let table = unsafe { &mut tables.slice(k, 1)[0] };
        let (mut rows, dw, hit) = spread(table, d, pooling, k, &input.bags[k], input.len, g);
        let all = l2 > 0.0 || matches!(u.rule, OptimizerSpec::Adam { rows: AdamRows::Dense, .. });
        if l2 > 0.0 {
            rows.iter_mut().zip(&table.rows).for_each(|(g, p)| *g += l2 * p);
        }
        for (id, hit) in hit.into_iter().enumerate() {
            if !hit && !all {
                continue;
            }
            let (g, p) = (&rows[id * d..][..d], &mut table.rows[id * d..][..d]);
            if let OptimizerSpec::RowwiseAdagrad { eps, .. } = u.rule {
                let m = &mut table.state[0][id];
                *m += g.iter().map(|g| (g * u.scale) * (g * u.scale)).sum::<f32>() / d as f32;
                let rate = u.learning_rate as f32 * u.scale / (m.sqrt() + eps as f32);
                p.iter_mut().zip(g).for_each(|(p, g)| *p -= rate * g);
            } else {
                let [m, v] = &mut table.state;
                apply(u, p, g, part(m, id * d, d), part(v, id * d, d));
            }
            if pooling == Pooling::WeightedLearned {
                let [m, v] = &mut table.weight_state;
                apply(u, &mut table.weights[id..id + 1], &dw[id..id + 1], part(m, id, 1), part(v, id, 1));
            }
        }
    });
}

/// Dense update.
pub fn dense_update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], u: &Update) {
    apply(u, p, g, m, v);
}

/// Dot.
pub fn dot_forward(pool: &Pool, rows: usize, s: DotShape, t: Rows<'_>, width: usize, out: RowsMut<'_>) {
    let (d, stride, y) = (s.dim, out.stride, SharedMut::new(out.data));
    pool.run(rows, |b, _| {
        // SAFETY: one row a chunk.
        let y = unsafe { y.slice(b * stride, width) };
        y.fill(0.0);
        let t = &t.data[b * t.stride..][..s.features * d];
        y[..d].copy_from_slice(&t[..d]);
        let mut at = d;
        for i in 0..s.features {
            for j in 0..i + usize::from(s.itself) {
                y[at] = (0..d).map(|k| t[i * d + k] * t[j * d + k]).sum();
                at += 1;
            }
        }
    });
}

/// Dot backward.
pub fn dot_backward(pool: &Pool, rows: usize, s: DotShape, t: Rows<'_>, dout: Rows<'_>, dt: RowsMut<'_>) {
    let (d, stride, y) = (s.dim, dt.stride, SharedMut::new(dt.data));
    pool.run(rows, |b, _| {
        // SAFETY: one row a chunk.
        let y = unsafe { y.slice(b * stride, s.features * d) };
        let t = &t.data[b * t.stride..][..s.features * d];
        let g = &dout.data[b * dout.stride..];
        y.fill(0.0);
        y[..d].copy_from_slice(&g[..d]);
        let mut at = d;
        for i in 0..s.features {
            for j in 0..i + usize::from(s.itself) {
                for k in 0..d {
                    y[i * d + k] += g[at] * t[j * d + k];
                    y[j * d + k] += g[at] * t[i * d + k];
                }
                at += 1;
            }
        }
    });
}

/// FM.
pub fn fm_forward(rows: usize, fields: usize, dim: usize, v: Rows<'_>, linear: Rows<'_>, logits: RowsMut<'_>) {
    for b in 0..rows {
        let v = &v.data[b * v.stride..];
        let mut z: f32 = linear.data[b * linear.stride..][..fields].iter().sum();
        for k in 0..dim {
            let s: f32 = (0..fields).map(|i| v[i * dim + k]).sum();
            let q: f32 = (0..fields).map(|i| v[i * dim + k] * v[i * dim + k]).sum();
            z += 0.5 * (s * s - q);
        }
        logits.data[b * logits.stride] += z;
    }
}

/// FM backward.
pub fn fm_backward(rows: usize, fields: usize, dim: usize, v: Rows<'_>, g: Rows<'_>, dv: RowsMut<'_>, dl: RowsMut<'_>) {
    for b in 0..rows {
        let g = g.data[b * g.stride];
        let v = &v.data[b * v.stride..];
        for k in 0..dim {
            let s: f32 = (0..fields).map(|i| v[i * dim + k]).sum();
            (0..fields).for_each(|i| dv.data[b * dv.stride + i * dim + k] += g * (s - v[i * dim + k]));
        }
        dl.data[b * dl.stride..][..fields].fill(g);
    }
}

/// Loss.
pub fn loss(spec: &LossSpec, z: Rows<'_>, labels: &[f32], dz: RowsMut<'_>) -> f32 {
    let n = labels.len() as f64;
    let mut sum = 0.0f64;
    for (b, &y) in labels.iter().enumerate() {
        let (z, y) = (f64::from(z.data[b * z.stride]), f64::from(y));
        let mut p = 1.0 / (1.0 + (-z).exp());
        let t = f64::from(spec.clamp);
        let clamped = t > 0.0 && t < 1.0 && !(p >= t && p <= 1.0 - t);
        if clamped {
            p = p.max(t).min(1.0 - t);
        }
        let bce = || {
            if clamped { -(y * p.ln() + (1.0 - y) * (1.0 - p).ln()) } else { z.max(0.0) - z * y + (-z.abs()).exp().ln_1p() }
        };
        let (l, g) = match spec.kind {
            LossKind::Bce => (bce(), p - y),
            LossKind::Wbce { weights } => {
                let w = f64::from(weights[usize::from(y.round() > 0.5)]);
                (w * bce(), w * (p - y))
            }
            LossKind::Mse => ((p - y) * (p - y), 2.0 * (p - y) * p * (1.0 - p)),
        };
        sum += l;
        dz.data[b * dz.stride] = if clamped { 0.0 } else { (g / n) as f32 };
    }
    (sum / n) as f32
}
