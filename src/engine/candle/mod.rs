//! The models in plain candle operations with candle's autograd, f32: what a user of a community
//! framework would write. It is the baseline row of every table and the oracle that the fused
//! engine is tested against.
//!
//! Two things are done as a user who cares for speed would do them. Sums over the batch are
//! products with a vector of ones, since candle's reductions over any but the last dimension are
//! slow on the CPU. And where the optimizer leaves untouched rows alone, autograd sees the rows
//! that a batch touches instead of whole tables (see `lookup.rs`).

mod deepfm;
mod dlrm;
mod interaction;
mod layers;
mod lookup;
mod loss;
mod micro_batch;
mod optim;

use super::{
    Engine, EngineConfig, EngineError, EnginePosition, FillPart, NO_LOG, PhaseClock, StateSpec,
    parts, state::state_specs,
};
use crate::{
    backend::{self, InFlight, Position, StepContext, StepEnd, StepStart},
    batch::{Batch, BatchLimits, Samples},
    host::pool::Pool,
    model::{ModelSpec, ParamKind, ParamSpec, Pooling, TableSpec, init::Initializer},
    optim::{LossScaleSpec, LossScaler},
};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use layers::{Mode, Part};
use lookup::Lookup;
use optim::Optimizer;

/// A model and its optimizer in candle tensors.
pub struct CandleEngine {
    config: EngineConfig,
    limits: BatchLimits,
    specs: Vec<ParamSpec>,
    vars: Vec<Var>,
    net: Net,
    optimizer: Optimizer,
    /// Tensors of the optimizer's state.
    state: Vec<StateSpec>,
    /// Whether every row of a table moves in each step, touched or not.
    dense_rows: bool,
    /// Scratch for the distinct rows of a batch, one a table.
    slots: Vec<Vec<u32>>,
    /// Updates done.
    step: u64,
    in_flight: InFlight,
    device: Device,
}

enum Net {
    Dlrm(Box<dlrm::Dlrm>),
    DeepFm(deepfm::DeepFm),
}

impl Net {
    /// What tables give for a whole batch.
    fn pool(&self, values: &[Tensor], lookups: &[Lookup]) -> candle_core::Result<Vec<Tensor>> {
        match self {
            Net::Dlrm(net) => net.pool(values, lookups),
            Net::DeepFm(net) => net.pool(values, lookups),
        }
    }

    /// Logits `[B]` of some of its samples, with what tables give for them.
    fn forward(
        &self,
        values: &[Tensor],
        part: &Part<'_>,
        pooled: &[Tensor],
        mode: &mut Mode,
    ) -> candle_core::Result<Tensor> {
        match self {
            Net::Dlrm(net) => net.forward(values, part, pooled, mode),
            Net::DeepFm(net) => net.forward(values, part, pooled, mode),
        }
    }
}

/// A pass over a batch, forward and back.
struct Pass {
    /// Values of all parameters as the pass read them; for tables the touched rows unless rows are
    /// dense.
    values: Vec<Tensor>,
    lookups: Vec<Lookup>,
    loss: f32,
    grads: GradStore,
    /// Running statistics after this batch: parameter number and new value.
    running: Vec<(usize, Tensor)>,
}

/// Threads that candle computes on at most: those of its two pools, which are made once in a
/// process and read the environment, not a configuration. [`crate::host::env`] sets it.
pub(super) fn threads() -> usize {
    let rayon = candle_core::utils::get_num_threads();
    let named = std::env::var("CANDLE_NUM_THREADS").ok().and_then(|n| n.parse().ok());
    named.filter(|&n: &usize| n > 0).map_or(rayon, |candle| candle.max(rayon))
}

