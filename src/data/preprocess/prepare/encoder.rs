//! Encodes columns to samples of fixed size: numbers ids column by column, then writes samples block
//! by block, each on all threads.

use super::{PrepareError, shuffle::records::Form, state::checkpoint::Tally};
use crate::{
    data::preprocess::{
        criteo::{Blocks, Columns, DENSE, RECORD, TABLES, column_name},
        numbering::{Budget, Full, NONE, Numbering},
    },
    host::pool::Pool,
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
    /// OutputState was no memory for an id, so that nothing new goes into the dictionary any more.
    full: bool,
    /// Samples and their ids without a number.
    left: Vec<(usize, u32)>,
    failed: Option<Full>,
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
        let column = || Column {
            numbering: Numbering::new(max_ind_range),
            numbers: Vec::new(),
            fresh: Vec::new(),
            full: false,
            left: Vec::new(),
            failed: None,
        };
        let columns = if form == Form::Raw { 0 } else { TABLES };
        Encoder {
            form,
            budget: Budget::new(memory),
            columns: (0..columns).map(|_| column()).collect(),
        }
    }

    /// Columns with a dictionary.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The ids of each column that came anew with the last [`Encoder::encode`], in order.
    pub fn fresh(&self) -> impl Iterator<Item = &[u32]> {
        self.columns.iter().map(|c| c.fresh.as_slice())
    }

    /// Samples of the last [`Encoder::encode`], counted from 0, that hold the placeholder [`NONE`]
    /// in a column, and the ids that they should.
    pub fn left(&self) -> impl Iterator<Item = &[(usize, u32)]> {
        self.columns.iter().map(|c| c.left.as_slice())
    }

    /// Makes room for ids that were numbered before; nothing new will be numbered if ids were left
    /// out before.
    pub fn reserve(&mut self, column: usize, ids: u64, full: bool) -> Result<(), PrepareError> {
        self.columns[column].full = full;
        self.columns[column].numbering.reserve(ids as usize, &self.budget).map_err(|_| {
            PrepareError::Memory(format!(
                "there is no memory for the dictionaries of what was done before, from C{} on; give as much with --memory as there was, and \
                 the same command goes on from here",
                column + 1
            ))
        })
    }

    /// Numbers ids that were numbered before, of those that there is room for; false if one is
    /// there twice.
    pub fn restore(&mut self, column: usize, fresh: &[u32]) -> Result<bool, PrepareError> {
        self.columns[column].numbering.restore(fresh, &self.budget).map_err(|_| too_many(column))
    }

    /// Puts the records of all samples of `blocks` into `records`, in place of what was there, and
    /// adds to `tally` (but for the samples of files, and lines).
    ///
    /// # Errors
    /// If there are too many ids; the dictionaries are then of no more use.
    pub fn encode(
        &mut self,
        pool: &Pool,
        blocks: &Blocks,
        records: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), PrepareError> {
        let budget = &self.budget;
        pool.for_each_chunk(&mut self.columns, 1, |j, _, column| {
            for column in column {
                column.number(blocks.columns().map(|c| c.ids[j].as_slice()), budget);
            }
        });
        if let Some(j) = self.columns.iter().position(|c| c.failed.is_some()) {
            return Err(too_many(j));
        }
        let samples: usize = blocks.columns().map(Columns::len).sum();
        let width = self.form.bytes();
        records.resize(samples * width, 0);
        let (mut parts, mut rest, mut first) = (Vec::new(), records.as_mut_slice(), 0);
        for columns in blocks.columns() {
            let (records, after) = rest.split_at_mut(columns.len() * width);
            parts.push(Part {
                form: self.form,
                columns,
                first,
                records,
                positives: 0,
                missing: [0; DENSE + TABLES],
            });
            (rest, first) = (after, first + columns.len());
        }
        let columns = &self.columns;
        pool.for_each_chunk(&mut parts, 1, |_, _, parts| {
            parts.iter_mut().for_each(|part| part.write(columns))
        });
        for part in &parts {
            tally.positives += part.positives;
            tally.missing.iter_mut().zip(part.missing).for_each(|(sum, n)| *sum += n);
        }
        Ok(())
    }
}

/// The error that a column has more ids than the formats hold.
pub fn too_many(column: usize) -> PrepareError {
    let (name, most) = (column_name(DENSE + column), 1u64 << 31);
    PrepareError::Usage(format!(
        "{name} has more than {most} different ids, which 32-bit integers do not hold; fold them with --max-ind-range"
    ))
}

impl Column {
    /// Numbers the ids of some blocks.
    fn number<'a>(&mut self, blocks: impl Iterator<Item = &'a [u32]>, budget: &Budget) {
        self.numbers.clear();
        self.fresh.clear();
        self.left.clear();
        for raw in blocks {
            let first = self.numbers.len();
            if !self.full {
                match self.numbering.number(raw, &mut self.numbers, &mut self.fresh, budget) {
                    Ok(()) => continue,
                    Err(Full::Memory) => self.full = true,
                    Err(full) => self.failed = Some(full),
                }
            }
            // What was numbered before memory was full stays so.
            let done = self.numbers.len() - first;
            self.numbering.look_up(&raw[done..], &mut self.numbers);
            for (&id, (&number, sample)) in
                raw[done..].iter().zip(self.numbers[first + done..].iter().zip(first + done..))
            {
                if number == NONE {
                    self.left.push((sample, self.numbering.fold(id)));
                }
            }
        }
    }
}

impl Part<'_> {
    fn write(&mut self, numbered: &[Column]) {
        let Columns { labels, dense, ids: raw, missing, .. } = self.columns;
        let range = self.first..self.first + labels.len();
        let least = if self.form == Form::Numbered { 0 } else { i32::MIN };
        let ids: [&[u32]; TABLES] = match self.form {
            Form::Numbered | Form::Signed => {
                std::array::from_fn(|j| &numbered[j].numbers[range.clone()])
            }
            Form::Raw => std::array::from_fn(|j| raw[j].as_slice()),
        };
        for (i, (record, &label)) in
            self.records.chunks_exact_mut(self.form.bytes()).zip(labels).enumerate()
        {
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
