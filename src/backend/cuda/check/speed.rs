//! How fast the operations of a full-size DLRM step are on a device.

use super::{
    numbers::Numbers,
    operand_cases::{FINE, whole},
};
use crate::{
    backend::{
        After, Backend, DotShape, Gate, Held, Linear, Onto, Precision, Result, SparseGradient,
        StepContext, StepControl, StepStart, TablesShape, Window,
        cuda::{Cuda, CudaConfig, driver::Driver, linear, memory::Floats},
    },
    batch::{Batch, BatchLimits},
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
/// Rows of a table for each sample of a batch. Each sample has a row of its own, so that every id
/// is a row that is moved, and all tables together are far larger than any cache.
const ROWS: usize = 6;

/// Measures with batches of `batch` samples.
///
/// # Errors
/// If the device fails, or has not enough memory.
pub fn speeds(driver: &Rc<dyn Driver>, batch: usize) -> Result<Vec<Speed>> {
    let mut all = Vec::new();
    let precisions = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    for precision in precisions {
        products(driver, precision, batch, &mut all)?;
    }
    for precision in [Precision::Fp32, Precision::Bf16] {
        tables(driver, precision, batch, &mut all)?;
    }
    for precision in precisions {
        interaction(driver, precision, batch, &mut all)?;
    }
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

/// Fills `len` elements with random numbers: on zeros a GPU takes less power, and keeps a higher
/// clock, than it ever does in training.
fn scatter(b: &mut Cuda, to: &mut Floats, len: usize) -> Result<()> {
    // The same again and again: making them all would take longer than what is measured.
    let part = whole(&mut Numbers::new(1), len.min(1 << 20), FINE);
    (0..len)
        .step_by(part.len().max(1))
        .try_for_each(|at| b.write(to, at, &part[..part.len().min(len - at)]))
}

/// The widest layer of the top MLP, forward and backward, as it is between two others.
fn products(
    driver: &Rc<dyn Driver>,
    precision: Precision,
    batch: usize,
    all: &mut Vec<Speed>,
) -> Result<()> {
    let mut b = Cuda::on(
        Rc::clone(driver),
        &CudaConfig { threads: 1, pin_threads: false, precision, graphs: false },
    )?;
    let n = 1024;
    let layer = Linear { weight: 0, bias: Some(n * n), inputs: n, outputs: n };
    let (mut params, mut grads) =
        (b.zeros(n * n + n, "a layer")?, b.zeros(n * n + n, "gradients")?);
    let mut buffer = || b.operands(batch * n, "activations");
    let (mut x, mut y, mut dx) = (buffer()?, buffer()?, buffer()?);
    scatter(&mut b, &mut params, n * n + n)?;
    scatter(&mut b, &mut y, batch * n)?;
    let w = Window::whole(n);
    let (name, work) = (precision.name(), 2.0 * (batch * n * n) as f64);
    let mut add = |what: &str, seconds| {
        all.push(Speed { operation: format!("{what}, {name}"), seconds, work, unit: "FLOP" })
    };
    let after = After { relu: true, dropout: None };
    // Once the other way round: what comes in is a ReLU's output as well.
    b.linear_forward(w.of(&y, batch), &params, layer, after, w.of_mut(&mut x, batch))?;
    let seconds = measure(driver, || {
        b.linear_forward(w.of(&x, batch), &params, layer, after, w.of_mut(&mut y, batch))
    })?;
    add("layer 1024 x 1024 forward", seconds);
    let seconds = measure(driver, || {
        let onto = Onto::Gate(Gate { activation: w.of(&x, batch), factor: 1.0 });
        b.linear_backward_data(w.of(&y, batch), &params, layer, onto, w.of_mut(&mut dx, batch))
    })?;
    add("layer 1024 x 1024, gradient of its input", seconds);
    let seconds = measure(driver, || {
        b.linear_backward_weight(w.of(&y, batch), w.of(&x, batch), layer, &mut grads)
    })?;
    add("layer 1024 x 1024, gradient of its weight", seconds);
    Ok(())
}

/// Lookups, sorting and updates, where products are computed in `precision`.
pub(in crate::backend::cuda) fn tables(
    driver: &Rc<dyn Driver>,
    precision: Precision,
    batch: usize,
    all: &mut Vec<Speed>,
) -> Result<()> {
    let config = CudaConfig { threads: 1, pin_threads: false, precision, graphs: false };
    let mut b = Cuda::on(Rc::clone(driver), &config)?;
    let (rows, most) = ([ROWS * batch; TABLES], [1; TABLES]);
    let limits = BatchLimits::new(batch, 13, rows.to_vec(), most.to_vec());
    let mut input = b.input(&limits, 16)?;
    let mut n = Numbers::new(1);
    let bags = (0..TABLES).map(|_| n.scattered(batch, ROWS)).collect();
    let data = Batch { len: batch, dense: vec![0.5; 13 * batch], bags, labels: vec![0.0; batch] };
    let ids = (batch * TABLES) as f64;
    let mut add = |what: &str, seconds, work: f64| {
        all.push(Speed { operation: what.into(), seconds, work, unit: "B" })
    };
    let data = limits.check(&data)?;
    let upload = measure(driver, || b.upload(data, &mut input).map(|_| ()))?;
    let mut data = b.upload(data, &mut input)?;
    let sort = measure(driver, || b.group_rows(&mut data))?;
    if precision == Precision::Fp32 {
        add("upload of a batch", upload, 4.0 * (batch * (16 + 1 + TABLES)) as f64);
        // Keys and samples are read and written by each of the passes.
        add("sorting of its ids", sort, 16.0 * 4.0 * ids);
    }
    let t = Window::whole(TABLES * DIM);
    let (mut x, mut dx) =
        (b.operands(batch * t.stride, "vectors")?, b.operands(batch * t.stride, "gradients")?);
    scatter(&mut b, &mut dx, batch * t.stride)?;
    for kind in [RowKind::Fp32, RowKind::Bf16] {
        let rule = OptimizerSpec::SGD;
        let mut set = b.tables(&TablesShape {
            rows: &rows,
            dim: DIM,
            column: 0,
            kind,
            first: 0,
            pooling: Pooling::Sum,
            rule,
        })?;
        let (row, vector) =
            ((DIM * kind.lookup_bytes()) as f64, (DIM * number_bytes(precision)) as f64);
        let (rows, vectors) = (kind.name(), precision.name());
        let seconds = measure(driver, || b.bags_forward(&set, &data, t.of_mut(&mut x, batch)))?;
        add(
            &format!("lookup, rows in {rows}, vectors in {vectors}"),
            seconds,
            ids * (row + vector),
        );
        b.begin(&StepControl { rule, clip_norm: None, loss_scale: LossScaleSpec::Off, seed: 1 })?;
        b.begin_step(StepStart { number: 1, samples: 1, context: StepContext::at_rate(0.0) })?;
        b.decide_update()?;
        let gradient = SparseGradient { pooled: t.of(&dx, batch), l2: 0.0 };
        let seconds = measure(driver, || b.sparse_update(&mut set, &data, gradient))?;
        add(
            &format!("update by SGD, rows in {rows}, gradients in {vectors}"),
            seconds,
            ids * (2.0 * row + vector),
        );
    }
    Ok(())
}

/// The dot interaction, forward and backward.
pub(in crate::backend::cuda) fn interaction(
    driver: &Rc<dyn Driver>,
    precision: Precision,
    batch: usize,
    all: &mut Vec<Speed>,
) -> Result<()> {
    let mut b = Cuda::on(
        Rc::clone(driver),
        &CudaConfig { threads: 1, pin_threads: false, precision, graphs: false },
    )?;
    let mut dot = b.plan_dot(
        DotShape { features: TABLES + 1, dim: DIM, self_interaction: false },
        Held::Operands,
    )?;
    let t = Window::whole((TABLES + 1) * DIM);
    let cols = DIM + TABLES * (TABLES + 1) / 2;
    let r = Window { at: 0, stride: cols.next_multiple_of(16), cols };
    let (mut x, mut dx) =
        (b.operands(batch * t.stride, "features")?, b.operands(batch * t.stride, "gradients")?);
    scatter(&mut b, &mut x, batch * t.stride)?;
    let mut out = b.operands(batch * r.stride, "interaction")?;
    let bytes = (number_bytes(precision) * batch * (t.stride + cols)) as f64;
    let mut add = |what: &str, seconds, work: f64| {
        all.push(Speed {
            operation: format!("{what}, {}", precision.name()),
            seconds,
            work,
            unit: "B",
        });
    };
    let seconds =
        measure(driver, || b.dot_forward(&mut dot, t.of(&x, batch), r.of_mut(&mut out, batch)))?;
    add("interaction forward", seconds, bytes);
    let seconds = measure(driver, || {
        b.dot_backward(&mut dot, t.of(&x, batch), r.of(&out, batch), t.of_mut(&mut dx, batch))
    })?;
    add(
        "interaction, gradient",
        seconds,
        bytes + (number_bytes(precision) * batch * t.stride) as f64,
    );
    Ok(())
}

/// Bytes of a number that products read.
fn number_bytes(precision: Precision) -> usize {
    linear::operands(precision).bytes()
}
