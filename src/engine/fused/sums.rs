//! Sums of dense gradients over ranks, some of them under way while others are computed.
//!
//! Each rank sums a share of them, in an order that does not depend on who is first, and hands the
//! sums out.

use super::store::ALIGN;
use crate::{
    backend::{Backend, Result},
    comm::{self, Comm, Flight, Parcel, Patience, What},
    engine::SumOrder,
};
use std::{ops::Range, rc::Rc};

/// Words as numbers.
pub(super) fn floats(words: &mut [u32]) -> &mut [f32] {
    bytemuck::cast_slice_mut(words)
}

/// Part `part` of some dense gradients, which `parts` ranks share: whole lines.
pub(super) fn share(all: &Range<usize>, part: usize, parts: usize) -> Range<usize> {
    let lines = all.len() / ALIGN;
    let at = |part| all.start + lines * part / parts * ALIGN;
    at(part)..at(part + 1)
}

/// Parcels to and from all other ranks, kept from step to step.
pub(super) struct Parcels {
    pub send: Vec<Parcel>,
    pub receive: Vec<Parcel>,
}

impl Parcels {
    /// Empty ones.
    pub fn new(comm: &dyn Comm) -> Self {
        let others = || comm::others(comm).map(|rank| Parcel { rank, words: Vec::new() }).collect();
        Parcels { send: others(), receive: others() }
    }
}

/// Gradients that are summed at once.
struct Sum {
    range: Range<usize>,
    flight: Flight,
}

/// The sums of a step.
pub(super) struct Sums {
    comm: Rc<dyn Comm>,
    patience: Patience,
    order: SumOrder,
    /// Those begun, in their order.
    begun: Vec<Sum>,
    /// Room for messages that are not under way.
    room: Vec<Parcels>,
    /// Gradients of all ranks, of the share that this one sums; scratch space.
    part: Vec<f32>,
}

impl Sums {
    /// None begun.
    pub fn new(comm: Rc<dyn Comm>, patience: Patience, order: SumOrder) -> Self {
        Sums { comm, patience, order, begun: Vec::new(), room: Vec::new(), part: Vec::new() }
    }

    /// Begins to sum gradients in this range of a buffer, whole lines, which change no more.
    pub fn begin<B: Backend>(
        &mut self,
        backend: &mut B,
        grads: &B::Floats,
        range: Range<usize>,
    ) -> Result<()> {
        let (me, size) = (self.comm.rank(), self.comm.size());
        let Parcels { mut send, mut receive } =
            self.room.pop().unwrap_or_else(|| Parcels::new(&*self.comm));
        let own = share(&range, me, size).len();
        for (parcel, to) in send.iter_mut().zip(receive.iter_mut()) {
            let theirs = share(&range, parcel.rank, size);
            parcel.words.resize(theirs.len(), 0);
            backend.read(grads, theirs.start, floats(&mut parcel.words))?;
            to.words.resize(own, 0);
        }
        let flight = self.comm.begin(What::Gradients, send, receive)?;
        self.begun.push(Sum { range, flight });
        Ok(())
    }

    /// What has not been begun of `all` gradients.
    pub fn rest(&self, all: usize) -> Vec<Range<usize>> {
        let mut begun: Vec<Range<usize>> = self.begun.iter().map(|s| s.range.clone()).collect();
        begun.sort_unstable_by_key(|range| range.start);
        begun.push(all..all);
        let mut at = 0;
        let gaps = begun.into_iter().map(|range| {
            let gap = at..range.start;
            at = range.end;
            gap
        });
        gaps.filter(|gap| !gap.is_empty()).collect()
    }

    /// Waits for all that was begun: the sums take the place of the gradients.
    pub fn finish<B: Backend>(&mut self, backend: &mut B, grads: &mut B::Floats) -> Result<()> {
        let mut handed_out = Vec::with_capacity(self.begun.len());
        for sum in std::mem::take(&mut self.begun) {
            handed_out.push(self.hand_out(backend, grads, sum)?);
        }
        let size = self.comm.size();
        for Sum { range, flight } in handed_out {
            let (send, mut receive) = self.comm.finish(flight, self.patience)?;
            for parcel in receive.iter_mut() {
                let start = share(&range, parcel.rank, size).start;
                backend.write(grads, start, floats(&mut parcel.words))?;
            }
            self.room.push(Parcels { send, receive });
        }
        Ok(())
    }

    /// Sums this rank's share when all have sent it, and begins to send the sums to all.
    fn hand_out<B: Backend>(
        &mut self,
        backend: &mut B,
        grads: &mut B::Floats,
        Sum { range, flight }: Sum,
    ) -> Result<Sum> {
        let (me, size) = (self.comm.rank(), self.comm.size());
        let (mut send, mut receive) = self.comm.finish(flight, self.patience)?;
        let own = share(&range, me, size);
        let n = own.len();
        let part = &mut self.part;
        part.resize(size * n, 0.0);
        if n > 0 {
            backend.read(grads, own.start, &mut part[me * n..][..n])?;
            for parcel in receive.iter_mut() {
                part[parcel.rank * n..][..n].copy_from_slice(floats(&mut parcel.words));
            }
            self.order.sum(part, n);
        }
        backend.write(grads, own.start, &part[..n])?;
        for (parcel, from) in send.iter_mut().zip(receive.iter_mut()) {
            parcel.words.resize(n, 0);
            floats(&mut parcel.words).copy_from_slice(&part[..n]);
            from.words.resize(share(&range, from.rank, size).len(), 0);
        }
        let flight = self.comm.begin(What::Sums, send, receive)?;
        Ok(Sum { range, flight })
    }
}
