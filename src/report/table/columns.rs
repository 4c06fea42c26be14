//! What a table shows of a row.

use crate::{
    host::escape::visible,
    results::{
        table::{Comparison, ENOUGH_RUNS, Estimate, Field, Figure, Group, Measure, Row},
        tree::Ending,
    },
};

/// One column of a group's table; cells in order of rows.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Column {
    pub head: String,
    /// Numbers stand on the right.
    pub is_number: bool,
    /// `-` where nothing is known.
    pub cells: Vec<String>,
    /// One sentence for the legend.
    pub legend: Option<String>,
}

/// Not known.
const NONE: &str = "-";

/// Times below this many seconds are shown in seconds.
const SHORT: f64 = 120.0;

impl Column {
    fn new(group: &Group, head: &str, cell: impl Fn(&Row) -> Option<String>) -> Self {
        Column::of(head, group.rows.iter().map(cell))
    }

    /// A column of numbers, nothing known where there is none.
    pub fn of(head: &str, cells: impl IntoIterator<Item = Option<String>>) -> Self {
        let cell = |c: Option<String>| c.map_or(NONE.into(), |c| visible(&c).into_owned());
        let cells = cells.into_iter().map(cell).collect();
        Column { head: head.to_owned(), is_number: true, cells, legend: None }
    }

    pub fn legend(self, legend: impl Into<String>) -> Self {
        Column { legend: Some(legend.into()), ..self }
    }

    pub fn words(self) -> Self {
        Column { is_number: false, ..self }
    }

    pub fn says_something(&self) -> bool {
        self.cells.iter().any(|c| c != NONE)
    }
}

/// What all rows share goes into the title; the others, most telling first.
#[derive(Debug)]
pub(in crate::report) struct Columns {
    /// `batch 2048, fp32`
    pub shared: Vec<String>,
    pub columns: Vec<Column>,
}

impl Columns {
    /// Those of `group`, which is one of `comparison`: what was asked for, or what there is to tell.
    pub fn of(group: &Group, comparison: &Comparison) -> Self {
        Columns::made(group, comparison, &[])
    }

    /// The same where there is room for more.
    pub fn wide(group: &Group, comparison: &Comparison) -> Self {
        let more = [Figure::Accuracy, Figure::SampleEnergy, Figure::EpochCost];
        Columns::made(group, comparison, &more)
    }

    fn made(group: &Group, comparison: &Comparison, more: &[Figure]) -> Self {
        let figures = Figures::of(group, comparison.baseline.as_deref());
        if !comparison.columns.is_empty() {
            let columns = comparison.columns.iter().map(|field| asked(field, group, &figures));
            return Columns { shared: Vec::new(), columns: columns.collect() };
        }
        let mut columns: Vec<Column> =
            figures.usual(more).into_iter().map(|f| figures.column(f)).collect();
        let mut shared = Vec::new();
        for (column, in_words) in facts(group) {
            match column.cells.first() {
                Some(first) if column.cells.iter().all(|c| c == first) => {
                    if column.says_something() {
                        shared.push(in_words(first));
                    }
                }
                _ => columns.push(column),
            }
        }
        columns.retain(Column::says_something);
        Columns { shared, columns }
    }
}

/// A column that was asked for: of what is not measured, numbers stand on the right.
fn asked(field: &Field, group: &Group, figures: &Figures<'_>) -> Column {
    if let Field::Figure(figure) = field {
        return figures.column(*figure);
    }
    let column = Column::new(group, &field.to_string(), |r| field.text(r));
    let is_number = |c: &String| c == NONE || c.parse::<f64>().is_ok();
    if column.cells.iter().all(is_number) { column } else { column.words() }
}

/// Measurements of a group.
struct Figures<'a> {
    group: &'a Group,
    /// What ratios are to.
    to: String,
    /// Unit of times, and its seconds.
    unit: (&'static str, f64),
}

impl<'a> Figures<'a> {
    fn of(group: &'a Group, baseline: Option<&str>) -> Self {
        let slowest = group.rows.iter().filter_map(|r| r.seconds_to_target).fold(0.0, f64::max);
        Figures {
            group,
            to: baseline.map_or("the best".to_owned(), |b| format!("{}'s", visible(b))),
            unit: if slowest < SHORT { ("seconds", 1.0) } else { ("minutes", 60.0) },
        }
    }

