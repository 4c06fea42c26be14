//! Whether a run fits into memory: asked before anything large is allocated, so that the answer is a sentence and not a kill.

use crate::{
    data::source,
    engine::{EngineConfig, memory::MemoryPlan, memory::plan},
    model::ModelSpec,
    workload::Workload,
};

/// Sets how many bytes may be taken, instead of what the machine has left.
const LIMIT: &str = "DLRM_BENCH_MEMORY_LIMIT";
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

/// What the whole run takes: the data, and the engine with its batches where `config` is known already.
pub fn memory_plan(workload: &Workload, config: Option<&EngineConfig>) -> MemoryPlan {
    let mut all = MemoryPlan::default();
    all.add(DATA, source::resident_bytes(workload));
    let Some(config) = config else { return all };
    let engine = plan(workload.engine.kind, config);
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
    all.add("batches ahead of their use", BATCHES * config.max_batch as u64 * 4 * (1 + dense + ids + hotness.len() as u64));
    all.add("predictions of an evaluation", PER_PREDICTION * source::eval_samples(workload).unwrap_or(0));
    all
}

const DATA: &str = "samples held in memory";

/// Refuses a plan that does not fit into the memory that is free (or into `DLRM_BENCH_MEMORY_LIMIT` bytes).
pub fn check_memory(plan: &MemoryPlan) -> Result<(), NotEnoughMemory> {
    check_against(plan, available())
}

fn check_against(plan: &MemoryPlan, available: u64) -> Result<(), NotEnoughMemory> {
    let needed = plan.total();
    match plan.items.iter().max_by_key(|(_, bytes)| *bytes) {
        Some((what, _)) if needed > available => {
            let advice = match *what {
                DATA => "name fewer or smaller files",
                w if w.contains("tables") || w.contains("best") => {
                    "make the tables (data.max_rows, data.max_ind_range) or model.dim smaller"
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
    // A container may have less than the machine; files in the page cache give way, so only what processes hold is gone.
    let container = system.cgroup_limits().map_or(u64::MAX, |c| c.total_memory.saturating_sub(c.rss));
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

    #[test]
    fn the_machine_has_memory() {
        assert!(available() > 1 << 20);
    }
}
