//! Tables for a terminal or a pipe, of a given width. Columns that do not fit stand in a further
//! table below, behind the rows' names; no number is ever broken.

use super::columns::{Column, Columns};
use crate::{
    host::escape::visible,
    results::table::{Comparison, Group},
};
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Between columns.
const GAP: usize = 2;
/// Names are broken into lines of at least this.
const NARROWEST_NAME: usize = 12;

/// The comparison in lines of at most `width` characters, if that is at least 40.
pub fn text(comparison: &Comparison, width: usize) -> String {
    let width = width.max(40);
    let mut out = String::new();
    let mut legend: Vec<String> = Vec::new();
    for (i, group) in comparison.groups.iter().enumerate() {
        if i > 0 && !out.ends_with("\n\n") {
            out.push('\n');
        }
        let Columns { shared, columns } = Columns::of(group, comparison);
        push_wrapped(&mut out, &title(group, &shared), width, "  ");
        if let Some(why) = &group.apart {
            push_wrapped(
                &mut out,
                &format!("not comparable with the first table: {}", visible(why)),
                width,
                "  ",
            );
        }
        out.push('\n');
        let names: Vec<String> = group.rows.iter().map(|r| r.label.clone()).collect();
        for table in tables("system", &names, &columns, width) {
            out += &table;
            out += "\n\n";
        }
        for note in notes(group) {
            push_wrapped(&mut out, &note, width, "  ");
        }
        for sentence in columns.iter().filter_map(|c| c.legend.as_ref()) {
            if !legend.contains(sentence) {
                legend.push(sentence.clone());
            }
        }
    }
    // Tables end with an empty line, notes do not.
    if !legend.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
    for sentence in legend {
        push_wrapped(&mut out, &sentence, width, "  ");
    }
    out
}

/// `dlrm_dcnv2: target AUC 0.80275, batch 55296`
pub(in crate::report) fn title(group: &Group, shared: &[String]) -> String {
    let target = match group.task.targets() {
        Some(targets) => format!("target {targets}"),
        None => "no target".to_owned(),
    };
    let name = match &group.by {
        Some(by) => format!("{}, {by}", group.title),
        None => group.title.clone(),
    };
    let title = format!("{name}: {}", [&[target], shared].concat().join(", "));
    visible(&title).into_owned()
}

/// What a reader should know of the rows: each sentence once, with the names of its rows where there
/// are several.
pub(in crate::report) fn notes(group: &Group) -> Vec<String> {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for row in &group.rows {
        let differences = row.differences.iter().map(|d| format!("differs in {d}"));
        for sentence in differences.chain(row.notes.iter().cloned()) {
            match notes.iter_mut().find(|(known, _)| *known == sentence) {
                Some((_, names)) => names.push(&row.label),
                None => notes.push((sentence, vec![&row.label])),
            }
        }
    }
    let said = notes.iter().map(|(sentence, names)| {
        let whose = match names.as_slice() {
            _ if group.rows.len() == 1 => return sentence.clone(),
            all if all.len() == group.rows.len() => "all rows".to_owned(),
            [first, second, third, _, more @ ..] => {
                format!("{first}, {second}, {third} and {} more", more.len() + 1)
            }
            few => few.join(", "),
        };
        format!("{whose}: {sentence}")
    });
    said.map(|n| visible(&n).into_owned()).collect()
}

/// Tables of `columns`, each as wide as `width` allows, behind the rows' names under `head`.
pub(in crate::report) fn tables(
    head: &str,
    names: &[String],
    columns: &[Column],
    width: usize,
) -> Vec<String> {
    let numbers = |c: &Column| {
        let cells = c.cells.iter().map(|s| s.chars().count());
        cells.chain([c.head.chars().count()]).max().unwrap_or(0)
    };
    let of_names = names.iter().map(|n| visible(n).chars().count());
    let longest = of_names.chain([head.chars().count()]).max().unwrap_or(0);
    let all: usize = columns.iter().map(|c| GAP + numbers(c)).sum();
    // One table if shortened names allow it; else as few as whole names allow.
    let name = match width.checked_sub(all) {
        Some(rest) if rest >= NARROWEST_NAME.min(longest) => longest.min(rest),
        _ => longest.min(width * 2 / 5),
    };
    let mut tables = Vec::new();
    let mut rest = columns;
    while !rest.is_empty() {
        let mut used = name;
        let fitting = rest
            .iter()
            .take_while(|c| {
                used += GAP + numbers(c);
                used <= width
            })
            .count()
            .max(1);
        let (now, later) = rest.split_at(fitting);
        tables.push(table(head, names, now, name));
        rest = later;
    }
    tables
}

fn table(head: &str, names: &[String], columns: &[Column], width: usize) -> String {
    let mut table = Table::new();
    let underlined = TableStyle::new().header_separator(LineStyle::none().fill('-'));
    table.load_style(underlined).set_content_arrangement(ContentArrangement::Disabled);
    let head = wrap(&visible(head), width).join("\n");
    table.set_header([head.as_str()].into_iter().chain(columns.iter().map(|c| c.head.as_str())));
    for (i, name) in names.iter().enumerate() {
        let label = wrap(&visible(name), width).join("\n");
        table.add_row(
            [label].into_iter().chain(columns.iter().filter_map(|c| c.cells.get(i).cloned())),
        );
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { GAP as u16 }, 0));
        if i > 0 && columns[i - 1].is_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Adds `sentence` in lines of at most `width` characters; all but the first are indented.
pub(in crate::report) fn push_wrapped(
    out: &mut String,
    sentence: &str,
    width: usize,
    indent: &str,
) {
    let lines = wrap(sentence, width - indent.len());
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            *out += indent;
        }
        *out += line;
        out.push('\n');
    }
}

/// Breaks `text` into lines of at most `width` characters: behind blanks, hyphens, underscores and
/// slashes if possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        // A break behind a character needs the character to fit, except for a blank, which goes.
        let breaks = |i: &usize| {
            rest[*i] == ' '
                || (*i < width
                    && *i > 0
                    && "-_/".contains(rest[*i])
                    && rest[*i - 1].is_alphanumeric())
        };
        let blank = (1..=width).rev().find(|&i| rest[i] == ' ');
        let at = match blank
            .filter(|&i| i > width / 2)
            .or_else(|| (1..=width).rev().find(|i| breaks(i)))
        {
            Some(i) if rest[i] == ' ' => i,
            Some(i) => i + 1,
            None => width,
        };
        lines.push(rest[..at].iter().collect::<String>());
        let skip = usize::from(rest[at] == ' ');
        rest.drain(..at + skip);
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_they_may() {
        assert_eq!(wrap("eos_ngc23.09_merlin_hugectr", 14), ["eos_ngc23.09_", "merlin_hugectr"]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("short", 12), ["short"]);
        assert_eq!(wrap("", 12), [""]);
    }
}
