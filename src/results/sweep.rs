//! What a sweep leaves: `results/sweeps/<sweep>/` with the results of its runs, as every run has
//! them, and `sweep.json`, which says what its points came to.

use super::{
    ResultsError,
    table::{ENOUGH_RUNS, Estimate, Measure, Row},
    time::Utc,
    tree::Ending,
    write_file,
};
use crate::host::atomic_file::{Lock, create_folders};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Version of the layout of [`Sweep`] as JSON. Raised when a reader of the old layout would misread
/// the new one.
pub const SCHEMA_VERSION: u32 = 1;

/// The key that makes a table of scaling.
const THREADS: &str = "engine.threads";

/// The file.
const FILE: &str = "sweep.json";
/// The folder of all sweeps within a folder of results.
const FOLDER: &str = "sweeps";

/// `sweep.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Layout, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What tells it from other sweeps: a hash of all points' workloads, their seeds and the program.
    pub id: String,
    /// When it began, UTC.
    pub started: String,
    /// `workload.name` of the first point.
    pub workload: String,
    /// Swept keys, in order of the table's columns.
    pub keys: Vec<String>,
    /// Runs of each point that were to be made.
    pub rounds: usize,
    /// Whether all of them were.
    pub complete: bool,
    /// What [`Point::rate`] is: steady if all points have that.
    pub rate_of: Measure,
    /// All combinations of values, the last key's changing fastest.
    pub points: Vec<Point>,
}

/// One combination, and what its runs came to. `None` is "not known".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Values by key, as the resolved workload has them.
    pub settings: BTreeMap<String, Value>,
    /// Runs that count.
    pub runs: usize,
    /// Those of them that reached the target.
    pub converged: usize,
    /// Those of them that were to reach it, and did not.
    pub missed: usize,
    /// Training samples a second without evaluations: mean over runs, with Student's 95% interval
    /// from three runs on.
    pub rate: Option<Estimate>,
    /// MLPerf's score: mean time to target without the fastest and the slowest run.
    pub seconds_to_target: Option<f64>,
    /// Mean AUC of the last evaluations.
    pub auc: Option<f64>,
    /// How many times the first point's rate it has.
    pub speed_up: Option<f64>,
    /// Where `engine.threads` is swept: how many times the rate of the fewest threads it has, all
    /// else being equal, over how many times the threads; 1 is as good as it gets.
    pub scaling_efficiency: Option<f64>,
    /// Folders of the runs, within the sweep's.
    pub folders: Vec<String>,
    /// Why it could not be run, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A value for people: words without quotes.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string().replace(',', ", "), str::to_owned)
}

impl Sweep {
    /// A sweep that begins now.
    pub fn new(id: String, workload: String, keys: Vec<String>, rounds: usize) -> Self {
        Sweep {
            schema_version: SCHEMA_VERSION,
            id,
            started: Utc::now().rfc3339(),
            workload,
            keys,
            rounds,
            complete: false,
            rate_of: Measure::Training,
            points: Vec::new(),
        }
    }

    /// Fills in what the points came to: `rows` has each point's runs, if it has any.
    pub fn sum_up(&mut self, rows: &[Option<Row>]) {
        let steady = rows.iter().flatten().all(|r| r.steady.is_some());
        self.rate_of = if steady { Measure::Steady } else { Measure::Training };
        for (point, row) in self.points.iter_mut().zip(rows) {
            let Some(row) = row else { continue };
            point.runs = row.runs;
            point.converged = row.converged;
            point.missed = row.each.iter().filter(|r| r.ending == Ending::NotConverged).count();
            point.seconds_to_target = row.seconds_to_target;
            point.auc = row.auc;
            point.rate = row.estimate(self.rate_of).map(|e| match e.runs {
                ENOUGH_RUNS.. => *e,
                _ => Estimate { low: None, high: None, ..*e },
            });
        }
        let rate = |p: &Point| p.rate.map(|e| e.mean).filter(|r| *r > 0.0);
        let first = self.points.first().and_then(rate);
        let scaling: Vec<Option<f64>> = (0..self.points.len()).map(|i| self.scaling(i)).collect();
        for (point, scaling) in self.points.iter_mut().zip(scaling) {
            point.speed_up = rate(point).zip(first).map(|(rate, first)| rate / first);
            point.scaling_efficiency = scaling;
        }
    }

    /// [`Point::scaling_efficiency`] of a point.
    fn scaling(&self, point: usize) -> Option<f64> {
        let threads = |p: &Point| p.settings.get(THREADS)?.as_f64().filter(|n| *n > 0.0);
        let others = |p: &Point| {
            let mut settings = p.settings.clone();
            settings.remove(THREADS);
            settings
        };
        let this = &self.points[point];
        let like = self.points.iter().filter(|p| others(p) == others(this));
        let fewest = like.min_by(|a, b| {
            threads(a).partial_cmp(&threads(b)).unwrap_or(std::cmp::Ordering::Equal)
        })?;
        let speed_up = this.rate?.mean / fewest.rate?.mean;
        Some(speed_up / (threads(this)? / threads(fewest)?))
    }

    /// Values of the key number `key`, each once, in order of the points.
    pub fn values(&self, key: usize) -> Vec<&Value> {
        let mut values: Vec<&Value> = Vec::new();
        for value in self.points.iter().filter_map(|p| p.settings.get(self.keys.get(key)?)) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }
}

/// The open folder of a sweep.
#[derive(Debug)]
pub struct SweepFolder {
    path: PathBuf,
    /// No other process writes to it.
    _lock: Lock,
}

