//! Which engine a configuration asks for, and what stands in front of it.

use super::{
    CandleEngine, Engine, EngineConfig, EngineError, EngineKind, FusedEngine, cached::CachedEngine,
    choose_device, hashed::HashedEngine,
};
use crate::{backend::Device, model::init::Initializer};

/// The engine of this kind on `device` for `config`, its parameters filled by `init`, which is to
/// be fresh, and of [`EngineConfig::whole_model`].
///
/// # Errors
/// [`EngineError::Memory`] if there is not enough, [`EngineError::Unsupported`] if the device lacks
/// something, and whatever else an engine finds wrong with its configuration.
pub fn build(
    kind: EngineKind,
    device: Device,
    config: &EngineConfig,
    init: &mut Initializer,
) -> Result<Box<dyn Engine>, EngineError> {
    let Some(spec) = &config.hashed else { return behind_keys(kind, device, config, init) };
    init.leave(config.growing(spec));
    let inner = behind_keys(kind, device, config, init)?;
    Ok(Box::new(HashedEngine::new(inner, config, spec, init)?))
}

/// The same, with tables of rows where keys have some.
fn behind_keys(
    kind: EngineKind,
    device: Device,
    config: &EngineConfig,
    init: &mut Initializer,
) -> Result<Box<dyn Engine>, EngineError> {
    let Some(spec) = &config.cached else { return plain(kind, device, config, init) };
    let chosen = choose_device(kind, device).0;
    let fits = match chosen {
        Device::Cuda(_) => kind == EngineKind::Fused && spec.host.is_some(),
        _ => spec.host.is_none(),
    };
    if !fits || matches!(chosen, Device::Npu(_)) {
        return Err(EngineError::Unsupported(format!(
            "rows are cached in the memory of what computes: embedding.device_cache is that of a GPU with the fused engine, without it that of a CPU; the device is {chosen}"
        )));
    }
    init.leave(config.outside(spec));
    let inner = plain(kind, device, &config.behind(), init)?;
    Ok(Box::new(CachedEngine::new(inner, config, spec, init)?))
}

/// The same, with tables of slots where not all rows are in memory.
fn plain(
    kind: EngineKind,
    device: Device,
    config: &EngineConfig,
    init: &mut Initializer,
) -> Result<Box<dyn Engine>, EngineError> {
    Ok(match (kind, choose_device(kind, device).0) {
        (EngineKind::Fused, device @ Device::Npu(_)) => {
            return Err(EngineError::Unsupported(format!("{device}: not built")));
        }
        (EngineKind::Fused, Device::Cuda(n)) => Box::new(FusedEngine::on_gpu(n, config, init)?),
        (EngineKind::Fused, _) => Box::new(FusedEngine::new(config, init)?),
        (EngineKind::Candle, device) => Box::new(CandleEngine::new(device, config, init)?),
    })
}
