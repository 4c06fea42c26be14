//! ONNX files, judged by onnxruntime.

use super::*;
use dlrm_bench::{batch::Batch, workload};
use std::fmt::Write;

/// Runs `model.onnx` of each folder on the inputs that `inputs.json` lists, and writes what comes out.
const PREDICT: &str = r#"
import json, os, sys
import numpy as np, onnxruntime

for folder in sys.argv[1:]:
    at = lambda name: os.path.join(folder, name)
    session = onnxruntime.InferenceSession(at("model.onnx"), providers=["CPUExecutionProvider"])
    inputs = {}
    for name, (kind, shape) in json.load(open(at("inputs.json"))).items():
        inputs[name] = np.fromfile(at(f"in.{name}"), kind).reshape(shape)
    assert set(inputs) == {i.name for i in session.get_inputs()}, [i.name for i in session.get_inputs()]
    (prediction,) = session.run(["prediction"], inputs)
    assert prediction.dtype == np.float32 and prediction.ndim == 1
    prediction.tofile(at("out.prediction"))
"#;

const MODULES: [&str; 2] = ["numpy", "onnxruntime"];

/// Largest difference of probabilities: sums of some hundred terms in f32, in another order.
const TOLERANCE: f32 = 1e-6;

fn whole(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(|n| i64::from(n).to_le_bytes()).collect()
}

