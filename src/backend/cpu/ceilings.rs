//! What this machine can do at most, measured by the plainest loops there are: products in
//! registers, streams over memory, rows at random. They use the registers, the threads and the huge
//! pages that the kernels use, so that a kernel's speed can be stated as a share of what it could
//! be.

use super::simd::{Kernel, Lanes, launch};
use crate::{
    embedding::{EmbeddingError, Table, tables},
    host::{
        Isa,
        pool::{Pool, SharedMut},
        prefetch_row,
    },
};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Floats of a cache line, and of a row of the arena.
const LINE: usize = 16;
/// Fewest bursts of a measurement; the fastest counts.
const BURSTS: usize = 3;
/// Rounds of products in a burst: some milliseconds.
const ROUNDS: usize = 1 << 20;
/// Running products of a thread: enough to hide the latency of two pipes, few enough to stay in
/// registers.
const CHAINS: usize = 12;
/// The same for plain Rust, whose eight floats are two registers of the oldest machines.
const PLAIN_CHAINS: usize = 6;
/// Bytes of rows that a thread visits in a burst.
const VISITED: usize = 16 << 20;
/// Bytes that are asked for ahead of use when rows are visited at random, and rows at least.
const AHEAD: (usize, usize) = (4096, 12);
/// Floats of a piece of a stream.
const PIECE: usize = 1 << 18;

/// How rows are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Read and added up, as bags are.
    Gather,
    /// Read, changed and written, as an update does.
    Update,
}

/// Threads, memory and the time for a measurement.
#[derive(Debug)]
pub struct Meter {
    pool: Pool,
    isa: Isa,
    memory: Table,
    time: Duration,
}

