//! Tables whose rows are not all in memory, or come and go: what became of them in a run.

use super::parts::thousands;
use crate::{
    embedding::{Seen, TableUse},
    results::{record::RunRecord, tree::Run},
    train::memory::shown,
};

/// The tables of one run that are of one kind.
pub(super) struct TablesPart<'a> {
    /// Classes of the run's row.
    pub series: String,
    /// The run.
    pub name: &'a str,
    /// Which they are.
    pub kind: &'static str,
    /// What there is to say of a table.
    pub heads: &'static [&'static str],
    /// A column of the data, and that of it.
    pub lines: Vec<(String, Vec<String>)>,
}

const CACHED: &[&str] =
    &["rows", "in memory", "found", "expected", "from the file", "read", "written"];
const GROWN: &[&str] = &["rows", "made", "dropped", "waiting", "read without a row"];

impl<'a> TablesPart<'a> {
    /// Those that grew, and those that were cached; a table may be both. None if all rows of the run
    /// were in memory, and there from its start.
    pub fn of(series: &str, run: &'a Run, record: &RunRecord) -> Vec<Self> {
        let tables = record.outcome.iter().flat_map(|o| &o.tables);
        let number = |n: u64| thousands(n as f64);
        let percent = |rate: Option<f64>| rate.map_or("-".into(), |r| format!("{:.2}%", 100.0 * r));
        let line = |t: &TableUse| match &t.seen {
            Seen::Grown(c) => {
                [c.rows, c.admitted, c.evicted, c.waiting, c.filtered].map(number).to_vec()
            }
            Seen::Cached(c) => {
                let expected = record.expected_hits.iter().find(|e| e.column == t.column);
                let rate = expected.and_then(|e| Some(1.0 - e.misses? / e.ids?));
                vec![
                    expected.map_or("-".into(), |e| number(e.rows as u64)),
                    number(c.slots),
                    percent(c.hit_rate()),
                    percent(rate.filter(|r| r.is_finite())),
                    number(c.reads),
                    shown(c.bytes_read),
                    shown(c.bytes_written),
                ]
            }
        };
        let (grown, cached): (Vec<&TableUse>, _) = tables.partition(|t| t.grown().is_some());
        let of = |(tables, kind, heads): (Vec<&TableUse>, _, _)| TablesPart {
            series: series.to_owned(),
            name: &run.name,
            kind,
            heads,
            lines: tables.into_iter().map(|t| (t.column.clone(), line(t))).collect(),
        };
        let both = [(grown, "that grow", GROWN), (cached, "that are cached", CACHED)];
        both.map(of).into_iter().filter(|part| !part.lines.is_empty()).collect()
    }
}
