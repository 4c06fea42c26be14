//! The workload file: what to train, on what, until when. Types here; reading and checking beside.

pub mod parse;
mod resolve;

pub use parse::{Origin, Resolved, WorkloadError, load};

use crate::{
    engine::LossSpec,
    model::{EmbeddingInit, Interaction, MlpInit, Pooling},
    optim::{OptimizerConfig, ScheduleSpec},
};
use serde::Serialize;
use std::path::PathBuf;

/// A workload, resolved: every default filled in, every override applied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workload {
    /// `[workload]`
    pub workload: About,
    /// `[data]`
    pub data: DataConfig,
    /// `[model]`
    pub model: ModelConfig,
    /// `[engine]`
    pub engine: EngineSection,
    /// `[train]`
    pub train: TrainSection,
    /// `[optimizer]`
    pub optimizer: OptimizerConfig,
    /// `[schedule]`
    pub schedule: ScheduleSpec,
    /// `[eval]`
    pub eval: EvalSection,
    /// `[target]`
    pub target: TargetSection,
    /// `[mlperf]`
    pub mlperf: MlperfSection,
}

/// `[workload]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    /// Short name, used for folders: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Names of quirks of the original program to reproduce (workloads.md section 11), those that are known.
    pub quirks: Vec<Quirk>,
}

/// A behaviour of an original program that is off unless asked for, since it is a bug or a surprise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Quirk {
    /// Q4: the plateau of facebook's schedule.
    #[serde(rename = "fb.lr-plateau")]
    FbLrPlateau,
    /// `--debug-mode` draws (and prints) all training data before the model's parameters, so these start later in the stream.
    #[serde(rename = "fb.debug-data-first")]
    FbDebugDataFirst,
    /// The README transcript's generator: targets of all batches drawn after all batches' inputs.
    #[serde(rename = "fb.targets-last")]
    FbTargetsLast,
}

/// `[data]`: the source and its own keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum DataConfig {
    /// Endless learnable click log with a known truth.
    Planted(PlantedConfig),
    /// facebook's random generator.
    NumpyRandom(NumpyRandomConfig),
    /// Raw Criteo logs.
    CriteoTsv(CriteoTsvConfig),
    /// Text with a header line.
    Csv(CsvConfig),
}

/// Planted data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlantedConfig {
    /// Cardinalities, exponents and truth: `criteo_kaggle`, `criteo_terabyte`, or `custom` with the keys below.
    pub preset: String,
    /// No table has more rows than this.
    pub max_rows: Option<usize>,
    /// Rows of each table (preset `custom`).
    pub tables: Vec<usize>,
    /// Ids a sample holds in each table; empty = 1 each.
    pub hotness: Vec<usize>,
    /// Dense columns.
    pub dense: Option<usize>,
    /// Samples of a training "epoch"; the log is endless, this only gives the unit.
    pub train_samples: u64,
    /// Samples of the evaluation split.
    pub eval_samples: u64,
    /// Seed of the truth and of the samples; not the run's seed, so that runs with several seeds see one data set.
    pub seed: u64,
    /// Share of positive labels; `None` = the preset's.
    pub positive_rate: Option<f64>,
}

/// facebook's random data (`--data-generation=random`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NumpyRandomConfig {
    /// Rows of each table.
    pub tables: Vec<usize>,
    /// Dense columns.
    pub dense: usize,
    /// `--data-size`.
    pub samples: u64,
    /// `--num-indices-per-lookup`.
    pub indices_per_lookup: usize,
    /// `--num-indices-per-lookup-fixed`.
    pub fixed_indices: bool,
    /// `--rand-data-dist`.
    pub distribution: RandomIds,
    /// `--round-targets`.
    pub round_targets: bool,
    /// `--numpy-rand-seed`.
    pub seed: u32,
}

/// How random ids are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RandomIds {
    /// `round(u * (rows - 1))`, duplicates removed.
    Uniform,
    /// Normal, clipped to `[min, max]`, truncated, duplicates removed.
    Gaussian {
        /// Mean; the middle of the range if `None`.
        mu: Option<f64>,
        /// Standard deviation.
        sigma: f64,
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
}

/// Raw Criteo logs, facebook's preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CriteoTsvConfig {
    /// `kaggle`: one file cut into 7 "days"; `terabyte`: one file a day.
    pub set: CriteoSet,
    /// The file (kaggle) or the day files in order (terabyte); `.gz` is unpacked while reading. `${NAME}` takes the environment's value.
    pub paths: Vec<PathBuf>,
    /// Ids modulo this before they are numbered; `None` = off.
    pub max_ind_range: Option<u32>,
    /// Share of negatives dropped.
    pub sub_sample_rate: f64,
    /// Order of training samples.
    pub shuffle: CriteoShuffle,
    /// Malformed lines.
    pub on_error: OnError,
    /// numpy's seed for shuffling and sub-sampling.
    pub seed: u32,
}

/// Which of Criteo's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CriteoSet {
    /// Criteo Kaggle display advertising challenge.
    Kaggle,
    /// Criteo 1TB click logs.
    Terabyte,
}

/// `--data-randomize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CriteoShuffle {
    /// All training days together.
    Total,
    /// Within each day.
    Day,
    /// Not at all.
    None,
}

/// What to do with a malformed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop and name file and line.
    Fail,
    /// Leave it out, count it, say so in the record.
    Skip,
}

