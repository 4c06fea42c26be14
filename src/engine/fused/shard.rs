//! Parameters with their optimizer state and no network: what a server of parameters has. It hands
//! rows and dense parameters out, and applies gradients that others have computed.
//!
//! Each tensor of rows is a set of its own, read by a batch whose sample `i` holds its `i`-th row with
//! a gradient: a sum of one term is that term, so the update is that of the engine that has the
//! gradients itself, bit by bit.

use super::{build::cpu_config, store::ALIGN};
use crate::{
    backend::{
        Backend, BackendError, RowsOf, SparseGradient, StepControl, StepStart, StepSums,
        TableState, TablesShape, Window,
        cpu::{Cpu, CpuConfig},
    },
    batch::{Bags, Batch, BatchLimits},
    embedding::RowKind,
    engine::{EngineConfig, EngineError, EnginePosition, StateSpec, TensorId},
    model::{ModelSpec, ParamKind, ParamSpec, Pooling, init::Initializer},
};

type Floats = <Cpu as Backend>::Floats;

/// Rows, their state, and room for a batch of some of them.
struct Rows {
    tables: <Cpu as Backend>::Tables,
    input: <Cpu as Backend>::Input,
    limits: BatchLimits,
    batch: Batch,
    width: usize,
    l2: f32,
}

/// A tensor that is here.
enum Tensor {
    /// At an offset of the buffer of dense parameters.
    Dense(usize),
    /// At an offset of the buffer of running statistics.
    Running(usize),
    Rows(Box<Rows>),
}

/// Some of a model's parameters.
pub(in crate::engine) struct Shard {
    backend: Cpu,
    specs: Vec<ParamSpec>,
    state: Vec<StateSpec>,
    /// By parameter; `None` = a tensor of others.
    tensors: Vec<Option<Tensor>>,
    params: Floats,
    grads: Floats,
    dense_state: Vec<Floats>,
    running: Floats,
    /// Gradients of the rows of one tensor.
    of_rows: Floats,
}

/// The gradients of one step, as they come: those of dense parameters, what running statistics were
/// and have become, those of rows.
pub(in crate::engine) struct Pushed<'a> {
    /// Tensor and gradient.
    pub dense: Vec<(usize, &'a [f32])>,
    /// Tensor, its values that the step began with, and its values then.
    pub running: Vec<(usize, &'a [f32], &'a [f32])>,
    /// Tensor, rows, none twice, and their gradients one after another. Of all that train, with rows
    /// or without.
    pub rows: Vec<(usize, &'a [u32], &'a [f32])>,
}

/// The error of a tensor that another has.
fn elsewhere() -> EngineError {
    EngineError::Unsupported("another server has this tensor".into())
}

/// For each table of a model its number among all sets, which goes into the rounding of its rows.
fn numbers(model: &ModelSpec) -> Vec<usize> {
    let mut numbers = vec![0; model.table_specs().len()];
    let tables = model.table_sets().into_iter().flat_map(|set| set.tables);
    tables.enumerate().for_each(|(number, table)| numbers[table] = number);
    numbers
}

impl Rows {
    fn new(
        backend: &mut Cpu,
        config: &EngineConfig,
        spec: &ParamSpec,
        (table, number): (usize, usize),
    ) -> Result<Self, BackendError> {
        let (rows, width) = (spec.shape[0], spec.shape[1..].iter().product());
        let of_values = spec.kind == ParamKind::Table;
        let tables = backend.tables(&TablesShape {
            rows: &[rows],
            dim: width,
            column: 0,
            kind: if of_values { config.embedding_rows } else { RowKind::Fp32 },
            first: number,
            pooling: Pooling::Sum,
            rule: config.optimizer.rule,
        })?;
        let hotness = config.max_hotness[config.model.table_specs()[table].column];
        let most = rows.min(config.max_batch * hotness).max(1);
        let limits = BatchLimits::new(most, 0, vec![rows], vec![1]);
        let l2 = match &config.model {
            ModelSpec::DeepFm(m) => m.embedding_l2,
            ModelSpec::Dlrm(_) => 0.0,
        };
        let input = backend.input(&limits, 0)?;
        let batch = Batch { bags: vec![Bags::default()], ..Batch::default() };
        Ok(Rows { tables, input, limits, batch, width, l2 })
    }

    /// Applies the gradients of some rows, which `gradients` holds one after another.
    fn update(
        &mut self,
        backend: &mut Cpu,
        rows: &[u32],
        gradients: &Floats,
    ) -> Result<(), EngineError> {
        let Rows { tables, input, limits, batch, width, l2 } = self;
        // Without a row all others may move.
        batch.len = rows.len().max(1);
        batch.labels.resize(batch.len, 0.0);
        let Bags { indices, offsets, .. } = &mut batch.bags[0];
        indices.clear();
        indices.extend_from_slice(rows);
        offsets.clear();
        offsets.extend(0..=rows.len() as u32);
        if rows.is_empty() {
            offsets.push(0);
        }
        let mut uploaded = backend.upload(limits.check(batch)?, input)?;
        backend.group_rows(&mut uploaded)?;
        let pooled = Window::whole(*width).of(gradients, rows.len().max(1));
        Ok(backend.sparse_update(tables, &uploaded, SparseGradient { pooled, l2: *l2 })?)
    }
}

