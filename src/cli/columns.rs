//! The columns of one's own data as a run understood them.

use super::progress::thousands;
use crate::{
    data::{ColumnFacts, ColumnRole, Facts},
    host::escape::visible,
};

/// Columns that are shown; a log of hundreds would push everything else away.
const SHOWN: usize = 40;
/// Characters of a name that are shown.
const NAME: usize = 27;

/// What is to be said of the data before training: how they were split, the columns, and what looks
/// like a slip; a line each, at most 80 characters wide but for sentences. Nothing of data that are
/// nobody's own.
pub(super) fn told(facts: &Facts) -> Vec<String> {
    let mut lines: Vec<String> =
        facts.split.iter().map(|split| format!("split: {split}")).collect();
    if !facts.columns.is_empty() {
        let head = ["column", "role", "distinct", "missing", "rows", "unseen"];
        lines.push(line(&head.map(str::to_owned)));
    }
    lines.extend(facts.columns.iter().take(SHOWN).map(column));
    if facts.columns.len() > SHOWN {
        lines.push(format!("and {} columns more", facts.columns.len() - SHOWN));
    }
    let unseen: u64 = facts.columns.iter().filter_map(|c| c.unseen).sum();
    if unseen > 0 {
        lines.push(format!(
            "unseen: {} values for evaluation that training does not hold",
            thousands(unseen)
        ));
    }
    lines.extend(facts.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}

fn column(c: &ColumnFacts) -> String {
    let count = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), thousands);
    let role = match c.role {
        ColumnRole::Dense => "dense",
        ColumnRole::Categorical => "categorical",
    };
    let missing = c.missing.map_or_else(|| "-".to_owned(), |m| format!("{:.1}%", 100.0 * m));
    line(&[
        name(&c.name),
        role.to_owned(),
        if c.estimated { format!("~{}", count(c.distinct)) } else { count(c.distinct) },
        missing,
        count(c.rows),
        count(c.unseen),
    ])
}

fn line([name, role, distinct, missing, rows, unseen]: &[String; 6]) -> String {
    format!("{name:<NAME$} {role:<11} {distinct:>11} {missing:>7} {rows:>10} {unseen:>9}")
}

/// A name, cut to [`NAME`] characters.
fn name(name: &str) -> String {
    let name = visible(name);
    match name.chars().count() > NAME {
        true => name.chars().take(NAME - 1).chain(['~']).collect(),
        false => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal() {
        let long = ColumnFacts {
            name: "a name that is far too long\n for its column".into(),
            role: ColumnRole::Categorical,
            distinct: Some(87_767_399),
            estimated: true,
            missing: Some(1.0),
            rows: Some(10_000_000),
            unseen: Some(1_000_000),
        };
        let facts = Facts { columns: vec![long; SHOWN + 2], ..Facts::default() };
        let lines = told(&facts);
        assert_eq!(lines.len(), SHOWN + 3);
        assert!(lines.iter().all(|l| l.chars().count() <= 80 && !l.contains('\n')), "{lines:#?}");
        assert_eq!(lines[SHOWN + 1], "and 2 columns more");
        assert!(told(&Facts::default()).is_empty());
    }
}
