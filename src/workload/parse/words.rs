//! The words that stand for the variants of enums.

use crate::{
    backend::Precision,
    data::{format::TRAINED, preprocess::prepare::Recipe},
    embedding::{
        AutoStore, RowKind, StoreConfig,
        cached::CachedStore,
        hashed::{FilterConfig, HashedStore},
    },
    engine::{
        EngineKind, SumOrder,
        ranks::{Exchange, Gpus, server::CommMode},
    },
    model::{
        self, DlrmQuirks, EmbeddingInit, Interaction, LossKind, MlpInit, Pooling, QrOperation,
        Trick,
    },
    optim::{LossScaleSpec, OptimizerSpec, ScheduleSpec, rules},
    workload::*,
};
use std::{convert::Infallible, mem::discriminant};

/// An enum whose variants are words in a workload file. A variant that holds more has keys of its
/// own for it.
pub(super) trait Words: Clone + Send + Sync + 'static {
    /// Every variant with its word; what a variant holds is not set yet.
    fn variants() -> Vec<(&'static str, Self)>;

    /// The word of a variant.
    fn word(&self) -> &'static str {
        Self::variants().into_iter().find(|(_, v)| v.like(self)).map_or("", |(word, _)| word)
    }

    /// Whether both have one word.
    fn like(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }

    /// The variant of a word.
    fn of_word(word: &str) -> Option<Self> {
        Self::variants().into_iter().find(|(w, _)| *w == word).map(|(_, v)| v)
    }
}

macro_rules! words {
    ($($t:ident { $($word:literal => $variant:expr),+ $(,)? })+) => {$(
        impl Words for $t {
            fn variants() -> Vec<(&'static str, Self)> {
                #[allow(unused_imports)]
                use $t::*;
                vec![$(($word, $variant)),+]
            }
        }
    )+};
}

words! {
    CommMode { "synchronous" => Synchronous, "parameter_server" => ParameterServer }
    SumOrder { "rank" => Rank, "tree" => Tree }
    Exchange { "host" => Host, "nccl" => Nccl }
    Gpus { "own" => Own, "shared" => Shared }
    Quirk {
        "fb.lr-plateau" => FbLrPlateau,
        "fb.debug-data-first" => FbDebugDataFirst,
        "fb.targets-last" => FbTargetsLast,
        "fb.qr-init" => FbQrInit,
        "dr.top-mlp-dead-layer" => DrTopMlpDeadLayer,
        "dr.bn-batch-stats-in-eval" => DrBnBatchStatsInEval,
        "fb.grad-accum-drops" => FbGradAccumDrops,
        "fb.table-gradients-by-ranks" => FbTableGradientsByRanks,
        "fb.bce-of-probability" => FbBceOfProbability,
    }
    RandomIds {
        "uniform" => Uniform,
        "gaussian" => Gaussian { mu: None, sigma: 0.0, min: 0.0, max: 0.0 },
        "trace" => Trace { files: Vec::new(), padding: false, restart: TraceRestart::Bag },
    }
    CriteoSet { "kaggle" => Kaggle, "terabyte" => Terabyte }
    CriteoShuffle { "total" => Total, "day" => Day, "none" => None }
    RecordShuffle { "none" => None, "batch" => Batch, "day" => Day, "total" => Total }
    GroupShuffle { "none" => None, "row_group" => RowGroup }
    IdKind { "rows" => Rows, "keys" => Keys }
    OnError { "fail" => Fail, "skip" => Skip }
    TraceRestart { "bag" => Bag, "epoch" => Epoch }
    DenseTransform {
        "raw" => Raw,
        "log1p_clamp0" => Log1pClamp0,
        "log_plus2" => LogPlus2,
        "log_plus3" => LogPlus3,
        "log_sq_bucket" => LogSqBucket,
        "min_max" => MinMax,
        "standard" => Standard,
        "min_range" => MinRange,
    }
    ModelConfig {
        "dlrm" => Dlrm {
            dim: 0,
            bottom: Vec::new(),
            top: Vec::new(),
            batch_norm: false,
            quirks: DlrmQuirks::default(),
            interaction: Interaction::Cat,
            pooling: Pooling::Sum,
            trick: Trick::None,
            dense_pad_to: 1,
            mlp_init: MlpInit::Facebook,
            embedding_init: EmbeddingInit::UniformSqrtInvRows,
            init_rng: InitRng::Philox,
        },
        "deepfm" => DeepFm {
            dim: 0,
            hidden: Vec::new(),
            batch_norm: false,
            dropout: 0.0,
            embedding_l2: 0.0,
            mlp_init: MlpInit::XavierNormal,
            embedding_init: EmbeddingInit::UniformSqrtInvRows,
            init_rng: InitRng::Philox,
        },
    }
    Interaction {
        "dot" => Dot { self_interaction: false, pad_to: 1 },
        "cat" => Cat,
        "cross" => Cross { layers: 0, rank: None },
        "projection" => Projection { branches: [Vec::new(), Vec::new()] },
    }
    // `None` has no word: it is what a model has that says nothing.
    Trick {
        "qr" => Qr(model::Qr {
            operation: QrOperation::Mult,
            threshold: 0,
            collisions: 1,
            init_quirk: false,
        }),
        "md" => Md(model::Md { temperature: 0.0, threshold: 0, round_dims: false }),
    }
    QrOperation { "mult" => Mult, "add" => Add, "concat" => Concat }
    Pooling {
        "sum" => Sum,
        "mean" => Mean,
        "weighted_fixed" => WeightedFixed,
        "weighted_learned" => WeightedLearned,
    }
    MlpInit {
        "facebook" => Facebook,
        "uniform01" => Uniform01,
        "xavier_normal" => XavierNormal,
        "glorot_uniform" => GlorotUniform,
        "torch_linear" => TorchLinear,
    }
    EmbeddingInit {
        "uniform_sqrt_inv_rows" => UniformSqrtInvRows,
        "normal" => Normal { std: 0.0 },
        "truncated_normal" => TruncatedNormal,
    }
    InitRng { "philox" => Philox, "numpy" => Numpy }
    EngineKind { "fused" => Fused, "candle" => Candle }
    Precision { "fp32" => Fp32, "tf32" => Tf32, "bf16" => Bf16, "fp16" => Fp16 }
    RowKind { "fp32" => Fp32, "bf16" => Bf16, "fp16" => Fp16, "bf16-split" => Bf16Split }
    StoreConfig {
        "resident" => Resident,
        "cached" => Cached(CachedStore::default()),
        "hashed" => Hashed(HashedStore::default()),
        "auto" => Auto(AutoStore::default()),
    }
    FilterConfig {
        "none" => None,
        "counter" => Counter { freq: 0 },
        "bloom" => Bloom { freq: 0, keys: 0, false_positive: 0.0, counter_bits: 0 },
    }
    // `Off` has no word: it is what every precision but fp16 has.
    LossScaleSpec {
        "static" => Static { scale: 0.0 },
        "dynamic" => Dynamic { initial: 0.0, growth_steps: 0 },
    }
    LossKind {
        "bce" => Bce,
        "wbce" => Wbce { weights: [0.0; 2] },
        "mse" => Mse,
        "keras_bce" => KerasBce,
    }
    ScheduleSpec {
        "constant" => Constant,
        "facebook_policy" => FacebookPolicy {
            warmup_steps: 0,
            decay_start_step: 0,
            decay_steps: 0,
            plateau_quirk: false,
        },
        "warmup_polynomial" => WarmupPolynomial {
            warmup_steps: 0,
            decay_start_step: 0,
            decay_steps: 0,
            power: 0.0,
            end_rate: 0.0,
        },
        "multi_step" => MultiStep { milestones: Vec::new(), gamma: 0.0, min_rate: 0.0 },
        "reduce_on_plateau" => ReduceOnPlateau {
            factor: 0.0,
            patience: 0,
            min_delta: 0.0,
            min_rate: 0.0,
        },
    }
    // How often has keys of its own.
    EvalEvery { "end" => AtEnd, "never" => Never }
    EvalCache { "auto" => Auto, "always" => Always, "never" => Never }
    Monitor { "auc" => Auc, "auc_minus_logloss" => AucMinusLogloss, "logloss" => Logloss }
}

