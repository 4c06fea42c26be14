//! Rules of each benchmark.

use super::{
    Check::{
        After, Before, Flag, Given, Has, HasGiven, HasNotNegative, HasOneOf, InitForward,
        InitInTime, Is, NotNegative, OneOf, Outside, Positive, SameEpoch, Seed, Share, Within,
    },
    Count::{AtLeastOnce, Once},
    Rule, Target, rule,
};
use crate::{optim::OptimizerSpec, workload::closed};

/// Both DLRMs: AUC by epoch.
pub(super) const EVALUATION: &[Rule] =
    &[rule("eval_accuracy", AtLeastOnce, &[Has(&["epoch_num"])])];

/// DLRM v1, closed.
pub(super) const DLRM: &[Rule] = &[
    rule("global_batch_size", Once, &[]),
    rule("opt_base_learning_rate", Once, &[]),
    rule("opt_learning_rate_warmup_steps", Once, &[]),
    rule("lr_decay_start_steps", Once, &[]),
    rule("sgd_opt_base_learning_rate", Once, &[]),
    rule("sgd_opt_learning_rate_decay_poly_power", Once, &[Is(2.0)]),
    rule("sgd_opt_learning_rate_decay_steps", Once, &[]),
];

/// DLRM v1, closed, from 1.1.0: tensors are initialised under the clock.
pub(super) const DLRM_TENSORS: &[Rule] =
    &[rule("weights_initialization", AtLeastOnce, &[Has(&["tensor"])])];

/// The tensors of DLRM v1, each of which is initialised exactly once.
pub(super) const DLRM_TENSOR_NAMES: &[&str] = &[
    "embeddings",
    "bottom_mlp_dense1",
    "bottom_mlp_dense2",
    "bottom_mlp_dense3",
    "top_mlp_dense1",
    "top_mlp_dense2",
    "top_mlp_dense3",
    "top_mlp_dense4",
    "top_mlp_dense5",
];

/// Target of DLRM v1; in the open division only up to 0.7.0.
pub(super) const DLRM_TARGET: Target = Target { from: Some(closed::TARGET), perfect: false };

/// DLRM v1, open, from 1.0.0.
pub(super) const DLRM_OPEN_TARGET: Target = Target { from: None, perfect: false };

/// DLRM-DCNv2, closed.
pub(super) const DCNV2: &[Rule] = &[
    rule("global_batch_size", Once, &[]),
    rule("opt_name", Once, &[OneOf(&["adagrad"])]),
    rule("opt_base_learning_rate", Once, &[]),
    rule("opt_adagrad_epsilon", Once, &[Is(1e-8)]),
    rule("opt_adagrad_initial_accumulator_value", Once, &[Is(0.0)]),
    rule("opt_adagrad_learning_rate_decay", Once, &[Is(0.0)]),
    rule("opt_weight_decay", Once, &[Is(0.0)]),
    rule("opt_learning_rate_warmup_steps", Once, &[Is(0.0)]),
    rule("opt_learning_rate_decay_start_step", Once, &[Is(0.0)]),
    rule("opt_learning_rate_decay_steps", Once, &[Is(0.0)]),
    rule("eval_samples", Once, &[Is(closed::EVAL_SAMPLES as f64)]),
];

/// Target of DLRM-DCNv2.
pub(super) const DCNV2_TARGET: Target = Target { from: Some(closed::TARGET_DCNV2), perfect: true };

/// DLRM-DCNv2, open.
pub(super) const DCNV2_OPEN_TARGET: Target = Target { from: None, perfect: true };

/// DeepFM: `rules/deepfm_common.yaml`, which stands in for MLPerf's common rules.
pub(super) const DEEPFM: &[Rule] = &[
    rule("submission_benchmark", Once, &[OneOf(&["deepfm"])]),
    rule("submission_org", Once, &[Given]),
    rule("submission_platform", Once, &[Given]),
    rule("submission_division", Once, &[OneOf(&["open"])]),
    rule("cache_clear", AtLeastOnce, &[Flag]),
    rule("init_start", Once, &[Before("init_start"), Before("init_stop"), Before("run_start")]),
    rule("seed", Once, &[Seed]),
    rule(
        "weights_initialization",
        AtLeastOnce,
        &[After("init_start"), Before("init_stop"), HasGiven("tensor")],
    ),
    rule(
        "init_stop",
        Once,
        &[After("init_start"), Before("init_stop"), Before("run_start"), InitForward, InitInTime],
    ),
    rule("run_start", Once, &[After("init_stop"), Before("run_start")]),
    rule("train_samples", Once, &[Positive]),
    rule("eval_samples", Once, &[Positive]),
    rule(
        "epoch_start",
        AtLeastOnce,
        &[
            After("run_start"),
            Before("run_stop"),
            Outside("epoch"),
            Has(&["epoch_num"]),
            HasNotNegative("epoch_num"),
        ],
    ),
    rule("epoch_stop", AtLeastOnce, &[Within("epoch"), SameEpoch("epoch")]),
    rule(
        "eval_start",
        AtLeastOnce,
        &[
            After("run_start"),
            Before("run_stop"),
            Outside("eval"),
            Has(&["epoch_num"]),
            HasNotNegative("epoch_num"),
        ],
    ),
    rule(
        "eval_accuracy",
        AtLeastOnce,
        &[Within("eval"), Has(&["epoch_num"]), HasNotNegative("epoch_num"), Share],
    ),
    rule("eval_stop", AtLeastOnce, &[Within("eval")]),
    rule(
        "run_stop",
        Once,
        &[
            After("run_start"),
            Before("run_stop"),
            Outside("epoch"),
            HasOneOf("status", &["success", "aborted"]),
        ],
    ),
    rule("global_batch_size", Once, &[Positive]),
    rule("gradient_accumulation_steps", Once, &[Positive]),
    rule("opt_name", Once, &[OneOf(OptimizerSpec::KINDS)]),
    rule("opt_base_learning_rate", Once, &[Positive]),
    rule("opt_learning_rate_warmup_steps", Once, &[NotNegative]),
    rule("embedding_l2", Once, &[NotNegative]),
    rule("lowest_numerical_precision_in_linear", Once, &[OneOf(&["fp32", "fp16", "bfloat16"])]),
];
