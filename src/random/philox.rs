//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a block
//! of four random words is a pure function of a 64-bit key and a 128-bit counter. Any element of
//! any stream can be made by any thread, at any time, on any platform, with the same bits.
//!
//! # Who owns which counters
//!
//! The key is the seed. The counter is `[position (64 bits), index (56 bits), stream (8 bits)]`,
//! low word first. Two users can only collide by using the same seed, [`Stream`], index and
//! position:
//!
//! | stream | index | position (in blocks of 4 words) | seed |
//! |---|---|---|---|
//! | [`Stream::Init`] | parameter number; redraws of truncated distributions add `attempt << 32` | element / 4; of a redraw: element | run's |
//! | [`Stream::Dropout`] | `step << 16 \| layer` ([`Philox::dropout`]) | element / 4, row-major `[B, width]` | run's |
//! | [`Stream::Shuffle`] | epoch | sample number | run's |
//! | [`Stream::Planted`] | `split << 48 \| attempt << 32 \| slot of the bag << 16 \| field` | sample number | data's |
//! | [`Stream::PlantedTruth`] | table (scattering of its ids: position = round); `1 << 32 \| table` (keys of its weights), `2 << 32 \| dense column` (position 0) | as said | data's |
//! | [`Stream::Bootstrap`] | resample | block drawn / 4 | analysis's |
//! | [`Stream::Order`] | 0 (of a sweep: 1 + round) | block of a comparison (place in the round) | comparison's |
//! | [`Stream::Deal`] | 0 | sample number / 2, two words each | recipe's |
//! | [`Stream::Jitter`] | step | rank / 2, two words each | simulation's |
//! | [`Stream::Rounding`] | `step << 16 \| table` ([`Philox::rounding`]) | 8 blocks for each 64 columns of a row: `(row * ceil(dim / 64) + column / 64) * 8` | run's |

/// Blocks made together; a multiple of the widest vector of 32-bit lanes.
const LANES: usize = 16;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// What random numbers are for; keeps users of one seed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Initial values of parameters.
    Init = 1,
    /// Dropout masks.
    Dropout = 2,
    /// Orders of samples.
    Shuffle = 3,
    /// Samples of planted data.
    Planted = 4,
    /// Weights and latent vectors behind planted data.
    PlantedTruth = 5,
    /// Starts of bootstrap blocks.
    Bootstrap = 6,
    /// Which side of a comparison goes first.
    Order = 7,
    /// Stochastic rounding of embedding rows.
    Rounding = 8,
    /// Order of samples that are prepared.
    Deal = 9,
    /// Delays of ranks in a simulation.
    Jitter = 10,
}

/// A generator fixed to one seed, stream and index; what is left open is the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    high: [u32; 2],
}

impl Philox {
    /// The generator of `stream` number `index`.
    ///
    /// # Panics
    /// If `index` has more than 56 bits.
    pub fn new(seed: u64, stream: Stream, index: u64) -> Self {
        assert!(index < 1 << 56, "index {index} of a random stream has more than 56 bits");
        let high = index | (stream as u64) << 56;
        Philox { key: split(seed), high: split(high) }
    }

    /// The generator of dropout masks for layer number `layer` at (1-based or 0-based, but always
    /// the same) step `step`.
    ///
    /// # Panics
    /// If `step` has more than 40 bits.
    pub fn dropout(seed: u64, step: u64, layer: u16) -> Self {
        assert!(step < 1 << 40, "step {step} has more than 40 bits");
        Philox::new(seed, Stream::Dropout, step << 16 | u64::from(layer))
    }

    /// The key, and the upper words of all counters: for kernels that compute blocks themselves.
    pub(crate) fn words(&self) -> ([u32; 2], [u32; 2]) {
        (self.key, self.high)
    }

    /// The generator of the bits that round rows of table number `table` at update number `step`.
    ///
    /// # Panics
    /// If `step` has more than 40 bits.
    pub fn rounding(seed: u64, step: u64, table: u16) -> Self {
        assert!(step < 1 << 40, "step {step} has more than 40 bits");
        Philox::new(seed, Stream::Rounding, step << 16 | u64::from(table))
    }

