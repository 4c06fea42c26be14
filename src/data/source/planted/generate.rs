//! Samples in blocks, column by column, so that every loop runs over [`BLOCK`] independent samples
//! and vectorises.
//!
//! What is drawn for sample `i` depends on `(seed, split, i)` alone: field `f`, slot `s` of its bag
//! and attempt `a` use the block of four random words at position `i` of Philox stream
//! [`Stream::Planted`], index `split << 48 | a << 32 | s << 16 | f`.

// One index walks several arrays in lockstep; that is also the form that vectorises.
#![allow(clippy::needless_range_loop)]

use super::{
    BLOCK,
    presets::{Count, Spec, Table},
    scatter::Scatter,
    truth::{BagSums, Lanes, Truth},
    zipf::Zipf,
};
use crate::{
    exact::{exp, floor, ln, open_unit, select, to_u32},
    host,
    random::philox::{Philox, Stream},
};

/// Which endless stream of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Split {
    /// Samples to learn from.
    Train = 0,
    /// Samples to be judged by.
    Eval = 1,
    /// Samples that fix gain and bias of the truth.
    Calibration = 2,
}

/// Largest `ln x` of a dense column: 3,269,017.
const LARGEST_LOG_COUNT: f64 = 15.0;

/// A planted log: everything that a sample depends on, but its number.
#[derive(Debug, Clone)]
pub struct Log {
    pub(super) seed: u64,
    pub(super) columns: Vec<IdColumn>,
    pub(super) dense: Vec<Count>,
    /// The click probabilities.
    pub truth: Truth,
}

#[derive(Debug, Clone)]
pub(super) struct IdColumn {
    pub hotness: usize,
    /// 0, or 1 where id 0 stands for missing values.
    pub base: u32,
    /// A value is missing if its random word is below this.
    pub missing: u32,
    pub zipf: Zipf,
    pub scatter: Scatter,
}

/// A block of samples, column by column. Made once, refilled.
#[derive(Debug, Clone)]
pub struct Block {
    /// `[table][slot]`: ids.
    pub ids: Vec<Vec<Lanes<u32>>>,
    /// `[column]`: `ln(x + 1)`.
    pub dense: Vec<Lanes<f32>>,
    /// Logits without gain and bias.
    pub raw_logits: Lanes<f32>,
    /// True probabilities of a click.
    pub probabilities: Lanes<f64>,
    /// 0 or 1.
    pub labels: Lanes<f32>,
    bags: Vec<BagSums>,
}

impl Log {
    /// The log of `spec` and `seed`, not yet calibrated.
    pub fn new(spec: &Spec, seed: u64) -> Self {
        let columns = spec
            .tables
            .iter()
            .enumerate()
            .map(|(t, table)| IdColumn::new(seed, t, table))
            .collect();
        Log { seed, columns, dense: spec.dense.clone(), truth: Truth::new(spec, seed) }
    }

    /// Room for a block of this log.
    pub fn new_block(&self) -> Block {
        Block {
            ids: self.columns.iter().map(|c| vec![[0; BLOCK]; c.hotness]).collect(),
            dense: vec![[0.0; BLOCK]; self.dense.len()],
            raw_logits: [0.0; BLOCK],
            probabilities: [0.0; BLOCK],
            labels: [0.0; BLOCK],
            bags: vec![BagSums::default(); self.columns.len()],
        }
    }

    /// Makes samples `first..first + BLOCK` of `split`, with the vectors that this machine has; the
    /// bits do not depend on it.
    pub fn fill(&self, split: Split, first: u64, block: &mut Block) {
        host::wide(
            #[inline(always)]
            || self.fill_portable(split, first, block),
        );
    }

