//! What training has not reached: rows and outputs of layers that are as they were at the start, and
//! units that never fire.

use super::TrainError;
use crate::{
    batch::Batch,
    checkpoint::{CheckpointError, Loaded},
    embedding::RowKind,
    engine::{Engine, EngineConfig},
    host::pool::Pool,
    model::{ParamKind, ParamSpec, init::Initializer},
};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Numbers that are read from a device at once, at least.
const PART: usize = 1 << 20;

/// Samples whose units are looked at, at most.
pub(super) const SAMPLES: usize = 4096;

/// What a training has left as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Of each table, rows that have the bits of the start.
    pub tables: Vec<Unmoved>,
    /// Of each other parameter but biases, rows (a layer's outputs) that have them.
    pub layers: Vec<Unmoved>,
    /// Samples of the evaluation split for which units were looked at.
    pub samples: usize,
    /// Of each layer that ends in a ReLU, units that are 0 for all of these; `None` if the engine
    /// does not keep what layers give.
    pub units: Option<Vec<Dead>>,
}

/// Rows of a parameter that training has not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmoved {
    /// The parameter.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Those that are as they were.
    pub unmoved: u64,
}

/// Units of a layer that never fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// The layer.
    pub name: String,
    /// Units.
    pub units: usize,
    /// Those that gave 0 for every sample.
    pub dead: usize,
}

/// What parameters were at the start.
pub(super) enum Origin<'a> {
    /// Initial values.
    Drawn(Initializer<'a>),
    /// Those of a saved model.
    Saved(&'a Loaded),
}

impl Origin<'_> {
    /// Elements `at..` of a parameter; parameters are asked for in order.
    fn part(
        &mut self,
        index: usize,
        spec: &ParamSpec,
        at: usize,
        (out, pool): (&mut [f32], &Pool),
    ) -> Result<(), CheckpointError> {
        match self {
            Origin::Drawn(init) => init.fill_part(index, spec, at, out, pool),
            // Weights that stay 1 may be missing.
            Origin::Saved(model) if model.tensors.get(&spec.name).is_none() => out.fill(1.0),
            Origin::Saved(model) => model.tensor(&spec.name, &spec.shape)?.copy(at, out),
        }
        Ok(())
    }
}

/// Compares an engine's parameters with those that it began with, and looks at its units for the
/// samples of a batch. Initial values are functions of the seed, so none had to be kept.
pub(super) fn diagnose(
    engine: &mut dyn Engine,
    config: &EngineConfig,
    kind: RowKind,
    mut origin: Origin<'_>,
    batch: &Batch,
) -> Result<Diagnosis, TrainError> {
    let pool = Pool::new(config.threads);
    let (mut tables, mut layers) = (Vec::new(), Vec::new());
    let (mut now, mut then) = (Vec::new(), Vec::new());
    for (index, spec) in engine.params().iter().enumerate() {
        let rows = spec.shape[0];
        let cols = spec.len() / rows.max(1);
        // Whole rows, and a multiple of what a generator makes at once.
        let step = (PART / cols.max(1) + 1).next_multiple_of(4);
        let mut unmoved = 0;
        for first in (0..rows).step_by(step) {
            let len = step.min(rows - first) * cols;
            now.resize(len, 0.0);
            then.resize(len, 0.0);
            engine.read_from(index, first * cols, &mut now)?;
            origin.part(index, spec, first * cols, (&mut then, &pool))?;
            if spec.kind == ParamKind::Table {
                then.iter_mut().for_each(|x| *x = as_kept(kind, *x));
            }
            let same = |(a, b): &(&[f32], &[f32])| {
                a.iter().zip(*b).all(|(a, b)| a.to_bits() == b.to_bits())
            };
            unmoved += now.chunks(cols).zip(then.chunks(cols)).filter(same).count() as u64;
        }
        let found = Unmoved { name: spec.name.clone(), rows: rows as u64, unmoved };
        match spec.kind {
            ParamKind::Table => tables.push(found),
            ParamKind::Weight | ParamKind::FieldWeight => layers.push(found),
            // A bias may well stay at 0; what is not trained stays anyway.
            _ => {}
        }
    }
    let mut fired: Vec<(String, Vec<bool>)> = Vec::new();
    let looked = engine.look(batch, &mut |layer| {
        if !layer.relu {
            return;
        }
        let at = fired.iter().position(|(name, _)| name == layer.name).unwrap_or_else(|| {
            fired.push((layer.name.to_owned(), vec![false; layer.cols]));
            fired.len() - 1
        });
        for sample in layer.values.chunks(layer.cols) {
            fired[at].1.iter_mut().zip(sample).for_each(|(fired, &v)| *fired |= v != 0.0);
        }
    })?;
    let dead = |(name, fired): (String, Vec<bool>)| {
        let dead = fired.iter().filter(|fired| !**fired).count();
        Dead { name, units: fired.len(), dead }
    };
    let units = looked.then(|| fired.into_iter().map(dead).collect());
    Ok(Diagnosis { tables, layers, samples: batch.len, units })
}

