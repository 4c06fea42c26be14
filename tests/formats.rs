//! Data files through the binary: made, converted, looked at, trained on; and refused in one line
//! where they are broken.

#[cfg(unix)]
#[path = "support/signal.rs"]
mod signal;

use dlrm_bench::{data::format::Format, results::metrics};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn dlrm(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).current_dir(dir).args(args).output().unwrap()
}

/// Standard output of a command that must work.
fn good(dir: &Path, args: &[&str]) -> String {
    let output = dlrm(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line on standard error, without `error: `, of a command that must fail with `code`.
fn refused(dir: &Path, args: &[&str], code: i32) -> String {
    let output = dlrm(dir, args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    let line = err
        .strip_prefix("error: ")
        .unwrap_or_else(|| panic!("{err:?}"))
        .strip_suffix('\n')
        .unwrap();
    assert!(!line.contains('\n'), "{err}");
    line.to_owned()
}

/// Makes `NAME.bin` of planted data.
fn generate(dir: &Path, split: &str, samples: &str, name: &str) {
    let planted = ["data", "generate", "criteo_kaggle", "--max-rows", "60", "--seed", "5"];
    let said =
        good(dir, &[&planted[..], &["--split", split, "--samples", samples, "-o", name]].concat());
    assert!(said.contains(" rows, ") && said.contains("best reachable AUC 0."), "{said}");
}

const WORKLOAD: &str = r#"[workload]
name = "from-a-file"
[data]
source = "bin40"
train = "train.bin"
eval = "eval.bin"
[model]
kind = "dlrm"
dim = 4
bottom = [16, 4]
top = [16, 1]
[train]
batch_size = 64
epochs = 2
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every_epochs = 0.5
"#;

/// Loss and AUC of every step, as bits.
fn curve(dir: &Path, set: &[&str]) -> (Vec<u32>, Vec<u64>) {
    fs::write(dir.join("w.toml"), WORKLOAD).unwrap();
    let results = dir.join("results");
    let _ = fs::remove_dir_all(&results);
    let set = set.iter().flat_map(|s| ["--set", s]);
    let args: Vec<&str> = ["run", "w.toml", "-q", "--no-plots", "--no-ceilings", "--threads", "1"]
        .into_iter()
        .chain(set)
        .collect();
    good(dir, &args);
    let rows = metrics::read(&found(&results, "metrics.parquet")).unwrap();
    (
        rows.loss.iter().map(|l| l.to_bits()).collect(),
        rows.auc.iter().flatten().map(|a| a.to_bits()).collect(),
    )
}

fn found(dir: &Path, name: &str) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.ends_with(name) => return entry,
                false => {}
            }
        }
    }
    panic!("no {name}");
}

#[test]
fn the_same_samples_train_the_same_model_from_any_format() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "1500", "train.bin");
    generate(dir, "eval", "700", "eval.bin");
    let records = curve(dir, &[]);
    assert_eq!(records.0.len(), 2 * 24);
    assert!(records.1.len() >= 4 && records.0.windows(2).any(|w| w[0] != w[1]));

    good(dir, &["data", "convert", "train.bin", "-o", "train.parquet"]);
    good(dir, &["data", "convert", "eval.bin", "-o", "eval.parquet"]);
    let parquet = [
        "data.source=parquet",
        "data.train=train.parquet",
        "data.eval=eval.parquet",
        "data.dense_transform=log1p_clamp0",
    ];
    assert_eq!(curve(dir, &parquet), records);
    // Written by the generator at once, it is the same file.
    let planted = [
        "data",
        "generate",
        "criteo_kaggle",
        "--max-rows",
        "60",
        "--seed",
        "5",
        "--samples",
        "1500",
        "--force",
    ];
    let bytes = fs::read(dir.join("train.parquet")).unwrap();
    good(dir, &[&planted[..], &["-o", "train.parquet"]].concat());
    assert_eq!(fs::read(dir.join("train.parquet")).unwrap(), bytes);
    // And back again.
    good(dir, &["data", "convert", "train.parquet", "-o", "again.bin"]);
    assert_eq!(fs::read(dir.join("again.bin")).unwrap(), fs::read(dir.join("train.bin")).unwrap());

    // Straight from the files of others.
    let buffered = curve(dir, &["data.buffer=100"]);
    assert_ne!(buffered.0, records.0);
    fs::create_dir(dir.join("fuxi")).unwrap();
    for (word, [train, eval]) in [
        ("torchrec", ["train_dense.npy", "eval_dense.npy"]),
        ("hugectr", ["train.raw", "eval.raw"]),
        ("fuxictr", ["fuxi/train.npz", "fuxi/eval.npz"]),
        ("libsvm", ["train.libsvm", "eval.libsvm"]),
        ("numpy", ["train.npy", "eval.npy"]),
        ("npz", ["train.npz", "eval.npz"]),
    ] {
        for (from, to) in [("train.bin", train), ("eval.bin", eval)] {
            good(dir, &["data", "convert", from, "--to", word, "-o", to]);
        }
        let (source, train) = (format!("data.source={word}"), format!("data.train={train}"));
        let eval = format!("data.eval={eval}");
        let set = [&*source, &train, &eval, "data.dense_transform=log1p_clamp0"];
        assert_eq!(curve(dir, &set), records, "{word}");
        if matches!(word, "torchrec" | "libsvm") {
            assert_eq!(curve(dir, &[&set[..], &["data.buffer=100"]].concat()), buffered, "{word}");
        }
    }
    // NVIDIA's numbers have 16 bits, which not all counts have.
    fs::create_dir(dir.join("nvidia")).unwrap();
    good(
        dir,
        &[
            "data",
            "convert",
            "train.bin",
            "--dense-transform",
            "log_plus3",
            "--to",
            "nvidia",
            "-o",
            "nvidia/train",
        ],
    );
    good(dir, &["data", "convert", "nvidia/train", "-o", "rounded.parquet"]);
    let set = |source: &str, file: &str| {
        ["source", "train", "eval"]
            .map(|key| format!("data.{key}={}", if key == "source" { source } else { file }))
    };
    let [split, converted] = [set("nvidia", "nvidia/train"), set("parquet", "rounded.parquet")]
        .map(|set| curve(dir, &set.each_ref().map(|s| &**s)));
    assert_eq!(split, converted);

    let shuffled = curve(dir, &["data.shuffle=batch"]);
    assert_ne!(shuffled.0, records.0);
    assert_eq!(curve(dir, &["data.shuffle=batch"]), shuffled, "a seed has one order");
    assert_ne!(curve(dir, &["data.shuffle=batch", "train.seed=2"]), shuffled);
}

