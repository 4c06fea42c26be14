//! Golden numbers: what reference programs print, carried in the program, and whether an engine on
//! a device prints the same.

mod golden;
mod replay;

pub use golden::{Golden, golden};
pub use replay::{Check, Difference, Setting, Tolerance, replay};
