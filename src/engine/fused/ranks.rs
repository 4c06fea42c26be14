//! One of several ranks that train a model together: it has some of the tables, and computes the
//! layers for some samples of each batch.
//!
//! Tables pool the whole batch, so each rank then holds vectors of all samples and of some tables.
//! An exchange gives it those of its own samples and of all tables; another one takes their
//! gradients back. Both move values and compute nothing, and layers that need none of them compute
//! meanwhile. The loss is divided by the whole batch, so gradients of dense parameters are summed
//! over ranks ([`super::sums`]).

use super::{
    Pass,
    embedding::{Embedding, Of},
    network::Network,
    store::Store,
    sums::{Parcels, Sums, floats},
};
use crate::{
    backend::{Backend, Mat, Result, StepSums, Window},
    comm::{self, Comm, Flight, Patience, What},
    engine::{
        EngineConfig, SumOrder, TableShare,
        ranks::{Share, rows_of},
    },
};
use std::{ops::Range, rc::Rc};

/// A set of tables: how wide they are, and which ranks have each.
pub(super) struct Set {
    pub(super) dim: usize,
    owners: Vec<Vec<usize>>,
}

/// What a rank knows of the others, and its messages.
pub(crate) struct Ranks {
    pub(super) comm: Rc<dyn Comm>,
    patience: Patience,
    overlap: bool,
    /// Factor of the gradients of tables ([`EngineConfig::tables_by_ranks`]).
    factor: Option<f32>,
    pub(super) sets: Vec<Set>,
    /// In which order gradients of dense parameters are summed.
    pub(super) order: SumOrder,
    /// Messages of an exchange that is not under way.
    parcels: Parcels,
    exchange: Option<Flight>,
    /// Whether an exchange from device to device is under way.
    pub(super) linked: bool,
    sums: Sums,
    /// Gradients of one table; scratch space.
    scratch: Vec<f32>,
}

/// Sums of dense gradients that are worth a message of their own: of so many numbers.
const WORTH: usize = 1 << 14;

/// An `f64` as words, and back.
fn words(x: f64) -> [u32; 2] {
    let bits = x.to_bits();
    [bits as u32, (bits >> 32) as u32]
}

fn double(words: &[u32]) -> f64 {
    f64::from_bits(u64::from(words[0]) | u64::from(words[1]) << 32)
}

impl Ranks {
    /// For a model whose tables `share` gives to ranks.
    pub fn new(config: &EngineConfig, share: &TableShare) -> Self {
        let model = &config.model;
        let factor = config.tables_by_ranks.then_some(share.comm.size() as f32);
        let specs = model.table_specs();
        let set = |set: crate::model::SetSpec| Set {
            dim: set.dim,
            owners: set.tables.iter().map(|&t| share.owners[specs[t].column].clone()).collect(),
        };
        let sets = model.table_sets().into_iter().map(set).collect();
        let (comm, patience) = (Rc::clone(&share.comm), share.patience);
        let (parcels, sums) =
            (Parcels::new(&*comm), Sums::new(Rc::clone(&comm), patience, config.sum_order));
        let (order, exchange, scratch) = (config.sum_order, None, Vec::new());
        Ranks {
            comm,
            patience,
            overlap: share.overlap,
            factor,
            sets,
            order,
            parcels,
            exchange,
            linked: false,
            sums,
            scratch,
        }
    }

    /// This rank, and how many there are.
    pub fn place(&self) -> (usize, usize) {
        (self.comm.rank(), self.comm.size())
    }

    /// Samples of a batch whose layers this rank computes.
    pub fn rows(&self, samples: usize) -> Range<usize> {
        rows_of(self.comm.rank(), self.comm.size(), samples)
    }

    /// What this rank has of a table of a set.
    pub fn share(&self, set: usize, table: usize) -> Option<Share> {
        Share::of(&self.sets[set].owners[table], self.comm.rank())
    }

    /// Columns of this rank's tables of a set.
    pub fn own(&self, embedding: &Embedding) -> impl Iterator<Item = Window> {
        tables(&self.sets, embedding, self.comm.rank()).map(|(window, _)| window)
    }

    /// Whether layers are computed while messages are under way.
    pub fn overlaps(&self) -> bool {
        self.overlap
    }

