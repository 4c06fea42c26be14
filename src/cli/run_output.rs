//! What a run leaves in its results folder.

use super::{Failure, ready::told, resume::checkpoints_of};
use crate::{
    backend::{BackendError, Device},
    batch::Schema,
    checkpoint::Checkpoints,
    comm::links::MeasuredLink,
    data::locality::IdsProfile,
    engine::{EngineConfig, cost::cost},
    host::Isa,
    mllog::MlLog,
    report::plots,
    results::{
        Floor, Recorder, ResultsError, RunFolder, RunRecord, about,
        identity::{self, Aspect, DataSet, FileContent, Identity},
        metrics::Metrics,
        record::{MemoryItem, PhaseShare, Series, Steady},
    },
    stats::{self, Bootstrap},
    system::{Ceilings, Effort, Machine, RankSeat, Versions, forget_peak_memory, usable_cores},
    train::{
        Finished, Over, Progress, column_ids, expected_hits,
        memory::{available, device_plan, memory_plan},
    },
    workload::{Resolved, Workload, shipped::TextSource},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// What takes time beside the run itself, and can be left out.
#[derive(Debug, Clone)]
pub(super) struct Extras {
    /// Measure the machine before the run.
    pub ceilings: bool,
    /// Draw plots after it.
    pub plots: bool,
    /// Where each of several ranks runs.
    pub ranks: Vec<RankSeat>,
    /// How fast messages between them are.
    pub links: Vec<MeasuredLink>,
    /// How often ids of the data are asked for, if somebody has counted them.
    pub ids: Option<IdsProfile>,
}

/// The open folder of a run: the two listeners that write to it, and what the record will say of
/// the machine.
pub(super) struct RunOutput {
    folder: RunFolder,
    system: String,
    machine: Machine,
    ceilings: Option<Ceilings>,
    series: Option<Series>,
    extras: Extras,
    /// Where the workload's text came from.
    source: TextSource,
    /// What is trained on in place of what, if there is anything to tell.
    told: Option<String>,
    /// Data files as they were found.
    files: Option<Vec<FileContent>>,
    /// The saved model that training begins with.
    start: Option<FileContent>,
    /// Whether the folder is that of a run that goes on.
    goes_on: bool,
    pub log: MlLog,
    pub recorder: Recorder,
}

impl RunOutput {
    /// Measures the machine, makes the folder, writes the resolved workload and opens the log.
    pub fn open(
        root: &Path,
        resolved: &Resolved,
        series: Option<Series>,
        extras: Extras,
    ) -> Result<Self, Failure> {
        let w = &resolved.workload;
        let (machine, system, ceilings) = inspect(w, &extras)?;
        let folder = RunFolder::create(root, &system, &w.workload.name, &w.sha256(), w.train.seed)?;
        let opened = folder.write_workload(&w.to_toml()).and_then(|()| {
            MlLog::create(&folder.log(), w, &system)
                .map_err(|source| ResultsError::Write { path: folder.log(), source })
        });
        let log = match opened {
            Ok(log) => log,
            Err(e) => {
                folder.discard();
                return Err(e.into());
            }
        };
        let files = identity::files(w);
        let about = About {
            started: folder.started().to_owned(),
            machine: machine.clone(),
            versions: Versions::this(),
            series: series.clone(),
            files: files.clone(),
            start: identity::start(w),
        };
        let about = serde_json::to_value(about).map_err(|e| Failure::Internal(e.to_string()))?;
        let recorder = Recorder::new(folder.metrics(), machine.gpu.clone(), about);
        let (source, told) = (resolved.read_from.clone(), told(resolved));
        Ok(RunOutput {
            folder,
            system,
            machine,
            ceilings,
            series,
            extras,
            source,
            told,
            files,
            start: identity::start(w),
            goes_on: false,
            log,
            recorder,
        })
    }

    /// Goes on with the run in the folder `path`, from a checkpoint of it.
    pub fn go_on(
        path: &Path,
        resolved: &Resolved,
        progress: &Progress,
        extras: Extras,
    ) -> Result<Self, Failure> {
        let w = &resolved.workload;
        let about: About = serde_json::from_value(about(&progress.listeners))
            .map_err(|e| Failure::Input(format!("{}: the checkpoint: {e}", path.display())))?;
        let (machine, system, ceilings) = inspect(w, &extras)?;
        let files = identity::files(w);
        about.same(path, &machine, files.as_deref())?;
        let folder = RunFolder::open(path, about.started)?;
        let log = MlLog::go_on(&folder.log(), w, &system, &progress.listeners)
            .map_err(|source| ResultsError::Write { path: folder.log(), source })?;
        let gpu = machine.gpu.clone();
        let recorder = Recorder::go_on(&folder, gpu, progress.steps, &progress.listeners)?;
        Ok(RunOutput {
            folder,
            system,
            machine,
            ceilings,
            series: about.series,
            extras,
            source: resolved.read_from.clone(),
            told: told(resolved),
            files,
            start: about.start,
            goes_on: true,
            log,
            recorder,
        })
    }

    /// Whether the run was begun by another process.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Where the run's checkpoints are.
    pub fn checkpoints(&self, w: &Workload) -> Checkpoints {
        checkpoints_of(self.folder.path(), w)
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The run's name, that of its folder.
    pub fn name(&self) -> &str {
        self.folder.id()
    }

    /// Leaves nothing of a run that failed before it began: there is nothing to be compared or
    /// judged. One that was to go on stays as it was.
    pub fn discard(self) {
        let RunOutput { folder, log, recorder, goes_on, .. } = self;
        if goes_on {
            recorder.leave();
            return;
        }
        drop((log, recorder));
        folder.discard();
    }

    /// Writes metrics, record and plots, each whatever becomes of the others. `finished` is missing
    /// if the run failed; the record then says why and has what was heard.
    pub fn close(self, workload: &Workload, finished: Option<&Finished>) -> Closed {
        let RunOutput {
            folder,
            system,
            machine,
            ceilings,
            series,
            extras,
            source,
            told,
            files,
            start,
            log,
            recorder,
            goes_on: _,
        } = self;
        let mut lost = Vec::new();
        if let Err(source) = log.finish() {
            lost.push(ResultsError::Write { path: folder.log(), source });
        }
        let (recorded, metrics, failed) = recorder.finish();
        lost.extend(failed);
        let no_checkpoints = recorded.lost.clone();
        let data_set = DataSet::new(workload, files, recorded.schema.as_ref());
        let mut record = RunRecord::new(&folder, &system, machine, workload, recorded, &metrics);
        record.workload.source = Some(source);
        record.data_set = Some(data_set);
        record.started_from = start;
        // The first of a series gives it its name.
        record.series =
            series.map(|s| Series { id: s.id.or_else(|| Some(record.run.clone())), ..s });
        if let Some(throughput) = &mut record.throughput {
            throughput.steady = steady(&metrics);
            throughput.jump = metrics.jump();
        }
        if let Some(run) = finished {
            record.data = Some(run.data_facts.clone());
            if let Some(data) = &mut record.data {
                data.notes.splice(0..0, told);
            }
            record.init_seconds = Some(run.init_seconds);
            let plan = memory_plan(workload, Some(&run.config));
            record.memory_plan = plan
                .items
                .into_iter()
                .map(|(what, bytes)| MemoryItem { what: what.to_owned(), bytes })
                .collect();
            let on_device = device_plan(workload, &run.config).unwrap_or_default();
            let item = |(what, bytes)| MemoryItem { what: format!("{what}, on the GPU"), bytes };
            record.memory_plan.extend(on_device.items.into_iter().map(item));
            let (over, ids) = (Over::Read(&run.outcome.tables), extras.ids.as_ref());
            record.expected_hits = expected_hits(workload, &run.config, over, ids);
            record.diagnosis.clone_from(&run.diagnosis);
            record.phases = PhaseShare::of(run.phases.as_deref().unwrap_or_default());
            record.ceilings = ceilings.map(|before| measured_again(before, workload));
            if let Some(ceilings) = &record.ceilings {
                let ids = extras.ids.as_ref();
                let floor =
                    floor(workload, &run.schema, &run.config, ids, ceilings, &record.machine);
                record.set_floor(floor);
            }
        } else {
            record.ceilings = ceilings;
        }
        record.links.clone_from(&extras.links);
        record.lost = lost.iter().map(ToString::to_string).collect();
        record.lost.extend(no_checkpoints.iter().cloned());
        lost.extend(folder.write_record(&record).err());
        if extras.plots && !metrics.is_empty() {
            lost.extend(plots::write(&folder.plots(), &record, &metrics).err());
        }
        let lost = lost.into_iter().next().map(Failure::from);
        let lost = lost.or_else(|| no_checkpoints.into_iter().next().map(Failure::Output));
        Closed { record, folder, lost }
    }
}

/// What a run that goes on must know of the one that wrote the checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    started: String,
    machine: Machine,
    versions: Versions,
    series: Option<Series>,
    /// Data files as they were found; `None` if that is not known, as of those that are prepared
    /// first.
    files: Option<Vec<FileContent>>,
    /// The saved model that training began with.
    #[serde(default)]
    start: Option<FileContent>,
}

impl About {
    /// Refuses to go on with a run on another machine, with another program or on other data: what
    /// it measured would be of neither.
    fn same(
        &self,
        path: &Path,
        machine: &Machine,
        files: Option<&[FileContent]>,
    ) -> Result<(), Failure> {
        if let (Some(then), Some(now)) = (&self.files, files)
            && then != now
        {
            return Err(Failure::Input(format!(
                "{}: the data files are not those that this run was begun with; put them back, or begin a new run",
                path.display()
            )));
        }
        let identity = |machine: &Machine, versions: &Versions| {
            let record = serde_json::json!({"machine": machine, "versions": versions});
            Identity::of(&record, &BTreeMap::new()).only(&[
                Aspect::Machine,
                Aspect::Program,
                Aspect::Build,
            ])
        };
        let (old, new) =
            (identity(&self.machine, &self.versions), identity(machine, &Versions::this()));
        let told: Vec<String> = identity::differences(&old, &new)
            .into_iter()
            .filter(|d| d.a != d.b)
            .map(|d| format!("{} {}", d.aspect.name(), d.fact))
            .collect();
        if told.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{}: this run was begun on another machine or with another program, so its times would be of neither (differs: {}); go on with it there, or begin a new one",
            path.display(),
            told.join(", ")
        )))
    }
}

