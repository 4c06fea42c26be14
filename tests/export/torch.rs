//! Files of PyTorch.

use super::*;
use candle_core::pickle::PthTensors;

/// Compares what Python makes of two files of facebook's, key by key and bit by bit. It needs no torch:
/// a tensor is rebuilt with numpy.
const COMPARE: &str = r#"
import pickle, sys, zipfile
import numpy as np

def load(path):
    z = zipfile.ZipFile(path)
    pickled = [n for n in z.namelist() if n.endswith("/data.pkl")][0]
    root = pickled[: -len("data.pkl")]
    for entry in z.infolist():
        assert entry.compress_type == zipfile.ZIP_STORED
    assert z.testzip() is None
    assert z.read(root + "version") == b"3\n" and z.read(root + "byteorder") == b"little"
    assert len(z.read(root + ".data/serialization_id")) == 40

    def tensor(storage, offset, size, stride, requires_grad, hooks):
        assert len(size) == len(stride) and not requires_grad and not hooks
        strides = [4 * s for s in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return tensor
            if module == "torch":
                return name
            return super().find_class(module, name)

        def persistent_load(self, at):
            kind, of, key, device, numbers = at
            assert (kind, of, device) == ("storage", "FloatStorage", "cpu"), at
            values = np.frombuffer(z.read(f"{root}data/{key}"), "<f4")
            assert len(values) == numbers
            return values

    return Reader(z.open(pickled)).load()

def same(a, b, at):
    if isinstance(a, dict):
        assert type(a) is type(b) and set(a) == set(b), (at, set(a) ^ set(b))
        if at == "/state_dict":
            assert list(a) == list(b)
        for key in a:
            same(a[key], b[key], f"{at}/{key}")
    elif isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b), at
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{at}/{i}")
    elif isinstance(a, np.ndarray):
        assert a.shape == b.shape and a.tobytes() == b.tobytes(), at
    else:
        assert a == b, (at, a, b)

same(load(sys.argv[1]), load(sys.argv[2]), "")
"#;

#[test]
fn a_model_of_facebooks_program_goes_in_and_comes_out_equal() {
    for (file, rule) in RULES {
        let Some(original) = shared(&format!("reference/facebook_pt/facebook_{file}.pt")) else {
            return;
        };
        let bench = Bench::new(&FACEBOOK.replace("RULE", rule));
        let model = original.to_str().unwrap();
        bench.good(&["export", model, "--workload", "w.toml", "-o", "out.pt"]);
        let (before, after) =
            [&original, &bench.path("out.pt")].map(|p| Loaded::file(p).unwrap()).into();
        same(&tensors(&before), &tensors(&after), rule);
        assert_eq!(before.progress, after.progress);
        assert_eq!(after.rule(), Some((rule, if rule == "sgd" { 0 } else { 6 })));
        let counters = after.counters().unwrap();
        assert_eq!((counters.epoch, counters.iter, counters.nbatches), (0, 6, 6));
        assert!(counters.train_loss.is_some() && counters.test_acc.is_some());
        // Whoever knows the format reads it.
        let candle = PthTensors::new(bench.path("out.pt"), Some("state_dict")).unwrap();
        let rows = candle.get("emb_l.0.weight").unwrap().unwrap();
        assert_eq!(rows.dims(), [40, 16]);
        let bits: Vec<u32> = rows
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f32::to_bits)
            .collect();
        let own = tensors(&after).into_iter().find(|(name, ..)| name == "emb_l.0.weight").unwrap();
        assert_eq!(own.2, bits);
        python(&["numpy"], COMPARE, &[&original, &bench.path("out.pt")]);
    }
}

const RUN: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "custom"
tables = [500, 20, 3]
dense = 2
train_samples = 640
eval_samples = 300
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 64
epochs = 3
max_steps = 27
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
every_steps = 10
[checkpoint]
every_steps = 9
keep = 9
"#;

