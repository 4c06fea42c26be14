//! `dlrm-bench plan --simulate` through the binary: its table, and what it says of published steps.

use dlrm_bench::engine::ranks::machines::{KEPT_BACK, MACHINES, Published};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
};

fn plan(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir.path())
        .arg("plan")
        .args(args)
        .env_remove("CRITEO_1TB")
        .output()
        .unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = plan(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(args: &[&str]) -> String {
    let output = plan(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(output.stdout.is_empty(), "{error}");
    error
}

fn predictions(args: &[&str]) -> Vec<Value> {
    let text = stdout(&[args, &["--simulate", "--json"]].concat());
    let all: Value = serde_json::from_str(&text).unwrap();
    all["predictions"].as_array().unwrap().clone()
}

fn milliseconds(row: &Value) -> f64 {
    row["seconds"].as_f64().unwrap() * 1e3
}

/// What the model says of a published step, in the way of the program that made it.
fn predicted(machine: &str, step: &Published) -> f64 {
    let (ranks, batch) = (step.ranks.to_string(), format!("train.batch_size={}", step.batch));
    let all = predictions(&[
        step.workload,
        "--machine",
        machine,
        "--split",
        "--message-bytes",
        "2",
        "--ranks",
        &ranks,
        "--set",
        &batch,
    ]);
    assert_eq!(all[0]["batch"], step.batch, "{step:?}");
    milliseconds(&all[0])
}

#[test]
fn a_machine_does_the_step_that_it_was_set_by() {
    for machine in MACHINES {
        let got = predicted(machine.name, &machine.calibrated);
        let error = got / machine.calibrated.milliseconds - 1.0;
        println!("{}: {got:.4} ms, {:+.2}%", machine.name, 100.0 * error);
        assert!(error.abs() < 0.01, "{}: {got} ms", machine.name);
    }
}

#[test]
fn errors_at_steps_that_were_kept_back_are_as_told() {
    for (machine, step, told) in KEPT_BACK {
        let got = predicted(machine, &step);
        let error = got / step.milliseconds - 1.0;
        println!("{machine}, {step:?}: {got:.4} ms, {:+.2}%", 100.0 * error);
        assert!((error - told).abs() < 0.006, "{machine}, {step:?}: {error}");
    }
    let of = |name| KEPT_BACK.iter().filter(|(machine, ..)| *machine == name).count();
    assert!(MACHINES.iter().all(|m| of(m.name) > 0));
}

/// Milliseconds of a step between evaluations: the median of each log, and of them.
fn logged(folder: &Path) -> f64 {
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
    };
    let logs = std::fs::read_dir(folder).unwrap().flatten().map(|f| f.path());
    let logs = logs.filter(|p| p.extension().is_some_and(|e| e == "txt"));
    let one = |path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let events = text.lines().filter_map(|l| l.split_once(":::MLLOG "));
        let events: Vec<Value> =
            events.map(|(_, json)| serde_json::from_str(json).unwrap()).collect();
        let of = |key: &'static str| events.iter().filter(move |e| e["key"] == key);
        let batch = of("global_batch_size").next().unwrap()["value"].as_f64().unwrap();
        let at = |e: &Value| {
            (e["metadata"]["epoch_num"].as_f64().unwrap(), e["time_ms"].as_f64().unwrap())
        };
        // Every host may log; the first begins, the last ends.
        let (mut begins, mut ends): (Vec<_>, Vec<_>) =
            (of("eval_start").map(at).collect(), of("eval_stop").map(at).collect());
        begins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        begins.dedup_by_key(|e| e.0);
        ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        ends.dedup_by_key(|e| e.0);
        let pairs = ends.iter().zip(&begins[1..]);
        median(pairs.map(|(a, b)| (b.1 - a.1) / ((b.0 - a.0) * 4_195_197_692.0 / batch)).collect())
    };
    median(logs.map(one).collect())
}

#[test]
fn published_steps_are_those_of_the_logs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mlperf/published");
    let steps = MACHINES.iter().map(|m| m.calibrated).chain(KEPT_BACK.iter().map(|k| k.1));
    let mut checked = 0;
    for step in steps {
        let place = step.place.strip_prefix("training_results_").unwrap();
        let folder = ["dlrm", "dlrm_dcnv2"].map(|task| root.join(place).join(task));
        let Some(folder) = folder.iter().find(|f| f.is_dir()) else { continue };
        let got = logged(folder);
        assert!((got / step.milliseconds - 1.0).abs() < 0.003, "{step:?}: {got}");
        checked += 1;
    }
    match root.is_dir() {
        true => assert!(checked >= 4, "{checked}"),
        false => eprintln!("skipped: {} is not here", root.display()),
    }
}

