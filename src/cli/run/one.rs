//! One run, with all that it leaves.

use super::RunArgs;
use crate::{
    cli::{
        Failure,
        facebook::Facebook,
        progress::{Progress, Show},
        ranks::First,
        resume::Resume,
        run_output::{Closed, Extras, RunOutput},
    },
    report::{tensorboard::TensorBoard, trace::Trace},
    results::record::Series,
    train::{
        self, Job, TrainError,
        events::{Listener, Outcome},
        failure::failure_folder,
    },
    workload::Resolved,
};
use std::{path::Path, sync::atomic::AtomicBool};

/// A run that is over.
pub(in crate::cli) struct Ran {
    /// What it leaves.
    pub closed: Closed,
    /// How it ended, or why it could not go on.
    pub outcome: Result<Outcome, Failure>,
}

/// Where a run belongs.
pub(in crate::cli) struct Seat<'a> {
    /// The folder of results.
    pub root: &'a Path,
    /// Its place among runs with other seeds.
    pub series: Option<Series>,
    /// The run that goes on.
    pub resume: Option<Resume>,
    /// All ranks, if there are several.
    pub ranks: Option<&'a First>,
}

/// One run with all that it leaves. Errors are those that leave no record.
pub(in crate::cli) fn one(
    args: &RunArgs,
    resolved: &Resolved,
    show: Show,
    stop: &AtomicBool,
    Seat { root, series, resume, ranks }: Seat<'_>,
) -> Result<Ran, Failure> {
    let w = &resolved.workload;
    let mut facebook = args.format.map(|_| Facebook::begin(&args.facebook, w, stop)).transpose()?;
    let seats = ranks.map(First::seats).unwrap_or_default();
    let extras = Extras {
        ceilings: !args.no_ceilings,
        plots: !args.no_plots,
        ranks: seats,
        ids: args.ids_of(resolved)?,
        links: ranks.map(|first| first.links.clone()).unwrap_or_default(),
    };
    let mut output = match &resume {
        Some(r) => RunOutput::go_on(&r.folder, resolved, &r.progress, extras)?,
        None => RunOutput::open(root, resolved, series, extras)?,
    };
    let checkpoints = output.checkpoints(w);
    let (mut board, mut trace) = match followers(args, output.name()) {
        Ok(followers) => followers,
        Err(e) => {
            output.discard();
            return Err(Failure::Output(e.to_string()));
        }
    };
    let mut progress = Progress::new(show);
    let from = resume.as_ref().map(|r| &r.loaded);
    let failure = failure_folder(output.path());
    let job = Job {
        checkpoints: Some(&checkpoints),
        from,
        failure: Some(&failure),
        diagnose: args.diagnose,
        ranks: ranks.map(|first| &first.team),
        ..Job::new(&resolved.workload, stop)
    };
    let mut listeners: Vec<&mut dyn Listener> =
        vec![&mut output.log, &mut output.recorder, &mut progress];
    listeners.extend(facebook.as_mut().map(|f| f as &mut dyn Listener));
    listeners.extend(board.as_mut().map(|b| b as &mut dyn Listener));
    listeners.extend(trace.as_mut().map(|t| t as &mut dyn Listener));
    let done = match train::run(&job, &mut listeners) {
        // The log says so, and the record.
        Err(TrainError::Interrupted) if output.goes_on() && !output.recorder.begun() => {
            output.discard();
            return Err(TrainError::Interrupted.into());
        }
        Err(TrainError::Interrupted) => {
            let closed = output.close(&resolved.workload, None);
            let outcome = closed.record.outcome.clone().ok_or(TrainError::Interrupted)?;
            return Ok(Ran { closed, outcome: Ok(outcome) });
        }
        Err(failed) if !output.recorder.begun() => {
            output.discard();
            return Err(failed.into());
        }
        done => done,
    };
    let closed = output.close(&resolved.workload, done.as_ref().ok());
    let printed = match (&facebook, &done) {
        (Some(facebook), Ok(finished)) => facebook.end(finished),
        _ => Ok(()),
    };
    let outcome = done.map(|finished| finished.outcome).map_err(Failure::from);
    Ok(Ran { closed, outcome: outcome.and_then(|outcome| printed.map(|()| outcome)) })
}

/// What writes files of its own while the run called `name` goes on, where it was asked for.
fn followers(args: &RunArgs, name: &str) -> std::io::Result<(Option<TensorBoard>, Option<Trace>)> {
    let board = args.tensorboard.as_ref().map(|dir| TensorBoard::create(dir, name));
    let trace = args.trace.as_ref().map(|file| Trace::new(file, args.trace_steps.clone()));
    Ok((board.transpose()?, trace.transpose()?))
}
