//! How runs converge beside the record of their workload, for the summary.

use super::Failure;
use crate::results::{
    reference::{ReferenceRecord, Verdict},
    tree::Run,
};
use std::path::Path;

/// What can be said.
#[derive(Debug)]
pub(super) enum Judged {
    /// A judgement.
    Verdict(Verdict),
    /// Why there is none although there is a record.
    Not(String),
}

impl Judged {
    pub fn sentence(&self) -> String {
        match self {
            Judged::Verdict(verdict) => verdict.sentence(),
            Judged::Not(why) => format!("not judged: {why}"),
        }
    }

    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Judged::Verdict(verdict) => Some(verdict),
            Judged::Not(_) => None,
        }
    }
}

/// Judges runs of one workload by the record `path`, or else by the one that the program carries;
/// `None` if there is none.
pub(super) fn judge(path: Option<&Path>, runs: &[Run]) -> Result<Option<Judged>, Failure> {
    let Some(first) = runs.first() else { return Ok(None) };
    // Without a target there is nothing to converge to; a workload for its rate alone may be called
    // like another one's twin.
    if path.is_none() && !first.task.has_target() {
        return Ok(None);
    }
    let record = match path {
        Some(path) => ReferenceRecord::read(path)?,
        None => match ReferenceRecord::shipped(&first.workload) {
            Some(record) => record,
            None => return Ok(None),
        },
    };
    Ok(Some(match record.judge(runs) {
        Ok(verdict) => Judged::Verdict(verdict),
        Err(why) => Judged::Not(why),
    }))
}
