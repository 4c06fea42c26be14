//! The memory plan against what the engines really take, as Linux counts it.
#![cfg(target_os = "linux")]

use dlrm_bench::{
    batch::{Bags, Batch},
    engine::{self, memory},
    model::init::{InitSource, Initializer},
    workload::{Workload, parse},
};
use std::path::Path;

fn workload(kind: &str, model: &str, optimizer: &str, tables: &str, batch: Batches) -> Workload {
    let (batch, parts) = batch;
    let (kind, rows) = kind
        .split_once(' ')
        .map_or((kind, String::new()), |(k, r)| (k, format!("embedding_rows = \"{r}\"\n")));
    let text = format!(
        "[workload]\nname = \"m\"\n[data]\nsource = \"planted\"\npreset = \"custom\"\ntables = {tables}\ndense = 13\n\
         [model]\n{model}\n[engine]\nkind = \"{kind}\"\n{rows}threads = 2\n[train]\nbatch_size = {batch}\nmicro_batches = {parts}\n\
         [optimizer]\nlearning_rate = 0.01\n{optimizer}\n[eval]\nbatch_size = {batch}\n"
    );
    parse::resolve(Path::new("m.toml"), text, &[]).unwrap().workload
}

/// A line of /proc/self/status in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    1024 * line.split_whitespace().find_map(|w| w.parse::<u64>().ok()).unwrap()
}

/// Bytes planned, and bytes taken by making the engine and training three steps. Pages of the program
/// that it touches on its way are nobody's plan.
fn measure(w: &Workload) -> (u64, u64) {
    let schema = w.data_schema().unwrap().unwrap();
    let config = w.engine_config(&schema).unwrap();
    let planned = memory::plan(w.engine.kind, &config).total();
    let mut batch = Batch { len: config.max_batch, ..Batch::default() };
    batch.dense = vec![0.5; batch.len * schema.dense];
    batch.labels = (0..batch.len).map(|i| (i % 2) as f32).collect();
    batch.bags = schema
        .tables
        .iter()
        .map(|t| {
            let mut bags = Bags::default();
            bags.clear();
            (0..batch.len).for_each(|i| bags.push([(i * 7919 % t.rows) as u32]));
            bags
        })
        .collect();
    // Resets the high-water mark.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, program) = (status("VmRSS:"), status("RssFile:"));
    let mut initializer = Initializer::new(&config.model, InitSource::Philox { seed: 1 });
    let mut engine =
        engine::build(w.engine.kind, w.engine.device, &config, &mut initializer).unwrap();
    for _ in 0..3 {
        engine.train_step(&batch, 0.01).unwrap();
    }
    let touched = status("RssFile:").saturating_sub(program);
    (planned, status("VmHWM:") - before - touched)
}

const DLRM: &str = "kind = \"dlrm\"\ndim = 32\nbottom = [256, 32]\ntop = [256, 64, 1]";
const QR: &str = "kind = \"dlrm\"\ndim = 32\ntrick = \"qr\"\nbottom = [256, 32]\ntop = [64, 1]";
const NORMALISED: &str =
    "kind = \"dlrm\"\ndim = 32\nbottom = [256, 32]\nbatch_norm = true\ntop = [256, 64, 1]";
const MD: &str = "kind = \"dlrm\"\ndim = 32\ntrick = \"md\"\nbottom = [256, 32]\ntop = [64, 1]";
const DEEPFM: &str =
    "kind = \"deepfm\"\ndim = 16\nhidden = [200, 200]\nbatch_norm = true\nembedding_l2 = 0.01";
const SGD: &str = "kind = \"sgd\"";
const ADAM: &str = "kind = \"adam\"\nrows = \"dense\"";
const LARGE: &str = "[300000, 400000, 1000]";
const SMALL: &str = "[1000, 2000, 3000, 4000, 500, 600, 700, 800]";

/// Samples of a batch, and the parts that it is computed in.
type Batches = (usize, usize);

/// Engine with the form of rows, model, optimizer, tables, batch.
const CASES: [(&str, &str, &str, &str, Batches); 17] = [
    ("fused", DLRM, SGD, LARGE, (512, 1)),
    ("fused", DLRM, ADAM, LARGE, (512, 1)),
    ("fused", QR, SGD, SMALL, (16384, 1)),
    ("fused", MD, ADAM, SMALL, (16384, 1)),
    ("fused", DLRM, "kind = \"rowwise_adagrad\"", SMALL, (16384, 1)),
    ("fused", NORMALISED, SGD, SMALL, (16384, 1)),
    ("fused", DEEPFM, ADAM, LARGE, (512, 1)),
    ("fused", DEEPFM, ADAM, SMALL, (16384, 1)),
    ("fused bf16", DLRM, SGD, LARGE, (512, 1)),
    ("fused bf16-split", DEEPFM, ADAM, LARGE, (512, 1)),
    ("candle", DLRM, "kind = \"adagrad\"", SMALL, (8192, 1)),
    ("candle", DEEPFM, ADAM, LARGE, (512, 1)),
    ("candle", DEEPFM, ADAM, SMALL, (8192, 1)),
    ("fused", DLRM, SGD, SMALL, (16384, 4)),
    ("fused", MD, ADAM, SMALL, (16384, 4)),
    ("fused", NORMALISED, SGD, SMALL, (16384, 8)),
    ("candle", DLRM, "kind = \"adagrad\"", SMALL, (8192, 4)),
];

/// Names the case for the process that measures it.
const CASE: &str = "DLRM_BENCH_TEST_MEMORY_CASE";

/// Each case in a process of its own, so that none finds memory that another one has left.
#[test]
fn plans_are_near_the_truth() {
    if let Ok(case) = std::env::var(CASE) {
        let (kind, model, optimizer, tables, batch) = CASES[case.parse::<usize>().unwrap()];
        let (planned, taken) = measure(&workload(kind, model, optimizer, tables, batch));
        println!("measured {planned} {taken}");
        return;
    }
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        eprintln!("skipped: /proc/self/clear_refs cannot be written");
        return;
    }
    for (i, case) in CASES.iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "plans_are_near_the_truth", "--nocapture"])
            .env(CASE, i.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = text.split_once("measured ").unwrap_or_else(|| panic!("{text}")).1;
        let numbers: Vec<f64> =
            numbers.split_whitespace().take(2).map(|n| n.parse().unwrap()).collect();
        let ratio = numbers[0] / numbers[1];
        println!("{case:?}: {} planned, {} taken, {ratio:.2}", numbers[0], numbers[1]);
        // Candle's intermediate tensors come and go: a plan on the safe side is enough.
        let range = if case.0.starts_with("fused") { 0.9..1.15 } else { 0.9..1.8 };
        assert!(range.contains(&ratio), "{case:?}: {ratio}");
    }
}
