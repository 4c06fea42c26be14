//! What a GPU can do at most, measured by the plainest loops there are and by large matrix
//! products: see [`crate::backend::cpu::ceilings`] for the same on the CPU.

use super::{
    driver::{Address, Driver, Launch, Memory, Source, gemm},
    launch::launch,
};
use crate::backend::{Result, cpu::ceilings::Visit};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

pub(super) static SOURCE: Source = Source {
    name: "ceilings",
    parts: &[include_str!("common/common.cuh"), include_str!("ceilings.cu")],
};

/// Fewest bursts of a measurement; the fastest counts.
const BURSTS: usize = 3;
/// Running products of a thread; as in the kernel.
const CHAINS: usize = 16;
/// Threads of a block of each kernel.
const THREADS: u32 = 256;
/// Blocks for each multiprocessor: what is resident and some in waiting.
const BLOCKS_EACH: u32 = 16;
/// Bytes of a piece that a thread reads at once.
const PIECE: usize = 16;
/// Rows and columns of the matrices that are multiplied, where there is memory for them.
const PRODUCT: usize = 8192;

/// A GPU, memory of it, and the time for a measurement.
#[derive(Debug)]
pub struct Meter {
    driver: Rc<dyn Driver>,
    memory: Memory,
    out: Memory,
    blocks: u32,
    rounds: u32,
    time: Duration,
}

impl Meter {
    /// Takes about `bytes` of the GPU's memory; each measurement will take about `time`, of which a
    /// burst of products takes `rounds`.
    ///
    /// # Errors
    /// If the memory cannot be had, or the device fails.
    pub fn new(driver: &Rc<dyn Driver>, bytes: usize, rounds: u32, time: Duration) -> Result<Self> {
        let blocks = driver.device().multiprocessors.max(1) * BLOCKS_EACH;
        let out = Memory::zeros(
            driver,
            (blocks * THREADS) as usize * size_of::<u32>(),
            "measuring ceilings",
        )?;
        let memory = Memory::zeros(driver, bytes / PIECE * PIECE, "measuring ceilings")?;
        let meter = Meter { driver: Rc::clone(driver), memory, out, blocks, rounds, time };
        let words = (meter.memory.bytes() / size_of::<u32>()) as u64;
        launch!(driver, SOURCE, "fill_random", meter.shape(), meter.memory.at(), words)?;
        Ok(meter)
    }

    /// Bytes of memory that streams and random rows go through.
    pub fn memory(&self) -> usize {
        self.memory.bytes()
    }

    /// The greatest rate of several bursts; `burst` begins some work.
    fn best(&self, work: f64, mut burst: impl FnMut() -> Result<()>) -> Result<f64> {
        // The first compiles, and wakes the clock.
        burst()?;
        self.driver.synchronize()?;
        let began = Instant::now();
        let (mut best, mut bursts) = (0.0f64, 0);
        while bursts < BURSTS || began.elapsed() < self.time {
            let start = Instant::now();
            burst()?;
            self.driver.synchronize()?;
            best = best.max(work / start.elapsed().as_secs_f64());
            bursts += 1;
        }
        Ok(best)
    }

    fn shape(&self) -> Launch {
        Launch { grid: [self.blocks, 1, 1], block: [THREADS, 1, 1], shared: 0 }
    }

    /// Operations a second of fused products and sums in f32 registers, two for each.
    ///
    /// # Errors
    /// If the device fails.
    pub fn flops_f32(&self) -> Result<f64> {
        let work = 2.0 * CHAINS as f64 * f64::from(self.rounds) * f64::from(self.blocks * THREADS);
        self.best(work, || {
            launch!(
                self.driver,
                SOURCE,
                "chains",
                self.shape(),
                self.out.at(),
                self.rounds,
                0.999f32,
                0.001f32
            )
        })
    }

