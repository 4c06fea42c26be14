//! What became of a run's tables whose rows are not all in memory, or come and go; and of gradients
//! that came late.

use super::parts::thousands;
use crate::{
    embedding::{Seen, TableUse},
    engine::Served,
    results::{record::RunRecord, tree::Run},
    train::memory::shown,
};

/// A table of one run.
pub(super) struct TablesPart<'a> {
    /// Classes of the run's row.
    pub series: String,
    /// The run.
    pub name: &'a str,
    /// What is told, before and behind the run's name.
    pub title: (&'static str, &'static str),
    /// What a line is of.
    pub first: &'static str,
    /// What there is to say of it.
    pub heads: &'static [&'static str],
    /// That, and its name.
    pub lines: Vec<(String, Vec<String>)>,
}

const CACHED: &[&str] =
    &["rows", "in memory", "found", "expected", "from the file", "read", "written"];
const LATE: &[&str] = &["steps", "share"];
const GROWN: &[&str] = &["rows", "made", "dropped", "waiting", "read without a row"];

impl<'a> TablesPart<'a> {
    /// Tables that grew, and those that were cached, which may be the same; how late gradients were.
    /// None if all rows of the run were in memory, and there from its start, and no gradient was late.
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
        let of = |(tables, kind, heads): (Vec<&TableUse>, &'static str, _)| TablesPart {
            series: series.to_owned(),
            name: &run.name,
            title: ("Tables of", kind),
            first: "column",
            heads,
            lines: tables.into_iter().map(|t| (t.column.clone(), line(t))).collect(),
        };
        let both = [(grown, "that grow", GROWN), (cached, "that are cached", CACHED)];
        let late = record.outcome.iter().filter_map(|o| o.served.as_ref());
        let late = late.map(|served| Self::staleness(series, run, served));
        let all = both.map(of).into_iter().chain(late);
        all.filter(|part| !part.lines.is_empty()).collect()
    }

    /// Steps by how many updates lay between the parameters that their gradients were of and those
    /// that they were applied to.
    fn staleness(series: &str, run: &'a Run, served: &Served) -> Self {
        let all: u64 = served.staleness.iter().sum();
        let line = |(late, &n): (usize, &u64)| {
            let share = 100.0 * n as f64 / all.max(1) as f64;
            (late.to_string(), vec![thousands(n as f64), format!("{share:.1}%")])
        };
        TablesPart {
            series: series.to_owned(),
            name: &run.name,
            title: ("Staleness in", "by steps"),
            first: "updates",
            heads: LATE,
            lines: served.staleness.iter().enumerate().map(line).collect(),
        }
    }
}
