//! Embedding bags: which rows of a table a batch reads, and how they are pooled.
//!
//! candle's gradient of `index_select` is a tensor of the table's full size, which at millions of
//! rows costs far more than the model itself. Where untouched rows need no gradient, the distinct
//! rows of the batch are therefore copied into a leaf of their own `[U, d]`; the ids are then
//! positions in that leaf, and the gradient has `U` rows, duplicates summed.

use crate::{
    batch::Bags,
    model::{Part, Pooling},
};
use candle_core::{DType, Device, Result, Tensor};
use std::borrow::Cow;

/// The bags of a table that is read by a part of each id.
pub(super) fn read_by(bags: &Bags, part: Part) -> Cow<'_, Bags> {
    let by = match part {
        Part::Whole => return Cow::Borrowed(bags),
        Part::Quotient(by) | Part::Remainder(by) => by,
    };
    let indices = bags.indices.iter().map(|&id| {
        let quotient = id / by;
        if matches!(part, Part::Quotient(_)) { quotient } else { id - by * quotient }
    });
    Cow::Owned(Bags::new(indices.collect(), bags.offsets.clone()))
}

/// One categorical column of a batch, as a table reads it.
pub(super) struct Lookup {
    /// The distinct rows `[U]` in order of first appearance, if the leaf holds only these.
    pub rows: Option<Tensor>,
    /// Row of the leaf for each id of the batch, `[n]`; `None` if all bags are empty.
    ids: Option<Tensor>,
    /// Sample of each id `[n]`; `None` if every bag holds exactly one.
    samples: Option<Tensor>,
    /// One over the number of ids `[B, 1]` (1 for an empty bag).
    shares: Tensor,
    batch: usize,
    device: Device,
}

impl Lookup {
    /// Looks at `bags`, whose ids are below `rows`. With `slots` (scratch that is all zero between
    /// calls) the leaf holds only the distinct rows, otherwise it is the whole table.
    pub fn new(
        bags: &Bags,
        rows: usize,
        slots: Option<&mut Vec<u32>>,
        device: &Device,
    ) -> Result<Self> {
        let batch = bags.offsets.len() - 1;
        let n = bags.indices.len();
        let sizes = || bags.offsets.windows(2).map(|w| w[1] - w[0]);
        let mut lookup = Lookup {
            rows: None,
            ids: None,
            samples: None,
            shares: Tensor::from_iter(sizes().map(|s| 1.0 / s.max(1) as f32), device)?
                .reshape((batch, 1))?,
            batch,
            device: device.clone(),
        };
        if let Some(slots) = slots {
            let (distinct, positions) = distinct_rows(&bags.indices, rows, slots);
            let u = distinct.len();
            lookup.rows = Some(Tensor::from_vec(distinct, u, device)?);
            lookup.ids = (n > 0).then(|| Tensor::from_vec(positions, n, device)).transpose()?;
        } else if n > 0 {
            lookup.ids = Some(Tensor::from_slice(&bags.indices, n, device)?);
        }
        if !bags.is_one_hot() {
            let samples = sizes()
                .enumerate()
                .flat_map(|(b, size)| std::iter::repeat_n(b as u32, size as usize));
            lookup.samples = Some(Tensor::from_vec(samples.collect::<Vec<_>>(), n, device)?);
        }
        Ok(lookup)
    }

    /// Pools rows of `leaf` `[U, d]` into `[B, d]`; `weights` `[U, 1]` for the weighted kinds.
    pub fn pool(
        &self,
        leaf: &Tensor,
        weights: Option<&Tensor>,
        pooling: Pooling,
    ) -> Result<Tensor> {
        let zeros = || Tensor::zeros((self.batch, leaf.dim(1)?), DType::F32, &self.device);
        let Some(ids) = &self.ids else { return zeros() };
        let mut picked = leaf.index_select(ids, 0)?;
        if let Some(weights) = weights {
            picked = picked.broadcast_mul(&weights.index_select(ids, 0)?)?;
        }
        let Some(samples) = &self.samples else { return Ok(picked) };
        let sums = zeros()?.index_add(samples, &picked, 0)?;
        match pooling {
            Pooling::Mean => sums.broadcast_mul(&self.shares),
            _ => Ok(sums),
        }
    }
}

/// The distinct `ids` in order of first appearance, and the position among them of each id.
fn distinct_rows(ids: &[u32], rows: usize, slots: &mut Vec<u32>) -> (Vec<u32>, Vec<u32>) {
    slots.resize(rows, 0);
    let mut distinct = Vec::new();
    let positions = ids
        .iter()
        .map(|&id| {
            let slot = &mut slots[id as usize];
            if *slot == 0 {
                distinct.push(id);
                *slot = distinct.len() as u32;
            }
            *slot - 1
        })
        .collect();
    distinct.iter().for_each(|&id| slots[id as usize] = 0);
    (distinct, positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_rows_in_order_and_scratch_left_clean() {
        let mut slots = Vec::new();
        for _ in 0..2 {
            let (distinct, positions) = distinct_rows(&[7, 2, 7, 0, 2], 9, &mut slots);
            assert_eq!((distinct, positions), (vec![7, 2, 0], vec![0, 1, 0, 2, 1]));
            assert_eq!(slots, [0; 9]);
        }
        assert_eq!(distinct_rows(&[], 9, &mut slots), (vec![], vec![]));
    }
}
