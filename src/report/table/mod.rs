//! A comparison as people read it: text for the terminal, Markdown, CSV.

mod columns;
mod csv;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

pub(super) use columns::{Columns, rate};
pub use csv::csv;
pub use markdown::markdown;
pub use text::text;
pub(super) use text::{notes, title};
