//! How fast the operations of a full-size DLRM step are on a device.

use super::numbers::Numbers;
use crate::{
    backend::{
        After, Backend, Course, DotShape, InputShape, Linear, Precision, Result, SparseGradient, StepStart, TablesShape, Window,
        cuda::{Cuda, CudaConfig, driver::Driver},
    },
    data::Batch,
    embedding::RowKind,
    model::Pooling,
    optim::{LossScaleSpec, OptimizerSpec},
};
use serde::Serialize;
use std::{rc::Rc, time::Instant};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Speed {
    /// What was done.
    pub operation: String,
    /// Seconds of one: the median.
    pub seconds: f64,
    /// Work of one, in `unit`.
    pub work: f64,
    /// `FLOP`, `B` (bytes read and written) or `samples`.
    pub unit: &'static str,
}

/// Times that each is measured, and done each time.
const ROUNDS: usize = 7;
const REPEATS: usize = 10;

/// MLPerf's DLRM.
const DIM: usize = 128;
const TABLES: usize = 26;
/// Rows of a table for each sample of a batch: enough that hardly any are in a cache.
const ROWS: usize = 6;

/// Measures with batches of `batch` samples.
///
/// # Errors
/// If the device fails, or has not enough memory.
pub fn speeds(driver: &Rc<dyn Driver>, batch: usize) -> Result<Vec<Speed>> {
    let mut all = Vec::new();
    for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
        products(driver, precision, batch, &mut all)?;
    }
    tables(driver, batch, &mut all)?;
    super::data::speeds(driver, batch, &mut all)?;
    Ok(all)
}

pub(super) fn measure(driver: &Rc<dyn Driver>, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut seconds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        driver.synchronize()?;
        let start = Instant::now();
        (0..REPEATS).try_for_each(|_| f())?;
        driver.synchronize()?;
        seconds.push(start.elapsed().as_secs_f64() / REPEATS as f64);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[ROUNDS / 2])
}

/// The widest layer of the top MLP, forward and backward.
fn products(driver: &Rc<dyn Driver>, precision: Precision, batch: usize, all: &mut Vec<Speed>) -> Result<()> {
    let mut b = Cuda::on(Rc::clone(driver), &CudaConfig { threads: 1, pin_threads: false, precision, dot: None, graphs: false })?;
    let n = 1024;
    let layer = Linear { weight: 0, bias: n * n, inputs: n, outputs: n };
    let (params, mut grads) = (b.zeros(n * n + n, "a layer")?, b.zeros(n * n + n, "gradients")?);
    let (x, mut y) = (b.zeros(batch * n, "activations")?, b.zeros(batch * n, "activations")?);
    let w = Window::whole(n);
    let (name, work) = (precision.name(), 2.0 * (batch * n * n) as f64);
    let mut add = |what: &str, seconds| all.push(Speed { operation: format!("{what}, {name}"), seconds, work, unit: "FLOP" });
    let after = After { relu: true, dropout: None };
    let seconds = measure(driver, || b.linear_forward(w.of(&x, batch), &params, layer, after, w.of_mut(&mut y, batch)))?;
    add("layer 1024 x 1024 forward", seconds);
    let seconds = measure(driver, || b.linear_backward_data(w.of(&x, batch), &params, layer, None, w.of_mut(&mut y, batch)))?;
    add("layer 1024 x 1024, gradient of its input", seconds);
    let seconds = measure(driver, || b.linear_backward_weight(w.of(&x, batch), w.of(&y, batch), layer, &mut grads))?;
    add("layer 1024 x 1024, gradient of its weight", seconds);
    Ok(())
}

/// Lookups, sorting, updates and the interaction.
pub(in crate::backend::cuda) fn tables(driver: &Rc<dyn Driver>, batch: usize, all: &mut Vec<Speed>) -> Result<()> {
    let shape = DotShape { features: TABLES + 1, dim: DIM, itself: false };
    let config = CudaConfig { threads: 1, pin_threads: false, precision: Precision::Fp32, dot: Some(shape), graphs: false };
    let mut b = Cuda::on(Rc::clone(driver), &config)?;
    let (rows, most) = ([ROWS * batch; TABLES], [1; TABLES]);
    let inputs = InputShape { max_batch: batch, dense: 13, dense_width: 16, rows: &rows, max_hotness: &most };
    let mut input = b.input(&inputs)?;
    let mut n = Numbers::new(1);
    let bags = (0..TABLES).map(|_| n.bags(batch, ROWS * batch, 0)).collect();
    let data = Batch { len: batch, dense: vec![0.5; 13 * batch], bags, labels: vec![0.0; batch] };
    let ids = (batch * TABLES) as f64;
    let mut add = |what: &str, seconds, work: f64| all.push(Speed { operation: what.into(), seconds, work, unit: "B" });
    let seconds = measure(driver, || b.upload(&data, &mut input))?;
    add("upload of a batch", seconds, 4.0 * (batch * (16 + 1 + TABLES)) as f64);
    let seconds = measure(driver, || b.group_rows(&mut input))?;
    // Keys and samples are read and written by each of the passes.
    add("sorting of its ids", seconds, 16.0 * 4.0 * ids);
    let t = Window::whole((TABLES + 1) * DIM);
    let pooled = t.columns(DIM, TABLES * DIM);
    let (mut x, mut dx) = (b.zeros(batch * t.stride, "features")?, b.zeros(batch * t.stride, "gradients")?);
    for kind in [RowKind::Fp32, RowKind::Bf16] {
        let rule = OptimizerSpec::Sgd;
        let mut set = b.tables(&TablesShape { rows: &rows, dim: DIM, kind, first: 0, pooling: Pooling::Sum, rule })?;
        let (row, out) = ((DIM * kind.lookup_bytes()) as f64, (DIM * 4) as f64);
        let seconds = measure(driver, || b.bags_forward(&set, &input, pooled.of_mut(&mut x, batch)))?;
        add(&format!("lookup, rows in {}", kind.name()), seconds, ids * (row + out));
        b.begin(&Course { rule, clip_norm: None, loss_scale: LossScaleSpec::Off, seed: 1 })?;
        b.begin_step(&StepStart { number: 1, learning_rate: 0.0 })?;
        b.settle()?;
        let gradient = SparseGradient { pooled: pooled.of(&dx, batch), l2: 0.0 };
        let seconds = measure(driver, || b.sparse_update(&mut set, &input, gradient))?;
        add(&format!("update by SGD, rows in {}", kind.name()), seconds, ids * (2.0 * row + out));
    }
    let cols = DIM + TABLES * (TABLES + 1) / 2;
    let r = Window { at: 0, stride: cols.next_multiple_of(16), cols };
    let mut out = b.zeros(batch * r.stride, "interaction")?;
    let bytes = 4.0 * (batch * (t.stride + cols)) as f64;
    let seconds = measure(driver, || b.dot_forward(t.of(&x, batch), r.of_mut(&mut out, batch)))?;
    add("interaction forward", seconds, bytes);
    let seconds = measure(driver, || b.dot_backward(t.of(&x, batch), r.of(&out, batch), t.of_mut(&mut dx, batch)))?;
    add("interaction, gradient", seconds, bytes + 4.0 * (batch * t.stride) as f64);
    Ok(())
}
