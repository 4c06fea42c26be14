//! `dlrm-bench eval`.

use super::{
    Exit, Failure, examples, progress::thousands, ready, run::stop_flag, saved_model::ModelArgs,
    summary, threads, whole,
};
use crate::{
    checkpoint::Loaded,
    engine::EngineKind,
    host::{env, escape::visible},
    metrics::Quality,
    report::{named, predictions::Predictions},
    train::{Latency, SavedModel, Split, TrainError},
    workload::{Missing, Resolved},
};
use clap::Args;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench eval results/epyc-2c/terabyte/20261129T101500Z-1a2b3c4d-s1
  dlrm-bench eval RUN/checkpoints/step-000000001000 --split test
  dlrm-bench eval RUN --set data.eval=new.csv --predictions scores.parquet
  dlrm-bench eval RUN --latency 1,16,256,4096 --threads 1";

/// Judge a saved model: its metrics on any data, its predictions, its latency
///
/// The data are those of the run's workload, unless --set or --workload says
/// otherwise.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct EvalArgs {
    /// Which model, of which workload
    #[command(flatten)]
    pub saved: ModelArgs,
    /// Samples that are judged
    #[arg(long, value_name = "SPLIT", default_value = "eval", value_parser = ["eval", "test", "train"])]
    pub split: String,
    /// Who computes: fused (ours) or candle
    #[arg(long, value_parser = EngineKind::ALL.map(EngineKind::name))]
    pub engine: Option<String>,
    /// What computes: cpu, cuda:N or auto
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads, 0 = all cores
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Option<usize>,
    /// Write label and prediction of each sample; the ending, .csv or .parquet,
    /// says the format
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Time predictions of batches of so many samples, a second each
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = whole::<usize, 1, MAX_BATCH>)]
    pub latency: Vec<usize>,
    /// As one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Samples of a batch at most, as workloads have it.
const MAX_BATCH: u64 = 1 << 24;

/// What each batch size is timed for.
const TIMED: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn run(args: &EvalArgs) -> Result<Exit, Failure> {
    let stop = stop_flag()?;
    let (loaded, run) = args.saved.find()?;
    let resolved = workload_for(args, run.as_deref())?;
    let w = &resolved.workload;
    if w.engine.kind == EngineKind::Candle {
        // No thread has been started yet.
        env::set_library_threads(w.engine.threads);
    }
    let split = match args.split.as_str() {
        "test" => Split::Test,
        "train" => Split::Train,
        _ => Split::Eval,
    };
    let mut predictions = args
        .predictions
        .as_deref()
        .map(|path| Predictions::create(path).map_err(|e| named(path, &e)))
        .transpose()
        .map_err(|e| Failure::Output(e.to_string()))?;
    let judged = SavedModel::open(w, &loaded, split, &stop).and_then(|mut model| {
        let quality = match &mut predictions {
            None => model.evaluate(&stop, None),
            Some(file) => model.evaluate(&stop, Some(&mut |p, l| file.add(p, l))),
        }?;
        Ok((quality, model.latencies(&args.latency, TIMED, &stop)?))
    });
    let (quality, latencies) = match judged {
        Err(TrainError::Interrupted) => return Ok(Exit::Interrupted),
        Err(TrainError::Metrics { source, .. }) => {
            return Err(Failure::Quality(format!("the {} split: {source}", split.name())));
        }
        judged => judged?,
    };
    if let (Some(file), Some(path)) = (predictions, &args.predictions) {
        let put = file.finish().map_err(|e| named(path, &e));
        put.map_err(|e| Failure::Output(e.to_string()))?;
    }
    if args.json {
        outln!(
            "{}",
            serde_json::json!({
                "model": loaded.path,
                "step": (!loaded.manifest.workload.is_empty()).then_some(loaded.manifest.step),
                "workload": w.workload.name,
                "split": split.name(),
                "engine": w.engine,
                "quality": quality,
                "latency": latencies,
            })
        );
    } else {
        out!("{}", shown(&loaded, split, &quality, &latencies));
    }
    Ok(Exit::Done)
}

/// The workload of the run, or the one that was given, with what is replaced.
fn workload_for(args: &EvalArgs, run: Option<&Path>) -> Result<Resolved, Failure> {
    let file = args.saved.file(run)?;
    let mut set = match &args.engine {
        Some(engine) if args.saved.workload.is_none() => of_another_engine(&file, engine),
        _ => Vec::new(),
    };
    set.extend(args.saved.set.iter().cloned());
    set.extend(args.engine.as_ref().map(|e| format!("engine.kind={e}")));
    set.extend(args.device.as_ref().map(|d| format!("engine.device=\"{d}\"")));
    set.extend(args.threads.map(|n| format!("engine.threads={n}")));
    ready::load(&file, set, Missing::TakeOtherwise, args.json)
}

/// Takes out what a run's workload says of its engine, if that is another one: how the one keeps and
/// rounds numbers means nothing to the other.
fn of_another_engine(file: &Path, engine: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let section = text.lines().skip_while(|line| *line != "[engine]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    let keys: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(" = ")).collect();
    if keys.contains(&("kind", &format!("\"{engine}\""))) {
        return Vec::new();
    }
    let own = keys.iter().filter(|(key, _)| !["kind", "device", "threads"].contains(key));
    own.map(|(key, _)| format!("engine.{key}=")).collect()
}

fn shown(loaded: &Loaded, split: Split, quality: &Quality, latencies: &[Latency]) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    let step = match loaded.manifest.step {
        // Of a file it is not known.
        0 => String::new(),
        step => format!(", after step {}", thousands(step)),
    };
    row("model", format!("{}{step}", visible(&loaded.path.display().to_string())));
    row("samples", format!("{} of the {} split", thousands(quality.samples), split.name()));
    row("quality", summary::quality(quality));
    for (i, l) in latencies.iter().enumerate() {
        let ms = |seconds: f64| format!("{:.3}", 1e3 * seconds);
        row(
            if i == 0 { "latency" } else { "" },
            format!(
                "batch {}: p50 {} ms, p95 {} ms, p99 {} ms, {} samples/s",
                thousands(l.batch_size as u64),
                ms(l.p50),
                ms(l.p95),
                ms(l.p99),
                thousands(l.samples_per_second.round() as u64)
            ),
        );
    }
    out
}