    /// Operations a second of a product of large square matrices, `None` where the device has no
    /// such product. Tensor cores are reached through NVIDIA's library alone, so this is the
    /// ceiling of products by that library.
    ///
    /// # Errors
    /// If the device fails.
    pub fn flops_of_products(
        &self,
        number: gemm::Number,
        compute: gemm::Compute,
    ) -> Result<Option<f64>> {
        let (size_in, size_out) = (if number == gemm::Number::F32 { 4 } else { 2 }, 4);
        let fits = |n: usize| n * n * (2 * size_in + size_out) <= self.memory.bytes();
        let Some(n) = std::iter::successors(Some(PRODUCT), |n| Some(n / 2))
            .take_while(|&n| n >= 16)
            .find(|&n| fits(n))
        else {
            return Ok(None);
        };
        let operand = |at: usize, transposed| gemm::Operand {
            at: self.memory.at() + at as Address,
            stride: n,
            transposed,
        };
        let (m, k) = (n, n);
        let (a, b, d) = (
            operand(0, true),
            operand(n * n * size_in, false),
            operand(2 * n * n * size_in, false),
        );
        let product = gemm::Gemm {
            m,
            n,
            k,
            a,
            b,
            number,
            d,
            result: gemm::Number::F32,
            compute,
            epilogue: gemm::Epilogue::None,
            add: false,
        };
        let mut there = true;
        let rate = self.best(2.0 * (n as f64).powi(3), || {
            // SAFETY: all three matrices lie in the memory of this meter.
            there = unsafe { self.driver.gemm(&product) }?;
            Ok(())
        })?;
        Ok(there.then_some(rate))
    }

