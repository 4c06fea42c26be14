//! `dlrm-bench eval`.

use super::{
    Exit, Failure, examples, progress::thousands, ready, run::stop_flag, saved_model::ModelArgs,
    summary, threads, whole,
};
use crate::{
    backend::{Quantisation, QuantisedLayers},
    checkpoint::Loaded,
    embedding::QuantisedRows,
    engine::{EngineKind, HASHED, ModelBytes, can_quantise},
    host::{env, escape::visible},
    metrics::{MetricsError, Quality},
    report::{named, predictions::Predictions},
    train::{Judge, Latency, Split, TrainError, memory::shown as bytes_shown},
    workload::{Missing, Resolved},
};
use clap::Args;
use serde::Serialize;
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
  dlrm-bench eval RUN --latency 1,16,256,4096 --threads 1
  dlrm-bench eval RUN --rows int4 --layers int8 --latency 1,256";

/// Judge a saved model: its metrics on any data, its predictions, its latency
///
/// The data are those of the run's workload, unless --set or --workload says
/// otherwise. With --rows or --layers the model is judged a second time with
/// quantised parameters, as facebookresearch/dlrm does it.
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
    /// Judge it with quantised embedding rows too: int8 or int4, each row with a
    /// scale and a bias of its own; on the CPU
    #[arg(long, value_name = "NUMBERS", value_parser = QuantisedRows::ALL.map(QuantisedRows::name))]
    pub rows: Option<String>,
    /// Judge it with quantised weights of all fully connected layers too: int8,
    /// whose inputs are rounded by the range of a whole batch, so that predictions
    /// depend on eval.batch_size, or fp16; on the CPU
    #[arg(long, value_name = "NUMBERS", value_parser = QuantisedLayers::ALL.map(QuantisedLayers::name))]
    pub layers: Option<String>,
    /// Judge the quantised model alone; the one that was saved need not fit into
    /// memory
    #[arg(long)]
    pub only_quantised: bool,
    /// Write label and prediction of each sample, of the quantised model if there
    /// is one; the ending, .csv or .parquet, says the format
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

/// What became of a model: how good it is, how large, how fast.
#[derive(Serialize)]
struct Judged {
    quality: Quality,
    bytes: ModelBytes,
    latency: Vec<Latency>,
}

/// What was quantised, and what became of it.
#[derive(Serialize)]
struct QuantisedJudged {
    #[serde(flatten)]
    quantisation: Quantisation,
    #[serde(flatten)]
    judged: Judged,
    /// Quantised minus saved; without a saved one to compare with there is none.
    difference: Option<Difference>,
}

/// Differences of metrics.
#[derive(Serialize)]
struct Difference {
    auc: f64,
    logloss: f64,
}

