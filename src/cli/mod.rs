//! The command line: one file a command.

#[macro_use]
mod terminal;
#[macro_use]
mod values;

mod bar;
mod check;
mod check_device;
mod columns;
mod compare;
mod convergence;
mod data;
mod doctor;
mod eval;
mod explain;
mod export;
mod facebook;
mod failure;
mod gate;
mod history;
mod init;
mod loader_only;
mod package;
mod plan;
mod preparing;
mod progress;
mod ranks;
mod ready;
mod record;
mod replay;
mod report;
mod resume;
mod run;
mod run_output;
mod saved_model;
mod say;
mod schema;
mod selftest;
mod series;
mod shell;
mod summary;
mod sweep;
mod system;
mod table_args;
mod workloads;

pub use check::CheckArgs;
pub use compare::CompareArgs;
pub use data::DataArgs;
pub use doctor::DoctorArgs;
pub use eval::EvalArgs;
pub use export::ExportArgs;
pub use failure::Failure;
pub use gate::GateArgs;
pub use history::HistoryArgs;
pub use init::InitArgs;
pub use package::PackageArgs;
pub use plan::PlanArgs;
pub use record::RecordArgs;
pub use replay::ReplayArgs;
pub use report::ReportArgs;
pub use run::RunArgs;
pub use saved_model::ModelArgs;
pub use schema::SchemaArgs;
pub use selftest::SelftestArgs;
pub use shell::{CompletionsArgs, ManArgs};
pub use system::SystemArgs;
pub use workloads::WorkloadsArgs;

use crate::{
    data::preprocess::prepare::DISK_LIMIT, host::Isa, system::Versions, train,
    workload::MAX_THREADS,
};
use clap::{
    Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};
use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::LazyLock};

/// How a command that did its work ends; see [`Failure`] for those that could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The target was reached, or there was none; the logs pass.
    Done = 0,
    /// The run came to its end without reaching the target, a log does not pass, training got
    /// slower, or prepared data are damaged.
    Fails = 1,
    /// `gate`: there is no baseline, or it cannot be read.
    NoBaseline = 2,
    /// `gate`: the two sides cannot be compared.
    NotComparable = 3,
    /// `gate`: a side's loss is not a number, or its AUC got worse.
    QualityFailure = 4,
    /// `gate`: not enough evidence for a verdict.
    NotEnoughEvidence = 5,
    /// Some results could not be read (each was named); what is shown are the others.
    Unreadable = 65,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
}

/// Exit codes, as `--help` shows them.
const EXIT_CODES: &str = "\
Exit codes:
    0  done: the target was reached, or there was none; gate: no regression
    1  run: target not reached; check: a log fails; gate: regression;
       data verify: a file is damaged; system --check-device: an operation
       is wrong; selftest: a number differs; replay: it came out otherwise;
       doctor --min-grade: the machine is noisier
    2  gate: no baseline, or it cannot be read
    3  gate: not comparable
    4  the loss or a prediction is not a number; gate: or the AUC got worse
    5  gate: not enough evidence
   64  the command line or the workload file is wrong
   65  data or results cannot be read or are malformed
   69  the device that is to compute, or another rank, or what they need, is
       not there
   70  something else went wrong inside
   71  not enough memory
   74  the results cannot be written, or the disk is too small
  130  interrupted (Ctrl-C, SIGTERM); the log is closed properly
  141  all is done, but the reader of the output went away; with run --json the
       run ends then";

/// What stands at the end of a command's help.
fn examples(text: &str) -> String {
    format!("{text}\n\n{EXIT_CODES}")
}

/// Takes a whole number from `FROM` to `MOST`; clap's own words do not say what would be right.
fn whole<T: TryFrom<u64>, const FROM: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let n =
        text.parse().ok().filter(|n| (FROM..=MOST).contains(n)).and_then(|n| T::try_from(n).ok());
    n.ok_or_else(|| format!("must be a whole number from {FROM} to {MOST}"))
}

/// The largest seed: TOML, logs and records hold whole numbers in 64 bits with a sign.
const MAX_SEED: u64 = i64::MAX as u64;

/// Takes a seed.
fn seed(text: &str) -> Result<u64, String> {
    whole::<u64, 0, MAX_SEED>(text)
}

/// Takes a path whose names can be written into logs and records.
fn utf8_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| match text.into_string() {
        Ok(text) => Ok(PathBuf::from(text)),
        Err(_) => Err("must be a path in UTF-8"),
    })
}

