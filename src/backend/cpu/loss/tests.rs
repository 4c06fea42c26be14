use super::*;

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
            let spec = LossSpec { kind, clamp };
            let mut g = vec![f32::NAN; z.len()];
            let wide: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            let loss = forward_backward(&spec, &z, &y, &mut g);
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
    let spec = LossSpec { kind: LossKind::Bce, clamp: 0.0 };
    let mut g = [0.0; 4];
    let loss =
        forward_backward(&spec, &[200.0, -200.0, 200.0, -200.0], &[0.0, 1.0, 1.0, 0.0], &mut g);
    assert_eq!(loss, 100.0);
    assert_eq!(g[..2], [0.25, -0.25]);
    assert!(g[2].abs() < 1e-30 && g[3].abs() < 1e-30);
    assert!(sigmoid(-80.0) > 0.0 && sigmoid(200.0) == 1.0 && sigmoid(0.0) == 0.5);
}

#[test]
fn the_gradient_is_zero_outside_the_clamp() {
    for kind in KINDS {
        let mut g = [f32::NAN; 4];
        forward_backward(
            &LossSpec { kind, clamp: 0.1 },
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
        for clamp in [0.0, 0.1] {
            let mut g = [0.0; 2];
            let loss =
                forward_backward(&LossSpec { kind, clamp }, &[f32::NAN, 0.0], &[0.0, 1.0], &mut g);
            assert!(loss.is_nan() && g[0].is_nan() && g[1].is_finite(), "{kind:?}");
        }
    }
    assert!(sigmoid(f32::NAN).is_nan());
}
