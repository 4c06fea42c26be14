//! Raw logs to encoded samples, one file or folder a recipe.

mod chunks;
pub mod criteo;
pub mod facebook;
pub(crate) mod fields;
pub mod inputs;
pub mod lines;
mod numbering;

pub use lines::Lines;
