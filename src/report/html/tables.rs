//! Tables whose rows are not all in memory, or come and go: what became of them in a run.

use super::parts::thousands;
use crate::{
    embedding::Seen,
    results::{record::RunRecord, tree::Run},
    train::memory::shown,
};

/// The tables of one run.
pub(super) struct TablesPart {
    /// Classes of the run's row.
    pub series: String,
    /// The run.
    pub name: String,
    /// What there is to say of a table.
    pub heads: &'static [&'static str],
    /// A column of the data, and that of it.
    pub lines: Vec<(String, Vec<String>)>,
}

const CACHED: &[&str] =
    &["rows", "in memory", "found", "expected", "from the file", "read", "written"];
const GROWN: &[&str] = &["rows", "made", "dropped", "waiting", "read without a row"];

impl TablesPart {
    /// `None` if all rows of the run were in memory, and there from its start.
    pub fn of(series: String, run: &Run, record: &RunRecord) -> Option<Self> {
        let tables = &record.outcome.as_ref()?.tables;
        let number = |n: u64| thousands(n as f64);
        let percent = |rate: Option<f64>| rate.map_or("-".into(), |r| format!("{:.2}%", 100.0 * r));
        let line = |t: &crate::embedding::TableUse| match &t.seen {
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
        let heads = match tables.first()?.seen {
            Seen::Grown(_) => GROWN,
            Seen::Cached(_) => CACHED,
        };
        let lines = tables.iter().map(|t| (t.column.clone(), line(t))).collect();
        Some(TablesPart { series, name: run.name.clone(), heads, lines })
    }
}