    #[inline(always)]
    pub(super) fn fill_portable(&self, split: Split, first: u64, block: &mut Block) {
        for (t, column) in self.columns.iter().enumerate() {
            let bag = &mut block.bags[t];
            *bag = BagSums::default();
            for (slot, ids) in block.ids[t].iter_mut().enumerate() {
                let field = (slot << 16 | t) as u64;
                column.draw(self.seed, split, field, first, ids);
                self.truth.add_ids(t, ids, bag);
            }
        }
        for (pair, columns) in block.dense.chunks_mut(2).enumerate() {
            // Two columns share a block of four words.
            let field = (self.columns.len() + pair) as u64;
            let words = self.generator(split, field).blocks::<BLOCK>(first);
            for (k, column) in columns.iter_mut().enumerate() {
                draw_counts(&self.dense[2 * pair + k], &words[2 * k], &words[2 * k + 1], column);
            }
        }
        self.truth.raw_logits(&block.bags, &block.dense, &mut block.raw_logits);
        let field = (self.columns.len() + self.dense.len()) as u64;
        let coin = self.generator(split, field).blocks::<BLOCK>(first);
        for l in 0..BLOCK {
            block.probabilities[l] = self.truth.probability(block.raw_logits[l]);
            block.labels[l] =
                if open_unit(coin[0][l], coin[1][l]) < block.probabilities[l] { 1.0 } else { 0.0 };
        }
    }

    fn generator(&self, split: Split, field: u64) -> Philox {
        generator(self.seed, split, field, 0)
    }
}

impl IdColumn {
    fn new(seed: u64, t: usize, table: &Table) -> Self {
        let base = u32::from(table.missing > 0.0);
        let values = table.rows - base;
        IdColumn {
            hotness: table.hotness,
            base,
            missing: threshold(table.missing),
            zipf: Zipf::new(values, table.exponent),
            scatter: Scatter::new(seed, t as u64, values),
        }
    }

    /// One id a sample.
    #[inline(always)]
    fn draw(&self, seed: u64, split: Split, field: u64, first: u64, ids: &mut Lanes<u32>) {
        let words = generator(seed, split, field, 0).blocks::<BLOCK>(first);
        let mut ranks = [0u32; BLOCK];
        let mut unsure = [false; BLOCK];
        let mut any = false;
        for l in 0..BLOCK {
            let c = self.zipf.candidate(open_unit(words[0][l], words[1][l]));
            ranks[l] = to_u32(c.rank);
            unsure[l] = !c.sure;
            any |= !c.sure;
        }
        if any {
            for l in (0..BLOCK).filter(|&l| unsure[l]) {
                ranks[l] = self.settle(
                    seed,
                    split,
                    field,
                    first.wrapping_add(l as u64),
                    words[0][l],
                    words[1][l],
                );
            }
        }
        for l in 0..BLOCK {
            let id = self.base + self.scatter.apply(ranks[l] - 1);
            ids[l] = if words[2][l] < self.missing { 0 } else { id };
        }
    }

    /// The rank of a sample whose first candidate the quick test has not taken.
    #[cold]
    fn settle(&self, seed: u64, split: Split, field: u64, sample: u64, high: u32, low: u32) -> u32 {
        let (mut high, mut low) = (high, low);
        for attempt in 1.. {
            let c = self.zipf.candidate(open_unit(high, low));
            // At most one draw in four is refused; 60 in a row do not happen, but a loop should
            // have an end.
            if c.sure || self.zipf.accept(&c) || attempt > 60 {
                return to_u32(c.rank);
            }
            [high, low, ..] = generator(seed, split, field, attempt).block(sample);
        }
        unreachable!("the loop returns")
    }
}

fn generator(seed: u64, split: Split, field: u64, attempt: u64) -> Philox {
    Philox::new(seed, Stream::Planted, (split as u64) << 48 | attempt << 32 | field)
}

/// What a random word is below with probability `share`.
pub(super) fn threshold(share: f64) -> u32 {
    (share * 4_294_967_296.0) as u32
}

/// `ln(x + 1)` of a heavy-tailed count `x`, 0 where missing.
#[inline(always)]
fn draw_counts(count: &Count, value: &Lanes<u32>, missing: &Lanes<u32>, out: &mut Lanes<f32>) {
    let threshold = threshold(count.missing);
    for l in 0..BLOCK {
        let u = open_unit(value[l], 0x8000_0000);
        let log = count.location + count.scale * ln(u / (1.0 - u));
        let x = floor(exp(select(log > LARGEST_LOG_COUNT, LARGEST_LOG_COUNT, log)));
        let y = ln(x + 1.0) as f32;
        out[l] = if missing[l] < threshold { 0.0 } else { y };
    }
}
