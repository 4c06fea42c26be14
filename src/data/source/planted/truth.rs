//! The truth behind planted data: `logit = bias + gain * (weights + pairs + dense terms)`.
//!
//! - Each id has a weight and a latent vector `u` of four numbers, both read off a hash of (seed,
//!   table, id), so that a table of any length costs nothing. A weight is the sum of the hash's
//!   four bytes (nearly normal), `u` their four centred values.
//! - `<u(id), v(id')>` is summed over a fixed set of table pairs.
//! - A dense value `y` adds `a z / sqrt(1 + z^2) + b (1 / (1 + z^2) - 1/2)`, `z = (y - centre) /
//!   width`: a smooth rise and a smooth hump.
//!
//! Everything up to the products is an exact small integer in f32; the rest is IEEE arithmetic in a
//! fixed order.

// One index walks several arrays in lockstep; that is also the form that vectorises.
#![allow(clippy::needless_range_loop)]

use super::{BLOCK, presets::Spec};
use crate::{
    exact::{self, ln},
    random::philox::{Philox, Stream, unit_f64},
};

/// Width of a latent vector.
pub const LATENT: usize = 4;
/// Standard deviation of a sum of four uniform bytes.
const BYTES_SD: f64 = 147.8;
/// Standard deviation of a product of two latent vectors, each entry odd and uniform in -255..=255.
const PRODUCT_SD: f64 = 43_690.0;

/// One number a sample.
pub type Lanes<T> = [T; BLOCK];

/// Sums over the bag of one column, for a block of samples.
#[derive(Debug, Clone, Copy)]
pub struct BagSums {
    /// Weights, in hash units.
    pub weight: Lanes<f32>,
    /// Latent vectors, in hash units.
    pub latent: [Lanes<f32>; LATENT],
}

impl Default for BagSums {
    fn default() -> Self {
        BagSums { weight: [0.0; BLOCK], latent: [[0.0; BLOCK]; LATENT] }
    }
}

/// Hash keys of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys {
    pub weight: u32,
    pub latent: u32,
}

/// One dense term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Smooth {
    pub centre: f32,
    pub inverse_width: f32,
    pub rise: f32,
    pub hump: f32,
}

/// Everything that makes a logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub(super) keys: Vec<Keys>,
    /// Standard deviation of a table's weight over that of the hash.
    pub(super) weight_scale: Vec<f32>,
    pub(super) pairs: Vec<(usize, usize, f32)>,
    pub(super) dense: Vec<Smooth>,
    /// Common factor.
    pub gain: f64,
    /// Added at the end.
    pub bias: f64,
}

impl Truth {
    /// The truth of `spec` and `seed` with gain 1 and bias 0.
    pub fn new(spec: &Spec, seed: u64) -> Self {
        let tables = spec.tables.len();
        // Table keys come from block 0 of streams that the scattering does not use.
        let keys = |t: usize| Philox::new(seed, Stream::PlantedTruth, 1 << 32 | t as u64).block(0);
        let varied = spec.tables.iter().filter(|t| t.rows > 1).count().max(1) as f64;
        let hot = |t: usize| spec.tables[t].hotness as f64;
        let weight =
            |t: usize| (spec.mix.weights / varied.sqrt() / BYTES_SD / hot(t).sqrt()) as f32;
        let pair_sd = spec.mix.pairs / (spec.pairs.len().max(1) as f64).sqrt() / PRODUCT_SD;
        let dense_sd = spec.mix.dense / (spec.dense.len().max(1) as f64).sqrt();
        Truth {
            keys: (0..tables).map(|t| Keys { weight: keys(t)[0], latent: keys(t)[1] }).collect(),
            weight_scale: (0..tables).map(weight).collect(),
            pairs: spec
                .pairs
                .iter()
                .map(|&(a, b)| (a, b, (pair_sd / (hot(a) * hot(b)).sqrt()) as f32))
                .collect(),
            dense: (0..spec.dense.len()).map(|d| Smooth::new(spec, d, seed, dense_sd)).collect(),
            gain: 1.0,
            bias: 0.0,
        }
    }

