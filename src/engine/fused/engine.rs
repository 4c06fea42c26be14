//! The fused engine: a network, its parameters, one device.

use super::{
    Pass, micro_batch::MicroBatches, network::Network, ranks::Ranks, replicas::Replicas,
    samples::Checked, store::Store,
};
use crate::{
    backend::{
        Backend, MovedRows, Result, StepContext, StepEnd, StepStart, StepSums, Window, cpu::Cpu,
    },
    batch::{Batch, BatchLimits, Derived, GeneratedLog, Samples},
    engine::{
        Engine, EngineConfig, EngineError, EnginePosition, FillPart, LookAt, Phase, PhaseClock,
        StateSpec, TensorId,
    },
    metrics::{Counts, MetricsError},
    model::ParamSpec,
    optim::{LossScale, LossScaleSpec},
};

/// Trains with hand-written forward and backward passes on a device `B`.
pub struct FusedEngine<B: Backend = Cpu> {
    pub(super) backend: B,
    pub(super) config: EngineConfig,
    pub(super) store: Store<B>,
    pub(super) network: Network<B>,
    /// Tensors of the optimizer's state.
    pub(super) state: Vec<StateSpec>,
    pub(super) parts: MicroBatches<B>,
    /// Small tables that all ranks have.
    pub(super) replicas: Option<Replicas<B>>,
    pub(super) limits: BatchLimits,
    /// The batch as tables read it, where some stand in for others.
    pub(super) derived: Option<Derived>,
    /// Room for batches.
    pub(super) input: B::Input,
    /// Generator of samples on the device, once a log is attached.
    pub(super) generator: Option<B::Generator>,
    /// Predictions kept on the device.
    pub(super) scores: Option<B::Scores>,
    pub(super) clock: PhaseClock,
    /// Training batches seen.
    pub(super) batches: u64,
    /// After the last step whose result was taken.
    pub(super) loss_scale: LossScale,
}

impl<B: Backend> FusedEngine<B> {
    /// The device.
    pub(in crate::engine) fn backend(&self) -> &B {
        &self.backend
    }

    /// The device, to change.
    pub(in crate::engine) fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Training batches seen.
    pub(in crate::engine) fn batches(&self) -> u64 {
        self.batches
    }

    /// Waits for the steps that have begun; their results can still be taken.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if the loss of one is not finite.
    pub(in crate::engine) fn await_steps(&mut self) -> std::result::Result<(), EngineError> {
        while self.backend.fetch_result(true)? {}
        self.backend.in_flight().failed().map_or(Ok(()), |end| Err(not_finite(end)))
    }

    /// Begins a training step.
    fn step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> std::result::Result<(), EngineError> {
        let start = StepStart { number: self.batches + 1, samples: samples.len(), context };
        if self.replicas.is_some() {
            return self.step_with_replicas(samples, start);
        }
        let FusedEngine {
            backend,
            store,
            network,
            parts,
            limits,
            derived,
            input,
            generator,
            config,
            clock,
            ..
        } = self;
        let samples = Checked::<B>::new(limits, generator.as_ref(), samples)?;
        await_room(backend)?;
        clock.start();
        let mut batch = samples.bring(backend, derived.as_mut(), input)?;
        backend.begin_step(start)?;
        backend.repeat(&mut batch, &mut |backend, batch| {
            backend.group_rows(batch)?;
            let batch = B::borrow(batch);
            let rows = start.samples;
            let mut pass =
                Pass { backend, store, batch, first: 0, rows, training: true, comm: None };
            parts.differentiate(&mut pass, network, clock)?;
            Self::update(&mut pass, network, parts.ranks.as_ref(), config)?;
            clock.lap(Phase::Update);
            Ok(())
        })?;
        Ok(backend.end_step()?)
    }