impl CandleEngine {
    /// An engine on `device` with the initial values of `init`.
    ///
    /// # Errors
    /// If candle cannot make a tensor, or does not get the device.
    pub fn new(
        device: backend::Device,
        config: &EngineConfig,
        init: &mut Initializer,
    ) -> Result<Self, EngineError> {
        let device = open(device)?;
        let specs = config.model.params();
        let pool = Pool::new(config.threads);
        let mut vars = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let mut values = vec![0f32; spec.len()];
            init.fill(index, spec, &mut values, &pool);
            vars.push(Var::from_vec(values, spec.shape.clone(), &device)?);
        }
        let net = match &config.model {
            ModelSpec::Dlrm(m) => Net::Dlrm(Box::new(dlrm::Dlrm::new(m, &device)?)),
            ModelSpec::DeepFm(m) => Net::DeepFm(deepfm::DeepFm::new(m)),
        };
        Ok(CandleEngine {
            optimizer: Optimizer::new(&config.optimizer, &specs, &device)?,
            state: state_specs(config, &specs),
            limits: config.batch_limits(),
            config: config.clone(),
            vars,
            net,
            dense_rows: config.moves_all_rows(),
            slots: tables(&config.model).iter().map(|_| Vec::new()).collect(),
            specs,
            step: 0,
            in_flight: InFlight::new(1),
            device,
        })
    }

    /// Whether parameter `index` gets a gradient.
    fn trained(&self, index: usize) -> bool {
        match self.specs[index].kind {
            ParamKind::RunningMean | ParamKind::RunningVar => false,
            ParamKind::RowWeight => {
                matches!(&self.config.model, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedLearned)
            }
            _ => true,
        }
    }

    /// The table that a sparse parameter belongs to: tables come first, then weights of their rows.
    fn table_of(&self, index: usize) -> Option<usize> {
        let sparse = matches!(self.specs[index].kind, ParamKind::Table | ParamKind::RowWeight);
        sparse.then(|| index % self.slots.len())
    }

    fn lookups(&mut self, batch: &Batch, dense_rows: bool) -> Result<Vec<Lookup>, EngineError> {
        let tables = tables(&self.config.model);
        let mut lookups = Vec::with_capacity(tables.len());
        for (table, slots) in tables.iter().zip(&mut self.slots) {
            let bags = lookup::read_by(&batch.bags[table.column], table.part);
            let slots = (!dense_rows).then_some(slots);
            lookups.push(Lookup::new(&bags, table.rows, slots, &self.device)?);
        }
        Ok(lookups)
    }

    /// A pass in training mode, as step `self.step + 1`.
    fn pass(&mut self, batch: &Batch) -> Result<Pass, EngineError> {
        self.limits.check(batch)?;
        let lookups = self.lookups(batch, self.dense_rows)?;
        let mut values = Vec::with_capacity(self.vars.len());
        for (index, var) in self.vars.iter().enumerate() {
            let rows = self.table_of(index).and_then(|k| lookups[k].rows.as_ref());
            values.push(match (rows, self.trained(index)) {
                (None, true) => var.as_tensor().clone(),
                (None, false) => var.as_detached_tensor(),
                (Some(rows), true) => {
                    Var::from_tensor(&var.as_detached_tensor().index_select(rows, 0)?)?.into_inner()
                }
                (Some(rows), false) => var.as_detached_tensor().index_select(rows, 0)?,
            });
        }
        self.differentiate(batch, values, lookups)
    }

    /// Takes the gradient of parameter `index` out of a pass, regularisation included; `None` for a
    /// constant.
    fn gradient(&self, pass: &mut Pass, index: usize) -> Result<Option<Tensor>, EngineError> {
        if !self.trained(index) {
            return Ok(None);
        }
        let value = &pass.values[index];
        let grad = match pass.grads.remove(value) {
            Some(grad) => grad,
            None => Tensor::zeros(value.shape(), DType::F32, &self.device)?,
        };
        Ok(Some(match &self.config.model {
            ModelSpec::DeepFm(m)
                if m.embedding_l2 > 0.0 && self.specs[index].kind == ParamKind::Table =>
            {
                (grad + value.detach().affine(f64::from(m.embedding_l2), 0.0)?)?
            }
            _ => grad,
        }))
    }
}

impl Engine for CandleEngine {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn params(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn notes(&self) -> Vec<String> {
        let (used, asked) = (threads(), self.config.threads);
        let other = (used != asked).then(|| {
            format!(
                "candle computes on {used} threads, as this process began with (CANDLE_NUM_THREADS, RAYON_NUM_THREADS), not on {asked}"
            )
        });
        other.into_iter().collect()
    }

    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        Ok(part(self.vars[index].as_tensor(), first, out)?)
    }

    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError> {
        let spec = &self.specs[index];
        let mut values = vec![0.0; spec.len()];
        f(0, &mut values);
        let values = Tensor::from_vec(values, spec.shape.clone(), &self.device)?;
        Ok(self.vars[index].set(&values)?)
    }

    fn write_from(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        let flat = self.vars[index].as_detached_tensor().flatten_all()?;
        flat.slice_set(&Tensor::from_slice(values, values.len(), &self.device)?, 0, first)?;
        Ok(())
    }

    fn optimizer_state(&self) -> &[StateSpec] {
        &self.state
    }

