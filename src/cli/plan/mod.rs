//! `dlrm-bench plan`: which rank would have which tables, what they would send each other, and how
//! long a step would take on many.

mod like;
mod simulate;

use super::{Exit, Failure, examples, progress::thousands, ready, whole, workloads::WorkloadPlace};
use crate::{
    engine::{
        EngineConfig,
        ranks::{
            Load, Placement, place, refusal,
            scaling::{Cluster, Link, Way},
        },
    },
    host::{Size, escape::visible},
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
  dlrm-bench plan mlperf-v2 --simulate --machine dgx-h100 --jitter 0.02
  dlrm-bench plan quickstart --simulate --ranks 1,2,4 --flops 50e9 \\
      --row-bandwidth 8G --link 1G --latency 20 --weak

docs/ranks.md says how tables are placed, what is sent, and what the model of a
step leaves out.";

/// More ranks than this are a slip.
const MAX_RANKS: u64 = 1 << 16;
/// Columns that are listed in a line.
const LISTED: usize = 8;

/// Show which rank would have which tables, and what a step would send
///
/// Places the tables of a workload as a run on so many ranks does, and says
/// what each rank has, does and sends. With --simulate it says instead how long
/// a step would take on numbers of ranks. Nothing is read or made.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct PlanArgs {
    /// The workload: a file, or the name of one that dlrm-bench workloads lists
    #[arg(value_parser = WorkloadPlace, hide_possible_values = true)]
    workload: PathBuf,
    /// Ranks; with --simulate numbers of them, from the least (8 to 1024 by
    /// doubling)
    #[arg(long, value_name = "N", value_delimiter = ',', required_unless_present = "simulate", allow_negative_numbers = true, value_parser = whole::<usize, 1, MAX_RANKS>)]
    ranks: Vec<usize>,
    /// Memory of each rank for tables, as 80GiB: a column that no rank has room
    /// for is named
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Bytes a second that a rank can send, as 12G: shows the least time of a
    /// step's messages. With --simulate: to ranks of other hosts
    #[arg(long, value_name = "SIZE")]
    link: Option<Size>,
    /// Microseconds that a message takes at least, over such a link
    #[arg(long, value_name = "N", default_value = "0", requires = "link", allow_negative_numbers = true, value_parser = micros)]
    latency: f64,
    /// Replace one value, as for run
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Predict the time of a step on numbers of ranks
    #[arg(long)]
    simulate: bool,
    #[command(flatten)]
    simulation: simulate::SimulateArgs,
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
    /// Those of ranks that are all on hosts of their own.
    fn of(placement: &Placement, dense: u64, link: Link) -> Self {
        let (flops, memory, fixed) = (1.0, 1.0, 0.0);
        let cluster =
            Cluster { flops, memory, fixed, per_host: 1, inside: link, between: link, element: 4 };
        let (exchanges, sums) = cluster.messages(placement, dense, Way::Placed);
        Messages { exchanges: exchanges * 1e3, sums: sums * 1e3 }
    }
}

/// Takes microseconds.
fn micros(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x| (0.0..=1e9).contains(x));
    number.ok_or_else(|| "must be a number of microseconds from 0, as 20 or 1.5".into())
}

/// A link of so many bytes a second and microseconds; `None` if it carries nothing.
fn link(bandwidth: Option<Size>, latency: f64) -> Option<Link> {
    let bandwidth = bandwidth.filter(|bandwidth| bandwidth.0 > 0)?.0 as f64;
    Some(Link { latency: latency * 1e-6, bandwidth })
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
    if w.comm.server().is_some() {
        return Err(Failure::Usage(
            "comm.mode is \"parameter_server\", and plan knows synchronous training only; add --set comm.mode=synchronous".into(),
        ));
    }
    let config = w.engine_config(&schema)?;
    // What is placed is what a step of training moves.
    let config = EngineConfig { max_batch: w.train.batch_size, ..config };
    if args.simulate {
        return simulate::run(args, w, &schema, &config);
    }
    let &[ranks] = &args.ranks[..] else {
        return Err(Failure::Usage("--ranks takes several numbers with --simulate only".into()));
    };
    let placement = placed(&config, ranks, args)?;
    let dense = dense_bytes(&config);
    let messages = link(args.link, args.latency).map(|link| Messages::of(&placement, dense, link));
    if args.json {
        let all = serde_json::json!({
            "workload": w.workload.name, "ranks": ranks, "batch_size": w.train.batch_size,
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
    if !placement.everywhere.is_empty() {
        let everywhere = placement.everywhere.iter();
        let listed: Vec<String> = everywhere.map(|&c| visible(names[c]).to_string()).collect();
        outln!("on all ranks: {}", listed.join(", "));
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

/// The tables of a model on so many ranks.
fn placed(config: &EngineConfig, ranks: usize, args: &PlanArgs) -> Result<Placement, Failure> {
    if let Some(what) = refusal(config, ranks) {
        return Err(Failure::Usage(what.into()));
    }
    place(config, ranks, args.memory.map(|m| m.0)).map_err(|e| Failure::Usage(e.to_string()))
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
        let mut name = visible(names[column]).to_string();
        if let Some((_, shares)) = load.cut.iter().find(|(cut, _)| *cut == column) {
            name += &format!("/{shares}");
        }
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
            cut: vec![(0, 128), (3, 1024)],
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
        let placement = Placement { owners: vec![], everywhere: vec![], loads };
        let link = |bandwidth, us| link(Some(Size(bandwidth)), f64::from(us)).unwrap();
        // 2 MB at 1 GB/s, and twice 10 us; 2 * 3 / 4 of 4 MB, twice 10 us and a small message.
        let got = Messages::of(&placement, 4_000_000, link(1_000_000_000, 10));
        assert!((got.exchanges - 2.02).abs() < 1e-9 && (got.sums - 6.03).abs() < 1e-9, "{got:?}");
        let one = Placement { loads: vec![Load::default()], ..placement };
        assert_eq!(Messages::of(&one, 9, link(1, 9)), Messages { exchanges: 0.0, sums: 0.0 });
    }
}
