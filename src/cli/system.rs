//! `dlrm-bench system`.

use super::{Exit, Failure, check_device::check_device, examples, threads};
use crate::{
    backend::{
        Device,
        cuda::driver::{DeviceInfo, real},
    },
    host::Isa,
    system::{Ceilings, Effort, Machine, Versions},
    train::memory::available,
};
use clap::Args;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench system
  dlrm-bench system --ceilings
  dlrm-bench system --ceilings --threads 1 --json
  dlrm-bench system --ceilings --device cuda:0
  dlrm-bench system --check-device cuda:0";

/// Show the machine, and measure what it can do at most
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct SystemArgs {
    /// Measure the ceilings too: products a second, bandwidth, random rows;
    /// takes a few seconds, on an idle machine
    #[arg(long)]
    pub ceilings: bool,
    /// Threads that measure, 0 = all cores
    #[arg(long, value_name = "N", default_value_t = 0, requires = "ceilings", value_parser = threads)]
    pub threads: usize,
    /// What is measured: cpu, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu, requires = "ceilings", conflicts_with = "threads")]
    pub device: Device,
    /// Compare every operation on a GPU with the CPU, twice, and measure how
    /// fast each is; exit code 1 if one is wrong. Takes a minute
    #[arg(long, value_name = "DEVICE", conflicts_with = "ceilings")]
    pub check_device: Option<Device>,
    /// Samples of a batch that is measured with
    #[arg(long, value_name = "N", default_value_t = 65_536, requires = "check_device")]
    pub batch: usize,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    versions: Versions,
    /// GPUs that can be computed on, as far as the driver knows.
    gpus: Vec<DeviceInfo>,
    ceilings: Option<Ceilings>,
}

/// Runs the command.
pub(super) fn system(args: &SystemArgs) -> Result<Exit, Failure> {
    if let Some(device) = args.check_device {
        return check_device(device, args.batch.max(1), args.json);
    }
    let machine = Machine::inspect();
    let ceilings = args.ceilings.then(|| measure(args.device, args.threads)).transpose()?;
    let gpus = real::devices();
    let no_gpu = gpus.as_ref().err().map(ToString::to_string);
    let report =
        Report { machine, versions: Versions::this(), gpus: gpus.unwrap_or_default(), ceilings };
    if args.json {
        outln!(
            "{}",
            serde_json::to_string_pretty(&report).map_err(|e| Failure::Internal(e.to_string()))?
        );
        return Ok(Exit::Done);
    }
    for (label, value) in report.machine.lines() {
        outln!("{label:<24} {value}");
    }
    for (label, value) in report.gpus.iter().flat_map(DeviceInfo::lines) {
        outln!("{label:<24} {value}");
    }
    if let Some(why) = no_gpu {
        outln!("{:<24} none: {why}", "GPU");
    }
    if let Some(ceilings) = &report.ceilings {
        outln!();
        for (label, value) in ceilings.lines() {
            outln!("{label:<24} {value}");
        }
    }
    Ok(Exit::Done)
}

fn measure(device: Device, threads: usize) -> Result<Ceilings, Failure> {
    if let Some(gpu) = device.choose().0.open().map_err(|e| Failure::Device(e.to_string()))? {
        return Ceilings::of_gpu(&gpu, Effort::Thorough)
            .map_err(|e| Failure::Device(e.to_string()));
    }
    let isa = Isa::detect().map_err(|e| Failure::Usage(e.to_string()))?;
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    Ceilings::measure(threads, false, isa, Effort::Thorough, available())
        .map_err(|e| Failure::Memory(e.to_string()))
}
