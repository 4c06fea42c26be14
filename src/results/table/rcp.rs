//! Whether runs of the closed division converge like MLPerf's reference.

use super::Row;
use crate::{
    results::tree::Ending,
    stats::{Convergence, Judged, Reference, ReferencePoint},
};

/// Epochs to target of MLPerf's reference runs of `dlrm_dcnv2`, as (epochs, runs), by batch size:
/// facts of mlperf-logging 4.1.68, rcp_checker, which gives the factors that were published in
/// rounds 3.1 and 4.0. Of the first `dlrm` no such points are at hand.
const DCNV2: [(u64, &[(f64, usize)]); 6] = [
    (32768, &[(0.65, 1), (0.7, 24), (0.75, 5)]),
    (55296, &[(0.7, 10), (0.75, 25), (0.8, 11), (0.9, 4)]),
    (65536, &[(0.7, 2), (0.75, 12), (0.8, 8), (0.85, 4), (0.9, 3), (0.95, 1)]),
    (102400, &[(0.8, 3), (0.85, 10), (0.9, 31), (0.95, 6)]),
    (135168, &[(0.85, 5), (0.9, 35), (0.95, 42), (1.0, 6)]),
    (160000, &[(0.9, 4), (0.95, 9), (1.0, 7)]),
];

/// Runs of a submission of it.
const RUNS: usize = 10;

/// The points of `dlrm_dcnv2`.
pub(super) fn dcnv2() -> Vec<ReferencePoint> {
    let point = |(batch_size, counts): (u64, &[(f64, usize)])| ReferencePoint {
        batch_size,
        epochs: counts.iter().flat_map(|&(epochs, runs)| vec![epochs; runs]).collect(),
    };
    DCNV2.into_iter().map(point).collect()
}

/// What MLPerf's test says of a row; `None` where there is none.
pub(super) fn verdict(row: &Row) -> Option<String> {
    let task = &row.each.first()?.task;
    let closed = task.model.get("model").is_some_and(|m| m == "closed division");
    if task.benchmark != "dlrm_dcnv2" || !closed {
        return None;
    }
    let counted = row.each.iter().filter(|r| r.ending != Ending::Unfinished);
    let epochs: Vec<Option<f64>> = counted
        .map(|r| r.epochs.filter(|_| r.ending == Ending::Converged))
        // As MLPerf takes it.
        .map(|e| e.map(|e| (e * 1e3).round() / 1e3))
        .collect();
    let reference = Reference::new(&dcnv2(), RUNS).ok()?;
    let beside = |j: &Judged| {
        format!(
            "mean {:.5} epochs, reference {:.5}, least {:.5}",
            j.mean, j.accepted.mean, j.accepted.fastest
        )
    };
    Some(match reference.judge(row.batch?, &epochs).ok()? {
        Convergence::Like(j) => format!(
            "converges like MLPerf's reference ({}): the score's factor is {:.4}",
            beside(&j),
            j.scaling
        ),
        Convergence::TooSlow(j) => format!(
            "converges more slowly than MLPerf's reference, which is accepted ({})",
            beside(&j)
        ),
        Convergence::TooFast(j) => {
            format!("converges too fast for MLPerf to accept it ({})", beside(&j))
        }
        // The row says so.
        Convergence::NotConverged { .. } => return None,
    })
}
