//! Random models, batches and settings.

use dlrm_bench::{
    backend::Precision,
    batch::{Bags, Batch},
    embedding::RowKind,
    engine::{Engine, EngineConfig},
    model::{
        DeepFmSpec, DlrmQuirks, DlrmSpec, EmbeddingInit, Interaction, LossKind, LossSpec, Md,
        MlpInit, ModelSpec, ParamKind, Pooling, Qr, QrOperation, Trick,
        init::{InitSource, Initializer},
    },
    optim::{
        Adagrad, AdagradDecay, Adam, AdamAsync, AdamForm, AdamRows, LossScaleSpec, OptimizerConfig,
        OptimizerSpec, RowwiseAdagrad,
    },
    random::philox::{Philox, Stream, unit_f32},
};
use proptest::prelude::*;

/// The most ids of a bag in random batches.
pub const HOTNESS: usize = 4;

/// Plain binary cross entropy.
pub const BCE: LossSpec = LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false };

/// Upper ends of sizes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub batch: usize,
    pub rows: usize,
    pub tables: usize,
    pub dim: usize,
    pub width: usize,
}

/// So small that differences by hand are affordable.
pub const SMALL: Limits = Limits { batch: 5, rows: 5, tables: 4, dim: 4, width: 5 };
/// Past the widths of vector registers and of blocks.
pub const LARGE: Limits = Limits { batch: 70, rows: 90, tables: 6, dim: 35, width: 70 };

/// Interactions of vectors of `dim` elements.
pub fn interactions(dim: usize, limits: Limits) -> impl Strategy<Value = Interaction> {
    let branch = move || {
        (prop::collection::vec(1..=limits.width, 0..2), 1..4usize).prop_map(
            move |(mut widths, vectors)| {
                widths.push(vectors * dim);
                widths
            },
        )
    };
    let projection = (branch(), branch())
        .prop_map(|(first, second)| Interaction::Projection { branches: [first, second] });
    let dot = (any::<bool>(), prop::sample::select(vec![1, 3, 8]))
        .prop_map(|(self_interaction, pad_to)| Interaction::Dot { self_interaction, pad_to });
    let cross = (1..4usize, prop::option::of(1..9usize))
        .prop_map(|(layers, rank)| Interaction::Cross { layers, rank });
    prop_oneof![3 => dot, 1 => Just(Interaction::Cat), 2 => cross, 1 => projection]
}

pub fn poolings() -> impl Strategy<Value = Pooling> {
    prop::sample::select(vec![
        Pooling::Sum,
        Pooling::Mean,
        Pooling::WeightedFixed,
        Pooling::WeightedLearned,
    ])
}

/// Nothing, or small tables in the place of some.
pub fn tricks(limits: Limits) -> impl Strategy<Value = Trick> {
    let operations =
        prop::sample::select(vec![QrOperation::Mult, QrOperation::Add, QrOperation::Concat]);
    let qr =
        (operations, 0..limits.rows, 1..7usize).prop_map(|(operation, threshold, collisions)| {
            // Twice as wide, no column may have a table of its own.
            let threshold = if operation == QrOperation::Concat { 0 } else { threshold };
            Trick::Qr(Qr { operation, threshold, collisions, init_quirk: false })
        });
    let md = (0.0..1.5, 0..limits.rows).prop_map(|(temperature, threshold)| {
        Trick::Md(Md { temperature, threshold, round_dims: false })
    });
    prop_oneof![2 => Just(Trick::None), 1 => qr, 1 => md]
}

pub fn losses() -> impl Strategy<Value = LossSpec> {
    let weights = [0.5, 3.0];
    let kinds = prop::sample::select(vec![
        LossKind::Bce,
        LossKind::Wbce { weights },
        LossKind::Mse,
        LossKind::KerasBce,
    ]);
    (kinds, prop::sample::select(vec![0.0, 0.45])).prop_map(|(kind, clamp)| LossSpec {
        kind,
        clamp,
        of_probability: false,
    })
}

