//! Rank 0 as an engine: a step is handed to a worker, and ends when that says so.

use super::{
    Served, ServedEngine,
    message::{pack, put},
};
use crate::{
    backend::{Position, StepContext, StepEnd, StepStart},
    batch::{Batch, Samples},
    comm::{What, text_words},
    engine::{
        Engine, EngineError, EnginePosition, NO_LOG, PhaseClock, StateSpec, TensorId,
        ranks::{message::Command, rows_of},
    },
    model::ParamSpec,
    optim::{LossScaleSpec, LossScaler},
};

impl Engine for ServedEngine {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn params(&self) -> &[ParamSpec] {
        &self.params
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
        self.settle()?;
        let loss_scale = LossScaler::new(LossScaleSpec::Off).position();
        let device = Position { updates: self.work.get_mut().updates, loss_scale };
        Ok(EnginePosition { batches: self.batches, device })
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        self.settle()?;
        let text = serde_json::to_string(&from)
            .map_err(|e| EngineError::Unsupported(format!("cannot tell other ranks: {e}")))?;
        for rank in self.homes.ranks() {
            let content = text_words(&text);
            self.heard(self.link.tell(rank, Command::GoOn.head(content.len()), content))?;
        }
        self.batches = from.batches;
        self.work.get_mut().updates = from.device.updates;
        Ok(())
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        self.limits.check(batch)?;
        let worker = loop {
            while self.collect(false)? {}
            self.failure()?;
            if let Some(worker) = self.work.get_mut().queue.next() {
                break worker;
            }
            self.collect(true)?;
        };
        let start = StepStart { number: self.batches + 1, samples: batch.len, context };
        let mut content = vec![0; 2];
        put(&mut content, start.number);
        pack(batch, 0..batch.len, &mut content);
        let work = self.work.get_mut();
        work.queue.begin(worker, start);
        work.fresh.fill(false);
        let head = Command::Step(context).head(content.len());
        self.heard(self.link.tell(self.rank(worker), head, content))?;
        self.batches += 1;
        Ok(())
    }

    fn in_flight(&mut self) -> usize {
        let work = self.work.get_mut();
        work.queue.len() + work.ended.len() + usize::from(work.failed.is_some())
    }

    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
        while self.collect(false)? {}
        loop {
            let work = self.work.get_mut();
            if let Some(end) = work.ended.pop_front() {
                return Ok(Some(end));
            }
            if work.failed.is_some() && work.queue.len() == 0 {
                self.failure()?;
            }
            let failing = self.work.get_mut().failed.is_some();
            if !(wait || failing) || !self.collect(true)? {
                return Ok(None);
            }
        }
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        self.limits.check(batch)?;
        if out.len() < batch.len {
            let (n, places) = (batch.len, out.len());
            let what = format!("{n} predictions do not fit {places} places");
            return Err(EngineError::Shape(what));
        }
        self.settle()?;
        let workers = self.work.get_mut().fresh.len();
        let parts = (0..workers).map(|w| (w, rows_of(w, workers, batch.len)));
        let parts: Vec<_> = parts.filter(|(_, rows)| !rows.is_empty()).collect();
        for (worker, rows) in &parts {
            let fresh = &mut self.work.get_mut().fresh[*worker];
            let mut content = vec![u32::from(!*fresh)];
            *fresh = true;
            pack(batch, rows.clone(), &mut content);
            let head = Command::Predict.head(content.len());
            self.heard(self.link.tell(self.rank(*worker), head, content))?;
        }
        for (worker, rows) in parts {
            let got = self.link.get(self.rank(worker), What::Predictions, rows.len());
            out[rows].copy_from_slice(bytemuck::cast_slice(&self.heard(got)?));
        }
        Ok(())
    }

    fn gradients(&mut self, _batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        Err(EngineError::Unsupported("gradients are shown by one rank alone".into()))
    }

    fn served(&self) -> Option<Served> {
        Some(self.work.borrow().served.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        None
    }
}
