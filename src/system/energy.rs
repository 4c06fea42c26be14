//! Energy of processors and memory, where the kernel counts it and lets us read it.
//!
//! Linux' power capping framework (kernel documentation: power/powercap) has a folder for each domain with its `name`, a counter in
//! microjoules, `energy_uj`, and the value at which that begins anew, `max_energy_range_uj`. Since 2020 only root may read the
//! counter, and virtual machines mostly have none.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Counters begin anew after some minutes of full power at the soonest.
const POLL: Duration = Duration::from_secs(10);

/// Adds up what the counters say.
#[derive(Debug)]
pub struct EnergyMeter {
    domains: Vec<Domain>,
    microjoules: u64,
    polled: Instant,
}

#[derive(Debug)]
struct Domain {
    counter: PathBuf,
    range: u64,
    last: u64,
}

impl EnergyMeter {
    /// Starts to count; `None` where nothing can be read.
    pub fn open() -> Option<Self> {
        Self::open_in(Path::new("/sys/class/powercap"))
    }

    fn open_in(root: &Path) -> Option<Self> {
        let domains: Vec<Domain> = fs::read_dir(root).ok()?.filter_map(|entry| Domain::open(&entry.ok()?.path())).collect();
        (!domains.is_empty()).then(|| EnergyMeter { domains, microjoules: 0, polled: Instant::now() })
    }

    /// To be called often: reads the counters if it is time to.
    pub fn poll(&mut self) {
        if self.polled.elapsed() >= POLL {
            self.read();
        }
    }

    /// Joules since the start, of all processors and, where it is counted apart, memory.
    pub fn joules(&mut self) -> f64 {
        self.read();
        self.microjoules as f64 / 1e6
    }

    fn read(&mut self) {
        self.polled = Instant::now();
        for domain in &mut self.domains {
            // One that cannot be read any more adds nothing.
            let Some(now) = number(&domain.counter) else { continue };
            let gone = if now >= domain.last { now - domain.last } else { now + (domain.range - domain.last) };
            self.microjoules += gone;
            domain.last = now;
        }
    }
}

impl Domain {
    /// Whole processors and memory beside them; cores and graphics are part of a processor, the platform (`psys`) is more than both.
    fn open(folder: &Path) -> Option<Self> {
        let name = fs::read_to_string(folder.join("name")).ok()?;
        let counted = name.starts_with("package-") || name.trim() == "dram";
        let counter = folder.join("energy_uj");
        let (last, range) = (number(&counter)?, number(&folder.join("max_energy_range_uj"))?);
        (counted && last <= range).then_some(Domain { counter, range, last })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_memory_are_added_up_over_the_end_of_the_counter() {
        let root = tempfile::tempdir().unwrap();
        let domain = |folder: &str, name: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("name"), format!("{name}\n")).unwrap();
            fs::write(folder.join("max_energy_range_uj"), "1000000\n").unwrap();
            fs::write(folder.join("energy_uj"), "900000\n").unwrap();
            folder.join("energy_uj")
        };
        assert!(EnergyMeter::open_in(root.path()).is_none());
        assert!(EnergyMeter::open_in(&root.path().join("none")).is_none());
        let counters = [
            domain("intel-rapl:0", "package-0"),
            domain("intel-rapl:0:0", "core"),
            domain("intel-rapl:0:1", "dram"),
            domain("intel-rapl:1", "package-1"),
            domain("intel-rapl:2", "psys"),
        ];
        fs::create_dir(root.path().join("intel-rapl")).unwrap();
        let mut meter = EnergyMeter::open_in(root.path()).unwrap();
        assert_eq!(meter.joules(), 0.0);
        // One goes on, one begins anew, one disappears; the others do not count.
        fs::write(&counters[0], "950000\n").unwrap();
        fs::write(&counters[1], "999999\n").unwrap();
        fs::write(&counters[2], "20000\n").unwrap();
        fs::remove_file(&counters[3]).unwrap();
        fs::write(&counters[4], "999999\n").unwrap();
        assert!((meter.joules() - (0.05 + 0.12)).abs() < 1e-9);
        meter.poll();
        assert!((meter.joules() - 0.17).abs() < 1e-9);
    }
}
