//! `run --runs N`: the same workload with several seeds, and MLPerf's score of it.

use super::{
    Exit, Failure,
    convergence::{self, Judged},
    progress::{Show, thousands},
    ranks::First,
    run::{Ran, RunArgs, Seat, one},
    run_output::Closed,
    summary,
};
use crate::{
    results::{
        record::Series,
        table::{self, Estimate, Options, Row},
        tree::{self, Ending},
    },
    train::events::RunFacts,
    workload::Resolved,
};
use std::{
    fmt::Write,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// Runs `args.workload` once for each of `seeds`, then sums up. A run whose loss is not a number
/// counts as one that missed the target; any other failure ends the series.
pub(super) fn series(
    args: &RunArgs,
    ranks: Option<&First>,
    first: &Resolved,
    seeds: &[u64],
    show: Show,
    stop: &AtomicBool,
) -> Result<Exit, Failure> {
    // Refuses --resume.
    args.resume(first)?;
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut id = None;
    for (i, &seed) in seeds.iter().enumerate() {
        say_start(show, i, seeds)?;
        let resolved = with_seed(first, seed);
        let seat = |id: Option<String>| Seat {
            root: &args.results,
            series: Some(Series { id, run: i + 1, runs: seeds.len() }),
            resume: None,
            ranks,
        };
        let Ran { closed: Closed { record, folder, lost }, outcome } =
            one(args, &resolved, show, stop, seat(id.clone()))?;
        id = id.or_else(|| Some(record.run.clone()));
        folders.push(folder.path().to_owned());
        match outcome {
            Ok(outcome) => {
                if !args.json {
                    let target = record.facts.as_ref().and_then(RunFacts::targets);
                    let auc = outcome
                        .kept_eval()
                        .map_or(String::new(), |e| format!(", AUC {:.5}", e.quality.auc));
                    outln!(
                        "{:<11} {}{auc}",
                        format!("seed {seed}"),
                        summary::result(&outcome, target.as_deref())
                    );
                }
            }
            Err(failure @ Failure::Quality(_)) => errln!("error: seed {seed}: {failure}"),
            Err(failure) => return Err(failure),
        }
        if let Some(failure) = lost {
            return Err(failure);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let interrupted = stop.load(Ordering::Relaxed);
    let row = sum_up(&folders)?;
    let judged = convergence::judge(args.reference.as_deref(), &row.each)?;
    if args.json {
        let line = serde_json::json!({"event": "series_stop", "interrupted": interrupted, "row": row, "convergence": judged.as_ref().and_then(Judged::verdict)});
        outln!("{line}");
    } else {
        out!("{}", lines(&row, seeds, &folders, judged.as_ref()));
    }
    let all_finished = row.each.iter().all(|r| r.ending == Ending::Finished);
    Ok(match interrupted {
        true => Exit::Interrupted,
        false if all_finished || row.seconds_to_target.is_some() => Exit::Done,
        false => Exit::Fails,
    })
}

/// The workload with another seed; all else, what followed from the machine included, stays.
pub(super) fn with_seed(first: &Resolved, seed: u64) -> Resolved {
    let mut resolved = first.clone();
    resolved.workload.train.seed = seed;
    resolved
}

fn say_start(show: Show, i: usize, seeds: &[u64]) -> Result<(), Failure> {
    match show {
        Show::Auto => errln!("run {} of {}, seed {}", i + 1, seeds.len(), seeds[i]),
        Show::Json => {
            outln!(
                "{}",
                serde_json::json!({"event": "series_run", "run": i + 1, "runs": seeds.len(), "seed": seeds[i]})
            )
        }
        Show::Quiet => {}
    }
    Ok(())
}

/// The row that `compare` shows of these runs.
pub(super) fn sum_up(folders: &[PathBuf]) -> Result<Row, Failure> {
    let paths: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    let found = tree::read(&paths);
    if let Some(problem) = found.problems.into_iter().next() {
        return Err(Failure::Internal(problem.to_string()));
    }
    let comparison = table::build(found.runs, &Options::default()).map_err(Failure::Internal)?;
    let rows = comparison.groups.into_iter().flat_map(|g| g.rows);
    rows.max_by_key(|r| r.each.len())
        .ok_or_else(|| Failure::Internal("a series without runs".into()))
}

fn lines(row: &Row, seeds: &[u64], folders: &[PathBuf], judged: Option<&Judged>) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<11} {value}");
    };
    let done = row.runs;
    let of = if done < seeds.len() { format!(" of {}", seeds.len()) } else { String::new() };
    let reached = if row.each.iter().any(|r| r.task.has_target()) {
        format!(", {} reached the target", row.converged)
    } else {
        String::new()
    };
    line("runs", format!("{done}{of}{reached}"));
    let olympic = if done >= 3 {
        "mean without the fastest and the slowest"
    } else {
        "plain mean; from 3 runs on without the fastest and the slowest"
    };
    if let Some(seconds) = row.seconds_to_target {
        line("score", format!("{seconds:.1} s to the target: {olympic}"));
    }
    if let Some(epochs) = row.epochs_to_target {
        line("epochs", format!("{epochs:.3} to the target, likewise"));
    }
    for note in row.notes.iter().filter(|n| n.contains("no score")) {
        line("score", note.clone());
    }
    if let Some(auc) = row.auc {
        line("quality", format!("AUC {auc:.5}"));
    }
    let steady = row.steady.or(row.training);
    if let Some(e) = steady {
        line("throughput", format!("{} while training{}", samples(&e), interval(&e)));
    }
    if let Some(e) = row.end_to_end {
        line("", format!("{} end to end, evaluation included{}", samples(&e), interval(&e)));
    }
    if let Some(judged) = judged {
        line("convergence", judged.sentence());
    }
    if let Some(parent) = folders.last().and_then(|f| f.parent()) {
        line("folders", format!("{}/", parent.display()));
    }
    out
}

fn samples(e: &Estimate) -> String {
    format!("{} samples/s", thousands(e.mean.round() as u64))
}

fn interval(e: &Estimate) -> String {
    match (e.low, e.high) {
        (Some(low), Some(high)) if e.runs > 1 && e.telling().is_some() => {
            let whole = |x: f64| thousands(x.max(0.0).round() as u64);
            format!(" (95% interval over runs {} to {})", whole(low), whole(high))
        }
        _ => String::new(),
    }
}
