//! Tables that grow, through the binary.

use dlrm_bench::{
    embedding::{cached::CacheCounts, hashed::TableCounts},
    results::{metrics, record},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
[workload]
name = "grows"
[data]
source = "planted"
preset = "custom"
tables = [900, 40, 3]
dense = 2
train_samples = 6000
eval_samples = 700
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 50
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
every_steps = 40
"#;

fn bench() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
    dir
}

fn run(dir: &TempDir, results: &str, set: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir.path()).args(["run", "w.toml", "--results", results, "--quiet"]);
    command.args(["--no-ceilings", "--no-plots"]).args(more);
    command.args(set.iter().flat_map(|set| ["--set", set]));
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The one run below a folder of results.
fn folder(dir: &TempDir, results: &str) -> PathBuf {
    let only = |at: &Path| {
        let mut folders = fs::read_dir(at).unwrap().map(|e| e.unwrap().path());
        folders.find(|p| p.is_dir()).unwrap()
    };
    only(&only(&only(&dir.path().join(results))))
}

/// Bits of each step's loss and of each evaluation.
fn trace(dir: &TempDir, results: &str) -> (Vec<u32>, Vec<String>) {
    let run = folder(dir, results);
    let loss = metrics::read(&run.join("metrics.parquet")).unwrap().loss;
    let record = record::read(&run.join("run.json")).unwrap();
    let quality = |e: &dlrm_bench::train::events::EvalEvent| serde_json::to_string(&e.quality);
    let evaluations = record.evaluations.iter().map(|e| quality(e).unwrap()).collect();
    (loss.iter().map(|l| l.to_bits()).collect(), evaluations)
}

