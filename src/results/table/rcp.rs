//! Whether runs of the closed division converge like MLPerf's reference.

use super::Row;
use crate::{
    results::tree::{Ending, Run},
    stats::{self, Convergence, Judged, Reference, ReferencePoint, Score},
};

/// Epochs to target of MLPerf's reference runs of `dlrm_dcnv2`, as (epochs, runs), by batch size:
/// facts of mlperf-logging 4.1.68, rcp_checker, which gives the factors that were published in
/// rounds 3.1 and 4.0.
const DCNV2: [(u64, &[(f64, usize)]); 6] = [
    (32768, &[(0.65, 1), (0.7, 24), (0.75, 5)]),
    (55296, &[(0.7, 10), (0.75, 25), (0.8, 11), (0.9, 4)]),
    (65536, &[(0.7, 2), (0.75, 12), (0.8, 8), (0.85, 4), (0.9, 3), (0.95, 1)]),
    (102400, &[(0.8, 3), (0.85, 10), (0.9, 31), (0.95, 6)]),
    (135168, &[(0.85, 5), (0.9, 35), (0.95, 42), (1.0, 6)]),
    (160000, &[(0.9, 4), (0.95, 9), (1.0, 7)]),
];

/// Mean epochs to target of MLPerf's reference runs of the first `dlrm` in round 2.1, and their
/// number, by batch size (rcps_dlrm.json, which counts from 1). Of single runs nothing is at hand,
/// so that how far chance may carry a submission is not known.
const DLRM: [(u64, f64, usize); 3] = [(32768, 0.755, 10), (55296, 0.902, 29), (71680, 0.998, 24)];

/// Rounds that those means are of.
const DLRM_ROUNDS: [&str; 2] = ["v2.0", "v2.1"];

/// Runs of a submission of `dlrm_dcnv2`.
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
    let round = row.system.round.as_deref();
    let epochs = epochs(row.each.iter().filter(|r| r.ending != Ending::Unfinished));
    match task.benchmark.as_str() {
        _ if !closed => return None,
        "dlrm" if round.is_none_or(|round| DLRM_ROUNDS.contains(&round)) => {
            return first_dlrm(row.batch?, &epochs);
        }
        "dlrm_dcnv2" => {}
        _ => return None,
    }
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

/// Epochs to target of each run as MLPerf takes them; `None` for one that missed it.
pub(in crate::results) fn epochs<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<Option<f64>> {
    let reached = runs.map(|r| r.epochs.filter(|_| r.ending == Ending::Converged));
    reached.map(|e| e.map(|e| (e * 1e3).round() / 1e3)).collect()
}

/// What is known of the convergence of closed runs of the first `dlrm`: how many epochs they and
/// the reference took, but not whether the difference is chance.
pub(in crate::results) fn first_dlrm(batch: u64, epochs: &[Option<f64>]) -> Option<String> {
    const UNKNOWN: &str = "whether it converges like MLPerf's reference is unknown";
    let Score::Valid(mean) = (epochs.len() >= 3).then(|| stats::score(epochs))? else {
        // The row says so.
        return None;
    };
    let above = DLRM.iter().position(|(size, ..)| *size >= batch);
    let reference = match above {
        Some(i) if DLRM[i].0 == batch => format!("{:.3} ({} runs)", DLRM[i].1, DLRM[i].2),
        Some(i) if i > 0 => {
            let ((low, less, _), (high, more, _)) = (DLRM[i - 1], DLRM[i]);
            let share = (batch - low) as f64 / (high - low) as f64;
            format!("{:.3} (between {low} and {high})", less + share * (more - less))
        }
        _ => {
            let (low, high) = (DLRM[0].0, DLRM[DLRM.len() - 1].0);
            return Some(format!(
                "{UNKNOWN}: its runs had batch sizes from {low} to {high}, not {batch}"
            ));
        }
    };
    Some(format!(
        "{UNKNOWN}: mean {mean:.3} epochs, reference {reference} at batch size {batch}, but the spread of its runs is not at hand"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_spread_there_is_no_verdict() {
        let said = |batch, epochs: &[Option<f64>]| first_dlrm(batch, epochs);
        let five = [Some(0.9); 5];
        let exact = said(55296, &five).unwrap();
        assert!(
            exact.contains("is unknown: mean 0.900 epochs, reference 0.902 (29 runs)"),
            "{exact}"
        );
        // Halfway between two points.
        let between = said((32768 + 55296) / 2, &five).unwrap();
        assert!(between.contains("reference 0.829 (between 32768 and 55296)"), "{between}");
        for batch in [2048, 131_072] {
            let outside = said(batch, &five).unwrap();
            assert!(outside.ends_with(&format!("from 32768 to 71680, not {batch}")), "{outside}");
        }
        assert_eq!(said(55296, &[Some(0.9), None, None, None, None]), None);
        assert_eq!(said(55296, &[Some(0.9); 2]), None);
    }
}
