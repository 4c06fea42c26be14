//! Whether runs converge like a record.

use super::{ReferenceRecord, from_runs::FEWEST_RUNS};
use crate::{
    results::tree::{Ending, Run},
    stats::{self, Origin, RcpError, Reference, ReferencePoint, Score},
};
use serde::Serialize;

/// How runs converge beside a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Converges {
    /// In fewer epochs, by more than chance.
    Faster,
    /// No difference beyond chance.
    Like,
    /// In more epochs, by more than chance.
    Slower,
    /// More runs missed the target than may.
    Not,
}

/// A judgement with its statistic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The judgement.
    pub converges: Converges,
    /// Runs that were judged.
    pub runs: usize,
    /// Their mean epochs to target, from 3 runs on without the fastest and the slowest.
    pub epochs: Option<f64>,
    /// The reference's mean.
    pub reference: f64,
    /// Least mean that is like the reference's.
    pub fastest: f64,
    /// Greatest mean that is like the reference's.
    pub slowest: f64,
    /// Difference of the means in its standard errors.
    pub t: Option<f64>,
}

impl ReferenceRecord {
    pub(super) fn reference(&self, runs: usize) -> Result<Reference, RcpError> {
        let point = |p: &super::Point| ReferencePoint {
            batch_size: p.batch_size,
            epochs: p.runs.iter().map(|r| r.epochs).collect(),
        };
        Reference::new(&self.points.iter().map(point).collect::<Vec<_>>(), runs)
    }

    /// Judges `runs` of one batch size. Unfinished ones do not count, those that missed the target
    /// are slowest. Fewer than 3 runs are held against the margin of their number, with their plain
    /// mean.
    ///
    /// # Errors
    /// If the runs are of another task than the record's, none counts, or their batch size is above
    /// those of all points. One sentence.
    pub fn judge(&self, runs: &[Run]) -> Result<Verdict, String> {
        let counted: Vec<&Run> = runs.iter().filter(|r| r.ending != Ending::Unfinished).collect();
        let first = counted.first().ok_or("no run came to its end")?;
        if let Some(why) = counted.iter().find_map(|r| r.task.differs(&self.task)) {
            return Err(format!("the record is of {why}"));
        }
        let batch = first.batch.ok_or("the runs do not say their batch size")?;
        let epochs: Vec<Option<f64>> = counted
            .iter()
            .map(|r| if r.ending == Ending::Converged { r.epochs } else { None })
            .collect();
        let n = counted.len();
        let accepted = self
            .reference(n.max(FEWEST_RUNS))
            .and_then(|r| r.at(batch))
            .map_err(|e| e.to_string())?;
        // What stands behind the two means; see `stats::Reference`.
        let of_submission = if n < FEWEST_RUNS { n } else { n - 2 };
        let of_reference = match accepted.from {
            Origin::Between(..) => 2 * n.max(FEWEST_RUNS),
            Origin::Point => self.runs_at(batch) - 2,
            Origin::Smallest(smallest) => self.runs_at(smallest) - 2,
        };
        let margin = stats::margin(accepted.stdev, of_reference, of_submission);
        let (fastest, slowest) = (accepted.mean - margin, accepted.mean + margin);
        let error =
            accepted.stdev * (1.0 / of_reference as f64 + 1.0 / of_submission as f64).sqrt();
        let (converges, mean) = match stats::score(&epochs) {
            Score::Invalid { .. } => (Converges::Not, None),
            Score::Valid(mean) if mean < fastest => (Converges::Faster, Some(mean)),
            // A smaller batch needs fewer epochs: below all points, slowness says nothing... but
            // quickness does.
            Score::Valid(mean)
                if mean > slowest && !matches!(accepted.from, Origin::Smallest(_)) =>
            {
                (Converges::Slower, Some(mean))
            }
            Score::Valid(mean) => (Converges::Like, Some(mean)),
        };
        let t = mean.filter(|_| error > 0.0).map(|m| (m - accepted.mean) / error);
        Ok(Verdict {
            converges,
            runs: n,
            epochs: mean,
            reference: accepted.mean,
            fastest,
            slowest,
            t,
        })
    }

    fn runs_at(&self, batch_size: u64) -> usize {
        self.points
            .iter()
            .find(|p| p.batch_size == batch_size)
            .map_or(FEWEST_RUNS, |p| p.runs.len())
    }
}

impl Verdict {
    /// `converges like the reference: 0.575 epochs, the reference 0.570; 0.541 to 0.599 would be no
    /// difference beyond chance (t = 0.3)`
    pub fn sentence(&self) -> String {
        let word = match self.converges {
            Converges::Faster => "converges faster than the reference",
            Converges::Like => "converges like the reference",
            Converges::Slower => "converges slower than the reference",
            Converges::Not => "does not converge, the reference does",
        };
        let both = match self.epochs {
            Some(ours) => format!("{ours:.3} epochs, the reference {:.3}", self.reference),
            None => format!("in {:.3} epochs", self.reference),
        };
        let t = self.t.map_or(String::new(), |t| format!(" (t = {t:.1})"));
        format!(
            "{word}: {both}; {:.3} to {:.3} would be no difference beyond chance{t}",
            self.fastest, self.slowest
        )
    }
}
