//! Each recipe against the original's steps written out in numpy (`originals.py`), on made-up logs
//! and on real lines where they are there.

use super::{data, error, files, log::realistic};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preprocess/originals.py");
const SAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/criteo_sample/kaggle_8000.txt");

/// Python with numpy, pyarrow and yaml, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import numpy, pyarrow, yaml"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} has no numpy, pyarrow and yaml (DLRM_BENCH_PYTHON names another)");
    None
}

/// A log of one file, or of days, in `dir`: real lines if they are there, and made-up ones.
fn logs(dir: &Path, days: usize) -> Vec<PathBuf> {
    let made_up = realistic(3001, 4);
    let real =
        fs::read_to_string(SAMPLE).inspect_err(|_| eprintln!("skipped: {SAMPLE} is not there"));
    let texts = [Some(made_up), real.ok()];
    let mut raws = Vec::new();
    for (i, text) in texts.into_iter().flatten().enumerate() {
        let lines: Vec<&str> = text.lines().collect();
        let raw = dir.join(format!("raw-{i}"));
        fs::create_dir(&raw).unwrap();
        for (d, lines) in lines.chunks(lines.len().div_ceil(days)).enumerate() {
            let name = if days == 1 { "train.txt".into() } else { format!("day_{d}") };
            fs::write(raw.join(name), lines.join("\n") + "\n").unwrap();
        }
        raws.push(raw);
    }
    raws
}

/// Prepares each log and compares it with what the transcription called `name` makes of it.
fn check(recipe: &str, name: &str, days: usize, more: &[&str]) {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    for raw in logs(dir.path(), days) {
        let output = dir.path().join(format!("{}-{name}", raw.file_name().unwrap().display()));
        let words = [
            "preprocess",
            recipe,
            raw.to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
            "--memory",
            "64MiB",
            "--quiet",
        ];
        let done = data(&[&words[..], more].concat());
        assert!(done.status.success(), "{}", error(&done));
        let mut inputs: Vec<PathBuf> =
            fs::read_dir(&raw).unwrap().map(|e| e.unwrap().path()).collect();
        inputs.sort();
        let compared = Command::new(&python)
            .arg(SCRIPT)
            .arg(name)
            .arg(&output)
            .args(&inputs)
            .output()
            .unwrap();
        assert!(compared.status.success(), "{name}: {}", error(&compared));
        let again = data(&[&words[..], more].concat());
        assert!(
            again.status.success()
                && String::from_utf8_lossy(&again.stdout).contains("was there already")
        );
        assert!(data(&["verify", output.to_str().unwrap(), "--quiet"]).status.success());
    }
}

#[test]
fn oneflow_dlrm_is_as_its_tools_make_it() {
    check("oneflow-dlrm", "oneflow-dlrm", 3, &["--shard-rows", "1000"]);
    check("oneflow-dlrm", "oneflow-dlrm-next", 2, &["--null-id", "next", "--randomize", "none"]);
}

#[test]
fn oneflow_deepfm_is_as_its_tools_make_it() {
    check("oneflow-deepfm", "oneflow-deepfm", 1, &["--shard-rows", "700"]);
    check("oneflow-deepfm", "oneflow-deepfm-none", 1, &["--randomize", "none"]);
}

#[test]
fn deeprec_is_the_log_with_commas() {
    check("deeprec", "deeprec", 1, &[]);
}

#[test]
fn fuxictr_has_the_words_of_its_processor() {
    check("fuxictr-criteo-x4", "fuxictr-criteo-x4", 1, &[]);
}

#[test]
fn nvidia_is_as_its_scripts_make_it() {
    check("nvidia", "nvidia", 3, &[]);
    check("nvidia", "nvidia-all", 2, &["--min-count", "0", "--randomize", "none"]);
}

/// Smaller tables than the recipe's.
const TABLE_ROWS: &str = "--table-rows=400,39,17,7,20,3,7,15,63,1000,300,4052,10,22,11,155,4,97,14,40,400,4000,590,129,108,36";

#[test]
fn mlperf_v2_draws_the_ids_of_its_script() {
    check("mlperf-v2", "mlperf-v2", 3, &[TABLE_ROWS]);
    check(
        "mlperf-v2",
        "mlperf-v2-pareto",
        2,
        &[TABLE_ROWS, "--multi-hot", "pareto", "--randomize", "none"],
    );
}

/// An integer without a logarithm is named with its line.
#[test]
fn mlperf_v2_refuses_what_has_no_logarithm() {
    let dir = tempfile::tempdir().unwrap();
    for day in 0..2 {
        let mut lines: Vec<String> = realistic(500, day).lines().map(str::to_owned).collect();
        if day == 1 {
            let ids = lines[122].splitn(4, '\t').nth(3).unwrap().to_owned();
            lines[122] = format!("1\t5\t-3\t{ids}");
        }
        fs::write(dir.path().join(format!("day_{day}")), lines.join("\n")).unwrap();
    }
    let output = dir.path().join("out");
    let words = [
        "preprocess",
        "mlperf-v2",
        dir.path().to_str().unwrap(),
        "-o",
        output.to_str().unwrap(),
        "-q",
        TABLE_ROWS,
    ];
    let refused = data(&words);
    assert_eq!(refused.status.code(), Some(65), "{}", error(&refused));
    assert!(
        error(&refused)
            .contains("day_1:123: column 3 (I2) is -3; must be at least -2 for mlperf-v2"),
        "{}",
        error(&refused)
    );
    assert!(!output.exists());
}