    /// 16 bits for each of 64 columns, two columns a word, the even one in the lower half: word `w`
    /// of the result is word `w / 8` of the block at `position + w % 8`.
    #[inline(always)]
    pub fn columns(&self, position: u64, out: &mut [u32; 32]) {
        // Words in the lower halves of 64 bits, what lies above is left as it comes: rounds then
        // need no narrowing and widening.
        let wide = |x: u32| [u64::from(x); 8];
        let (mut c0, mut c1, mut c2, mut c3) =
            (wide(0), wide(0), wide(self.high[0]), wide(self.high[1]));
        for lane in 0..8 {
            let at = position.wrapping_add(lane as u64);
            (c0[lane], c1[lane]) = (at, at >> 32);
        }
        let mut k = self.key;
        for _ in 0..ROUNDS {
            for lane in 0..8 {
                let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane] as u32);
                let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane] as u32);
                c0[lane] = p1 >> 32 ^ c1[lane] ^ u64::from(k[0]);
                c1[lane] = p1;
                c2[lane] = p0 >> 32 ^ c3[lane] ^ u64::from(k[1]);
                c3[lane] = p0;
            }
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        for (eight, words) in out.chunks_exact_mut(8).zip([c0, c1, c2, c3]) {
            for (to, word) in eight.iter_mut().zip(words) {
                *to = word as u32;
            }
        }
    }

    /// The four words at `position`.
    #[inline]
    pub fn block(&self, position: u64) -> [u32; 4] {
        let [lo, hi] = split(position);
        philox4x32(self.key, [lo, hi, self.high[0], self.high[1]])
    }

    /// The words at `position` as two words of 64 bits.
    #[inline]
    pub fn block_u64(&self, position: u64) -> [u64; 2] {
        let [a, b, c, d] = self.block(position);
        [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32]
    }

    /// Fills `out[i]` with word `i % 4` of the block at `position + i / 4`.
    pub fn fill_u32(&self, position: u64, out: &mut [u32]) {
        self.fill_with(position, out, |w| w);
    }

    /// Fills `out[i]` with [`unit_f32`] of word `i % 4` of the block at `position + i / 4`.
    pub fn fill_unit_f32(&self, position: u64, out: &mut [f32]) {
        self.fill_with(position, out, unit_f32);
    }

    /// Fills `out[i]` with `f` of word `i % 4` of the block at `position + i / 4`.
    #[inline(always)]
    pub fn fill_with<T>(&self, position: u64, out: &mut [T], f: impl Fn(u32) -> T) {
        let mut at = position;
        let mut groups = out.chunks_exact_mut(4 * LANES);
        for group in &mut groups {
            let words = self.lanes(at);
            for (i, o) in group.iter_mut().enumerate() {
                *o = f(words[i % 4][i / 4] as u32);
            }
            at = at.wrapping_add(LANES as u64);
        }
        for block in groups.into_remainder().chunks_mut(4) {
            for (o, w) in block.iter_mut().zip(self.block(at)) {
                *o = f(w);
            }
            at = at.wrapping_add(1);
        }
    }

    /// The words of `N` blocks from `position` on, `N` a multiple of [`LANES`].
    #[inline(always)]
    pub(crate) fn blocks<const N: usize>(&self, position: u64) -> [[u32; N]; 4] {
        const { assert!(N.is_multiple_of(LANES), "whole lanes") };
        let mut out = [[0; N]; 4];
        for first in (0..N).step_by(LANES) {
            let words = self.lanes(position.wrapping_add(first as u64));
            for (out, words) in out.iter_mut().zip(words) {
                for (lane, word) in words.into_iter().enumerate() {
                    out[first + lane] = word as u32;
                }
            }
        }
        out
    }

    /// [`LANES`] blocks at once, word by word, written so that the compiler keeps each word in
    /// vector registers. Words are in the lower halves of 64 bits, what lies above is left as it
    /// comes: rounds then need no narrowing and widening.
    #[inline(always)]
    fn lanes(&self, position: u64) -> [[u64; LANES]; 4] {
        let wide = |x: u32| [u64::from(x); LANES];
        let (mut c0, mut c1, mut c2, mut c3) =
            (wide(0), wide(0), wide(self.high[0]), wide(self.high[1]));
        for lane in 0..LANES {
            let at = position.wrapping_add(lane as u64);
            (c0[lane], c1[lane]) = (at, at >> 32);
        }
        let mut k = self.key;
        for _ in 0..ROUNDS {
            for lane in 0..LANES {
                let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane] as u32);
                let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane] as u32);
                c0[lane] = p1 >> 32 ^ c1[lane] ^ u64::from(k[0]);
                c1[lane] = p1;
                c2[lane] = p0 >> 32 ^ c3[lane] ^ u64::from(k[1]);
                c3[lane] = p0;
            }
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        [c0, c1, c2, c3]
    }
}

