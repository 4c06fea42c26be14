use super::*;

/// Mean loss of a whole batch.
fn mean_loss(spec: &LossSpec, logits: &[f32], labels: &[f32], dlogits: &mut [f32]) -> f64 {
    forward_backward(spec, logits, labels, logits.len(), dlogits) / logits.len() as f64
}

const KINDS: [LossKind; 4] =
    [LossKind::Bce, LossKind::Wbce { weights: [0.3, 1.7] }, LossKind::Mse, LossKind::KerasBce];

/// Mean loss by the textbook formulas.
fn plain(spec: &LossSpec, z: &[f64], y: &[f32]) -> f64 {
    let t = f64::from(spec.clamp);
    let one = |z: f64, y: f64| {
        let p = 1.0 / (1.0 + (-z).exp());
        let e = 1e-7;
        let t = if spec.kind == LossKind::KerasBce { t.max(e) } else { t };
        let p = if t > 0.0 { p.clamp(t, 1.0 - t) } else { p };
        let bce = -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
        match spec.kind {
            LossKind::Bce => bce,
            LossKind::Wbce { weights } => f64::from(weights[y as usize]) * bce,
            LossKind::Mse => (p - y) * (p - y),
            LossKind::KerasBce => -(y * (p + e).ln() + (1.0 - y) * (1.0 - p + e).ln()),
        }
    };
    z.iter().zip(y).map(|(&z, &y)| one(z, f64::from(y))).sum::<f64>() / z.len() as f64
}

#[test]
fn value_and_gradient_agree_with_formulas_and_differences() {
    let z: Vec<f32> = (-40..=40).map(|i| i as f32 * 0.25).collect();
    let y: Vec<f32> = (0..z.len()).map(|i| (i % 3 == 0) as u8 as f32).collect();
    for kind in KINDS {
        for clamp in [0.0, 0.01, 1e-7] {
            let spec = LossSpec { kind, clamp, of_probability: false };
            let mut g = vec![f32::NAN; z.len()];
            let wide: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            let loss = mean_loss(&spec, &z, &y, &mut g);
            assert!((loss - plain(&spec, &wide, &y)).abs() < 1e-12, "{spec:?}");
            for i in 0..z.len() {
                let (mut up, mut down) = (wide.clone(), wide.clone());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                let slope = (plain(&spec, &up, &y) - plain(&spec, &down, &y)) / 2e-5;
                assert!(
                    (slope - f64::from(g[i])).abs() < 1e-8,
                    "{spec:?} at {}: {slope} and {}",
                    z[i],
                    g[i]
                );
            }
        }
    }
}

#[test]
fn large_logits_neither_overflow_nor_vanish() {
    let spec = LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false };
    let mut g = [0.0; 4];
    let loss = mean_loss(&spec, &[200.0, -200.0, 200.0, -200.0], &[0.0, 1.0, 1.0, 0.0], &mut g);
    assert_eq!(loss, 100.0);
    assert_eq!(g[..2], [0.25, -0.25]);
    assert!(g[2].abs() < 1e-30 && g[3].abs() < 1e-30);
    assert!(sigmoid(-80.0) > 0.0 && sigmoid(200.0) == 1.0 && sigmoid(0.0) == 0.5);
}

/// torch's `binary_cross_entropy` behind its sigmoid, both in f32 with their gradients: at 16.5 one
/// step of 2^-23 is left of `1 - p`, at 17 none; where `p (1 - p)` is below 1e-12 a part of the
/// gradient is.
#[test]
fn probabilities_in_f32_lose_what_logits_keep() {
    let at = |z: f32, y: f32, kind, clamp| {
        let mut g = [f32::NAN];
        let spec = LossSpec { kind, clamp, of_probability: true };
        (mean_loss(&spec, &[z], &[y], &mut g), g[0])
    };
    let bce = |z, y| at(z, y, LossKind::Bce, 0.0);
    let near = |(loss, slope): (f64, f32), (l, s): (f64, f32)| {
        assert!((loss - l).abs() < 1e-6 * l.max(1.0) && (slope - s).abs() < 1e-6, "{loss} {slope}");
    };
    let step = 2f64.powi(-23);
    near(bce(16.5, 0.0), (-step.ln(), 1.0));
    assert_eq!(bce(17.0, 0.0), (100.0, 0.0));
    assert_eq!(bce(-120.0, 1.0), (100.0, 0.0));
    assert_eq!(bce(17.0, 1.0), (0.0, 0.0));
    let p = (-30f32).exp();
    near(bce(-30.0, 1.0), (30.0, -p / 1e-12));
    // Where there are digits, it is the loss of the logit.
    let z: Vec<f32> = (-20..=20).map(|i| i as f32 * 0.25).collect();
    for (&z, y) in z.iter().zip([0.0, 1.0].into_iter().cycle()) {
        for (kind, clamp) in KINDS[..2].iter().flat_map(|k| [(*k, 0.0), (*k, 0.2)]) {
            let mut g = [f32::NAN];
            let spec = LossSpec { kind, clamp, of_probability: false };
            let loss = mean_loss(&spec, &[z], &[y], &mut g);
            let (got, slope) = at(z, y, kind, clamp);
            assert!((got - loss).abs() < 1e-4 && (slope - g[0]).abs() < 1e-4, "{z} {y} {kind:?}");
        }
    }
}

#[test]
fn the_gradient_is_zero_outside_the_clamp() {
    for kind in KINDS {
        let mut g = [f32::NAN; 4];
        mean_loss(
            &LossSpec { kind, clamp: 0.1, of_probability: false },
            &[3.0, -3.0, 1.0, -1.0],
            &[0.0, 1.0, 0.0, 1.0],
            &mut g,
        );
        assert_eq!(g[..2], [0.0, 0.0]);
        assert!(g[2] > 0.0 && g[3] < 0.0);
    }
}

#[test]
fn a_nan_stays_a_nan() {
    for kind in KINDS {
        for (clamp, of_probability) in [(0.0, false), (0.1, false), (0.0, true), (0.1, true)] {
            let mut g = [0.0; 2];
            let spec = LossSpec { kind, clamp, of_probability };
            let loss = mean_loss(&spec, &[f32::NAN, 0.0], &[0.0, 1.0], &mut g);
            assert!(loss.is_nan() && g[0].is_nan() && g[1].is_finite(), "{kind:?}");
        }
    }
    assert!(sigmoid(f32::NAN).is_nan());
}

#[test]
fn parts_of_a_batch_have_its_gradient() {
    let z: Vec<f32> = (-20..=20).map(|i| i as f32 * 0.3).collect();
    let y: Vec<f32> = (0..z.len()).map(|i| (i % 3 == 0) as u8 as f32).collect();
    for kind in KINDS {
        let spec = LossSpec { kind, clamp: 0.01, of_probability: false };
        let (mut whole, mut parts) = (vec![0.0; z.len()], vec![0.0; z.len()]);
        let mean = mean_loss(&spec, &z, &y, &mut whole);
        let mut sum = 0.0;
        for first in (0..z.len()).step_by(7) {
            let part = first..z.len().min(first + 7);
            let (z, y) = (&z[part.clone()], &y[part.clone()]);
            sum += forward_backward(&spec, z, y, whole.len(), &mut parts[part]);
        }
        assert_eq!(parts, whole, "{kind:?}");
        assert!((sum / z.len() as f64 - mean).abs() < 1e-12, "{kind:?}");
    }
}
