//! `dlrm-bench plan --simulate`: how long a step would take on numbers of ranks.

use super::{PlanArgs, like::known, link, micros, placed};
use crate::{
    batch::Schema,
    cli::{Exit, Failure, progress::thousands, seed, whole},
    data::source::mean_ids,
    engine::{
        EngineConfig,
        ranks::{
            machines::{KEPT_BACK, MACHINES, Machine, machine},
            scaling::{Cluster, Known, Link, Noise, Prediction, Way, Work, efficiency},
        },
    },
    host::Size,
    train::memory::shown,
    workload::Workload,
};
use clap::{Args, builder::PossibleValuesParser};
use std::path::PathBuf;

/// A link over which nothing is sent.
const UNUSED: Link = Link { latency: 0.0, bandwidth: 1.0 };
/// Ranks unless told: 8 to 1,024 by doubling.
const RANKS: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];

/// What ranks can do, and how they are used.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --simulate")]
pub struct SimulateArgs {
    /// Take rates and links of a machine whose figures are published
    #[arg(long, value_name = "NAME", requires = "simulate", value_parser = PossibleValuesParser::new(MACHINES.map(|m| m.name)))]
    machine: Option<String>,
    /// Take rates that a run of this workload on one rank reached: its folder, or
    /// its run.json
    #[arg(long, value_name = "RUN", requires = "simulate", conflicts_with = "machine")]
    like: Option<PathBuf>,
    /// Floating-point operations a second that a rank reaches, as 50e9
    #[arg(long, value_name = "N", requires = "simulate", allow_negative_numbers = true, value_parser = positive)]
    flops: Option<f64>,
    /// Bytes of memory a second that a rank moves, as 8G
    #[arg(long, value_name = "SIZE", requires = "simulate")]
    row_bandwidth: Option<Size>,
    /// Microseconds of a step that do not depend on ranks or batch
    #[arg(long, value_name = "N", requires = "simulate", allow_negative_numbers = true, value_parser = micros)]
    fixed: Option<f64>,
    /// Ranks of a host (1, or those of the machine)
    #[arg(long, value_name = "N", requires = "simulate", allow_negative_numbers = true, value_parser = whole::<usize, 1, 65_536>)]
    ranks_per_host: Option<usize>,
    /// Bytes a second that a rank can send to ranks of its host
    #[arg(long, value_name = "SIZE", requires = "simulate")]
    link_inside: Option<Size>,
    /// Microseconds that a message takes at least, within a host
    #[arg(long, value_name = "N", default_value = "0", requires = "link_inside", allow_negative_numbers = true, value_parser = micros)]
    latency_inside: f64,
    /// Bytes of a number in messages; this program sends 4
    #[arg(long, value_name = "N", default_value = "4", requires = "simulate", value_parser = PossibleValuesParser::new(["2", "4"]))]
    message_bytes: String,
    /// As if tables were cut evenly and sums made within hosts first, as programs
    /// over NCCL do; this program does neither
    #[arg(long, requires = "simulate")]
    split: bool,
    /// Weak scaling: the batch grows with the ranks, from that of the workload
    #[arg(long, requires = "simulate")]
    weak: bool,
    /// Mean delay of a rank in a step, as a share of what it does itself; a step
    /// waits for the slowest
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate", allow_negative_numbers = true, value_parser = share)]
    jitter: f64,
    /// Steps that are simulated, where there is jitter
    #[arg(long, value_name = "N", default_value = "200", requires = "jitter", allow_negative_numbers = true, value_parser = whole::<u32, 1, 1_000_000>)]
    simulated_steps: u32,
    /// Where delays are drawn from
    #[arg(long, value_name = "N", default_value = "1", requires = "jitter", allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
}

/// Takes a number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite());
    number.ok_or_else(|| "must be a number above 0, as 50e9".into())
}

/// Takes a share; delays may be several times the work.
fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x| (0.0..=100.0).contains(x));
    number.ok_or_else(|| "must be a number from 0 to 100, as 0.05".into())
}

