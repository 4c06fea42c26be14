//! `dlrm-bench eval`: a saved model has the metrics that its run had.

use super::*;
use dlrm_bench::metrics::quality;

pub fn eval(bench: &Bench, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(bench.dir.path()).arg("eval").args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

pub fn json(bench: &Bench, args: &[&str]) -> Value {
    let output = eval(bench, &[args, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Label and prediction of each line of a csv.
pub fn columns(path: &Path) -> (Vec<f32>, Vec<f32>) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("label,prediction"));
    lines
        .map(|line| {
            let (label, prediction) = line.split_once(',').unwrap();
            (label.parse::<f32>().unwrap(), prediction.parse::<f32>().unwrap())
        })
        .unzip()
}

#[test]
fn a_saved_model_has_the_metrics_of_its_run() {
    let workload = replace(
        DLRM,
        &[
            ("epochs = 3", "epochs = 2\nmax_steps = 620"),
            ("every_steps = 100", "every_steps = 100\nbest = true\nkeep = 9"),
            ("[train]", "[engine]\nembedding_rows = \"bf16\"\n[train]"),
        ],
    );
    let bench = Bench::new(&workload);
    let output = bench.run("results", &["--quiet"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    let run = bench.only("results");
    let record = record::read(&run.join("run.json")).unwrap();
    let at = |step: u64| {
        let e = record.evaluations.iter().find(|e| e.step == step).unwrap();
        serde_json::to_value(e.quality).unwrap()
    };
    // Of the run: its best. Of a checkpoint: that one.
    let best = record.evaluations.iter().max_by(|a, b| a.quality.auc.total_cmp(&b.quality.auc));
    let best = best.unwrap().step;
    let of_run = json(&bench, &[run.to_str().unwrap()]);
    assert_eq!((&of_run["quality"], &of_run["step"]), (&at(best), &best.into()));
    for (step, threads) in [(300, "1"), (600, "2"), (620, "1")] {
        let model = run.join(format!("checkpoints/step-{step:012}"));
        let own = json(&bench, &[model.to_str().unwrap(), "--threads", threads]);
        assert_eq!((&own["quality"], &own["split"]), (&at(step), &"eval".into()));
    }
    let model = run.join("checkpoints/step-000000000300");
    let model = model.to_str().unwrap();
    // candle predicts the same to rounding, from rows of 16 bits.
    let candle = json(&bench, &[model, "--engine", "candle"]);
    let near =
        candle["quality"]["logloss"].as_f64().unwrap() - at(300)["logloss"].as_f64().unwrap();
    assert!(near.abs() < 1e-5, "{near}");
    // Other samples: those that were trained on, and more of the evaluation's.
    let train = json(&bench, &[model, "--split", "train"]);
    assert_eq!(train["quality"]["samples"], 30000);
    let more = json(&bench, &[model, "--set", "data.eval_samples=999"]);
    assert_eq!(more["quality"]["samples"], 999);
    for name in ["scores.csv", "scores.parquet"] {
        let told = json(&bench, &[model, "--predictions", name, "--latency", "1,64"]);
        assert_eq!(told["quality"], at(300));
        let latency = told["latency"].as_array().unwrap();
        assert_eq!(latency.len(), 2);
        for (of, size) in latency.iter().zip([1.0, 64.0]) {
            let number = |key: &str| of[key].as_f64().unwrap();
            assert!(number("batch_size") == size && number("batches") >= 20.0);
            assert!(number("p50") <= number("p95") && number("p95") <= number("p99"));
            assert!(number("p50") > 0.0 && number("samples_per_second") > 0.0);
        }
    }
    let (labels, predictions) = columns(&bench.path("scores.csv"));
    let judged = serde_json::to_value(quality(&predictions, &labels).unwrap()).unwrap();
    assert_eq!(judged, at(300));
    let parquet = fs::read(bench.path("scores.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let shown = eval(&bench, &[model, "--latency", "16"]);
    let shown = text(&shown);
    assert!(shown.contains("after step 300") && shown.contains("300 of the eval split"), "{shown}");
    assert!(shown.contains("batch 16: p50 "), "{shown}");
    assert!(shown.lines().all(|l| l.chars().count() <= 160), "{shown}");
}

#[test]
fn what_cannot_be_judged_is_said_in_a_line() {
    let bench = Bench::new(&replace(DLRM, &[("epochs = 3", "max_steps = 20")]));
    let output = bench.run("results", &["--quiet"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    let run = bench.only("results");
    let run = run.to_str().unwrap();
    let model = format!("{run}/checkpoints/step-000000000020");
    fs::create_dir(bench.path("empty")).unwrap();
    for (args, wanted, told) in [
        (vec!["empty"], 64, "empty is no folder of a run"),
        (vec![run, "--split", "test"], 65, "no test split"),
        (vec![run, "--set", "model.top=[9, 1]"], 65, "top_l.0.weight has the shape"),
        (vec![run, "--set", "data.tables=[500, 20]"], 65, "this model's has"),
        (vec![run, "--set", "data.tables=[500, 20, 3, 2]"], 65, "it is of another model"),
        (vec![run, "--predictions", "x.json"], 74, "must end in .csv or .parquet"),
        (vec![run, "--predictions", "no/x.csv"], 74, "no/x.csv"),
        (vec![run, "--latency", "0"], 64, "must be a whole number from 1"),
        (vec![run, "--latency", "301"], 64, "must be at most 300"),
        (vec![&model, "--workload", "none.toml"], 64, "none.toml"),
    ] {
        let output = eval(&bench, &args);
        assert_eq!(code(&output), wanted, "{args:?}: {}", text(&output));
        assert!(text(&output).contains(told), "{args:?}: {}", text(&output));
    }
    // Moved away from its run it is a model still.
    fs::rename(&model, bench.path("moved")).unwrap();
    let alone = eval(&bench, &["moved"]);
    assert!(code(&alone) == 64 && text(&alone).contains("--workload"), "{}", text(&alone));
    assert_eq!(json(&bench, &["moved", "--workload", "w.toml"])["step"], 20);
}
