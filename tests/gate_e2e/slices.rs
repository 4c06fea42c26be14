//! What a gate makes of slices that hang, fail, lie or are disturbed.

use super::{
    Bench,
    fake::{nap, runs},
    reason, signal,
};
use serde_json::Value;
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Soon sure: what a fake program says hardly scatters. On a busy machine few slices fit.
const SOON: [&str; 4] = ["--threshold", "10%", "--confidence", "0.6"];
/// And without an AUC.
const QUICK: [&str; 4] = ["--budget", "6s", "--quality-steps", "0"];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &SOON, &QUICK].concat()
}

fn notes(verdict: &Value) -> String {
    verdict["notes"].to_string()
}

/// Starts a gate that is not waited for.
fn start(bench: &Bench, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(bench.path("")).args(["gate", "w.toml", "--quality-steps", "0"]).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `done`, for a minute at most.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn no_slices_left(bench: &Bench) {
    let Ok(entries) = fs::read_dir(bench.path("gate")) else { return };
    let names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().starts_with("slices-")), "{names:?}");
}

#[test]
fn a_hiccup_in_the_first_slice_of_either_side_is_no_slowdown() {
    let bench = Bench::with_a_record();
    for (hook_a, hook_b, who) in [
        ("[ $n != 0 ] || microseconds=500000", "", "a: two slices of 20 steps"),
        ("", "[ $n != 0 ] || microseconds=500000", "b: two slices of 20 steps"),
        ("", "[ $n != 0 ] || microseconds=500", "b: two slices of 20 steps"),
    ] {
        let (a, b) = (bench.fake("a.sh", hook_a), bench.fake("b.sh", hook_b));
        let (code, verdict) = bench.verdict(&with(&["--a", &a, "--b", &b]));
        assert_eq!(code, 0, "{verdict}");
        assert!(notes(&verdict).contains(who) && notes(&verdict).contains("outlier"), "{verdict}");
        let slowdown = verdict["finding"]["slowdown"].as_f64().unwrap();
        assert!(slowdown.abs() < 0.01, "{slowdown}");
    }
    // And what is slower is found all the same.
    let a = bench.fake("a.sh", "");
    let b = bench.fake("b.sh", "[ $n != 0 ] || microseconds=500000; rate=$((rate * 8 / 10))");
    let (code, verdict) = bench.verdict(&with(&["--a", &a, "--b", &b]));
    assert_eq!(code, 1, "{verdict}");
    // A slow slice among many is one that something else disturbed, and is said to be.
    let b = bench.fake("b.sh", "[ $n != 5 ] || rate=$((rate / 3))");
    let (code, verdict) = bench.verdict(&with(&["--a", &a, "--b", &b]));
    assert!(code == 0 && notes(&verdict).contains("1 of "), "{verdict}");
}

