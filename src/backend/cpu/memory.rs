//! Buffers of f32 and of batches in the host's memory.

use super::{
    gemm::{Rows, RowsMut},
    groups::Groups,
    pages::Pages,
};
use crate::{
    backend::{BackendError, InputShape, Mat, MatMut, Result},
    batch::{Bags, Batch},
};

/// A buffer of f32.
pub type Floats = Pages;

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

/// A copy of a batch.
#[derive(Debug)]
pub struct Input {
    max_batch: usize,
    dense_columns: usize,
    dense_width: usize,
    /// Samples of the present batch.
    pub len: usize,
    /// `[max_batch, dense_width]`.
    pub dense: Floats,
    /// Labels.
    pub labels: Vec<f32>,
    /// One entry a table.
    pub bags: Vec<Bags>,
    /// Which samples touch which row.
    pub groups: Groups,
}

fn capacity<T>(n: usize, what: &str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| BackendError::Memory {
        what: what.to_string(),
        bytes: (n * size_of::<T>()) as u64,
    })?;
    Ok(v)
}

impl Input {
    /// Room for batches up to `shape`, to be grouped by `threads` threads.
    pub fn new(shape: &InputShape<'_>, threads: usize) -> Result<Self> {
        let bags = |hotness: &usize| {
            let indices = capacity(hotness * shape.max_batch, "a batch's ids")?;
            Ok(Bags { indices, offsets: capacity(shape.max_batch + 1, "a batch's bags")? })
        };
        Ok(Input {
            max_batch: shape.max_batch,
            dense_columns: shape.dense,
            dense_width: shape.dense_width,
            len: 0,
            dense: Floats::zeros(shape.max_batch * shape.dense_width, "a batch's dense features")?,
            labels: capacity(shape.max_batch, "a batch's labels")?,
            bags: shape.max_hotness.iter().map(bags).collect::<Result<_>>()?,
            groups: Groups::new(shape.rows, shape.max_hotness, shape.max_batch, threads),
        })
    }

    /// Elements of a row of the dense features.
    pub fn dense_width(&self) -> usize {
        self.dense_width
    }

    /// Copies a batch in.
    ///
    /// # Panics
    /// If it is larger than what there is room for.
    pub fn upload(&mut self, batch: &Batch) {
        assert!(
            batch.len <= self.max_batch
                && batch.labels.len() == batch.len
                && batch.bags.len() == self.bags.len()
        );
        self.len = batch.len;
        let from = batch.dense.chunks_exact(self.dense_columns.max(1));
        for (to, from) in self.dense.get_mut().chunks_exact_mut(self.dense_width.max(1)).zip(from) {
            to[..from.len()].copy_from_slice(from);
        }
        self.labels.clear();
        self.labels.extend_from_slice(&batch.labels);
        for (to, from) in self.bags.iter_mut().zip(&batch.bags) {
            assert!(
                from.indices.len() <= to.indices.capacity() && from.offsets.len() == batch.len + 1
            );
            to.indices.clear();
            to.indices.extend_from_slice(&from.indices);
            to.offsets.clear();
            to.offsets.extend_from_slice(&from.offsets);
        }
    }
}
