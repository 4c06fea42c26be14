//! A row with all that is kept beside it, as bytes.

use crate::embedding::{RowKind, sixteen};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Some of a record's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// How many.
    pub width: usize,
    /// In what form they are kept: in 16 bits where they are exact in them, else as f32.
    pub kind: RowKind,
}

impl Field {
    /// Bytes of a number.
    fn bytes(&self) -> usize {
        match self.kind {
            RowKind::Bf16 | RowKind::Fp16 => 2,
            RowKind::Fp32 | RowKind::Bf16Split => 4,
        }
    }
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    fields: Vec<Field>,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Record {
    /// Of these fields, one after another.
    pub fn new(fields: Vec<Field>) -> Self {
        let mut at = 0;
        let starts = fields.iter().map(|f| {
            at += f.width * f.bytes();
            at - f.width * f.bytes()
        });
        Record { starts: starts.collect(), fields }
    }

    /// Its fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|f| f.width * f.bytes()).sum()
    }

    fn range(&self, field: usize) -> Range<usize> {
        let f = self.fields[field];
        self.starts[field]..self.starts[field] + f.width * f.bytes()
    }

    /// Sets the numbers of a field from number `first` on, each rounded to the nearest that can be
    /// kept.
    pub fn set(&self, field: usize, first: usize, values: &[f32], payload: &mut [u8]) {
        let (f, out) = (self.fields[field], &mut payload[self.range(field)]);
        let out = out.chunks_exact_mut(f.bytes()).skip(first).zip(values);
        match f.kind {
            RowKind::Bf16 => {
                out.for_each(|(o, &x)| o.copy_from_slice(&sixteen::to_bf16(x).to_le_bytes()))
            }
            RowKind::Fp16 => {
                out.for_each(|(o, &x)| o.copy_from_slice(&sixteen::to_f16(x).to_le_bytes()))
            }
            _ => out.for_each(|(o, &x)| o.copy_from_slice(&x.to_le_bytes())),
        }
    }

    /// Copies the numbers of a field out.
    pub fn get(&self, field: usize, payload: &[u8], out: &mut [f32]) {
        let (f, bytes) = (self.fields[field], &payload[self.range(field)]);
        let pairs = out.iter_mut().zip(bytes.chunks_exact(f.bytes()));
        let half = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        match f.kind {
            RowKind::Bf16 => pairs.for_each(|(o, b)| *o = sixteen::from_bf16(half(b))),
            RowKind::Fp16 => pairs.for_each(|(o, b)| *o = sixteen::from_f16(half(b))),
            _ => pairs.for_each(|(o, b)| *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        }
    }
}