    /// The way to the others.
    pub fn comm(&self) -> Rc<dyn Comm> {
        Rc::clone(&self.comm)
    }

    /// Begins to give each rank the vectors, or to take the gradients, of its samples of a batch of
    /// `samples`.
    pub fn begin_exchange<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        of: Of,
        samples: usize,
    ) -> Result<()> {
        if backend.link().is_some() {
            return self.begin_linked(backend, network, of, samples);
        }
        let place = self.place();
        let (sent, got) = (sent(of, place, samples), got(of, place, samples));
        let Ranks { comm, sets, parcels: Parcels { send, receive }, .. } = self;
        for parcel in send.iter_mut() {
            parcel.words.clear();
        }
        for parcel in receive.iter_mut() {
            let (owner, rows) = got(parcel.rank);
            let width: usize = sets.iter().map(|s| s.dim * s.of(owner)).sum();
            parcel.words.clear();
            parcel.words.resize(width * rows.len(), 0);
        }
        network.pooled_mut(of, &mut |embedding, buffer| {
            for parcel in send.iter_mut() {
                let (owner, rows) = sent(parcel.rank);
                for (window, _) in tables(sets, &embedding, owner) {
                    let at = parcel.words.len();
                    parcel.words.resize(at + rows.len() * window.cols, 0);
                    let x = window.from_row(rows.start).of(&*buffer, rows.len());
                    backend.read_mat(x, floats(&mut parcel.words[at..]))?;
                }
            }
            Ok(())
        })?;
        let what = match of {
            Of::Vectors => What::Pooled,
            Of::Gradients => What::PooledGradients,
        };
        let (send, receive) = (std::mem::take(send), std::mem::take(receive));
        self.exchange = Some(comm.begin(what, send, receive)?);
        Ok(())
    }

    /// Waits until all have given theirs, if that was begun.
    pub fn finish_exchange<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        of: Of,
        samples: usize,
    ) -> Result<()> {
        if std::mem::take(&mut self.linked) {
            self.finish_linked(backend, network, of, samples)?;
            return self.times(backend, network, of, samples);
        }
        let Some(flight) = self.exchange.take() else { return Ok(()) };
        let (me, size) = self.place();
        let got = got(of, (me, size), samples);
        let Ranks { comm, patience, sets, parcels: Parcels { send, receive }, scratch, .. } = self;
        (*send, *receive) = comm.finish(flight, *patience)?;
        let mut read = vec![0; size];
        network.pooled_mut(of, &mut |embedding, buffer| {
            for parcel in receive.iter_mut() {
                let (owner, rows) = got(parcel.rank);
                for (window, shares) in tables(sets, &embedding, owner) {
                    let at = &mut read[parcel.rank];
                    let values = floats(&mut parcel.words[*at..][..rows.len() * window.cols]);
                    *at += values.len();
                    if of == Of::Vectors && shares > 1 {
                        // Each rank has pooled the rows that it has.
                        scratch.resize(values.len(), 0.0);
                        let here = window.from_row(rows.start).of(&*buffer, rows.len());
                        backend.read_mat(here, scratch)?;
                        values.iter_mut().zip(&*scratch).for_each(|(x, y)| *x += y);
                    }
                    let to = window.from_row(rows.start).of_mut(&mut *buffer, rows.len());
                    backend.write_mat(to, values)?;
                }
            }
            Ok(())
        })?;
        self.times(backend, network, of, samples)
    }

    /// Multiplies gradients of tables, if that is asked for.
    fn times<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        of: Of,
        samples: usize,
    ) -> Result<()> {
        match self.factor {
            Some(factor) if of == Of::Gradients => self.multiply(backend, network, factor, samples),
            _ => Ok(()),
        }
    }

    /// Multiplies the gradients of this rank's tables.
    fn multiply<B: Backend>(
        &mut self,
        backend: &mut B,
        network: &mut Network<B>,
        factor: f32,
        samples: usize,
    ) -> Result<()> {
        let (me, Ranks { sets, scratch, .. }) = (self.comm.rank(), self);
        network.pooled_mut(Of::Gradients, &mut |embedding, buffer| {
            for (window, _) in tables(sets, &embedding, me) {
                scratch.resize(samples * window.cols, 0.0);
                backend.read_mat(window.of(&*buffer, samples), scratch)?;
                scratch.iter_mut().for_each(|x| *x *= factor);
                backend.write_mat(window.of_mut(&mut *buffer, samples), scratch)?;
            }
            Ok(())
        })
    }

    /// Begins to sum these gradients of dense parameters, if they are worth it now; all ranks do so.
    pub fn begin_sums<B: Backend>(
        &mut self,
        backend: &mut B,
        store: &Store<B>,
        range: Range<usize>,
    ) -> Result<()> {
        match range.len() {
            ..WORTH => Ok(()),
            _ if !self.overlap => Ok(()),
            // On a device they take their turn behind all that it is asked for anyway.
            _ if backend.link().is_some() => Ok(()),
            _ => self.sums.begin(backend, &store.grads, range),
        }
    }

    /// Sums all gradients of dense parameters over all ranks.
    pub fn sum<B: Backend>(&mut self, backend: &mut B, store: &mut Store<B>) -> Result<()> {
        if backend.link().is_some() {
            return self.sum_linked(backend, store);
        }
        for rest in self.sums.rest(store.layout.dense) {
            self.sums.begin(backend, &store.grads, rest)?;
        }
        self.sums.finish(backend, &mut store.grads)
    }

    /// Sums what ranks have counted of a step: losses, squares of tables' gradients; and whether one
    /// has overflowed. `squares` is what all have counted alike.
    pub fn join<B: Backend>(&self, backend: &mut B, squares: f64) -> Result<()> {
        let own = backend.step_sums()?;
        let mut message = [0; 5];
        message[..2].copy_from_slice(&words(own.losses));
        message[2..4].copy_from_slice(&words(own.squares));
        message[4] = own.overflow.into();
        let all = comm::all_gather(&*self.comm, What::StepSums, self.patience, &message)?;
        let mut sums = StepSums { losses: 0.0, squares, overflow: false };
        for words in &all {
            sums.losses += double(words);
            sums.squares += double(&words[2..]);
            sums.overflow |= words[4] != 0;
        }
        backend.set_step_sums(sums)
    }

    /// Looks for numbers that are not finite among gradients of this rank's tables.
    pub fn check_finite<B: Backend>(
        &self,
        pass: &mut Pass<'_, B>,
        embedding: &Embedding,
        gradient: &B::Floats,
    ) -> Result<()> {
        let rows = pass.rows;
        self.own(embedding).try_for_each(|window| {
            let x: Mat<'_, B::Floats> = window.of(gradient, rows);
            pass.backend.check_finite(x)
        })
    }
}

