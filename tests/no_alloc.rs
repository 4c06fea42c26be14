//! A training step allocates nothing after the first.

#[path = "support/counting.rs"]
mod counting;
#[path = "support/shapes.rs"]
mod shapes;

use dlrm_bench::{
    backend::Precision,
    embedding::RowKind,
    engine::{Engine, FusedEngine},
    model::{Interaction, Pooling, QrOperation},
    optim::LossScaleSpec,
};
use shapes::{HOTNESS, batch, config, deepfm, dlrm, init, md, qr, rules};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

#[test]
fn a_step_after_the_first_allocates_nothing() {
    let dot = Interaction::Dot { self_interaction: false, pad_to: 8 };
    let models = [
        dlrm(dot.clone(), Pooling::Sum),
        dlrm(Interaction::Cat, Pooling::WeightedLearned),
        dlrm(dot, Pooling::Mean),
        dlrm(Interaction::Projection { branches: [vec![50, 32], vec![48]] }, Pooling::Sum),
        dlrm(Interaction::Cross { layers: 2, rank: Some(24) }, Pooling::Sum),
        qr(QrOperation::Mult),
        qr(QrOperation::Add),
        md(),
        deepfm(),
    ];
    for (m, model) in models.into_iter().enumerate() {
        for (i, rule) in rules().into_iter().enumerate() {
            let mut config = config(model.clone(), rule, 300);
            // Every precision has its turn, and every rule meets every form of rows.
            config.precision = Precision::ALL[i % 3];
            config.embedding_rows = RowKind::ALL[(m + i) % 4];
            // And so have batches in parts.
            config.micro_batch = (i % 2 == 1).then_some(128);
            if config.precision == Precision::Fp16 {
                config.loss_scale = LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 3 };
            }
            // The first batch is a short one, the largest comes late.
            let batches: Vec<_> =
                [(20, 1, 1), (300, 1, 1), (299, 0, 2), (1, 0, HOTNESS), (300, HOTNESS, HOTNESS)]
                    .into_iter()
                    .enumerate()
                    .map(|(i, (len, low, high))| batch(&config, i as u64, len, (low, high)))
                    .collect();
            let mut out = vec![0.0; 300];
            let made = counting::fewest(|| {
                let mut engine = FusedEngine::new(&config, &mut init(&model)).unwrap();
                engine.train_step(&batches[0], 0.01).unwrap();
                let before = counting::calls();
                for b in batches.iter().chain(&batches) {
                    engine.train_step(b, 0.01).unwrap();
                    engine.predict(b, &mut out).unwrap();
                }
                counting::calls() - before
            });
            assert_eq!(made, 0, "{rule:?} {:?} {model:?}", config.embedding_rows);
        }
    }
}
