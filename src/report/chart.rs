//! A line chart as SVG and PNG. Both look the same and need no font from the system.

use crate::results::{ResultsError, replace, write_file};
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::{FontStyle, register_font, text_anchor},
};
use std::{io, ops::Range, path::Path, sync::OnceLock};

/// Pixels of the PNG, units of the SVG.
pub(super) const SIZE: (u32, u32) = (1600, 1000);
/// Generic, so that an SVG viewer takes its own; the PNG is set in DejaVu Sans, registered under
/// this name.
const FAMILY: &str = "sans-serif";
/// Text, and a colour for lines where the others are taken.
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const FAINT: RGBColor = RGBColor(110, 110, 110);

/// Colours that people with colour-blindness tell apart (Okabe and Ito 2008).
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
/// As above.
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
/// As above.
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
/// As above.
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
/// As above.
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
/// As above.
pub(super) const SKY: RGBColor = RGBColor(86, 180, 233);
/// Raw measurements behind a smoothed line.
pub(super) const PALE: RGBColor = RGBColor(158, 197, 222);

/// What to draw.
pub(super) struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x_label: String,
    pub y_label: String,
    pub x: Range<f64>,
    pub y: Range<f64>,
    pub series: Vec<Series>,
    /// Horizontal, dashed.
    pub levels: Vec<Level>,
    pub y_tick: fn(f64) -> String,
    /// Names of the whole numbers from 0 on the x axis; numbers if there are none.
    pub x_names: Vec<String>,
    /// Corner that the data leave free.
    pub legend: SeriesLabelPosition,
}

pub(super) struct Series {
    /// Name in the legend; if empty, it has none.
    pub label: String,
    pub colour: RGBColor,
    pub style: Style,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    Dots,
    Line,
    /// A line with a mark on every point.
    Marked,
    /// Points two by two: the ends of upright lines.
    Whiskers,
}

pub(super) struct Level {
    pub label: String,
    pub colour: RGBColor,
    pub y: f64,
}

impl Chart {
    /// Writes `NAME.svg` and `NAME.png` into `folder`, each whole or not at all.
    pub fn save(&self, folder: &Path, name: &str) -> Result<(), ResultsError> {
        fonts();
        let svg = folder.join(format!("{name}.svg"));
        let mut text = String::new();
        self.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area())
            .map_err(|e| ResultsError::Write { path: svg.clone(), source: failed(e) })?;
        write_file(&svg, text.as_bytes())?;
        replace(&folder.join(format!("{name}.png")), |path| {
            self.draw(&BitMapBackend::new(path, SIZE).into_drawing_area()).map_err(failed)
        })
    }

    fn draw<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(112);
        head.draw(&Text::new(self.title.clone(), (48, 24), font(40, INK)))?;
        head.draw(&Text::new(self.subtitle.clone(), (48, 76), font(26, FAINT)))?;
        let mut chart = ChartBuilder::on(&body)
            .margin(16)
            .margin_right(56)
            .x_label_area_size(88)
            .y_label_area_size(132)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let name = |x: f64| {
            let whole = (x - x.round()).abs() < 1e-6 && x >= -0.5;
            self.x_names.get(x.round() as usize).filter(|_| whole).cloned().unwrap_or_default()
        };
        let mut mesh = chart.configure_mesh();
        if !self.x_names.is_empty() {
            mesh.disable_x_mesh();
        }
        let x_label = |x: &f64| if self.x_names.is_empty() { amount(*x) } else { name(*x) };
        mesh.x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .axis_desc_style(font(28, INK))
            .label_style(font(26, INK))
            .x_labels(if self.x_names.is_empty() { 9 } else { 2 * self.x_names.len() + 1 })
            .y_labels(9)
            .x_label_formatter(&x_label)
            .y_label_formatter(&|y| (self.y_tick)(*y))
            .max_light_lines(0)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(INK)
            .draw()?;
        for series in &self.series {
            self.draw_series(&mut chart, series)?;
        }
        for level in self.levels.iter().filter(|l| self.y.contains(&l.y)) {
            let ends = [(self.x.start, level.y), (self.x.end, level.y)];
            let stroke = level.colour.stroke_width(3);
            chart
                .draw_series(DashedLineSeries::new(ends, 14, 9, stroke))?
                .label(&level.label)
                .legend(move |at| {
                    let dash = |from| PathElement::new([(from, 0), (from + 21, 0)], stroke);
                    EmptyElement::at(at) + dash(0) + dash(31)
                });
        }
        let named = self.series.iter().any(|s| !s.label.is_empty());
        if named && self.series.len() + self.levels.len() > 1 {
            chart
                .configure_series_labels()
                .position(self.legend.clone())
                .margin(24)
                .legend_area_size(64)
                .label_font(font(26, INK))
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(200, 200, 200))
                .draw()?;
        }
        root.present()
    }

    fn draw_series<B: DrawingBackend>(
        &self,
        chart: &mut ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
        series: &Series,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let visible = || {
            series.points.iter().copied().filter(|(x, y)| self.x.contains(x) && self.y.contains(y))
        };
        let colour = series.colour;
        if series.style == Style::Whiskers {
            let half = (self.x.end - self.x.start) / 160.0;
            let ends = series.points.as_chunks::<2>().0;
            for [(x, low), (_, high)] in ends {
                let bar = |y: f64| vec![(x - half, y), (x + half, y)];
                let lines = [vec![(*x, *low), (*x, *high)], bar(*low), bar(*high)];
                let stroke = colour.stroke_width(3);
                chart.draw_series(lines.into_iter().map(|l| PathElement::new(l, stroke)))?;
            }
            return Ok(());
        }
        if series.style != Style::Line {
            let radius = if series.style == Style::Dots { 3 } else { 6 };
            let drawn =
                chart.draw_series(visible().map(|p| Circle::new(p, radius, colour.filled())))?;
            if series.style == Style::Dots {
                drawn
                    .label(&series.label)
                    .legend(move |(x, y)| Circle::new((x + 26, y), 5, colour.filled()));
            }
        }
        if series.style != Style::Dots {
            let drawn = chart.draw_series(LineSeries::new(visible(), colour.stroke_width(4)))?;
            if !series.label.is_empty() {
                drawn.label(&series.label).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 52, y)], colour.stroke_width(4))
                });
            }
        }
        Ok(())
    }
}

pub(super) fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FAMILY, size).into_font().color(&colour).pos(text_anchor::Pos::default())
}

/// Makes DejaVu Sans known to the bitmap backend.
pub(super) fn fonts() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // A font that this crate carries: if it could not be read, the tests would say so.
        let _ = register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular());
    });
}

pub(super) fn failed<E: std::error::Error + Send + Sync>(e: DrawingAreaErrorKind<E>) -> io::Error {
    io::Error::other(e.to_string())
}

/// A count for an axis: `250k`, `1.5M`, `2G`.
pub(super) fn amount(x: f64) -> String {
    let (scaled, unit) = match x.abs() {
        a if a >= 1e9 => (x / 1e9, "G"),
        a if a >= 1e6 => (x / 1e6, "M"),
        a if a >= 1e3 => (x / 1e3, "k"),
        _ => (x, ""),
    };
    // Nine significant digits hide what binary fractions add.
    let text = format!("{scaled:.6}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_labels_are_short() {
        for (x, expected) in [
            (0.0, "0"),
            (5.0, "5"),
            (0.5, "0.5"),
            (1500.0, "1.5k"),
            (2e6, "2M"),
            (1.0000000001e9, "1G"),
            (100.0, "100"),
            (120_000.0, "120k"),
        ] {
            assert_eq!(amount(x), expected);
        }
    }
}
