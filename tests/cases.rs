//! The situations that users of such programs have reported, in the order of ../shared/cases'
//! README: each command of its table and of its list, with the right answer. What is made of each
//! kind of fault is tested elsewhere; here the reported files themselves are read.
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::{
    ffi::CString,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A folder beside the checkout; `None` where it is missing.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

fn case(name: &str) -> Option<PathBuf> {
    shared("cases").map(|cases| cases.join(name))
}

/// The program in `dir`.
fn program(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the program prints, with exit code 0.
fn good(dir: &Path, args: &[&str]) -> String {
    let out = program(dir, args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&good(dir, args)).unwrap()
}

/// The one line of an error, with its exit code. That data are being opened is progress.
fn refused(dir: &Path, args: &[&str], code: i32, said: &str) {
    let out = program(dir, args);
    let error = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {error}");
    let lines: Vec<&str> = error.lines().filter(|l| !l.starts_with("opening the data")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{args:?}: {error}");
    assert!(lines[0].contains(said), "{args:?}: {error}");
}

fn inspect(dir: &Path, args: &[&str]) -> Value {
    json(dir, &[&["data", "inspect", "--format", "json"], args].concat())
}

/// Labels of the rows of a comparison, and the rows.
fn rows(dir: &Path, args: &[&str]) -> Vec<Value> {
    let comparison = json(dir, &[&["compare", "--format", "json"], args].concat());
    let groups = comparison["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|g| g["rows"].as_array().unwrap().clone()).collect()
}

fn near(value: &Value, expected: f64, relative: f64) {
    let right = value.as_f64().is_some_and(|x| (x / expected - 1.0).abs() <= relative);
    assert!(right, "{value} is not {expected}");
}

/// Numbers of values of the columns of a kind.
fn count(found: &Value, kind: &str) -> usize {
    found["columns"].as_array().unwrap().iter().filter(|c| c["kind"] == kind).count()
}

#[test]
fn files_of_data() {
    let Some(dir) = case("01-polars") else { return };
    for file in ["train.parquet", "brotli.parquet", "snappy.parquet"] {
        let found = inspect(&dir, &[file]);
        assert_eq!((found["rows"].as_u64(), found["positives"].as_u64()), (Some(500), Some(264)));
    }
    assert!(good(&dir, &["data", "inspect", "train.parquet"]).contains("52.8"));

    let dir = case("05-pandas-index").unwrap();
    let found = inspect(&dir, &["train.parquet"]);
    assert_eq!(found["columns"].as_array().unwrap().len(), 3);
    assert!(found["notes"].to_string().contains("pandas"), "{}", found["notes"]);

    let dir = case("07-csv-float-ids").unwrap();
    let [csv, parquet] =
        ["a.csv", "a.parquet"].map(|f| inspect(&dir, &[f, "--categorical", "C1,C2"]));
    assert_eq!((&csv["columns"], &csv["rows"]), (&parquet["columns"], &parquet["rows"]));

    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let dir = case("09-excel").unwrap();
    refused(&dir, &["data", "convert", "cr.csv", "-o", &at("o.parquet")], 65, "cr.csv");
    assert!(!place.path().join("o.parquet").exists());

    assert_eq!(inspect(&case("10-folder").unwrap(), &["caps"])["rows"], 60);

    let dir = case("13-torchrec-gap").unwrap();
    for set in ["whole", "arr", "padded"] {
        let found = inspect(&dir, &[&format!("{set}_dense.npy")]);
        assert_eq!(count(&found, "categorical"), 26, "{set}");
    }
    refused(&dir, &["data", "inspect", "gap_dense.npy"], 65, "there is no array");

    let dir = case("15-torchrec-inf").unwrap();
    assert!(inspect(&dir, &["day_0_dense.npy"]).to_string().contains("\"-inf\""));

    let dir = case("19-hugectr").unwrap();
    for file in ["ints.raw", "ints_label0.raw"] {
        let args = ["data", "inspect", file, "--from", "hugectr"];
        refused(&dir, &args, 65, "label and dense are whole numbers here");
    }
    assert_eq!(inspect(&dir, &["floats.raw", "--from", "hugectr"])["rows"], 60);

    let dir = case("54-shapes").unwrap();
    let args = ["data", "convert", "dup.parquet", "-o", &at("dup_out.csv")];
    refused(&dir, &args, 65, "two columns are called");
    assert!(!place.path().join("dup_out.csv").exists());
}

/// A device like /dev/null, where this process may make one.
fn make_null(path: &Path) -> bool {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with 0.
    let made = unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) };
    let usable = made == 0 && fs::OpenOptions::new().write(true).open(path).is_ok();
    if !usable {
        eprintln!("skipped: this process may make no devices");
    }
    usable
}

#[test]
fn outputs_that_are_no_regular_files() {
    let Some(log) = case("25-relaunched/good") else { return };
    let data = case("07-csv-float-ids/a.parquet").unwrap();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let (log, data) = (log.to_str().unwrap(), data.to_str().unwrap());
    let writers = [
        vec!["compare", log, "--format", "json", "-o"],
        vec!["report", log, "-o"],
        vec!["data", "convert", data, "--to", "csv", "-o"],
    ];
    let device = make_null(&dir.join("null"));
    fs::write(dir.join("target"), "old").unwrap();
    symlink("target", dir.join("link")).unwrap();
    let pipe = CString::new(dir.join("pipe").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with 0.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    for args in writers {
        if device {
            good(dir, &[&args[..], &["null"]].concat());
            assert!(fs::metadata(dir.join("null")).unwrap().file_type().is_char_device());
        }
        let reader = std::thread::spawn({
            let pipe = dir.join("pipe");
            move || fs::read(pipe).unwrap()
        });
        good(dir, &[&args[..], &["pipe"]].concat());
        assert!(fs::metadata(dir.join("pipe")).unwrap().file_type().is_fifo());
        assert!(!reader.join().unwrap().is_empty());
        let force: &[&str] = if args[0] == "data" { &["--force"] } else { &[] };
        good(dir, &[&args[..args.len() - 1], force, &["-o", "link"]].concat());
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        assert!(fs::metadata(dir.join("target")).unwrap().len() > 3, "{args:?}");
    }
}

#[test]
fn a_run_started_again_in_one_log() {
    let Some(dir) = case("25-relaunched") else { return };
    let [good, again] = ["good", "relaunched"].map(|f| rows(&dir, &[f]).remove(0));
    assert_eq!(
        (&good["seconds_to_target"], &again["seconds_to_target"]),
        (&868.0.into(), &868.0.into())
    );
    assert_eq!(good["each"][0]["seed"], again["each"][0]["seed"]);
}

#[test]
fn counts_that_come_to_zero_and_names_that_are_none() {
    let Some(dir) = case("35-drop-last") else { return };
    let place = tempfile::tempdir().unwrap();
    let results = place.path().join("results");
    let run = |file: &'static str| {
        ["run", file, "--no-plots", "--no-ceilings", "--results", results.to_str().unwrap()]
    };
    for file in ["w.toml", "planted.toml"] {
        for more in [&[][..], &["--set", "eval.every=never"]] {
            refused(&dir, &[&run(file)[..], more].concat(), 65, "drop_last");
        }
    }
    let dir = case("49-windows-path").unwrap();
    refused(&dir, &run("w_new.toml"), 65, "C:\\u{a}ew\\u{9}rain.parquet: No such file");
    for file in ["w_dat.toml", "w_use.toml", "w.toml"] {
        refused(&dir, &run(file), 64, ":6: not valid TOML");
    }
    let dir = case("50-names").unwrap();
    for name in ["../x", "a/b", "..", ""] {
        let set = format!("mlperf.platform={name:?}");
        refused(&dir, &[&run("w.toml")[..], &["--set", &set]].concat(), 64, "mlperf.platform");
    }
    // Nothing was written, neither there nor above.
    let below = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect()
    };
    assert!(below(place.path()).iter().all(|left| *left == results && below(left).is_empty()));
}

#[test]
fn names_in_exports() {
    let Some(dir) = case("42-names-move") else { return };
    let names = |folder: &str| -> Vec<(String, f64)> {
        let found = json(&dir, &["compare", folder, "--format", "github-action-benchmark"]);
        let entry =
            |e: &Value| (e["name"].as_str().unwrap().to_owned(), e["value"].as_f64().unwrap());
        found.as_array().unwrap().iter().map(entry).collect()
    };
    let (alone, beside) = (names("batch"), names("batch2"));
    assert_eq!((alone.len(), beside.len()), (2, 4));
    assert!(alone.iter().all(|row| beside.contains(row)), "{alone:?} {beside:?}");
}

#[test]
fn names_that_act_on_a_terminal() {
    let Some(dir) = case("43-names") else { return };
    let shown = good(&dir, &["compare", "training_results_v3.1"]);
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.contains("\\u{1b}[2J") && shown.contains("\\u{a}"), "{shown}");
}

