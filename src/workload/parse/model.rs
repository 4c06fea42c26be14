//! `[model]`.

use super::{error::WorkloadError, reader::Reader, words::*};
use crate::{
    model::{EmbeddingInit, Interaction, MlpInit, Pooling},
    workload::{InitRng, ModelConfig},
};

type Result<T> = std::result::Result<T, WorkloadError>;

/// Layers wider than this are slips.
const MAX_WIDTH: usize = 1 << 20;

/// Reads and checks `[model]`.
pub(super) fn model(r: &Reader) -> Result<ModelConfig> {
    match r.must("model.kind")? {
        ModelWord::Dlrm => dlrm(r),
        ModelWord::DeepFm => deepfm(r),
    }
}

fn dlrm(r: &Reader) -> Result<ModelConfig> {
    let dim = dim(r)?;
    let bottom = widths(r, "model.bottom")?;
    let last = bottom.last().copied().unwrap_or_default();
    r.check("model.bottom", last == dim, || {
        format!("last width is {last}, but model.dim is {dim}; make them equal")
    })?;
    let top = widths(r, "model.top")?;
    let last = top.last().copied().unwrap_or_default();
    r.check("model.top", last == 1, || format!("last width is {last}; must be 1, the logit"))?;
    Ok(ModelConfig::Dlrm {
        dim,
        bottom,
        top,
        interaction: interaction(r, dim)?,
        pooling: r.or("model.pooling", Pooling::Sum)?,
        dense_pad_to: padding(r, "model.dense_pad_to")?,
        mlp_init: r.or("model.mlp_init", MlpInit::Facebook)?,
        embedding_init: embedding_init(r, EmbeddingInitWord::UniformSqrtInvRows)?,
        init_rng: r.or("model.init_rng", InitRng::Philox)?,
    })
}

fn deepfm(r: &Reader) -> Result<ModelConfig> {
    let dropout = r.or("model.dropout", 0.0)?;
    let l2 = r.or("model.embedding_l2", 0.0)?;
    Ok(ModelConfig::DeepFm {
        dim: dim(r)?,
        hidden: widths(r, "model.hidden")?,
        batch_norm: r.or("model.batch_norm", false)?,
        dropout: r.within(
            "model.dropout",
            dropout,
            |p: f32| (0.0..1.0).contains(&p),
            "from 0 to below 1",
        )?,
        embedding_l2: r.within("model.embedding_l2", l2, |x: f32| x >= 0.0, "0 or more")?,
        mlp_init: r.or("model.mlp_init", MlpInit::XavierNormal)?,
        embedding_init: embedding_init(r, EmbeddingInitWord::Normal)?,
        init_rng: r.or("model.init_rng", InitRng::Philox)?,
    })
}

fn dim(r: &Reader) -> Result<usize> {
    r.within(
        "model.dim",
        r.must("model.dim")?,
        |d| (1..=MAX_WIDTH).contains(&d),
        "from 1 to 1048576",
    )
}

fn widths(r: &Reader, key: &'static str) -> Result<Vec<usize>> {
    let widths: Vec<usize> = r.must(key)?;
    r.check(key, !widths.is_empty(), || "is empty; must hold at least one width".to_owned())?;
    for &w in &widths {
        r.within(key, w, |w| (1..=MAX_WIDTH).contains(&w), "widths from 1 to 1048576")?;
    }
    Ok(widths)
}

fn padding(r: &Reader, key: &'static str) -> Result<usize> {
    r.within(key, r.or(key, 1)?, |p| (1..=MAX_WIDTH).contains(&p), "from 1 (no padding) to 1048576")
}

fn interaction(r: &Reader, dim: usize) -> Result<Interaction> {
    let word = r.or("model.interaction", InteractionWord::Dot)?;
    match word {
        InteractionWord::Cross => return cross(r),
        InteractionWord::Projection => return projection(r, dim),
        InteractionWord::Dot | InteractionWord::Cat => {}
    }
    let itself = r.or("model.self_interaction", false)?;
    let pad_to = padding(r, "model.pad_to")?;
    match word {
        InteractionWord::Dot => Ok(Interaction::Dot { itself, pad_to }),
        _ => {
            let only_dot = |what: &str| {
                format!("{what} only with interaction = \"dot\", but it is \"cat\"; remove it")
            };
            r.check("model.self_interaction", !itself, || {
                only_dot("is true, which has a meaning")
            })?;
            r.check("model.pad_to", pad_to == 1, || {
                only_dot(&format!("is {pad_to}; padding exists"))
            })?;
            Ok(Interaction::Cat)
        }
    }
}

fn cross(r: &Reader) -> Result<Interaction> {
    let (layers, rank) = (r.or("model.cross_layers", 3)?, r.opt("model.cross_rank")?);
    Ok(Interaction::Cross {
        layers: r.within(
            "model.cross_layers",
            layers,
            |n| (1..=100).contains(&n),
            "from 1 to 100",
        )?,
        rank: r.within_opt(
            "model.cross_rank",
            rank,
            |n| (1..=MAX_WIDTH).contains(&n),
            "from 1 to 1048576; without it weights have full rank",
        )?,
    })
}

fn projection(r: &Reader, dim: usize) -> Result<Interaction> {
    let branch = |key: &'static str| {
        let widths = widths(r, key)?;
        let last = widths.last().copied().unwrap_or_default();
        r.check(key, last.is_multiple_of(dim), || {
            format!("last width is {last}; must be a multiple of model.dim, {dim}")
        })?;
        Ok(widths)
    };
    Ok(Interaction::Projection { branches: [branch("model.branch1")?, branch("model.branch2")?] })
}

fn embedding_init(r: &Reader, default: EmbeddingInitWord) -> Result<EmbeddingInit> {
    Ok(match r.or("model.embedding_init", default)? {
        EmbeddingInitWord::UniformSqrtInvRows => EmbeddingInit::UniformSqrtInvRows,
        EmbeddingInitWord::TruncatedNormal => EmbeddingInit::TruncatedNormal,
        EmbeddingInitWord::Normal => {
            let std = r.or("model.embedding_init_std", 1e-4)?;
            EmbeddingInit::Normal {
                std: r.within("model.embedding_init_std", std, |s: f32| s > 0.0, "above 0")?,
            }
        }
    })
}
