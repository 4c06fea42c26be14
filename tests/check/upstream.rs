//! MLPerf's own checker, asked about many logs by one process.

use serde::Serialize;
use std::{path::PathBuf, process::Command};

/// A log and how to judge it.
#[derive(Debug, Serialize)]
pub struct Case {
    pub name: String,
    #[serde(skip)]
    pub bytes: Vec<u8>,
    pub benchmark: String,
    pub ruleset: &'static str,
    pub werror: bool,
}

// The checker keeps a list between calls, reads its rules anew for each log, and writes to the log;
// none of this is wanted.
const SCRIPT: &str = r#"
import json, logging, sys
from mlperf_logging.compliance_checker import mlp_compliance as checker

logging.disable(logging.CRITICAL)
cases, folder, deepfm = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
read, known = checker.yaml.load, {}
def load(file, Loader):
    if file.name not in known:
        known[file.name] = read(file, Loader=Loader)
    return known[file.name]
checker.yaml.load = load
answers = []
for number, case in enumerate(cases):
    checker.enqueued_configs.clear()
    rules = deepfm if case['benchmark'] == 'deepfm' else f"training_{case['ruleset']}/common.yaml"
    judge = checker.make_checker('training', case['ruleset'], False, case['werror'])
    try:
        answers.append(bool(checker.main(f'{folder}/{number}', rules, judge)[0]))
    except Exception:
        answers.append(False)
json.dump(answers, sys.stdout)
"#;

/// For each case whether the checker passes it; `None` where there is no checker.
pub fn passes(cases: &[Case]) -> Option<Vec<bool>> {
    let Ok(python) = std::env::var("DLRM_BENCH_MLPERF_PYTHON") else {
        eprintln!("skipped: DLRM_BENCH_MLPERF_PYTHON names no python with mlperf-logging 4.1.68");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    for (number, case) in cases.iter().enumerate() {
        std::fs::write(dir.path().join(number.to_string()), &case.bytes).unwrap();
    }
    let manifest = dir.path().join("cases.json");
    std::fs::write(&manifest, serde_json::to_string(cases).unwrap()).unwrap();
    let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rules/deepfm_common.yaml");
    let out = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(manifest)
        .arg(dir.path())
        .arg(rules)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answers: Vec<bool> = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    Some(answers)
}
