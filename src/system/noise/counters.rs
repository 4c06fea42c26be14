//! What the system counts of processors' time.

use crate::system::{
    cgroup,
    linux::{in_list, line},
};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, time::Instant};

/// Less than this many seconds are no measurement: the system counts in hundredths.
const SHORTEST: f64 = 0.5;

/// How the processors that a process may run on were used over some time. What the system does not
/// count is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds.
    pub seconds: f64,
    /// Processors that this process may run on.
    pub processors: usize,
    /// Processors' worth of time that this process and its children used.
    pub own: Option<f64>,
    /// Processors' worth of time that others used.
    pub others: Option<f64>,
    /// Share of the processors' time that the hypervisor gave to other machines (steal time).
    pub stolen: Option<f64>,
    /// Share of the time for which the control group's limit held the process back.
    pub held_back: Option<f64>,
    /// Times that a processor was slowed down for its heat.
    pub too_hot: Option<u64>,
}

/// The counters at some moment.
#[derive(Debug, Clone)]
pub struct UsageMeter {
    at: Instant,
    counted: Counted,
}

/// In ticks, microseconds and times.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counted {
    processors: Option<Processors>,
    own: Option<u64>,
    held_back: Option<u64>,
    too_hot: Option<u64>,
}

/// Ticks of the processors that this process may run on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Processors {
    n: usize,
    busy: u64,
    stolen: u64,
    /// With those in which nobody wanted one.
    all: u64,
}

impl UsageMeter {
    /// Begins to measure.
    pub fn start() -> Self {
        UsageMeter { at: Instant::now(), counted: Counted::now() }
    }

    /// How processors were used since the beginning; `None` if that was a moment ago.
    pub fn usage(&self) -> Option<Usage> {
        let seconds = self.at.elapsed().as_secs_f64();
        (seconds >= SHORTEST).then(|| self.counted.until(&Counted::now(), seconds))
    }
}

impl Counted {
    fn now() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let allowed = text("/proc/self/status").and_then(|status| {
            let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
            Some(list.trim().to_owned())
        });
        let allowed = |cpu: u64| allowed.as_deref().is_none_or(|list| in_list(list, cpu));
        Counted {
            processors: text("/proc/stat").and_then(|stat| processors(&stat, allowed)),
            own: text("/proc/self/stat").and_then(|stat| own(&stat)),
            held_back: cgroup::held_back(),
            too_hot: too_hot(Path::new("/sys/devices/system/cpu"), allowed),
        }
    }

    fn until(&self, later: &Counted, seconds: f64) -> Usage {
        let between = |a: Option<u64>, b: Option<u64>| Some(b?.saturating_sub(a?));
        let own = between(self.own, later.own);
        let mut usage = Usage {
            seconds,
            held_back: between(self.held_back, later.held_back)
                .map(|micros| (micros as f64 * 1e-6 / seconds).min(1.0)),
            too_hot: between(self.too_hot, later.too_hot),
            ..Usage::default()
        };
        let (Some(a), Some(b)) = (self.processors, later.processors) else { return usage };
        let all = b.all.saturating_sub(a.all) as f64;
        if a.n != b.n || all <= 0.0 {
            return usage;
        }
        // A tick is what makes the sum of all the time that has passed.
        let worth = |ticks: f64| ticks * a.n as f64 / all;
        usage.processors = a.n;
        usage.stolen = Some(b.stolen.saturating_sub(a.stolen) as f64 / all);
        usage.own = own.map(|own| worth(own as f64));
        usage.others = own.map(|own| {
            let busy = b.busy.saturating_sub(a.busy);
            worth(busy.saturating_sub(own) as f64)
        });
        usage
    }
}

/// Of `/proc/stat` (proc(5)): `cpuN user nice system idle iowait irq softirq steal ...`.
fn processors(stat: &str, allowed: impl Fn(u64) -> bool) -> Option<Processors> {
    let mut sum = Processors::default();
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let number = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if !number.is_some_and(&allowed) {
            continue;
        }
        let ticks: Vec<u64> = fields.take(8).map_while(|f| f.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, softirq, stolen] = ticks[..] else { continue };
        let busy = user + nice + system + irq + softirq;
        sum.n += 1;
        sum.busy += busy;
        sum.stolen += stolen;
        sum.all += busy + idle + wait + stolen;
    }
    (sum.n > 0).then_some(sum)
}

