//! Random numbers whose every bit is defined: numpy's legacy generator, and counter-based Philox.

pub mod numpy;
pub mod philox;
