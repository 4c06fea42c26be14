//! How a model is computed: forward, backward, update, prediction.

mod build;
mod cached;
mod candle;
pub(crate) mod cost;
mod fused;
mod hashed;
mod look;
pub mod memory;
mod phase;
mod quantised;
pub mod ranks;
mod state;

use crate::{
    backend::{BackendError, Device, Precision, StepContext, StepEnd},
    batch::{Batch, BatchLimits, Derived, GeneratedLog, Misfit, Samples},
    checkpoint::{ReferredRows, SavedRows},
    comm::CommError,
    embedding::{
        RowKind, TableUse,
        cached::{CachedSpec, RowFileError},
        hashed::{Full, HashedSpec, HashedTable, SavedTable},
    },
    metrics::{Counts, MetricsError},
    model::{DeepFmSpec, DlrmSpec, LossSpec, ModelSpec, ParamSpec, Part},
    optim::{LossScale, LossScaleSpec, OptimizerConfig},
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub use build::build;
pub use candle::CandleEngine;
pub use fused::FusedEngine;
pub use look::{LayerOutput, LookAt, Summary};
pub use phase::{Lap, Phase, PhaseClock};
pub use quantised::{HASHED, ModelBytes, can_quantise, quantised, quantised_plan};
pub use ranks::{SLICES, SumOrder, TableShare, server::Served};
pub use state::{EnginePosition, StateSpec, TensorId};

/// Errors of an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The batch does not fit the model or the buffers.
    #[error("batch does not fit the model: {0}")]
    Shape(String),
    /// Something the engine cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// Loss or a prediction is not a number.
    #[error("{what} is {value} at step {step}")]
    NotFinite {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: f64,
        /// 1-based step.
        step: u64,
        /// Rate of that step.
        learning_rate: f64,
    },
    /// Rows that are not in memory cannot be had.
    #[error(transparent)]
    Rows(#[from] RowFileError),
    /// A table that grows has no row left.
    #[error(transparent)]
    Full(#[from] Full),
    /// Other ranks.
    #[error(transparent)]
    Ranks(#[from] CommError),
    /// Other ranks, in a step of training.
    #[error("{source} at step {step}")]
    RanksInStep {
        /// 1-based.
        step: u64,
        /// What is wrong.
        source: CommError,
    },
    /// candle's own error.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// Memory could not be had.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// Purpose.
        what: String,
        /// Amount.
        bytes: u64,
    },
}

impl From<BackendError> for EngineError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Memory { what, bytes } => EngineError::Memory { what, bytes },
            BackendError::Device(what) => EngineError::Unsupported(what),
            BackendError::Ranks(error) => EngineError::Ranks(error),
        }
    }
}

impl From<Misfit> for EngineError {
    fn from(Misfit(what): Misfit) -> Self {
        EngineError::Shape(what)
    }
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Ours.
    Fused,
    /// candle's tensors and autograd.
    Candle,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [EngineKind; 2] = [EngineKind::Fused, EngineKind::Candle];

    /// Its word in workload files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Fused => "fused",
            EngineKind::Candle => "candle",
        }
    }
}

