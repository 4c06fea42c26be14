//! Rules for logs of every benchmark.

use super::{
    Check::{
        After, Before, Has, HasNotNegative, HasPositive, HasWith, InitInTime, NotEmpty, OneOf,
        Positive, Whole,
    },
    Count::{Any, AtLeastOnce, Once, ThisOr},
    Rule, rule,
};

/// Who submits. Ruleset 5.0.0 does not ask.
pub(super) const SUBMITTER: &[Rule] =
    &[rule("submission_org", Once, &[NotEmpty]), rule("submission_platform", Once, &[NotEmpty])];

/// How the system can be had. Asked up to 4.0.0.
pub(super) const STATUS: &[Rule] =
    &[rule("submission_status", Once, &[OneOf(&["cloud", "onprem", "preview", "research"])])];

/// The events of a run, and what it was run on.
pub(super) const EVENTS: &[Rule] = &[
    rule("submission_division", Once, &[OneOf(&["closed", "open"])]),
    rule("submission_benchmark", Once, &[]),
    rule("cache_clear", AtLeastOnce, &[]),
    rule("init_start", AtLeastOnce, &[Before("init_stop"), Before("run_start")]),
    rule("init_stop", Once, &[After("init_start"), Before("run_start"), InitInTime]),
    rule("run_start", Once, &[After("init_stop")]),
    rule("run_stop", Once, &[After("run_start"), Has(&["status"])]),
    rule("train_samples", Once, &[NotEmpty]),
    rule("eval_samples", Once, &[NotEmpty]),
];

/// Where blocks, epochs and evaluations stand in training: counted in epochs.
pub(super) const BLOCKS_BY_EPOCH: &[Rule] = &[
    rule(
        "block_start",
        ThisOr("epoch_start"),
        &[
            After("run_start"),
            Has(&["epoch_count"]),
            Has(&["first_epoch_num"]),
            HasPositive("epoch_count"),
        ],
    ),
    rule("block_stop", ThisOr("epoch_stop"), &[Has(&["first_epoch_num"])]),
];

/// In epochs or steps (3.1.0).
pub(super) const BLOCKS_BY_STEP: &[Rule] = &[
    rule(
        "block_start",
        ThisOr("epoch_start"),
        &[
            After("run_start"),
            Has(&["epoch_count", "step_num"]),
            HasWith("epoch_count", "first_epoch_num"),
            HasPositive("epoch_count"),
            HasNotNegative("step_num"),
        ],
    ),
    rule("block_stop", ThisOr("epoch_stop"), &[Has(&["first_epoch_num", "step_num"])]),
];

/// In epochs or samples (from 4.0.0).
pub(super) const BLOCKS_BY_SAMPLES: &[Rule] = &[
    rule(
        "block_start",
        ThisOr("epoch_start"),
        &[
            After("run_start"),
            Has(&["epoch_count", "samples_count"]),
            HasWith("epoch_count", "first_epoch_num"),
            HasPositive("epoch_count"),
            HasNotNegative("samples_count"),
        ],
    ),
    rule("block_stop", ThisOr("epoch_stop"), &[Has(&["first_epoch_num", "samples_count"])]),
];

/// Epochs by their number.
pub(super) const EPOCHS_BY_EPOCH: &[Rule] = &[
    rule("epoch_start", ThisOr("block_start"), &[Has(&["epoch_num"])]),
    rule("epoch_stop", ThisOr("block_stop"), &[Has(&["epoch_num"])]),
];

/// Epochs by number or samples (from 5.0.0).
pub(super) const EPOCHS_BY_SAMPLES: &[Rule] = &[
    rule("epoch_start", ThisOr("block_start"), &[Has(&["epoch_num", "samples_count"])]),
    rule("epoch_stop", ThisOr("block_stop"), &[Has(&["epoch_num", "samples_count"])]),
];

/// Evaluations by epoch.
pub(super) const EVALS_BY_EPOCH: &[Rule] = &[
    rule("eval_start", ThisOr("block_start"), &[Has(&["epoch_num"])]),
    rule("eval_stop", ThisOr("block_stop"), &[Has(&["epoch_num"])]),
];

/// Evaluations by epoch or step (3.1.0).
pub(super) const EVALS_BY_STEP: &[Rule] = &[
    rule("eval_start", ThisOr("block_start"), &[Has(&["epoch_num", "step_num"])]),
    rule("eval_stop", ThisOr("block_stop"), &[Has(&["epoch_num", "step_num"])]),
];

/// Evaluations by epoch or samples (from 4.0.0).
pub(super) const EVALS_BY_SAMPLES: &[Rule] = &[
    rule("eval_start", ThisOr("block_start"), &[Has(&["epoch_num", "samples_count"])]),
    rule("eval_stop", ThisOr("block_stop"), &[Has(&["epoch_num", "samples_count"])]),
];

/// Number formats that ruleset 6.0.0 knows.
const FORMATS: &[&str] = &[
    "fp64",
    "fp32",
    "tf32",
    "fp16",
    "fp8",
    "nvfp4",
    "mxfp4",
    "bfloat16",
    "Graphcore FLOAT 16.16",
    "int8",
    "uint8",
    "int4",
    "uint4",
];

/// What 6.0.0 looks at where it is there.
pub(super) const OPTIONAL: &[Rule] = &[
    rule("lowest_numerical_precision_in_linear", Any, &[OneOf(FORMATS)]),
    rule("lowest_numerical_precision_in_attn", Any, &[OneOf(FORMATS)]),
    rule("lowest_numerical_precision_in_comm", Any, &[OneOf(FORMATS)]),
    rule("tensor_parallelism", Any, &[Whole]),
    rule("pipeline_parallelism", Any, &[Whole]),
    rule("context_parallelism", Any, &[Whole]),
    rule("expert_parallelism", Any, &[Whole]),
    rule("micro_batch_size", Any, &[Whole]),
];

/// Closed division, from 1.0.0.
pub(super) const ACCUMULATION: &[Rule] = &[rule("gradient_accumulation_steps", Once, &[Positive])];
