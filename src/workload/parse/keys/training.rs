//! `[train]`, `[optimizer]`, `[schedule]`, `[eval]` and `[target]`.

use super::{Key, MAX_BATCH, Setting, lens, rules, under};
use crate::{
    model::{LossKind, LossSpec},
    optim::ScheduleSpec::{self, FacebookPolicy, MultiStep, ReduceOnPlateau, WarmupPolynomial},
    workload::{
        DataConfig, EvalEvery, Monitor, TrainSection,
        parse::key::{above, between, key, split},
    },
};
use std::ops::Bound;

/// `[train]`
pub(super) fn train() -> Vec<Key> {
    vec![
        key("train.batch_size", |w| Some(&mut w.train.batch_size))
            .within(1..=MAX_BATCH)
            .says("Samples a step"),
        // Written only where there are several, so that a workload without them stays what it was.
        split(
            "train.micro_batches",
            |_| true,
            |w| (w.train.micro_batches > 1).then_some(w.train.micro_batches),
            |w, parts| w.train.micro_batches = parts,
        )
        .or(1)
        .within(1..=MAX_BATCH)
        .check(|&parts, w| {
            let batch = w.train.batch_size;
            let train = TrainSection { micro_batches: parts, ..w.train.clone() };
            match train.possible_micro_batches() {
                _ if parts > batch => {
                    Err(format!("is {parts}; must be at most train.batch_size, {batch}"))
                }
                possible if possible != parts => Err(format!(
                    "is {parts}, but {batch} samples in parts of one size are {possible} of them, \
                     not {parts}; use {possible}"
                )),
                _ => Ok(()),
            }
        })
        .says(
            "Parts that a step's samples are computed in, one after the other, so that activations \
             take memory for one part only (DeepRec's `--micro_batch`, gradient accumulation). \
             Gradients are summed, and there is one update: results are those of the whole batch \
             to rounding, but for batch normalisation, which goes by the statistics of each part. \
             Rows of tables are looked up and updated for the whole batch at once. Evaluations are \
             computed in parts of that size too",
        ),
        key("train.epochs", |w| Some(&mut w.train.epochs))
            .or(1)
            .within(1..)
            .says("Epochs at most"),
        key("train.max_steps", |w| Some(&mut w.train.max_steps))
            .or(None)
            .within(1..)
            .says("Steps at most, over all epochs"),
        key("train.drop_last", |w| Some(&mut w.train.drop_last))
            .or(false)
            .says("Leave out the last, short batch of an epoch"),
        key("train.seed", |w| Some(&mut w.train.seed))
            .or(1)
            .says("Seed of initial values, dropout and shuffling. `--seed` is short for it"),
        key("train.loss", |w| Some(&mut w.train.loss.kind))
            .or(LossKind::Bce)
            .says(
                "`bce` (log loss), `wbce` (weighted by class), `mse`, or `keras_bce` (keras' \
                 `BinaryCrossentropy` on probabilities, DeepRec: -y ln(p + e) - (1 - y) ln(1 - p + \
                 e), e = 1e-7, p clamped to [e, 1 - e])",
            ),
        key(
            "train.loss_weights",
            lens!(train; TrainSection { loss: LossSpec { kind: LossKind::Wbce { weights }, .. }, .. } => weights),
        )
        .when(&[Setting { key: "train.loss", words: &["wbce"] }])
        .says("Weights of class 0 and class 1"),
        key("train.loss_clamp", |w| Some(&mut w.train.loss.clamp))
            .or(0.0)
            .within_as(0.0..0.5, "from 0 (off) to below 0.5")
            .says(
                "Probabilities are clamped to [clamp, 1 - clamp] before the loss (facebook's \
                 `--loss-threshold`); 0 = off",
            ),
        key("train.start_from", |w| Some(&mut w.train.start_from))
            .or(None)
            .or_in_words("initial values")
            .says(
                "A saved model that training begins with (the originals' `--load-model`): the \
                 folder of a checkpoint, a `.safetensors`, or a `.pt` of PyTorch. The optimizer's \
                 state is taken with it if it is there and of the same rule. Steps, schedule and \
                 data begin anew, which `--resume` does not. What the file holds is part of what \
                 the run is compared by",
            ),
    ]
}

/// `[optimizer]`
pub(super) fn optimizer() -> Vec<Key> {
    let mut keys = vec![
        key("optimizer.kind", |w| Some(&mut w.optimizer.rule)).says("The update rule, see below"),
    ];
    keys.extend(rules::keys());
    keys.extend([
        key("optimizer.learning_rate", |w| Some(&mut w.optimizer.learning_rate))
            .within(above(0.0))
            .says("Base rate, before the schedule"),
        key("optimizer.clip_norm", |w| Some(&mut w.optimizer.clip_norm))
            .or(None)
            .within_as(above(0.0), "above 0; leave it out for no clipping")
            .says("Scale all gradients so that their common 2-norm does not pass this"),
    ]);
    keys
}

