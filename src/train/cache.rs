//! How often a run's caches are expected to have the rows that its batches read.

use super::popularity::{laws, of_law};
use crate::{
    data::locality::IdsProfile,
    embedding::TableUse,
    engine::EngineConfig,
    stats::{counted_misses, expected_misses},
    workload::{DataConfig, Workload},
};
use serde::{Deserialize, Serialize};

/// What is expected of one column's cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectedHits {
    /// Name of the column.
    pub column: String,
    /// Rows in memory.
    pub slots: usize,
    /// Rows.
    pub rows: usize,
    /// Ids that training reads; `None` where nothing is known of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<f64>,
    /// Those of them whose row is not in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<f64>,
}

impl ExpectedHits {
    /// The share of ids whose row is in memory.
    pub fn rate(all: &[ExpectedHits]) -> Option<f64> {
        let known: Option<Vec<(f64, f64)>> = all.iter().map(|e| e.ids.zip(e.misses)).collect();
        let (ids, misses) = known?.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
        (ids > 0.0).then(|| 1.0 - misses / ids)
    }
}

/// Of which ids hits are expected.
#[derive(Debug, Clone, Copy)]
pub enum Over<'a> {
    /// Those that the run is to read.
    Plan,
    /// As many as it has read of each column.
    Read(&'a [TableUse]),
}

/// Of each column that is not in memory whole: from how often ids were asked for in `profile`, else, of
/// planted data, by Che's approximation from the laws that they are drawn by.
pub fn expected_hits(
    workload: &Workload,
    config: &EngineConfig,
    over: Over<'_>,
    profile: Option<&IdsProfile>,
) -> Vec<ExpectedHits> {
    let Some(spec) = &config.cached else { return Vec::new() };
    let laws = laws(&workload.data);
    let samples = planned_samples(workload, profile);
    // Ids of a column, of which a sample has so many.
    let ids = |column: &str, a_sample: f64| match over {
        Over::Plan => Some(samples? * a_sample),
        Over::Read(tables) => {
            // Tables that grow in front of a file are told of twice.
            let mut of_column = tables.iter().filter(|t| t.column == column);
            let counts = of_column.find_map(TableUse::cached)?;
            Some((counts.hits + counts.misses) as f64)
        }
    };
    let counted = |column: &str, slots: usize| {
        let profile = profile?;
        let of = profile.of(column).filter(|of| of.accesses > 0)?;
        let ids = ids(column, of.accesses as f64 / profile.samples as f64)?;
        Some((ids, counted_misses(&of.counts, slots as f64, ids / of.accesses as f64)))
    };
    let drawn = |k: usize, column: &str, slots: usize| {
        let law = laws.as_ref()?.get(k)?;
        let ids = ids(column, law.hotness as f64)?;
        Some((ids, expected_misses(&of_law(law), slots as f64, ids)))
    };
    let columns = spec.columns.iter().enumerate().filter(|(_, c)| !c.fits());
    let of = columns.map(|(k, c)| {
        let expected = match profile {
            Some(_) => counted(&c.name, c.slots),
            None => drawn(k, &c.name, c.slots),
        };
        ExpectedHits {
            column: c.name.clone(),
            slots: c.slots,
            rows: c.rows,
            ids: expected.map(|(ids, _)| ids),
            misses: expected.map(|(_, misses)| misses),
        }
    });
    of.collect()
}

/// Samples that a run is to train on, if that is known without its files; else those of the profile.
fn planned_samples(workload: &Workload, profile: Option<&IdsProfile>) -> Option<f64> {
    let t = &workload.train;
    let steps = t.max_steps.map(|steps| steps as f64 * t.batch_size as f64);
    let epochs = match &workload.data {
        DataConfig::Planted(planted) => Some(planted.train_samples as f64 * t.epochs as f64),
        _ => None,
    };
    match (steps, epochs) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b).or(profile.map(|p| p.samples as f64)),
    }
}
