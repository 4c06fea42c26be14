//! Energy of processors and memory, where the kernel counts it and lets us read it, and of a GPU.
//!
//! Linux' power capping framework (kernel documentation: power/powercap) has a folder for each
//! domain with its `name`, a counter in microjoules, `energy_uj`, and the value at which that
//! begins anew, `max_energy_range_uj`. Since 2020 only root may read the counter, and virtual
//! machines mostly have none.
//!
//! NVIDIA's GPUs count millijoules since the driver was loaded (NVML,
//! `nvmlDeviceGetTotalEnergyConsumption`), from Volta on.

use nvml_wrapper::Nvml;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Counters begin anew after some minutes of full power at the soonest.
const POLL: Duration = Duration::from_secs(10);

/// Adds up what the counters say.
#[derive(Debug)]
pub struct EnergyMeter {
    domains: Vec<Domain>,
    gpu: Option<Gpu>,
    microjoules: u64,
    polled: Instant,
}

/// A GPU's counter: millijoules, which do not begin anew.
struct Gpu {
    name: String,
    counter: Box<dyn Fn() -> Option<u64>>,
    last: u64,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("name", &self.name)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Domain {
    name: String,
    counter: PathBuf,
    range: u64,
    last: u64,
}

impl EnergyMeter {
    /// Starts to count, also for a GPU that computes (its name and what NVML calls its UUID);
    /// `None` where nothing can be read.
    pub fn open(gpu: Option<(&str, &str)>) -> Option<Self> {
        let gpu = gpu.and_then(|(name, uuid)| Gpu::new(name, nvml(uuid)?));
        Self::open_in(Path::new("/sys/class/powercap"), gpu)
    }

    fn open_in(root: &Path, gpu: Option<Gpu>) -> Option<Self> {
        let folders = fs::read_dir(root).into_iter().flatten();
        let mut domains: Vec<Domain> =
            folders.filter_map(|entry| Domain::open(&entry.ok()?.path())).collect();
        domains.sort_by(|a, b| a.counter.cmp(&b.counter));
        let any = gpu.is_some() || !domains.is_empty();
        any.then(|| EnergyMeter { domains, gpu, microjoules: 0, polled: Instant::now() })
    }

    /// Whose energy is counted, as in `package-0`, `dram`, `NVIDIA H200`.
    pub fn counted(&self) -> Vec<String> {
        self.domains
            .iter()
            .map(|d| d.name.clone())
            .chain(self.gpu.iter().map(|g| g.name.clone()))
            .collect()
    }

    /// To be called often: reads the counters if it is time to.
    pub fn poll(&mut self) {
        if self.polled.elapsed() >= POLL {
            self.read();
        }
    }

    /// Joules since the start, of all processors, where it is counted apart of memory, and of the
    /// GPU.
    pub fn joules(&mut self) -> f64 {
        self.read();
        self.microjoules as f64 / 1e6
    }

    fn read(&mut self) {
        self.polled = Instant::now();
        for domain in &mut self.domains {
            // One that cannot be read any more adds nothing.
            let Some(now) = number(&domain.counter) else { continue };
            let gone = if now >= domain.last {
                now - domain.last
            } else {
                now + (domain.range - domain.last)
            };
            self.microjoules += gone;
            domain.last = now;
        }
        if let Some(gpu) = &mut self.gpu
            && let Some(now) = (gpu.counter)()
        {
            self.microjoules += 1000 * now.saturating_sub(gpu.last);
            gpu.last = now;
        }
    }
}

impl Gpu {
    /// `None` if nothing can be read.
    fn new(name: &str, counter: impl Fn() -> Option<u64> + 'static) -> Option<Self> {
        let last = counter()?;
        Some(Gpu { name: name.to_owned(), counter: Box::new(counter), last })
    }
}

/// A counter of millijoules by NVIDIA's management library, which comes with the driver.
fn nvml(uuid: &str) -> Option<impl Fn() -> Option<u64> + 'static> {
    let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().ok()?;
    let uuid = uuid.to_owned();
    Some(move || nvml.device_by_uuid(uuid.as_str()).ok()?.total_energy_consumption().ok())
}

impl Domain {
    /// Whole processors and memory beside them; cores and graphics are part of a processor, the
    /// platform (`psys`) is more than both.
    fn open(folder: &Path) -> Option<Self> {
        let name = fs::read_to_string(folder.join("name")).ok()?;
        let counted = name.starts_with("package-") || name.trim() == "dram";
        let counter = folder.join("energy_uj");
        let (last, range) = (number(&counter)?, number(&folder.join("max_energy_range_uj"))?);
        (counted && last <= range).then_some(Domain {
            name: name.trim().to_owned(),
            counter,
            range,
            last,
        })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, rc::Rc};

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
        assert!(EnergyMeter::open_in(root.path(), None).is_none());
        assert!(EnergyMeter::open_in(&root.path().join("none"), None).is_none());
        let counters = [
            domain("intel-rapl:0", "package-0"),
            domain("intel-rapl:0:0", "core"),
            domain("intel-rapl:0:1", "dram"),
            domain("intel-rapl:1", "package-1"),
            domain("intel-rapl:2", "psys"),
        ];
        fs::create_dir(root.path().join("intel-rapl")).unwrap();
        let mut meter = EnergyMeter::open_in(root.path(), None).unwrap();
        assert_eq!(meter.counted(), ["package-0", "dram", "package-1"]);
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

    #[test]
    fn a_gpu_is_added_and_may_fall_silent() {
        let root = tempfile::tempdir().unwrap();
        let now = Rc::new(Cell::new(Some(5_000)));
        let read = Rc::clone(&now);
        let gpu = Gpu::new("a GPU", move || read.get());
        let mut meter = EnergyMeter::open_in(root.path(), gpu).unwrap();
        assert_eq!((meter.counted(), meter.joules()), (vec!["a GPU".to_owned()], 0.0));
        now.set(Some(7_500));
        assert_eq!(meter.joules(), 2.5);
        now.set(None);
        assert_eq!(meter.joules(), 2.5);
        now.set(Some(8_000));
        assert_eq!(meter.joules(), 3.0);
        assert!(Gpu::new("a GPU without a counter", || None).is_none());
        assert!(
            nvml("GPU-00000000-0000-0000-0000-000000000000")
                .is_none_or(|counter| counter().is_none())
        );
    }
}
