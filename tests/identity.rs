//! Which runs share a row, a history, a baseline or a package, as a user meets it: only those of
//! one data, model, machine, program and engine.

use serde_json::{Value, json};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const PLANTED: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 50, train_samples = 2000, eval_samples = 500 }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 128, seed = 3 }
optimizer = { kind = "sgd", learning_rate = 0.05 }
eval = { every = "end", batch_size = 500 }
"#;

const CSV: &str = r#"
workload.name = "clicks"
data = { source = "csv", train = "${SET}/train.csv", eval = "${SET}/eval.csv", label = "label", dense = ["x"], categorical = ["user"] }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 32, seed = 3 }
optimizer = { kind = "sgd", learning_rate = 0.05 }
eval = { every = "end", batch_size = 64 }
"#;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
        fs::write(dir.path().join("csv.toml"), CSV).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args).envs(env.iter().copied());
        command.output().unwrap()
    }

    /// Runs `workload` into `results/` and gives the run's folder.
    fn run(&self, workload: &str, args: &[&str], env: &[(&str, &str)]) -> PathBuf {
        let before = self.folders();
        let fixed = ["run", workload, "--quiet", "--no-plots", "--no-ceilings"];
        let out = self.command(&[&fixed, args].concat(), env);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        self.folders().into_iter().find(|f| !before.contains(f)).unwrap()
    }

    /// All folders of runs below `results/`.
    fn folders(&self) -> Vec<PathBuf> {
        let pattern = self.path("results/*/*/*").display().to_string();
        glob::glob(&pattern).unwrap().map(Result::unwrap).collect()
    }

    /// A copy of a run whose record was changed.
    fn copy(&self, folder: &Path, name: &str, change: impl Fn(&mut Value)) -> PathBuf {
        let copy = folder.with_file_name(name);
        fs::create_dir(&copy).unwrap();
        for file in fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
            if file.is_file() {
                fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
            }
        }
        let path = copy.join("run.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["run"] = json!(name);
        change(&mut record);
        fs::write(path, record.to_string()).unwrap();
        copy
    }

    fn compare(&self, args: &[&str]) -> String {
        let out = self.command(&[&["compare"], args].concat(), &[]);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The text of a comparison in one line, however it was wrapped.
    fn text(&self) -> String {
        self.compare(&["results"]).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Labels of all rows with their numbers of runs.
    fn rows(&self) -> Vec<(String, u64)> {
        let c: Value =
            serde_json::from_str(&self.compare(&["results", "--format", "json"])).unwrap();
        let groups = c["groups"].as_array().unwrap();
        let rows = groups.iter().flat_map(|g| g["rows"].as_array().unwrap());
        rows.map(|r| (r["label"].as_str().unwrap().to_owned(), r["runs"].as_u64().unwrap()))
            .collect()
    }

    fn csv(&self, folder: &str, train: u32, eval: u32, salt: u32) {
        fs::create_dir_all(self.path(folder)).unwrap();
        for (name, n) in [("train.csv", train), ("eval.csv", eval)] {
            let mut text = "label,x,user\n".to_owned();
            for i in 0..n {
                let (label, x, user) = ((i * 7 + salt) % 3 % 2, i % 10, (i + salt) % 9);
                writeln!(text, "{label},{x},{user}").unwrap();
            }
            fs::write(self.path(folder).join(name), text).unwrap();
        }
    }
}

fn record(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap()
}

#[test]
fn files_of_equal_names_are_no_row_and_equal_files_of_any_name_are() {
    let bench = Bench::new();
    bench.csv("a", 200, 100, 0);
    bench.csv("b", 200, 100, 1);
    bench.csv("longer", 201, 100, 0);
    bench.csv("eval", 200, 101, 0);
    for set in ["a", "b", "longer", "eval"] {
        bench.run("csv.toml", &[], &[("SET", set)]);
    }
    let rows = bench.rows();
    assert!(rows.len() == 4 && rows.iter().all(|(_, runs)| *runs == 1), "{rows:?}");
    let shown = bench.text();
    assert!(shown.contains("other data: data.") && shown.contains("files"), "{shown}");
    // The same under other names, elsewhere.
    fs::create_dir(bench.path("moved")).unwrap();
    for (old, new) in [("train", "first"), ("eval", "second")] {
        fs::copy(bench.path(&format!("a/{old}.csv")), bench.path(&format!("moved/{new}.csv")))
            .unwrap();
    }
    let names = ["--set", "data.train=moved/first.csv", "--set", "data.eval=moved/second.csv"];
    let moved = bench.run("csv.toml", &names, &[("SET", "a")]);
    let mut runs: Vec<u64> = bench.rows().into_iter().map(|(_, runs)| runs).collect();
    runs.sort_unstable();
    assert_eq!(runs, [1, 1, 1, 2]);
    let set = &record(&moved)["data_set"];
    assert_eq!(
        (set["files"].as_array().unwrap().len(), &set["dense"], &set["hotness"]),
        (2, &json!(1), &json!([1]))
    );
    // A record that does not say stands alone, beside another that does not say too.
    let forget = |record: &mut Value| drop(record.as_object_mut().unwrap().remove("data_set"));
    bench.copy(&moved, "old-1", forget);
    bench.copy(&moved, "old-2", forget);
    assert_eq!(bench.rows().len(), 6);
}

#[test]
fn each_fact_of_machine_program_and_engine_makes_a_row_and_is_told() {
    let bench = Bench::new();
    let one = bench.run("planted.toml", &["--threads", "1"], &[]);
    bench.run("planted.toml", &["--threads", "1", "--seed", "4"], &[]);
    assert_eq!(bench.rows().iter().map(|r| r.1).collect::<Vec<_>>(), [2]);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("caches", |r| {
            r["machine"]["cpu"]["caches"] =
                json!([{"name": "L3 Unified", "size": 1048576, "shared_by": "0"}])
        }),
        ("isa", |r| r["machine"]["cpu"]["instruction_sets"] = json!(["sse4.2"])),
        ("stepping", |r| {
            r["machine"]["cpu"]["kinds"] =
                json!([{"vendor": "v", "family": "1", "model": "2", "stepping": "9"}])
        }),
        ("quota", |r| r["machine"]["cpu"]["quota"] = json!(0.5)),
        ("features", |r| r["versions"]["features"] = json!(["hdf5"])),
        ("sources", |r| r["versions"]["sources"] = json!("0123")),
        ("kernels", |r| r["engine"]["instruction_set"] = json!("other")),
        (
            "gpu",
            |r| r["machine"]["gpu"] = json!({"name": "G", "ordinal": 0, "capability": "9.0", "memory": 1, "multiprocessors": 1, "driver": "13.0"}),
        ),
        ("unknown", |r| drop(r["machine"]["cpu"].as_object_mut().unwrap().remove("kinds"))),
    ];
    for (name, change) in changes {
        let copy = bench.copy(&one, name, change);
        let rows = bench.rows();
        assert_eq!(rows.len(), 2, "{name}: {rows:?}");
        assert!(rows[0].0 != rows[1].0, "{rows:?}");
        let shown = bench.text();
        assert!(
            shown.contains("differs in machine: ")
                || shown.contains("differs in build: ")
                || shown.contains("differs in program: "),
            "{name}: {shown}"
        );
        if name == "caches" {
            let out = bench.command(&["report", "results", "-o", "page.html"], &[]);
            assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
            let page = fs::read_to_string(bench.path("page.html")).unwrap();
            assert!(page.contains("L3 Unified 1024 KiB"), "every machine is shown");
        }
        // Nor are they one submission.
        let out = bench
            .command(&["package", "results", "--org", "O", "-o", "p", "--allow-incomplete"], &[]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && !bench.path("p/O").exists(), "{name}: {said}");
        fs::remove_dir_all(copy).unwrap();
    }
    bench.run("planted.toml", &["--threads", "2"], &[]);
    bench.run("planted.toml", &["--threads", "1", "--engine", "candle"], &[]);
    bench.run("planted.toml", &["--threads", "1"], &[("DLRM_BENCH_ISA", "portable")]);
    let rows = bench.rows();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().any(|(label, _)| label.contains("instruction_set portable")), "{rows:?}");
}

