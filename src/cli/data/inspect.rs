//! `dlrm-bench data inspect`.

use super::{
    super::{Exit, Failure, check::Format as Shape, examples, progress::thousands, run::stop_flag},
    ColumnArgs, TextArgs, empty, formats, input, open_text, tables, tell,
};
use crate::{
    data::{
        format::{Format, Reader, chunk, files},
        inspect::{ColumnFacts, Facts, Histogram, Inspector, Kind},
        rows::{Layout, Rows},
        texts::{Look, Looked},
    },
    report::histogram,
    results,
    train::memory::shown,
};
use clap::Args;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data inspect train.bin
  dlrm-bench data inspect train.parquet --column I1 --plot I1.png
  dlrm-bench data inspect train.parquet --limit 100000 --format json
  dlrm-bench data inspect train/ val/ test/ --tables";

/// Say what a data file holds
///
/// Reads the file once: rows, share of positive labels, and for each column
/// what is missing, how many values differ (counted up to 131,072, estimated
/// with a standard error of 0.8% beyond), their range, and the first rows.
/// Columns of text are looked at as they are.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub(super) struct InspectArgs {
    /// The file to read; several with --tables
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Its format [default: by its ending]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    from: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Look at the first N rows only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// First rows to show, up to 5
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=5))]
    head: u64,
    /// Show how the values of this column are distributed (reads the file
    /// a second time)
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Draw that distribution (PNG)
    #[arg(long, value_name = "FILE", requires = "column")]
    plot: Option<PathBuf>,
    /// Print nothing but the rows that each table needs, one more than the
    /// largest id of all files: the list that data.tables takes (TOML and JSON)
    #[arg(long, conflicts_with_all = ["limit", "head", "column", "format"])]
    tables: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

