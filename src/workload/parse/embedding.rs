//! What does not go with tables that grow.

use crate::{
    embedding::{RowKind, hashed::HashedConfig},
    model::Trick,
    workload::*,
};

/// Fills in what follows from other keys.
pub(super) fn fill_derived(w: &mut Workload) {
    let steps = w.checkpoint.every_steps;
    if let Some(hashed) = w.embedding.hashed_mut().filter(|h| h.evicts()) {
        hashed.evict_every_steps = hashed.evict_every_steps.or(steps);
    }
}

/// What is wrong with a workload whose tables grow: a key, and what would be right.
pub(super) fn conflict(w: &Workload) -> Option<(&'static str, String)> {
    let hashed = w.embedding.hashed()?;
    let (l2, trick) = match &w.model {
        ModelConfig::Dlrm { trick, .. } => (0.0, *trick),
        ModelConfig::DeepFm { embedding_l2, .. } => (*embedding_l2, Trick::None),
    };
    let stores = |what: &str| {
        Some(("embedding.store", format!("is \"hashed\", which {what}, or use \"resident\"")))
    };
    if w.optimizer.rule.state().moves_all_rows {
        return stores(
            "has rows of what training has met only, and this rule moves all rows in each step; use a rule that does not (optimizer.rows = \"lazy\" for Adam)",
        );
    }
    if l2 > 0.0 {
        return stores(
            "has rows of what training has met only, and model.embedding_l2 moves all rows in each step; remove that",
        );
    }
    if !trick.is_none() {
        return stores("does not go with model.trick, whose tables share rows; remove that");
    }
    if w.model.init_rng() == InitRng::Numpy {
        return stores(
            "makes rows in the order of the data, and numbers of numpy's generator follow from those before; use model.init_rng = \"philox\"",
        );
    }
    if w.eval.restore_best {
        return Some((
            "eval.restore_best",
            "does not go with embedding.store = \"hashed\", whose rows come and go; use checkpoint.best = true".to_owned(),
        ));
    }
    filters(w, hashed).or_else(|| evictions(hashed))
}

fn filters(w: &Workload, hashed: &HashedConfig) -> Option<(&'static str, String)> {
    let refuse = |what: &str| Some(("embedding.filter", what.to_owned()));
    if hashed.filter.is_none() {
        return None;
    }
    if matches!(w.engine.embedding_rows, RowKind::Bf16 | RowKind::Fp16) {
        return refuse(
            "needs rows that keep all bits, for a new row learns from zero and is then moved; use engine.embedding_rows = \"fp32\" or \"bf16-split\", or filter = \"none\"",
        );
    }
    if w.optimizer.clip_norm.is_some() {
        return refuse(
            "drops the gradients of ids without a row, which would count in optimizer.clip_norm; remove that, or use filter = \"none\"",
        );
    }
    None
}

fn evictions(hashed: &HashedConfig) -> Option<(&'static str, String)> {
    if !hashed.evicts() || hashed.evict_every_steps.is_some() {
        return None;
    }
    let key = match hashed.steps_to_live {
        Some(_) => "embedding.steps_to_live",
        None => "embedding.l2_threshold",
    };
    Some((
        key,
        "says which rows are dropped, but not when; give embedding.evict_every_steps, or checkpoint.every_steps".to_owned(),
    ))
}
