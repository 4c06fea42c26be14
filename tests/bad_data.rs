//! Broken data, file by file through the binary: each is refused in one line that names file and
//! line and what would be right, with exit code 65; with `data.on_error = "skip"` a malformed line
//! is left out and counted.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output},
};

const CSV: &str = r#"[workload]
name = "tiny-csv"
[data]
source = "csv"
train = "train.csv"
eval = "eval.csv"
label = "y"
dense = ["x"]
shuffle = false
[model]
kind = "deepfm"
dim = 2
hidden = [4]
[train]
batch_size = 4
[optimizer]
kind = "sgd"
learning_rate = 0.01
[eval]
batch_size = 4
"#;

const CRITEO: &str = r#"[workload]
name = "tiny-criteo"
[data]
source = "criteo_tsv"
set = "terabyte"
paths = ["day_0", "day_1"]
[model]
kind = "dlrm"
dim = 2
bottom = [2]
top = [1]
[train]
batch_size = 4
[optimizer]
kind = "sgd"
learning_rate = 0.01
[eval]
batch_size = 4
"#;

const GOOD_CSV: &str = "y,a,x\n1,k,1\n0,l,2\n1,k,3\n0,l,4\n";

/// A line of Criteo's layout.
fn criteo_line(label: &str, dense: &str, id: &str) -> String {
    format!("{label}\t{}\t{}\n", [dense; 13].join("\t"), [id; 26].join("\t"))
}

fn good_day() -> String {
    (0..8)
        .map(|i| {
            criteo_line(
                if i % 2 == 0 { "0" } else { "1" },
                &i.to_string(),
                &format!("{:08x}", 77 * i),
            )
        })
        .collect()
}

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir)
        .args([
            "run",
            "w.toml",
            "--quiet",
            "--no-plots",
            "--no-ceilings",
            "--results",
            "results",
            "--threads",
            "1",
        ])
        .args(args)
        .output()
        .unwrap()
}

/// The one line on standard error without `error: `.
fn refusal(output: &Output) -> String {
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(65), "{err}");
    let line = err
        .strip_prefix("error: ")
        .unwrap_or_else(|| panic!("{err:?}"))
        .strip_suffix('\n')
        .unwrap();
    assert!(!line.contains('\n'), "{err}");
    line.to_owned()
}

fn csv_folder(train: &[u8], eval: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.toml"), CSV).unwrap();
    std::fs::write(dir.path().join("train.csv"), train).unwrap();
    std::fs::write(dir.path().join("eval.csv"), eval).unwrap();
    dir
}

fn criteo_folder(day_0: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.toml"), CRITEO).unwrap();
    std::fs::write(dir.path().join("day_0"), day_0).unwrap();
    std::fs::write(dir.path().join("day_1"), good_day()).unwrap();
    dir
}

/// The run went through, and says how many lines were left out.
fn assert_skipped(dir: &Path, lines: u64) {
    let output = run(dir, &["--set", "data.on_error=skip"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = String::from_utf8_lossy(&output.stdout);
    let row = summary.lines().find_map(|l| l.strip_prefix("skipped")).map(str::trim);
    let expected =
        if lines == 1 { "1 malformed line".to_owned() } else { format!("{lines} malformed lines") };
    assert_eq!(row, Some(expected.as_str()), "{summary}");
    let record = files_named(&dir.join("results"), "run.json").into_iter().find_map(|path| {
        let record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        find(&record, "skipped_lines").and_then(|v| v.as_u64())
    });
    assert_eq!(record, Some(lines));
}

fn files_named(dir: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files_named(&entry, name));
        } else if entry.ends_with(name) {
            found.push(entry);
        }
    }
    found
}

fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|v| find(v, key)))
        }
        serde_json::Value::Array(list) => list.iter().find_map(|v| find(v, key)),
        _ => None,
    }
}

#[test]
fn malformed_csv_lines_are_named_or_skipped() {
    for (bad, what) in [
        ("1,k", "has 2 fields; must have 3, one for each column"),
        ("1,k,5,6", "has 4 fields; must have 3, one for each column"),
        ("2,k,5", "the label (column \"y\") is \"2\"; must be 0 or 1, or name data.positive"),
        (",k,5", "the label (column \"y\") is empty"),
        ("1,k,many", "column \"x\" is \"many\"; must be a number"),
        ("1,k,inf", "column \"x\" is \"inf\"; must be a number"),
        (
            "1,\"k,5",
            "the quote of field 2 is not closed on its line; close it, or double it if it is part of the text",
        ),
    ] {
        let dir = csv_folder(format!("{GOOD_CSV}{bad}\n1,l,5\n").as_bytes(), GOOD_CSV);
        assert_eq!(refusal(&run(dir.path(), &[])), format!("train.csv:6: {what}"));
        assert_skipped(dir.path(), 1);
    }
}

#[test]
fn csv_files_that_do_not_fit_are_refused() {
    for (train, eval, message) in [
        ("", GOOD_CSV, "train.csv: the file is empty; must start with a header line"),
        ("y,a,x\n", GOOD_CSV, "train.csv: the file holds no samples below its header"),
        (
            "z,a,x\n1,k,2\n",
            GOOD_CSV,
            "train.csv:1: no column \"y\" (data.label); the columns are z, a, x",
        ),
        (
            "y,a,a,x\n1,k,k,2\n",
            GOOD_CSV,
            "train.csv:1: the header names \"a\" twice, the second time as column 3",
        ),
        (
            GOOD_CSV,
            "y,x\n1,2\n",
            "eval.csv:1: no column \"a\" (data.categorical); the columns are y, x",
        ),
        (
            GOOD_CSV,
            "y,a,x\n1,k,2\n1,k,2\n",
            "eval.csv: every label is 1; must hold both classes (is data.positive right?)",
        ),
        (
            GOOD_CSV,
            "y,a,x\n1,k,2\n0,k\n",
            "eval.csv:3: has 2 fields; must have 3, one for each column",
        ),
    ] {
        let dir = csv_folder(train.as_bytes(), eval);
        assert_eq!(refusal(&run(dir.path(), &[])), message);
    }
    let dir = csv_folder(GOOD_CSV.as_bytes(), GOOD_CSV);
    let line = refusal(&run(dir.path(), &["--set", "data.eval=nowhere.csv"]));
    assert!(line.starts_with("nowhere.csv: "), "{line}");
}

