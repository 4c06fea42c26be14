//! A model in fewer bits, to predict with: which models there are of it, what they take.

use super::{
    Engine, EngineConfig, EngineError, EngineKind, FusedEngine, choose_device,
    memory::{self, MemoryPlan},
};
use crate::{
    backend::{Device, PART, Quantisation},
    model::ParamKind,
};
use serde::Serialize;

/// Bytes of a model's parameters in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModelBytes {
    /// Embedding rows, with their scales and biases or their weights, if they have them.
    pub tables: u64,
    /// All other parameters.
    pub layers: u64,
}

impl ModelBytes {
    /// Those of a model whose rows and layers are kept so.
    pub fn of(config: &EngineConfig, quantisation: Quantisation) -> Self {
        let mut all = ModelBytes { tables: 0, layers: 0 };
        for p in config.model.params() {
            let plain = 4 * p.len() as u64;
            match (p.kind, &p.shape[..]) {
                (ParamKind::Table, [rows, dim]) => {
                    let kept = match quantisation.of_rows(*dim) {
                        Some(kind) => rows * kind.row_bytes(*dim),
                        None => rows * dim * config.embedding_rows.bytes(),
                    };
                    all.tables += kept as u64;
                }
                (ParamKind::RowWeight, _) => all.tables += plain,
                (ParamKind::Weight, [outputs, inputs]) => {
                    let kept = quantisation.layers.map(|kind| kind.bytes([*outputs, *inputs]));
                    all.layers += kept.map_or(plain, |bytes| bytes as u64);
                }
                _ => all.layers += plain,
            }
        }
        all
    }
}

/// What a quantised engine takes for `config`.
pub fn quantised_plan(config: &EngineConfig, quantisation: Quantisation) -> MemoryPlan {
    let ModelBytes { tables, layers } = ModelBytes::of(config, quantisation);
    // What is quantised at a time, in f32: a layer, or a part of a table.
    let (mut largest, mut scratch) = (0, 0);
    for p in config.model.params() {
        match (p.kind, &p.shape[..]) {
            (ParamKind::Weight, [_, inputs]) => {
                if let Some(kind) = quantisation.layers {
                    largest = largest.max(p.len());
                    scratch = scratch.max(kind.scratch(config.part(), *inputs));
                }
            }
            (ParamKind::Table, [_, dim]) if quantisation.of_rows(*dim).is_some() => {
                largest = largest.max(p.len().min(PART));
            }
            _ => {}
        }
    }
    let mut plan = MemoryPlan::default();
    for (what, bytes) in memory::plan(EngineKind::Fused, config).items {
        match what {
            memory::TABLES => plan.add(what, tables),
            memory::DENSE => plan.add(what, layers),
            memory::TABLE_PART => {}
            _ => plan.add(what, bytes),
        }
    }
    let what = "a part of a table or a layer in f32, while it is quantised";
    plan.add(what, 4 * largest as u64);
    plan.add("inputs or weights of a layer on their way into a product", scratch as u64);
    plan
}

/// Error for tables that grow.
pub const HASHED: &str = "embedding.store is \"hashed\"; tables that grow are not quantised, so leave --rows and --layers out";

/// Whether an engine of this kind on `device` can compute quantised models.
///
/// # Errors
/// [`EngineError::Unsupported`], with what would be right.
pub fn can_quantise(kind: EngineKind, device: Device) -> Result<(), EngineError> {
    let refuse = |what: String| Err(EngineError::Unsupported(what));
    if kind != EngineKind::Fused {
        let name = kind.name();
        return refuse(format!(
            "engine.kind is {name}; a quantised model is computed by fused (--engine fused)"
        ));
    }
    match choose_device(kind, device).0 {
        Device::Cpu => Ok(()),
        device => refuse(format!(
            "engine.device is {device}; a quantised model is computed by the CPU (--device cpu)"
        )),
    }
}

/// An engine that only predicts, all parameters zeros: what is written to it is quantised.
///
/// # Errors
/// [`EngineError::Memory`] if there is not enough, [`EngineError::Unsupported`] if a layer is too
/// wide.
pub fn quantised(
    config: &EngineConfig,
    quantisation: Quantisation,
) -> Result<Box<dyn Engine>, EngineError> {
    if config.hashed.is_some() {
        return Err(EngineError::Unsupported(HASHED.into()));
    }
    Ok(Box::new(FusedEngine::quantised(config, quantisation)?))
}
