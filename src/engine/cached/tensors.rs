//! Tensors with a row an id: what is kept of a row, and how one is read and written wherever it is.

use super::CachedEngine;
use crate::{
    checkpoint::Begins,
    embedding::{
        RowKind,
        cached::{Field, Record, Where},
    },
    engine::{EngineConfig, EngineError, TensorId},
    model::ParamKind,
};

/// A tensor with a row an id: what of a column's record it is.
pub(super) struct Part {
    pub tensor: TensorId,
    pub start: Begins,
}

/// The tensors with a row an id, of each column: their numbers a row, and the form of a number.
pub(super) fn row_tensors(config: &EngineConfig, rows: RowKind) -> Vec<Vec<(TensorId, Field)>> {
    let specs = config.model.table_specs();
    let (params, state) = (config.model.params(), config.optimizer_state());
    let mut weights = specs.iter();
    let mut all = vec![Vec::new(); config.model.tables().len()];
    let mut columns = Vec::new();
    for (i, p) in params.iter().enumerate() {
        let spec = match p.kind {
            ParamKind::Table => specs.iter().find(|t| t.name == p.name),
            ParamKind::RowWeight => weights.next(),
            _ => None,
        };
        columns.push(spec.map(|t| t.column));
        if let Some(t) = spec {
            let kind = if p.kind == ParamKind::Table { rows } else { RowKind::Fp32 };
            let field = Field { width: p.shape[1], kind };
            all[t.column].push((TensorId::Parameter(i), field));
        }
    }
    for (i, s) in state.iter().enumerate() {
        if let Some(column) = columns[s.param] {
            let field = Field { width: s.shape[1], kind: RowKind::Fp32 };
            all[column].push((TensorId::State(i), field));
        }
    }
    all
}

/// What is kept of a row of any column.
///
/// # Errors
/// If columns differ in it.
pub(super) fn record(config: &EngineConfig, rows: RowKind) -> Result<Record, EngineError> {
    let mut all = row_tensors(config, rows).into_iter();
    let fields = |column: Vec<(TensorId, Field)>| column.into_iter().map(|(_, f)| f).collect();
    let first: Vec<Field> = all.next().map(fields).unwrap_or_default();
    if all.all(|column| column.iter().map(|(_, f)| f).eq(&first)) {
        return Ok(Record::new(first));
    }
    Err(EngineError::Unsupported("embedding.store = \"cached\" needs tables of one width".into()))
}

impl CachedEngine {
    /// Column and field of a tensor, if some of its rows are not in memory.
    fn cached(&self, of: TensorId) -> Option<(usize, usize)> {
        match of {
            TensorId::Parameter(i) => self.params_in[i],
            TensorId::State(i) => self.state_in[i],
        }
    }

    /// A record of what a row begins with, in the form in which it is kept.
    pub(super) fn initial(&self, column: usize, row: u32, bytes: &mut Vec<u8>) {
        let record = self.store.record();
        bytes.resize(record.bytes(), 0);
        let mut values = Vec::new();
        for (field, part) in self.parts[column].iter().enumerate() {
            values.resize(record.fields()[field].width, 0.0);
            part.start.fill(u64::from(row), &mut values);
            record.set(field, 0, &values, bytes);
        }
    }

    /// Reads a field of a row, wherever it is.
    fn read_row(
        &self,
        (column, field): (usize, usize),
        row: u32,
        out: &mut [f32],
        bytes: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        let record = self.store.record();
        match self.store.locate(column, row) {
            Where::Slot(slot) => {
                let part = &self.parts[column][field];
                return part.tensor.read(&*self.inner, slot as usize * out.len(), out);
            }
            Where::File(place) => {
                let read = self.store.read(column, row, place, bytes)?;
                record.get(field, read, out);
            }
            Where::Initial => {
                self.initial(column, row, bytes);
                record.get(field, bytes, out);
            }
        }
        Ok(())
    }

    /// Reads numbers `first..` of a tensor.
    pub(super) fn read_tensor(
        &self,
        of: TensorId,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let Some((column, field)) = self.cached(of) else {
            return of.read(&*self.inner, first, out);
        };
        let width = self.store.record().fields()[field].width;
        let (mut row, mut bytes) = (vec![0.0; width], Vec::new());
        let mut done = 0;
        while done < out.len() {
            let (number, at) = ((first + done) / width, (first + done) % width);
            let n = (width - at).min(out.len() - done);
            self.read_row((column, field), number as u32, &mut row, &mut bytes)?;
            out[done..done + n].copy_from_slice(&row[at..at + n]);
            done += n;
        }
        Ok(())
    }

    /// Sets numbers `first..` of a tensor. A row that stays as it begins takes no place.
    pub(super) fn write_tensor(
        &mut self,
        of: TensorId,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.settle()?;
        let Some((column, field)) = self.cached(of) else {
            return of.write(&mut *self.inner, first, values);
        };
        let width = self.store.record().fields()[field].width;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < values.len() {
            let (number, at) = ((first + done) / width, (first + done) % width);
            let part = &values[done..(done + width - at).min(values.len())];
            let row = number as u32;
            match self.store.locate(column, row) {
                Where::Slot(slot) => {
                    self.store.dirty_slot(column, slot);
                    of.write(&mut *self.inner, slot as usize * width + at, part)?;
                }
                Where::File(place) => self
                    .store
                    .rewrite(column, row, place, &mut |r, bytes| r.set(field, at, part, bytes))?,
                Where::Initial => {
                    self.initial(column, row, &mut before);
                    after.clone_from(&before);
                    self.store.record().set(field, at, part, &mut after);
                    if after != before {
                        self.store.keep(column, row, &mut |_, out| {
                            out[..after.len()].copy_from_slice(&after)
                        })?;
                    }
                }
            }
            done += part.len();
        }
        Ok(())
    }
}
