//! How often a run's caches are expected to have the rows that its batches read.

use crate::{
    data::source::planted,
    engine::EngineConfig,
    stats::{Popular, expected_misses, zipf},
    workload::{DataConfig, Workload},
};

/// What is expected of one column's cache.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedHits {
    /// Name of the column.
    pub column: String,
    /// Rows in memory.
    pub slots: usize,
    /// Rows.
    pub rows: usize,
    /// Ids that training reads, and those of them whose row is not in memory; `None` where nothing
    /// is known of the data.
    pub ids_and_misses: Option<(f64, f64)>,
}

impl ExpectedHits {
    /// The share of ids whose row is in memory.
    pub fn rate(all: &[ExpectedHits]) -> Option<f64> {
        let known: Option<Vec<(f64, f64)>> = all.iter().map(|e| e.ids_and_misses).collect();
        let (ids, misses) = known?.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
        (ids > 0.0).then(|| 1.0 - misses / ids)
    }
}

/// Of each column that is not in memory whole: by Che's approximation, from the laws that planted
/// data are drawn by.
pub fn expected_hits(workload: &Workload, config: &EngineConfig) -> Vec<ExpectedHits> {
    let Some(spec) = &config.cached else { return Vec::new() };
    let laws = match &workload.data {
        DataConfig::Planted(planted) => {
            planted::laws(planted).ok().map(|laws| (laws, planted.train_samples))
        }
        _ => None,
    };
    let t = &workload.train;
    let expected = |k: usize, slots: usize| {
        let (laws, samples) = laws.as_ref()?;
        let law = laws.get(k)?;
        let samples = (*samples as f64 * t.epochs as f64)
            .min(t.max_steps.unwrap_or(u64::MAX) as f64 * t.batch_size as f64);
        let ids = samples * law.hotness as f64;
        let mut chances = zipf(law.values, law.exponent, 1.0 - law.missing);
        chances.push(Popular { chance: law.missing, ids: 1.0 });
        Some((ids, expected_misses(&chances, slots as f64, ids)))
    };
    let columns = spec.columns.iter().enumerate().filter(|(_, c)| !c.fits());
    let of = columns.map(|(k, c)| ExpectedHits {
        column: c.name.clone(),
        slots: c.slots,
        rows: c.rows,
        ids_and_misses: expected(k, c.slots),
    });
    of.collect()
}
