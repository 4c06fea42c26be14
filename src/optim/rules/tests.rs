use super::*;
use crate::optim::AdamRows;

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
            OptimizerSpec::SGD => p[i] -= lr * g[i],
            OptimizerSpec::Adagrad(Adagrad { eps, lr_decay, .. }) => {
                s0[i] += g[i] * g[i];
                p[i] -= lr / (1.0 + (t - 1) as f64 * lr_decay) * g[i] / (s0[i].sqrt() + eps);
            }
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps, .. }) => {
                let at = if is_row { 0 } else { i };
                if !is_row {
                    s0[i] += g[i] * g[i];
                } else if i == 0 {
                    s0[0] += mean;
                }
                p[i] -= lr * g[i] / (s0[at].sqrt() + eps);
            }
            OptimizerSpec::AdamAsync(AdamAsync {
                beta1: b1,
                beta2: b2,
                eps,
                nesterov,
                apply_sparse_rmsprop,
            }) => {
                let (g, rms) = (g[i], is_row && apply_sparse_rmsprop);
                s1[i] = b2 * s1[i] + (1.0 - b2) * g * g;
                if rms {
                    s0[i] = b1 * s0[i] + lr * g / (s1[i] + eps).sqrt();
                    p[i] -= s0[i];
                    continue;
                }
                s0[i] = b1 * s0[i] + (1.0 - b1) * g;
                let (b1p, b2p) = (1..t).fold((b1, b2), |(x, y), _| (x * b1, y * b2));
                let alpha = lr * (1.0 - b2p).sqrt() / (1.0 - b1p);
                let ahead = if nesterov { (1.0 - b1) * g + b1 * s0[i] } else { s0[i] };
                p[i] -= alpha * ahead / (s1[i].sqrt() + eps);
            }
            OptimizerSpec::AdagradDecay(rule) => {
                let before = t - 1;
                let due = if is_row {
                    (before / rule.decay_step) as f64 > s1[0]
                } else {
                    before > 0 && before.is_multiple_of(rule.decay_step)
                };
                if due {
                    s0[i] = (s0[i] * rule.decay_rate).max(rule.initial_accumulator);
                }
                if due && is_row && i + 1 == g.len() {
                    s1[0] += 1.0;
                }
                s0[i] += g[i] * g[i];
                p[i] -= lr * g[i] / s0[i].sqrt();
            }
            OptimizerSpec::Adam(Adam { beta1, beta2, eps, form, .. }) => {
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
    for rule in OptimizerSpec::examples() {
        for is_row in [false, true] {
            let (n, state) = (5, rule.state());
            let mut kept = if is_row {
                state.rows(n).map(|(width, initial)| vec![initial; width]).collect()
            } else {
                state.dense().map(|initial| vec![initial; n]).collect::<Vec<Vec<f32>>>()
            };
            kept.resize(2, Vec::new());
            let [mut s0, mut s1] = [0, 1].map(|k| std::mem::take(&mut kept[k]));
            let mut p: Vec<f32> = (0..n).map(|i| i as f32 - 2.0).collect();
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
                        (f64::from(*got) - want).abs() < 2e-5 * want.abs().max(1.0),
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
    let adagrad =
        OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.0, lr_decay: 0.0 });
    let adam = OptimizerSpec::Adam(Adam {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        form: AdamForm::Torch,
        rows: AdamRows::Dense,
    });
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

/// The description of a rule's state and its formula's agree.
#[test]
fn formulas_keep_the_state_that_is_described() {
    struct States;
    impl Visitor for States {
        type Output = [usize; 3];
        fn visit<F: Formula>(self) -> [usize; 3] {
            [F::STATES, F::ROW_STATES, usize::from(F::ROW)]
        }
    }
    for rule in OptimizerSpec::examples() {
        let (state, [dense, of_elements, of_row]) =
            (rule.state(), Step::new(&rule, 0.1, 1).formula.visit(States));
        let widths: Vec<usize> = state.rows(7).map(|(width, _)| width).collect();
        assert_eq!(state.dense().count(), dense, "{rule:?}");
        assert_eq!(widths, [vec![7; of_elements], vec![1; of_row]].concat(), "{rule:?}");
        assert!(dense <= 2 && widths.len() <= 2, "{rule:?}: kernels have room for two buffers");
        assert_eq!(state.row_len(7), widths.iter().sum::<usize>());
    }
}

#[test]
fn every_rule_is_read_from_the_values_that_it_writes() {
    for rule in OptimizerSpec::examples() {
        let settings: Vec<_> = rule.settings().collect();
        let read = OptimizerSpec::read::<()>(rule.kind(), &mut |key| {
            settings.iter().find(|(k, _)| k.path == key.path).map(|(_, value)| *value).ok_or(())
        });
        assert_eq!(read, Ok(rule));
        assert!(OptimizerSpec::KINDS.contains(&rule.kind()) && rule.conflict().is_none());
        let record = serde_json::to_value(rule).unwrap();
        assert_eq!(record["kind"], rule.kind(), "the record has the name of workload files");
        assert!(rule.settings().all(|(key, _)| record.get(key.name).is_some()), "{record}");
    }
}

/// What docs/workload-file.md says of the rules, line by line; the table of keys is generated.
fn document() -> Vec<String> {
    let rules = OptimizerSpec::all();
    rules
        .iter()
        .map(|Description { kind, about, state, .. }| {
            let of = |per: fn(&Buffer) -> Per| {
                let pieces = state.buffers.iter().map(|b| {
                    let number = match per(b) {
                        Per::Element => "element",
                        Per::Row => "row",
                        Per::Variable => "variable",
                    };
                    format!("{} per {number} (starts at {:?})", b.name, b.initial)
                });
                pieces.collect::<Vec<_>>().join(", ")
            };
            let (dense, rows) = (of(|b| b.dense), of(|b| b.rows));
            let state = match (dense.is_empty(), dense == rows) {
                (true, _) => "none".to_owned(),
                (_, true) => dense,
                _ => format!("{dense}; of tables: {rows}"),
            };
            format!("| {kind} | {about} | {state} |")
        })
        .collect()
}

#[test]
fn the_document_and_the_checkers_rules_know_every_rule() {
    let text = include_str!("../../../docs/workload-file.md");
    let missing: Vec<String> =
        document().into_iter().filter(|l| !text.lines().any(|t| t == l)).collect();
    assert!(missing.is_empty(), "docs/workload-file.md lacks\n{}", missing.join("\n"));
    let words = OptimizerSpec::KINDS.iter().map(|k| format!("'{k}'")).collect::<Vec<_>>();
    let check = format!("v['value'] in [{}]", words.join(", "));
    assert!(include_str!("../../../rules/deepfm_common.yaml").contains(&check), "{check}");
}

/// A row that was away for several periods catches up one of them an update; a dense parameter
/// counts the periods that DeepRec's counter would.
#[test]
fn accumulators_fade_once_an_update() {
    let rule = AdagradDecay { initial_accumulator: 0.1, decay_step: 3, decay_rate: 0.5 };
    let (mut p, mut sum, mut periods) = ([1.0f32; 2], [8.0f32, 0.15], [0.0f32]);
    for (number, left, counted) in
        [(3, [8.0, 0.15], 0.0), (10, [4.0, 0.1], 1.0), (10, [2.0, 0.1], 2.0), (10, [1.0, 0.1], 3.0)]
    {
        let step = Step::new(&rule.into(), 0.1, number);
        update_row(&step, &mut p, &[0.0; 2], &mut sum, &mut periods);
        assert_eq!((sum, periods), (left, [counted]), "update {number}");
    }
    let step = Step::new(&rule.into(), 0.1, 12);
    update_row(&step, &mut p, &[0.0; 2], &mut sum, &mut periods);
    assert_eq!((p, sum, periods), ([1.0; 2], [1.0, 0.1], [3.0]), "nothing is due");

    for decay_step in [1, 2, 7] {
        let rule = AdagradDecay { decay_step, ..rule };
        let (mut p, mut sum) = ([1.0f32], [0.1f32]);
        let (mut p64, mut sum64, mut counter) = (1.0f64, 0.1f64, 0);
        for global_step in 0..60u64 {
            let g = (global_step % 5) as f32 - 1.5;
            update(&Step::new(&rule.into(), 0.1, global_step + 1), &mut p, &[g], &mut sum, &mut []);
            if global_step / decay_step > counter {
                (sum64, counter) = ((sum64 * 0.5).max(0.1), counter + 1);
            }
            sum64 += f64::from(g).powi(2);
            p64 -= 0.1 * f64::from(g) / sum64.sqrt();
            assert!((f64::from(sum[0]) - sum64).abs() < 1e-5 * sum64, "{decay_step} {global_step}");
            assert!((f64::from(p[0]) - p64).abs() < 1e-5, "{decay_step} {global_step}");
        }
    }
}
