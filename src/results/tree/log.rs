//! A run from its MLPerf log, whoever wrote it.
//!
//! Rounds and submitters differ: prefixes, ranks that all write, keys in any order, `train_samples`
//! or `eval_samples` late or missing, `epoch_num` from 0 or from 1 (mlcommons/logging issue #79) or
//! `samples_count` instead, `tracked_stats` or none. Only `run_start` is indispensable. What a key
//! means depends on where it stands: see [`progress`].

mod lines;
mod progress;

use super::{
    Ending, Evaluation, Rates, Run, Task, find, run,
    submission::{Surroundings, Systems},
};
use crate::{
    mllog::parse::Event,
    results::{ResultsError, identity::Identity, time::Utc},
    workload::closed,
};
use lines::{Lines, mark};
use progress::Progress;
use std::{collections::BTreeMap, path::Path};

/// What the closed division fixes: training and evaluation samples, and the AUC to reach
/// (training_policies, training_rules.adoc).
const CLOSED: [(&str, f64, f64, f64); 2] = {
    let (train, eval) = (closed::TRAIN_SAMPLES as f64, closed::EVAL_SAMPLES as f64);
    [("dlrm", train, eval, closed::TARGET), ("dlrm_dcnv2", train, eval, closed::TARGET_DCNV2)]
};

/// Difference from `tracked_stats` that is worth a warning.
const ODD: f64 = 0.01;

/// Hyperparameters, by the start of their keys.
const SETTINGS: [&str; 5] =
    ["global_batch_size", "gradient_accumulation_steps", "opt_", "sgd_opt_", "lr_"];

/// The task of a closed run that saw `train_samples` an epoch (the last, short batch may be
/// dropped); `None` if no closed run can be so.
pub(super) fn closed_task(benchmark: &str, train_samples: Option<f64>) -> Option<Task> {
    let (_, all, eval, target) = CLOSED.iter().copied().find(|(name, ..)| *name == benchmark)?;
    if train_samples.is_some_and(|n| (n / all - 1.0).abs() > ODD) {
        return None;
    }
    let data = [
        ("data", "Criteo 1TB, closed division".to_owned()),
        ("train_samples", all.to_string()),
        ("eval_samples", eval.to_string()),
    ];
    let map = |entries: &[(&str, String)]| {
        entries.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
    };
    Some(Task {
        benchmark: benchmark.to_owned(),
        data: map(&data),
        model: map(&[("model", "closed division".to_owned())]),
        target: Some(target),
        accuracy: None,
    })
}

/// Reads the log `path`.
pub(super) fn read(path: &Path, systems: &mut Systems) -> Result<Run, ResultsError> {
    let bytes = find::read_file(path)?;
    let lines = Lines::read(&bytes).map_err(|what| ResultsError::malformed(path, what))?;
    let surroundings = systems.surroundings(path);
    Ok(Log { lines }.run(path, surroundings))
}

/// The lines of a log that are about one run.
#[derive(Debug)]
struct Log {
    lines: Lines,
}