/// `[schedule]`
pub(super) fn schedule() -> Vec<Key> {
    let kind = |words| Setting { key: "schedule.kind", words };
    let mut keys =
        vec![key("schedule.kind", |w| Some(&mut w.schedule)).or(ScheduleSpec::Constant).says(
            "`constant`; `facebook_policy` (linear warm-up, quadratic decay); \
             `warmup_polynomial` (OneFlow, NVIDIA: from 0, polynomial decay); `multi_step`; \
             `reduce_on_plateau`",
        )];
    keys.extend(under("schedule.kind", &["facebook_policy", "warmup_polynomial"], [
        key(
            "schedule.warmup_steps",
            lens!(schedule; FacebookPolicy { warmup_steps, .. } | WarmupPolynomial { warmup_steps, .. } => warmup_steps),
        )
        .or(0)
        .says("Steps of linear warm-up"),
        key(
            "schedule.decay_start_step",
            lens!(schedule; FacebookPolicy { decay_start_step, .. } | WarmupPolynomial { decay_start_step, .. } => decay_start_step),
        )
        .or_by(|w| warmup_steps(&w.schedule), "`warmup_steps`")
        .check(|&start, w| match warmup_steps(&w.schedule) {
            Some(warmup) if start < warmup => Err(format!(
                "is {start}, before the warm-up's end; must be at least warmup_steps, {warmup}"
            )),
            _ => Ok(()),
        })
        .says("First step of the decay, not before the warm-up's end"),
        key("schedule.decay_steps", lens!(schedule; FacebookPolicy { decay_steps, .. } => decay_steps))
            .when(&[kind(&["facebook_policy"])])
            .or(0)
            .says("Steps of the decay; 0 = no decay"),
        key("schedule.decay_steps", lens!(schedule; WarmupPolynomial { decay_steps, .. } => decay_steps))
            .when(&[kind(&["warmup_polynomial"])])
            .within(1..)
            .says("Steps of the decay"),
    ]));
    keys.extend(under(
        "schedule.kind",
        &["warmup_polynomial"],
        [
            key("schedule.power", lens!(schedule; WarmupPolynomial { power, .. } => power))
                .or(2.0)
                .within(above(0.0))
                .says("Exponent of the decay"),
            key(
                "schedule.end_rate",
                lens!(schedule; WarmupPolynomial { end_rate, .. } => end_rate),
            )
            .or(0.0)
            .within(0.0..)
            .says("Last rate"),
        ],
    ));
    keys.extend(under(
        "schedule.kind",
        &["multi_step"],
        [
            key("schedule.milestones", lens!(schedule; MultiStep { milestones, .. } => milestones))
                .check(|steps, _| {
                    match steps.is_empty() || steps.windows(2).any(|w| w[0] >= w[1]) {
                        true => Err(format!("is {steps:?}; must be rising step numbers")),
                        false => Ok(()),
                    }
                })
                .says("Steps after which the rate falls"),
            key("schedule.gamma", lens!(schedule; MultiStep { gamma, .. } => gamma))
                .or(0.1)
                .within((Bound::Excluded(0.0), Bound::Included(1.0)))
                .says("Factor at each milestone"),
            key("schedule.min_rate", lens!(schedule; MultiStep { min_rate, .. } => min_rate))
                .or(0.0)
                .within(0.0..)
                .says("The rate never falls below this"),
        ],
    ));
    keys.extend(under(
        "schedule.kind",
        &["reduce_on_plateau"],
        [
            key("schedule.factor", lens!(schedule; ReduceOnPlateau { factor, .. } => factor))
                .or(0.1)
                .within(between(0.0, 1.0))
                .says("Factor by which the rate falls"),
            key("schedule.patience", lens!(schedule; ReduceOnPlateau { patience, .. } => patience))
                .or(1)
                .within(1..)
                .says("Evaluations without improvement of `eval.monitor` before the rate falls"),
            key(
                "schedule.min_delta",
                lens!(schedule; ReduceOnPlateau { min_delta, .. } => min_delta),
            )
            .or(1e-6)
            .within(0.0..)
            .says("What counts as an improvement there"),
            key("schedule.min_rate", lens!(schedule; ReduceOnPlateau { min_rate, .. } => min_rate))
                .or(1e-6)
                .within(0.0..)
                .says("The rate never falls below this"),
        ],
    ));
    keys
}

fn warmup_steps(schedule: &ScheduleSpec) -> Option<u64> {
    match schedule {
        FacebookPolicy { warmup_steps, .. } | WarmupPolynomial { warmup_steps, .. } => {
            Some(*warmup_steps)
        }
        _ => None,
    }
}