/// Every update rule in every form.
pub fn rules() -> impl Strategy<Value = OptimizerSpec> {
    let adam_async = |nesterov, apply_sparse_rmsprop| {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        OptimizerSpec::AdamAsync(AdamAsync { beta1, beta2, eps, nesterov, apply_sparse_rmsprop })
    };
    let mut rules = vec![
        OptimizerSpec::SGD,
        OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.0, lr_decay: 0.0 }),
        OptimizerSpec::Adagrad(Adagrad { eps: 0.0, initial_accumulator: 0.1, lr_decay: 0.5 }),
        OptimizerSpec::AdagradDecay(AdagradDecay {
            initial_accumulator: 0.1,
            decay_step: 1,
            decay_rate: 0.5,
        }),
        adam_async(false, false),
        adam_async(true, false),
        adam_async(false, true),
        adam_async(true, true),
        OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-10, initial_accumulator: 0.0 }),
        OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-8, initial_accumulator: 0.1 }),
    ];
    for form in [AdamForm::Torch, AdamForm::Tf] {
        for rows in [AdamRows::Lazy, AdamRows::Dense] {
            rules.push(OptimizerSpec::Adam(Adam {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                form,
                rows,
            }));
        }
    }
    prop::sample::select(rules)
}

/// Models in which one layer does the work: no hidden layers, and nothing else that could hide a
/// fault.
pub fn single_layers() -> Vec<(&'static str, BoxedStrategy<ModelSpec>)> {
    let dlrm = |change: fn(&mut DlrmSpec)| {
        let simple = dlrms(LARGE).prop_map(move |model| {
            let ModelSpec::Dlrm(mut m) = model else { return model };
            (m.bottom, m.top, m.pooling, m.dense_pad_to) = (vec![m.dim], vec![1], Pooling::Sum, 1);
            m.trick = Trick::None;
            (m.batch_norm, m.quirks) = (false, DlrmQuirks::default());
            change(&mut m);
            ModelSpec::Dlrm(m)
        });
        simple.boxed()
    };
    let deepfm = |change: fn(&mut DeepFmSpec)| {
        let simple = deepfms(LARGE).prop_map(move |model| {
            let ModelSpec::DeepFm(mut m) = model else { return model };
            (m.batch_norm, m.dropout, m.embedding_l2) = (false, 0.0, 0.0);
            m.hidden.truncate(1);
            change(&mut m);
            ModelSpec::DeepFm(m)
        });
        simple.boxed()
    };
    vec![
        ("linear", dlrm(|m| m.interaction = Interaction::Cat)),
        (
            "padding of the dense input",
            dlrm(|m| (m.interaction, m.dense_pad_to) = (Interaction::Cat, 16)),
        ),
        ("MLP", dlrm(|m| (m.interaction, m.bottom) = (Interaction::Cat, vec![33, 20, m.dim]))),
        (
            "MLP with dead layers",
            dlrm(|m| {
                (m.interaction, m.top) = (Interaction::Cat, vec![33, 20, 1]);
                m.quirks.dead_top = true;
            }),
        ),
        (
            "batch normalisation behind ReLUs",
            dlrm(|m| {
                (m.interaction, m.bottom) = (Interaction::Cat, vec![20, m.dim]);
                (m.batch_norm, m.dense) = (true, m.dense.max(3));
            }),
        ),
        ("mean of bags", dlrm(|m| (m.interaction, m.pooling) = (Interaction::Cat, Pooling::Mean))),
        (
            "weighted sum of bags",
            dlrm(|m| (m.interaction, m.pooling) = (Interaction::Cat, Pooling::WeightedFixed)),
        ),
        (
            "learned weights",
            dlrm(|m| (m.interaction, m.pooling) = (Interaction::Cat, Pooling::WeightedLearned)),
        ),
        ("dot", dlrm(|m| m.interaction = Interaction::Dot { self_interaction: false, pad_to: 1 })),
        (
            "dot with itself",
            dlrm(|m| m.interaction = Interaction::Dot { self_interaction: true, pad_to: 1 }),
        ),
        (
            "padded dot",
            dlrm(|m| m.interaction = Interaction::Dot { self_interaction: false, pad_to: 8 }),
        ),
        ("cross", dlrm(|m| m.interaction = Interaction::Cross { layers: 1, rank: None })),
        (
            "cross of rank 1",
            dlrm(|m| m.interaction = Interaction::Cross { layers: 2, rank: Some(1) }),
        ),
        (
            "cross of low rank",
            dlrm(|m| m.interaction = Interaction::Cross { layers: 3, rank: Some(5) }),
        ),
        (
            "projection",
            dlrm(|m| {
                let branches = [vec![2 * m.dim], vec![9, m.dim]];
                m.interaction = Interaction::Projection { branches };
            }),
        ),
        ("product of quotients and remainders", dlrm(|m| qr(m, QrOperation::Mult))),
        ("sum of quotients and remainders", dlrm(|m| qr(m, QrOperation::Add))),
        (
            "quotients behind remainders",
            dlrm(|m| {
                qr(m, QrOperation::Concat);
                m.bottom = vec![2 * m.dim];
            }),
        ),
        (
            "narrow tables",
            dlrm(|m| {
                m.interaction = Interaction::Cat;
                m.trick = Trick::Md(Md { temperature: 0.4, threshold: 1, round_dims: false });
            }),
        ),
        ("factorisation machine", deepfm(|m| m.hidden = vec![])),
        ("DNN", deepfm(|_| {})),
        ("L2", deepfm(|m| m.embedding_l2 = 0.1)),
        ("dropout", deepfm(|m| (m.hidden, m.dropout) = (vec![40], 0.3))),
        (
            "batch normalisation",
            deepfm(|m| (m.hidden, m.batch_norm, m.dense) = (vec![20], true, 3)),
        ),
    ]
}

