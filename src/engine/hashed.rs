//! An engine whose tables grow. It stands in front of another one, which knows slots only: keys of
//! each batch become slots here, and rows of new keys are written before the step that reads them.

use super::{
    Engine, EngineConfig, EngineError, EnginePosition, FillPart, LookAt, NO_LOG, Phase, PhaseClock,
    StateSpec,
};
use crate::{
    backend::{StepContext, StepEnd},
    batch::{Bags, Batch, BatchLimits, Samples},
    embedding::{
        TableUse,
        hashed::{Changes, HashedColumn, HashedSpec, HashedTable, SavedTable},
    },
    metrics::{Counts, MetricsError},
    model::{
        ParamKind, ParamSpec,
        init::{Initializer, RowInit},
    },
    optim::LossScale,
};
use std::time::Instant;

/// Numbers of a table that are read or written at once.
const PART: usize = 1 << 20;

/// Two tables that a column has, or one: the parameter, and what its rows begin with.
struct Rows {
    param: usize,
    column: usize,
    init: RowInit,
}

/// What rows are set to.
#[derive(Clone, Copy)]
enum To {
    /// Their initial values.
    Initial,
    /// What is read without permission.
    Refused,
    /// Their initial values, moved by what they have come to from there. Every rule subtracts a
    /// number that does not depend on the row's value, so this is where it would have come from
    /// there: bit by bit if they come from zero, else up to the last bits of what they come from.
    Onwards,
}

pub(super) struct HashedEngine {
    inner: Box<dyn Engine>,
    /// Of each column.
    tables: Vec<HashedTable>,
    rows: Vec<Rows>,
    /// The column of each parameter that has a row a key.
    columns: Vec<Option<usize>>,
    /// Initial value of each buffer of state beside a table.
    state_start: Vec<f32>,
    /// As the inner engine's, with as many rows as are in use.
    params: Vec<ParamSpec>,
    state: Vec<StateSpec>,
    /// What batches of keys fit.
    limits: BatchLimits,
    /// The batch in slots.
    batch: Batch,
    changes: Vec<Changes>,
    borrowed: Vec<(u32, u64)>,
    values: Vec<f32>,
    /// Training batches begun.
    begun: u64,
}

impl HashedEngine {
    /// In front of `inner`, whose tables are unfilled.
    pub fn new(
        inner: Box<dyn Engine>,
        config: &EngineConfig,
        spec: &HashedSpec,
        init: &Initializer,
    ) -> Result<Self, EngineError> {
        let (params, state) = (inner.params().to_vec(), inner.optimizer_state().to_vec());
        let specs = config.model.table_specs();
        let mut weights = specs.iter();
        let of = |p: &ParamSpec| match p.kind {
            ParamKind::Table => specs.iter().find(|t| t.name == p.name).map(|t| t.column),
            ParamKind::RowWeight => weights.next().map(|t| t.column),
            _ => None,
        };
        let columns: Vec<Option<usize>> = params.iter().map(of).collect();
        let tables = params.iter().zip(&columns).enumerate();
        let tables = tables.filter(|(_, (p, _))| p.kind == ParamKind::Table);
        let rows = tables.filter_map(|(param, (p, column))| {
            let init = init.rows(param, p.shape[1]);
            column.map(|column| Some(Rows { param, column, init: init? }))
        });
        let rows = rows.collect::<Option<Vec<Rows>>>();
        let rows = rows.ok_or_else(|| {
            EngineError::Unsupported("rows by themselves do not come from numpy's generator".into())
        })?;
        let mut limits = config.batch_limits();
        // Of keys the lower halves are looked at, which are any numbers of 32 bits.
        let ids = |c: &HashedColumn| if c.any_keys { 1 << 32 } else { c.ids };
        limits.rows = spec.columns.iter().map(ids).collect();
        let mut engine = HashedEngine {
            inner,
            tables: spec.columns.iter().map(|c| HashedTable::new(spec.config, c)).collect(),
            rows,
            columns,
            state_start: config.optimizer.rule.state().rows(1).map(|(_, start)| start).collect(),
            params,
            state,
            limits,
            batch: Batch { bags: vec![Bags::default(); spec.columns.len()], ..Batch::default() },
            changes: vec![Changes::default(); spec.columns.len()],
            borrowed: Vec::new(),
            values: Vec::new(),
            begun: 0,
        };
        engine.measure();
        Ok(engine)
    }

    /// Says of parameters and state how many rows are in use.
    fn measure(&mut self) {
        let rows = |param: usize| self.columns[param].map(|column| self.tables[column].high());
        for (param, spec) in self.params.iter_mut().enumerate() {
            spec.shape[0] = rows(param).unwrap_or(spec.shape[0]);
        }
        for spec in &mut self.state {
            spec.shape[0] = rows(spec.param).unwrap_or(spec.shape[0]);
        }
    }

