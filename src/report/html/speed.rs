//! How fast rows were, as bars, and what more threads brought.

use super::series;
use crate::{
    report::table::{estimate, rate},
    results::table::{Estimate, Field, Group, Measure, Row},
};
use std::collections::BTreeMap;

/// A bar a row, all in one scale.
pub(super) struct Speeds {
    /// `end-to-end throughput`
    pub of: &'static str,
    pub bars: Vec<SpeedBar>,
    /// Whether any has an interval.
    pub intervals: bool,
}

/// One bar; places and widths are percent of the track.
pub(super) struct SpeedBar {
    pub series: String,
    pub label: String,
    pub value: String,
    pub width: f64,
    /// Left end and width of the interval.
    pub interval: Option<(f64, f64)>,
}

impl Speeds {
    /// Of the throughput that ratios are of, or of the end-to-end one; `None` for less than two
    /// rows that have it.
    pub fn of(group: &Group) -> Option<Self> {
        let measure = match group.ratio_of {
            Measure::SecondsToTarget => Measure::EndToEnd,
            measure => measure,
        };
        let rows: Vec<(usize, &Row, &Estimate)> = group
            .rows
            .iter()
            .enumerate()
            .filter_map(|(i, row)| Some((i, row, row.estimate(measure)?)))
            .collect();
        let end = |e: &Estimate| e.high.filter(|_| e.telling().is_some()).unwrap_or(e.mean);
        let most = rows.iter().map(|(.., e)| end(e)).fold(0.0, f64::max);
        if rows.len() < 2 || !(most > 0.0 && most.is_finite()) {
            return None;
        }
        let percent = |x: f64| (100.0 * x / most).clamp(0.0, 100.0);
        let bar = |(i, row, e): (usize, &Row, &Estimate)| SpeedBar {
            series: series(i),
            label: row.label.clone(),
            value: estimate(e),
            width: percent(e.mean),
            interval: e.telling().and(e.low.zip(e.high)).map(|(low, high)| {
                let left = percent(low);
                (left, percent(high) - left)
            }),
        };
        let bars: Vec<SpeedBar> = rows.into_iter().map(bar).collect();
        let intervals = bars.iter().any(|b| b.interval.is_some());
        Some(Speeds { of: measure.name(), bars, intervals })
    }
}

/// Rows that differ in their threads alone.
pub(super) struct Scaling {
    /// What they share.
    pub label: String,
    /// From the fewest threads on.
    pub steps: Vec<ScalingStep>,
}

/// So many threads; widths are percent of the longest.
pub(super) struct ScalingStep {
    pub threads: String,
    pub value: String,
    pub width: f64,
    /// Where twice the threads would have been twice as fast.
    pub linear: f64,
    /// `1.9 times, 95%`
    pub gain: String,
}

/// What differs.
const THREADS: &str = "engine.threads";

/// Of all rows of a group that have others beside them.
pub(super) fn scaling(group: &Group) -> Vec<Scaling> {
    let threads = |row: &Row| -> Option<u32> {
        Field::Key(THREADS.to_owned()).text(row)?.parse().ok().filter(|n| *n > 0)
    };
    // Whatever else a row has.
    let mut families: BTreeMap<String, Vec<(u32, f64, &Row)>> = BTreeMap::new();
    for row in &group.rows {
        let Some((n, speed)) = threads(row).zip(Measure::Training.of(row)) else { continue };
        let mut settings = row.settings.clone();
        settings.remove(THREADS);
        let rest = format!(
            "{:?} {} {:?} {:?} {:?} {:?} {settings:?}",
            row.system, row.workload, row.engine, row.program, row.precision, row.batch
        );
        families.entry(rest).or_default().push((n, speed, row));
    }
    families.into_values().filter_map(family).collect()
}

