//! `dlrm-bench schema`.

use super::{Exit, Failure, examples};
use crate::workload::schema_text;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench schema > workload.schema.json

An editor with taplo (\"Even Better TOML\") completes and checks a workload
whose first line is:
  #:schema ./workload.schema.json";

/// Print the JSON schema of workload files
///
/// For editors and other programs: every key with its type, range, words,
/// default and meaning, and the settings under which it has one. Relations
/// between numbers it does not know; `run --explain` checks all.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct SchemaArgs {}

/// Runs the command.
pub(super) fn run(_: &SchemaArgs) -> Result<Exit, Failure> {
    out!("{}", schema_text());
    Ok(Exit::Done)
}
