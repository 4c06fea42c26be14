//! Gradients of a batch whose rows were brought from elsewhere: what a worker computes. Its tables
//! have room for the rows of one batch, and a batch of it has their numbers among those.

use super::{
    FusedEngine, Pass,
    build::{Has, cpu_config},
    engine::await_room,
    network::Network,
    samples::Checked,
    store::Place,
};
use crate::{
    backend::{Backend, Result, RowsOf, StepStart, StepSums, cpu::Cpu},
    batch::Batch,
    engine::{EngineConfig, EngineError},
};

/// What becomes of a batch.
pub(in crate::engine) struct Differentiated {
    /// Mean loss.
    pub loss: f32,
    /// Sums for the update.
    pub sums: StepSums,
}

impl FusedEngine<Cpu> {
    /// An engine of zeros that only computes gradients and predictions, on the CPU; the tables that
    /// read bags `k` ([`crate::model::ModelSpec::reads`]) have `slots[k]` rows. Its batches have bags
    /// as tables read them.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub(in crate::engine) fn apart(
        config: &EngineConfig,
        slots: &[usize],
    ) -> std::result::Result<Self, EngineError> {
        Self::unfilled(Cpu::new(&cpu_config(config))?, config, Has::Slots(slots))
    }

    /// Sets a dense parameter, or running statistics.
    pub(in crate::engine) fn put_dense(
        &mut self,
        param: usize,
        values: &[f32],
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.write(&mut self.backend, param, 0, values)?)
    }

    /// Sets the first rows of a table, or their weights.
    pub(in crate::engine) fn put_rows(
        &mut self,
        param: usize,
        numbers: &[u32],
        values: &[f32],
    ) -> std::result::Result<(), EngineError> {
        let (set, of) = match self.store.layout.places[param] {
            Place::Table { set, index } => (set, RowsOf::Values(index)),
            Place::RowWeight { set, index } => (set, RowsOf::Weights(index)),
            _ => return Err(EngineError::Shape("no tensor of rows".into())),
        };
        Ok(self.backend.write_rows(&mut self.store.tables[set], of, numbers, values)?)
    }

    /// Gradients of a batch, which `gradients` then reads; running statistics move. Regularisation of
    /// rows is left out.
    pub(in crate::engine) fn differentiate_apart(
        &mut self,
        batch: &Batch,
        start: StepStart,
        gradients: &mut dyn FnMut(Gradient<'_, '_>) -> std::result::Result<(), EngineError>,
    ) -> std::result::Result<Differentiated, EngineError> {
        let FusedEngine { backend, store, network, parts, limits, input, clock, config, .. } = self;
        let batch = Checked::<Cpu>::Host(limits.check(batch)?);
        await_room(backend)?;
        clock.start();
        let mut batch = batch.bring(backend, None, input)?;
        backend.begin_step(start)?;
        backend.group_rows(&mut batch)?;
        let (batch, rows) = (Cpu::borrow(&batch), start.samples);
        let mut pass = Pass { backend, store, batch, first: 0, rows, training: true, comm: None };
        parts.differentiate(&mut pass, network, clock)?;
        if config.optimizer.clip_norm.is_some() {
            pass.backend.add_squares(&pass.store.grads)?;
            network.sparse(|embedding, gradient| embedding.add_squares(&mut pass, gradient))?;
        }
        let sums = pass.backend.step_sums()?;
        pass.backend.end_step()?;
        let loss = pass.backend.in_flight().take_newest().map_or(f32::NAN, |end| end.loss);
        if loss.is_finite() {
            gradients(Gradient { pass: &mut pass, network })?;
        }
        // Whether training goes on is not decided here.
        self.backend.resume()?;
        Ok(Differentiated { loss, sums })
    }
}

/// The gradients of a step that was not applied.
pub(in crate::engine) struct Gradient<'a, 'b> {
    pass: &'a mut Pass<'b, Cpu>,
    network: &'a Network<Cpu>,
}

impl Gradient<'_, '_> {
    /// That of a dense parameter; of running statistics what they have become.
    pub fn dense(&self, param: usize, out: &mut [f32]) -> Result<()> {
        let Pass { backend, store, .. } = &*self.pass;
        match store.layout.places[param] {
            Place::Running(at) => backend.read(&store.running, at, out),
            Place::Dense(at) => backend.read(&store.grads, at, out),
            _ => Ok(()),
        }
    }

    /// Those of the first rows of a table, and of their weights if there is room for those.
    pub fn rows(&mut self, param: usize, out: &mut [f32], weights: &mut [f32]) -> Result<()> {
        let Pass { backend, store, batch, rows, .. } = &mut *self.pass;
        let Place::Table { set, index } = store.layout.places[param] else { return Ok(()) };
        self.network.sparse(|embedding, gradient| {
            if embedding.set != set {
                return Ok(());
            }
            let gradient = embedding.gradient::<Cpu>(*rows, gradient);
            backend.table_gradient(&store.tables[set], index, batch, gradient, (out, weights))
        })
    }
}