/// Some tables may have a row for each id although the others grow: the bits are those of resident
/// tables, no filter keeps their ids out, and nothing is counted of them; also after an interruption.
#[test]
fn some_tables_may_be_resident() {
    let dir = bench();
    let set = ["embedding.store=hashed", r#"embedding.resident=["C2", "C3"]"#];
    assert!(run(&dir, "resident", &[], &[]).status.success());
    for (results, more) in [
        ("some", &["checkpoint.every_steps=40"][..]),
        ("candle", &["engine.kind=candle", "data.train_samples=2000"]),
    ] {
        let mixed = run(&dir, results, &[&set, more].concat(), &[]);
        assert!(mixed.status.success(), "{}", text(&mixed));
        if results == "some" {
            assert_eq!(trace(&dir, "some"), trace(&dir, "resident"));
        }
        let record = record::read(&folder(&dir, results).join("run.json")).unwrap();
        let tables = record.outcome.unwrap().tables;
        assert_eq!(tables.iter().map(|t| &*t.column).collect::<Vec<_>>(), ["C1"]);
    }
    // A model begins with what was saved of either kind.
    let model = folder(&dir, "some").join("checkpoints/step-000000000120");
    let from = format!("train.start_from={}", model.display());
    for (results, more) in [
        ("again", &[&*from][..]),
        ("tiers", &[&from, "embedding.cache=9000", "embedding.path=rows", "eval.batch_size=50"]),
    ] {
        let again = run(&dir, results, &[&set, more].concat(), &[]);
        assert!(again.status.success(), "{results}: {}", text(&again));
    }
    assert_eq!(trace(&dir, "again"), trace(&dir, "tiers"));
    let filter = ["embedding.filter=counter", "embedding.filter_freq=1000000"];
    let filtered = run(&dir, "filter", &[&set[..], &filter].concat(), &[]);
    assert!(filtered.status.success(), "{}", text(&filtered));
    let record = record::read(&folder(&dir, "filter").join("run.json")).unwrap();
    let counts = *record.outcome.unwrap().tables[0].grown().unwrap();
    assert_eq!((counts.rows, counts.filtered), (0, 6000));
    for (set, told) in [
        (
            ["embedding.store=hashed", r#"embedding.resident=["C4"]"#],
            r#"names "C4"; the categorical columns are C1, C2, C3"#,
        ),
        (["embedding.store=resident", r#"embedding.resident=["C1"]"#], "embedding.resident"),
    ] {
        let refused = run(&dir, "refused", &set, &[]);
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(said.contains(told) && said.trim_end().lines().count() == 1, "{said}");
    }
}

/// On the CPU every loss and every metric has the bits of a resident table's run; with fewer rows
/// than ids, too, as long as they suffice.
#[test]
fn a_run_has_the_bits_of_resident_tables() {
    for more in [&[][..], &["engine.kind=candle", "data.train_samples=2000"]] {
        let dir = bench();
        let whole = run(&dir, "resident", more, &[]);
        assert!(whole.status.success(), "{}", text(&whole));
        let hashed = [more, &["embedding.store=hashed"]].concat();
        let grown = run(&dir, "hashed", &hashed, &["--threads", "3"]);
        assert!(grown.status.success(), "{}", text(&grown));
        let (want, got) = (trace(&dir, "resident"), trace(&dir, "hashed"));
        assert!(want.0.len() >= 40 && !want.1.is_empty());
        assert_eq!(got, want, "{more:?}");
    }
}

/// Rows beyond a size are in a file, and every bit is as if they were in memory: of each rule of
/// admission and eviction, form of rows, both engines, and of a model that is judged again.
#[test]
fn rows_in_a_file_have_the_bits_of_rows_in_memory() {
    let grows = &["embedding.store=hashed", "train.batch_size=20", "eval.batch_size=20"][..];
    for more in [
        &["checkpoint.every_steps=60"][..],
        &[
            "engine.embedding_rows=bf16",
            "model.kind=deepfm",
            "model.hidden=[8]",
            "model.bottom=",
            "model.top=",
        ],
        &[
            "embedding.filter=counter",
            "embedding.filter_freq=2",
            "embedding.steps_to_live=30",
            "embedding.evict_every_steps=20",
        ],
        &[
            "embedding.l2_threshold=0.02",
            "embedding.evict_every_steps=50",
            "engine.kind=candle",
            "data.train_samples=2000",
        ],
    ] {
        let dir = bench();
        let set = [grows, more].concat();
        let whole = run(&dir, "memory", &set, &[]);
        assert!(whole.status.success(), "{more:?}: {}", text(&whole));
        let tier = [&set[..], &["embedding.cache=12KiB", "embedding.path=."]].concat();
        let tiers = run(&dir, "tiers", &tier, &["--threads", "2"]);
        assert!(tiers.status.success(), "{more:?}: {}", text(&tiers));
        // What is expected of the cache is told, and both kinds of tables are in the report.
        let said = text(&tiers);
        assert!(said.contains("% expected), "), "{said}");
        let mut report = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        let report = report.arg("report").arg(folder(&dir, "tiers")).args(["-o", "report.html"]);
        assert!(report.current_dir(dir.path()).output().unwrap().status.success());
        let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
        for (kind, heads) in [("that grow", 5), ("that are cached", 7)] {
            let (_, table) = page.split_once(&format!("</span> {kind}</summary>")).unwrap();
            let (head, body) =
                table.split_once("</table>").unwrap().0.split_once("<tbody>").unwrap();
            assert_eq!(head.matches("<th scope").count(), 1 + heads, "{kind}");
            let lines = body.matches("<tr>").count();
            assert!(lines > 0 && body.matches("<td>").count() == heads * lines, "{kind} {body}");
        }
        let (want, got) = (trace(&dir, "memory"), trace(&dir, "tiers"));
        assert!(want.0.len() >= 100 && !want.1.is_empty());
        assert_eq!(got, want, "{more:?}");
        let folder = folder(&dir, "tiers");
        let record = record::read(&folder.join("run.json")).unwrap();
        let tables = record.outcome.as_ref().unwrap().tables.clone();
        let cached: CacheCounts = tables.iter().sum();
        let rows: TableCounts = tables.iter().sum();
        assert!(cached.reads > 100 && cached.slots < rows.admitted, "{cached:?} {rows:?}");
        if more.len() == 1 {
            let model = folder.join("checkpoints/step-000000000300");
            let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
            command.current_dir(dir.path()).args(["eval", model.to_str().unwrap(), "--json"]);
            let judged = command.stdin(Stdio::null()).output().unwrap();
            assert!(judged.status.success(), "{}", text(&judged));
            let judged: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
            let last = record.evaluations.last().unwrap();
            assert_eq!(judged["quality"]["auc"].as_f64().unwrap(), last.quality.auc);
        }
    }
}

/// A run whose table is full ends with one line that names it.
#[test]
fn a_full_table_ends_the_run() {
    let dir = bench();
    let set = ["embedding.store=hashed", "embedding.capacity=[30]"];
    let output = run(&dir, "results", &set, &[]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("table of column") && told.contains("is full: all its 30 rows"),
        "{told}"
    );
    assert!(told.contains("embedding.capacity"), "{told}");
}

/// What does not go together is refused before anything is read, with the key.
#[test]
fn what_does_not_grow_is_refused() {
    let dir = bench();
    for (set, told) in [
        (&["optimizer.kind=adam", "optimizer.rows=dense"][..], "embedding.store: is \"hashed\""),
        (&["model.trick=qr"], "model.trick"),
        (&["eval.restore_best=true"], "eval.restore_best"),
        (&["embedding.filter=counter"], "embedding.filter_freq: missing"),
        (
            &["embedding.filter=counter", "embedding.filter_freq=2", "optimizer.clip_norm=1"],
            "optimizer.clip_norm",
        ),
        (
            &["embedding.filter=counter", "embedding.filter_freq=2", "engine.embedding_rows=bf16"],
            "bf16-split",
        ),
        (&["embedding.steps_to_live=9"], "evict_every_steps"),
        (&["embedding.evict_every_steps=9"], "has no effect"),
        (&["embedding.l2_threshold=0", "checkpoint.every_steps=9"], "above 0"),
        (&["embedding.capacity=[0]"], "embedding.capacity: is 0"),
        (&["embedding.capacity=[9, 9]"], "has 2 numbers; must have 3"),
        (
            &[
                "embedding.filter=bloom",
                "embedding.filter_freq=300",
                "embedding.bloom_keys=9",
                "embedding.counter_bits=8",
            ],
            "does not fit",
        ),
        (&["embedding.filter_freq=2"], "has no effect here"),
        (&["embedding.default_value_no_permission=1"], "has no effect here"),
        (&["embedding.disk=1GiB"], "embedding.cache"),
        (&["embedding.cache=1KiB"], "the rows of two batches do not fit"),
        (
            &["embedding.cache=1GiB", "engine.device=cuda:0"],
            "tables that grow have all rows in its memory",
        ),
    ] {
        let set = [&["embedding.store=hashed"], set].concat();
        let output = run(&dir, "results", &set, &["--explain"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{set:?}: {said}");
        assert!(said.contains(told) && said.trim_end().lines().count() == 1, "{set:?}: {said}");
    }
    // Without it, these keys mean nothing.
    let output = run(&dir, "results", &["embedding.capacity=[9]"], &["--explain"]);
    assert!(text(&output).contains("belongs to embedding.store = \"hashed\""), "{}", text(&output));
    let output = run(&dir, "results", &["embedding.store=hashed"], &["--diagnose"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert!(text(&output).contains("leave --diagnose out"));
}

/// Its keys are counted in the memory that a run takes.
#[test]
fn memory_is_explained() {
    let dir = bench();
    let output = run(&dir, "results", &["embedding.store=hashed"], &["--explain"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    // 36 bytes for each of 943 keys.
    assert!(said.contains("33.9 kB  keys of tables that grow"), "{said}");
    assert!(said.contains("store = \"hashed\""), "{said}");
}

/// A saved model whose tables have grown is judged as its run was; nothing else takes it.
#[test]
fn a_saved_model_knows_its_keys() {
    let dir = bench();
    let set = [
        "embedding.store=hashed",
        "embedding.filter=counter",
        "embedding.filter_freq=2",
        "embedding.steps_to_live=30",
        "checkpoint.every_steps=40",
    ];
    let output = run(&dir, "results", &set, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let folder = folder(&dir, "results");
    let record = record::read(&folder.join("run.json")).unwrap();
    let binary = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(args).stdin(Stdio::null()).output().unwrap()
    };
    // The checkpoint after the last step is of the model that was judged last: no step is behind.
    let model = folder.join("checkpoints/step-000000000120");
    let model = model.to_str().unwrap();
    let judged = binary(&["eval", model, "--json"]);
    assert!(judged.status.success(), "{}", text(&judged));
    let judged: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
    let last = record.evaluations.last().unwrap();
    assert_eq!(last.step, 120);
    // Rows that were dropped after it are gone for the judge, so metrics are near.
    let auc = judged["quality"]["auc"].as_f64().unwrap();
    assert!((auc - last.quality.auc).abs() < 0.05, "{auc} {}", last.quality.auc);
    for (args, told) in [
        (&["eval", model, "--rows", "int8"][..], "tables that grow are not quantised"),
        (&["export", model, "-o", "model.safetensors"], "tables that grow"),
    ] {
        let output = binary(args);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(told), "{said}");
    }
    // Another training goes on from it; one with resident tables does not.
    let from = format!("train.start_from={model}");
    let more = [&set[..4], &[&from, "train.max_steps=20"]].concat();
    let more = [&more[..], &["embedding.evict_every_steps=10"]].concat();
    let output = run(&dir, "more", &more, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let output = run(&dir, "resident", &[&from], &[]);
    assert!(!output.status.success() && text(&output).contains("this model's has"));
}

/// Record, metrics and summary say what tables have seen. Ids that no filter lets in are counted one
/// by one: 6,000 samples of 3 columns; those that it lets in at once have a row each.
#[test]
fn a_run_tells_what_its_tables_have_seen() {
    let dir = bench();
    for (freq, results) in [("1000000", "none"), ("1", "all")] {
        let freq = format!("embedding.filter_freq={freq}");
        let set = ["embedding.store=hashed", "embedding.filter=counter", &freq];
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(["run", "w.toml", "--results", results]);
        command.args(["--no-ceilings", "--no-plots"]);
        command.args(set.iter().flat_map(|set| ["--set", set]));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let run = folder(&dir, results);
        let outcome = record::read(&run.join("run.json")).unwrap().outcome.unwrap();
        let names: Vec<&str> = outcome.tables.iter().map(|t| &*t.column).collect();
        assert_eq!(names.len(), 3);
        let all: TableCounts = outcome.tables.iter().sum();
        let metrics = metrics::read(&run.join("metrics.parquet")).unwrap();
        let last = metrics.tables.each_ref().map(|column| column.last().unwrap().unwrap());
        assert_eq!(last, [all.rows, all.admitted, all.filtered, all.evicted].map(|n| n as f64));
        assert_eq!(metrics.tables[0][0], None);
        if results == "none" {
            assert_eq!((all.rows, all.admitted, all.filtered), (0, 0, 18_000));
            assert!(all.waiting > 40 && all.waiting <= 943);
            assert!(said.contains("18,000 ids read without a row"), "{said}");
        } else {
            assert_eq!((all.filtered, all.waiting, all.evicted), (0, 0, 0));
            assert!(all.rows > 40 && all.rows <= 943 && all.rows == all.admitted);
            assert!(said.contains("rows have an id"), "{said}");
        }
    }
}

/// Ids far beyond the rows that there is room for: hashes of text, of which next to none collide.
#[test]
fn hashes_need_no_small_buckets() {
    let dir = bench();
    let rows: String = (0..600).map(|i| format!("{},{},word{}\n", i % 2, i % 7, i % 90)).collect();
    fs::write(dir.path().join("t.csv"), format!("y,a,b\n{rows}")).unwrap();
    let data = "source = \"csv\"\ntrain = \"t.csv\"\neval = \"t.csv\"\nlabel = \"y\"\ndense = [\"a\"]\nhash_buckets = [1_000_000_000]\n";
    let (before, rest) = WORKLOAD.split_once("[data]\n").unwrap();
    let (_, after) = rest.split_once("[model]").unwrap();
    let workload = format!("{before}[data]\n{data}[model]{after}");
    fs::write(dir.path().join("w.toml"), workload).unwrap();
    let set = ["embedding.store=hashed", "embedding.capacity=[100]"];
    let output = run(&dir, "results", &set, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let record = record::read(&folder(&dir, "results").join("run.json")).unwrap();
    let outcome = record.outcome.unwrap();
    assert_eq!(outcome.tables[0].grown().unwrap().rows, 90);
    assert!(outcome.last_eval.unwrap().quality.auc > 0.5);
    let output = run(&dir, "resident", &[], &[]);
    assert!(!output.status.success() && text(&output).contains("not enough memory"));
}