/// Figures that are easy to reckon with, and one host.
const PLAIN: [&str; 10] = [
    "quickstart",
    "--flops",
    "1e9",
    "--row-bandwidth",
    "1000000000",
    "--link",
    "1000000000",
    "--latency",
    "100",
    "--simulate",
];

fn plain(more: &[&str]) -> Vec<Value> {
    let text = stdout(&[&PLAIN[..], more, &["--json"]].concat());
    serde_json::from_str::<Value>(&text).unwrap()["predictions"].as_array().unwrap().clone()
}

#[test]
fn parts_are_those_of_the_formula() {
    let all = plain(&["--ranks", "1,4"]);
    let (one, four) = (&all[0]["parts"], &all[1]["parts"]);
    assert_eq!((one["exchanges"].as_f64(), one["sums"].as_f64()), (Some(0.0), Some(0.0)));
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    near(4.0 * four["dense"].as_f64().unwrap(), one["dense"].as_f64().unwrap());
    near(four["fixed"].as_f64().unwrap(), one["fixed"].as_f64().unwrap());
    // The exchanges and sums of the plan itself, whose ranks are hosts of their own too.
    let plan = stdout(&[
        "quickstart",
        "--ranks",
        "4",
        "--link",
        "1000000000",
        "--latency",
        "100",
        "--json",
    ]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    for part in ["exchanges", "sums"] {
        near(1e3 * four[part].as_f64().unwrap(), plan["messages_ms"][part].as_f64().unwrap());
    }
    let busiest = plan["placement"]["loads"].as_array().unwrap().iter();
    let busiest = busiest.map(|l| l["work"].as_u64().unwrap()).max().unwrap() as f64;
    near(four["rows"].as_f64().unwrap(), busiest * plan["batch_size"].as_f64().unwrap() / 1e9);
    let parts = ["fixed", "dense", "rows", "exchanges", "sums"];
    let sum: f64 = parts.map(|p| four[p].as_f64().unwrap()).iter().sum();
    near(all[1]["seconds"].as_f64().unwrap(), sum);
}

#[test]
fn weak_scaling_keeps_what_a_rank_computes() {
    let (strong, weak) = (plain(&["--ranks", "2,4,8"]), plain(&["--ranks", "2,4,8", "--weak"]));
    assert_eq!(strong[0], weak[0]);
    for (i, factor) in [(1, 2), (2, 4)] {
        assert_eq!(strong[i]["batch"], strong[0]["batch"]);
        assert_eq!(weak[i]["batch"].as_u64(), strong[0]["batch"].as_u64().map(|b| b * factor));
        assert_eq!(weak[i]["parts"]["dense"], weak[0]["parts"]["dense"]);
        let more = |rows: &[Value]| rows[i]["efficiency"].as_f64().unwrap();
        assert!(more(&weak) > more(&strong), "{weak:?} {strong:?}");
    }
}

#[test]
fn jitter_is_drawn_from_its_seed_and_only_delays() {
    let with = |jitter: &str, seed: &str| {
        let rows = plain(&["--ranks", "8,64", "--jitter", jitter, "--seed", seed]);
        rows.iter().map(milliseconds).collect::<Vec<_>>()
    };
    let calm = plain(&["--ranks", "8,64"]).iter().map(milliseconds).collect::<Vec<_>>();
    assert_eq!(with("0", "1"), calm);
    assert_eq!(with("0.1", "1"), with("0.1", "1"));
    assert_ne!(with("0.1", "1"), with("0.1", "2"));
    let (little, much) = (with("0.01", "1"), with("0.3", "1"));
    for i in 0..2 {
        assert!(calm[i] < little[i] && little[i] < much[i], "{calm:?} {little:?} {much:?}");
    }
}

#[test]
fn a_table_of_8_to_1024_ranks_fits_a_terminal_and_says_what_is_assumed() {
    let all = ["mlperf-v2", "--simulate", "--machine", "dgx-h100", "--jitter", "0.02"];
    for more in [&[][..], &["--split", "--message-bytes", "2", "--weak"]] {
        let text = stdout(&[&all[..], more].concat());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let first = text.lines().skip(1).map_while(|l| l.split_whitespace().next());
        let ranks: Vec<&str> = first.collect();
        assert_eq!(ranks, ["8", "16", "32", "64", "128", "256", "512", "1024"]);
        for told in ["assumed:", "left out:", "seed 1", "% of its peak rates", "tried with --split"]
        {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}

#[test]
fn a_run_of_one_rank_is_predicted_from_itself() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["data.max_rows=1000", "data.eval_samples=500", "train.batch_size=64"]
        .map(|set| ["--set", set]);
    let small = small.as_flattened();
    let run = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir.path())
        .args(["run", "quickstart", "--no-ceilings", "--no-plots", "--quiet", "--steps", "4"])
        .args(["--threads", "1", "--set", "mlperf.platform=here"])
        .args(small)
        .output()
        .unwrap();
    assert!(run.status.code().is_some_and(|c| c < 2), "{}", String::from_utf8_lossy(&run.stderr));
    let mut runs = std::fs::read_dir(dir.path().join("results/here/quickstart")).unwrap().flatten();
    let folder = runs.next().unwrap().path();
    let like = ["quickstart", "--like", folder.to_str().unwrap(), "--ranks", "1,2"];
    let link = ["--ranks-per-host", "2", "--link-inside", "1000000000", "--latency-inside", "1.5"];
    let all = predictions(&[&like[..], &link, small].concat());
    let record: Value =
        serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let phases = record["phases"].as_array().unwrap().iter();
    let seconds: f64 = phases.map(|p| p["seconds"].as_f64().unwrap()).sum();
    let step = seconds / record["outcome"]["steps"].as_f64().unwrap();
    let got = all[0]["seconds"].as_f64().unwrap();
    assert!((got / step - 1.0).abs() < 1e-6, "{got} {step}");
    let (one, two) = (&all[0]["parts"], &all[1]["parts"]);
    let half = two["dense"].as_f64().unwrap() / one["dense"].as_f64().unwrap();
    assert!((half - 0.5).abs() < 1e-6, "{half}");
    assert!(two["exchanges"].as_f64().unwrap() > 3e-6);
    let other = refusal(&[&["kaggle", "--simulate"], &like[1..]].concat());
    assert!(other.contains("a run of quickstart, not of kaggle"), "{other}");
    let none = refusal(&["quickstart", "--simulate", "--like", "nowhere"]);
    assert!(none.contains("nowhere"), "{none}");
}

#[test]
fn what_is_missing_or_of_no_use_is_named() {
    for (args, told) in [
        (&["quickstart", "--simulate"][..], "--simulate needs --link,"),
        (&["quickstart", "--simulate", "--ranks", "1"], "--simulate needs --flops,"),
        (&["quickstart", "--simulate", "--ranks", "1", "--flops", "1e9"], "--row-bandwidth,"),
        (
            &["quickstart", "--simulate", "--ranks", "2", "--ranks-per-host", "2"],
            "--simulate needs --link-inside,",
        ),
        (&["quickstart", "--simulate", "--machine", "toaster"], "dgx-h100"),
        (
            &["quickstart", "--simulate", "--machine", "dgx-h100", "--ranks", "4,2"],
            "least to the most",
        ),
        (&["quickstart", "--simulate", "--flops", "0"], "above 0"),
        (&["quickstart", "--simulate", "--jitter", "-1"], "0 to 100"),
        (&["quickstart", "--ranks", "2,4"], "--simulate only"),
        (&["quickstart", "--ranks", "2", "--weak"], "--simulate"),
        (&["quickstart"], "--ranks"),
        (
            &[
                "quickstart",
                "--simulate",
                "--machine",
                "dgx-h100",
                "--set",
                "optimizer.rows=dense",
                "--set",
                "optimizer.kind=adam",
                "--set",
                "optimizer.learning_rate=0.1",
            ],
            "all rows of the tables move",
        ),
        (&["terabyte", "--simulate", "--machine", "dgx-h100", "--memory", "1KiB"], "no rank of 8"),
    ] {
        let error = refusal(args);
        assert!(error.contains(told), "{args:?}: {error}");
    }
}
