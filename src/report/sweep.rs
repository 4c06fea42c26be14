//! What a sweep came to: a table of its points (text, Markdown, CSV) and a picture of their
//! throughput.

use super::{
    chart::{
        BLUE, Chart, FAINT, GREEN, INK, ORANGE, PURPLE, SKY, Series, Style, VERMILION, amount,
    },
    table::{Column, decimals, estimate, fixed, markdown_table, push_wrapped, ratio, tables},
};
use crate::{
    host::escape::{cell, markdown as escaped, visible},
    results::{
        ResultsError,
        sweep::{Point, Sweep, shown},
        table::Measure,
    },
};
use plotters::prelude::{RGBColor, SeriesLabelPosition};
use serde_json::Value;
use std::path::Path;

/// Lines of a picture, told apart by colour; more would begin anew.
const COLOURS: [RGBColor; 8] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK, FAINT];

/// The table in lines of at most `width` characters, with what points could not be run.
pub fn text(sweep: &Sweep, width: usize) -> String {
    let (head, names) = names(sweep);
    let columns = columns(sweep);
    let mut found = tables(&head, &names, &columns, width);
    if found.len() > 1 {
        // Each table has all values of a point in front, which then are one column.
        let of_point = |p: &Point| {
            let values = sweep.keys.iter().filter_map(|k| p.settings.get(k)).map(shown);
            values.collect::<Vec<_>>().join(", ")
        };
        let names: Vec<String> = sweep.points.iter().map(of_point).collect();
        found = tables(&sweep.keys.join(", "), &names, &columns[sweep.keys.len() - 1..], width);
    }
    let mut out = found.join("\n\n");
    out += "\n\n";
    for sentence in failures(sweep).iter().chain(columns.iter().filter_map(|c| c.legend.as_ref())) {
        push_wrapped(&mut out, &visible(sentence), width, "  ");
    }
    out
}

/// The same for a pull request.
pub fn markdown(sweep: &Sweep) -> String {
    let (head, names) = names(sweep);
    let columns = columns(sweep);
    let mut out = format!("### {}\n\n", escaped(&title(sweep)));
    out += &markdown_table(&head, &names, &columns);
    out.push('\n');
    for sentence in failures(sweep) {
        out += &format!("- {}\n", escaped(&sentence));
    }
    let legend: Vec<&str> = columns.iter().filter_map(|c| c.legend.as_deref()).collect();
    out + &format!("\n<sub>{}</sub>\n", escaped(&legend.join(". ")))
}

