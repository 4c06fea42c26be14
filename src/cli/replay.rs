//! `dlrm-bench replay`.

use super::{Exit, Failure, examples, resume::workload_of, run::stop_flag};
use crate::{
    engine::{EngineKind, Summary},
    host::{env, escape::visible},
    train::{
        TrainError,
        failure::{Found, Replay, failure_folder, is_left, replay},
    },
};
use clap::Args;
use std::{fmt::Write, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench replay results/epyc-2c/terabyte/20261129T101500Z-1a2b3c4d-s1
  dlrm-bench replay RUN --json | jq .found.layers";

/// Do the step again at which a run has failed, and look into the model
///
/// A run whose loss, or a prediction of which, is not a number leaves a folder
/// failure/ with the model as it was before that step, the batch, and what lay
/// in each tensor. This does that step again from it.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct ReplayArgs {
    /// The run's folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// As one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Runs the command: done if it failed as it did then.
pub(super) fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let folder = failure_folder(&args.run);
    let resolved = workload_of(&args.run, "name the one in which a run has left failure/")?;
    if !is_left(&folder) {
        return Err(Failure::Usage(format!(
            "{}: this run has left no failure/; only one whose loss or prediction is not a number does",
            visible(&args.run.display().to_string())
        )));
    }
    let w = &resolved.workload;
    if w.engine.kind == EngineKind::Candle {
        // No thread has been started yet.
        env::set_library_threads(w.engine.threads);
    }
    let stop = stop_flag()?;
    let replayed = match replay(w, &folder, &stop) {
        Err(TrainError::Interrupted) => return Ok(Exit::Interrupted),
        replayed => replayed?,
    };
    if args.json {
        let text = serde_json::to_string(&replayed);
        outln!("{}", text.map_err(|e| Failure::Internal(e.to_string()))?);
    } else {
        out!("{}", shown(&replayed));
    }
    Ok(if replayed.again { Exit::Done } else { Exit::Fails })
}

fn shown(replayed: &Replay) -> String {
    let Replay { then, again, now, found } = replayed;
    let mut out = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    row("then", &then.message);
    let at = &then.at;
    row(
        "samples",
        &format!(
            "{} from {} on, of the {} split, epoch {}",
            at.samples,
            at.first,
            at.split.name(),
            at.epoch
        ),
    );
    let what = if then.step.is_some() { "the loss is" } else { "predictions that are none:" };
    let verdict = if *again { "as then" } else { "not as then" };
    row("now", &format!("{what} {now}: {verdict}"));
    out + &tensors(found)
}

/// What lies in the model, tensor by tensor; what is not finite is marked.
fn tensors(found: &Found) -> String {
    let mut out = String::new();
    if found.bad_samples > 0 {
        let of = found.bad.iter().take(4).map(|b| format!("{} ({})", b.sample, b.prediction));
        let more = if found.bad_samples > 4 { ", ..." } else { "" };
        let _ = writeln!(
            out,
            "predictions {} that are no probability; of these samples of the batch:\n            {}{more}",
            found.bad_samples,
            of.collect::<Vec<_>>().join(", ")
        );
    }
    let mut table = |title: &str, rows: &[Summary]| {
        let _ = writeln!(
            out,
            "\n{title:<24} {:>12} {:>12} {:>12} {:>10}",
            "smallest", "largest", "NaN", "infinite"
        );
        for s in rows {
            let number = |x: Option<f32>| x.map_or("-".to_owned(), |x| format!("{x:.4e}"));
            let mark = if s.is_finite() { "" } else { "  !" };
            let _ = writeln!(
                out,
                "{:<24} {:>12} {:>12} {:>12} {:>10}{mark}",
                visible(&s.name),
                number(s.min),
                number(s.max),
                s.nan,
                s.infinite
            );
        }
    };
    table("parameters", &found.parameters);
    match &found.layers {
        Some(layers) => table("outputs of layers", layers),
        None => out += "\noutputs of layers: this engine does not keep them\n",
    }
    out
}
