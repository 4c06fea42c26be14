//! Gradients of all parameters, written out on the host. For tests and diagnosis.

use super::{
    FusedEngine, Pass, engine::await_room, network::Network, samples::Checked, store::Place,
};
use crate::{
    backend::{Backend, Result, StepEnd, StepStart},
    batch::Batch,
    engine::EngineError,
};

/// The gradient of each parameter, row-major.
type Gradients = Vec<Vec<f32>>;

impl<B: Backend> FusedEngine<B> {
    /// A step without its update: result and gradients, unless its loss is not finite.
    pub(super) fn differentiate_only(
        &mut self,
        batch: &Batch,
        start: StepStart,
    ) -> std::result::Result<(StepEnd, Option<Gradients>), EngineError> {
        let FusedEngine { backend, store, network, parts, limits, derived, input, clock, .. } =
            self;
        let batch = Checked::<B>::Host(limits.check(batch)?);
        await_room(backend)?;
        let mut statistics = vec![0.0; store.layout.running];
        backend.read(&store.running, 0, &mut statistics)?;
        clock.start();
        let mut batch = batch.bring(backend, derived.as_mut(), input)?;
        backend.begin_step(start)?;
        backend.group_rows(&mut batch)?;
        let batch = B::borrow(&batch);
        let rows = start.samples;
        let mut pass = Pass { backend, store, batch, first: 0, rows, training: true, comm: None };
        parts.differentiate(&mut pass, network, clock)?;
        pass.backend.end_step()?;
        pass.backend.write(&mut pass.store.running, 0, &statistics)?;
        // Results of training steps before this one stay for `finished`.
        while pass.backend.fetch_result(true)? {}
        let end = pass.backend.in_flight().take_newest().expect("the step has a result");
        let finite = end.loss.is_finite();
        let all = finite.then(|| Self::collect(&mut pass, network, end.loss_scale.scale));
        Ok((end, all.transpose()?))
    }

    /// Gradients of all parameters after a training pass, which were made `loss_scale` times too
    /// large.
    fn collect(pass: &mut Pass<'_, B>, network: &Network<B>, loss_scale: f64) -> Result<Gradients> {
        let Pass { backend, store, batch, rows, .. } = pass;
        let mut all: Gradients = store.layout.specs.iter().map(|s| vec![0.0; s.len()]).collect();
        for (out, place) in all.iter_mut().zip(&store.layout.places) {
            if let Place::Dense(at) = *place {
                backend.read(&store.grads, at, out)?;
            }
        }
        network.sparse(|embedding, gradient| {
            let gradient = embedding.gradient::<B>(*rows, gradient);
            let tables = &store.tables[embedding.set];
            for (i, place) in store.layout.places.iter().enumerate() {
                let Place::Table { set, index } = *place else { continue };
                if set == embedding.set {
                    let weights = store
                        .layout
                        .places
                        .iter()
                        .position(|p| *p == Place::RowWeight { set, index });
                    let mut out = (
                        std::mem::take(&mut all[i]),
                        weights.map(|w| std::mem::take(&mut all[w])).unwrap_or_default(),
                    );
                    backend.table_gradient(
                        tables,
                        index,
                        batch,
                        gradient,
                        (&mut out.0, &mut out.1),
                    )?;
                    all[i] = out.0;
                    if let Some(w) = weights {
                        all[w] = out.1;
                    }
                }
            }
            Ok(())
        })?;
        let factor = (1.0 / loss_scale) as f32;
        all.iter_mut().flatten().for_each(|g| *g *= factor);
        Ok(all)
    }
}
