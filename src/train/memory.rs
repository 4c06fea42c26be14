//! Whether a run fits into memory: asked before anything large is allocated, so that the answer is
//! a sentence and not a kill.

use super::{TrainError, made_on_device};
use crate::{
    backend::{Device, Quantisation, cuda::scores_bytes},
    data::source,
    embedding::RowKind,
    engine::EngineKind,
    engine::{
        EngineConfig, EngineError,
        memory::{
            DERIVED, KEYS, MemoryPlan, SLOTS, TABLE_STATE, behind_gpu, derived, gpu_plan, keys,
            plan,
        },
        quantised_plan,
    },
    host::Size,
    model::ModelSpec,
    system::Limits,
    workload::{EvalCache, TrainSection, Workload},
};

/// Bytes that a run may take instead of those that are free.
pub const LIMIT: &str = "DLRM_BENCH_MEMORY_LIMIT";
/// Batches on their way between loader and engine.
const BATCHES: u64 = 6;
/// A prediction with its label, and both again sorted, for the metrics.
const PER_PREDICTION: u64 = 24;

/// A run that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory: this takes about {}, most of it for {what}, but {} are free; {advice}", shown(*.needed), shown(*.available))]
pub struct NotEnoughMemory {
    /// Bytes that the run takes.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
    /// What takes most.
    pub what: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// Bytes for people: `1.50 GB`, `20.0 MB`, `3.0 kB`.
pub fn shown(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} kB", b / 1e3),
    }
}

/// What the whole run takes of the host's memory: the data, and the engine with its batches where
/// `config` is known already.
pub fn memory_plan(workload: &Workload, config: Option<&EngineConfig>) -> MemoryPlan {
    let Some(config) = config else {
        let mut all = MemoryPlan::default();
        all.add(DATA, source::resident_bytes(&workload.data));
        return all;
    };
    let engine = match workload.engine.device {
        Device::Cuda(_) => {
            let mut host = MemoryPlan::default();
            if workload.engine.kind == EngineKind::Fused {
                host.add(DERIVED, derived(config));
            }
            host.add(KEYS, keys(config));
            host.items.extend(behind_gpu(config).items);
            host
        }
        Device::Cpu | Device::Npu(_) | Device::Auto => plan(workload.engine.kind, config),
    };
    around(workload, config, engine)
}

/// What judging a quantised model takes of the host's memory.
pub fn quantised_memory_plan(
    workload: &Workload,
    config: &EngineConfig,
    quantisation: Quantisation,
) -> MemoryPlan {
    around(workload, config, quantised_plan(config, quantisation))
}

/// An engine, and what is around it.
fn around(workload: &Workload, config: &EngineConfig, engine: MemoryPlan) -> MemoryPlan {
    let mut all = MemoryPlan::default();
    all.add(DATA, source::resident_bytes(&workload.data));
    let parameters = config.model.params().iter().map(|p| 4 * p.len() as u64).sum();
    all.items.extend(engine.items);
    if workload.eval.restore_best {
        all.add("the best parameters, to be restored", parameters);
    }
    let hotness = &config.max_hotness;
    let ids: u64 = hotness.iter().map(|&h| h as u64).sum();
    let dense = match &config.model {
        ModelSpec::Dlrm(m) => m.dense as u64,
        ModelSpec::DeepFm(m) => m.dense as u64,
    };
    let batches = if made_on_device(workload) { 0 } else { BATCHES };
    all.add(
        "batches ahead of their use",
        batches * config.max_batch as u64 * 4 * (1 + dense + ids + hotness.len() as u64),
    );
    if !(workload.engine.kind == EngineKind::Fused
        && matches!(workload.engine.device, Device::Cuda(_)))
    {
        all.add(PREDICTIONS, PER_PREDICTION * eval_samples(workload).unwrap_or(0));
    }
    let cached = config.cached.as_ref();
    if let Some(spec) = cached.filter(|_| workload.checkpoint.linked == Some(true)) {
        let rows = spec.columns.iter().filter(|c| !c.fits()).map(|c| c.rows as u64).sum::<u64>();
        all.add("where rows are in the file, for a checkpoint", 4 * rows);
    }
    if workload.eval.cache == Some(EvalCache::Always) {
        let sample = 4 * (1 + dense + ids + hotness.len() as u64);
        all.add("the evaluation split (eval.cache)", sample * eval_samples(workload).unwrap_or(0));
    }
    all
}

