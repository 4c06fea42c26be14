//! The log of one run, line by line.

use super::{Benchmark, benchmark::BENCHMARKS, json::dumps, rules::RULESET};
use crate::{
    model::ParamSpec,
    optim::LossScale,
    train::events::{EvalEvent, Listener, Outcome, RunFacts},
    workload::{Workload, rounds},
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Seek, Write},
    panic::Location,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Writes a run's MLPerf log: one file, one run. Every line goes to the file at once, so that a run
/// that is killed leaves all that had happened. If training is given up without a word (a panic,
/// say), dropping the writer closes the log as aborted.
#[derive(Debug)]
pub struct MlLog {
    file: File,
    benchmark: &'static Benchmark,
    /// Lines that are known before the run: submission and hyperparameters.
    submission: Vec<(&'static str, Value)>,
    /// The ruleset that the workload asks for, which the log then states.
    ruleset: Option<String>,
    hyperparameters: Vec<(&'static str, Value)>,
    /// What the samples come from, `data.source`.
    data: &'static str,
    seed: u64,
    clock: Clock,
    open: Open,
    /// In a run that goes on: bytes of the log that stay, until it has begun.
    goes_on: Option<u64>,
}

/// What a log goes on from.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Its length.
    bytes: u64,
    /// The epoch that is open.
    epoch: Option<u64>,
}

/// [`MlLog`]'s name among listeners.
const NAME: &str = "mllog";

/// What has been opened in the log and not yet closed.
#[derive(Debug, Default)]
struct Open {
    run: bool,
    epoch: Option<u64>,
}

/// Wall-clock milliseconds that advance with the monotonic clock: a correction of the machine's
/// time during a run must not change how long the run took.
#[derive(Debug)]
struct Clock {
    origin_ms: i64,
    since: Instant,
}

impl Clock {
    fn new() -> Self {
        let origin_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Clock { origin_ms, since: Instant::now() }
    }

