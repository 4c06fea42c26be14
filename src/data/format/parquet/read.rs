//! Parquet files as a [`Reader`]: all rows in order.

use super::{super::Reader, super::columns::Columns, table::Table};
use crate::data::{
    DataError,
    rows::{Layout, Rows},
};
use std::path::Path;

/// Reads a whole file in order.
pub struct ParquetReader {
    table: Table,
    group: usize,
    next: u64,
}

impl ParquetReader {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        Ok(ParquetReader { table: Table::open(path, columns, 0)?, group: 0, next: 0 })
    }
}

impl Reader for ParquetReader {
    fn layout(&self) -> &Layout {
        self.table.layout()
    }

    fn len(&self) -> Option<u64> {
        Some(self.table.len())
    }

    fn told(&self) -> &[String] {
        self.table.told()
    }

    fn texts(&self) -> Vec<usize> {
        self.table.texts_among()
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        while rows.len() < n && self.next < self.table.len() {
            while self.table.start(self.group + 1) <= self.next {
                self.group += 1;
            }
            let left = self.table.start(self.group + 1) - self.next;
            let part = left.min((n - rows.len()) as u64);
            self.table.append(self.group, self.next, part as usize, rows)?;
            self.next += part;
        }
        Ok(())
    }
}
