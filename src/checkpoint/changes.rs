//! Incremental checkpoints: of a table, and of the optimizer's state of its rows, only the rows that
//! were touched since a base, a whole checkpoint that stays beside it. For the tensor `x` there are
//! `x.rows`, the numbers of these rows, ascending, and `x.changed`, what is in them.

/// The tensor with the numbers of changed rows.
pub fn rows_name(of: &str) -> String {
    format!("{of}.rows")
}

/// The tensor with the rows.
pub fn changed_name(of: &str) -> String {
    format!("{of}.changed")
}