    /// Adds the hashes of one id a sample to the sums of its bag.
    #[inline(always)]
    pub fn add_ids(&self, table: usize, ids: &Lanes<u32>, sums: &mut BagSums) {
        let keys = self.keys[table];
        for l in 0..BLOCK {
            sums.weight[l] += centred_sum(hash(ids[l], keys.weight));
        }
        for l in 0..BLOCK {
            let h = hash(ids[l], keys.latent);
            for k in 0..LATENT {
                sums.latent[k][l] += (((h >> (8 * k)) & 0xFF) as i32 * 2 - 255) as f32;
            }
        }
    }

    /// The logits without gain and bias, from the bags of all columns and the dense values.
    #[inline(always)]
    pub fn raw_logits(&self, bags: &[BagSums], dense: &[Lanes<f32>], out: &mut Lanes<f32>) {
        *out = [0.0; BLOCK];
        for (bag, &scale) in bags.iter().zip(&self.weight_scale) {
            for l in 0..BLOCK {
                out[l] += scale * bag.weight[l];
            }
        }
        for &(a, b, scale) in &self.pairs {
            let (u, v) = (&bags[a].latent, &bags[b].latent);
            for l in 0..BLOCK {
                out[l] += scale
                    * (u[0][l] * v[0][l]
                        + u[1][l] * v[1][l]
                        + (u[2][l] * v[2][l] + u[3][l] * v[3][l]));
            }
        }
        for (column, term) in dense.iter().zip(&self.dense) {
            for l in 0..BLOCK {
                let z = (column[l] - term.centre) * term.inverse_width;
                let q = 1.0 / (1.0 + z * z);
                out[l] += term.rise * z * q.sqrt() + term.hump * (q - 0.5);
            }
        }
    }

    /// Probability of a click.
    #[inline(always)]
    pub fn probability(&self, raw_logit: f32) -> f64 {
        exact::sigmoid(self.bias + self.gain * f64::from(raw_logit))
    }

    /// Sets gain and bias so that over the raw logits of a sample of the log the standard deviation
    /// and the mean probability are those of `spec`. Sums run in the order given.
    pub fn calibrate(&mut self, spec: &Spec, raw: &[f32]) {
        let n = raw.len() as f64;
        let mean = raw.iter().map(|&z| f64::from(z)).sum::<f64>() / n;
        let variance =
            raw.iter().map(|&z| (f64::from(z) - mean) * (f64::from(z) - mean)).sum::<f64>() / n;
        self.gain = if variance > 0.0 { spec.mix.total / variance.sqrt() } else { 1.0 };
        let (mut low, mut high) = (-60.0, 60.0);
        // 2^-48 of the width is far below what a sample can tell.
        for _ in 0..48 {
            let middle = 0.5 * (low + high);
            self.bias = middle - self.gain * mean;
            let rate = raw.iter().map(|&z| self.probability(z)).sum::<f64>() / n;
            (low, high) = if rate < spec.positive_rate { (middle, high) } else { (low, middle) };
        }
    }
}

impl Smooth {
    fn new(spec: &Spec, d: usize, seed: u64, sd: f64) -> Self {
        let count = &spec.dense[d];
        let [a, b] = Philox::new(seed, Stream::PlantedTruth, 2 << 32 | d as u64).block_u64(0);
        // Both terms have a standard deviation near 0.6 and 0.3 where z is near standard normal.
        let signed = |u: f64| if u < 0.5 { -0.6 - u } else { u + 0.1 };
        let median = exact::exp(count.location);
        Smooth {
            centre: ln(1.0 + median) as f32,
            inverse_width: (1.0 / (1.5 * count.scale * median / (1.0 + median) + 0.2)) as f32,
            rise: (sd * signed(unit_f64(a)) / 0.6) as f32,
            hump: (sd * signed(unit_f64(b)) / 0.6) as f32,
        }
    }
}

/// A 32-bit hash of an id: a keyed Weyl step and the finaliser of MurmurHash3 (Appleby), a
/// bijection whose every output bit depends on every input bit.
#[inline(always)]
fn hash(id: u32, key: u32) -> u32 {
    let mut h = id.wrapping_mul(0x9E37_79B9) ^ key;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85EB_CA6B);
    h ^= h >> 13;
    h = h.wrapping_mul(0xC2B2_AE35);
    h ^ h >> 16
}

/// Sum of the four bytes, less its mean.
#[inline(always)]
fn centred_sum(h: u32) -> f32 {
    let pairs = (h & 0x00FF_00FF) + (h >> 8 & 0x00FF_00FF);
    ((pairs & 0xFFFF) + (pairs >> 16)) as i32 as f32 - 510.0
}
