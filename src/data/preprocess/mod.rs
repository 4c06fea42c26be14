//! Raw logs to encoded samples, one pass for all recipes.

mod chunks;
pub mod criteo;
pub(crate) mod fields;
pub mod inputs;
pub(crate) mod lines;
mod numbering;
pub mod prepare;
pub(crate) mod records;
mod unpack;

pub use lines::Lines;
