//! Raw logs to encoded samples, one file a recipe.

pub mod criteo;
mod id_map;
pub mod lines;

pub use id_map::IdMap;
pub use lines::Lines;
