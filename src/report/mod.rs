//! What people look at: pictures of a run.

mod chart;
pub mod curves;
pub mod plots;
