//! An engine whose tables are larger than memory. It stands in front of another one, whose tables
//! have slots for some of the rows: ids of each batch become slots here, and rows go to the file and
//! come from it before the step that reads them.

mod moving;
mod saved;
mod sizes;
mod tensors;

use super::{
    Engine, EngineConfig, EngineError, EnginePosition, FillPart, LookAt, NO_LOG, Phase, PhaseClock,
    StateSpec, TensorId, writing,
};
use crate::{
    backend::{StepContext, StepEnd},
    batch::{Bags, Batch, BatchLimits, Samples},
    checkpoint::{Begins, ReferredRows, SavedRows},
    embedding::{
        RowKind, Seen, TableUse,
        cached::{CachedSpec, Field, Resolved, RowStore},
    },
    metrics::{Counts, MetricsError},
    model::{ParamKind, ParamSpec, init::Initializer},
    optim::LossScale,
};
use moving::Leaving;
use std::{collections::VecDeque, time::Instant};
use tensors::{Part, record, row_tensors};

pub(super) struct CachedEngine {
    inner: Box<dyn Engine>,
    store: RowStore,
    /// Of each column, in the order of the record's fields.
    parts: Vec<Vec<Part>>,
    /// Column and field of each parameter, and of each tensor of the state, some of whose rows are
    /// not in memory.
    params_in: Vec<Option<(usize, usize)>>,
    state_in: Vec<Option<(usize, usize)>>,
    /// As the inner engine's, with all rows.
    params: Vec<ParamSpec>,
    state: Vec<StateSpec>,
    /// What batches of ids fit.
    limits: BatchLimits,
    /// The batch in slots.
    batch: Batch,
    values: Vec<f32>,
    bytes: Vec<u8>,
    /// Batches that have been announced, in their order.
    ahead: VecDeque<Announced>,
    /// Rows that have left their slots and are not kept yet.
    leaving: Leaving,
    /// Names of the columns.
    columns: Vec<String>,
}

/// A batch that has been announced.
struct Announced {
    ids: Vec<Vec<u32>>,
    resolved: Resolved,
    /// Whether its rows are in their slots.
    there: bool,
}

/// Batches that may be announced at one time: the present one and the next.
const AHEAD: usize = 2;

impl CachedEngine {
    /// In front of `inner`, whose cached tables are unfilled.
    pub fn new(
        inner: Box<dyn Engine>,
        config: &EngineConfig,
        spec: &CachedSpec,
        init: &Initializer,
    ) -> Result<Self, EngineError> {
        // candle keeps f32, whatever is asked for.
        let rows = if inner.name() == "candle" { RowKind::Fp32 } else { config.embedding_rows };
        let store = RowStore::new(spec, record(config, rows)?)?;
        let (params, state) = (config.model.params(), config.optimizer_state());
        let begins: Vec<f32> = config.optimizer.rule.state().rows(1).map(|(_, v)| v).collect();
        let start = |tensor: TensorId| match tensor {
            TensorId::Parameter(i) if params[i].kind == ParamKind::Table => {
                init.rows(i, params[i].shape[1]).map(Begins::Drawn)
            }
            TensorId::Parameter(_) => Some(Begins::All(1.0)),
            TensorId::State(i) => Some(Begins::All(begins[state[i].buffer])),
        };
        let part = |(tensor, _): (TensorId, Field)| Some(Part { tensor, start: start(tensor)? });
        let parts = row_tensors(config, rows).into_iter();
        let parts = parts.map(|column| column.into_iter().map(part).collect());
        let parts: Option<Vec<Vec<Part>>> = parts.collect();
        let parts = parts.ok_or_else(|| {
            EngineError::Unsupported("rows by themselves do not come from numpy's generator".into())
        })?;
        let mut params_in = vec![None; params.len()];
        let mut state_in = vec![None; state.len()];
        for (column, parts) in parts.iter().enumerate().filter(|(c, _)| store.caches(*c)) {
            for (field, part) in parts.iter().enumerate() {
                match part.tensor {
                    TensorId::Parameter(i) => params_in[i] = Some((column, field)),
                    TensorId::State(i) => state_in[i] = Some((column, field)),
                }
            }
        }
        Ok(CachedEngine {
            inner,
            store,
            batch: Batch { bags: vec![Bags::default(); parts.len()], ..Batch::default() },
            parts,
            params_in,
            state_in,
            params,
            state,
            limits: config.batch_limits(),
            values: Vec::new(),
            bytes: Vec::new(),
            ahead: VecDeque::new(),
            leaving: Leaving::new(),
            columns: spec.columns.iter().map(|c| c.name.clone()).collect(),
        })
    }

