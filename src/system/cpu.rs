//! The processor.

use super::{Limits, linux};
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The processor, as this process may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Brand as the processor states it.
    pub model: String,
    /// Kinds of the processors that this process may run on, several where cores differ; empty
    /// where the system does not state them, and in records of programs that did not look.
    #[serde(default)]
    pub kinds: Vec<CpuKind>,
    /// Architecture, `x86_64` say.
    pub architecture: String,
    /// Cores without their hardware threads.
    pub physical_cores: Option<usize>,
    /// Hardware threads that this process may run on.
    pub logical_cores: usize,
    /// Processors' worth of time that the control group allows, where it limits it.
    pub quota: Option<f64>,
    /// Whether two threads share a core (simultaneous multithreading).
    pub smt: Option<bool>,
    /// Instruction sets that the kernels care for, widest last.
    pub instruction_sets: Vec<String>,
    /// Caches of the first core.
    pub caches: Vec<Cache>,
    /// Frequency governor of the first core.
    pub governor: Option<String>,
    /// Frequency when the record was made, in MHz.
    pub frequency_mhz: Option<u64>,
}

/// A kind of processor in the vendor's own numbers, where brands say little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuKind {
    /// `AuthenticAMD`, `GenuineIntel`; ARM's number of the implementer.
    pub vendor: String,
    /// Family; ARM's architecture.
    pub family: String,
    /// Model; ARM's part.
    pub model: String,
    /// Stepping; ARM's variant and revision.
    pub stepping: String,
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// `L1 Data`, `L2 Unified`, ...
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Processors that share it, as Linux lists them: `0-1`.
    pub shared_by: String,
}

impl Cpu {
    pub(super) fn inspect() -> Self {
        let kind = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_frequency());
        let system = System::new_with_specifics(kind).ok();
        let first = system.as_ref().and_then(|s| s.cpus().first());
        Cpu {
            model: first
                .map(|c| c.brand().trim().to_owned())
                .filter(|b| !b.is_empty())
                .unwrap_or_else(|| "unknown".into()),
            kinds: linux::cpu_kinds(),
            architecture: std::env::consts::ARCH.into(),
            physical_cores: System::physical_core_count().ok(),
            logical_cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            quota: Limits::here().cpu,
            smt: linux::flag("/sys/devices/system/cpu/smt/active"),
            instruction_sets: instruction_sets(),
            caches: linux::caches(),
            governor: linux::line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            frequency_mhz: first.map(|c| c.frequency()).filter(|&f| f > 0),
        }
    }

    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let physical = self.physical_cores.map_or(String::new(), |p| format!("{p} physical, "));
        let mut cores = format!("{physical}{} logical", self.logical_cores);
        if let Some(quota) = self.quota {
            cores += &format!(", limited to {quota:.2} by the control group");
        }
        if self.smt == Some(true) {
            cores += ", two threads a core";
        }
        let caches: Vec<_> =
            self.caches.iter().map(|c| format!("{} {} KiB", c.name, c.size / 1024)).collect();
        let kind = |k: &CpuKind| {
            format!("{} family {} model {} stepping {}", k.vendor, k.family, k.model, k.stepping)
        };
        let kinds: Vec<_> = self.kinds.iter().map(kind).collect();
        let or_unknown = |s: String| if s.is_empty() { "unknown".to_owned() } else { s };
        vec![
            ("Processor", format!("{} ({})", self.model, self.architecture)),
            ("Kind", or_unknown(kinds.join("; "))),
            ("Cores", cores),
            ("Instruction sets", or_unknown(self.instruction_sets.join(" "))),
            ("Caches", or_unknown(caches.join(", "))),
            ("Frequency", self.frequency_mhz.map_or("unknown".into(), |f| format!("{f} MHz"))),
            ("Governor", self.governor.clone().unwrap_or_else(|| "unknown".into())),
        ]
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<String> {
    macro_rules! detected {
        ($($name:tt),*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    let sets = detected!(
        "sse4.2",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    );
    let mut found: Vec<_> =
        sets.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()).collect();
    // The standard library cannot ask for these yet.
    found.extend(linux::cpu_flags().into_iter().filter(|flag| flag.starts_with("amx_")));
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_sets() -> Vec<String> {
    Vec::new()
}