#[test]
fn gates() {
    let Some(dir) = case("44-gate") else { return };
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("g").display().to_string();
    let short = ["--budget", "20s", "--threshold", "50%", "--confidence", "0.9", "-o", &to];
    let gate = |dir: &Path, file: &str, more: &[&str]| {
        program(dir, &[&["gate", file], more, &short].concat())
    };
    let set = ["--set-b", "data.exponents=[0.1,0.2,0.3]", "--quality-steps", "0"];
    let out = gate(&dir, "w.toml", &set);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("data.exponents"), "{}", text(&out.stdout));

    // Runs, that is, it comes to measuring: whether five seconds are enough is up to the machine.
    let b = env!("CARGO_BIN_EXE_dlrm-bench");
    let dir = case("45-gate-plateau").unwrap();
    let out = program(&dir, &["gate", "w.toml", "--b", b, "--budget", "5s", "-o", &to]);
    let code = out.status.code();
    assert!(matches!(code, Some(0 | 1 | 5)), "{code:?} {}", text(&out.stderr));
    let said = text(&out.stdout);
    assert!(said.starts_with("## Throughput gate: "), "{said} {}", text(&out.stderr));

    // And so must this workload, whose keys need evaluations.
    if let Some(frappe) = shared("data/frappe_x1") {
        let mut command = Command::new(b);
        command.env("FRAPPE", frappe).args(["gate", "frappe-deepfm", "--b", b, "-o", &to]);
        let out = command.args(["--budget", "20s"]).output().unwrap();
        let code = out.status.code();
        assert!(matches!(code, Some(0 | 1 | 5)), "{code:?} {}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with("## Throughput gate: "), "{}", text(&out.stderr));
    }

    let absent = place.path().join("w.toml");
    let parquet = "workload.name = \"w\"\n\
        data = { source = \"parquet\", train = \"none.parquet\", eval = \"none.parquet\" }\n\
        model = { kind = \"dlrm\", dim = 4, bottom = [8, 4], top = [8, 1] }\n\
        train.batch_size = 64\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }\n";
    fs::write(&absent, parquet).unwrap();
    let out = gate(place.path(), "w.toml", &["--b", b]);
    assert_eq!(out.status.code(), Some(65), "{}", text(&out.stderr));
}