    /// Gives a batch's ids slots, and keeps what has to go for them.
    fn resolve(&mut self, bags: &[Bags], trains: bool) -> Result<Resolved, EngineError> {
        self.finish_leaving()?;
        let mut resolved = self.store.begin(trains).ok_or_else(too_few)?;
        let mut columns = bags.iter().enumerate();
        let enough =
            columns.all(|(column, bags)| self.store.resolve(&mut resolved, column, &bags.indices));
        self.leave(&resolved)?;
        if !enough {
            self.finish_leaving()?;
            return Err(too_few());
        }
        self.store.fetch(&mut resolved)?;
        Ok(resolved)
    }

    /// Puts the rows of all batches that have been announced into their slots.
    pub(super) fn settle(&mut self) -> Result<(), EngineError> {
        self.finish_leaving()?;
        let mut ahead = std::mem::take(&mut self.ahead);
        for a in ahead.iter_mut().filter(|a| !a.there) {
            self.bring(&mut a.resolved)?;
            a.there = true;
        }
        self.ahead = ahead;
        Ok(())
    }

    /// The slots of a training batch, with its rows in them: those that it was given when it was
    /// announced, if it was.
    fn ready(&mut self, batch: &Batch) -> Result<Resolved, EngineError> {
        let same = |a: &Announced| a.ids.iter().eq(batch.bags.iter().map(|b| &b.indices));
        if self.ahead.front().is_some_and(same)
            && let Some(mut next) = self.ahead.pop_front()
        {
            if !next.there {
                self.bring(&mut next.resolved)?;
            }
            return Ok(next.resolved);
        }
        // Others were announced, which do not come.
        self.settle()?;
        while let Some(a) = self.ahead.pop_front() {
            self.store.release(a.resolved);
        }
        let mut resolved = self.resolve(&batch.bags, true)?;
        self.finish_leaving()?;
        self.bring(&mut resolved)?;
        Ok(resolved)
    }

    /// Makes the batch of slots; with `ids` of what they stand for beside them.
    fn fill(&mut self, from: &Batch, resolved: &Resolved, ids: bool) {
        let to = &mut self.batch;
        to.len = from.len;
        for (to, from) in [(&mut to.dense, &from.dense), (&mut to.labels, &from.labels)] {
            to.clear();
            to.extend_from_slice(from);
        }
        for (column, (to, from)) in to.bags.iter_mut().zip(&from.bags).enumerate() {
            let cached = self.store.caches(column);
            let slots = if cached { &resolved.slots[column] } else { &from.indices };
            let ids = if cached && ids { &from.indices[..] } else { &[] };
            for (to, from) in [
                (&mut to.indices, &slots[..]),
                (&mut to.offsets, &from.offsets),
                (&mut to.ids, ids),
            ] {
                to.clear();
                to.extend_from_slice(from);
            }
        }
    }

    /// Makes a batch of slots of one that only predicts.
    fn look_up(&mut self, batch: &Batch) -> Result<Resolved, EngineError> {
        self.limits.check(batch)?;
        self.settle()?;
        let mut resolved = self.resolve(&batch.bags, false)?;
        self.finish_leaving()?;
        self.bring(&mut resolved)?;
        self.fill(batch, &resolved, false);
        Ok(resolved)
    }
}

/// Slots are counted before a run.
fn too_few() -> EngineError {
    EngineError::Unsupported("too few slots for a batch (embedding.cache)".into())
}