fn family(mut rows: Vec<(u32, f64, &Row)>) -> Option<Scaling> {
    rows.sort_by_key(|(n, ..)| *n);
    let [first, _, ..] = rows[..] else { return None };
    // Two rows of as many threads differ in something that is not known here.
    if rows.windows(2).any(|pair| pair[0].0 == pair[1].0) || first.1 <= 0.0 {
        return None;
    }
    let linear = |n: u32| first.1 * f64::from(n) / f64::from(first.0);
    let most = rows.iter().map(|(n, speed, _)| speed.max(linear(*n))).fold(0.0, f64::max);
    let step = |(n, speed, _): &(u32, f64, &Row)| ScalingStep {
        threads: if *n == 1 { "1 thread".into() } else { format!("{n} threads") },
        value: rate(*speed),
        width: 100.0 * speed / most,
        linear: 100.0 * linear(*n) / most,
        gain: format!("{:.2} times, {:.0}%", speed / first.1, 100.0 * speed / linear(*n)),
    };
    let row = first.2;
    let words = [Some(row.system.name.clone()), Some(row.workload.clone()), row.precision.clone()];
    let batch = row.batch.map(|b| format!("batch {b}"));
    let label = words.into_iter().chain([batch]).flatten().collect::<Vec<_>>().join(", ");
    Some(Scaling { label, steps: rows.iter().map(step).collect() })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::comparison, *};

    /// A group of one machine whose rows have so many threads and such a throughput.
    fn group(rows: &[(u32, f64)]) -> Group {
        let mut group = comparison().groups.remove(0);
        let row = group.rows.remove(0);
        let made = rows.iter().map(|(threads, speed)| {
            let mut row = row.clone();
            row.label = format!("on {threads}");
            row.each.iter_mut().for_each(|run| {
                run.settings.insert(THREADS.to_owned(), threads.to_string());
            });
            row.settings.insert(THREADS.to_owned(), threads.to_string());
            let of = |mean: f64| Estimate { mean, low: None, high: None, runs: 1 };
            (row.end_to_end, row.training) = (Some(of(*speed)), Some(of(*speed)));
            row
        });
        group.rows = made.collect();
        group
    }

    #[test]
    fn bars_are_in_one_scale_with_their_intervals() {
        let mut group = group(&[(1, 100.0), (2, 150.0)]);
        group.rows[0].end_to_end =
            Some(Estimate { mean: 100.0, low: Some(50.0), high: Some(200.0), runs: 3 });
        let speeds = Speeds::of(&group).unwrap();
        let of = |b: &SpeedBar| (b.series.clone(), b.width, b.interval);
        assert!(speeds.intervals);
        assert_eq!(
            speeds.bars.iter().map(of).collect::<Vec<_>>(),
            [("c0 d0".into(), 50.0, Some((25.0, 75.0))), ("c1 d0".into(), 75.0, None)]
        );
        group.rows.truncate(1);
        assert!(Speeds::of(&group).is_none());
    }

    #[test]
    fn scaling_is_of_rows_that_differ_in_threads_alone() {
        let mut group = group(&[(4, 300.0), (1, 100.0), (2, 190.0)]);
        let of = |scaling: &Scaling| -> Vec<_> {
            scaling.steps.iter().map(|s| (s.threads.clone(), s.gain.clone(), s.linear)).collect()
        };
        let found = scaling(&group);
        assert_eq!(
            found.iter().map(of).collect::<Vec<_>>(),
            [[
                ("1 thread".to_owned(), "1.00 times, 100%".to_owned(), 25.0),
                ("2 threads".to_owned(), "1.90 times, 95%".to_owned(), 50.0),
                ("4 threads".to_owned(), "3.00 times, 75%".to_owned(), 100.0)
            ]]
        );
        // Another batch size is another story.
        group.rows[1].batch = Some(7);
        assert_eq!(scaling(&group)[0].steps.len(), 2);
        group.rows.truncate(1);
        assert!(scaling(&group).is_empty());
    }

    #[test]
    fn series_have_looks_of_their_own() {
        let all: std::collections::BTreeSet<String> = (0..24).map(series).collect();
        assert_eq!((all.len(), series(9)), (24, "c1 d1".to_owned()));
    }
}
