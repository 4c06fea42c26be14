//! `dlrm-bench workloads`, and how other commands take a workload.

use super::{Exit, Failure, examples};
use crate::workload::{
    parse,
    shipped::{self, OTHER_NAMES, SHIPPED, Shipped},
};
use clap::{
    Arg, Args, Command, Subcommand,
    builder::{PathBufValueParser, PossibleValue, TypedValueParser},
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench workloads
  dlrm-bench workloads show terabyte
  dlrm-bench workloads show kaggle > my-kaggle.toml
  dlrm-bench run quickstart";

/// List the workloads that come with the program
///
/// `run`, `gate` and `data profile` take their names where they take a workload
/// file; a file of that name wins.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct WorkloadsArgs {
    #[command(subcommand)]
    command: Option<WorkloadsCommand>,
}

#[derive(Debug, Subcommand)]
enum WorkloadsCommand {
    /// Print the file of one, with its comments
    #[command(after_help = examples(EXAMPLES))]
    Show {
        /// Its name
        #[arg(value_name = "NAME", value_parser = WorkloadPlace, hide_possible_values = true)]
        name: PathBuf,
    },
}

/// Runs the command.
pub(super) fn run(args: &WorkloadsArgs) -> Result<Exit, Failure> {
    match &args.command {
        None => out!("{}", list()),
        Some(WorkloadsCommand::Show { name }) => out!("{}", named(name)?.text),
    }
    Ok(Exit::Done)
}

/// A line for each workload.
fn list() -> String {
    let width = shipped::names().map(str::len).max().unwrap_or(0);
    let line = |name: &str, description: &str| format!("{name:<width$}  {description}\n");
    let own = SHIPPED.iter().map(|s| {
        let (_, description) = parse::about(s.text).unwrap_or_default();
        line(s.name, &description)
    });
    let other = OTHER_NAMES.iter().map(|(other, name)| line(other, &format!("the same as {name}")));
    own.chain(other).collect()
}

fn named(name: &Path) -> Result<&'static Shipped, Failure> {
    let text = name.to_str().unwrap_or_default();
    Shipped::named(text).ok_or_else(|| Failure::Usage(shipped::unknown(text)))
}

/// Takes the path of a workload file, or the name of a workload of the program; shells complete the
/// names.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkloadPlace;

impl TypedValueParser for WorkloadPlace {
    type Value = PathBuf;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<PathBuf, clap::Error> {
        PathBufValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(shipped::names().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_fits_80_columns() {
        let list = list();
        assert_eq!(list.lines().count(), SHIPPED.len() + OTHER_NAMES.len());
        for line in list.lines() {
            assert!(line.chars().count() <= 80 && !line.ends_with(' '), "{line}");
        }
    }
}
