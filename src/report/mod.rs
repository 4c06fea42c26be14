//! What people look at: pictures of a run, tables of many, a page of everything; and what programs
//! take: exports.

mod chart;
pub mod curves;
pub(crate) mod export;
pub(crate) mod histogram;
pub(crate) mod history;
pub(crate) mod html;
pub(crate) mod plots;
pub(crate) mod predictions;
pub(crate) mod sweep;
pub(crate) mod table;
pub(crate) mod tensorboard;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

/// An error about the file `path`, which it then names.
pub(crate) fn named(path: &std::path::Path, e: &std::io::Error) -> std::io::Error {
    std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}
