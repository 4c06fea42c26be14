//! `dlrm-bench selftest`: whether this program, on this machine, computes what reference programs
//! print.

use super::{Exit, Failure, examples, say};
use crate::{
    backend::{Device, Precision, cuda::driver::real},
    engine::{self, EngineKind},
    selftest::{Check, Difference, Setting, golden, replay},
};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench selftest
  dlrm-bench selftest --engine fused --device cpu
  dlrm-bench selftest --device cuda:0 --json";

/// Replay runs of facebookresearch/dlrm and compare every number it prints
///
/// Trains the twelve small models of which the program carries the original's
/// losses and parameters (its README's example among them), on each engine, on
/// each device that is here, in each precision. In fp32 every printed digit
/// must come out; narrower numbers have a tolerance, which is shown. Takes some
/// seconds and needs no file.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct SelftestArgs {
    /// Only this engine
    #[arg(long, value_parser = EngineKind::ALL.map(EngineKind::name))]
    pub engine: Option<String>,
    /// Only this device: cpu, cuda:N or auto
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// One JSON object a check
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub(super) fn run(args: &SelftestArgs) -> Result<Exit, Failure> {
    let settings = settings(args)?;
    let (mut checks, mut failed) = (0, 0);
    for setting in settings {
        for golden in golden() {
            let check = replay(golden, setting)?;
            checks += 1;
            failed += usize::from(!check.passes);
            if args.json {
                let line = serde_json::to_string(&check);
                outln!("{}", line.map_err(|e| Failure::Internal(e.to_string()))?);
            } else {
                outln!("{}", line(&check));
            }
        }
    }
    if !args.json {
        match failed {
            0 => outln!("all {checks} as facebookresearch/dlrm prints them"),
            _ => outln!("{failed} of {checks} differ from what facebookresearch/dlrm prints"),
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Fails })
}

/// What is to be checked: one that was asked for by name must be there.
fn settings(args: &SelftestArgs) -> Result<Vec<Setting>, Failure> {
    let devices = match args.device {
        Some(device) => {
            let (device, why) = device.choose();
            why.iter().for_each(say::say_note);
            device.open().map_err(|e| Failure::Device(e.to_string()))?;
            vec![device]
        }
        None => {
            let mut devices = vec![Device::Cpu];
            for (n, _) in (0..).zip(real::devices().unwrap_or_default()) {
                match Device::Cuda(n).open() {
                    Ok(_) => devices.push(Device::Cuda(n)),
                    Err(e) => say::say_note(format!("not checked: {e}")),
                }
            }
            devices
        }
    };
    let mut settings = Vec::new();
    for engine in EngineKind::ALL {
        if args.engine.as_ref().is_some_and(|only| only != engine.name()) {
            continue;
        }
        for &device in &devices {
            let precisions: &[Precision] = match (engine, device) {
                (EngineKind::Candle, Device::Cuda(_)) if !engine::CANDLE_CUDA => {
                    if args.engine.is_some() && args.device.is_some() {
                        return Err(Failure::Device(engine::NO_CANDLE_CUDA.into()));
                    }
                    &[]
                }
                (EngineKind::Candle, _) => &[Precision::Fp32],
                (EngineKind::Fused, Device::Cuda(_)) => {
                    &[Precision::Fp32, Precision::Tf32, Precision::Bf16, Precision::Fp16]
                }
                (EngineKind::Fused, _) => &Precision::ALL,
            };
            let setting = |&precision| Setting { engine, device, precision };
            settings.extend(precisions.iter().map(setting));
        }
    }
    Ok(settings)
}

/// `ok     readme  fused  cpu  fp32  93 numbers, 93 digit by digit ...`
fn line(check: &Check) -> String {
    let Setting { engine, device, precision } = check.setting;
    let engine = engine.name();
    let verdict = if check.passes { "ok" } else { "WRONG" };
    let [loss, parameter] = check.largest;
    let what = match &check.differs {
        Some(Difference { what, index, ours, printed }) => {
            format!("{what} {index} is {ours}; the original prints {printed}")
        }
        None if check.same == check.numbers => format!("{} numbers, every digit", check.numbers),
        None => {
            let mut text = format!(
                "{} of {} numbers to the digit; losses within {loss:.1e} ({:.0e} may be)",
                check.same, check.numbers, check.tolerance.loss
            );
            if parameter > 0.0 {
                text +=
                    &format!(", parameters {parameter:.1e} ({:.0e})", check.tolerance.parameter);
            }
            text
        }
    };
    let device = device.to_string();
    format!(
        "{verdict:<5} {:<15} {engine:<6} {device:<6} {:<4}  {what}",
        check.run,
        precision.name()
    )
}