    /// Those that tables show, most telling first, and `more` of them.
    fn usual(&self, more: &[Figure]) -> Vec<Figure> {
        let without_eval = match self.group.without_eval() {
            Measure::Steady => Figure::Steady,
            _ => Figure::Training,
        };
        let all = [
            Figure::Throughput,
            Figure::Ratio,
            Figure::Time,
            Figure::Epochs,
            Figure::Auc,
            Figure::Accuracy,
            without_eval,
            Figure::Floor,
            Figure::Energy,
            Figure::SampleEnergy,
            Figure::Cost,
            Figure::EpochCost,
        ];
        let extra = [Figure::Accuracy, Figure::SampleEnergy, Figure::EpochCost];
        all.into_iter().filter(|f| !extra.contains(f) || more.contains(f)).collect()
    }

    fn column(&self, figure: Figure) -> Column {
        let column =
            |head: &str, cell: &dyn Fn(&Row) -> Option<String>| Column::new(self.group, head, cell);
        let rate = |measure: Measure| move |r: &Row| r.estimate(measure).map(estimate);
        let (unit, divisor) = self.unit;
        match figure {
            Figure::Throughput => column("end to end/s", &rate(Measure::EndToEnd)).legend(
                "end to end/s: training samples per second from run_start to run_stop, with 95% interval",
            ),
            Figure::Steady => column("steady/s", &rate(Measure::Steady)).legend(
                "steady/s: training samples per second after warm-up, evaluations excluded",
            ),
            Figure::Training => column("training/s", &rate(Measure::Training))
                .legend("training/s: training samples per second, evaluations excluded"),
            Figure::Ratio => column("ratio", &|r| r.ratio.map(ratio))
                .legend(format!("ratio: of {}, to {}", self.group.ratio_of.name(), self.to)),
            Figure::Time => column(unit, &|r| r.seconds_to_target.map(|s| decimals(s / divisor)))
                .legend(format!(
                    "{unit}: to the target; mean without the fastest and the slowest run"
                )),
            Figure::Epochs => column("epochs", &|r| r.epochs_to_target.map(|e| fixed(e, 3)))
                .legend("epochs: to the target, likewise"),
            Figure::Auc => column("AUC", &|r| r.auc.map(|a| fixed(a, 5))),
            Figure::Accuracy => column("accuracy", &|r| r.accuracy.map(|a| fixed(a, 5)))
                .legend("accuracy: share of evaluation samples on the right side of a probability of 0.5"),
            Figure::Floor => {
                column("of floor", &|r| r.floor_share.map(|f| fixed(100.0 * f, 0) + "%")).legend(
                    "of floor: share of the floor, the time that this machine's measured ceilings allow",
                )
            }
            Figure::Energy => {
                column("kJ", &|r| r.joules_to_target.map(|j| decimals(j / 1e3))).legend(
                    "kJ: energy of processors, memory and GPU to the target, mean without the most and the least",
                )
            }
            Figure::SampleEnergy => column("J/sample", &|r| r.joules_a_sample.map(significant))
                .legend("J/sample: energy of the same parts a training sample, evaluations included"),
            Figure::Cost => {
                column("cost", &|r| r.cost.map(money)).legend("cost: of the time to target")
            }
            Figure::EpochCost => column("cost/epoch", &|r| r.cost_an_epoch.map(money))
                .legend("cost/epoch: of the time of an epoch, evaluations included"),
            Figure::Runs => column("runs", &|r| Some(runs(r))),
        }
    }
}

type InWords = fn(&str) -> String;

/// What was run, and how to say it in the title.
fn facts(group: &Group) -> [(Column, InWords); 5] {
    let column = |head: &str, cell: &dyn Fn(&Row) -> Option<String>| Column::new(group, head, cell);
    [
        (column("runs", &|r| Some(runs(r))), |n| {
            if n == "1" { "1 run".into() } else { format!("{n} runs") }
        }),
        (column("batch", &|r| r.batch.map(|b| b.to_string())), |b| format!("batch {b}")),
        (column("precision", &|r| r.precision.clone()).words(), str::to_owned),
        (
            column("platform", &|r| r.system.platform.clone().filter(|p| *p != r.system.name))
                .words(),
            str::to_owned,
        ),
        (column("engine", &|r| r.engine.clone()).words(), |e| format!("engine {e}")),
    ]
}

/// `10`, or `9 of 10` if one missed the target.
fn runs(row: &Row) -> String {
    let missed = row.each.iter().filter(|r| r.ending == Ending::NotConverged).count();
    match missed {
        0 => row.runs.to_string(),
        _ => format!("{} of {}", row.runs - missed, row.runs),
    }
}