/// All that is found.
#[derive(Serialize)]
struct Report {
    path: PathBuf,
    format: &'static str,
    bytes: u64,
    /// Whether `facts` are about all rows.
    complete: bool,
    #[serde(flatten)]
    facts: Facts,
    histogram: Option<Histogram>,
    /// What was left out of the file, and the like.
    notes: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    if args.tables {
        let stop = stop_flag()?;
        let rows = tables::rows(&args.paths, args.from.as_deref(), &args.columns, &stop)?;
        let Some(rows) = rows else { return Ok(Exit::Interrupted) };
        outln!("[{}]", rows.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
        return Ok(Exit::Done);
    }
    let [path] = &args.paths[..] else {
        return Err(Failure::Usage(format!(
            "{} files are named; looks at one at a time, but for --tables",
            args.paths.len()
        )));
    };
    one(path, args)
}

/// Looks at one file.
fn one(path: &Path, args: &InspectArgs) -> Result<Exit, Failure> {
    let from = input(path, args.from.as_deref())?;
    if let Some(plot) =
        args.plot.as_ref().filter(|p| p.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")))
    {
        return Err(Failure::Usage(format!(
            "--plot {}: the name must end in .png",
            plot.display()
        )));
    }
    let stop = stop_flag()?;
    let looked = Arc::new(Looked::default());
    let mut text = Vec::new();
    let mut head: Option<Rows> = None;
    let mut layout: Option<Layout> = None;
    let mut inspector: Option<Inspector> = None;
    let mut notes = Vec::new();
    let complete = each(
        path,
        args,
        (from, &looked),
        &stop,
        &mut |reader| {
            notes = reader.told().to_vec();
            text = reader.texts();
        },
        &mut |l, rows| {
            inspector.get_or_insert_with(|| Inspector::new(l)).add(rows);
            layout.get_or_insert_with(|| l.clone());
            if head.is_none() && !rows.is_empty() {
                head = Some(rows.clone());
            }
        },
    )?;
    let (Some(complete), Some(inspector), Some(layout)) = (complete, inspector, layout) else {
        return Ok(Exit::Interrupted);
    };
    let texts: Vec<(usize, Look)> = text.into_iter().map(|k| (k, looked.column(k))).collect();
    let facts = inspector.facts_of_text(&texts);
    if facts.rows == 0 {
        return Err(empty(path));
    }
    let mut histogram = None;
    if let Some(name) = &args.column {
        let mut counted =
            Histogram::new(&layout, &facts, name).ok_or_else(|| nothing(path, &facts, name))?;
        let taken = each(path, args, (from, &looked), &stop, &mut |_| {}, &mut |_, rows| {
            counted.add(rows)
        })?;
        if taken.is_none() {
            return Ok(Exit::Interrupted);
        }
        histogram = Some(counted);
    }
    if let (Some(plot), Some(h)) = (&args.plot, &histogram) {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let of = format!("{name}, {} values", thousands(h.counts.iter().sum()));
        results::replace(plot, |file| {
            histogram::draw(file, [&h.column, &of], &h.bounds, &h.counts)
        })?;
    }
    let bytes = files(path, from, &layout)
        .iter()
        .filter_map(|f| std::fs::metadata(f).ok())
        .map(|m| m.len())
        .sum();
    tell(path, &notes);
    let (path, format) = (path.to_owned(), from.word());
    let report = Report { path, format, bytes, complete, facts, histogram, notes };
    let text = match args.format {
        Shape::Text => report.text(&layout, &head.unwrap_or_default(), &texts, args.head as usize),
        Shape::Json => {
            serde_json::to_string_pretty(&report)
                .map_err(|e| Failure::Internal(format!("cannot print: {e}")))?
                + "\n"
        }
    };
    out!("{text}");
    Ok(Exit::Done)
}

/// Gives the reader of the file to `opened`, and its rows to `take`, at least once. Whether those were
/// all of them; `None` if `stop` was set.
fn each(
    path: &Path,
    args: &InspectArgs,
    (from, looked): (Format, &Arc<Looked>),
    stop: &AtomicBool,
    opened: &mut dyn FnMut(&dyn Reader),
    take: &mut dyn FnMut(&Layout, &Rows),
) -> Result<Option<bool>, Failure> {
    let columns = (&args.columns, &args.text);
    let Some(mut reader) = open_text(path, from, columns, looked.clone(), stop)? else {
        return Ok(None);
    };
    opened(&*reader);
    let layout = reader.layout().clone();
    let mut rows = Rows::new(&layout);
    take(&layout, &rows);
    let (chunk, mut left) = (chunk(&layout), args.limit.unwrap_or(u64::MAX));
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // One row more tells whether the limit has cut anything off.
        reader.read((chunk as u64).min(left.max(1)) as usize, &mut rows)?;
        if rows.is_empty() || left == 0 {
            return Ok(Some(rows.is_empty()));
        }
        left -= rows.len() as u64;
        take(&layout, &rows);
    }
}

fn nothing(path: &Path, facts: &Facts, name: &str) -> Failure {
    let path = path.display();
    if facts.columns.iter().any(|c| c.name == name && c.kind == Kind::Text) {
        return Failure::Input(format!(
            "{path}: column {name} holds text, which has no order to show; must be numbers or ids"
        ));
    }
    if facts.columns.iter().any(|c| c.name == name) {
        return Failure::Input(format!("{path}: column {name} has no finite values to show"));
    }
    let names: Vec<&str> = facts.columns.iter().take(50).map(|c| c.name.as_str()).collect();
    Failure::Usage(format!(
        "{path}: there is no column {name}; must be one of {}",
        names.join(", ")
    ))
}

/// Characters of a column's name that are shown.
const NAME: usize = 14;

impl Report {
    fn text(&self, layout: &Layout, head: &Rows, texts: &[(usize, Look)], rows: usize) -> String {
        let facts = &self.facts;
        let mut out = format!("{}: {}, {}\n", self.path.display(), self.format, shown(self.bytes));
        let first = if self.complete { "" } else { "first " };
        let share = facts.positives as f64 / facts.rows.max(1) as f64;
        out += &format!(
            "{first}{} rows, {:.2}% of labels are 1\n\n",
            thousands(facts.rows),
            100.0 * share
        );
        out += &format!(
            "{:<NAME$} {:>8} {:>12} {:>13} {:>13} {:>13}\n",
            "column", "missing", "different", "min", "max", "mean"
        );
        for c in &facts.columns {
            out += &line(c, facts.rows);
        }
        if facts.columns.iter().any(|c| c.kind == Kind::Categorical && c.most > 1) {
            out += "\nmean of a categorical column: ids of a row\n";
        }
        if rows.min(head.len()) > 0 {
            out += &self.head(layout, head, texts, rows.min(head.len()));
        }
        match &self.histogram {
            Some(h) => out + &format!("\n{}\n", h.column) + &histogram::text(&h.bounds, &h.counts),
            None => out,
        }
    }

