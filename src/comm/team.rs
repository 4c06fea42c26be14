//! The ranks of a training, once they have met.

use super::{Comm, CommError, Patience, What, all_gather, text_words, words_text};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// Words of a greeting: 4 KiB of JSON.
const WORDS: usize = 1024;

/// What a rank says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its program: version, commit, state of the sources.
    pub program: String,
    /// Name of its host.
    pub host: String,
    /// Its processor.
    pub cpu: String,
    /// Processors that it may use.
    pub cores: usize,
    /// Bytes of memory that are free on its host, or in its control group.
    pub memory: u64,
}

/// All ranks, and the way to them.
#[derive(Clone)]
pub struct Team {
    /// The way.
    pub comm: Rc<dyn Comm>,
    /// One entry a rank.
    pub members: Vec<Member>,
}

impl Team {
    /// Meets the others; all ranks do, at the same time.
    ///
    /// # Errors
    /// If one does not come, or runs another program.
    pub fn meet(comm: Rc<dyn Comm>, own: &Member, patience: Patience) -> Result<Self, CommError> {
        let text = serde_json::to_string(own).unwrap_or_default();
        let mut words = text_words(&text);
        words.resize(words.len().max(WORDS), 0);
        words.truncate(WORDS);
        let all = all_gather(&*comm, What::Greeting, patience, &words)?;
        let member = |words: &Vec<u32>| serde_json::from_str::<Member>(&words_text(words)).ok();
        let members: Vec<Option<Member>> = all.iter().map(member).collect();
        let strange =
            members.iter().position(|m| m.as_ref().is_none_or(|m| m.program != own.program));
        if let Some(rank) = strange {
            let theirs = members[rank].as_ref();
            return Err(CommError::Program {
                rank,
                host: theirs.map_or("unknown".into(), |m| m.host.clone()),
                theirs: theirs.map_or("one that is not understood".into(), |m| m.program.clone()),
                ours: own.program.clone(),
            });
        }
        let members: Vec<Member> = members.into_iter().flatten().collect();
        comm.know_hosts(members.iter().map(|m| m.host.clone()).collect());
        Ok(Team { comm, members })
    }

    /// The names of all hosts, each once, in the order of their first ranks.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = Vec::new();
        for member in &self.members {
            if !hosts.contains(&member.host.as_str()) {
                hosts.push(&member.host);
            }
        }
        hosts
    }

    /// Threads for each rank where nobody says how many: the processors of a host are shared by its
    /// ranks, unless their launcher has given each its own.
    pub fn threads(&self) -> usize {
        let of = |member: &Member| {
            let there = self.members.iter().filter(|m| m.host == member.host).count();
            let bound =
                self.members.iter().any(|m| m.host == member.host && m.cores < member.cores);
            if bound { member.cores } else { (member.cores / there).max(1) }
        };
        self.members.iter().map(of).min().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads;

    fn member(rank: usize) -> Member {
        Member {
            program: "0.1 abc".into(),
            host: format!("node{}", rank / 2),
            cpu: "two cores".into(),
            cores: 8,
            memory: 1 << 34,
        }
    }

    fn meet(own: impl Fn(usize) -> Member) -> Vec<Result<(usize, Vec<String>), String>> {
        let comms = threads::ranks(4).into_iter().enumerate();
        let all: Vec<_> = comms
            .map(|(rank, comm)| {
                let own = own(rank);
                std::thread::spawn(move || {
                    let team = Team::meet(Rc::new(comm), &own, Patience::Unlimited);
                    team.map(|t| (t.threads(), t.hosts().iter().map(|h| (*h).to_owned()).collect()))
                        .map_err(|e| e.to_string())
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn processors_are_shared_out_among_the_ranks_of_a_host() {
        for met in meet(member) {
            assert_eq!(met.unwrap(), (4, vec!["node0".into(), "node1".into()]));
        }
    }

    #[test]
    fn another_program_is_refused() {
        let met = meet(|rank| Member {
            program: if rank == 2 { "0.2 def".into() } else { "0.1 abc".into() },
            ..member(rank)
        });
        assert_eq!(
            met[0].clone().unwrap_err(),
            "rank 2 (host node1) runs another program, 0.2 def, and this is 0.1 abc; install the same one everywhere"
        );
        assert!(met[2].is_err());
    }
}