/// Text with a header line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CsvConfig {
    /// Training file.
    pub train: PathBuf,
    /// Evaluation file.
    pub eval: PathBuf,
    /// Test file.
    pub test: Option<PathBuf>,
    /// Column with the label.
    pub label: String,
    /// Values of the label column that mean 1, all others 0; if empty the labels are numbers from 0 to 1.
    pub positive: Vec<String>,
    /// Numeric columns.
    pub dense: Vec<String>,
    /// Categorical columns; empty = all that are neither label, nor dense, nor ignored.
    pub categorical: Vec<String>,
    /// Columns that are not read.
    pub ignore: Vec<String>,
    /// Column names where the file has no header line (Adult).
    pub columns: Option<Vec<String>>,
    /// Transform of dense columns.
    pub dense_transform: DenseTransform,
    /// Rarer values than this become the unknown id 0.
    pub min_count: u32,
    /// Field separator.
    pub delimiter: char,
    /// Lines that start with this character are left out.
    pub comment: Option<char>,
    /// New order of training samples every epoch (seeded by `train.seed`).
    pub shuffle: bool,
    /// Malformed lines.
    pub on_error: OnError,
}

/// Named transforms of dense features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseTransform {
    /// As they are.
    Raw,
    /// `ln(max(x, 0) + 1)` (facebook).
    Log1pClamp0,
    /// `ln(x + 2)` (OneFlow).
    LogPlus2,
    /// `ln(x + 3)` (NVIDIA, TorchRec).
    LogPlus3,
    /// `(x - min) / (max - min)` over the training split.
    MinMax,
    /// `(x - mean) / std` over the training split.
    Standard,
}

/// `[model]`: what the data does not decide.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// DLRM.
    Dlrm {
        /// Embedding dimension.
        dim: usize,
        /// Bottom MLP without its input.
        bottom: Vec<usize>,
        /// Top MLP without its input.
        top: Vec<usize>,
        /// Interaction.
        interaction: Interaction,
        /// Pooling.
        pooling: Pooling,
        /// Dense input padding.
        dense_pad_to: usize,
        /// Initialiser of MLPs.
        mlp_init: MlpInit,
        /// Initialiser of tables.
        embedding_init: EmbeddingInit,
        /// Where initial values come from.
        init_rng: InitRng,
    },
    /// DeepFM.
    #[serde(rename = "deepfm")]
    DeepFm {
        /// Embedding dimension.
        dim: usize,
        /// Hidden widths of the DNN.
        hidden: Vec<usize>,
        /// Batch normalisation.
        batch_norm: bool,
        /// Dropout probability.
        dropout: f32,
        /// L2 on all embedding rows.
        embedding_l2: f32,
        /// Initialiser of the DNN.
        mlp_init: MlpInit,
        /// Initialiser of tables.
        embedding_init: EmbeddingInit,
        /// Where initial values come from.
        init_rng: InitRng,
    },
}

/// Which generator fills the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InitRng {
    /// Counter-based, parallel.
    Philox,
    /// numpy's legacy generator, one stream with the data as in facebook's program.
    Numpy,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineSection {
    /// `fused` or `candle`.
    pub kind: EngineKind,
    /// `cpu`.
    pub device: String,
    /// Threads; 0 in the file = all cores, resolved here.
    pub threads: usize,
    /// Pin threads to cores.
    pub pin_threads: bool,
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Ours.
    Fused,
    /// candle's tensors and autograd.
    Candle,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainSection {
    /// Samples a step.
    pub batch_size: usize,
    /// Epochs at most.
    pub epochs: u64,
    /// Steps at most, over all epochs.
    pub max_steps: Option<u64>,
    /// Drop the last, short batch of an epoch.
    pub drop_last: bool,
    /// Seed of initial values, dropout, and shuffling.
    pub seed: u64,
    /// The loss.
    pub loss: LossSpec,
}

/// `[eval]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalSection {
    /// When to evaluate.
    pub every: EvalEvery,
    /// Samples a batch of evaluation.
    pub batch_size: usize,
    /// Stop after this many evaluations in a row without improvement of the monitored metric; `None` = never.
    pub patience: Option<u32>,
    /// What counts as improvement.
    pub min_delta: f64,
    /// The monitored metric.
    pub monitor: Monitor,
    /// Put the parameters of the best evaluation back at the end (before the test split).
    pub restore_best: bool,
}

/// When to evaluate. All but `Never` also evaluate when training ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalEvery {
    /// Every so many steps.
    Steps(u64),
    /// Every so large a part of an epoch (MLPerf: 0.05); 1 = at each epoch's end.
    Epochs(f64),
    /// Only when training ends.
    AtEnd,
    /// Not at all (facebook's random benchmark: its labels are no classes).
    Never,
}

/// The monitored metric; larger is better in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// AUC.
    Auc,
    /// AUC minus log loss (FuxiCTR).
    AucMinusLogloss,
    /// Minus log loss.
    Logloss,
}

/// `[target]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetSection {
    /// Stop when the evaluation AUC is at least this; `None` = train to the end.
    pub auc: Option<f64>,
    /// The target as a share `s` of what can be learnt, for data whose best reachable AUC is known (planted):
    /// `auc = 0.5 + s * (best - 0.5)`, so 0 is chance and 1 the truth.
    pub share_of_best: Option<f64>,
}

/// `[mlperf]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MlperfSection {
    /// `dlrm`, `dlrm_dcnv2` or `deepfm`.
    pub benchmark: String,
    /// `open` or `closed`.
    pub division: String,
    /// Submitting organisation.
    pub org: String,
    /// System name; `None` = made from the machine.
    pub platform: Option<String>,
    /// cloud, onprem, preview, research.
    pub status: String,
}
