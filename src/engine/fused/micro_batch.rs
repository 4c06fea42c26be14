//! A batch in parts (micro-batches): rows of tables are looked up and updated for all of its
//! samples at once, and the layers in between are computed part by part, so that they need room for
//! one part only. Gradients of dense parameters are summed over the parts, in their order, before
//! the one update.

use super::{
    Pass,
    engine::Network,
    store::{ALIGN, Store},
};
use crate::{
    backend::{Backend, Result, Window},
    engine::{EngineConfig, Phase, PhaseClock},
};

/// Samples that a network has room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of a batch: what tables give and take.
    pub batch: usize,
    /// Of a part of one: all between.
    pub part: usize,
}

impl Room {
    /// What a configuration asks for.
    pub fn of(config: &EngineConfig) -> Self {
        Room { batch: config.max_batch, part: config.part() }
    }
}

/// Parts of `samples` samples with at most `part` of them each: the first sample, and how many.
fn parts(samples: usize, part: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..samples).step_by(part).map(move |first| (first, part.min(samples - first)))
}

/// How batches are cut, and the sums over their parts.
pub(crate) struct MicroBatches<B: Backend> {
    part: usize,
    /// Dense gradients of the parts before the present one; none where batches are never cut.
    sums: Option<B::Floats>,
}

impl<B: Backend> MicroBatches<B> {
    /// For batches as `config` has them, and `dense` elements of dense parameters.
    pub fn new(backend: &mut B, config: &EngineConfig, dense: usize) -> Result<Self> {
        let what = "sums of micro-batches' gradients";
        let sums = config.micro_batch.map(|_| backend.zeros(dense, what)).transpose()?;
        Ok(MicroBatches { part: config.part(), sums })
    }

    /// From the batch to the logits of all its samples.
    pub fn forward(
        &self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        network.gather(pass, clock)?;
        parts(pass.rows, self.part)
            .try_for_each(|(first, rows)| network.forward(&mut pass.part(first, rows), clock))
    }

    /// From the batch, grouped by row, to the gradients, times the loss scale.
    pub fn differentiate(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        clock.lap(Phase::Embedding);
        network.gather(pass, clock)?;
        let samples = pass.rows;
        for (first, rows) in parts(samples, self.part) {
            let mut part = pass.part(first, rows);
            network.forward(&mut part, clock)?;
            network.loss().forward_backward(&mut part)?;
            clock.lap(Phase::Loss);
            network.backward(&mut part, clock)?;
            if rows < samples {
                self.add_up(part.backend, part.store, first == 0, first + rows == samples)?;
                clock.lap(Phase::Update);
            }
        }
        network.scatter(pass, clock)
    }

    /// Adds the dense gradients of a part, the `first` or the `last` one of a batch or one between,
    /// to those before it. With the last one the sum takes the place of its gradients.
    fn add_up(
        &mut self,
        backend: &mut B,
        store: &mut Store<B>,
        first: bool,
        last: bool,
    ) -> Result<()> {
        let Some(sums) = &mut self.sums else { return Ok(()) };
        // In rows, which are what threads share out.
        let (all, rows) = (Window::whole(ALIGN), store.layout.dense / ALIGN);
        let grads = &mut store.grads;
        match (first, last) {
            (true, _) => backend.copy(all.of(grads, rows), all.of_mut(sums, rows)),
            (false, false) => backend.add(all.of(grads, rows), all.of_mut(sums, rows)),
            (false, true) => backend.add(all.of(sums, rows), all.of_mut(grads, rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_size_but_the_last() {
        let of = |samples, part| parts(samples, part).collect::<Vec<_>>();
        assert_eq!(of(10, 4), [(0, 4), (4, 4), (8, 2)]);
        assert_eq!(of(8, 4), [(0, 4), (4, 4)]);
        assert_eq!(of(3, 4), [(0, 3)]);
    }
}
