//! A batch in parts (micro-batches): rows of tables are looked up and updated for all of its
//! samples at once, and the layers in between are computed part by part, so that they need room for
//! one part only. Gradients of dense parameters are summed over the parts, in their order, before
//! the one update.
//!
//! Where several ranks train together, each computes the layers for its own samples.

use super::{
    Pass,
    embedding::Of,
    network::Network,
    ranks::Ranks,
    store::{ALIGN, Place, Store},
};
use crate::{
    backend::{Backend, Result, Window},
    engine::{
        EngineConfig, Phase, PhaseClock, SLICES, SumOrder, parts,
        ranks::{Share, rows_of},
    },
};
use std::ops::Range;

/// Samples that a network has room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of a batch: what tables give and take.
    pub batch: usize,
    /// Of a part of one: all between.
    pub part: usize,
}

impl Room {
    /// What a configuration asks for.
    pub fn of(config: &EngineConfig) -> Self {
        Room { batch: config.max_batch, part: config.part() }
    }
}

/// How batches are cut, and the sums over their parts.
pub(crate) struct MicroBatches<B: Backend> {
    part: usize,
    /// Whether the last part alone has gradients ([`EngineConfig::last_part_only`]).
    last_only: bool,
    /// Dense gradients of the parts before the present one; none where batches are never cut.
    sums: Option<B::Floats>,
    /// Sums of 1, 2, 4, ... slices before the present one, where they are summed as a tree.
    tree: Vec<B::Floats>,
    /// The other ranks.
    pub ranks: Option<Ranks>,
}

impl<B: Backend> MicroBatches<B> {
    /// For batches as `config` has them, and `dense` elements of dense parameters.
    pub fn new(
        backend: &mut B,
        config: &EngineConfig,
        dense: usize,
        ranks: Option<Ranks>,
    ) -> Result<Self> {
        let what = "sums of micro-batches' gradients";
        let sums = config.micro_batch.map(|_| backend.zeros(dense, what)).transpose()?;
        let levels = match config.sum_order {
            SumOrder::Tree => SLICES.ilog2(),
            SumOrder::Rank => 0,
        };
        let tree = (0..levels).map(|_| backend.zeros(dense, "sums of slices' gradients"));
        let tree = tree.collect::<Result<_>>()?;
        Ok(MicroBatches {
            part: config.part(),
            last_only: config.last_part_only,
            sums,
            tree,
            ranks,
        })
    }

    /// What is here, and not at other ranks, of a parameter in this place.
    pub fn share(&self, place: Place) -> Option<Share> {
        match (place, &self.ranks) {
            (Place::Table { set, index } | Place::RowWeight { set, index }, Some(ranks)) => {
                ranks.share(set, index)
            }
            _ => Some(Share::WHOLE),
        }
    }

    /// Samples whose layers are computed here.
    fn own(&self, samples: usize) -> Range<usize> {
        self.ranks.as_ref().map_or(0..samples, |ranks| ranks.rows(samples))
    }

    /// From the batch to pooled vectors, and begins to give each rank those of its samples.
    fn pool(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        network.pool(pass)?;
        clock.lap(Phase::Embedding);
        self.begin(pass, network, Of::Vectors, clock)
    }

    /// Begins to give each rank vectors, or gradients, and waits for them where nothing is to be
    /// computed meanwhile.
    fn begin(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        of: Of,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        let Some(ranks) = &mut self.ranks else { return Ok(()) };
        ranks.begin_exchange(pass.backend, network, of, pass.rows)?;
        clock.lap(Phase::Comm);
        match ranks.overlaps() {
            true => Ok(()),
            false => self.exchanged(pass, network, of, clock),
        }
    }

    /// Waits until all ranks have given theirs, if that was begun.
    fn exchanged(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        of: Of,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        if let Some(ranks) = &mut self.ranks {
            ranks.finish_exchange(pass.backend, network, of, pass.rows)?;
            clock.lap(Phase::Comm);
        }
        Ok(())
    }