impl SimulateArgs {
    fn machine(&self) -> Option<&'static Machine> {
        self.machine.as_deref().and_then(machine)
    }

    /// What is simulated: what is known, replaced by what is given; for at most `most` ranks.
    fn cluster(
        &self,
        args: &PlanArgs,
        most: usize,
        known: Option<Known>,
    ) -> Result<Cluster, Failure> {
        let missing = |option: &str, what: &str| {
            Failure::Usage(format!("--simulate needs {option}, {what}, or --machine or --like"))
        };
        let per_host = self.ranks_per_host.or(known.and_then(|k| k.per_host)).unwrap_or(1);
        let between = link(args.link, args.latency).or(known.and_then(|k| k.between));
        let inside = link(self.link_inside, self.latency_inside);
        let inside = inside.or(known.and_then(|k| k.inside));
        if between.is_none() && most > per_host {
            return Err(missing("--link", "bytes a second that a rank sends to other hosts"));
        }
        if inside.is_none() && most.min(per_host) > 1 {
            return Err(missing("--link-inside", "bytes a second that a rank sends in its host"));
        }
        let memory = self.row_bandwidth.filter(|b| b.0 > 0).map(|b| b.0 as f64);
        Ok(Cluster {
            flops: self
                .flops
                .or(known.map(|k| k.flops))
                .ok_or_else(|| missing("--flops", "operations a second of a rank"))?,
            memory: memory
                .or(known.map(|k| k.memory))
                .ok_or_else(|| missing("--row-bandwidth", "bytes of memory a second of a rank"))?,
            fixed: self.fixed.map(|us| us * 1e-6).or(known.map(|k| k.fixed)).unwrap_or(0.0),
            per_host,
            inside: inside.unwrap_or(UNUSED),
            between: between.unwrap_or(UNUSED),
            element: if self.message_bytes == "2" { 2 } else { 4 },
        })
    }

    fn way(&self) -> Way {
        if self.split { Way::Split } else { Way::Placed }
    }
}

/// Runs the command.
pub(super) fn run(
    args: &PlanArgs,
    w: &Workload,
    schema: &Schema,
    config: &EngineConfig,
) -> Result<Exit, Failure> {
    let sim = &args.simulation;
    let ranks = if args.ranks.is_empty() { &RANKS } else { &args.ranks[..] };
    if !ranks.is_sorted_by(|a, b| a < b) {
        return Err(Failure::Usage("--ranks: give them from the least to the most".into()));
    }
    let (first, most) = (ranks[0], ranks[ranks.len() - 1]);
    let work =
        Work::of(config, &mean_ids(&w.data, schema)).map_err(|e| Failure::Usage(e.to_owned()))?;
    let known = match &sim.like {
        Some(run) => {
            let moved = placed(config, 1, args)?.loads[0].work as f64;
            Some(known(run, &w.workload.name, &work, moved)?)
        }
        None => sim.machine().map(Machine::known),
    };
    let cluster = sim.cluster(args, most, known)?;
    let noise = Noise { jitter: sim.jitter, seed: sim.seed, steps: sim.simulated_steps };
    let batch = config.max_batch;
    let one = |&ranks: &usize| {
        let batch = if sim.weak { batch.saturating_mul(ranks) / first } else { batch };
        let config = EngineConfig { max_batch: batch, ..config.clone() };
        let placement = placed(&config, ranks, args)?;
        Ok(cluster.step(&work, &placement, batch, (sim.way(), noise)))
    };
    let all: Vec<Prediction> = ranks.iter().map(one).collect::<Result<_, Failure>>()?;
    if args.json {
        let rows = all.iter().map(|p| {
            let mut row = serde_json::to_value(p).unwrap_or_default();
            row["efficiency"] = efficiency(&all[0], p).into();
            row
        });
        outln!(
            "{}",
            serde_json::json!({
                "workload": w.workload.name, "weak": sim.weak, "way": sim.way(), "cluster": cluster,
                "machine": sim.machine(), "jitter": sim.jitter, "seed": sim.seed,
                "predictions": rows.collect::<Vec<_>>(), "assumed": assumed(sim),
            })
        );
        return Ok(Exit::Done);
    }
    outln!("{HEAD}");
    for p in &all {
        outln!("{}", line(p, efficiency(&all[0], p)));
    }
    tell(sim, &cluster, &all)
}

/// Says what was put in and what is left out.
fn tell(sim: &SimulateArgs, cluster: &Cluster, all: &[Prediction]) -> Result<Exit, Failure> {
    let batch = thousands(all[0].batch as u64);
    outln!();
    if sim.weak {
        outln!("batch {batch} on {} ranks, growing with them (weak scaling)", all[0].ranks);
    } else {
        outln!("batch {batch} on any number of ranks (strong scaling)");
    }
    outln!(
        "a rank: {:.3e} operations/s, {} of memory; {} on a host",
        cluster.flops,
        rate(cluster.memory),
        thousands(cluster.per_host as u64)
    );
    for (name, link) in [("in a host", cluster.inside), ("between hosts", cluster.between)] {
        if link != UNUSED {
            outln!(
                "links {name}: {}, {:.0} us a message",
                rate(link.bandwidth),
                link.latency * 1e6
            );
        }
    }
    for line in assumed(sim) {
        outln!("{line}");
    }
    Ok(Exit::Done)
}

