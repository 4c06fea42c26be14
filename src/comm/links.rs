//! How fast messages between two ranks are: a few of them to and fro.

use super::{CommError, Parcel, Patience, Team, What};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Small messages to and fro whose times count, and those before them that do not.
const SMALL: (usize, usize) = (32, 8);
/// Large ones.
const LARGE: (usize, usize) = (5, 1);
/// Words of a large one: 4 MiB.
const WORDS: usize = 1 << 20;

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// To a rank of the same host.
    InsideHost,
    /// To a rank of another host.
    Hosts,
}

/// What messages between rank 0 and another rank took, by the library that carries all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredLink {
    /// Where the other rank is.
    pub between: Between,
    /// The other rank.
    pub rank: usize,
    /// Seconds of a message of 4 bytes: half of the median time to and fro.
    pub latency: f64,
    /// Bytes a second of messages of 4 MiB, their latency taken out; from the median.
    pub bandwidth: f64,
}

/// Ranks with which rank 0 measures: the first one of its host, and the first of another.
fn peers(team: &Team) -> impl Iterator<Item = (Between, usize)> + use<'_> {
    let host = |rank: usize| &team.members[rank].host;
    let first = move |same: bool| (1..team.members.len()).find(|&r| (host(r) == host(0)) == same);
    [(Between::InsideHost, first(true)), (Between::Hosts, first(false))]
        .into_iter()
        .filter_map(|(between, rank)| Some((between, rank?)))
}

/// Measures links; all ranks call this at the same time, and rank 0 learns what came of it. With one
/// rank there are none.
///
/// # Errors
/// If a rank does not answer.
pub fn measure(team: &Team, patience: Patience) -> Result<Vec<MeasuredLink>, CommError> {
    let me = team.comm.rank();
    let mut links = Vec::new();
    for (between, rank) in peers(team) {
        if me != 0 && me != rank {
            continue;
        }
        let other = if me == 0 { rank } else { 0 };
        let exchange = |words: usize, (counted, before): (usize, usize)| {
            let mut times = Vec::with_capacity(counted);
            for round in 0..before + counted {
                let seconds = to_and_fro(team, other, words, patience)?;
                if round >= before {
                    times.push(seconds);
                }
            }
            times.sort_by(f64::total_cmp);
            Ok::<f64, CommError>(times[times.len() / 2] / 2.0)
        };
        let latency = exchange(1, SMALL)?;
        let large = exchange(WORDS, LARGE)?;
        let bandwidth = (4 * WORDS) as f64 / (large - latency).max(f64::MIN_POSITIVE);
        if me == 0 {
            links.push(MeasuredLink { between, rank, latency, bandwidth });
        }
    }
    Ok(links)
}

/// One message to the other rank and one back, rank 0's first, and its seconds.
fn to_and_fro(
    team: &Team,
    other: usize,
    words: usize,
    patience: Patience,
) -> Result<f64, CommError> {
    let comm = &*team.comm;
    let mut send = vec![Parcel { rank: other, words: vec![0; words] }];
    let mut receive = send.clone();
    let start = Instant::now();
    if comm.rank() == 0 {
        comm.transfer(What::Trial, patience, &mut send, &mut Vec::new())?;
        comm.transfer(What::Trial, patience, &mut Vec::new(), &mut receive)?;
    } else {
        comm.transfer(What::Trial, patience, &mut Vec::new(), &mut receive)?;
        comm.transfer(What::Trial, patience, &mut send, &mut Vec::new())?;
    }
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::{Comm, Member, threads};
    use std::rc::Rc;

    fn measured(hosts: &'static [&'static str]) -> Vec<Vec<MeasuredLink>> {
        let all: Vec<_> = threads::ranks(hosts.len())
            .into_iter()
            .map(|comm| {
                std::thread::spawn(move || {
                    let member = Member {
                        program: "0.1".into(),
                        host: hosts[comm.rank()].into(),
                        cpu: "a".into(),
                        cores: 1,
                        memory: 1,
                    };
                    let team = Team::meet(Rc::new(comm), &member, Patience::Unlimited).unwrap();
                    measure(&team, Patience::Unlimited).unwrap()
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn a_link_of_each_kind_is_measured_by_the_first_rank() {
        let got = measured(&["a", "b", "a", "b", "a"]);
        let kinds: Vec<_> = got[0].iter().map(|l| (l.between, l.rank)).collect();
        assert_eq!(kinds, [(Between::InsideHost, 2), (Between::Hosts, 1)]);
        assert!(got[0].iter().all(|l| l.latency > 0.0 && l.bandwidth > 1e6 && l.bandwidth < 1e13));
        assert!(got[1..].iter().all(Vec::is_empty));
        assert_eq!(measured(&["a"]), [vec![]]);
        let kinds: Vec<_> = measured(&["a", "b"])[0].iter().map(|l| (l.between, l.rank)).collect();
        assert_eq!(kinds, [(Between::Hosts, 1)]);
    }
}
