//! `dlrm-bench plan`: which rank would have which tables, and what they would send each other.

use super::{Exit, Failure, examples, progress::thousands, ready, whole, workloads::WorkloadPlace};
use crate::{
    engine::{
        EngineConfig,
        ranks::{Load, Placement, place, refusal},
    },
    host::Size,
    train::memory::shown,
    workload::Missing,
};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench plan terabyte --ranks 8
  dlrm-bench plan terabyte --ranks 8 --memory 80GiB
  dlrm-bench plan mlperf-v2 --ranks 4 --link 1G --latency 20

docs/ranks.md says how tables are placed and what is sent.";

/// More ranks than this are a slip.
const MAX_RANKS: u64 = 1 << 16;
/// Columns that are listed in a line.
const LISTED: usize = 8;

/// Show which rank would have which tables, and what a step would send
///
/// Places the tables of a workload as a run on so many ranks does, and says
/// what each rank has, does and sends. Nothing is read or made.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct PlanArgs {
    /// The workload: a file, or the name of one that dlrm-bench workloads lists
    #[arg(value_parser = WorkloadPlace, hide_possible_values = true)]
    workload: PathBuf,
    /// Ranks
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize, 1, MAX_RANKS>)]
    ranks: usize,
    /// Memory of each rank for tables, as 80GiB: a column that no rank has room
    /// for is named
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Bytes a second that a rank can send, as 12G: shows the least time of a
    /// step's messages
    #[arg(long, value_name = "SIZE")]
    link: Option<Size>,
    /// Microseconds that a message takes at least
    #[arg(long, value_name = "N", default_value = "0", requires = "link", allow_negative_numbers = true, value_parser = whole::<u64, 0, 1_000_000>)]
    latency: u64,
    /// Replace one value, as for run
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The least time of a step's messages, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Messages {
    /// Pooled vectors and their gradients.
    exchanges: f64,
    /// Sums of dense gradients.
    sums: f64,
}

/// Bytes of dense gradients.
fn dense_bytes(config: &EngineConfig) -> u64 {
    use crate::model::ParamKind::{RowWeight, Table};
    let params = config.model.params();
    4 * params
        .iter()
        .filter(|p| !matches!(p.kind, Table | RowWeight))
        .map(|p| p.len() as u64)
        .sum::<u64>()
}

impl Messages {
    /// Latency and bandwidth, the alpha-beta model (Hockney 1994, doi:10.1016/S0167-8191(06)80021-9):
    /// two exchanges, in which the rank that sends most is what all wait for, and a sum that
    /// scatters and gathers.
    fn of(placement: &Placement, dense: u64, link: u64, latency: u64) -> Self {
        let ranks = placement.loads.len() as f64;
        if ranks < 2.0 {
            return Messages { exchanges: 0.0, sums: 0.0 };
        }
        let most = placement.loads.iter().map(|l| l.sent).max().unwrap_or(0) as f64;
        let (alpha, beta) = (latency as f64 * 1e-3, link as f64 * 1e-3);
        let sums = 2.0 * (ranks - 1.0) / ranks * dense as f64;
        Messages { exchanges: 2.0 * alpha + most / beta, sums: 2.0 * alpha + sums / beta }
    }
}

/// Runs the command.
pub(super) fn run(args: &PlanArgs) -> Result<Exit, Failure> {
    let resolved =
        ready::load(&args.workload, args.set.clone(), Missing::TakeOtherwise, args.json)?;
    let w = &resolved.workload;
    let schema = w.data_schema()?.ok_or_else(|| {
        Failure::Usage(format!(
            "{}: its tables are known once its files have been read; give a workload with planted data of their sizes (data.tables)",
            args.workload.display()
        ))
    })?;
    let config = w.engine_config(&schema)?;
    // What is placed is what a step of training moves.
    let config = EngineConfig { max_batch: w.train.batch_size, ..config };
    if let Some(what) = refusal(&config, args.ranks) {
        return Err(Failure::Usage(what.into()));
    }
    let placement = place(&config, args.ranks, args.memory.map(|m| m.0))
        .map_err(|e| Failure::Usage(e.to_string()))?;
    let dense = dense_bytes(&config);
    let messages = args
        .link
        .filter(|link| link.0 > 0)
        .map(|link| Messages::of(&placement, dense, link.0, args.latency));
    if args.json {
        let all = serde_json::json!({
            "workload": w.workload.name, "ranks": args.ranks, "batch_size": w.train.batch_size,
            "placement": placement, "imbalance": placement.imbalance(),
            "dense_gradient_bytes": dense, "messages_ms": messages,
        });
        outln!("{all}");
        return Ok(Exit::Done);
    }
    let names: Vec<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
    outln!(
        "{:>5} {:>13} {:>9} {:>12} {:>12}  columns",
        "rank",
        "rows",
        "tables",
        "work/sample",
        "sent/step"
    );
    for (rank, load) in placement.loads.iter().enumerate() {
        outln!("{}", line(rank, load, &names));
    }
    outln!(
        "batch {}; the busiest rank moves {:.2} times the mean",
        thousands(w.train.batch_size as u64),
        placement.imbalance()
    );
    outln!("dense gradients {} a step, summed over ranks", shown(dense));
    if let Some(Messages { exchanges, sums }) = messages {
        outln!(
            "messages take at least {exchanges:.3} ms (exchanges) and {sums:.3} ms (sums) a step"
        );
    }
    Ok(Exit::Done)
}

/// A rank's line; at most 80 columns.
fn line(rank: usize, load: &Load, names: &[&str]) -> String {
    let text = format!(
        "{rank:>5} {:>13} {:>9} {:>12} {:>12}  ",
        thousands(load.rows),
        shown(load.bytes),
        shown(load.work),
        shown(load.sent)
    );
    let mut listed = String::new();
    for (i, &column) in load.columns.iter().enumerate() {
        let name = crate::host::escape::visible(names[column]).to_string();
        let left = load.columns.len() - i;
        if i == LISTED || text.len() + listed.chars().count() + name.chars().count() + 6 > 80 {
            listed += &format!("+{left}");
            break;
        }
        listed += &format!("{name} ");
    }
    text + listed.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal() {
        let load = Load {
            columns: (0..26).collect(),
            rows: 123_456_789_012,
            bytes: 987_654_321_000,
            work: 123_456,
            sent: 999_999_999_999,
        };
        let long = ["a_name_of_a_column"; 26];
        for (rank, names) in [(0, ["C1"; 26]), (1023, long)] {
            let line = line(rank, &load, &names);
            assert!(line.chars().count() <= 80, "{line}");
            assert!(line.contains('+'), "{line}");
        }
    }

    #[test]
    fn messages_take_what_a_link_takes() {
        let loads = vec![Load { sent: 2_000_000, ..Load::default() }; 4];
        let placement = Placement { owners: vec![], loads };
        // 2 MB at 1 GB/s, and twice 10 us; 2 * 3 / 4 of 4 MB.
        let got = Messages::of(&placement, 4_000_000, 1_000_000_000, 10);
        assert!((got.exchanges - 2.02).abs() < 1e-9 && (got.sums - 6.02).abs() < 1e-9, "{got:?}");
        let one = Placement { loads: vec![Load::default()], ..placement };
        assert_eq!(Messages::of(&one, 9, 1, 9), Messages { exchanges: 0.0, sums: 0.0 });
    }
}