/// The bijection itself: ten rounds of two 32 x 32 -> 64 bit products (Salmon et al., section 3.3).
#[inline]
pub fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let ([mut k0, mut k1], mut c) = (key, counter);
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    c
}

/// A uniform number in [0, 1): the upper 24 bits of a word, exact in f32.
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    // Through i32, since only that conversion is a vector instruction everywhere.
    (word >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// A uniform number in [0, 1): the upper 53 bits of a word, exact in f64.
#[inline]
pub fn unit_f64(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answers_of_random123() {
        let m = u32::MAX;
        let cases = [
            ([0, 0], [0, 0, 0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([m, m], [m, m, m, m], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0xa4093822, 0x299f31d0],
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ];
        for (key, counter, answer) in cases {
            assert_eq!(philox4x32(key, counter), answer);
        }
    }

    proptest! {
        #[test]
        fn bulk_fill_equals_single_blocks(seed: u64, index in 0u64..1 << 56, position: u64, n in 0usize..300) {
            let g = Philox::new(seed, Stream::Init, index);
            let mut out = vec![0; n];
            g.fill_u32(position, &mut out);
            for (i, &w) in out.iter().enumerate() {
                prop_assert_eq!(w, g.block(position.wrapping_add(i as u64 / 4))[i % 4]);
            }
        }
    }

    proptest! {
        #[test]
        fn many_blocks_are_those_one_by_one(seed: u64, index in 0u64..1 << 56, position: u64) {
            let g = Philox::new(seed, Stream::Planted, index);
            let words = g.blocks::<64>(position);
            for lane in 0..64 {
                let block = g.block(position.wrapping_add(lane as u64));
                prop_assert_eq!(words.map(|word| word[lane]), block);
            }
        }
    }

    proptest! {
        #[test]
        fn words_of_columns_are_those_of_blocks(seed: u64, step in 0u64..1 << 40, table: u16, position: u64) {
            let g = Philox::rounding(seed, step, table);
            let mut out = [0; 32];
            g.columns(position, &mut out);
            for (w, &word) in out.iter().enumerate() {
                prop_assert_eq!(word, g.block(position.wrapping_add(w as u64 % 8))[w / 8]);
            }
        }
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let streams = [
            Stream::Init,
            Stream::Dropout,
            Stream::Shuffle,
            Stream::Planted,
            Stream::PlantedTruth,
            Stream::Bootstrap,
            Stream::Rounding,
            Stream::Deal,
        ];
        let first: std::collections::HashSet<_> =
            streams.iter().flat_map(|&s| [0, 1].map(|i| Philox::new(7, s, i).block(0))).collect();
        assert_eq!(first.len(), 2 * streams.len());
        assert_ne!(Philox::dropout(7, 1, 0), Philox::dropout(7, 0, 1));
    }

    #[test]
    fn uniform_numbers_stay_below_one_and_have_the_right_mean() {
        assert_eq!(unit_f32(u32::MAX), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(unit_f64(u64::MAX), 1.0 - f64::EPSILON / 2.0);
        let mut out = vec![0.0; 100_003];
        Philox::new(1, Stream::Planted, 0).fill_unit_f32(0, &mut out);
        let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
        // Standard error of the mean: 0.2887 / sqrt(n) = 0.0009.
        assert!((mean - 0.5).abs() < 0.004, "{mean}");
    }
}