/// Two tables for all columns.
fn qr(m: &mut DlrmSpec, operation: QrOperation) {
    m.interaction = Interaction::Cat;
    m.trick = Trick::Qr(Qr { operation, threshold: 0, collisions: 5, init_quirk: false });
}

pub fn dlrms(limits: Limits) -> impl Strategy<Value = ModelSpec> {
    let widths = || prop::collection::vec(1..=limits.width, 0..3);
    let tables = prop::collection::vec(1..=limits.rows, 1..=limits.tables);
    let sizes = (1..=limits.width, prop::sample::select(vec![1, 4, 8]), tables, widths(), widths());
    let meet = (1..=limits.dim, tricks(limits)).prop_flat_map(move |(dim, trick)| {
        (Just((dim, trick)), interactions(trick.vector(dim), limits))
    });
    let surprises = (prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.3));
    (sizes, meet, poolings(), surprises).prop_map(
        |(sizes, ((dim, trick), interaction), pooling, (batch_norm, by_batch, dead_top))| {
            let (dense, dense_pad_to, tables, mut bottom, mut top) = sizes;
            bottom.push(trick.vector(dim));
            top.push(1);
            // Rows of quotients belong to several ids: they have no weights.
            let pooling = match pooling {
                Pooling::Sum | Pooling::Mean => pooling,
                _ if matches!(trick, Trick::Qr(_)) => Pooling::Sum,
                _ => pooling,
            };
            ModelSpec::Dlrm(DlrmSpec {
                dense,
                dense_pad_to,
                tables,
                dim,
                bottom,
                top,
                interaction,
                pooling,
                trick,
                mlp_init: MlpInit::Facebook,
                embedding_init: EmbeddingInit::UniformSqrtInvRows,
                batch_norm,
                quirks: DlrmQuirks { dead_top, batch_stats_in_eval: batch_norm && by_batch },
            })
        },
    )
}

