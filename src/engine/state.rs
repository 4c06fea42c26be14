//! What a training goes on from, beside its parameters: the optimizer's state and where the training
//! stands. Engines keep it each in its own way; here is what all of them call it.

use super::{Engine, EngineConfig, EngineError};
use crate::{
    backend::Position,
    model::{ModelSpec, ParamKind, ParamSpec, Pooling},
    optim::rules::Per,
};
use serde::{Deserialize, Serialize};

/// A tensor of the optimizer's state, f32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// `<parameter>.<what it is>`, as `emb_l.0.weight.accumulator`.
    pub name: String,
    /// The parameter that it stands beside, in the order of [`ModelSpec::params`].
    pub param: usize,
    /// Which of the rule's buffers, of those that are stored beside such a parameter.
    pub buffer: usize,
    /// Beside a table `[rows, dim]` or `[rows, 1]`, else as the parameter.
    pub shape: Vec<usize>,
}

impl StateSpec {
    /// Numbers.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One of an engine's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorId {
    /// A parameter, in the order of [`Engine::params`].
    Parameter(usize),
    /// One of the optimizer's state, in the order of [`Engine::optimizer_state`].
    State(usize),
}

impl TensorId {
    /// Its shape.
    pub fn shape(self, engine: &(impl Engine + ?Sized)) -> &[usize] {
        match self {
            TensorId::Parameter(i) => &engine.params()[i].shape,
            TensorId::State(i) => &engine.optimizer_state()[i].shape,
        }
    }

    /// Numbers of a row.
    pub fn width(self, engine: &(impl Engine + ?Sized)) -> usize {
        self.shape(engine)[1..].iter().product()
    }

    /// Copies numbers `first..` out; there are so many.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(
        self,
        engine: &(impl Engine + ?Sized),
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        match self {
            TensorId::Parameter(i) => engine.read_from(i, first, out),
            TensorId::State(i) => engine.read_state(i, first, out),
        }
    }

    /// Sets numbers `first..`; there are so many.
    ///
    /// # Errors
    /// If the device fails.
    pub fn write(
        self,
        engine: &mut (impl Engine + ?Sized),
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        match self {
            TensorId::Parameter(i) => engine.write_from(i, first, values),
            TensorId::State(i) => engine.write_state(i, first, values),
        }
    }
}

/// Where a training stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EnginePosition {
    /// Training batches seen; dropout draws from the number of the next.
    pub batches: u64,
    /// The device's part.
    #[serde(flatten)]
    pub device: Position,
}

impl EngineConfig {
    /// All tensors of the optimizer's state, parameter by parameter.
    pub fn optimizer_state(&self) -> Vec<StateSpec> {
        state_specs(self, &self.model.params())
    }
}

/// All tensors of the optimizer's state, parameter by parameter.
pub(super) fn state_specs(config: &EngineConfig, params: &[ParamSpec]) -> Vec<StateSpec> {
    let state = config.optimizer.rule.state();
    let learned =
        matches!(&config.model, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedLearned);
    let mut all = Vec::new();
    for (param, spec) in params.iter().enumerate() {
        let of_rows = match spec.kind {
            ParamKind::RunningMean | ParamKind::RunningVar => continue,
            ParamKind::RowWeight if !learned => continue,
            ParamKind::Table | ParamKind::RowWeight => true,
            _ => false,
        };
        let stored = state.buffers.iter().map(|b| (b, if of_rows { b.rows } else { b.dense }));
        for (buffer, (b, per)) in stored.filter(|(_, per)| *per != Per::Variable).enumerate() {
            let shape = match per {
                Per::Row => vec![spec.shape[0], 1],
                Per::Element | Per::Variable => spec.shape.clone(),
            };
            let words = b.name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
            let word = words.collect::<Vec<_>>().join("_");
            all.push(StateSpec { name: format!("{}.{word}", spec.name), param, buffer, shape });
        }
    }
    all
}