/// A number as rows of a kind keep it: what is written into them is rounded to the nearest.
fn as_kept(kind: RowKind, x: f32) -> f32 {
    match kind {
        RowKind::Fp32 | RowKind::Bf16Split => x,
        RowKind::Bf16 => bf16::from_f32(x).to_f32(),
        RowKind::Fp16 => f16::from_f32(x).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{train, workload};
    use std::path::Path;

    /// Nothing is trained here: all is as it was, but for what is changed by hand.
    #[test]
    fn what_is_changed_by_hand_is_found() {
        for kind in ["fp32", "bf16", "fp16", "bf16-split"] {
            let set = [
                "data.max_rows=5000".to_owned(),
                format!("engine.embedding_rows={kind}"),
                "data.train_samples=1000".to_owned(),
                "data.eval_samples=500".to_owned(),
            ];
            let workload = workload::load(Path::new("quickstart"), &set).unwrap().workload;
            let mut p = train::prepare(&workload).unwrap();
            let batch = p.eval.part(0, 300).unwrap();
            let look = |p: &mut train::Prepared| {
                let kind = p.config.embedding_rows;
                let init = Origin::Drawn(Initializer::new(&p.config.model, p.init.clone()));
                diagnose(&mut *p.engine, &p.config, kind, init, &batch).unwrap()
            };
            let untouched = look(&mut p);
            let all = untouched.tables.iter().chain(&untouched.layers);
            assert!(
                all.clone().all(|u| u.unmoved == u.rows && u.rows > 0),
                "{kind}: {untouched:?}"
            );
            let find =
                |name: &str| p.engine.params().iter().position(|param| param.name == name).unwrap();
            let (table, bias) = (find("emb_l.2.weight"), find("bot_l.0.bias"));
            let spec = p.engine.params()[table].clone();
            let mut rows = vec![0.0; spec.len()];
            p.engine.read(table, &mut rows).unwrap();
            let (dim, last) = (spec.shape[1], spec.shape[0] - 1);
            for row in [0, 7, last] {
                rows[row * dim] += 1.0;
            }
            p.engine.write(table, &rows).unwrap();
            let units = p.engine.params()[bias].len();
            p.engine.write(bias, &vec![-1e6; units]).unwrap();
            let found = look(&mut p);
            for (now, before) in found.tables.iter().zip(&untouched.tables) {
                let moved = if now.name == "emb_l.2.weight" { 3 } else { 0 };
                assert_eq!(now.unmoved + moved, before.unmoved, "{kind} {}", now.name);
            }
            let dead = |of: &Diagnosis| {
                let of = of.units.as_ref().unwrap().iter();
                of.clone().find(|d| d.name == "bot_l.0").unwrap().dead
            };
            assert!(dead(&untouched) < units && dead(&found) == units, "{kind}");
        }
    }
}
