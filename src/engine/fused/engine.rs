//! The fused engine: a network, its parameters, one device.

use super::{
    Pass,
    deepfm::DeepFm,
    dlrm::Dlrm,
    embedding::{Embedding, Of, PooledMut},
    look::Look,
    loss::Loss,
    micro_batch::{MicroBatches, Room},
    ranks::Ranks,
    replicas::Replicas,
    samples::Checked,
    store::{Layout, Store},
};
use crate::{
    backend::{
        Backend, MovedRows, Quantisation, Result, StepContext, StepControl, StepEnd, StepStart,
        StepSums, TablesShape, Window,
        cpu::{Cpu, CpuConfig},
        cuda::{Cuda, CudaConfig, driver::DeviceInfo},
    },
    batch::{Batch, BatchLimits, Derived, GeneratedLog, Samples},
    comm::NormRanks,
    engine::{
        Engine, EngineConfig, EngineError, EnginePosition, FillPart, LookAt, Phase, PhaseClock,
        StateSpec, TableShare, TensorId, ranks::Share, state::state_specs,
    },
    host::pool::Pool,
    metrics::{Counts, MetricsError},
    model::{ModelSpec, ParamSpec, Pooling, init::Initializer},
    optim::{LossScale, LossScaleSpec, LossScaler, OptimizerConfig},
};
use std::ops::Range;

/// Which rows of tables an engine has.
#[derive(Clone, Copy)]
pub(super) enum Has<'a> {
    /// All.
    All,
    /// Those of its rank's tables.
    Share(&'a TableShare),
    /// Room for so many of the tables that read each list of bags, which batches have as tables read
    /// them.
    Slots(&'a [usize]),
}

pub(super) enum Network<B: Backend> {
    Dlrm(Dlrm<B>),
    DeepFm(DeepFm<B>),
}

impl<B: Backend> Network<B> {
    /// From the whole batch to the pooled vectors of tables.
    pub(super) fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.pool(pass),
            Network::DeepFm(n) => n.pool(pass),
        }
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients.
    pub(super) fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.pooled_mut(of, f),
            Network::DeepFm(n) => n.pooled_mut(of, f),
        }
    }

    /// From the dense features of a part of the batch to what needs no vectors of tables.
    pub(super) fn before(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.before(pass, clock),
            Network::DeepFm(_) => Ok(()),
        }
    }

    /// From pooled vectors, and the dense features, to what layers read.
    pub(super) fn gather(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.gather(pass, clock),
            Network::DeepFm(n) => n.gather(pass, clock),
        }
    }

    /// From there, and from [`Network::before`], to the logits of a part of the batch.
    pub(super) fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.forward(pass, clock),
            Network::DeepFm(n) => n.forward(pass, clock),
        }
    }

    /// Where the gradients are that [`Network::backward_top`] sets.
    pub(super) fn top(&self, layout: &Layout) -> Range<usize> {
        match self {
            Network::Dlrm(n) => n.top(layout),
            Network::DeepFm(n) => n.top(layout),
        }
    }

    /// From the gradient of these logits back through the layers behind the interaction; sets the
    /// gradients of their parameters.
    pub(super) fn backward_top(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward_top(pass, clock),
            Network::DeepFm(n) => n.backward_top(pass, clock),
        }
    }

    /// From there to the gradients of what [`Network::gather`] left; sets those of the interaction's
    /// parameters.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward(pass, clock),
            Network::DeepFm(n) => n.backward(pass, clock),
        }
    }

    /// From there to the gradients of the parameters of [`Network::before`].
    pub(super) fn backward_before(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward_before(pass, clock),
            Network::DeepFm(_) => Ok(()),
        }
    }

    /// The part of a rank without samples in what [`Network::forward`] and [`Network::backward`] of a
    /// step gather from all ranks.
    pub(super) fn idle(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.idle(pass),
            Network::DeepFm(n) => n.idle(pass),
        }
    }

    /// From there, for the whole batch, to the gradients of pooled vectors and of the dense
    /// parameters of [`Network::gather`].
    pub(super) fn scatter(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.scatter(pass, clock),
            Network::DeepFm(n) => n.scatter(pass, clock),
        }
    }

    /// Hands out what layers gave for a part of the batch.
    pub(super) fn look(&mut self, pass: &mut Pass<'_, B>, look: &mut Look<'_>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.look(pass, look),
            Network::DeepFm(n) => n.look(pass, look),
        }
    }

    pub(super) fn loss(&mut self) -> &mut Loss<B> {
        match self {
            Network::Dlrm(n) => &mut n.loss,
            Network::DeepFm(n) => &mut n.loss,
        }
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors.
    pub(super) fn sparse(
        &self,
        mut f: impl FnMut(Embedding, &B::Floats) -> Result<()>,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.sparse(f),
            Network::DeepFm(n) => n.sparse().into_iter().try_for_each(|(e, g)| f(e, g)),
        }
    }
}