    /// Sets rows of a column's tables: slots, and the numbers of the initial rows.
    fn set(&mut self, column: usize, rows: &[(u32, u64)], to: To) -> Result<(), EngineError> {
        let refused = self.tables[column].without_permission();
        for table in self.rows.iter().filter(|t| t.column == column) {
            let dim = table.init.dim();
            // Slots that follow one another are one write.
            let runs = rows.chunk_by(|a, b| a.0 + 1 == b.0);
            for run in runs.flat_map(|run| run.chunks((PART / dim).max(1))) {
                let first = run[0].0 as usize * dim;
                self.values.resize(run.len() * dim, 0.0);
                self.values.fill(refused);
                for ((_, number), out) in run.iter().zip(self.values.chunks_mut(dim)) {
                    if !matches!(to, To::Refused) {
                        table.init.fill(*number, out);
                    }
                }
                if matches!(to, To::Onwards) {
                    let mut now = vec![0.0; self.values.len()];
                    self.inner.read_from(table.param, first, &mut now)?;
                    self.values.iter_mut().zip(&now).for_each(|(v, now)| *v += now - refused);
                }
                self.inner.write_from(table.param, first, &self.values)?;
            }
        }
        Ok(())
    }

    /// Copies all but ids into the batch of slots, which is checked before.
    fn copy(&mut self, from: &Batch) -> Result<(), EngineError> {
        self.limits.check(from)?;
        let to = &mut self.batch;
        to.len = from.len;
        for (to, from) in [(&mut to.dense, &from.dense), (&mut to.labels, &from.labels)] {
            to.clear();
            to.extend_from_slice(from);
        }
        for (to, from) in to.bags.iter_mut().zip(&from.bags) {
            to.offsets.clear();
            to.offsets.extend_from_slice(&from.offsets);
        }
        Ok(())
    }

    /// Makes slots of the keys of a training batch, and rows of new keys.
    fn resolve(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.copy(batch)?;
        let step = self.begun + 1;
        for column in 0..self.tables.len() {
            let table = &mut self.tables[column];
            let mut changes = std::mem::take(&mut self.changes[column]);
            let out = &mut self.batch.bags[column].indices;
            table.resolve(batch.bags[column].keys(), step, out, &mut changes)?;
            let zeros = table.zeros();
            for (_, key) in changes.new.iter_mut().chain(&mut changes.admitted) {
                *key = table.initial(*key);
            }
            self.set(column, &changes.new, To::Initial)?;
            self.set(column, &changes.admitted, To::Refused)?;
            if changes.zeros {
                // What other steps have made of it is dropped.
                self.set(column, &[(zeros, 0)], To::Refused)?;
            }
            self.changes[column] = changes;
        }
        self.measure();
        Ok(())
    }

    /// Makes slots of the keys of a batch that only predicts; what is unknown stays so.
    fn look_up(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.copy(batch)?;
        let mut borrowed = std::mem::take(&mut self.borrowed);
        for column in 0..self.tables.len() {
            let table = &mut self.tables[column];
            let out = &mut self.batch.bags[column].indices;
            table.look_up(batch.bags[column].keys(), out, &mut borrowed);
            let (filtered, zeros) = (table.filters(), table.zeros());
            self.set(column, &borrowed, To::Initial)?;
            if filtered && self.batch.bags[column].indices.contains(&zeros) {
                self.set(column, &[(zeros, 0)], To::Refused)?;
            }
        }
        self.borrowed = borrowed;
        Ok(())
    }

    /// Brings the rows of slots that keys have lost, and their state, to where no key has moved
    /// them.
    fn clear(&mut self, column: usize, slots: &[u32]) -> Result<(), EngineError> {
        let of_column = |param: usize| self.columns[param] == Some(column);
        let weights = self.params.iter().enumerate();
        let weights = weights.filter(|(_, p)| p.kind == ParamKind::RowWeight);
        for (param, _) in weights.filter(|(param, _)| of_column(*param)) {
            for &slot in slots {
                self.inner.write_from(param, slot as usize, &[1.0])?;
            }
        }
        for (index, spec) in self.state.iter().enumerate().filter(|(_, s)| of_column(s.param)) {
            let (width, start) = (spec.shape[1], self.state_start[spec.buffer]);
            for run in slots.chunk_by(|a, b| a + 1 == *b) {
                let values = vec![start; run.len() * width];
                self.inner.write_state(index, run[0] as usize * width, &values)?;
            }
        }
        Ok(())
    }