/// `[eval]`. The first three say one thing: at most one of them is given (see check.rs).
pub(super) fn eval() -> Vec<Key> {
    vec![
        split(
            "eval.every_epochs",
            |_| true,
            |w| match w.eval.every {
                EvalEvery::Epochs(part) => Some(Some(part)),
                _ => None,
            },
            |w, part| w.eval.every = part.map_or(w.eval.every, EvalEvery::Epochs),
        )
        .or(None)
        .or_in_words("1.0")
        .within(above(0.0))
        .says("Evaluate every so large a part of an epoch (MLPerf: 0.05)"),
        split(
            "eval.every_steps",
            |_| true,
            |w| match w.eval.every {
                EvalEvery::Steps(steps) => Some(Some(steps)),
                _ => None,
            },
            |w, steps| w.eval.every = steps.map_or(w.eval.every, EvalEvery::Steps),
        )
        .or(None)
        .within(1..)
        .says("Evaluate every so many steps"),
        split(
            "eval.every",
            |_| true,
            |w| {
                Some(
                    Some(w.eval.every).filter(|e| matches!(e, EvalEvery::AtEnd | EvalEvery::Never)),
                )
            },
            |w, every| w.eval.every = every.unwrap_or(w.eval.every),
        )
        .or(None)
        .or_in_words(
            "`never` for `numpy_random` without `round_targets`, whose labels are no classes",
        )
        .says("`end` (only when training ends) or `never`"),
        key("eval.batch_size", |w| Some(&mut w.eval.batch_size))
            .or(16384)
            .within(1..=MAX_BATCH)
            .says(
                "Samples a batch of evaluation; no result depends on it but with the quirk \
                 `dr.bn-batch-stats-in-eval`",
            ),
        key("eval.patience", |w| Some(&mut w.eval.patience))
            .or(None)
            .within_as(1.., "at least 1; leave it out for never")
            .says("Stop after so many evaluations in a row without improvement"),
        key("eval.min_delta", |w| Some(&mut w.eval.min_delta))
            .or(0.0)
            .within(0.0..)
            .says("What counts as an improvement"),
        key("eval.monitor", |w| Some(&mut w.eval.monitor))
            .or(Monitor::Auc)
            .says("`auc`, `auc_minus_logloss` (FuxiCTR), `logloss` (less is better)"),
        key("eval.samples", |w| Some(&mut w.eval.samples))
            .or(None)
            .or_in_words("all")
            .within_as(1.., "at least 1; leave it out for all")
            .check(|samples, w| match (samples, &w.data) {
                (Some(_), DataConfig::Planted(_)) => Err(
                    "does not go with planted data, whose best AUC is that of all samples; use data.eval_samples".to_owned(),
                ),
                (Some(_), _) if w.eval.every == EvalEvery::Never => {
                    Err("has no effect where eval.every is \"never\"; remove it".to_owned())
                }
                _ => Ok(()),
            })
            .says(
                "Evaluate on the first so many samples of the evaluation split (OneFlow's \
                 `eval_batches` times its batch); the record's `facts.eval_samples` is that number",
            ),
        key("eval.cache", |w| Some(&mut w.eval.cache))
            .or(None)
            .or_in_words("`auto`")
            .says(
                "Whether the evaluation split is kept in the host's memory: `auto` (if it takes no \
                 more than 1 GiB), `always`, or `never` (it is read anew at each evaluation). A GPU \
                 that makes planted samples itself keeps none, unless it is `always`",
            ),
        key("eval.final", |w| Some(&mut w.eval.at_end))
            .or(None)
            .or_in_words("true")
            .check(|at_end, w| match (at_end, w.eval.every) {
                (Some(false), EvalEvery::AtEnd) => Err(
                    "is false, and eval.every is \"end\": nothing would be evaluated; use eval.every = \"never\"".to_owned(),
                ),
                (Some(_), EvalEvery::Never) => {
                    Err("has no effect where eval.every is \"never\"; remove it".to_owned())
                }
                _ => Ok(()),
            })
            .says(
                "Evaluate when training ends, also where no evaluation is due (false: OneFlow's \
                 `not_eval_after_training`)",
            ),
        key("eval.restore_best", |w| Some(&mut w.eval.restore_best)).or(false).says(
            "Put the parameters of the best evaluation back at the end, before the test split; the \
             summary, the record (`outcome.restored`) and `compare` then tell of that evaluation",
        ),
    ]
}

/// `[target]`
pub(super) fn target() -> Vec<Key> {
    vec![
        key("target.auc", |w| Some(&mut w.target.auc))
            .or(None)
            .within_as(between(0.5, 1.0), "above 0.5 (chance) and below 1")
            .says("AUC on the evaluation split"),
        key("target.accuracy", |w| Some(&mut w.target.accuracy))
            .or(None)
            .within(between(0.0, 1.0))
            .says(
                "Accuracy on the evaluation split, a share (facebook's `--mlperf-acc-threshold`). \
                 Beside another target either ends the run",
            ),
        key("target.share_of_best", |w| Some(&mut w.target.share_of_best))
            .or(None)
            .within(between(0.0, 1.0))
            .check(|share, w| match share {
                Some(_) if w.target.auc.is_some() => Err("stands beside target.auc; leave one of them out (--set target.auc= takes that one out, --set target.share_of_best= this one)".to_owned()),
                _ => Ok(()),
            })
            .says(
                "The same as a share of what can be learnt: the target is 0.5 + share * (best - \
                 0.5), where `best` is the AUC of the true probabilities on the evaluation split. \
                 Only for `planted` data, whose truth is known; instead of `target.auc`",
            ),
    ]
}
