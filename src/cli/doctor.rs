//! `dlrm-bench doctor`.

use super::{Exit, Failure, examples, threads};
use crate::system::{Finding, Grade, Machine, Noise, Setting, UsageMeter, usable_cores};
use clap::Args;
use std::{thread::sleep, time::Duration};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench doctor
  dlrm-bench doctor --seconds 30 --min-grade B
  dlrm-bench doctor --threads 8 --json

docs/noise.md says what gives which grade.";

/// Grade how quiet the machine is, from A to F, and say what to do
///
/// Waits a while, sees what others do meanwhile, and looks at what makes
/// measurements differ. Each run is graded in the same way while it trains.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct DoctorArgs {
    /// Seconds to look for, from 1 to 3600
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = super::whole::<u64, 1, 3600>)]
    pub seconds: u64,
    /// Threads that are to compute, 0 = all cores
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub threads: usize,
    /// End with exit code 1 if the grade is worse than this
    #[arg(long, value_name = "GRADE")]
    pub min_grade: Option<Grade>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub(super) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let meter = UsageMeter::start();
    let machine = Machine::inspect();
    sleep(Duration::from_secs(args.seconds));
    let threads = if args.threads == 0 { usable_cores() } else { args.threads };
    let noise = Noise::judge(&Setting::of(&machine, Some(threads), false), meter.usage());
    if args.json {
        let text = serde_json::to_string_pretty(&noise);
        outln!("{}", text.map_err(|e| Failure::Internal(e.to_string()))?);
    } else {
        show(&noise);
    }
    Ok(match args.min_grade.is_some_and(|least| noise.grade > least) {
        true => Exit::Fails,
        false => Exit::Done,
    })
}

/// A line each, the worst first, with what to do; what cannot be known comes last.
fn show(noise: &Noise) {
    outln!("The machine is graded {}", noise.grade);
    outln!();
    let quiet = noise.findings.iter().filter(|f| f.grade.is_none_or(|g| g == Grade::A));
    let (known, unknown): (Vec<&Finding>, Vec<&Finding>) = quiet.partition(|f| f.grade.is_some());
    for finding in noise.reasons().into_iter().chain(known).chain(unknown) {
        let grade = finding.grade.map_or("?".to_owned(), |g| g.to_string());
        outln!("  {grade}  {}", finding.found);
        if !finding.advice.is_empty() {
            outln!("     {}", finding.advice);
        }
    }
}
