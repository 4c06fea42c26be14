//! `dlrm-bench run`.

mod args;
mod asked;
mod one;

pub(super) use args::MAX_RUNS;
pub use args::{Format, RunArgs};
pub(super) use one::{Ran, Seat, one};

use super::{
    Exit, Failure,
    convergence::{self, Judged},
    explain,
    loader_only::loader_only,
    progress::{Show, counted},
    ranks::{self, First, Place},
    run_output::Closed,
    series::series,
    summary,
    sweep::sweep,
    terminal,
};
use crate::{
    embedding::cached::RowFileError,
    engine::{EngineError, EngineKind},
    host::env,
    results::{reference::ReferenceRecord, tree},
    train::{TrainError, events::StopReason},
    workload::Resolved,
};
use asked::Asked;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Runs the command, on all ranks if there are several.
pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    match ranks::place(args.ranks)? {
        Place::Alone => run_on(args, None),
        Place::Followed(done) => done,
        Place::First(first) => {
            let done = run_on(args, Some(&first));
            first.leave(done)
        }
    }
}

fn run_on(args: &RunArgs, ranks: Option<&First>) -> Result<Exit, Failure> {
    let asked = args.asked(ranks)?;
    let first = match &asked {
        Asked::One(resolved) => resolved,
        Asked::Sweep(plan) => plan.first(),
    };
    if let Some(threads) = match &asked {
        Asked::One(w) => {
            (w.workload.engine.kind == EngineKind::Candle).then_some(w.workload.engine.threads)
        }
        Asked::Sweep(plan) => plan.library_threads()?,
    } {
        // No thread has been started yet.
        env::set_library_threads(threads);
    }
    if args.explain {
        if let Asked::Sweep(plan) = &asked {
            errln!("{}; this is the first of them: {}", plan.size(), plan.points[0].shown());
        }
        out!("{}", explain::explain(first, args.ids_of(first)?.as_ref())?);
        return Ok(Exit::Done);
    }
    if let Some(path) = &args.reference {
        // Said before the work, not after it.
        ReferenceRecord::read(path)?;
    }
    let stop = stop_flag()?;
    if args.loader_only {
        return loader_only(&first.workload, args.quiet, args.json, &stop);
    }
    if let Some(steps) = args.steps {
        errln!(
            "{} for their speed alone: no evaluation, no target, no quality is judged",
            counted(steps, "step")
        );
    }
    let show = match (args.quiet || args.format.is_some(), args.json) {
        (true, _) => Show::Quiet,
        (_, true) => Show::Json,
        _ => Show::Auto,
    };
    match asked {
        Asked::Sweep(plan) => sweep(args, ranks, &plan, show, &stop),
        Asked::One(resolved) => {
            let seeds = args.seeds_from(resolved.workload.train.seed)?;
            match seeds.len() {
                1 => alone(args, ranks, &resolved, show, &stop),
                _ => series(args, ranks, &resolved, &seeds, show, &stop),
            }
        }
    }
}

/// One run, and what is said of it.
fn alone(
    args: &RunArgs,
    ranks: Option<&First>,
    resolved: &Resolved,
    show: Show,
    stop: &AtomicBool,
) -> Result<Exit, Failure> {
    let seat = Seat { root: &args.results, series: None, resume: args.resume(resolved)?, ranks };
    let Ran { closed: Closed { record, folder, lost }, outcome } =
        one(args, resolved, show, stop, seat)?;
    let outcome = outcome?;
    let found = tree::read(&[folder.path().display().to_string()]);
    let judged = convergence::judge(args.reference.as_deref(), &found.runs)?
        .filter(|_| outcome.reason != StopReason::Interrupted);
    if args.json {
        if let Some(diagnosis) = &record.diagnosis {
            outln!("{}", serde_json::json!({"event": "diagnosis", "diagnosis": diagnosis}));
        }
        if let Some(verdict) = judged.as_ref().and_then(Judged::verdict) {
            outln!("{}", serde_json::json!({"event": "convergence", "convergence": verdict}));
        }
    } else {
        let sentence = judged.as_ref().map(Judged::sentence);
        let mut text = summary::diagnosis(&record);
        text += &summary::summary(&record, folder.path(), sentence.as_deref());
        if args.profile {
            text = summary::profile(&record) + &text;
        }
        match args.format {
            None => out!("{text}"),
            Some(Format::Facebook) => terminal::err(format_args!("{text}")),
        }
    }
    if let Some(failure) = lost {
        return Err(failure);
    }
    Ok(match outcome.reason {
        StopReason::Interrupted => Exit::Interrupted,
        _ if outcome.success => Exit::Done,
        _ => Exit::Fails,
    })
}

/// A flag that Ctrl-C and SIGTERM set. A second signal ends the process at once.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
    })
    .map_err(|e| Failure::Internal(format!("cannot catch Ctrl-C: {e}")))?;
    Ok(stop)
}

impl From<TrainError> for Failure {
    fn from(e: TrainError) -> Self {
        match e {
            TrainError::Workload(e) => e.into(),
            TrainError::Data(e) => e.into(),
            TrainError::Interrupted => Failure::Interrupted(e.to_string()),
            TrainError::Checkpoint(e) => e.into(),
            TrainError::Closed => Failure::Closed,
            TrainError::Listener(_) => Failure::Output(e.to_string()),
            TrainError::Memory(_)
            | TrainError::DeviceMemory(_)
            | TrainError::Engine(EngineError::Memory { .. }) => Failure::Memory(e.to_string()),
            TrainError::Engine(EngineError::Full(_))
            | TrainError::Engine(EngineError::Rows(RowFileError::Full { .. })) => {
                Failure::Usage(e.to_string())
            }
            TrainError::Engine(EngineError::Rows(_)) => Failure::Output(e.to_string()),
            TrainError::Ranks(_) => Failure::Usage(e.to_string()),
            TrainError::Engine(EngineError::Ranks(_) | EngineError::RanksInStep { .. }) => {
                Failure::Device(e.to_string())
            }
            e if e.is_quality() => Failure::Quality(e.to_string()),
            e => Failure::Internal(e.to_string()),
        }
    }
}
