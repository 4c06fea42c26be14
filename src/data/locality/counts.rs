//! How often ids were asked for, as `data profile --json` writes it and a run reads it.

use crate::data::DataError;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdCounts {
    /// Its name.
    pub table: String,
    /// How often ids of it were asked for.
    pub accesses: u64,
    /// `(c, n)`: so many ids, `n`, were asked for `c` times; by `c`.
    pub counts: Vec<(u64, u64)>,
}

/// Of the tables of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdsProfile {
    /// Samples that were looked at.
    pub samples: u64,
    /// The tables.
    pub tables: Vec<IdCounts>,
}

impl IdsProfile {
    /// Reads what `data profile --json` has written.
    ///
    /// # Errors
    /// If the file cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let invalid = |line: usize, what: String| DataError::Malformed {
            path: path.to_owned(),
            line: line.max(1) as u64,
            what: format!("{what}; write it with dlrm-bench data profile DATA --json"),
        };
        let text = fs::read_to_string(path)
            .map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let profile: IdsProfile =
            serde_json::from_str(&text).map_err(|e| invalid(e.line(), e.to_string()))?;
        for t in &profile.tables {
            let all =
                t.counts.iter().try_fold(0u64, |all, &(c, n)| all.checked_add(c.checked_mul(n)?));
            if all != Some(t.accesses) {
                let what = format!("table {:?}: its counts do not come to its accesses", t.table);
                return Err(invalid(1, what));
            }
        }
        if profile.samples == 0 {
            return Err(invalid(1, "no sample was looked at".to_owned()));
        }
        Ok(profile)
    }

    /// What is known of a table.
    pub fn of(&self, table: &str) -> Option<&IdCounts> {
        self.tables.iter().find(|t| t.table == table)
    }
}