/// A line a point, numbers in full; what is not known is empty.
///
/// # Errors
/// If a row cannot be written, which into memory does not happen.
pub fn csv(sweep: &Sweep) -> Result<String, csv::Error> {
    const FIGURES: [&str; 10] = [
        "runs",
        "converged",
        "samples_per_second",
        "samples_per_second_low",
        "samples_per_second_high",
        "seconds_to_target",
        "auc",
        "speed_up",
        "scaling_efficiency",
        "failed",
    ];
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(sweep.keys.iter().map(String::as_str).chain(FIGURES))?;
    let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    for p in &sweep.points {
        let values = sweep.keys.iter().map(|k| match p.settings.get(k) {
            Some(value) if value.is_number() => value.to_string(),
            value => cell(&value.map(shown).unwrap_or_default()),
        });
        let figures = [
            p.runs.to_string(),
            p.converged.to_string(),
            number(p.rate.map(|e| e.mean)),
            number(p.rate.and_then(|e| e.low)),
            number(p.rate.and_then(|e| e.high)),
            number(p.seconds_to_target),
            number(p.auc),
            number(p.speed_up),
            number(p.scaling_efficiency),
            cell(p.failed.as_deref().unwrap_or_default()),
        ];
        out.write_record(values.chain(figures))?;
    }
    let bytes =
        out.into_inner().map_err(|e| csv::Error::from(std::io::Error::other(e.to_string())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Draws throughput over the first key's values, a line for each combination of the others, as
/// `sweep.svg` and `sweep.png` into `folder`. Intervals are whiskers. Nothing without a number.
///
/// # Errors
/// If a file cannot be written.
pub fn draw(folder: &Path, sweep: &Sweep) -> Result<(), ResultsError> {
    match chart(sweep) {
        Some(chart) => chart.save(folder, "sweep"),
        None => Ok(()),
    }
}

fn title(sweep: &Sweep) -> String {
    format!("{} by {}", sweep.workload, sweep.keys.join(", "))
}

/// The first key, and its value of each point.
fn names(sweep: &Sweep) -> (String, Vec<String>) {
    let key = sweep.keys.first().cloned().unwrap_or_default();
    let value = |p: &Point| p.settings.get(&key).map(shown).unwrap_or_default();
    let names = sweep.points.iter().map(value).collect();
    (key, names)
}

/// The other keys, and what points came to.
fn columns(sweep: &Sweep) -> Vec<Column> {
    let column = |head: &str, cell: &dyn Fn(&Point) -> Option<String>| {
        Column::of(head, sweep.points.iter().map(cell))
    };
    let of_key = |key: &String| {
        let column = column(key, &|p| p.settings.get(key).map(shown));
        match sweep.points.iter().all(|p| p.settings.get(key).is_some_and(Value::is_number)) {
            true => column,
            false => column.words(),
        }
    };
    let what = match sweep.rate_of {
        Measure::Steady => "after warm-up, evaluations excluded",
        _ => "evaluations excluded",
    };
    let runs = |p: &Point| {
        Some(match p.missed {
            0 => p.runs.to_string(),
            n => format!("{} of {}", p.runs - n, p.runs),
        })
    };
    let figures = [
        column("runs", &runs),
        column("samples/s", &|p| p.rate.as_ref().map(estimate)).legend(format!(
            "samples/s: training samples per second {what}; from 3 runs on with 95% interval"
        )),
        column("seconds", &|p| p.seconds_to_target.map(decimals)).legend(
            "seconds: to the target; mean without the fastest and the slowest run",
        ),
        column("AUC", &|p| p.auc.map(|a| fixed(a, 5))),
        column("speed-up", &|p| p.speed_up.map(ratio))
            .legend("speed-up: of samples/s, to the first line's"),
        column("efficiency", &|p| p.scaling_efficiency.map(|e| fixed(100.0 * e, 0) + "%")).legend(
            "efficiency: speed-up over that of the fewest threads, all else being equal, over how many times the threads",
        ),
    ];
    let keys = sweep.keys.iter().skip(1).map(of_key);
    keys.chain(figures.into_iter().filter(Column::says_something)).collect()
}

/// Why points could not be run.
fn failures(sweep: &Sweep) -> Vec<String> {
    let said = |p: &Point| Some(format!("{}: {}", of(sweep, 0, p), p.failed.as_ref()?));
    sweep.points.iter().filter_map(said).collect()
}

/// A point's values of all keys from number `from` on.
fn of(sweep: &Sweep, from: usize, point: &Point) -> String {
    let value = |k: &String| Some(format!("{k}={}", shown(point.settings.get(k)?)));
    sweep.keys.iter().skip(from).filter_map(value).collect::<Vec<_>>().join(", ")
}

fn chart(sweep: &Sweep) -> Option<Chart> {
    let places = sweep.values(0);
    let key = sweep.keys.first()?;
    let top = sweep.points.iter().filter_map(|p| p.rate.map(|e| e.high.unwrap_or(e.mean)));
    let top = top.fold(0.0, f64::max);
    let mut lines: Vec<(String, Vec<&Point>)> = Vec::new();
    for point in sweep.points.iter().filter(|p| p.rate.is_some()) {
        let label = of(sweep, 1, point);
        match lines.iter_mut().find(|(l, _)| *l == label) {
            Some((_, points)) => points.push(point),
            None => lines.push((label, vec![point])),
        }
    }
    let mut series = Vec::new();
    let several = lines.len() > 1;
    let middle = lines.len().saturating_sub(1) as f64 / 2.0;
    for (i, (label, points)) in lines.into_iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let x = |p: &Point| {
            let at = places.iter().position(|v| p.settings.get(key) == Some(*v));
            // Whiskers of lines that meet stand beside one another.
            at.unwrap_or_default() as f64 + (0.02 * (i as f64 - middle)).clamp(-0.2, 0.2)
        };
        let of_points = |f: &dyn Fn(&Point) -> Vec<f64>| -> Vec<(f64, f64)> {
            points.iter().flat_map(|p| f(p).into_iter().map(|y| (x(p), y))).collect()
        };
        let whiskers = of_points(&|p| match p.rate {
            Some(e) => e.low.zip(e.high).map_or(Vec::new(), |(low, high)| vec![low.max(0.0), high]),
            None => Vec::new(),
        });
        let mut points = of_points(&|p| p.rate.map(|e| e.mean).into_iter().collect());
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let label = if several { label } else { String::new() };
        series.push(Series { label, colour, style: Style::Marked, points });
        series.push(Series {
            label: String::new(),
            colour,
            style: Style::Whiskers,
            points: whiskers,
        });
    }
    (top > 0.0).then(|| Chart {
        title: format!("Throughput: {}", title(sweep)),
        subtitle: format!(
            "{}, {}{}",
            sweep.rate_of.name(),
            match sweep.rounds {
                1 => "1 run a point".to_owned(),
                n => format!("{n} runs a point"),
            },
            match sweep.points.iter().any(|p| p.rate.is_some_and(|e| e.low.is_some())) {
                true => ", 95% intervals over runs",
                false => "",
            }
        ),
        x_label: key.clone(),
        y_label: "training samples per second".into(),
        x: -0.5..places.len() as f64 - 0.5,
        // Room for names above what is highest.
        y: 0.0..top * if several { 1.35 } else { 1.12 },
        series,
        levels: Vec::new(),
        y_tick: amount,
        x_names: places.into_iter().map(shown).collect(),
        legend: SeriesLabelPosition::UpperLeft,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::table::Estimate;
    use serde_json::json;

    fn sweep(rounds: usize) -> Sweep {
        let keys = vec!["train.batch_size".to_owned(), "engine.precision".to_owned()];
        let mut sweep = Sweep::new("i".into(), "tiny".into(), keys, rounds);
        for (batch, precision, mean) in [
            (512, "fp32", 100_000.0),
            (512, "bf16", 150_000.0),
            (2048, "fp32", 120_000.0),
            (2048, "bf16", 200_000.0),
            (8192, "fp32", 130_000.0),
            (8192, "bf16", 0.0),
        ] {
            let settings =
                [("train.batch_size", json!(batch)), ("engine.precision", json!(precision))];
            let half = 0.04 * mean;
            sweep.points.push(Point {
                settings: settings.map(|(k, v)| (k.to_owned(), v)).into(),
                runs: if mean > 0.0 { rounds } else { 0 },
                rate: (mean > 0.0).then_some(Estimate {
                    mean,
                    low: (rounds > 2).then_some(mean - half),
                    high: (rounds > 2).then_some(mean + half),
                    runs: rounds,
                }),
                failed: (mean == 0.0).then(|| "not enough memory".to_owned()),
                ..Point::default()
            });
        }
        sweep.sum_up(&[const { None }; 6]);
        sweep
    }

    #[test]
    fn a_table_has_a_line_a_point_and_fits_its_width() {
        let said = text(&sweep(3), 80);
        assert!(said.lines().all(|l| l.chars().count() <= 80), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            words(lines[0]),
            ["train.batch_size", "engine.precision", "runs", "samples/s", "speed-up"]
        );
        assert_eq!(words(lines[3]), ["512", "bf16", "3", "150.0k", "±4.0%", "1.50"]);
        assert_eq!(words(lines[7]), ["8192", "bf16", "0", "-", "-"]);
        assert!(
            said.contains("train.batch_size=8192, engine.precision=bf16: not enough memory"),
            "{said}"
        );
        assert!(!text(&sweep(2), 80).contains('±'));
        // Where one table does not fit, every table tells which point a line is.
        for width in [40, 50] {
            let narrow = text(&sweep(3), width);
            assert!(narrow.lines().all(|l| l.chars().count() <= width), "{narrow}");
            let of = |start: &str| narrow.lines().filter(|l| l.starts_with(start)).count();
            assert!(of("512, bf16 ") > 0, "{narrow}");
            assert_eq!(of("512, bf16 "), of("-----"), "{narrow}");
        }
        let markdown = markdown(&sweep(3));
        assert!(markdown.contains("| 2048 | bf16 | 3 | 200.0k ±4.0% | 2.00 |"), "{markdown}");
    }

    #[test]
    fn csv_has_numbers_in_full() {
        let text = csv(&sweep(3)).unwrap();
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let heads = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let at = |row: usize, head: &str| {
            rows[row].get(heads.iter().position(|h| h == head).unwrap()).unwrap().to_owned()
        };
        assert_eq!(rows.len(), 6);
        assert_eq!(
            (at(3, "train.batch_size"), at(3, "engine.precision")),
            ("2048".into(), "bf16".into())
        );
        assert_eq!(
            (at(3, "samples_per_second"), at(3, "samples_per_second_low")),
            ("200000".into(), "192000".into())
        );
        assert_eq!(
            (at(5, "samples_per_second"), at(5, "failed")),
            (String::new(), "not enough memory".into())
        );
    }

    #[test]
    fn a_picture_has_a_line_a_combination_and_whiskers() {
        let chart = chart(&sweep(3)).unwrap();
        let labels: Vec<&str> = chart.series.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(labels, ["engine.precision=fp32", "", "engine.precision=bf16", ""]);
        assert_eq!(chart.series.iter().map(|s| s.points.len()).collect::<Vec<_>>(), [3, 6, 2, 4]);
        assert_eq!(chart.x_names, ["512", "2048", "8192"]);
        let dir = tempfile::tempdir().unwrap();
        draw(dir.path(), &sweep(3)).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("sweep.svg")).unwrap();
        for name in ["512", "2048", "8192", "engine.precision=bf16"] {
            assert!(svg.contains(&format!("{name}\n")), "{name}");
        }
        assert!(dir.path().join("sweep.png").metadata().unwrap().len() > 1000);
        // Without a number there is no picture.
        let mut nothing = sweep(1);
        nothing.points.iter_mut().for_each(|p| p.rate = None);
        assert!(super::chart(&nothing).is_none());
    }
}
