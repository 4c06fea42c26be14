//! numpy's arrays: `.npy` files, and the members of an `.npz` ([`super::npz`]).

mod array;
mod header;
mod write;

pub use array::Array;
pub(super) use array::Elements;
pub(super) use header::Header;
pub use header::Type;
pub use write::ArrayWriter;
