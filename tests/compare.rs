//! `dlrm-bench compare` as a user runs it, on runs made here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 500, train_samples = 4000, eval_samples = 2000 }
model = { kind = "dlrm", dim = 8, bottom = [16, 8], top = [16, 1] }
train = { batch_size = 128, seed = 3 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 10, batch_size = 500 }
target.auc = 0.501
"#;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        Bench { dir }
    }

    fn command(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(self.dir.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// A run; its folder's results are below `results/<name>`.
    fn run(&self, name: &str, args: &[&str]) {
        let platform = format!("mlperf.platform={name}");
        let out = self.command(
            &[
                &["run", "w.toml", "--quiet", "--no-plots", "--no-ceilings", "--set", &platform],
                args,
            ]
            .concat(),
        );
        assert!(matches!(out.status.code(), Some(0 | 1)), "{}", text(&out.stderr));
    }

    fn compare(&self, args: &[&str]) -> String {
        let out = self.command(&[&["compare"], args].concat());
        assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout).to_owned()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.compare(&[args, &["--format", "json"]].concat())).unwrap()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn first_log(folder: &Path) -> PathBuf {
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            return first_log(&entry);
        }
        if entry.ends_with("result_0.txt") {
            return entry;
        }
    }
    panic!("no log below {}", folder.display())
}

#[test]
fn runs_of_seeds_are_a_row_and_other_tasks_are_set_apart() {
    let bench = Bench::new();
    for seed in ["1", "2", "3"] {
        bench.run("one", &["--seed", seed, "--threads", "1"]);
    }
    bench.run("two", &["--threads", "2"]);
    bench.run("two", &["--threads", "2", "--set", "data.max_rows=700"]);
    let c = bench.json(&["results"]);
    let groups = c["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[1]["apart"], "other data: data.max_rows 700, not 500");
    assert!(groups[1]["rows"][0]["ratio"].is_null());
    let rows = groups[0]["rows"].as_array().unwrap();
    let one = rows.iter().find(|r| r["label"] == "one").unwrap();
    assert_eq!(
        (&one["runs"], &one["converged"], one["each"].as_array().unwrap().len()),
        (&3.into(), &3.into(), 3)
    );
    // The record and the log beside it say the same.
    let run = &one["each"][0];
    let copy = bench.dir.path().join("copy.log");
    fs::copy(bench.dir.path().join(run["path"].as_str().unwrap()).join("result_0.txt"), &copy)
        .unwrap();
    let alone = bench.json(&["copy.log"]);
    let from_log = &alone["groups"][0]["rows"][0];
    let near = |a: &serde_json::Value, b: &serde_json::Value, relative: f64| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a / b - 1.0).abs() < relative, "{a} and {b}");
    };
    near(&from_log["auc"], &run["auc"], 1e-12);
    near(&from_log["epochs_to_target"], &run["epochs"], 1e-9);
    // A log's times are whole milliseconds, a fair part of so short a run: its rate is what its own
    // lines give. The record's is only in `tracked_stats`, as it is.
    let lines = fs::read_to_string(&copy).unwrap();
    let at = |key: &str| -> f64 {
        let line = lines
            .lines()
            .find(|l| l.contains(&format!("\"key\": \"{key}\"")))
            .unwrap_or_else(|| panic!("no {key} in\n{lines}"));
        let line: serde_json::Value =
            serde_json::from_str(line.strip_prefix(":::MLLOG ").unwrap()).unwrap();
        line["time_ms"].as_f64().unwrap()
    };
    let rate = run["samples"].as_f64().unwrap() / ((at("run_stop") - at("run_start")) / 1e3);
    near(&from_log["end_to_end"]["mean"], &rate.into(), 1e-9);
    near(&from_log["each"][0]["throughput"]["logged"], &run["throughput"]["end_to_end"], 1e-12);

    let shown = bench.compare(&["results", "--baseline", "two"]);
    assert!(shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
    assert!(
        shown.contains(
            "not comparable with the first table: other data: data.max_rows 700, not 500"
        ),
        "{shown}"
    );
    assert!(shown.contains("one: differs in engine.threads 1, not 2"), "{shown}");
    assert!(
        bench
            .compare(&["results/*/tiny", "--filter", "system=one", "--rows", "run"])
            .matches("one 20")
            .count()
            >= 3
    );
    bench.compare(&["results", "-o", "t.xlsx"]);
    let book = fs::File::open(bench.dir.path().join("t.xlsx")).unwrap();
    let mut book = zip::ZipArchive::new(book).unwrap();
    let mut part = |name: &str| std::io::read_to_string(book.by_name(name).unwrap()).unwrap();
    let (sheet, words) = (part("xl/worksheets/sheet1.xml"), part("xl/sharedStrings.xml"));
    assert!(words.contains("<t>end_to_end</t>") && words.contains("<t>two</t>"), "{words}");
    // Numbers are cells of numbers: the group's.
    assert!(sheet.contains("<c r=\"A2\"><v>1</v></c>"), "{sheet}");
    let out = bench.command(&["compare", "results", "--format", "xlsx"]);
    assert!(out.status.code() == Some(64) && text(&out.stderr).contains("-o FILE.xlsx"));
    bench.compare(&["results", "-o", "t.md"]);
    assert!(fs::read_to_string(bench.dir.path().join("t.md")).unwrap().starts_with("### tiny"));
}

