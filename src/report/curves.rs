//! Convergence curves of several programs or settings in one picture, drawn from a table that is
//! kept beside it.

use super::chart::{BLUE, Chart, GREEN, INK, PALE, Series, Style, VERMILION};
use crate::results::ResultsError;
use plotters::{prelude::SeriesLabelPosition, style::RGBColor};
use std::path::Path;

const COLOURS: [RGBColor; 5] = [BLUE, VERMILION, GREEN, INK, PALE];

/// Draws `NAME.svg` and `NAME.png` beside `NAME.csv`.
///
/// The table's columns are group, member, x, y, by position; what follows is not drawn. A group (a
/// program, say) has one colour and one entry in the legend, a member (a seed) one line. The names
/// of x and y are those of the header. Lines that start with `# title:`, `# subtitle:` and `#
/// from:` (the least y that is shown) come before it.
///
/// # Errors
/// If the table cannot be read, or a picture not written.
pub fn write(table: &Path) -> Result<(), ResultsError> {
    let read = |source| ResultsError::Read { path: table.into(), source };
    let text = std::fs::read_to_string(table).map_err(read)?;
    let chart = parse(&text).map_err(|what| read(std::io::Error::other(what)))?;
    let folder = table.parent().unwrap_or(Path::new("."));
    let name = table.file_stem().unwrap_or_default().to_string_lossy();
    chart.save(folder, &name)
}

/// One line of the picture.
struct Curve<'a> {
    group: &'a str,
    member: &'a str,
    points: Vec<(f64, f64)>,
}

fn parse(text: &str) -> Result<Chart, String> {
    let note = |key: &str| {
        text.lines().find_map(|l| l.strip_prefix("# ")?.strip_prefix(key)).map_or("", str::trim)
    };
    let from = note("from:").parse().unwrap_or(f64::NEG_INFINITY);
    let mut rows =
        text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty());
    let header: Vec<&str> = rows.next().ok_or("the table is empty")?.1.split(',').collect();
    let [_, _, x_label, y_label, ..] = header[..] else {
        return Err("the header must name group, member, x, y".into());
    };
    let mut curves: Vec<Curve> = Vec::new();
    for (i, line) in rows {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != header.len() {
            return Err(format!(
                "line {}: {} cells below a header of {}",
                i + 1,
                cells.len(),
                header.len()
            ));
        }
        let number = |k: usize| {
            cells[k].parse::<f64>().ok().ok_or(format!(
                "line {}: no number in column {}",
                i + 1,
                k + 1
            ))
        };
        let (group, member, point) = (cells[0], cells[1], (number(2)?, number(3)?));
        match curves.iter_mut().find(|c| (c.group, c.member) == (group, member)) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { group, member, points: vec![point] }),
        }
    }
    let shown = || curves.iter().flat_map(|c| &c.points).filter(|p| p.1 >= from);
    let (low, high) =
        shown().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), p| (a.min(p.1), b.max(p.1)));
    let right = shown().map(|p| p.0).fold(0.0, f64::max);
    if low > high {
        return Err("there is no point to draw".into());
    }
    let margin = 0.06 * (high - low).max(1e-6);
    Ok(Chart {
        title: note("title:").into(),
        subtitle: note("subtitle:").into(),
        x_label: x_label.replace('_', " "),
        y_label: y_label.replace('_', " "),
        x: 0.0..right * 1.02,
        y: low - margin..high + margin,
        series: series(&curves),
        levels: Vec::new(),
        y_tick: |y| format!("{y:.3}"),
        x_names: Vec::new(),
        legend: SeriesLabelPosition::LowerRight,
    })
}

/// Members of a group share its colour; the first one carries its name.
fn series(curves: &[Curve]) -> Vec<Series> {
    let mut groups: Vec<&str> = Vec::new();
    curves
        .iter()
        .map(|c| {
            let known = groups.iter().position(|g| *g == c.group);
            let label = if known.is_some() { String::new() } else { c.group.to_owned() };
            let group = known.unwrap_or_else(|| {
                groups.push(c.group);
                groups.len() - 1
            });
            Series {
                label,
                colour: COLOURS[group % COLOURS.len()],
                style: Style::Marked,
                points: c.points.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# title: T\n# subtitle: S\n# from: 0.9\nprogram,seed,epochs,validation_AUC,more\n\
                         a,1,1,0.8,x\na,1,2,0.95,x\na,2,2,0.96,x\nb,1,2,0.97,x\n";

    #[test]
    fn groups_share_a_colour_and_a_label() {
        let chart = parse(TABLE).unwrap();
        assert_eq!(
            (chart.title.as_str(), chart.x_label.as_str(), chart.y_label.as_str()),
            ("T", "epochs", "validation AUC")
        );
        let labels: Vec<_> = chart.series.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(labels, ["a", "", "b"]);
        assert!(
            chart.series[0].colour == chart.series[1].colour
                && chart.series[0].colour != chart.series[2].colour
        );
        assert!(chart.y.start > 0.94 && chart.y.end < 0.98);
    }

    #[test]
    fn broken_tables_are_refused() {
        assert!(parse("").is_err_and(|e| e == "the table is empty"));
        assert!(parse("a,b\n").is_err_and(|e| e.contains("must name group")));
        assert!(parse("a,b,c,d\n1,2,3,x\n").is_err_and(|e| e == "line 2: no number in column 4"));
        assert!(
            parse("a,b,c,d\n1,2,3\n").is_err_and(|e| e == "line 2: 3 cells below a header of 4")
        );
        assert!(parse("a,b,c,d\n").is_err_and(|e| e.contains("no point")));
    }

    #[test]
    fn pictures_stand_beside_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("t.csv");
        std::fs::write(&table, TABLE).unwrap();
        write(&table).unwrap();
        assert!(dir.path().join("t.svg").exists() && dir.path().join("t.png").exists());
    }
}