impl Words for DateFeature {
    fn variants() -> Vec<(&'static str, Self)> {
        DateFeature::ALL.map(|feature| (feature.word(), feature)).to_vec()
    }
}

/// The words of the formats that are read through their readers.
pub(super) static FORMATS: [&str; TRAINED.len()] = {
    let (mut words, mut i) = ([""; TRAINED.len()], 0);
    while i < words.len() {
        words[i] = TRAINED[i].0;
        i += 1;
    }
    words
};

/// The sources: those with a name of their own, and the formats that are read through their
/// readers.
impl Words for DataConfig {
    fn variants() -> Vec<(&'static str, Self)> {
        use DataConfig::*;
        let own = [
            ("planted", Planted(PlantedConfig::of(""))),
            ("numpy_random", NumpyRandom(Default::default())),
            ("criteo_tsv", CriteoTsv(Default::default())),
            ("prepared", Prepared(PreparedConfig::of(Recipe::FacebookKaggle))),
            ("csv", Csv(Default::default())),
            ("bin40", Bin40(Default::default())),
            ("parquet", Parquet(Default::default())),
        ];
        let formats = TRAINED.map(|(word, format)| (word, Files(FilesConfig::of(format))));
        own.into_iter().chain(formats).collect()
    }

    fn like(&self, other: &Self) -> bool {
        match (self, other) {
            (DataConfig::Files(a), DataConfig::Files(b)) => a.format == b.format,
            _ => discriminant(self) == discriminant(other),
        }
    }
}

impl Words for Recipe {
    fn variants() -> Vec<(&'static str, Self)> {
        Recipe::ALL.iter().map(|recipe| (recipe.name(), *recipe)).collect()
    }
}

impl Words for OptimizerSpec {
    fn variants() -> Vec<(&'static str, Self)> {
        let default = |key: &rules::Key| Ok::<_, Infallible>((key.default)());
        let rule = |kind| match OptimizerSpec::read(kind, &mut |key| default(key)) {
            Ok(rule) => rule,
            Err(never) => match never {},
        };
        OptimizerSpec::KINDS.iter().map(|kind| (*kind, rule(kind))).collect()
    }
}
