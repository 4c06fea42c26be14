//! `data profile --cache`: how many ids are expected to find their row in a cache of some size.

use super::super::Failure;
use crate::{
    batch::{Column, Schema},
    data::{json, locality::Profile},
    embedding::{
        StoreConfig,
        cached::{CachedSpec, CachedStore, RowSizes},
    },
    host::Size,
    stats::counted_misses,
    workload::{Workload, keeps_from_caching},
};
use serde::Serialize;

/// What is expected of the cache of one table, or of all.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Expected {
    /// Rows in memory at most.
    pub slots: usize,
    /// The share of ids whose row is there.
    #[serde(serialize_with = "json::optional")]
    pub hit_rate: Option<f64>,
}

impl Expected {
    fn of(slots: usize, misses: f64, ids: u64) -> Self {
        Expected { slots, hit_rate: (ids > 0).then(|| 1.0 - misses / ids as f64) }
    }
}

/// The slots of each table of a workload with a cache of `size`, as a run with
/// `embedding.store = "cached"` has them.
pub(super) fn of_workload(
    workload: &Workload,
    schema: &Schema,
    size: Size,
) -> Result<Vec<usize>, Failure> {
    if let Some(key) = keeps_from_caching(workload) {
        return Err(Failure::Usage(format!("--cache {size}: {key} keeps all rows in memory")));
    }
    let store = CachedStore { cache: size, ..CachedStore::default() };
    let workload = Workload { embedding: StoreConfig::Cached(store), ..workload.clone() };
    let spec = workload.engine_config(schema)?.cached;
    Ok(spec.map_or(Vec::new(), |spec| spec.columns.iter().map(|c| c.slots).collect()))
}

/// The slots of tables of rows of `dim` numbers of 32 bits, one for each id that was seen.
pub(super) fn of_rows(
    tables: &[(&str, &Profile)],
    dim: usize,
    size: Size,
) -> Result<Vec<usize>, Failure> {
    let column = |(name, profile): &(&str, &Profile)| Column {
        name: (*name).to_owned(),
        rows: profile.distinct(),
        max_hotness: 1,
    };
    let schema = Schema { dense: 0, tables: tables.iter().map(column).collect() };
    let store = CachedStore { cache: size, ..CachedStore::default() };
    let sizes = RowSizes { memory: 4 * dim, packed: 4 * dim };
    let spec = CachedSpec::new(&store, &schema, sizes, 1);
    let spec = spec.map_err(|_| {
        Failure::Usage(format!("--cache {size}: has no room for a row of each table; give more"))
    })?;
    Ok(spec.columns.iter().map(|c| c.slots).collect())
}

/// What is expected of each table, and of all together.
pub(super) fn expected(profiles: &[&Profile], slots: &[usize]) -> (Vec<Expected>, Expected) {
    let misses = profiles.iter().zip(slots);
    let misses: Vec<f64> =
        misses.map(|(p, &slots)| counted_misses(&p.counts(), slots as f64, 1.0)).collect();
    let each = profiles.iter().zip(slots).zip(&misses);
    let each = each.map(|((p, &slots), &misses)| Expected::of(slots, misses, p.accesses()));
    let ids = profiles.iter().map(|p| p.accesses()).sum();
    (each.collect(), Expected::of(slots.iter().sum(), misses.iter().sum(), ids))
}
