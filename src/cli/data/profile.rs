//! `dlrm-bench data profile`.

use super::{
    super::{Exit, Failure, examples, preparing::Preparing, ready::ready},
    ColumnArgs, formats, input,
    profile_cache::{self, Expected},
    tell,
};
use crate::{
    data::{
        DataError,
        format::open,
        json,
        locality::{Profile, profile_file, profile_source, zipf_exponent},
    },
    host::{Size, atomic_file::create_folders},
    results::write_file,
    workload::{self, shipped::Shipped},
};
use clap::Args;
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data profile train.bin
  dlrm-bench data profile quickstart
  dlrm-bench data profile my.toml --samples 10000000 --table C3
  dlrm-bench data profile my.toml --cache 8GiB
  dlrm-bench data profile my.toml --patterns patterns/
  dlrm-bench data profile --trace ids.txt --patterns patterns/";

/// Sizes of LRU caches, in rows, whose hit rates the table shows.
const CACHES: [u32; 3] = [1_000, 10_000, 100_000];

/// Say how often and how soon ids come again, table by table
///
/// The exponent is that of the Zipf law that fits the counts of ids
/// (data.exponents of planted data); the hit rates are those of LRU caches of
/// so many rows. --patterns writes stack distances as facebook's program does,
/// to be drawn from with data.distribution = "trace".
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub(super) struct ProfileArgs {
    /// The data file, or the workload (a .toml file, or a name that dlrm-bench
    /// workloads lists) with the training data, to look at
    #[arg(value_name = "PATH", required_unless_present = "trace", conflicts_with = "trace")]
    path: Option<PathBuf>,
    /// Format of a data file [default: by its ending]
    #[arg(long, value_name = "FORMAT", value_parser = formats(), requires = "path")]
    from: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Look at a list of ids instead: numbers separated by commas, blanks or
    /// line ends
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replace one value of the workload, as `run --set`
    #[arg(long, value_name = "KEY=VALUE", requires = "path")]
    set: Vec<String>,
    /// Look at the first N samples; of a workload over several epochs if one is
    /// shorter
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    /// One table only, with the shares of its stack distances
    #[arg(long, value_name = "NAME", requires = "path")]
    table: Option<String>,
    /// Say how many ids are expected to find their row in a cache of this size
    /// (embedding.cache), as 8GiB: over as many samples as are looked at, from an
    /// empty cache
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| text.parse::<Size>())]
    cache: Option<Size>,
    /// Numbers of 32 bits in a row of a data file's tables, with --cache; a
    /// workload has model.dim
    #[arg(long, value_name = "N", requires = "cache", value_parser = clap::value_parser!(u32).range(1..))]
    dim: Option<u32>,
    /// Write DIR/dist_emb_0.log and so on, one for each table
    #[arg(long, value_name = "DIR")]
    patterns: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a table.
#[derive(Serialize)]
struct Report {
    table: String,
    rows: Option<usize>,
    accesses: u64,
    distinct: usize,
    #[serde(serialize_with = "json::optional")]
    zipf_exponent: Option<f64>,
    /// Share of accesses that are the first to their id.
    first_accesses: f64,
    /// Hit rates of LRU caches, by their rows.
    lru_hit_rate: Vec<(u32, f64)>,
    /// How many ids were asked for how often.
    counts: Vec<(u64, u64)>,
    /// With --cache: what is expected of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Expected>,
    /// Shares of first accesses, then of stack distances from 1, from 2, from 4, ... up.
    stack_distances: Vec<f64>,
}