pub fn deepfms(limits: Limits) -> impl Strategy<Value = ModelSpec> {
    let tables = prop::collection::vec(1..=limits.rows, 1..=limits.tables);
    let hidden = prop::collection::vec(1..=limits.width, 0..4);
    let dropout = prop::sample::select(vec![0.0, 0.2, 0.5]);
    let l2 = prop::sample::select(vec![0.0, 0.05]);
    (tables, 0..4usize, 1..=limits.dim, hidden, any::<bool>(), dropout, l2).prop_map(
        move |(mut tables, mut dense, dim, mut hidden, batch_norm, dropout, embedding_l2)| {
            if batch_norm {
                // It divides by the deviation over samples: something must make them differ,
                // everywhere and by more than rounding.
                dense = dense.max(1);
                tables.iter_mut().for_each(|rows| *rows = (*rows).max(8.min(limits.rows)));
                hidden.iter_mut().for_each(|width| *width = (*width).max(8.min(limits.width)));
            }
            ModelSpec::DeepFm(DeepFmSpec {
                tables,
                dense,
                dim,
                hidden,
                batch_norm,
                dropout,
                embedding_l2,
                mlp_init: MlpInit::Facebook,
                embedding_init: EmbeddingInit::Normal { std: 0.3 },
            })
        },
    )
}

/// A model with a loss, ready for batches of up to `max_batch`.
pub fn config(
    model: ModelSpec,
    loss: LossSpec,
    rule: OptimizerSpec,
    max_batch: usize,
) -> EngineConfig {
    let max_hotness = vec![HOTNESS; model.tables().len()];
    let optimizer = OptimizerConfig { rule, learning_rate: 0.05, clip_norm: None };
    EngineConfig {
        ranks: 1,
        sum_order: Default::default(),
        split_rows: false,
        replicate_small: false,
        tables_by_ranks: false,
        model,
        loss,
        optimizer,
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
        seed: 17,
    }
}

/// Moves parameters that start at ones and zeros, so that they matter and no ReLU sits at its kink.
pub fn shake(engine: &mut dyn Engine) {
    let mut draws = Draws::new(3);
    for (i, spec) in engine.params().to_vec().iter().enumerate() {
        let low = match spec.kind {
            ParamKind::Scale | ParamKind::RowWeight | ParamKind::RunningVar => 0.5,
            ParamKind::Shift | ParamKind::RunningMean => -0.5,
            _ => continue,
        };
        let values: Vec<f32> = (0..spec.len()).map(|_| low + draws.unit()).collect();
        engine.write(i, &values).unwrap();
    }
}

pub fn initializer(config: &EngineConfig) -> Initializer<'static> {
    Initializer::new(&config.model, InitSource::Philox { seed: 5 })
}

/// Numbers in [0, 1) from a seed.
pub struct Draws(Philox, u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Draws(Philox::new(seed, Stream::Planted, 0), 0)
    }

    pub fn unit(&mut self) -> f32 {
        self.1 += 1;
        unit_f32(self.0.block(self.1)[0])
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f32) as usize).min(n - 1)
    }
}

/// A batch of `n` samples; `one_hot`, or bags of 0 to [`HOTNESS`] ids with duplicates.
pub fn batch(model: &ModelSpec, n: usize, one_hot: bool, seed: u64) -> Batch {
    let dense = match model {
        ModelSpec::Dlrm(m) => m.dense,
        ModelSpec::DeepFm(m) => m.dense,
    };
    let mut draws = Draws::new(seed);
    let mut bags = Vec::new();
    for &rows in model.tables() {
        let mut column = Bags::new(vec![], vec![0]);
        for _ in 0..n {
            let size = if one_hot { 1 } else { draws.below(HOTNESS + 1) };
            let ids: Vec<u32> = (0..size).map(|_| draws.below(rows) as u32).collect();
            column.push(ids);
        }
        bags.push(column);
    }
    Batch {
        len: n,
        dense: (0..n * dense).map(|_| 2.0 * draws.unit() - 0.7).collect(),
        bags,
        labels: (0..n).map(|_| draws.unit().round()).collect(),
    }
}
