//! Training that begins with a saved model.

use super::*;
use dlrm_bench::{
    data::{
        format::{self, Format},
        rows::{Hotness, Layout, Numbers, Rows},
    },
    results::{metrics, record, tree},
};

/// Sums of some ten numbers below 1 in another order.
const TOLERANCE: f32 = 2e-7;

/// One step of facebook's from what it had saved, as this program takes it.
#[test]
fn the_next_step_of_facebooks_program_is_taken_here() {
    let Some((expected, bags)) = expected() else { return };
    let floats =
        |name: &str| -> Vec<f32> { expected[name].values.iter().map(|&v| v as f32).collect() };
    for (file, rule) in RULES {
        let Some(model) = shared(&format!("reference/facebook_pt/facebook_{file}.pt")) else {
            return;
        };
        // The original's RWSAdagrad fills its accumulators anew at its first step, whatever was loaded
        // (optim/rwsadagrad.py, `momentum_initialized`): its step is one from the parameters alone.
        let forgets = rule == "rowwise_adagrad";
        let model = if forgets { "alone.safetensors".into() } else { model.display().to_string() };
        let bench = Bench::new(&format!(
            r#"
workload.name = "next"
data = {{ source = "parquet", train = "x.parquet", eval = "x.parquet", tables = [40, 7, 3, 1], hotness = [3, 3, 3, 3] }}
model = {{ kind = "dlrm", dim = 16, bottom = [8, 16], top = [8, 4, 1] }}
train = {{ batch_size = 8, max_steps = 1, start_from = "{model}" }}
optimizer = {{ kind = "{rule}", learning_rate = 0.1 }}
eval = {{ every = "never" }}
checkpoint = {{ every_steps = 1 }}
"#
        ));
        if forgets {
            let of = shared(&format!("reference/facebook_pt/facebook_{file}.pt")).unwrap();
            bench.write("f.toml", &FACEBOOK.replace("RULE", rule));
            let args = ["export", of.to_str().unwrap(), "--workload", "f.toml", "-o", &model];
            bench.good(&args);
        }
        let layout = Layout::numbered(13, Numbers::Float32, [Hotness::Any; 4]);
        let rows = Rows {
            labels: floats("labels"),
            dense: floats("dense").into_iter().map(f64::from).collect(),
            ids: bags.clone(),
        };
        let mut writer =
            format::create(&bench.path("x.parquet"), Format::Parquet, &layout).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let run = bench.train("w.toml", &[]);
        let loss = metrics::read(&run.join("metrics.parquet")).unwrap().loss[0];
        let want = floats(&format!("{file}_loss"))[0];
        assert!((loss - want).abs() <= TOLERANCE, "{rule}: {loss} {want}");
        let after = Loaded::open(&checkpoint(&run)).unwrap();
        let prefix = format!("{file}_after_");
        let mut compared = 0;
        for name in expected.keys().filter_map(|key| key.strip_prefix(&prefix)) {
            let view = after.tensors.get(name).unwrap();
            let mut got = vec![0.0; view.shape.iter().product()];
            view.copy(0, &mut got);
            for (got, want) in got.iter().zip(floats(&format!("{prefix}{name}"))) {
                assert!((got - want).abs() <= TOLERANCE, "{rule} {name}: {got} {want}");
            }
            compared += 1;
        }
        assert!(compared >= 3, "{compared}");
        let notes = record::read(&run.join("run.json")).unwrap().data.unwrap().notes;
        let told = match rule {
            "sgd" => "optimizer state are those of",
            "adagrad" => "after 6 updates",
            _ => "not the optimizer's state, of which there is none",
        };
        assert!(notes.iter().any(|n| n.contains(told)), "{notes:?}");
    }
}

const RUN: &str = r#"
workload.name = "tiny"
data = { source = "planted", preset = "custom", tables = [500, 20, 3], dense = 2, train_samples = 640, eval_samples = 300 }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 64, max_steps = 5 }
optimizer = { kind = "adagrad", learning_rate = 0.1 }
eval = { every_steps = 5, batch_size = 300 }
checkpoint = { every_steps = 5, initial = true, keep = 9 }
"#;

