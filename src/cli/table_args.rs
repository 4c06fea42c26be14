//! What tables of runs show, and in which order: the options of `compare` and `report`.

use crate::results::table::{Field, Filter, Options};
use clap::Args;

/// A KEY is a key of the workload, as train.batch_size, or a name of the table's own.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// The row that ratios refer to, instead of the best: its name, or that of
    /// its system, engine, workload or run
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Only these columns, in this order, as in --columns
    /// train.batch_size,engine.threads,steady,runs. A KEY is any key of the
    /// workload, or throughput, steady, training, ratio, time, epochs, auc,
    /// floor, kj, cost, runs, system, workload, engine, precision, batch, org,
    /// round, platform, program, ending, grade (of noise), path
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub columns: Vec<Field>,
    /// What rows are sorted by: throughput, steady, training, ratio, time,
    /// epochs, auc, floor, kj, cost or runs, the best first; name, or any other
    /// KEY of --columns, numbers by size. Ratios are of it if it is a time or a
    /// throughput, else of the end-to-end throughput
    #[arg(long, value_name = "KEY", default_value = "throughput")]
    pub sort: Field,
    /// Only runs whose KEY holds TEXT (* and ? make a pattern; a number is meant
    /// as a whole); KEY!=TEXT for the others, TEXT for any of system, workload,
    /// engine, precision, org, batch, round, ending, path. KEY as for
    /// --columns, but nothing that is measured. May be given many times
    #[arg(long, value_name = "KEY=TEXT")]
    pub filter: Vec<Filter>,
    /// A table of its own for each value of KEY, which is one as for --filter
    #[arg(long, value_name = "KEY")]
    pub group_by: Option<Field>,
}

impl TableArgs {
    /// As the library takes them.
    pub fn options(&self) -> Options {
        Options {
            filters: self.filter.clone(),
            group_by: self.group_by.clone(),
            sort: self.sort.clone(),
            columns: self.columns.clone(),
            baseline: self.baseline.clone(),
            ..Options::default()
        }
    }
}