/// facebook's own preprocessing has the ids that planted data stands for; a log of it is what bin40
/// trains on.
#[test]
fn explain_names_the_files_and_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "100", "train.bin");
    generate(dir, "eval", "100", "eval.bin");
    fs::write(dir.join("w.toml"), WORKLOAD).unwrap();
    let plain = good(dir, &["run", "w.toml", "--explain"]);
    assert!(
        plain.contains("#   train: train.bin (16.0 kB)")
            && plain.contains("once the files have been read"),
        "{plain}"
    );
    let tables = format!("data.tables=[{}]", vec!["60"; 26].join(", "));
    let sized = good(dir, &["run", "w.toml", "--explain", "--set", &tables]);
    assert!(
        sized.contains("13 dense columns, 26 tables of 1560 rows in all, up to 26 ids a sample"),
        "{sized}"
    );
}

#[test]
fn inspect_says_what_a_file_holds_in_80_columns() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "1500", "train.bin");
    let text = good(dir, &["data", "inspect", "train.bin", "--column", "I2", "--plot", "i2.png"]);
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    for part in [
        "train.bin: bin40, 240.0 kB",
        "1,500 rows, 2",
        "% of labels are 1",
        "\nC26 ",
        "\nI13 ",
        "\nrow ",
        "\nI2\n",
        "#",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(fs::read(dir.join("i2.png")).unwrap().starts_with(b"\x89PNG"));
    good(dir, &["data", "inspect", "train.bin", "--column", "I2", "--plot", "I2.PNG"]);
    assert!(fs::read(dir.join("I2.PNG")).unwrap() == fs::read(dir.join("i2.png")).unwrap());
    let json: serde_json::Value = serde_json::from_str(&good(
        dir,
        &["data", "inspect", "train.bin", "--format", "json", "--limit", "1000"],
    ))
    .unwrap();
    assert_eq!(
        (json["rows"].as_u64(), json["complete"].as_bool(), json["format"].as_str()),
        (Some(1000), Some(false), Some("bin40"))
    );
    assert_eq!(json["columns"].as_array().map(Vec::len), Some(39));
    assert_eq!(json["columns"][15]["name"], "C3");
    assert!(json["columns"][15]["distinct"].as_u64().is_some_and(|n| (10..=60).contains(&n)));
    let whole = good(dir, &["data", "inspect", "train.bin", "--format", "json", "--limit", "1500"]);
    assert!(whole.contains("\"complete\": true"));
    assert!(
        refused(dir, &["data", "inspect", "train.bin", "--column", "x"], 64)
            .contains("there is no column x; must be one of I1, I2")
    );
    assert!(
        refused(dir, &["data", "inspect", "train.bin", "--column", "I2", "--plot", "a.svg"], 64)
            .contains("must end in .png")
    );
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let files = || -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    generate(dir, "train", "300", "a.bin");
    let said = refused(dir, &["data", "convert", "a.bin", "-o", "a.bin"], 64);
    assert_eq!(said, "a.bin is there already; --force writes over it");
    let before = fs::read(dir.join("a.bin")).unwrap();
    good(dir, &["data", "convert", "a.bin", "-o", "a.bin", "--force"]);
    assert_eq!(fs::read(dir.join("a.bin")).unwrap(), before);

    // A label spoilt in the middle: nothing is left of the output, and the message names the input.
    let mut bytes = before;
    bytes[160 * 200] = 9;
    fs::write(dir.join("bad.bin"), &bytes).unwrap();
    let said = refused(dir, &["data", "convert", "bad.bin", "-o", "b.parquet"], 65);
    assert_eq!(said, "bad.bin: row 201: the label (column label) is 9; must be 0 or 1");
    assert_eq!(files(), ["a.bin", "bad.bin"]);

    // What the output cannot hold names the output, not the file in which it waits.
    good(
        dir,
        &[
            "data",
            "generate",
            "custom",
            "--tables",
            "5",
            "--dense",
            "1",
            "--samples",
            "9",
            "-o",
            "c.parquet",
        ],
    );
    let said = refused(dir, &["data", "convert", "c.parquet", "-o", "c.bin"], 65);
    let others = "formats that hold these columns: parquet, npz, npz-day, npz-reordered, npy-intermediate, numpy, torchrec, nvidia, hugectr, \
                  fuxictr, csv, libsvm, libfm";
    assert_eq!(
        said,
        format!(
            "c.bin: bin40 holds 13 dense and 26 categorical columns, but there are 1 and 1; {others}"
        )
    );
    let said = refused(dir, &["data", "convert", "a.bin", "-o", "none/a.parquet"], 74);
    assert!(said.starts_with("cannot write none/a.parquet: "), "{said}");
    assert_eq!(files(), ["a.bin", "bad.bin", "c.parquet"]);
    assert!(
        refused(dir, &["data", "convert", "a.bin", "-o", "a.xyz"], 64)
            .contains("must end in .bin, .parquet")
    );
    assert!(
        refused(dir, &["data", "convert", "nothing.bin", "-o", "a.parquet"], 65)
            .starts_with("nothing.bin: No such file")
    );
    assert!(
        refused(dir, &["data", "convert", "a.bin", "-o", "a.parquet", "--label", "y"], 65)
            .contains("those of bin40 have no names")
    );
    let said = refused(
        dir,
        &["data", "generate", "custom", "--samples", "9", "-o", "d.bin", "--tables", "0"],
        64,
    );
    assert!(said.contains("--tables[0] = 0 must lie between"), "{said}");
    let wide = [
        "data",
        "generate",
        "custom",
        "--samples",
        "9",
        "-o",
        "d.csv",
        "--tables",
        "5",
        "--dense",
        "99999999999",
    ];
    let said = refused(dir, &wide, 64);
    assert!(said.ends_with("--dense = 99999999999 must be at most 1048576"), "{said}");
}