impl Log {
    /// Seconds of evaluation between `run_start` and `run_stop`; `None` if they were not all
    /// logged, or their starts and stops do not pair.
    fn eval_seconds(&mut self, evaluations: usize) -> Option<f64> {
        match paired(&self.lines) {
            Ok((seconds, stops)) => (evaluations > 0 && stops >= evaluations).then_some(seconds),
            Err(what) => {
                self.lines
                    .warnings
                    .push(format!("{what}; throughput without evaluations is not known"));
                None
            }
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let is_setting = |key: &str| SETTINGS.iter().any(|s| key.starts_with(s));
        // 0 and 0.0 are one number.
        let entry = |e: &Event| {
            Some((
                e.key.clone(),
                e.number().map_or(e.value.as_ref()?.to_string(), |n| n.to_string()),
            ))
        };
        self.lines.own().filter(|e| is_setting(&e.key)).filter_map(entry).collect()
    }

    fn run(mut self, path: &Path, surroundings: Surroundings) -> Run {
        let benchmark = self
            .lines
            .text("submission_benchmark")
            .or(surroundings.benchmark)
            .unwrap_or_else(|| "unknown".into());
        let division = self.lines.text("submission_division").or(surroundings.division);
        let closed = division.as_ref().is_some_and(|d| d.eq_ignore_ascii_case("closed"));
        let by_rule = || {
            let task = closed_task(&benchmark, None)?;
            let all = task.data.get("train_samples")?.parse().ok()?;
            Some((task, Progress::closed(&self.lines, all)?))
        };
        let (task, progress) = match closed.then(by_rule).flatten() {
            Some(found) => found,
            None => (self.open_task(&benchmark, division), Progress::open(&self.lines)),
        };
        if let (None, Some(n)) = (progress::train_samples(&self.lines), progress.train_samples) {
            self.lines.warnings.push(format!(
                "train_samples is not logged; {n}, as the closed division asks for, are assumed"
            ));
        }
        let Progress { evaluations, samples, epochs, train_samples } = progress;
        let counted = epochs.zip(train_samples).map(|(epochs, all)| epochs * all);
        if let (Some(seen), Some(counted)) = (samples, counted)
            && (seen / counted - 1.0).abs() > ODD
        {
            self.lines.warnings.push(format!(
                "train_samples behind run_stop says {seen} samples, but epoch_num {counted:.0}; the former is taken"
            ));
        }
        let seconds = self.lines.seconds();
        let finite = |x: &f64| x.is_finite();
        let end_to_end = samples.zip(seconds).map(|(n, s)| n / s).filter(finite);
        let eval_seconds = self.eval_seconds(evaluations.len());
        let train_seconds =
            seconds.zip(eval_seconds).map(|(all, eval)| all - eval).filter(|&s| s > 0.0);
        let tracked = progress::tracked(&self.lines);
        if let (Some(computed), Some(logged)) = (end_to_end, tracked)
            && (logged / computed - 1.0).abs() > ODD
        {
            let off = 100.0 * (logged / computed - 1.0);
            self.lines.warnings.push(format!(
                "its own tracked_stats say {logged:.0} samples/s, {off:+.1}% off what epoch_num, train_samples and run_start to run_stop give"
            ));
        }
        let ending = self.ending(task.target, &evaluations);
        let started = Utc::of_log(self.lines.start_ms()).map(|t| t.rfc3339());
        let mut system = surroundings.system;
        system.platform = self.lines.text("submission_platform");
        system.org = system.org.or_else(|| self.lines.text("submission_org"));
        if system.name.is_empty() {
            system.name = system.platform.clone().unwrap_or_else(|| "unknown".into());
        }
        let batch = self.lines.number("global_batch_size").filter(|&b| b >= 1.0).map(|b| b as u64);
        // What lies in one folder need not be of one submitter, nor of one system.
        let key = format!(
            "{}\n{}\n{:?}\n{:?}\n{benchmark}\n{batch:?}",
            surroundings.key, system.name, system.org, system.platform
        );
        Run {
            path: path.display().to_string(),
            argument: String::new(),
            name: path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            started,
            grade: None,
            system,
            workload: benchmark,
            task,
            engine: surroundings.framework,
            program: None,
            precision: self.lines.text("lowest_numerical_precision_in_linear").map(|products| {
                run::precision(
                    &products,
                    &self.lines.text("embedding_rows").unwrap_or_else(|| "fp32".into()),
                )
            }),
            batch,
            seed: self.lines.number("seed").filter(|&s| s >= 0.0).map(|s| s as u64),
            settings: self.settings(),
            ending,
            seconds,
            samples,
            epochs,
            auc: evaluations.last().map(|e| e.auc),
            auc_binned_1000: None,
            accuracy: None,
            gstep: None,
            loss: None,
            throughput: Rates {
                end_to_end,
                training: samples.zip(train_seconds).map(|(n, s)| n / s).filter(finite),
                steady: None,
                logged: tracked,
            },
            floor_share: None,
            joules: None,
            scaling_factor: surroundings.scaling_factor,
            evaluations,
            warnings: self.lines.warnings,
            identity: Identity::default(),
            key,
        }
    }

    /// Outside the closed division a log does not say what data and model were; numbers of samples
    /// have to do.
    fn open_task(&self, benchmark: &str, division: Option<String>) -> Task {
        let known = |key: &str| {
            // Behind the run's end stands what it has seen, which differs from run to run.
            let n = match key {
                "train_samples" => progress::train_samples(&self.lines).and_then(|n| n.of_set()),
                _ => self.lines.number(key),
            };
            (key.to_owned(), n.map_or("unknown".to_owned(), |n| n.to_string()))
        };
        let division = division.unwrap_or_else(|| "unknown".into());
        Task {
            benchmark: benchmark.to_owned(),
            data: BTreeMap::from([
                known("train_samples"),
                known("eval_samples"),
                ("division".into(), division),
            ]),
            model: BTreeMap::from([("model".into(), "not logged".into())]),
            target: None,
            accuracy: None,
        }
    }

    fn ending(&mut self, target: Option<f64>, evaluations: &[Evaluation]) -> Ending {
        let Some(stop) = self.lines.stop() else { return Ending::Unfinished };
        let status = stop.meta("status").and_then(|s| s.as_str()).map(str::to_lowercase);
        let met = target.map(|t| evaluations.iter().any(|e| e.auc >= t));
        match (status.as_deref(), met) {
            (Some("success"), Some(false)) if !evaluations.is_empty() => {
                self.lines
                    .warnings
                    .push("run_stop says success, but no evaluation meets the target".into());
                Ending::NotConverged
            }
            (Some("success"), _) => Ending::Converged,
            (None, Some(true)) => Ending::Converged,
            _ => Ending::NotConverged,
        }
    }
}

/// Seconds between starts and stops of evaluations, and how many stops there are.
///
/// # Errors
/// Which line has no counterpart.
fn paired(lines: &Lines) -> Result<(f64, usize), String> {
    let Some(end) = lines.stop() else { return Ok((0.0, 0)) };
    let (mut seconds, mut closed) = (0.0, Vec::<Option<f64>>::new());
    let mut open: Option<(usize, &Event)> = None;
    let alone = |line: usize, key: &str, other: &str| format!("line {line}: {key} has no {other}");
    for (line, event) in lines.during() {
        // Other ranks may write the same again, late.
        let done = |at: &Option<f64>| at.is_some() && closed.contains(at);
        match (event.key.as_str(), open) {
            ("eval_start", None) if done(&mark(event)) => {}
            ("eval_start", None) => open = Some((*line, event)),
            ("eval_start", Some((first, started))) if mark(started) != mark(event) => {
                return Err(alone(first, "eval_start", "eval_stop"));
            }
            ("eval_stop", None) if done(&mark(event)) || mark(event).is_none() => {}
            ("eval_stop", None) => return Err(alone(*line, "eval_stop", "eval_start")),
            ("eval_stop", Some((first, started))) => {
                let (from, to) = (mark(started), mark(event));
                if from.is_some() && to.is_some() && from != to {
                    if done(&to) {
                        continue;
                    }
                    return Err(alone(first, "eval_start", "eval_stop"));
                }
                if event.time_ms < started.time_ms {
                    return Err(format!("line {line}: eval_stop is before its eval_start"));
                }
                seconds += (event.time_ms - started.time_ms) / 1e3;
                closed.push(to.or(from));
                open = None;
            }
            _ => {}
        }
    }
    // The last one may still be open when the target ends the run.
    if let Some((_, started)) = open {
        seconds += (end.time_ms - started.time_ms).max(0.0) / 1e3;
        closed.push(mark(started));
    }
    Ok((seconds, closed.len()))
}
