//! What does not go with tables that grow, or are larger than memory.

use crate::{
    backend::Device,
    embedding::{RowKind, StoreConfig, cached::CachedStore, hashed::HashedConfig},
    engine::EngineKind,
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

/// Which key keeps the rows of a workload from being cached, if one does.
pub fn keeps_from_caching(w: &Workload) -> Option<&'static str> {
    let cached = StoreConfig::Cached(CachedStore::default());
    let w = Workload { embedding: cached, ..w.clone() };
    match conflict(&w)? {
        ("embedding.store", _) if w.optimizer.rule.state().moves_all_rows => Some("optimizer.rows"),
        ("embedding.store", _) if !no_trick(&w) => Some("model.trick"),
        ("embedding.store", _) if w.model.init_rng() == InitRng::Numpy => Some("model.init_rng"),
        ("embedding.store", _) => Some("model.embedding_l2"),
        ("embedding.device_cache", _) => Some("engine.device"),
        (key, _) => Some(key),
    }
}

/// Whether each column has a table of its own.
fn no_trick(w: &Workload) -> bool {
    !matches!(&w.model, ModelConfig::Dlrm { trick, .. } if !trick.is_none())
}

/// What is wrong with a workload whose rows are not all in memory, or come and go: a key, and what
/// would be right.
pub(super) fn conflict(w: &Workload) -> Option<(&'static str, String)> {
    if w.data.has_keys()
        && let Some(what) = keys(w)
    {
        return Some(("data.ids", what));
    }
    match &w.embedding {
        StoreConfig::Resident | StoreConfig::Auto(_) => None,
        StoreConfig::Cached(store) => stays_in_memory(w, "cached", "a file for most of its rows")
            .or_else(|| on_device(w, store))
            .or_else(|| cached(w)),
        StoreConfig::Hashed(store) => {
            let hashed = &store.config;
            stays_in_memory(w, "hashed", "rows of what training has met only")
                .or_else(|| store.tier.as_ref().and_then(|_| tier(w)))
                .or_else(|| restored(w))
                .or_else(|| filters(w, hashed))
                .or_else(|| evictions(hashed))
        }
    }
}

/// What does not go with ids that are keys of 64 bits.
fn keys(w: &Workload) -> Option<String> {
    if w.embedding.hashed().is_none() {
        return Some("is \"keys\", any numbers of 64 bits, for which only tables that grow have rows; must be \"rows\", or embedding.store \"hashed\"".to_owned());
    }
    if matches!(&w.embedding, StoreConfig::Hashed(h) if !h.resident.is_empty()) {
        return Some("is \"keys\", any numbers of 64 bits, for which only tables that grow have rows; leave embedding.resident out".to_owned());
    }
    let reduced = match &w.data {
        DataConfig::Parquet(d) => d.max_ind_range.map(|_| "data.max_ind_range"),
        DataConfig::Files(d) => d.max_ind_range.map(|_| "data.max_ind_range"),
        DataConfig::Prepared(d) => d.id_range.map(|_| "data.id_range"),
        DataConfig::Csv(d) if d.hash_buckets.is_some() => Some("data.hash_buckets"),
        DataConfig::Csv(d) => (d.min_count > 1).then_some("data.min_count"),
        _ => None,
    };
    reduced.map(|key| {
        format!(
            "is \"keys\", any numbers of 64 bits, of which {key} makes others; remove one of them"
        )
    })
}

/// What needs all rows at once.
fn stays_in_memory(w: &Workload, store: &str, has: &str) -> Option<(&'static str, String)> {
    let (l2, trick) = match &w.model {
        ModelConfig::Dlrm { trick, .. } => (0.0, *trick),
        ModelConfig::DeepFm { embedding_l2, .. } => (*embedding_l2, Trick::None),
    };
    let refuse = |what: String| {
        Some(("embedding.store", format!("is \"{store}\", which {what}, or use \"resident\"")))
    };
    if w.optimizer.rule.state().moves_all_rows {
        return refuse(format!(
            "has {has}, and this rule moves all rows in each step; use a rule that does not (optimizer.rows = \"lazy\" for Adam)"
        ));
    }
    if l2 > 0.0 {
        return refuse(format!(
            "has {has}, and model.embedding_l2 moves all rows in each step; remove that"
        ));
    }
    if !trick.is_none() {
        return refuse(
            "does not go with model.trick, whose tables share rows; remove that".to_owned(),
        );
    }
    if w.model.init_rng() == InitRng::Numpy {
        return refuse(
            "makes rows in the order of the data, and numbers of numpy's generator follow from those before; use model.init_rng = \"philox\"".to_owned(),
        );
    }
    None
}

/// Whose memory rows are cached in. An `auto` device is asked again once it is known.
fn on_device(w: &Workload, store: &CachedStore) -> Option<(&'static str, String)> {
    const KEY: &str = "embedding.device_cache";
    match (w.engine.device, store.device_cache) {
        (Device::Cuda(_), _) if w.engine.kind == EngineKind::Candle => {
            let what = "is \"candle\", which has all rows in a GPU's memory; use \"fused\", or embedding.store = \"resident\"";
            Some(("engine.kind", what.to_owned()))
        }
        (Device::Cuda(n), None) => Some((
            KEY,
            format!(
                "missing: how much of the memory of cuda:{n} rows may take (as \"40GiB\"); embedding.cache is that of the host behind it"
            ),
        )),
        (device @ (Device::Cpu | Device::Npu(_)), Some(size)) => Some((
            KEY,
            format!(
                "is {size}, of a GPU's memory, and engine.device is \"{device}\", whose rows are in embedding.cache; remove it, or use a GPU"
            ),
        )),
        _ => None,
    }
}

/// What tables that grow have not beyond memory.
fn tier(w: &Workload) -> Option<(&'static str, String)> {
    if matches!(w.engine.device, Device::Cuda(_)) {
        let what = "is a GPU, for which tables that grow have all rows in its memory; remove embedding.cache, or use \"cpu\"";
        return Some(("engine.device", what.to_owned()));
    }
    cached(w)
}

/// What the cache has not.
fn cached(w: &Workload) -> Option<(&'static str, String)> {
    if w.engine.kind == EngineKind::Candle && w.optimizer.clip_norm.is_some() {
        let what = "is summed by candle in the order of slots, which depends on the size of embedding.cache; use engine.kind = \"fused\", or remove it";
        return Some(("optimizer.clip_norm", what.to_owned()));
    }
    None
}

fn restored(w: &Workload) -> Option<(&'static str, String)> {
    w.eval.restore_best.then(|| {
        (
            "eval.restore_best",
            "does not go with embedding.store = \"hashed\", whose rows come and go; use checkpoint.best = true".to_owned(),
        )
    })
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