/// Ctrl-C in the middle of a large file leaves nothing.
#[cfg(unix)]
#[test]
fn an_interrupted_command_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "data",
        "generate",
        "criteo_kaggle",
        "--max-rows",
        "9",
        "--samples",
        "1000000000",
        "-o",
        "big.bin",
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir.path())
        .args(args)
        .spawn()
        .unwrap();
    let waiting = dir.path().join(".tmp-big.bin");
    while !waiting.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    signal::send(&child, libc::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A second command for the same file is refused while the first is at it, and a kill of that keeps
/// nobody out.
#[cfg(unix)]
#[test]
fn one_command_at_a_time_writes_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "30", "a.bin");
    let sets = [
        ("out.bin", "bin40", "./out.bin", ".tmp-out.bin"),
        ("b_dense.npy", "torchrec", "b_labels.npy", ".tmp-b_dense.npy"),
        ("data/train", "nvidia", "data/train", "data/.tmp-train"),
    ];
    for (first, format, second, waiting) in sets {
        // Counts do not fit in NVIDIA's files.
        let what: &[&str] = if format == "nvidia" {
            &["custom", "--tables", "9", "--dense", "0"]
        } else {
            &["criteo_kaggle", "--max-rows", "9"]
        };
        let args = [
            &["data", "generate"],
            what,
            &["--samples", "1000000000", "--to", format, "-o", first],
        ]
        .concat();
        let mut child = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(dir)
            .args(args)
            .spawn()
            .unwrap();
        while !dir.join(waiting).exists() {
            assert!(child.try_wait().unwrap().is_none(), "ended early");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let convert = [
            "data",
            "convert",
            "a.bin",
            "--dense-transform",
            "raw",
            "--to",
            format,
            "--force",
            "-o",
            second,
        ];
        let said = refused(dir, &convert, 64);
        assert_eq!(
            said,
            format!(
                "{second}: another process is writing it; wait for its end, or choose another name"
            )
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let transform = if format == "bin40" { "raw" } else { "log_plus3" };
        good(
            dir,
            &[
                "data",
                "convert",
                "a.bin",
                "--dense-transform",
                transform,
                "--to",
                format,
                "-o",
                second,
            ],
        );
        let left = fs::read_dir(dir.join(waiting).parent().unwrap()).unwrap();
        let left: Vec<_> = left
            .map(|e| e.unwrap().file_name())
            .filter(|n| n.as_encoded_bytes().starts_with(b".tmp-"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(fs::read(dir.join("out.bin")).unwrap(), fs::read(dir.join("a.bin")).unwrap());
}

/// Names that are not UTF-8 stay what they are.
#[cfg(unix)]
#[test]
fn sets_of_files_may_have_any_name() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "30", "a.bin");
    for (name, others) in [
        (&b"\xff_dense.npy"[..], [&b"\xff_labels.npy"[..], b"\xff_sparse.npy"]),
        (b"a\xfe_intermediate_y.npy", [b"a\xfe_intermediate_d.npy", b"a\xfe_intermediate_s.npy"]),
    ] {
        let name = OsStr::from_bytes(name);
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
            command.current_dir(dir).args(["data", "convert"]);
            command
        };
        assert!(command().args(["a.bin", "-o"]).arg(name).output().unwrap().status.success());
        assert!(
            others.iter().all(|o| dir.join(OsStr::from_bytes(o)).is_file())
                && dir.join(name).is_file()
        );
        assert!(
            command().arg(name).args(["--force", "-o", "b.bin"]).output().unwrap().status.success()
        );
        assert_eq!(fs::read(dir.join("b.bin")).unwrap(), fs::read(dir.join("a.bin")).unwrap());
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), 2 + 6);
}