/// Numbers that buffers need room for.
#[derive(Default)]
struct Room {
    dense: usize,
    running: usize,
    /// Gradients of the rows of one tensor.
    widest: usize,
}

impl Room {
    /// Places the tensors that are owned.
    fn tensors(
        &mut self,
        backend: &mut Cpu,
        config: &EngineConfig,
        specs: &[ParamSpec],
        owned: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BackendError> {
        let numbers = numbers(&config.model);
        let (mut tables, mut weights) = (0.., 0..);
        let place = |end: &mut usize, spec: &ParamSpec| {
            let at = *end;
            *end += spec.len().next_multiple_of(ALIGN);
            at
        };
        let mut tensors = Vec::with_capacity(specs.len());
        for (spec, &owned) in specs.iter().zip(owned) {
            let table = match spec.kind {
                ParamKind::Table => tables.next(),
                ParamKind::RowWeight => weights.next(),
                _ => None,
            };
            tensors.push(match table {
                _ if !owned => None,
                Some(table) => {
                    let rows = Rows::new(backend, config, spec, (table, numbers[table]))?;
                    self.widest = self.widest.max(rows.limits.samples * rows.width);
                    Some(Tensor::Rows(Box::new(rows)))
                }
                None if is_running(spec) => Some(Tensor::Running(place(&mut self.running, spec))),
                None => Some(Tensor::Dense(place(&mut self.dense, spec))),
            });
        }
        Ok(tensors)
    }
}

impl Shard {
    /// The parameters that are `owned`, filled by `init`, or zeros without it.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn new(
        config: &EngineConfig,
        owned: &[bool],
        init: Option<&mut Initializer>,
    ) -> Result<Self, EngineError> {
        let device: CpuConfig = cpu_config(config);
        let mut backend = Cpu::new(&device)?;
        let rule = config.optimizer.rule;
        backend.begin(&StepControl {
            rule,
            clip_norm: config.optimizer.clip_norm,
            loss_scale: config.loss_scale,
            seed: config.seed,
        })?;
        let specs = config.model.params();
        let mut room = Room::default();
        let tensors = room.tensors(&mut backend, config, &specs, owned)?;
        let Room { dense, running, widest } = room;
        let mut dense_state = Vec::new();
        for initial in rule.state().dense() {
            let mut buffer = backend.zeros(dense, "optimizer state of dense parameters")?;
            backend.fill(&mut buffer, initial)?;
            dense_state.push(buffer);
        }
        let mut shard = Shard {
            params: backend.zeros(dense, "dense parameters")?,
            grads: backend.zeros(dense, "gradients of dense parameters")?,
            running: backend.zeros(running, "running statistics")?,
            of_rows: backend.zeros(widest, "gradients of rows")?,
            state: config.optimizer_state(),
            dense_state,
            specs,
            tensors,
            backend,
        };
        if let Some(init) = init {
            shard.fill(init)?;
        }
        Ok(shard)
    }

