//! Buffers of f32 and of batches in the host's memory.

use super::gemm::{Rows, RowsMut};
use crate::{
    backend::{BackendError, InputShape, Mat, MatMut, Result},
    data::{Bags, Batch},
};

/// Elements of a cache line.
const LINE: usize = 16;

/// f32 that start at a cache line.
#[derive(Debug)]
pub struct Floats {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Floats {
    /// `len` zeros; `what` names their purpose should memory run out.
    pub fn zeros(len: usize, what: &str) -> Result<Self> {
        let mut values = Vec::new();
        values
            .try_reserve_exact(len + LINE)
            .map_err(|_| BackendError::Memory { what: what.to_string(), bytes: len as u64 * 4 })?;
        values.resize(len + LINE, 0.0);
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Ok(Floats { values, start, len })
    }

    /// The elements.
    pub fn get(&self) -> &[f32] {
        &self.values[self.start..self.start + self.len]
    }

    /// The elements, to change.
    pub fn get_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.len]
    }
}

impl<'a> Mat<'a, Floats> {
    /// The rows, as kernels take them.
    pub fn data(self) -> Rows<'a> {
        Rows::new(&self.buf.get()[self.window.at..], self.window.stride)
    }
}

impl<'a> MatMut<'a, Floats> {
    /// The rows, as kernels take them.
    pub fn data(self) -> RowsMut<'a> {
        RowsMut::new(&mut self.buf.get_mut()[self.window.at..], self.window.stride)
    }
}

/// A batch, checked and copied.
#[derive(Debug)]
pub struct Input {
    max_batch: usize,
    dense_columns: usize,
    dense_width: usize,
    rows: Vec<usize>,
    max_ids: Vec<usize>,
    /// Samples of the present batch.
    pub len: usize,
    /// `[max_batch, dense_width]`.
    pub dense: Floats,
    /// Labels.
    pub labels: Vec<f32>,
    /// One entry a table.
    pub bags: Vec<Bags>,
}

fn capacity<T>(n: usize, what: &str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| BackendError::Memory { what: what.to_string(), bytes: (n * size_of::<T>()) as u64 })?;
    Ok(v)
}

impl Input {
    /// Room for batches up to `shape`.
    pub fn new(shape: &InputShape<'_>) -> Result<Self> {
        let max_ids: Vec<usize> = shape.max_hotness.iter().map(|h| h * shape.max_batch).collect();
        let bags = max_ids
            .iter()
            .map(|&ids| {
                Ok(Bags { indices: capacity(ids, "a batch's ids")?, offsets: capacity(shape.max_batch + 1, "a batch's bags")? })
            })
            .collect::<Result<_>>()?;
        Ok(Input {
            max_batch: shape.max_batch,
            dense_columns: shape.dense,
            dense_width: shape.dense_width,
            rows: shape.rows.to_vec(),
            max_ids,
            len: 0,
            dense: Floats::zeros(shape.max_batch * shape.dense_width, "a batch's dense features")?,
            labels: capacity(shape.max_batch, "a batch's labels")?,
            bags,
        })
    }

    /// Elements of a row of the dense features.
    pub fn dense_width(&self) -> usize {
        self.dense_width
    }

    /// Checks a batch and copies it in. On error the batch before may be half replaced.
    pub fn upload(&mut self, batch: &Batch) -> Result<()> {
        self.check(batch)?;
        self.len = batch.len;
        let from = batch.dense.chunks_exact(self.dense_columns.max(1));
        for (to, from) in self.dense.get_mut().chunks_exact_mut(self.dense_width.max(1)).zip(from) {
            to[..from.len()].copy_from_slice(from);
        }
        self.labels.clear();
        self.labels.extend_from_slice(&batch.labels);
        for (table, (to, from)) in self.bags.iter_mut().zip(&batch.bags).enumerate() {
            // The largest id of the whole batch costs a small part of the copy; finding the culprit may take its time.
            let largest = from.indices.iter().fold(0, |a, &b| a.max(b));
            if largest as usize >= self.rows[table] && !from.indices.is_empty() {
                return shape(format!("table {table} has {} rows, but the batch holds id {largest}", self.rows[table]));
            }
            to.indices.clear();
            to.indices.extend_from_slice(&from.indices);
            to.offsets.clear();
            to.offsets.extend_from_slice(&from.offsets);
        }
        Ok(())
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let n = batch.len;
        if n == 0 {
            return shape("it has no samples".into());
        }
        if n > self.max_batch {
            return shape(format!("it has {n} samples, the buffers were made for {}", self.max_batch));
        }
        if batch.dense.len() != n * self.dense_columns {
            let (got, want) = (batch.dense.len(), self.dense_columns);
            return shape(format!("{n} samples need {want} dense features each, but there are {got} in total"));
        }
        if batch.labels.len() != n {
            return shape(format!("{n} samples have {} labels", batch.labels.len()));
        }
        if batch.bags.len() != self.rows.len() {
            return shape(format!("it has {} tables, the model {}", batch.bags.len(), self.rows.len()));
        }
        for (table, bags) in batch.bags.iter().enumerate() {
            let ids = bags.indices.len();
            let ordered = bags.offsets.windows(2).all(|w| w[0] <= w[1]);
            if bags.offsets.len() != n + 1 || !ordered || bags.offsets[0] != 0 || bags.offsets[n] as usize != ids {
                return shape(format!("the offsets of table {table} do not cut its {ids} ids into {n} bags"));
            }
            if ids > self.max_ids[table] {
                return shape(format!("table {table} has {ids} ids, the buffers were made for {}", self.max_ids[table]));
            }
        }
        Ok(())
    }
}

fn shape<T>(what: String) -> Result<T> {
    Err(BackendError::Shape(what))
}
