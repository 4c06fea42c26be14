//! A kill at any moment costs time, never a byte.

use super::{
    error, files,
    log::{different_ids, realistic},
    program,
};
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Kills of a recipe; fewer where what is special about it takes a part of the time only.
const KILLS: u32 = 20;
const FEWER: u32 = 8;

fn command(recipe: &str, raw: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = program();
    command.args(["data", "preprocess", recipe]).arg(raw).arg("-o").arg(output);
    command
        .args(["--memory", "64MiB", "--checkpoint", "0", "--threads", "2", "--quiet"])
        .args(more);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Kills `recipe` so many times, wherever it is then, and lets it end: the output is that of a run
/// in one piece.
fn kill(kills_in_all: u32, recipe: &str, raw: &Path, dir: &Path, more: &[&str]) {
    let whole = dir.join(format!("{recipe}-whole"));
    let start = Instant::now();
    let done = command(recipe, raw, &whole, more).output().unwrap();
    assert!(done.status.success(), "{}", error(&done));
    let time = start.elapsed();
    let output = dir.join(format!("{recipe}-killed"));
    let (mut state, mut kills) = (1u64, 0);
    while kills < kills_in_all {
        let mut child = command(recipe, raw, &output, more).spawn().unwrap();
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(time.mul_f64((state >> 40) as f64 / (1u64 << 24) as f64));
        child.kill().unwrap();
        let ended = child.wait_with_output().unwrap();
        match ended.status.code() {
            None => kills += 1,
            // It was faster; begin anew.
            Some(0) => fs::remove_dir_all(&output).unwrap(),
            Some(_) => panic!("after {kills} kills: {}", error(&ended)),
        }
    }
    let done = command(recipe, raw, &output, more).output().unwrap();
    assert!(done.status.success(), "{}", error(&done));
    assert!(files(&output) == files(&whole), "{recipe}");
}

#[test]
fn shuffled_days_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    fs::create_dir(&raw).unwrap();
    for day in 0..4 {
        fs::write(raw.join(format!("day_{day}")), realistic(5000, day)).unwrap();
    }
    kill(KILLS, "mlperf-v1", &raw, dir.path(), &[]);
}

#[test]
fn a_packed_and_sub_sampled_log_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt.gz");
    let mut packer =
        flate2::write::GzEncoder::new(fs::File::create(&raw).unwrap(), flate2::Compression::fast());
    packer.write_all(realistic(20_000, 9).as_bytes()).unwrap();
    packer.finish().unwrap();
    kill(KILLS, "facebook-kaggle", &raw, dir.path(), &["--sub-sample-rate", "0.3"]);
}

#[test]
fn shuffled_parquet_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    fs::create_dir(&raw).unwrap();
    for day in 0..3 {
        fs::write(raw.join(format!("day_{day}")), realistic(5000, day)).unwrap();
    }
    kill(KILLS, "oneflow-dlrm", &raw, dir.path(), &["--shard-rows", "1500"]);
    kill(FEWER, "nvidia", &raw, dir.path(), &[]);
    let rows = "--table-rows=400,39,17,7,20,3,7,15,63,1000,300,4052,10,22,11,155,4,97,14,40,400,4000,590,129,108,36";
    kill(FEWER, "mlperf-v2", &raw, dir.path(), &[rows]);
}

#[test]
fn folds_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt");
    fs::write(&raw, realistic(10_000, 8)).unwrap();
    kill(FEWER, "oneflow-deepfm", &raw, dir.path(), &["--shard-rows", "1000"]);
    kill(FEWER, "deeprec", &raw, dir.path(), &[]);
    kill(FEWER, "fuxictr-criteo-x4", &raw, dir.path(), &[]);
}

/// More ids than fit in memory, so that some get their numbers at the end.
#[test]
fn ids_that_wait_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt");
    fs::write(&raw, different_ids(60_000)).unwrap();
    kill(KILLS, "facebook-kaggle", &raw, dir.path(), &[]);
}

/// SIGTERM ends at a checkpoint, with a code and a word of its own.
#[cfg(unix)]
#[test]
fn an_interruption_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt");
    fs::write(&raw, realistic(30_000, 3)).unwrap();
    let output = dir.path().join("out");
    let child = command("facebook-kaggle", &raw, &output, &[]).spawn().unwrap();
    let start = Instant::now();
    while !output.join(".partial/records.bin").exists() && start.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    super::signal::send(&child, libc::SIGTERM);
    let ended = child.wait_with_output().unwrap();
    // It may have been done before the signal came.
    if ended.status.code() == Some(130) {
        assert_eq!(error(&ended), "interrupted; the same command goes on from here\n");
        assert!(!output.join("manifest.json").exists());
    } else {
        assert_eq!(ended.status.code(), Some(0), "{}", error(&ended));
    }
    let done = command("facebook-kaggle", &raw, &output, &[]).output().unwrap();
    assert!(done.status.success(), "{}", error(&done));
}