/// What the run takes of a GPU's memory, if it is to compute.
pub fn device_plan(workload: &Workload, config: &EngineConfig) -> Option<MemoryPlan> {
    matches!(workload.engine.device, Device::Cuda(_)).then(|| on_gpu(workload, config))
}

/// What a run would take of a GPU's memory.
fn on_gpu(workload: &Workload, config: &EngineConfig) -> MemoryPlan {
    let kind = workload.engine.kind;
    let mut plan = gpu_plan(kind, config);
    if kind == EngineKind::Fused {
        plan.add(PREDICTIONS, scores_bytes(eval_samples(workload).unwrap_or(0)));
    }
    plan
}

/// Samples of an evaluation, where that is known before data are opened.
fn eval_samples(workload: &Workload) -> Option<u64> {
    let all = source::eval_samples(&workload.data);
    workload.eval.samples.map(|n| n.min(all.unwrap_or(n))).or(all)
}

/// A run that does not fit into a GPU's memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory on {device}: this takes about {}, most of it for {what}, but {} are free, {} too little; {}",
    shown(*.needed), shown(*.available), shown(.needed - .available), advice(.fitting)
)]
pub struct TooLarge {
    /// Which GPU.
    pub device: Device,
    /// Bytes that the run takes.
    pub needed: u64,
    /// Bytes that are free.
    pub available: u64,
    /// What takes most.
    pub what: &'static str,
    /// Changes that would make it fit, with the bytes that it would then take.
    pub fitting: Vec<(String, u64)>,
}

fn advice(fitting: &[(String, u64)]) -> String {
    let all: Vec<String> = fitting
        .iter()
        .map(|(change, bytes)| format!("{change} would take {}", shown(*bytes)))
        .collect();
    if all.is_empty() {
        "make train.batch_size, eval.batch_size or model.dim smaller, or train.micro_batches larger"
            .into()
    } else {
        all.join("; ")
    }
}

/// Refuses what does not fit into the memory that is free on the GPU that is to compute, if one is.
///
/// # Errors
/// [`TooLarge`], with changes that would fit; or what the GPU lacks.
pub fn check_device(workload: &Workload, config: &EngineConfig) -> Result<(), TrainError> {
    let Some(driver) = workload.engine.device.open().map_err(EngineError::from)? else {
        return Ok(());
    };
    let available = driver.available().map_err(EngineError::from)?;
    Ok(fits(workload, config, available)?)
}

/// Refuses what takes more than `available` bytes.
///
/// # Errors
/// [`TooLarge`], with what takes how much and what would fit.
pub fn fits(workload: &Workload, config: &EngineConfig, available: u64) -> Result<(), TooLarge> {
    let plan = on_gpu(workload, config);
    let needed = plan.total();
    match plan.items.iter().max_by_key(|(_, bytes)| *bytes) {
        Some((what, _)) if needed > available => {
            let device = workload.engine.device;
            Err(TooLarge {
                device,
                needed,
                available,
                what,
                fitting: changes(workload, config, available),
            })
        }
        _ => Ok(()),
    }
}

/// The cache that would fit into a GPU's memory, in whole MiB.
fn smaller_cache(plan: &MemoryPlan, available: u64) -> Vec<(String, u64)> {
    let of_rows = plan.items.iter().filter(|(what, _)| [SLOTS, TABLE_STATE].contains(what));
    let (rows, needed) = (of_rows.map(|(_, bytes)| bytes).sum::<u64>(), plan.total());
    let most = rows.saturating_sub(needed.saturating_sub(available)) >> 20 << 20;
    let takes = needed - rows + most;
    let change = format!("embedding.device_cache = \"{}\"", Size(most));
    if most > 0 { vec![(change, takes)] } else { Vec::new() }
}

