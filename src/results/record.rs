//! `run.json`: everything worth knowing about a run.

use super::{
    Floor, Recorded, ResultsError, RunFolder,
    identity::{DataSet, FileContent},
    metrics::Metrics,
};
use crate::{
    comm::links::MeasuredLink,
    data::Facts,
    embedding::RowKind,
    engine::{self, EngineConfig},
    host::Isa,
    stats::Jump,
    system::{Ceilings, Machine, Noise, Setting, Usage, Versions, peak_memory, usable_cores},
    train::events::{EvalEvent, Outcome, RunFacts},
    train::{Diagnosis, ExpectedHits},
    workload::{Workload, shipped::TextSource},
};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Version of the record's layout. Raised when a reader of the old layout would misread the new
/// one.
pub const SCHEMA_VERSION: u32 = 1;

/// The record of a run. All times are seconds, all sizes bytes, all throughputs training samples
/// per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Layout of this file, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run's name, that of its folder.
    pub run: String,
    /// When it began, UTC.
    pub started: String,
    /// The series of runs with several seeds that it belongs to, if any.
    #[serde(default)]
    pub series: Option<Series>,
    /// The machine's name, that of its folder.
    pub system: String,
    /// The program.
    pub versions: Versions,
    /// The machine, before the run.
    pub machine: Machine,
    /// What the machine could do at most, measured before the run; `None` in records of programs
    /// that did not measure it, and where there was no memory to do so.
    #[serde(default)]
    pub ceilings: Option<Ceilings>,
    /// What was run.
    pub workload: WorkloadFacts,
    /// What computed it.
    pub engine: EngineFacts,
    /// What is known of the data; `None` if it could not be opened.
    pub data: Option<Facts>,
    /// The data's content: files by size and hash, columns; `None` in records of programs that did
    /// not look.
    #[serde(default)]
    pub data_set: Option<DataSet>,
    /// The content of the saved model that training began with (`train.start_from`), as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<FileContent>,
    /// The model as it was trained: sizes that the data decided, loss, optimizer, numbers; `None`
    /// in records of programs that did not say.
    #[serde(default)]
    pub model: Option<serde_json::Value>,
    /// Sizes and target; `None` if training never began.
    pub facts: Option<RunFacts>,
    /// How it ended; `None` if it never began.
    pub outcome: Option<Outcome>,
    /// How it got to the target.
    pub convergence: Convergence,
    /// How fast it was; `None` without steps.
    pub throughput: Option<Throughput>,
    /// Energy of processors, memory and GPU (not of the whole machine) from `run_start` to
    /// `run_stop`; `None` where nothing counts it.
    #[serde(default)]
    pub energy_joules: Option<f64>,
    /// Whose energy that is: what could be counted. Empty in records of programs that did not say.
    #[serde(default)]
    pub energy_of: Vec<String>,
    /// How quiet the machine was from `run_start` to `run_stop` (of a run that was taken up: since
    /// then); `None` in records of programs that did not look, and if training never began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// From the program's start of work to `run_start`: data opened, model made.
    pub init_seconds: Option<f64>,
    /// How fast messages between ranks were before the run, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<MeasuredLink>,
    /// Where the time of training steps went, if the engine keeps a clock.
    pub phases: Vec<PhaseShare>,
    /// What training has left as it was, if the run was to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The least time of a training step: its work over the ceilings. `None` without ceilings.
    #[serde(default)]
    pub floor: Option<Floor>,
    /// Share of the floor that training reached, [`Throughput::training`] over
    /// [`Floor::samples_per_second`]; 1 is the best that can be.
    #[serde(default)]
    pub floor_share: Option<f64>,
    /// Share of the training steps' time spent waiting for data.
    pub data_wait_share: Option<f64>,
    /// The most memory the process held at once, the measurement of ceilings left out.
    pub peak_memory: Option<u64>,
    /// What memory was to be used for, as worked out before anything was allocated.
    pub memory_plan: Vec<MemoryItem>,
    /// How many ids were expected to find their row in the caches of tables that are not all in
    /// memory: as many as were read ([`Outcome::tables`] has what came of it).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_hits: Vec<ExpectedHits>,
    /// All evaluations.
    pub evaluations: Vec<EvalEvent>,
    /// What of the run's files could not be written, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// A run's place in a series (`run --runs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// The name of the series' first run.
    pub id: Option<String>,
    /// From 1.
    pub run: usize,
    /// How many were to be made.
    pub runs: usize,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadFacts {
    /// `workload.name`.
    pub name: String,
    /// `workload.description`.
    pub description: String,
    /// SHA-256 of the resolved workload (`workload.toml` beside the record).
    pub sha256: String,
    /// Where the text came from that was resolved; `None` in records of programs that did not say.
    #[serde(default)]
    pub source: Option<TextSource>,
    /// Behaviours of the original program that were asked for.
    pub quirks: Vec<String>,
    /// Seed of initial values, dropout and shuffling.
    pub seed: u64,
    /// Samples a step.
    pub batch_size: usize,
    /// Parts that they were computed in; 1 in records of programs that knew no others.
    #[serde(default = "whole")]
    pub micro_batches: usize,
    /// MLPerf's name of the benchmark.
    pub benchmark: String,
    /// `open` or `closed`.
    pub division: String,
}

