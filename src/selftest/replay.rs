//! One run of a reference program, replayed and compared number by number.

use super::Golden;
use crate::{
    backend::{Device, Precision},
    engine::{Engine, EngineError, EngineKind},
    optim::OptimizerSpec,
    train::{
        self, Job, TrainError,
        events::{Listener, StepEvent},
    },
    workload::parse,
};
use serde::Serialize;
use std::{io, path::Path, sync::atomic::AtomicBool};

/// Who computes, on what, with which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The engine.
    pub engine: EngineKind,
    /// The device; not [`Device::Auto`].
    pub device: Device,
    /// Rounding of the operands of matrix products.
    pub precision: Precision,
}

/// How far a number may be from the printed one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of losses.
    pub loss: f64,
    /// Of parameters.
    pub parameter: f64,
}

impl Tolerance {
    /// Of products whose operands are rounded to `precision`, and an update by `rule`.
    ///
    /// In 24 bits the digits as they are printed: a number that another order of sums takes over
    /// the border between two digits may be the next one, no more. With fewer bits what these small
    /// models were seen to differ by on CPUs, with a margin. Adagrad's first step is the rate in
    /// the direction of each gradient, however small that is, so a gradient whose sign is rounded
    /// away shows in the loss.
    pub fn of(precision: Precision, rule: &OptimizerSpec) -> Self {
        let signs = rule.kind().contains("adagrad");
        let by_rule = |sgd: f64, adagrad: f64| if signs { adagrad } else { sgd };
        match precision {
            Precision::Fp32 => Tolerance { loss: 1e-6, parameter: 1e-5 },
            Precision::Tf32 | Precision::Fp16 => {
                Tolerance { loss: by_rule(5e-3, 3e-2), parameter: 1e-4 }
            }
            Precision::Bf16 => Tolerance { loss: by_rule(1e-2, 6e-2), parameter: 1e-4 },
        }
    }
}

/// A number that is further from the printed one than it may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `loss`, `initial parameter` or `updated parameter`.
    pub what: &'static str,
    /// Which one, from 0.
    pub index: usize,
    /// As it is printed here.
    pub ours: String,
    /// As the original prints it.
    pub printed: String,
}

/// What came of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The run's name.
    pub run: &'static str,
    /// Who computed it.
    #[serde(flatten)]
    pub setting: Setting,
    /// Whether no number differs by more than it may.
    pub passes: bool,
    /// Numbers compared.
    pub numbers: usize,
    /// Those that are printed the same, digit by digit.
    pub same: usize,
    /// The largest difference of a loss, and of a parameter, from the printed one.
    pub largest: [f64; 2],
    /// What is allowed.
    pub tolerance: Tolerance,
    /// The first number that differs by more.
    pub differs: Option<Difference>,
}

/// What the loop tells.
#[derive(Default)]
struct Heard {
    initial: Vec<f64>,
    losses: Vec<f64>,
}

impl Listener for Heard {
    fn model_ready(&mut self, engine: &dyn Engine) -> io::Result<()> {
        self.initial = parameters(engine).map_err(io::Error::other)?;
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        self.losses.push(f64::from(step.loss));
        Ok(())
    }
}

/// All parameters one after another, in the model's order.
fn parameters(engine: &dyn Engine) -> Result<Vec<f64>, EngineError> {
    let mut all = Vec::new();
    for (i, p) in engine.params().iter().enumerate() {
        let mut values = vec![0.0; p.len()];
        engine.read(i, &mut values)?;
        all.extend(values.iter().map(|&v| f64::from(v)));
    }
    Ok(all)
}

