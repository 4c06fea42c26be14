//! What the training loop tells its listeners (progress bar, MLPerf log, metrics table), as it
//! happens.

use super::TrainError;
use crate::{
    batch::Schema,
    checkpoint::CheckpointError,
    data::{Facts, source::prepared::News},
    embedding::TableUse,
    engine::{Engine, EngineConfig, Lap, Served},
    metrics::Quality,
    model::ParamSpec,
    optim::LossScale,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Something that wants to know how training goes. All methods do nothing unless overridden. An
/// error ends the run as aborted.
pub trait Listener {
    /// Before anything touches data or parameters.
    fn init_start(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    /// Data are made ready that are prepared once.
    fn preparing(&mut self, _news: &News<'_>) -> std::io::Result<()> {
        Ok(())
    }
    /// Data are open.
    fn data_ready(&mut self, _facts: &Facts) -> std::io::Result<()> {
        Ok(())
    }
    /// The model's parameters hold their initial values.
    fn params_ready(&mut self, _params: &[ParamSpec]) -> std::io::Result<()> {
        Ok(())
    }
    /// The model holds its initial values, which can be read from the engine.
    fn model_ready(&mut self, _engine: &dyn Engine) -> std::io::Result<()> {
        Ok(())
    }
    /// Data are open and the model is made from `config`, for columns of `schema`.
    fn configured(&mut self, _config: &EngineConfig, _schema: &Schema) -> std::io::Result<()> {
        Ok(())
    }
    /// Model and data are ready; the clock of time to train starts now.
    fn run_start(&mut self, _facts: &RunFacts) -> std::io::Result<()> {
        Ok(())
    }
    /// An epoch (counted from 0) begins.
    fn epoch_start(&mut self, _epoch: u64) -> std::io::Result<()> {
        Ok(())
    }
    /// Whether [`Listener::laps`] of this step (1-based) are wanted.
    fn wants_laps(&self, _step: u64) -> bool {
        false
    }
    /// What the engine did in the step that it has just computed, if it keeps a clock of phases;
    /// before [`Listener::step`] of it.
    fn laps(&mut self, _step: u64, _laps: &[Lap]) -> std::io::Result<()> {
        Ok(())
    }
    /// A step is done.
    fn step(&mut self, _step: &StepEvent) -> std::io::Result<()> {
        Ok(())
    }
    /// Evaluation begins; `progress` counts epochs from 0, fractions included.
    fn eval_start(&mut self, _progress: f64) -> std::io::Result<()> {
        Ok(())
    }
    /// Evaluation is done.
    fn eval_stop(&mut self, _eval: &EvalEvent) -> std::io::Result<()> {
        Ok(())
    }
    /// An epoch ends (also when training stops within it).
    fn epoch_stop(&mut self, _epoch: u64) -> std::io::Result<()> {
        Ok(())
    }
    /// What the listener goes on from in a run that is taken up at a checkpoint of this moment, by a
    /// name of its own; all that it has written is on the disk.
    fn save(&mut self) -> std::io::Result<Option<(&'static str, Value)>> {
        Ok(None)
    }
    /// A checkpoint was written.
    fn checkpoint(&mut self, _saved: &CheckpointEvent) -> std::io::Result<()> {
        Ok(())
    }
    /// A checkpoint cannot be written; the run goes on without it.
    fn checkpoint_failed(&mut self, _step: u64, _why: &CheckpointError) -> std::io::Result<()> {
        Ok(())
    }
    /// The loss or a prediction is not a number, and what was found of it was put into a folder.
    fn failure_left(&mut self, _folder: &Path) -> std::io::Result<()> {
        Ok(())
    }
    /// The same, but it cannot be written.
    fn failure_lost(&mut self, _why: &TrainError) -> std::io::Result<()> {
        Ok(())
    }
    /// The run goes on from a checkpoint; after [`Listener::run_start`].
    fn resumed(&mut self, _from: &Resumption) -> std::io::Result<()> {
        Ok(())
    }
    /// The run is over, whatever the reason; called exactly once if `init_start` was.
    fn run_stop(&mut self, _outcome: &Outcome) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is known when the run starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Training samples of an epoch.
    pub train_samples: u64,
    /// Samples of an evaluation.
    pub eval_samples: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// The target AUC.
    pub target_auc: Option<f64>,
    /// The target accuracy; either ends the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_accuracy: Option<f64>,
    /// AUC of the truth, if known.
    pub best_auc: Option<f64>,
}

impl RunFacts {
    /// Whether an evaluation reaches one of the targets.
    pub fn reached(&self, quality: &Quality) -> bool {
        self.target_auc.is_some_and(|t| quality.auc >= t)
            || self.target_accuracy.is_some_and(|t| quality.accuracy >= t)
    }

    /// What is to be reached: `AUC 0.80250 or accuracy 0.78900`; `None` without a target.
    pub fn targets(&self) -> Option<String> {
        targets(self.target_auc, self.target_accuracy)
    }
}

/// Targets in words, of which either is enough; `None` if there is none.
pub fn targets(auc: Option<f64>, accuracy: Option<f64>) -> Option<String> {
    let auc = auc.map(|t| format!("AUC {t:.5}"));
    let accuracy = accuracy.map(|t| format!("accuracy {t:.5}"));
    let all: Vec<String> = auc.into_iter().chain(accuracy).collect();
    (!all.is_empty()).then(|| all.join(" or "))
}

/// One training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepEvent {
    /// 1-based.
    pub step: u64,
    /// 0-based.
    pub epoch: u64,
    /// Samples of this batch.
    pub samples: u32,
    /// Mean loss of the batch before the update.
    pub loss: f32,
    /// Rate of this update.
    pub learning_rate: f64,
    /// Seconds of the step, data wait included, evaluation excluded.
    pub seconds: f64,
    /// Seconds of it spent waiting for data.
    pub data_wait: f64,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalEvent {
    /// Steps done before it.
    pub step: u64,
    /// Epochs done before it, from 0, fractions included.
    pub progress: f64,
    /// Training samples seen before it.
    pub samples: u64,
    /// Seconds since `run_start`, this evaluation included.
    pub elapsed: f64,
    /// Seconds this evaluation took.
    pub seconds: f64,
    /// The metrics.
    pub quality: Quality,
    /// Best AUC so far, this one included.
    pub best_auc: f64,
    /// Bytes of the host's memory that the process holds; `None` = unknown.
    #[serde(default)]
    pub host_memory: Option<u64>,
    /// Bytes of the GPU's memory that are taken, by whomever; `None` = unknown, or no GPU.
    #[serde(default)]
    pub gpu_memory: Option<u64>,
    /// What tables that grow, or are cached, have seen; none where all rows are in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableUse>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointEvent {
    /// Steps done before it.
    pub step: u64,
    /// Whether it is that of the best evaluation so far.
    pub best: bool,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether of tables it has only the rows that were touched since another one.
    pub incremental: bool,
    /// Seconds that training stood still for it.
    pub seconds: f64,
    /// The longest of the pauses that these are the sum of.
    pub longest_pause: f64,
}

/// How a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resumption {
    /// The checkpoint.
    pub path: PathBuf,
    /// Steps done before it.
    pub step: u64,
    /// Training samples seen before it.
    pub samples: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The target was reached.
    Target,
    /// All epochs or steps are done.
    Budget,
    /// No improvement for `eval.patience` evaluations.
    Patience,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The loss or a prediction is not a number; see the outcome's message.
    Failed,
    /// An error that is none of the training: the disk, the output, memory, the data, the device;
    /// see the outcome's message.
    Broken,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why.
    pub reason: StopReason,
    /// MLPerf's word: success if the target was reached, or if there was none and the run came to
    /// its end; else aborted.
    pub success: bool,
    /// The error's sentence, if failed.
    pub message: Option<String>,
    /// Steps done.
    pub steps: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Seconds from `run_start` to the end of the last evaluation.
    pub seconds: f64,
    /// Seconds of training steps, evaluation excluded.
    pub train_seconds: f64,
    /// Where loss scaling ended, and how many updates were skipped for overflow; `None` without
    /// loss scaling.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// Last evaluation.
    pub last_eval: Option<EvalEvent>,
    /// The evaluation of the parameters that were put back at the end (`eval.restore_best`); `None`
    /// if those of the last evaluation were kept.
    #[serde(default)]
    pub restored: Option<EvalEvent>,
    /// Metrics on the test split with the final (or restored best) parameters.
    pub test: Option<Quality>,
    /// Steps done each time the run was taken up at a checkpoint; `seconds` are those since it first
    /// began, whatever lay between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed_at: Vec<u64>,
    /// What tables that grow have seen in the whole training, or those that are cached since the
    /// program began to train.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableUse>,
    /// What servers and workers did since the program began to train, where parameters were on
    /// servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// Seconds that training stood still for checkpoints.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checkpoint_seconds: f64,
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

impl Outcome {
    /// The evaluation of the model that is kept.
    pub fn kept_eval(&self) -> Option<&EvalEvent> {
        self.restored.as_ref().or(self.last_eval.as_ref())
    }
}
