//! `dlrm-bench data`: everything about data but training on them; one file a command.

mod bar;
mod preprocess;
mod profile;
mod verify;

use super::{EXIT_CODES, Exit, Failure};
use clap::{Args, Subcommand};

/// Prepare data sets, check them and look at them
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DataArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Preprocess(preprocess::PreprocessArgs),
    Verify(verify::VerifyArgs),
    Profile(profile::ProfileArgs),
}

/// Runs the command.
pub(super) fn run(args: &DataArgs) -> Result<Exit, Failure> {
    match &args.command {
        Command::Preprocess(args) => preprocess::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Profile(args) => profile::run(args),
    }
}
