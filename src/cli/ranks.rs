//! Ranks: whether this process is one of several, and what becomes of them at the end.

use super::{Exit, Failure, terminal};
use crate::{
    comm::{
        Comm, Member, Mpi, MpiError, Patience, Team, launched,
        links::{MeasuredLink, measure},
    },
    engine::{
        EngineError,
        ranks::{RanksConfig, dismiss, follow},
    },
    system::{Machine, RankSeat, Versions, usable_cores},
    train::memory::available,
};
use std::{rc::Rc, thread, time::Duration};

/// How long ranks may be apart when they start.
const MEETING: Patience = Patience::For(Duration::from_secs(120));
/// How long a rank that has failed lets the first one tell of it.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// How long a launcher has to read what was said before all processes end: what it has not read by then
/// it may drop.
const READING: Duration = Duration::from_millis(500);
/// How long the others may take to leave.
const LEAVING: RanksConfig = RanksConfig::within(Duration::from_secs(30));

/// The ranks, of which this process is the first.
pub(super) struct First {
    mpi: Rc<Mpi>,
    /// All of them.
    pub team: Team,
    /// How fast messages are.
    pub links: Vec<MeasuredLink>,
}

/// What this process is.
pub(super) enum Place {
    /// The only one.
    Alone,
    /// The first of several.
    First(First),
    /// Another one, which has done what the first one wanted.
    Followed(Result<Exit, Failure>),
}

impl From<MpiError> for Failure {
    fn from(e: MpiError) -> Self {
        Failure::Device(e.to_string())
    }
}

/// Finds out what this process is; `wanted` ranks are to be there. All but the first work in here.
pub(super) fn place(wanted: Option<usize>) -> Result<Place, Failure> {
    let mpi = Mpi::join()?;
    let there = mpi.as_ref().map_or(1, |mpi| mpi.size());
    if let Some(wanted) = wanted.filter(|wanted| *wanted != there) {
        let what = match there {
            1 => "this process was not started as one of several, as by mpirun -n".to_owned(),
            _ => format!("this process is one of {there}"),
        };
        if let Some(mpi) = mpi {
            mpi.finalize();
        }
        return Err(Failure::Usage(format!("--ranks {wanted}: {what}")));
    }
    let Some(mpi) = mpi.map(Rc::new) else { return Ok(Place::Alone) };
    let comm: Rc<dyn Comm> = mpi.clone();
    let met = Team::meet(comm, &member(), MEETING).map_err(|e| Failure::Device(e.to_string()));
    let team = met?;
    let links = measure(&team, MEETING).map_err(|e| Failure::Device(e.to_string()))?;
    if mpi.rank() == 0 {
        return Ok(Place::First(First { mpi, team, links }));
    }
    // Signals are the first one's, which may want to write a checkpoint first.
    let _ = ctrlc::set_handler(|| ());
    Ok(Place::Followed(match follow(&team.comm) {
        Ok(()) => {
            mpi.finalize();
            Ok(Exit::Done)
        }
        Err(e) => {
            let rank = mpi.rank();
            // Of what others have said they say themselves.
            if !matches!(e, EngineError::Ranks(_) | EngineError::RanksInStep { .. }) {
                errln!("rank {rank}: {e}");
            }
            thread::sleep(LAST_WORDS);
            mpi.abort(Failure::Device(String::new()).code().into())
        }
    }))
}

/// Refuses several processes for a command that works alone.
pub(super) fn refuse() -> Result<(), Failure> {
    match launched() {
        None => Ok(()),
        Some((launcher, ranks)) => Err(Failure::Usage(format!(
            "{} has started {ranks} processes, and only dlrm-bench run works on several together; start this command by itself",
            launcher.name
        ))),
    }
}

/// This process, as told to others.
fn member() -> Member {
    let (versions, machine) = (Versions::this(), Machine::inspect());
    let known = |fact: Option<String>| fact.unwrap_or_else(|| "unknown".into());
    Member {
        program: format!(
            "{} {} {}",
            versions.dlrm_bench,
            known(versions.git_commit),
            known(versions.sources)
        ),
        host: sysinfo::System::host_name().unwrap_or_else(|_| "unknown".into()),
        cpu: machine.cpu.model,
        cores: usable_cores(),
        memory: available(),
    }
}

impl First {
    /// Ranks as a record has them: hosts are numbered, not named.
    pub fn seats(&self) -> Vec<RankSeat> {
        let hosts = self.team.hosts();
        let seat = |member: &Member| RankSeat {
            host: hosts.iter().position(|h| *h == member.host).unwrap_or(0),
            cpu: member.cpu.clone(),
            cores: member.cores,
        };
        self.team.members.iter().map(seat).collect()
    }

    /// Sends the others away at the end of a command.
    pub fn leave(self, done: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let comm: Rc<dyn Comm> = self.mpi.clone();
        if self.mpi.broken() || dismiss(&comm, LEAVING).is_err() {
            // They may wait for each other: end all, with what this command came to.
            let code = match &done {
                Ok(exit) => *exit as u8,
                Err(failure) => failure.code(),
            };
            let _ = terminal::end(done);
            thread::sleep(READING);
            self.mpi.abort(code.into());
        }
        self.mpi.finalize();
        done
    }
}