/// The machine, its name, and what it can do at most.
fn inspect(w: &Workload, extras: &Extras) -> Result<(Machine, String, Option<Ceilings>), Failure> {
    let mut machine = Machine::inspect();
    machine.ranks = extras.ranks.clone();
    let gpu = w.engine.device.open().map_err(|e| Failure::Device(e.to_string()))?;
    machine.gpu = gpu.map(|gpu| gpu.device().clone());
    let cores = usable_cores();
    if w.engine.threads > cores && w.engine.device == Device::Cpu {
        errln!(
            "warning: engine.threads is {}, but this process may use {cores} core{} at once; more threads than cores only wait",
            w.engine.threads,
            if cores == 1 { "" } else { "s" }
        );
    }
    let system = w.mlperf.platform.clone().unwrap_or_else(|| machine.name());
    // What one rank could do at most is no limit of all.
    let ceilings = if extras.ceilings && extras.ranks.is_empty() { ceilings(w)? } else { None };
    Ok((machine, system, ceilings))
}

/// A run that is over, with its record.
pub(super) struct Closed {
    pub record: RunRecord,
    pub folder: RunFolder,
    /// Why something of it could not be written, if so; the first reason.
    pub lost: Option<Failure>,
}

/// The floor of a training step.
pub(super) fn floor(
    w: &Workload,
    schema: &Schema,
    config: &EngineConfig,
    ids: Option<&IdsProfile>,
    ceilings: &Ceilings,
    machine: &Machine,
) -> Floor {
    let batch = w.train.batch_size;
    let (popularity, of_columns) = column_ids(w, schema, ids);
    Floor::of(&cost(config, batch, &of_columns), popularity, batch, ceilings, machine)
}

