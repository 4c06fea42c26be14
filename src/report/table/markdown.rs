//! Tables in GitHub's Markdown, for a pull request or a summary of CI.

use super::{
    columns::{Column, Columns},
    text::{notes, title},
};
use crate::{host::escape::markdown as escaped, results::table::Comparison};
use std::fmt::Write;

/// The comparison as Markdown: a heading, a table and notes for each group, a legend below.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let mut legend: Vec<String> = Vec::new();
    for group in &comparison.groups {
        let Columns { shared, columns } = Columns::of(group, comparison);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "### {}\n", escaped(&title(group, &shared)));
        if let Some(why) = &group.apart {
            let _ = writeln!(out, "Not comparable with the first table: {}\n", escaped(why));
        }
        let names: Vec<String> = group.rows.iter().map(|r| r.label.clone()).collect();
        out += &table("system", &names, &columns);
        out.push('\n');
        for note in notes(group) {
            let _ = writeln!(out, "- {}", escaped(&note));
        }
        if !notes(group).is_empty() {
            out.push('\n');
        }
        for sentence in columns.iter().filter_map(|c| c.legend.as_ref()) {
            if !legend.contains(sentence) {
                legend.push(sentence.clone());
            }
        }
    }
    if !legend.is_empty() {
        let _ = writeln!(out, "<sub>{}</sub>", escaped(&legend.join(". ")));
    }
    out
}

/// A table of `columns` behind the rows' names under `head`.
pub(in crate::report) fn table(head: &str, names: &[String], columns: &[Column]) -> String {
    let heads: String = columns.iter().map(|c| format!(" {} |", escaped(&c.head))).collect();
    let rule: String = columns.iter().map(|c| if c.is_number { "---:|" } else { "---|" }).collect();
    let mut out = format!("| {} |{heads}\n|---|{rule}\n", escaped(head));
    for (i, name) in names.iter().enumerate() {
        let cells: String = columns
            .iter()
            .filter_map(|c| Some(format!(" {} |", escaped(c.cells.get(i)?))))
            .collect();
        out += &format!("| {} |{cells}\n", escaped(name));
    }
    out
}
