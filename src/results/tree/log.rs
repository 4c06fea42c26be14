//! A run from its MLPerf log, whoever wrote it.
//!
//! Rounds and submitters differ: prefixes, ranks that all write, keys in any order, `train_samples`
//! or `eval_samples` late or missing, `epoch_num` from 0 or from 1 (mlcommons/logging issue #79) or
//! `samples_count` instead, `tracked_stats` or none. Only `run_start` is indispensable.

use super::{
    Ending, Evaluation, Rates, Run, Task, run,
    submission::{Place, Systems},
};
use crate::{
    mllog::parse::{self, Event},
    results::ResultsError,
};
use std::{collections::BTreeMap, fs, path::Path};

/// What the closed division fixes: training and evaluation samples, and the AUC to reach
/// (training_policies, training_rules.adoc).
const CLOSED: [(&str, f64, f64, f64); 2] = [
    ("dlrm", 4_195_197_692.0, 89_137_319.0, 0.8025),
    ("dlrm_dcnv2", 4_195_197_692.0, 89_137_319.0, 0.80275),
];

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
    })
}

/// Reads the log `path`.
pub(super) fn read(path: &Path, systems: &mut Systems) -> Result<Run, ResultsError> {
    let bytes = fs::read(path).map_err(ResultsError::read(path))?;
    let log = Log::read(&bytes).map_err(|what| ResultsError::malformed(path, what))?;
    let place = systems.place(path);
    Ok(log.run(path, place))
}

/// The lines of a log that are about one run.
#[derive(Debug)]
struct Log {
    events: Vec<(usize, Event)>,
    start: f64,
    /// `run_stop`, and where it stands among the events.
    stop: Option<(usize, f64)>,
    warnings: Vec<String>,
}

