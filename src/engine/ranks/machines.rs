//! Machines whose figures are published, and how near the scaling model comes to steps that were
//! published of them.

use super::scaling::{Known, Link};
use serde::Serialize;

/// A machine as its maker describes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// As it is named on a command line.
    pub name: &'static str,
    /// Floating-point operations a second of one accelerator, at most: products of 16 bits, dense.
    pub flops: f64,
    /// Bytes of memory a second of one accelerator, at most.
    pub memory: f64,
    /// Accelerators of a host.
    pub per_host: usize,
    /// Bytes a second that one sends inside its host, at most.
    pub inside: f64,
    /// Bytes a second that one sends to other hosts, at most.
    pub between: f64,
    /// Share of these rates that the published step [`Machine::calibrated`] reached, all alike.
    pub reached: f64,
    /// The step by which that was set.
    pub calibrated: Published,
    /// Where the figures are from.
    pub source: &'static str,
}

/// A step of a published result: seconds between evaluations over steps between them, median of a
/// log, median of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Published {
    /// Where it is, below `github.com/mlcommons`.
    pub place: &'static str,
    /// The workload of the same model.
    pub workload: &'static str,
    /// Accelerators.
    pub ranks: usize,
    /// Samples of a step.
    pub batch: usize,
    /// Milliseconds of a step.
    pub milliseconds: f64,
}

/// All of them.
pub const MACHINES: [Machine; 2] = [
    Machine {
        name: "dgx-h100",
        flops: 989.4e12,
        memory: 3.35e12,
        per_host: 8,
        inside: 450e9,
        between: 50e9,
        reached: 0.4986,
        calibrated: H100_8,
        source: "NVIDIA H100 data sheet (SXM; FP16 without sparsity, HBM3, half of NVLink's 900 GB/s each way); ConnectX-7 of 400 Gbit/s for each (MLPerf training 3.1, systems/eos_ngc23.09_merlin_hugectr.json)",
    },
    Machine {
        name: "dgx-a100",
        flops: 312e12,
        memory: 2.039e12,
        per_host: 8,
        inside: 300e9,
        between: 25e9,
        reached: 0.6246,
        calibrated: A100_8,
        source: "NVIDIA A100 data sheet (SXM, 80 GB; FP16 without sparsity, HBM2e, half of NVLink's 600 GB/s each way); ConnectX-6 of 200 Gbit/s for each (MLPerf training 1.1, systems/dgxa100_ngc21.09_merlin_hugectr.json)",
    },
];

/// What `dgx-h100` is set by.
const H100_8: Published = Published {
    place: "training_results_v3.1/NVIDIA/results/eos_ngc23.09_merlin_hugectr",
    workload: "mlperf-v2",
    ranks: 8,
    batch: 55_296,
    milliseconds: 3.62,
};

/// What `dgx-a100` is set by.
const A100_8: Published = Published {
    place: "training_results_v1.1/NVIDIA/results/dgxa100_ngc21.09_merlin_hugectr",
    workload: "mlperf-v1",
    ranks: 8,
    batch: 55_296,
    milliseconds: 1.37,
};

/// Steps by which nothing was set, the model's prediction tried on each, with
/// [`super::scaling::Way::Split`] and messages of 16 bits: name of a machine, step, and by what share
/// the prediction is longer. On several hosts those of `mlperf-v1` took far less: their program keeps
/// frequent ids on every accelerator and sends few vectors (Wang et al. 2022, "Merlin HugeCTR",
/// doi:10.1145/3523227.3547405), which the model does not know.
pub const KEPT_BACK: [(&str, Published, f64); 5] = [
    (
        "dgx-h100",
        Published {
            place: "training_results_v3.1/NVIDIA/results/eos_n8_ngc23.09_merlin_hugectr",
            workload: "mlperf-v2",
            ranks: 64,
            batch: 135_168,
            milliseconds: 2.48,
        },
        0.037,
    ),
    (
        "dgx-h100",
        Published {
            place: "training_results_v3.1/NVIDIA/results/eos_n16_ngc23.09_merlin_hugectr",
            workload: "mlperf-v2",
            ranks: 128,
            batch: 135_168,
            milliseconds: 1.92,
        },
        -0.113,
    ),
    (
        "dgx-h100",
        Published {
            place: "training_results_v2.1/NVIDIA/results/dgxh100_preview",
            workload: "mlperf-v1",
            ranks: 8,
            batch: 55_296,
            milliseconds: 0.855,
        },
        0.042,
    ),
    (
        "dgx-h100",
        Published {
            place: "training_results_v2.1/NVIDIA/results/dgxh100_n4_preview",
            workload: "mlperf-v1",
            ranks: 32,
            batch: 71_680,
            milliseconds: 0.482,
        },
        1.368,
    ),
    (
        "dgx-a100",
        Published {
            place: "training_results_v1.1/NVIDIA/results/dgxa100_n8_ngc21.09_merlin_hugectr",
            workload: "mlperf-v1",
            ranks: 64,
            batch: 71_680,
            milliseconds: 0.627,
        },
        0.77,
    ),
];

/// The machine of that name.
pub fn machine(name: &str) -> Option<&'static Machine> {
    MACHINES.iter().find(|m| m.name == name)
}

impl Machine {
    /// What it reaches, as far as the calibration goes. Latencies are not published: 0.
    pub fn known(&self) -> Known {
        let link = |most: f64| Some(Link { latency: 0.0, bandwidth: self.reached * most });
        Known {
            flops: self.reached * self.flops,
            memory: self.reached * self.memory,
            fixed: 0.0,
            per_host: Some(self.per_host),
            inside: link(self.inside),
            between: link(self.between),
        }
    }
}
