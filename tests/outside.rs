//! Results that others made, or that something happened to: other people's logs, damaged and
//! unfinished runs, what lies beside results, and names that would act where they are shown. All
//! through the binary.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The program; what hangs fails with 124.
    fn command(&self, args: &[&str]) -> Output {
        Command::new("timeout")
            .args(["120", env!("CARGO_BIN_EXE_dlrm-bench")])
            .current_dir(self.0.path())
            .args(args)
            .output()
            .unwrap()
    }

    fn rows(&self, args: &[&str]) -> Vec<Value> {
        let out = self.command(&[&["compare", "--format", "json"], args].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let c: Value = serde_json::from_slice(&out.stdout).unwrap();
        let groups = c["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|g| g["rows"].as_array().unwrap().clone()).collect()
    }

    fn row(&self, args: &[&str]) -> Value {
        let mut rows = self.rows(args);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows.remove(0)
    }

    /// A short run of ours; its folder.
    fn run(&self, seed: u64) -> PathBuf {
        self.put("w.toml", WORKLOAD);
        let out = self.command(&[
            "run",
            "w.toml",
            "--quiet",
            "--no-plots",
            "--no-ceilings",
            "--seed",
            &seed.to_string(),
        ]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let folder = text(&out.stdout).lines().find_map(|l| l.strip_prefix("log")).unwrap().trim();
        self.0.path().join(folder).parent().unwrap().to_owned()
    }
}

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 500, train_samples = 4000, eval_samples = 2000 }
model = { kind = "dlrm", dim = 8, bottom = [16, 8], top = [16, 1] }
train = { batch_size = 128 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 10, batch_size = 500 }
target.auc = 0.501
"#;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Criteo 1TB by the rules of the closed division.
const ALL: f64 = 4_195_197_692.0;

/// A log that is written line by line; times are seconds.
#[derive(Clone, Default)]
struct Log(String);

impl Log {
    fn line(mut self, seconds: f64, key: &str, value: &str, metadata: &str) -> Self {
        let ms = 1_800_000_000_000.0 + 1000.0 * seconds;
        self.0 += &format!(
            ":::MLLOG {{\"time_ms\": {ms:.0}, \"key\": \"{key}\", \"value\": {value}, \"metadata\": {{{metadata}}}}}\n"
        );
        self
    }

    fn head(self, seconds: f64, benchmark: &str, division: &str, seed: u64) -> Self {
        self.line(seconds, "submission_benchmark", &format!("{benchmark:?}"), "")
            .line(seconds, "submission_org", "\"Acme\"", "")
            .line(seconds, "submission_division", &format!("{division:?}"), "")
            .line(seconds, "submission_platform", "\"box\"", "")
            .line(seconds, "init_start", "null", "")
            .line(seconds, "seed", &seed.to_string(), "")
            .line(seconds, "global_batch_size", "65536", "")
            .line(seconds + 20.0, "init_stop", "null", "")
            .line(seconds + 20.0, "run_start", "null", "")
    }

    /// An evaluation of two seconds that ends at `seconds`.
    fn eval(self, seconds: f64, metadata: &str, auc: f64) -> Self {
        self.line(seconds - 2.0, "eval_start", "null", metadata)
            .line(seconds, "eval_accuracy", &auc.to_string(), metadata)
            .line(seconds, "eval_stop", "null", metadata)
    }

    fn stop(self, seconds: f64) -> Self {
        self.line(seconds, "run_stop", "null", "\"status\": \"success\"")
    }
}

fn epoch(label: f64) -> String {
    format!("\"epoch_num\": {label}")
}

/// Evaluations at these labels, a minute apart, the last of which meets the target at `from + n`
/// minutes.
fn evals(mut log: Log, from: f64, labels: &[f64]) -> Log {
    for (i, &label) in labels.iter().enumerate() {
        let auc = if i + 1 == labels.len() { 0.81 } else { 0.79 + 0.0001 * i as f64 };
        log = log.eval(from + 60.0 * (i + 1) as f64, &epoch(label), auc);
    }
    log
}

/// A closed run of `n` evaluations with these labels, which begins at second 20.
fn closed(benchmark: &str, labels: &[f64]) -> Log {
    let log = Log::default().head(0.0, benchmark, "closed", 1);
    evals(log, 20.0, labels).stop(20.0 + 60.0 * labels.len() as f64)
}

fn near(value: &Value, expected: f64, relative: f64) {
    let x = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((x / expected - 1.0).abs() < relative, "{x} is not {expected}");
}

#[test]
fn epochs_come_out_between_0_and_1_however_they_are_counted() {
    let place = Place::new();
    let fractions: Vec<f64> = (1..=14).map(|i| 0.05 * f64::from(i)).collect();
    let plus = |by: f64| fractions.iter().map(|e| e + by).collect::<Vec<_>>();
    let numbers = |from: i32| (from..from + 14).map(f64::from).collect::<Vec<_>>();
    for (name, benchmark, labels) in [
        ("from 0", "dlrm_dcnv2", fractions.clone()),
        ("v1 from 0", "dlrm", fractions.clone()),
        ("v1 from 1", "dlrm", plus(1.0)),
        ("from 1", "dlrm_dcnv2", plus(1.0)),
        ("evaluations from 1", "dlrm_dcnv2", numbers(1)),
        ("evaluations from 0", "dlrm_dcnv2", numbers(0)),
        ("v1 evaluations", "dlrm", numbers(1)),
    ] {
        place.put("a.log", &closed(benchmark, &labels).0);
        let row = place.row(&["a.log"]);
        near(&row["epochs_to_target"], 0.7, 1e-3);
        near(&row["end_to_end"]["mean"], 0.7 * ALL / 840.0, 1e-3);
        assert_eq!(row["seconds_to_target"], 840.0, "{name}");
    }
    // The epoch_start tells where the first evaluation does not.
    let first = |label: &str| {
        let head = Log::default().head(0.0, "dlrm", "open", 1);
        let head = head.line(20.0, "train_samples", "4000", "");
        head.line(20.0, "epoch_start", "null", label)
    };
    for (start, labels, epochs) in [
        ("\"epoch_num\": 1", [2.0, 3.0], 2.0),
        ("\"epoch_num\": 1", [1.0, 2.0], 2.0),
        ("\"epoch_num\": 0", [0.0, 1.0], 2.0),
        ("\"epoch_num\": 0", [1.0, 2.0], 2.0),
        ("\"epoch_num\": 0", [2.0, 4.0], 4.0),
    ] {
        place.put("a.log", &evals(first(start), 20.0, &labels).stop(140.0).0);
        let row = place.row(&["a.log"]);
        assert_eq!(row["each"][0]["epochs"], epochs, "{start} {labels:?}");
    }
}

#[test]
fn train_samples_behind_the_run_are_those_of_the_run() {
    let place = Place::new();
    let labels: Vec<f64> = (1..=18).map(|i| 1.0 + 0.05 * f64::from(i)).collect();
    let log = closed("dlrm", &labels);
    let seen = 0.9 * ALL;
    place.put("hugectr.log", &log.clone().line(1200.0, "train_samples", &seen.to_string(), "").0);
    place.put("rules.log", &log.line(1200.0, "train_samples", &ALL.to_string(), "").0);
    let rows = place.rows(&["hugectr.log", "rules.log"]);
    for row in &rows {
        near(&row["end_to_end"]["mean"], 0.9 * ALL / 1080.0, 1e-9);
        near(&row["epochs_to_target"], 0.9, 1e-9);
    }
    // One task: the number of samples that a run has seen is none of the data's.
    let out = place.command(&["compare", "hugectr.log", "rules.log"]);
    assert!(!text(&out.stdout).contains("not comparable"), "{}", text(&out.stdout));
    // Outside the closed division its own throughput tells which it is.
    let open = Log::default().head(0.0, "dlrm", "open", 1);
    let open = evals(open, 20.0, &[0.25, 0.5]).stop(140.0);
    for (value, throughput, samples) in
        [(1000, None, 1000), (1000, Some(5.0), 500), (1000, Some(10.0), 1000)]
    {
        let mut log = open.clone().line(130.0, "train_samples", &value.to_string(), "");
        if let Some(t) = throughput {
            log = log.line(130.0, "tracked_stats", &format!("{{\"throughput\": {t}}}"), "");
        }
        place.put("a.log", &log.0);
        assert_eq!(
            place.row(&["a.log"])["each"][0]["samples"],
            f64::from(samples),
            "{throughput:?}"
        );
    }
}

#[test]
fn the_last_attempt_of_a_log_is_its_run() {
    let place = Place::new();
    let labels: Vec<f64> = (1..=14).map(|i| 0.05 * f64::from(i)).collect();
    let run = |log: Log| {
        let log = evals(log.head(3600.0, "dlrm_dcnv2", "closed", 2), 3620.0, &labels);
        log.stop(3620.0 + 840.0).0
    };
    let head = || Log::default().head(0.0, "dlrm_dcnv2", "closed", 1);
    // It died in training, before its first evaluation, and while it opened its data.
    let opening: String = head()
        .0
        .lines()
        .filter(|l| !l.contains("init_stop") && !l.contains("run_start"))
        .map(|l| format!("{l}\n"))
        .collect();
    for (name, log) in [
        ("trained", run(evals(head(), 20.0, &labels[..5]))),
        ("begun", run(head())),
        ("opening", run(Log(opening))),
    ] {
        place.put("a.log", &log);
        let row = place.row(&["a.log"]);
        assert_eq!(
            (&row["seconds_to_target"], &row["each"][0]["seed"]),
            (&840.0.into(), &2.into()),
            "{name}"
        );
        near(&row["epochs_to_target"], 0.7, 1e-9);
        assert!(
            row["notes"][0].as_str().unwrap().contains("started again in line"),
            "{name}: {row}"
        );
    }
    // Two whole runs in one file are two.
    place.put("two.log", &(closed("dlrm_dcnv2", &labels).0 + &run(Log::default())));
    let out = place.command(&["compare", "two.log"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(
        text(&out.stderr).contains("a second run_start after run_stop"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn the_relaunched_case_is_the_good_one() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/25-relaunched");
    if !case.is_dir() {
        eprintln!("skipped: {} is not here", case.display());
        return;
    }
    let place = Place::new();
    let [good, again] =
        ["good", "relaunched"].map(|f| place.row(&[case.join(f).to_str().unwrap()]));
    assert_eq!(good["seconds_to_target"], 868.0);
    for key in ["seconds_to_target", "end_to_end", "training", "auc", "epochs_to_target"] {
        assert_eq!(good[key], again[key], "{key}");
    }
    assert_eq!(good["each"][0]["seed"], again["each"][0]["seed"]);
}

#[test]
fn starts_and_stops_that_do_not_pair_give_no_rate() {
    let place = Place::new();
    let head = || Log::default().head(0.0, "dlrm_dcnv2", "closed", 1);
    let lost = |key: &str, log: Log| {
        let at = log.0.find(&format!("\"key\": \"{key}\"")).unwrap();
        let begin = log.0[..at].rfind(":::MLLOG").unwrap();
        let end = at + log.0[at..].find('\n').unwrap() + 1;
        Log(format!("{}{}", &log.0[..begin], &log.0[end..]))
    };
    let whole = || evals(head(), 20.0, &[0.05, 0.1, 0.15]).stop(200.0);
    place.put("a.log", &whole().0);
    near(&place.row(&["a.log"])["training"]["mean"], 0.15 * ALL / 174.0, 1e-9);
    for key in ["eval_start", "eval_stop"] {
        place.put("a.log", &lost(key, whole()).0);
        let row = place.row(&["a.log"]);
        assert!(row["training"].is_null(), "{key}: {row}");
        near(&row["end_to_end"]["mean"], 0.15 * ALL / 180.0, 1e-9);
        let note = row["notes"].to_string();
        assert!(note.contains("has no eval_st") && note.contains("is not known"), "{note}");
    }
}

#[test]
fn a_clock_that_goes_back_or_stands_still_is_called_that() {
    let place = Place::new();
    let head = || Log::default().head(0.0, "dlrm_dcnv2", "closed", 1);
    let back = head().eval(80.0, &epoch(0.05), 0.79).eval(-3600.0, &epoch(0.1), 0.81).stop(140.0);
    let end = head().eval(80.0, &epoch(0.05), 0.81).stop(10.0);
    let still = head().eval(20.0, &epoch(0.05), 0.81).stop(20.0);
    let stuck = head().eval(20.0, &epoch(0.05), 0.79).eval(20.0, &epoch(0.1), 0.79);
    let stuck = stuck.eval(20.0, &epoch(0.15), 0.81).stop(900.0);
    place.put("good.log", &closed("dlrm_dcnv2", &[0.05, 0.1]).0);
    for (log, said) in [
        (back, "the clock goes back by 3680.000 s from line 11"),
        (end, "the clock goes back by 70.000 s"),
        (still, "the clock stands still: time_ms of run_stop is that of run_start in line 9"),
        (stuck, "the clock stands still: all 3 evaluations"),
    ] {
        place.put("a.log", &log.0);
        let out = place.command(&["compare", "a.log", "good.log"]);
        assert_eq!(out.status.code(), Some(65), "{}", text(&out.stdout));
        let error = text(&out.stderr);
        assert!(error.starts_with("error: a.log: ") && error.contains(said), "{error}");
        assert!(error.lines().count() == 1 && text(&out.stdout).contains("box"), "{error}");
    }
    // Ranks whose clocks differ by less than a second, and a machine that is set back as little.
    let ranks = head().eval(80.0, &epoch(0.05), 0.79).eval(79.5, &epoch(0.1), 0.81).stop(79.6);
    place.put("a.log", &ranks.0);
    near(&place.row(&["a.log"])["seconds_to_target"], 59.6, 1e-9);
}

#[test]
fn submitters_of_one_system_s_name_and_systems_of_one_folder_stay_apart() {
    let place = Place::new();
    let log = closed("dlrm_dcnv2", &[0.05, 0.1]).0;
    for org in ["A", "B"] {
        place.put(&format!("v4.0/{org}/results/box/dlrm_dcnv2/result_0.txt"), &log);
        place.put(
            &format!("v4.0/{org}/systems/box.json"),
            &format!("{{\"system_name\": \"box\", \"submitter\": \"{org}\"}}"),
        );
    }
    let labels = |rows: Vec<Value>| {
        let mut labels: Vec<String> =
            rows.iter().map(|r| r["label"].as_str().unwrap().to_owned()).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(place.rows(&["v4.0"])), ["box A", "box B"]);
    let out = place.command(&["compare", "v4.0", "--format", "critcmp"]);
    assert!(text(&out.stderr).contains("box of A, box of B"), "{}", text(&out.stderr));
    // Loose logs of one folder.
    place.put("loose/a.log", &log);
    place.put("loose/b.log", &log.replace("Acme", "Other"));
    place.put("loose/c.log", &log.replace("65536", "32768"));
    assert_eq!(place.rows(&["loose/a.log", "loose/b.log", "loose/c.log"]).len(), 3);
}

#[test]
fn one_finder_takes_the_logs_of_all_rounds() {
    let place = Place::new();
    let log = closed("dlrm_dcnv2", &[0.05, 0.1]).0;
    let folder = "v4.0/smc/results/box/dlrm_dcnv2";
    for name in
        ["result_5755-2405170339_01", "result_5755-2405170339_10", "result_5755-2405170339_2"]
    {
        place.put(&format!("{folder}/{name}.txt"), &log);
    }
    place.put(&format!("{folder}/notes.txt"), "no log");
    place.put(&format!("{folder}/.tmp/result_0.txt"), "no log");
    let row = place.row(&["v4.0"]);
    let names: Vec<&str> =
        row["each"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["result_5755-2405170339_01", "result_5755-2405170339_2", "result_5755-2405170339_10"]
    );
    let out = place.command(&["check", "v4.0"]);
    assert!(text(&out.stdout).ends_with("of 3 logs fail\n"), "{}", text(&out.stdout));
    assert_eq!(text(&out.stdout).matches("ruleset 4.0.0").count(), 3, "{}", text(&out.stdout));
    assert!(out.stderr.is_empty(), "the tree tells the round");
    place.put("a.log", &log);
    let out = place.command(&["check", "a.log"]);
    assert!(text(&out.stdout).contains("ruleset 6.0.0"), "{}", text(&out.stdout));
    assert!(
        text(&out.stderr).starts_with("note: nothing tells the round"),
        "{}",
        text(&out.stderr)
    );
    let out = place.command(&["check", "v4.0", "--ruleset", "5.1.0"]);
    assert_eq!(text(&out.stdout).matches("ruleset 5.1.0").count(), 3, "what was said counts");
}

#[test]
fn what_is_no_result_is_passed_over_among_others() {
    let place = Place::new();
    place.run(1);
    place.put("results/README.md", "# words");
    place.put("results/table.csv", "a,b");
    place.put("results/page.html", "<p>");
    place.put("results/notes", "words");
    place.put("results/plots/loss.svg", "<svg/>");
    let mut all: Vec<String> = fs::read_dir(place.0.path().join("results"))
        .unwrap()
        .map(|e| format!("results/{}", e.unwrap().file_name().to_string_lossy()))
        .collect();
    all.sort();
    // As a shell makes them of `results/*`, and as the program does.
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for command in ["compare", "report"] {
        for paths in [all.as_slice(), &["results/*"]] {
            let out = place.command(&[&[command], paths].concat());
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(0), "{said}");
            assert!(
                said.starts_with("note: 5 paths passed over, which are no results")
                    && said.lines().count() == 1,
                "{said}"
            );
        }
    }
    // What was named alone is an error, and so is a path that is not there, or nothing at all.
    for (args, said) in [
        (&["results/README.md"][..], "results/README.md: no results"),
        (&["results/plots"], "results/plots: no results in this folder"),
        (&["results/README.md", "results/plots"], "no results, nor are the other paths"),
        (&["results", "nowhere"], "cannot read nowhere"),
        (&["results/*.md"], "matches no results"),
    ] {
        let out = place.command(&[&["compare"], args].concat());
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(65), "{args:?} {error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{args:?} {error}");
    }
    // A log that is broken is none to be passed over.
    place.put("results/sys/dlrm/result_0.txt", "");
    let out = place.command(&["compare", "results/*"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(text(&out.stderr).contains("result_0.txt: an empty file"), "{}", text(&out.stderr));
}

#[test]
fn broken_runs_are_named_and_the_others_are_shown() {
    let place = Place::new();
    let runs = [place.run(1), place.run(2), place.run(3)];
    let damaged = place.run(4);
    let table = damaged.join("metrics.parquet");
    let bytes = fs::read(&table).unwrap();
    let parent = runs[0].parent().unwrap().to_owned();
    // Killed while it opened its data, and only starting.
    let killed = parent.join("killed");
    fs::create_dir(&killed).unwrap();
    fs::copy(runs[0].join("workload.toml"), killed.join("workload.toml")).unwrap();
    let log = fs::read_to_string(runs[0].join("result_0.txt")).unwrap();
    let begin: String =
        log.lines().take_while(|l| !l.contains("init_stop")).map(|l| format!("{l}\n")).collect();
    fs::write(killed.join("result_0.txt"), begin).unwrap();
    let starting = parent.join("starting");
    fs::create_dir(&starting).unwrap();
    fs::copy(runs[0].join("workload.toml"), starting.join("workload.toml")).unwrap();
    fs::write(starting.join("result_0.txt"), "").unwrap();
    for (i, broken) in [
        &bytes[..bytes.len() / 2],
        b"",
        b"PAR1PAR1",
        &[&bytes[..4], &vec![0xff; bytes.len() - 8][..], b"PAR1"].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&table, broken).unwrap();
        for command in [
            &["compare", "results"][..],
            &["report", "results"],
            &["record", "results", "-o", "r.json"],
        ] {
            let out = place.command(command);
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(65), "{i} {command:?} {said}{}", text(&out.stdout));
            assert_eq!(said.matches("training has not begun").count(), 2, "{said}");
            assert!(said.contains("metrics.parquet: ") && said.lines().count() == 3, "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
        let out = place.command(&["compare", "results", "--format", "json"]);
        let c: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(c["groups"][0]["rows"][0]["runs"], 3);
    }
    let record: Value =
        serde_json::from_str(&fs::read_to_string(place.0.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(record["points"][0]["runs"].as_array().unwrap().len(), 3);
    // A submission of what can be read, which says what it left out.
    let out =
        place.command(&["package", "results", "--org", "X", "-o", "out", "--allow-incomplete"]);
    assert_eq!(out.status.code(), Some(65), "{}", text(&out.stderr));
    assert_eq!(text(&out.stderr).matches("error: ").count(), 3, "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("3 runs, open division"), "{}", text(&out.stdout));
}

#[test]
fn a_pipe_called_like_a_log_is_not_waited_for() {
    let place = Place::new();
    place.put("tree/a/result_0.txt", &closed("dlrm", &[0.05, 0.1]).0);
    let pipe = place.0.path().join("tree/a/result_1.txt");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (args, code) in [
        (&["compare", "tree"][..], 65),
        (&["compare", "tree/a/result_1.txt"], 65),
        (&["report", "tree"], 65),
        (&["check", "tree"], 65),
        (&["check", "tree/a/result_1.txt"], 65),
        (&["record", "tree", "-o", "r.json"], 65),
        (&["package", "tree", "--org", "X", "-o", "o"], 65),
    ] {
        let out = place.command(args);
        assert_eq!(out.status.code(), Some(code), "{args:?} {}", text(&out.stderr));
        assert!(
            text(&out.stderr).contains("result_1.txt: a named pipe; must be a regular file"),
            "{args:?} {}",
            text(&out.stderr)
        );
    }
}

#[test]
fn a_failure_from_outside_is_no_result_of_training() {
    let place = Place::new();
    let runs = [place.run(1), place.run(2), place.run(3)];
    let path = runs[2].join("run.json");
    let with_reason = |reason: &str| {
        let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        record["outcome"]["reason"] = reason.into();
        record["outcome"]["success"] = false.into();
        fs::write(&path, record.to_string()).unwrap();
        place.row(&["results"])
    };
    let row = with_reason("broken");
    assert_eq!((&row["runs"], &row["unfinished"]), (&2.into(), &1.into()));
    assert!(row["seconds_to_target"].is_f64(), "{row}");
    // A loss that is no number is one.
    let row = with_reason("failed");
    assert_eq!((&row["runs"], &row["converged"]), (&3.into(), &2.into()));
}

/// A tree whose names are all that would act somewhere.
fn evil(place: &Place) {
    let log = closed("dlrm_dcnv2", &[0.05, 0.1]).0;
    for (org, system, name) in [
        ("Plain", "plain", "plain"),
        ("=cmd|' /C calc'!A0", "formula", "=HYPERLINK(\\\"http://x\\\")\\u001b[2J"),
        (
            "Evil | Corp",
            "evil",
            "E<script>alert(1)</script> | `x` [l](javascript:1) \\n| row2 | 1 |\\u202e www.x.y",
        ),
    ] {
        let org_json = org.replace('"', "\\\"");
        place.put(
            &format!("training_results_v3.1/{org}/results/{system}/dlrm_dcnv2/result_0.txt"),
            &log,
        );
        place.put(
            &format!("training_results_v3.1/{org}/systems/{system}.json"),
            &format!("{{\"submitter\": \"{org_json}\", \"system_name\": \"{name}\", \"framework\": \"\\u001b]0;x\\u0007-1+1\"}}"),
        );
    }
}

#[test]
fn names_from_outside_do_nothing_where_they_are_shown() {
    let place = Place::new();
    evil(&place);
    let shown = |args: &[&str]| {
        let out = place.command(&[&["compare", "training_results_v3.1"], args].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        text(&out.stdout).to_owned()
    };
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for format in ["text", "markdown", "csv", "ascend", "deeprec"] {
        let page = shown(&["--format", format]);
        assert!(!page.contains(acts), "{format}: {page:?}");
    }
    assert!(shown(&[]).contains("\\u{1b}[2J"), "{}", shown(&[]));
    let markdown = shown(&["--format", "markdown"]);
    let rows: Vec<&str> = markdown.lines().filter(|l| l.starts_with("| ")).collect();
    // Each row has the head's columns, whatever stands in it.
    let columns = |row: &str| row.replace("\\|", "").matches('|').count();
    assert!(rows.len() == 4 && rows.iter().all(|r| columns(r) == columns(rows[0])), "{markdown}");
    for markup in ["<script", "[l](", " `x`", "http://", "www.x"] {
        assert!(!markdown.contains(markup), "{markup} in {markdown}");
    }
    let table = shown(&["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let mut cells = 0;
    for cell in
        reader.records().flat_map(|r| r.unwrap().iter().map(str::to_owned).collect::<Vec<_>>())
    {
        assert!(!cell.starts_with(['=', '+', '@']), "{cell}");
        assert!(!cell.starts_with('-') || cell.parse::<f64>().is_ok(), "{cell}");
        cells += 1;
    }
    assert!(cells > 60 && table.contains("'=HYPERLINK"), "{table}");
    let out = place.command(&["report", "training_results_v3.1"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = fs::read_to_string(place.0.path().join("report.html")).unwrap();
    assert!(!page.contains("<script>alert"), "escaped");
}

#[test]
fn errors_are_one_line_whatever_a_path_is_called() {
    let place = Place::new();
    let odd = "a\u{1b}[31m\nb\u{202e}";
    place.put(&format!("{odd}/result_0.txt"), "");
    place.put(&format!("{odd}/run.txt"), ":::MLLOG {");
    place.put("w.toml", &WORKLOAD.replace("source = \"planted\", max_rows = 500, train_samples = 4000, eval_samples = 2000", "source = \"parquet\", train = \"C:\\new\\train.parquet\", eval = \"C:\\new\\train.parquet\""));
    let log = format!("{odd}/run.txt");
    for args in [
        &["compare", odd][..],
        &["compare", "none\n\u{1b}c"],
        &["report", odd],
        &["check", &log],
        &["check", "none\n\u{1b}c"],
        &["record", odd, "-o", "r.json"],
        &["package", odd, "--org", "X", "-o", "o"],
        &["run", "w.toml"],
        &["run", "none\n\u{1b}c.toml"],
        &["data", "inspect", "none\n\u{1b}c.csv"],
    ] {
        let out = place.command(args);
        assert!(out.status.code().is_some_and(|c| c != 0 && c != 101), "{args:?}");
        for said in [text(&out.stderr), text(&out.stdout)] {
            assert!(!said.contains(['\u{1b}', '\u{202e}']), "{args:?} {said:?}");
        }
        let errors = text(&out.stderr)
            .lines()
            .filter(|l| !l.starts_with("note: ") && !l.starts_with("opening"));
        assert!(
            errors.clone().all(|l| l.starts_with("error: ")),
            "{args:?} {:?}",
            text(&out.stderr)
        );
        assert!(errors.count() <= 1 || args[0] == "package", "{args:?} {:?}", text(&out.stderr));
    }
}

#[test]
fn prices_and_endings_that_mean_nothing_are_refused() {
    let place = Place::new();
    place.put("a.log", &closed("dlrm", &[0.05, 0.1]).0);
    let refused = |args: &[&str], said: &str| {
        let out = place.command(args);
        assert_eq!(out.status.code(), Some(64), "{args:?}");
        let error = text(&out.stderr);
        assert!(error.contains(said) && error.lines().count() == 1, "{args:?} {error}");
    };
    refused(
        &["compare", "a.log", "--cost-per-hour", "nosuch=1.25"],
        "--cost-per-hour nosuch is none of the systems; must be one of \"box\"",
    );
    for ending in ["ods", "html", "pdf", "parquet"] {
        let file = format!("x.{ending}");
        refused(&["compare", "a.log", "-o", &file], "must be .txt, .md, .json, .csv or .xlsx");
        assert!(!place.0.path().join(&file).exists());
        let out = place.command(&["compare", "a.log", "-o", &file, "--format", "csv"]);
        assert_eq!(out.status.code(), Some(0), "what was said counts");
    }
    refused(&["compare", "a.log", "-o", "y.html"], "dlrm-bench report writes HTML");
    refused(&["report", "a.log", "-o", "x.md"], "the ending must be .html");
    for file in ["t.txt", "t.MD", "t.json", "t.csv", "t"] {
        let out = place.command(&["compare", "a.log", "-o", file, "--cost-per-hour", "box=2"]);
        assert_eq!(out.status.code(), Some(0), "{file} {}", text(&out.stderr));
    }
    assert!(fs::read_to_string(place.0.path().join("t.MD")).unwrap().starts_with("### dlrm"));
}
