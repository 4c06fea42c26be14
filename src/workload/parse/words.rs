//! The words that stand for the variants of simple enums, for reading and for writing.

use crate::{
    backend::Precision,
    data::format::{Format, TRAINED},
    embedding::RowKind,
    model::{MlpInit, Pooling},
    workload::*,
};

/// An enum whose variants are single words in a workload file.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Every variant with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of a variant.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, v)| *v == self).map_or("", |(w, _)| *w)
    }
}

macro_rules! words {
    ($($t:ident { $($word:literal => $variant:ident),+ $(,)? })+) => {$(
        impl Words for $t {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $t::$variant)),+];
        }
    )+};
}

/// Enums whose variants hold keys of their own have a plain twin here that only names the variant.
macro_rules! twin {
    ($($t:ident { $($word:literal => $variant:ident),+ $(,)? })+) => {
        $(
            #[derive(Debug, Clone, Copy, PartialEq)]
            pub(super) enum $t { $($variant),+ }
        )+
        words! { $($t { $($word => $variant),+ })+ }
    };
}

/// The sources: those with a name of their own, and the formats that are read by their readers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SourceWord {
    Planted,
    NumpyRandom,
    CriteoTsv,
    Csv,
    Bin40,
    Parquet,
    Files(Format),
}

impl Words for SourceWord {
    const WORDS: &'static [(&'static str, Self)] = &SOURCES;
}

const OWN: [(&str, SourceWord); 6] = [
    ("planted", SourceWord::Planted),
    ("numpy_random", SourceWord::NumpyRandom),
    ("criteo_tsv", SourceWord::CriteoTsv),
    ("csv", SourceWord::Csv),
    ("bin40", SourceWord::Bin40),
    ("parquet", SourceWord::Parquet),
];

const SOURCES: [(&str, SourceWord); OWN.len() + TRAINED.len()] = {
    let (mut all, mut i) = ([OWN[0]; OWN.len() + TRAINED.len()], 0);
    while i < all.len() {
        all[i] = if i < OWN.len() {
            OWN[i]
        } else {
            let (word, format) = TRAINED[i - OWN.len()];
            (word, SourceWord::Files(format))
        };
        i += 1;
    }
    all
};

twin! {
    IdsWord { "uniform" => Uniform, "gaussian" => Gaussian, "trace" => Trace }
    ModelWord { "dlrm" => Dlrm, "deepfm" => DeepFm }
    InteractionWord { "dot" => Dot, "cat" => Cat, "cross" => Cross, "projection" => Projection }
    EmbeddingInitWord { "uniform_sqrt_inv_rows" => UniformSqrtInvRows, "normal" => Normal, "truncated_normal" => TruncatedNormal }
    LossWord { "bce" => Bce, "wbce" => Wbce, "mse" => Mse }
    ScheduleWord {
        "constant" => Constant,
        "facebook_policy" => FacebookPolicy,
        "warmup_polynomial" => WarmupPolynomial,
        "multi_step" => MultiStep,
        "reduce_on_plateau" => ReduceOnPlateau,
    }
    PresetWord { "criteo_kaggle" => CriteoKaggle, "criteo_terabyte" => CriteoTerabyte, "custom" => Custom }
    LossScalingWord { "static" => Static, "dynamic" => Dynamic }
    EveryWord { "end" => End, "never" => Never }
    BenchmarkWord { "dlrm" => Dlrm, "dlrm_dcnv2" => DlrmDcnv2, "deepfm" => DeepFm }
    DivisionWord { "open" => Open, "closed" => Closed }
    StatusWord { "cloud" => Cloud, "onprem" => Onprem, "preview" => Preview, "research" => Research }
}

words! {
    Quirk { "fb.lr-plateau" => FbLrPlateau, "fb.debug-data-first" => FbDebugDataFirst, "fb.targets-last" => FbTargetsLast }
    CriteoSet { "kaggle" => Kaggle, "terabyte" => Terabyte }
    CriteoShuffle { "total" => Total, "day" => Day, "none" => None }
    RecordShuffle { "none" => None, "batch" => Batch, "day" => Day, "total" => Total }
    GroupShuffle { "none" => None, "row_group" => RowGroup }
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
    }
    Pooling { "sum" => Sum, "mean" => Mean, "weighted_fixed" => WeightedFixed, "weighted_learned" => WeightedLearned }
    MlpInit {
        "facebook" => Facebook,
        "uniform01" => Uniform01,
        "xavier_normal" => XavierNormal,
        "glorot_uniform" => GlorotUniform,
        "torch_linear" => TorchLinear,
    }
    InitRng { "philox" => Philox, "numpy" => Numpy }
    Precision { "fp32" => Fp32, "tf32" => Tf32, "bf16" => Bf16, "fp16" => Fp16 }
    RowKind { "fp32" => Fp32, "bf16" => Bf16, "fp16" => Fp16, "bf16-split" => Bf16Split }
    EngineKind { "fused" => Fused, "candle" => Candle }
    Monitor { "auc" => Auc, "auc_minus_logloss" => AucMinusLogloss, "logloss" => Logloss }
}
