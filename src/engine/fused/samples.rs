//! The samples of a pass, brought over or made on the device, and predictions that go to the host
//! or stay on the device.

use super::{FusedEngine, Pass};
use crate::{
    backend::{Backend, Mat, Result},
    batch::{Batch, BatchLimits, CheckedBatch, Derived, GeneratedLog, Samples, Span},
    engine::{EngineError, NO_LOG, NO_SCORES},
    metrics::{Counts, MetricsError},
};

/// Samples that fit.
pub(super) enum Checked<'a, B: Backend> {
    Host(CheckedBatch<'a>),
    Generated(&'a B::Generator, Span),
}

impl<'a, B: Backend> Checked<'a, B> {
    /// Checks samples; a device can make them once it has a `generator`.
    pub(super) fn new(
        limits: &'a BatchLimits,
        generator: Option<&'a B::Generator>,
        samples: Samples<'a>,
    ) -> std::result::Result<Self, EngineError> {
        match (samples, generator) {
            (Samples::Host(batch), _) => Ok(Checked::Host(limits.check(batch)?)),
            (Samples::Generated(span), Some(generator)) => {
                limits.check_len(span.len)?;
                Ok(Checked::Generated(generator, span))
            }
            (Samples::Generated(_), None) => Err(EngineError::Unsupported(NO_LOG.into())),
        }
    }

    /// Brings the samples to the device, or lets it make them.
    /// Tables that stand in for others read a batch that is `derived` from it.
    pub(super) fn bring(
        self,
        backend: &mut B,
        derived: Option<&'a mut Derived>,
        input: &'a mut B::Input,
    ) -> Result<B::Batch<'a>> {
        match self {
            Checked::Host(batch) => {
                let batch = match derived {
                    Some(derived) => derived.fill(backend.host_pool(), batch),
                    None => batch,
                };
                backend.upload(batch, input)
            }
            Checked::Generated(generator, span) => backend.generate(generator, span, input),
        }
    }
}

impl<B: Backend> FusedEngine<B> {
    pub(super) fn attach_log(
        &mut self,
        log: &GeneratedLog,
    ) -> std::result::Result<bool, EngineError> {
        self.limits.check_log(log)?;
        if self.derived.is_some() {
            // What becomes of ids is computed on the host.
            return Ok(false);
        }
        self.generator = self.backend.generator(log)?;
        Ok(self.generator.is_some())
    }

    /// Runs the network forward in inference mode; then `f` on device, batch, logits and kept
    /// predictions.
    fn forward<T>(
        &mut self,
        samples: Samples<'_>,
        f: impl FnOnce(
            &mut B,
            &B::Batch<'_>,
            Mat<'_, B::Floats>,
            &mut Option<B::Scores>,
        ) -> std::result::Result<T, EngineError>,
    ) -> std::result::Result<T, EngineError> {
        let rows = samples.len();
        let FusedEngine {
            backend,
            store,
            network,
            parts,
            limits,
            derived,
            input,
            generator,
            scores,
            clock,
            ..
        } = self;
        let samples = Checked::<B>::new(limits, generator.as_ref(), samples)?;
        let batch = samples.bring(backend, derived.as_mut(), input)?;
        // The clock is for training steps.
        let before = clock.clone();
        let borrowed = B::borrow(&batch);
        let mut pass =
            Pass { backend, store, batch: borrowed, first: 0, rows, training: false, comm: None };
        parts.forward(&mut pass, network, clock)?;
        *clock = before;
        f(backend, &batch, network.loss().logits(rows), scores)
    }

    pub(super) fn predict_batch(
        &mut self,
        batch: &Batch,
        out: &mut [f32],
    ) -> std::result::Result<(), EngineError> {
        if out.len() < batch.len {
            return Err(EngineError::Shape(format!(
                "{} predictions do not fit {} places",
                batch.len,
                out.len()
            )));
        }
        let out = &mut out[..batch.len];
        self.forward(Samples::Host(batch), |backend, _, logits, _| {
            Ok(backend.probabilities(logits, out)?)
        })
    }

    pub(super) fn score_samples(
        &mut self,
        samples: Samples<'_>,
    ) -> std::result::Result<(), EngineError> {
        self.forward(samples, |backend, batch, logits, scores| {
            let scores =
                scores.as_mut().ok_or_else(|| EngineError::Unsupported(NO_SCORES.into()))?;
            Ok(backend.add_scores(logits, batch, scores)?)
        })
    }

    pub(super) fn count(
        &mut self,
    ) -> std::result::Result<std::result::Result<Counts, MetricsError>, EngineError> {
        let scores =
            self.scores.as_mut().ok_or_else(|| EngineError::Unsupported(NO_SCORES.into()))?;
        Ok(self.backend.count_scores(scores)?)
    }
}