#[test]
fn broken_files_stop_a_run_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "100", "train.bin");
    generate(dir, "eval", "100", "eval.bin");
    fs::write(dir.join("w.toml"), WORKLOAD).unwrap();
    fs::write(dir.join("cut.bin"), [0; 999]).unwrap();
    fs::write(dir.join("empty.bin"), []).unwrap();
    let run = |set: &[&str], code: i32| {
        let set = set.iter().flat_map(|s| ["--set", s]);
        let args: Vec<&str> =
            ["run", "w.toml", "-q", "--no-plots", "--no-ceilings", "--threads", "1"]
                .into_iter()
                .chain(set)
                .collect();
        refused(dir, &args, code)
    };
    assert!(
        run(&["data.train=cut.bin"], 65)
            .starts_with("cut.bin: 999 bytes are 6 records of 160 bytes and 39 more; must be")
    );
    assert!(run(&["data.eval=empty.bin"], 65).starts_with("empty.bin: the file is empty"));
    assert!(run(&["data.train=none.bin"], 65).starts_with("none.bin: No such file"));
    assert!(run(&["data.train=."], 65).contains("is no plain file"));
    let tables = format!("data.tables=[{}]", vec!["3"; 26].join(", "));
    assert!(run(&[&tables], 65).contains("; must be below 3, the rows of its table"));
    assert!(run(&["data.tables=[3, 4]"], 64).contains("has 2 entries; must have 26"));
    assert!(
        run(&["data.dense_transform=min_max"], 64)
            .contains("which needs all of the data at once; must be")
    );
    assert!(
        run(&["data.shuffle=row_group"], 64)
            .contains("must be \"none\", \"batch\", \"day\" or \"total\"")
    );
    assert!(run(&["data.label=y"], 64).contains("has no effect here"));
    let parquet = ["data.source=parquet", "data.train=train.bin"];
    assert!(run(&parquet, 65).starts_with("train.bin: no parquet file: "));
}

/// Through every format and back to the same bytes.
#[test]
fn samples_survive_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "500", "a.bin");
    let convert = |from: &str, to: &str, more: &[&str]| {
        good(dir, &[&["data", "convert", from, "-o", to][..], more].concat())
    };
    convert("a.bin", "a.tsv.gz", &[]);
    convert("a.tsv.gz", "a.txt", &["--to", "deeprec"]);
    convert("a.txt", "a.csv", &["--from", "deeprec"]);
    convert("a.csv", "a.npz", &[]);
    let said = convert("a.npz", "day_0_labels.npy", &[]);
    assert!(said.starts_with("500 rows, "), "{said}");
    for part in ["dense", "sparse", "labels"] {
        assert!(dir.join(format!("day_0_{part}.npy")).exists());
    }
    convert("day_0_sparse.npy", "day_0.npz", &["--to", "npz-day"]);
    convert("day_0.npz", "day_0_intermediate_s.npy", &[]);
    convert("day_0_intermediate_y.npy", "day_0_reordered.npz", &[]);
    convert("day_0_reordered.npz", "day_0.raw", &["--to", "hugectr"]);
    convert("day_0.raw", "day_0.libsvm", &["--from", "hugectr"]);
    convert("day_0.libsvm", "day_0.libfm", &[]);
    convert("day_0.libfm", "day_0.npy", &[]);
    for name in ["train.csv", "train.npz", "train.parquet"] {
        convert("day_0.npy", name, &["--to", "fuxictr"]);
        fs::remove_file(dir.join("b.parquet")).unwrap_or_default();
        convert(name, "b.parquet", &["--from", "fuxictr"]);
    }
    let said =
        refused(dir, &["data", "convert", "day_0.npy", "-o", "train.csv", "--to", "fuxictr"], 64);
    assert_eq!(said, "train.csv is there already; --force writes over it");
    let said =
        refused(dir, &["data", "convert", "day_0.npy", "-o", "other.libsvm", "--label", "3"], 65);
    assert!(
        said.contains(
            "columns were chosen by name, but those of an array with a description have no names"
        ),
        "{said}"
    );
    convert("b.parquet", "b.bin", &[]);
    assert!(fs::read(dir.join("a.bin")).unwrap() == fs::read(dir.join("b.bin")).unwrap());
    assert_eq!(
        refused(dir, &["data", "convert", "a.bin", "-o", "day_0_dense.npy"], 64),
        "day_0_dense.npy is there already; --force writes over it"
    );

    // Several ids a column go where there is room for them, and with logarithms.
    good(
        dir,
        &[
            "data",
            "generate",
            "custom",
            "--tables",
            "9,99",
            "--hotness",
            "1,3",
            "--dense",
            "2",
            "--samples",
            "50",
            "-o",
            "m.parquet",
        ],
    );
    let said = refused(dir, &["data", "convert", "m.parquet", "-o", "m.csv"], 65);
    let others = "formats that hold these columns: parquet, fuxictr (.parquet), libsvm, libfm";
    assert_eq!(
        said,
        format!("m.parquet: row 1: column C2 holds 3 ids, and csv holds one a column; {others}")
    );
    good(
        dir,
        &[
            "data",
            "generate",
            "custom",
            "--tables",
            "9,99",
            "--hotness",
            "1,3",
            "--dense",
            "2",
            "--samples",
            "50",
            "-o",
            "m_dense.npy",
        ],
    );
    convert("m_dense.npy", "again.parquet", &[]);
    convert("m.parquet", "log.csv", &["--ignore", "C2", "--dense-transform", "log_plus3"]);
    let log = good(dir, &["data", "inspect", "log.csv", "--format", "json"]);
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert!((log["columns"][0]["min"].as_f64().unwrap() - 3f64.ln()).abs() < 1e-6, "{log}");
}

