//! What a pass works on, brought over or made on the device, and predictions that go to the host or
//! stay there.

use super::{FusedEngine, Pass};
use crate::{
    backend::Backend,
    batch::{Batch, GeneratedLog, Samples},
    engine::{
        EngineError, NO_LOG, NO_SCORES,
        check::{check_batch, check_len, check_log},
    },
    metrics::{Counts, MetricsError},
};

impl<B: Backend> FusedEngine<B> {
    pub(super) fn attach_log(&mut self, log: &GeneratedLog) -> Result<bool, EngineError> {
        check_log(&self.config, log)?;
        self.generator = self.backend.generator(log)?;
        Ok(self.generator.is_some())
    }

    /// Checks that samples fit; afterwards they can be brought.
    pub(super) fn check(&self, samples: Samples<'_>) -> Result<(), EngineError> {
        match samples {
            Samples::Host(batch) => check_batch(&self.config, batch),
            Samples::Generated(span) if self.generator.is_some() => {
                check_len(&self.config, span.len)
            }
            Samples::Generated(_) => Err(EngineError::Unsupported(NO_LOG.into())),
        }
    }

    /// Brings samples to the device, or lets it make them.
    pub(super) fn bring(&mut self, samples: Samples<'_>) -> Result<(), EngineError> {
        match (samples, &self.generator) {
            (Samples::Host(batch), _) => self.backend.upload(batch, &mut self.input)?,
            (Samples::Generated(span), Some(generator)) => {
                self.backend.generate(generator, span, &mut self.input)?
            }
            (Samples::Generated(_), None) => {}
        }
        Ok(())
    }

    /// Brings samples and runs the network forward, as it is when nothing is learned.
    fn forward(&mut self, samples: Samples<'_>) -> Result<(), EngineError> {
        self.check(samples)?;
        self.bring(samples)?;
        // The clock is for training steps.
        let clock = self.clock.clone();
        let FusedEngine { backend, store, input, .. } = self;
        let mut pass = Pass { backend, store, input, rows: samples.len(), training: false };
        self.network.forward(&mut pass, &mut self.clock)?;
        self.clock = clock;
        Ok(())
    }

    pub(super) fn predict_batch(
        &mut self,
        batch: &Batch,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        if out.len() < batch.len {
            return Err(EngineError::Shape(format!(
                "{} predictions do not fit {} places",
                batch.len,
                out.len()
            )));
        }
        self.forward(Samples::Host(batch))?;
        let logits = self.network.loss().logits(batch.len);
        Ok(self.backend.probabilities(logits, &mut out[..batch.len])?)
    }

    pub(super) fn score_samples(&mut self, samples: Samples<'_>) -> Result<(), EngineError> {
        self.forward(samples)?;
        let scores =
            self.scores.as_mut().ok_or_else(|| EngineError::Unsupported(NO_SCORES.into()))?;
        let logits = self.network.loss().logits(samples.len());
        Ok(self.backend.add_scores(logits, &self.input, scores)?)
    }

    pub(super) fn count(&mut self) -> Result<Result<Counts, MetricsError>, EngineError> {
        let scores =
            self.scores.as_mut().ok_or_else(|| EngineError::Unsupported(NO_SCORES.into()))?;
        Ok(self.backend.count_scores(scores)?)
    }
}