#[test]
fn names_of_exports_do_not_depend_on_other_rows() {
    let bench = Bench::new();
    let one = bench.run("planted.toml", &["--threads", "1"], &[]);
    let names = |bench: &Bench| -> Vec<String> {
        let text = bench.compare(&["results", "--format", "github-action-benchmark"]);
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        entries.iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };
    let before = names(&bench);
    bench.run("planted.toml", &["--threads", "1", "--set", "train.batch_size=64"], &[]);
    bench.run("planted.toml", &["--threads", "2"], &[]);
    bench.run("planted.toml", &["--threads", "1", "--set", "optimizer.learning_rate=0.1"], &[]);
    bench.run("planted.toml", &["--threads", "1", "--set", "data.seed=9"], &[]);
    let after = names(&bench);
    assert_eq!(after.len(), 5 * before.len());
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    let distinct: std::collections::BTreeSet<_> = after.iter().collect();
    assert_eq!(distinct.len(), after.len(), "{after:?}");
    // A history goes on with the next commit.
    let other = Bench::new();
    fs::create_dir_all(other.path("results/s/w")).unwrap();
    let target = other.path("results/s/w/x");
    fs::rename(
        bench.copy(&one, "next", |r| {
            r["versions"]["git_commit"] = json!("fedcba987654");
            r["versions"]["sources"] = json!("0123");
        }),
        target,
    )
    .unwrap();
    assert_eq!(names(&other), before);
    // Side by side, rows whose programs alone differ have names of their own, which stay whatever
    // else is exported, and in whatever order it is read.
    let copies = Bench::new();
    fs::create_dir_all(copies.path("results/s/w")).unwrap();
    for (i, commit) in ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"].iter().enumerate() {
        let copy = bench.copy(&one, &format!("made-{i}"), |r| {
            r["versions"]["git_commit"] = json!(commit);
            r["versions"]["sources"] = json!(commit);
        });
        fs::rename(copy, copies.path(&format!("results/s/w/{i}"))).unwrap();
    }
    let of = |folders: &[&str]| -> Vec<String> {
        let text = copies.compare(&[folders, &["--format", "github-action-benchmark"]].concat());
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        entries.iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };
    let [a, b, c] = ["results/s/w/0", "results/s/w/1", "results/s/w/2"];
    let all = of(&[a, b, c]);
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 3 * before.len(), "{all:?}");
    assert!(all.iter().all(|name| name.contains(" program ")), "{all:?}");
    for pair in [[a, b], [b, a], [c, a], [b, c]] {
        let some = of(&pair);
        assert_eq!(some.len(), 2 * before.len());
        assert!(some.iter().all(|name| all.contains(name)), "{some:?} {all:?}");
    }
}

