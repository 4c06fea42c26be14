//! What people look at: pictures of a run, tables of many, a page of everything; and what programs
//! take: exports.

mod chart;
pub mod curves;
pub mod export;
pub mod histogram;
pub mod html;
pub mod plots;
pub mod table;
#[cfg(test)]
mod tests;
