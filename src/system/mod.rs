//! The machine and the program, as a run records them.

mod ceilings;
mod cgroup;
mod cpu;
mod energy;
mod linux;
mod noise;
mod versions;

use crate::backend::cuda::driver::DeviceInfo;
use serde::{Deserialize, Serialize};
use sysinfo::System;

pub use ceilings::{Ceilings, Effort, RowCeiling};
pub use cgroup::Limits;
pub use cpu::{Cache, Cpu, CpuKind};
pub use energy::EnergyMeter;
pub use linux::{forget_peak_memory, held_memory, peak_memory};
pub use noise::{Finding, Grade, Noise, Setting, Usage, UsageMeter};
pub use versions::Versions;

/// The machine a run was made on. What cannot be read is `None`; the host's name is left out on
/// purpose, since records are shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor.
    pub cpu: Cpu,
    /// Main memory in bytes.
    pub memory: Option<u64>,
    /// Main memory that was free for use when the record was made, in bytes.
    pub memory_available: Option<u64>,
    /// The most memory this process may use where a control group limits it, in bytes.
    pub memory_limit: Option<u64>,
    /// Operating system and its version.
    pub os: Option<String>,
    /// Kernel version.
    pub kernel: Option<String>,
    /// Processes that wanted to run, averaged over the last minute, when the record was made: above
    /// 0 means others were at work.
    pub load_average: Option<f64>,
    /// Linux' transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Hypervisor or other virtualisation, where the processor says so.
    pub virtual_machine: Option<bool>,
    /// The GPU that computes, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<DeviceInfo>,
    /// Where each rank runs, if there are several; the first one on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankSeat>,
}

/// Where one of several ranks runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankSeat {
    /// Which host, counted from 0.
    pub host: usize,
    /// Its processor.
    pub cpu: String,
    /// Processors that the rank may use.
    pub cores: usize,
}

impl Machine {
    /// Looks at this machine. Takes some milliseconds; meant to be called once, before a run loads
    /// the machine.
    pub fn inspect() -> Self {
        let system = System::new().ok().map(|mut s| {
            s.refresh_memory();
            s
        });
        let system = system.as_ref();
        let memory = system.map(|s| s.total_memory());
        let limit = Limits::here().memory;
        Machine {
            cpu: Cpu::inspect(),
            memory,
            memory_available: system.map(|s| s.available_memory()),
            memory_limit: limit.filter(|&limit| memory.is_some_and(|m| limit < m)),
            os: System::long_os_version().ok(),
            kernel: System::kernel_version().ok(),
            load_average: System::load_average().ok().map(|l| l.one),
            transparent_huge_pages: linux::chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
            virtual_machine: linux::is_virtual(),
            gpu: None,
            ranks: Vec::new(),
        }
    }

    /// A name for the results folder, made from the GPU if one computes, else from the processor:
    /// `nvidia-h200`, `amd-epyc-9654-192c`, `amd-epyc-2c`.
    pub fn name(&self) -> String {
        if let Some(gpu) = &self.gpu {
            return slug(&gpu.name);
        }
        let one = format!("{}-{}c", slug(&self.cpu.model), self.cpu.logical_cores);
        match self.ranks.len() {
            0 | 1 => one,
            ranks => format!("{one}-{ranks}r"),
        }
    }

    /// Hosts that compute.
    pub fn hosts(&self) -> usize {
        self.ranks.iter().map(|rank| rank.host + 1).max().unwrap_or(1)
    }

    /// Label and value of each fact, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let known = |x: &Option<String>| x.clone().unwrap_or_else(|| "unknown".into());
        let mut lines = self.cpu.lines();
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let mut memory = self.memory.map_or("unknown".into(), |m| format!("{:.1} GiB", gib(m)));
        if let Some(available) = self.memory_available {
            memory += &format!(", {:.1} GiB available", gib(available));
        }
        if let Some(limit) = self.memory_limit {
            memory += &format!(", limited to {:.1} GiB", gib(limit));
        }
        lines.push(("Memory", memory));
        lines.extend(self.gpu.iter().flat_map(DeviceInfo::lines));
        if !self.ranks.is_empty() {
            let (ranks, hosts) = (self.ranks.len(), self.hosts());
            lines.push((
                "Ranks",
                format!("{ranks} on {hosts} host{}", if hosts == 1 { "" } else { "s" }),
            ));
        }
        lines.push(("Transparent huge pages", known(&self.transparent_huge_pages)));
        lines.push(("Operating system", known(&self.os)));
        lines.push(("Kernel", known(&self.kernel)));
        lines.push((
            "Virtual machine",
            self.virtual_machine.map_or("unknown", |v| if v { "yes" } else { "no" }).into(),
        ));
        lines.push((
            "Load average (1 min)",
            self.load_average.map_or("unknown".into(), |l| format!("{l:.2}")),
        ));
        lines
    }
}

/// Processors that this process may use at once: those it may run on, and no more than the time
/// that control groups allow; at least 1.
pub fn usable_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    let quota = Limits::here().cpu.map_or(allowed, |quota| quota.ceil() as usize);
    allowed.min(quota).max(1)
}

/// A processor's brand as a folder name: lower case, letters and digits, without the words that
/// every brand carries.
fn slug(brand: &str) -> String {
    const NOISE: [&str; 9] =
        ["r", "tm", "cpu", "processor", "core", "with", "radeon", "graphics", "genuine"];
    let before_clock = brand.split('@').next().unwrap_or(brand).to_lowercase();
    let words: Vec<&str> = before_clock
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty() && !NOISE.contains(w) && !is_core_count(w))
        .collect();
    if words.is_empty() { "cpu".into() } else { words.join("-") }
}

/// `96` of `96-Core`, which the logical count already says.
fn is_core_count(word: &str) -> bool {
    word.len() <= 3 && word.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_fit_for_folders() {
        for (brand, expected) in [
            ("AMD EPYC", "amd-epyc"),
            ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
            ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "intel-xeon-platinum-8480"),
            ("Intel(R) Core(TM) i9-14900K", "intel-i9-14900k"),
            ("Neoverse-V2", "neoverse-v2"),
            ("../../etc", "etc"),
            ("", "cpu"),
        ] {
            assert_eq!(slug(brand), expected);
        }
    }

    #[test]
    fn this_machine_can_be_inspected_and_read_back() {
        let machine = Machine::inspect();
        assert!(machine.cpu.logical_cores >= 1 && machine.memory > Some(1 << 20));
        assert!(machine.name().ends_with(&format!("-{}c", machine.cpu.logical_cores)));
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
        assert!(
            machine.lines().iter().all(|(label, value)| !label.is_empty() && !value.is_empty())
        );
    }
}
