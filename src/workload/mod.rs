//! The workload file: what to train, on what, until when. Types here; reading and checking beside.

pub(crate) mod closed;
pub mod draft;
mod names;
mod open;
pub mod parse;
mod resolve;
pub(crate) mod rounds;
pub mod shipped;
pub mod short;
pub mod sweep;

pub use crate::data::source::config::{
    Bin40Config, CriteoSet, CriteoShuffle, CriteoTsvConfig, CsvConfig, DataConfig, DateFeature,
    DenseTransform, FilesConfig, GroupShuffle, IdKind, NumpyRandomConfig, OnError, ParquetConfig,
    PlantedConfig, PreparedConfig, RandomIds, RecordShuffle, TraceRestart,
};
pub use names::unfit_name;
pub use parse::{
    Instead, Missing, Origin, Resolved, WorkloadError, keeps_from_caching, load, load_with, schema,
    schema_text,
};

use crate::{
    backend::{Device, Precision},
    checkpoint::CheckpointConfig,
    data::loader::{Shard, SliceQueue},
    embedding::{RowKind, StoreConfig},
    engine::{
        EngineKind, SumOrder,
        ranks::{
            Exchange, Gpus, RankDevices, RanksConfig,
            server::{CommMode, ServerConfig},
        },
    },
    host::Size,
    model::{DlrmQuirks, EmbeddingInit, Interaction, LossSpec, MlpInit, Pooling, Trick},
    optim::{LossScaleSpec, OptimizerConfig, ScheduleSpec},
};
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

/// No more threads than this; more is a slip.
pub const MAX_THREADS: usize = 1024;

/// A workload, resolved: every default filled in, every override applied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workload {
    /// `[workload]`
    pub workload: About,
    /// `[data]`
    pub data: DataConfig,
    /// `[loader]`
    pub loader: LoaderSection,
    /// `[model]`
    pub model: ModelConfig,
    /// `[engine]`
    pub engine: EngineSection,
    /// `[embedding]`
    #[serde(skip_serializing_if = "StoreConfig::is_resident")]
    pub embedding: StoreConfig,
    /// `[comm]`
    #[serde(skip_serializing_if = "CommSection::is_default")]
    pub comm: CommSection,
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
    /// `[checkpoint]`
    pub checkpoint: CheckpointConfig,
    /// `[mlperf]`
    pub mlperf: MlperfSection,
}

/// `[comm]`: how ranks work together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CommSection {
    /// Who computes with parameters of whom.
    #[serde(skip_serializing_if = "CommMode::is_synchronous")]
    pub mode: CommMode,
    /// Servers of a parameter server; `None` is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<usize>,
    /// The most updates that its gradients may be late; `None` = any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness: Option<u64>,
    /// In which order gradients of dense parameters are summed.
    #[serde(skip_serializing_if = "SumOrder::is_rank")]
    pub sum: SumOrder,
    /// Whether layers are computed while messages are under way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overlap: bool,
    /// Whether rows of one table may be on several ranks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub split_rows: bool,
    /// Whether all ranks have small tables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replicate_small: bool,
    /// Whose the GPUs of a host are.
    #[serde(skip_serializing_if = "Gpus::is_own")]
    pub gpus: Gpus,
    /// Which way messages take between ranks on GPUs.
    #[serde(skip_serializing_if = "Exchange::is_host")]
    pub exchange: Exchange,
    /// How long one rank waits for another, in seconds; `None` is five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

impl CommSection {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == CommSection::default()
    }

    /// How a parameter server is to work, if there is to be one.
    pub fn server(&self) -> Option<ServerConfig> {
        (self.mode == CommMode::ParameterServer).then(|| ServerConfig {
            servers: self.servers.unwrap_or(1),
            bound: self.staleness,
            timeout: self.timeout(),
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds.unwrap_or(300.0))
    }

    /// What ranks on a device are told.
    pub fn ranks(&self, device: Device) -> RanksConfig {
        RanksConfig {
            timeout: self.timeout(),
            overlap: self.overlap,
            devices: RankDevices { device, gpus: self.gpus, exchange: self.exchange },
        }
    }
}

/// `[workload]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    /// Short name, used for folders: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Names of quirks of the original program to reproduce, those that are known.
    pub quirks: Vec<Quirk>,
    /// Environment variables that were not set, so that `[data.otherwise]` was taken; `None` if the
    /// data are the workload's own.
    pub without: Option<Vec<String>>,
}

/// What `data.fit_memory` came to on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fitted {
    /// The cap that was found, or given and kept; `None` = no cap is needed.
    pub max_rows: Option<usize>,
    /// Bytes that the run then takes.
    pub takes: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// What `embedding.store = "auto"` came to on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenStore {
    /// Memory for rows that are cached; `None` = all rows are in memory.
    pub cache: Option<Size>,
    /// Bytes that the run takes with all rows in memory; `None` = the tables' sizes are known once
    /// files have been read.
    pub takes: Option<u64>,
    /// Bytes that are free.
    pub free: u64,
    /// The key that keeps rows in memory which do not fit, if one does.
    pub kept_by: Option<&'static str>,
}

