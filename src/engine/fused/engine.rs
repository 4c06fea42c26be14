//! The fused engine: a network, its parameters, one device.

use super::{
    Pass, TrainingStep,
    deepfm::DeepFm,
    dlrm::Dlrm,
    embedding::Embedding,
    loss::Loss,
    store::{Layout, Place, Store},
};
use crate::{
    backend::{
        Backend, DotShape, InputShape, Result, TablesShape, Update, Window,
        cpu::{Cpu, CpuConfig, gemm::LinearShape},
        cuda::{Cuda, CudaConfig},
    },
    data::Batch,
    engine::{Engine, EngineConfig, EngineError, Phase, PhaseClock, check::check_batch},
    model::{DeepFmSpec, DlrmSpec, Interaction, ModelSpec, ParamKind, ParamSpec, Pooling, init::Initializer},
    optim::{LossScale, LossScaler, rules::Step},
};

enum Network<B: Backend> {
    Dlrm(Dlrm<B>),
    DeepFm(DeepFm<B>),
}

impl<B: Backend> Network<B> {
    fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.forward(pass, clock),
            Network::DeepFm(n) => n.forward(pass, clock),
        }
    }

    fn backward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward(pass, clock),
            Network::DeepFm(n) => n.backward(pass, clock),
        }
    }

    fn loss(&mut self) -> &mut Loss<B> {
        match self {
            Network::Dlrm(n) => &mut n.loss,
            Network::DeepFm(n) => &mut n.loss,
        }
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors.
    fn sparse(&self, mut f: impl FnMut(Embedding, &B::Floats) -> Result<()>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.sparse().into_iter().try_for_each(|(e, g)| f(e, g)),
            Network::DeepFm(n) => n.sparse().into_iter().try_for_each(|(e, g)| f(e, g)),
        }
    }
}

/// Trains with hand-written forward and backward passes on a device `B`.
pub struct FusedEngine<B: Backend = Cpu> {
    backend: B,
    config: EngineConfig,
    store: Store<B>,
    network: Network<B>,
    input: B::Input,
    clock: PhaseClock,
    scaler: LossScaler,
    /// Training batches seen.
    batches: u64,
    /// Updates done: as many, less those that overflowed.
    step: u64,
}

impl FusedEngine<Cpu> {
    /// The engine on the CPU, with `config.threads` threads, its parameters filled by `init` in the order of
    /// [`ModelSpec::params`].
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn new(config: &EngineConfig, init: &mut Initializer) -> std::result::Result<Self, EngineError> {
        Self::on(Cpu::new(&cpu_config(config))?, config, init)
    }
}

impl FusedEngine<Cuda> {
    /// The engine on GPU number `ordinal`, its parameters filled as on the CPU.
    ///
    /// # Errors
    /// What is missing: the driver, the GPU, a library, memory.
    pub fn on_gpu(ordinal: u32, config: &EngineConfig, init: &mut Initializer) -> std::result::Result<Self, EngineError> {
        Self::on(Cuda::open(ordinal, &cuda_config(config))?, config, init)
    }
}

