//! Parts of the page beside tables and curves.

use crate::results::{
    record::RunRecord,
    table::Row,
    tree::{Ending, Run, System},
};

/// Labels and values of what is known of a machine.
#[derive(PartialEq)]
pub(super) struct Facts {
    pub name: String,
    pub lines: Vec<(String, String)>,
}

impl Facts {
    /// The machine of a run, its ceilings, and the program that ran.
    pub fn of(record: &RunRecord) -> Self {
        let owned = |lines: Vec<(&'static str, String)>| {
            lines.into_iter().map(|(label, value)| (label.to_owned(), value))
        };
        let mut lines: Vec<_> = owned(record.machine.lines()).collect();
        lines.extend(record.ceilings.iter().flat_map(|c| c.lines()));
        lines.extend(owned(record.versions.lines()));
        Facts { name: record.system.clone(), lines }
    }

    /// That of a submission.
    pub fn published(system: &System) -> Self {
        let names = [system.round.as_deref(), system.org.as_deref(), Some(&*system.name)];
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
        Facts { name, lines: system.description.clone() }
    }
}

/// A run in the table of all runs.
pub(super) struct RunLine {
    pub series: String,
    pub row: String,
    pub name: String,
    pub day: String,
    pub seed: String,
    pub ending: &'static str,
    pub seconds: String,
    pub samples: String,
    pub auc: String,
    pub accuracy: String,
    pub rate: String,
}

impl RunLine {
    pub fn of(series: String, row: &Row, run: &Run) -> Self {
        let or_dash = |x: Option<String>| x.unwrap_or_else(|| "-".into());
        RunLine {
            series,
            row: row.label.clone(),
            name: run.name.clone(),
            day: or_dash(run.started.as_ref().and_then(|s| Some(s.get(..10)?.to_owned()))),
            seed: or_dash(run.seed.map(|s| s.to_string())),
            ending: match run.ending {
                Ending::Converged => "target reached",
                Ending::NotConverged => "target missed",
                Ending::Finished => "finished",
                Ending::Unfinished => "not finished",
            },
            seconds: or_dash(run.seconds.map(|s| format!("{s:.1} s"))),
            samples: or_dash(run.samples.map(thousands)),
            auc: or_dash(run.auc.map(|a| format!("{a:.5}"))),
            accuracy: or_dash(run.accuracy.map(|a| format!("{a:.5}"))),
            rate: or_dash(run.throughput.end_to_end.map(thousands)),
        }
    }
}

/// Where the time of a row's steps went.
pub(super) struct PhaseBars {
    pub label: String,
    /// `2.61 µs a sample, floor 1.60 µs (61%)`
    pub total: String,
    pub phases: Vec<PhaseBar>,
    /// Whether floors are known.
    pub floors: bool,
}

/// One phase; widths are percent of the group's longest.
pub(super) struct PhaseBar {
    pub name: String,
    pub time: String,
    pub share: String,
    pub width: f64,
    pub floor_width: Option<f64>,
    pub floor: String,
}

/// Seconds a sample of a phase, and its floor.
struct Measured {
    name: String,
    seconds: f64,
    floor: Option<f64>,
}

/// Bars of all rows whose records have phases, in one scale.
pub(super) fn phases<'a>(
    rows: impl Iterator<Item = (&'a str, Vec<&'a RunRecord>)>,
) -> Vec<PhaseBars> {
    let rows: Vec<_> = rows
        .map(|(label, records)| (label, measured(&records)))
        .filter(|(_, m)| !m.is_empty())
        .collect();
    let longest = rows
        .iter()
        .flat_map(|(_, m)| m)
        .map(|m| m.seconds.max(m.floor.unwrap_or(0.0)))
        .fold(0.0, f64::max);
    rows.iter()
        .map(|(label, measured)| {
            let all: f64 = measured.iter().map(|m| m.seconds).sum();
            let floor: Option<f64> = measured.iter().filter_map(|m| m.floor).reduce(|a, b| a + b);
            let mut total = format!("{} a sample", time(all));
            if let Some(floor) = floor {
                total += &format!(", floor {} ({:.0}%)", time(floor), 100.0 * floor / all);
            }
            let bar = |m: &Measured| PhaseBar {
                name: m.name.replace('_', " "),
                time: time(m.seconds),
                share: format!("{:.0}%", 100.0 * m.seconds / all),
                width: 100.0 * m.seconds / longest,
                floor_width: m.floor.map(|f| 100.0 * f / longest),
                floor: m.floor.map_or_else(String::new, |f| format!("floor {}", time(f))),
            };
            PhaseBars {
                label: (*label).to_owned(),
                total,
                phases: measured.iter().map(bar).collect(),
                floors: floor.is_some(),
            }
        })
        .collect()
}

/// Means over the samples of all records, in order of the first record's phases.
fn measured(records: &[&RunRecord]) -> Vec<Measured> {
    let samples = |r: &RunRecord| r.outcome.as_ref().map_or(0.0, |o| o.samples as f64);
    let all: f64 = records.iter().filter(|r| !r.phases.is_empty()).map(|r| samples(r)).sum();
    let Some(first) = records.iter().find(|r| !r.phases.is_empty()).filter(|_| all > 0.0) else {
        return Vec::new();
    };
    let phase = |name: &str| {
        let of = |r: &&RunRecord| {
            r.phases.iter().filter(|p| p.phase == name).map(|p| p.seconds).sum::<f64>()
        };
        Measured {
            name: name.to_owned(),
            seconds: records.iter().map(of).sum::<f64>() / all,
            floor: floor(records, name),
        }
    };
    first.phases.iter().map(|p| phase(&p.phase)).collect()
}

/// Seconds a sample that a phase takes at least on the machine: mean of the records that know.
fn floor(records: &[&RunRecord], phase: &str) -> Option<f64> {
    let of = |r: &&RunRecord| {
        let floor = r.floor.as_ref()?;
        let seconds = floor.phases.iter().find(|p| p.phase == phase)?.seconds;
        Some(seconds / floor.batch.max(1) as f64)
    };
    let floors: Vec<f64> = records.iter().filter_map(of).collect();
    (!floors.is_empty()).then(|| floors.iter().sum::<f64>() / floors.len() as f64)
}

/// `2.61 µs`
fn time(seconds: f64) -> String {
    let (scaled, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    let digits = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.digits$} {unit}")
}

/// `1234567.4` as `1,234,567`.
pub(super) fn thousands(x: f64) -> String {
    let digits = format!("{x:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0
            && (digits.len() - i).is_multiple_of(3)
            && c.is_ascii_digit()
            && !out.ends_with('-')
        {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [2.0, 0.0123, 2.611e-6, 9.996e-6, 5e-10].map(time),
            ["2.00 s", "12.3 ms", "2.61 µs", "10.0 µs", "0.50 ns"]
        );
        assert_eq!(
            [0.0, 999.6, 1_234_567.4, -1234.0].map(thousands),
            ["0", "1,000", "1,234,567", "-1,234"]
        );
    }
}
