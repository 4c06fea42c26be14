//! Rank 0: an engine whose tables are on all ranks.

use super::{
    Exchange, Placement, RanksConfig, SumOrder, TableShare,
    follow::{Setup, SetupInit},
    is_everywhere,
    message::{Command, Cut},
    rank_engine::{Open, RankEngine, meet, open},
    refusal, rows_of,
};
use crate::{
    backend::{StepContext, StepEnd},
    batch::{Batch, BatchLimits, Samples},
    comm::{self, Comm, CommError, Parcel, Patience, What, text_words},
    engine::{
        Engine, EngineConfig, EngineError, EnginePosition, NO_LOG, Phase, PhaseClock, StateSpec,
        TensorId, writing::write_initial,
    },
    model::{ParamKind, ParamSpec, init::Initializer},
    optim::LossScale,
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// An engine of which every rank has a part. Only rank 0 has this one.
pub struct RankedEngine {
    pub(super) inner: Box<dyn RankEngine>,
    pub(super) share: TableShare,
    /// Of each parameter the ranks that have its rows; `None` = all have it.
    pub(super) homes: Vec<Option<Vec<usize>>>,
    limits: BatchLimits,
    dense: usize,
    /// The batch with this rank's columns.
    batch: Batch,
    /// Heads and contents on their way.
    heads: RefCell<Vec<Parcel>>,
    contents: RefCell<Vec<Parcel>>,
    notes: Vec<String>,
    /// Whether ranks do not hear each other any more.
    broken: Cell<bool>,
}

/// Makes the engine on all ranks. `init` is fresh, and of the whole model.
///
/// # Errors
/// If several ranks cannot train this model, or one of them cannot make its part.
pub fn lead(
    comm: Rc<dyn Comm>,
    config: &EngineConfig,
    ranks: RanksConfig,
    placement: Placement,
    init: &mut Initializer,
) -> Result<RankedEngine, EngineError> {
    lead_by(comm, config, ranks, placement, init, &open)
}

/// The same, with this rank's engine made by `open`.
pub(crate) fn lead_by(
    comm: Rc<dyn Comm>,
    config: &EngineConfig,
    ranks: RanksConfig,
    placement: Placement,
    init: &mut Initializer,
    open: &Open<'_>,
) -> Result<RankedEngine, EngineError> {
    let size = comm.size();
    let refused = refusal(config, size).map(str::to_owned);
    if let Some(what) = refused.or_else(|| ranks.devices.refusal(config, size)) {
        return Err(EngineError::Unsupported(what));
    }
    let config = EngineConfig { ranks: size, ..config.clone() };
    let patience = Patience::For(ranks.timeout);
    let owners = placement.owners;
    let share = TableShare { comm, owners, patience, overlap: ranks.overlap };
    // What every number of follows from those before can only be drawn in one place.
    let by_counter = init.seed();
    let setup = Setup {
        config: config.clone(),
        owners: share.owners.clone(),
        timeout_ms: ranks.timeout.as_millis() as u64,
        overlap: ranks.overlap,
        devices: ranks.devices,
        init: match by_counter {
            Some(seed) => SetupInit::Philox { seed },
            None => SetupInit::Sent,
        },
    };
    let setup = serde_json::to_string(&setup)
        .map_err(|e| EngineError::Unsupported(format!("cannot tell other ranks: {e}")))?;
    let parcels = || comm::others(&*share.comm).map(|rank| Parcel { rank, words: Vec::new() });
    let (heads, contents) = (parcels().collect(), parcels().collect());
    tell_all(&share, Command::Setup, &text_words(&setup))?;
    let mut opened = open(&config, &share, ranks.devices, by_counter.map(|_| &mut *init))?;
    meet(&share, &mut opened, ranks.devices)?.map_err(EngineError::Unsupported)?;
    let inner = opened.engine;
    let linked = ranks.devices.exchange == Exchange::Nccl && size > 1;
    let carrier = linked.then(|| inner.link_library()).transpose()?;
    let specs = config.model.table_specs();
    let owners = || specs.iter().map(|table| share.owners[table.column].clone());
    let (mut tables, mut weights) = (owners(), owners());
    let mut home = |spec: &ParamSpec| match spec.kind {
        ParamKind::Table => tables.next(),
        ParamKind::RowWeight => weights.next(),
        _ => None,
    };
    let home = |spec: &ParamSpec| home(spec).filter(|owners| !is_everywhere(owners));
    let homes = inner.params().iter().map(home).collect();
    let limits = config.batch_limits();
    let dense = limits.dense;
    let note = format!(
        "trained on {size} ranks by {}{}; dense gradients are summed {}",
        share.comm.library(),
        carrier.map(|c| format!(", from GPU to GPU by {c}")).unwrap_or_default(),
        match config.sum_order {
            SumOrder::Rank => "in the order of ranks",
            SumOrder::Tree => "as a tree",
        }
    );
    let mut engine = RankedEngine {
        inner,
        share,
        homes,
        limits,
        dense,
        batch: Batch::default(),
        heads: RefCell::new(heads),
        contents: RefCell::new(contents),
        notes: vec![note],
        broken: Cell::new(false),
    };
    if by_counter.is_none() {
        write_initial(&mut engine, init)?;
    }
    Ok(engine)
}

/// Tells all other ranks a command with the same content.
fn tell_all(share: &TableShare, command: Command, content: &[u32]) -> Result<(), CommError> {
    let comm = &*share.comm;
    let all = |words: &[u32]| -> Vec<Parcel> {
        comm::others(comm).map(|rank| Parcel { rank, words: words.to_vec() }).collect()
    };
    let head = command.head(content.len());
    comm.transfer(What::Command, share.patience, &mut all(&head), &mut Vec::new())?;
    if !content.is_empty() {
        comm.transfer(What::Content, share.patience, &mut all(content), &mut Vec::new())?;
    }
    Ok(())
}

/// Sends all other ranks away; their processes end.
pub fn dismiss(comm: &Rc<dyn Comm>, ranks: RanksConfig) -> Result<(), CommError> {
    let patience = Patience::For(ranks.timeout);
    let share = TableShare { comm: Rc::clone(comm), owners: Vec::new(), patience, overlap: false };
    tell_all(&share, Command::Exit, &[])
}

impl RankedEngine {
    /// Tells one rank a command.
    pub(super) fn tell(
        &self,
        rank: usize,
        command: Command,
        content: Option<Vec<u32>>,
    ) -> Result<(), CommError> {
        let comm = &*self.share.comm;
        let send = |what, words| {
            let mut parcel = vec![Parcel { rank, words }];
            comm.transfer(what, self.share.patience, &mut parcel, &mut Vec::new())
        };
        send(What::Command, command.head(content.as_ref().map_or(0, Vec::len)))?;
        content.map_or(Ok(()), |words| send(What::Content, words))
    }

    /// Cuts a batch for all ranks, and tells them what to do with it.
    fn hand_out(&mut self, batch: &Batch, command: Command) -> Result<(), EngineError> {
        self.limits.check(batch)?;
        let ranks = self.share.comm.size();
        let cut = |rank| Cut { rank, ranks, owners: &self.share.owners, dense: self.dense };
        let (heads, contents) = (self.heads.get_mut(), self.contents.get_mut());
        for (head, content) in heads.iter_mut().zip(contents.iter_mut()) {
            cut(content.rank).pack(batch, &mut content.words);
            head.words = command.head(content.words.len());
        }
        let (comm, patience) = (&*self.share.comm, self.share.patience);
        comm.transfer(What::Command, patience, heads, &mut Vec::new())?;
        comm.transfer(What::Content, patience, contents, &mut Vec::new())?;
        cut(0).take(batch, &mut self.batch);
        Ok(())
    }

    /// Notes that ranks do not hear each other any more.
    pub(super) fn heard<T>(&self, done: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(done, Err(EngineError::Ranks(_))) {
            self.broken.set(true);
        }
        done
    }

    /// The same of the step that is to come, or has just begun.
    fn heard_in_step<T>(&self, done: Result<T, EngineError>, step: u64) -> Result<T, EngineError> {
        self.heard(done).map_err(|e| match e {
            EngineError::Ranks(source) => EngineError::RanksInStep { step, source },
            e => e,
        })
    }
}

impl Drop for RankedEngine {
    fn drop(&mut self) {
        if !self.broken.get() {
            // Whoever does not hear it is gone.
            let _ = tell_all(&self.share, Command::Close, &[]);
        }
    }
}

impl Engine for RankedEngine {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn params(&self) -> &[ParamSpec] {
        self.inner.params()
    }

    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.read_tensor(TensorId::Parameter(index), first, out)
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
        self.inner.optimizer_state()
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

    fn read_rows(&self, of: TensorId, rows: &[u32], out: &mut [f32]) -> Result<(), EngineError> {
        if self.is_here(of) {
            return self.inner.read_rows(of, rows, out);
        }
        let width = of.width(self);
        let mut parts = rows.iter().zip(out.chunks_mut(width));
        parts.try_for_each(|(&row, out)| self.read_tensor(of, row as usize * width, out))
    }

    fn position(&mut self) -> Result<EnginePosition, EngineError> {
        self.inner.position()
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        let text = serde_json::to_string(&from)
            .map_err(|e| EngineError::Unsupported(format!("cannot tell other ranks: {e}")))?;
        let told = tell_all(&self.share, Command::GoOn, &text_words(&text));
        self.heard(told.map_err(EngineError::Ranks))?;
        self.inner.go_on(from)
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        // The others wait for each step. With one whose loss is not finite they go back before it,
        // and must not be told another one first.
        self.inner.settle()?;
        let (step, began) = (self.inner.batches() + 1, std::time::Instant::now());
        let told = self.hand_out(batch, Command::Step(context));
        self.heard_in_step(told, step)?;
        if let Some(clock) = self.inner.phases() {
            clock.charge(Phase::Comm, began.elapsed().as_secs_f64());
        }
        let done = self.inner.begin_step(Samples::Host(&self.batch), context);
        self.heard_in_step(done, step)
    }

    fn in_flight(&mut self) -> usize {
        self.inner.in_flight()
    }

    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
        self.inner.finished(wait)
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        let told = self.hand_out(batch, Command::Predict);
        self.heard(told)?;
        let done = self.inner.predict(&self.batch, out);
        self.heard(done)?;
        let (comm, size) = (&*self.share.comm, self.share.comm.size());
        let rows = |rank| rows_of(rank, size, batch.len);
        let mut parts: Vec<Parcel> = comm::others(comm)
            .map(|rank| Parcel { rank, words: vec![0; rows(rank).len()] })
            .collect();
        let got =
            comm.transfer(What::Predictions, self.share.patience, &mut Vec::new(), &mut parts);
        self.heard(got.map_err(EngineError::Ranks))?;
        for part in parts {
            let to = &mut out[rows(part.rank)];
            to.iter_mut().zip(part.words).for_each(|(x, word)| *x = f32::from_bits(word));
        }
        Ok(())
    }

    fn gradients(&mut self, _batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        Err(EngineError::Unsupported("gradients are shown by one rank alone".into()))
    }

    fn loss_scale(&self) -> Option<LossScale> {
        self.inner.loss_scale()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.inner.notes());
        notes
    }

    fn device_memory(&self) -> Option<u64> {
        self.inner.device_memory()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        self.inner.phases()
    }
}