    /// The first rows, a column each.
    fn head(&self, layout: &Layout, rows: &Rows, texts: &[(usize, Look)], n: usize) -> String {
        let mut out = format!("\n{:<NAME$}", "row");
        (1..=n).for_each(|i| out += &format!(" {i:>12}"));
        out += &format!("\n{}", cut(&layout.label));
        (0..n).for_each(|i| out += &format!(" {:>12}", rows.labels[i]));
        for (k, name) in layout.dense.iter().enumerate() {
            out += &format!("\n{}", cut(name));
            (0..n).for_each(|i| {
                out +=
                    &format!(" {:>12}", number(Some(rows.dense_row(i)[k]).filter(|x| !x.is_nan())))
            });
        }
        for (k, (column, bags)) in layout.ids.iter().zip(&rows.ids).enumerate() {
            out += &format!("\n{}", cut(&column.name));
            if let Some((_, look)) = texts.iter().find(|(text, _)| *text == k) {
                for text in look.first.iter().take(n) {
                    out += &format!(" {:>CELL$}", text.as_deref().map_or("-".into(), cell));
                }
                continue;
            }
            for i in 0..n {
                let cell = match bags.bag(i) {
                    [] => "-".to_owned(),
                    [id] => id.to_string(),
                    [first, rest @ ..] => format!("{first} +{}", rest.len()),
                };
                out += &format!(" {cell:>12}");
            }
        }
        out + "\n"
    }
}

fn line(c: &ColumnFacts, rows: u64) -> String {
    let missing = format!("{:.1}%", 100.0 * c.missing as f64 / rows.max(1) as f64);
    let about = if c.distinct_is_exact { "" } else { "~" };
    let different = format!("{about}{}", thousands(c.distinct));
    let mean = if c.kind == Kind::Categorical && c.most <= 1 { None } else { c.mean };
    format!(
        "{} {missing:>8} {different:>12} {:>13} {:>13} {:>13}\n",
        cut(&c.name),
        number(c.min),
        number(c.max),
        number(mean)
    )
}

/// A name, cut and padded to [`NAME`] characters.
fn cut(name: &str) -> String {
    format!("{:<NAME$}", cut_to(name, NAME))
}

/// A text, cut to `most` characters.
fn cut_to(text: &str, most: usize) -> String {
    let long = text.chars().count() > most;
    let shown = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let shown: String = shown.take(if long { most - 1 } else { most }).collect();
    if long { format!("{shown}~") } else { shown }
}

/// Characters of a value that are shown.
const CELL: usize = 12;

/// A text, cut to [`CELL`] characters.
fn cell(text: &str) -> String {
    cut_to(text, CELL)
}

/// A number in at most 12 characters.
fn number(x: Option<f64>) -> String {
    match x {
        None => "-".to_owned(),
        Some(x) if x.fract() == 0.0 && x.abs() < 1e11 => format!("{x:.0}"),
        Some(x) if (0.001..1e6).contains(&x.abs()) => format!("{x:.4}"),
        Some(x) => format!("{x:.4e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_fit_their_columns() {
        for x in [
            0.0,
            -0.5,
            1e10,
            -99_999_999_999.0,
            1e11,
            123_456.789,
            -123_456.789,
            1e-300,
            f64::MAX,
            f64::MIN,
            f64::INFINITY,
        ] {
            assert!(number(Some(x)).chars().count() <= 12, "{}", number(Some(x)));
        }
        assert_eq!(
            [number(None), number(Some(3.0)), number(Some(-2.5)), number(Some(1e-9))],
            ["-", "3", "-2.5000", "1.0000e-9"]
        );
        assert_eq!([cut("C1"), cut("a_rather_long_name")], ["C1            ", "a_rather_long~"]);
        let c = ColumnFacts {
            name: "a_rather_long_name".into(),
            kind: Kind::Categorical,
            missing: 10,
            distinct: 187_767_399,
            distinct_is_exact: false,
            min: Some(0.0),
            max: Some(4_294_967_295.0),
            mean: Some(26.5),
            most: 100,
        };
        assert!(line(&c, 10).trim_end().chars().count() <= 80, "{}", line(&c, 10));
    }
}