/// What computed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// `fused` or `candle`.
    pub kind: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads that compute; of candle those that it has, whatever was asked for.
    pub threads: usize,
    /// Numbers in matrix products: `fp32`, `bf16` or `fp16`.
    pub precision: String,
    /// Form of embedding rows in memory: `fp32`, `bf16`, `fp16` or `bf16-split`.
    #[serde(default)]
    pub embedding_rows: RowKind,
    /// The instruction set of our kernels on the CPU, `DLRM_BENCH_ISA` included; `None` in records
    /// of programs that did not say.
    #[serde(default)]
    pub instruction_set: Option<String>,
    /// Processors that the process could use at once, by affinity and quota; `None` in records of
    /// programs that did not say.
    #[serde(default)]
    pub usable_cores: Option<usize>,
}

/// How a run got to its target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Best AUC of all evaluations.
    pub best_auc: Option<f64>,
    /// `(best_auc - 0.5) / (best reachable AUC - 0.5)`, where the best reachable AUC is known: 0 is
    /// chance, 1 the truth.
    pub share_of_best: Option<f64>,
    /// From `run_start` to the end of the evaluation that met the target, evaluations included.
    pub seconds_to_target: Option<f64>,
    /// Training samples seen by then.
    pub samples_to_target: Option<u64>,
    /// Epochs done by then, from 0, fractions included.
    pub epochs_to_target: Option<f64>,
}

/// How fast a run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Training steps after warm-up, evaluation excluded, with its interval; `None` if there are
    /// too few steps to tell.
    pub steady: Option<Steady>,
    /// All training steps, evaluation excluded.
    pub training: f64,
    /// From `run_start` to the end, evaluation included; MLPerf's view.
    pub end_to_end: f64,
    /// The step at which it changed for the rest of the run, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<Jump>,
}

/// Throughput with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Samples over seconds.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Chance that the interval covers the true mean, 0.95 say.
    pub confidence: f64,
    /// Steps at the start that were left out.
    pub warmup_steps: u64,
}

/// One phase of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseShare {
    /// Its name.
    pub phase: String,
    /// Over all steps.
    pub seconds: f64,
    /// Of all phases together.
    pub share: f64,
    /// Share of the phase's floor that it reached, where it has one.
    #[serde(default)]
    pub floor_share: Option<f64>,
}

/// One use of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// What for.
    pub what: String,
    /// How much.
    pub bytes: u64,
}

impl RunRecord {
    /// The record of a run that is over. What only its parts know (`workload.source`, `series`, `ceilings`, `data`,
    /// `data_set`, `started_from`, `init_seconds`, `links`, `phases`, `floor`, `memory_plan`, `expected_hits`) is left empty, for the caller to fill.
    pub fn new(
        folder: &RunFolder,
        system: &str,
        machine: Machine,
        workload: &Workload,
        recorded: Recorded,
        metrics: &Metrics,
    ) -> Self {
        let Recorded { facts, config, evaluations, outcome, energy, usage, .. } = recorded;
        let waited: f64 = metrics.data_wait.iter().sum();
        let stepped: f64 = metrics.seconds.iter().sum();
        let threads = engine::threads(workload.engine.kind, workload.engine.threads);
        let setting = Setting::of(&machine, Some(threads), workload.engine.pin_threads);
        // Other ranks of this run are no others, and what they do is not counted apart; nor is the
        // energy of other hosts counted here.
        let beside = machine.ranks.iter().filter(|rank| rank.host == 0).count() > 1;
        let usage = usage.map(|u| if beside { Usage { others: None, ..u } } else { u });
        let energy = energy.filter(|_| machine.hosts() == 1);
        RunRecord {
            schema_version: SCHEMA_VERSION,
            run: folder.id().to_owned(),
            series: None,
            started: folder.started().to_owned(),
            system: system.to_owned(),
            versions: Versions::this(),
            machine,
            ceilings: None,
            workload: WorkloadFacts::of(workload),
            engine: EngineFacts {
                kind: word(&workload.engine.kind),
                device: workload.engine.device.to_string(),
                threads,
                precision: workload.engine.precision.name().to_owned(),
                embedding_rows: workload.engine.embedding_rows,
                instruction_set: Isa::detect().ok().map(|isa| isa.name().to_owned()),
                usable_cores: Some(usable_cores()),
            },
            data: None,
            data_set: None,
            started_from: None,
            model: config.as_ref().and_then(trained),
            convergence: Convergence::of(facts.as_ref(), &evaluations),
            throughput: outcome.as_ref().and_then(|o| Throughput::of(o, stepped)),
            energy_joules: energy.as_ref().map(|e| e.joules),
            energy_of: energy.map(|e| e.of).unwrap_or_default(),
            noise: facts.is_some().then(|| Noise::judge(&setting, usage)),
            init_seconds: None,
            links: Vec::new(),
            phases: Vec::new(),
            diagnosis: None,
            floor: None,
            floor_share: None,
            data_wait_share: (stepped > 0.0).then(|| waited / stepped),
            peak_memory: peak_memory(),
            memory_plan: Vec::new(),
            expected_hits: Vec::new(),
            facts,
            outcome,
            evaluations,
            lost: Vec::new(),
        }
    }
}

