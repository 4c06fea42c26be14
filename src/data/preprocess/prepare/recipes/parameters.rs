//! The settings of recipes: what the output depends on beside recipe and input.

use super::{Recipe, mlperf_v2};
use crate::data::{
    preprocess::{criteo::TABLES, prepare::PrepareError},
    source::config::OnError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// How the ids that come with an id are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiHot {
    /// All alike.
    Uniform,
    /// By a Pareto distribution of shape 0.25, modulo the rows.
    Pareto,
}

/// Names of the settings, as they stand in manifests: those of the fields of [`Parameters`].
pub mod setting {
    /// [`max_ind_range`](super::Parameters::max_ind_range).
    pub const RANGE: &str = "max_ind_range";
    /// [`sub_sample_rate`](super::Parameters::sub_sample_rate).
    pub const SUB_SAMPLE: &str = "sub_sample_rate";
    /// [`randomize`](super::Parameters::randomize).
    pub const RANDOMIZE: &str = "randomize";
    /// [`on_error`](super::Parameters::on_error), which every recipe takes.
    pub const ON_ERROR: &str = "on_error";
    /// [`seed`](super::Parameters::seed).
    pub const SEED: &str = "seed";
    /// [`null_id`](super::Parameters::null_id).
    pub const NULL_ID: &str = "null_id";
    /// [`shard_rows`](super::Parameters::shard_rows).
    pub const SHARD_ROWS: &str = "shard_rows";
    /// [`min_count`](super::Parameters::min_count).
    pub const MIN_COUNT: &str = "min_count";
    /// [`table_rows`](super::Parameters::table_rows).
    pub const TABLE_ROWS: &str = "table_rows";
    /// [`hotness`](super::Parameters::hotness).
    pub const HOTNESS: &str = "hotness";
    /// [`multi_hot`](super::Parameters::multi_hot).
    pub const MULTI_HOT: &str = "multi_hot";
}

/// What the output depends on, beside recipe and input. A recipe takes some of the settings
/// ([`Recipe::takes`]); the others are as [`Recipe::parameters`] has them.
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

impl Parameters {
    /// What a recipe has that says nothing else.
    pub(super) const BASE: Parameters = Parameters {
        max_ind_range: None,
        sub_sample_rate: 0.0,
        randomize: Randomize::None,
        on_error: OnError::Fail,
        seed: 0,
        null_id: NullId::Own,
        shard_rows: 1 << 22,
        min_count: 0,
        table_rows: mlperf_v2::ROWS,
        hotness: mlperf_v2::HOTNESS,
        multi_hot: MultiHot::Uniform,
    };

    /// All of them by name, in the order of the fields.
    fn all(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        }
    }

    /// Those that `recipe` takes, by name, for manifests.
    pub(crate) fn named(&self, recipe: Recipe) -> BTreeMap<String, serde_json::Value> {
        self.all().into_iter().filter(|(name, _)| recipe.takes().contains(&name.as_str())).collect()
    }

    /// # Errors
    /// If a value is out of its range, or is set though `recipe` does not take it.
    pub fn check(&self, recipe: Recipe) -> Result<(), PrepareError> {
        let usage = |what: String| Err(PrepareError::Usage(what));
        let fixed = recipe.parameters().all();
        let foreign = self.all().into_iter().find(|(name, value)| {
            fixed.get(name) != Some(value) && !recipe.takes().contains(&name.as_str())
        });
        if let Some((name, _)) = foreign {
            return Err(PrepareError::foreign(recipe, &name));
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
        recipe.steps().check(self)
    }
}
