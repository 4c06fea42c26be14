//! Checkpoints through the binary: a run that is killed or interrupted goes on with the bits of one
//! that never was, and what is not whole is not taken for it.
#![cfg(target_os = "linux")]

use dlrm_bench::{
    checkpoint::{Checkpoints, Loaded},
    random::philox::{Philox, Stream},
    results::{metrics, record, tree},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

mod eval;
mod incremental;
mod quantised;
mod resume;
#[path = "../support/signal.rs"]
mod signal;

const DLRM: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "custom"
tables = [500, 20, 3]
dense = 2
train_samples = 30000
eval_samples = 300
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 64
epochs = 3
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
every_steps = 150
[checkpoint]
every_steps = 100
"#;

/// Shuffled anew each epoch.
const CSV: (&str, &str) = (
    "source = \"planted\"\npreset = \"custom\"\ntables = [500, 20, 3]\ndense = 2\ntrain_samples = 30000\neval_samples = 300",
    "source = \"csv\"\ntrain = \"train.csv\"\neval = \"eval.csv\"\nlabel = \"y\"\ndense = [\"a\"]\nshuffle = true",
);

/// A folder with a workload in it.
struct Bench {
    dir: TempDir,
}

/// Rows of a csv, from number `first` on; the label follows from the others.
fn rows(first: u64, n: u64) -> String {
    let row = |i: u64| {
        let (a, b) = (draw(i) % 1000, draw(i + (1 << 40)) % 50);
        let label = u8::from((a + 20 * b + draw(i + (1 << 41)) % 300) % 1000 > 500);
        format!("{label},{a},word{b}\n")
    };
    (first..first + n).map(row).collect()
}

impl Bench {
    fn new(workload: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if workload.contains("train.csv") {
            fs::write(dir.path().join("train.csv"), format!("y,a,b\n{}", rows(0, 3000))).unwrap();
            fs::write(dir.path().join("eval.csv"), format!("y,a,b\n{}", rows(1 << 30, 400)))
                .unwrap();
        }
        fs::write(dir.path().join("w.toml"), workload).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `run w.toml --results <results>` and more.
    fn command(&self, results: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(["run", "w.toml", "--results", results]);
        command.args(["--no-ceilings", "--no-plots"]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, results: &str, more: &[&str]) -> Output {
        self.command(results, more).output().unwrap()
    }

    /// The one run below a folder of results.
    fn only(&self, results: &str) -> PathBuf {
        let mut all = self.runs(results);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn runs(&self, results: &str) -> Vec<PathBuf> {
        let inside = |folder: PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
        };
        inside(self.path(results)).into_iter().flat_map(inside).flat_map(inside).collect()
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("a signal: {}", text(output)))
}

fn newest(run: &Path) -> Loaded {
    Checkpoints::new(run.join("checkpoints"), 1).newest().unwrap().0
}

type StepBits = ([i64; 3], u32, u64, [Option<u64>; 2]);

/// All of a run that is not time.
#[derive(Debug, PartialEq)]
struct Trace {
    /// Step, epoch and samples; bits of loss and rate; those of AUC and log loss.
    steps: Vec<StepBits>,
    evaluations: Vec<(u64, u64, String)>,
    /// Hashes of all tensors of the newest checkpoint.
    tensors: Vec<(String, String)>,
    /// What goes on from there, without times.
    progress: Value,
    /// Keys, values and epochs of the log.
    log: Vec<String>,
    reason: String,
}

fn trace(run: &Path) -> Trace {
    let metrics = metrics::read(&run.join("metrics.parquet")).unwrap();
    let bits = |x: Option<f64>| x.map(f64::to_bits);
    let steps = (0..metrics.len())
        .map(|i| {
            (
                [metrics.step[i], metrics.epoch[i], metrics.samples[i]],
                metrics.loss[i].to_bits(),
                metrics.learning_rate[i].to_bits(),
                [bits(metrics.auc[i]), bits(metrics.logloss[i])],
            )
        })
        .collect();
    for (i, auc) in metrics.auc.iter().enumerate() {
        assert_eq!(auc.is_some(), metrics.auc_binned_1000[i].is_some());
        assert_eq!(auc.is_some(), metrics.host_memory[i].is_some());
    }
    let record = record::read(&run.join("run.json")).unwrap();
    let evaluations = record
        .evaluations
        .iter()
        .map(|e| (e.step, e.samples, serde_json::to_string(&e.quality).unwrap()))
        .collect();
    let loaded = newest(run);
    let tensors = loaded.tensors.names().map(|name| {
        let view = loaded.tensors.get(name).unwrap();
        let mut values = vec![0.0; view.shape.iter().product()];
        view.copy(0, &mut values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name.to_owned(), blake3::hash(&bytes).to_hex().to_string())
    });
    let tensors = tensors.collect();
    let mut progress = loaded.progress;
    for key in [
        "train_seconds",
        "init_seconds",
        "run_start_ms",
        "phases",
        "checkpoint_seconds",
        "resumed_at",
        "listeners",
    ] {
        assert!(progress.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    without_times(&mut progress);
    let log = fs::read_to_string(run.join("result_0.txt")).unwrap();
    let log = log.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line.strip_prefix(":::MLLOG ").unwrap()).unwrap();
        let key = line["key"].as_str().unwrap();
        (key != "tracked_stats" && key != "submission_platform")
            .then(|| format!("{key} {} {}", line["value"], line["metadata"]["epoch_num"]))
    });
    let outcome = record.outcome.unwrap();
    Trace {
        steps,
        evaluations,
        tensors,
        progress,
        log: log.collect(),
        reason: format!("{:?} {}", outcome.reason, outcome.steps),
    }
}

/// Takes times and memory of evaluations out, and what a cache has seen, which is empty when a run is
/// taken up.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["elapsed", "seconds", "host_memory", "gpu_memory"] {
                map.remove(key);
            }
            for key in ["hits", "misses", "reads", "bytes_read", "bytes_written"] {
                map.remove(key);
            }
            map.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// Numbers that are the same each time.
fn draw(at: u64) -> u64 {
    Philox::new(17, Stream::Planted, 0).block_u64(at)[0]
}

/// Starts the run, and kills or interrupts it after a while, again and again, until it comes to its
/// end; how often that was after its first checkpoint.
fn run_and_kill(bench: &Bench, results: &str, seed: u64, longest: u64) -> usize {
    let mut counted = 0;
    for round in 0.. {
        let mut child = bench.command(results, &["--resume", "--quiet"]).spawn().unwrap();
        let wait = Duration::from_millis(draw(1000 * seed + round) % longest);
        if round < 50 && !ends_within(&mut child, wait) {
            let gently = draw(1000 * seed + round + (1 << 42)).is_multiple_of(3);
            signal::send(&child, if gently { libc::SIGTERM } else { libc::SIGKILL });
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            None | Some(130) => {
                let saved = |run: &PathBuf| Checkpoints::new(run.join("checkpoints"), 1).any();
                counted += usize::from(bench.runs(results).iter().any(saved));
            }
            Some(0 | 1) => return counted,
            Some(_) => panic!("{}", text(&output)),
        }
    }
    unreachable!("rounds are counted without end")
}

fn ends_within(child: &mut Child, wait: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < wait {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}

/// The newest run that came to its end. Those that were killed before their first checkpoint are left
/// behind, and so is one that was killed when all was done.
fn last_run(bench: &Bench, results: &str) -> PathBuf {
    let mut all = bench.runs(results);
    all.retain(|run| run.join("run.json").is_file());
    all.sort();
    all.pop().unwrap()
}

fn replace(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

/// Models, rules, rows, schedules, sources.
fn workloads() -> Vec<(&'static str, String)> {
    vec![
        ("adagrad", DLRM.to_owned()),
        (
            "sixteen bits, rounded stochastically",
            replace(
                DLRM,
                &[
                    (
                        "[train]",
                        "[engine]\nembedding_rows = \"bf16\"\nprecision = \"fp16\"\nloss_scaling = \"dynamic\"\nloss_scale_growth_steps = 37\n[train]",
                    ),
                    (
                        "kind = \"adagrad\"\nlearning_rate = 0.1",
                        "kind = \"sgd\"\nlearning_rate = 0.5\nclip_norm = 0.5",
                    ),
                ],
            ),
        ),
        (
            "a deepfm on a plateau, its best restored",
            replace(
                DLRM,
                &[
                    (
                        "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]",
                        "kind = \"deepfm\"\ndim = 4\nhidden = [8, 8]\nbatch_norm = true\ndropout = 0.2",
                    ),
                    (
                        "kind = \"adagrad\"\nlearning_rate = 0.1",
                        "kind = \"adam\"\nlearning_rate = 0.05\n[schedule]\nkind = \"reduce_on_plateau\"\nfactor = 0.3\nmin_delta = 0.002",
                    ),
                    (
                        "every_steps = 150",
                        "every_steps = 70\nrestore_best = true\npatience = 6\nmin_delta = 0.0001\nmonitor = \"logloss\"",
                    ),
                    (
                        "every_steps = 100",
                        "every_minutes = 0.0005\nat_eval = true\nbest = true\nkeep = 3",
                    ),
                ],
            ),
        ),
        (
            "split rows, dense adam, warm-up",
            replace(
                DLRM,
                &[
                    (
                        "[train]",
                        "[engine]\nembedding_rows = \"bf16-split\"\nprecision = \"bf16\"\n[train]",
                    ),
                    (
                        "kind = \"adagrad\"\nlearning_rate = 0.1",
                        "kind = \"adam\"\nlearning_rate = 0.01\n[schedule]\nkind = \"warmup_polynomial\"\nwarmup_steps = 50\ndecay_start_step = 300\ndecay_steps = 500",
                    ),
                    ("every_steps = 100", "every_steps = 77\ninitial = true"),
                ],
            ),
        ),
        (
            "a csv, shuffled, of which a share is held out",
            replace(
                DLRM,
                &[CSV, ("epochs = 3", "epochs = 30"), ("eval = \"eval.csv\"", "eval_share = 0.1")],
            ),
        ),
        (
            "changes of rows",
            replace(
                DLRM,
                &[
                    ("tables = [500, 20, 3]", "tables = [20000, 20, 3]"),
                    ("every_steps = 100", "every_steps = 30\nincremental = true\nkeep = 3"),
                ],
            ),
        ),
        (
            "tables larger than memory",
            replace(
                DLRM,
                &[
                    ("tables = [500, 20, 3]", "tables = [2000, 20, 3]"),
                    (
                        "[train]",
                        "[engine]\nembedding_rows = \"bf16\"\n[embedding]\nstore = \"cached\"\ncache = 14000\ndisk = 84000\npath = \"rows\"\n[train]",
                    ),
                    (
                        "kind = \"adagrad\"\nlearning_rate = 0.1",
                        "kind = \"adagrad\"\nlearning_rate = 0.1\nclip_norm = 1.0",
                    ),
                    ("every_steps = 150", "every_steps = 150\nbatch_size = 64"),
                    ("every_steps = 100", "every_steps = 50\nincremental = true"),
                ],
            ),
        ),
        (
            "rows that stay in their file",
            replace(
                DLRM,
                &[
                    ("tables = [500, 20, 3]", "tables = [2000, 300, 3]"),
                    (
                        "[train]",
                        "[embedding]\nstore = \"cached\"\ncache = 21000\ndisk = 150000\npath = \"rows\"\n[train]",
                    ),
                    ("every_steps = 150", "every_steps = 150\nbatch_size = 64"),
                    ("every_steps = 100", "every_steps = 50\nlinked = true\nbest = true"),
                ],
            ),
        ),
        (
            "tables that grow, counted and dropped",
            replace(
                DLRM,
                &[
                    (
                        "[train]",
                        "[embedding]\nstore = \"hashed\"\nfilter = \"counter\"\nfilter_freq = 3\nsteps_to_live = 40\n[train]",
                    ),
                    ("every_steps = 100", "every_steps = 50\ninitial = true"),
                ],
            ),
        ),
        (
            "a deepfm that grows by a Bloom filter and drops small rows",
            replace(
                DLRM,
                &[
                    (
                        "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]",
                        "kind = \"deepfm\"\ndim = 4\nhidden = [8, 8]",
                    ),
                    (
                        "[train]",
                        "[embedding]\nstore = \"hashed\"\nfilter = \"bloom\"\nfilter_freq = 2\nbloom_keys = 300\ncounter_bits = 8\nl2_threshold = 0.0001\nevict_every_steps = 60\n[train]",
                    ),
                    ("every_steps = 100", "every_steps = 77\nbest = true"),
                ],
            ),
        ),
        (
            "candle",
            replace(
                DLRM,
                &[
                    ("[train]", "[engine]\nkind = \"candle\"\n[train]"),
                    ("train_samples = 30000", "train_samples = 9000"),
                    ("kind = \"adagrad\"", "kind = \"rowwise_adagrad\""),
                ],
            ),
        ),
    ]
}

#[test]
fn a_run_that_is_killed_again_and_again_has_the_bits_of_one_that_never_was() {
    let kills = std::env::var("DLRM_BENCH_KILLS").map_or(2, |n| n.parse().unwrap());
    // Workloads whose name has this word.
    let word = std::env::var("DLRM_BENCH_KILLED").unwrap_or_default();
    for (number, (name, workload)) in (1..).zip(workloads()).filter(|(_, w)| w.0.contains(&word)) {
        let bench = Bench::new(&workload);
        let began = Instant::now();
        let whole = bench.run("whole", &["--quiet"]);
        assert!([0, 1].contains(&code(&whole)), "{name}: {}", text(&whole));
        let mut longest = (began.elapsed().as_millis() as u64).max(200) * 2 / 3;
        let whole = bench.only("whole");
        let (mut killed, mut resumed, mut attempts) = (0, 0, 0);
        while killed < kills && attempts < 10 + kills {
            attempts += 1;
            let results = format!("killed-{attempts}");
            let now = run_and_kill(&bench, &results, 1000 * number + attempts as u64, longest);
            killed += now;
            if now == 0 {
                // The whole run may have been held up.
                longest = (longest / 2).max(50);
            }
            let run = last_run(&bench, &results);
            assert_eq!(trace(&run), trace(&whole), "{name}");
            resumed += judge(name, &run, &whole);
            fs::remove_dir_all(bench.path(&results)).unwrap();
        }
        eprintln!(
            "{name}: killed {killed} times after a checkpoint, {attempts} runs, resumed {resumed} times"
        );
        assert!(killed >= kills && resumed > 0, "{name}: {killed} {resumed}");
    }
}

/// A run that was taken up passes as a log, and shares no row with one that was not; how often it was
/// taken up.
fn judge(name: &str, run: &Path, whole: &Path) -> usize {
    let binary = || Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let outcome = record::read(&run.join("run.json")).unwrap().outcome.unwrap();
    let checked = binary().arg("check").arg(run).output().unwrap();
    assert!(checked.status.success(), "{name}: {}", text(&checked));
    if !outcome.resumed_at.is_empty() {
        let compare = binary().arg("compare").args([run, whole]).args(["--format", "csv"]).output();
        let compared = text(&compare.unwrap());
        assert_eq!(compared.matches(",tiny,,").count(), 2, "{name}: {compared}");
        assert!(compared.contains("resumed yes") && compared.contains("resumed no"), "{compared}");
    }
    outcome.resumed_at.len()
}