/// Writes a batch as the inputs of a model. `bags[k]` = the column is given in bags.
fn inputs(folder: &Path, batch: &Batch, names: &[String], bags: &[bool]) {
    let mut list = serde_json::Map::new();
    let mut put = |name: &str, kind: &str, shape: Vec<usize>, bytes: Vec<u8>| {
        fs::write(folder.join(format!("in.{name}")), bytes).unwrap();
        list.insert(name.to_owned(), serde_json::json!([kind, shape]));
    };
    let n = batch.len;
    if !batch.dense.is_empty() {
        let bytes = batch.dense.iter().flat_map(|x| x.to_le_bytes()).collect();
        put("dense", "<f4", vec![n, batch.dense.len() / n], bytes);
    }
    for ((name, column), bags) in names.iter().zip(&batch.bags).zip(bags) {
        let ids = column.indices.len();
        assert!(*bags || ids == n);
        put(name, "<i8", vec![ids], whole(column.indices.iter().copied()));
        if *bags {
            let starts = column.offsets[..n].iter().copied();
            put(&format!("{name}_offsets"), "<i8", vec![n], whole(starts));
        }
    }
    fs::write(folder.join("inputs.json"), Value::from(list).to_string()).unwrap();
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The predictions of `eval --predictions`.
fn own(bench: &Bench, run: &str) -> Vec<f32> {
    let args = ["eval", run, "--predictions", "scores.csv", "--json"];
    bench.good(&args);
    let text = fs::read_to_string(bench.path("scores.csv")).unwrap();
    text.lines().skip(1).map(|l| l.split_once(',').unwrap().1.parse().unwrap()).collect()
}

/// Trains, exports with `more`, and lays out the evaluation split for onnxruntime: what we predict.
fn prepared(bench: &Bench, more: &[&str]) -> Vec<f32> {
    let run = bench.train("w.toml", &[]);
    let run = run.to_str().unwrap();
    let args = ["export", run, "-o", "model.onnx"];
    bench.good(&[&args, more].concat());
    let loaded = workload::load(&bench.path("w.toml"), &[]).unwrap();
    let mut data = loaded.workload.open_data().unwrap();
    let n = data.eval.len().unwrap() as usize;
    let schema = data.eval.schema().clone();
    let mut batch = Batch::with_capacity(&schema, n);
    data.eval.fill(0, 0, n, &mut batch).unwrap();
    let names: Vec<String> = schema.tables.iter().map(|t| t.name.clone()).collect();
    let all = more.contains(&"offsets");
    let bags: Vec<bool> = schema.tables.iter().map(|t| all || t.max_hotness > 1).collect();
    inputs(bench.dir.path(), &batch, &names, &bags);
    let own = own(bench, run);
    assert_eq!(own.len(), n);
    own
}

fn close(bench: &Bench, own: &[f32], what: &str) {
    let theirs = floats(&bench.path("out.prediction"));
    assert_eq!(own.len(), theirs.len());
    let apart = own.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let spread = own.iter().copied().fold(0.0, f32::max) - own.iter().copied().fold(1.0, f32::min);
    eprintln!("{what}: at most {apart:e} apart, {spread} from the least to the most");
    assert!(apart <= TOLERANCE, "{what}: {apart}");
    // Of a model that says one thing of all nothing would be shown.
    assert!(spread > 0.01, "{what}: {spread}");
}

fn planted(data: &str, model: &str, more: &str) -> String {
    format!(
        r#"
[workload]
name = "tiny"
{more}
[data]
source = "planted"
preset = "custom"
train_samples = 2000
eval_samples = 300
{data}
[model]
{model}
[train]
batch_size = 64
max_steps = 30
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
batch_size = 300
[checkpoint]
every_steps = 30
"#
    )
}

#[test]
fn onnxruntime_predicts_what_this_program_predicts() {
    const ONE: &str = "tables = [300, 20, 3]\ndense = 5";
    const BAGS: &str = "tables = [300, 20, 3]\ndense = 5\nhotness = [3, 1, 2]";
    const NO_DENSE: &str = "tables = [300, 20, 3]\ndense = 0";
    const LAYERS: &str = "kind = \"dlrm\"\ndim = 8\nbottom = [16, 8]\ntop = [16, 8, 1]\n";
    const DEEPFM: &str = "kind = \"deepfm\"\ndim = 6\nhidden = [12, 7]\n";
    let dlrm = |more: &str| format!("{LAYERS}{more}");
    let deepfm = |more: &str| format!("{DEEPFM}{more}");
    let none: &[&str] = &[];
    let offsets: &[&str] = &["--bags", "offsets"];
    let quirk = "quirks = [\"dr.top-mlp-dead-layer\"]";
    let rows = "[engine]\nembedding_rows = \"bf16\"";
    let cases: Vec<(&str, String, &str, &[&str])> = vec![
        (ONE, dlrm(""), "", none),
        (ONE, dlrm("self_interaction = true\npad_to = 8\ndense_pad_to = 16"), "", offsets),
        (BAGS, dlrm("interaction = \"cat\"\npooling = \"mean\""), rows, none),
        (BAGS, dlrm("interaction = \"cross\"\ncross_layers = 2\ncross_rank = 3"), "", none),
        (ONE, dlrm("interaction = \"cross\"\ncross_layers = 2"), "", none),
        (ONE, dlrm("interaction = \"projection\"\nbranch1 = [12, 16]\nbranch2 = [24]"), "", none),
        (BAGS, dlrm("trick = \"qr\"\nqr_operation = \"mult\"\nqr_threshold = 10"), "", none),
        (ONE, dlrm("trick = \"qr\"\nqr_operation = \"add\"\nqr_threshold = 10"), "", offsets),
        (
            ONE,
            dlrm("trick = \"qr\"\nqr_operation = \"concat\"\nqr_threshold = 2\nbottom = [16]"),
            "",
            none,
        ),
        (BAGS, dlrm("trick = \"md\"\nmd_threshold = 10"), "", none),
        (BAGS, dlrm("pooling = \"weighted_learned\""), "", none),
        (BAGS, dlrm("pooling = \"weighted_fixed\""), "", none),
        (ONE, dlrm("batch_norm = true"), "", none),
        (ONE, dlrm(""), quirk, none),
        (ONE, deepfm("batch_norm = true\ndropout = 0.3"), "", none),
        (BAGS, deepfm(""), "", none),
        (NO_DENSE, deepfm("batch_norm = true"), "", offsets),
    ];
    let mut benches = Vec::new();
    for (data, model, more, args) in &cases {
        // Of two layers of one name the last one counts.
        let model = match model.contains("bottom = [16]") {
            true => model.replace("bottom = [16, 8]\n", ""),
            false => model.clone(),
        };
        let bench = Bench::new(&planted(data, &model, more));
        let own = prepared(&bench, args);
        let mut what = String::new();
        write!(what, "{data} {model} {more} {args:?}").unwrap();
        benches.push((bench, own, what.replace('\n', "; ")));
    }
    let folders: Vec<&Path> = benches.iter().map(|(b, ..)| b.dir.path()).collect();
    if !python(&MODULES, PREDICT, &folders) {
        return;
    }
    for (bench, own, what) in &benches {
        close(bench, own, what);
    }
}

/// A file beside the model, where that would be too large; the same model with the tensors in it.
#[test]
fn tensors_of_large_models_are_in_a_file_beside() {
    let bench = Bench::new(&planted(
        "tables = [3000, 20]\ndense = 3",
        "kind = \"dlrm\"\ndim = 4\nbottom = [4]\ntop = [8, 1]",
        "",
    ));
    let own = prepared(&bench, &["--external-above", "40000"]);
    let size = |name: &str| fs::metadata(bench.path(name)).unwrap().len();
    // The large table alone: smaller ones stay.
    assert_eq!(size("model.onnx.data"), 48_000);
    assert!(size("model.onnx") < 20_000, "{}", size("model.onnx"));
    let table = floats(&bench.path("model.onnx.data"));
    let run = bench.runs().pop().unwrap();
    let loaded = Loaded::open(&checkpoint(&run)).unwrap();
    let mut of_model = vec![0.0; 12_000];
    loaded.tensors.get("emb_l.0.weight").unwrap().copy(0, &mut of_model);
    assert!(table == of_model);
    let run = run.to_str().unwrap();
    let args = ["export", run, "-o", "model.onnx"];
    let there = bench.refused(&args, 64);
    assert!(there.contains("model.onnx is there already"), "{there}");
    if python(&MODULES, PREDICT, &[bench.dir.path()]) {
        close(&bench, &own, "a file beside");
    }
    fs::remove_file(bench.path("model.onnx")).unwrap();
    let there = bench.refused(&args, 64);
    assert!(there.contains("model.onnx.data is there already"), "{there}");
    // Within the model.
    fs::remove_file(bench.path("model.onnx.data")).unwrap();
    bench.good(&args);
    assert!(size("model.onnx") > 48_000 && !bench.path("model.onnx.data").exists());
    if python(&MODULES, PREDICT, &[bench.dir.path()]) {
        close(&bench, &own, "all in one file");
    }
}

#[test]
fn what_an_onnx_file_cannot_say_is_refused() {
    let layers = "kind = \"dlrm\"\ndim = 8\nbottom = [16, 8]\ntop = [16, 1]\nbatch_norm = true";
    let quirk = "quirks = [\"dr.bn-batch-stats-in-eval\"]";
    let bench =
        Bench::new(&planted("tables = [30, 2]\ndense = 5\nhotness = [3, 1]", layers, quirk));
    let run = bench.train("w.toml", &[]);
    let run = run.to_str().unwrap();
    let told = bench.refused(&["export", run, "-o", "x.onnx"], 64);
    assert!(told.contains("dr.bn-batch-stats-in-eval") && told.contains("x.onnx"), "{told}");
    let args = ["export", run, "-o", "x.onnx", "--set", "workload.quirks=[]", "--bags", "one"];
    let told = bench.refused(&args, 64);
    assert!(told.contains("holds up to 3 ids a sample"), "{told}");
    assert!(!bench.path("x.onnx").exists());
}

/// Bags of none to three ids, and the probabilities that facebook's own model gave.
#[test]
fn onnxruntime_predicts_what_facebooks_model_predicted() {
    let Some((expected, bags)) = expected() else { return };
    let mut benches = Vec::new();
    for (file, rule) in RULES {
        let Some(model) = shared(&format!("reference/facebook_pt/facebook_{file}.pt")) else {
            return;
        };
        let bench = Bench::new(&FACEBOOK.replace("RULE", rule));
        let model = model.to_str().unwrap();
        let args = ["export", model, "--workload", "w.toml", "-o", "model.onnx"];
        bench.good(&[&args[..], &["--bags", "offsets"]].concat());
        let floats =
            |name: &str| -> Vec<f32> { expected[name].values.iter().map(|&v| v as f32).collect() };
        let batch =
            Batch { len: 8, dense: floats("dense"), bags: bags.clone(), ..Batch::default() };
        let schema = workload::load(&bench.path("w.toml"), &[]).unwrap().workload.data_schema();
        let names: Vec<String> =
            schema.unwrap().unwrap().tables.into_iter().map(|t| t.name).collect();
        inputs(bench.dir.path(), &batch, &names, &[true; 4]);
        benches.push((bench, floats(&format!("{file}_pred"))));
    }
    assert!(bags.iter().any(|b| b.offsets.windows(2).any(|w| w[0] == w[1])));
    let folders: Vec<&Path> = benches.iter().map(|(b, _)| b.dir.path()).collect();
    if python(&MODULES, PREDICT, &folders) {
        for (bench, want) in &benches {
            close(bench, want, "facebook's");
        }
    }
}

/// Real samples: columns of text with names, and Criteo's.
#[test]
fn onnxruntime_predicts_the_same_of_real_samples() {
    let (Some(frappe), Some(criteo)) = (shared("data/frappe_x1"), shared("data/criteo_sample"))
    else {
        return;
    };
    let frappe = format!(
        r#"
workload.name = "frappe"
data = {{ source = "csv", train = "{0}/test.csv", eval = "{0}/valid.csv", label = "label" }}
model = {{ kind = "deepfm", dim = 10, hidden = [64, 32], batch_norm = true, dropout = 0.2 }}
train = {{ batch_size = 512, max_steps = 40 }}
optimizer = {{ kind = "adam", learning_rate = 1e-3 }}
eval = {{ every = "end" }}
checkpoint = {{ every_steps = 40 }}
"#,
        frappe.display()
    );
    let criteo = format!(
        r#"
workload.name = "criteo"
data = {{ source = "criteo_tsv", paths = ["{}/kaggle_8000.txt"], set = "kaggle" }}
model = {{ kind = "dlrm", dim = 16, bottom = [64, 16], top = [64, 1] }}
train = {{ batch_size = 128, max_steps = 40 }}
optimizer = {{ kind = "adagrad", learning_rate = 0.05 }}
eval = {{ every = "end" }}
checkpoint = {{ every_steps = 40 }}
"#,
        criteo.display()
    );
    let benches = [frappe, criteo].map(|workload| {
        let bench = Bench::new(&workload);
        let own = prepared(&bench, &[]);
        (bench, own)
    });
    let folders: Vec<&Path> = benches.iter().map(|(b, _)| b.dir.path()).collect();
    if python(&MODULES, PREDICT, &folders) {
        for ((bench, own), what) in benches.iter().zip(["Frappe", "Criteo"]) {
            close(bench, own, what);
        }
    }
}