#[test]
fn every_cause_keeps_its_exit_code() {
    let bench = Bench::with_a_record();
    let a = bench.fake("a.sh", "");
    for (hook, code, expected) in [
        ("echo 'error: told' >&2; exit 64", 64, "b.sh: told"),
        ("echo 'error: told' >&2; exit 65", 65, "b.sh: told"),
        ("echo 'error: told' >&2; exit 69", 69, "b.sh: told"),
        ("echo 'error: told' >&2; exit 70", 70, "b.sh: told (exit code 70)"),
        ("echo 'error: told' >&2; exit 71", 71, "b.sh: told"),
        ("echo 'error: told' >&2; exit 74", 74, "b.sh: told"),
        ("echo aborted >&2; exit 101", 70, "b.sh: aborted (exit code 101)"),
        ("kill -9 $$", 70, "signal: 9"),
        // Later than in the first slice.
        ("[ $n != 4 ] || { echo 'error: told' >&2; exit 65; }", 65, "b.sh: told"),
        ("exit 0", 70, "there should be one entry"),
        ("rate=0", 70, "throughput is 0; must be above 0"),
        ("rate=-5", 70, "throughput is -5; must be above 0"),
        ("microseconds=0", 70, "train_seconds is 0; must be above 0"),
        ("rate=1e999", 70, "its run.json is no record"),
        ("echo -e 'error: \\e[31mred' >&2; exit 65", 65, "b.sh: \u{fffd}[31mred"),
    ] {
        fs::create_dir_all(bench.path("gate")).unwrap();
        for name in ["verdict.json", "summary.md"] {
            fs::write(bench.path("gate").join(name), "old").unwrap();
        }
        let b = bench.fake("b.sh", hook);
        let output = bench.gate(&with(&["--a", &a, "--b", &b]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{hook}: {said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{hook}: {said}");
        let left = fs::read_dir(bench.path("gate")).unwrap().count();
        assert_eq!(left, 0, "{hook}: no verdict of an earlier gate stays, and no slice");
    }
}

#[test]
fn a_wrong_command_line_leaves_no_older_verdict() {
    let bench = Bench::new();
    fs::create_dir(bench.path("gate")).unwrap();
    for args in [&[][..], &["--b", "x", "--threshold", "0"], &["--workload-b", "none.toml"]] {
        fs::write(bench.path("gate/verdict.json"), "old").unwrap();
        fs::write(bench.path("gate/summary.md"), "old").unwrap();
        assert_eq!(bench.gate(args).status.code(), Some(64));
        assert_eq!(fs::read_dir(bench.path("gate")).unwrap().count(), 0);
    }
}

#[test]
fn a_slice_that_never_ends_is_killed_with_all_it_started() {
    let bench = Bench::with_a_record();
    let (a, nap) = (bench.fake("a.sh", ""), nap());
    // In the middle: others show how long a slice takes.
    let b = bench.fake("b.sh", &format!("[ $n -lt 2 ] || sleep {nap}"));
    let output = bench.gate(&["--a", &a, "--b", &b, "--quality-steps", "0", "--budget", "10s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("b.sh: a slice had not ended after") && said.contains("others took"));
    // In the first slice of all: it may be long.
    let a = bench.fake("a.sh", &format!("sleep {nap}"));
    let (code, verdict) = bench.verdict(&["--a", &a, "--quality-steps", "0", "--budget", "5s"]);
    assert!(code == 5 && reason(&verdict).contains("give a longer --budget"), "{verdict}");
    assert!(!runs(&nap), "the sleeper is gone");
}

#[test]
fn grandchildren_end_with_their_slice_and_floods_are_cut() {
    let bench = Bench::with_a_record();
    let nap = nap();
    let a = bench.fake("a.sh", &format!("sleep {nap} & "));
    let b = bench.fake("b.sh", &format!("(setsid sleep {nap} >&2 &) ; sleep {nap} > /dev/null &"));
    let (code, verdict) = bench.verdict(&with(&["--a", &a, "--b", &b]));
    assert_eq!(code, 0, "{verdict}");
    assert!(!runs(&nap), "no grandchild is left");
    let a = bench.fake(
        "a.sh",
        "head -c 30000000 /dev/zero | tr '\\0' x >&2; printf '\\nerror: all that\\n' >&2; exit 65",
    );
    let output = bench.gate(&with(&["--a", &a]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(65) && said.ends_with("a.sh: all that\n"), "{said}");
}

#[test]
fn one_sigterm_ends_gate_and_slice_at_once() {
    let bench = Bench::with_a_record();
    let nap = nap();
    let b = bench.fake("b.sh", &format!("sleep {nap}"));
    fs::create_dir(bench.path("gate")).unwrap();
    fs::write(bench.path("gate/verdict.json"), "old").unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut gate = start(&bench, &["--b", &b, "--a", &b, "--budget", "10m"]);
        until("a slice sleeps", || runs(&nap));
        signal::send(&gate, signal);
        let began = Instant::now();
        assert_eq!(gate.wait().unwrap().code(), Some(130));
        // Far less than the budget, however busy the machine is.
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(!runs(&nap), "the slice is gone");
        no_slices_left(&bench);
        assert!(!bench.path("gate/verdict.json").exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_slice_does_not_outlive_a_killed_gate() {
    let bench = Bench::with_a_record();
    let nap = nap();
    let b = bench.fake("b.sh", &format!("exec sleep {nap}"));
    let mut gate = start(&bench, &["--a", &b, "--budget", "10m"]);
    until("a slice sleeps", || runs(&nap));
    gate.kill().unwrap();
    gate.wait().unwrap();
    until("the slice is gone", || !runs(&nap));
}

#[test]
fn two_recordings_at_once_are_two_sessions() {
    let bench = Bench::with_a_record();
    let programs = ["one.sh", "two.sh"].map(|name| bench.fake(name, ""));
    let gates: Vec<Child> = (programs.iter())
        .map(|b| {
            let out = format!("{b}.out");
            start(&bench, &["--b", b, "--record", "base.json", "--budget", "4s", "-o", &out])
        })
        .map(|mut gate| {
            // The other is started while this one records.
            until("a slice is over", || bench.count("one.sh") > 0);
            assert!(gate.try_wait().unwrap().is_none());
            gate
        })
        .collect();
    for mut gate in gates {
        assert_eq!(gate.wait().unwrap().code(), Some(0));
    }
    let text = fs::read_to_string(bench.path("base.json")).unwrap();
    let base: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(base["sessions"].as_array().unwrap().len(), 2, "{base}");
    let locks = fs::read_dir(bench.path("")).unwrap();
    let locks =
        locks.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("lock"));
    assert_eq!(locks.count(), 0);
    // A baseline that is none is refused, in one line, before anything is measured.
    fs::write(bench.path("base.json"), text.replacen("\"slice_steps\": ", "\"slice_steps\": -", 1))
        .unwrap();
    let output = bench.gate(&["--b", &programs[0], "--record", "base.json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(65) && said.lines().count() == 1, "{said}");
    let output = bench.gate(&["--b", &programs[0], "--record", "none/base.json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(74) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_baseline_with_impossible_values_is_none() {
    let bench = Bench::with_a_record();
    let b = bench.fake("b.sh", "");
    let output = bench.gate(&["--b", &b, "--record", "base.json", "--budget", "4s"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(bench.path("base.json")).unwrap();
    let good: Value = serde_json::from_str(&text).unwrap();
    let compare = ["--b", &b, "--baseline", "bad.json", "--budget", "4s", "--threshold", "20%"];
    fs::write(bench.path("bad.json"), &text).unwrap();
    assert_eq!(bench.verdict(&compare).0, 0);
    let slices = bench.count("b.sh");
    for (place, value) in [
        ("/sessions/0/efficiency/0", "NaN"),
        ("/sessions/0/efficiency/1", "null"),
        ("/sessions/0/efficiency/1", "0.0"),
        ("/sessions/0/efficiency/1", "-0.0"),
        ("/sessions/0/efficiency/1", "-0.4"),
        ("/sessions/0/efficiency/1", "1e-320"),
        ("/sessions/0/efficiency/1", "1e300"),
        ("/sessions/0/efficiency/1", "1e999"),
        ("/sessions/0/efficiency", "[]"),
        ("/sessions/0/samples_per_second/1", "0"),
        ("/sessions/0/samples_per_second/1", "1e300"),
        ("/sessions/0/samples_per_second/1", "-1"),
        ("/sessions", "[]"),
        ("/slice_steps", "0"),
        ("/slice_steps", "18446744073709551615"),
        ("/slice_steps", "-1"),
        ("/quality_steps", "18446744073709551615"),
        ("/auc", "null"),
        ("/auc", "-0.5"),
        ("/auc", "1.5"),
        ("/schema_version", "99"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = "@".into();
        fs::write(bench.path("bad.json"), bad.to_string().replace("\"@\"", value)).unwrap();
        let (code, verdict) = bench.verdict(&compare);
        let reason = reason(&verdict);
        assert!(code == 2 && reason.starts_with("bad.json: not a baseline: "), "{place}: {reason}");
        assert!(!reason.contains('\n'));
    }
    assert_eq!(bench.count("b.sh"), slices, "nothing was run for them");
}

#[test]
fn all_slices_run_the_workload_as_it_was_at_the_start() {
    let bench = Bench::with_a_record();
    let text = fs::read_to_string(bench.path("w.toml")).unwrap();
    let hook = "cat \"$file\" >> seen; echo @ >> seen; echo 'name = broken' > w.toml";
    let (a, b) = (bench.fake("a.sh", hook), bench.fake("b.sh", hook));
    let (code, verdict) = bench.verdict(&with(&["--a", &a, "--b", &b]));
    assert_eq!(code, 0, "{verdict}");
    assert!(verdict["a"]["what"].as_str().unwrap().ends_with("a.sh w.toml"), "{verdict}");
    let seen = fs::read_to_string(bench.path("seen")).unwrap();
    assert!(seen.matches('@').count() >= 8 && seen.split("@\n").all(|s| s == text || s.is_empty()));
    // What is wrong with it is told of the file, not of a copy.
    let output = bench.gate(&["--set-b", "train.batch_size=64"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains(": w.toml:1: "), "{said}");
}

#[test]
fn a_program_that_is_replaced_meanwhile_is_not_measured_on() {
    let bench = Bench::with_a_record();
    let a = bench.fake("a.sh", "");
    let b = bench.fake("b.sh", "[ $n != 3 ] || { cp \"$0\" new; echo >> new; mv new \"$0\"; }");
    let output = bench.gate(&with(&["--a", &a, "--b", &b]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(65) && said.contains("b.sh was replaced"), "{said}");
}

#[test]
fn the_auc_check_has_its_share_of_the_budget_and_no_more() {
    let bench = Bench::with_a_record();
    let a = bench.fake("a.sh", "");
    let nap = nap();
    let b = bench.fake("b.sh", &format!("[ $every = never ] || sleep {nap}"));
    let args = [&["--a", &a, "--b", &b, "--budget", "8s"][..], &SOON].concat();
    let (code, verdict) = bench.verdict(&args);
    assert!(code == 5 && reason(&verdict).contains("the AUC after 5 steps could not be compared"));
    assert!(verdict["finding"]["decision"] == "no_regression", "{verdict}");
    assert!(verdict["quality_seconds"].as_f64().unwrap() < 6.0, "{verdict}");
    assert!(!runs(&nap));
    // What it takes is said before it is taken.
    let output = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(bench.path(""))
        .args(["gate", "w.toml"])
        .args(&args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let share = said.find("AUC after 100 steps: at most ").expect(&said);
    assert!(share < said.find("slices of ").expect(&said), "{said}");
    // So is what each block adds.
    let block = said.find("\nblock 1 of about ").expect(&said);
    assert!(said[block..].lines().nth(1).unwrap().ends_with(" so far"), "{said}");
    // A worse AUC is found within it.
    let b = bench.fake("b.sh", "auc=0.6");
    let (code, verdict) = bench.verdict(&["--a", &a, "--b", &b, "--budget", "6s"]);
    assert!(code == 4 && reason(&verdict).contains("the AUC is 0.60000"), "{verdict}");
}

#[test]
fn a_budget_without_hope_is_said_to_be_at_once() {
    let bench = Bench::with_a_record();
    let slow = "sleep 1";
    let (a, b) = (bench.fake("a.sh", slow), bench.fake("b.sh", slow));
    let (code, verdict) = bench.verdict(&["--a", &a, "--b", &b, "--budget", "8s"]);
    assert!(code == 5 && reason(&verdict).contains("the fewest for a verdict"), "{verdict}");
    assert!(reason(&verdict).contains("give a longer --budget"), "{verdict}");
    assert_eq!((bench.count("a.sh"), bench.count("b.sh")), (1, 1));
}

#[test]
fn a_workload_that_is_never_evaluated_is_gated_without_an_auc() {
    let bench = Bench::with_a_record();
    let text = fs::read_to_string(bench.path("w.toml")).unwrap();
    let never = text.replace("every_steps = 10", "every = \"never\"");
    fs::write(bench.path("w.toml"), never.split("[target]").next().unwrap()).unwrap();
    let hook = "[ $every = never ] || exit 70";
    let (a, b) = (bench.fake("a.sh", hook), bench.fake("b.sh", hook));
    let (code, verdict) =
        bench.verdict(&[&["--a", &a, "--b", &b, "--budget", "6s"][..], &SOON].concat());
    assert!(code == 0 && notes(&verdict).contains("never evaluated"), "{verdict}");
}