impl Engine for CachedEngine {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn params(&self) -> &[ParamSpec] {
        &self.params
    }

    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.read_tensor(TensorId::Parameter(index), first, out)
    }

    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError> {
        if self.params_in[index].is_none() {
            return self.inner.write_with(index, f);
        }
        writing::write_with(self, index, f)
    }

    fn write_from(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.write_tensor(TensorId::Parameter(index), first, values)
    }

    fn optimizer_state(&self) -> &[StateSpec] {
        &self.state
    }

    fn read_state(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.read_tensor(TensorId::State(index), first, out)
    }

    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.write_tensor(TensorId::State(index), first, values)
    }

    fn position(&mut self) -> Result<EnginePosition, EngineError> {
        self.inner.position()
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        self.inner.go_on(from)
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    /// Gives its ids slots and begins to read its rows, while the step before it computes.
    fn announce(&mut self, batch: &Batch) -> Result<(), EngineError> {
        // What does not fit is for its step to refuse.
        if self.ahead.len() == AHEAD || self.limits.check(batch).is_err() {
            return Ok(());
        }
        let began = Instant::now();
        let resolved = self.resolve(&batch.bags, true)?;
        let ids = batch.bags.iter().map(|b| b.indices.clone()).collect();
        self.ahead.push_back(Announced { ids, resolved, there: false });
        if let Some(clock) = self.inner.phases() {
            clock.charge(Phase::Embedding, began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        self.limits.check(batch)?;
        let resolved = self.ready(batch)?;
        self.fill(batch, &resolved, true);
        self.store.dirty(&resolved);
        if let Some(clock) = self.inner.phases() {
            clock.charge(Phase::Embedding, began.elapsed().as_secs_f64());
        }
        let begun = self.inner.begin_step(Samples::Host(&self.batch), context);
        self.store.release(resolved);
        // The device has this step to do meanwhile.
        let left = self.finish_leaving();
        begun?;
        left
    }

    fn in_flight(&mut self) -> usize {
        self.inner.in_flight()
    }

    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
        self.inner.finished(wait)
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        let resolved = self.look_up(batch)?;
        let predicted = self.inner.predict(&self.batch, out);
        self.store.release(resolved);
        predicted
    }

    fn begin_scores(&mut self, samples: u64) -> Result<bool, EngineError> {
        self.inner.begin_scores(samples)
    }

    fn score(&mut self, samples: Samples<'_>) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        let resolved = self.look_up(batch)?;
        let scored = self.inner.score(Samples::Host(&self.batch));
        self.store.release(resolved);
        scored
    }

    fn count_scores(&mut self) -> Result<Result<Counts, MetricsError>, EngineError> {
        self.inner.count_scores()
    }

    fn look(&mut self, batch: &Batch, at: &mut LookAt<'_>) -> Result<bool, EngineError> {
        let resolved = self.look_up(batch)?;
        let looked = self.inner.look(&self.batch, at);
        self.store.release(resolved);
        looked
    }

    fn gradients(&mut self, batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        let resolved = self.look_up(batch)?;
        let computed = self.inner.gradients(&self.batch);
        let whole = |(index, of_slots): (usize, Vec<f32>)| {
            let Some((column, _)) = self.params_in[index] else { return of_slots };
            let spec = &self.params[index];
            let (mut of_rows, width) = (vec![0.0; spec.len()], spec.shape[1]);
            for &slot in resolved.held(column) {
                let row = self.store.row(column, slot) as usize;
                of_rows[row * width..][..width]
                    .copy_from_slice(&of_slots[slot as usize * width..][..width]);
            }
            of_rows
        };
        let computed =
            computed.map(|(loss, all)| (loss, all.into_iter().enumerate().map(whole).collect()));
        self.store.release(resolved);
        computed
    }

    fn table_uses(&self) -> Vec<TableUse> {
        let names = self.columns.iter().enumerate();
        let of = |(k, name): (usize, &String)| {
            let seen = Seen::Cached(self.store.counts(k)?);
            Some(TableUse { column: name.clone(), seen })
        };
        names.filter_map(of).collect()
    }

    fn seal_rows(&mut self) -> Result<Option<SavedRows>, EngineError> {
        self.seal()
    }

    fn adopt_rows(&mut self, rows: &ReferredRows) -> Result<bool, EngineError> {
        Ok(self.adopt(rows))
    }

    fn loss_scale(&self) -> Option<LossScale> {
        self.inner.loss_scale()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes();
        notes.extend(self.store.read_by().map(|by| format!("rows of the file are read by {by}")));
        notes
    }

    fn device_memory(&self) -> Option<u64> {
        self.inner.device_memory()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        self.inner.phases()
    }
}
