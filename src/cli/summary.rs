//! The few lines that end a run on the terminal.

use super::progress::thousands;
use crate::{
    train::{
        Finished,
        events::{EvalEvent, StopReason},
    },
    workload::Workload,
};
use std::fmt::Write;

/// What a person wants to know when a run is over.
pub(super) fn summary(workload: &Workload, run: &Finished) -> String {
    let o = &run.outcome;
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<12} {value}");
    };
    let when = format!("after {:.1} s and {} samples ({} steps)", o.seconds, thousands(o.samples), thousands(o.steps));
    let auc = o.last_eval.as_ref().map(|e| e.quality.auc);
    row(
        &workload.workload.name,
        match (o.reason, run.facts.target_auc, auc) {
            (StopReason::Target, Some(t), Some(a)) => format!("target AUC {t:.5} reached with {a:.5} {when}"),
            (StopReason::Interrupted, ..) => format!("interrupted {when}"),
            (StopReason::Patience, ..) => format!("stopped without further improvement {when}"),
            (_, Some(t), Some(a)) => format!("target AUC {t:.5} NOT reached: {a:.5} {when}"),
            _ => format!("trained to the end {when}"),
        },
    );
    if let Some(e) = &o.last_eval {
        row("quality", quality(e, run.facts.best_auc));
    }
    if let Some(t) = &o.test {
        row("test", format!("AUC {:.5}, log loss {:.5}, accuracy {:.4}", t.auc, t.logloss, t.accuracy));
    }
    if let Some(phases) = &run.phases {
        let all: f64 = phases.iter().map(|p| p.1).sum();
        let shares: Vec<String> = phases
            .iter()
            .filter(|p| p.1 / all >= 0.005)
            .map(|(p, s)| format!("{} {:.0}%", format!("{p:?}").to_lowercase(), 100.0 * s / all))
            .collect();
        row("time", shares.join(", "));
    }
    out
}

fn quality(e: &EvalEvent, best: Option<f64>) -> String {
    let q = &e.quality;
    let mut line = format!("AUC {:.5}, log loss {:.5}, normalised entropy {:.4}", q.auc, q.logloss, q.normalized_entropy);
    if let Some(best) = best {
        let share = (q.auc - 0.5) / (best - 0.5);
        let _ = write!(line, "; {:.1}% of what can be learnt (best reachable AUC {best:.5})", 100.0 * share);
    }
    line
}