#[test]
fn a_run_begins_with_the_model_and_state_of_another() {
    let bench = Bench::new(RUN);
    let first = bench.train("w.toml", &[]);
    let end = checkpoint(&first);
    for name in ["end.pt", "end.safetensors"] {
        bench.good(&["export", end.to_str().unwrap(), "-o", name]);
    }
    let start = |from: &str, more: &[&str]| {
        let from = format!("train.start_from={from}");
        let run = bench.train("w.toml", &[&[from.as_str()][..], more].concat());
        let began = Loaded::open(&run.join("checkpoints/step-000000000000")).unwrap();
        (run, began)
    };
    let saved = tensors(&Loaded::open(&end).unwrap());
    let model = |all: &[(String, Vec<usize>, Vec<u32>)]| {
        let own = |t: &&(String, _, _)| !t.0.contains("sum_of");
        all.iter().filter(own).cloned().collect::<Vec<_>>()
    };
    // From a checkpoint, or the file made of it, with all that is in it.
    let (of_folder, began) = start(end.to_str().unwrap(), &[]);
    same(&tensors(&began), &saved, "all");
    assert_eq!(began.rule(), Some(("adagrad", 5)));
    let (of_file, began) = start("end.pt", &[]);
    same(&tensors(&began), &saved, "all");
    let ends = [&of_folder, &of_file].map(|run| tensors(&Loaded::open(&checkpoint(run)).unwrap()));
    assert!(ends[0] == ends[1] && ends[0] != saved);
    // Without state, or with that of another rule, the parameters alone.
    let notes = |run: &Path| record::read(&run.join("run.json")).unwrap().data.unwrap().notes;
    let (run, began) = start("end.safetensors", &[]);
    same(&model(&tensors(&began)), &model(&saved), "parameters");
    assert!(tensors(&began) != saved);
    assert!(notes(&run).iter().any(|n| n.contains("of which there is none")), "{:?}", notes(&run));
    let (run, began) = start("end.pt", &["optimizer.kind=sgd"]);
    same(&tensors(&began), &model(&saved), "parameters alone");
    assert!(notes(&run).iter().any(|n| n.contains("which is of adagrad")), "{:?}", notes(&run));

    // Runs are told apart by what the file holds, not by its name.
    fs::copy(bench.path("end.pt"), bench.path("copy.pt")).unwrap();
    let (of_copy, _) = start("copy.pt", &[]);
    let fact = |run: &Path| record::read(&run.join("run.json")).unwrap().started_from;
    assert!(fact(&of_file).is_some() && fact(&of_file) == fact(&of_copy));
    assert_eq!(fact(&first), None);
    let key = |run: &Path| {
        let found = tree::read(&[run.display().to_string()]);
        assert_eq!(found.runs.len(), 1);
        found.runs[0].key.clone()
    };
    assert_eq!(key(&of_file), key(&of_copy));
    assert_ne!(key(&of_file), key(&of_folder));
    assert_ne!(key(&of_file), key(&first));
    // A run that is taken up does not begin anew with the model.
    let stopped = bench.path("w.toml");
    let text = RUN.replace("max_steps = 5", "max_steps = 10, start_from = \"end.pt\"");
    fs::write(&stopped, text).unwrap();
    let run = bench.train("w.toml", &[]);
    let want = tensors(&Loaded::open(&checkpoint(&run)).unwrap());
    let json = run.join("run.json");
    fs::remove_file(&json).unwrap();
    fs::remove_dir_all(run.join("checkpoints/step-000000000010")).unwrap();
    bench.good(&[
        "run",
        "--resume",
        run.to_str().unwrap(),
        "--quiet",
        "--no-plots",
        "--no-ceilings",
    ]);
    same(&tensors(&Loaded::open(&checkpoint(&run)).unwrap()), &want, "resumed");
    assert_eq!(fact(&run), fact(&of_file));
}

#[test]
fn a_model_that_does_not_fit_begins_nothing() {
    let bench = Bench::new(RUN);
    bench.write("no.pt", "no zip");
    fs::create_dir(bench.path("folder")).unwrap();
    let first = bench.train("w.toml", &[]);
    let end = checkpoint(&first);
    let end = end.to_str().unwrap();
    let before = bench.runs();
    for (from, more, code, told) in [
        ("none.pt", "train.seed=1", 65, "none.pt"),
        ("no.pt", "train.seed=1", 65, "is no file of torch.save"),
        ("folder", "train.seed=1", 65, "is no checkpoint; name one"),
        (end, "model.top=[9, 1]", 65, "top_l.0.weight has the shape"),
        (end, "mlperf.division=closed", 64, "mlperf.division"),
    ] {
        let from = format!("train.start_from={from}");
        let args = [
            "run",
            "w.toml",
            "--quiet",
            "--no-plots",
            "--no-ceilings",
            "--set",
            &from,
            "--set",
            more,
        ];
        let line = bench.refused(&args, code);
        assert!(line.contains(told), "{line}");
    }
    assert_eq!(bench.runs(), before);
}