/// A set keeps the name that it is given by one of its files, and is found by the name of any.
#[test]
fn sets_may_be_named_in_capitals() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "30", "a.bin");
    let all = || {
        let mut all: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all.retain(|name| !name.ends_with(".bin"));
        all.iter()
            .for_each(|name| fs::rename(dir.join(name), dir.join(format!("{name}.bin"))).unwrap());
        all
    };
    for (name, other, files) in [
        ("B_DENSE.NPY", "B_LABELS.NPY", ["B_DENSE.NPY", "B_LABELS.NPY", "B_SPARSE.NPY"]),
        ("d_SPARSE.NPY", "d_DENSE.NPY", ["d_DENSE.NPY", "d_LABELS.NPY", "d_SPARSE.NPY"]),
        ("e_Dense.npy", "e_Dense.npy", ["e_Dense.npy", "e_labels.npy", "e_sparse.npy"]),
        (
            "_INTERMEDIATE_Y.NPY",
            "_INTERMEDIATE_D.NPY",
            ["_INTERMEDIATE_D.NPY", "_INTERMEDIATE_S.NPY", "_INTERMEDIATE_Y.NPY"],
        ),
    ] {
        good(dir, &["data", "convert", "a.bin", "-o", name]);
        good(dir, &["data", "convert", other, "-o", "again.bin", "--force"]);
        assert_eq!(
            fs::read(dir.join("again.bin")).unwrap(),
            fs::read(dir.join("a.bin")).unwrap(),
            "{name}"
        );
        assert_eq!(all(), files);
    }
}

/// Planted data takes every format's form; where logarithms are asked for, the message names what
/// takes them.
#[test]
fn planted_data_is_written_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let planted = ["data", "generate", "criteo_kaggle", "--max-rows", "60", "--samples", "200"];
    let counts = good(dir, &[&planted[..], &["-o", "a.tsv"]].concat());
    assert!(counts.starts_with("200 rows, "), "{counts}");
    good(
        dir,
        &["data", "convert", "a.tsv", "--dense-transform", "log_plus3", "-o", "logs.parquet"],
    );
    let means = |path: &str, from: &str| -> Vec<f64> {
        let json = good(dir, &["data", "inspect", path, "--from", from, "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (json["rows"].as_u64(), json["columns"].as_array().unwrap().len()),
            (Some(200), 39),
            "{from}"
        );
        json["columns"].as_array().unwrap()[..13]
            .iter()
            .map(|c| c["mean"].as_f64().unwrap())
            .collect()
    };
    let logs = means("logs.parquet", "parquet");
    for word in Format::words() {
        let name = match word {
            "fuxictr" => "made/train.parquet".to_owned(),
            "torchrec" => "made/x_dense.npy".to_owned(),
            "npy-intermediate" => "made/x_intermediate_y.npy".to_owned(),
            _ => format!("made/{word}.x"),
        };
        fs::create_dir_all(dir.join("made")).unwrap();
        let make = [&planted[..], &["--to", word, "-o", &name]].concat();
        // In 16 bits there is no room for the counts.
        if word == "nvidia" {
            let said = refused(dir, &make, 65);
            assert!(said.ends_with("(as ln(x + 3), --dense-transform log_plus3)"), "{said}");
        } else {
            good(dir, &make);
            means(&name, word);
        }
        // Each command takes seconds to say the best reachable AUC.
        if !matches!(word, "nvidia" | "torchrec" | "csv") {
            continue;
        }
        let force = ["--dense-transform", "log_plus3", "--force"];
        good(dir, &[&make[..], &force].concat());
        for (mean, want) in means(&name, word).iter().zip(&logs) {
            assert!((mean - want).abs() < 2e-3, "{word}: {mean} {want}");
        }
    }
}

