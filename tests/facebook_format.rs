//! `run --format facebook` as scripts read it.

use std::{
    path::Path,
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(folder.path()).args(["run", "--no-ceilings", "--no-plots"]);
    command.args(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let out = run(args);
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(matches!(out.status.code(), Some(0 | 1)), "{args:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

fn workload(name: &str) -> String {
    format!("{ROOT}/src/selftest/facebook/{name}.toml")
}

/// A small planted run with tests after every 8 of 20 steps, two epochs of them.
const PLANTED: &[&str] = &[
    "quickstart",
    "--format=facebook",
    "--set=data.train_samples=1280",
    "--set=data.eval_samples=500",
    "--set=data.max_rows=100",
    "--set=model.dim=4",
    "--set=model.bottom=[8,4]",
    "--set=model.top=[8,1]",
    "--set=train.batch_size=64",
    "--set=train.epochs=2",
    "--set=eval.every_steps=8",
    "--set=eval.every_epochs=",
    "--set=target.share_of_best=",
];

fn planted(more: &[&str]) -> String {
    printed(&[PLANTED, more].concat())
}

/// What Ascend's scripts do with a log: `awk` and `grep` on words in their places.
#[test]
fn the_rules_of_ascends_scripts_find_rate_loss_and_auc() {
    let text = planted(&["--mlperf-logging", "--print-freq", "4", "--print-time"]);
    let finished: Vec<&str> = text.lines().filter(|l| l.starts_with("Finished ")).collect();
    let at: Vec<&str> = finished.iter().map(|l| l.split(' ').nth(3).unwrap()).collect();
    // Every 4 steps, at each test, and at the end of an epoch. The tests of the second epoch are
    // those of steps 24, 32 and 40.
    let epoch = ["4/20", "8/20", "12/20", "16/20", "20/20"];
    assert_eq!(at, [epoch, epoch].concat());
    let ms = |line: &&str| -> f64 {
        line.split(", ").nth(1).unwrap().strip_suffix(" ms/it").unwrap().parse().unwrap()
    };
    let times: Vec<f64> = finished.iter().map(ms).collect();
    assert!(times.iter().all(|ms| *ms >= 0.0));
    for line in &finished {
        let loss = line.rsplit_once("loss ").unwrap().1;
        assert_eq!(loss.split_once('.').unwrap().1.len(), 6, "{line}");
        assert!((0.1..1.0).contains(&loss.parse::<f64>().unwrap()), "{line}");
    }
    let tests: Vec<&str> = text.lines().filter(|l| l.starts_with("Testing at - ")).collect();
    assert_eq!(tests[..2], ["Testing at - 8/20 of epoch 0,", "Testing at - 16/20 of epoch 0,"]);
    assert_eq!(tests.last(), Some(&"Testing at - 20/20 of epoch 1,"));
    let metrics: Vec<&str> = text.lines().filter(|l| l.starts_with("recall ")).collect();
    assert_eq!(metrics.len(), tests.len());
    let mut best = 0.0f64;
    for line in metrics {
        let auc = |name: &str| -> f64 {
            line.split(", ").find_map(|f| f.strip_prefix(name)).unwrap().parse().unwrap()
        };
        best = best.max(auc("auc "));
        assert_eq!(auc("best auc "), best, "{line}");
        assert!(line.ends_with(" %") && line.contains(", best accuracy "), "{line}");
    }
    assert!(best > 0.5);
}

#[test]
fn without_options_lines_are_those_of_the_original_without_them() {
    let text = planted(&["--print-freq", "100"]);
    let lines: Vec<&str> = text.lines().collect();
    // A test has its line before it, whatever the frequency.
    assert!(lines[0].starts_with("Finished training it 8/20 of epoch 0, -1.00 ms/it, loss 0."));
    assert_eq!(lines[1], "Testing at - 8/20 of epoch 0,");
    let accuracy = lines[2].strip_prefix(" accuracy ").unwrap();
    let (now, best) = accuracy.split_once(" %, best ").unwrap();
    assert_eq!(format!("{now} %"), best);
    let wall = planted(&["--print-freq", "100", "--print-wall-time"]);
    let line = wall.lines().next().unwrap();
    let (_, time) = line.rsplit_once(" (").unwrap();
    assert_eq!((time.len(), time.find(':')), (6, Some(2)), "{line}");
}

/// What `--debug-mode` prints, to the last character, of the three models of which the original's
/// output is at hand.
#[test]
fn debug_mode_prints_what_the_original_does() {
    for name in ["tiny_debug", "tiny_cat_debug", "tiny_self_debug"] {
        let text = printed(&[&workload(name), "--format", "facebook", "--debug-mode"]);
        let theirs = Path::new(ROOT).join(format!("../shared/reference/facebook/{name}.txt"));
        let Ok(theirs) = std::fs::read_to_string(&theirs) else {
            eprintln!("skipped: {} is not there", theirs.display());
            assert!(text.starts_with("model arch:\nmlp top arch 3 layers"));
            continue;
        };
        let (_command, theirs) = theirs.split_once('\n').unwrap();
        for (ours, theirs) in text.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(text, theirs, "{name}");
    }
}

#[test]
fn options_of_the_format_want_the_format() {
    let refused = |args: &[&str], said: &str| {
        let out = run(args);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(64), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    };
    refused(&["quickstart", "--print-freq", "5"], "--format");
    refused(&["quickstart", "--debug-mode"], "--format");
    refused(&["quickstart", "--format", "facebook", "--json"], "--json");
    refused(&["quickstart", "--format", "facebook", "--print-freq", "0"], "1 to");
    refused(&["quickstart", "--format", "facebook", "--runs", "2"], "--runs");
    let deepfm = format!("{ROOT}/tests/workloads/deepfm-planted.toml");
    refused(&[&deepfm, "--format", "facebook", "--debug-mode"], "model.kind is \"deepfm\"");
}
