//! A comparison as people read it: text for the terminal, Markdown, CSV.

mod columns;
mod csv;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

pub use csv::csv;
pub use markdown::markdown;
pub use text::text;
