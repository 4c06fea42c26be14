//! A planted log as plain numbers, for devices that make its samples themselves.
//!
//! A device that computes `generate.rs`, `zipf.rs`, `scatter.rs` and `truth.rs` from these, in the
//! same order of operations, has the bits of [`crate::data::Source::fill`]. Structs have C's layout
//! and no padding, so that they can be handed over as they are.

use super::{
    generate::{IdColumn, Log, threshold},
    presets::Count,
    scatter::ROUNDS,
    truth::{Keys, Smooth},
};

/// Everything that a sample depends on, but its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Seed of the log.
    pub seed: u64,
    /// `logit = bias + gain * (terms)`.
    pub gain: f64,
    /// See there.
    pub bias: f64,
    /// Categorical columns.
    pub columns: Vec<Column>,
    /// Pairs of columns whose latent vectors meet.
    pub pairs: Vec<Pair>,
    /// Dense columns.
    pub dense: Vec<Dense>,
}

/// One categorical column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Column {
    /// Of the Zipf law: `n, p, 1 / p, first, span, squeeze` (`zipf.rs`).
    pub zipf: [f64; 6],
    /// Ids of a sample.
    pub hotness: u32,
    /// Added to every id but that of missing values.
    pub base: u32,
    /// A value is missing if its random word is below this.
    pub missing: u32,
    /// Ids but the missing one.
    pub values: u32,
    /// Of the scattering (`scatter.rs`).
    pub mask: u32,
    /// Of the scattering.
    pub shift: u32,
    /// Of the scattering.
    pub odd: [[u32; 2]; ROUNDS],
    /// Of the scattering.
    pub turn: [u32; ROUNDS],
    /// Keys of the hashes of weight and latent vector.
    pub keys: [u32; 2],
    /// A logit's share of a weight in hash units.
    pub weight_scale: f32,
    /// Keeps the size a multiple of 8.
    pub unused: u32,
}

/// Two columns whose latent vectors meet.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Pair {
    /// The columns.
    pub columns: [u32; 2],
    /// A logit's share of their product in hash units.
    pub scale: f32,
}

/// One dense column and its term of the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Dense {
    /// Median of `ln x`.
    pub location: f64,
    /// Scale of the logistic law of `ln x`.
    pub scale: f64,
    /// A value is missing if its random word is below this.
    pub missing: u32,
    /// Of the term: `rise z / sqrt(1 + z^2) + hump (1 / (1 + z^2) - 1/2)`, `z = (y - centre) *
    /// inverse_width`.
    pub centre: f32,
    /// See there.
    pub inverse_width: f32,
    /// See there.
    pub rise: f32,
    /// See there.
    pub hump: f32,
    /// Keeps the size a multiple of 8.
    pub unused: u32,
}

impl Log {
    /// The log as plain numbers.
    pub fn numbers(&self) -> Numbers {
        let Log { seed, columns, dense, truth } = self;
        let terms = columns.iter().zip(&truth.keys).zip(&truth.weight_scale);
        Numbers {
            seed: *seed,
            gain: truth.gain,
            bias: truth.bias,
            columns: terms
                .map(|((column, keys), &scale)| Column::new(column, keys, scale))
                .collect(),
            pairs: truth
                .pairs
                .iter()
                .map(|&(a, b, scale)| Pair { columns: [a as u32, b as u32], scale })
                .collect(),
            dense: dense
                .iter()
                .zip(&truth.dense)
                .map(|(count, term)| Dense::new(count, term))
                .collect(),
        }
    }
}

impl Column {
    fn new(column: &IdColumn, keys: &Keys, weight_scale: f32) -> Self {
        let IdColumn { hotness, base, missing, zipf, scatter } = column;
        Column {
            zipf: zipf.numbers(),
            hotness: *hotness as u32,
            base: *base,
            missing: *missing,
            values: scatter.m,
            mask: scatter.mask,
            shift: scatter.shift,
            odd: scatter.odd,
            turn: scatter.turn,
            keys: [keys.weight, keys.latent],
            weight_scale,
            unused: 0,
        }
    }
}

impl Dense {
    fn new(count: &Count, term: &Smooth) -> Self {
        let Smooth { centre, inverse_width, rise, hump } = *term;
        let missing = threshold(count.missing);
        Dense {
            location: count.location,
            scale: count.scale,
            missing,
            centre,
            inverse_width,
            rise,
            hump,
            unused: 0,
        }
    }
}
