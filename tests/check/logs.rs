//! Logs that pass, and a hundred ways to spoil them.

use dlrm_bench::random::philox::{Philox, Stream};
use serde_json::{Map, Value, json};

/// A log as its lines.
pub type Log = Vec<Value>;

/// A line as MLPerf's writer makes it.
fn line(key: &str, value: Value, metadata: Value, time_ms: i64) -> Value {
    let mut meta = json!({"file": "train.py", "lineno": 7});
    if let (Some(meta), Value::Object(more)) = (meta.as_object_mut(), metadata) {
        meta.extend(more);
    }
    json!({"namespace": "", "time_ms": time_ms, "event_type": "POINT_IN_TIME", "key": key, "value": value, "metadata": meta})
}

/// What every log begins with; `init_stop` comes a minute after `init_start`.
fn with_events(
    benchmark: &str,
    division: &str,
    keys: &[(&str, Value)],
    tensors: &[&str],
    target: f64,
) -> Log {
    let t0 = 1_700_000_000_000;
    let none = || json!({});
    let mut log = vec![
        line("submission_benchmark", json!(benchmark), none(), t0),
        line("submission_org", json!("X"), none(), t0),
        line("submission_division", json!(division), none(), t0),
        line("submission_status", json!("onprem"), none(), t0),
        line("submission_platform", json!("1xcpu"), none(), t0),
        line("cache_clear", json!(true), none(), t0),
        line("init_start", json!(null), none(), t0),
        line("seed", json!(17), none(), t0),
    ];
    log.extend(
        tensors
            .iter()
            .map(|t| line("weights_initialization", json!(null), json!({"tensor": t}), t0)),
    );
    log.extend(keys.iter().map(|(key, value)| line(key, value.clone(), none(), t0)));
    let t1 = t0 + 60_000;
    let first = if benchmark == "dlrm" { 1.0 } else { 0.0 };
    log.push(line("init_stop", json!(null), none(), t1));
    log.push(line("run_start", json!(null), none(), t1));
    log.push(line("train_samples", json!(4195197692u64), none(), t1));
    log.push(line("eval_samples", json!(89137319), none(), t1));
    if benchmark != "deepfm" {
        log.push(line(
            "block_start",
            json!(null),
            json!({"first_epoch_num": first, "epoch_count": 1}),
            t1,
        ));
    }
    log.push(line("epoch_start", json!(null), json!({"epoch_num": first}), t1));
    for (at, auc) in [(0.5, target - 0.01), (0.7, target)] {
        let epoch = json!({"epoch_num": first + at});
        log.push(line("eval_start", json!(null), epoch.clone(), t1 + 600_000));
        log.push(line("eval_accuracy", json!(auc), epoch.clone(), t1 + 660_000));
        log.push(line("eval_stop", json!(null), epoch, t1 + 660_000));
    }
    log.push(line("tracked_stats", json!({"throughput": 1e6}), json!({"step": 100}), t1 + 660_000));
    log.push(line("epoch_stop", json!(null), json!({"epoch_num": first}), t1 + 660_000));
    if benchmark != "deepfm" {
        log.push(line("block_stop", json!(null), json!({"first_epoch_num": first}), t1 + 660_000));
    }
    log.push(line("run_stop", json!(null), json!({"status": "success"}), t1 + 660_000));
    log
}

/// A log of `benchmark` that passes in all its rounds.
pub fn good(benchmark: &str, division: &str) -> Log {
    let closed = division == "closed";
    match benchmark {
        "dlrm" => {
            let keys = [
                ("global_batch_size", json!(32768)),
                ("gradient_accumulation_steps", json!(1)),
                ("opt_base_learning_rate", json!(18.0)),
                ("opt_learning_rate_warmup_steps", json!(8000)),
                ("lr_decay_start_steps", json!(70000)),
                ("sgd_opt_base_learning_rate", json!(18.0)),
                ("sgd_opt_learning_rate_decay_poly_power", json!(2)),
                ("sgd_opt_learning_rate_decay_steps", json!(30000)),
            ];
            let mut tensors = vec!["embeddings".to_owned()];
            tensors.extend((1..=3).map(|i| format!("bottom_mlp_dense{i}")));
            tensors.extend((1..=5).map(|i| format!("top_mlp_dense{i}")));
            let tensors: Vec<_> = tensors.iter().map(String::as_str).collect();
            with_events("dlrm", division, &keys[..if closed { 8 } else { 1 }], &tensors, 0.8025)
        }
        "dlrm_dcnv2" => {
            let keys = [
                ("global_batch_size", json!(65536)),
                ("lowest_numerical_precision_in_linear", json!("fp32")),
                ("micro_batch_size", json!(65536)),
                ("gradient_accumulation_steps", json!(1)),
                ("opt_name", json!("adagrad")),
                ("opt_base_learning_rate", json!(0.004)),
                ("opt_adagrad_learning_rate_decay", json!(0)),
                ("opt_weight_decay", json!(0.0)),
                ("opt_adagrad_initial_accumulator_value", json!(0)),
                ("opt_adagrad_epsilon", json!(1e-8)),
                ("opt_learning_rate_warmup_steps", json!(0)),
                ("opt_learning_rate_decay_start_step", json!(0)),
                ("opt_learning_rate_decay_steps", json!(0)),
            ];
            with_events("dlrm_dcnv2", division, &keys[..if closed { 13 } else { 3 }], &[], 0.80275)
        }
        _ => {
            let keys = [
                ("global_batch_size", json!(128)),
                ("lowest_numerical_precision_in_linear", json!("fp32")),
                ("gradient_accumulation_steps", json!(1)),
                ("opt_name", json!("adam")),
                ("opt_base_learning_rate", json!(0.001)),
                ("opt_learning_rate_warmup_steps", json!(0)),
                ("embedding_l2", json!(0.1)),
            ];
            with_events("deepfm", division, &keys, &["embeddings", "dnn_dense1"], 0.7)
        }
    }
}

