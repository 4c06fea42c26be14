//! Names that do not depend on what else is compared.

use super::Row;
use crate::results::{identity::Aspect, tree::Run};

/// `amd-epyc-2c fused fp32 batch 2048 2 threads 1a2b3c4d`: facts that are always stated, and for
/// runs of ours a hash of everything that makes a row but the program. The workload stands before
/// it where a format wants one name.
pub(super) fn of(run: &Run) -> String {
    let or_unknown = |x: Option<&str>| x.unwrap_or("unknown").to_owned();
    let system = &run.system;
    let mut parts = vec![system.name.clone()];
    if run.identity.facts.is_empty() {
        // The folder is what tells systems of one name, and the submitter what tells folders.
        if system.folder.as_ref().is_some_and(|folder| *folder != system.name) {
            parts.push(or_unknown(system.folder.as_deref()));
        }
        parts.push(format!("org {}", or_unknown(system.org.as_deref())));
        parts.push(format!("round {}", or_unknown(system.round.as_deref())));
    }
    parts.push(or_unknown(run.engine.as_deref()));
    parts.push(or_unknown(run.precision.as_deref()));
    parts.push(run.batch.map_or("batch unknown".into(), |b| format!("batch {b}")));
    if !run.identity.facts.is_empty() {
        let threads = run.identity.get(Aspect::Engine, "threads");
        parts.push(format!("threads {}", or_unknown(threads)));
        let identity = run.identity.clone().only(&Aspect::BUT_PROGRAM);
        let what = format!("{:?}\n{:?}\n{:?}", run.task, run.settings, identity.facts);
        parts.push(blake3::hash(what.as_bytes()).to_hex()[..8].to_owned());
    }
    parts.join(" ")
}

/// `program 19aa6e46ffa0 3f0c21de`: the commit, where it is known, and a hash of all that makes the
/// row. Names hold it only where rows of one name stand side by side: a history goes on from
/// program to program.
pub(super) fn of_program(row: &Row) -> String {
    let commit = row.identity.get(Aspect::Program, "git_commit");
    let commit = commit.map_or("unknown".into(), |c| c.chars().take(12).collect::<String>());
    let key = row.each.first().map_or("", |run| &run.key);
    format!("program {commit} {}", short(key))
}

/// A hash of where the row's first run lies: what is left to tell copies apart by.
pub(super) fn of_place(row: &Row) -> String {
    format!("at {}", short(row.each.first().map_or("", |run| &run.path)))
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..8].to_owned()
}