#[test]
fn a_checkpoint_leaves_as_facebooks_program_would_have_saved_it() {
    for (rule, more) in
        [("adagrad", ""), ("rowwise_adagrad", ""), ("adam", "rows = \"dense\""), ("sgd", "")]
    {
        let kind = format!("kind = \"{rule}\"\n{more}");
        let bench = Bench::new(&RUN.replace("kind = \"adagrad\"", &kind));
        let run = bench.train("w.toml", &[]);
        let of = run.join("checkpoints/step-000000000018");
        bench.good(&["export", of.to_str().unwrap(), "-o", "x.pt"]);
        let (checkpoint, left) =
            (Loaded::open(&of).unwrap(), Loaded::file(&bench.path("x.pt")).unwrap());
        same(&tensors(&left), &tensors(&checkpoint), rule);
        assert_eq!(left.rule(), Some((rule, if rule == "sgd" { 0 } else { 18 })));
        // Ten steps an epoch: eight of the second are done.
        let c = left.counters().unwrap();
        assert_eq!((c.nepochs, c.nbatches, c.epoch, c.iter), (3, 10, 1, 8));
        assert!(c.train_loss.unwrap() > 0.0 && c.test_acc.unwrap() > 0.0);
        // The parameters alone, and those of a file.
        bench.good(&["export", of.to_str().unwrap(), "-o", "x.safetensors"]);
        let alone = Loaded::file(&bench.path("x.safetensors")).unwrap();
        let all = tensors(&checkpoint);
        let of_model: Vec<_> = tensors(&alone);
        assert!(of_model.iter().all(|t| all.contains(t)) && of_model.len() == 11, "{rule}");
        bench.good(&["export", "x.safetensors", "--workload", "w.toml", "-o", "y.pt"]);
        let again = Loaded::file(&bench.path("y.pt")).unwrap();
        same(&tensors(&again), &of_model, rule);
        assert_eq!(again.rule(), None);
    }
}

/// facebook's program keeps weights of rows that stay 1 to itself; a file is whole without them.
#[test]
fn weights_that_stay_1_may_be_missing() {
    let layers = "top = [8, 1]\npooling = \"weighted_fixed\"";
    let bench = Bench::new(&RUN.replace("top = [8, 1]", layers));
    let run = bench.train("w.toml", &[]);
    let run = run.to_str().unwrap();
    bench.good(&["export", run, "-o", "x.pt"]);
    let left = Loaded::file(&bench.path("x.pt")).unwrap();
    assert!(left.tensors.names().all(|name| !name.starts_with("v_W_l")));
    let quality = |args: &[&str]| -> Value {
        let told = bench.good(&[&["eval", "--json"], args].concat());
        serde_json::from_str::<Value>(&told).unwrap()["quality"].clone()
    };
    assert_eq!(quality(&["x.pt", "--workload", "w.toml"]), quality(&[run]));
    for name in ["x.onnx", "x.safetensors"] {
        bench.good(&["export", "x.pt", "--workload", "w.toml", "-o", name]);
    }
    // With weights that are trained they belong to the model.
    let set = "model.pooling=weighted_learned";
    let args = ["export", "x.pt", "--workload", "w.toml", "--set", set, "-o", "y.onnx"];
    let told = bench.refused(&args, 65);
    assert!(told.contains("has no tensor v_W_l.0"), "{told}");
}

#[test]
fn what_cannot_be_exported_is_said_in_a_line() {
    let bench = Bench::new(RUN);
    let run = bench.train("w.toml", &["optimizer.kind=adam_async"]);
    let run = run.to_str().unwrap();
    let said = bench.good(&["export", run, "-o", "x.pt"]);
    assert!(
        said.contains("the optimizer's state is left out: PyTorch has no adam_async"),
        "{said}"
    );
    let there = bench.refused(&["export", run, "-o", "x.pt"], 64);
    assert!(there.contains("x.pt is there already; --force writes over it"), "{there}");
    bench.good(&["export", run, "-o", "x.pt", "--force"]);
    for (args, code, told) in [
        (vec![run, "-o", "x.h5"], 64, "x.h5: must end in .pt, .onnx, .safetensors"),
        (vec![run, "-o", "no/x.pt"], 74, "no/x.pt"),
        (vec![run, "-o", "y.pt", "--set", "model.top=[9, 1]"], 65, "top_l.0.weight has the shape"),
        (vec!["x.pt", "-o", "y.pt"], 64, "say with --workload what the model is"),
        (vec!["w.toml", "--workload", "w.toml", "-o", "y.pt"], 65, "is no file of torch.save"),
    ] {
        let line = bench.refused(&[&["export"], &args[..]].concat(), code);
        assert!(line.contains(told), "{line}");
    }
    assert!(!bench.path("y.pt").exists());
    // A file that ends early is no model.
    let bytes = fs::read(bench.path("x.pt")).unwrap();
    fs::write(bench.path("cut.pt"), &bytes[..bytes.len() / 2]).unwrap();
    let cut = bench.refused(&["export", "cut.pt", "--workload", "w.toml", "-o", "y.pt"], 65);
    assert!(cut.contains("cut.pt: is no file of torch.save"), "{cut}");
}
