//! Losses over logits, in forms whose values and gradients are finite at any logit. (candle's own
//! binary cross entropy gives NaN at +-200, and so does the gradient of `1 / (1 + exp(-z))`.)

use super::layers::BELOW_ZERO;
use crate::model::{KERAS_EPSILON, LossKind, LossSpec};
use candle_core::{DType, Result, Tensor};

/// Mean loss of logits `[B]` against labels `[B]`: a scalar.
pub(super) fn mean_loss(spec: &LossSpec, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if spec.of_probability {
        return of_probability(spec, logits, labels);
    }
    let keras = spec.kind == LossKind::KerasBce;
    let logits = match if keras { spec.clamp.max(KERAS_EPSILON as f32) } else { spec.clamp } {
        // Cutting the logit cuts the probability, and candle's gradient of a cut is zero outside.
        c if c > 0.0 && c < 1.0 => {
            let limit = ((1.0 - f64::from(c)) / f64::from(c)).ln();
            &logits.clamp(-limit, limit)?
        }
        _ => logits,
    };
    match spec.kind {
        LossKind::Bce => bce(logits, labels)?.mean_all(),
        LossKind::Wbce { weights: [w0, w1] } => {
            let class = labels.round()?;
            (bce(logits, labels)? * class.affine(f64::from(w1 - w0), f64::from(w0))?)?.mean_all()
        }
        LossKind::Mse => (sigmoid(logits)? - labels)?.sqr()?.mean_all(),
        LossKind::KerasBce => keras_bce(logits, labels)?.mean_all(),
    }
}

