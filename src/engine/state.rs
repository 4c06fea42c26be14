//! What a training goes on from, beside its parameters: the optimizer's state and where the training
//! stands. Engines keep it each in its own way; here is what all of them call it.

use super::EngineConfig;
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
