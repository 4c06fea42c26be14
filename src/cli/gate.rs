//! `dlrm-bench gate`.

use super::{
    Exit, Failure, examples, preparing::Preparing, run::stop_flag, seed, workloads::WorkloadPlace,
};
use crate::{
    gate::{self, Outcome, Program, Settings, SliceError, Verdict},
    host::atomic_file::create_folders,
    results::write_file,
    stats::Criteria,
    system::{Grade, Machine, Noise, Setting, UsageMeter},
    workload::{self, parse},
};
use clap::Args;
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

/// Files that a gate leaves.
const VERDICT: &str = "verdict.json";
const SUMMARY: &str = "summary.md";

const EXAMPLES: &str = "\
Examples:
  dlrm-bench gate WORKLOAD --a base/dlrm-bench --b head/dlrm-bench
  dlrm-bench gate WORKLOAD --set-b engine.precision=bf16 --budget 60s
  dlrm-bench gate WORKLOAD --record baseline.json
  dlrm-bench gate WORKLOAD --baseline baseline.json --threshold 5%

docs/gate.md says how it decides.";

/// Say whether training got slower: exit code 1 if it did, 0 if surely not
///
/// Runs short slices of training, each a process of its own, and compares
/// two programs or workloads in turns on this machine, or this program with a
/// stored baseline. Writes verdict.json and summary.md, whatever the verdict.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct GateArgs {
    /// The workload: a file (TOML), or the name of one of the program's
    #[arg(value_parser = WorkloadPlace, hide_possible_values = true)]
    pub workload: PathBuf,
    /// The old program [default: this one]
    #[arg(long, value_name = "BIN")]
    pub a: Option<PathBuf>,
    /// The new program [default: this one]
    #[arg(long, value_name = "BIN")]
    pub b: Option<PathBuf>,
    /// The new program's workload [default: WORKLOAD]
    #[arg(long, value_name = "FILE", value_parser = WorkloadPlace, hide_possible_values = true)]
    pub workload_b: Option<PathBuf>,
    /// Replace a value of the workload on both sides, as `run --set`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Replace a value on the old side only
    #[arg(long, value_name = "KEY=VALUE")]
    pub set_a: Vec<String>,
    /// Replace a value on the new side only
    #[arg(long, value_name = "KEY=VALUE")]
    pub set_b: Vec<String>,
    /// Compare with this stored baseline: the share of the machine's floor
    #[arg(long, value_name = "FILE", conflicts_with_all = ["a", "workload_b", "set_a", "set_b", "record"])]
    pub baseline: Option<PathBuf>,
    /// Make this baseline, or add a session to it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["a", "workload_b", "set_a", "set_b"])]
    pub record: Option<PathBuf>,
    /// A slowdown of this size must not slip through
    #[arg(long, value_name = "SHARE", default_value = "3%", value_parser = share)]
    pub threshold: f64,
    /// A slowdown up to this size is no regression [default: a sixth of the
    /// threshold; with --baseline, the threshold]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub tolerance: Option<f64>,
    /// Chance that a verdict is right, over all looks at the data
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    pub confidence: f64,
    /// Time for all of it; ends early once decided
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub budget: Duration,
    /// Steps after which both sides' AUC is compared; 0 = not at all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub quality_steps: u64,
    /// How much smaller the new side's AUC may be
    #[arg(long, value_name = "AUC", default_value_t = 0.005)]
    pub max_auc_drop: f64,
    /// Say nothing of the speed if the machine was noisier than this meanwhile,
    /// from A to F (docs/noise.md)
    #[arg(long, value_name = "GRADE", conflicts_with = "record")]
    pub min_grade: Option<Grade>,
    /// Seed of the coin that decides which side goes first
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = seed)]
    pub seed: u64,
    /// Folder for verdict.json and summary.md
    #[arg(long, short, value_name = "DIR", default_value = "gate")]
    pub output: PathBuf,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs the command.