#[test]
fn names_of_published_rows_stay_when_others_come() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/42-names-move");
    if !shared.is_dir() {
        eprintln!("skipped: {} is not there", shared.display());
        return;
    }
    let bench = Bench::new();
    let names = |folder: &str| -> Vec<String> {
        let folder = shared.join(folder).display().to_string();
        let text = bench.compare(&[&folder, "--format", "github-action-benchmark"]);
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        entries.iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };
    let (before, after) = (names("batch"), names("batch2"));
    assert!(after.len() > before.len(), "{after:?}");
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
}

#[test]
fn records_say_what_computed() {
    let bench = Bench::new();
    let out = bench.command(
        &["run", "planted.toml", "--quiet", "--no-plots", "--no-ceilings", "--threads", "64"],
        &[],
    );
    assert_eq!(out.status.code(), Some(0));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let folder = bench.folders().remove(0);
    let r = record(&folder);
    let cores = r["engine"]["usable_cores"].as_u64().unwrap();
    assert_eq!(r["engine"]["threads"], 64);
    if cores < 64 {
        assert!(said.contains("warning: engine.threads is 64, but this process may use"), "{said}");
        assert!(bench.text().contains("64 threads on"));
    }
    assert!(r["versions"]["features"].is_array() && r["versions"]["sources"].is_string());
    assert_eq!(r["model"]["model"]["tables"].as_array().unwrap().len(), 26);
    assert!(r["model"].get("threads").is_none() && r["data_set"]["files"] == json!([]));
    let forced = bench.run("planted.toml", &["--threads", "1"], &[("DLRM_BENCH_ISA", "portable")]);
    assert_eq!(record(&forced)["engine"]["instruction_set"], "portable");
    // More threads have the bits of one.
    let losses = |folder: &Path| record(folder)["evaluations"][0]["quality"].to_string();
    let one = bench.run("planted.toml", &["--threads", "1"], &[]);
    assert_eq!(losses(&one), losses(&folder));
}

