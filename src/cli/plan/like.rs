//! What a rank can do, as a run of one rank has shown.

use crate::{
    cli::Failure,
    comm::links::Between,
    engine::{
        Phase,
        ranks::scaling::{Known, Link, Work},
    },
    results::{RunRecord, record},
};
use std::path::Path;

/// Rates of a run: operations and memory over the seconds of the phases that they take, what waits
/// for data, and links if it measured some. `work` is that of the run's model, `moved` what tables
/// move a sample.
pub(super) fn known(path: &Path, name: &str, work: &Work, moved: f64) -> Result<Known, Failure> {
    let file = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
    let record = record::read(&file).map_err(|e| Failure::Usage(e.to_string()))?;
    let wrong = |what: String| Failure::Usage(format!("--like {}: {what}", path.display()));
    if record.workload.name != name {
        return Err(wrong(format!("a run of {}, not of {name}", record.workload.name)));
    }
    if record.machine.ranks.len() > 1 {
        let ranks = record.machine.ranks.len();
        return Err(wrong(format!("a run of {ranks} ranks; a run of one shows what one can do")));
    }
    rates(&record, work, moved).ok_or_else(|| {
        wrong("its record has no times of embedding, layers and update; take a fused run".into())
    })
}

fn rates(record: &RunRecord, work: &Work, moved: f64) -> Option<Known> {
    let outcome = record.outcome.as_ref()?;
    let of = |phase: Phase| {
        let found = record.phases.iter().find(|p| p.phase == phase.name());
        found.map_or(0.0, |p| p.seconds)
    };
    let (samples, steps) = (outcome.samples as f64, outcome.steps as f64);
    let layers = of(Phase::Mlp) + of(Phase::Interaction) + of(Phase::Loss);
    let rows = of(Phase::Embedding) + of(Phase::Update);
    let all = samples > 0.0 && layers > 0.0 && rows > 0.0;
    let link = |between| {
        let found = record.links.iter().find(|l| l.between == between)?;
        Some(Link { latency: found.latency, bandwidth: found.bandwidth })
    };
    all.then(|| Known {
        flops: samples * work.flops / layers,
        memory: (samples * moved + steps * work.dense_moved) / rows,
        fixed: of(Phase::DataWait) / steps,
        per_host: None,
        inside: link(Between::InsideHost),
        between: link(Between::Hosts),
    })
}
