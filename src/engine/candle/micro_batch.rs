//! A batch in parts (micro-batches): tables are looked up once for all of its samples, and autograd
//! sees the layers behind them part by part, so that only one part's intermediate tensors exist at
//! a time. Gradients are summed over the parts, in their order.

use super::{CandleEngine, EngineError, Lookup, Mode, Part, Pass, loss};
use crate::{batch::Batch, engine::parts};
use candle_core::{Result, Tensor, Var, backprop::GradStore};
use std::ops::Range;

/// The rows of `samples` in what tables give for a batch of `all`.
pub(super) fn of_part(
    pooled: &[Tensor],
    samples: &Range<usize>,
    all: usize,
) -> Result<Vec<Tensor>> {
    if samples.len() == all {
        return Ok(pooled.to_vec());
    }
    let rows = |t: &Tensor| t.narrow(0, samples.start, samples.len())?.contiguous();
    pooled.iter().map(rows).collect()
}

/// What has been gathered of the parts of a batch so far.
#[derive(Default)]
struct Sums {
    loss: f32,
    /// Of each parameter that a part had a gradient of.
    grads: Vec<Option<Tensor>>,
    /// The gradients of what tables gave, part by part.
    pooled: Vec<Vec<Tensor>>,
}

impl CandleEngine {
    /// Loss and gradients of a batch in training mode.
    pub(super) fn differentiate(
        &self,
        batch: &Batch,
        mut values: Vec<Tensor>,
        lookups: Vec<Lookup>,
    ) -> std::result::Result<Pass, EngineError> {
        let (part, seed, step) = (self.config.part(), self.config.seed, self.step + 1);
        let pooled = self.net.pool(&values, &lookups)?;
        if batch.len <= part {
            let mut mode = Mode::train(seed, step, 0);
            let loss = self.loss(&values, batch, 0..batch.len, &pooled, &mut mode)?;
            let (grads, running) = (loss.backward()?, mode.into_running());
            return Ok(Pass { values, lookups, loss: loss.to_scalar()?, grads, running });
        }
        let mut sums = Sums { grads: vec![None; values.len()], ..Sums::default() };
        sums.pooled.resize_with(pooled.len(), Vec::new);
        let mut running: Vec<(usize, Tensor)> = Vec::new();
        for samples in parts(batch.len, part) {
            // Leaves of their own, where this part's gradients end.
            let leaves = of_part(&pooled, &samples, batch.len)?;
            let leaf =
                |t: &Tensor| -> Result<Tensor> { Ok(Var::from_tensor(&t.detach())?.into_inner()) };
            let leaves = leaves.iter().map(leaf).collect::<Result<Vec<_>>>()?;
            let mut mode = Mode::train(seed, step, samples.start);
            let (share, last) = (samples.len() as f64 / batch.len as f64, samples.end == batch.len);
            let loss = self.loss(&values, batch, samples, &leaves, &mut mode)?;
            sums.loss += (share * f64::from(loss.to_scalar::<f32>()?)) as f32;
            // By which the gradients of a part's own mean are multiplied.
            let weight = match (self.config.last_part_only, last) {
                (false, _) => share,
                (true, last) => f64::from(u8::from(last)),
            };
            sums.add(&loss.affine(weight, 0.0)?, &values, &leaves)?;
            // The next part goes on from these.
            let moved = mode.into_running();
            moved.iter().for_each(|(index, value)| values[*index] = value.clone());
            running.retain(|(index, _)| moved.iter().all(|(other, _)| other != index));
            running.extend(moved);
        }
        let (loss, grads) = sums.finish(&values, &pooled)?;
        Ok(Pass { values, lookups, loss, grads, running })
    }

    /// Mean loss of some samples of a batch: a scalar.
    fn loss(
        &self,
        values: &[Tensor],
        batch: &Batch,
        samples: Range<usize>,
        pooled: &[Tensor],
        mode: &mut Mode,
    ) -> Result<Tensor> {
        let part = Part { batch, samples };
        let logits = self.net.forward(values, &part, pooled, mode)?;
        loss::mean_loss(&self.config.loss, &logits, &part.labels(&self.device)?)
    }
}

impl Sums {
    /// Adds the gradients of `loss`, a part's, by the parameters and by what tables gave.
    fn add(&mut self, loss: &Tensor, values: &[Tensor], leaves: &[Tensor]) -> Result<()> {
        let mut grads = loss.backward()?;
        for (sum, value) in self.grads.iter_mut().zip(values) {
            if let Some(grad) = grads.remove(value) {
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + grad)?,
                    None => grad,
                });
            }
        }
        for (all, leaf) in self.pooled.iter_mut().zip(leaves) {
            all.push(match grads.remove(leaf) {
                Some(grad) => grad,
                None => leaf.zeros_like()?,
            });
        }
        Ok(())
    }

    /// Loss and gradients of the batch, those of tables by way of what they gave, `pooled`.
    fn finish(self, values: &[Tensor], pooled: &[Tensor]) -> Result<(f32, GradStore)> {
        // The gradient of `sum of p * g` by `p` is `g`.
        let mut total = Tensor::zeros((), candle_core::DType::F32, values[0].device())?;
        for (p, grads) in pooled.iter().zip(&self.pooled) {
            let g = Tensor::cat(grads, 0)?.detach();
            total = (total + (p * g)?.sum_all()?)?;
        }
        let mut grads = total.backward()?;
        for (value, sum) in values.iter().zip(self.grads) {
            if let Some(sum) = sum {
                grads.insert(value, sum);
            }
        }
        Ok((self.loss, grads))
    }
}
