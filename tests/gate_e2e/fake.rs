//! A program that looks like `dlrm-bench run` to the gate, takes no time, and does what a test
//! wants: so nothing here depends on how fast the machine is.

use super::{Bench, WORKLOAD};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Steps take a millisecond, and shorter slices are slower, as real ones are. `n` counts its
/// slices from 0.
const SCRIPT: &str = r#"#!/usr/bin/env bash
file=$2
while [ $# -gt 0 ]; do
    case $1 in
        --results) results=$2 ;;
        --set)
            case $2 in
                train.max_steps=*) steps=${2#*=} ;;
                eval.every=*) every=${2#*=} ;;
            esac
            ;;
    esac
    shift
done
n=0
[ ! -e "$0.count" ] || n=$(<"$0.count")
echo $((n + 1)) > "$0.count"
microseconds=$((steps * 1000))
rate=$((1000000 * steps / (steps + 200) + n * 7919 % 1000))
auc=0.7
@HOOK@
mkdir -p "$results/system/workload/run"
printf -v seconds '%d.%06d' $((microseconds / 1000000)) $((microseconds % 1000000))
record=$(<"${0%/*}/run.json")
record=${record/\"@STEPS@\"/$steps}
record=${record/\"@SECONDS@\"/$seconds}
record=${record/\"@RATE@\"/$rate}
record=${record/\"@AUC@\"/$auc}
printf '%s\n' "$record" > "$results/system/workload/run/run.json"
printf '%s\n' "$(<"${0%/*}/workload.toml")" > "$results/system/workload/run/workload.toml"
"#;

impl Bench {
    /// A bench whose fake programs write the record of a real run, but for its numbers.
    pub fn with_a_record() -> Self {
        let bench = Bench::new();
        let real = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(bench.dir.path())
            .args(["run", "w.toml", "--quiet", "--no-plots", "--results", "real"])
            .args(["--set", "train.max_steps=20", "--set", "target.auc="])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&real.stderr);
        assert!(real.status.success(), "{said}");
        let run = only(&only(&only(&bench.path("real"))));
        let text = fs::read_to_string(run.join("run.json")).unwrap();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        record["outcome"]["steps"] = json!("@STEPS@");
        record["outcome"]["train_seconds"] = json!("@SECONDS@");
        record["outcome"]["last_eval"]["quality"]["auc"] = json!("@AUC@");
        record["throughput"]["steady"] = Value::Null;
        record["throughput"]["training"] = json!("@RATE@");
        record["floor"]["samples_per_second"] = json!(2_000_000.0);
        fs::write(bench.path("run.json"), serde_json::to_string_pretty(&record).unwrap()).unwrap();
        fs::copy(run.join("workload.toml"), bench.path("workload.toml")).unwrap();
        fs::remove_dir_all(bench.path("real")).unwrap();
        fs::write(bench.path("w.toml"), WORKLOAD).unwrap();
        bench
    }

    /// Writes the program `name`, which runs the shell commands of `hook` before it leaves a
    /// record.
    pub fn fake(&self, name: &str, hook: &str) -> String {
        let path = self.path(name);
        fs::write(&path, SCRIPT.replace("@HOOK@", hook)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(self.path(&format!("{name}.count")));
        path.display().to_string()
    }

    /// Slices that the fake `name` has run.
    pub fn count(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.path(&format!("{name}.count"))).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

fn only(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

/// Whether a process has `word` on its command line.
pub fn runs(word: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|p| fs::read(p.path().join("cmdline")).ok())
        .any(|line| line.split(|b| *b == 0).any(|w| w == word.as_bytes()))
}

/// A number of seconds that no other process of any test sleeps.
pub fn nap() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NAPS: AtomicU32 = AtomicU32::new(0);
    format!("7{:07}.{}", std::process::id(), NAPS.fetch_add(1, Ordering::Relaxed))
}