/// What the model takes for granted, in lines.
fn assumed(sim: &SimulateArgs) -> Vec<String> {
    let mut lines = vec![
        "assumed: parts follow each other; bags are full, and no row is in a cache".to_owned(),
        "left out: reading data, grouping ids, loss, activations (also in the memory)".to_owned(),
    ];
    lines.push(match sim.way() {
        Way::Placed => "tables are whole, dense gradients sent to all ranks: as this program does".to_owned(),
        Way::Split => "tables are cut evenly, dense gradients summed within hosts first: not as\nthis program does".to_owned(),
    });
    if sim.jitter > 0.0 {
        lines.push(format!(
            "jitter: exponential delays of {} of a rank's own work, {} steps, seed {}",
            sim.jitter, sim.simulated_steps, sim.seed
        ));
    }
    let Some(machine) = sim.machine() else { return lines };
    lines.push(format!(
        "{}: {:.0}% of its peak rates, as {} of them reached with {} at batch\n{} ({} ms); latencies are not published: 0",
        machine.name,
        machine.reached * 100.0,
        machine.calibrated.ranks,
        machine.calibrated.workload,
        thousands(machine.calibrated.batch as u64),
        machine.calibrated.milliseconds,
    ));
    lines.push("tried with --split --message-bytes 2 on steps by which nothing was set:".into());
    for (_, step, error) in KEPT_BACK.iter().filter(|(name, ..)| *name == machine.name) {
        lines.push(format!(
            "  {} at batch {}, {} ranks: {} ms, the model {:+.0}%",
            step.workload,
            thousands(step.batch as u64),
            step.ranks,
            step.milliseconds,
            error * 100.0
        ));
    }
    lines
}

const HEAD: &str =
    "ranks step ms  fixed  dense   rows  exch.   sums jitter samples/s eff.    memory";

/// A row of the table; at most 80 columns.
fn line(p: &Prediction, efficiency: f64) -> String {
    let mut text = format!("{:>5} {:>7}", p.ranks, ms(p.seconds));
    let parts = [p.parts.fixed, p.parts.dense, p.parts.rows, p.parts.exchanges, p.parts.sums];
    for part in parts.into_iter().chain([p.jitter]) {
        text += &format!(" {:>6}", ms(part));
    }
    text + &format!(" {:>9} {efficiency:>4.2} {:>9}", short(p.samples_per_second), memory(p.memory))
}

/// Bytes in nine columns.
fn memory(bytes: u64) -> String {
    if bytes < 999_990_000_000 { shown(bytes) } else { format!("{:.2} TB", bytes as f64 / 1e12) }
}

/// Seconds in milliseconds, to four digits or so.
fn ms(seconds: f64) -> String {
    let x = seconds * 1e3;
    match x {
        ..9.9995 => format!("{x:.3}"),
        ..99.995 => format!("{x:.2}"),
        ..999.95 => format!("{x:.1}"),
        ..999_999.5 => format!("{x:.0}"),
        _ => format!("{x:.0e}"),
    }
}

/// A number a second, in thousands, millions or billions.
fn short(x: f64) -> String {
    match x {
        ..9_999.5 => format!("{x:.0}"),
        ..999_950.0 => format!("{:.1}k", x / 1e3),
        ..999_950_000.0 => format!("{:.1}M", x / 1e6),
        ..9.9e14 => format!("{:.1}G", x / 1e9),
        _ => format!("{x:.0e}"),
    }
}

/// Bytes a second.
fn rate(x: f64) -> String {
    format!("{}B/s", short(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ranks::scaling::Parts;

    #[test]
    fn rows_fit_a_terminal() {
        for (seconds, memory) in
            [(1e-9, 0), (0.0123, 96 << 30), (12.3, 999_989_999_999), (1e9, 90 << 40)]
        {
            let parts = Parts {
                fixed: seconds,
                dense: seconds,
                rows: seconds,
                exchanges: seconds,
                sums: seconds,
            };
            let p = Prediction {
                ranks: 65_536,
                batch: 1,
                parts,
                jitter: seconds,
                seconds,
                samples_per_second: 1e9 / seconds,
                memory,
            };
            let line = line(&p, 1.0);
            assert!(line.len() <= 80 && HEAD.len() <= 80, "{line}");
        }
        assert_eq!(HEAD.len(), line(&prediction(), 0.5).len());
    }

    fn prediction() -> Prediction {
        Prediction {
            ranks: 8,
            batch: 64,
            parts: Parts::default(),
            jitter: 0.0,
            seconds: 0.001,
            samples_per_second: 64_000.0,
            memory: 0,
        }
    }

    #[test]
    fn numbers_are_short() {
        for (x, expected) in [
            (12.0, "12"),
            (12_345.0, "12.3k"),
            (62_426_824.0, "62.4M"),
            (2.5e12, "2500.0G"),
            (1e18, "1e18"),
        ] {
            assert_eq!(short(x), expected);
        }
        for (x, expected) in [(0.003_62, "3.620"), (0.1997, "199.7"), (1.5, "1500")] {
            assert_eq!(ms(x), expected);
        }
    }
}