/// Ceilings with what is higher now, after a run: a moment in which others used the machine would
/// make its floor too low.
pub(super) fn measured_again(before: Ceilings, workload: &Workload) -> Ceilings {
    match ceilings(workload) {
        Ok(Some(after)) => before.or_higher(&after),
        // What was measured before stands; the run itself is over.
        Ok(None) | Err(_) => before,
    }
}

/// The ceilings of what computes `workload`, the GPU or as many threads, in about a third of a second;
/// `None` where there is not enough memory.
pub(super) fn ceilings(workload: &Workload) -> Result<Option<Ceilings>, Failure> {
    if let Some(gpu) = workload.engine.device.open().map_err(|e| Failure::Device(e.to_string()))? {
        return match Ceilings::of_gpu(&gpu, Effort::Quick) {
            Ok(measured) => Ok(Some(measured)),
            Err(BackendError::Memory { .. }) => Ok(None),
            Err(e @ (BackendError::Device(_) | BackendError::Ranks(_))) => {
                Err(Failure::Device(e.to_string()))
            }
        };
    }
    let isa = Isa::detect().map_err(|e| Failure::Usage(e.to_string()))?;
    let engine = &workload.engine;
    let measured =
        Ceilings::measure(engine.threads, engine.pin_threads, isa, Effort::Quick, available()).ok();
    forget_peak_memory();
    Ok(measured)
}

/// Throughput of the training steps after warm-up with its interval; `None` if there are too few of
/// them.
fn steady(metrics: &Metrics) -> Option<Steady> {
    let samples = metrics.step_samples();
    let warmup = stats::warmup_cut(samples.len());
    let interval = stats::throughput(&samples, &metrics.seconds, &Bootstrap::after(warmup)).ok()?;
    Some(Steady {
        mean: interval.estimate,
        low: interval.low,
        high: interval.high,
        confidence: interval.confidence,
        warmup_steps: warmup as u64,
    })
}

impl From<ResultsError> for Failure {
    fn from(e: ResultsError) -> Self {
        match e {
            ResultsError::Write { .. } => Failure::Output(e.to_string()),
            ResultsError::Read { .. } | ResultsError::Malformed { .. } => {
                Failure::Input(e.to_string())
            }
        }
    }
}