/// Whose tables, and whose samples, there are in what a rank sends to another one.
pub(super) fn sent(
    of: Of,
    (me, size): (usize, usize),
    samples: usize,
) -> impl Fn(usize) -> (usize, Range<usize>) {
    move |peer| match of {
        Of::Vectors => (me, rows_of(peer, size, samples)),
        Of::Gradients => (peer, rows_of(me, size, samples)),
    }
}

/// Whose tables, and whose samples, there are in what a rank gets from another one.
pub(super) fn got(
    of: Of,
    (me, size): (usize, usize),
    samples: usize,
) -> impl Fn(usize) -> (usize, Range<usize>) {
    move |peer| match of {
        Of::Vectors => (peer, rows_of(me, size, samples)),
        Of::Gradients => (me, rows_of(peer, size, samples)),
    }
}

impl Set {
    /// How many of its tables a rank has.
    pub(super) fn of(&self, rank: usize) -> usize {
        self.owners.iter().filter(|owners| owners.contains(&rank)).count()
    }
}

/// Columns of a rank's tables of a set, with how many ranks share each.
pub(super) fn tables<'a>(
    sets: &'a [Set],
    embedding: &Embedding,
    rank: usize,
) -> impl Iterator<Item = (Window, usize)> + use<'a> {
    let (Set { dim, owners }, window) = (&sets[embedding.set], embedding.window);
    let owned = owners.iter().enumerate().filter(move |(_, owners)| owners.contains(&rank));
    owned.map(move |(table, owners)| (window.columns(table * dim, *dim), owners.len()))
}