/// Of `/proc/self/stat`: user and system time of the process and of children that have ended.
fn own(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything; `utime` is the 14th field, the state the third.
    let (_, rest) = stat.rsplit_once(')')?;
    let times: Vec<u64> =
        rest.split_whitespace().skip(11).take(4).map_while(|f| f.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// Times that the processors were slowed down for their heat, as far as they count that.
fn too_hot(folder: &Path, allowed: impl Fn(u64) -> bool) -> Option<u64> {
    let of = |entry: fs::DirEntry| -> Option<u64> {
        let number = entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok();
        number.filter(|&n| allowed(n))?;
        line(entry.path().join("thermal_throttle/core_throttle_count"))?.parse().ok()
    };
    let counts: Vec<u64> = fs::read_dir(folder).ok()?.flatten().filter_map(of).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  1 2 3 4 5 6 7 8 9 10\n\
        cpu0 100 10 20 800 40 1 2 27 0 0\n\
        cpu1 500 0 0 500 0 0 0 0 0 0\n\
        cpu10 1 1 1 1 1 1 1 1 0 0\n\
        intr 5 cpu3 1\n";

    #[test]
    fn counters_are_read_as_the_system_writes_them() {
        let all = processors(STAT, |cpu| cpu < 2).unwrap();
        assert_eq!(all, Processors { n: 2, busy: 633, stolen: 27, all: 2000 });
        assert_eq!(processors(STAT, |_| true).unwrap().n, 3);
        assert_eq!(processors("nothing", |_| true), None);
        let stat = "12 (a ) b) R 1 2 3 4 5 6 7 8 9 10 100 20 3 1 20 0 1 0 99";
        assert_eq!(own(stat), Some(124));
        assert_eq!(own("12 (cut) R 1 2"), None);
    }

    #[test]
    fn heat_is_counted_for_processors_that_may_be_used() {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, count) in [("cpu0", "3\n"), ("cpu1", "4\n"), ("cpu7", "90\n"), ("cpufreq", "1\n")]
        {
            let folder = dir.path().join(cpu).join("thermal_throttle");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("core_throttle_count"), count).unwrap();
        }
        assert_eq!(too_hot(dir.path(), |cpu| cpu < 2), Some(7));
        assert_eq!(too_hot(&dir.path().join("cpufreq"), |_| true), None);
    }

    #[test]
    fn shares_are_of_the_time_between() {
        let at = |busy: u64, stolen: u64, all: u64, own: u64| Counted {
            processors: Some(Processors { n: 2, busy, stolen, all }),
            own: Some(own),
            held_back: Some(busy * 1000),
            too_hot: None,
        };
        let usage = at(1000, 10, 5000, 700).until(&at(1300, 30, 5400, 900), 2.0);
        let want = Usage {
            seconds: 2.0,
            processors: 2,
            own: Some(1.0),
            others: Some(0.5),
            stolen: Some(0.05),
            held_back: Some(0.15),
            too_hot: None,
        };
        assert_eq!(usage, want);
        // Nothing counts, or nothing has passed.
        let nothing = Counted::default().until(&Counted::default(), 2.0);
        assert_eq!(nothing, Usage { seconds: 2.0, ..Usage::default() });
        assert_eq!(at(1, 1, 1, 1).until(&at(1, 1, 1, 1), 1.0).others, None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen_to_work() {
        let meter = UsageMeter::start();
        assert_eq!(meter.usage(), None, "too soon");
        let (mut x, began) = (1u64, Instant::now());
        while began.elapsed().as_secs_f64() < 0.7 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let usage = meter.usage().unwrap();
        assert!(usage.processors >= 1 && usage.own.unwrap() > 0.05, "{usage:?} {x}");
    }
}