/// Threads, memory and instruction sets change no byte of any recipe.
#[test]
fn how_it_is_made_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let days = dir.path().join("days");
    fs::create_dir(&days).unwrap();
    for day in 0..3 {
        fs::write(days.join(format!("day_{day}")), realistic(30_000, day)).unwrap();
    }
    let one = days.join("day_0");
    for (recipe, raw, more) in [
        ("oneflow-dlrm", &days, &["--shard-rows", "20000"][..]),
        ("oneflow-deepfm", &one, &["--shard-rows", "7000"]),
        ("deeprec", &one, &[]),
        ("fuxictr-criteo-x4", &one, &[]),
        ("nvidia", &days, &["--min-count", "3"]),
        ("mlperf-v2", &days, &[TABLE_ROWS]),
    ] {
        let mut first = None;
        for (threads, memory, isa) in
            [("1", "64MiB", "portable"), ("3", "64MiB", ""), ("2", "1GiB", "")]
        {
            let output = dir.path().join(format!("{recipe}-{threads}"));
            let mut command = super::program();
            command.args(["data", "preprocess", recipe]).arg(raw).arg("-o").arg(&output);
            command.args(["--quiet", "--threads", threads, "--memory", memory]).args(more);
            if !isa.is_empty() {
                command.env("DLRM_BENCH_ISA", isa);
            }
            let done = command.output().unwrap();
            assert!(done.status.success(), "{}", error(&done));
            let written = files(&output);
            assert!(
                *first.get_or_insert(written.clone()) == written,
                "{recipe}, {threads} threads, {memory}"
            );
            let words = [
                "preprocess",
                recipe,
                raw.to_str().unwrap(),
                "-o",
                output.to_str().unwrap(),
                "--memory",
                memory,
            ];
            let plan = data(&[&words[..], more, &["--plan", "--json", "-q"]].concat());
            assert!(plan.status.success(), "{}", error(&plan));
            planned(recipe, &serde_json::from_slice(&plan.stdout).unwrap(), &written);
        }
    }
}

/// What the plan said against what was written: exact sizes, upper bounds, and sizes by a sample,
/// which are right within a tenth.
fn planned(recipe: &str, plan: &serde_json::Value, written: &BTreeMap<String, Vec<u8>>) {
    let entries = plan["files"].as_array().unwrap();
    let mut found = 0;
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let sizes: Vec<usize> = written
            .iter()
            .filter(|(n, _)| *n == name || n.starts_with(&format!("{name}/")))
            .map(|(_, b)| b.len())
            .collect();
        let (count, bytes) = (sizes.len() as u64, sizes.iter().sum::<usize>() as u64);
        assert_eq!(entry["files"], count, "{recipe}: {entry}");
        found += count;
        let most = entry["bytes"].as_u64().unwrap();
        let exact = entry["exact"].as_bool().unwrap();
        assert!(
            if exact { bytes == most } else { bytes <= most },
            "{recipe}: {bytes}, but {entry}"
        );
        if let Some(about) = entry["about"].as_u64() {
            assert!(
                about.abs_diff(bytes) * 10 <= bytes && !exact,
                "{recipe}: {bytes}, but {entry}"
            );
        }
        let known = match recipe {
            "deeprec" | "mlperf-v2" => exact,
            "nvidia" => exact || name.ends_with(".yaml"),
            "oneflow-dlrm" | "oneflow-deepfm" => entry["about"].is_u64(),
            _ => true,
        };
        assert!(known, "{recipe}: {entry}");
    }
    assert_eq!(found + 1, written.len() as u64, "{recipe}: all but the manifest");
}

#[test]
fn settings_of_other_recipes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt");
    fs::write(&raw, realistic(50, 1)).unwrap();
    let output = dir.path().join("out");
    for (recipe, flags, what) in [
        ("deeprec", &["--seed", "3"][..], "deeprec: --seed does not belong to this recipe"),
        ("oneflow-deepfm", &["--null-id", "own"], "oneflow-deepfm: --null-id does not belong"),
        (
            "facebook-kaggle",
            &["--shard-rows", "7"],
            "facebook-kaggle: --shard-rows does not belong",
        ),
        ("oneflow-deepfm", &["--randomize", "day"], "--randomize total or none"),
        ("mlperf-v2", &["--hotness", "3,1"], "--hotness has 2 numbers; must be 26"),
        ("nvidia", &["--hotness", "3,1"], "nvidia: --hotness does not belong"),
        ("oneflow-deepfm", &["--shard-rows", "0"], "a file of 0 samples cannot be"),
        ("oneflow-dlrm", &["--null-id", "next", "--max-ind-range", "0"], "leave one of them out"),
    ] {
        let words = [
            "preprocess",
            recipe,
            raw.to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
            "--quiet",
        ];
        let refused = data(&[&words[..], flags].concat());
        assert_eq!(refused.status.code(), Some(64), "{recipe}: {}", error(&refused));
        assert!(error(&refused).contains(what), "{}", error(&refused));
        assert!(!output.exists());
    }
}
