//! Rows on their way out of slots and into them, beside steps in flight where the device computes
//! beside the host.

use super::CachedEngine;
use crate::{
    embedding::cached::{Insert, Resolved},
    engine::{EngineError, TensorId},
};

/// Rows that leave their slots and whose values are on their way, of each column that has some.
pub(super) type Leaving = Vec<(usize, Vec<Insert>)>;

/// The slots of some rows.
fn slots(of: &[Insert]) -> Vec<u32> {
    of.iter().map(|i| i.slot).collect()
}

impl CachedEngine {
    /// Keeps the rows that have to go for those of a batch, or begins to.
    pub(super) fn leave(&mut self, resolved: &Resolved) -> Result<(), EngineError> {
        let of = |column: usize| (column, resolved.evicted(column).to_vec());
        let leaving: Leaving = (0..self.parts.len()).map(of).filter(|l| !l.1.is_empty()).collect();
        if leaving.is_empty() {
            return Ok(());
        }
        let slots: Vec<Vec<u32>> = leaving.iter().map(|(_, evicted)| slots(evicted)).collect();
        if self.inner.begin_moving_out(&self.tensors(&leaving, &slots))? {
            for (column, evicted) in &leaving {
                self.store.leave(*column, evicted);
            }
            self.leaving = leaving;
            return Ok(());
        }
        self.keep_now(&leaving)
    }

    /// The tensors of rows, with their slots.
    fn tensors<'a>(&self, of: &Leaving, slots: &'a [Vec<u32>]) -> Vec<(TensorId, &'a [u32])> {
        let columns = of.iter().zip(slots);
        let tensors = columns.flat_map(|((column, _), slots)| {
            self.parts[*column].iter().map(move |part| (part.tensor, &slots[..]))
        });
        tensors.collect()
    }

    /// Keeps rows of slots as they are now.
    pub(super) fn keep_now(&mut self, rows: &Leaving) -> Result<(), EngineError> {
        let slots: Vec<Vec<u32>> = rows.iter().map(|(_, of)| slots(of)).collect();
        let tensors = self.tensors(rows, &slots);
        let widths: Vec<usize> = self.store.record().fields().iter().map(|f| f.width).collect();
        let all: usize = widths.iter().sum();
        self.values.resize(all * slots.iter().map(Vec::len).sum::<usize>(), 0.0);
        let mut rest = &mut self.values[..];
        for ((tensor, slots), width) in tensors.iter().zip(widths.iter().cycle()) {
            let (out, behind) = rest.split_at_mut(width * slots.len());
            self.inner.read_rows(*tensor, slots, out)?;
            rest = behind;
        }
        self.keep(rows)
    }

    /// Keeps the rows that are on their way, once they are there.
    pub(super) fn finish_leaving(&mut self) -> Result<(), EngineError> {
        let leaving = std::mem::take(&mut self.leaving);
        if leaving.is_empty() {
            return Ok(());
        }
        self.inner.moved_out(&mut self.values)?;
        self.keep(&leaving)
    }

    /// Keeps rows of slots that others will come into; `values` has them: of each column each field,
    /// row by row.
    fn keep(&mut self, leaving: &Leaving) -> Result<(), EngineError> {
        let widths: Vec<usize> = self.store.record().fields().iter().map(|f| f.width).collect();
        let mut rest = &self.values[..];
        for (column, evicted) in leaving {
            let mut fields = Vec::with_capacity(widths.len());
            for &width in &widths {
                let (values, behind) = rest.split_at(width * evicted.len());
                fields.push((values, width));
                rest = behind;
            }
            for (k, e) in evicted.iter().enumerate() {
                self.store.keep(*column, e.row, &mut |record, bytes| {
                    for (field, &(values, width)) in fields.iter().enumerate() {
                        record.set(field, 0, &values[k * width..][..width], bytes);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Puts rows into the slots that they have been given.
    pub(super) fn bring(&mut self, resolved: &mut Resolved) -> Result<(), EngineError> {
        let fields = self.store.record().fields().to_vec();
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut all: Vec<(usize, Vec<u32>, Vec<Vec<f32>>)> = Vec::new();
        for column in 0..self.parts.len() {
            let inserts = resolved.inserts(column);
            if inserts.is_empty() {
                continue;
            }
            let mut values: Vec<Vec<f32>> =
                fields.iter().map(|f| vec![0.0; f.width * inserts.len()]).collect();
            for (k, i) in inserts.iter().enumerate() {
                let read = match self.store.fetched(resolved, column, k, &mut bytes)? {
                    Some(read) => read,
                    None => {
                        self.initial(column, i.row, &mut bytes);
                        &bytes
                    }
                };
                for (field, (values, f)) in values.iter_mut().zip(&fields).enumerate() {
                    let out = &mut values[k * f.width..][..f.width];
                    self.store.record().get(field, read, out);
                }
            }
            all.push((column, slots(inserts), values));
        }
        self.bytes = bytes;
        let rows = all.iter().flat_map(|(column, slots, values)| {
            let parts = self.parts[*column].iter().zip(values);
            parts.map(move |(part, values)| (part.tensor, &slots[..], &values[..]))
        });
        let rows: Vec<(TensorId, &[u32], &[f32])> = rows.collect();
        self.inner.move_in(&rows)?;
        self.store.arrived(resolved);
        Ok(())
    }
}