#[test]
fn what_cannot_be_read_is_named_and_the_others_are_shown() {
    let bench = Bench::new();
    bench.run("one", &[]);
    let log = first_log(&bench.dir.path().join("results"));
    let tree = bench.dir.path().join("Org/results/sys/dlrm");
    fs::create_dir_all(&tree).unwrap();
    fs::copy(&log, tree.join("result_0.txt")).unwrap();
    fs::write(tree.join("result_1.txt"), "").unwrap();
    let out = bench.command(&["compare", "Org", "nowhere"]);
    assert_eq!(out.status.code(), Some(65));
    assert_eq!(
        text(&out.stderr),
        "error: Org/results/sys/dlrm/result_1.txt: an empty file; must be an MLPerf log\n\
         error: cannot read nowhere: No such file or directory (os error 2)\n"
    );
    assert!(text(&out.stdout).contains("sys"), "{}", text(&out.stdout));

    let fails = |args: &[&str], code: i32, error: &str| {
        let out = bench.command(&[&["compare", "results"], args].concat());
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert_eq!(text(&out.stderr), format!("error: {error}\n"), "{args:?}");
    };
    fails(&["--filter", "system=none"], 64, "none of the 1 runs passes the filters");
    fails(
        &["--baseline", "none"],
        64,
        "--baseline none is none of the rows; must be one of \"one\"",
    );
    fails(
        &["-o", "no/such/folder"],
        74,
        "cannot write no/such/folder: No such file or directory (os error 2)",
    );
    let out = bench.command(&["compare", "results", "--cost-per-hour", "one"]);
    assert!(
        out.status.code() == Some(64)
            && text(&out.stderr).contains("must be SYSTEM=PRICE, as in my-epyc=1.25")
    );
    // A file may have the prices of machines that are not there; what is typed goes before it.
    let priced = |text: &str, more: &[&str]| {
        fs::write(bench.dir.path().join("prices.toml"), text).unwrap();
        bench.command(&[&["compare", "results", "--prices", "prices.toml"], more].concat())
    };
    let columns = ["--columns", "cost-an-epoch,accuracy", "--format", "csv"];
    let out = priced("one = 3600\n\"my epyc\" = 1.25\n", &columns);
    let of = |out: &Output| -> f64 {
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let csv = text(&out.stdout);
        let cells: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
        assert!((0.5..=1.0).contains(&cells[cells.len() - 1].parse().unwrap()), "{csv}");
        cells[cells.len() - 2].parse().unwrap()
    };
    let twice = priced("one = 3600", &[&columns[..], &["--cost-per-hour", "one=7200"]].concat());
    assert!(of(&out) > 0.0 && (of(&twice) / of(&out) - 2.0).abs() < 1e-9);
    for (file, said) in [
        (
            "one = \"much\"",
            "--prices prices.toml: \"one\" must be the price of an hour, as in \"my-epyc\" = 1.25",
        ),
        ("one = -1", "\"one\" must be the price of an hour"),
        ("one 1", "--prices prices.toml: TOML parse error at line 1, column 5"),
    ] {
        let out = priced(file, &[]);
        assert_eq!(out.status.code(), Some(64));
        assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
    }
    fs::create_dir(bench.dir.path().join("hollow")).unwrap();
    let out = bench.command(&["compare", "hollow"]);
    assert_eq!(out.status.code(), Some(65));
    assert_eq!(
        text(&out.stderr),
        "error: hollow: no results in this folder: neither run.json nor result_*.txt\n"
    );
}

