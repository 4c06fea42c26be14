//! Hyperparameters as MLPerf names them: a key, and where a workload holds its value.
//!
//! Names: mlcommons/logging, mlperf_logging/mllog/constants.py. A key whose value the workload does
//! not have (an epsilon of plain SGD) is left out rather than made up.

use crate::{
    backend::Precision,
    embedding::RowKind,
    optim::{OptimizerSpec, ScheduleSpec},
    workload::{ModelConfig, Workload},
};
use serde_json::{Value, json};

/// One hyperparameter line.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the log.
    pub name: &'static str,
    /// Its value; `None` = the workload has no such thing.
    pub value: fn(&Workload) -> Option<Value>,
}

const fn key(name: &'static str, value: fn(&Workload) -> Option<Value>) -> Key {
    Key { name, value }
}

/// What every benchmark logs. An update takes the gradients of one batch, which may be summed over
/// parts of it.
pub(super) const COMMON: &[Key] = &[
    key("global_batch_size", |w| Some(json!(w.train.batch_size))),
    key("gradient_accumulation_steps", |w| Some(json!(w.train.micro_batches))),
    key("opt_name", |w| Some(json!(w.optimizer.rule.kind()))),
    key("opt_base_learning_rate", |w| Some(json!(w.optimizer.learning_rate))),
    key("opt_gradient_clip_norm", |w| w.optimizer.clip_norm.map(|c| json!(c))),
    key("opt_learning_rate_decay_schedule", |w| Some(json!(schedule_name(w)))),
    key("opt_learning_rate_warmup_steps", |w| Some(json!(warmup_steps(w)))),
    key("opt_learning_rate_decay_boundary_steps", |w| match &w.schedule {
        ScheduleSpec::MultiStep { milestones, .. } => Some(json!(milestones)),
        _ => None,
    }),
    key("opt_learning_rate_decay_factor", |w| match w.schedule {
        ScheduleSpec::MultiStep { gamma, .. } => Some(json!(gamma)),
        ScheduleSpec::ReduceOnPlateau { factor, .. } => Some(json!(factor)),
        _ => None,
    }),
    key("opt_end_learning_rate", |w| match w.schedule {
        ScheduleSpec::WarmupPolynomial { end_rate, .. } => Some(json!(end_rate)),
        _ => None,
    }),
];

/// SGD and its polynomial decay, under the names of DLRM v1.
pub(super) const SGD: &[Key] = &[
    key("sgd_opt_base_learning_rate", |w| {
        (w.optimizer.rule == OptimizerSpec::SGD).then(|| json!(w.optimizer.learning_rate))
    }),
    key("lr_decay_start_steps", |w| polynomial(w).map(|p| json!(p.start))),
    key("sgd_opt_learning_rate_decay_steps", |w| polynomial(w).map(|p| json!(p.steps))),
    key("sgd_opt_learning_rate_decay_poly_power", |w| polynomial(w).map(|p| json!(p.power))),
];

/// Decay under the names of the newer benchmarks.
pub(super) const DECAY: &[Key] = &[
    key("opt_learning_rate_decay_start_step", |w| polynomial(w).map(|p| json!(p.start))),
    key("opt_learning_rate_decay_steps", |w| polynomial(w).map(|p| json!(p.steps))),
];

/// Adagrad.
pub(super) const ADAGRAD: &[Key] = &[
    key("opt_adagrad_epsilon", |w| of_rule(w, "opt_adagrad_epsilon")),
    key("opt_adagrad_initial_accumulator_value", |w| {
        of_rule(w, "opt_adagrad_initial_accumulator_value")
    }),
    key("opt_adagrad_learning_rate_decay", |w| of_rule(w, "opt_adagrad_learning_rate_decay")),
];

/// Adam.
pub(super) const ADAM: &[Key] = &[
    key("opt_adam_beta_1", |w| of_rule(w, "opt_adam_beta_1")),
    key("opt_adam_beta_2", |w| of_rule(w, "opt_adam_beta_2")),
    key("opt_adam_epsilon", |w| of_rule(w, "opt_adam_epsilon")),
];

/// What the update rule says about a key.
fn of_rule(w: &Workload, key: &str) -> Option<serde_json::Value> {
    w.optimizer.rule.logged().into_iter().find(|(k, _)| *k == key).map(|(_, x)| json!(x))
}

/// Regularisation. No optimizer here decays weights; DeepFM's L2 on embeddings goes by its own
/// name.
pub(super) const REGULARISATION: &[Key] = &[
    key("opt_weight_decay", |_| Some(json!(0))),
    key("embedding_l2", |w| match w.model {
        ModelConfig::DeepFm { embedding_l2, .. } => Some(json!(exact(embedding_l2))),
        ModelConfig::Dlrm { .. } => None,
    }),
];

/// Operands of matrix products, which are rounded only on their way into a product, and rows of
/// tables where they are stored in 16 bits.
pub(super) const PRECISION: &[Key] = &[
    key("lowest_numerical_precision_in_linear", |w| {
        Some(json!(match w.engine.precision {
            // The rulesets know no shorter name.
            Precision::Bf16 => "bfloat16",
            other => other.name(),
        }))
    }),
    // A key of our own, which checkers pass over.
    key("embedding_rows", |w| {
        Some(w.engine.embedding_rows)
            .filter(|&rows| rows != RowKind::Fp32)
            .map(|rows| json!(rows.name()))
    }),
];

/// The f64 that a person wrote when they wrote this f32: 0.1, not 0.10000000149.
fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn schedule_name(w: &Workload) -> &'static str {
    match w.schedule {
        ScheduleSpec::Constant => "constant",
        ScheduleSpec::FacebookPolicy { .. } => "facebook_policy",
        ScheduleSpec::WarmupPolynomial { .. } => "warmup_polynomial",
        ScheduleSpec::MultiStep { .. } => "multi_step",
        ScheduleSpec::ReduceOnPlateau { .. } => "reduce_on_plateau",
    }
}

fn warmup_steps(w: &Workload) -> u64 {
    match w.schedule {
        ScheduleSpec::FacebookPolicy { warmup_steps, .. }
        | ScheduleSpec::WarmupPolynomial { warmup_steps, .. } => warmup_steps,
        _ => 0,
    }
}

struct Polynomial {
    start: u64,
    steps: u64,
    power: f64,
}

/// Polynomial decay as MLPerf describes a schedule; a constant rate is one of 0 steps, whose power
/// (2 by the rules) has no effect. `None` for schedules that are no such thing.
fn polynomial(w: &Workload) -> Option<Polynomial> {
    match w.schedule {
        ScheduleSpec::Constant => Some(Polynomial { start: 0, steps: 0, power: 2.0 }),
        ScheduleSpec::FacebookPolicy { decay_start_step: start, decay_steps: steps, .. } => {
            Some(Polynomial { start, steps, power: 2.0 })
        }
        ScheduleSpec::WarmupPolynomial {
            decay_start_step: start,
            decay_steps: steps,
            power,
            ..
        } => Some(Polynomial { start, steps, power }),
        ScheduleSpec::MultiStep { .. } | ScheduleSpec::ReduceOnPlateau { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_settings_are_logged_as_they_were_written() {
        for (x, y) in [(0.1f32, 0.1f64), (1e-8, 1e-8), (0.0, 0.0), (9.9, 9.9)] {
            assert_eq!(exact(x).to_bits(), y.to_bits());
        }
    }
}
