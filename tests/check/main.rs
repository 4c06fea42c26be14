//! `dlrm-bench check` against MLPerf's own compliance checker, and as a user sees it.

mod logs;
mod upstream;

use dlrm_bench::mllog::{check::check, rules::ROUNDS};
use logs::{BYTE_WAYS, Draw, WAYS, good, spoil, spoil_bytes, text};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use upstream::Case;

const KINDS: [(&str, &str); 5] = [
    ("dlrm", "closed"),
    ("dlrm", "open"),
    ("dlrm_dcnv2", "closed"),
    ("dlrm_dcnv2", "open"),
    ("deepfm", "open"),
];

fn rulesets(benchmark: &str) -> Vec<&'static str> {
    match benchmark {
        "deepfm" => vec!["6.0.0"],
        _ => ROUNDS.iter().filter(|r| r.benchmark == benchmark).map(|r| r.ruleset).collect(),
    }
}

fn case(
    name: String,
    bytes: Vec<u8>,
    benchmark: &str,
    ruleset: &'static str,
    werror: bool,
) -> Case {
    Case { name, bytes, benchmark: benchmark.to_owned(), ruleset, werror }
}

/// Both checkers say the same of every case; returns how many pass.
fn agree(cases: &[Case]) -> usize {
    let Some(theirs) = upstream::passes(cases) else { return 0 };
    let mut passed = 0;
    let mut different = Vec::new();
    for (case, theirs) in cases.iter().zip(theirs) {
        let verdict = check(&case.bytes, Some(case.ruleset));
        passed += usize::from(theirs);
        if verdict.passes(case.werror) != theirs {
            let found: String = verdict.findings.iter().map(|f| format!("    {f}\n")).collect();
            let said = if theirs { "passes" } else { "fails" };
            different.push(format!(
                "{}, {}, werror {}: theirs {said}, ours finds\n{found}",
                case.name, case.ruleset, case.werror
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{} of {}:\n{}",
        different.len(),
        cases.len(),
        different.concat()
    );
    passed
}

#[test]
fn good_logs_pass_in_every_round_of_theirs_and_fail_in_the_others() {
    let mut cases = Vec::new();
    for (benchmark, division) in KINDS {
        for ruleset in ROUNDS.iter().map(|r| r.ruleset) {
            // Their checker judges DeepFM by our file under any ruleset; ours says which one it is.
            if benchmark != "deepfm" || ruleset == "6.0.0" {
                cases.push(case(
                    division.into(),
                    text(&good(benchmark, division)),
                    benchmark,
                    ruleset,
                    true,
                ));
            }
        }
    }
    let known = cases.iter().filter(|c| rulesets(&c.benchmark).contains(&c.ruleset)).count();
    let passed = cases.iter().filter(|c| check(&c.bytes, Some(c.ruleset)).passes(true)).count();
    assert_eq!((known, passed), (2 * 5 + 2 * 7 + 1, known));
    agree(&cases);
}

#[test]
fn every_line_spoilt_in_every_way_is_judged_as_theirs_does() {
    let mut cases = Vec::new();
    let mut draw = Draw::new();
    for (benchmark, division) in KINDS {
        let log = good(benchmark, division);
        let rulesets = rulesets(benchmark);
        for at in 0..log.len() {
            for way in 0..WAYS + BYTE_WAYS {
                let pick = draw.below(1000);
                let bytes = if way < WAYS {
                    let mut log = log.clone();
                    spoil(&mut log, at, way, pick);
                    text(&log)
                } else {
                    spoil_bytes(&log, at, way - WAYS)
                };
                let key = log[at]["key"].as_str().unwrap();
                let name = format!(
                    "{division} {benchmark}: line {} ({key}), way {way}, pick {pick}",
                    at + 1
                );
                let ruleset = rulesets[draw.below(rulesets.len())];
                cases.push(case(name, bytes, benchmark, ruleset, draw.below(2) == 0));
            }
        }
    }
    let passed = agree(&cases);
    assert!(cases.len() > 3000);
    assert!(
        passed == 0 || (cases.len() / 5..cases.len() / 5 * 4).contains(&passed),
        "{passed} of {} pass",
        cases.len()
    );
}

#[test]
fn logs_spoilt_several_times_are_judged_as_theirs_does() {
    let mut cases = Vec::new();
    let mut draw = Draw::new();
    for number in 0..2000 {
        let (benchmark, division) = KINDS[draw.below(KINDS.len())];
        let mut log = good(benchmark, division);
        for _ in 0..2 + draw.below(3) {
            let (at, way, pick) = (draw.below(log.len()), draw.below(WAYS), draw.below(1000));
            spoil(&mut log, at, way, pick);
        }
        let rulesets = rulesets(benchmark);
        let ruleset = rulesets[draw.below(rulesets.len())];
        cases.push(case(
            format!("number {number}"),
            text(&log),
            benchmark,
            ruleset,
            draw.below(2) == 0,
        ));
    }
    agree(&cases);
}

/// Files below `folder` that MLPerf's tools would take for logs.
fn logs_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => logs_below(&entry, found),
            false if entry.extension().is_some_and(|e| e == "txt") => found.push(entry),
            false => {}
        }
    }
}