pub(super) fn gate(args: &GateArgs) -> Result<Exit, Failure> {
    // Whatever becomes of this gate, an older one's verdict is not its.
    clear(&args.output)?;
    let criteria = criteria(args)?;
    let (a, b) = sides(args)?;
    let stop = stop_flag()?;
    let tell = |line: &str| {
        if !args.quiet {
            errln!("{line}");
        }
    };
    if let Some(ended) = prepare(args, &stop)? {
        return Ok(ended);
    }
    create_folders(&args.output)
        .map_err(|e| Failure::Output(format!("cannot write {}: {e}", args.output.display())))?;
    // Of its own, in case two gates write to one folder.
    let scratch = Scratch(args.output.join(format!("slices-{}", std::process::id())));
    let settings = Settings {
        criteria,
        budget: args.budget,
        quality_steps: args.quality_steps,
        max_auc_drop: args.max_auc_drop,
        seed: args.seed,
        scratch: scratch.0.clone(),
        stop: &stop,
        tell: &tell,
    };
    let meter = UsageMeter::start();
    let answer = if let Some(path) = &args.record {
        gate::record(&b, path, &settings).map(|baseline| {
            let slices = baseline.sessions.last().map_or(0, |s| s.efficiency.len());
            outln!(
                "{}: {slices} slices recorded, {} session(s) in all",
                path.display(),
                baseline.sessions.len()
            );
            None
        })
    } else if let Some(path) = &args.baseline {
        gate::against_baseline(&b, path, &settings).map(Some)
    } else {
        gate::interleaved(&a, &b, &settings).map(Some)
    };
    drop(scratch);
    match answer {
        Ok(Some(verdict)) => {
            // Threads are those of the slices, which say themselves how many are too many.
            let setting = Setting::of(&Machine::inspect(), None, false);
            let noise = Noise::judge(&setting, meter.usage());
            publish(&verdict.on_machine(noise, args.min_grade), &args.output)
        }
        Ok(None) => Ok(Exit::Done),
        Err(SliceError::Interrupted) => Ok(Exit::Interrupted),
        Err(e @ (SliceError::TooFew(_) | SliceError::Late(_))) => {
            errln!("error: {e}");
            Ok(Exit::NotEnoughEvidence)
        }
        Err(e) => Err(e.into()),
    }
}

