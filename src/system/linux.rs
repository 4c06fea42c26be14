//! What Linux says in /proc and /sys. Everywhere else, and where a file is missing, the answer is
//! "not known".

use super::Cache;
use std::{fs, path::Path};

/// The only line of a file.
pub(super) fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn chosen(path: &str) -> Option<String> {
    let text = line(path)?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// A file that holds 0 or 1.
pub(super) fn flag(path: &str) -> Option<bool> {
    match line(path)?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// The most memory this process has held at once so far, in bytes (`VmHWM`).
pub fn peak_memory() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Lets [`peak_memory`] count from what the process holds now (proc(5), `clear_refs`). Where the
/// system does not allow that, it goes on counting from the start.
pub fn forget_peak_memory() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The value of a line `NAME:   123 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|l| l.strip_prefix(name))?.trim().strip_suffix("kB")?;
    Some(value.trim().parse::<u64>().ok()? * 1024)
}

/// Whether the processor reports a hypervisor.
pub(super) fn is_virtual() -> Option<bool> {
    let flags = cpu_flags();
    (!flags.is_empty()).then(|| flags.iter().any(|f| f == "hypervisor"))
}

/// What the kernel says the first processor can do, in the kernel's words.
pub(super) fn cpu_flags() -> Vec<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|l| l.starts_with("flags")).and_then(|l| l.split_once(':'));
    flags.map(|(_, f)| f.split_whitespace().map(Into::into).collect()).unwrap_or_default()
}

/// Processors' worth of time of the control group: version 2, then version 1. `None` = no limit.
pub(super) fn cpu_quota() -> Option<f64> {
    let v2 = || quota(&line("/sys/fs/cgroup/cpu.max")?);
    let v1 = || {
        let folder = Path::new("/sys/fs/cgroup/cpu");
        quota(&format!(
            "{} {}",
            line(folder.join("cpu.cfs_quota_us"))?,
            line(folder.join("cpu.cfs_period_us"))?
        ))
    };
    v2().or_else(v1)
}

/// `"QUOTA PERIOD"` in microseconds; `max` or -1 is no limit.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Caches of the first processor.
pub(super) fn caches() -> Vec<Cache> {
    let mut found = Vec::new();
    for index in 0.. {
        let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let read = |name| line(Path::new(&folder).join(name));
        let (Some(level), Some(kind), Some(size)) =
            (read("level"), read("type"), read("size").and_then(|s| bytes(&s)))
        else {
            return found;
        };
        let shared_by = read("shared_cpu_list").unwrap_or_default();
        found.push(Cache { name: format!("L{level} {kind}"), size, shared_by });
    }
    found
}

/// `48K`, `32M`.
fn bytes(size: &str) -> Option<u64> {
    let unit = match size.bytes().last()? {
        b'K' => 1 << 10,
        b'M' => 1 << 20,
        b'G' => 1 << 30,
        _ => return size.parse().ok(),
    };
    Some(size[..size.len() - 1].parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_sizes_and_status_lines() {
        assert_eq!(quota("150000 100000"), Some(1.5));
        assert_eq!(quota("max 100000"), None);
        assert_eq!(quota("-1 100000"), None);
        assert_eq!(quota("nonsense"), None);
        assert_eq!(
            (bytes("48K"), bytes("32M"), bytes("512"), bytes("K"), bytes("")),
            (Some(49152), Some(33554432), Some(512), None, None)
        );
        assert_eq!(kib("VmPeak:\t  10 kB\nVmHWM:\t    1234 kB\n", "VmHWM:"), Some(1234 * 1024));
        assert_eq!(kib("VmPeak: 10 kB", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_touched_shows_in_the_peak() {
        let before = peak_memory().unwrap();
        let touched = vec![1u8; 64 << 20];
        assert!(touched.iter().map(|&b| u64::from(b)).sum::<u64>() == 64 << 20);
        assert!(peak_memory().unwrap() >= before.max(64 << 20));
    }
}
