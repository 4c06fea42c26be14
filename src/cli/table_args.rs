//! What tables of runs show, and in which order: the options of `compare` and `report`.

use super::Failure;
use crate::{
    host::escape::visible,
    results::{
        ResultsError,
        table::{self, Comparison, Field, Filter, Options},
    },
};
use clap::Args;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use toml_edit::DocumentMut;

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
    /// accuracy, floor, kj, joules-a-sample, cost, cost-an-epoch, runs, system,
    /// workload, engine, precision, batch, org, round, platform, program,
    /// ending, grade (of noise), path
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub columns: Vec<Field>,
    /// What rows are sorted by: throughput or another KEY that is measured, the
    /// best first; name, or any other KEY of --columns, numbers by size. Ratios
    /// are of it if it is a time or a throughput, else of the end-to-end
    /// throughput
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
    /// Price of an hour of a system, for columns of costs; may be given many
    /// times
    #[arg(long, value_name = "SYSTEM=PRICE", value_parser = price)]
    pub cost_per_hour: Vec<(String, f64)>,
    /// Prices of hours of many systems, those that are not compared too: a TOML
    /// file with a line as "my-epyc" = 1.25 for each
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
}

impl TableArgs {
    /// As the library takes them.
    ///
    /// # Errors
    /// If the file of prices cannot be read, or has others.
    pub fn options(&self) -> Result<Options, Failure> {
        // What is typed goes before what a file says.
        let mut price_per_hour = self.cost_per_hour.clone();
        if let Some(file) = &self.prices {
            price_per_hour.extend(prices(file)?);
        }
        Ok(Options {
            filters: self.filter.clone(),
            group_by: self.group_by.clone(),
            sort: self.sort.clone(),
            columns: self.columns.clone(),
            baseline: self.baseline.clone(),
            price_per_hour,
            ..Options::default()
        })
    }

    /// Refuses the price of a system that is not there; a file may have others.
    ///
    /// # Errors
    /// With the systems that there are.
    pub fn check_prices(&self, comparison: &Comparison) -> Result<(), Failure> {
        let rows = || comparison.groups.iter().flat_map(|g| &g.rows);
        let nowhere = |(name, _): &&(String, f64)| !rows().any(|r| table::is_called(r, name));
        let Some((name, _)) = self.cost_per_hour.iter().find(nowhere) else { return Ok(()) };
        let systems: BTreeSet<String> = rows().map(|r| format!("{:?}", r.system.name)).collect();
        Err(Failure::Usage(format!(
            "--cost-per-hour {name} is none of the systems; must be one of {}",
            systems.into_iter().collect::<Vec<_>>().join(", ")
        )))
    }
}

fn price(text: &str) -> Result<(String, f64), String> {
    let wrong = || "must be SYSTEM=PRICE, as in my-epyc=1.25".to_owned();
    let (system, price) = text.rsplit_once('=').ok_or_else(wrong)?;
    let price = price.trim().parse().ok().filter(is_price).ok_or_else(wrong)?;
    if system.is_empty() { Err(wrong()) } else { Ok((system.to_owned(), price)) }
}

fn is_price(x: &f64) -> bool {
    x.is_finite() && *x >= 0.0
}

/// Systems and prices of a file.
fn prices(file: &Path) -> Result<Vec<(String, f64)>, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|source| ResultsError::Read { path: file.to_owned(), source })?;
    let wrong = |what: String| {
        let file = file.display().to_string();
        Failure::Usage(format!("--prices {}: {what}", visible(&file)))
    };
    let document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        let said = e.to_string();
        wrong(said.lines().next().unwrap_or_default().to_owned())
    })?;
    let of = |(system, value): (&str, &toml_edit::Item)| {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        let price = number.filter(is_price).ok_or_else(|| {
            wrong(format!("{system:?} must be the price of an hour, as in \"my-epyc\" = 1.25"))
        })?;
        Ok((system.to_owned(), price))
    };
    document.as_table().iter().map(of).collect()
}