/// A behaviour of an original program that is off unless asked for, since it is a bug or a
/// surprise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Quirk {
    /// The plateau of facebook's schedule.
    #[serde(rename = "fb.lr-plateau")]
    FbLrPlateau,
    /// `--debug-mode` draws (and prints) all training data before the model's parameters, so these
    /// start later in the stream.
    #[serde(rename = "fb.debug-data-first")]
    FbDebugDataFirst,
    /// The README transcript's generator: targets of all batches drawn after all batches' inputs.
    #[serde(rename = "fb.targets-last")]
    FbTargetsLast,
    /// Tables of quotients and remainders start from U(sqrt(1/n), 1).
    #[serde(rename = "fb.qr-init")]
    FbQrInit,
    /// The top MLP of DeepRec's DLRM, of whose hidden layers only the last one is used.
    #[serde(rename = "dr.top-mlp-dead-layer")]
    DrTopMlpDeadLayer,
    /// Evaluations of DeepRec's DLRM, whose batch normalisation goes by each batch's own statistics.
    #[serde(rename = "dr.bn-batch-stats-in-eval")]
    DrBnBatchStatsInEval,
    /// Of the micro-batches of an update all but the last are thrown away.
    #[serde(rename = "fb.grad-accum-drops")]
    FbGradAccumDrops,
    /// Gradients of tables are as many times too large as there are ranks.
    #[serde(rename = "fb.table-gradients-by-ranks")]
    FbTableGradientsByRanks,
    /// Log loss of the probability in f32.
    #[serde(rename = "fb.bce-of-probability")]
    FbBceOfProbability,
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
        /// Batch normalisation behind each ReLU of the bottom MLP.
        batch_norm: bool,
        /// What `workload.quirks` says of the model.
        quirks: DlrmQuirks,
        /// Interaction.
        interaction: Interaction,
        /// Pooling.
        pooling: Pooling,
        /// What stands in for larger tables.
        #[serde(skip_serializing_if = "Trick::is_none")]
        trick: Trick,
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
    /// What computes.
    pub device: Device,
    /// Threads; 0 in the file = all cores, resolved here.
    pub threads: usize,
    /// Pin threads to cores.
    pub pin_threads: bool,
    /// Rounding of the operands of matrix products.
    pub precision: Precision,
    /// The interaction in f32 nevertheless.
    pub fp32_interaction: bool,
    /// In what form embedding rows are kept.
    pub embedding_rows: RowKind,
    /// Scaling of gradients; off unless the precision is fp16.
    pub loss_scale: LossScaleSpec,
}

/// `[loader]`
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LoaderSection {
    /// The part of the training samples that this process takes; `None` = all.
    pub shards: Option<Shard>,
    /// A queue of slices that several processes take from; `None` = each takes all, or its part.
    pub queue: Option<SliceQueue>,
    /// Batches that are made ahead of their use; `None` = a few.
    pub prefetch: Option<usize>,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainSection {
    /// Samples a step.
    pub batch_size: usize,
    /// Parts that a step's samples are computed in.
    pub micro_batches: usize,
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
    /// The saved model that training begins with; `None` = initial values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
}

/// `[eval]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalSection {
    /// When to evaluate.
    pub every: EvalEvery,
    /// Samples a batch of evaluation.
    pub batch_size: usize,
    /// Stop after this many evaluations in a row without improvement of the monitored metric;
    /// `None` = never.
    pub patience: Option<u32>,
    /// What counts as improvement.
    pub min_delta: f64,
    /// The monitored metric.
    pub monitor: Monitor,
    /// Put the parameters of the best evaluation back at the end (before the test split).
    pub restore_best: bool,
    /// Only the first samples of the evaluation split; `None` = all.
    pub samples: Option<u64>,
    /// Whether the evaluation split is kept in memory; `None` = [`EvalCache::Auto`].
    pub cache: Option<EvalCache>,
    /// Whether the end of training is evaluated where no evaluation is due; `None` = it is.
    #[serde(rename = "final")]
    pub at_end: Option<bool>,
}

/// Whether the evaluation split is kept in memory, or read anew at each evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalCache {
    /// Kept if it takes no more than 1 GiB.
    Auto,
    /// Kept.
    Always,
    /// Read anew.
    Never,
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
    /// Stop when the evaluation's accuracy is at least this, or when the AUC is as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The target as a share `s` of what can be learnt, for data whose best reachable AUC is known
    /// (planted): `auc = 0.5 + s * (best - 0.5)`, so 0 is chance and 1 the truth.
    pub share_of_best: Option<f64>,
}

/// `[mlperf]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MlperfSection {
    /// `dlrm`, `dlrm_dcnv2` or `deepfm`.
    pub benchmark: String,
    /// Round of MLPerf Training whose rules the log is to follow; `None` = the newest.
    pub round: Option<String>,
    /// `open` or `closed`.
    pub division: String,
    /// Submitting organisation.
    pub org: String,
    /// System name; `None` = made from the machine.
    pub platform: Option<String>,
    /// cloud, onprem, preview, research.
    pub status: String,
}
