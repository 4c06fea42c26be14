//! A model on a parameter server: whether it can be, and whether its servers have room.

use super::{TrainError, memory::shown, ranked};
use crate::{
    backend::Device,
    comm::Team,
    engine::{
        Engine, EngineConfig, EngineKind,
        ranks::{
            Load,
            server::{Homes, ServerConfig, lead, refusal},
        },
    },
    model::init::Initializer,
    workload::Workload,
};
use std::rc::Rc;

/// Refuses what a parameter server cannot train, too few ranks, and tables that do not fit.
pub(super) fn check(
    workload: &Workload,
    config: &EngineConfig,
    team: Option<&Team>,
) -> Result<(), TrainError> {
    let Some(server) = workload.comm.server() else { return Ok(()) };
    let engine = &workload.engine;
    if engine.kind != EngineKind::Fused || engine.device != Device::Cpu {
        let what = "comm.mode = \"parameter_server\" trains with the fused engine on CPUs; use engine.kind = \"fused\" and engine.device = \"cpu\"";
        return Err(TrainError::Ranks(what.into()));
    }
    let ranks = team.map_or(1, |team| team.members.len());
    if let Some(what) = refusal(config, server, ranks) {
        return Err(TrainError::Ranks(what));
    }
    let homes = Homes::new(config, server.servers);
    team.map_or(Ok(()), |team| ranked::fits(team, &loads(&homes, ranks)))
}

/// What each rank has: servers their tables, the others none.
fn loads(homes: &Homes, ranks: usize) -> Vec<Load> {
    let mut loads = vec![Load::default(); ranks];
    for (load, &bytes) in loads[1..].iter_mut().zip(&homes.bytes) {
        load.bytes = bytes;
    }
    loads
}

/// Makes the servers and workers, with a sentence about which server has how much.
pub(super) fn engine(
    server: ServerConfig,
    config: &EngineConfig,
    team: &Team,
    init: &mut Initializer,
) -> Result<(Box<dyn Engine>, String), TrainError> {
    let homes = Homes::new(config, server.servers);
    let of = |(columns, &bytes): (&usize, &u64)| format!("{columns} ({})", shown(bytes));
    let all: Vec<String> = homes.columns.iter().zip(&homes.bytes).map(of).collect();
    let note = format!("columns whose tables each server has, and their bytes: {}", all.join(", "));
    let engine = lead(Rc::clone(&team.comm), config, server, homes, init)?;
    Ok((Box::new(engine), note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_alone_have_tables() {
        let homes = Homes { servers: 2, of: vec![0, 1], bytes: vec![7, 5], columns: vec![1, 1] };
        let bytes: Vec<u64> = loads(&homes, 5).iter().map(|load| load.bytes).collect();
        assert_eq!(bytes, [0, 7, 5, 0, 0]);
    }
}