/// Trains with hand-written forward and backward passes on a device `B`.
pub struct FusedEngine<B: Backend = Cpu> {
    pub(super) backend: B,
    pub(super) config: EngineConfig,
    pub(super) store: Store<B>,
    pub(super) network: Network<B>,
    /// Tensors of the optimizer's state.
    state: Vec<StateSpec>,
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
    batches: u64,
    /// After the last step whose result was taken.
    loss_scale: LossScale,
}

impl FusedEngine<Cpu> {
    /// The engine on the CPU, with `config.threads` threads, its parameters filled by `init` in the
    /// order of [`ModelSpec::params`].
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn new(
        config: &EngineConfig,
        init: &mut Initializer,
    ) -> std::result::Result<Self, EngineError> {
        Self::on(Cpu::new(&cpu_config(config))?, config, init)
    }

    /// The part of one of several ranks, on the CPU. Its tables and layers are filled by `init`, or
    /// are zeros without it.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn ranked(
        config: &EngineConfig,
        share: &TableShare,
        init: Option<&mut Initializer>,
    ) -> std::result::Result<Self, EngineError> {
        let mut cpu = Cpu::new(&cpu_config(config))?;
        if share.comm.size() > 1 {
            let (comm, patience) = (std::rc::Rc::clone(&share.comm), share.patience);
            cpu.share_norms(NormRanks { comm, patience });
        }
        let engine = Self::unfilled(cpu, config, Has::Share(share))?;
        match init {
            Some(init) => engine.filled(init),
            None => Ok(engine),
        }
    }

    /// An engine on the CPU that only predicts, all parameters zeros: what is written to it is
    /// quantised. It makes no step and has no gradients.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough, [`EngineError::Unsupported`] if a layer is too
    /// wide.
    pub fn quantised(
        config: &EngineConfig,
        quantisation: Quantisation,
    ) -> std::result::Result<Self, EngineError> {
        let device = CpuConfig { quantisation, ..cpu_config(config) };
        Self::unfilled(Cpu::new(&device)?, config, Has::All)
    }
}

impl FusedEngine<Cuda> {
    /// The engine on GPU number `ordinal`, its parameters filled as on the CPU.
    ///
    /// # Errors
    /// What is missing: the driver, the GPU, a library, memory.
    pub fn on_gpu(
        ordinal: u32,
        config: &EngineConfig,
        init: &mut Initializer,
    ) -> std::result::Result<Self, EngineError> {
        Self::on(Cuda::open(ordinal, &cuda_config(config))?, config, init)
    }
}

impl FusedEngine<Cuda> {
    /// The part of one of several ranks, on GPU number `ordinal`; else as on the CPU.
    ///
    /// # Errors
    /// What is missing: the driver, the GPU, a library, memory.
    pub fn ranked_on_gpu(
        ordinal: u32,
        config: &EngineConfig,
        share: &TableShare,
        init: Option<&mut Initializer>,
    ) -> std::result::Result<Self, EngineError> {
        Self::ranked_on(Cuda::open(ordinal, &cuda_config(config))?, config, share, init)
    }