impl Meter {
    /// Starts the threads and writes `bytes` of memory once; each measurement will take about
    /// `time`.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn new(
        threads: usize,
        pin: bool,
        isa: Isa,
        bytes: usize,
        time: Duration,
    ) -> Result<Self, EmbeddingError> {
        let pool = Pool::with_pinning(threads, pin);
        let lines = (bytes / (LINE * size_of::<f32>())).max(8 * threads);
        let mut set = tables([(lines, LINE)], "measuring the machine's ceilings")?;
        let mut memory = set.remove(0);
        pool.for_each_chunk(memory.values_mut(), PIECE, |_, _, part| part.fill(1.0));
        Ok(Meter { pool, isa, memory, time })
    }

    /// Bytes of memory that streams and random rows go through.
    pub fn memory(&self) -> usize {
        size_of_val(self.memory.values())
    }

    /// The greatest rate of several bursts; `burst` does some work and says how much.
    fn best(&self, mut burst: impl FnMut() -> f64) -> f64 {
        let began = Instant::now();
        let (mut best, mut bursts) = (0.0f64, 0);
        while bursts < BURSTS || began.elapsed() < self.time {
            let start = Instant::now();
            let work = burst();
            best = best.max(work / start.elapsed().as_secs_f64());
            bursts += 1;
        }
        best
    }

    /// Floating-point operations a second of products and sums in f32 registers, two for each
    /// element of a fused product and sum.
    pub fn flops_f32(&self) -> f64 {
        let (isa, threads) = (self.isa, self.pool.threads());
        self.best(|| {
            let mut done = vec![0; threads];
            self.pool.for_each_chunk(&mut done, 1, |_, _, flops| {
                let flops = &mut flops[0];
                match isa {
                    Isa::Portable => launch(isa, Products::<PLAIN_CHAINS> { flops }),
                    _ => launch(isa, Products::<CHAINS> { flops }),
                }
            });
            done.iter().sum::<u64>() as f64
        })
    }

    /// The same with products of bf16 summed in f32 (`vdpbf16ps`, four operations an element);
    /// `None` where there is no such instruction.
    pub fn flops_bf16(&self) -> Option<f64> {
        if !has_bf16(self.isa) {
            return None;
        }
        let threads = self.pool.threads();
        Some(self.best(|| {
            self.pool.run(threads, |_, _| products_bf16());
            (threads * ROUNDS * CHAINS * 64) as f64
        }))
    }

    /// Bytes a second that all threads together read one after another.
    pub fn read(&self) -> f64 {
        let (isa, all) = (self.isa, self.memory.values());
        self.best(|| {
            self.pool.run(all.len().div_ceil(PIECE), |chunk, _| {
                let part = &all[chunk * PIECE..all.len().min((chunk + 1) * PIECE)];
                let mut sum = 0.0;
                launch(isa, Sum { part, sum: &mut sum });
                black_box(sum);
            });
            size_of_val(all) as f64
        })
    }

    /// Bytes a second, read and written together, that all threads copy from one half of the memory
    /// to the other.
    pub fn copy(&mut self) -> f64 {
        let half = self.memory.values().len() / 2;
        let base = SharedMut::new(self.memory.values_mut());
        let isa = self.isa;
        self.best(|| {
            self.pool.run(half.div_ceil(PIECE), |chunk, _| {
                let (at, len) = (chunk * PIECE, PIECE.min(half - chunk * PIECE));
                // SAFETY: the first half is only read, pieces of the second do not overlap.
                let (from, to) = unsafe { (&*base.slice(at, len), base.slice(half + at, len)) };
                launch(isa, Copy { from, to });
            });
            (2 * half * size_of::<f32>()) as f64
        })
    }

    /// Rows of `row_bytes` (a multiple of 64) a second that all threads visit at random, each
    /// thread in a part of its own of the first `within` bytes.
    ///
    /// # Panics
    /// If a row is not a whole number of cache lines, or a thread's part holds none.
    pub fn rows(&mut self, visit: Visit, row_bytes: usize, within: usize) -> f64 {
        let dim = row_bytes / size_of::<f32>();
        assert!(dim > 0 && dim.is_multiple_of(LINE), "rows of whole cache lines");
        let (isa, threads) = (self.isa, self.pool.threads());
        let floats = self.memory.values().len().min(within / size_of::<f32>());
        let rows = floats / dim / threads;
        assert!(rows > 0, "a row for each thread");
        let visits = (VISITED / row_bytes).min(1 << 18);
        let memory = SharedMut::new(self.memory.values_mut());
        let mut seeds: Vec<u64> = (0..threads as u64).map(|t| t << 32 | 1).collect();
        self.best(|| {
            self.pool.for_each_chunk(&mut seeds, 1, |thread, _, seed| {
                // SAFETY: each thread has a part of its own.
                let part = unsafe { memory.slice(thread * rows * dim, rows * dim) };
                launch(isa, Random { visit, part, dim, visits, seed: &mut seed[0] });
            });
            (threads * visits) as f64
        })
    }
}

/// `s = a s + b` in `R` registers.
struct Products<'a, const R: usize> {
    flops: &'a mut u64,
}

impl<const R: usize> Kernel for Products<'_, R> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has the instruction set; `out` is a register's worth of floats.
        unsafe {
            let (a, b) = (L::splat(black_box(0.999)), L::splat(black_box(0.001)));
            let mut sums = [b; R];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = L::fma(a, *sum, b);
                }
            }
            let mut all = sums[0];
            for sum in &sums[1..] {
                all = L::add(all, *sum);
            }
            black_box(L::sum(all));
        }
        *self.flops = (2 * ROUNDS * R * L::N) as u64;
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16(isa: Isa) -> bool {
    isa == Isa::Avx512Bf16
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16(_: Isa) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn products_bf16() {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn run() {
        // Pairs of bf16: 1.0 is 0x3f80, so that sums grow by 2 each round and stay exact.
        // SAFETY: 512 bits are 512 bits.
        let ones: __m512bh =
            unsafe { std::mem::transmute(_mm512_set1_epi32(black_box(0x3f80_3f80))) };
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, ones, ones);
            }
        }
        let mut all = sums[0];
        for sum in &sums[1..] {
            all = _mm512_add_ps(all, *sum);
        }
        black_box(_mm512_reduce_add_ps(all));
    }
    // SAFETY: only called where `has_bf16` said so.
    unsafe { run() }
}

#[cfg(not(target_arch = "x86_64"))]
fn products_bf16() {}

/// Sum of a part of a stream.
struct Sum<'a> {
    part: &'a [f32],
    sum: &'a mut f32,
}

