//! `dlrm-bench export`.

use super::{Exit, Failure, examples, ready, run::stop_flag, saved_model::ModelArgs, whole};
use crate::{
    batch::Schema,
    checkpoint::Loaded,
    data::Dataset,
    export::{Bags, EXTERNAL_ABOVE, ExportError, Format, Model, Training},
    host::{atomic_file::is_written_through, escape::visible},
    results::{metrics, record},
    train::TrainError,
    workload::{Missing, Workload},
};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench export RUN -o model.onnx
  dlrm-bench export RUN/checkpoints/step-000000001000 -o model.pt
  dlrm-bench export model.pt --workload w.toml -o model.safetensors";

/// Write a saved model for other programs: PyTorch, ONNX, safetensors
///
/// docs/export.md shows how each file is read. The data of the workload are only
/// opened where the run's record does not tell the columns.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct ExportArgs {
    /// Which model, of which workload
    #[command(flatten)]
    saved: ModelArgs,
    /// The file to write; its ending says the format: .pt (the dictionary of
    /// facebookresearch/dlrm's --save-model), .onnx, or .safetensors (parameters
    /// only)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// How an ONNX model takes categorical columns: one id a sample, or bags
    /// with offsets; auto is bags where the data have more ids than one
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = Bags::WORDS.map(|(word, _)| word))]
    bags: String,
    /// Bytes of tensors above which those of an ONNX model go to FILE.data
    /// beside it
    #[arg(long, value_name = "BYTES", default_value_t = EXTERNAL_ABOVE, value_parser = whole::<u64, 0, EXTERNAL_ABOVE>)]
    external_above: u64,
}

/// Runs the command.
pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let path = &args.output;
    let shown = |path: &Path| visible(&path.display().to_string()).into_owned();
    let Some(format) = Format::of(path) else {
        let endings = Format::ENDINGS.map(|(ending, _)| format!(".{ending}"));
        let what =
            format!("{}: must end in {}, which says the format", shown(path), endings.join(", "));
        return Err(Failure::Usage(what));
    };
    let beside = PathBuf::from(format!("{}.data", path.display()));
    let both = [Some(path), Some(&beside).filter(|_| format == Format::Onnx)];
    let there = both.into_iter().flatten().find(|p| p.exists() && !is_written_through(p));
    if let Some(path) = there.filter(|_| !args.force) {
        let what = format!("{} is there already; --force writes over it", shown(path));
        return Err(Failure::Usage(what));
    }
    let stop = stop_flag()?;
    let (loaded, run) = args.saved.find()?;
    let file = args.saved.file(run.as_deref())?;
    let set = args.saved.set.clone();
    let resolved = ready::load(&file, set, Missing::TakeOtherwise, true)?;
    let own = run.as_deref().filter(|_| args.saved.workload.is_none() && args.saved.set.is_empty());
    let w = &resolved.workload;
    let known = own.and_then(of_record).map(Ok).unwrap_or_else(|| of_data(w, &stop));
    let (schema, training) = match known {
        Err(Failure::Interrupted(_)) => return Ok(Exit::Interrupted),
        known => known?,
    };
    let config = w.engine_config(&schema)?;
    let bags = Bags::WORDS.iter().find(|(word, _)| *word == args.bags);
    let model = Model {
        stop: &stop,
        loaded: &loaded,
        workload: w,
        config: &config,
        schema: &schema,
        training,
        train_loss: own.and_then(|run| loss(run, &loaded)),
        bags: bags.map_or(Bags::Auto, |(_, bags)| *bags),
        external_above: args.external_above,
    };
    let notes = match model.write(format, path) {
        Err(ExportError::Interrupted) => return Ok(Exit::Interrupted),
        notes => notes?,
    };
    for note in notes {
        errln!("note: {}", visible(&note));
    }
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    outln!("{:<12}{}, {} bytes", "written", shown(path), bytes(path));
    Ok(Exit::Done)
}

/// Columns and lengths as a run found them, where its record says so.
fn of_record(run: &Path) -> Option<(Schema, Training)> {
    let record = record::read(&run.join("run.json")).ok()?;
    let (facts, data) = (record.facts?, record.data_set?);
    let training =
        Training { steps_per_epoch: facts.steps_per_epoch, eval_samples: facts.eval_samples };
    Some((data.schema()?, training))
}

/// The same of the data, which are opened.
fn of_data(w: &Workload, stop: &AtomicBool) -> Result<(Schema, Training), Failure> {
    let opened = w.open_data_until(stop, &mut |_| ())?.ok_or(TrainError::Interrupted)?;
    let Dataset { train, eval, .. } = opened;
    let plan = w.loader_plan();
    let training = Training {
        steps_per_epoch: plan.batches_per_epoch(train.len().unwrap_or(u64::MAX)),
        eval_samples: eval.len().unwrap_or(0),
    };
    Ok((train.schema().clone(), training))
}

/// The loss of the step after which a checkpoint was written.
fn loss(run: &Path, loaded: &Loaded) -> Option<f64> {
    let metrics = metrics::read(&run.join("metrics.parquet")).ok()?;
    let step = i64::try_from(loaded.manifest.step).ok()?;
    let at = metrics.step.iter().position(|&s| s == step)?;
    metrics.loss.get(at).map(|&loss| f64::from(loss))
}

impl From<ExportError> for Failure {
    fn from(e: ExportError) -> Self {
        match e {
            ExportError::Model(e) => e.into(),
            ExportError::Refused(what) => Failure::Usage(what),
            ExportError::Interrupted => Failure::Interrupted(e.to_string()),
            ExportError::Write { .. } => Failure::Output(e.to_string()),
        }
    }
}