    fn ranked_on(
        cuda: Cuda,
        config: &EngineConfig,
        share: &TableShare,
        init: Option<&mut Initializer>,
    ) -> std::result::Result<Self, EngineError> {
        let engine = Self::unfilled(cuda, config, Has::Share(share))?;
        match init {
            Some(init) => engine.filled(init),
            None => Ok(engine),
        }
    }

    /// The GPU.
    pub(in crate::engine) fn gpu(&self) -> &DeviceInfo {
        self.backend.device()
    }
}

#[cfg(test)]
impl FusedEngine<Cuda> {
    /// The part of one of several ranks, on a GPU whose driver is given.
    pub(crate) fn ranked_on_driver(
        driver: &std::rc::Rc<dyn crate::backend::cuda::driver::Driver>,
        config: &EngineConfig,
        share: &TableShare,
        init: Option<&mut Initializer>,
    ) -> std::result::Result<Self, EngineError> {
        let cuda = Cuda::on(std::rc::Rc::clone(driver), &cuda_config(config))?;
        Self::ranked_on(cuda, config, share, init)
    }

    /// The engine on a GPU whose driver is given.
    pub(crate) fn on_driver(
        driver: &std::rc::Rc<dyn crate::backend::cuda::driver::Driver>,
        config: &EngineConfig,
        init: &mut Initializer,
    ) -> std::result::Result<Self, EngineError> {
        Self::on(Cuda::on(std::rc::Rc::clone(driver), &cuda_config(config))?, config, init)
    }
}

impl<B: Backend> FusedEngine<B> {
    /// The engine on a device.
    ///
    /// # Errors
    /// Whatever the device says, above all that there is not enough memory.
    pub fn on(
        backend: B,
        config: &EngineConfig,
        init: &mut Initializer,
    ) -> std::result::Result<Self, EngineError> {
        Self::unfilled(backend, config, Has::All)?.filled(init)
    }

    /// Fills the parameters that this engine has.
    fn filled(mut self, init: &mut Initializer) -> std::result::Result<Self, EngineError> {
        let FusedEngine { backend, store, parts, .. } = &mut self;
        for index in 0..store.layout.specs.len() {
            if init.stopped() {
                // Nobody wants the model any more.
                break;
            }
            let Some(share) = parts.share(store.layout.places[index]) else { continue };
            if !init.fills(&store.layout.specs[index]) {
                continue;
            }
            store.edit(backend, index, &mut |spec, at, values, pool| match share.is_cut() {
                false => init.fill_part(index, spec, at, values, pool),
                true => fill_rows(init, index, (spec, share), (at, values), pool),
            })?;
        }
        Ok(self)
    }

