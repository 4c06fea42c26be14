//! Rows of the file in checkpoints: handed out where they are, and taken up there.

use super::CachedEngine;
use crate::{
    checkpoint::{ReferredRows, RowColumn, RowTensor, SavedRows},
    engine::{EngineError, TensorId},
};

/// Rows that are read out of an engine at once.
const PART: usize = 1 << 12;

impl CachedEngine {
    /// Brings rows that have changed to the file, and hands out where all are.
    pub(super) fn seal(&mut self) -> Result<Option<SavedRows>, EngineError> {
        self.settle()?;
        for column in 0..self.parts.len() {
            for rows in self.store.changed(column).chunks(PART) {
                self.keep_now(&vec![(column, rows.to_vec())])?;
                self.store.clean(column, rows);
            }
        }
        let columns = self.row_columns();
        Ok(self.store.seal()?.map(|sealed| SavedRows { sealed, columns }))
    }

    /// Goes on with the segments of a checkpoint, if they hold what is kept here.
    pub(super) fn adopt(&mut self, rows: &ReferredRows) -> bool {
        rows.columns() == self.row_columns() && self.store.adopt(&rows.adopted(self.parts.len()))
    }

    /// What records hold, of each column whose rows are not all in memory.
    fn row_columns(&self) -> Vec<RowColumn> {
        let name = |tensor: TensorId| match tensor {
            TensorId::Parameter(i) => self.params[i].name.clone(),
            TensorId::State(i) => self.state[i].name.clone(),
        };
        let rows = |tensor: TensorId| match tensor {
            TensorId::Parameter(i) => self.params[i].shape[0],
            TensorId::State(i) => self.state[i].shape[0],
        };
        let columns = self.parts.iter().enumerate().filter(|(k, _)| self.store.caches(*k));
        let of = columns.map(|(column, parts)| RowColumn {
            column: column as u32,
            rows: parts.first().map_or(0, |part| rows(part.tensor)),
            tensors: parts
                .iter()
                .map(|part| RowTensor { name: name(part.tensor), begins: part.start.clone() })
                .collect(),
        });
        of.collect()
    }
}