/// `-(y ln p + (1 - y) ln(1 - p))` as `max(z, 0) (1 - y) + max(-z, 0) y + ln(1 + exp(-|z|))`. Of
/// the three terms' gradients at most two are not zero for a label of 0 or 1, and these never
/// cancel: a confident prediction keeps all digits of its small gradient.
fn bce(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    let tail = (z.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let above = (z.relu()? * y.affine(-1.0, 1.0)?)?;
    // candle's slopes at z = 0 are 1 for the ReLU and for |z|: one ReLU must be flat there.
    let below = (z.affine(-1.0, BELOW_ZERO)?.relu()? * y)?;
    (above + below)? + tail
}

/// `-(y ln(p + e) + (1 - y) ln(1 - p + e))`; `1 - p` is the sigmoid of `-z`, with all its digits.
fn keras_bce(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ln = |z: &Tensor| (sigmoid(z)? + KERAS_EPSILON)?.log();
    let (one, zero) = ((ln(z)? * y)?, (ln(&z.neg()?)? * y.affine(-1.0, 1.0)?)?);
    (one + zero)?.neg()
}

/// Binary cross entropy of the probability in f32, as torch has it. candle's autograd knows nothing
/// of torch's cuts: what it is given is a line through the loss with the slope that torch's would
/// come to.
fn of_probability(spec: &LossSpec, z: &Tensor, y: &Tensor) -> Result<Tensor> {
    let p = (z.detach().neg()?.exp()? + 1.0)?.recip()?;
    let (within, p) = match spec.clamp {
        c if c > 0.0 && c < 1.0 => {
            (p.ge(c)?.mul(&p.le(1.0 - c)?)?.to_dtype(p.dtype())?, p.clamp(c, 1.0 - c)?)
        }
        _ => (p.ones_like()?, p),
    };
    let rest = p.affine(-1.0, 1.0)?;
    let log = |x: &Tensor| x.to_dtype(DType::F64)?.log()?.maximum(-100.0)?.to_dtype(DType::F32);
    let zeros = p.to_dtype(DType::F64)?.affine(-1.0, 1.0)?;
    let terms = ((y * log(&p)?)? + (y.affine(-1.0, 1.0)? * log(&zeros)?)?)?.neg()?;
    let variance = (&rest * &p)?;
    let slope = (((&p - y)? / variance.maximum(1e-12)?)? * variance)?;
    let weights = match spec.kind {
        LossKind::Wbce { weights: [w0, w1] } => {
            y.round()?.affine(f64::from(w1 - w0), f64::from(w0))?
        }
        _ => y.ones_like()?,
    };
    let line = ((slope * within)? * (z - z.detach())?)?;
    (weights * (terms + line)?)?.mean_all()
}

/// `1 / (1 + exp(-z))` by way of `e = exp(-|z|)`: `1 / (1 + e)` where `z >= 0`, else `e / (1 + e)`.
pub(super) fn sigmoid(z: &Tensor) -> Result<Tensor> {
    let e = z.abs()?.neg()?.exp()?;
    let s = (&e + 1.0)?.recip()?;
    z.ge(0f32)?.where_cond(&s, &(&e * &s)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Loss and its gradient at each logit alone.
    fn at(spec: LossSpec, points: &[(f32, f32)]) -> Vec<(f32, f32)> {
        let one = |&(z, y): &(f32, f32)| {
            let z = Var::new(&[z], &Device::Cpu)?;
            let loss = mean_loss(&spec, &z, &Tensor::new(&[y], &Device::Cpu)?)?;
            let grad = loss.backward()?.remove(&z).map(|g| g.to_vec1::<f32>()).transpose()?;
            Ok((loss.to_scalar::<f32>()?, grad.map_or(f32::NAN, |g| g[0])))
        };
        points.iter().map(one).collect::<Result<_>>().unwrap()
    }

    #[test]
    fn far_logits_give_finite_losses_and_gradients() {
        let points = [(200.0, 1.0), (200.0, 0.0), (-200.0, 1.0), (-200.0, 0.0), (0.0, 0.25)];
        let bce = at(LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false }, &points);
        assert_eq!(
            bce,
            [(0.0, 0.0), (200.0, 1.0), (200.0, -1.0), (0.0, 0.0), (std::f32::consts::LN_2, 0.25)]
        );
        let mse = at(LossSpec { kind: LossKind::Mse, clamp: 0.0, of_probability: false }, &points);
        assert_eq!(mse, [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0625, 0.125)]);
    }

    #[test]
    fn a_clamped_probability_has_no_gradient() {
        for kind in [LossKind::Bce, LossKind::Mse] {
            let got = at(
                LossSpec { kind, clamp: 0.25, of_probability: false },
                &[(5.0, 0.0), (-5.0, 1.0), (1.0, 0.0)],
            );
            let p = |z: f32| 1.0 / (1.0 + (-z).exp());
            let edge = if kind == LossKind::Bce { -(0.25f32.ln()) } else { 0.5625 };
            assert!((got[0].0 - edge).abs() < 1e-6 && (got[1].0 - edge).abs() < 1e-6, "{got:?}");
            assert_eq!((got[0].1, got[1].1), (0.0, 0.0));
            let inside =
                if kind == LossKind::Bce { p(1.0) } else { 2.0 * p(1.0) * p(1.0) * p(-1.0) };
            assert!((got[2].1 - inside).abs() < 1e-6, "{got:?}");
        }
    }

    /// As the fused engine's (backend/cpu/loss/tests.rs): at 16.5 one step of 2^-23 is left of `1 -
    /// p`, at 17 none, and a probability below 1e-12 has a part of its gradient.
    #[test]
    fn probabilities_in_f32_lose_what_logits_keep() {
        let spec = LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: true };
        let points =
            [(0.5, 1.0), (16.5, 0.0), (17.0, 0.0), (-120.0, 1.0), (-30.0, 1.0), (-30.0, 0.0)];
        let got = at(spec, &points);
        let last = 2f32.powi(-23);
        let (tail, small) = (-last.ln(), (-30f32).exp());
        let want = [
            (0.474_077, -0.377_540_67),
            (tail, 1.0),
            (100.0, 0.0),
            (100.0, 0.0),
            (30.0, -small / 1e-12),
            (0.0, small * small / 1e-12),
        ];
        for ((loss, slope), (l, s)) in got.iter().zip(want) {
            assert!((loss - l).abs() < 1e-5 * l.max(0.01), "{got:?}");
            assert!((slope - s).abs() < 1e-5, "{got:?}");
        }
    }

    #[test]
    fn weights_go_by_class() {
        let spec = LossSpec {
            kind: LossKind::Wbce { weights: [0.5, 3.0] },
            clamp: 0.0,
            of_probability: false,
        };
        let got = at(spec, &[(0.0, 0.0), (0.0, 1.0)]);
        assert_eq!(
            got,
            [(0.5 * std::f32::consts::LN_2, 0.25), (3.0 * std::f32::consts::LN_2, -1.5)]
        );
    }
}
