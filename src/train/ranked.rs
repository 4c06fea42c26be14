//! A model on several ranks: whether it can be, where its tables go, and whether they fit.

use super::{TrainError, memory::shown, served};
use crate::{
    comm::Team,
    engine::{
        Engine, EngineConfig, EngineError, EngineKind,
        ranks::{Load, Placement, lead, place, refusal},
    },
    model::init::Initializer,
    workload::Workload,
};
use std::rc::Rc;

/// Refuses what several ranks cannot train, and tables that do not fit.
pub(super) fn check(
    workload: &Workload,
    config: &EngineConfig,
    team: &Team,
) -> Result<(), TrainError> {
    if workload.comm.server().is_some() {
        return served::check(workload, config, Some(team));
    }
    let ranks = team.members.len();
    let engine = &workload.engine;
    if engine.kind != EngineKind::Fused {
        let what = format!(
            "{ranks} ranks train with the fused engine; use engine.kind = \"fused\", or one rank"
        );
        return Err(TrainError::Ranks(what));
    }
    let devices = workload.comm.ranks(engine.device).devices;
    let refused = refusal(config, ranks).map(str::to_owned);
    if let Some(what) = refused.or_else(|| devices.refusal(config, ranks)) {
        return Err(TrainError::Ranks(what));
    }
    let loads = placement(workload, config, team)?.loads;
    match engine.device.open().map_err(EngineError::from)? {
        Some(gpu) => fits_gpu(gpu.available().map_err(EngineError::from)?, &loads[0]),
        None => fits(team, &loads),
    }
}

/// Refuses tables of the first rank that take more than the free memory of its GPU. The others say
/// so themselves.
fn fits_gpu(free: u64, load: &Load) -> Result<(), TrainError> {
    if load.bytes <= free {
        return Ok(());
    }
    Err(TrainError::Ranks(format!(
        "tables of rank 0 take {} with their optimizer state, and {} are free on its GPU; use more ranks, smaller tables or engine.embedding_rows = \"bf16\"",
        shown(load.bytes),
        shown(free)
    )))
}

/// Where tables go: by what a step of training moves.
fn placement(
    workload: &Workload,
    config: &EngineConfig,
    team: &Team,
) -> Result<Placement, TrainError> {
    let config = EngineConfig { max_batch: workload.train.batch_size, ..config.clone() };
    place(&config, team.members.len(), None).map_err(|e| TrainError::Ranks(e.to_string()))
}

/// Refuses tables that take more than the free memory of a host.
pub(super) fn fits(team: &Team, loads: &[Load]) -> Result<(), TrainError> {
    for host in team.hosts() {
        let there = team.members.iter().zip(loads).filter(|(m, _)| m.host == host);
        let needed: u64 = there.clone().map(|(_, load)| load.bytes).sum();
        let free = there.map(|(m, _)| m.memory).min().unwrap_or(0);
        if needed > free {
            return Err(TrainError::Ranks(format!(
                "tables on host {host} take {} with their optimizer state, and {} are free; use more hosts, smaller tables or engine.embedding_rows = \"bf16\"",
                shown(needed),
                shown(free)
            )));
        }
    }
    Ok(())
}

/// Makes the model on all ranks, with a sentence about which has how much.
pub(super) fn engine(
    workload: &Workload,
    config: &EngineConfig,
    team: &Team,
    init: &mut Initializer,
) -> Result<(Box<dyn Engine>, String), TrainError> {
    if let Some(server) = workload.comm.server() {
        return served::engine(server, config, team, init);
    }
    let placement = placement(workload, config, team)?;
    let of = |load: &Load| format!("{} ({})", load.columns.len(), shown(load.bytes));
    let mut note = format!(
        "columns whose tables each rank has, and their bytes: {}; the busiest moves {:.2} times the mean",
        placement.loads.iter().map(of).collect::<Vec<_>>().join(", "),
        placement.imbalance()
    );
    let cut = placement.owners.iter().enumerate().filter(|(_, owners)| owners.len() > 1);
    let cut: Vec<String> =
        cut.map(|(c, owners)| format!("C{} / {}", c + 1, owners.len())).collect();
    if !cut.is_empty() {
        note += &format!("; rows dealt out: {}", cut.join(", "));
    }
    let everywhere = placement.everywhere.iter().map(|column| format!("C{}", column + 1));
    let everywhere: Vec<String> = everywhere.collect();
    if !everywhere.is_empty() {
        note += &format!("; on all ranks: {}", everywhere.join(", "));
    }
    let comm = Rc::clone(&team.comm);
    let engine = lead(comm, config, workload.comm.ranks(workload.engine.device), placement, init)?;
    Ok((Box::new(engine), note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::{Member, threads};

    #[test]
    fn a_host_without_room_is_named() {
        let member = |host: &str, memory| Member {
            program: String::new(),
            host: host.into(),
            cpu: String::new(),
            cores: 1,
            memory,
        };
        let comm = Rc::new(threads::ranks(1).remove(0));
        let members = vec![member("a", 100), member("b", 50), member("a", 90)];
        let team = Team { comm, members };
        let loads = |bytes: [u64; 3]| bytes.map(|bytes| Load { bytes, ..Load::default() });
        assert!(fits(&team, &loads([40, 50, 50])).is_ok());
        let full = fits(&team, &loads([40, 50, 51])).unwrap_err().to_string();
        assert!(full.starts_with("tables on host a take 0.1 kB with"), "{full}");
        let load = Load { bytes: 2_000, ..Load::default() };
        assert!(fits_gpu(2_000, &load).is_ok());
        let full = fits_gpu(1_999, &load).unwrap_err().to_string();
        assert!(full.starts_with("tables of rank 0 take 2.0 kB with"), "{full}");
    }
}
