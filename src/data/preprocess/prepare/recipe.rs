//! The systems whose preparation is reproduced, and what may be set about each.

use super::{Finish, PrepareError, deeprec, facebook, fuxictr, mlperf_v2, nvidia, oneflow};
use crate::data::{
    preprocess::criteo::{DENSE, TABLES},
    source::config::OnError,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// A system whose data preparation is reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// facebookresearch/dlrm, bench/dlrm_s_criteo_kaggle.sh.
    FacebookKaggle,
    /// facebookresearch/dlrm, bench/dlrm_s_criteo_terabyte.sh.
    FacebookTerabyte,
    /// facebookresearch/dlrm, bench/run_and_time.sh, MLPerf training rounds 0.7 to 2.1.
    MlperfV1,
    /// facebookresearch/dlrm, torchrec_dlrm, MLPerf training rounds 3.0 and later.
    MlperfV2,
    /// Oneflow-Inc/models, RecommenderSystems/dlrm/tools/criteo1t_parquet.scala.
    OneflowDlrm,
    /// Oneflow-Inc/models, RecommenderSystems/deepfm/tools/deepfm_parquet.scala.
    OneflowDeepfm,
    /// DeepRec-AI/DeepRec, modelzoo/DLRM.
    Deeprec,
    /// reczoo/FuxiCTR with the settings of BARS' DeepFM_criteo_x4_001.
    FuxictrCriteoX4,
    /// NVIDIA/DeepLearningExamples, PyTorch/Recommendation/DLRM.
    Nvidia,
}

/// In which order the training samples are written; the last day is never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Randomize {
    /// As in the log.
    None,
    /// Each day shuffled.
    Day,
    /// All shuffled: as the original draws it where that is reproducible.
    Total,
}

/// What a missing id becomes where ids of all columns are numbered through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NullId {
    /// An id of its own, one more than the largest of its column (criteo1t_parquet.scala, as it
    /// should be).
    Own,
    /// The least id of the next column (criteo1t_parquet.py).
    Next,
}

/// Names of the settings, as they stand in manifests.
pub(super) mod setting {
    pub const RANGE: &str = "max_ind_range";
    pub const SUB_SAMPLE: &str = "sub_sample_rate";
    pub const RANDOMIZE: &str = "randomize";
    pub const ON_ERROR: &str = "on_error";
    pub const SEED: &str = "seed";
    pub const NULL_ID: &str = "null_id";
    pub const SHARD_ROWS: &str = "shard_rows";
    pub const MIN_COUNT: &str = "min_count";
    pub const TABLE_ROWS: &str = "table_rows";
    pub const HOTNESS: &str = "hotness";
    pub const MULTI_HOT: &str = "multi_hot";
}
use setting::{
    HOTNESS, MIN_COUNT, MULTI_HOT, NULL_ID, ON_ERROR, RANDOMIZE, RANGE, SEED, SHARD_ROWS,
    SUB_SAMPLE, TABLE_ROWS,
};

/// What the output depends on, beside recipe and input. A recipe takes some of it; the rest is as
/// [`Recipe::parameters`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Ids modulo this before anything else is done with them.
    pub max_ind_range: Option<u32>,
    /// Share of negatives that is dropped.
    pub sub_sample_rate: f64,
    /// The order of training samples.
    pub randomize: Randomize,
    /// Malformed lines.
    pub on_error: OnError,
    /// Of the generator that draws samples, folds and order.
    pub seed: u32,
    /// What a missing id becomes.
    pub null_id: NullId,
    /// Samples of a file, for recipes that write many.
    pub shard_rows: u64,
    /// How often a value must occur to have an id of its own.
    pub min_count: u32,
    /// Rows of each table.
    pub table_rows: [u32; TABLES],
    /// Ids of a sample in each table.
    pub hotness: [u32; TABLES],
    /// How the ids that come with an id are drawn.
    pub multi_hot: MultiHot,
}

/// How the ids that come with an id are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiHot {
    /// All alike.
    Uniform,
    /// By a Pareto distribution of shape 0.25, modulo the rows.
    Pareto,
}

/// How samples lie on the disk between reading and the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 160 bytes, as bin40: ids numbered by first appearance, negative integers 0.
    Numbered,
    /// The same, but negative integers stay.
    Signed,
    /// 168 bytes: integers and ids as in the log, then which columns are empty, 64 bits as
    /// [`Columns::missing`](super::super::criteo::Columns).
    Raw,
}