    /// Checks, clips and applies the gradients of the pass.
    pub(super) fn update(
        pass: &mut Pass<'_, B>,
        network: &Network<B>,
        ranks: Option<&Ranks>,
        config: &EngineConfig,
    ) -> Result<()> {
        let rows = pass.rows;
        if config.loss_scale != LossScaleSpec::Off {
            pass.backend
                .check_finite(Window::whole(pass.store.layout.dense).of(&pass.store.grads, 1))?;
            network.sparse(|embedding, gradient| match ranks {
                None => pass.backend.check_finite(embedding.window.of(gradient, rows)),
                Some(ranks) => ranks.check_finite(pass, &embedding, gradient),
            })?;
        }
        // All ranks have the same dense gradients.
        let mut squares = 0.0;
        if config.optimizer.clip_norm.is_some() {
            pass.backend.add_squares(&pass.store.grads)?;
            if ranks.is_some() {
                let sums = pass.backend.step_sums()?;
                squares = sums.squares;
                pass.backend.set_step_sums(StepSums { squares: 0.0, ..sums })?;
            }
            network.sparse(|embedding, gradient| embedding.add_squares(pass, gradient))?;
        }
        if let Some(ranks) = ranks {
            ranks.join(pass.backend, squares)?;
        }
        pass.backend.decide_update()?;
        network.sparse(|embedding, gradient| embedding.update(pass, gradient))?;
        let store = &mut *pass.store;
        pass.backend.dense_update(&mut store.params, &store.grads, &mut store.state)
    }

    /// Rows of a tensor, as the backend knows them.
    fn moved<'a>(
        &self,
        of: TensorId,
        numbers: &'a [u32],
    ) -> std::result::Result<MovedRows<'a>, EngineError> {
        let (set, of) = self.store.rows_of(of, &self.state).ok_or_else(no_rows)?;
        Ok(MovedRows { set, of, numbers })
    }

    /// Forgets a step whose loss is not finite, and those behind it. They have changed nothing.
    fn go_back_before(&mut self, number: u64) -> Result<()> {
        while self.backend.fetch_result(true)? {}
        self.backend.in_flight().clear();
        self.batches = number - 1;
        self.backend.resume()
    }
}

/// Waits until the device can take another step.
///
/// # Errors
/// [`EngineError::NotFinite`] if it is known that a loss is not finite.
pub(super) fn await_room<B: Backend>(backend: &mut B) -> std::result::Result<(), EngineError> {
    while backend.in_flight().computing() >= B::AHEAD {
        backend.fetch_result(true)?;
    }
    backend.in_flight().failed().map_or(Ok(()), |end| Err(not_finite(end)))
}

fn no_rows() -> EngineError {
    EngineError::Shape("rows by their numbers are those of tables".into())
}

fn not_finite(end: &StepEnd) -> EngineError {
    EngineError::NotFinite {
        what: "the loss",
        value: end.loss.into(),
        step: end.start.number,
        learning_rate: end.start.context.learning_rate,
    }
}

impl<B: Backend> Engine for FusedEngine<B> {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn params(&self) -> &[ParamSpec] {
        &self.store.layout.specs
    }

