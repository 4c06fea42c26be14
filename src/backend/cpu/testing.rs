//! What the tests of several kernels need.

use crate::{
    batch::{Bags, CheckedBags},
    host::Isa,
};

/// Every instruction set of this machine.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// Every instruction set on one thread, the best one on two and three threads too.
pub(crate) fn machines() -> impl Iterator<Item = (Isa, usize)> {
    isas().map(|isa| (isa, 1)).chain([(Isa::best(), 2), (Isa::best(), 3)])
}

/// A stream of numbers for tests: a multiplicative congruential generator (L'Ecuyer 1999).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// A stream for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(2).wrapping_add(1) ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// Uniform in 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(2_685_821_657_736_338_717);
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }

    /// Uniform in [-1, 1).
    pub(crate) fn float(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Many of them.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Bags of 0 to `hotness` ids below `rows`, some of them several times in a bag; exactly one
    /// each if `hotness` is 0.
    pub(crate) fn bags(&mut self, samples: usize, rows: usize, hotness: usize) -> Bags {
        let mut bags = Bags::default();
        bags.clear();
        for _ in 0..samples {
            let n = if hotness == 0 { 1 } else { self.below(hotness + 1) };
            // Half of the ids come from the first rows, so that rows repeat in a large table too.
            let ids: Vec<u32> =
                (0..n).map(|_| if self.below(2) == 0 { self.below(rows) } else { self.below(rows.min(3)) } as u32).collect();
            bags.push(ids);
        }
        bags
    }
}

/// Bags that fit tables of `rows` rows.
pub(crate) fn checked<'a>(bags: &'a [Bags], rows: &'a [usize]) -> CheckedBags<'a> {
    let samples = bags.first().map_or(0, |b| b.offsets.len() - 1);
    CheckedBags::new(bags, samples, rows, &vec![usize::MAX >> 32; rows.len()]).unwrap()
}

/// Whether `a` is within `tolerance` times the size of what was summed.
#[track_caller]
pub(crate) fn close(got: &[f32], want: &[f64], size: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(g) - w).abs() <= 1e-6 * (size + w.abs()),
            "{what}: element {i} is {g}, should be {w}"
        );
    }
}

/// The same bits, so that NaN equals NaN and 0 differs from -0.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}