#[test]
fn published_logs() {
    let Some(dir) = shared("mlperf/published") else { return };
    let by_folder = |rows: Vec<Value>, folder: &str| {
        rows.into_iter().find(|r| r["system"]["folder"] == folder).unwrap()
    };
    let minutes = |row: &Value| {
        let factor = row["scaling_factor"].as_f64().unwrap_or(1.0);
        Value::from(row["seconds_to_target"].as_f64().unwrap() * factor / 60.0)
    };
    for (folder, system, score, rate) in [
        ("v1.1/NVIDIA", "dgxa100_ngc21.09_merlin_hugectr", 1.70912, Some(36.83e6)),
        ("v1.1/NVIDIA", "dgxa100_n8_ngc21.09_merlin_hugectr", 0.684856, None),
        ("v2.0", "X640G40_8xA30_hugectr", 5.468133, Some(5.645e6)),
        ("v4.0", "1xSMC-H100-SXM-80GB", 233.1 / 60.0, None),
    ] {
        let row = by_folder(rows(&dir, &[folder]), system);
        near(&minutes(&row), score, 1e-3);
        if let Some(rate) = rate {
            near(&row["end_to_end"]["mean"], rate, 1e-3);
        }
    }
    let comparison = json(&dir, &["compare", "v1.1", "v2.0", "v2.1", "--format", "json"]);
    assert_eq!(comparison["groups"].as_array().unwrap().len(), 1, "one task, one table");
    // By the rules of their round, in the tree and out of it.
    let of = "v3.1/NVIDIA/results/eos_ngc23.09_merlin_hugectr/dlrm_dcnv2/result_0.txt";
    assert!(good(&dir, &["check", of]).contains("ruleset 3.1.0"));
    let place = tempfile::tempdir().unwrap();
    fs::copy(dir.join(of), place.path().join("result_0.txt")).unwrap();
    assert!(good(place.path(), &["check", "result_0.txt"]).contains("ruleset 3.1.0"));
}

/// A run of a few steps in a folder of its own.
struct Trained(TempDir);

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 50, train_samples = 4000, eval_samples = 1000 }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 100, seed = 3 }
optimizer = { kind = "sgd", learning_rate = 0.1 }
eval = { every_steps = 10 }
"#;