    /// Half the sum of squares of each row in use of a column's tables, in f32.
    fn half_squares(&self, column: usize) -> Result<Vec<f32>, EngineError> {
        let mut sums = vec![0.0f32; self.tables[column].high()];
        for table in self.rows.iter().filter(|t| t.column == column) {
            let dim = table.init.dim();
            let rows = (PART / dim).max(1);
            let mut values = Vec::new();
            for (k, sums) in sums.chunks_mut(rows).enumerate() {
                values.resize(sums.len() * dim, 0.0);
                self.inner.read_from(table.param, k * rows * dim, &mut values)?;
                for (sum, row) in sums.iter_mut().zip(values.chunks(dim)) {
                    row.iter().for_each(|v| *sum += v * v);
                }
            }
        }
        sums.iter_mut().for_each(|sum| *sum *= 0.5);
        Ok(sums)
    }
}

impl Engine for HashedEngine {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn params(&self) -> &[ParamSpec] {
        &self.params
    }

    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.inner.read_from(index, first, out)
    }

    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError> {
        if self.columns[index].is_none() {
            return self.inner.write_with(index, f);
        }
        let all = self.params[index].len();
        for first in (0..all).step_by(PART) {
            self.values.resize(PART.min(all - first), 0.0);
            f(first, &mut self.values);
            self.inner.write_from(index, first, &self.values)?;
        }
        Ok(())
    }

    fn write_from(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.inner.write_from(index, first, values)
    }

    fn optimizer_state(&self) -> &[StateSpec] {
        &self.state
    }

    fn read_state(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.inner.read_state(index, first, out)
    }

    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.inner.write_state(index, first, values)
    }

    fn position(&mut self) -> Result<EnginePosition, EngineError> {
        self.inner.position()
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        self.begun = from.batches;
        self.inner.go_on(from)
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        self.resolve(batch)?;
        if let Some(clock) = self.inner.phases() {
            clock.charge(Phase::Embedding, began.elapsed().as_secs_f64());
        }
        self.inner.begin_step(Samples::Host(&self.batch), context)?;
        self.begun += 1;
        for column in 0..self.tables.len() {
            let admitted = std::mem::take(&mut self.changes[column].admitted);
            self.set(column, &admitted, To::Onwards)?;
            self.changes[column].admitted = admitted;
        }
        Ok(())
    }

    fn in_flight(&mut self) -> usize {
        self.inner.in_flight()
    }

    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
        self.inner.finished(wait)
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        self.look_up(batch)?;
        self.inner.predict(&self.batch, out)
    }

    fn begin_scores(&mut self, samples: u64) -> Result<bool, EngineError> {
        self.inner.begin_scores(samples)
    }

    fn score(&mut self, samples: Samples<'_>) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        self.look_up(batch)?;
        self.inner.score(Samples::Host(&self.batch))
    }

    fn count_scores(&mut self) -> Result<Result<Counts, MetricsError>, EngineError> {
        self.inner.count_scores()
    }

    fn look(&mut self, batch: &Batch, at: &mut LookAt<'_>) -> Result<bool, EngineError> {
        self.look_up(batch)?;
        self.inner.look(&self.batch, at)
    }

    /// Those of tables are of all rows that the engine behind has.
    fn gradients(&mut self, batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        self.look_up(batch)?;
        self.inner.gradients(&self.batch)
    }

    fn table_uses(&self) -> Vec<TableUse> {
        let grown = self.tables.iter().filter(|t| !t.is_resident());
        let grown = grown.map(HashedTable::usage);
        grown.chain(self.inner.table_uses()).collect()
    }

    fn hashed(&self) -> &[HashedTable] {
        &self.tables
    }

    fn restore_keys(&mut self, saved: &[SavedTable]) -> Result<(), EngineError> {
        for (table, saved) in self.tables.iter_mut().zip(saved) {
            table.restore(saved).map_err(EngineError::Shape)?;
        }
        self.measure();
        Ok(())
    }

    fn evict(&mut self) -> Result<(), EngineError> {
        for column in 0..self.tables.len() {
            let by_values = self.tables[column].evicts_by_values();
            let sums = if by_values { self.half_squares(column)? } else { Vec::new() };
            let dropped = self.tables[column].evict(self.begun, &|slot| sums[slot as usize]);
            self.clear(column, &dropped)?;
        }
        Ok(())
    }

    fn loss_scale(&self) -> Option<LossScale> {
        self.inner.loss_scale()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn device_memory(&self) -> Option<u64> {
        self.inner.device_memory()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        self.inner.phases()
    }
}
