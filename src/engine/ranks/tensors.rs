//! Tensors of which ranks have rows: read and set as if they were in one place.

use super::{
    RankedEngine, Share,
    message::{Command, Numbers},
};
use crate::{
    comm::{Parcel, What},
    engine::{EngineError, TensorId},
};

impl RankedEngine {
    /// The ranks that have the rows of a tensor; `None` if every rank has it.
    fn homes(&self, of: TensorId) -> Option<&[usize]> {
        let param = match of {
            TensorId::Parameter(index) => index,
            TensorId::State(index) => self.inner.optimizer_state()[index].param,
        };
        self.homes[param].as_deref()
    }

    /// Whether all of a tensor is here.
    pub(super) fn is_here(&self, of: TensorId) -> bool {
        self.homes(of).is_none_or(|homes| homes == [self.share.comm.rank()])
    }

    /// Numbers `first..` of a tensor.
    pub(super) fn read_tensor(
        &self,
        of: TensorId,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        match self.homes(of) {
            None => of.read(&*self.inner, first, out),
            Some(&[rank]) => self.read_of(rank, of, first, out),
            Some(homes) => {
                let (width, numbers) = (of.width(&*self.inner), first..first + out.len());
                let mut values = Vec::new();
                for &rank in homes {
                    let Some(share) = Share::of(homes, rank) else { continue };
                    let pieces = share.pieces(width, numbers.clone());
                    values.resize(pieces.clone().map(|piece| piece.len()).sum(), 0.0);
                    self.read_of(rank, of, share.first(width, &numbers), &mut values)?;
                    let mut rest = &values[..];
                    for piece in pieces {
                        let (head, tail) = rest.split_at(piece.len());
                        out[piece].copy_from_slice(head);
                        rest = tail;
                    }
                }
                Ok(())
            }
        }
    }

    /// Numbers of a tensor as one rank has it.
    fn read_of(
        &self,
        rank: usize,
        of: TensorId,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        if out.is_empty() {
            return Ok(());
        }
        if rank == self.share.comm.rank() {
            return of.read(&*self.inner, first, out);
        }
        let read = || {
            let numbers = Numbers { first, len: out.len() };
            self.tell(rank, Command::Read(of, numbers), None)?;
            let mut values = vec![Parcel { rank, words: vec![0; out.len()] }];
            let comm = &*self.share.comm;
            comm.transfer(What::Values, self.share.patience, &mut Vec::new(), &mut values)?;
            Ok(values.swap_remove(0).words)
        };
        let words = self.heard(read().map_err(EngineError::Ranks))?;
        out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_bits(word));
        Ok(())
    }

    /// Sets numbers `first..` of a tensor, wherever it is.
    pub(super) fn write_tensor(
        &mut self,
        of: TensorId,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        let Some(homes) = self.homes(of).map(<[usize]>::to_vec) else {
            return (0..self.share.comm.size())
                .try_for_each(|rank| self.write_to(rank, of, first, values));
        };
        let (width, numbers) = (of.width(&*self.inner), first..first + values.len());
        for &rank in &homes {
            match Share::of(&homes, rank) {
                Some(share) if share.is_cut() => {
                    let pieces = share.pieces(width, numbers.clone());
                    let own: Vec<f32> =
                        pieces.flat_map(|piece| values[piece].iter().copied()).collect();
                    self.write_to(rank, of, share.first(width, &numbers), &own)?;
                }
                _ => self.write_to(rank, of, first, values)?,
            }
        }
        Ok(())
    }

    /// Sets numbers of a tensor as one rank has it.
    fn write_to(
        &mut self,
        rank: usize,
        of: TensorId,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        if values.is_empty() {
            return Ok(());
        }
        if rank == self.share.comm.rank() {
            return of.write(&mut *self.inner, first, values);
        }
        let words = values.iter().map(|x| x.to_bits()).collect();
        let command = Command::Write(of, Numbers { first, len: values.len() });
        let told = self.tell(rank, command, Some(words));
        self.heard(told.map_err(EngineError::Ranks))
    }
}
