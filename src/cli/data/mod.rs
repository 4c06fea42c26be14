//! `dlrm-bench data`: everything about data but training on them; one file a command.

mod profile;

use super::{Exit, Failure};
use clap::{Args, Subcommand};

/// Look at data sets
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Profile(profile::ProfileArgs),
}

/// Runs the command.
pub(super) fn run(args: &DataArgs) -> Result<Exit, Failure> {
    match &args.command {
        Command::Profile(args) => profile::run(args),
    }
}