/// Runs the command.
pub(super) fn run(args: &EvalArgs) -> Result<Exit, Failure> {
    let stop = stop_flag()?;
    let quantisation = quantisation(args)?;
    let (loaded, run) = args.saved.find()?;
    let resolved = workload_for(args, run.as_deref())?;
    let w = &resolved.workload;
    if !quantisation.is_none() {
        let refused = can_quantise(w.engine.kind, w.engine.device);
        refused.map_err(|e| Failure::Usage(e.to_string()))?;
        if w.embedding.hashed().is_some() {
            return Err(Failure::Usage(HASHED.into()));
        }
    }
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
    let judged = Judge::open(w, split, &stop).and_then(|mut judge| {
        let mut one = |quantisation: Quantisation, last: bool| {
            let file = predictions.as_mut().filter(|_| last);
            let mut model = judge.model(&loaded, quantisation, &stop)?;
            let quality = match file {
                None => model.evaluate(&stop, None),
                Some(file) => model.evaluate(&stop, Some(&mut |p, l| file.add(p, l))),
            }?;
            let (bytes, latency) = (model.bytes(), model.latencies(&args.latency, TIMED, &stop)?);
            Ok::<_, TrainError>(Judged { quality, bytes, latency })
        };
        let plain = Quantisation::default();
        let saved = match args.only_quantised {
            true => None,
            false => Some(one(plain, quantisation.is_none())?),
        };
        let quantised = match quantisation.is_none() {
            true => None,
            false => Some(one(quantisation, true)?),
        };
        Ok((saved, quantised, judge.bytes(plain)))
    });
    let (saved, quantised, bytes) = match judged {
        Err(TrainError::Interrupted) => return Ok(Exit::Interrupted),
        Err(TrainError::Metrics { source, .. }) => {
            let what = format!("the {} split: {source}", split.name());
            return Err(match source {
                // That is nothing that the model did.
                MetricsError::OneClass { .. }
                | MetricsError::NotBinary { .. }
                | MetricsError::Empty => Failure::Input(what),
                _ => Failure::Quality(what),
            });
        }
        judged => judged?,
    };
    if let (Some(file), Some(path)) = (predictions, &args.predictions) {
        let put = file.finish().map_err(|e| named(path, &e));
        put.map_err(|e| Failure::Output(e.to_string()))?;
    }
    let quantised = quantised.map(|judged| QuantisedJudged {
        quantisation,
        difference: saved.as_ref().map(|saved| Difference {
            auc: judged.quality.auc - saved.quality.auc,
            logloss: judged.quality.logloss - saved.quality.logloss,
        }),
        judged,
    });
    if args.json {
        outln!(
            "{}",
            serde_json::json!({
                "model": loaded.path,
                "step": (!loaded.manifest.workload.is_empty()).then_some(loaded.manifest.step),
                "workload": w.workload.name,
                "split": split.name(),
                "engine": w.engine,
                "quality": saved.as_ref().map(|s| &s.quality),
                "bytes": bytes,
                "latency": saved.as_ref().map(|s| &s.latency),
                "quantised": quantised,
            })
        );
    } else {
        out!("{}", shown(&loaded, split, bytes, (saved.as_ref(), quantised.as_ref())));
    }
    Ok(Exit::Done)
}

/// What is to be quantised.
fn quantisation(args: &EvalArgs) -> Result<Quantisation, Failure> {
    let rows = |word: &String| QuantisedRows::ALL.into_iter().find(|kind| kind.name() == word);
    let layers = |word: &String| QuantisedLayers::ALL.into_iter().find(|kind| kind.name() == word);
    let quantisation = Quantisation {
        rows: args.rows.as_ref().and_then(rows),
        layers: args.layers.as_ref().and_then(layers),
    };
    if args.only_quantised && quantisation.is_none() {
        let what = "--only-quantised needs --rows or --layers, which say what is quantised";
        return Err(Failure::Usage(what.into()));
    }
    Ok(quantisation)
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

/// Numbers for people, as one column of names and one of values.
fn shown(
    loaded: &Loaded,
    split: Split,
    bytes: ModelBytes,
    (saved, quantised): (Option<&Judged>, Option<&QuantisedJudged>),
) -> String {
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
    let samples = saved.or(quantised.map(|q| &q.judged)).map_or(0, |j| j.quality.samples);
    row("samples", format!("{} of the {} split", thousands(samples), split.name()));
    if let Some(saved) = saved {
        row("quality", summary::quality(&saved.quality));
        latency_rows(&saved.latency, &mut row);
    }
    let Some(QuantisedJudged { quantisation, judged, difference }) = quantised else { return out };
    let kinds = [
        quantisation.rows.map(|kind| format!("{} rows", kind.name())),
        quantisation.layers.map(|kind| format!("{} layers", kind.name())),
    ];
    row("quantised", kinds.into_iter().flatten().collect::<Vec<_>>().join(", "));
    row("quality", summary::quality(&judged.quality));
    if let Some(Difference { auc, logloss }) = difference {
        // Adding nothing takes the sign off a zero.
        let digits = |x: f64| (1e5 * x).round() / 1e5 + 0.0;
        let (auc, logloss) = (digits(*auc), digits(*logloss));
        row("difference", format!("AUC {auc:+.5}, log loss {logloss:+.5}"));
    }
    let of = |name: &str, before: u64, after: u64| {
        format!("{name} {} instead of {}", bytes_shown(after), bytes_shown(before))
    };
    let (tables, layers) = (
        of("tables", bytes.tables, judged.bytes.tables),
        of("layers", bytes.layers, judged.bytes.layers),
    );
    row("memory", format!("{tables}, {layers}"));
    latency_rows(&judged.latency, &mut row);
    out
}

fn latency_rows(latencies: &[Latency], row: &mut dyn FnMut(&str, String)) {
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
}