/// Everything an engine needs to make its buffers once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineConfig {
    /// The model.
    pub model: ModelSpec,
    /// The loss.
    pub loss: LossSpec,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Largest batch of training or evaluation, in samples.
    pub max_batch: usize,
    /// Samples of a micro-batch: larger batches are computed in parts of so many, the last one
    /// maybe shorter, whose gradients are summed before the update. `None` = as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Of the parts of a batch the last one alone has gradients, those of the mean over its own
    /// samples; the others have a loss and are thrown away (quirk `fb.grad-accum-drops`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_part_only: bool,
    /// Ranks that train together. Each computes the layers for its part of a batch.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// In which order gradients of dense parameters are summed.
    #[serde(default, skip_serializing_if = "SumOrder::is_rank")]
    pub sum_order: SumOrder,
    /// Whether rows of one table may be on several ranks ([`ranks::place`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split_rows: bool,
    /// Whether all ranks have small tables ([`ranks::place`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicate_small: bool,
    /// Gradients of tables are as many times too large as there are ranks (quirk
    /// `fb.table-gradients-by-ranks`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tables_by_ranks: bool,
    /// The most ids one sample can hold, per table.
    pub max_hotness: Vec<usize>,
    /// Threads of the fused engine's pool, at least 1.
    pub threads: usize,
    /// Pin pool threads to cores.
    pub pin_threads: bool,
    /// Rounding of the operands of the fused engine's matrix products.
    pub precision: Precision,
    /// Keep what meets in a DLRM's interaction, and what comes of it, in f32 where a GPU would keep
    /// it as products round it. The interaction is `dot` or `cat`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fp32_interaction: bool,
    /// Scaling of the fused engine's gradients.
    pub loss_scale: LossScaleSpec,
    /// In what form embedding rows are kept (`fused` only; candle keeps f32).
    pub embedding_rows: RowKind,
    /// Tables that grow: `model` has their rows, and here is for how many keys. `None` = a table has
    /// a row for each id.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub hashed: Option<HashedSpec>,
    /// Tables larger than memory: how many of the model's rows are in it. `None` = all.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedSpec>,
    /// Where rows stand for some of larger tables' rows: the rows of those, one number a table.
    /// Empty = they stand for themselves.
    #[serde(skip)]
    pub stand_for: Vec<usize>,
    /// Seed of dropout masks and of stochastic rounding.
    pub seed: u64,
}

