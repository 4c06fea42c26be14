//! What `--debug-mode` prints: sizes, batches and parameters.

use super::{numpy, torch};
use crate::{
    batch::Batch,
    cli::Failure,
    data::loader::Loader,
    engine::{Engine, EngineError},
    model::{DlrmSpec, ModelSpec},
    workload::Workload,
};
use std::sync::atomic::AtomicBool;

/// Prints the sizes of the model and every batch of an epoch.
///
/// # Errors
/// If the data cannot be read, or the model is no DLRM.
pub(super) fn before(workload: &Workload, stop: &AtomicBool) -> Result<(), Failure> {
    let Some(data) = workload.open_data_until(stop, &mut |_| ())? else { return Ok(()) };
    let config = workload.engine_config(data.train.schema())?;
    let ModelSpec::Dlrm(model) = &config.model else {
        return Err(Failure::Usage(
            "--debug-mode prints a DLRM, and model.kind is \"deepfm\"; leave it out".into(),
        ));
    };
    out!("{}data (inputs and targets):\n", sizes(model));
    let mut loader = Loader::start(data.train, workload.loader_plan())?;
    let mut number = 0;
    while let Some(loaded) = loader.next_batch()? {
        out!("mini-batch: {number}\n{}", batch(&loaded.batch));
        number += 1;
        let last = loaded.range.last_of_epoch;
        loader.recycle(loaded);
        if last || stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

fn sizes(model: &DlrmSpec) -> String {
    let widths = |input: usize, layers: &[usize]| {
        let all: Vec<usize> = std::iter::once(input).chain(layers.iter().copied()).collect();
        (layers.len(), numpy::integers(&all))
    };
    let (top_layers, top) = widths(model.top_input(), &model.top);
    let (bottom_layers, bottom) = widths(model.bottom_input(), &model.bottom);
    format!(
        "model arch:\n\
         mlp top arch {top_layers} layers, with input to output dimensions:\n{top}\n\
         # of interactions\n{}\n\
         mlp bot arch {bottom_layers} layers, with input to output dimensions:\n{bottom}\n\
         # of features (sparse and dense)\n{}\n\
         dense feature size\n{}\n\
         sparse feature size\n{dim}\n\
         # of embeddings (= # of sparse features) {}, with dimensions {dim}x:\n{}\n",
        model.top_input(),
        model.tables.len() + 1,
        model.dense,
        model.tables.len(),
        numpy::integers(&model.tables),
        dim = model.dim,
    )
}

/// Dense features, ids of each bag, ids and targets.
fn batch(batch: &Batch) -> String {
    let columns = batch.dense.len().checked_div(batch.len).unwrap_or(0);
    let lengths: Vec<u32> = batch
        .bags
        .iter()
        .flat_map(|bags| bags.offsets.windows(2).map(|pair| pair[1] - pair[0]))
        .collect();
    let ids: Vec<String> = batch.bags.iter().map(|bags| torch::int64(&bags.indices)).collect();
    format!(
        "{}\n{}\n[{}]\n{}\n",
        torch::floats(&batch.dense, columns),
        torch::int32(&lengths, batch.len),
        ids.join(", "),
        torch::floats(&batch.labels, 1)
    )
}

/// All parameters in the model's order.
///
/// # Errors
/// If the device fails.
pub(super) fn parameters(engine: &dyn Engine, digits: usize) -> Result<String, EngineError> {
    let mut text = String::new();
    for (i, param) in engine.params().iter().enumerate() {
        let mut values = vec![0.0; param.len()];
        engine.read(i, &mut values)?;
        text += &numpy::floats(&values, &param.shape, digits);
        text.push('\n');
    }
    Ok(text)
}
