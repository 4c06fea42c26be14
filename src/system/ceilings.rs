//! What this machine can do at most. A run records it, so that its speed can be judged as a share
//! of the machine's: a slower machine is then no slower program.

use crate::{
    backend::{
        self,
        cpu::ceilings::{Meter, Visit},
        cuda::{
            ceilings::Meter as GpuMeter,
            driver::{
                Driver,
                gemm::{Compute, Number},
            },
        },
    },
    embedding::EmbeddingError,
    host::Isa,
};
use serde::{Deserialize, Serialize};
use std::{rc::Rc, time::Duration};

/// Memory that is measured: several times what caches hold.
const MEMORY: u64 = 256 << 20;
/// The least memory that tells anything.
const LEAST: u64 = 16 << 20;
/// Rows at random are visited within this much memory to measure them in the cache: more than a
/// core's own, less than the shared.
const CACHE: usize = 8 << 20;
/// Memory of a GPU that is measured.
const GPU_MEMORY: u64 = 4 << 30;
/// The share of a GPU's cache in which rows are visited; the rest is left to what else is there.
const GPU_CACHE_SHARE: u64 = 4;
/// Rounds of a GPU's products in a burst: a millisecond or two.
const GPU_ROUNDS: u32 = 1 << 14;
/// Sizes of the rows that are visited.
const ROWS: [usize; 2] = [64, 512];

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// About a third of a second, before a run and again after it.
    Quick,
    /// A few seconds.
    Thorough,
}

/// The measured ceilings of a machine, all threads together: the fastest of several bursts each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// The GPU that was measured; `None` for the processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Threads that were at work; of a GPU, its multiprocessors.
    pub threads: usize,
    /// Instruction set: `portable`, `avx2` or `avx512`; of a GPU, its compute capability.
    pub instruction_set: String,
    /// Floating-point operations a second in f32 (a product and a sum are two), in registers.
    pub flops_f32: f64,
    /// The same for products of bf16 that are summed in f32; `None` where the machine has no
    /// instruction for it.
    pub flops_bf16: Option<f64>,
    /// The same for f32 rounded to TF32; a GPU's, by large products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_tf32: Option<f64>,
    /// The same for f16 that is summed in f32; a GPU's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_f16: Option<f64>,
    /// Bytes a second read from memory, one after another.
    pub read: f64,
    /// Bytes a second, read and written together, of a copy.
    pub copy: f64,
    /// Rows at random places of `memory` bytes on huge pages, by size.
    pub rows: Vec<RowCeiling>,
    /// The same within 8 MiB, which caches hold; on a GPU, within a quarter of its cache.
    pub rows_in_cache: Vec<RowCeiling>,
    /// Bytes of a GPU's cache; that of the processors is the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<u64>,
    /// Bytes of memory that streams and rows went through.
    pub memory: u64,
}

/// Rows of one size at random places.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowCeiling {
    /// Bytes of a row.
    pub bytes: u64,
    /// Rows read a second.
    pub gather: f64,
    /// Rows read, changed and written back a second.
    pub update: f64,
}

