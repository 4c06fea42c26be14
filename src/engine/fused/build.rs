//! How a fused engine is made: on which device, with which rows, filled from what.

use super::{
    FusedEngine,
    deepfm::DeepFm,
    dlrm::Dlrm,
    micro_batch::{MicroBatches, Room},
    network::Network,
    ranks::Ranks,
    replicas::Replicas,
    store::{Layout, Store},
};
use crate::{
    backend::{
        Backend, Quantisation, StepControl, TablesShape,
        cpu::{Cpu, CpuConfig},
        cuda::{Cuda, CudaConfig, driver::DeviceInfo},
    },
    batch::Derived,
    comm::NormRanks,
    engine::{EngineConfig, EngineError, PhaseClock, TableShare, ranks::Share, state::state_specs},
    host::pool::Pool,
    model::{ModelSpec, ParamSpec, Pooling, init::Initializer},
    optim::{LossScaler, OptimizerConfig},
};

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