impl Kernel for Sum<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has the instruction set; all loads lie inside the part.
        unsafe {
            let mut sums = [L::splat(0.0); 4];
            let step = 4 * L::N;
            for i in 0..self.part.len() / step {
                let p = self.part.as_ptr().add(i * step);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = L::add(*sum, L::load(p.add(k * L::N)));
                }
            }
            *self.sum = L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])));
        }
    }
}

/// A copy of a part of a stream.
struct Copy<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Copy<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for i in 0..self.from.len().min(self.to.len()) / L::N {
            // SAFETY: the caller has the instruction set; inside both parts.
            unsafe {
                L::store(
                    self.to.as_mut_ptr().add(i * L::N),
                    L::load(self.from.as_ptr().add(i * L::N)),
                )
            };
        }
    }
}

/// Visits to random rows of a part.
struct Random<'a> {
    visit: Visit,
    part: &'a mut [f32],
    dim: usize,
    visits: usize,
    seed: &'a mut u64,
}

/// The next state of a 64-bit linear congruential generator (Knuth's MMIX constants).
#[inline(always)]
fn next(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

impl Kernel for Random<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let dim = self.dim;
        let rows = (self.part.len() / dim) as u64;
        let base = self.part.as_mut_ptr();
        let ahead = (AHEAD.0 / (dim * size_of::<f32>())).max(AHEAD.1);
        // Two walkers on one path: the first asks for rows, the second visits them.
        let (mut first, mut second) = (*self.seed, *self.seed);
        for _ in 0..ahead {
            first = next(first);
        }
        // SAFETY: the caller has the instruction set; rows lie inside the part, and `dim` is a
        // multiple of `L::N`.
        unsafe {
            let (a, b) = (L::splat(black_box(0.999)), L::splat(black_box(0.001)));
            let mut sums = [b; 4];
            for _ in 0..self.visits {
                first = next(first);
                second = next(second);
                prefetch_row(base.wrapping_add((((first >> 32) * rows) >> 32) as usize * dim), dim);
                let row = base.add((((second >> 32) * rows) >> 32) as usize * dim);
                let mut c = 0;
                while c < dim {
                    if self.visit == Visit::Gather {
                        let k = (c / L::N) % 4;
                        sums[k] = L::add(sums[k], L::load(row.add(c)));
                    } else {
                        L::store(row.add(c), L::fma(a, L::load(row.add(c)), b));
                    }
                    c += L::N;
                }
            }
            black_box(L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3]))));
        }
        *self.seed = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::isas;

    #[test]
    fn every_instruction_set_measures_something() {
        for isa in isas() {
            let mut meter = Meter::new(1, false, isa, 4 << 20, Duration::from_millis(5)).unwrap();
            assert_eq!(meter.memory(), 4 << 20);
            // How fast anything is depends on what else the machine does.
            let flops = meter.flops_f32();
            let rates = [
                meter.read(),
                meter.copy(),
                meter.rows(Visit::Gather, 64, 1 << 20),
                meter.rows(Visit::Update, 512, 1 << 20),
            ];
            assert!(
                rates.iter().chain([&flops]).all(|r| r.is_finite() && *r > 0.0),
                "{isa:?}: {flops}, {rates:?}"
            );
            assert_eq!(meter.flops_bf16().is_some(), has_bf16(isa));
        }
    }

    #[test]
    fn an_update_changes_the_rows_it_visits_and_a_gather_none() {
        let mut meter = Meter::new(2, false, Isa::best(), 1 << 20, Duration::ZERO).unwrap();
        meter.rows(Visit::Gather, 64, 1 << 20);
        assert!(meter.memory.values().iter().all(|&v| v == 1.0));
        // 0.999 * 1 + 0.001 is 1: another value shows that rows were written.
        meter.memory.values_mut().fill(3.0);
        meter.rows(Visit::Update, 64, 1 << 19);
        let (inside, outside) = meter.memory.values().split_at((1 << 19) / 4);
        assert!(inside.iter().filter(|&&v| v < 3.0).count() > inside.len() / 2);
        assert!(outside.iter().all(|&v| v == 3.0));
    }
}