    fn ms(&self) -> i64 {
        self.origin_ms + self.since.elapsed().as_millis() as i64
    }
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum EventType {
    IntervalStart,
    IntervalEnd,
    PointInTime,
}

/// Fields in the order in which mlperf_logging/mllog/mllog.py writes them.
#[derive(Serialize)]
struct Line<'a> {
    namespace: &'a str,
    time_ms: i64,
    event_type: EventType,
    key: &'a str,
    value: &'a Value,
    metadata: Metadata<'a>,
}

/// Where the line was written, then what else belongs to it.
struct Metadata<'a> {
    from: &'static Location<'static>,
    more: &'a [(&'a str, Value)],
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.more.len()))?;
        let file = self.from.file();
        // An installed copy was compiled in somebody's home folder, which is nobody's business.
        map.serialize_entry("file", file.rfind("src").map_or(file, |at| &file[at..]))?;
        map.serialize_entry("lineno", &self.from.line())?;
        for (key, value) in self.more {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl MlLog {
    /// Creates the log at `path`; what was there is lost. `platform` is the system's name where the
    /// workload gives none. Nothing is written before the first event.
    ///
    /// # Errors
    /// If the benchmark is none that logs are written for, or the file cannot be made.
    pub fn create(path: &Path, workload: &Workload, platform: &str) -> io::Result<Self> {
        Self::with(
            File::options().write(true).create(true).truncate(true),
            path,
            workload,
            platform,
        )
    }

    /// Goes on with the log at `path`, of a run of `workload`, where it was at the checkpoint that
    /// says `saved`. What was written after that goes when the run begins.
    ///
    /// # Errors
    /// If the file is not there, or shorter than it was then.
    pub fn go_on(
        path: &Path,
        workload: &Workload,
        platform: &str,
        saved: &BTreeMap<String, Value>,
    ) -> io::Result<Self> {
        let mut log = Self::with(File::options().read(true).write(true), path, workload, platform)?;
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let saved = saved.get(NAME).unwrap_or(&Value::Null);
        let Saved { bytes, epoch } = Saved::deserialize(saved)
            .map_err(|e| wrong(format!("the checkpoint's place in the log: {e}")))?;
        let length = log.file.metadata()?.len();
        if length < bytes {
            let path = path.display();
            return Err(wrong(format!(
                "{path} has {length} bytes, but had {bytes} when the checkpoint was written"
            )));
        }
        (log.goes_on, log.open.epoch) = (Some(bytes), epoch);
        Ok(log)
    }

    fn with(
        options: &OpenOptions,
        path: &Path,
        workload: &Workload,
        platform: &str,
    ) -> io::Result<Self> {
        let name = &workload.mlperf.benchmark;
        let benchmark = Benchmark::named(name).ok_or_else(|| {
            let known: Vec<_> = BENCHMARKS.iter().map(|b| b.name).collect();
            let what =
                format!("mlperf.benchmark is \"{name}\"; must be one of {}", known.join(", "));
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        let file = options
            .open(path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let hyperparameters = benchmark
            .keys
            .iter()
            .copied()
            .flatten()
            .filter_map(|k| Some((k.name, (k.value)(workload)?)))
            .collect();
        Ok(MlLog {
            file,
            benchmark,
            submission: submission(benchmark, workload, platform),
            ruleset: workload.mlperf.round.as_deref().map(rounds::ruleset),
            hyperparameters,
            data: workload.data_source(),
            seed: workload.train.seed,
            clock: Clock::new(),
            open: Open::default(),
            goes_on: None,
        })
    }

    /// Brings the log to the disk; to be called when the run is over.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()
    }

    #[track_caller]
    fn point(&mut self, key: &str, value: &Value) -> io::Result<()> {
        self.line(EventType::PointInTime, key, value, &[], Location::caller())
    }

    fn line(
        &mut self,
        event_type: EventType,
        key: &str,
        value: &Value,
        more: &[(&str, Value)],
        from: &'static Location<'static>,
    ) -> io::Result<()> {
        let metadata = Metadata { from, more };
        let line =
            Line { namespace: "", time_ms: self.clock.ms(), event_type, key, value, metadata };
        // One write a line: a reader that follows the file, or finds it after a crash, sees whole
        // lines.
        self.file.write_all(format!(":::MLLOG {}\n", dumps(&line)?).as_bytes())
    }

    #[track_caller]
    fn start(&mut self, key: &str, more: &[(&str, Value)]) -> io::Result<()> {
        self.line(EventType::IntervalStart, key, &Value::Null, more, Location::caller())
    }

    #[track_caller]
    fn end(&mut self, key: &str, more: &[(&str, Value)]) -> io::Result<()> {
        self.line(EventType::IntervalEnd, key, &Value::Null, more, Location::caller())
    }

    /// `epoch_num` of a whole epoch; real logs hold an integer here.
    fn epoch(&self, epoch: u64) -> (&'static str, Value) {
        ("epoch_num", json!(self.benchmark.first_epoch + epoch))
    }

    /// `epoch_num` of a point in training.
    fn progress(&self, progress: f64) -> (&'static str, Value) {
        ("epoch_num", json!(self.benchmark.first_epoch as f64 + progress))
    }

    fn close(&mut self, status: &str) -> io::Result<()> {
        if let Some(epoch) = self.open.epoch.take() {
            self.end("epoch_stop", &[self.epoch(epoch)])?;
        }
        self.open.run = false;
        self.end("run_stop", &[("status", json!(status))])
    }
}

/// Who submits what. `cache_clear` is false since this program does not drop the operating system's
/// page cache (that takes root): data files may well be in memory when a run starts. Planted data
/// has no files.
fn submission(
    benchmark: &Benchmark,
    workload: &Workload,
    platform: &str,
) -> Vec<(&'static str, Value)> {
    let m = &workload.mlperf;
    let mut lines = vec![
        ("submission_benchmark", json!(benchmark.name)),
        ("submission_org", json!(m.org)),
        ("submission_division", json!(m.division)),
    ];
    // Asked for until 4.0.0; later rules pass over it, and `package` reads it.
    lines.push(("submission_status", json!(m.status)));
    lines.push(("submission_platform", json!(m.platform.as_deref().unwrap_or(platform))));
    lines.push(("cache_clear", json!(false)));
    lines
}

impl Listener for MlLog {
    fn init_start(&mut self) -> io::Result<()> {
        if self.goes_on.is_some() {
            // The log has all that comes before training.
            return Ok(());
        }
        self.open.run = true;
        let stated = self.ruleset.take().map(|ruleset| (RULESET, json!(ruleset)));
        for (key, value) in std::mem::take(&mut self.submission) {
            let more = stated.as_slice();
            let more = if key == "submission_benchmark" { more } else { &[] };
            self.line(EventType::PointInTime, key, &value, more, Location::caller())?;
        }
        self.start("init_start", &[])?;
        self.point("seed", &json!(self.seed))
    }

    fn params_ready(&mut self, params: &[ParamSpec]) -> io::Result<()> {
        if self.goes_on.is_some() {
            return Ok(());
        }
        for tensor in self.benchmark.tensors(params) {
            let more = [("tensor", json!(tensor))];
            self.line(
                EventType::PointInTime,
                "weights_initialization",
                &Value::Null,
                &more,
                Location::caller(),
            )?;
        }
        Ok(())
    }

    fn run_start(&mut self, facts: &RunFacts) -> io::Result<()> {
        if let Some(bytes) = self.goes_on {
            self.file.set_len(bytes)?;
            self.file.seek(io::SeekFrom::Start(bytes))?;
            self.open.run = true;
            return Ok(());
        }
        for (key, value) in std::mem::take(&mut self.hyperparameters) {
            self.point(key, &value)?;
        }
        self.end("init_stop", &[])?;
        self.start("run_start", &[])?;
        // No key of MLPerf's says what the samples are; a log of planted data must not pass for one of
        // Criteo's.
        let data = [("data", json!(self.data))];
        let mut samples = |key, n: u64| {
            self.line(EventType::PointInTime, key, &json!(n), &data, Location::caller())
        };
        samples("train_samples", facts.train_samples)?;
        samples("eval_samples", facts.eval_samples)
    }

    fn epoch_start(&mut self, epoch: u64) -> io::Result<()> {
        self.open.epoch = Some(epoch);
        self.start("epoch_start", &[self.epoch(epoch)])
    }

    fn eval_start(&mut self, progress: f64) -> io::Result<()> {
        self.start("eval_start", &[self.progress(progress)])
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        let auc = eval.quality.auc;
        if !auc.is_finite() {
            // JSON has no NaN, and the checker dies on null.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("AUC is {auc} after step {}", eval.step),
            ));
        }
        let epoch_num = [self.progress(eval.progress)];
        self.line(
            EventType::PointInTime,
            "eval_accuracy",
            &json!(auc),
            &epoch_num,
            Location::caller(),
        )?;
        self.end("eval_stop", &epoch_num)
    }

    fn epoch_stop(&mut self, epoch: u64) -> io::Result<()> {
        self.open.epoch = None;
        self.end("epoch_stop", &[self.epoch(epoch)])
    }

    fn save(&mut self) -> io::Result<Option<(&'static str, Value)>> {
        self.file.sync_data()?;
        let saved = Saved { bytes: self.file.metadata()?.len(), epoch: self.open.epoch };
        Ok(Some((NAME, serde_json::to_value(saved)?)))
    }

    fn run_stop(&mut self, outcome: &Outcome) -> io::Result<()> {
        if !self.open.run {
            // Another listener could not be told of the end, which the log has already.
            return Ok(());
        }
        // Training samples over wall time, evaluation included, as HugeCTR's submissions log it.
        if outcome.samples > 0 && outcome.seconds > 0.0 {
            let value = json!({"throughput": outcome.samples as f64 / outcome.seconds});
            let more = [("step", json!(outcome.steps))];
            self.line(EventType::PointInTime, "tracked_stats", &value, &more, Location::caller())?;
        }
        if let Some(LossScale { scale, skipped_steps }) = outcome.loss_scale {
            let more = [("skipped_steps", json!(skipped_steps)), ("step", json!(outcome.steps))];
            self.line(
                EventType::PointInTime,
                "loss_scale",
                &json!(scale),
                &more,
                Location::caller(),
            )?;
        }
        self.close(if outcome.success { "success" } else { "aborted" })
    }
}

impl Drop for MlLog {
    fn drop(&mut self) {
        if self.open.run {
            // Nobody is left to be told of an error.
            let _ = self.close("aborted");
        }
    }
}