    fn fill(&mut self, init: &mut Initializer) -> Result<(), EngineError> {
        let Shard { backend, specs, tensors, params, running, .. } = self;
        for (index, (spec, tensor)) in specs.iter().zip(tensors).enumerate() {
            match tensor {
                Some(_) if !init.fills(spec) => {}
                Some(Tensor::Rows(rows)) => {
                    backend.with_table(&mut rows.tables, 0, &mut |at, values, pool| {
                        init.fill_part(index, spec, at, values, pool)
                    })?;
                }
                Some(Tensor::Dense(at) | Tensor::Running(at)) => {
                    let mut values = vec![0.0; spec.len()];
                    init.fill_part(index, spec, 0, &mut values, backend.host_pool());
                    let of_params = !is_running(spec);
                    let buffer = if of_params { &mut *params } else { &mut *running };
                    backend.write(buffer, *at, &values)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Copies numbers `first..` of a tensor out; there are so many.
    ///
    /// # Errors
    /// If it is not here.
    pub fn read(&self, of: TensorId, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        let (param, buffer) = self.buffer(of);
        let done = match (&self.tensors[param], buffer) {
            (None, _) => return Err(elsewhere()),
            (Some(Tensor::Rows(rows)), None) => {
                self.backend.read_table(&rows.tables, 0, first, out)
            }
            (Some(Tensor::Rows(rows)), Some(buffer)) => {
                self.backend.read_state(&rows.tables, beside(buffer), first, out)
            }
            (Some(Tensor::Running(at)), _) => self.backend.read(&self.running, at + first, out),
            (Some(Tensor::Dense(at)), None) => self.backend.read(&self.params, at + first, out),
            (Some(Tensor::Dense(at)), Some(buffer)) => {
                self.backend.read(&self.dense_state[buffer], at + first, out)
            }
        };
        Ok(done?)
    }

    /// Sets numbers `first..` of a tensor; there are so many.
    ///
    /// # Errors
    /// If it is not here.
    pub fn write(&mut self, of: TensorId, first: usize, values: &[f32]) -> Result<(), EngineError> {
        let (param, buffer) = self.buffer(of);
        let Shard { backend, tensors, params, running, dense_state, .. } = self;
        let done = match (&mut tensors[param], buffer) {
            (None, _) => return Err(elsewhere()),
            (Some(Tensor::Rows(rows)), None) => {
                backend.write_table(&mut rows.tables, 0, first, values)
            }
            (Some(Tensor::Rows(rows)), Some(buffer)) => {
                backend.write_state(&mut rows.tables, beside(buffer), first, values)
            }
            (Some(Tensor::Running(at)), _) => backend.write(running, *at + first, values),
            (Some(Tensor::Dense(at)), None) => backend.write(params, *at + first, values),
            (Some(Tensor::Dense(at)), Some(buffer)) => {
                backend.write(&mut dense_state[buffer], *at + first, values)
            }
        };
        Ok(done?)
    }

    /// The parameter of a tensor, and which buffer of state beside it is meant.
    fn buffer(&self, of: TensorId) -> (usize, Option<usize>) {
        match of {
            TensorId::Parameter(param) => (param, None),
            TensorId::State(index) => {
                let StateSpec { param, buffer, .. } = self.state[index];
                (param, Some(buffer))
            }
        }
    }

    /// Copies rows of a tensor out, one after another.
    ///
    /// # Errors
    /// If it is not here, or has no rows.
    pub fn read_rows(
        &self,
        param: usize,
        rows: &[u32],
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let Some(Tensor::Rows(of)) = &self.tensors[param] else { return Err(elsewhere()) };
        if let Some(row) = rows.iter().find(|&&row| row as usize >= self.specs[param].shape[0]) {
            let (name, most) = (&self.specs[param].name, self.specs[param].shape[0]);
            return Err(EngineError::Shape(format!("row {row} of {name}, which has {most}")));
        }
        Ok(self.backend.read_rows(&of.tables, RowsOf::Values(0), rows, out)?)
    }

    /// Updates so far.
    ///
    /// # Errors
    /// If the device fails.
    pub fn version(&mut self) -> Result<u64, EngineError> {
        Ok(self.backend.position()?.updates)
    }

    /// Goes on where another training stood.
    ///
    /// # Errors
    /// If the device fails.
    pub fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        Ok(self.backend.go_on(from.device)?)
    }

    /// Applies the gradients of a step at once. Those of rows are summed over the batch; `sums` has
    /// the squares of all of them, wherever they are.
    ///
    /// # Errors
    /// If a row does not exist, or the device fails.
    pub fn apply(
        &mut self,
        start: StepStart,
        sums: StepSums,
        pushed: &Pushed<'_>,
    ) -> Result<(), EngineError> {
        let Shard { backend, tensors, params, grads, dense_state, running, of_rows, .. } = self;
        backend.begin_step(start)?;
        backend.set_step_sums(sums)?;
        backend.decide_update()?;
        for &(param, rows, gradients) in &pushed.rows {
            let Some(Tensor::Rows(to)) = &mut tensors[param] else { return Err(elsewhere()) };
            backend.write(of_rows, 0, gradients)?;
            to.update(backend, rows, of_rows)?;
        }
        for &(param, gradient) in &pushed.dense {
            let Some(Tensor::Dense(at)) = tensors[param] else { return Err(elsewhere()) };
            backend.write(grads, at, gradient)?;
        }
        backend.dense_update(params, grads, dense_state)?;
        for &(param, from, to) in &pushed.running {
            let Some(Tensor::Running(at)) = tensors[param] else { return Err(elsewhere()) };
            let mut now = vec![0.0; from.len()];
            backend.read(running, at, &mut now)?;
            // As far as the step has moved them; if nobody else has, to just where it did.
            for (now, (from, to)) in now.iter_mut().zip(from.iter().zip(to)) {
                *now = if now == from { *to } else { *now + (to - from) };
            }
            backend.write(running, at, &now)?;
        }
        backend.end_step()?;
        backend.in_flight().clear();
        Ok(())
    }
}

fn is_running(spec: &ParamSpec) -> bool {
    matches!(spec.kind, ParamKind::RunningMean | ParamKind::RunningVar)
}

/// State of the only table of a set.
fn beside(buffer: usize) -> TableState {
    TableState { table: 0, of_weights: false, buffer }
}
