//! Ids of 64 bits, as programs that hash write them, in tables that grow: without a modulo, through
//! the binary.

use dlrm_bench::results::{metrics, record};
use parquet::{
    data_type::{FloatType, Int64Type},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use safetensors::SafeTensors;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};
use tempfile::TempDir;

const TRAIN: usize = 3000;
const EVAL: usize = 500;
const KEYS: usize = 3;

/// A sample: its label and its keys. Those of the second column differ in their upper halves only,
/// those of the third are beyond 2^63.
fn sample(i: usize) -> (f32, [u64; KEYS]) {
    let skewed = |k: usize, n: usize| (i.wrapping_mul(2_654_435_761 + k) >> 7) % n;
    let ids = [skewed(1, 90), skewed(2, 40).min(skewed(3, 40)), skewed(5, 7)];
    let odd = [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 32];
    let mixed = (ids[0] as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let keys = [
        odd.get(ids[0]).copied().unwrap_or(mixed),
        (ids[1] as u64 * 3) << 32 | 5,
        u64::MAX - ids[2] as u64,
    ];
    (f32::from((ids[0] + ids[1]).is_multiple_of(3) || i.is_multiple_of(11)), keys)
}

fn parquet(path: &Path, samples: std::ops::Range<usize>) {
    let schema = "message m { required float label; required int64 C1; required int64 C2;
                   required int64 C3 (UINT_64); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let all: Vec<_> = samples.map(sample).collect();
    for part in all.chunks(700) {
        let mut group = file.next_row_group().unwrap();
        let labels: Vec<f32> = part.iter().map(|(y, _)| *y).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<FloatType>().write_batch(&labels, None, None).unwrap();
        column.close().unwrap();
        for k in 0..KEYS {
            let keys: Vec<i64> = part.iter().map(|(_, keys)| keys[k] as i64).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&keys, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    file.close().unwrap();
}

/// With a sign and without one, in turns.
fn csv(path: &Path, samples: std::ops::Range<usize>) {
    let line = |i: usize| {
        let (y, [a, b, c]) = sample(i);
        format!("{y},{},{b},{c}\n", a as i64)
    };
    let text = samples.map(line).fold("label,C1,C2,C3\n".to_owned(), |text, line| text + &line);
    fs::write(path, text).unwrap();
}

fn npy(path: &Path, samples: std::ops::Range<usize>) {
    let shape = format!("({}, {})", samples.len(), 1 + KEYS);
    let mut header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    for (y, keys) in samples.map(sample) {
        bytes.extend((y as i64).to_le_bytes());
        keys.iter().for_each(|key| bytes.extend(key.to_le_bytes()));
    }
    fs::write(path, bytes).unwrap();
}

const MODEL: &str = r#"
[model]
kind = "deepfm"
dim = 4
hidden = [8]
embedding_init = "normal"
embedding_init_std = 1e-4
[embedding]
store = "hashed"
[train]
batch_size = 50
[optimizer]
kind = "adam"
form = "tf"
rows = "lazy"
learning_rate = 0.01
[eval]
every_steps = 30
[checkpoint]
every_steps = 30
"#;

/// A folder with one log in three formats, and a workload for each.
fn bench() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, samples) in [("train", 0..TRAIN), ("eval", TRAIN..TRAIN + EVAL)] {
        parquet(&at(&format!("{name}.parquet")), samples.clone());
        csv(&at(&format!("{name}.csv")), samples.clone());
        npy(&at(&format!("{name}.npy")), samples);
    }
    let names = "label = \"label\"\ncategorical = [\"C1\", \"C2\", \"C3\"]\n";
    for (name, source, columns) in [
        ("parquet", "parquet", names),
        ("csv", "csv", &format!("{names}shuffle = false\n")),
        ("npy", "numpy", "label = \"0\"\ncategorical = [\"1\", \"2\", \"3\"]\n"),
    ] {
        let data = format!(
            "[workload]\nname = \"keys\"\n[data]\nsource = \"{source}\"\nids = \"keys\"\n{columns}\
             train = \"train.{name}\"\neval = \"eval.{name}\"\n"
        );
        fs::write(at(&format!("{name}.toml")), data + MODEL).unwrap();
    }
    dir
}

fn dlrm(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs a workload; the run's folder.
fn run(dir: &Path, workload: &str, results: &str, set: &[&str]) -> PathBuf {
    let mut args = vec!["run", workload, "--results", results, "--quiet", "--no-ceilings"];
    args.push("--no-plots");
    args.extend(set.iter().flat_map(|set| ["--set", set]));
    let output = dlrm(dir, &args);
    assert!(output.status.success(), "{workload} {set:?}: {}", text(&output));
    let only = |at: &Path| {
        let mut folders = fs::read_dir(at).unwrap().map(|e| e.unwrap().path());
        folders.find(|p| p.is_dir()).unwrap()
    };
    only(&only(&only(&dir.join(results))))
}

/// Bits of each step's loss, and each evaluation.
fn trace(run: &Path) -> (Vec<u32>, Vec<String>) {
    let loss = metrics::read(&run.join("metrics.parquet")).unwrap().loss;
    let record = record::read(&run.join("run.json")).unwrap();
    let quality = record.evaluations.iter().map(|e| serde_json::to_string(&e.quality).unwrap());
    (loss.iter().map(|l| l.to_bits()).collect(), quality.collect())
}

/// The keys of each column in the run's last checkpoint.
fn keys(run: &Path) -> Vec<BTreeSet<u64>> {
    let bytes = fs::read(run.join("checkpoints/step-000000000060/keys.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let column = |k: usize| {
        let list = all.tensor(&format!("{k}.keys")).unwrap().data().to_vec();
        let words = list.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
        words.collect()
    };
    (0..KEYS).map(column).collect()
}

/// The keys of each column of some samples.
fn met(samples: std::ops::Range<usize>) -> Vec<BTreeSet<u64>> {
    let of = |k: usize| samples.clone().map(|i| sample(i).1[k]).collect();
    (0..KEYS).map(of).collect()
}

/// Whatever file they come from, each key has a row of its own, with all of its bits, also in a
/// checkpoint, which is judged as its run was.
#[test]
fn keys_have_rows_with_all_of_their_bits() {
    let dir = bench();
    let first = run(dir.path(), "parquet.toml", "parquet", &[]);
    assert_eq!(keys(&first), met(0..TRAIN));
    let want = trace(&first);
    assert_eq!((want.0.len(), want.1.len()), (60, 2));
    for workload in ["csv", "npy"] {
        let other = run(dir.path(), &format!("{workload}.toml"), workload, &[]);
        assert_eq!(keys(&other), met(0..TRAIN), "{workload}");
        assert_eq!(trace(&other), want, "{workload}");
    }
    let record = record::read(&first.join("run.json")).unwrap();
    // Tables are as large as the different ids ask for.
    let rows = |c: &dlrm_bench::data::ColumnFacts| c.rows.map(|rows| rows as usize);
    let sized: Vec<usize> = record.data.as_ref().unwrap().columns.iter().filter_map(rows).collect();
    let different: Vec<usize> = met(0..TRAIN).iter().map(BTreeSet::len).collect();
    assert_eq!(sized, different);
    let model = first.join("checkpoints/step-000000000060");
    let judged = dlrm(dir.path(), &["eval", model.to_str().unwrap(), "--json"]);
    assert!(judged.status.success(), "{}", text(&judged));
    let judged: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
    let last = record.evaluations.last().unwrap();
    assert_eq!(judged["quality"]["auc"].as_f64().unwrap(), last.quality.auc);
}

/// Buffers that shuffle, splits by hashes and filters keep them whole, too.
#[test]
fn keys_stay_whole_on_their_way() {
    let dir = bench();
    let set = ["data.buffer=333", "embedding.capacity=[1000]"];
    let shuffled = run(dir.path(), "parquet.toml", "shuffled", &set);
    assert_eq!(keys(&shuffled), met(0..TRAIN));
    let other = run(dir.path(), "npy.toml", "npy", &set);
    assert_eq!((keys(&other), trace(&other)), (met(0..TRAIN), trace(&shuffled)));
    let split = ["data.eval=", "data.eval_share=0.25", "train.max_steps=60", "train.epochs=2"];
    let share = run(dir.path(), "parquet.toml", "share", &split);
    let all = met(0..TRAIN);
    // Two epochs of some 2250 samples in 60 steps: all but the rarest.
    for (got, all) in keys(&share).iter().zip(&all) {
        assert!(got.is_subset(all) && got.len() * 10 > all.len() * 9, "{got:?}");
    }
    let filter = ["embedding.filter=counter", "embedding.filter_freq=1000000"];
    let none = run(dir.path(), "csv.toml", "none", &filter);
    assert!(keys(&none).iter().all(BTreeSet::is_empty));
}

/// What makes other ids of keys, and tables that have no keys, are refused before anything is read.
#[test]
fn keys_need_tables_that_grow() {
    let dir = bench();
    let refused = |workload: &str, set: &[&str], told: &str| {
        let mut args = vec!["run", workload, "--explain"];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        let output = dlrm(dir.path(), &args);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{set:?}: {said}");
        assert!(said.contains(told) && said.trim_end().lines().count() == 1, "{set:?}: {said}");
    };
    refused("npy.toml", &["embedding.store=resident"], "data.ids: is \"keys\", any numbers");
    refused("npy.toml", &[r#"embedding.resident=["1"]"#], "leave embedding.resident out");
    refused("parquet.toml", &["data.max_ind_range=99"], "of which data.max_ind_range makes others");
    refused("csv.toml", &["data.hash_buckets=[99]"], "of which data.hash_buckets makes others");
    // Without the word, the first that is no id of 32 bits is named, and what would be right.
    let output = dlrm(dir.path(), &["run", "parquet.toml", "--set", "data.ids=rows"]);
    let said = text(&output);
    assert!(said.contains("column C1 is ") && said.contains("must be an id from 0"), "{said}");
    fs::write(dir.path().join("text.csv"), "label,C1,C2,C3\n0,7,abc,1\n1,7,8,1\n").unwrap();
    let output = dlrm(dir.path(), &["run", "csv.toml", "--set", "data.train=text.csv"]);
    let said = text(&output);
    assert!(said.contains("text.csv:2") && said.contains("a whole number of 64 bits"), "{said}");
}

/// Planted ids are hashed; rows are found again, so that a model learns as much of them.
#[test]
fn planted_ids_are_keys_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = "[workload]\nname = \"keys\"\n[data]\nsource = \"planted\"\npreset = \"custom\"\n\
                tables = [900, 40, 3]\nhotness = [1, 2, 1]\ndense = 2\ntrain_samples = 3000\n\
                eval_samples = 700\n";
    fs::write(dir.path().join("w.toml"), format!("{data}{MODEL}")).unwrap();
    // As all rows begin alike, losses do not tell ids from keys.
    let set = ["embedding.default_value_dim=1"];
    let ids = run(dir.path(), "w.toml", "ids", &set);
    let hashed = run(dir.path(), "w.toml", "keys", &[set[0], "data.ids=keys"]);
    assert_eq!(trace(&hashed), trace(&ids));
    let (ids, hashed) = (keys(&ids), keys(&hashed));
    for (ids, hashed) in ids.iter().zip(&hashed) {
        assert!(ids.iter().all(|&id| id < 900) && hashed.iter().any(|&key| key > 1 << 40));
        assert_eq!(ids.len(), hashed.len());
    }
}