/// Changes of a workload that would make it fit, the least first: batches in parts, other tables.
fn changes(workload: &Workload, config: &EngineConfig, available: u64) -> Vec<(String, u64)> {
    const CAPS: [usize; 7] =
        [100_000_000, 40_000_000, 10_000_000, 4_000_000, 1_000_000, 400_000, 100_000];
    const PARTS: [usize; 6] = [2, 4, 8, 16, 32, 64];
    if config.cached.is_some() {
        return smaller_cache(&on_gpu(workload, config), available);
    }
    let rows = "engine.embedding_rows = \"bf16\"";
    let narrow = EngineConfig { embedding_rows: RowKind::Bf16, ..config.clone() };
    let takes = |config: &EngineConfig| {
        Some(on_gpu(workload, config).total()).filter(|&bytes| bytes <= available)
    };
    let capped = |config: &EngineConfig| {
        let largest = config.model.tables().iter().copied().max().unwrap_or(0);
        CAPS.into_iter()
            .filter(|&cap| cap < largest)
            .find_map(|cap| Some((cap, takes(&with_cap(config, cap))?)))
    };
    let mut all = Vec::new();
    let parts = PARTS.into_iter().filter(|&n| n > workload.train.micro_batches).find_map(|n| {
        let train = TrainSection { micro_batches: n, ..workload.train.clone() };
        let cut = EngineConfig { micro_batch: train.micro_batch(), ..config.clone() };
        let possible = train.possible_micro_batches() == n;
        Some((n, if possible { takes(&cut) } else { None }?))
    });
    all.extend(parts.map(|(n, bytes)| (format!("train.micro_batches = {n}"), bytes)));
    // Candle keeps rows in f32.
    let wide = workload.engine.kind == EngineKind::Fused && config.embedding_rows.bytes() > 2;
    let halved = if wide { takes(&narrow) } else { None };
    all.extend(halved.map(|bytes| (rows.to_owned(), bytes)));
    if let Some((cap, bytes)) = capped(config) {
        all.push((
            format!("tables of at most {cap} rows (data.max_rows, data.max_ind_range)"),
            bytes,
        ));
    }
    if halved.is_none()
        && wide
        && let Some((cap, bytes)) = capped(&narrow)
    {
        all.push((format!("{rows} with tables of at most {cap} rows"), bytes));
    }
    all
}

/// The model with no table above `cap` rows.
fn with_cap(config: &EngineConfig, cap: usize) -> EngineConfig {
    let mut config = config.clone();
    let (ModelSpec::Dlrm(crate::model::DlrmSpec { tables, .. })
    | ModelSpec::DeepFm(crate::model::DeepFmSpec { tables, .. })) = &mut config.model;
    tables.iter_mut().for_each(|rows| *rows = (*rows).min(cap));
    config
}

const PREDICTIONS: &str = "predictions of an evaluation";
const DATA: &str = "samples held in memory";

/// Refuses a plan that does not fit into the memory that is free (or into `DLRM_BENCH_MEMORY_LIMIT`
/// bytes).
///
/// # Errors
/// [`NotEnoughMemory`], with what takes how much.
pub fn check_memory(plan: &MemoryPlan) -> Result<(), NotEnoughMemory> {
    check_against(plan, available())
}

fn check_against(plan: &MemoryPlan, available: u64) -> Result<(), NotEnoughMemory> {
    let needed = plan.total();
    match plan.items.iter().max_by_key(|(_, bytes)| *bytes) {
        Some((what, _)) if needed > available => {
            let advice = match *what {
                DATA => "name fewer or smaller files",
                w if w.contains("behind the GPU") => "make embedding.cache smaller",
                w if w.contains("tables") || w.contains("best") => {
                    "make the tables (data.max_rows, data.max_ind_range) or model.dim smaller"
                }
                w if w.contains("activations") => {
                    "make train.batch_size and eval.batch_size smaller, or train.micro_batches larger"
                }
                _ => "make train.batch_size and eval.batch_size smaller",
            };
            Err(NotEnoughMemory { needed, available, what, advice })
        }
        _ => Ok(()),
    }
}