impl Form {
    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Form::Numbered | Form::Signed => super::RECORD,
            Form::Raw => super::RECORD + 8,
        }
    }
}

impl Recipe {
    /// All of them.
    pub const ALL: [Recipe; 9] = [
        Recipe::FacebookKaggle,
        Recipe::FacebookTerabyte,
        Recipe::MlperfV1,
        Recipe::MlperfV2,
        Recipe::OneflowDlrm,
        Recipe::OneflowDeepfm,
        Recipe::Deeprec,
        Recipe::FuxictrCriteoX4,
        Recipe::Nvidia,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::FacebookKaggle => "facebook-kaggle",
            Recipe::FacebookTerabyte => "facebook-terabyte",
            Recipe::MlperfV1 => "mlperf-v1",
            Recipe::MlperfV2 => "mlperf-v2",
            Recipe::OneflowDlrm => "oneflow-dlrm",
            Recipe::OneflowDeepfm => "oneflow-deepfm",
            Recipe::Deeprec => "deeprec",
            Recipe::FuxictrCriteoX4 => "fuxictr-criteo-x4",
            Recipe::Nvidia => "nvidia",
        }
    }

    /// Whether the log is one file, which is cut by lines, and not one file a day.
    pub(super) fn one_file(self) -> bool {
        match self {
            Recipe::FacebookKaggle
            | Recipe::OneflowDeepfm
            | Recipe::Deeprec
            | Recipe::FuxictrCriteoX4 => true,
            Recipe::FacebookTerabyte
            | Recipe::MlperfV1
            | Recipe::MlperfV2
            | Recipe::OneflowDlrm
            | Recipe::Nvidia => false,
        }
    }

    pub(super) fn form(self) -> Form {
        match self {
            Recipe::FacebookKaggle | Recipe::FacebookTerabyte | Recipe::MlperfV1 => Form::Numbered,
            Recipe::MlperfV2 => Form::Signed,
            Recipe::OneflowDlrm
            | Recipe::OneflowDeepfm
            | Recipe::Deeprec
            | Recipe::FuxictrCriteoX4
            | Recipe::Nvidia => Form::Raw,
        }
    }

    /// The least integer that it can take, if not all.
    pub(super) fn least_integer(self) -> Option<i32> {
        (self == Recipe::MlperfV2).then_some(mlperf_v2::LEAST)
    }

    /// What is done once all is read.
    pub(super) fn finish(self) -> &'static dyn Finish {
        match self {
            Recipe::FacebookKaggle | Recipe::FacebookTerabyte | Recipe::MlperfV1 => {
                &facebook::Facebook
            }
            Recipe::MlperfV2 => &mlperf_v2::MlperfV2,
            Recipe::OneflowDlrm => &oneflow::Dlrm,
            Recipe::OneflowDeepfm => &oneflow::DeepFm,
            Recipe::Deeprec => &deeprec::DeepRec,
            Recipe::FuxictrCriteoX4 => &fuxictr::FuxiCtr,
            Recipe::Nvidia => &nvidia::Nvidia,
        }
    }

    /// Names of the settings that it takes.
    pub fn takes(self) -> &'static [&'static str] {
        match self {
            Recipe::FacebookKaggle | Recipe::FacebookTerabyte | Recipe::MlperfV1 => {
                &[RANGE, SUB_SAMPLE, RANDOMIZE, ON_ERROR, SEED]
            }
            Recipe::MlperfV2 => &[RANDOMIZE, ON_ERROR, SEED, TABLE_ROWS, HOTNESS, MULTI_HOT],
            Recipe::OneflowDlrm => &[RANGE, RANDOMIZE, ON_ERROR, SEED, NULL_ID, SHARD_ROWS],
            Recipe::OneflowDeepfm => &[RANDOMIZE, ON_ERROR, SEED, SHARD_ROWS],
            Recipe::Deeprec => &[ON_ERROR],
            Recipe::FuxictrCriteoX4 => &[ON_ERROR, SEED, MIN_COUNT],
            Recipe::Nvidia => &[RANDOMIZE, ON_ERROR, SEED, MIN_COUNT],
        }
    }

    /// What the original's scripts set.
    pub fn parameters(self) -> Parameters {
        let min_count = match self {
            Recipe::FuxictrCriteoX4 => 10,
            Recipe::Nvidia => 15,
            _ => 0,
        };
        let (max_ind_range, randomize, seed) = match self {
            Recipe::FacebookKaggle => (None, Randomize::None, 123),
            Recipe::FacebookTerabyte => (Some(10_000_000), Randomize::None, 123),
            Recipe::MlperfV1 => (Some(40_000_000), Randomize::Total, 123),
            Recipe::MlperfV2 => (None, Randomize::Total, 0),
            Recipe::OneflowDlrm => (Some(40_000_000), Randomize::Total, 1234),
            Recipe::OneflowDeepfm => (None, Randomize::Total, 2018),
            Recipe::Deeprec => (None, Randomize::None, 0),
            Recipe::FuxictrCriteoX4 => (None, Randomize::None, 2018),
            Recipe::Nvidia => (None, Randomize::Total, 12345),
        };
        Parameters {
            max_ind_range,
            sub_sample_rate: 0.0,
            randomize,
            on_error: OnError::Fail,
            seed,
            null_id: NullId::Own,
            shard_rows: 1 << 22,
            min_count,
            table_rows: mlperf_v2::ROWS,
            hotness: mlperf_v2::HOTNESS,
            multi_hot: MultiHot::Uniform,
        }
    }

    pub(super) fn check_files(self, raw: &[PathBuf]) -> Result<(), PrepareError> {
        match (self.one_file(), raw.len()) {
            (true, 1) | (false, 2..) => Ok(()),
            (true, n) => Err(PrepareError::Usage(format!(
                "{}: the log is one file, train.txt, but {n} are named",
                self.name()
            ))),
            (false, n) => Err(PrepareError::Usage(format!(
                "{}: the log has 2 days or more (the last one is for testing), but {n} file is named; give a folder or a pattern",
                self.name()
            ))),
        }
    }
}

