//! Models and batches of realistic proportions.

use dlrm_bench::{
    backend::Precision,
    batch::{Bags, Batch},
    embedding::RowKind,
    engine::EngineConfig,
    model::{
        DeepFmSpec, DlrmQuirks, DlrmSpec, EmbeddingInit, Interaction, LossKind, LossSpec, Md,
        MlpInit, ModelSpec, Pooling, Qr, QrOperation, Trick,
        init::{InitSource, Initializer},
    },
    optim::{
        Adagrad, AdagradDecay, Adam, AdamAsync, AdamForm, AdamRows, LossScaleSpec, OptimizerConfig,
        OptimizerSpec, RowwiseAdagrad,
    },
    random::philox::{Philox, Stream, unit_f32},
};

/// Most ids of a bag.
#[allow(dead_code)]
pub const HOTNESS: usize = 3;

/// A DLRM with tables of uneven sizes.
#[allow(dead_code)]
pub fn dlrm(interaction: Interaction, pooling: Pooling) -> ModelSpec {
    ModelSpec::Dlrm(DlrmSpec {
        dense: 13,
        dense_pad_to: 8,
        tables: vec![3000, 40, 700, 11, 5000, 3],
        dim: 16,
        bottom: vec![64, 32, 16],
        top: vec![96, 40, 1],
        interaction,
        pooling,
        trick: Trick::None,
        mlp_init: MlpInit::Facebook,
        embedding_init: EmbeddingInit::UniformSqrtInvRows,
        batch_norm: false,
        quirks: DlrmQuirks::default(),
    })
}

/// A DLRM with two tables for each column of more than 30 ids.
#[allow(dead_code)]
pub fn qr(operation: QrOperation) -> ModelSpec {
    let dot = Interaction::Dot { self_interaction: false, pad_to: 8 };
    let ModelSpec::Dlrm(mut m) = dlrm(dot, Pooling::Sum) else { unreachable!() };
    m.trick = Trick::Qr(Qr { operation, threshold: 30, collisions: 4, init_quirk: false });
    ModelSpec::Dlrm(m)
}

/// A DLRM whose large tables are narrow.
#[allow(dead_code)]
pub fn md() -> ModelSpec {
    let dot = Interaction::Dot { self_interaction: false, pad_to: 8 };
    let ModelSpec::Dlrm(mut m) = dlrm(dot, Pooling::Sum) else { unreachable!() };
    m.trick = Trick::Md(Md { temperature: 0.3, threshold: 30, round_dims: true });
    ModelSpec::Dlrm(m)
}

/// A DeepFM with everything switched on.
#[allow(dead_code)]
pub fn deepfm() -> ModelSpec {
    ModelSpec::DeepFm(DeepFmSpec {
        tables: vec![3000, 40, 700, 11, 5000, 3],
        dense: 13,
        dim: 10,
        hidden: vec![80, 80],
        batch_norm: true,
        dropout: 0.2,
        embedding_l2: 1e-5,
        mlp_init: MlpInit::XavierNormal,
        embedding_init: EmbeddingInit::Normal { std: 1e-2 },
    })
}

/// Every update rule.
#[allow(dead_code)]
pub fn rules() -> Vec<OptimizerSpec> {
    let adam =
        |form, rows| OptimizerSpec::Adam(Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, form, rows });
    let adam_async = |nesterov, apply_sparse_rmsprop| {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        OptimizerSpec::AdamAsync(AdamAsync { beta1, beta2, eps, nesterov, apply_sparse_rmsprop })
    };
    vec![
        OptimizerSpec::SGD,
        OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.1, lr_decay: 0.01 }),
        OptimizerSpec::AdagradDecay(AdagradDecay {
            initial_accumulator: 0.1,
            decay_step: 1,
            decay_rate: 0.5,
        }),
        adam_async(true, false),
        adam_async(false, true),
        OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-10, initial_accumulator: 0.0 }),
        adam(AdamForm::Torch, AdamRows::Dense),
        adam(AdamForm::Torch, AdamRows::Lazy),
        adam(AdamForm::Tf, AdamRows::Dense),
        adam(AdamForm::Tf, AdamRows::Lazy),
    ]
}

/// Everything else an engine has to know.
pub fn config(model: ModelSpec, rule: OptimizerSpec, max_batch: usize) -> EngineConfig {
    let max_hotness = vec![HOTNESS; model.tables().len()];
    EngineConfig {
        ranks: 1,
        sum_order: Default::default(),
        split_rows: false,
        replicate_small: false,
        tables_by_ranks: false,
        model,
        loss: LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false },
        optimizer: OptimizerConfig { rule, learning_rate: 0.01, clip_norm: Some(1.0) },
        max_batch,
        hashed: None,
        cached: None,
        stand_for: Vec::new(),
        micro_batch: None,
        last_part_only: false,
        max_hotness,
        threads: 2,
        pin_threads: false,
        embedding_rows: RowKind::Fp32,
        precision: Precision::Fp32,
        fp32_interaction: false,
        loss_scale: LossScaleSpec::Off,
        seed: 3,
    }
}

/// The initial values of a run with seed 1.
pub fn init(model: &ModelSpec) -> Initializer<'static> {
    Initializer::new(model, InitSource::Philox { seed: 1 })
}

/// A batch of random ids and labels with `low..=high` ids a bag.
pub fn batch(config: &EngineConfig, number: u64, len: usize, (low, high): (usize, usize)) -> Batch {
    let dense = match &config.model {
        ModelSpec::Dlrm(m) => m.dense,
        ModelSpec::DeepFm(m) => m.dense,
    };
    let g = Philox::new(99, Stream::Planted, number);
    let mut position = 0;
    let mut draw = || {
        position += 1;
        g.block(position)[0]
    };
    let mut b =
        Batch { len, bags: vec![Bags::default(); config.model.tables().len()], ..Batch::default() };
    b.dense.extend((0..len * dense).map(|_| unit_f32(draw())));
    b.labels.extend((0..len).map(|_| (draw() % 2) as f32));
    for (bags, &rows) in b.bags.iter_mut().zip(config.model.tables()) {
        bags.clear();
        for _ in 0..len {
            let hotness = low + draw() as usize % (high - low + 1);
            bags.push((0..hotness).map(|_| draw() % rows as u32).collect::<Vec<_>>());
        }
    }
    b
}