impl Ceilings {
    /// Measures this machine with `threads` threads, taking at most an eighth of `available` bytes.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn measure(
        threads: usize,
        pin: bool,
        isa: Isa,
        effort: Effort,
        available: u64,
    ) -> Result<Self, EmbeddingError> {
        let time = match effort {
            Effort::Quick => Duration::from_millis(20),
            Effort::Thorough => Duration::from_millis(350),
        };
        let memory = (available / 8).clamp(LEAST, MEMORY) as usize;
        let mut meter = Meter::new(threads, pin, isa, memory, time)?;
        let mut rows = |within: usize| {
            ROWS.map(|bytes| RowCeiling {
                bytes: bytes as u64,
                gather: meter.rows(Visit::Gather, bytes, within),
                update: meter.rows(Visit::Update, bytes, within),
            })
            .to_vec()
        };
        let (rows, rows_in_cache) = (rows(memory), rows(CACHE));
        Ok(Ceilings {
            gpu: None,
            threads,
            instruction_set: isa.name().to_owned(),
            flops_f32: meter.flops_f32(),
            flops_bf16: meter.flops_bf16(),
            flops_tf32: None,
            flops_f16: None,
            cache: None,
            read: meter.read(),
            copy: meter.copy(),
            rows,
            rows_in_cache,
            memory: meter.memory() as u64,
        })
    }

    /// Measures a GPU, taking at most an eighth of its free memory.
    ///
    /// # Errors
    /// If the memory cannot be had, or the device fails.
    pub fn of_gpu(driver: &Rc<dyn Driver>, effort: Effort) -> backend::Result<Self> {
        let (time, rounds) = match effort {
            Effort::Quick => (Duration::from_millis(12), GPU_ROUNDS),
            Effort::Thorough => (Duration::from_millis(250), 8 * GPU_ROUNDS),
        };
        let bytes = (driver.available()? / 8).clamp(LEAST, GPU_MEMORY);
        Ceilings::of_gpu_within(driver, bytes as usize, rounds, time)
    }

    fn of_gpu_within(
        driver: &Rc<dyn Driver>,
        bytes: usize,
        rounds: u32,
        time: Duration,
    ) -> backend::Result<Self> {
        let info = driver.device().clone();
        let meter = GpuMeter::new(driver, bytes, rounds, time)?;
        let rows = |within: usize| {
            let ceiling = |bytes: usize| {
                let (gather, update) = (
                    meter.rows(Visit::Gather, bytes, within)?,
                    meter.rows(Visit::Update, bytes, within)?,
                );
                Ok(RowCeiling { bytes: bytes as u64, gather, update })
            };
            ROWS.into_iter().map(ceiling).collect::<backend::Result<Vec<_>>>()
        };
        let (largest, of_cache) = (ROWS[ROWS.len() - 1], (info.cache / GPU_CACHE_SHARE) as usize);
        // Products before anything changes what they multiply.
        let [flops_bf16, flops_tf32, flops_f16] = [
            (Number::Bf16, Compute::Plain),
            (Number::F32, Compute::Tf32),
            (Number::F16, Compute::Plain),
        ]
        .map(|(number, compute)| meter.flops_of_products(number, compute));
        Ok(Ceilings {
            flops_bf16: flops_bf16?,
            flops_tf32: flops_tf32?,
            flops_f16: flops_f16?,
            flops_f32: meter.flops_f32()?,
            rows: rows(meter.memory())?,
            rows_in_cache: rows(of_cache.max(largest))?,
            read: meter.read()?,
            copy: meter.copy()?,
            memory: meter.memory() as u64,
            cache: Some(info.cache),
            threads: info.multiprocessors as usize,
            instruction_set: info.capability,
            gpu: Some(info.name),
        })
    }

    /// The higher of each two ceilings of one machine, measured at two times: what else the machine
    /// did at one of them lowers none. Where memory left for the second differed, the first stand:
    /// rows in less memory are faster, and no ceiling of more.
    #[must_use]
    pub fn or_higher(self, again: &Self) -> Self {
        let one =
            |c: &Self| (c.gpu.clone(), c.threads, c.instruction_set.clone(), c.memory, c.cache);
        if one(&self) != one(again) {
            return self;
        }
        let higher = |a: Option<f64>, b: Option<f64>| a.zip(b).map_or(a, |(a, b)| Some(a.max(b)));
        let rows = |a: &[RowCeiling], b: &[RowCeiling]| {
            let both = a.iter().zip(b).map(|(a, b)| RowCeiling {
                bytes: a.bytes,
                gather: a.gather.max(b.gather),
                update: a.update.max(b.update),
            });
            both.collect()
        };
        Ceilings {
            flops_f32: self.flops_f32.max(again.flops_f32),
            flops_bf16: higher(self.flops_bf16, again.flops_bf16),
            flops_tf32: higher(self.flops_tf32, again.flops_tf32),
            flops_f16: higher(self.flops_f16, again.flops_f16),
            read: self.read.max(again.read),
            copy: self.copy.max(again.copy),
            rows: rows(&self.rows, &again.rows),
            rows_in_cache: rows(&self.rows_in_cache, &again.rows_in_cache),
            ..self
        }
    }

    /// Label and value of each ceiling, for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let giga = |x: f64, unit: &str| format!("{:.1} {unit}", x / 1e9);
        let bf16 = self.flops_bf16.map_or("no instruction for it".into(), |f| giga(f, "GFLOP/s"));
        let whose = match &self.gpu {
            Some(name) => ("GPU".to_owned(), format!("{name}, {} multiprocessors", self.threads)),
            None => ("Threads".to_owned(), format!("{}, {}", self.threads, self.instruction_set)),
        };
        let mut lines = vec![
            whose,
            ("Products, f32".to_owned(), giga(self.flops_f32, "GFLOP/s")),
            ("Products, bf16".to_owned(), bf16),
        ];
        for (label, flops) in
            [("Products, tf32", self.flops_tf32), ("Products, f16", self.flops_f16)]
        {
            lines.extend(flops.map(|f| (label.to_owned(), giga(f, "GFLOP/s"))));
        }
        lines.extend([
            ("Reading memory".to_owned(), giga(self.read, "GB/s")),
            ("Copying memory".to_owned(), giga(self.copy, "GB/s, read and written")),
        ]);
        for (rows, place) in [(&self.rows, "memory"), (&self.rows_in_cache, "cache")] {
            for r in rows {
                let value =
                    format!("{:.1} M/s read, {:.1} M/s updated", r.gather / 1e6, r.update / 1e6);
                lines.push((format!("Rows of {} B in {place}", r.bytes), value));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_measured_within_the_memory_allowed_and_reads_back() {
        let c = Ceilings::measure(2, false, Isa::best(), Effort::Quick, 1).unwrap();
        assert_eq!(
            (c.threads, c.memory, c.instruction_set.as_str()),
            (2, LEAST, Isa::best().name())
        );
        assert_eq!(c.rows.iter().map(|r| r.bytes).collect::<Vec<_>>(), [64, 512]);
        // How fast is for benches to say; here other tests run beside it.
        let rates = c.rows.iter().chain(&c.rows_in_cache).flat_map(|r| [r.gather, r.update]);
        assert!(
            rates.chain(c.flops_bf16).chain([c.flops_f32]).all(|x| x > 0.0 && x.is_finite()),
            "{c:?}"
        );
        let text = serde_json::to_string(&c).unwrap();
        assert_eq!(serde_json::from_str::<Ceilings>(&text).unwrap(), c);
        assert!(c.lines().iter().all(|(label, value)| !label.is_empty() && !value.is_empty()));
    }

    #[test]
    fn of_two_measurements_each_ceiling_is_the_higher_one() {
        let row = |gather, update| RowCeiling { bytes: 64, gather, update };
        let first = Ceilings {
            gpu: None,
            threads: 2,
            instruction_set: "avx2".into(),
            flops_f32: 5.0,
            flops_bf16: None,
            flops_tf32: Some(1.0),
            flops_f16: Some(9.0),
            read: 2.0,
            copy: 8.0,
            rows: vec![row(1.0, 6.0)],
            rows_in_cache: vec![row(3.0, 2.0)],
            cache: None,
            memory: 100,
        };
        let again = Ceilings {
            flops_f32: 4.0,
            flops_tf32: Some(2.0),
            flops_f16: Some(7.0),
            read: 3.0,
            copy: 7.0,
            rows: vec![row(2.0, 5.0)],
            rows_in_cache: vec![row(2.0, 4.0)],
            ..first.clone()
        };
        let want = Ceilings {
            flops_tf32: Some(2.0),
            read: 3.0,
            rows: vec![row(2.0, 6.0)],
            rows_in_cache: vec![row(3.0, 4.0)],
            ..first.clone()
        };
        assert_eq!(first.clone().or_higher(&again), want);
        assert_eq!(again.clone().or_higher(&first), want);
        // Rows within less memory, or another number of threads, are ceilings of something else.
        for other in [Ceilings { memory: 50, ..again.clone() }, Ceilings { threads: 1, ..again }] {
            assert_eq!(first.clone().or_higher(&other), first);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_gpu_is_measured_with_its_own_cache_and_products() {
        for driver in crate::backend::cuda::testing::devices().into_iter().take(1) {
            let c = Ceilings::of_gpu_within(&driver, 1 << 15, 2, Duration::ZERO).unwrap();
            let info = driver.device();
            assert_eq!(
                (c.threads, c.memory, c.cache),
                (info.multiprocessors as usize, 1 << 15, Some(info.cache))
            );
            let rates = c.rows.iter().chain(&c.rows_in_cache).flat_map(|r| [r.gather, r.update]);
            let rates =
                rates.chain([c.flops_f32, c.read, c.copy]).chain(c.flops_tf32).chain(c.flops_bf16);
            assert!(rates.into_iter().all(|x| x > 0.0 && x.is_finite()), "{c:?}");
            assert!(c.lines()[0].1.contains(&info.name), "{:?}", c.lines());
        }
    }
}
