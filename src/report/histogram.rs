//! How the values of a column are distributed, as text and as a picture. Bars have one width each,
//! whatever bins they stand for.

use super::chart::{BLUE, FAINT, INK, SIZE, amount, failed, font, fonts};
use plotters::{coord::Shift, prelude::*};
use std::{io, path::Path};

/// Characters of the longest bar.
const LONGEST: usize = 44;

/// A line a bin, at most 80 characters: its bounds, its bar, its share. Bin `i` goes from
/// `bounds[i]` to below `bounds[i + 1]`.
pub fn text(bounds: &[f64], counts: &[u64]) -> String {
    let (all, most) =
        (counts.iter().sum::<u64>().max(1), counts.iter().copied().max().unwrap_or(0).max(1));
    let mut out = String::new();
    for (i, &n) in counts.iter().enumerate() {
        let bar = (n as f64 / most as f64 * LONGEST as f64).ceil() as usize;
        let bar = "#".repeat(bar.min(LONGEST));
        out += &format!(
            "{:>12}.. {bar:<LONGEST$} {:>8}\n",
            short(bounds[i]),
            format!("{:.2}%", 100.0 * n as f64 / all as f64)
        );
    }
    out
}

/// Draws the bins into a PNG file, under the name of the column and, smaller, what it is of.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(path: &Path, titles: [&str; 2], bounds: &[f64], counts: &[u64]) -> io::Result<()> {
    fonts();
    bars(&BitMapBackend::new(path, SIZE).into_drawing_area(), titles, bounds, counts)
        .map_err(failed)
}

fn bars<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    [title, subtitle]: [&str; 2],
    bounds: &[f64],
    counts: &[u64],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(112);
    head.draw(&Text::new(title.to_owned(), (48, 24), font(40, INK)))?;
    head.draw(&Text::new(subtitle.to_owned(), (48, 76), font(26, FAINT)))?;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let n = counts.len();
    let mut chart = ChartBuilder::on(&body)
        .margin(16)
        .margin_right(56)
        .x_label_area_size(64)
        .y_label_area_size(132)
        .build_cartesian_2d(0.0..n as f64, 0.0..1.05 * most as f64)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .y_desc("values")
        .axis_desc_style(font(28, INK))
        .label_style(font(24, INK))
        .x_labels(n.clamp(2, 12))
        .x_label_formatter(&|x| {
            bounds
                .get(x.round() as usize)
                .filter(|_| x.fract() == 0.0)
                .map_or(String::new(), |&b| short(b))
        })
        .y_label_formatter(&|y| amount(*y))
        .max_light_lines(0)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(INK)
        .draw()?;
    let bar = |(i, &n): (usize, &u64)| {
        Rectangle::new([(i as f64 + 0.05, 0.0), (i as f64 + 0.95, n as f64)], BLUE.filled())
    };
    chart.draw_series(counts.iter().enumerate().map(bar))?;
    root.present()
}

/// A bound in at most 12 characters.
fn short(x: f64) -> String {
    match x {
        x if x.fract() == 0.0 && x.abs() < 1e11 => format!("{x:.0}"),
        x if (0.001..1e6).contains(&x.abs()) => format!("{x:.4}"),
        x => format!("{x:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_for_shares_in_80_columns() {
        let out = text(&[-1e300, 0.0, 1.0, 2.0], &[1, 0, 999]);
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.iter().all(|l| l.chars().count() <= 80), "{out}");
        assert_eq!(
            lines.iter().map(|l| l.matches('#').count()).collect::<Vec<_>>(),
            [1, 0, LONGEST]
        );
        assert!(lines[2].ends_with(" 99.90%") && lines[0].contains("-1.000e300.. #"));
    }

    #[test]
    fn a_picture_has_bars_of_the_right_height() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.png");
        draw(&path, ["I1", "a.csv"], &[0.0, 1.0, 2.0, 4.0], &[10, 5, 0]).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        let (w, h) = (SIZE.0 as usize, SIZE.1 as usize);
        let mut pixels = vec![0u8; 3 * w * h];
        fonts();
        bars(
            &BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area(),
            ["I1", "a.csv"],
            &[0.0, 1.0, 2.0, 4.0],
            &[10, 5, 0],
        )
        .unwrap();
        let blue = |x: usize| {
            (0..h).filter(|y| pixels[3 * (y * w + x)..][..3] == [BLUE.0, BLUE.1, BLUE.2]).count()
        };
        // The middles of the three bars.
        let (left, width) = (148, w - 148 - 56);
        let heights: Vec<usize> = (0..3).map(|i| blue(left + width * (2 * i + 1) / 6)).collect();
        assert!(
            heights[0] > 600 && heights[0].abs_diff(2 * heights[1]) <= 3 && heights[2] <= 2,
            "{heights:?}"
        );
    }
}