    fn read_state(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        let StateSpec { param, buffer, .. } = self.state[index];
        Ok(part(self.optimizer.state(param, buffer), first, out)?)
    }

    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        let StateSpec { param, buffer, .. } = self.state[index];
        let state = self.optimizer.state(param, buffer);
        let flat = state.flatten_all()?;
        flat.slice_set(&Tensor::from_slice(values, values.len(), &self.device)?, 0, first)?;
        Ok(())
    }

    fn position(&mut self) -> Result<EnginePosition, EngineError> {
        let loss_scale = LossScaler::new(LossScaleSpec::Off).position();
        let device = Position { updates: self.step, loss_scale };
        Ok(EnginePosition { batches: self.step, device })
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        self.step = from.batches;
        Ok(())
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        let mut pass = self.pass(batch)?;
        let loss = pass.loss;
        if !loss.is_finite() {
            return Err(EngineError::NotFinite {
                what: "the loss",
                value: f64::from(loss),
                step: self.step + 1,
                learning_rate: context.learning_rate,
            });
        }
        let mut grads = Vec::with_capacity(self.vars.len());
        for index in 0..self.vars.len() {
            grads.push(self.gradient(&mut pass, index)?);
        }
        self.step += 1;
        let scale = optim::clip_factor(self.config.optimizer.clip_norm, &grads)?;
        self.optimizer.start(self.step, context.learning_rate);
        for (index, grad) in grads.into_iter().enumerate() {
            let Some(mut grad) = grad else { continue };
            if let Some(scale) = scale {
                grad = grad.affine(scale, 0.0)?;
            }
            let rows = self.table_of(index).and_then(|k| pass.lookups[k].rows.as_ref());
            self.optimizer.update(index, &self.vars[index], &grad, rows)?;
        }
        for (index, value) in &pass.running {
            self.vars[*index].set(value)?;
        }
        let loss_scale = LossScaler::new(LossScaleSpec::Off).state();
        self.in_flight.add(StepStart { number: self.step, samples: batch.len, context });
        self.in_flight.end(loss, loss_scale, self.step);
        Ok(())
    }

    fn in_flight(&mut self) -> usize {
        self.in_flight.len()
    }

    fn finished(&mut self, _wait: bool) -> Result<Option<StepEnd>, EngineError> {
        Ok(self.in_flight.take_oldest())
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        self.limits.check(batch)?;
        if out.len() < batch.len {
            return Err(EngineError::Shape(format!(
                "room for {} predictions, {} samples",
                out.len(),
                batch.len
            )));
        }
        let lookups = self.lookups(batch, true)?;
        let values: Vec<Tensor> = self.vars.iter().map(Var::as_detached_tensor).collect();
        let pooled = self.net.pool(&values, &lookups)?;
        for samples in parts(batch.len, self.config.part()) {
            let of_part = micro_batch::of_part(&pooled, &samples, batch.len)?;
            let part = Part { batch, samples: samples.clone() };
            let logits = self.net.forward(&values, &part, &of_part, &mut Mode::predict())?;
            out[samples].copy_from_slice(&loss::sigmoid(&logits)?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    fn gradients(&mut self, batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        let mut pass = self.pass(batch)?;
        let mut all = Vec::with_capacity(self.vars.len());
        for (index, spec) in self.specs.iter().enumerate() {
            let Some(grad) = self.gradient(&mut pass, index)? else {
                all.push(vec![0.0; spec.len()]);
                continue;
            };
            let rows = self.table_of(index).and_then(|k| pass.lookups[k].rows.as_ref());
            let grad = match rows {
                Some(rows) => Tensor::zeros(spec.shape.clone(), DType::F32, &self.device)?
                    .index_add(rows, &grad, 0)?,
                None => grad,
            };
            all.push(grad.flatten_all()?.to_vec1()?);
        }
        Ok((pass.loss, all))
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        None
    }
}

/// Copies elements `first..` of a tensor out.
fn part(from: &Tensor, first: usize, out: &mut [f32]) -> candle_core::Result<()> {
    let flat = from.detach().flatten_all()?;
    out.copy_from_slice(&flat.narrow(0, first, out.len())?.to_vec1::<f32>()?);
    Ok(())
}

/// The tables whose bags are looked up; a DeepFM's narrow ones read those of its wide ones.
fn tables(model: &ModelSpec) -> Vec<TableSpec> {
    let mut tables = model.table_specs();
    tables.truncate(model.reads().len());
    tables
}

/// The device as candle knows it.
#[cfg(feature = "candle-cuda")]
fn open(device: backend::Device) -> Result<Device, EngineError> {
    Ok(match device {
        backend::Device::Cuda(n) => Device::new_cuda(n as usize)?,
        backend::Device::Npu(_) => return Err(not_built(device)),
        backend::Device::Cpu | backend::Device::Auto => Device::Cpu,
    })
}

#[cfg(not(feature = "candle-cuda"))]
fn open(device: backend::Device) -> Result<Device, EngineError> {
    match device {
        backend::Device::Cuda(_) => {
            Err(EngineError::Unsupported(format!("{device}: {}", super::NO_CANDLE_CUDA)))
        }
        backend::Device::Npu(_) => Err(not_built(device)),
        backend::Device::Cpu | backend::Device::Auto => Ok(Device::Cpu),
    }
}

fn not_built(device: backend::Device) -> EngineError {
    EngineError::Unsupported(format!("{device}: not built"))
}
