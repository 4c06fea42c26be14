//! A planted log as plain numbers, for devices that make its samples themselves.
//!
//! A device that computes `generate.rs`, `zipf.rs`, `scatter.rs` and `truth.rs` from these, in the
//! same order of operations, has the bits of [`crate::data::Source::fill`].

use super::{
    generate::{IdColumn, Log, threshold},
    presets::Count,
    truth::{Keys, Smooth},
};
use crate::batch::{ColumnNumbers, DenseNumbers, GeneratedLog, PairNumbers};

impl Log {
    /// The log as plain numbers.
    pub fn numbers(&self) -> GeneratedLog {
        let Log { seed, columns, dense, truth } = self;
        let terms = columns.iter().zip(&truth.keys).zip(&truth.weight_scale);
        GeneratedLog {
            seed: *seed,
            gain: truth.gain,
            bias: truth.bias,
            columns: terms
                .map(|((column, keys), &scale)| column_numbers(column, keys, scale))
                .collect(),
            pairs: truth
                .pairs
                .iter()
                .map(|&(a, b, scale)| PairNumbers { columns: [a as u32, b as u32], scale })
                .collect(),
            dense: dense
                .iter()
                .zip(&truth.dense)
                .map(|(count, term)| dense_numbers(count, term))
                .collect(),
        }
    }
}

fn column_numbers(column: &IdColumn, keys: &Keys, weight_scale: f32) -> ColumnNumbers {
    let IdColumn { hotness, base, missing, zipf, scatter } = column;
    ColumnNumbers {
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

fn dense_numbers(count: &Count, term: &Smooth) -> DenseNumbers {
    let Smooth { centre, inverse_width, rise, hump } = *term;
    let missing = threshold(count.missing);
    DenseNumbers {
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