fn one() -> usize {
    1
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

/// Parts of `samples` samples with `part` of them each, but for the last one.
fn parts(samples: usize, part: usize) -> impl Iterator<Item = Range<usize>> {
    (0..samples).step_by(part).map(move |first| first..samples.min(first + part))
}

impl EngineConfig {
    /// Samples that layers compute on at most: a micro-batch, or a whole batch.
    pub fn part(&self) -> usize {
        let part = self.micro_batch.map_or(self.max_batch, |n| n.clamp(1, self.max_batch));
        part.div_ceil(self.ranks)
    }

    /// Sizes that batches must fit.
    pub fn batch_limits(&self) -> BatchLimits {
        let dense = match &self.model {
            ModelSpec::Dlrm(m) => m.dense,
            ModelSpec::DeepFm(m) => m.dense,
        };
        BatchLimits {
            ids: self.stand_for.clone(),
            ..BatchLimits::new(
                self.max_batch,
                dense,
                self.model.tables().to_vec(),
                self.max_hotness.clone(),
            )
        }
    }

    /// The model with a row for each id: what initial values are drawn for.
    pub fn whole_model(&self) -> ModelSpec {
        let mut model = self.model.clone();
        if let Some(spec) = &self.hashed {
            *tables_mut(&mut model) = spec.columns.iter().map(|c| c.ids).collect();
        }
        model
    }

    /// Room for batches as tables read them, if some stand in for others; `limits` are those of
    /// [`EngineConfig::batch_limits`].
    pub fn derived(&self, limits: &BatchLimits) -> Option<Derived> {
        let (reads, specs) = (self.model.reads(), self.model.table_specs());
        let plain = |(k, read): (usize, &(usize, Part))| *read == (k, Part::Whole);
        if reads.iter().enumerate().all(plain) {
            return None;
        }
        let tables = self.model.table_sets().into_iter().flat_map(|set| set.tables);
        let rows = tables.map(|t| match limits.rows[specs[t].column] {
            // Another rank has them.
            0 => 0,
            _ => specs[t].rows,
        });
        Some(Derived::new(limits, reads, rows.collect()))
    }

    /// Whether rows of tables move that a batch does not touch: the rule, or a regularisation of
    /// all rows, asks for it.
    pub fn moves_all_rows(&self) -> bool {
        self.optimizer.rule.state().moves_all_rows
            || matches!(&self.model, ModelSpec::DeepFm(m) if m.embedding_l2 > 0.0)
    }
}

/// The rows of a model's columns.
fn tables_mut(model: &mut ModelSpec) -> &mut Vec<usize> {
    let (ModelSpec::Dlrm(DlrmSpec { tables, .. }) | ModelSpec::DeepFm(DeepFmSpec { tables, .. })) =
        model;
    tables
}

/// Sets a part of a tensor: its first element, its values.
pub type FillPart<'a> = dyn FnMut(usize, &mut [f32]) + 'a;

/// A model in training. Losses are the data term only (regularisation moves the gradients, not the
/// printed loss).
pub trait Engine {
    /// Name for the record: `fused` or `candle`.
    fn name(&self) -> &'static str;

    /// All parameters, in the order of [`ModelSpec::params`].
    fn params(&self) -> &[ParamSpec];

    /// Copies parameter `index` out.
    ///
    /// # Errors
    /// If `out` has another length than the parameter, or the device fails.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), EngineError> {
        fits(&self.params()[index], out.len())?;
        self.read_from(index, 0, out)
    }

    /// Copies elements `first..` of parameter `index` out; there are so many. What is read is exact,
    /// in whatever form it is kept: written back, it is as it was.
    ///
    /// # Errors
    /// If the device fails.
    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError>;

    /// Sets parameter `index`.
    ///
    /// # Errors
    /// If `values` has another length than the parameter, or the device fails.
    fn write(&mut self, index: usize, values: &[f32]) -> Result<(), EngineError> {
        fits(&self.params()[index], values.len())?;
        self.write_with(index, &mut |first, part| {
            part.copy_from_slice(&values[first..][..part.len()])
        })
    }

    /// Sets parameter `index` in consecutive parts: `f(first element, part)`.
    ///
    /// # Errors
    /// If the device fails.
    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError>;

    /// Sets elements `first..` of parameter `index`, which the device does not keep in a form of its
    /// own; there are so many.
    ///
    /// # Errors
    /// If the device fails.
    fn write_from(&mut self, index: usize, first: usize, values: &[f32])
    -> Result<(), EngineError>;

    /// The tensors of the optimizer's state, parameter by parameter.
    fn optimizer_state(&self) -> &[StateSpec];

    /// Copies numbers `first..` of tensor `index` of the optimizer's state out; there are so many.
    ///
    /// # Errors
    /// If the device fails.
    fn read_state(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError>;

    /// Sets numbers `first..` of tensor `index` of the optimizer's state; there are so many.
    ///
    /// # Errors
    /// If the device fails.
    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError>;

    /// Copies rows of a table, of row weights, or of the state beside them out, one after another;
    /// exact, as [`Engine::read_from`].
    ///
    /// # Errors
    /// If the device fails.
    fn read_rows(&self, of: TensorId, rows: &[u32], out: &mut [f32]) -> Result<(), EngineError> {
        let width = of.width(self);
        let mut parts = rows.iter().zip(out.chunks_mut(width));
        parts.try_for_each(|(&row, out)| of.read(self, row as usize * width, out))
    }

    /// Sets them.
    ///
    /// # Errors
    /// If the device fails.
    fn write_rows(
        &mut self,
        of: TensorId,
        rows: &[u32],
        values: &[f32],
    ) -> Result<(), EngineError> {
        let width = of.width(self);
        let mut parts = rows.iter().zip(values.chunks(width));
        parts.try_for_each(|(&row, values)| of.write(self, row as usize * width, values))
    }

    /// Sets rows of several tensors, which may be read by steps that have begun.
    ///
    /// # Errors
    /// If the device fails.
    fn move_in(&mut self, rows: &[(TensorId, &[u32], &[f32])]) -> Result<(), EngineError> {
        rows.iter().try_for_each(|(of, rows, values)| self.write_rows(*of, rows, values))
    }

    /// Begins to copy rows of several tensors out, as they are after the steps that have begun, without
    /// waiting for those; they are not to be set before [`Engine::moved_out`]. `false` if the engine
    /// does not compute beside the host, and nothing was done.
    ///
    /// # Errors
    /// If the device fails.
    fn begin_moving_out(&mut self, _rows: &[(TensorId, &[u32])]) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Those rows, one after another; waits until they are there.
    ///
    /// # Errors
    /// If the device fails.
    fn moved_out(&mut self, out: &mut Vec<f32>) -> Result<(), EngineError> {
        out.clear();
        Ok(())
    }

    /// Where the training stands; no step is in flight.
    ///
    /// # Errors
    /// If the device fails.
    fn position(&mut self) -> Result<EnginePosition, EngineError>;

    /// Goes on where another training stood: once parameters and state are its, the next step is
    /// what its next step would have been. No step is in flight.
    ///
    /// # Errors
    /// If the device fails.
    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError>;

    /// Gives the device a log to generate samples of ([`Samples::Generated`]). `false` if it cannot
    /// generate them.
    ///
    /// # Errors
    /// [`EngineError::Shape`] if the log's samples do not fit the model, and whatever the device
    /// says.
    fn attach_generator(&mut self, _log: &GeneratedLog) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Whether it works on a batch before its step, and wants to hear of it
    /// ([`Engine::announce`]).
    fn looks_ahead(&self) -> bool {
        false
    }

    /// Hears of a batch whose step will come: of each in the order of the steps, of the next one
    /// before the present one begins. No number depends on it.
    ///
    /// # Errors
    /// If the device fails.
    fn announce(&mut self, _batch: &Batch) -> Result<(), EngineError> {
        Ok(())
    }

    /// Begins a training step: forward, backward, update. The batch may be changed when this
    /// returns, but the device may still compute the step. [`Engine::finished`] returns its result,
    /// with `context`.
    ///
    /// # Errors
    /// If the batch does not fit, the device fails, or it is known already that a loss is not
    /// finite ([`Engine::finished`]).
    fn begin_step(&mut self, samples: Samples<'_>, context: StepContext)
    -> Result<(), EngineError>;

    /// Number of steps that have begun and whose results have not been taken.
    fn in_flight(&mut self) -> usize;

    /// Takes the result of the oldest step in flight; `None` if there is none, or if it is not
    /// known yet and nobody wants to `wait`.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if its loss is not a number. Then neither it nor those begun
    /// after it have changed a parameter, but for the running statistics of its batch, and they
    /// count as never begun.
    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError>;

    /// One training step from beginning to end. Returns the mean loss of the batch before the
    /// update.
    ///
    /// # Errors
    /// As [`Engine::begin_step`] and [`Engine::finished`].
    fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<f32, EngineError> {
        self.begin_step(Samples::Host(batch), StepContext::at_rate(learning_rate))?;
        let mut loss = f32::NAN;
        while let Some(end) = self.finished(true)? {
            loss = end.loss;
        }
        Ok(loss)
    }

    /// Probabilities of a batch (dropout off, batch normalisation by running statistics),
    /// `out[..batch.len]`.
    ///
    /// # Errors
    /// If the batch or `out` does not fit, or the device fails.
    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError>;

    /// Begins an evaluation of `samples` samples whose predictions stay on the device
    /// ([`Engine::score`]). `false` if they do not, and [`Engine::predict`] has to hand them out.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if the device has no room for them.
    fn begin_scores(&mut self, _samples: u64) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Predicts some samples, as [`Engine::predict`] does, and keeps the predictions with the
    /// labels. May return before the device is done.
    ///
    /// # Errors
    /// If the samples do not fit, or no evaluation was begun.
    fn score(&mut self, _samples: Samples<'_>) -> Result<(), EngineError> {
        Err(EngineError::Unsupported(NO_SCORES.into()))
    }

    /// Counts for the metrics of the predictions kept since the evaluation began, or an error of
    /// theirs.
    ///
    /// # Errors
    /// If the device fails, or no evaluation was begun.
    fn count_scores(&mut self) -> Result<Result<Counts, MetricsError>, EngineError> {
        Err(EngineError::Unsupported(NO_SCORES.into()))
    }

    /// Predicts a batch and hands out what each layer gives on the way, part by part where batches
    /// are computed so. `false` if the engine does not keep it.
    ///
    /// # Errors
    /// If the batch does not fit, or the device fails.
    fn look(&mut self, _batch: &Batch, _at: &mut LookAt<'_>) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Loss and gradient of every parameter (row-major, tables dense, before clipping,
    /// regularisation included), without an update. Allocates; for tests and diagnosis.
    ///
    /// # Errors
    /// If the batch does not fit, its loss is not a number, or the device fails.
    fn gradients(&mut self, batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError>;

    /// What the tables of each column have seen, where not all rows are in memory from the start.
    fn table_uses(&self) -> Vec<TableUse> {
        self.hashed().iter().filter(|t| !t.is_resident()).map(HashedTable::usage).collect()
    }

    /// Brings all rows that are in no file as they are to one, if there is such a file, and hands
    /// out where each is: what is there stays as it is. `None` if there is none. No step is in
    /// flight.
    ///
    /// # Errors
    /// If the file is full or cannot be written.
    fn seal_rows(&mut self) -> Result<Option<SavedRows>, EngineError> {
        Ok(None)
    }

    /// Goes on with the rows of a checkpoint where they are. `false` if they have to be written to
    /// it one by one. No parameter has been set or read before.
    ///
    /// # Errors
    /// If the device fails.
    fn adopt_rows(&mut self, _rows: &ReferredRows) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// The keys of each column, where tables grow.
    fn hashed(&self) -> &[HashedTable] {
        &[]
    }

    /// Puts the keys of tables that grow back, one entry a column. Parameters and state then have
    /// rows for them, which are to be written next.
    ///
    /// # Errors
    /// If they do not fit.
    fn restore_keys(&mut self, _saved: &[SavedTable]) -> Result<(), EngineError> {
        Ok(())
    }

    /// Drops rows of tables that grow, as the workload says. No step is in flight.
    ///
    /// # Errors
    /// If the device fails.
    fn evict(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// What servers and workers did since the engine was made, where parameters are on servers.
    fn served(&self) -> Option<Served> {
        None
    }

    /// Loss scale after the last step whose result was taken, if there is loss scaling.
    fn loss_scale(&self) -> Option<LossScale> {
        None
    }

    /// Notes for the record of a run: how steps were done.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Bytes of the device's own memory that are taken, by whomever; `None` where it has none, or
    /// does not say.
    fn device_memory(&self) -> Option<u64> {
        None
    }

    /// Seconds by phase, if the engine measures them.
    fn phases(&mut self) -> Option<&mut PhaseClock>;
}

/// Refuses a buffer of another length than the parameter has.
fn fits(spec: &ParamSpec, len: usize) -> Result<(), EngineError> {
    if spec.len() == len {
        return Ok(());
    }
    Err(EngineError::Shape(format!(
        "parameter {} has {} elements, the buffer {len}",
        spec.name,
        spec.len()
    )))
}

/// Error for samples of a log that was not attached.
const NO_LOG: &str = "samples of a log that the device was not given";

const NO_SCORES: &str = "no evaluation was begun on this device";

/// Threads that an engine of this kind computes on where its configuration says `asked`: candle has
/// as many as it has made at its first use in this process.
pub fn threads(kind: EngineKind, asked: usize) -> usize {
    match kind {
        EngineKind::Fused => asked,
        EngineKind::Candle => candle::threads(),
    }
}

/// Whether this program has candle's CUDA side, which takes a CUDA toolkit to build and CUDA's
/// libraries to start.
pub const CANDLE_CUDA: bool = cfg!(feature = "candle-cuda");

/// Error of a program without it.
pub const NO_CANDLE_CUDA: &str = "this program has no CUDA side of candle's (cargo build --features candle-cuda); use the fused engine, or the CPU";

/// Chooses the device of an engine of this kind: `device`, or for [`Device::Auto`] one that this
/// machine has, with a sentence about which and why.
pub fn choose_device(kind: EngineKind, device: Device) -> (Device, Option<String>) {
    match (kind, device) {
        (EngineKind::Candle, Device::Auto) if !CANDLE_CUDA => {
            (Device::Cpu, Some("device auto: computing on the CPU, since this program has no CUDA side of candle's".into()))
        }
        _ => device.choose(),
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_are_of_one_size_but_the_last() {
        let of = |samples, part| parts(samples, part).collect::<Vec<_>>();
        assert_eq!(of(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(of(8, 4), [0..4, 4..8]);
        assert!(matches!(&of(3, 4)[..], [all] if *all == (0..3)));
    }
}