    /// The engine with parameters of zeros. Of tables that other ranks have it has no row.
    pub(super) fn unfilled(
        mut backend: B,
        config: &EngineConfig,
        has: Has<'_>,
    ) -> std::result::Result<Self, EngineError> {
        let share = match has {
            Has::Share(share) => Some(share),
            Has::All | Has::Slots(_) => None,
        };
        let ranks = share.map(|share| Ranks::new(config, share));
        let (model, rule) = (&config.model, config.optimizer.rule);
        let layout = Layout::new(model, backend.keeps_weights());
        let (pooling, dense_width) = match model {
            ModelSpec::Dlrm(m) => (m.pooling, m.bottom_input()),
            ModelSpec::DeepFm(m) => (Pooling::Sum, m.dense),
        };
        let (specs, mut tables, mut first) = (model.table_specs(), Vec::new(), 0);
        for (number, set) in model.table_sets().into_iter().enumerate() {
            let rows = set.tables.iter().enumerate().map(|(k, &t)| match (has, &ranks) {
                (Has::Slots(slots), _) => slots[set.first_read + k],
                (_, Some(ranks)) => ranks.share(number, k).map_or(0, |s| s.rows(specs[t].rows)),
                (_, None) => specs[t].rows,
            });
            let rows: Vec<usize> = rows.collect();
            tables.push(backend.tables(&TablesShape {
                rows: &rows,
                dim: set.dim,
                column: set.first_read,
                kind: config.embedding_rows,
                first,
                pooling,
                rule,
            })?);
            first += rows.len();
        }
        let store = Store::new(&mut backend, layout, tables, &rule)?;
        let mut limits = config.batch_limits();
        if let Some(share) = share {
            // Rows that ranks share are told apart by the ids that they stand for.
            if share.owners.iter().any(|owners| owners.len() > 1) {
                limits.ids = limits.rows.clone();
            }
            // A batch has no ids of other ranks' rows.
            for (column, rows) in limits.rows.iter_mut().enumerate() {
                *rows = share.own(column).map_or(0, |own| own.rows(*rows));
            }
        }
        let mut derived = config.derived(&limits);
        if let Has::Slots(slots) = has {
            limits = derived.take().map_or(limits, |d| d.limits().clone());
            limits.rows = slots.to_vec();
        }
        let input =
            backend.input(derived.as_ref().map_or(&limits, Derived::limits), dense_width)?;
        let (room, loss) = (Room::of(config), config.loss);
        let network = match model {
            ModelSpec::Dlrm(m) => {
                let room = (room, config.fp32_interaction);
                Network::Dlrm(Dlrm::new(&mut backend, &store.layout, m, loss, room)?)
            }
            ModelSpec::DeepFm(m) => {
                Network::DeepFm(DeepFm::new(&mut backend, &store.layout, m, loss, room)?)
            }
        };
        let replicas = share.map(|share| Replicas::new(&mut backend, config, share));
        let replicas = replicas.transpose()?.flatten();
        let parts = MicroBatches::new(&mut backend, config, store.layout.dense, ranks)?;
        let OptimizerConfig { clip_norm, .. } = config.optimizer;
        backend.begin(&StepControl {
            rule,
            clip_norm,
            loss_scale: config.loss_scale,
            seed: config.seed,
        })?;
        Ok(FusedEngine {
            backend,
            config: config.clone(),
            state: state_specs(config, &store.layout.specs),
            store,
            network,
            parts,
            replicas,
            limits,
            derived,
            input,
            generator: None,
            scores: None,
            clock: PhaseClock::default(),
            batches: 0,
            loss_scale: LossScaler::new(config.loss_scale).state(),
        })
    }

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

/// Fills numbers `at..` of the rows of a parameter that are here.
fn fill_rows(
    init: &mut Initializer,
    index: usize,
    (spec, share): (&ParamSpec, Share),
    (mut at, mut values): (usize, &mut [f32]),
    pool: &Pool,
) {
    // Values are drawn four at a time.
    const DRAWN: usize = 4;
    let width = spec.shape.last().copied().filter(|_| spec.shape.len() > 1).unwrap_or(1);
    let mut drawn = Vec::new();
    while !values.is_empty() {
        let column = at % width;
        let (part, rest) = values.split_at_mut(values.len().min(width - column));
        let number = share.row(at / width) * width + column;
        let first = number - number % DRAWN;
        drawn.resize(number - first + part.len(), 0.0);
        init.fill_part(index, spec, first, &mut drawn, pool);
        part.copy_from_slice(&drawn[number - first..]);
        at += part.len();
        values = rest;
    }
}

/// How a CPU is to compute.
pub(super) fn cpu_config(config: &EngineConfig) -> CpuConfig {
    let EngineConfig { threads, pin_threads, precision, .. } = *config;
    CpuConfig { threads, pin_threads, precision, quantisation: Quantisation::default() }
}

/// How a GPU is to compute.
pub(super) fn cuda_config(config: &EngineConfig) -> CudaConfig {
    let EngineConfig { threads, pin_threads, precision, ranks, .. } = *config;
    // No graph can hold that ranks wait for each other's messages.
    CudaConfig { threads, pin_threads, precision, graphs: ranks == 1 }
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
