//! A run of ours, from its folder.

use super::{Ending, Evaluation, Rates, Run, System, Task, find, log, run};
use crate::{
    data::quiet::caught,
    results::{
        ResultsError,
        identity::{Aspect, Identity, STARTED_FROM},
        metrics::{self, Metrics},
        record::{self, RunRecord},
    },
    train::events::{Outcome, RunFacts, StopReason},
    workload::closed::is_criteo_1tb,
};
use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};
use toml_edit::DocumentMut;

/// Settings that a repetition may change, and words for people. Why other data were taken makes
/// them no others.
const FREE: [&str; 3] = ["train.seed", "workload.description", "workload.without"];

/// Lists and single values that are paths: the same files may be called anything and lie anywhere.
const PATHS: [&str; 5] = ["data.paths", "data.train", "data.eval", "data.test", "data.traces"];

/// Reads `folder/run.json`, and `workload.toml` beside it.
pub(super) fn read(folder: &Path) -> Result<Run, ResultsError> {
    let path = folder.join("run.json");
    find::regular(&path)?;
    let (record, json) = record::read_both(&path)?;
    let mut warnings = Vec::new();
    let mut settings = settings(&folder.join("workload.toml")).unwrap_or_else(|e| {
        warnings.push(format!("{e}; taken for comparable only with runs of the same hash"));
        BTreeMap::from([("data.sha256".into(), record.workload.sha256.clone())])
    });
    settings.retain(|key, _| !FREE.contains(&key.as_str()) && !key.starts_with("mlperf."));
    if record.versions.profile != "release" {
        warnings
            .push(format!("made by a {} build; its speed says nothing", record.versions.profile));
    }
    if let Some(cores) = record.engine.usable_cores.filter(|&n| record.engine.threads > n) {
        warnings.push(format!("{} threads on {cores} usable cores", record.engine.threads));
    }
    warnings.extend(record.lost.iter().cloned());
    let program = match &record.versions.git_commit {
        Some(commit) => format!("{} {commit}", record.versions.dlrm_bench),
        None => record.versions.dlrm_bench.clone(),
    };
    let identity = Identity::of(&json, &settings);
    content(&identity, &mut settings, &mut warnings);
    if let Some(from) = identity.get(Aspect::Model, STARTED_FROM) {
        settings.insert("train.start_from".to_owned(), from.to_owned());
    }
    let task = task(&record, &mut settings);
    let system = System {
        name: record.system.clone(),
        folder: Some(record.system.clone()),
        architecture: record.versions.target.split('-').next().map(str::to_owned),
        ..System::default()
    };
    let what = identity.key(&folder.display().to_string());
    let key =
        format!("{}\n{}\n{task:?}\n{settings:?}\n{what}", record.system, record.workload.name);
    let ending = ending(record.outcome.as_ref(), task.has_target());
    let end = record.outcome.as_ref();
    // Of the model that is kept.
    let kept = end.and_then(|o| o.restored.as_ref()).or(record.evaluations.last());
    let quality = kept.map(|e| &e.quality);
    let metrics = metrics(folder)?;
    if let Some(jump) = metrics.as_ref().and_then(Metrics::jump) {
        warnings.push(jump.to_string());
    }
    Ok(Run {
        path: folder.display().to_string(),
        argument: String::new(),
        name: record.run.clone(),
        started: Some(record.started.clone()),
        grade: record.noise.as_ref().map(|noise| noise.grade),
        system,
        workload: record.workload.name.clone(),
        task,
        engine: Some(record.engine.kind.clone()),
        program: Some(program),
        precision: Some(run::precision(
            &record.engine.precision,
            record.engine.embedding_rows.name(),
        )),
        batch: Some(record.workload.batch_size as u64),
        seed: Some(record.workload.seed),
        settings,
        ending,
        seconds: end.map(|o| o.seconds),
        samples: end.map(|o| o.samples as f64),
        epochs: end.and_then(|o| epochs(o, record.facts.as_ref()?)),
        auc: quality.map(|q| q.auc),
        auc_binned_1000: quality.and_then(|q| q.auc_binned_1000),
        accuracy: quality.map(|q| q.accuracy),
        gstep: metrics.as_ref().and_then(Metrics::gstep),
        loss: metrics.and_then(|m| m.loss.last().map(|&l| f64::from(l))),
        throughput: Rates {
            end_to_end: record.throughput.as_ref().map(|t| t.end_to_end),
            training: record.throughput.as_ref().map(|t| t.training),
            steady: record.throughput.as_ref().and_then(|t| t.steady.clone()),
            logged: None,
        },
        floor_share: record.floor_share,
        joules: record.energy_joules,
        scaling_factor: None,
        evaluations: record
            .evaluations
            .iter()
            .map(|e| Evaluation {
                epochs: e.progress,
                samples: Some(e.samples as f64),
                seconds: e.elapsed,
                auc: e.quality.auc,
            })
            .collect(),
        warnings,
        identity,
        key,
    })
}

