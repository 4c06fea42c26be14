use super::*;
use crate::optim::AdamRows;

/// One of each kind, with numbers that show.
pub(crate) const RULES: [OptimizerSpec; 5] = [
    OptimizerSpec::Sgd,
    OptimizerSpec::Adagrad { eps: 1e-3, initial_accumulator: 0.1, lr_decay: 0.5 },
    OptimizerSpec::RowwiseAdagrad { eps: 1e-3, initial_accumulator: 0.1 },
    OptimizerSpec::Adam {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-3,
        form: AdamForm::Torch,
        rows: AdamRows::Lazy,
    },
    OptimizerSpec::Adam {
        beta1: 0.8,
        beta2: 0.99,
        eps: 1e-3,
        form: AdamForm::Tf,
        rows: AdamRows::Lazy,
    },
];

/// The formulas of the documentation of [`OptimizerSpec`] in f64, a whole row at step `t`.
pub(crate) fn plain(
    rule: &OptimizerSpec,
    lr: f64,
    t: u64,
    p: &mut [f64],
    g: &[f64],
    s: [&mut [f64]; 2],
    is_row: bool,
) {
    let [s0, s1] = s;
    let mean = g.iter().map(|g| g * g).sum::<f64>() / g.len() as f64;
    for i in 0..p.len() {
        match *rule {
            OptimizerSpec::Sgd => p[i] -= lr * g[i],
            OptimizerSpec::Adagrad { eps, lr_decay, .. } => {
                s0[i] += g[i] * g[i];
                p[i] -= lr / (1.0 + (t - 1) as f64 * lr_decay) * g[i] / (s0[i].sqrt() + eps);
            }
            OptimizerSpec::RowwiseAdagrad { eps, .. } => {
                let at = if is_row { 0 } else { i };
                if !is_row {
                    s0[i] += g[i] * g[i];
                } else if i == 0 {
                    s0[0] += mean;
                }
                p[i] -= lr * g[i] / (s0[at].sqrt() + eps);
            }
            OptimizerSpec::Adam { beta1, beta2, eps, form, .. } => {
                s0[i] = beta1 * s0[i] + (1.0 - beta1) * g[i];
                s1[i] = beta2 * s1[i] + (1.0 - beta2) * g[i] * g[i];
                let (c1, c2) = (1.0 - beta1.powi(t as i32), 1.0 - beta2.powi(t as i32));
                p[i] -= match form {
                    AdamForm::Torch => lr * (s0[i] / c1) / ((s1[i] / c2).sqrt() + eps),
                    AdamForm::Tf => lr * c2.sqrt() / c1 * s0[i] / (s1[i].sqrt() + eps),
                };
            }
        }
    }
}

#[test]
fn rules_follow_their_formulas_for_several_steps() {
    for rule in RULES {
        for is_row in [false, true] {
            let shape = StateShape::of(&rule);
            let n = 5;
            let width = if is_row { shape.row_width(n) } else { n };
            let len = |i: usize| if i < shape.buffers { width } else { 0 };
            let mut p: Vec<f32> = (0..n).map(|i| i as f32 - 2.0).collect();
            let (mut s0, mut s1) = (vec![shape.initial; len(0)], vec![shape.initial; len(1)]);
            let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let (mut p64, mut s0_64, mut s1_64) = (wide(&p), wide(&s0), wide(&s1));
            for t in 1..=20 {
                let g: Vec<f32> =
                    (0..n).map(|i| ((i as u64 * 7 + t * 3) % 11) as f32 * 0.1 - 0.4).collect();
                let step = Step::new(&rule, 0.05, t);
                let apply = if is_row { update_row } else { update };
                apply(&step, &mut p, &g, &mut s0, &mut s1);
                plain(&rule, 0.05, t, &mut p64, &wide(&g), [&mut s0_64, &mut s1_64], is_row);
                for (got, want) in p.iter().zip(&p64) {
                    assert!(
                        (f64::from(*got) - want).abs() < 2e-5,
                        "{rule:?} at step {t}: {got}, should be {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn torchs_own_numbers_come_out() {
    // torch 2: p = [1, -2], g = [0.5, -0.25] twice, lr = 0.1; Adagrad as by default, Adam with its
    // defaults.
    let adagrad = OptimizerSpec::Adagrad { eps: 1e-10, initial_accumulator: 0.0, lr_decay: 0.0 };
    let adam = OptimizerSpec::Adam {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        form: AdamForm::Torch,
        rows: AdamRows::Dense,
    };
    for (rule, want) in [(adagrad, [0.829_289_3, -1.829_289_3]), (adam, [0.8, -1.8])] {
        let (mut p, mut s0, mut s1) = ([1.0f32, -2.0], [0.0; 2], [0.0; 2]);
        for t in 1..=2 {
            update(&Step::new(&rule, 0.1, t), &mut p, &[0.5, -0.25], &mut s0, &mut s1);
        }
        assert!(
            p.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6),
            "{rule:?}: {p:?}"
        );
    }
}
