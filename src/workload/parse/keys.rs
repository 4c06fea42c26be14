//! Every key that a workload file may hold. docs/workload-file.md explains each (a test compares
//! the two).

use crate::optim::OptimizerSpec;
use std::sync::LazyLock;

/// Sections in the order in which they are written.
pub const SECTIONS: [&str; 11] = [
    "workload",
    "data",
    "loader",
    "model",
    "engine",
    "train",
    "optimizer",
    "schedule",
    "eval",
    "target",
    "mlperf",
];

/// Key, and the setting that it belongs to (empty: it always has a meaning).
pub static KEYS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let rules_go_here =
        1 + FIXED.iter().position(|(k, _)| *k == "optimizer.clip_norm").unwrap_or(0);
    let (before, behind) = FIXED.split_at(rules_go_here);
    [before, &of_rules(), behind].concat()
});

/// The keys of the update rules, and which of those they belong to.
fn of_rules() -> Vec<(&'static str, &'static str)> {
    let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
    for rule in OptimizerSpec::all() {
        for key in rule.keys {
            match keys.iter_mut().find(|(path, _)| *path == key.path) {
                Some((_, kinds)) => kinds.push(rule.kind),
                None => keys.push((key.path, vec![rule.kind])),
            }
        }
    }
    let home = |kinds: Vec<&str>| format!("optimizer.kind = {}", listed(kinds.into_iter()));
    keys.into_iter().map(|(path, kinds)| (path, &*home(kinds).leak())).collect()
}