impl Report {
    fn new(table: String, rows: Option<usize>, profile: &Profile) -> Self {
        let stack_distances = profile.histogram();
        Report {
            table,
            rows,
            accesses: profile.accesses(),
            distinct: profile.distinct(),
            zipf_exponent: zipf_exponent(
                &profile.frequencies(),
                rows.unwrap_or(profile.distinct()),
            ),
            first_accesses: stack_distances.first().copied().unwrap_or(0.0),
            cache: None,
            lru_hit_rate: CACHES.iter().map(|&rows| (rows, profile.hit_rate(rows))).collect(),
            counts: profile.counts(),
            stack_distances,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &ProfileArgs) -> Result<Exit, Failure> {
    let is_workload = |path: &Path| {
        path.extension().is_some_and(|e| e == "toml") || Shipped::meant(path).is_some()
    };
    let workload = args.path.as_ref().filter(|path| args.from.is_none() && is_workload(path));
    if (workload.is_some() || args.trace.is_some()) && args.columns.any() {
        return Err(Failure::Usage(
            "--label, --dense, --categorical and --ignore choose columns of a data file, --max-ind-range is about its ids".into(),
        ));
    }
    // Before anything is read, which may take long.
    if let (Some(size), None, None) = (args.cache, workload, args.dim) {
        return Err(Failure::Usage(format!(
            "--cache {size}: give --dim N, the numbers in a row, or a workload"
        )));
    }
    let (Looked { samples, tables }, slots) = match (&args.trace, workload, &args.path) {
        (Some(path), ..) => (trace(path)?, None),
        (None, Some(path), _) => of_workload(path, args)?,
        (None, None, Some(path)) => (of_file(path, args)?, None),
        (None, None, None) => {
            return Err(Failure::Usage("give a data file, a workload file or --trace FILE".into()));
        }
    };
    if let Some(dir) = &args.patterns {
        write_patterns(dir, &tables)?;
    }
    let expected = cache(args, &tables, slots)?;
    let mut reports: Vec<Report> = tables
        .iter()
        .map(|(name, rows, profile)| Report::new(name.clone(), *rows, profile))
        .collect();
    if let Some((each, _)) = &expected {
        reports.iter_mut().zip(each).for_each(|(report, of)| report.cache = Some(*of));
    }
    if args.json {
        let mut json = serde_json::json!({ "samples": samples, "tables": reports });
        if let Some((_, all)) = &expected {
            json["cache"] = serde_json::json!(all);
        }
        let json = serde_json::to_string_pretty(&json);
        outln!("{}", json.map_err(|e| Failure::Internal(e.to_string()))?);
        return Ok(Exit::Done);
    }
    out!("{}", text(&reports));
    if let (Some((_, all)), Some(size)) = (&expected, args.cache)
        && let Some(rate) = all.hit_rate
    {
        outln!("{:.2}% of ids are expected to find their row in a cache of {size}", 100.0 * rate);
    }
    if args.table.is_some() || args.trace.is_some() {
        for report in &reports {
            out!("\n{}", histogram(&report.stack_distances));
        }
    }
    Ok(Exit::Done)
}

type Tables = Vec<(String, Option<usize>, Profile)>;

/// What was looked at.
struct Looked {
    samples: u64,
    tables: Tables,
}

/// What is expected of a cache, of each table and of all; `slots` are those of a workload.
fn cache(
    args: &ProfileArgs,
    tables: &Tables,
    slots: Option<Vec<usize>>,
) -> Result<Option<(Vec<Expected>, Expected)>, Failure> {
    let Some(size) = args.cache else { return Ok(None) };
    let slots = match (slots, args.dim) {
        (Some(slots), _) => slots,
        (None, Some(dim)) => {
            let tables: Vec<_> = tables.iter().map(|(name, _, p)| (&**name, p)).collect();
            profile_cache::of_rows(&tables, dim as usize, size)?
        }
        (None, None) => return Ok(None),
    };
    let profiles: Vec<&Profile> = tables.iter().map(|(_, _, profile)| profile).collect();
    Ok(Some(profile_cache::expected(&profiles, &slots)))
}

fn of_workload(path: &Path, args: &ProfileArgs) -> Result<(Looked, Option<Vec<usize>>), Failure> {
    if args.dim.is_some() {
        return Err(Failure::Usage("--dim: a workload has model.dim (--set model.dim=N)".into()));
    }
    let mut resolved = workload::load(path, &args.set)?;
    if resolved.workload.data.has_keys() {
        return Err(Failure::Usage(
            "ids of 64 bits (data.ids = \"keys\") are not profiled; take them modulo a number (data.max_ind_range)".into(),
        ));
    }
    ready(&mut resolved)?;
    // Ctrl-C ends the program; what was prepared by then stays.
    Preparing::prepare(false, &resolved.workload, &AtomicBool::new(false))?;
    let mut train = resolved.workload.open_data()?.train;
    let columns = train.schema().tables.clone();
    let of_cache = |size| profile_cache::of_workload(&resolved.workload, train.schema(), size);
    let slots = args.cache.map(of_cache).transpose()?;
    let wanted = wanted(args, &columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())?;
    let (samples, profiles) = profile_source(train.as_mut(), args.samples, &wanted)?;
    let slots = slots.map(|slots| wanted.iter().map(|&k| slots[k]).collect());
    let tables = wanted.into_iter().zip(profiles);
    let tables = tables.map(|(k, p)| (columns[k].name.clone(), Some(columns[k].rows), p)).collect();
    Ok((Looked { samples, tables }, slots))
}

fn of_file(path: &Path, args: &ProfileArgs) -> Result<Looked, Failure> {
    if !args.set.is_empty() {
        return Err(Failure::Usage(format!(
            "--set {}: replaces values of a workload file (.toml)",
            args.set[0]
        )));
    }
    let from = input(path, args.from.as_deref())?;
    let mut reader = open(path, from, &args.columns.columns())?;
    tell(path, reader.told());
    let names: Vec<String> = reader.layout().ids.iter().map(|c| c.name.clone()).collect();
    if names.is_empty() {
        return Err(Failure::Input(format!("{}: has no categorical columns", path.display())));
    }
    let wanted = wanted(args, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (samples, profiles) = profile_file(reader.as_mut(), args.samples, &wanted)?;
    if profiles.iter().all(|p| p.accesses() == 0) {
        let path = path.display();
        return Err(Failure::Input(format!(
            "{path}: no sample holds an id; must hold at least one"
        )));
    }
    let tables = wanted.into_iter().zip(profiles);
    let tables = tables.map(|(k, p)| (names[k].clone(), None, p)).collect();
    Ok(Looked { samples, tables })
}

/// Positions of the tables that are asked for.
fn wanted(args: &ProfileArgs, names: &[&str]) -> Result<Vec<usize>, Failure> {
    let Some(name) = &args.table else { return Ok((0..names.len()).collect()) };
    let at = names.iter().position(|n| n == name);
    Ok(vec![at.ok_or_else(|| {
        Failure::Usage(format!(
            "--table {name}: there is no such table; there are {}",
            names.join(", ")
        ))
    })?])
}

/// Ids of a text file.
fn trace(path: &Path) -> Result<Looked, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let mut profile = Profile::default();
    for (i, line) in text.lines().enumerate() {
        for word in line.split([',', ' ', '\t']).filter(|w| !w.is_empty()) {
            let id = word.parse().map_err(|_| DataError::Malformed {
                path: path.to_owned(),
                line: i as u64 + 1,
                what: format!("{word:?} is no id; a number from 0 to 4294967295 is right"),
            })?;
            profile.access(id);
        }
    }
    if profile.accesses() == 0 {
        return Err(Failure::Input(format!(
            "{}: holds no ids; numbers separated by commas, blanks or line ends are right",
            path.display()
        )));
    }
    Ok(Looked { samples: profile.accesses(), tables: vec![("trace".to_owned(), None, profile)] })
}

fn write_patterns(dir: &Path, tables: &Tables) -> Result<(), Failure> {
    create_folders(dir).map_err(|e| Failure::Output(format!("{}: {e}", dir.display())))?;
    for (k, (name, _, profile)) in tables.iter().enumerate() {
        let pattern = profile
            .pattern()
            .ok_or_else(|| Failure::Input(format!("table {name}: no sample holds an id")))?;
        let path = dir.join(format!("dist_emb_{k}.log"));
        write_file(&path, pattern.to_text().as_bytes())?;
    }
    Ok(())
}

/// One line a table, names to the left and numbers to the right.
fn text(reports: &[Report]) -> String {
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let mut lines =
        vec![["table", "rows", "ids seen", "exponent", "first"].map(str::to_owned).to_vec()];
    lines[0].extend(CACHES.map(|rows| format!("LRU {}k", rows / 1000)));
    if reports.iter().any(|r| r.cache.is_some()) {
        lines[0].extend(["slots", "hits"].map(str::to_owned));
    }
    for r in reports {
        let mut line = vec![
            r.table.clone(),
            r.rows.map_or("-".into(), |n| n.to_string()),
            r.distinct.to_string(),
            r.zipf_exponent.map_or("-".into(), |q| format!("{q:.2}")),
            percent(r.first_accesses),
        ];
        line.extend(r.lru_hit_rate.iter().map(|(_, share)| percent(*share)));
        if let Some(cache) = &r.cache {
            line.push(cache.slots.to_string());
            line.push(cache.hit_rate.map_or("-".into(), percent));
        }
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        text += &format!("{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// Bars of shares, first accesses on top.
fn histogram(shares: &[f64]) -> String {
    const WIDTH: f64 = 48.0;
    let largest = shares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut text = "stack distance\n".to_owned();
    for (i, share) in shares.iter().enumerate() {
        let label = match i {
            0 => "first".to_owned(),
            1 => "1".to_owned(),
            _ => format!("{} to {}", 1u64 << (i - 1), (1u64 << i) - 1),
        };
        let bar = "#".repeat((share / largest * WIDTH).round() as usize);
        text += &format!("{label:<22} {:>5.1}% {bar}", 100.0 * share);
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