/// `13.55M ±0.2%`; where there is no interval that says something, `13.55M, 2 runs` or
/// `13.55M, too few`.
pub(in crate::report) fn estimate(e: &Estimate) -> String {
    let rate = rate(e.mean);
    match (e.telling(), e.relative()) {
        (Some(relative), _) => format!("{rate} ±{}", percent(relative)),
        (None, Some(_)) => format!("{rate}, too few"),
        (None, None) if (2..ENOUGH_RUNS).contains(&e.runs) => format!("{rate}, {} runs", e.runs),
        (None, None) => rate,
    }
}

/// Four significant digits: `13.55M`, `252.1k`, `938.0`.
pub(in crate::report) fn rate(x: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    // 999,960 is 1.000M rather than 1000.0k.
    let (unit, suffix) =
        UNITS.into_iter().find(|(unit, _)| x.abs() >= 0.99995 * unit).unwrap_or((1.0, ""));
    let scaled = x / unit;
    let digits = if scaled.abs() < 9.9995 {
        3
    } else if scaled.abs() < 99.995 {
        2
    } else {
        1
    };
    fixed(scaled, digits) + suffix
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p < 0.095 => format!("{p:.2}%"),
        p if p < 9.95 => format!("{p:.1}%"),
        p => fixed(p, 0) + "%",
    }
}

pub(in crate::report) fn ratio(x: f64) -> String {
    if x < 0.0995 { format!("{x:.4}") } else { fixed(x, 2) }
}

/// A price: two decimals, or so many that there are two digits.
fn money(x: f64) -> String {
    if x == 0.0 || x >= 0.0995 { fixed(x, 2) } else { significant(x) }
}

/// Three digits of a small number: `0.0123`, `4.56e-5`.
fn significant(x: f64) -> String {
    match x {
        x if x >= 99.95 => fixed(x, 0),
        x if x >= 9.995 => fixed(x, 1),
        x if x >= 0.9995 => fixed(x, 2),
        x if x >= 0.09995 => fixed(x, 3),
        x if x >= 0.009995 => fixed(x, 4),
        x => format!("{x:.2e}"),
    }
}

/// Two decimals below 10, else one.
pub(in crate::report) fn decimals(x: f64) -> String {
    if x < 9.995 { format!("{x:.2}") } else { fixed(x, 1) }
}

/// A log can say anything: what no run reaches is written with an exponent, so that no table grows
/// beyond its page.
pub(in crate::report) fn fixed(x: f64, digits: usize) -> String {
    if x.abs() < 1e9 { format!("{x:.digits$}") } else { format!("{x:.3e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_say_nothing_are_not_shown() {
        let shown = |low: Option<f64>, high: Option<f64>, runs| {
            estimate(&Estimate { mean: 1000.0, low, high, runs })
        };
        assert_eq!(shown(Some(990.0), Some(1010.0), 3), "1.000k ±1.0%");
        assert_eq!(shown(Some(-9780.0), Some(11_780.0), 3), "1.000k, too few");
        assert_eq!(shown(None, None, 2), "1.000k, 2 runs");
        assert_eq!(shown(None, None, 1), "1.000k");
        let over = |values: &[f64]| Estimate::over(values.iter().copied()).unwrap();
        assert_eq!((over(&[1.0, 3.0]).low, over(&[1.0, 3.0]).high), (None, None));
        assert!(over(&[1.0, 2.0, 3.0]).low.is_some());
    }

    #[test]
    fn numbers_are_short_and_keep_four_digits() {
        let rates =
            [13_546_810.4, 252_127.5, 938.0, 0.5, 999_960.0, 999_940.0, 99_999.0, 1e9, 9999.6]
                .map(rate);
        assert_eq!(
            rates,
            [
                "13.55M", "252.1k", "938.0", "0.500", "1.000M", "999.9k", "100.0k", "1.000G",
                "10.00k"
            ]
        );
        assert_eq!([0.0004, 0.00123, 0.0996, 0.3].map(percent), ["0.04%", "0.1%", "10%", "30%"]);
        assert_eq!([1.0, 0.0187, 0.0996, 12.345].map(ratio), ["1.00", "0.0187", "0.10", "12.35"]);
        assert_eq!(
            [3.8361, 227.138, 9.996, 1e74].map(decimals),
            ["3.84", "227.1", "10.0", "1.000e74"]
        );
        assert_eq!(
            (rate(-1e80), ratio(1e30), percent(1e70)),
            ("-1.000e71G".into(), "1.000e30".into(), "1.000e72%".into())
        );
    }
}