/// Has data prepared once that are to be prepared, so that no slice spends its time on it.
fn prepare(args: &GateArgs, stop: &AtomicBool) -> Result<Option<Exit>, Failure> {
    let b = args.workload_b.as_ref().unwrap_or(&args.workload);
    for (workload, own) in [(&args.workload, &args.set_a), (b, &args.set_b)] {
        // Of these a slice would be all points.
        if let Ok(text) = parse::text(workload)
            && parse::axes(workload, &text).is_ok_and(|axes| !axes.is_empty())
        {
            parse::refuse_sweep(workload, &text)?;
        }
        // A side may be of another version; it says itself what is wrong with the workload.
        let Ok(resolved) = workload::load(workload, &[&args.set[..], own].concat()) else {
            continue;
        };
        if let Some(ended) = Preparing::prepare(args.quiet, &resolved.workload, stop)? {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}

/// The folder for slices, which goes with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the verdict of an earlier gate from `folder`.
fn clear(folder: &Path) -> Result<(), Failure> {
    for name in [VERDICT, SUMMARY] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(Failure::Output(format!("cannot remove {}: {e}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The old side and the new one.
fn sides(args: &GateArgs) -> Result<(Program, Program), Failure> {
    let same = args.a.is_none()
        && args.b.is_none()
        && args.workload_b.is_none()
        && args.set_a.is_empty()
        && args.set_b.is_empty();
    if same && args.baseline.is_none() && args.record.is_none() {
        let what = "nothing to compare: give --a or --b BIN, --workload-b FILE, --set-b KEY=VALUE, --baseline FILE, or --record FILE";
        return Err(Failure::Usage(what.into()));
    }
    let binary = |given: &Option<PathBuf>| match given {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe()
            .map_err(|e| Failure::Internal(format!("cannot find this program: {e}"))),
    };
    let [set_a, set_b] = [&args.set_a, &args.set_b].map(|own| [&args.set[..], own].concat());
    let a = Program::open(&binary(&args.a)?, &args.workload, &set_a)?;
    let binary_b = binary(&args.b)?;
    let b = match &args.workload_b {
        Some(workload) => Program::open(&binary_b, workload, &set_b)?,
        None => a.beside(&binary_b, &set_b),
    };
    Ok((a, b))
}

fn publish(verdict: &Verdict, folder: &Path) -> Result<Exit, Failure> {
    let summary = verdict.markdown();
    let mut json =
        serde_json::to_string_pretty(verdict).map_err(|e| Failure::Internal(e.to_string()))?;
    json.push('\n');
    write_file(&folder.join(SUMMARY), summary.as_bytes())?;
    write_file(&folder.join(VERDICT), json.as_bytes())?;
    out!("{summary}");
    Ok(match verdict.verdict {
        Outcome::NoRegression => Exit::Done,
        Outcome::Regression => Exit::Fails,
        Outcome::NoBaseline => Exit::NoBaseline,
        Outcome::NotComparable => Exit::NotComparable,
        Outcome::QualityFailure => Exit::QualityFailure,
        Outcome::NotEnoughEvidence => Exit::NotEnoughEvidence,
    })
}

fn criteria(args: &GateArgs) -> Result<Criteria, Failure> {
    let (threshold, confidence) = (args.threshold, args.confidence);
    let default = if args.baseline.is_some() { threshold } else { threshold / 6.0 };
    let tolerance = args.tolerance.unwrap_or(default);
    let refuse = |what: String| Err(Failure::Usage(what));
    if !(threshold > 0.0 && threshold < 1.0) {
        return refuse(format!(
            "--threshold is {threshold}; it must be above 0 and below 1, as 3% or 0.03"
        ));
    }
    if !(confidence > 0.5 && confidence < 1.0) {
        return refuse(format!(
            "--confidence is {confidence}; it must be above 0.5 and below 1, as 99% or 0.99"
        ));
    }
    if !(0.0..=threshold).contains(&tolerance) {
        return refuse(format!(
            "--tolerance is {tolerance}; it must be from 0 to the threshold, {threshold}"
        ));
    }
    // An AUC of 0.5 has learnt nothing: what may fall so far may do anything.
    if !(0.0..0.5).contains(&args.max_auc_drop) {
        return refuse(format!(
            "--max-auc-drop is {}; it must be from 0 to below 0.5",
            args.max_auc_drop
        ));
    }
    let compares = args.baseline.is_none() && args.record.is_none();
    let least = gate::least_seconds(confidence);
    if compares && args.budget.as_secs_f64() < least {
        return refuse(format!(
            "--budget is {}s, but a confidence of {confidence} takes slices of {least:.0} s of training at least; give a longer --budget, or less --confidence",
            args.budget.as_secs_f64()
        ));
    }
    Ok(Criteria { threshold, tolerance, confidence })
}

/// `3%` or `0.03`.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 0.01));
    let value = number.trim().parse::<f64>().ok().filter(|x| x.is_finite());
    value.map(|x| x * scale).ok_or_else(|| "must be a share, as 3% or 0.03".into())
}

/// `120s`, `2m` or `120`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix('m') {
        Some(n) => (n, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|x| x * scale)
        .filter(|s| *s >= 1.0 && *s <= 86_400.0);
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a time from 1s to 24 hours, as 120s or 2m".into())
}

impl From<SliceError> for Failure {
    fn from(e: SliceError) -> Self {
        match e {
            SliceError::Quality(what) => Failure::Quality(what),
            SliceError::Cause { code: 64, what } => Failure::Usage(what),
            SliceError::Cause { code: 65, what } => Failure::Input(what),
            SliceError::Cause { code: 69, what } => Failure::Device(what),
            SliceError::Cause { code: 71, what } => Failure::Memory(what),
            SliceError::Cause { code: 74, what } => Failure::Output(what),
            SliceError::Folder { .. } => Failure::Output(e.to_string()),
            SliceError::Interrupted
            | SliceError::TooFew(_)
            | SliceError::Late(_)
            | SliceError::Cause { .. }
            | SliceError::Failed(_) => Failure::Internal(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_read_as_people_write_them() {
        assert_eq!((share("3%"), share("0.25")), (Ok(0.03), Ok(0.25)));
        assert!(share("3 percent").is_err() && share("NaN").is_err() && share("%").is_err());
        assert_eq!(
            (duration("120s"), duration("2m"), duration("90")),
            (
                Ok(Duration::from_secs(120)),
                Ok(Duration::from_secs(120)),
                Ok(Duration::from_secs(90))
            )
        );
        assert!(
            duration("0s").is_err()
                && duration("-5s").is_err()
                && duration("soon").is_err()
                && duration("NaN").is_err()
        );
    }
}