    /// Bytes a second read one after another.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self) -> Result<f64> {
        let n = (self.memory.bytes() / PIECE) as u64;
        self.best(self.memory.bytes() as f64, || {
            launch!(
                self.driver,
                SOURCE,
                "read_all",
                self.shape(),
                self.memory.at(),
                n,
                self.out.at()
            )
        })
    }

    /// Bytes a second, read and written together, of a copy from one half of the memory to the
    /// other.
    ///
    /// # Errors
    /// If the device fails.
    pub fn copy(&self) -> Result<f64> {
        let n = (self.memory.bytes() / PIECE / 2) as u64;
        let to = self.memory.at() + n * PIECE as u64;
        self.best(2.0 * n as f64 * PIECE as f64, || {
            launch!(self.driver, SOURCE, "copy_all", self.shape(), self.memory.at(), to, n)
        })
    }

    /// Rows of `row_bytes` (a multiple of 16) a second that are visited at random within the first
    /// `within` bytes, rounded down to a power of two of rows.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If a row is not a whole number of pieces, or none fits.
    pub fn rows(&self, visit: Visit, row_bytes: usize, within: usize) -> Result<f64> {
        assert!(row_bytes > 0 && row_bytes.is_multiple_of(PIECE), "rows of whole pieces");
        let rows = self.memory.bytes().min(within) / row_bytes;
        assert!(rows > 0, "a row at least");
        let bits = rows.ilog2();
        let (width, visits, change) =
            ((row_bytes / PIECE) as u32, 1u32 << bits, u32::from(visit == Visit::Update));
        let lanes = width.next_power_of_two().min(32);
        let shape =
            Launch { grid: [self.blocks, 1, 1], block: [lanes, THREADS / lanes, 1], shared: 0 };
        let mut seed = 1u32;
        self.best(f64::from(visits), || {
            seed = seed.wrapping_mul(0x2c1b_3c6d);
            launch!(
                self.driver,
                SOURCE,
                "visit_rows",
                shape,
                self.memory.at(),
                bits,
                width,
                visits,
                seed,
                change,
                self.out.at()
            )
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::backend::cuda::{
        driver::{bytes_of, bytes_of_mut},
        testing::devices,
    };

    fn small(driver: &Rc<dyn Driver>, bytes: usize) -> Meter {
        Meter::new(driver, bytes, 3, Duration::ZERO).unwrap()
    }

    fn words(meter: &Meter, memory: &Memory) -> Vec<u32> {
        let mut words = vec![0u32; memory.bytes() / 4];
        meter.driver.to_host(memory.at(), bytes_of_mut(&mut words)).unwrap();
        words
    }

    #[test]
    fn products_are_measured_on_small_numbers_of_all_kinds() {
        for driver in devices() {
            let m = small(&driver, 4096);
            let all = words(&m, &m.memory);
            let halves: Vec<u16> = all.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).collect();
            let small = |v: f32| (2e-5..2.0).contains(&v.abs());
            assert!(all.iter().all(|w| small(f32::from_bits(*w))));
            assert!(halves.iter().all(|h| small(half::bf16::from_bits(*h).to_f32())
                && small(half::f16::from_bits(*h).to_f32())));
            let different: std::collections::BTreeSet<_> = halves.iter().collect();
            assert!(different.len() > halves.len() / 4 && halves.iter().any(|h| h >> 15 == 1));
        }
    }

    #[test]
    fn rates_are_positive_and_missing_products_are_none() {
        for driver in devices() {
            let m = small(&driver, 1 << 16);
            let rows = |visit| m.rows(visit, 64, 1 << 14).unwrap();
            let rates = [
                m.flops_f32().unwrap(),
                m.read().unwrap(),
                m.copy().unwrap(),
                rows(Visit::Gather),
                rows(Visit::Update),
            ];
            assert!(rates.iter().all(|r| r.is_finite() && *r > 0.0), "{rates:?}");
            let products = m.flops_of_products(gemm::Number::Bf16, gemm::Compute::Plain).unwrap();
            assert!(products.is_none_or(|r| r > 0.0));
            let tiny = small(&driver, 256);
            assert_eq!(
                tiny.flops_of_products(gemm::Number::F32, gemm::Compute::Plain).unwrap(),
                None
            );
        }
    }

    /// The loops do what they are timed for: nothing is left out, nothing is done twice.
    #[test]
    fn loops_do_the_work_that_they_are_timed_for() {
        for driver in devices() {
            let m = small(&driver, 4096);
            let values: Vec<u32> = (0..1024u32).map(|i| i.wrapping_mul(0x9e37_79b1)).collect();
            driver.to_device(m.memory.at(), bytes_of(&values)).unwrap();
            m.read().unwrap();
            let xor = |v: &[u32]| v.iter().fold(0, |a, b| a ^ b);
            assert_eq!(xor(&words(&m, &m.out)), xor(&values));
            m.copy().unwrap();
            let copied = words(&m, &m.memory);
            assert!(copied[..512] == values[..512] && copied[512..] == values[..512]);
            // Bursts of visits to all 2^k rows: a warm-up and three that are timed. The rows behind
            // them stay.
            for (row_bytes, rows) in [(16, 32), (48, 16), (512, 2)] {
                driver.to_device(m.memory.at(), bytes_of(&values)).unwrap();
                m.rows(Visit::Update, row_bytes, row_bytes * (rows + rows / 2)).unwrap();
                let (changed, visited) = (words(&m, &m.memory), rows * row_bytes / 4);
                assert!(
                    changed
                        .iter()
                        .zip(&values)
                        .enumerate()
                        .all(|(i, (a, b))| *a == b + if i < visited { 4 } else { 0 })
                );
                driver.to_device(m.memory.at(), bytes_of(&values)).unwrap();
                m.rows(Visit::Gather, row_bytes, row_bytes * rows).unwrap();
                assert_eq!(xor(&words(&m, &m.out)), xor(&values[..visited]));
                assert_eq!(words(&m, &m.memory), values);
            }
            m.flops_f32().unwrap();
            let first = f32::from_bits(words(&m, &m.out)[0]);
            let chain =
                |i: usize| (0..3).fold(0.001f32 * i as f32, |s, _| 0.999f32.mul_add(s, 0.001));
            let want: f32 = (0..CHAINS).map(chain).sum();
            assert!((first - want).abs() < 1e-6, "{first} {want}");
        }
    }
}
