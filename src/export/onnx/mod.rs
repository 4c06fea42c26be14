//! Models as ONNX files: a graph of standard operations with the parameters by their own names.
//!
//! Inputs are `dense` `[batch, columns]` and the categorical columns by their names; the output is
//! `prediction` `[batch]`, a probability.

mod bags;
mod deepfm;
mod dlrm;
mod file;
mod graph;
mod layers;

pub use bags::Bags;
pub use file::EXTERNAL_ABOVE;

use super::{ExportError, Model};
use crate::model::ModelSpec;
use graph::{Dim, Graph, Kind};
use layers::Params;
use std::path::Path;

/// Name of the output.
const OUTPUT: &str = "prediction";

/// Writes the file.
pub(super) fn write(model: &Model<'_>, path: &Path) -> Result<(), ExportError> {
    let graph = build(model).map_err(|what| {
        ExportError::Refused(format!("{}: no ONNX file can be written: {what}", path.display()))
    })?;
    file::write(model, &graph, path).map_err(|source| model.failed(path, source))
}

/// The graph of a model, or why there is none.
fn build(model: &Model<'_>) -> Result<Graph, String> {
    let spec = &model.config.model;
    let mut graph = Graph::default();
    let params = Params::new(model.params());
    let batch = Dim::Free("batch");
    let width = model.schema.dense;
    let dense = (width > 0).then(|| graph.input("dense", Kind::Float, &[batch, Dim::Fixed(width)]));
    let columns = bags::columns(&mut graph, model.schema, &params, model.bags)?;
    let logits = match (spec, &dense) {
        (ModelSpec::Dlrm(m), Some(dense)) => {
            dlrm::logits(&mut graph, &params, m, (dense, &columns))?
        }
        (ModelSpec::Dlrm(_), None) => return Err("a DLRM has dense columns".to_owned()),
        (ModelSpec::DeepFm(m), dense) => {
            deepfm::logits(&mut graph, &params, m, (dense.as_ref(), &columns))
        }
    };
    let probabilities = graph.node("Sigmoid", &[&logits], &[]);
    let flat = graph.ints(&[-1]);
    let output = graph.named("Reshape", &[&probabilities, &flat], &[], OUTPUT.to_owned());
    graph.output(&output, Kind::Float, &[batch]);
    Ok(graph)
}