impl Parameters {
    /// Those that `recipe` takes, by name, for manifests.
    pub(super) fn named(&self, recipe: Recipe) -> BTreeMap<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map
                .into_iter()
                .filter(|(name, _)| recipe.takes().contains(&name.as_str()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    /// # Errors
    /// If a value is out of its range, or is set though `recipe` does not take it.
    pub fn check(&self, recipe: Recipe) -> Result<(), PrepareError> {
        let usage = |what: String| Err(PrepareError::Usage(what));
        let fixed = Parameters { on_error: self.on_error, ..recipe.parameters() };
        let differs = [
            (RANGE, self.max_ind_range != fixed.max_ind_range),
            (SUB_SAMPLE, self.sub_sample_rate != fixed.sub_sample_rate),
            (RANDOMIZE, self.randomize != fixed.randomize),
            (SEED, self.seed != fixed.seed),
            (NULL_ID, self.null_id != fixed.null_id),
            (SHARD_ROWS, self.shard_rows != fixed.shard_rows),
            (MIN_COUNT, self.min_count != fixed.min_count),
            (TABLE_ROWS, self.table_rows != fixed.table_rows),
            (HOTNESS, self.hotness != fixed.hotness),
            (MULTI_HOT, self.multi_hot != fixed.multi_hot),
        ];
        if let Some((name, _)) =
            differs.iter().find(|(name, differs)| *differs && !recipe.takes().contains(name))
        {
            return Err(PrepareError::foreign(recipe, name));
        }
        if !(0.0..1.0).contains(&self.sub_sample_rate) {
            let rate = self.sub_sample_rate;
            return usage(format!(
                "the share of negatives to drop is {rate}; from 0 to less than 1 is right"
            ));
        }
        if self.max_ind_range == Some(0) || self.max_ind_range.is_some_and(|r| r > i32::MAX as u32)
        {
            return usage(format!("the range of ids is from 1 to {}", i32::MAX));
        }
        if !(1..=1 << 31).contains(&self.shard_rows) {
            return usage(format!(
                "a file of {} samples cannot be; from 1 to {} are right",
                self.shard_rows,
                1u64 << 31
            ));
        }
        recipe.finish().check(self)
    }
}

/// The name of a column, I1 first.
pub(super) fn column_name(column: usize) -> String {
    match column.checked_sub(DENSE) {
        None => format!("I{}", column + 1),
        Some(j) => format!("C{}", j + 1),
    }
}