/// Replaces the names of files in `settings` by what the files held, where the record says.
fn content(
    identity: &Identity,
    settings: &mut BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) {
    let Some(facts) = identity.facts.get(&Aspect::Data) else { return };
    let of_files: Vec<_> = facts.iter().filter(|(name, _)| name.ends_with(" files")).collect();
    if of_files.is_empty() {
        return;
    }
    if of_files.iter().any(|(_, value)| value.is_none()) {
        warnings.push(
            "its record does not say what its data files held; no row has it beside other runs"
                .to_owned(),
        );
        return;
    }
    settings.retain(|key, _| !PATHS.contains(&key.as_str()));
    for (name, value) in facts {
        let value = value.clone().unwrap_or_else(|| "unknown".to_owned());
        settings.insert(format!("data.{}", name.replace(' ', "_")), value);
    }
}

/// What had to be learnt; takes its keys out of `settings`. A run of the closed division has
/// MLPerf's data and model by its rules.
fn task(record: &RunRecord, settings: &mut BTreeMap<String, String>) -> Task {
    let benchmark = record.workload.benchmark.clone();
    let facts = record.facts.as_ref();
    let (data, model) = fixed(settings);
    if record.workload.division == "closed"
        && criteo_1tb(record)
        && let Some(task) = log::closed_task(&benchmark, facts.map(|f| f.train_samples as f64))
    {
        return task;
    }
    let (target, accuracy) = facts.map_or((None, None), |f| (f.target_auc, f.target_accuracy));
    Task { benchmark, data, model, target, accuracy }
}

/// Whether the data were Criteo 1TB by what they held.
fn criteo_1tb(record: &RunRecord) -> bool {
    let columns = record.data_set.as_ref().and_then(|d| Some((d.dense?, d.tables.as_ref()?)));
    // Without files they were computed.
    let from_files = record
        .data_set
        .as_ref()
        .is_some_and(|d| d.files.as_ref().is_some_and(|files| !files.is_empty()));
    let Some(((dense, tables), facts)) = columns.zip(record.facts.as_ref()) else { return false };
    from_files && is_criteo_1tb(dense, tables, facts.train_samples, facts.eval_samples)
}

/// Takes out of a workload's `settings` what fixes the data, what fixes the model, and the target.
pub(in crate::results) fn fixed(
    settings: &mut BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut take = |starts: &[&str]| -> BTreeMap<String, String> {
        let keys: Vec<String> =
            settings.keys().filter(|k| starts.iter().any(|s| k.starts_with(s))).cloned().collect();
        keys.into_iter().filter_map(|k| settings.remove_entry(&k)).collect()
    };
    take(&["target."]);
    (take(&["data."]), take(&["model.", "train.loss", "train.start_from"]))
}

/// Epochs done at the end.
fn epochs(outcome: &Outcome, facts: &RunFacts) -> Option<f64> {
    match &outcome.last_eval {
        Some(e) if e.samples == outcome.samples => Some(e.progress),
        _ => (facts.train_samples > 0).then(|| outcome.samples as f64 / facts.train_samples as f64),
    }
}

fn ending(outcome: Option<&Outcome>, has_target: bool) -> Ending {
    match outcome.map(|o| (o.reason, o.success)) {
        // What fails from outside says nothing of the training.
        None | Some((StopReason::Interrupted | StopReason::Broken, _)) => Ending::Unfinished,
        Some((StopReason::Failed, _)) => Ending::NotConverged,
        Some(_) if !has_target => Ending::Finished,
        Some((_, true)) => Ending::Converged,
        Some((_, false)) => Ending::NotConverged,
    }
}

/// Keys and values of the resolved workload `path`.
fn settings(path: &Path) -> Result<BTreeMap<String, String>, ResultsError> {
    let text = fs::read_to_string(path).map_err(ResultsError::read(path))?;
    parse(&text).map_err(|what| ResultsError::malformed(path, what))
}

/// Keys and values of a resolved workload.
pub(in crate::results) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    // The first line says where.
    let first_line =
        |e: toml_edit::TomlError| e.to_string().lines().next().unwrap_or_default().to_owned();
    let document: DocumentMut = text.parse().map_err(first_line)?;
    let mut settings = BTreeMap::new();
    for (section, table) in document.as_table() {
        for (key, value) in table.as_table_like().into_iter().flat_map(|t| t.iter()) {
            let Some(value) = value.as_value() else { continue };
            let key = format!("{section}.{key}");
            let text = match PATHS.contains(&key.as_str()) {
                true => file_names(value),
                false => value.to_string().trim().to_owned(),
            };
            settings.insert(key, text);
        }
    }
    Ok(settings)
}

fn file_names(value: &toml_edit::Value) -> String {
    let name = |v: &toml_edit::Value| {
        let path = Path::new(v.as_str()?);
        Some(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
    };
    match value.as_array() {
        Some(paths) => paths.iter().filter_map(name).collect::<Vec<_>>().join(", "),
        None => name(value).unwrap_or_default(),
    }
}

/// What `metrics.parquet` of a run's folder holds; `None` if there is none: such a run is none the
/// worse.
///
/// # Errors
/// If there is one that cannot be read.
pub(crate) fn metrics(folder: &Path) -> Result<Option<Metrics>, ResultsError> {
    let path = folder.join("metrics.parquet");
    match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        _ => find::regular(&path)?,
    }
    // What decodes it panics on some damage.
    let read = caught(|| metrics::read(&path));
    read.unwrap_or_else(|| Err(ResultsError::malformed(&path, "damaged; it cannot be decoded")))
        .map(Some)
}
