//! Whether a GPU computes what the CPU does, the same at every run, and how fast: for machines
//! where nothing but this program is installed (`dlrm-bench system --check-device`), and for tests.

pub(crate) mod cases;
pub(crate) mod data;
mod ends;
mod numbers;
pub(crate) mod operand_cases;
pub(super) mod speed;

use super::{Cuda, CudaConfig, driver::Driver};
use crate::{
    backend::{
        DotShape, Precision, ProductShape, Result,
        cpu::{Cpu, CpuConfig, gemm::LinearShape},
    },
    embedding::RowKind,
    model::Pooling,
    optim::{LossScaleSpec, OptimizerSpec},
};
use cases::{Case, Dense, LinearCase, OneEach, RowsCase, StepControlCase, TablesCase};
use operand_cases::{DotCase, MultiplyAddCase, NetworkCase, PooledCase, ProductsCase};
use serde::Serialize;
use std::rc::Rc;

pub use ends::{End, ends};
pub use speed::{Speed, speeds};

/// How a device did in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What was tried.
    pub operation: &'static str,
    /// The shapes and whatever else it depends on.
    pub case: String,
    /// Largest difference from the CPU, as a share of the largest element beside it.
    pub difference: f32,
    /// What it may be.
    pub tolerance: f32,
    /// Whether a second run gave the same bits.
    pub repeatable: bool,
}

impl Verdict {
    /// Whether all is well.
    pub fn passes(&self) -> bool {
        self.difference <= self.tolerance && self.repeatable
    }
}

/// Runs a case on the CPU and twice on a device.
///
/// # Errors
/// If the device fails.
pub(crate) fn compare(driver: &Rc<dyn Driver>, case: &impl Case) -> Result<Verdict> {
    let config = case.config();
    // A CPU has no TF32; it shows what would be right.
    let precision =
        if config.precision == Precision::Tf32 { Precision::Fp32 } else { config.precision };
    let want = case.run(&mut Cpu::new(&CpuConfig { precision, ..config })?)?;
    let run = || {
        let cuda = CudaConfig {
            threads: config.threads,
            pin_threads: false,
            precision: config.precision,
            graphs: false,
        };
        case.run(&mut Cuda::on(Rc::clone(driver), &cuda)?)
    };
    let (got, again) = (run()?, run()?);
    let bits = |left: &cases::Left| left.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    let shape = |left: &cases::Left| left.iter().map(Vec::len).collect::<Vec<_>>();
    let mut difference = if shape(&got) == shape(&want) { 0.0f32 } else { f32::INFINITY };
    for (got, want) in got.iter().zip(&want) {
        let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        for (g, w) in got.iter().zip(want).filter(|(g, w)| g != w) {
            let apart = (g - w).abs() / largest;
            // A NaN is no nearer than infinity.
            difference = if apart.is_nan() { f32::INFINITY } else { difference.max(apart) };
        }
    }
    Ok(Verdict {
        operation: case.name(),
        case: format!("{case:?}"),
        difference,
        tolerance: case.tolerance(),
        repeatable: bits(&got) == bits(&again),
    })
}

/// Every precision of a GPU.
pub(crate) const PRECISIONS: [Precision; 4] =
    [Precision::Fp32, Precision::Tf32, Precision::Bf16, Precision::Fp16];

/// Every rule through six steps: clipped or not, scaled in every way, some of them overflowing, the
/// fifth or none without a loss.
pub(crate) fn step_controls() -> impl Iterator<Item = StepControlCase> {
    let scales = [
        LossScaleSpec::Off,
        LossScaleSpec::Static { scale: 1000.0 },
        LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 2 },
    ];
    OptimizerSpec::examples().into_iter().enumerate().flat_map(move |(r, rule)| {
        scales.into_iter().enumerate().map(move |(s, loss_scale)| StepControlCase {
            rule,
            clip_norm: [None, Some(0.75), Some(1e9)][(r + s) % 3],
            loss_scale,
            overflows: std::array::from_fn(|k| (k + r) % 3 == 1),
            stops: if (r + s) % 2 == 0 { 4 } else { 9 },
        })
    })
}

/// Every way to pool.
pub(crate) const POOLINGS: [Pooling; 4] =
    [Pooling::Sum, Pooling::Mean, Pooling::WeightedFixed, Pooling::WeightedLearned];

/// Interactions whose blocks take more than the 48 KiB of shared memory that need not be asked for,
/// in f32 and in other numbers, and which fit on all GPUs from Ampere on.
pub(crate) const LARGE: [DotShape; 2] = [
    DotShape { features: 150, dim: 100, self_interaction: false },
    DotShape { features: 115, dim: 64, self_interaction: true },
];