    fn read_from(
        &self,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.read(&self.backend, index, first, out)?)
    }

    fn write_with(
        &mut self,
        index: usize,
        f: &mut FillPart<'_>,
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.edit(&mut self.backend, index, &mut |_, at, to, _| f(at, to))?)
    }

    fn write_from(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.write(&mut self.backend, index, first, values)?)
    }

    fn optimizer_state(&self) -> &[StateSpec] {
        &self.state
    }

    fn read_state(
        &self,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.read_state(&self.backend, &self.state[index], first, out)?)
    }

    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> std::result::Result<(), EngineError> {
        Ok(self.store.write_state(&mut self.backend, &self.state[index], first, values)?)
    }

    fn read_rows(
        &self,
        of: TensorId,
        rows: &[u32],
        out: &mut [f32],
    ) -> std::result::Result<(), EngineError> {
        let (set, what) = self.store.rows_of(of, &self.state).ok_or_else(no_rows)?;
        Ok(self.backend.read_rows(&self.store.tables[set], what, rows, out)?)
    }

    fn write_rows(
        &mut self,
        of: TensorId,
        rows: &[u32],
        values: &[f32],
    ) -> std::result::Result<(), EngineError> {
        let (set, what) = self.store.rows_of(of, &self.state).ok_or_else(no_rows)?;
        Ok(self.backend.write_rows(&mut self.store.tables[set], what, rows, values)?)
    }

    fn move_in(
        &mut self,
        rows: &[(TensorId, &[u32], &[f32])],
    ) -> std::result::Result<(), EngineError> {
        let pieces = rows.iter().map(|&(of, rows, values)| Ok((self.moved(of, rows)?, values)));
        let pieces = pieces.collect::<std::result::Result<Vec<_>, EngineError>>()?;
        Ok(self.backend.move_in(&mut self.store.tables, &pieces)?)
    }

    fn begin_moving_out(
        &mut self,
        rows: &[(TensorId, &[u32])],
    ) -> std::result::Result<bool, EngineError> {
        let pieces = rows.iter().map(|&(of, rows)| self.moved(of, rows));
        let pieces = pieces.collect::<std::result::Result<Vec<_>, EngineError>>()?;
        Ok(self.backend.begin_moving_out(&self.store.tables, &pieces)?)
    }

    fn moved_out(&mut self, out: &mut Vec<f32>) -> std::result::Result<(), EngineError> {
        Ok(self.backend.moved_out(out)?)
    }

    fn position(&mut self) -> std::result::Result<EnginePosition, EngineError> {
        Ok(EnginePosition { batches: self.batches, device: self.backend.position()? })
    }

    fn go_on(&mut self, from: EnginePosition) -> std::result::Result<(), EngineError> {
        self.batches = from.batches;
        self.loss_scale = from.device.loss_scale.scale;
        Ok(self.backend.go_on(from.device)?)
    }

    fn attach_generator(&mut self, log: &GeneratedLog) -> std::result::Result<bool, EngineError> {
        self.attach_log(log)
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> std::result::Result<(), EngineError> {
        self.step(samples, context)?;
        self.batches += 1;
        Ok(())
    }

    fn in_flight(&mut self) -> usize {
        self.backend.in_flight().len()
    }

    fn finished(&mut self, wait: bool) -> std::result::Result<Option<StepEnd>, EngineError> {
        let Some(end) = self.backend.finished(wait)? else { return Ok(None) };
        self.loss_scale = end.loss_scale;
        if !end.loss.is_finite() {
            self.go_back_before(end.start.number)?;
            return Err(not_finite(&end));
        }
        Ok(Some(end))
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> std::result::Result<(), EngineError> {
        self.predict_batch(batch, out)
    }

    fn begin_scores(&mut self, samples: u64) -> std::result::Result<bool, EngineError> {
        Ok(self.backend.begin_scores(samples, &mut self.scores)?)
    }

    fn score(&mut self, samples: Samples<'_>) -> std::result::Result<(), EngineError> {
        self.score_samples(samples)
    }

    fn count_scores(
        &mut self,
    ) -> std::result::Result<std::result::Result<Counts, MetricsError>, EngineError> {
        self.count()
    }

    fn look(
        &mut self,
        batch: &Batch,
        at: &mut LookAt<'_>,
    ) -> std::result::Result<bool, EngineError> {
        self.look_at(batch, at).map(|()| true)
    }

    fn gradients(
        &mut self,
        batch: &Batch,
    ) -> std::result::Result<(f32, Vec<Vec<f32>>), EngineError> {
        let context = StepContext::at_rate(0.0);
        let start = StepStart { number: self.batches + 1, samples: batch.len, context };
        let (end, all) = self.differentiate_only(batch, start)?;
        let Some(all) = all else {
            self.go_back_before(start.number)?;
            return Err(not_finite(&end));
        };
        Ok((end.loss, all))
    }

    fn loss_scale(&self) -> Option<LossScale> {
        (self.config.loss_scale != LossScaleSpec::Off).then_some(self.loss_scale)
    }

    fn notes(&self) -> Vec<String> {
        self.backend.notes()
    }

    /// None where the device computes beside the host: what the host sees there is when operations
    /// are asked for, not when they are done.
    fn device_memory(&self) -> Option<u64> {
        self.backend.memory_in_use()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        (B::AHEAD == 1).then_some(&mut self.clock)
    }
}