impl Log {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("an empty file; must be an MLPerf log".into());
        }
        let (mut events, mut broken) = (Vec::new(), Vec::new());
        for line in parse::lines(bytes) {
            match line.event {
                Ok(event) => events.push((line.number, event)),
                Err(e) => broken.push(format!("line {}: {e}", line.number)),
            }
        }
        let warnings = match broken.as_slice() {
            [] => Vec::new(),
            [first] => vec![format!("{first}; passed over")],
            [first, more @ ..] => {
                vec![format!("{first}; passed over, as were {} other lines", more.len())]
            }
        };
        if events.is_empty() {
            return Err(broken
                .into_iter()
                .next()
                .unwrap_or_else(|| "no line with :::MLLOG; must be an MLPerf log".into()));
        }
        let at = |key: &str| events.iter().position(|(_, e)| e.key == key);
        let start = at("run_start").ok_or("no run_start: training never began")?;
        let stop =
            events.iter().rposition(|(_, e)| e.key == "run_stop").filter(|&stop| stop > start);
        // Ranks that all write double their lines side by side; a start behind a stop is another
        // run.
        if let Some(first_stop) = at("run_stop")
            && let Some((line, _)) = events[first_stop..].iter().find(|(_, e)| e.key == "run_start")
            && first_stop > start
        {
            return Err(format!(
                "line {line}: a second run_start after run_stop; one file must hold one run"
            ));
        }
        let time = |i: usize| events[i].1.time_ms;
        let (start, stop) = (time(start), stop.map(|i| (i, time(i))));
        Ok(Log { start, stop, events, warnings })
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().map(|(_, e)| e).filter(move |e| e.key == key)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.all(key)
            .find_map(Event::text)
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.all(key).find_map(Event::number)
    }

    /// Evaluations up to `run_stop`; `origin` is the `epoch_num` of a run's start.
    fn evaluations(&self, train_samples: Option<f64>, origin: f64) -> Vec<Evaluation> {
        let upto = self.stop.map_or(self.events.len(), |(i, _)| i);
        let mut found: Vec<Evaluation> = Vec::new();
        for (_, event) in self.events[..upto].iter().filter(|(_, e)| e.key == "eval_accuracy") {
            let Some(auc) = event.number() else { continue };
            let (epochs, samples) =
                match (event.meta_number("epoch_num"), event.meta_number("samples_count")) {
                    (Some(epoch), _) => {
                        (epoch - origin, train_samples.map(|n| n * (epoch - origin)))
                    }
                    (None, Some(samples)) => {
                        (train_samples.map_or(f64::NAN, |n| samples / n), Some(samples))
                    }
                    (None, None) => (f64::NAN, None),
                };
            let evaluation =
                Evaluation { epochs, samples, seconds: (event.time_ms - self.start) / 1e3, auc };
            // The same from another rank.
            let again = found.last().is_some_and(|e| e.auc == auc && e.epochs == epochs);
            if !again {
                found.push(evaluation);
            }
        }
        found
    }

    /// Seconds of evaluation between `run_start` and `run_stop`; `None` if they were not all
    /// logged.
    fn eval_seconds(&self, evaluations: usize) -> Option<f64> {
        let (upto, _) = self.stop?;
        let (mut seconds, mut stops, mut open) = (0.0, 0, None);
        for (_, e) in &self.events[..=upto] {
            match e.key.as_str() {
                "eval_start" => open = open.or(Some(e.time_ms)),
                "eval_stop" => {
                    if let Some(start) = open.take() {
                        (seconds, stops) = (seconds + (e.time_ms - start) / 1e3, stops + 1);
                    }
                }
                _ => {}
            }
        }
        // The last one may still be open when the target ends the run.
        if let (Some(start), Some((_, stop))) = (open, self.stop) {
            (seconds, stops) = (seconds + (stop - start) / 1e3, stops + 1);
        }
        (evaluations > 0 && stops >= evaluations && seconds >= 0.0).then_some(seconds)
    }

    /// Training samples at `run_stop`, and epochs.
    fn progress(
        &self,
        last: Option<&Evaluation>,
        train_samples: Option<f64>,
        origin: f64,
    ) -> (Option<f64>, Option<f64>) {
        let known = |x: f64| x.is_finite().then_some(x);
        let stop = self.stop.map(|(i, _)| &self.events[i].1);
        let epochs = last
            .and_then(|e| known(e.epochs))
            .or_else(|| Some(stop?.meta_number("epoch_num")? - origin));
        let samples = last.and_then(|e| e.samples).or_else(|| stop?.meta_number("samples_count"));
        (samples.or_else(|| Some(epochs? * train_samples?)), epochs)
    }

    /// `epoch_num` where training starts: DLRM v1 counts from 1, but not every submitter's
    /// (mlcommons/logging issue #79). The rules ask for an evaluation each twentieth of an epoch,
    /// so that a first one past 1 tells.
    fn origin(&self, benchmark: &str) -> f64 {
        let first = self.all("eval_accuracy").find_map(|e| e.meta_number("epoch_num"));
        if benchmark == "dlrm" && first.is_some_and(|e| e > 1.0) { 1.0 } else { 0.0 }
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
        self.events
            .iter()
            .map(|(_, e)| e)
            .filter(|e| is_setting(&e.key))
            .filter_map(entry)
            .collect()
    }

    fn tracked(&self) -> Option<f64> {
        let of = |e: &Event| e.value.as_ref()?.get("throughput").and_then(parse::number);
        self.all("tracked_stats").filter_map(of).last()
    }

    fn run(mut self, path: &Path, place: Place) -> Run {
        let benchmark = self
            .text("submission_benchmark")
            .or(place.benchmark)
            .unwrap_or_else(|| "unknown".into());
        let logged = self.number("train_samples").filter(|&n| n > 0.0);
        let division = self.text("submission_division").or(place.division);
        let closed = division.as_ref().is_some_and(|d| d.eq_ignore_ascii_case("closed"));
        let task = match closed.then(|| closed_task(&benchmark, logged)).flatten() {
            Some(task) => task,
            None => self.open_task(&benchmark, division),
        };
        let assumed = || task.data.get("train_samples").filter(|n| *n != "unknown")?.parse().ok();
        let train_samples = logged.or_else(assumed);
        if let (None, Some(n)) = (logged, train_samples) {
            self.warnings.push(format!(
                "train_samples is not logged; {n}, as the closed division asks for, are assumed"
            ));
        }
        let origin = self.origin(&benchmark);
        let evaluations = self.evaluations(train_samples, origin);
        let seconds = self.stop.map(|(_, stop)| (stop - self.start) / 1e3).filter(|&s| s > 0.0);
        let (samples, epochs) = self.progress(evaluations.last(), train_samples, origin);
        let finite = |x: &f64| x.is_finite();
        let end_to_end = samples.zip(seconds).map(|(n, s)| n / s).filter(finite);
        let eval_seconds = self.eval_seconds(evaluations.len());
        let train_seconds =
            seconds.zip(eval_seconds).map(|(all, eval)| all - eval).filter(|&s| s > 0.0);
        let tracked = self.tracked();
        if let (Some(computed), Some(logged)) = (end_to_end, tracked)
            && (logged / computed - 1.0).abs() > ODD
        {
            let off = 100.0 * (logged / computed - 1.0);
            self.warnings.push(format!(
                "its own tracked_stats say {logged:.0} samples/s, {off:+.1}% off what epoch_num, train_samples and run_start to run_stop give"
            ));
        }
        let ending = self.ending(task.target, &evaluations);
        let mut system = place.system;
        system.platform = self.text("submission_platform");
        system.org = system.org.or_else(|| self.text("submission_org"));
        if system.name.is_empty() {
            system.name = system.platform.clone().unwrap_or_else(|| "unknown".into());
        }
        let key = format!("{}\n{}\n{benchmark}", place.key, system.name);
        Run {
            path: path.display().to_string(),
            argument: String::new(),
            name: path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            system,
            workload: benchmark,
            task,
            engine: place.framework,
            program: None,
            precision: self.text("lowest_numerical_precision_in_linear").map(|products| {
                run::precision(
                    &products,
                    &self.text("embedding_rows").unwrap_or_else(|| "fp32".into()),
                )
            }),
            batch: self.number("global_batch_size").filter(|&b| b >= 1.0).map(|b| b as u64),
            seed: self.number("seed").filter(|&s| s >= 0.0).map(|s| s as u64),
            settings: self.settings(),
            ending,
            seconds,
            samples,
            epochs,
            auc: evaluations.last().map(|e| e.auc),
            loss: None,
            throughput: Rates {
                end_to_end,
                training: samples.zip(train_seconds).map(|(n, s)| n / s).filter(finite),
                steady: None,
                logged: tracked,
            },
            floor_share: None,
            joules: None,
            scaling_factor: place.scaling_factor,
            evaluations,
            warnings: self.warnings,
            key,
        }
    }

    /// Outside the closed division a log does not say what data and model were; numbers of samples
    /// have to do.
    fn open_task(&self, benchmark: &str, division: Option<String>) -> Task {
        let known = |key: &str| {
            (key.to_owned(), self.number(key).map_or("unknown".to_owned(), |n| n.to_string()))
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
        }
    }

    fn ending(&mut self, target: Option<f64>, evaluations: &[Evaluation]) -> Ending {
        let Some((at, _)) = self.stop else { return Ending::Unfinished };
        let status =
            self.events[at].1.meta("status").and_then(|s| s.as_str()).map(str::to_lowercase);
        let met = target.map(|t| evaluations.iter().any(|e| e.auc >= t));
        match (status.as_deref(), met) {
            (Some("success"), Some(false)) if !evaluations.is_empty() => {
                self.warnings
                    .push("run_stop says success, but no evaluation meets the target".into());
                Ending::NotConverged
            }
            (Some("success"), _) => Ending::Converged,
            (None, Some(true)) => Ending::Converged,
            _ => Ending::NotConverged,
        }
    }
}