impl<B: Backend> FusedEngine<B> {
    /// The engine on a device.
    ///
    /// # Errors
    /// Whatever the device says, above all that there is not enough memory.
    pub fn on(mut backend: B, config: &EngineConfig, init: &mut Initializer) -> std::result::Result<Self, EngineError> {
        let (model, rule, max_batch) = (&config.model, config.optimizer.rule, config.max_batch);
        let layout = Layout::new(model.params(), model.tables().len());
        let (sets, pooling, dense, dense_width) = match model {
            ModelSpec::Dlrm(m) => (vec![m.dim], m.pooling, m.dense, m.bottom_input()),
            ModelSpec::DeepFm(m) => (vec![m.dim, 1], Pooling::Sum, m.dense, m.dense),
        };
        let tables = sets
            .into_iter()
            .enumerate()
            .map(|(i, dim)| {
                let (rows, kind) = (model.tables(), config.embedding_rows);
                backend.tables(&TablesShape { rows, dim, kind, first: i * rows.len(), pooling, rule })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut store = Store::new(&mut backend, layout, tables, &rule)?;
        for index in 0..store.layout.specs.len() {
            store.edit(&mut backend, index, &mut |spec, at, values, pool| init.fill_part(index, spec, at, values, pool))?;
        }
        let input = backend.input(&InputShape {
            max_batch,
            dense,
            dense_width,
            rows: model.tables(),
            max_hotness: &config.max_hotness,
        })?;
        let network = match model {
            ModelSpec::Dlrm(m) => Network::Dlrm(Dlrm::new(&mut backend, &store.layout, m, config.loss, max_batch)?),
            ModelSpec::DeepFm(m) => Network::DeepFm(DeepFm::new(&mut backend, &store.layout, m, config.loss, max_batch)?),
        };
        let (config, scaler) = (config.clone(), LossScaler::new(config.loss_scale));
        Ok(FusedEngine { backend, config, store, network, input, clock: PhaseClock::default(), scaler, batches: 0, step: 0 })
    }

    /// Uploads a batch and runs the network forward; with `training`, the loss and backward too. Gradients are then scaled by the
    /// loss scale.
    fn pass(&mut self, batch: &Batch, training: bool) -> std::result::Result<Option<f32>, EngineError> {
        check_batch(&self.config, batch)?;
        self.clock.start();
        self.backend.upload(batch, &mut self.input)?;
        if training {
            self.backend.group_rows(&mut self.input)?;
        }
        self.clock.lap(Phase::Embedding);
        let step = TrainingStep { seed: self.config.seed, step: self.batches + 1 };
        let mut pass = Pass {
            backend: &mut self.backend,
            store: &mut self.store,
            input: &self.input,
            rows: batch.len,
            training: training.then_some(step),
        };
        self.network.forward(&mut pass, &mut self.clock)?;
        if !training {
            return Ok(None);
        }
        let loss = self.network.loss().forward_backward(&mut pass, self.scaler.scale() as f32)?;
        self.clock.lap(Phase::Loss);
        if !loss.is_finite() {
            return Err(EngineError::NotFinite { what: "the loss", value: loss.into(), step: step.step });
        }
        self.network.backward(&mut pass, &mut self.clock)?;
        Ok(Some(loss))
    }

    /// Whether the gradients of the last pass are numbers, all of them.
    fn gradients_are_finite(&mut self, rows: usize) -> Result<bool> {
        let FusedEngine { backend, store, network, .. } = self;
        let dense = Window::whole(store.layout.dense);
        let mut finite = backend.all_finite(dense.of(&store.grads, 1))?;
        network.sparse(|embedding, gradient| {
            finite = finite && backend.all_finite(embedding.window.of(gradient, rows))?;
            Ok(())
        })?;
        Ok(finite)
    }

    /// Clips and applies the gradients of the last pass, which are `loss_scale` times too large.
    fn update(&mut self, rows: usize, learning_rate: f64, loss_scale: f64) -> Result<()> {
        let FusedEngine { backend, store, network, input, config, .. } = self;
        let mut scale = 1.0 / loss_scale;
        let mut pass = Pass { backend, store, input, rows, training: None };
        if let Some(clip) = config.optimizer.clip_norm {
            let mut squares = pass.backend.sum_squares(&pass.store.grads)?;
            network.sparse(|embedding, gradient| {
                embedding.scaled(loss_scale).sum_squares(&mut pass, gradient).map(|s| squares += s)
            })?;
            // torch.nn.utils.clip_grad_norm_
            scale *= (clip / (squares.sqrt() / loss_scale + 1e-6)).min(1.0);
        }
        let step = Step::new(&config.optimizer.rule, learning_rate, self.step);
        let update = Update { step, scale: scale as f32, noise: (config.seed, self.step) };
        network.sparse(|embedding, gradient| embedding.scaled(loss_scale).update(&mut pass, gradient, &update))?;
        let store = &mut *pass.store;
        pass.backend.dense_update(&mut store.params, &store.grads, &mut store.state, &update)
    }

    /// Gradients of all parameters after a training pass.
    fn collect(&mut self, rows: usize) -> Result<Vec<Vec<f32>>> {
        let FusedEngine { backend, store, network, input, scaler, .. } = self;
        let mut all: Vec<Vec<f32>> = store.layout.specs.iter().map(|s| vec![0.0; s.len()]).collect();
        for (out, place) in all.iter_mut().zip(&store.layout.places) {
            if let Place::Dense(at) = *place {
                backend.read(&store.grads, at, out)?;
            }
        }
        network.sparse(|embedding, gradient| {
            let gradient = embedding.scaled(scaler.scale()).gradient::<B>(rows, gradient);
            let tables = &store.tables[embedding.set];
            for (i, place) in store.layout.places.iter().enumerate() {
                let Place::Table { set, index } = *place else { continue };
                if set == embedding.set {
                    let weights = store.layout.places.iter().position(|p| *p == Place::RowWeight { set, index });
                    let mut out = (std::mem::take(&mut all[i]), weights.map(|w| std::mem::take(&mut all[w])).unwrap_or_default());
                    backend.table_gradient(tables, index, input, gradient, (&mut out.0, &mut out.1))?;
                    all[i] = out.0;
                    if let Some(w) = weights {
                        all[w] = out.1;
                    }
                }
            }
            Ok(())
        })?;
        let factor = (1.0 / scaler.scale()) as f32;
        all.iter_mut().flatten().for_each(|g| *g *= factor);
        Ok(all)
    }
}

/// Threads and largest shapes.
fn cpu_config(config: &EngineConfig) -> CpuConfig {
    let batch = config.max_batch;
    let params = config.model.params();
    let weights = params.iter().filter(|p| p.kind == ParamKind::Weight);
    let norms = params.iter().filter(|p| p.kind == ParamKind::Scale);
    let (ModelSpec::DeepFm(DeepFmSpec { dim, .. }) | ModelSpec::Dlrm(DlrmSpec { dim, .. })) = config.model;
    let dropped = match &config.model {
        ModelSpec::DeepFm(m) if m.dropout > 0.0 => m.hidden.iter().copied().max().unwrap_or(0),
        _ => 0,
    };
    CpuConfig {
        threads: config.threads,
        pin_threads: config.pin_threads,
        precision: config.precision,
        linears: weights.map(|p| LinearShape { batch, input: p.shape[1], output: p.shape[0] }).collect(),
        norm: (batch, norms.map(ParamSpec::len).max().unwrap_or(0)),
        dropout: (if dropped > 0 { batch } else { 0 }, dropped),
        tables: (config.model.tables().len(), dim),
        dot: dot_shape(&config.model),
    }
}

/// What a GPU has to be ready for.
pub(super) fn cuda_config(config: &EngineConfig) -> CudaConfig {
    CudaConfig {
        threads: config.threads,
        pin_threads: config.pin_threads,
        precision: config.precision,
        dot: dot_shape(&config.model),
    }
}

/// The model's dot interaction.
fn dot_shape(model: &ModelSpec) -> Option<DotShape> {
    match model {
        ModelSpec::Dlrm(m) => match m.interaction {
            Interaction::Cat => None,
            Interaction::Dot { itself, .. } => Some(DotShape { features: m.features(), dim: m.dim, itself }),
        },
        ModelSpec::DeepFm(_) => None,
    }
}

fn length(spec: &ParamSpec, got: usize) -> std::result::Result<(), EngineError> {
    if spec.len() == got {
        return Ok(());
    }
    Err(EngineError::Shape(format!("parameter {} has {} elements, the buffer {got}", spec.name, spec.len())))
}

impl<B: Backend> Engine for FusedEngine<B> {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn params(&self) -> &[ParamSpec] {
        &self.store.layout.specs
    }

    fn read(&self, index: usize, out: &mut [f32]) -> std::result::Result<(), EngineError> {
        length(&self.store.layout.specs[index], out.len())?;
        Ok(self.store.read(&self.backend, index, out)?)
    }

    fn write(&mut self, index: usize, values: &[f32]) -> std::result::Result<(), EngineError> {
        length(&self.store.layout.specs[index], values.len())?;
        Ok(self.store.edit(&mut self.backend, index, &mut |_, at, to, _| to.copy_from_slice(&values[at..][..to.len()]))?)
    }

    fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> std::result::Result<f32, EngineError> {
        let loss = self.pass(batch, true)?.unwrap_or(f32::NAN);
        self.batches += 1;
        let scale = self.scaler.scale();
        let overflow = self.scaler.is_on() && !self.gradients_are_finite(batch.len)?;
        self.scaler.settle(overflow);
        if !overflow {
            self.step += 1;
            self.update(batch.len, learning_rate, scale)?;
        }
        self.clock.lap(Phase::Update);
        Ok(loss)
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> std::result::Result<(), EngineError> {
        if out.len() < batch.len {
            return Err(EngineError::Shape(format!("{} predictions do not fit {} places", batch.len, out.len())));
        }
        // The clock is for training steps.
        let clock = self.clock.clone();
        self.pass(batch, false)?;
        self.clock = clock;
        let logits = self.network.loss().logits(batch.len);
        Ok(self.backend.probabilities(logits, &mut out[..batch.len])?)
    }

    fn gradients(&mut self, batch: &Batch) -> std::result::Result<(f32, Vec<Vec<f32>>), EngineError> {
        let mut statistics = vec![0.0; self.store.layout.running];
        self.backend.read(&self.store.running, 0, &mut statistics)?;
        let loss = self.pass(batch, true)?.unwrap_or(f32::NAN);
        self.backend.write(&mut self.store.running, 0, &statistics)?;
        Ok((loss, self.collect(batch.len)?))
    }

    fn loss_scale(&self) -> Option<LossScale> {
        self.scaler.state()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        Some(&mut self.clock)
    }
}
