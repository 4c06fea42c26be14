//! The forward pass of both models in plain loops over f64, straight from the formulas, and
//! gradients by central differences: slow, independent of both engines, and easy to check by eye.

use dlrm_bench::{
    batch::Batch,
    engine::EngineConfig,
    model::{
        DeepFmSpec, DlrmSpec, Interaction, LossKind, ModelSpec, Pooling, Qr, QrOperation, Trick,
    },
    random::philox::Philox,
};

/// Step of the differences.
const H: f64 = 1e-7;
/// Difference of the slopes on both sides that is taken for a kink (of a ReLU or a clamp), not for
/// curvature.
const KINK: f64 = 1e-5;

type Params = [Vec<f64>];

/// What comes of the forward pass of the first training step.
pub struct Forward {
    /// Mean loss.
    pub loss: f64,
    /// How far the nearest kink (of a ReLU or a clamp) is away, over how much larger roundings have
    /// become until there.
    pub margin: f64,
}

/// The distance to the nearest kink so far, as [`Forward::margin`] has it.
struct Margin {
    nearest: f64,
    /// What a rounding has been multiplied by at most: a batch normalisation divides it by a
    /// deviation.
    growth: f64,
}

impl Margin {
    fn new() -> Self {
        Margin { nearest: f64::INFINITY, growth: 1.0 }
    }

    fn kink(&mut self, distance: f64) {
        self.nearest = self.nearest.min(distance.abs() / self.growth);
    }
}

/// Loss of the first training step, and how far it is from a kink.
pub fn forward(config: &EngineConfig, params: &Params, batch: &Batch) -> Forward {
    let mut margin = Margin::new();
    let logits = match &config.model {
        ModelSpec::Dlrm(m) => dlrm(m, params, batch, &mut margin),
        ModelSpec::DeepFm(m) => deepfm(m, params, batch, config.seed, &mut margin),
    };
    let terms = logits.iter().zip(&batch.labels).map(|(&z, &y)| {
        let (mut p, y) = (1.0 / (1.0 + (-z).exp()), f64::from(y));
        let keras = config.loss.kind == LossKind::KerasBce;
        let (c, e) = (f64::from(config.loss.clamp), 1e-7);
        let c = if keras { c.max(e) } else { c };
        if c > 0.0 && c < 1.0 {
            margin.kink(p - c);
            margin.kink(p - (1.0 - c));
            p = p.clamp(c, 1.0 - c);
        }
        let bce = -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
        match config.loss.kind {
            LossKind::Bce => bce,
            LossKind::Wbce { weights } => f64::from(weights[y.round() as usize]) * bce,
            LossKind::Mse => (p - y).powi(2),
            LossKind::KerasBce => -(y * (p + e).ln() + (1.0 - y) * (1.0 - p + e).ln()),
        }
    });
    let loss = terms.sum::<f64>() / batch.len as f64;
    Forward { loss, margin: margin.nearest }
}

/// What a step minimises: the loss, and half the squared norm of DeepFM's tables times
/// `embedding_l2`.
fn objective(config: &EngineConfig, params: &Params, batch: &Batch) -> f64 {
    let l2 = match &config.model {
        ModelSpec::DeepFm(m) => {
            params[..2 * m.tables.len()].iter().flatten().map(|x| x * x).sum::<f64>()
                * f64::from(m.embedding_l2)
                / 2.0
        }
        ModelSpec::Dlrm(_) => 0.0,
    };
    forward(config, params, batch).loss + l2
}

/// Gradient of every parameter for which `trained` holds, zeros for the others; `None` next to a
/// kink, where differences mean nothing.
pub fn gradients(
    config: &EngineConfig,
    params: &Params,
    batch: &Batch,
    trained: impl Fn(usize) -> bool,
) -> Option<Vec<Vec<f64>>> {
    let mut moved = params.to_vec();
    let here = objective(config, params, batch);
    let mut all = Vec::new();
    for i in 0..params.len() {
        let mut grad = vec![0.0; params[i].len()];
        for (j, g) in grad.iter_mut().enumerate().filter(|_| trained(i)) {
            let mut at = |x| {
                moved[i][j] = x;
                objective(config, &moved, batch)
            };
            let x = params[i][j];
            let (above, below) = (at(x + H), at(x - H));
            at(x);
            if (above - 2.0 * here + below).abs() > H * KINK {
                return None;
            }
            *g = (above - below) / (2.0 * H);
        }
        all.push(grad);
    }
    Some(all)
}