#[test]
fn any_key_of_the_workload_is_a_column() {
    let bench = Bench::new();
    for (name, batch, threads) in [("a", "1024", "2"), ("b", "64", "1"), ("c", "256", "2")] {
        let batch = format!("train.batch_size={batch}");
        bench.run(name, &["--set", &batch, "--threads", threads]);
    }
    let columns = ["--columns", "train.batch_size,engine.threads,model.top,runs,throughput"];
    let sort = ["--sort", "train.batch_size"];
    let shown = bench.compare(&[&["results"], &columns[..], &sort].concat());
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = shown.lines().map(words).collect();
    let row = |name: &str| lines.iter().position(|l| l.first().is_some_and(|w| w == name)).unwrap();
    assert_eq!(lines[row("a")][1..5], ["1024", "2", "[16,", "1]"], "{shown}");
    assert!(row("b") < row("c") && row("c") < row("a"), "{shown}");
    assert!(shown.contains("train.batch_size  engine.threads"), "{shown}");
    // A filter takes numbers as a whole; groups are in order.
    let two = bench.json(&["results", "--filter", "engine.threads=2", "--sort", "engine.threads"]);
    assert_eq!(two["groups"][0]["rows"].as_array().unwrap().len(), 2);
    assert_eq!(two["sort"], "engine.threads");
    let groups = bench.json(&["results", "--group-by", "train.batch_size"]);
    let by: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|g| g["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["train.batch_size 64", "train.batch_size 256", "train.batch_size 1024"]);
    // CSV has what was set, or what was asked for, numbers in full.
    let csv = |args: &[&str]| {
        let text = bench.compare(&[&["results", "--format", "csv"], args].concat());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let heads: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let of = |name: &str| -> Vec<String> {
            let at = heads.iter().position(|h| h == name).unwrap_or_else(|| panic!("{heads:?}"));
            rows.iter().map(|r| r[at].to_owned()).collect()
        };
        ["label", "engine.threads", "model.top"].map(of).to_vec()
    };
    let all = csv(&["--sort", "name"]);
    assert_eq!(all, [["a", "b", "c"], ["2", "1", "2"], ["[16, 1]"; 3]]);
    assert_eq!(csv(&[&columns[..], &["--sort", "name"]].concat()), all);
    // A page shows the same columns.
    let out = bench.command(&[&["report", "results"], &columns[..], &sort].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = fs::read_to_string(bench.dir.path().join("report.html")).unwrap();
    assert!(page.contains("engine.threads</th>") && page.contains("1024"), "no such column");
    for (args, error) in [
        (
            ["--columns", "engine.thread"],
            "--columns: no column \"engine.thread\"; did you mean engine.threads?",
        ),
        (
            ["--sort", "batchsize"],
            "--sort: no column \"batchsize\"; did you mean train.batch_size?",
        ),
        (["--group-by", "auc"], "--group-by: takes what was run, and this is measured"),
        (
            ["--filter", "threads=2"],
            "--filter: no column \"threads\"; did you mean engine.threads?",
        ),
    ] {
        for command in ["compare", "report"] {
            let out = bench.command(&[&[command, "results"], &args[..]].concat());
            assert_eq!(out.status.code(), Some(64), "{args:?}");
            assert_eq!(text(&out.stderr), format!("error: {error}\n"), "{args:?}");
        }
    }
    let out = bench.command(&["compare", "results", "-o", "table.ods"]);
    assert_eq!(out.status.code(), Some(64));
    assert!(text(&out.stderr).contains("the ending must be .txt, .md, .json, .csv or .xlsx"));
    // Two runs have no interval, and say so.
    bench.run("a", &["--set", "train.batch_size=1024", "--threads", "2", "--seed", "9"]);
    let shown = bench.compare(&["results", "--filter", "system=a", "--columns", "throughput"]);
    assert!(shown.contains(", 2 runs") && !shown.contains('±'), "{shown}");
}

/// DeepRec's table: a run that is long enough has its figures, one that is not is told so.
#[test]
fn deeprecs_table_takes_runs_of_2200_steps() {
    let bench = Bench::new();
    let set = |steps: &'static str| {
        let max_steps = ["--set", "train.batch_size=4", "--set", "train.epochs=3", "--set", steps];
        let ends =
            ["--set", "eval.every_steps=", "--set", "eval.every=end", "--set", "target.auc="];
        [max_steps, ends].concat()
    };
    bench.run("long", &set("train.max_steps=2250"));
    bench.run("short", &[&set("train.max_steps=30")[..], &["--engine", "candle"]].concat());
    let table = bench.compare(&["results", "--format", "deeprec"]);
    let row = |engine: &str| -> Vec<&str> {
        let line = table.lines().find(|l| l.split_whitespace().next() == Some(engine));
        line.unwrap_or_else(|| panic!("{table}")).split_whitespace().collect()
    };
    assert!(table.starts_with("Model     FrameWork Datatype"), "{table}");
    assert!(table.contains("\ntiny:\n") && table.contains("shorter than 2200 steps"), "{table}");
    let [long, short] = ["fused", "candle"].map(row);
    assert_eq!((long.len(), long[1], long[6]), (7, "FP32", "-"), "{table}");
    assert_eq!(short[4..], ["-", "-", "baseline"], "{table}");
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!((number(long[5]) / number(long[4]) - 4.0).abs() < 0.1, "{table}");
    let runs = bench.json(&["results", "--rows", "run", "--filter", "system=long"]);
    let run = &runs["groups"][0]["rows"][0]["each"][0];
    for (shown, key) in [(long[2], "accuracy"), (long[3], "auc_binned_1000")] {
        assert!((run[key].as_f64().unwrap() - number(shown)).abs() < 1e-6, "{key}: {run}");
    }
    // By thresholds, and exactly.
    let (binned, exact) = (run["auc_binned_1000"].as_f64().unwrap(), run["auc"].as_f64().unwrap());
    assert!(binned != exact && (binned - exact).abs() < 1e-2, "{binned} {exact}");
    assert!(
        bench
            .compare(&["results", "--format", "deeprec", "--baseline", "long"])
            .contains("baseline")
    );
}