    /// A pass in which messages to other ranks go on.
    fn under_way<'p>(&self, pass: &'p mut Pass<'_, B>, samples: Range<usize>) -> Pass<'p, B> {
        let comm = self.ranks.as_ref().map(Ranks::comm);
        Pass { comm, ..pass.part(samples) }
    }

    /// From the batch to the logits of all its samples, or of those whose layers are computed here.
    pub fn forward(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        self.pool(pass, network, clock)?;
        let own = self.own(pass.rows);
        let whole = !own.is_empty() && own.len() <= self.part;
        if whole {
            network.before(&mut self.under_way(pass, own.clone()), clock)?;
        }
        self.exchanged(pass, network, Of::Vectors, clock)?;
        if own.is_empty() {
            return Ok(());
        }
        network.gather(&mut pass.part(own.clone()), clock)?;
        cut(&own, self.part).try_for_each(|part| {
            let mut part = pass.part(part);
            if !whole {
                network.before(&mut part, clock)?;
            }
            network.forward(&mut part, clock)
        })
    }

    /// From the batch, grouped by row, to the gradients, times the loss scale. Those of dense
    /// parameters are of the samples whose layers are computed here.
    pub fn differentiate(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        clock.lap(Phase::Embedding);
        self.pool(pass, network, clock)?;
        let own = self.own(pass.rows).len();
        if self.tree.is_empty() && (1..=self.part).contains(&own) {
            self.whole(pass, network, clock)?;
        } else {
            self.exchanged(pass, network, Of::Vectors, clock)?;
            if !self.tree.is_empty() {
                self.slices(pass, network, clock)?;
            } else if own == 0 {
                pass.backend.fill(&mut pass.store.grads, 0.0)?;
                network.idle(pass)?;
            } else {
                self.parts(pass, network, clock)?;
            }
            if let Some(ranks) = &mut self.ranks {
                ranks.begin_sums(pass.backend, pass.store, network.top(&pass.store.layout))?;
            }
            self.begin(pass, network, Of::Gradients, clock)?;
        }
        self.exchanged(pass, network, Of::Gradients, clock)?;
        if let Some(ranks) = &mut self.ranks {
            ranks.sum(pass.backend, pass.store)?;
            clock.lap(Phase::Comm);
        }
        Ok(())
    }

    /// Layers of all samples that are computed here at once, while messages are under way; ends when
    /// the exchange of gradients has begun.
    fn whole(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        let (samples, own) = (pass.rows, self.own(pass.rows));
        network.before(&mut self.under_way(pass, own.clone()), clock)?;
        self.exchanged(pass, network, Of::Vectors, clock)?;
        let mut all = pass.part(own.clone());
        network.gather(&mut all, clock)?;
        network.forward(&mut all, clock)?;
        network.loss().forward_backward(&mut all, samples)?;
        clock.lap(Phase::Loss);
        network.backward_top(&mut all, clock)?;
        if let Some(ranks) = &mut self.ranks {
            ranks.begin_sums(pass.backend, pass.store, network.top(&pass.store.layout))?;
            clock.lap(Phase::Comm);
        }
        let mut all = self.under_way(pass, own.clone());
        network.backward(&mut all, clock)?;
        network.scatter(&mut all, clock)?;
        self.begin(pass, network, Of::Gradients, clock)?;
        network.backward_before(&mut self.under_way(pass, own), clock)
    }

    /// Layers part by part, and sums over the parts in their order.
    fn parts(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        let (samples, own) = (pass.rows, self.own(pass.rows));
        network.gather(&mut pass.part(own.clone()), clock)?;
        for Range { start, end } in cut(&own, self.part) {
            let mut part = pass.part(start..end);
            network.before(&mut part, clock)?;
            network.forward(&mut part, clock)?;
            let last = end == own.end;
            let over = if self.last_only { end - start } else { samples };
            network.loss().forward_backward(&mut part, over)?;
            if self.last_only && !last {
                network.loss().drop_gradient(part.backend)?;
            }
            clock.lap(Phase::Loss);
            network.backward_top(&mut part, clock)?;
            network.backward(&mut part, clock)?;
            network.backward_before(&mut part, clock)?;
            if end - start < own.len() {
                self.add_up(part.backend, part.store, start == own.start, last)?;
                clock.lap(Phase::Update);
            }
        }
        network.scatter(&mut pass.part(own), clock)
    }

