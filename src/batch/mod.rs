//! What travels between data and devices: the columns of a data set, batches of samples, and logs
//! whose samples a device generates itself.

mod derived;
mod generated;
mod limits;
mod samples;
mod schema;

pub use derived::Derived;
pub use generated::{
    ColumnNumbers, DenseNumbers, GeneratedLog, GeneratedSplit, PairNumbers, SCATTER_ROUNDS,
    Samples, Span,
};
pub use limits::{BatchLimits, CheckedBags, CheckedBatch, Misfit};
pub use samples::{Bags, Batch};
pub use schema::{Column, Schema};
