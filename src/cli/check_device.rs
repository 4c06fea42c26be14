//! `dlrm-bench system --check-device`: whether a GPU computes what the CPU does, and how fast.

use super::{Exit, Failure};
use crate::backend::{
    BackendError, Device,
    cuda::{
        check::{End, Speed, Verdict, check, ends, speeds},
        driver::DeviceInfo,
    },
};
use serde::Serialize;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    device: DeviceInfo,
    passed: usize,
    failed: Vec<Verdict>,
    ends: Vec<End>,
    speeds: Vec<Speed>,
}

/// Compares every operation, then measures them with batches of `batch` samples.
pub(super) fn check_device(device: Device, batch: usize, json: bool) -> Result<Exit, Failure> {
    let driver = device.open().map_err(|e| Failure::Device(e.to_string()))?;
    let Some(driver) = driver else {
        return Err(Failure::Usage(format!("--check-device {device}: name a GPU, as in cuda:0")));
    };
    let broken = |e: BackendError| match e {
        BackendError::Memory { .. } => Failure::Memory(e.to_string()),
        BackendError::Device(_) | BackendError::Ranks(_) => Failure::Device(e.to_string()),
    };
    let info = driver.device().clone();
    let mut report = Report {
        device: info,
        passed: 0,
        failed: Vec::new(),
        ends: Vec::new(),
        speeds: Vec::new(),
    };
    check(&driver, &mut |verdict| {
        if verdict.passes() {
            report.passed += 1;
        } else {
            report.failed.push(verdict);
        }
    })
    .map_err(broken)?;
    report.ends = ends(&driver, batch).map_err(broken)?;
    report.speeds = speeds(&driver, batch).map_err(broken)?;
    if json {
        outln!(
            "{}",
            serde_json::to_string_pretty(&report).map_err(|e| Failure::Internal(e.to_string()))?
        );
    } else {
        out!("{}", table(&report));
    }
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Fails })
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    for (label, value) in report.device.lines() {
        out += &format!("{label:<24} {value}\n");
    }
    for v in &report.failed {
        let why = if v.repeatable {
            format!("off by {:.1e}, {:.1e} is right", v.difference, v.tolerance)
        } else {
            "differs from run to run".into()
        };
        out += &format!("FAILED {}: {why}: {}\n", v.operation, v.case);
    }
    let all = report.passed + report.failed.len();
    out += &format!(
        "{:<24} {} of {all} as on the CPU, bit by bit the same twice\n",
        "Comparisons", report.passed
    );
    let there = report.ends.iter().filter(|e| e.there).count();
    out += &format!("{:<24} {there} of {} by cuBLASLt\n", "Ends of products", report.ends.len());
    for e in report.ends.iter().filter(|e| !e.there) {
        out += &format!("  by a kernel of ours: layer {}: {}\n", e.product, e.end);
    }
    for s in &report.speeds {
        let (rate, unit) = match s.unit {
            "FLOP" => (s.work / s.seconds / 1e12, "TFLOP/s"),
            "samples" => (s.work / s.seconds / 1e6, "M/s"),
            _ => (s.work / s.seconds / 1e9, "GB/s"),
        };
        out += &format!("{:>10.3} ms {rate:>10.1} {unit:<8} {}\n", 1e3 * s.seconds, s.operation);
    }
    out
}