/// Lists of parquet and libsvm may have any length; where all of a column's are as long, formats of
/// a fixed number of ids take them.
#[test]
fn lists_of_one_length_go_where_the_length_is_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let custom = [
        "data",
        "generate",
        "custom",
        "--tables",
        "9,99,5",
        "--hotness",
        "1,3,2",
        "--dense",
        "2",
        "--samples",
    ];
    good(dir, &[&custom[..], &["70", "-o", "a_dense.npy"]].concat());
    let convert = |from: &str, to: &str, more: &[&str]| {
        good(dir, &[&["data", "convert", from, "-o", to][..], more].concat())
    };
    convert("a_dense.npy", "a.parquet", &[]);
    convert("a.parquet", "b_dense.npy", &[]);
    for part in ["dense.npy", "labels.npy", "sparse_multi_hot.npz"] {
        assert!(
            fs::read(dir.join(format!("a_{part}"))).unwrap()
                == fs::read(dir.join(format!("b_{part}"))).unwrap(),
            "{part}"
        );
    }
    // Through each format that holds several, and back.
    for (name, to) in [("a.raw", "hugectr"), ("a.npy", "numpy"), ("a.npz", "fuxictr")] {
        convert("a.parquet", name, &["--to", to]);
        convert(name, "c.parquet", &["--from", to, "--force"]);
        convert("c.parquet", "c_dense.npy", &["--force"]);
        let ids = |set: &str| fs::read(dir.join(format!("{set}_sparse_multi_hot.npz"))).unwrap();
        assert!(ids("a") == ids("c"), "{to}");
    }
    // A folder of files is one.
    fs::create_dir(dir.join("folder")).unwrap();
    fs::copy(dir.join("a.parquet"), dir.join("folder/0.parquet")).unwrap();
    convert("folder", "f_dense.npy", &[]);
    assert!(
        fs::read(dir.join("f_sparse_multi_hot.npz")).unwrap()
            == fs::read(dir.join("a_sparse_multi_hot.npz")).unwrap()
    );
    // Where a sample has one id or none, it is as any column of one.
    fs::write(dir.join("one.svm"), "1 1:0.5 2:1\n0 1:1 \n0 3:1\n").unwrap();
    convert("one.svm", "one.csv", &["--dense", "1", "--categorical", "2"]);
    assert_eq!(
        fs::read_to_string(dir.join("one.csv")).unwrap(),
        "label,1,2\n1,0.5,0\n0,1.0,\n0,0.0,1\n"
    );

    fs::write(dir.join("many.svm"), "1 2:1 3:1 9:1\n0 2:1 4:1 9:1\n0 2:1 3:1 4:1 9:1\n").unwrap();
    for (to, name) in [("torchrec", "m_dense.npy"), ("hugectr", "m.raw"), ("numpy", "m.npy")] {
        let said = refused(
            dir,
            &["data", "convert", "many.svm", "--categorical", "2,9", "--to", to, "-o", name],
            65,
        );
        let others = "formats that hold these columns: parquet, fuxictr (.parquet), libsvm, libfm";
        let want = format!(
            "row 3: column 2 holds 3 ids, but 2 in row 1, and {to} holds as many in every row; {others}"
        );
        assert_eq!(said, format!("many.svm: {want}"));
    }
    // What is there already is said before all rows are read.
    let said = refused(dir, &["data", "convert", "many.svm", "-o", "a.raw", "--to", "hugectr"], 64);
    assert_eq!(said, "a.raw is there already; --force writes over it");
    // A column of several ids that is no list has no room for one either.
    let said = refused(dir, &["data", "convert", "a_dense.npy", "-o", "a.csv"], 65);
    assert!(
        said.contains("csv holds one id a column, but C2 may hold others; formats that hold these columns: parquet, numpy,"),
        "{said}"
    );
}

/// OneFlow's files as pyarrow writes them (counts + 1 in f32, ids numbered through all columns,
/// several files) train the same model as the records that they are made of: `ln(x + 1)` of a count
/// + 1 is `ln(x + 2)` of the count.
#[test]
fn files_in_the_layout_of_oneflow_train_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "1500", "train.bin");
    generate(dir, "eval", "700", "eval.bin");
    let script = r#"
import numpy as np, os, pyarrow as pa, pyarrow.parquet as pq
for split, files in (("train", 3), ("eval", 1)):
    rows = np.fromfile(split + ".bin", np.int32).reshape(-1, 40)
    os.mkdir(split)
    for f, part in enumerate(np.array_split(rows, files)):
        columns = {"label": part[:, 0].astype(np.float32)}
        columns |= {"I%d" % (i + 1): (part[:, 1 + i] + 1).astype(np.float32) for i in range(13)}
        columns |= {"C%d" % (i + 1): part[:, 14 + i].astype(np.int64) + 40_000_001 * i for i in range(26)}
        pq.write_table(pa.table(columns), "%s/part-%05d.parquet" % (split, f), row_group_size=256)
"#;
    let python = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |code: &str| Command::new(&python).current_dir(dir).args(["-c", code]).output();
    if !run("import numpy, pyarrow").is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {python} with numpy and pyarrow is not there");
        return;
    }
    let made = run(script).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let records = curve(dir, &["data.dense_transform=log_plus2"]);
    let oneflow = [
        "data.source=parquet",
        "data.train=train",
        "data.eval=eval",
        "data.id_stride=40000001",
        "data.dense_transform=log1p_clamp0",
    ];
    assert_eq!(curve(dir, &oneflow), records);
    let shuffled = curve(dir, &[&oneflow[..], &["data.shuffle=row_group"]].concat());
    assert_eq!(shuffled.0.len(), records.0.len());
    assert_ne!(shuffled, records);
    // Without the stride the tables would be as large as all columns together.
    let unlike = [
        "run",
        "w.toml",
        "-q",
        "--no-plots",
        "--no-ceilings",
        "--set",
        "data.source=parquet",
        "--set",
        "data.train=train",
    ];
    let tables = format!("data.tables=[{}]", vec!["60"; 26].join(", "));
    let said =
        refused(dir, &[&unlike[..], &["--set", "data.eval=eval", "--set", &tables]].concat(), 65);
    assert!(
        said.starts_with("eval/part-00000.parquet: row 1: column C2 is 400000")
            && said.contains("must be below 60"),
        "{said}"
    );
}