/// `"a", "b" or "c"`.
pub fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|w| format!("\"{w}\"")).collect();
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// The keys that are not a rule's.
const FIXED: &[(&str, &str)] = &[
    ("workload.name", ""),
    ("workload.description", ""),
    ("workload.quirks", ""),
    ("data.source", ""),
    ("data.preset", PLANTED),
    ("data.max_rows", PLANTED),
    (
        "data.tables",
        r#"data.preset = "custom" or data.source = "numpy_random", "bin40", "parquet" or a format's word"#,
    ),
    ("data.hotness", r#"data.preset = "custom", data.source = "parquet" or a format's word"#),
    ("data.exponents", CUSTOM),
    (
        "data.dense",
        r#"data.preset = "custom", data.source = "numpy_random", "csv", "parquet" or a format's word"#,
    ),
    ("data.train_samples", PLANTED),
    ("data.eval_samples", PLANTED),
    ("data.positive_rate", PLANTED),
    ("data.seed", r#"data.source = "planted", "numpy_random" or "criteo_tsv""#),
    ("data.samples", NUMPY),
    ("data.indices_per_lookup", NUMPY),
    ("data.fixed_indices", NUMPY),
    ("data.distribution", NUMPY),
    ("data.mu", GAUSSIAN),
    ("data.sigma", GAUSSIAN),
    ("data.min", GAUSSIAN),
    ("data.max", GAUSSIAN),
    ("data.traces", TRACE),
    ("data.trace_padding", TRACE),
    ("data.trace_restart", TRACE),
    ("data.round_targets", NUMPY),
    ("data.set", CRITEO),
    ("data.paths", CRITEO),
    ("data.max_ind_range", r#"data.source = "criteo_tsv", "bin40", "parquet" or a format's word"#),
    ("data.sub_sample_rate", CRITEO),
    ("data.shuffle", r#"data.source = "criteo_tsv", "csv", "bin40" or "parquet""#),
    ("data.buffer", r#"data.source = "bin40", "parquet" or a format's word"#),
    ("data.on_error", r#"data.source = "criteo_tsv" or "csv""#),
    ("data.train", FILES),
    ("data.eval", FILES),
    ("data.test", FILES),
    ("data.label", NAMED),
    ("data.positive", CSV),
    ("data.categorical", NAMED),
    ("data.ignore", NAMED),
    ("data.columns", CSV),
    ("data.dense_transform", FILES),
    ("data.id_stride", r#"data.source = "parquet""#),
    ("data.min_count", CSV),
    ("data.delimiter", CSV),
    ("data.comment", CSV),
    ("loader.shards", ""),
    ("loader.shard", "loader.shards"),
    ("loader.queue", ""),
    ("loader.slice", "loader.queue"),
    ("loader.prefetch", ""),
    ("model.kind", ""),
    ("model.dim", ""),
    ("model.bottom", DLRM),
    ("model.top", DLRM),
    ("model.interaction", DLRM),
    ("model.self_interaction", DOT),
    ("model.pad_to", DOT),
    ("model.cross_layers", CROSS),
    ("model.cross_rank", CROSS),
    ("model.branch1", PROJECTION),
    ("model.branch2", PROJECTION),
    ("model.pooling", DLRM),
    ("model.dense_pad_to", DLRM),
    ("model.hidden", DEEPFM),
    ("model.batch_norm", DEEPFM),
    ("model.dropout", DEEPFM),
    ("model.embedding_l2", DEEPFM),
    ("model.mlp_init", ""),
    ("model.embedding_init", ""),
    ("model.embedding_init_std", r#"model.embedding_init = "normal""#),
    ("model.init_rng", ""),
    ("engine.kind", ""),
    ("engine.device", ""),
    ("engine.threads", ""),
    ("engine.pin_threads", ""),
    ("engine.precision", r#"engine.kind = "fused""#),
    ("engine.embedding_rows", r#"engine.kind = "fused""#),
    ("engine.loss_scaling", FP16),
    ("engine.loss_scale", FP16),
    (
        "engine.loss_scale_growth_steps",
        r#"engine.precision = "fp16" with engine.loss_scaling = "dynamic""#,
    ),
    ("train.batch_size", ""),
    ("train.epochs", ""),
    ("train.max_steps", ""),
    ("train.drop_last", ""),
    ("train.seed", ""),
    ("train.loss", ""),
    ("train.loss_clamp", ""),
    ("train.loss_weights", r#"train.loss = "wbce""#),
    ("optimizer.kind", ""),
    ("optimizer.learning_rate", ""),
    ("optimizer.clip_norm", ""),
    ("schedule.kind", ""),
    ("schedule.warmup_steps", WARMUP),
    ("schedule.decay_start_step", WARMUP),
    ("schedule.decay_steps", WARMUP),
    ("schedule.power", r#"schedule.kind = "warmup_polynomial""#),
    ("schedule.end_rate", r#"schedule.kind = "warmup_polynomial""#),
    ("schedule.milestones", r#"schedule.kind = "multi_step""#),
    ("schedule.gamma", r#"schedule.kind = "multi_step""#),
    ("schedule.min_rate", r#"schedule.kind = "multi_step" or "reduce_on_plateau""#),
    ("schedule.factor", PLATEAU),
    ("schedule.patience", PLATEAU),
    ("schedule.min_delta", PLATEAU),
    ("eval.every", ""),
    ("eval.every_steps", ""),
    ("eval.every_epochs", ""),
    ("eval.batch_size", ""),
    ("eval.patience", ""),
    ("eval.min_delta", ""),
    ("eval.monitor", ""),
    ("eval.restore_best", ""),
    ("target.auc", ""),
    ("target.share_of_best", ""),
    ("mlperf.benchmark", ""),
    ("mlperf.division", ""),
    ("mlperf.org", ""),
    ("mlperf.platform", ""),
    ("mlperf.status", ""),
];

const PLANTED: &str = r#"data.source = "planted""#;
const CUSTOM: &str = r#"data.preset = "custom""#;
const NUMPY: &str = r#"data.source = "numpy_random""#;
const GAUSSIAN: &str = r#"data.distribution = "gaussian""#;
const TRACE: &str = r#"data.distribution = "trace""#;
const CRITEO: &str = r#"data.source = "criteo_tsv""#;
const CSV: &str = r#"data.source = "csv""#;
const FILES: &str = r#"data.source = "csv", "bin40", "parquet" or a format's word"#;
const NAMED: &str = r#"data.source = "csv", "parquet" or a format's word"#;
const DLRM: &str = r#"model.kind = "dlrm""#;
const FP16: &str = r#"engine.precision = "fp16""#;
const DOT: &str = r#"model.interaction = "dot""#;
const CROSS: &str = r#"model.interaction = "cross""#;
const PROJECTION: &str = r#"model.interaction = "projection""#;
const DEEPFM: &str = r#"model.kind = "deepfm""#;
const WARMUP: &str = r#"schedule.kind = "facebook_policy" or "warmup_polynomial""#;
const PLATEAU: &str = r#"schedule.kind = "reduce_on_plateau""#;

/// The setting that `key` belongs to; `None` for a key that does not exist.
pub fn belongs_to(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(k, _)| *k == key).map(|(_, b)| *b)
}

/// The candidate most like `word`, if any is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|c| (distance(word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let cost = if ca == cb { diagonal } else { 1 + diagonal.min(row[j]).min(row[j + 1]) };
            diagonal = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_leaves_strangers_alone() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("batchsize", ["batch_size", "epochs"]), Some("batch_size"));
        assert_eq!(nearest("epoch", ["batch_size", "epochs"]), Some("epochs"));
        assert_eq!(nearest("colour", ["batch_size", "epochs"]), None);
    }

    #[test]
    fn every_key_is_in_a_section_and_listed_once() {
        for (i, (key, _)) in KEYS.iter().enumerate() {
            let section = key.split_once('.').map(|(s, _)| s);
            assert!(section.is_some_and(|s| SECTIONS.contains(&s)), "{key}");
            assert!(!KEYS[..i].iter().any(|(k, _)| k == key), "{key} twice");
        }
    }
}