/// A batch in one part.
fn whole() -> usize {
    1
}

impl WorkloadFacts {
    fn of(w: &Workload) -> Self {
        WorkloadFacts {
            name: w.workload.name.clone(),
            description: w.workload.description.clone(),
            sha256: w.sha256(),
            source: None,
            quirks: w.workload.quirks.iter().map(word).collect(),
            seed: w.train.seed,
            batch_size: w.train.batch_size,
            micro_batches: w.train.micro_batches,
            benchmark: w.mlperf.benchmark.clone(),
            division: w.mlperf.division.clone(),
        }
    }
}

impl Convergence {
    fn of(facts: Option<&RunFacts>, evaluations: &[EvalEvent]) -> Self {
        let best_auc = evaluations.iter().map(|e| e.quality.auc).max_by(f64::total_cmp);
        let reachable = facts.and_then(|f| f.best_auc);
        let met = evaluations.iter().find(|e| facts.is_some_and(|f| f.reached(&e.quality)));
        Convergence {
            best_auc,
            share_of_best: best_auc.zip(reachable).map(|(auc, best)| (auc - 0.5) / (best - 0.5)),
            seconds_to_target: met.map(|e| e.elapsed),
            samples_to_target: met.map(|e| e.samples),
            epochs_to_target: met.map(|e| e.progress),
        }
    }
}

impl Throughput {
    fn of(outcome: &Outcome, train_seconds: f64) -> Option<Self> {
        let samples = outcome.samples as f64;
        (outcome.samples > 0 && train_seconds > 0.0 && outcome.seconds > 0.0).then(|| Throughput {
            steady: None,
            training: samples / train_seconds,
            end_to_end: samples / outcome.seconds,
            jump: None,
        })
    }
}

impl PhaseShare {
    /// Shares of seconds by phase; phases that took no time are left out.
    pub fn of<T: Serialize>(phases: &[(T, f64)]) -> Vec<Self> {
        let all: f64 = phases.iter().map(|(_, s)| s).sum();
        let used = phases.iter().filter(|(_, s)| *s > 0.0);
        let share = |(phase, seconds): &(T, f64)| PhaseShare {
            phase: word(phase),
            seconds: *seconds,
            share: seconds / all,
            floor_share: None,
        };
        used.map(share).collect()
    }
}

impl RunRecord {
    /// Records the floor of a step, and the shares of it that throughput and phases reached.
    pub fn set_floor(&mut self, floor: Floor) {
        let samples = self.outcome.as_ref().map_or(0, |o| o.samples);
        for p in &mut self.phases {
            p.floor_share = floor.share(&p.phase, samples, p.seconds);
        }
        self.floor_share = self.throughput.as_ref().map(|t| t.training / floor.samples_per_second);
        self.floor = Some(floor);
    }
}

/// What was trained: the engine's configuration without what has no say in it.
fn trained(config: &EngineConfig) -> Option<serde_json::Value> {
    let mut value = serde_json::to_value(config).ok()?;
    let keys = value.as_object_mut()?;
    for key in ["threads", "pin_threads", "seed"] {
        keys.remove(key);
    }
    Some(value)
}

/// An enum's name as files spell it.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(s)) => s,
        other => format!("{other:?}"),
    }
}

/// A record as it stands in the file `path`.
pub(super) fn text(path: &Path, record: &RunRecord) -> Result<String, ResultsError> {
    let mut text = serde_json::to_string_pretty(record)
        .map_err(|e| ResultsError::malformed(path, e.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// Reads a record (`run.json`).
///
/// # Errors
/// If the file cannot be read, is no record, or is of a version that this program does not know.
pub fn read(path: &Path) -> Result<RunRecord, ResultsError> {
    read_both(path).map(|(record, _)| record)
}

/// Reads a record, and the JSON it was made from, which tells what is missing from what is null.
pub(super) fn read_both(path: &Path) -> Result<(RunRecord, serde_json::Value), ResultsError> {
    let text = fs::read_to_string(path).map_err(ResultsError::read(path))?;
    let wrong = |what: String| ResultsError::malformed(path, format!("not a run record: {what}"));
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let Some(version) = json.get("schema_version").and_then(serde_json::Value::as_u64) else {
        return Err(wrong("missing field `schema_version`".into()));
    };
    if version != u64::from(SCHEMA_VERSION) {
        let what = format!("schema_version is {version}, but this program reads {SCHEMA_VERSION}");
        return Err(ResultsError::malformed(path, what));
    }
    // From the text, so that errors name the line.
    let record = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    Ok((record, json))
}
