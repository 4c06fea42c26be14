//! What layers gave, handed out. For diagnosis: it waits for the device and copies to the host.

use super::{FusedEngine, Pass, samples::Checked};
use crate::{
    backend::{Backend, Mat, Result},
    batch::Batch,
    engine::{EngineError, LayerOutput, LookAt, parts},
};

/// Whoever looks, with room for what is looked at.
pub(crate) struct Look<'a> {
    at: &'a mut LookAt<'a>,
    values: Vec<f32>,
}

impl Look<'_> {
    /// Hands out a layer's output.
    pub fn at<B: Backend>(
        &mut self,
        backend: &B,
        (name, relu): (&str, bool),
        output: Mat<'_, B::Floats>,
    ) -> Result<()> {
        let Mat { buf, window, rows } = output;
        // From the first number to the last one, then without what lies between rows.
        self.values.resize((rows - 1) * window.stride + window.cols, 0.0);
        backend.read(buf, window.at, &mut self.values)?;
        for row in 1..rows {
            self.values.copy_within(
                row * window.stride..row * window.stride + window.cols,
                row * window.cols,
            );
        }
        let values = &self.values[..rows * window.cols];
        (self.at)(LayerOutput { name, cols: window.cols, relu, values });
        Ok(())
    }
}

impl<B: Backend> FusedEngine<B> {
    /// Predicts a batch and hands out what layers give, part by part.
    pub(super) fn look_at(
        &mut self,
        batch: &Batch,
        at: &mut LookAt<'_>,
    ) -> std::result::Result<(), EngineError> {
        let FusedEngine { backend, store, network, limits, derived, input, clock, config, .. } =
            self;
        let rows = batch.len;
        let samples = Checked::<B>::Host(limits.check(batch)?);
        let batch = samples.bring(backend, derived.as_mut(), input)?;
        // The clock is for training steps.
        let before = clock.clone();
        let borrowed = B::borrow(&batch);
        let mut pass =
            Pass { backend, store, batch: borrowed, first: 0, rows, training: false, comm: None };
        let mut look = Look { at: &mut |output| at(output), values: Vec::new() };
        network.pool(&mut pass)?;
        network.gather(&mut pass, clock)?;
        for samples in parts(rows, config.part()) {
            let mut part = pass.part(samples);
            network.before(&mut part, clock)?;
            network.forward(&mut part, clock)?;
            network.look(&mut part, &mut look)?;
        }
        *clock = before;
        Ok(())
    }
}