/// Bytes that a run may take.
pub fn available() -> u64 {
    if let Some(limit) = std::env::var(LIMIT).ok().and_then(|v| v.trim().parse().ok()) {
        return limit;
    }
    // A machine that does not tell is taken to have enough.
    let Ok(mut system) = sysinfo::System::new() else { return u64::MAX };
    system.refresh_memory();
    // A container may have less than the machine; files in the page cache give way, so only what
    // processes hold is gone.
    let container = Limits::here().memory_free.unwrap_or(u64::MAX);
    system.available_memory().min(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        let mut plan = MemoryPlan::default();
        plan.add("embedding tables", 3_000_000_000);
        plan.add("nothing", 0);
        plan.add("dense parameters", 10_000_000);
        assert_eq!((plan.items.len(), plan.total()), (2, 3_010_000_000));
        assert_eq!(check_against(&plan, 3_010_000_000), Ok(()));
        let refusal = check_against(&plan, 2_000_000_000).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "not enough memory: this takes about 3.01 GB, most of it for embedding tables, but 2.00 GB are free; make the tables \
             (data.max_rows, data.max_ind_range) or model.dim smaller"
        );
    }

    /// A GPU's cache takes what it is given of its memory, and what is behind it of the host's; one that
    /// is too large is told what would fit, and that does.
    #[test]
    fn a_gpus_cache_is_made_smaller_until_it_fits() {
        let plans = |device_cache: &str| {
            let set = [
                "data.max_rows=1000000",
                "engine.device=cuda:0",
                "embedding.store=cached",
                "embedding.cache=32MiB",
                device_cache,
            ];
            let set = set.map(str::to_owned);
            let w = crate::workload::load(std::path::Path::new("quickstart"), &set).unwrap();
            let config = w.workload.engine_config(&w.workload.data_schema().unwrap().unwrap());
            (w.workload, config.unwrap())
        };
        let (w, config) = plans("embedding.device_cache=128MiB");
        let plan = device_plan(&w, &config).unwrap();
        let (small, large) = (127u64 << 20, 128u64 << 20);
        let rows = plan.items[0].1 + plan.items[1].1;
        assert!((small..=large).contains(&rows), "{:?}", plan.items);
        let host = memory_plan(&w, Some(&config));
        assert!(host.items.contains(&("rows behind the GPU's", 32 << 20)), "{:?}", host.items);
        let free = plan.total() - (20 << 20) - 5;
        let told = fits(&w, &config, free).unwrap_err().to_string();
        assert!(told.contains("embedding.device_cache = \"107MiB\" would take"), "{told}");
        let (w, config) = plans("embedding.device_cache=107MiB");
        assert_eq!(fits(&w, &config, free), Ok(()));
        // One that has room for all rows takes no more than they do.
        let (w, config) = plans("embedding.device_cache=900GiB");
        let all = device_plan(&w, &config).unwrap().total();
        let told = fits(&w, &config, all - (20 << 20)).unwrap_err().to_string();
        let (_, told) = told.split_once("embedding.device_cache = \"").unwrap();
        let size = told.split('"').next().unwrap();
        let (w, config) = plans(&format!("embedding.device_cache={size}"));
        assert_eq!(fits(&w, &config, all - (20 << 20)), Ok(()));
    }

    #[test]
    fn what_does_not_fit_on_a_gpu_is_told_what_would() {
        let file =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/quickstart.toml");
        let set =
            ["data.max_rows=50000000", "model.dim=64", "model.bottom=[64]", "train.batch_size=256"]
                .map(str::to_owned);
        let mut w = crate::workload::load(&file, &set).unwrap().workload;
        w.engine.device = Device::Cuda(1);
        let config = w.engine_config(&w.data_schema().unwrap().unwrap()).unwrap();
        let needed = device_plan(&w, &config).unwrap().total();
        // Two words for each prediction, and something for sorting them.
        assert!(needed - gpu_plan(EngineKind::Fused, &config).total() > 8 * 100_000);
        assert_eq!(fits(&w, &config, needed), Ok(()));
        let refused = fits(&w, &config, needed - 1_000_000).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("cuda:1")
                && text.contains("1.0 MB too little")
                && refused.what == "embedding tables",
            "{text}"
        );
        assert!(
            text.contains("bf16")
                && text.contains("tables of at most")
                && refused.fitting.iter().all(|f| f.1 < needed),
            "{text}"
        );
        let tight = fits(&w, &config, 200_000_000).unwrap_err().to_string();
        // A large batch fits in parts.
        let set = ["data.max_rows=5000", "train.batch_size=65536", "eval.batch_size=256"];
        let w = crate::workload::load(&file, &set.map(str::to_owned)).unwrap().workload;
        let config = w.engine_config(&w.data_schema().unwrap().unwrap()).unwrap();
        let whole = on_gpu(&w, &config).total();
        let text = fits(&w, &config, whole / 10 * 7).unwrap_err().to_string();
        assert!(text.contains("train.micro_batches = ") && !text.contains("tables of"), "{text}");
        assert!(
            tight.contains("\"bf16\" with tables of at most") || !tight.contains("bf16"),
            "{tight}"
        );
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(available() > 1 << 20);
    }
}