/// Takes a number of threads, 0 for all cores.
fn threads(text: &str) -> Result<usize, String> {
    whole::<usize, 0, { MAX_THREADS as u64 }>(text)
}

/// Refuses environment variables that cannot be followed, whatever the command is: nothing is
/// measured otherwise than was asked for.
fn check_environment() -> Result<(), Failure> {
    Isa::detect().map_err(|e| Failure::Usage(e.to_string()))?;
    for name in [train::memory::LIMIT, DISK_LIMIT] {
        if let Some(value) = std::env::var_os(name)
            && value.to_str().is_none_or(|v| v.trim().parse::<u64>().is_err())
        {
            return Err(Failure::Usage(format!(
                "{name}={}: must be a number of bytes",
                value.display()
            )));
        }
    }
    Ok(())
}

/// What `--version` tells: commit, compiler, and the instruction set that kernels would use here.
fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let v = Versions::this();
        let isa = Isa::detect().map_or_else(|e| e.to_string(), |isa| isa.name().to_owned());
        let mut out = format!("{} ({}, {})", v.dlrm_bench, v.profile, v.target);
        for (what, fact) in v.lines().iter().skip(1) {
            out += &format!("\n{what}: {fact}");
        }
        out + &format!("\nInstruction set: {isa}")
    });
    &TEXT
}

/// Trains DLRM and DeepFM to a target AUC as fast as the machine allows, and shows how fast that
/// was.
#[derive(Debug, Parser)]
#[command(name = "dlrm-bench", version, long_version = long_version(), max_term_width = 80, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Plan(PlanArgs),
    Eval(EvalArgs),
    Replay(ReplayArgs),
    Export(ExportArgs),
    Check(CheckArgs),
    System(SystemArgs),
    Doctor(DoctorArgs),
    Selftest(SelftestArgs),
    Package(PackageArgs),
    Compare(CompareArgs),
    Report(ReportArgs),
    History(HistoryArgs),
    Record(RecordArgs),
    Gate(GateArgs),
    Data(DataArgs),
    Init(InitArgs),
    Workloads(WorkloadsArgs),
    Schema(SchemaArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to standard output and are no failure.
            let text = |colours: bool| {
                let text = e.render();
                if colours { text.ansi().to_string() } else { text.to_string() }
            };
            if e.use_stderr() {
                terminal::err(format_args!("{}", text(std::io::stderr().is_terminal())));
                return ExitCode::from(failure::USAGE);
            }
            out!("{}", text(std::io::stdout().is_terminal()));
            return terminal::end(Ok(Exit::Done));
        }
    };
    let done = check_environment().and_then(|()| match &cli.command {
        Command::Run(_) => Ok(()),
        _ => ranks::refuse(),
    });
    let done = done.and_then(|()| match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Check(args) => check::run(&args),
        Command::System(args) => system::system(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Report(args) => report::run(&args),
        Command::History(args) => history::run(&args),
        Command::Gate(args) => gate::gate(&args),
        Command::Record(args) => record::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Workloads(args) => workloads::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    });
    terminal::end(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_fits_80_columns() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let mut pages = vec![command.render_help().to_string()];
        let page = |c: &clap::Command| {
            c.clone().max_term_width(80).term_width(80).render_help().to_string()
        };
        for c in command.get_subcommands() {
            pages.push(page(c));
            pages.extend(c.get_subcommands().map(page));
        }
        for line in pages.iter().flat_map(|p| p.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        // What follows the options is to be typed as it stands: wrapping would break it.
        for page in
            command.get_subcommands().flat_map(|c| std::iter::once(c).chain(c.get_subcommands()))
        {
            for line in page.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", page.get_name());
            }
        }
    }

    /// docs/command-line.md and `--help` list the same codes.
    #[test]
    fn exit_codes_are_documented() {
        let codes = |lines: &mut dyn Iterator<Item = &str>| -> Vec<u8> {
            lines
                .filter_map(|l| l.split([' ', '|']).find(|w| !w.is_empty())?.parse().ok())
                .collect()
        };
        let help = codes(&mut EXIT_CODES.lines());
        assert_eq!(help, codes(&mut include_str!("../../docs/command-line.md").lines()));
        assert!(
            help.len() == 14
                && help.contains(&failure::USAGE)
                && help.contains(&(Exit::Interrupted as u8))
        );
    }
}
