//! What the log of each benchmark holds. A new benchmark, or a new round of an old one, is a row
//! here.

use super::keys::{self, Key};
use crate::model::{ParamKind, ParamSpec};

/// One benchmark in one round.
#[derive(Debug)]
pub struct Benchmark {
    /// MLPerf's name, or ours where MLPerf has none.
    pub name: &'static str,
    /// `--ruleset` of the compliance checker that knows the benchmark.
    pub ruleset: &'static str,
    /// Our rule file for `--config`, relative to the repository, where the checker has none of its
    /// own.
    pub rule_file: Option<&'static str>,
    /// `epoch_num` of the first epoch: DLRM v1 counts from 1, the newer ones from 0
    /// (mlcommons/logging issue #79).
    pub first_epoch: u64,
    /// Runs of a submission.
    pub runs: usize,
    /// Hyperparameter lines, in order.
    pub keys: &'static [&'static [Key]],
    /// How parameters are named in `weights_initialization` lines.
    pub tensors: &'static [Tensor],
}

/// Parameters whose name starts with `prefix` are reported as `tensor`.
#[derive(Debug)]
pub struct Tensor {
    prefix: &'static str,
    tensor: &'static str,
    /// A layer's number, from 1, is appended.
    numbered: bool,
}

const fn tensor(prefix: &'static str, tensor: &'static str, numbered: bool) -> Tensor {
    Tensor { prefix, tensor, numbered }
}

const DLRM_TENSORS: &[Tensor] = &[
    tensor("emb_l.", "embeddings", false),
    tensor("v_W_l.", "embedding_row_weights", false),
    tensor("bot_l.", "bottom_mlp_dense", true),
    tensor("top_l.", "top_mlp_dense", true),
];

/// All benchmarks.
pub const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "dlrm",
        ruleset: "2.1.0",
        rule_file: None,
        first_epoch: 1,
        runs: 5,
        keys: &[keys::PRECISION, keys::COMMON, keys::SGD, keys::ADAGRAD, keys::ADAM],
        tensors: DLRM_TENSORS,
    },
    Benchmark {
        name: "dlrm_dcnv2",
        ruleset: "6.0.0",
        rule_file: None,
        first_epoch: 0,
        runs: 10,
        keys: &[
            keys::PRECISION,
            keys::COMMON,
            keys::ADAGRAD,
            keys::DECAY,
            keys::REGULARISATION,
            keys::ADAM,
        ],
        tensors: DLRM_TENSORS,
    },
    Benchmark {
        name: "deepfm",
        ruleset: "6.0.0",
        rule_file: Some("rules/deepfm_common.yaml"),
        first_epoch: 0,
        // Ours to say; as many as MLPerf asked of the first DLRM.
        runs: 5,
        keys: &[
            keys::PRECISION,
            keys::COMMON,
            keys::ADAM,
            keys::ADAGRAD,
            keys::DECAY,
            keys::REGULARISATION,
        ],
        tensors: &[
            tensor("emb.", "embeddings", false),
            tensor("linear.", "linear", false),
            tensor("dense_", "dense_fields", false),
            tensor("dnn.", "dnn_dense", true),
        ],
    },
];

impl Benchmark {
    /// The benchmark called `name`.
    pub fn named(name: &str) -> Option<&'static Benchmark> {
        BENCHMARKS.iter().find(|b| b.name == name)
    }

    /// Names for `weights_initialization` lines: one for all tables, one for each layer of an MLP.
    pub fn tensors(&self, params: &[ParamSpec]) -> Vec<String> {
        let holds_weights = |p: &&ParamSpec| {
            matches!(
                p.kind,
                ParamKind::Weight
                    | ParamKind::Table
                    | ParamKind::RowWeight
                    | ParamKind::FieldWeight
            )
        };
        let mut names = Vec::new();
        for rule in self.tensors {
            let found = params
                .iter()
                .filter(holds_weights)
                .filter(|p| p.name.starts_with(rule.prefix))
                .count();
            match rule.numbered {
                true => names.extend((1..=found).map(|layer| format!("{}{layer}", rule.tensor))),
                false => names.extend((found > 0).then(|| rule.tensor.to_owned())),
            }
        }
        names
    }
}