/// Cases, one after another.
pub(crate) struct Trials<'a> {
    /// Where.
    pub driver: &'a Rc<dyn Driver>,
    /// Which, by their [`Case::work`].
    pub chosen: fn(usize) -> bool,
    /// Hears of each as it is done.
    pub tell: &'a mut dyn FnMut(Verdict),
}

impl Trials<'_> {
    fn of(&mut self, case: &impl Case) -> Result<()> {
        if (self.chosen)(case.work()) {
            (self.tell)(compare(self.driver, case)?);
        }
        Ok(())
    }
}

/// Tries every operation in shapes of all kinds: `tell` hears of each case as it is done.
///
/// # Errors
/// If the device fails.
pub fn check(driver: &Rc<dyn Driver>, tell: &mut dyn FnMut(Verdict)) -> Result<()> {
    operations(&mut Trials { driver, chosen: |_| true, tell })?;
    data::check(driver, tell)
}

/// All cases but those of samples and metrics.
///
/// # Errors
/// If the device fails.
pub(crate) fn operations(trials: &mut Trials<'_>) -> Result<()> {
    for precision in PRECISIONS {
        for (batch, input, output) in
            [(1, 1, 2), (7, 13, 512), (512, 479, 1024), (300, 256, 1), (129, 33, 65)]
        {
            let shape = LinearShape { batch, input, output };
            for (bias, relu) in [(true, false), (true, true), (false, false)] {
                trials.of(&LinearCase {
                    shape,
                    gap: 3 * usize::from(relu),
                    bias,
                    relu,
                    precision,
                    seed: 1,
                })?;
            }
        }
        // Widths of which the library leaves bits of a ReLU, and others.
        for widths in
            [[13, 512, 256, 128], [480, 1024, 1024, 512], [200, 384, 100, 1], [5, 16, 3, 40]]
        {
            trials.of(&NetworkCase { batch: 300, widths, precision, seed: 2 })?;
        }
        for (features, dim, self_interaction) in
            [(1, 1, true), (27, 128, false), (5, 3, false), (40, 33, true), (9, 16, true)]
        {
            let shape = DotShape { features, dim, self_interaction };
            trials.of(&DotCase { shape, precision, batch: 70, gap: 1 })?;
            trials.of(&DotCase { shape, precision, batch: 71, gap: 16 })?;
        }
        for shape in LARGE {
            trials.of(&DotCase { shape, precision, batch: 9, gap: 1 })?;
        }
    }
    for precision in [Precision::Bf16, Precision::Fp16] {
        trials.of(&PooledCase {
            precision,
            rows: vec![3, 900, 40],
            dim: 128,
            batch: 700,
            hotness: 3,
        })?;
        trials.of(&PooledCase { precision, rows: vec![77], dim: 9, batch: 100, hotness: 1 })?;
    }
    for precision in PRECISIONS {
        for (rows, cols, gap) in [(1, 1, 0), (300, 3456, 0), (77, 129, 3)] {
            trials.of(&MultiplyAddCase { precision, rows, cols, gap })?;
        }
        for (left, inner, right, cols, gap) in
            [(16, 128, 16, 128, 0), (1, 3, 9, 3, 1), (7, 40, 33, 2, 8)]
        {
            let shape = ProductShape { left, inner, right };
            trials.of(&ProductsCase { precision, shape, cols, batch: 70, gap })?;
        }
    }
    for (rows, cols, dim) in [(2, 1, 1), (200, 39, 10), (130, 400, 1), (65, 17, 33)] {
        trials.of(&RowsCase { rows, cols, dim, gap: 1 })?;
    }
    for case in step_controls() {
        trials.of(&case)?;
    }
    for rule in OptimizerSpec::examples() {
        trials.of(&Dense(rule))?;
        for (kind, pooling) in RowKind::ALL.into_iter().zip(POOLINGS) {
            let case = |dim, l2| TablesCase {
                rows: vec![3, 900, 40],
                dim,
                kind,
                pooling,
                rule,
                batch: 700,
                hotness: 3,
                l2,
                gap: 4,
            };
            for (dim, l2) in [(128, 0.0), (16, 0.01), (10, 0.0), (1, 0.01), (200, 0.0)] {
                trials.of(&case(dim, l2))?;
            }
            // The CPU sums a row's squares in another order.
            if !matches!(rule, OptimizerSpec::RowwiseAdagrad(_)) {
                let plain = TablesCase {
                    rows: vec![5, 9],
                    pooling: Pooling::Sum,
                    batch: 5,
                    hotness: 0,
                    gap: 0,
                    ..case(130, 0.0)
                };
                trials.of(&OneEach(plain))?;
            }
        }
    }
    Ok(())
}