impl SweepFolder {
    /// Makes the folder of a new sweep within the results `root`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(root: &Path, id: &str) -> Result<Self, ResultsError> {
        let parent = root.join(FOLDER);
        create_folders(&parent).map_err(ResultsError::write(&parent))?;
        let name = format!("{}-{}", Utc::now().compact(), id.get(..8).unwrap_or(id));
        let mut attempt = 1;
        loop {
            let last = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
            let path = parent.join(last);
            match fs::create_dir(&path) {
                Ok(()) => return Self::take(path),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(ResultsError::Write { path, source: e }),
            }
        }
    }

    /// The newest sweep of this `id` within the results `root`; `None` if there is none.
    ///
    /// # Errors
    /// If it is there, and cannot be read or written, or another process is at work on it.
    pub fn newest(root: &Path, id: &str) -> Result<Option<(Self, Sweep)>, ResultsError> {
        let entries = fs::read_dir(root.join(FOLDER)).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        // Their names begin with the time.
        folders.sort();
        // What is no sweep is none to go on with.
        let sweep = |folder: &PathBuf| read(&folder.join(FILE)).ok().filter(|s| s.id == id);
        let found = folders.into_iter().rev().find_map(|f| Some((sweep(&f)?, f)));
        found.map(|(sweep, folder)| Ok((Self::take(folder)?, sweep))).transpose()
    }

    fn take(path: PathBuf) -> Result<Self, ResultsError> {
        let file = path.join(FILE);
        let lock = Lock::of(&file).map_err(ResultsError::write(&file))?.ok_or_else(|| {
            ResultsError::malformed(&path, "another process is at work on this sweep")
        })?;
        Ok(SweepFolder { path, _lock: lock })
    }

    /// The folder; its runs' results are below it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `sweep.json`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, sweep: &Sweep) -> Result<(), ResultsError> {
        let path = self.path.join(FILE);
        let text = serde_json::to_string_pretty(sweep)
            .map_err(|e| ResultsError::malformed(&path, e.to_string()))?;
        write_file(&path, format!("{text}\n").as_bytes())
    }
}

/// Reads `sweep.json`.
///
/// # Errors
/// If the file cannot be read, is none, or is of a version that this program does not know.
pub fn read(path: &Path) -> Result<Sweep, ResultsError> {
    let text = fs::read_to_string(path).map_err(ResultsError::read(path))?;
    let sweep: Sweep = serde_json::from_str(&text)
        .map_err(|e| ResultsError::malformed(path, format!("not a sweep: {e}")))?;
    match sweep.schema_version {
        SCHEMA_VERSION => Ok(sweep),
        n => Err(ResultsError::malformed(
            path,
            format!("schema_version is {n}, but this program reads {SCHEMA_VERSION}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(batch: u64, threads: u64, rate: Option<f64>) -> Point {
        let settings = [("train.batch_size", json!(batch)), (THREADS, json!(threads))];
        Point {
            settings: settings.map(|(k, v)| (k.to_owned(), v)).into(),
            rate: rate.map(|mean| Estimate { mean, low: None, high: None, runs: 1 }),
            ..Point::default()
        }
    }

    #[test]
    fn efficiency_is_over_threads_with_all_else_equal() {
        let keys = vec!["train.batch_size".to_owned(), THREADS.to_owned()];
        let mut sweep = Sweep::new("i".into(), "w".into(), keys, 1);
        sweep.points = vec![
            point(64, 4, Some(300.0)),
            point(64, 1, Some(100.0)),
            point(64, 2, None),
            point(128, 1, Some(500.0)),
            point(128, 4, Some(1000.0)),
        ];
        sweep.sum_up(&[const { None }; 5]);
        let of = |f: fn(&Point) -> Option<f64>| sweep.points.iter().map(f).collect::<Vec<_>>();
        assert_eq!(
            of(|p| p.scaling_efficiency),
            [Some(0.75), Some(1.0), None, Some(1.0), Some(0.5)]
        );
        let third = 100.0 / 300.0;
        assert_eq!(
            of(|p| p.speed_up),
            [Some(1.0), Some(third), None, Some(500.0 / 300.0), Some(1000.0 / 300.0)]
        );
        assert_eq!(sweep.values(0), [&json!(64), &json!(128)]);
        assert_eq!(sweep.values(1), [&json!(4), &json!(1), &json!(2)]);
        let text = serde_json::to_string(&sweep).unwrap();
        assert_eq!(serde_json::from_str::<Sweep>(&text).unwrap(), sweep);
    }

    #[test]
    fn values_are_shown_as_they_are_typed() {
        let all = [json!("bf16"), json!(512), json!([64, 1]), json!(0.1), json!(true)];
        assert_eq!(all.each_ref().map(shown), ["bf16", "512", "[64, 1]", "0.1", "true"]);
    }

    #[test]
    fn the_newest_sweep_of_a_kind_is_found_and_is_one_s_own() {
        let dir = tempfile::tempdir().unwrap();
        assert!(SweepFolder::newest(dir.path(), "abc").unwrap().is_none());
        let sweep = |id: &str| Sweep::new(id.into(), "w".into(), vec!["a.b".into()], 2);
        let folders = ["abc", "abc", "xyz"].map(|id| {
            let folder = SweepFolder::create(dir.path(), id).unwrap();
            folder.write(&sweep(id)).unwrap();
            folder
        });
        let second = folders[1].path().to_owned();
        assert!(
            SweepFolder::newest(dir.path(), "abc").unwrap_err().to_string().contains("at work")
        );
        drop(folders);
        let (found, read) = SweepFolder::newest(dir.path(), "abc").unwrap().unwrap();
        assert_eq!((found.path(), read.id.as_str()), (&*second, "abc"));
    }
}
