//! A comparison as people read it: text for the terminal, Markdown, CSV.

mod columns;
mod csv;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

pub(super) use columns::{Column, Columns, decimals, estimate, fixed, rate, ratio};
pub use csv::{csv, xlsx};
pub use markdown::markdown;
pub(super) use markdown::table as markdown_table;
pub use text::text;
pub(super) use text::{notes, push_wrapped, tables, title};
