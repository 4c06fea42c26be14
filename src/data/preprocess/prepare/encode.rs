//! Columns to samples of fixed size: dictionaries column by column, then samples block by block, each on all threads.

use super::{PrepareError, RECORD, recipe::Form, state::Tally};
use crate::{
    backend::cpu::pool::Pool,
    data::preprocess::{
        criteo::{Blocks, Columns, DENSE, TABLES},
        numbering::{Budget, Full, Numbering},
    },
};

/// Numbers ids and writes records.
pub struct Encoder {
    form: Form,
    budget: Budget,
    columns: Vec<Column>,
}

struct Column {
    numbering: Numbering,
    numbers: Vec<u32>,
    fresh: Vec<u32>,
    full: Option<Full>,
}

/// The records of some columns, and what is summed up while they are written.
struct Part<'a> {
    form: Form,
    columns: &'a Columns,
    /// Samples before them.
    first: usize,
    records: &'a mut [u8],
    positives: u64,
    missing: [u64; DENSE + TABLES],
}

impl Encoder {
    /// Dictionaries without ids, which may take `memory` bytes; none where the form has raw ids.
    pub fn new(form: Form, max_ind_range: Option<u32>, memory: u64) -> Self {
        let column = || Column { numbering: Numbering::new(max_ind_range), numbers: Vec::new(), fresh: Vec::new(), full: None };
        let columns = if form == Form::Raw { 0 } else { TABLES };
        Encoder { form, budget: Budget::new(memory), columns: (0..columns).map(|_| column()).collect() }
    }

    /// Columns with a dictionary.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The ids of each column that came anew with the last [`Encoder::encode`], in order.
    pub fn fresh(&self) -> impl Iterator<Item = &[u32]> {
        self.columns.iter().map(|c| c.fresh.as_slice())
    }

    /// Numbers ids that were numbered before; false if one is there twice.
    pub fn restore(&mut self, column: usize, fresh: &[u32]) -> Result<bool, PrepareError> {
        let restored = self.columns[column].numbering.restore(fresh, &self.budget);
        restored.map_err(|full| self.refusal(column, full))
    }

    /// Puts the records of all samples of `blocks` into `records`, in place of what was there, and adds to `tally` (but for the samples of
    /// files, and lines).
    ///
    /// # Errors
    /// If there are too many ids; the dictionaries are then of no more use.
    pub fn encode(&mut self, pool: &Pool, blocks: &Blocks, records: &mut Vec<u8>, tally: &mut Tally) -> Result<(), PrepareError> {
        let budget = &self.budget;
        pool.for_each_chunk(&mut self.columns, 1, |j, _, column| {
            for Column { numbering, numbers, fresh, full } in column {
                numbers.clear();
                fresh.clear();
                *full = blocks.columns().try_for_each(|c| numbering.number(&c.ids[j], numbers, fresh, budget)).err();
            }
        });
        if let Some((j, full)) = self.columns.iter().enumerate().find_map(|(j, c)| c.full.map(|full| (j, full))) {
            return Err(self.refusal(j, full));
        }
        let samples: usize = blocks.columns().map(Columns::len).sum();
        let width = self.form.bytes();
        records.resize(samples * width, 0);
        let (mut parts, mut rest, mut first) = (Vec::new(), records.as_mut_slice(), 0);
        for columns in blocks.columns() {
            let (records, after) = rest.split_at_mut(columns.len() * width);
            parts.push(Part { form: self.form, columns, first, records, positives: 0, missing: [0; DENSE + TABLES] });
            (rest, first) = (after, first + columns.len());
        }
        let columns = &self.columns;
        pool.for_each_chunk(&mut parts, 1, |_, _, parts| parts.iter_mut().for_each(|part| part.write(columns)));
        for part in &parts {
            tally.positives += part.positives;
            tally.missing.iter_mut().zip(part.missing).for_each(|(sum, n)| *sum += n);
        }
        Ok(())
    }

    fn refusal(&self, column: usize, full: Full) -> PrepareError {
        let name = column + 1;
        let ids: u64 = self.columns.iter().map(|c| u64::from(c.numbering.ids())).sum();
        match full {
            Full::Memory => PrepareError::Memory(format!(
                "the dictionaries of {ids} different ids fill the memory that is left for them, and C{name} has more; give more with --memory, \
                 and the same command goes on from here, or fold ids with --max-ind-range in a new folder"
            )),
            Full::Ids => PrepareError::Usage(format!(
                "C{name} has more than {} different ids, which 32-bit integers do not hold; fold them with --max-ind-range",
                1u64 << 31
            )),
        }
    }
}

impl Part<'_> {
    fn write(&mut self, numbered: &[Column]) {
        let Columns { labels, dense, ids: raw, missing, .. } = self.columns;
        let range = self.first..self.first + labels.len();
        let least = if self.form == Form::Numbered { 0 } else { i32::MIN };
        let ids: [&[u32]; TABLES] = match self.form {
            Form::Numbered | Form::Signed => std::array::from_fn(|j| &numbered[j].numbers[range.clone()]),
            Form::Raw => std::array::from_fn(|j| raw[j].as_slice()),
        };
        for (i, (record, &label)) in self.records.chunks_exact_mut(self.form.bytes()).zip(labels).enumerate() {
            let (words, _) = record[..RECORD].as_chunks_mut::<4>();
            words[0] = i32::from(label).to_le_bytes();
            for (word, column) in words[1..].iter_mut().zip(dense) {
                *word = column[i].max(least).to_le_bytes();
            }
            for (word, column) in words[1 + DENSE..].iter_mut().zip(&ids) {
                *word = column[i].to_le_bytes();
            }
            if self.form == Form::Raw {
                record[RECORD..].copy_from_slice(&missing[i].to_le_bytes());
            }
        }
        self.positives = labels.iter().map(|&y| u64::from(y)).sum();
        for &bits in missing {
            let mut bits = bits;
            while bits != 0 {
                self.missing[bits.trailing_zeros() as usize] += 1;
                bits &= bits - 1;
            }
        }
    }
}
