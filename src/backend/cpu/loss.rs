//! Losses over logits: value and gradient. Batches are small beside all else, so this is plain code
//! on one thread.

use crate::model::{KERAS_EPSILON, LossKind, LossSpec};

/// `1 / (1 + e^-z)`.
pub fn sigmoid(z: f32) -> f32 {
    sigmoid64(f64::from(z)) as f32
}

fn sigmoid64(z: f64) -> f64 {
    // The exponential never overflows, and small probabilities keep their relative precision.
    let e = (-z.abs()).exp();
    if z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Sigmoids of `logits`.
pub fn probabilities(logits: &[f32], out: &mut [f32]) {
    for (p, &z) in out.iter_mut().zip(logits) {
        *p = sigmoid(z);
    }
}

/// Losses of some samples of a batch, summed in f64 in their order; in `dlogits` the gradient of the
/// mean over `over` samples. All three slices hold one element a sample, at least one.
pub fn forward_backward(
    spec: &LossSpec,
    logits: &[f32],
    labels: &[f32],
    over: usize,
    dlogits: &mut [f32],
) -> f64 {
    let n = logits.len();
    assert!(
        n > 0 && n <= over && labels.len() == n && dlogits.len() == n,
        "one label and one gradient for each logit"
    );
    let mut total = 0.0;
    for ((&z, &y), g) in logits.iter().zip(labels).zip(dlogits.iter_mut()) {
        let (loss, slope) = sample(spec, f64::from(z), f64::from(y));
        total += loss;
        *g = (slope / over as f64) as f32;
    }
    total
}

/// Loss of one sample and its derivative by the logit.
fn sample(spec: &LossSpec, z: f64, y: f64) -> (f64, f64) {
    if spec.of_probability {
        let (loss, slope) = of_probability(z as f32, y as f32, spec.clamp);
        let w = match spec.kind {
            LossKind::Wbce { weights } => weights[usize::from(y.round() >= 1.0)],
            _ => 1.0,
        };
        return (f64::from(w * loss), f64::from(w * slope));
    }
    let keras = spec.kind == LossKind::KerasBce;
    let clamp = f64::from(spec.clamp).max(if keras { KERAS_EPSILON } else { 0.0 });
    let p = sigmoid64(z);
    let on = clamp > 0.0 && clamp < 1.0;
    // A NaN is neither below nor above: it comes out as a NaN.
    let (below, above) = (on && p < clamp, on && p > 1.0 - clamp);
    let clamped = match (below, above) {
        (true, _) => clamp,
        (_, true) => 1.0 - clamp,
        _ => p,
    };
    let bce = || {
        let loss = if on {
            -(y * clamped.ln() + (1.0 - y) * (1.0 - clamped).ln())
        } else {
            // -(y ln p + (1 - y) ln(1 - p)) with ln p = -ln(1 + e^-z), so that nothing is lost for
            // large |z|.
            z.max(0.0) - y * z + (-z.abs()).exp().ln_1p()
        };
        (loss, p - y)
    };
    let (loss, slope) = match spec.kind {
        LossKind::Bce => bce(),
        LossKind::Wbce { weights } => {
            let w = f64::from(weights[usize::from(y.round() >= 1.0)]);
            let (loss, slope) = bce();
            (w * loss, w * slope)
        }
        LossKind::Mse => ((clamped - y).powi(2), 2.0 * (clamped - y) * p * (1.0 - p)),
        LossKind::KerasBce => {
            let (p1, p0) = (clamped + KERAS_EPSILON, 1.0 - clamped + KERAS_EPSILON);
            let slope = ((1.0 - y) / p0 - y / p1) * p * (1.0 - p);
            (-(y * p1.ln() + (1.0 - y) * p0.ln()), slope)
        }
    };
    (loss, if below || above { 0.0 } else { slope })
}

/// Binary cross entropy as torch has it, every step in f32: each logarithm is cut at -100, the
/// slope is `(p - y) / max((1 - p) p, 1e-12)` times the sigmoid's own `(1 - p) p`.
fn of_probability(z: f32, y: f32, clamp: f32) -> (f32, f32) {
    let p = 1.0 / (1.0 + f64::from(-z).exp() as f32);
    let on = clamp > 0.0 && clamp < 1.0;
    // A NaN is neither below nor above.
    let (below, above) = (on && p < clamp, on && p > 1.0 - clamp);
    let c = match (below, above) {
        (true, _) => clamp,
        (_, true) => 1.0 - clamp,
        _ => p,
    };
    let cut = |log: f64| if log < -100.0 { -100.0 } else { log as f32 };
    let (of_one, of_zero) = (cut(f64::from(c).ln()), cut((-f64::from(c)).ln_1p()));
    let loss = (y - 1.0) * of_zero - y * of_one;
    let variance = (1.0 - c) * c;
    // `max` would lose a NaN.
    let slope = (c - y) / if variance < 1e-12 { 1e-12 } else { variance };
    (loss, if below || above { 0.0 } else { slope * (1.0 - p) * p })
}

#[cfg(test)]
mod tests;
