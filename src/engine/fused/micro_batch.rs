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
    engine::{EngineConfig, Phase, PhaseClock, parts},
};
use std::ops::Range;

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

/// How batches are cut, and the sums over their parts.
pub(crate) struct MicroBatches<B: Backend> {
    part: usize,
    /// Whether the last part alone has gradients ([`EngineConfig::last_part_only`]).
    last_only: bool,
    /// Dense gradients of the parts before the present one; none where batches are never cut.
    sums: Option<B::Floats>,
}

impl<B: Backend> MicroBatches<B> {
    /// For batches as `config` has them, and `dense` elements of dense parameters.
    pub fn new(backend: &mut B, config: &EngineConfig, dense: usize) -> Result<Self> {
        let what = "sums of micro-batches' gradients";
        let sums = config.micro_batch.map(|_| backend.zeros(dense, what)).transpose()?;
        Ok(MicroBatches { part: config.part(), last_only: config.last_part_only, sums })
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
            .try_for_each(|part| network.forward(&mut pass.part(part), clock))
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
        for Range { start, end } in parts(samples, self.part) {
            let mut part = pass.part(start..end);
            network.forward(&mut part, clock)?;
            let last = end == samples;
            let over = if self.last_only { end - start } else { samples };
            network.loss().forward_backward(&mut part, over)?;
            if self.last_only && !last {
                network.loss().drop_gradient(part.backend)?;
            }
            clock.lap(Phase::Loss);
            network.backward(&mut part, clock)?;
            if end - start < samples {
                self.add_up(part.backend, part.store, start == 0, last)?;
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
