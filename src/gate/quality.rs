//! The AUC of both sides after some steps, in its share of the budget.

use super::{
    Clock, Outcome, Program, Settings, SliceError, Verdict,
    slice::{Slicer, Task},
    verdict::{percent, seconds},
};

/// Seconds in which no process comes to anything.
const SHORTEST: f64 = 0.2;

/// How an AUC check came out.
pub(super) enum Checked {
    /// Go on. What could not be checked is in the verdict.
    Fine,
    /// The verdict is decided.
    Decided,
}

/// Compares the AUC of `b` after `steps` steps with `known`, or else with that of `a`, in what the
/// comparison itself, which takes `needed` seconds and has its share first, leaves of the budget, and
/// at most half of it.
pub(super) fn check(
    v: &mut Verdict,
    clock: &Clock,
    slicer: &Slicer<'_>,
    (a, b): (Option<&Program>, &Program),
    (steps, known): (u64, Option<f64>),
    needed: f64,
    s: &Settings<'_>,
) -> Result<Checked, SliceError> {
    if steps == 0 {
        return Ok(Checked::Fine);
    }
    if [a, Some(b)].into_iter().flatten().any(|program| !program.given().evaluates()) {
        v.notes.push("the workload is never evaluated, so no AUC was compared".into());
        return Ok(Checked::Fine);
    }
    let left = clock.left();
    let share = (left - needed).min(left / 2.0);
    if share < SHORTEST {
        v.unchecked = Some(format!(
            "the slices that a verdict on the speed needs leave no time to compare the AUC; give a longer --budget, {:.0}s say, or --quality-steps 0",
            (1.5 * (needed + clock.seconds())).ceil()
        ));
        return Ok(Checked::Fine);
    }
    (s.tell)(&format!(
        "AUC after {steps} steps: at most {share:.0} s, {} of the budget",
        percent(share / s.budget.as_secs_f64())
    ));
    let began = clock.seconds();
    let until = began + share;
    let auc = |program: &Program| {
        slicer.run_within(program, Task::Evaluate { steps }, until - clock.seconds())
    };
    v.a.auc = known;
    let both = a.map_or(Ok(known), |a| Ok(auc(a)?.auc)).and_then(|of_a| {
        v.a.auc = of_a;
        v.b.auc = auc(b)?.auc;
        Ok(())
    });
    v.quality_seconds = Some(clock.seconds() - began);
    match both {
        Err(SliceError::Late(_)) => {
            v.unchecked = Some(format!(
                "the AUC after {steps} steps could not be compared in {}, its share of the budget; give a longer --budget, fewer --quality-steps, or --quality-steps 0",
                seconds(share)
            ));
            return Ok(Checked::Fine);
        }
        other => other?,
    }
    let (Some(old), Some(new)) = (v.a.auc, v.b.auc) else {
        v.unchecked = Some(format!("there is no AUC after {steps} steps to be compared"));
        return Ok(Checked::Fine);
    };
    // What is no number is no better.
    if new >= old - s.max_auc_drop {
        return Ok(Checked::Fine);
    }
    let most = s.max_auc_drop;
    let reason = format!(
        "after {steps} steps the AUC is {new:.5}, that of the old side {old:.5}; it may be at most {most} smaller"
    );
    v.decide(Outcome::QualityFailure, reason);
    Ok(Checked::Decided)
}
