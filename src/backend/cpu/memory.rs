//! Buffers of f32 and of batches in the host's memory.

use super::{
    gemm::{Rows, RowsMut},
    groups::Groups,
    pages::{Lent, Pages},
};
use crate::{
    backend::{Mat, MatMut, Result},
    batch::{BatchLimits, CheckedBatch},
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

/// Room that a step needs beside its batch.
#[derive(Debug)]
pub struct Input {
    samples: usize,
    dense_columns: usize,
    dense_width: usize,
    /// Dense features with wider rows, `[samples, dense_width]`; empty if rows are as wide as those
    /// of a batch.
    padded: Floats,
    /// Which samples touch which row.
    groups: Groups,
}

/// A batch in the host's memory, where kernels read it in place.
#[derive(Debug)]
pub struct Uploaded<'a> {
    /// The batch.
    pub batch: CheckedBatch<'a>,
    dense: Dense<'a>,
    dense_width: usize,
    /// Which samples touch which row, once sorted.
    pub groups: &'a mut Groups,
}

/// Where dense features are.
#[derive(Debug)]
enum Dense<'a> {
    InPlace(Lent<'a>),
    Padded(&'a Floats),
}

impl Input {
    /// Room for batches within `limits`, to be grouped by `threads` threads.
    pub fn new(limits: &BatchLimits, dense_width: usize, threads: usize) -> Result<Self> {
        let BatchLimits { samples, dense, hotness, .. } = limits;
        let padded = if dense_width == *dense { 0 } else { samples * dense_width };
        Ok(Input {
            samples: *samples,
            dense_columns: *dense,
            dense_width,
            padded: Floats::zeros(padded, "a batch's dense features")?,
            groups: Groups::new(limits.ids(), hotness, *samples, threads),
        })
    }

    /// Makes a batch ready. Copies nothing but dense features that need wider rows.
    ///
    /// # Panics
    /// If the batch was checked against other limits.
    pub fn upload<'a>(&'a mut self, batch: CheckedBatch<'a>) -> Uploaded<'a> {
        let (n, columns, dense_width) = (batch.len, self.dense_columns, self.dense_width);
        assert!(n <= self.samples && batch.dense.len() == n * columns, "a batch of other limits");
        let dense = if dense_width == columns {
            Dense::InPlace(Lent::new(&batch.get().dense))
        } else {
            let from = batch.dense.chunks_exact(columns.max(1));
            for (to, from) in self.padded.get_mut().chunks_exact_mut(dense_width).zip(from) {
                to[..columns].copy_from_slice(from);
            }
            Dense::Padded(&self.padded)
        };
        Uploaded { batch, dense, dense_width, groups: &mut self.groups }
    }
}

impl Uploaded<'_> {
    /// Dense features `[B, width]`, and `width`.
    pub fn dense(&self) -> (&Floats, usize) {
        match &self.dense {
            Dense::InPlace(dense) => (dense, self.dense_width),
            Dense::Padded(dense) => (dense, self.dense_width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    #[test]
    fn dense_features_are_read_in_place_unless_they_are_padded() {
        let limits = BatchLimits::new(3, 2, vec![], vec![]);
        let batch = Batch {
            len: 2,
            dense: vec![1.0, 2.0, 3.0, 4.0],
            labels: vec![0.0, 1.0],
            ..Batch::default()
        };
        let checked = limits.check(&batch).unwrap();
        let mut input = Input::new(&limits, 2, 1).unwrap();
        let uploaded = input.upload(checked);
        let (dense, width) = uploaded.dense();
        assert_eq!(
            (dense.get().as_ptr(), dense.get(), width),
            (batch.dense.as_ptr(), &*batch.dense, 2)
        );
        let mut input = Input::new(&limits, 3, 1).unwrap();
        let uploaded = input.upload(checked);
        let (dense, width) = uploaded.dense();
        assert_eq!((&dense.get()[..6], width), (&[1.0, 2.0, 0.0, 3.0, 4.0, 0.0][..], 3));
    }
}