/// OneFlow's samples for DeepFM are 64-bit hashes in all of their columns, counts too: ids modulo a
/// number.
#[test]
fn hashes_are_read_modulo_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "400", "log.tsv");
    good(dir, &["data", "preprocess", "oneflow-deepfm", "log.tsv", "-o", "hashed", "-q"]);
    let part = "hashed/train/part-00000.parquet";
    let plain = refused(dir, &["data", "inspect", part], 65);
    assert!(
        plain.contains("row 1: column I1 is ")
            && plain.contains("; must be an id from 0 to 4294967295, or be"),
        "{plain}"
    );
    assert!(
        plain.ends_with(
            "taken modulo a number (--max-ind-range N, in a workload data.max_ind_range)"
        ),
        "{plain}"
    );
    let range = ["--max-ind-range", "1000"];
    let json = good(dir, &[&["data", "inspect", part, "--format", "json"], &range[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let columns = json["columns"].as_array().unwrap();
    assert_eq!(
        (columns.len(), &columns[0]["name"], &columns[38]["name"]),
        (39, &"I1".into(), &"C26".into())
    );
    for c in columns {
        assert!(
            c["kind"] == "categorical" && c["max"].as_f64().is_some_and(|id| id < 1000.0),
            "{c}"
        );
    }
    good(dir, &[&["data", "convert", part, "-o", "part.csv"], &range[..]].concat());
    // The same ids whether they are taken modulo the number at once or in steps.
    good(dir, &["data", "convert", part, "--max-ind-range", "1000000", "-o", "large.parquet"]);
    let names: Vec<String> =
        (1..=13).map(|k| format!("I{k}")).chain((1..=26).map(|k| format!("C{k}"))).collect();
    let ids = ["--categorical", &names.join(",")];
    good(
        dir,
        &[&["data", "convert", "large.parquet", "-o", "large.csv"], &ids[..], &range].concat(),
    );
    assert_eq!(fs::read(dir.join("large.csv")).unwrap(), fs::read(dir.join("part.csv")).unwrap());
    // And those of other formats, which have 32 bits.
    good(
        dir,
        &[&["data", "convert", "part.csv", "-o", "small.csv", "--max-ind-range", "10"], &ids[..]]
            .concat(),
    );
    good(
        dir,
        &[&["data", "convert", part, "-o", "of-hashes.csv", "--max-ind-range", "10"], &ids[..]]
            .concat(),
    );
    assert_eq!(
        fs::read(dir.join("small.csv")).unwrap(),
        fs::read(dir.join("of-hashes.csv")).unwrap()
    );
    good(dir, &["data", "profile", part, "--max-ind-range", "1000", "--table", "C3"]);
    let text = fs::read_to_string(dir.join("part.csv")).unwrap();
    let script = r#"
import csv, pyarrow.parquet as pq
hashes = pq.read_table("hashed/train/part-00000.parquet").to_pylist()
rows = list(csv.DictReader(open("part.csv")))
assert len(rows) == len(hashes) > 0
for row, of in zip(rows, hashes):
    assert all(int(row[c]) == of[c] % (1 << 64) % 1000 for c in of if c != "label"), (row, of)
"#;
    let python = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python)
        .current_dir(dir)
        .args(["-c", "import pyarrow"])
        .output()
        .is_ok_and(|o| o.status.success())
    {
        true => {
            let compared =
                Command::new(&python).current_dir(dir).args(["-c", script]).output().unwrap();
            assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
        }
        false => eprintln!("skipped: {python} with pyarrow is not there"),
    }
    assert!(text.starts_with("label,I1,"), "{text}");

    fs::write(
        dir.join("w.toml"),
        WORKLOAD.replace("bottom = [16, 4]\ntop = [16, 1]", "hidden = [16]"),
    )
    .unwrap();
    let mut run = vec!["run", "w.toml", "-q", "--loader-only"];
    for set in [
        "data.source=parquet",
        "data.train=hashed/train",
        "data.eval=hashed/val",
        "model.kind=deepfm",
        "optimizer.kind=adam",
        "data.max_ind_range=1000",
    ] {
        run.extend(["--set", set]);
    }
    good(dir, &run);
    run.truncate(run.len() - 2);
    assert!(
        refused(dir, &run, 65).ends_with("(--max-ind-range N, in a workload data.max_ind_range)")
    );
}

/// A set of several files, one of which other sets share.
#[test]
fn nvidias_splits_share_a_spec() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "500", "a.bin");
    let convert = |from: &str, to: &str, more: &[&str]| {
        [&["data", "convert", from, "-o", to][..], more]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| good(dir, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let log = ["--dense-transform", "log_plus3"];
    run(convert("a.bin", "data/train", &[&log[..], &["--to", "nvidia"]].concat()));
    run(convert("a.bin", "data/test", &log));
    let all = |folder: &str| {
        let mut all: Vec<String> = fs::read_dir(dir.join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    assert_eq!(all("data"), ["feature_spec.yaml", "test", "train"]);
    assert_eq!(all("data/test").len(), 28);
    // What has been rounded to 16 bits stays.
    run(convert("data/test", "b.csv", &[]));
    run(convert("b.csv", "again/train", &["--to", "nvidia"]));
    for file in all("data/train") {
        assert!(
            fs::read(dir.join("data/train").join(&file)).unwrap()
                == fs::read(dir.join("again/train").join(&file)).unwrap(),
            "{file}"
        );
    }
    assert!(good(dir, &["data", "inspect", "data/train"]).starts_with("data/train: nvidia, 3"));
    assert!(
        refused(dir, &["data", "convert", "a.bin", "-o", "data/test"], 64)
            .contains("label.bin is there already; --force")
    );
    let spec = fs::read(dir.join("data/feature_spec.yaml")).unwrap();
    let mut bytes = fs::read(dir.join("a.bin")).unwrap();
    bytes[160 * 300] = 7;
    fs::write(dir.join("bad.bin"), bytes).unwrap();
    assert!(
        refused(dir, &["data", "convert", "bad.bin", "-o", "data/val"], 65)
            .starts_with("bad.bin: row 301: ")
    );
    assert_eq!(all("data"), ["feature_spec.yaml", "test", "train"]);
    assert_eq!(fs::read(dir.join("data/feature_spec.yaml")).unwrap(), spec);
}

/// The parquet crate panics at this damage (the kind of a page), which is caught and not shown.
#[test]
fn what_others_panic_at_is_one_line_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(
        dir,
        &[
            "data",
            "generate",
            "custom",
            "--tables",
            "5",
            "--dense",
            "1",
            "--samples",
            "9",
            "-o",
            "a.parquet",
        ],
    );
    let mut bytes = fs::read(dir.join("a.parquet")).unwrap();
    bytes[5] = 2;
    fs::write(dir.join("a.parquet"), bytes).unwrap();
    let said = refused(dir, &["data", "inspect", "a.parquet"], 65);
    assert_eq!(said, "a.parquet: row group 0 cannot be read: Parquet error: the file is damaged");
}

/// Whatever the format: nothing there, an empty file, a folder, bytes of something else.
#[test]
fn files_of_no_format_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("empty"), b"").unwrap();
    fs::write(dir.join("noise"), (0..999u32).map(|i| (i * i % 251) as u8).collect::<Vec<_>>())
        .unwrap();
    fs::write(dir.join("cut.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    let words = "bin40 parquet npz npz-day npz-reordered npy-intermediate numpy torchrec nvidia hugectr fuxictr criteo csv deeprec libsvm libfm";
    for word in words.split(' ') {
        for file in ["nothing", "empty", "noise", "cut.gz", "folder"] {
            let said = refused(dir, &["data", "inspect", file, "--from", word], 65);
            assert!(said.contains(file) || said.contains("feature_spec"), "{word} {file}: {said}");
        }
    }
}

/// The list is that of the files together, and what a run finds by itself.
#[test]
fn the_rows_of_tables_are_printed_as_their_key_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    generate(dir, "train", "1500", "train.bin");
    generate(dir, "eval", "700", "eval.bin");
    let list = |files: &[&str]| good(dir, &[&["data", "inspect", "--tables"], files].concat());
    let rows = |text: &str| -> Vec<u64> { serde_json::from_str(text).unwrap() };
    // Of a few samples, which have not all of the ids.
    generate(dir, "train", "20", "few.bin");
    let [few, eval, both] = [&["few.bin"][..], &["eval.bin"], &["few.bin", "eval.bin"]].map(list);
    let larger = rows(&few).into_iter().zip(rows(&eval)).map(|(a, b)| a.max(b));
    assert_eq!(larger.collect::<Vec<_>>(), rows(&both));
    assert!(rows(&both).len() == 26 && rows(&few) != rows(&both));
    let (train, all) = (list(&["train.bin"]), list(&["train.bin", "eval.bin"]));
    let tables = format!("data.tables={}", all.trim());
    assert_eq!(curve(dir, &[&tables]), curve(dir, &[]));
    good(dir, &["data", "convert", "train.bin", "-o", "train.parquet"]);
    assert_eq!(list(&["train.parquet"]), train);
    let few = list(&["train.parquet", "--max-ind-range", "7"]);
    assert_eq!(rows(&few).into_iter().max(), Some(7));

    assert!(
        refused(dir, &["data", "inspect", "train.bin", "eval.bin"], 64)
            .contains("2 files are named")
    );
    fs::write(dir.join("odd.csv"), "label,a\n1,2\n").unwrap();
    let other = refused(dir, &["data", "inspect", "--tables", "train.bin", "odd.csv"], 65);
    assert!(
        other.contains("odd.csv: has other categorical columns than the first file"),
        "{other}"
    );
    fs::write(dir.join("none.csv"), "label,a\n1,0.5\n").unwrap();
    let none = refused(dir, &["data", "inspect", "--tables", "none.csv"], 65);
    assert!(none.contains("none.csv: has no categorical columns"), "{none}");
}