fn pool(table: &[f64], dim: usize, weights: Option<&[f64]>, mean: bool, ids: &[u32]) -> Vec<f64> {
    let share = if mean { 1.0 / ids.len().max(1) as f64 } else { 1.0 };
    let mut out = vec![0.0; dim];
    for &id in ids {
        let id = id as usize;
        let w = weights.map_or(1.0, |w| w[id]);
        out.iter_mut().zip(&table[id * dim..]).for_each(|(o, x)| *o += share * w * x);
    }
    out
}

fn linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).zip(bias).map(|(w, b)| dot(x, w) + b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn relu(x: &mut [f64], margin: &mut Margin) {
    for x in x {
        margin.kink(*x);
        *x = x.max(0.0);
    }
}

/// The quotient-remainder trick, if column `k` has two tables.
fn two_tables(m: &DlrmSpec, k: usize) -> Option<Qr> {
    match m.trick {
        Trick::Qr(qr) if m.tables[k] > qr.threshold => Some(qr),
        _ => None,
    }
}

fn dlrm(m: &DlrmSpec, params: &Params, batch: &Batch, margin: &mut Margin) -> Vec<f64> {
    let tables = m.tables.len();
    let weighted = matches!(m.pooling, Pooling::WeightedFixed | Pooling::WeightedLearned);
    let twice = (0..tables).filter(|&k| weighted || two_tables(m, k).is_some()).count();
    let layer = if m.batch_norm { 6 } else { 2 };
    let widths = match m.trick {
        Trick::Md(md) => md.dims(&m.tables, m.dim),
        _ => vec![m.dim; tables],
    };
    let narrow = widths.iter().filter(|&&width| width < m.dim).count();
    let (projections, rest) = params[tables + twice..].split_at(narrow);
    let (bottom, rest) = rest.split_at(layer * m.bottom.len());
    let (meeting, top) = rest.split_at(rest.len() - 2 * m.top.len());
    let input = |b: usize| {
        let mut x: Vec<f64> =
            batch.dense[b * m.dense..(b + 1) * m.dense].iter().map(|&x| x.into()).collect();
        x.resize(m.bottom_input(), 0.0);
        x
    };
    let mut xs: Vec<Vec<f64>> = (0..batch.len).map(input).collect();
    for layer in bottom.chunks(layer) {
        for x in &mut xs {
            *x = linear(x, &layer[0], &layer[1]);
            relu(x, margin);
        }
        if m.batch_norm {
            batch_norm(&mut xs, &layer[2], &layer[3], 1e-3, margin);
        }
    }
    let mut sample = |b: usize| {
        let mut features = vec![xs[b].clone()];
        let mean = m.pooling == Pooling::Mean;
        let (mut at, mut projected) = (0, 0);
        for k in 0..tables {
            let ids = batch.bags[k].bag(b);
            let weights = weighted.then(|| &params[tables + k][..]);
            let width = widths[k];
            let mut next = |ids: &[u32]| {
                at += 1;
                pool(&params[at - 1], width, weights, mean, ids)
            };
            features.push(match two_tables(m, k) {
                None if width < m.dim => {
                    projected += 1;
                    linear(&next(ids), &projections[projected - 1], &vec![0.0; m.dim])
                }
                None => next(ids),
                Some(qr) => {
                    let c = qr.collisions as u32;
                    let q = next(&ids.iter().map(|id| id / c).collect::<Vec<_>>());
                    let r = next(&ids.iter().map(|id| id % c).collect::<Vec<_>>());
                    let both = q.iter().zip(&r);
                    match qr.operation {
                        QrOperation::Mult => both.map(|(q, r)| q * r).collect(),
                        QrOperation::Add => both.map(|(q, r)| q + r).collect(),
                        QrOperation::Concat => [q, r].concat(),
                    }
                }
            });
        }
        let mut x = match &m.interaction {
            Interaction::Cat => features.concat(),
            Interaction::Cross { layers, rank } => {
                let x0 = features.concat();
                let mut x = x0.clone();
                for l in 0..*layers {
                    // Weights, then the other weights if the rank is low, then biases.
                    let h = match rank {
                        Some(r) => linear(&x, &meeting[layers + l], &vec![0.0; *r]),
                        None => x.clone(),
                    };
                    let b = &meeting[if rank.is_some() { 2 * layers } else { *layers } + l];
                    let y = linear(&h, &meeting[l], b);
                    x = (0..x.len()).map(|i| x0[i] * y[i] + x[i]).collect();
                }
                x
            }
            Interaction::Projection { branches } => {
                let (first, second) = meeting.split_at(2 * branches[0].len());
                let [p, q] = [first, second].map(|layers| {
                    let mut x = features.concat();
                    for layer in layers.chunks(2) {
                        x = linear(&x, &layer[0], &layer[1]);
                        relu(&mut x, margin);
                    }
                    x
                });
                let (d, right) = (m.vectors().d, q.len() / m.vectors().d);
                let mut out = features[0].clone();
                for row in p.chunks(d) {
                    for j in 0..right {
                        out.push((0..d).map(|k| row[k] * q[k * right + j]).sum());
                    }
                }
                out
            }
            Interaction::Dot { self_interaction, .. } => {
                let mut out = features[0].clone();
                for i in 0..features.len() {
                    for j in 0..i + usize::from(*self_interaction) {
                        out.push(dot(&features[i], &features[j]));
                    }
                }
                out
            }
        };
        x.resize(m.top_input(), 0.0);
        // With the quirk, what hidden layers but the last make is thrown away.
        let unused = if m.quirks.dead_top { m.top.len().saturating_sub(2) } else { 0 };
        for (i, layer) in top.chunks(2).enumerate().skip(unused) {
            x = linear(&x, &layer[0], &layer[1]);
            if i + 1 < m.top.len() {
                relu(&mut x, margin);
            }
        }
        x[0]
    };
    (0..batch.len).map(&mut sample).collect()
}

fn deepfm(
    m: &DeepFmSpec,
    params: &Params,
    batch: &Batch,
    seed: u64,
    margin: &mut Margin,
) -> Vec<f64> {
    let (tables, d) = (m.tables.len(), m.dim);
    let mut rest = &params[2 * tables..];
    let dense = (m.dense > 0).then(|| {
        let (dense, after) = rest.split_at(2);
        rest = after;
        dense
    });
    let mut shallow = Vec::new();
    let mut xs = Vec::new();
    for b in 0..batch.len {
        let (mut fields, mut logit) = (Vec::new(), 0.0);
        for i in 0..m.dense {
            let (value, dense) =
                (f64::from(batch.dense[b * m.dense + i]), dense.expect("there are dense columns"));
            fields.push(dense[0][i * d..(i + 1) * d].iter().map(|v| value * v).collect());
            logit += value * dense[1][i];
        }
        for k in 0..tables {
            fields.push(pool(&params[k], d, None, false, batch.bags[k].bag(b)));
            logit += pool(&params[tables + k], 1, None, false, batch.bags[k].bag(b))[0];
        }
        for i in 0..fields.len() {
            logit += (0..i).map(|j| dot(&fields[i], &fields[j])).sum::<f64>();
        }
        shallow.push(logit);
        xs.push(fields.concat());
    }
    for (layer, &width) in m.hidden.iter().enumerate() {
        xs.iter_mut().for_each(|x| *x = linear(x, &rest[0], &rest[1]));
        if m.batch_norm {
            batch_norm(&mut xs, &rest[2], &rest[3], 1e-5, margin);
        }
        rest = &rest[if m.batch_norm { 6 } else { 2 }..];
        xs.iter_mut().for_each(|x| relu(x, margin));
        if m.dropout > 0.0 {
            let mut u = vec![0f32; batch.len * width];
            Philox::dropout(seed, 1, layer as u16).fill_unit_f32(0, &mut u);
            let keep =
                |u: f32| if u < m.dropout { 0.0 } else { 1.0 / (1.0 - f64::from(m.dropout)) };
            for (x, u) in xs.iter_mut().flatten().zip(u) {
                *x *= keep(u);
            }
        }
    }
    xs.iter().zip(shallow).map(|(x, logit)| logit + linear(x, &rest[0], &rest[1])[0]).collect()
}

fn batch_norm(xs: &mut [Vec<f64>], scale: &[f64], shift: &[f64], eps: f64, margin: &mut Margin) {
    let n = xs.len() as f64;
    let mut growth = 1.0f64;
    for j in 0..scale.len() {
        let mean = xs.iter().map(|x| x[j]).sum::<f64>() / n;
        let var = xs.iter().map(|x| (x[j] - mean).powi(2)).sum::<f64>() / n;
        let factor = scale[j] / (var + eps).sqrt();
        xs.iter_mut().for_each(|x| x[j] = factor * (x[j] - mean) + shift[j]);
        // A single sample is its own mean, whatever its rounding.
        growth = if xs.len() > 1 { growth.max(factor) } else { growth };
    }
    margin.growth *= growth;
}