/// Trains `golden`'s workload and compares all that the original prints of it.
///
/// # Errors
/// If the device fails.
pub fn replay(golden: &Golden, setting: Setting) -> Result<Check, TrainError> {
    let Setting { engine, device, precision } = setting;
    let mut set =
        vec![format!("engine.kind={}", engine.name()), format!("engine.device=\"{device}\"")];
    if engine == EngineKind::Fused {
        set.push(format!("engine.precision=\"{}\"", precision.name()));
    }
    if precision == Precision::Fp16 {
        // One that overflows nowhere: a skipped update would be another run.
        set.extend(["engine.loss_scaling=static", "engine.loss_scale=1024"].map(String::from));
    }
    let text = golden.workload.to_owned();
    let workload =
        parse::resolve(Path::new(&format!("{}.toml", golden.name)), text, &set)?.workload;
    let mut heard = Heard::default();
    let stop = AtomicBool::new(false);
    let job = Job::new(&workload, &stop);
    let finished = train::run(&job, &mut [&mut heard])?;
    let mut check = Check {
        run: golden.name,
        setting,
        passes: true,
        numbers: 0,
        same: 0,
        largest: [0.0; 2],
        tolerance: Tolerance::of(precision, &workload.optimizer.rule),
        differs: None,
    };
    check.compare("loss", &heard.losses, &golden.losses);
    if !golden.initial.is_empty() {
        check.compare("initial parameter", &heard.initial, &golden.initial);
    }
    if !golden.updated.is_empty() {
        check.compare("updated parameter", &parameters(&*finished.engine)?, &golden.updated);
    }
    Ok(check)
}

impl Check {
    /// Compares a list of numbers with the printed ones.
    fn compare(&mut self, what: &'static str, ours: &[f64], printed: &[f64]) {
        let (kind, digits, allowed) = match what {
            "loss" => (0, Golden::LOSS_DIGITS, self.tolerance.loss),
            _ => (1, Golden::PARAMETER_DIGITS, self.tolerance.parameter),
        };
        let show = |x: f64| format!("{x:.digits$}");
        self.numbers += printed.len();
        for index in 0..printed.len().max(ours.len()) {
            let (a, b) = (ours.get(index).copied(), printed.get(index).copied());
            let distance = match (a, b) {
                (Some(a), Some(b)) => (a - b).abs(),
                _ => f64::INFINITY,
            };
            let [a, b] = [a, b].map(|x| x.map_or_else(|| "nothing".to_owned(), show));
            self.same += usize::from(a == b);
            self.largest[kind] = self.largest[kind].max(distance);
            // What is no number differs, too.
            if distance.is_nan() || distance > allowed {
                self.passes = false;
                self.differs.get_or_insert(Difference { what, index, ours: a, printed: b });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::golden;

    fn check() -> Check {
        Check {
            run: "made up",
            setting: Setting {
                engine: EngineKind::Fused,
                device: Device::Cpu,
                precision: Precision::Fp32,
            },
            passes: true,
            numbers: 0,
            same: 0,
            largest: [0.0; 2],
            tolerance: Tolerance::of(Precision::Fp32, &OptimizerSpec::SGD),
            differs: None,
        }
    }

    #[test]
    fn a_digit_that_differs_is_found_and_named() {
        let mut right = check();
        right.compare("loss", &[0.451_893_4, 0.402_002_55], &[0.451893, 0.402002]);
        assert!(right.passes && right.differs.is_none());
        assert_eq!((right.numbers, right.same), (2, 1));
        for (ours, index) in
            [(vec![0.451893, 0.402004], 1), (vec![0.451893], 1), (vec![f64::NAN, 0.402002], 0)]
        {
            let mut wrong = check();
            wrong.compare("loss", &ours, &[0.451893, 0.402002]);
            let differs = wrong.differs.unwrap();
            assert!(!wrong.passes && differs.index == index, "{differs:?}");
        }
    }

    /// A wrong rate, a wrong seed, a wrong interaction: each run's numbers notice.
    #[test]
    fn numbers_of_another_run_do_not_pass() {
        let setting = check().setting;
        let mut other = golden().iter().find(|g| g.name == "tiny_debug").unwrap().clone();
        other.workload = golden().iter().find(|g| g.name == "tiny_cat_debug").unwrap().workload;
        let check = replay(&other, setting).unwrap();
        assert!(!check.passes, "{check:?}");
        assert_eq!(check.differs.unwrap().what, "loss");
    }
}
