//! What is said of tables that grow.

use crate::{
    batch::{Column, Schema},
    embedding::cached::{CachedStore, resident_columns},
};
use serde::Serialize;

/// `store = "hashed"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct HashedStore {
    /// Keys of a table at most, one number a column or one for all; `None` = as many as its column
    /// has ids.
    pub capacity: Option<Vec<usize>>,
    /// Memory for rows, the others of which are in a file; `None` = all are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<CachedStore>,
    /// Columns whose tables do not grow: a row for each id, from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resident: Vec<String>,
    /// What is done to keys.
    #[serde(flatten)]
    pub config: HashedConfig,
}

/// What is done to keys.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct HashedConfig {
    /// New rows begin as one of so many, that of the key modulo this; `None` = each as its own.
    pub default_value_dim: Option<u64>,
    /// Which keys get a row.
    pub filter: FilterConfig,
    /// What a key without a row reads, in each element.
    #[serde(skip_serializing_if = "is_zero")]
    pub default_value_no_permission: f32,
    /// Rows that no step has touched for more than so many are dropped.
    pub steps_to_live: Option<u64>,
    /// Rows are dropped of which half the sum of squares is below this.
    pub l2_threshold: Option<f64>,
    /// Steps between the times at which rows are dropped.
    pub evict_every_steps: Option<u64>,
}

/// Which keys get a row.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FilterConfig {
    /// All.
    #[default]
    None,
    /// Those that were seen so often; every key is counted.
    Counter {
        /// How often.
        freq: u64,
    },
    /// The same, counted by a counting Bloom filter, which may count others along.
    Bloom {
        /// How often.
        freq: u64,
        /// Keys that are expected of a table.
        keys: u64,
        /// Chance that a key is counted too often, with so many keys.
        false_positive: f64,
        /// Bits of a counter: 8, 16, 32 or 64.
        counter_bits: u32,
    },
}

fn is_zero(x: &f32) -> bool {
    *x == 0.0
}

impl FilterConfig {
    /// Whether all keys get a row.
    pub fn is_none(&self) -> bool {
        *self == FilterConfig::None
    }

    /// How often a key is seen before it has a row.
    pub fn freq(&self) -> u64 {
        match *self {
            FilterConfig::None => 0,
            FilterConfig::Counter { freq } | FilterConfig::Bloom { freq, .. } => freq,
        }
    }
}

impl HashedConfig {
    /// Whether rows are ever dropped.
    pub fn evicts(&self) -> bool {
        self.steps_to_live.is_some() || self.l2_threshold.is_some()
    }
}

/// Tables that grow, sized for data and batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HashedSpec {
    /// What is asked for.
    pub config: HashedConfig,
    /// One entry a categorical column.
    pub columns: Vec<HashedColumn>,
}

/// Sizes of the tables of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HashedColumn {
    /// Name of the column.
    pub name: String,
    /// Ids of the column: keys are below, unless they are any numbers.
    pub ids: usize,
    /// Whether keys are any numbers of 64 bits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_keys: bool,
    /// Whether the table does not grow: an id is its row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resident: bool,
    /// Keys at most.
    pub capacity: usize,
    /// Rows of an engine's table: those of keys, those that unknown keys of an evaluation borrow
    /// for a batch, and with a filter one of zeros, the last.
    pub rows: usize,
}

impl HashedSpec {
    /// For data of `schema`, in batches of up to `max_batch` samples; with `any_keys` its ids are not
    /// below the rows of the tables, but any numbers.
    ///
    /// # Errors
    /// The key, and a sentence: if there are more capacities than one, or fewer than columns, or columns
    /// that are to be resident are not there.
    pub fn new(
        store: &HashedStore,
        schema: &Schema,
        max_batch: usize,
        any_keys: bool,
    ) -> Result<Self, (&'static str, String)> {
        let HashedStore { capacity, config, resident, .. } = store;
        resident_columns(resident, schema)?;
        let n = schema.tables.len();
        if let Some(given) = capacity.as_ref().filter(|c| c.len() != 1 && c.len() != n) {
            let given = given.len();
            let what = format!(
                "has {given} numbers; must have {n}, one for each categorical column, or one for all"
            );
            return Err(("embedding.capacity", what));
        }
        let column = |(k, t): (usize, &Column)| {
            let (name, ids) = (t.name.clone(), t.rows);
            if resident.contains(&name) {
                return HashedColumn {
                    name,
                    ids,
                    any_keys,
                    resident: true,
                    capacity: ids,
                    rows: ids,
                };
            }
            let most = capacity.as_ref().map_or(t.rows, |c| *c.get(k).unwrap_or(&c[0]));
            // What is no id needs no row.
            let all = if any_keys { usize::MAX } else { t.rows };
            let capacity = most.min(all);
            let zeros = usize::from(!config.filter.is_none());
            let most = max_batch.saturating_mul(t.max_hotness);
            let kinds = config.default_value_dim.map_or(usize::MAX, |d| d as usize);
            let borrowed = if zeros == 1 { 0 } else { most.min(kinds) };
            let rows = capacity.saturating_add(borrowed).min(all) + zeros;
            HashedColumn { name, ids, any_keys, resident: false, capacity, rows }
        };
        let columns = schema.tables.iter().enumerate().map(column).collect();
        Ok(HashedSpec { config: *config, columns })
    }

    /// The columns of the data with rows for keys in place of rows for ids.
    pub fn tables(&self, schema: &Schema) -> Schema {
        let tables = schema.tables.iter().zip(&self.columns);
        let of = |(t, c): (&Column, &HashedColumn)| Column { rows: c.rows, ..t.clone() };
        Schema { tables: tables.map(of).collect(), ..schema.clone() }
    }
}
