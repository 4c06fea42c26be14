//! One line a row, all numbers in full: samples per second, seconds, epochs. As CSV, and as a
//! workbook.

use crate::{
    host::escape::cell,
    results::{
        table::{Comparison, Estimate, Fact, Field, Row},
        tree::Run,
    },
};
use rust_xlsxwriter::{Format, Workbook, XlsxError};
use std::collections::BTreeSet;

/// The comparison as CSV (RFC 4180) with a header line. What is not known is empty. Text that a
/// spreadsheet would compute stands behind an apostrophe.
///
/// # Errors
/// If a row cannot be written, which into memory does not happen.
pub fn csv(comparison: &Comparison) -> Result<String, csv::Error> {
    let mut out = csv::Writer::from_writer(Vec::new());
    for line in lines(comparison) {
        out.write_record(line.iter().map(|text| match text.parse::<f64>() {
            Ok(_) => text.clone(),
            Err(_) => cell(text),
        }))?;
    }
    let bytes =
        out.into_inner().map_err(|e| csv::Error::from(std::io::Error::other(e.to_string())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same as a workbook of Excel's and others' (Office Open XML) with one sheet: numbers are
/// numbers, all else is text.
///
/// # Errors
/// If it has more rows or longer texts than a sheet may.
pub fn xlsx(comparison: &Comparison) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("comparison")?;
    let bold = Format::new().set_bold();
    for (row, line) in (0..).zip(lines(comparison)) {
        for (column, text) in (0..).zip(&line) {
            match text.parse::<f64>() {
                _ if text.is_empty() => {}
                _ if row == 0 => drop(sheet.write_string_with_format(row, column, text, &bold)?),
                Ok(number) if number.is_finite() => drop(sheet.write_number(row, column, number)?),
                _ => drop(sheet.write_string(row, column, text)?),
            }
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofit();
    book.save_to_buffer()
}

/// A header, and a line a row: everything, and behind it what was set, a column a key; or the
/// columns that were asked for.
fn lines(comparison: &Comparison) -> Vec<Vec<String>> {
    let keys = keys(comparison);
    let fields = |row: Option<&Row>| match comparison.columns.as_slice() {
        [] => row_fields(row, &keys),
        asked => {
            let name = ("label".to_owned(), row.map_or(String::new(), |r| r.label.clone()));
            let of = |field: &Field| (field.to_string(), value(field, row));
            std::iter::once(name).chain(asked.iter().map(of)).collect()
        }
    };
    let of_group = ["group", "title", "target_auc", "target_accuracy", "apart"].map(str::to_owned);
    let heads = fields(None).into_iter().map(|(head, _)| head);
    let mut lines = vec![of_group.into_iter().chain(heads).collect::<Vec<_>>()];
    for (i, group) in comparison.groups.iter().enumerate() {
        let of_group = [
            (i + 1).to_string(),
            group.title.clone(),
            number(group.task.target),
            number(group.task.accuracy),
            group.apart.clone().unwrap_or_default(),
        ];
        let of_row = |row| fields(Some(row)).into_iter().map(|(_, value)| value);
        lines
            .extend(group.rows.iter().map(|r| of_group.iter().cloned().chain(of_row(r)).collect()));
    }
    lines
}

/// All keys that were set in any row, those of data and model too.
fn keys(comparison: &Comparison) -> BTreeSet<String> {
    let runs = comparison.groups.iter().flat_map(|g| &g.rows).flat_map(|r| &r.each);
    let of_run = |run: &'_ Run| {
        let task = &run.task;
        [&run.settings, &task.data, &task.model].map(|set| set.keys().cloned().collect::<Vec<_>>())
    };
    runs.flat_map(of_run).flatten().collect()
}

/// A field's value of a row, numbers in full; empty without a row.
fn value(field: &Field, row: Option<&Row>) -> String {
    match (field, row) {
        (_, None) => String::new(),
        (Field::Figure(_), Some(row)) => number(field.number(row)),
        (_, Some(row)) => field.text(row).unwrap_or_default(),
    }
}

/// Names and values of a row's fields, and of `keys` behind them; without a row the names.
fn row_fields(row: Option<&Row>, keys: &BTreeSet<String>) -> Vec<(String, String)> {
    let text = |f: fn(&Row) -> Option<String>| row.and_then(f).unwrap_or_default();
    let real = |f: fn(&Row) -> Option<f64>| number(row.and_then(f));
    let mean = |f: fn(&Row) -> Option<Estimate>, part: fn(Estimate) -> Option<f64>| {
        number(row.and_then(f).and_then(part))
    };
    let mut fields = vec![
        ("label", text(|r| Some(r.label.clone()))),
        ("name", text(|r| Some(r.name.clone()))),
        ("system", text(|r| Some(r.system.name.clone()))),
        ("platform", text(|r| r.system.platform.clone())),
        ("org", text(|r| r.system.org.clone())),
        ("round", text(|r| r.system.round.clone())),
        ("workload", text(|r| Some(r.workload.clone()))),
        ("engine", text(|r| r.engine.clone())),
        ("program", text(|r| r.program.clone())),
        ("precision", text(|r| r.precision.clone())),
        ("batch", text(|r| Some(r.batch?.to_string()))),
        ("threads", value(&Field::Key("engine.threads".to_owned()), row)),
        ("runs", text(|r| Some(r.runs.to_string()))),
        ("converged", text(|r| Some(r.converged.to_string()))),
        ("unfinished", text(|r| Some(r.unfinished.to_string()))),
    ];
    type Of = fn(&Row) -> Option<Estimate>;
    let rates: [([&str; 3], Of); 3] = [
        (["end_to_end", "end_to_end_low", "end_to_end_high"], |r| r.end_to_end),
        (["training", "training_low", "training_high"], |r| r.training),
        (["steady", "steady_low", "steady_high"], |r| r.steady),
    ];
    for (names, of) in rates {
        let parts: [fn(Estimate) -> Option<f64>; 3] = [|e| Some(e.mean), |e| e.low, |e| e.high];
        fields.extend(names.into_iter().zip(parts).map(|(name, part)| (name, mean(of, part))));
    }
    fields.extend([
        ("ratio", real(|r| r.ratio)),
        ("seconds_to_target", real(|r| r.seconds_to_target)),
        ("epochs_to_target", real(|r| r.epochs_to_target)),
        ("scaling_factor", real(|r| r.scaling_factor)),
        ("auc", real(|r| r.auc)),
        ("accuracy", real(|r| r.accuracy)),
        ("floor_share", real(|r| r.floor_share)),
        ("joules_to_target", real(|r| r.joules_to_target)),
        ("joules_a_sample", real(|r| r.joules_a_sample)),
        ("cost", real(|r| r.cost)),
        ("cost_an_epoch", real(|r| r.cost_an_epoch)),
        ("differences", text(|r| r.differences.clone())),
        ("grade", value(&Field::Fact(Fact::Grade), row)),
        ("notes", text(|r| Some(r.notes.join("; ")))),
    ]);
    let own = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    let of_key = |key: &String| (key.clone(), value(&Field::Key(key.clone()), row));
    own.chain(keys.iter().map(of_key)).collect()
}

fn number(x: Option<f64>) -> String {
    x.map(|x| x.to_string()).unwrap_or_default()
}
