//! How a model is computed: forward, backward, update, prediction.

mod build;
mod cached;
mod candle;
mod config;
pub(crate) mod cost;
mod fused;
mod hashed;
mod look;
pub mod memory;
mod phase;
mod quantised;
pub mod ranks;
mod state;
mod writing;

use crate::{
    backend::{BackendError, Device, StepContext, StepEnd},
    batch::{Batch, GeneratedLog, Misfit, Samples},
    checkpoint::{ReferredRows, SavedRows},
    comm::CommError,
    embedding::{
        TableUse,
        cached::RowFileError,
        hashed::{Full, HashedTable, SavedTable},
    },
    metrics::{Counts, MetricsError},
    model::ParamSpec,
    optim::LossScale,
};
use serde::Serialize;

pub use build::build;
pub use candle::CandleEngine;
pub use config::EngineConfig;
use config::{parts, tables_mut};
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

/// Sets a part of a tensor: its first element, its values.
pub type FillPart<'a> = dyn FnMut(usize, &mut [f32]) + 'a;

/// A model in training. Losses are the data term only (regularisation moves the gradients, not the
/// printed loss).
pub trait Engine {
    /// Name for the record: `fused` or `candle`.
    fn name(&self) -> &'static str;

    /// All parameters, in the order of [`ModelSpec::params`](crate::model::ModelSpec::params).
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
    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError> {
        writing::write_with(self, index, f)
    }

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
