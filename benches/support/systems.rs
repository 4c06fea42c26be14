//! Whole models at the sizes in which other programs are measured, with batches made beforehand:
//! what `train_step` and `step_speed` time.

#[path = "../../tests/support/shapes.rs"]
mod shapes;

use dlrm_bench::{
    backend::Precision,
    batch::Batch,
    engine::{Engine, EngineConfig, EngineKind, build},
    model::{
        DeepFmSpec, DlrmQuirks, DlrmSpec, EmbeddingInit, Interaction, MlpInit, ModelSpec, Pooling,
        Trick,
    },
    optim::{Adam, AdamForm, AdamRows, LossScaleSpec, OptimizerSpec},
};

/// Rows of MLPerf DLRM's tables (facebookresearch/dlrm on Criteo Terabyte, ids modulo 40 M).
const TERABYTE: [usize; 26] = [
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208,
    11938, 155, 4, 976, 14, 39979771, 25641295, 39664984, 585935, 12972, 108, 36,
];

/// A model with its optimizer, its batch and the ids of its bags.
pub struct System {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    pub model: ModelSpec,
    pub rule: OptimizerSpec,
    pub batch: usize,
    pub hotness: usize,
}

fn dlrm(
    dense: usize,
    tables: Vec<usize>,
    dim: usize,
    bottom: &[usize],
    top: &[usize],
) -> ModelSpec {
    ModelSpec::Dlrm(DlrmSpec {
        dense,
        dense_pad_to: 1,
        tables,
        dim,
        bottom: bottom.to_vec(),
        top: top.to_vec(),
        interaction: Interaction::Dot { self_interaction: false, pad_to: 1 },
        pooling: Pooling::Sum,
        trick: Trick::None,
        mlp_init: MlpInit::GlorotUniform,
        embedding_init: EmbeddingInit::UniformSqrtInvRows,
        batch_norm: false,
        quirks: DlrmQuirks::default(),
    })
}

/// The systems: DeepRec's DLRM (DeepRec-AI/DeepRec: modelzoo/DLRM) with 10,000 rows a table,
/// MLPerf's DLRM with tables capped at 500,000 rows, OneFlow's and FuxiCTR's DeepFM with 39 fields
/// and a million rows in all, and facebook's random benchmark (facebookresearch/dlrm:
/// bench/dlrm_s_benchmark.sh).
pub fn systems() -> Vec<System> {
    let capped = TERABYTE.iter().map(|&rows| rows.min(500_000)).collect();
    let deepfm = ModelSpec::DeepFm(DeepFmSpec {
        tables: vec![1_000_000 / 39; 39],
        dense: 0,
        dim: 16,
        hidden: vec![1000; 5],
        batch_norm: false,
        dropout: 0.2,
        embedding_l2: 0.0,
        mlp_init: MlpInit::XavierNormal,
        embedding_init: EmbeddingInit::Normal { std: 1e-4 },
    });
    let adam = |rows| {
        OptimizerSpec::Adam(Adam {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            form: AdamForm::Torch,
            rows,
        })
    };
    let sgd = OptimizerSpec::SGD;
    let facebook = dlrm(512, vec![1_000_000; 8], 64, &[512, 64], &[1024, 1024, 1024, 1]);
    vec![
        System {
            name: "deeprec",
            model: dlrm(13, vec![10_000; 26], 16, &[512, 256, 64, 16], &[512, 256, 1]),
            rule: sgd,
            batch: 2048,
            hotness: 1,
        },
        System {
            name: "mlperf",
            model: dlrm(13, capped, 128, &[512, 256, 128], &[1024, 1024, 512, 256, 1]),
            rule: sgd,
            batch: 2048,
            hotness: 1,
        },
        System {
            name: "deepfm",
            model: deepfm.clone(),
            rule: adam(AdamRows::Lazy),
            batch: 10_000,
            hotness: 1,
        },
        System {
            name: "deepfm-dense-adam",
            model: deepfm,
            rule: adam(AdamRows::Dense),
            batch: 10_000,
            hotness: 1,
        },
        System { name: "facebook", model: facebook, rule: sgd, batch: 2048, hotness: 100 },
    ]
}

impl System {
    /// An engine at its initial parameters, and some batches.
    pub fn start(
        &self,
        kind: EngineKind,
        precision: Precision,
        threads: usize,
    ) -> (Box<dyn Engine>, Vec<Batch>) {
        let loss_scale = match precision {
            Precision::Fp16 => LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 2000 },
            _ => LossScaleSpec::Off,
        };
        let mut config = EngineConfig {
            ranks: 1,
            sum_order: Default::default(),
            split_rows: false,
            replicate_small: false,
            tables_by_ranks: false,
            max_hotness: vec![self.hotness; self.model.tables().len()],
            threads,
            precision,
            loss_scale,
            ..shapes::config(self.model.clone(), self.rule, self.batch)
        };
        config.optimizer.clip_norm = None;
        let batches = if self.hotness == 1 { 8 } else { 4 };
        let batch = |i| shapes::batch(&config, i, self.batch, (self.hotness, self.hotness));
        let engine =
            build(kind, dlrm_bench::backend::Device::Cpu, &config, &mut shapes::init(&self.model))
                .expect("the model fits memory");
        (engine, (0..batches).map(batch).collect())
    }

    /// A learning rate at which no model diverges.
    pub fn rate(&self) -> f64 {
        if self.rule == OptimizerSpec::SGD { 0.01 } else { 1e-4 }
    }
}
