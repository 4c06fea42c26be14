//! Exchanges and sums of ranks whose messages go from device to device: the same values in the same
//! order as through the host, so the same bits.

use super::{
    embedding::Of,
    network::Network,
    ranks::{Ranks, got, sent, tables},
    store::{ALIGN, Store},
    sums::share,
};
use crate::{
    backend::{Backend, Result, Window},
    comm::{self, What},
};
use std::ops::Range;

/// Dense gradients of a range, in lines.
fn lines(range: &Range<usize>) -> (Window, usize) {
    (Window { at: range.start, stride: ALIGN, cols: ALIGN }, range.len() / ALIGN)
}

impl Ranks {
    /// As [`Ranks::begin_exchange`].
    pub(super) fn begin_linked<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        of: Of,
        samples: usize,
    ) -> Result<()> {
        let place = self.place();
        let (sent, got) = (sent(of, place, samples), got(of, place, samples));
        let len = |rank: usize, (owner, rows): (usize, Range<usize>)| {
            let width: usize = self.sets.iter().map(|s| s.dim * s.of(owner)).sum();
            if rank == place.0 { 0 } else { width * rows.len() }
        };
        let send: Vec<usize> = (0..place.1).map(|rank| len(rank, sent(rank))).collect();
        let receive: Vec<usize> = (0..place.1).map(|rank| len(rank, got(rank))).collect();
        let Some(link) = backend.link() else { return Ok(()) };
        link.reserve(&send, &receive)?;
        let (sets, comm) = (&self.sets, &*self.comm);
        network.pooled_mut(of, &mut |embedding, buffer| {
            let Some(link) = backend.link() else { return Ok(()) };
            comm::others(comm).try_for_each(|rank| {
                let (owner, rows) = sent(rank);
                let mut windows = tables(sets, &embedding, owner).filter(|_| !rows.is_empty());
                windows.try_for_each(|(window, _)| {
                    link.pack(rank, window.from_row(rows.start).of(&*buffer, rows.len()))
                })
            })
        })?;
        self.linked = true;
        backend.link().map_or(Ok(()), |link| link.begin())
    }

    /// As [`Ranks::finish_exchange`].
    pub(super) fn finish_linked<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        of: Of,
        samples: usize,
    ) -> Result<()> {
        let what = match of {
            Of::Vectors => What::Pooled,
            Of::Gradients => What::PooledGradients,
        };
        let Some(link) = backend.link() else { return Ok(()) };
        link.finish(what)?;
        let got = got(of, self.place(), samples);
        let (sets, comm) = (&self.sets, &*self.comm);
        network.pooled_mut(of, &mut |embedding, buffer| {
            let Some(link) = backend.link() else { return Ok(()) };
            comm::others(comm).try_for_each(|rank| {
                let (owner, rows) = got(rank);
                let mut windows = tables(sets, &embedding, owner).filter(|_| !rows.is_empty());
                windows.try_for_each(|(window, shares)| {
                    let to = window.from_row(rows.start).of_mut(&mut *buffer, rows.len());
                    // Where ranks share a table each has pooled the rows that it has.
                    link.unpack(rank, to, of == Of::Vectors && shares > 1)
                })
            })
        })
    }

    /// As [`Ranks::sum`]: each rank gets its share of all, adds it up and hands the sums out.
    pub(super) fn sum_linked<B: Backend>(
        &self,
        backend: &mut B,
        store: &mut Store<B>,
    ) -> Result<()> {
        let Some(link) = backend.link() else { return Ok(()) };
        let ((me, size), all, grads) = (self.place(), 0..store.layout.dense, &mut store.grads);
        let shares: Vec<Range<usize>> = (0..size).map(|rank| share(&all, rank, size)).collect();
        let others = |len: &dyn Fn(usize) -> usize| -> Vec<usize> {
            (0..size).map(|rank| if rank == me { 0 } else { len(rank) }).collect()
        };
        let theirs = others(&|rank| shares[rank].len());
        let (own, rows) = lines(&shares[me]);
        link.reserve(&theirs, &vec![shares[me].len(); size])?;
        for (rank, share) in shares.iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            let (window, rows) = lines(share);
            match rank == me {
                true => link.keep(window.of(&*grads, rows))?,
                false => link.pack(rank, window.of(&*grads, rows))?,
            }
        }
        link.begin()?;
        link.finish(What::Gradients)?;
        for (to, from) in self.order.pairs(size) {
            link.add(to, from)?;
        }
        if rows > 0 {
            link.unpack(0, own.of_mut(&mut *grads, rows), false)?;
        }
        link.reserve(&others(&|_| shares[me].len()), &theirs)?;
        for rank in comm::others(&*self.comm).filter(|_| rows > 0) {
            link.pack(rank, own.of(&*grads, rows))?;
        }
        link.begin()?;
        link.finish(What::Sums)?;
        for rank in comm::others(&*self.comm).filter(|rank| !shares[*rank].is_empty()) {
            let (window, rows) = lines(&shares[rank]);
            link.unpack(rank, window.of_mut(&mut *grads, rows), false)?;
        }
        Ok(())
    }
}