#[test]
fn published_logs_are_judged_as_theirs_does() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mlperf");
    let mut paths = vec![shared.join("minimal_dlrm.txt"), shared.join("minimal_dlrm_dcnv2.txt")];
    if !paths[0].exists() {
        eprintln!("skipped: {} is not here", shared.display());
        return;
    }
    logs_below(&shared.join("published"), &mut paths);
    let mut cases = Vec::new();
    for path in &paths {
        let bytes = fs::read(path).unwrap();
        let benchmark = check(&bytes, None).benchmark.unwrap();
        for ruleset in ROUNDS.iter().map(|r| r.ruleset) {
            for werror in [false, true] {
                cases.push(case(
                    path.display().to_string(),
                    bytes.clone(),
                    &benchmark,
                    ruleset,
                    werror,
                ));
            }
        }
    }
    assert!(paths.len() >= 22, "{} logs", paths.len());
    agree(&cases);
    let ours = |path: &Path| check(&fs::read(path).unwrap(), None).passes(false);
    assert!(paths.iter().filter(|p| ours(p)).count() >= 12, "most published logs pass");
}

fn dlrm_bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).arg("check").args(args).output().unwrap()
}

fn stdout(out: &Output) -> &str {
    std::str::from_utf8(&out.stdout).unwrap()
}

#[test]
fn a_folder_is_checked_and_the_worst_log_decides() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("results/cpu/dlrm_dcnv2");
    fs::create_dir_all(&folder).unwrap();
    let mut bad = good("dlrm_dcnv2", "closed");
    spoil(&mut bad, 15, 4, 14);
    fs::write(folder.join("result_0.txt"), text(&good("dlrm_dcnv2", "closed"))).unwrap();
    fs::write(folder.join("result_1.txt"), text(&bad)).unwrap();
    fs::write(folder.join("notes.txt"), "no log").unwrap();
    let path = dir.path().display().to_string();
    let out = dlrm_bench(&[&path]);
    assert_eq!(out.status.code(), Some(1));
    let log = |n: usize| folder.join(format!("result_{n}.txt")).display().to_string();
    let (log0, log1) = (log(0), log(1));
    let expected = format!(
        "{log0}: pass (dlrm_dcnv2, closed, ruleset 4.0.0)\n\
         {log1}:16: error: opt_weight_decay is 9.99999993922529e-9; must be 0\n\
         {log1}: FAIL (dlrm_dcnv2, closed, ruleset 4.0.0): 1 error\n\
         1 of 2 logs fail\n"
    );
    assert_eq!(stdout(&out), expected);
    // Written in November 2023, between the publications of 3.1 and 4.0.
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("judged by 4.0.0, which was under way when the run began"), "{said}");

    let out = dlrm_bench(&[&path, "--format", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["passes"], &report["logs"][0]["passes"]), (&false.into(), &true.into()));
    assert_eq!(report["logs"][0]["round_from"], "time");
    let finding = &report["logs"][1]["findings"][0];
    assert_eq!(
        (finding["line"].as_u64(), finding["key"].as_str()),
        (Some(16), Some("opt_weight_decay"))
    );
    assert_eq!(
        (finding["rule"].as_str(), finding["severity"].as_str()),
        (Some("value"), Some("error"))
    );

    let out = dlrm_bench(&[&log0, "--ruleset", "2.1.0"]);
    assert_eq!(out.status.code(), Some(1));
    let expected = ":1: error: submission_benchmark is \"dlrm_dcnv2\", which ruleset 2.1.0 does not have; 3.0.0 to 6.0.0 have it";
    assert!(stdout(&out).contains(expected), "{}", stdout(&out));
}

#[test]
fn warnings_fail_a_log_only_if_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result_0.txt");
    let mut log = good("dlrm", "open");
    spoil(&mut log, 1, 1, 0);
    fs::write(&path, text(&log)).unwrap();
    let path = path.display().to_string();
    let out = dlrm_bench(&[&path]);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        stdout(&out).contains(":3: warning: submission_org is on lines 2, 3, with one value"),
        "{}",
        stdout(&out)
    );
    assert_eq!(dlrm_bench(&[&path, "--werror"]).status.code(), Some(1));
}

#[test]
fn what_cannot_be_checked_is_one_line_and_an_exit_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("result_9.txt").display().to_string();
    let empty = dir.path().display().to_string();
    for (args, code, word) in [
        (&[missing.as_str()][..], 65, "result_9.txt"),
        (&[empty.as_str()], 65, "no result_*.txt"),
        (&[], 64, "LOG"),
        (&[missing.as_str(), "--ruleset", "6.1.0"], 64, "6.0.0"),
    ] {
        let out = dlrm_bench(args);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{error}");
        assert!(error.contains(word) && out.stdout.is_empty(), "{error}");
        assert!(code == 64 || error.lines().count() == 1, "{error}");
    }
    // Nothing in it, no text at all, no line of MLPerf's: a log that fails, not a mistake of the
    // caller's.
    for bytes in [&b""[..], b"\xff\x00\xfe\n", b"training...\n"] {
        let path = dir.path().join("result_0.txt");
        fs::write(&path, bytes).unwrap();
        let out = dlrm_bench(&[&path.display().to_string()]);
        assert_eq!(out.status.code(), Some(1));
        assert!(stdout(&out).contains("no line holds \":::MLLOG \""), "{}", stdout(&out));
    }
}