#[cfg(target_os = "linux")]
#[test]
fn candle_computes_on_as_many_threads_as_the_record_says() {
    let bench = Bench::new();
    for (threads, pool) in [("1", 0), ("3", 2)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(bench.dir.path())
            .args(["run", "planted.toml", "--quiet", "--no-plots", "--no-ceilings"])
            .args(["--engine", "candle", "--threads", threads])
            .env("RAYON_NUM_THREADS", "6")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
        // The most threads of candle's pool at once; the caller is one more.
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            let names = fs::read_dir(&tasks)
                .into_iter()
                .flatten()
                .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
            most = most.max(names.filter(|name| name.starts_with("candle-bp-")).count());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        assert!(most <= pool, "{most} with --threads {threads}");
    }
    let threads = |f: &PathBuf| record(f)["engine"]["threads"].as_u64().unwrap();
    let mut said: Vec<u64> = bench.folders().iter().map(threads).collect();
    said.sort_unstable();
    assert_eq!(said, [1, 3]);
}

#[test]
fn labels_that_lie_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let path = "mlperf.platform";
    for (set, expected) in [
        (r#"mlperf.platform="../x""#, "mlperf.platform: is \"../x\", which begins with a dot"),
        (r#"mlperf.platform="a/b""#, "which holds a slash"),
        (r#"mlperf.platform="/abs""#, "which holds a slash"),
        (r#"mlperf.platform="a\\b""#, "which holds a slash"),
        (r#"mlperf.platform="a\u001b[2J""#, "which holds a control character"),
        (r#"mlperf.platform="NUL""#, "which is a device on Windows"),
        (r#"mlperf.platform=" ""#, "which is empty"),
        (r#"mlperf.org="../x""#, "mlperf.org: is \"../x\", which begins with a dot"),
        (r#"workload.name="nul""#, "workload.name: is \"nul\""),
        (
            r#"mlperf.division="closed""#,
            "mlperf.division: is \"closed\", whose data are Criteo 1TB",
        ),
    ] {
        let out = bench.command(&["run", "planted.toml", "--set", set], &[]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(64), "{set}: {said}");
        assert!(said.contains(expected) && said.trim().lines().count() == 1, "{set}: {said}");
    }
    let long = format!("{path}={}", "x".repeat(200));
    let out = bench.command(&["run", "planted.toml", "--set", &long], &[]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("is longer than 128 bytes"));
    // A closed run of files that are not Criteo's, and a benchmark that is another model.
    bench.csv("a", 200, 100, 0);
    for (benchmark, expected) in [
        ("dlrm", "mlperf.division: is \"closed\", which fixes model.dim = 128"),
        ("dlrm_dcnv2", "mlperf.benchmark: is \"dlrm_dcnv2\", a DLRM with a cross network"),
    ] {
        let benchmark = format!("mlperf.benchmark={benchmark}");
        let sets = ["--set", "mlperf.division=closed", "--set", &benchmark];
        let out = bench.command(&[&["run", "csv.toml"][..], &sets].concat(), &[("SET", "a")]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(64) && said.contains(expected), "{said}");
    }
    let reference = [
        "mlperf.division=closed",
        "model.dim=128",
        "model.bottom=[512,256,128]",
        "model.top=[1024,1024,512,256,1]",
        "target.auc=0.8025",
    ];
    let sets: Vec<&str> = reference.iter().flat_map(|s| ["--set", s]).collect();
    let out = bench.command(&[&["run", "csv.toml"][..], &sets].concat(), &[("SET", "a")]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.code() == Some(64)
            && said.contains("but these have 200, 100, 1 and 1; use mlperf.division = \"open\""),
        "{said}"
    );
    assert!(!bench.path("results").exists() || bench.folders().is_empty());
}
