//! `dlrm-bench eval` with quantised rows and layers.

use super::{
    eval::{columns, eval, json},
    *,
};
use dlrm_bench::metrics::quality;

/// A DeepFM on the same samples.
const DEEPFM: [(&str, &str); 1] = [(
    "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]",
    "kind = \"deepfm\"\ndim = 8\nhidden = [16, 8]",
)];
/// Cross layers, rows wide enough for everything.
const CROSS: [(&str, &str); 1] = [(
    "dim = 4\nbottom = [8, 4]\ntop = [8, 1]",
    "dim = 16\nbottom = [16, 16]\ntop = [16, 1]\ninteraction = \"cross\"\ncross_layers = 2\ncross_rank = 4",
)];

/// A run with checkpoints, and its folder.
fn trained(changes: &[(&str, &str)]) -> (Bench, String) {
    let bench = Bench::new(&replace(
        &replace(DLRM, changes),
        &[
            ("epochs = 3", "epochs = 1"),
            ("eval_samples = 300", "eval_samples = 1000"),
            ("every_steps = 100", "every_steps = 900"),
        ],
    ));
    let output = bench.run("results", &["--quiet"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    let run = bench.only("results").to_str().unwrap().to_owned();
    (bench, run)
}

fn number(of: &Value, path: &str) -> f64 {
    of.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} of {of:#}"))
}

#[test]
fn quantised_models_are_judged_beside_the_saved_one() {
    for (model, changes) in [("dot", &[][..]), ("deepfm", &DEEPFM[..]), ("cross", &CROSS[..])] {
        let (bench, run) = trained(changes);
        let plain = json(&bench, &[&run]);
        assert!(plain["quantised"].is_null());
        for (rows, layers) in [
            (Some("int8"), None),
            (None, Some("int8")),
            (Some("int4"), Some("fp16")),
            (Some("int8"), Some("int8")),
        ] {
            let mut args = vec![run.as_str(), "--predictions", "q.csv"];
            rows.iter().for_each(|rows| args.extend(["--rows", rows]));
            layers.iter().for_each(|layers| args.extend(["--layers", layers]));
            let got = json(&bench, &[&args[..], &["--threads", "1"]].concat());
            assert_eq!((&got["quality"], &got["bytes"]), (&plain["quality"], &plain["bytes"]));
            let quantised = &got["quantised"];
            let what = format!("{model}: rows {rows:?}, layers {layers:?}: {quantised:#}");
            assert_eq!((quantised["rows"].as_str(), quantised["layers"].as_str()), (rows, layers));
            for metric in ["auc", "logloss"] {
                let [before, after, difference] = [
                    number(&plain, &format!("/quality/{metric}")),
                    number(quantised, &format!("/quality/{metric}")),
                    number(quantised, &format!("/difference/{metric}")),
                ];
                assert!((after - before - difference).abs() < 1e-12, "{what}");
                let most = if rows == Some("int4") { 0.02 } else { 0.005 };
                assert!(difference.abs() < most, "{what}");
            }
            let less = |of: &str| {
                number(quantised, &format!("/bytes/{of}")) < number(&plain, &format!("/bytes/{of}"))
            };
            assert_eq!(less("tables"), rows.is_some(), "{what}");
            // Codes of int8 layers fill up whole registers, which these layers do not.
            assert!(layers != Some("fp16") || less("layers"), "{what}");
            // Predictions are the quantised model's, and do not depend on threads.
            let (labels, predictions) = columns(&bench.path("q.csv"));
            let judged = serde_json::to_value(quality(&predictions, &labels).unwrap()).unwrap();
            assert_eq!(judged, quantised["quality"], "{what}");
            if (model, rows) == ("dot", Some("int4")) {
                let again = json(&bench, &[&args[..], &["--threads", "2"]].concat());
                assert_eq!(again["quantised"], *quantised);
                let alone = json(&bench, &[&args[..], &["--only-quantised"]].concat());
                assert_eq!(alone["quantised"]["quality"], quantised["quality"]);
                assert!(alone["quality"].is_null() && alone["quantised"]["difference"].is_null());
                assert_eq!(alone["bytes"], plain["bytes"]);
            }
        }
    }
}

#[test]
fn what_quantising_buys_is_shown() {
    let (bench, run) = trained(&CROSS);
    let args = [&run, "--rows", "int4", "--layers", "int8", "--latency", "1,64"];
    let told = json(&bench, &args);
    for latency in [&told["latency"], &told["quantised"]["latency"]] {
        let sizes: Vec<f64> =
            latency.as_array().unwrap().iter().map(|l| number(l, "/batch_size")).collect();
        assert_eq!(sizes, [1.0, 64.0]);
    }
    // 523 rows of 16 numbers: 8 bytes of codes, 4 of scale and bias.
    assert_eq!(number(&told, "/bytes/tables"), 523.0 * 64.0);
    assert_eq!(number(&told, "/quantised/bytes/tables"), 523.0 * 12.0);
    let shown = text(&eval(&bench, &args[..5]));
    for part in [
        "quantised   int4 rows, int8 layers\n",
        "difference  AUC ",
        "memory      tables 6.3 kB instead of 33.5 kB, layers ",
        "1,000 of the eval split",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert_eq!(shown.matches("quality     AUC ").count(), 2, "{shown}");
    assert!(shown.lines().all(|l| l.chars().count() <= 160), "{shown}");
    // Inputs are rounded by the range of a batch.
    let other = json(&bench, &[&run, "--layers", "int8", "--set", "eval.batch_size=3"]);
    let whole = json(&bench, &[&run, "--layers", "int8"]);
    assert_eq!(other["quality"], whole["quality"]);
    assert_ne!(other["quantised"]["quality"], whole["quantised"]["quality"]);
}

#[test]
fn what_cannot_be_quantised_is_refused_before_anything_is_loaded() {
    let (bench, run) = trained(&[]);
    // Nothing is read: neither a model nor data that are not there come into it.
    let gone = ["--set", "data.eval_samples=999999999999"];
    for (args, told) in [
        (
            &["--rows", "int4", "--engine", "candle"][..],
            "engine.kind is candle; a quantised model is computed by fused",
        ),
        (
            &["--layers", "fp16", "--device", "cuda:0"],
            "engine.device is cuda:0; a quantised model is computed by the CPU",
        ),
        (&["--rows", "int3"], "[possible values: int8, int4]"),
        (&["--layers", "int4"], "[possible values: int8, fp16]"),
        (&["--only-quantised"], "--only-quantised needs --rows or --layers"),
    ] {
        let output = eval(&bench, &[&[run.as_str()], args, &gone[..]].concat());
        assert_eq!(code(&output), 64, "{args:?}: {}", text(&output));
        assert!(text(&output).contains(told), "{args:?}: {}", text(&output));
    }
}

/// 200,000 rows of 16 numbers: 12.8 MB, or 2.4 MB of int4 and 4.2 MB of a part while they are made.
#[test]
fn a_model_that_does_not_fit_can_be_judged_quantised() {
    let (bench, run) = trained(&[
        ("tables = [500, 20, 3]", "tables = [200000, 20, 3]"),
        ("dim = 4\nbottom = [8, 4]", "dim = 16\nbottom = [8, 16]"),
    ]);
    let within = |bytes: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(bench.dir.path()).arg("eval").arg(&run).args(args);
        command.args(["--set", "eval.batch_size=64"]);
        command.env("DLRM_BENCH_MEMORY_LIMIT", bytes).output().unwrap()
    };
    let int4 = ["--rows", "int4", "--only-quantised"];
    for (limit, args, wanted) in
        [("10000000", &int4[..], 0), ("10000000", &int4[..2], 71), ("5000000", &int4[..], 71)]
    {
        let output = within(limit, args);
        assert_eq!(code(&output), wanted, "{limit} {args:?}: {}", text(&output));
        assert_eq!(text(&output).contains("not enough memory"), wanted == 71);
    }
}