#[test]
fn malformed_criteo_lines_are_named_or_skipped() {
    let good = criteo_line("1", "5", "ab");
    for (bad, what) in [
        (criteo_line("2", "5", "ab"), "column 1 (label) is \"2\"; 0 or 1 is right"),
        (criteo_line("", "5", "ab"), "column 1 (label) is \"\"; 0 or 1 is right"),
        (
            criteo_line("0", "5.5", "ab"),
            "column 2 (I1) is \"5.5\"; an integer of 32 bits or nothing is right",
        ),
        (
            criteo_line("0", "99999999999", "ab"),
            "column 2 (I1) is \"99999999999\"; an integer of 32 bits or nothing is right",
        ),
        (
            criteo_line("0", "5", "xyz"),
            "column 15 (C1) is \"xyz\"; up to 8 hexadecimal digits or nothing are right",
        ),
        (
            criteo_line("0", "5", "123456789"),
            "column 15 (C1) is \"123456789\"; up to 8 hexadecimal digits or nothing are right",
        ),
        (
            good.replacen("1\t", "", 1),
            "39 columns; 40 are right (label, 13 integers, 26 hexadecimal ids, separated by tabs); is this a ",
        ),
        (
            good.replace('\t', ","),
            "1 columns; 40 are right (label, 13 integers, 26 hexadecimal ids, separated by tabs)",
        ),
        (
            "\n".to_owned(),
            "1 columns; 40 are right (label, 13 integers, 26 hexadecimal ids, separated by tabs)",
        ),
    ] {
        let dir = criteo_folder(format!("{}{bad}{good}", good_day()).as_bytes());
        let line = refusal(&run(dir.path(), &[]));
        assert!(line.starts_with(&format!("day_0:9: {what}")), "{line}");
        assert_skipped(dir.path(), 1);
    }
}

#[test]
fn damaged_gzip_is_refused_even_when_lines_may_be_skipped() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(good_day().repeat(50).as_bytes()).unwrap();
    let whole = gz.finish().unwrap();
    for args in [&[][..], &["--set", "data.on_error=skip"]] {
        let dir = criteo_folder(&whole[..whole.len() / 2]);
        let line = refusal(&run(dir.path(), args));
        assert!(
            line.starts_with("day_0:")
                && line.ends_with("the gzip data end early; the file is not complete"),
            "{line}"
        );
    }
}

#[test]
fn criteo_files_that_do_not_fit_are_refused() {
    let dir = criteo_folder(b"");
    let few = "day_0, day_1: 8 samples are too few: 0 in the training days and 8 in the last one; must be at least 1 in each";
    assert_eq!(refusal(&run(dir.path(), &[])), few);
    std::fs::remove_file(dir.path().join("day_0")).unwrap();
    assert!(refusal(&run(dir.path(), &[])).starts_with("day_0: "));
    std::fs::write(dir.path().join("day_0"), [0x80, 0xff, b'\t']).unwrap();
    assert!(
        refusal(&run(dir.path(), &[]))
            .starts_with("day_0:1: byte 1 of the line is not UTF-8 text; is this a Criteo log")
    );
}

#[test]
fn a_run_that_does_not_fit_into_memory_is_refused_before_it_starts() {
    let dir = csv_folder(GOOD_CSV.as_bytes(), GOOD_CSV);
    for (data, refused_by) in [("csv", "activations"), ("planted", "embedding tables")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command
            .current_dir(dir.path())
            .env("DLRM_BENCH_MEMORY_LIMIT", "1000")
            .args(["run", "w.toml", "--quiet"]);
        if data == "planted" {
            command.args(["--set", "data.source=planted", "--set", "data.max_rows=1000000"]);
            for key in ["train", "eval", "label", "dense", "shuffle"] {
                command.arg("--set").arg(format!("data.{key}="));
            }
        }
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{err}");
        assert!(
            err.starts_with("error: not enough memory: ")
                && err.contains(refused_by)
                && err.lines().count() == 1,
            "{err}"
        );
    }
    let left = std::fs::read_dir(dir.path().join("results")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "nothing has begun");
}

#[test]
fn variables_that_cannot_be_followed_are_refused() {
    let dir = csv_folder(GOOD_CSV.as_bytes(), GOOD_CSV);
    for (name, value, right) in [
        (
            "DLRM_BENCH_MEMORY_LIMIT",
            "1GB",
            "DLRM_BENCH_MEMORY_LIMIT=1GB: must be a number of bytes",
        ),
        ("DLRM_BENCH_DISK_LIMIT", "-1", "DLRM_BENCH_DISK_LIMIT=-1: must be a number of bytes"),
        ("DLRM_BENCH_ISA", "sse2", "avx512"),
    ] {
        for words in [&["run", "w.toml", "--no-ceilings"][..], &["system"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
                .current_dir(dir.path())
                .env(name, value)
                .args(words)
                .output();
            let output = output.unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{err}");
            assert!(
                err.starts_with("error: ") && err.contains(right) && err.lines().count() == 1,
                "{err}"
            );
        }
    }
}