/// The log as a file.
pub fn text(log: &Log) -> Vec<u8> {
    log.iter().map(|l| format!(":::MLLOG {l}\n")).collect::<String>().into_bytes()
}

/// Values to put where another one was.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(""),
        json!("x"),
        json!("1"),
        json!(0),
        json!(1),
        json!(-1),
        json!(2.5),
        json!(true),
        json!(false),
        json!([1]),
        json!({}),
        json!(0.80275),
        json!(f64::from(0.80275f32)),
        json!(f64::from(1e-8f32)),
        json!(0.8025),
        json!(1.0),
        json!(1.5),
        json!("open"),
        json!("closed"),
        json!("bfloat16"),
        json!("dlrm"),
        json!("flux1"),
        json!(89137319.0),
    ]
}

/// Ways to spoil one line of a log; some leave it as good as it was.
pub const WAYS: usize = 20;

/// Spoils line `at` of `log` in way `way`; `pick` chooses among values.
pub fn spoil(log: &mut Log, at: usize, way: usize, pick: usize) {
    let values = values();
    let value = values[pick % values.len()].clone();
    let names = [
        "epoch_num",
        "samples_count",
        "step_num",
        "first_epoch_num",
        "epoch_count",
        "tensor",
        "status",
    ];
    let name = names[pick % names.len()];
    let object = |line: &mut Value, f: &dyn Fn(&mut Map<String, Value>)| {
        line.as_object_mut().into_iter().for_each(f)
    };
    let metadata = |line: &mut Value, f: &dyn Fn(&mut Map<String, Value>)| {
        line.get_mut("metadata").and_then(Value::as_object_mut).into_iter().for_each(f);
    };
    let line = &mut log[at];
    match way {
        0 => drop(log.remove(at)),
        1 => log.insert(at, log[at].clone()),
        2 => log.push(log[at].clone()),
        3 => {
            let mut again = line.clone();
            object(&mut again, &|l| drop(l.insert("value".into(), value.clone())));
            log.insert(at + 1, again);
        }
        4..=8 => object(line, &|l| drop(l.insert("value".into(), value.clone()))),
        9 => object(line, &|l| drop(l.remove("value"))),
        10 => object(line, &|l| drop(l.remove("metadata"))),
        11 => object(line, &|l| drop(l.insert("metadata".into(), json!({})))),
        12 => object(line, &|l| drop(l.insert("metadata".into(), value.clone()))),
        13 => metadata(line, &|m| drop(m.remove(name))),
        14 => metadata(line, &|m| drop(m.insert(name.into(), value.clone()))),
        15 => {
            let moved = log.remove(at);
            log.push(moved);
        }
        16 => {
            let moved = log.remove(at);
            log.insert(pick % (log.len() + 1), moved);
        }
        17 => {
            let minutes = [10, 19, 20, 29, 30, 31, 239, 240, 300, -60][pick % 10];
            for later in &mut log[at..] {
                let time = later["time_ms"].as_i64().unwrap_or(0) + minutes * 60_000 - 60_000;
                object(later, &|l| drop(l.insert("time_ms".into(), json!(time))));
            }
        }
        18 => {
            let times =
                [json!("1700000000000"), json!(1.7e12), json!(null), json!("1.2.3"), json!("-5e3")];
            object(line, &|l| drop(l.insert("time_ms".into(), times[pick % times.len()].clone())));
        }
        _ => {
            let gone = ["namespace", "event_type", "key", "time_ms"][pick % 4];
            object(line, &|l| drop(l.remove(gone)));
        }
    }
}

/// Ways to spoil the bytes of a log.
pub const BYTE_WAYS: usize = 10;

/// Spoils the text of line `at` in way `way`.
pub fn spoil_bytes(log: &Log, at: usize, way: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, line) in log.iter().enumerate() {
        let text = line.to_string();
        let whole = match if i == at { way } else { usize::MAX } {
            0 => format!(":::MLLOG{text}\n"),
            1 => format!(":::MLLOG {}\n", &text[..text.len() - 1]),
            2 => format!(":::MLLOG {text} and more\n"),
            3 => format!("[0] :::MLLOG {text}\r\n"),
            4 => format!(":::MLLOG broken :::MLLOG {text}\n"),
            5 => format!("{text}\n"),
            6 => ":::MLLOG [1, 2]\n".into(),
            7 => format!("50%\r:::MLLOG {text}\r"),
            8 => {
                format!("\n\n other output \u{e9}\n:::MLLOG   {}   \n", text.replace(",\"", ", \""))
            }
            9 => ":::MLLOG \n".into(),
            _ => format!(":::MLLOG {text}\n"),
        };
        out.extend(whole.into_bytes());
    }
    out
}

/// A stream of numbers that is the same on every machine.
pub struct Draw(u64);

impl Draw {
    pub fn new() -> Self {
        Draw(0)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        Philox::new(5, Stream::Planted, 0).block(self.0)[0] as usize % n
    }
}
