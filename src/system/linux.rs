//! What Linux says in /proc and /sys. Everywhere else, and where a file is missing, the answer is
//! "not known".

use super::{Cache, CpuKind};
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

/// The memory that this process holds now, in bytes (`VmRSS`).
pub fn held_memory() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
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

/// Kinds of the processors that this process may run on, in order of first appearance.
pub(super) fn cpu_kinds() -> Vec<CpuKind> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    kinds(&text, |cpu| allowed.is_none_or(|list| in_list(list.trim(), cpu)))
}

/// Kinds of the allowed processors of `/proc/cpuinfo`; one block a processor, keys of x86 or ARM.
fn kinds(cpuinfo: &str, allowed: impl Fn(u64) -> bool) -> Vec<CpuKind> {
    let mut found = Vec::new();
    for block in cpuinfo.split("\n\n") {
        let value = |names: &[&str]| {
            let mut pairs = block.lines().filter_map(|l| l.split_once(':'));
            pairs.find(|(k, _)| names.contains(&k.trim())).map(|(_, v)| v.trim().to_owned())
        };
        let number = value(&["processor"]).and_then(|n| n.parse().ok());
        let Some(vendor) = value(&["vendor_id", "CPU implementer"]) else { continue };
        let unknown = || "unknown".to_owned();
        let stepping = value(&["stepping"]).or_else(|| {
            Some(format!("{}p{}", value(&["CPU variant"])?, value(&["CPU revision"])?))
        });
        let kind = CpuKind {
            vendor,
            family: value(&["cpu family", "CPU architecture"]).unwrap_or_else(unknown),
            model: value(&["model", "CPU part"]).unwrap_or_else(unknown),
            stepping: stepping.unwrap_or_else(unknown),
        };
        if number.is_none_or(&allowed) && !found.contains(&kind) {
            found.push(kind);
        }
    }
    found
}

/// Whether Linux' list `0-3,8` holds `n`.
pub(super) fn in_list(list: &str, n: u64) -> bool {
    list.split(',').any(|part| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if (a..=b).contains(&n))
    })
}

/// How many Linux' list `0-3,8` holds.
pub(super) fn count(list: &str) -> usize {
    let of = |part: &str| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let ends = a.parse::<usize>().ok().zip(b.parse::<usize>().ok());
        ends.map_or(0, |(a, b)| (b + 1).saturating_sub(a))
    };
    list.split(',').map(of).sum()
}

/// `"QUOTA PERIOD"` in microseconds; `max` or -1 is no limit.
pub(super) fn quota(text: &str) -> Option<f64> {
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
        assert_eq!((count("0"), count("0-3,8"), count("")), (1, 5, 0));
    }

    #[test]
    fn kinds_of_allowed_processors_once_each() {
        let amd = |n: u32, stepping: u32| {
            format!(
                "processor\t: {n}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: {stepping}\n\n"
            )
        };
        let text = amd(0, 1) + &amd(1, 1) + &amd(2, 2);
        let steppings = |list: &str| -> Vec<String> {
            kinds(&text, |n| in_list(list, n)).into_iter().map(|k| k.stepping).collect()
        };
        assert_eq!(steppings("0-7"), ["1", "2"]);
        assert_eq!((steppings("0,1"), steppings("2")), (vec!["1".into()], vec!["2".into()]));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd4f\nCPU revision\t: 1\n";
        let kind = CpuKind {
            vendor: "0x41".into(),
            family: "8".into(),
            model: "0xd4f".into(),
            stepping: "0x0p1".into(),
        };
        assert_eq!(kinds(arm, |_| true), [kind]);
        assert_eq!(kinds("", |_| true), []);
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