impl Trained {
    fn new(args: &[&str]) -> Self {
        let place = Trained(tempfile::tempdir().unwrap());
        fs::write(place.dir().join("w.toml"), WORKLOAD).unwrap();
        place.train(args);
        place
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn train(&self, args: &[&str]) {
        let run = ["run", "w.toml", "--quiet", "--no-plots", "--no-ceilings"];
        good(self.dir(), &[&run, args].concat());
    }

    /// The record of the only run of a folder.
    fn record(&self, results: &str) -> Value {
        let pattern = self.dir().join(results).join("*/*/*/run.json").display().to_string();
        let [path] = &glob::glob(&pattern).unwrap().map(Result::unwrap).collect::<Vec<_>>()[..]
        else {
            panic!("one run");
        };
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

#[test]
fn results_in_a_checkout() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("results")).unwrap();
    let mut paths: Vec<String> =
        entries.map(|e| format!("results/{}", e.unwrap().file_name().to_string_lossy())).collect();
    paths.sort();
    assert!(paths.contains(&"results/README.md".to_owned()));
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let out = program(root, &[&["compare"], &paths[..]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("passed over"), "{}", text(&out.stderr));
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("page.html").display().to_string();
    good(root, &[&["report", "-o", &page], &paths[..]].concat());

    // A choice is offered where kept results lie beside others.
    let out = place.path().join("o").display().to_string();
    let package = ["package", "results", "--org", "X", "-o", &out];
    let error = text(&program(root, &package).stderr);
    assert!(error.contains("--only "), "{error}");
    let rcp = program(root, &[&package[..], &["--rcp", "reference_logs/quickstart.json"]].concat());
    let error = text(&rcp.stderr);
    assert!(error.contains("quickstart.json: a convergence record of quickstart"), "{error}");
    assert!(!error.contains("invalid type"), "{error}");
}

#[test]
fn options_that_mean_nothing() {
    let Some(dir) = case("25-relaunched") else { return };
    refused(&dir, &["compare", "good", "--cost-per-hour", "nosuch=1.25"], 64, "nosuch");
    let place = tempfile::tempdir().unwrap();
    for name in ["x.ods", "x.html"] {
        let to = place.path().join(name).display().to_string();
        refused(
            &dir,
            &["compare", "good", "-o", &to],
            64,
            "must be .txt, .md, .json, .csv or .xlsx",
        );
        assert!(!place.path().join(name).exists());
    }
}

#[test]
fn data_sets_of_equal_names() {
    let place = tempfile::tempdir().unwrap();
    for (set, salt) in [("a", 0), ("b", 1)] {
        let folder = place.path().join(set);
        fs::create_dir(&folder).unwrap();
        let rows: String =
            (0..200).map(|i| format!("{},{},{}\n", (i * 7 + salt) % 3 % 2, i, i % 9)).collect();
        fs::write(folder.join("t.csv"), format!("y,x,c\n{rows}")).unwrap();
        let workload = format!(
            "workload.name = \"w\"\ndata = {{ source = \"csv\", label = \"y\", dense = [\"x\"], categorical = [\"c\"], train = \"{set}/t.csv\", eval = \"{set}/t.csv\" }}\n\
             model = {{ kind = \"dlrm\", dim = 4, bottom = [8, 4], top = [8, 1] }}\ntrain.batch_size = 50\noptimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n"
        );
        fs::write(place.path().join(format!("{set}.toml")), workload).unwrap();
        let file = format!("{set}.toml");
        good(place.path(), &["run", &file, "--quiet", "--no-plots", "--no-ceilings"]);
    }
    let runs: Vec<_> = rows(place.path(), &["results"]).iter().map(|r| r["runs"].clone()).collect();
    assert_eq!(runs, [1, 1]);
}

#[test]
fn labels_that_lie() {
    let place = Trained::new(&[]);
    let run = ["run", "w.toml", "--no-plots", "--no-ceilings", "--set"];
    let lies = ["mlperf.benchmark=dlrm_dcnv2", "--set", "mlperf.division=closed"];
    let out = program(place.dir(), &[&run, &lies[..]].concat());
    assert_eq!(out.status.code(), Some(64), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("closed"), "{}", text(&out.stderr));
}

#[test]
fn threads_of_candle_are_those_of_the_record() {
    let place = Trained::new(&["--engine", "candle", "--threads", "1"]);
    assert_eq!(place.record("results")["engine"]["threads"], 1);
}

/// The best evaluation of a rate that is too high is seldom the last.
#[test]
fn the_model_that_is_kept_is_told_of() {
    let place = Trained(tempfile::tempdir().unwrap());
    fs::write(place.dir().join("w.toml"), WORKLOAD).unwrap();
    for steps in 20..40 {
        let (steps, results) = (format!("train.max_steps={steps}"), format!("results-{steps}"));
        let best = ["--set", "eval.restore_best=true", "--set", "eval.every_steps=2"];
        let rate = ["--set", "optimizer.learning_rate=1.0", "--results", &results];
        place.train(&[&best[..], &rate, &["--set", &steps]].concat());
        let row = rows(place.dir(), &[&results]).remove(0);
        let record = place.record(&results);
        let evaluations = record["evaluations"].as_array().unwrap();
        let aucs: Vec<f64> =
            evaluations.iter().map(|e| e["quality"]["auc"].as_f64().unwrap()).collect();
        let best = aucs.iter().copied().fold(0.0, f64::max);
        assert_eq!(row["auc"].as_f64(), Some(best), "{aucs:?}");
        if best > aucs[aucs.len() - 1] {
            let said = good(place.dir(), &["compare", &results]);
            return assert!(said.contains(&format!("{best:.5}")), "{said}");
        }
    }
    panic!("the last evaluation was always the best");
}