    /// Layers slice by slice, and sums over the slices as a binary tree, of which each rank has a
    /// branch: so the sum does not depend on how many ranks there are.
    fn slices(
        &mut self,
        pass: &mut Pass<'_, B>,
        network: &mut Network<B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        let (samples, own) = (pass.rows, self.own(pass.rows));
        let slices = (0..SLICES).map(|slice| rows_of(slice, SLICES, samples));
        // Of empty ones there are as many as a rank has: borders of ranks are borders of slices.
        let ranks = self.ranks.as_ref().map_or((0, 1), Ranks::place);
        let mine = SLICES * ranks.0 / ranks.1..SLICES * (ranks.0 + 1) / ranks.1;
        debug_assert!(own.start == rows_of(mine.start, SLICES, samples).start);
        for (number, slice) in slices.enumerate().filter(|(n, _)| mine.contains(n)) {
            if slice.is_empty() {
                pass.backend.fill(&mut pass.store.grads, 0.0)?;
            } else {
                let mut part = pass.part(slice);
                network.before(&mut part, clock)?;
                network.gather(&mut part, clock)?;
                network.forward(&mut part, clock)?;
                network.loss().forward_backward(&mut part, samples)?;
                clock.lap(Phase::Loss);
                network.backward_top(&mut part, clock)?;
                network.backward(&mut part, clock)?;
                network.backward_before(&mut part, clock)?;
                network.scatter(&mut part, clock)?;
            }
            self.branch(pass.backend, pass.store, number - mine.start, mine.len())?;
            clock.lap(Phase::Update);
        }
        Ok(())
    }

    /// Adds the dense gradients of slice `number` of `all`, a power of two, to those before it that
    /// make a whole branch with it. With the last one the sum of all takes the place of its
    /// gradients.
    fn branch(
        &mut self,
        backend: &mut B,
        store: &mut Store<B>,
        number: usize,
        all: usize,
    ) -> Result<()> {
        let (line, rows) = (Window::whole(ALIGN), store.layout.dense / ALIGN);
        let mut level = 0;
        while number >> level & 1 == 1 {
            backend.add(line.of(&self.tree[level], rows), line.of_mut(&mut store.grads, rows))?;
            level += 1;
        }
        if number + 1 == all {
            return Ok(());
        }
        backend.copy(line.of(&store.grads, rows), line.of_mut(&mut self.tree[level], rows))
    }

    /// Adds the dense gradients of a part, the `first` or the `last` one of a batch or one between,
    /// to those before it. With the last one the sum takes the place of its gradients.
    fn add_up(
        &mut self,
        backend: &mut B,
        store: &mut Store<B>,
        first: bool,
        last: bool,
    ) -> Result<()> {
        let Some(sums) = &mut self.sums else { return Ok(()) };
        // In rows, which are what threads share out.
        let (all, rows) = (Window::whole(ALIGN), store.layout.dense / ALIGN);
        let grads = &mut store.grads;
        match (first, last) {
            (true, _) => backend.copy(all.of(grads, rows), all.of_mut(sums, rows)),
            (false, false) => backend.add(all.of(grads, rows), all.of_mut(sums, rows)),
            (false, true) => backend.add(all.of(sums, rows), all.of_mut(grads, rows)),
        }
    }
}

/// Parts of some samples, with `part` of them each, but for the last one.
fn cut(samples: &Range<usize>, part: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let first = samples.start;
    parts(samples.len(), part).map(move |p| first + p.start..first + p.end)
}
