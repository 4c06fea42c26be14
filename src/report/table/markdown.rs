//! Tables in GitHub's Markdown, for a pull request or a summary of CI.

use super::{
    columns::Columns,
    text::{notes, title},
};
use crate::{host::escape::markdown as escaped, results::table::Comparison};
use std::fmt::Write;

/// The comparison as Markdown: a heading, a table and notes for each group, a legend below.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let mut legend: Vec<String> = Vec::new();
    for group in &comparison.groups {
        let Columns { shared, columns } = Columns::of(group, comparison.baseline.as_deref());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "### {}\n", escaped(&title(group, &shared)));
        if let Some(why) = &group.apart {
            let _ = writeln!(out, "Not comparable with the first table: {}\n", escaped(why));
        }
        let heads: Vec<&str> = columns.iter().map(|c| c.head).collect();
        let _ = writeln!(
            out,
            "| system |{}",
            heads.iter().map(|h| format!(" {h} |")).collect::<String>()
        );
        let rule: String =
            columns.iter().map(|c| if c.is_number { "---:|" } else { "---|" }).collect();
        let _ = writeln!(out, "|---|{rule}");
        for (i, row) in group.rows.iter().enumerate() {
            let cells: String = columns
                .iter()
                .filter_map(|c| Some(format!(" {} |", escaped(c.cells.get(i)?))))
                .collect();
            let _ = writeln!(out, "| {} |{cells}", escaped(&row.label));
        }
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
